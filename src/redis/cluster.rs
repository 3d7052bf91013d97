//! The nodes of a Cluster, and which slots each serves.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use redis::{ErrorKind, ServerErrorKind, Value, from_redis_value};
use tokio::time::{Instant, timeout_at};

use super::{
    RedisBuilder, RedisError,
    address::Address,
    dial::Place,
    node::{Fault, Node},
    pace::Pace,
    patience::Until,
};
use crate::{flight::Flights, trip::State};

/// How long a node may take to tell the slots, at least.
const TELLING: Duration = Duration::from_millis(200);
/// The slots are asked for again after this, however many find them wrong or miss one.
const PAUSE: Duration = Duration::from_millis(100);
/// The most nodes of which we know.
const MOST_NODES: usize = 1000;
/// The most nodes of which we know only since one was sent there.
const MOST_FOUND: usize = 64;

pub(super) struct Cluster {
    of: Arc<RedisBuilder>,
    /// Of which all addresses have TLS, user and database.
    like: Address,
    seeds: Vec<Arc<Node>>,
    map: ArcSwap<Map>,
    /// Where commands were sent on to, and which no slot is said to be on yet.
    found: Mutex<Nodes>,
    flights: Flights<(), ()>,
    born: Instant,
    /// When the slots were told last, or were not, in milliseconds since then; 0: never.
    told: AtomicU64,
    /// Of those whose slot is not served, who looks whether another node serves it.
    tries: Pace,
}

type Nodes = BTreeMap<(Box<str>, u16), Arc<Node>>;

#[derive(Default)]
struct Map {
    nodes: Nodes,
    /// In the order of slots, without overlaps.
    ranges: Vec<Range>,
}

struct Range {
    first: u16,
    last: u16,
    node: Arc<Node>,
}

/// Where a command is to be asked again.
pub(super) struct Detour {
    pub(super) node: Arc<Node>,
    /// Whether the slot is on its way there, so that it has to be asked for.
    pub(super) asking: bool,
}

impl Cluster {
    pub(super) fn new(of: Arc<RedisBuilder>, seeds: &[Address]) -> Option<Arc<Self>> {
        let node = |address: &Address| Node::new(Place::At(address.clone()), Arc::clone(&of));
        Some(Arc::new(Self {
            like: seeds.first()?.clone(),
            seeds: seeds.iter().map(node).collect(),
            map: ArcSwap::default(),
            found: Mutex::default(),
            flights: Flights::new(1),
            born: Instant::now(),
            told: AtomicU64::new(0),
            tries: Pace::new(PAUSE),
            of,
        }))
    }

    /// The node that serves this slot; any node where none is asked for. Who needs one that is not known waits for the
    /// slots, unless they were told a moment ago.
    pub(super) async fn node(
        self: &Arc<Self>,
        slot: Option<u16>,
        until: Until,
    ) -> Result<Arc<Node>, RedisError> {
        let unserved = || RedisError::Refused("CLUSTERDOWN".into());
        if let Some(node) = self.known(slot) {
            return Ok(node);
        }
        if self.is_told() {
            return self.known(slot).ok_or_else(unserved);
        }
        let late = |_| RedisError::Late(until.deadline);
        timeout_at(until.at, self.relearn()).await.map_err(late)?;
        self.known(slot).ok_or_else(unserved)
    }

    /// Whether nobody is known to serve this slot, though it was asked who does.
    pub(super) fn is_shut(&self, slot: u16) -> bool {
        match self.known(Some(slot)) {
            Some(node) => node.state() != State::Closed,
            None => self.told.load(Relaxed) != 0,
        }
    }

    /// That of the worst of its nodes; open too if no node tells of any.
    pub(super) fn state(&self) -> State {
        let states: Vec<_> = self.nodes().iter().map(|node| node.state()).collect();
        let worst = |wanted| states.contains(&wanted).then_some(wanted);
        let none = (states.is_empty() && self.told.load(Relaxed) != 0).then_some(State::Open);
        none.or(worst(State::Open)).or(worst(State::HalfOpen)).unwrap_or(State::Closed)
    }

    /// Whether whoever asks now may find out that it is served again, by its node or by another: one of many who come at once.
    pub(super) fn is_tried(&self, slot: u16) -> bool {
        self.known(Some(slot)).is_some_and(|node| node.is_tried()) || self.tries.lets()
    }

    /// The node that serves this slot, as far as it is known.
    pub(super) fn known(&self, slot: Option<u16>) -> Option<Arc<Node>> {
        let map = self.map.load();
        let Some(slot) = slot else { return map.nodes.values().next().cloned() };
        let range = map.ranges.get(map.ranges.partition_point(|range| range.last < slot))?;
        (range.first <= slot).then(|| Arc::clone(&range.node))
    }

    pub(super) fn nodes(&self) -> Vec<Arc<Node>> {
        self.map.load().nodes.values().cloned().collect()
    }

