use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use redis::{
    Cmd, ErrorKind, FromRedisValue, Pipeline, RedisFuture, RedisResult, Script, ServerErrorKind, ToRedisArgs,
    Value, aio::ConnectionLike, from_redis_value,
};
use tokio::time::timeout_at;

use super::{
    InvalidAddress, RedisBuilder, RedisError,
    address::Address,
    builder::Servers,
    cluster::{Cluster, Detour},
    dial::Place,
    node::{Fault, Node},
    patience::{Patience, Until},
    slot::{slot, slot_of},
};
use crate::trip::State;

/// How often a command is sent on to where its slot has gone.
const DETOURS: usize = 4;

/// A connection to a server, to the master that Sentinels know, or to a Cluster, shared by its clones. See the
/// [module docs](super).
#[derive(Clone)]
pub struct Redis(Arc<Shared>);

struct Shared {
    of: Arc<RedisBuilder>,
    way: Way,
}

#[derive(Clone)]
enum Way {
    One(Arc<Node>),
    Cluster(Arc<Cluster>),
}

impl Redis {
    /// Begins a connection to the server at this address: `redis://user@host:port/database`, or `rediss` for TLS.
    ///
    /// # Errors
    /// [`InvalidAddress`]
    pub fn builder(address: &str) -> Result<RedisBuilder, InvalidAddress> {
        Ok(RedisBuilder::new(Servers::Alone(address.parse()?)))
    }

