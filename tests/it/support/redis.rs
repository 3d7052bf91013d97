//! A real Redis or Valkey server, on a port of its own, in a directory of its own.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::mpsc,
    time::{Instant, sleep_until},
};

const PATIENCE: Duration = Duration::from_secs(60);
const STEP: Duration = Duration::from_millis(10);

/// Servers beside the one that is installed, as paths with a colon between them: `tests/run.sh` says where it put them.
const OTHERS: &str = "PORTCULLIS_REDIS_SERVERS";

/// Which server it is, and whether it speaks TLS; the one that is installed, and no TLS, unless told.
#[derive(Clone, Default)]
pub(crate) struct Program {
    path: Option<PathBuf>,
    certified: Option<Arc<Certified>>,
}

/// A certificate that all servers show, and by which they know each other.
pub(crate) struct Certified {
    certificate: String,
    key: String,
}

impl Certified {
    const SETTINGS: &str = "tls-cert-file DIRECTORY/cert.pem\ntls-key-file DIRECTORY/key.pem\n\
        tls-ca-cert-file DIRECTORY/cert.pem\ntls-auth-clients no\ntls-replication yes\ntls-cluster yes\n";

    pub(crate) fn new() -> Arc<Self> {
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        Arc::new(Self { certificate: made.cert.pem(), key: made.signing_key.serialize_pem() })
    }

    pub(crate) fn roots(&self) -> &str {
        &self.certificate
    }
}

impl Program {
    /// The server that is installed, over TLS. [`Server::ask`] has a port of its own.
    pub(crate) fn secured(certified: &Arc<Certified>) -> Self {
        Self { path: None, certified: Some(Arc::clone(certified)) }
    }

    /// The server that is installed, and the others that tests/servers.sh has brought: where it puts them, unless told.
    pub(crate) fn each() -> Vec<Self> {
        let others = std::env::var(OTHERS).map_or_else(
            |_| brought(),
            |paths| paths.split(':').filter(|path| !path.is_empty()).map(PathBuf::from).collect(),
        );
        std::iter::once(Self::default()).chain(others.into_iter().map(Self::at)).collect()
    }

    fn at(path: PathBuf) -> Self {
        Self { path: Some(path), certified: None }
    }
}

fn brought() -> Vec<PathBuf> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
    let servers = Path::new(env!("CARGO_MANIFEST_DIR")).join(target).join("servers");
    let paths = ["redis-6.2/redis-server", "valkey/usr/bin/valkey-server"].map(|path| servers.join(path));
    for path in &paths {
        assert!(path.exists(), "{}: tests/run.sh brings it, or {OTHERS} names others", path.display());
    }
    paths.into()
}

pub(crate) struct Server {
    child: Child,
    program: Program,
    arguments: &'static [&'static str],
    settings: String,
    directory: PathBuf,
    pub(crate) address: SocketAddr,
    /// Where [`ask`](Self::ask) asks: the same, unless that speaks TLS.
    plain: SocketAddr,
}

impl Server {
    pub(crate) fn start() -> Self {
        Self::with("", &[])
    }

    /// One of each kind.
    pub(crate) fn each() -> Vec<Self> {
        Program::each().into_iter().map(|program| Self::of(program, "", &[])).collect()
    }

    /// With these lines of configuration beside the usual, and these files in its directory.
    pub(crate) fn with(settings: &str, files: &[(&str, &str)]) -> Self {
        Self::of(Program::default(), settings, files)
    }

    pub(crate) fn of(program: Program, settings: &str, files: &[(&str, &str)]) -> Self {
        Self::begin(program, free(), &[], settings, files)
    }

    /// A Sentinel that watches this master.
    pub(crate) fn sentinel(master: &Self) -> Self {
        let settings = format!(
            "sentinel monitor limits 127.0.0.1 {} 2\nsentinel down-after-milliseconds limits 500\n\
             sentinel failover-timeout limits 3000\n",
            master.address.port()
        );
        Self::begin(master.program.clone(), free(), &["--sentinel"], &settings, &[])
    }

    /// A node of a Cluster that is not one yet: it needs a second port, 10000 above its own.
    pub(crate) fn node() -> Self {
        Self::node_of(Program::default())
    }

