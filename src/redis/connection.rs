use std::{fmt, io, sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
use redis::{
    AsyncConnectionConfig, Cmd, FromRedisValue, RedisConnectionInfo, RedisResult, ScriptInvocation,
    aio::MultiplexedConnection,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    task::{AbortHandle, spawn_blocking},
    time::{Instant, timeout},
};

use super::{InvalidAddress, RedisBuilder, RedisError};
use crate::{
    backoff::{Backoff, Jitter},
    flight::Flights,
    tls::ClientTls,
    trip::{Policy, Trip},
};

/// How long making a connection may take, whoever waits for it.
const CONNECT: Duration = Duration::from_secs(2);
/// The most bytes of a password.
const PASSWORD: usize = 1024;

/// A connection to a server, shared by its clones. See the [module docs](super).
#[derive(Clone)]
pub struct Redis(Arc<Shared>);

struct Shared {
    of: RedisBuilder,
    trip: Trip,
    live: ArcSwapOption<Live>,
    flights: Flights<(), Result<(), RedisError>>,
}

/// What is connected, as long as somebody uses it.
struct Live {
    connection: MultiplexedConnection,
    driver: AbortHandle,
}

impl Drop for Live {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Redis {
    /// Begins a connection to the server at this address: `redis://user@host:port/database`, or `rediss` for TLS.
    ///
    /// # Errors
    /// [`InvalidAddress`]
    pub fn builder(address: &str) -> Result<RedisBuilder, InvalidAddress> {
        RedisBuilder::new(address)
    }

    pub(super) fn of(of: RedisBuilder) -> Self {
        let half = Duration::from_millis(500);
        let wait = Backoff::new(Duration::from_millis(100)).max(half).jitter(Jitter::Equal);
        let trip = Trip::new(Policy::new().wait(wait));
        Self(Arc::new(Shared { of, trip, live: ArcSwapOption::empty(), flights: Flights::new(1) }))
    }

    /// Asks whether the server answers.
    ///
    /// # Errors
    /// [`RedisError`]
    pub async fn ping(&self) -> Result<(), RedisError> {
        self.ask(&redis::cmd("PING")).await
    }

    /// The key of this name among those of `set`, which are all in one hash slot. Names are ours, not strangers'.
    #[cfg_attr(not(feature = "authn"), expect(dead_code, reason = "stores of other rooms use it"))]
    pub(crate) fn key(&self, set: &str, name: &str) -> String {
        format!("{}:{{{set}}}:{name}", self.0.of.namespace)
    }

    /// Sends a command and waits for its answer.
    pub(crate) async fn ask<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, RedisError> {
        self.within(self.0.of.deadline, async |mut connection| command.query_async(&mut connection).await)
            .await
    }

    /// Runs a script by its hash; a server that does not know it is told it.
    #[cfg_attr(not(feature = "authn"), expect(dead_code, reason = "stores of other rooms use it"))]
    pub(crate) async fn run<T: FromRedisValue>(
        &self,
        deadline: Duration,
        script: &ScriptInvocation<'_>,
    ) -> Result<T, RedisError> {
        self.within(deadline, async |mut connection| script.invoke_async(&mut connection).await).await
    }

    /// Does `work` with the connection in this time, unless the breaker is open. Connecting is part of it.
    pub(crate) async fn within<T>(
        &self,
        deadline: Duration,
        work: impl AsyncFnOnce(MultiplexedConnection) -> RedisResult<T>,
    ) -> Result<T, RedisError> {
        let entry = self.0.trip.enter(Instant::now())?;
        let mut used = None;
        let done = timeout(deadline, async {
            let live = self.live().await?;
            let connection = live.connection.clone();
            used = Some(live);
            work(connection).await.map_err(|error| RedisError::of(&error))
        });
        let done = done.await.unwrap_or(Err(RedisError::Late(deadline)));
        match &done {
            Err(error) if error.is_outage() => entry.failure(Instant::now()),
            _ => entry.success(Instant::now()),
        }
        if let (Err(error), Some(used)) = (&done, &used)
            && error.is_of_connection()
        {
            // Unless another has taken its place already. Those who wait for an answer keep it until it comes.
            self.0.live.compare_and_swap(used, None);
        }
        done
    }

    async fn live(&self) -> Result<Arc<Live>, RedisError> {
        let lost = |_| RedisError::Lost;
        loop {
            if let Some(live) = self.0.live.load_full() {
                return Ok(live);
            }
            let shared = Arc::clone(&self.0);
            let joined = self.0.flights.join((), move || async move { shared.connect().await });
            joined.map_err(|_| RedisError::Lost)?.await.map_err(lost)??;
        }
    }
}

impl Shared {
    async fn connect(&self) -> Result<(), RedisError> {
        let refused = |why: &dyn fmt::Display| RedisError::Connect(why.to_string().into());
        let live = match timeout(CONNECT, self.dial()).await {
            Ok(Ok(live)) => live,
            Ok(Err(error)) => {
                tracing::debug!(address = ?self.of.address, %error, "no connection to Redis");
                return Err(refused(&error));
            }
            Err(late) => return Err(refused(&late)),
        };
        self.live.store(Some(Arc::new(live)));
        Ok(())
    }

    async fn dial(&self) -> io::Result<Live> {
        let address = &self.of.address;
        let stream = TcpStream::connect((&*address.host, address.port)).await?;
        stream.set_nodelay(true)?;
        if !address.tls {
            return self.greet(stream).await;
        }
        let tls = match self.of.tls.clone() {
            Some(tls) => tls,
            // The platform's roots are files.
            None => spawn_blocking(ClientTls::platform).await?.map_err(io::Error::other)?,
        };
        self.greet(tls.without_alpn().connect(&address.host, stream).await?).await
    }

    /// Says who we are, and chooses the database.
    async fn greet<S>(&self, stream: S) -> io::Result<Live>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let address = &self.of.address;
        // Whoever is allowed a few commands only need not be allowed to name itself.
        let mut info = RedisConnectionInfo::default().set_db(address.database.into()).set_skip_set_lib_name();
        if let Some(user) = &address.user {
            info = info.set_username(user);
        }
        if let Some(path) = self.of.password.clone() {
            let password = spawn_blocking(move || std::fs::read_to_string(path)).await??;
            let password = password.trim_end_matches(['\r', '\n']);
            if password.is_empty() || password.len() > PASSWORD {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "the file holds no password"));
            }
            info = info.set_password(password);
        }
        // The deadline is each caller's own.
        let config = AsyncConnectionConfig::new().set_response_timeout(None);
        let greeted = MultiplexedConnection::new_with_config(&info, stream, config).await;
        let (connection, driver) = greeted.map_err(|error| io::Error::other(RedisError::of(&error)))?;
        Ok(Live { connection, driver: tokio::spawn(driver).abort_handle() })
    }
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Redis").field(&self.0.of).finish()
    }
}