    /// Begins a connection to the master of this name, of which Sentinels know. TLS, user and database of their addresses
    /// are the master's too; the user is not told to them.
    ///
    /// # Errors
    /// [`InvalidAddress`], also if there is none, or if they do not agree.
    pub fn sentinel<'a>(
        master: impl Into<Box<str>>,
        sentinels: impl IntoIterator<Item = &'a str>,
    ) -> Result<RedisBuilder, InvalidAddress> {
        let sentinels = Address::all(sentinels)?;
        Ok(RedisBuilder::new(Servers::Sentinel { master: master.into(), sentinels }))
    }

    /// Begins a connection to a Cluster, of which these nodes know. TLS and user of their addresses are those of all
    /// nodes. There is one database.
    ///
    /// # Errors
    /// [`InvalidAddress`], also if there is none, or if they do not agree.
    pub fn cluster<'a>(nodes: impl IntoIterator<Item = &'a str>) -> Result<RedisBuilder, InvalidAddress> {
        let nodes = Address::all(nodes)?;
        if nodes.iter().any(|node| node.database != 0) {
            return Err(InvalidAddress::Database);
        }
        Ok(RedisBuilder::new(Servers::Cluster(nodes)))
    }

    pub(super) fn of(of: RedisBuilder) -> Self {
        let of = Arc::new(of);
        let node = |place| Way::One(Node::new(place, Arc::clone(&of)));
        let way = match of.servers.clone() {
            Servers::Alone(address) => node(Place::At(address)),
            Servers::Sentinel { master: name, sentinels } => {
                node(Place::Master { name, sentinels, first: 0.into() })
            }
            Servers::Cluster(seeds) =>
            {
                #[expect(clippy::expect_used, reason = "there is no builder without an address")]
                Way::Cluster(Cluster::new(Arc::clone(&of), &seeds).expect("a Cluster has nodes"))
            }
        };
        Self(Arc::new(Shared { of, way }))
    }

    /// Asks whether the server answers.
    ///
    /// # Errors
    /// [`RedisError`]
    pub async fn ping(&self) -> Result<(), RedisError> {
        self.ask(&redis::cmd("PING")).await
    }

    /// Whether it is asked: [`Open`](State::Open) if one of the servers of which it knows does not answer, or no server of
    /// a Cluster says which there are.
    #[must_use]
    pub fn state(&self) -> State {
        match &self.0.way {
            Way::One(node) => node.state(),
            Way::Cluster(cluster) => cluster.state(),
        }
    }

    /// Whether whoever asks now would do so in vain, as far as is known.
    #[cfg_attr(not(feature = "admission"), expect(dead_code, reason = "limits use it"))]
    pub(crate) fn is_shut(&self, key: &str) -> bool {
        match &self.0.way {
            Way::One(node) => node.state() != State::Closed,
            Way::Cluster(cluster) => cluster.is_shut(slot(key.as_bytes())),
        }
    }

    /// Whether whoever asks now may find out that this key is served again: one of many who come at once.
    #[cfg_attr(not(feature = "admission"), expect(dead_code, reason = "limits use it"))]
    pub(crate) fn is_tried(&self, key: &str) -> bool {
        match &self.0.way {
            Way::One(node) => node.is_tried(),
            Way::Cluster(cluster) => cluster.is_tried(slot(key.as_bytes())),
        }
    }

    /// Whether all keys are on one server.
    pub(crate) fn is_one(&self) -> bool {
        matches!(self.0.way, Way::One(_))
    }

    /// Whether these keys can be named in one command.
    #[cfg_attr(not(feature = "admission"), expect(dead_code, reason = "limits use it"))]
    pub(crate) fn are_together(&self, one: &str, other: &str) -> bool {
        self.is_one() || slot(one.as_bytes()) == slot(other.as_bytes())
    }

    /// The key of this name among those of `set`, which are all in one hash slot. Names are ours, not strangers'.
    #[cfg_attr(
        not(any(feature = "admission", feature = "authn", feature = "telemetry")),
        expect(dead_code, reason = "stores of other rooms use it")
    )]
    pub(crate) fn key(&self, set: &str, name: &str) -> String {
        format!("{}:{{{set}}}:{name}", self.0.of.namespace)
    }

    /// Sends a command and waits for its answer.
    pub(crate) async fn ask<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, RedisError> {
        self.within(self.0.of.deadline, async |mut connection| command.query_async(&mut connection).await)
            .await
    }

    /// Runs a script by its hash; a server that does not know it is told it.
    #[cfg_attr(
        not(any(feature = "admission", feature = "authn")),
        expect(dead_code, reason = "stores of other rooms use it")
    )]
    pub(crate) async fn run<T: FromRedisValue>(
        &self,
        patience: impl Into<Patience>,
        script: &Script,
        keys: &[impl ToRedisArgs],
        args: impl ToRedisArgs,
    ) -> Result<T, RedisError> {
        let mut call = redis::cmd("EVALSHA");
        call.arg(script.get_hash()).arg(keys.len()).arg(keys).arg(args);
        self.within(patience, async |mut connection| match connection.command(&call).await {
            Err(error) if error.kind() == ServerErrorKind::NoScript.into() => {
                script.load_async(&mut connection).await?;
                connection.command(&call).await
            }
            done => done,
        })
        .await
    }

    /// Does `work` in this time, unless the breaker is open. Connecting is part of it.
    pub(crate) async fn within<T>(
        &self,
        patience: impl Into<Patience>,
        work: impl AsyncFnOnce(Connection) -> RedisResult<T>,
    ) -> Result<T, RedisError> {
        let fault = Arc::new(OnceLock::new());
        let connection = Connection {
            way: self.0.way.clone(),
            until: Until::of(patience.into()),
            fault: Arc::clone(&fault),
            last: None,
        };
        let done = work(connection).await;
        done.map_err(|error| fault.get().cloned().unwrap_or_else(|| RedisError::of(&error)))
    }
}

/// What commands are sent with, each to the server of its key. Of a pipeline all keys must be of one set.
#[derive(Clone)]
pub(crate) struct Connection {
    way: Way,
    until: Until,
    /// Why it failed, where that is not theirs to say.
    fault: Arc<OnceLock<RedisError>>,
    /// Who was asked last, and is asked for what has no key: he should know the script.
    last: Option<Arc<Node>>,
}

