//! How a server is reached: TCP or TLS, who we are, which database; and which server it is, where Sentinels know.

use std::{
    io,
    path::Path,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::Duration,
};

use redis::{AsyncConnectionConfig, FromRedisValue, RedisConnectionInfo, aio::MultiplexedConnection};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    task::{AbortHandle, spawn_blocking},
    time::timeout,
};

use super::{RedisBuilder, RedisError, address::Address};
use crate::{secret, tls::ClientTls};

/// How long making a connection may take, whoever waits for it, unless a command may take longer.
const CONNECT: Duration = Duration::from_millis(500);
/// How long one Sentinel may take to answer.
const SENTINEL: Duration = Duration::from_millis(150);
/// The most bytes of a password.
const PASSWORD: usize = 1024;

/// What is connected, as long as somebody uses it.
pub(super) struct Live {
    pub(super) connection: MultiplexedConnection,
    driver: AbortHandle,
}

impl Drop for Live {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// Where a node is.
#[derive(Debug)]
pub(super) enum Place {
    At(Address),
    /// Where the Sentinels say that the master is. The one that answered last is asked first.
    Master {
        name: Box<str>,
        sentinels: Vec<Address>,
        first: AtomicUsize,
    },
}

/// Says who we are to whom.
struct Greeting<'a> {
    user: Option<&'a str>,
    password: Option<&'a Path>,
    database: u16,
}

/// Connects to where the node is now.
pub(super) async fn dial(place: &Place, of: &RedisBuilder) -> io::Result<Live> {
    let late = |_| io::Error::new(io::ErrorKind::TimedOut, "no connection in time");
    let dialled = async {
        match place {
            Place::At(address) => connect(address, of).await,
            Place::Master { name, sentinels, first } => master(name, sentinels, first, of).await,
        }
    };
    timeout(CONNECT.max(of.deadline), dialled).await.map_err(late)?
}

async fn connect(address: &Address, of: &RedisBuilder) -> io::Result<Live> {
    let (user, password) = (address.user.as_deref(), of.password.as_deref());
    reach(address, of, Greeting { user, password, database: address.database }).await
}

/// Asks one Sentinel after the other who the master is, and the master whether it is one: what a Sentinel knows may be old.
async fn master(
    name: &str,
    sentinels: &[Address],
    first: &AtomicUsize,
    of: &RedisBuilder,
) -> io::Result<Live> {
    let begin = first.load(Relaxed);
    let mut last = io::Error::other("no Sentinel");
    for at in (0..sentinels.len()).map(|step| (begin + step) % sentinels.len()) {
        let tried = timeout(SENTINEL.max(of.deadline), ask_for_master(name, &sentinels[at], of)).await;
        let address = match tried.unwrap_or_else(|_| Err(io::Error::other("a Sentinel does not answer"))) {
            Ok(address) => address,
            Err(error) => {
                last = error;
                continue;
            }
        };
        first.store(at, Relaxed);
        match connect_to_master(&address, of).await {
            Ok(live) => return Ok(live),
            // Another may know a newer one.
            Err(error) => last = error,
        }
    }
    Err(last)
}

async fn ask_for_master(name: &str, sentinel: &Address, of: &RedisBuilder) -> io::Result<Address> {
    let greeting = Greeting { user: None, password: of.sentinel_password.as_deref(), database: 0 };
    let live = reach(sentinel, of, greeting).await?;
    let mut ask = redis::cmd("SENTINEL");
    ask.arg("GET-MASTER-ADDR-BY-NAME").arg(name);
    let known: Option<(String, u16)> = query(&live, &ask).await?;
    let (host, port) = known.ok_or_else(|| io::Error::other("the Sentinels do not know the master"))?;
    Ok(sentinel.at(&host, port))
}

async fn connect_to_master(address: &Address, of: &RedisBuilder) -> io::Result<Live> {
    let live = connect(address, of).await?;
    let role: Vec<redis::Value> = query(&live, &redis::cmd("ROLE")).await?;
    let is_master = matches!(role.first(), Some(redis::Value::BulkString(role)) if role == b"master");
    is_master.then_some(live).ok_or_else(|| io::Error::other("who should be the master is not"))
}

