//! The command line.
use std::{ffi::OsString, num::NonZeroU16, path::PathBuf};

use crate::service::AT_TERMINAL;

pub(crate) const USAGE: &str = "\
usage: sidecar run --config FILE -- COMMAND...   start a service when its sidecar is ready, and end with it
       sidecar --config FILE                     beside a service that somebody else starts
       sidecar check FILE                        say what is wrong with a file; exits with 0 or 1
       sidecar capture --user NAME-OR-ID         print a script that redirects the service's connections to the
               [--inbound PORT]                  sidecar, by nftables: those to it, and
               [--outbound PORT]                 those that it makes
               [--except-inbound PORT]...        but for these ports of its own,
               [--except-outbound PORT]...       and these of others;
               [--ipv6 refuse|redirect|leave]    by IPv6 they are refused, unless told that the sidecar listens there
                                                 too, or that they may get past it
       sidecar capture --undo                    print the script that takes this back

FILE is a gateway's, with `inbound` and `outbound`; it is followed.
signals: with a service, SIGTERM and SIGINT drain what comes in, go to the service, and drain what goes out when it has ended;
         a second one goes to it at once; HUP, QUIT, USR1, USR2 and WINCH are its own.
         Without one, SIGTERM drains what comes in before what goes out, a second one cuts, and SIGHUP looks at the file again.
exits with the service's code; 128 and the signal that ended it; 127 or 126 if it cannot be found or started
environment: PORTCULLIS_LOG=warn leaves the access log out; else off, error, info, debug, trace";

/// What is to be done.
#[derive(Debug, PartialEq)]
pub(crate) enum Asked {
    Run {
        config: PathBuf,
        command: Vec<OsString>,
    },
    Serve {
        config: PathBuf,
    },
    Check {
        file: PathBuf,
    },
    /// By ourselves, and nobody else.
    AtTerminal {
        command: Vec<OsString>,
    },
    Capture(Capture),
    Release,
    Help,
    Version,
}

/// What is redirected.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Capture {
    pub(crate) user: String,
    pub(crate) inbound: Option<NonZeroU16>,
    pub(crate) outbound: Option<NonZeroU16>,
    pub(crate) except_inbound: Vec<NonZeroU16>,
    pub(crate) except_outbound: Vec<NonZeroU16>,
    pub(crate) ipv6: Ipv6,
}

/// What becomes of connections by IPv6.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) enum Ipv6 {
    /// They are refused: a sidecar that listens by IPv4 alone has none of them, and nobody gets past it.
    #[default]
    Refuse,
    Redirect,
    Leave,
}

impl Asked {
    pub(crate) fn parse(arguments: impl Iterator<Item = OsString>) -> Result<Self, String> {
        let mut arguments: Vec<OsString> = arguments.collect();
        let command = arguments.iter().position(|argument| argument == "--").map(|at| {
            let command = arguments.split_off(at + 1);
            arguments.truncate(at);
            command
        });
        let words: Option<Vec<&str>> = arguments.iter().map(|argument| argument.to_str()).collect();
        let words = words.ok_or("options are UTF-8")?;
        let service = command.is_some();
        match (&*words, command) {
            (["run", "--config", config], Some(command)) if !command.is_empty() => {
                Ok(Self::Run { config: config.into(), command })
            }
            (["run", "--config", _], _) => Err("what is to be run stands behind `--`".into()),
            (["run", ..], _) => Err("`run` needs `--config FILE`, and a command behind `--`".into()),
            ([AT_TERMINAL], Some(command)) => Ok(Self::AtTerminal { command }),
            _ if service => Err("only `run` takes a command".into()),
            (["--config", config], None) => Ok(Self::Serve { config: config.into() }),
            (["check", file], None) => Ok(Self::Check { file: file.into() }),
            (["capture", "--undo"], None) => Ok(Self::Release),
            (["capture", options @ ..], None) => Capture::parse(options).map(Self::Capture),
            (["--help" | "-h" | "help"], None) => Ok(Self::Help),
            (["--version" | "-V"], None) => Ok(Self::Version),
            ([word @ ("--config" | "check")], None) => Err(format!("`{word}` needs a file")),
            ([], None) => Err("what is to be done?".into()),
            ([word, ..], _) => Err(format!("what does `{word}` mean here?")),
            ([], Some(_)) => Err("only `run` takes a command".into()),
        }
    }
}

impl Capture {
    fn parse(options: &[&str]) -> Result<Self, String> {
        let mut capture = Self::default();
        let (pairs, rest) = options.as_chunks::<2>();
        if let [option] = rest {
            return Err(format!("`{option}` needs a value"));
        }
        let port = |option: &str, value: &str| {
            value.parse::<NonZeroU16>().map_err(|_| format!("{option}: expected a port, 1 to 65535"))
        };
        for [option, value] in pairs {
            match *option {
                "--user" => capture.user = user(value)?,
                "--inbound" => capture.inbound = Some(port(option, value)?),
                "--outbound" => capture.outbound = Some(port(option, value)?),
                "--except-inbound" => capture.except_inbound.push(port(option, value)?),
                "--ipv6" => capture.ipv6 = ipv6(value)?,
                "--except-outbound" => capture.except_outbound.push(port(option, value)?),
                _ => return Err(format!("what does `{option}` mean here?")),
            }
        }
        if capture.user.is_empty() {
            return Err(
                "`capture` needs `--user`: what the sidecar's own user connects to is left alone".into()
            );
        }
        if capture.inbound.or(capture.outbound).is_none() {
            return Err("nothing is to be captured: expected `--inbound`, `--outbound` or both".into());
        }
        Ok(capture)
    }
}

fn ipv6(value: &str) -> Result<Ipv6, String> {
    match value {
        "refuse" => Ok(Ipv6::Refuse),
        "redirect" => Ok(Ipv6::Redirect),
        "leave" => Ok(Ipv6::Leave),
        _ => Err("--ipv6: expected `refuse`, `redirect` or `leave`".into()),
    }
}

/// It goes into a script.
fn user(name: &str) -> Result<String, String> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let is_name = (1..=32).contains(&name.len()) && name.bytes().all(is_plain) && !name.starts_with('-');
    is_name.then(|| name.to_owned()).ok_or("--user: expected the name or number of a user".into())
}