impl Connection {
    /// An answer that is not of this kind counts against the server.
    async fn command<T: FromRedisValue>(&mut self, command: &Cmd) -> RedisResult<T> {
        let node = self.node(|| slot_of(command)).await?;
        let mut detour = Detour { node, asking: false };
        for _ in 0..DETOURS {
            let Detour { node, asking } = detour;
            let send = async |mut connection: redis::aio::MultiplexedConnection| {
                if !asking {
                    return connection.send_packed_command(command).await;
                }
                let mut both = redis::pipe();
                both.cmd("ASKING").ignore().add_command(command.clone());
                let (answer,): (Value,) = both.query_async(&mut connection).await?;
                Ok(answer)
            };
            // A server's error is an answer like others until somebody looks.
            let done = node.exchange(self.until, async |connection| typed(send(connection).await?));
            let done = done.await;
            self.last = Some(Arc::clone(&node));
            match (done, &self.way) {
                (Ok(value), _) => return Ok(value),
                (Err(fault), Way::One(_)) => return Err(self.fail(fault)),
                (Err(fault), Way::Cluster(cluster)) => match cluster.detour(&node, &fault) {
                    Some(another) => detour = another,
                    None => return Err(self.fail(fault)),
                },
            }
        }
        Err(self.fail(Fault::Ours(RedisError::Refused("MOVED".into()))))
    }

    /// All commands, or none where they are a transaction. If the slot has moved, once more.
    async fn pipeline(
        &mut self,
        pipeline: &Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisResult<Vec<Value>> {
        for is_last in [false, true] {
            let node = self.node(|| pipeline.cmd_iter().find_map(slot_of)).await?;
            let send = async |mut connection: redis::aio::MultiplexedConnection| {
                connection.req_packed_commands(pipeline, offset, count).await
            };
            let done = node.exchange(self.until, send).await;
            self.last = Some(Arc::clone(&node));
            let values = match done {
                Ok(values) => values,
                Err(fault) => {
                    if let Way::Cluster(cluster) = &self.way {
                        cluster.detour(&node, &fault);
                        if !is_last && fault.is_of_transaction() {
                            self.relearn(cluster).await;
                            self.last = None;
                            continue;
                        }
                    }
                    return Err(self.fail(fault));
                }
            };
            let Way::Cluster(cluster) = &self.way else { return Ok(values) };
            if is_last || !values.iter().any(has_moved) {
                return Ok(values);
            }
            self.relearn(cluster).await;
            self.last = None;
        }
        Err(self.fail(Fault::Ours(RedisError::Refused("MOVED".into()))))
    }

    /// Has the slots asked for, as long as there is time.
    async fn relearn(&self, cluster: &Arc<Cluster>) {
        _ = timeout_at(self.until.at, cluster.relearn()).await;
    }

    async fn node(&self, slot: impl FnOnce() -> Option<u16>) -> RedisResult<Arc<Node>> {
        let cluster = match &self.way {
            Way::One(node) => return Ok(Arc::clone(node)),
            Way::Cluster(cluster) => cluster,
        };
        let slot = slot();
        if let (None, Some(last)) = (slot, &self.last) {
            return Ok(Arc::clone(last));
        }
        cluster.node(slot, self.until).await.map_err(|error| self.fail(Fault::Ours(error)))
    }

    fn fail(&self, fault: Fault) -> redis::RedisError {
        match fault {
            Fault::Theirs(error) => error,
            Fault::Ours(error) => {
                let told = std::io::Error::other(error.clone());
                _ = self.fault.set(error);
                told.into()
            }
        }
    }
}

fn typed<T: FromRedisValue>(value: Value) -> RedisResult<T> {
    let other = |_| (ErrorKind::UnexpectedReturnType, "another answer than was asked for").into();
    from_redis_value(value.extract_error()?).map_err(other)
}

fn has_moved(value: &Value) -> bool {
    let Value::ServerError(error) = value else { return false };
    matches!(error.kind(), Some(ServerErrorKind::Moved | ServerErrorKind::ExecAbort | ServerErrorKind::Ask))
}

impl ConnectionLike for Connection {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        Box::pin(self.command(command))
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        Box::pin(self.pipeline(pipeline, offset, count))
    }

    fn get_db(&self) -> i64 {
        0
    }
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Redis").field(&self.0.of).finish()
    }
}