    /// What to do about a fault: where to ask instead. Whatever tells that the slots are others than we know, has them
    /// asked for again, and nobody waits for that.
    pub(super) fn detour(self: &Arc<Self>, asked: &Node, fault: &Fault) -> Option<Detour> {
        let told = fault.told();
        if told.is_outage() || matches!(told, RedisError::Open(_)) {
            self.learn_soon();
        }
        let Fault::Theirs(error) = fault else { return None };
        let asking = match error.kind() {
            ErrorKind::Server(ServerErrorKind::Moved) => false,
            ErrorKind::Server(ServerErrorKind::Ask) => true,
            _ => return None,
        };
        if !asking {
            self.learn_soon();
        }
        let (address, _) = error.redirect_node()?;
        let (host, port) = address.rsplit_once(':')?;
        let host = match (host, &asked.place) {
            ("", Place::At(same)) => &*same.host,
            (host, _) => host,
        };
        Some(Detour { node: self.find(host, port.parse().ok()?), asking })
    }

    /// Has the slots asked for, unless they were told a moment ago.
    pub(super) fn learn_soon(self: &Arc<Self>) {
        if !self.is_told() {
            let cluster = Arc::clone(self);
            drop(self.flights.join((), move || async move { cluster.learn().await }));
        }
    }

    /// Has the slots asked for, and waits for that.
    pub(super) async fn relearn(self: &Arc<Self>) {
        let cluster = Arc::clone(self);
        if let Ok(joined) = self.flights.join((), move || async move { cluster.learn().await }) {
            _ = joined.await;
        }
    }

    fn is_told(&self) -> bool {
        let (told, now) = (self.told.load(Relaxed), self.now());
        told != 0 && now.saturating_sub(told) < PAUSE.as_millis() as u64
    }

    fn now(&self) -> u64 {
        (self.born.elapsed().as_millis() as u64).max(1)
    }

    /// The node at this address, to which somebody was sent.
    fn find(&self, host: &str, port: u16) -> Arc<Node> {
        if let Some(known) = self.look(host, port) {
            return known;
        }
        let mut found = self.found();
        if found.len() >= MOST_FOUND {
            found.retain(|_, node| Arc::strong_count(node) > 1);
        }
        if found.len() >= MOST_FOUND {
            found.clear();
        }
        Arc::clone(found.entry((host.into(), port)).or_insert_with(|| self.fresh(host, port)))
    }

    fn look(&self, host: &str, port: u16) -> Option<Arc<Node>> {
        let at = (host.into(), port);
        self.map.load().nodes.get(&at).or(self.found().get(&at)).cloned()
    }

    fn fresh(&self, host: &str, port: u16) -> Arc<Node> {
        Node::new(Place::At(self.like.at(host, port)), Arc::clone(&self.of))
    }

    fn found(&self) -> MutexGuard<'_, Nodes> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn learn(&self) {
        match self.told().await {
            Some(map) => {
                self.found().retain(|at, _| !map.nodes.contains_key(at));
                self.map.store(Arc::new(map));
            }
            None => tracing::debug!("no node of the Cluster tells its slots"),
        }
        self.told.store(self.now(), Relaxed);
    }

    /// Asks one node after the other which slots there are, those first of which no ill is known.
    async fn told(&self) -> Option<Map> {
        let mut nodes = self.nodes();
        nodes.extend(self.seeds.iter().cloned());
        nodes.sort_by_key(|node| node.state() != State::Closed);
        let until = || Until::of(TELLING.max(self.of.deadline).into());
        for node in nodes {
            let mut ask = redis::cmd("CLUSTER");
            ask.arg("SLOTS");
            let told =
                node.exchange(until(), async |mut connection| connection.send_packed_command(&ask).await);
            if let Ok(slots) = told.await
                && let Some(map) = self.read(&node, &slots)
            {
                return Some(map);
            }
        }
        None
    }

    /// Each line is the first slot, the last, the master as host and port and more, and its replicas.
    fn read(&self, told_by: &Node, slots: &Value) -> Option<Map> {
        let Value::Array(lines) = slots else { return None };
        let mut map = Map::default();
        for line in lines {
            let Value::Array(line) = line else { return None };
            let [first, last, Value::Array(master), ..] = line.as_slice() else { return None };
            let number = |value: &Value| from_redis_value::<u16>(value.clone()).ok();
            let (first, last) = (number(first)?, number(last)?);
            let host = master.first().and_then(|host| from_redis_value::<String>(host.clone()).ok());
            let host = match (host.as_deref(), &told_by.place) {
                (None | Some("" | "?"), Place::At(same)) => &*same.host,
                (host, _) => host?,
            };
            let port = number(master.get(1)?)?;
            if map.nodes.len() == MOST_NODES {
                return None;
            }
            let node = || self.look(host, port).unwrap_or_else(|| self.fresh(host, port));
            let node = map.nodes.entry((host.into(), port)).or_insert_with(node);
            map.ranges.push(Range { first, last, node: Arc::clone(node) });
        }
        map.ranges.sort_by_key(|range| range.first);
        (!map.ranges.is_empty()).then_some(map)
    }
}