    fn node_of(program: Program) -> Self {
        let address = loop {
            let address = free();
            let second =
                address.port().checked_add(10_000).map(|port| TcpListener::bind(("127.0.0.1", port)));
            if matches!(second, Some(Ok(_))) {
                break address;
            }
        };
        let settings = "cluster-enabled yes\ncluster-node-timeout 1000\ncluster-config-file nodes.conf\n\
            cluster-replica-validity-factor 0\n";
        Self::begin(program, address, &[], settings, &[])
    }

    fn begin(
        program: Program,
        address: SocketAddr,
        arguments: &'static [&'static str],
        settings: &str,
        files: &[(&str, &str)],
    ) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let directory =
            std::env::temp_dir().join(format!("portcullis-redis-{}-{number}", std::process::id()));
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(&directory).unwrap();
        let write = |name: &str, text: &str| fs::write(directory.join(name), text).unwrap();
        files.iter().for_each(|(name, text)| write(name, text));
        let (plain, ports) = match &program.certified {
            None => (address, format!("port {}\n", address.port())),
            Some(certified) => {
                write("cert.pem", &certified.certificate);
                write("key.pem", &certified.key);
                let plain = free();
                let ports = format!("port {}\ntls-port {}\n", plain.port(), address.port());
                (plain, ports + Certified::SETTINGS)
            }
        };
        let settings = (ports + settings).replace("DIRECTORY", directory.to_str().unwrap());
        let child = spawn(&program, &directory, arguments, &settings);
        let mut server = Self { child, program, arguments, settings, directory, address, plain };
        server.wait();
        server
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    pub(crate) fn url(&self) -> String {
        let scheme = if self.program.certified.is_some() { "rediss" } else { "redis" };
        format!("{scheme}://{}", self.address)
    }

    /// Sends SIGSTOP, SIGCONT, ...
    pub(crate) fn signal(&self, name: &str) {
        let kill = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status();
        assert!(kill.unwrap().success());
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Begins again after [`kill`](Self::kill), with what it had written.
    pub(crate) fn again(&mut self) {
        self.child = spawn(&self.program, &self.directory, self.arguments, &self.settings);
        self.wait();
    }

    /// Asks without a password and without TLS, word by word.
    pub(crate) fn ask(&self, words: &str) -> String {
        let mut stream = TcpStream::connect(self.plain).unwrap();
        stream.write_all(format!("{words}\r\n").as_bytes()).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    /// Begins to ask, of what has no end.
    pub(crate) fn begin_to_ask(&self, words: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.plain).unwrap();
        stream.write_all(format!("{words}\r\n").as_bytes()).unwrap();
        stream
    }

    /// What this key holds.
    pub(crate) fn value(&self, key: &str) -> Vec<u8> {
        let mut stream = TcpStream::connect(self.plain).unwrap();
        stream.write_all(format!("GET {key}\r\n").as_bytes()).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let begin = 1 + answer.iter().position(|byte| *byte == b'\n').unwrap();
        answer[begin..answer.len() - 2].to_vec()
    }

    /// Makes it hold this, for about a day.
    pub(crate) fn set_value(&self, key: &str, value: &[u8]) {
        let value: String = value.iter().map(|byte| format!("\\x{byte:02x}")).collect();
        assert_eq!(self.ask(&format!("SET {key} \"{value}\" PX 100000000")), "+OK\r\n");
    }

    /// How often it was asked to do this: `evalsha`, say.
    pub(crate) fn calls(&self, command: &str) -> u64 {
        let told = self.ask("INFO commandstats");
        let line = told.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:calls=")));
        line.map_or(0, |line| line.split(',').next().unwrap().parse().unwrap())
    }

    /// What it tells about itself under this name, a number.
    pub(crate) fn told(&self, name: &str) -> u64 {
        let told = self.ask("INFO");
        let line = told.lines().find_map(|line| line.strip_prefix(&format!("{name}:")));
        line.unwrap_or_else(|| panic!("no {name} in {told}")).trim().parse().unwrap()
    }

    /// Whether it answers, and has read what it had written.
    fn is_there(&self) -> bool {
        let told = TcpStream::connect(self.plain).ok().map(|_| self.ask("PING"));
        told.is_some_and(|told| told.starts_with("+PONG") || told.starts_with("-NOAUTH"))
    }

    fn wait(&mut self) {
        let mut left = PATIENCE.as_millis() / STEP.as_millis();
        while !self.is_there() {
            assert!(self.child.try_wait().unwrap().is_none(), "the server of Redis did not start");
            assert!(left > 0, "the server of Redis is not there");
            left -= 1;
            std::thread::sleep(STEP);
        }
    }
}