async fn query<T: FromRedisValue>(live: &Live, command: &redis::Cmd) -> io::Result<T> {
    let done = command.query_async(&mut live.connection.clone()).await;
    done.map_err(|error| io::Error::other(RedisError::of(&error)))
}

async fn reach(address: &Address, of: &RedisBuilder, greeting: Greeting<'_>) -> io::Result<Live> {
    let stream = TcpStream::connect((&*address.host, address.port)).await?;
    stream.set_nodelay(true)?;
    if !address.tls {
        return greet(stream, greeting).await;
    }
    let tls = match of.tls.clone() {
        Some(tls) => tls,
        // The platform's roots are files.
        None => spawn_blocking(ClientTls::platform).await?.map_err(io::Error::other)?,
    };
    greet(tls.offering(&[]).connect(&address.host, stream).await?, greeting).await
}

/// Says who we are, and chooses the database.
async fn greet<S>(stream: S, greeting: Greeting<'_>) -> io::Result<Live>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    // Whoever is allowed a few commands only need not be allowed to name itself.
    let mut info = RedisConnectionInfo::default().set_db(greeting.database.into()).set_skip_set_lib_name();
    if let Some(user) = greeting.user {
        info = info.set_username(user);
    }
    if let Some(path) = greeting.password.map(Path::to_owned) {
        let bytes = spawn_blocking(move || secret::read(&path, PASSWORD)).await??;
        let password = String::from_utf8(bytes).ok().filter(|password| !password.is_empty());
        let unreadable = || io::Error::new(io::ErrorKind::InvalidData, "the file holds no password");
        let password = password.ok_or_else(unreadable)?;
        info = info.set_password(password);
    }
    // The deadline is each caller's own.
    let config = AsyncConnectionConfig::new().set_response_timeout(None);
    let greeted = MultiplexedConnection::new_with_config(&info, stream, config).await;
    let (connection, driver) = greeted.map_err(|error| io::Error::other(RedisError::of(&error)))?;
    Ok(Live { connection, driver: tokio::spawn(driver).abort_handle() })
}

#[cfg(test)]
mod tests {
    use std::{
        pin::Pin,
        sync::Arc,
        task::{Context, Poll},
    };

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadBuf, duplex},
        task::JoinSet,
    };

    use super::*;

    /// One end of a pipe, of which writes are counted.
    struct Counted(DuplexStream, Arc<AtomicUsize>);

    impl AsyncRead for Counted {
        fn poll_read(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            into: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_read(cx, into)
        }
    }

    impl AsyncWrite for Counted {
        fn poll_write(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.1.fetch_add(1, Relaxed);
            Pin::new(&mut self.0).poll_write(cx, bytes)
        }

        fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_flush(cx)
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_shutdown(cx)
        }
    }

    #[tokio::test]
    async fn commands_that_come_together_go_out_together() {
        const PING: usize = "*1\r\n$4\r\nPING\r\n".len();
        let (ours, mut theirs) = duplex(65_536);
        let writes = Arc::new(AtomicUsize::new(0));
        tokio::spawn(async move {
            let mut command = [0; PING];
            while theirs.read_exact(&mut command).await.is_ok() {
                theirs.write_all(b"+PONG\r\n").await.unwrap();
            }
        });
        let greeting = Greeting { user: None, password: None, database: 0 };
        let live = Arc::new(greet(Counted(ours, Arc::clone(&writes)), greeting).await.unwrap());
        let before = writes.load(Relaxed);
        let mut all = JoinSet::new();
        for _ in 0..500 {
            let live = Arc::clone(&live);
            all.spawn(async move { query::<String>(&live, &redis::cmd("PING")).await.unwrap() });
        }
        assert!(all.join_all().await.iter().all(|answer| answer == "PONG"));
        let writes = writes.load(Relaxed) - before;
        assert!(writes <= 50, "500 commands, {writes} writes");
    }
}
