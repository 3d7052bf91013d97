use std::time::Duration;

use redis::{ErrorKind, RedisError as Theirs, ServerErrorKind};

use crate::trip::CircuitOpen;

/// Why a command has no answer. No key, no value and no password is in it.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum RedisError {
    /// The server did not answer to those who asked before, and is not asked for now.
    #[error("Redis is not asked for now: {0}")]
    Open(#[from] CircuitOpen),
    /// There is no connection.
    #[error("no connection to Redis: {0}")]
    Connect(Box<str>),
    /// The answer did not come in this time. Whether the command was carried out is not known.
    #[error("Redis did not answer within {0:?}")]
    Late(Duration),
    /// The connection broke. Whether the command was carried out is not known.
    #[error("the connection to Redis broke")]
    Lost,
    /// The server answered with an error of this code, such as `NOPERM`.
    #[error("Redis refused: {0}")]
    Refused(Box<str>),
    /// The answer is not of the kind that was expected.
    #[error("Redis answered something else than was asked for")]
    Unexpected,
}

/// The code of the command that failed in a script, which servers before 7.0 tell in the text of another error:
/// `ERR Error running script (call to f_..): @user_script:1: @user_script: 1: -OOM command not allowed ...`.
fn of_script(error: &Theirs) -> Option<&str> {
    let text = error.detail().filter(|_| error.code() == Some("ERR"))?;
    let (_, told) = text.split_once("@user_script")?.1.split_once(": -")?;
    let code = told.split(' ').next()?;
    (!code.is_empty() && code.bytes().all(|byte| byte.is_ascii_uppercase())).then_some(code)
}

impl RedisError {
    /// What an error of a command says, without what it quotes.
    pub(super) fn of(error: &Theirs) -> Self {
        // A transaction that is refused tells why, beside that it was.
        if error.kind() == ServerErrorKind::ExecAbort.into()
            && let Some(why) =
                error.clone().into_server_errors().and_then(|all| Some(all.first()?.1.code().into()))
        {
            return Self::Refused(why);
        }
        match (error.kind(), error.code()) {
            (ErrorKind::Server(_) | ErrorKind::Extension, Some(code)) => {
                Self::Refused(of_script(error).unwrap_or(code).into())
            }
            (ErrorKind::AuthenticationFailed, _) => Self::Refused("WRONGPASS".into()),
            (ErrorKind::UnexpectedReturnType, _) => Self::Unexpected,
            _ => Self::Lost,
        }
    }

    /// Whether it tells that whoever asks next will not be served either: the server cannot, or will not do this for us.
    pub(super) fn is_outage(&self) -> bool {
        const OUTAGES: [&str; 13] = [
            "BUSY",
            "CLUSTERDOWN",
            // Of what a script may not do, of clients beyond the most, of commands that were renamed.
            "ERR",
            "LOADING",
            "MASTERDOWN",
            "MISCONF",
            "NOAUTH",
            "NOPERM",
            "NOREPLICAS",
            "OOM",
            "READONLY",
            "TRYAGAIN",
            "WRONGPASS",
        ];
        match self {
            // Who answers something else than was asked for is no Redis, or not as we know it.
            Self::Connect(_) | Self::Late(_) | Self::Lost | Self::Unexpected => true,
            Self::Refused(code) => OUTAGES.contains(&&**code),
            Self::Open(_) => false,
        }
    }

    /// Whether it tells nothing of how the server is: it will be told the script, and asked again.
    pub(super) fn is_of_script(&self) -> bool {
        matches!(self, Self::Refused(code) if **code == *"NOSCRIPT")
    }

    /// Whether another connection might do better: to another server, after a failover.
    pub(super) fn is_of_connection(&self) -> bool {
        match self {
            Self::Late(_) | Self::Lost => true,
            Self::Refused(code) => matches!(&**code, "READONLY" | "MASTERDOWN" | "NOAUTH"),
            _ => false,
        }
    }
}