/// A port that nobody listens at.
fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn spawn(program: &Program, directory: &Path, arguments: &[&str], settings: &str) -> Child {
    let file = directory.join("redis.conf");
    let lasting = if arguments.is_empty() { "appendonly yes\nappendfsync always" } else { "" };
    let text = format!("bind 127.0.0.1\ndir {}\n{lasting}\n{settings}\n", directory.display());
    fs::write(&file, text).unwrap();
    let start = |program: &Path| {
        let command = &mut Command::new(program);
        command.arg(&file).args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn()
    };
    if let Some(program) = &program.path {
        let told =
            |error| panic!("{}: {error}: {OTHERS} names it, tests/run.sh brings it", program.display());
        return start(program).unwrap_or_else(told);
    }
    let started = start("redis-server".as_ref()).or_else(|_| start("valkey-server".as_ref()));
    started.expect("neither redis-server nor valkey-server is installed: tests/run.sh brings one")
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// The way to a server, on which its answers are under way for a time.
pub(crate) struct Slow {
    pub(crate) address: SocketAddr,
    /// In milliseconds.
    delay: Arc<AtomicU64>,
}

impl Slow {
    pub(crate) async fn to(server: &Server) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, to, delay) =
            (listener.local_addr().unwrap(), server.address, Arc::new(AtomicU64::new(0)));
        let told = Arc::clone(&delay);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(carry(client, to, Arc::clone(&told)));
            }
        });
        Self { address, delay }
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    pub(crate) fn delay(&self, time: Duration) {
        self.delay.store(time.as_millis() as u64, Ordering::Relaxed);
    }
}

async fn carry(client: tokio::net::TcpStream, to: SocketAddr, delay: Arc<AtomicU64>) {
    let Ok(server) = tokio::net::TcpStream::connect(to).await else { return };
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let (under_way, mut arrived) = mpsc::unbounded_channel::<(Instant, Vec<u8>)>();
    let there = tokio::spawn(async move { tokio::io::copy(&mut from_client, &mut to_server).await });
    let back = tokio::spawn(async move {
        while let Some((at, bytes)) = arrived.recv().await {
            sleep_until(at).await;
            if to_client.write_all(&bytes).await.is_err() {
                return;
            }
        }
    });
    let mut buffer = vec![0; 65_536];
    while let Ok(length @ 1..) = from_server.read(&mut buffer).await {
        let at = Instant::now() + Duration::from_millis(delay.load(Ordering::Relaxed));
        if under_way.send((at, buffer[..length].to_vec())).is_err() {
            break;
        }
    }
    drop(under_way);
    _ = back.await;
    there.abort();
}

/// A master, a replica of it and three Sentinels.
pub(crate) struct Trio {
    pub(crate) master: Server,
    pub(crate) replica: Server,
    pub(crate) sentinels: Vec<Server>,
}

impl Trio {
    pub(crate) fn start() -> Self {
        Self::of(Program::default())
    }

    pub(crate) fn of(program: Program) -> Self {
        let master = Server::of(program.clone(), "", &[]);
        let follows = format!("replicaof 127.0.0.1 {}\n", master.address.port());
        let replica = Server::of(program, &follows, &[]);
        until("the replica follows", || replica.ask("INFO replication").contains("master_link_status:up"));
        let sentinels: Vec<_> = (0..3).map(|_| Server::sentinel(&master)).collect();
        for sentinel in &sentinels {
            until("Sentinels know each other", || {
                let told = sentinel.ask("INFO sentinel");
                told.contains("slaves=1") && told.contains("sentinels=3")
            });
        }
        Self { master, replica, sentinels }
    }

    pub(crate) fn urls(&self) -> Vec<String> {
        self.sentinels.iter().map(Server::url).collect()
    }
}

/// A Cluster: three masters, and a replica of each.
pub(crate) struct Nodes(pub(crate) Vec<Server>);

impl Nodes {
    pub(crate) fn start() -> Self {
        Self::of(&Program::default())
    }

    pub(crate) fn of(program: &Program) -> Self {
        let nodes: Vec<_> = (0..6).map(|_| Server::node_of(program.clone())).collect();
        for other in &nodes[1..] {
            let meet = nodes[0].ask(&format!("CLUSTER MEET 127.0.0.1 {}", other.address.port()));
            assert!(meet.starts_with("+OK"), "{meet}");
        }
        for (node, slots) in nodes.iter().zip([0..5461, 5461..10_923, 10_923..16_384]) {
            let slots: Vec<_> = slots.map(|slot| slot.to_string()).collect();
            let added = node.ask(&format!("CLUSTER ADDSLOTS {}", slots.join(" ")));
            assert!(added.starts_with("+OK"), "{added}");
        }
        for node in &nodes {
            until("nodes know each other", || node.ask("CLUSTER INFO").contains("cluster_known_nodes:6"));
        }
        for (replica, master) in nodes[3..].iter().zip(&nodes) {
            let id = id(master);
            until("a replica follows", || replica.ask(&format!("CLUSTER REPLICATE {id}")).starts_with("+OK"));
        }
        for node in &nodes {
            until("the Cluster serves", || {
                let slots = node.ask("CLUSTER SLOTS");
                // Who asks without TLS may be told of that port.
                let is_named = |at: SocketAddr| slots.contains(&format!(":{}\r\n", at.port()));
                let known = nodes.iter().all(|node| is_named(node.address) || is_named(node.plain));
                known && node.ask("CLUSTER INFO").contains("cluster_state:ok")
            });
        }
        for replica in &nodes[3..] {
            until("a replica is up to date", || {
                replica.ask("INFO replication").contains("master_link_status:up")
            });
        }
        Self(nodes)
    }

    pub(crate) fn urls(&self) -> Vec<String> {
        self.0.iter().map(Server::url).collect()
    }

    /// Which of the masters has this key, by its place.
    pub(crate) fn master_of(&self, key: &str) -> usize {
        (0..3).find(|&at| self.0[at].ask("KEYS *").contains(key)).expect("a master has it")
    }

    /// Moves the slot of this key, with all that is in it, and tells nobody but the two masters.
    pub(crate) fn move_slot(&self, key: &str, from: usize, to: usize) {
        let (slot, [from, to]) = (self.begin_to_move(key, from, &self.0[to]), [&self.0[from], &self.0[to]]);
        for name in from.ask(&format!("CLUSTER GETKEYSINSLOT {slot} 10")).lines() {
            if name.starts_with("portcullis") {
                let port = to.address.port();
                let moved = from.ask(&format!("MIGRATE 127.0.0.1 {port} {} 0 5000", name.trim()));
                assert!(moved.starts_with("+OK"), "{moved}");
            }
        }
        for node in [to, from] {
            node.ask(&format!("CLUSTER SETSLOT {slot} NODE {}", id(to)));
        }
    }

    /// Says that the slot of this key is on its way, and which slot it is: whoever asks for what is not there, is sent on.
    pub(crate) fn begin_to_move(&self, key: &str, from: usize, to: &Server) -> String {
        let from = &self.0[from];
        let slot = from.ask(&format!("CLUSTER KEYSLOT {key}")).trim().trim_start_matches(':').to_owned();
        for (node, word, other) in [(to, "IMPORTING", from), (from, "MIGRATING", to)] {
            let told = node.ask(&format!("CLUSTER SETSLOT {slot} {word} {}", id(other)));
            assert!(told.starts_with("+OK"), "{told}");
        }
        slot
    }
}

fn id(node: &Server) -> String {
    node.ask("CLUSTER MYID").lines().nth(1).unwrap().trim().to_owned()
}

fn until(what: &str, is_so: impl Fn() -> bool) {
    let mut left = PATIENCE.as_millis() / STEP.as_millis();
    while !is_so() {
        assert!(left > 0, "in vain waited until: {what}");
        left -= 1;
        std::thread::sleep(STEP);
    }
}
