//! What the program does with the service beside which it stands.
use std::{
    net::SocketAddr,
    process::Stdio,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{Router, routing::any};
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    net::TcpStream,
    process::{Child, ChildStderr, ChildStdout, Command},
    sync::Notify,
    time::{sleep, timeout},
};

use crate::{
    examples::examples,
    gateway::world::{Client, Directory, PATIENCE, nobody},
    support::{
        agent::{Agent, only, svid},
        certificates::{Authority, uri},
    },
};

const SHOP: &str = "spiffe://mesh.local/shop";

/// The program beside a command.
struct Sidecar {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    complaints: Option<Lines<BufReader<ChildStderr>>>,
}

impl Sidecar {
    fn spawn(arguments: &[&str]) -> Self {
        Self::complaining(arguments, Stdio::inherit())
    }

    fn complaining(arguments: &[&str], to: Stdio) -> Self {
        let mut command = Command::new(examples().join("sidecar"));
        command.args(arguments).env("PORTCULLIS_LOG", "warn").stdout(Stdio::piped()).stderr(to);
        let mut child = command.kill_on_drop(true).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let complaints = child.stderr.take().map(|complaints| BufReader::new(complaints).lines());
        Self { child, lines, complaints }
    }

    fn run(world: &World, command: &[&str]) -> Self {
        let file = world.directory.path("sidecar.yaml");
        Self::spawn(&[&["run", "--config", file.to_str().unwrap(), "--"], command].concat())
    }

    /// The next of its complaints with these words.
    async fn complaint(&mut self, words: &str) -> String {
        let complaints = self.complaints.as_mut().unwrap();
        loop {
            let line = timeout(PATIENCE, complaints.next_line()).await.expect("no complaint in time");
            let line = line.unwrap().expect("no complaint");
            if line.contains(words) {
                return line;
            }
        }
    }

    /// The next line of the service.
    async fn line(&mut self) -> String {
        loop {
            let line = timeout(PATIENCE, self.lines.next_line()).await.expect("no line in time");
            let line = line.unwrap().expect("no line");
            if !line.contains(" on 127.0.0.1:") {
                return line;
            }
        }
    }

    fn signal(&self, name: &str) {
        let id = self.child.id().unwrap().to_string();
        let kill = std::process::Command::new("kill").args([&format!("-{name}"), &id]).status().unwrap();
        assert!(kill.success());
    }

    async fn exit(&mut self) -> Option<i32> {
        timeout(PATIENCE, self.child.wait()).await.expect("it did not end").unwrap().code()
    }
}

/// Where things are, and in what order they happened.
struct World {
    directory: Directory,
    inbound: SocketAddr,
    outbound: SocketAddr,
    admin: SocketAddr,
    service: SocketAddr,
    happened: Arc<Mutex<Vec<String>>>,
    came: Arc<Notify>,
    answer: Arc<Notify>,
}

impl World {
    /// A service that notes what it is asked, and answers `/held` when it may.
    async fn new(grace: &str) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let world = Self {
            directory: Directory::new("lifecycle"),
            inbound: nobody(),
            outbound: nobody(),
            admin: nobody(),
            service: listener.local_addr().unwrap(),
            happened: Arc::default(),
            came: Arc::default(),
            answer: Arc::default(),
        };
        let (happened, came, answer) = (world.happened.clone(), world.came.clone(), world.answer.clone());
        let app = Router::new().fallback(any(async move |request: axum::extract::Request| {
            let path = request.uri().path().to_owned();
            happened.lock().unwrap().push(path.clone());
            if path == "/held" {
                came.notify_one();
                answer.notified().await;
            }
            path
        }));
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        let text = format!(
            "apiVersion: portcullis/v1alpha1\n\
             admin: {{ address: '{}' }}\n\
             upstreams: {{ service: {{ endpoints: ['{}'] }} }}\n\
             inbound:\n\
             \x20 listeners: [{{ name: in, address: '{}' }}]\n\
             \x20 routes: [{{ name: service, rules: [{{ backendRefs: [{{ name: service }}] }}] }}]\n\
             outbound: {{ listeners: [{{ name: calls, address: '{}' }}], destinations: {{ service: {{}} }} }}\n\
             shutdown: {{ delay: 0s, grace: {grace} }}\n",
            world.admin, world.service, world.inbound, world.outbound,
        );
        world.directory.write("sidecar.yaml", &text);
        world
    }

    /// Callers come within TLS, by this identity.
    fn secured(&self, identity: &str) {
        let text = std::fs::read_to_string(self.directory.path("sidecar.yaml")).unwrap();
        let text = text.replace("{ name: in,", "{ name: in, tls: { identities: [shop] },");
        self.directory.write("sidecar.yaml", &format!("{text}identities: {{ shop: {{ {identity} }} }}\n"));
    }

    /// A command of the shell by which a service calls another.
    fn call(&self, path: &str) -> String {
        format!("curl --silent --show-error --header Host:service http://{}{path}", self.outbound)
    }

    /// A request that the service has got and does not answer yet.
    async fn hold(&self) -> tokio::task::JoinHandle<u16> {
        let inbound = self.inbound;
        let held = tokio::spawn(async move { Client::new().get(inbound, "/held", &[]).await.status });
        timeout(PATIENCE, self.came.notified()).await.expect("it has come");
        held
    }

    async fn until_nothing_comes_in(&self) {
        let refused = async {
            while TcpStream::connect(self.inbound).await.is_ok() {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, refused).await.expect("it takes nothing any more");
    }

    fn happened(&self) -> Vec<String> {
        self.happened.lock().unwrap().clone()
    }
}

#[tokio::test]
async fn it_ends_as_the_service_does() {
    let world = World::new("5s").await;
    let file = world.directory.path("plain");
    world.directory.write("plain", "no program");
    for (command, code) in [
        (&["true"][..], 0),
        (&["sh", "-c", "exit 7"], 7),
        (&["sh", "-c", "kill -KILL $$"], 137),
        (&["sh", "-c", "kill -TERM $$"], 143),
        (&["/nowhere/is/this"], 127),
        (&[file.to_str().unwrap()], 126),
    ] {
        assert_eq!(Sidecar::run(&world, command).exit().await, Some(code), "{command:?}");
    }
}

#[tokio::test]
async fn the_service_starts_when_all_is_ready() {
    let world = World::new("5s").await;
    let asked = format!(
        "curl --silent --fail http://{}/readyz && {} && curl --silent http://{}/in",
        world.admin,
        world.call("/out"),
        world.inbound
    );
    assert_eq!(Sidecar::run(&world, &["sh", "-c", &asked]).exit().await, Some(0));
    assert_eq!(world.happened(), ["/out", "/in"]);

    // What is refused starts nothing.
    world.directory.write("sidecar.yaml", "apiVersion: portcullis/v1alpha1\noutbound: {}\n");
    let started = world.directory.path("started");
    assert_eq!(Sidecar::run(&world, &["touch", started.to_str().unwrap()]).exit().await, Some(1));
    assert!(!started.exists());
}

/// Whoever makes the identity may begin after us: until it is there nobody is answered, and the service is not started.
#[tokio::test]
async fn the_service_starts_when_the_identity_is_there() {
    let authority = Authority::new("mesh.local");
    let agent = Agent::start();
    for (identity, problem) in [
        ("directory: certs, awaited: true".to_owned(), "certs/tls.crt"),
        (format!("workloadApi: {{ socket: {} }}", agent.path().display()), "has issued no identity"),
    ] {
        let world = World::new("5s").await;
        world.secured(&identity);
        let file = world.directory.path("sidecar.yaml");
        let (file, started) = (file.to_str().unwrap(), world.directory.path("started"));
        let command = ["run", "--config", file, "--", "touch", started.to_str().unwrap()];
        let waiting = || Sidecar::complaining(&command, Stdio::piped());
        let (mut sidecar, told) = (waiting(), "the service is not started yet: ");
        for _ in 0..2 {
            let why = sidecar.complaint(told).await;
            assert!(why.contains("no identity yet: listener \"in\"") && why.contains(problem), "{why}");
        }
        let readyz = Client::new().get(world.admin, "/readyz", &[]).await;
        assert!(readyz.status == 503 && readyz.text.contains("listener \"in\""), "{}", readyz.text);
        assert!(!started.exists());
        // Who is told to end meanwhile starts nothing.
        sidecar.signal("TERM");
        assert_eq!(sidecar.exit().await, Some(143));
        assert!(!started.exists());

        let mut sidecar = waiting();
        sidecar.complaint(told).await;
        if identity.starts_with("directory") {
            let (chain, key) = authority.sign(|params| params.subject_alt_names = vec![uri(SHOP)]);
            std::fs::create_dir(world.directory.path("certs")).unwrap();
            world.directory.write("certs/tls.key", &key);
            world.directory.write("certs/tls.crt", &chain);
        } else {
            agent.tell(&only(svid(&authority, SHOP, |_| {})));
        }
        assert_eq!(sidecar.exit().await, Some(0));
        assert!(started.exists());
    }
}

#[tokio::test]
async fn signals_are_the_services() {
    let world = World::new("5s").await;
    // A shell can trap no signal that was ignored when it began, as HUP is under `nohup`.
    let traps = ["USR1", "USR2", "WINCH"].map(|name| format!("trap 'echo {name}' {name}; ")).concat();
    let script = format!("{traps} trap 'echo TERM; exit 3' TERM; echo up; while :; do sleep 0.05; done");
    let mut sidecar = Sidecar::run(&world, &["sh", "-c", &script]);
    assert_eq!(sidecar.line().await, "up");
    for name in ["USR1", "USR2", "WINCH", "USR1", "TERM"] {
        sidecar.signal(name);
        assert_eq!(sidecar.line().await, name);
    }
    assert_eq!(sidecar.exit().await, Some(3));
}

/// SIGTERM: nothing more comes in, what was asked is answered, the service is told, and can call others to its end.
#[tokio::test]
async fn what_comes_in_ends_before_the_service_and_what_goes_out_after_it() {
    let world = World::new("60s").await;
    let script = format!(
        "trap 'echo USR1' USR1; trap '{}; {}; exit 5' TERM; echo up; while :; do sleep 0.05; done",
        world.call("/told"),
        world.call("/last"),
    );
    let mut sidecar = Sidecar::run(&world, &["sh", "-c", &script]);
    assert_eq!(sidecar.line().await, "up");
    let held = world.hold().await;
    sidecar.signal("TERM");
    world.until_nothing_comes_in().await;
    // The service can still call, with what it was asked on its hands, and be signalled.
    sidecar.signal("USR1");
    assert_eq!(sidecar.line().await, "USR1");
    let client = Client::new();
    assert_eq!(client.get(world.outbound, "/meanwhile", &[("host", "service")]).await.status, 200);
    assert_eq!(client.get(world.admin, "/readyz", &[]).await.status, 503);
    assert_eq!(client.get(world.admin, "/healthz", &[]).await.status, 200);
    world.answer.notify_one();
    assert_eq!(held.await.unwrap(), 200);
    assert_eq!(sidecar.exit().await, Some(5));
    assert_eq!(world.happened(), ["/held", "/meanwhile", "/told", "/last"]);
}

/// At a terminal, of which keys tell all in the foreground at once: the service is none of them, and reads all the same.
///
/// That is one of `script` of util-linux: others take other arguments.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn ctrl_c_drains_as_sigterm_does() {
    use tokio::io::AsyncWriteExt;

    let world = World::new("60s").await;
    let service = format!(
        "trap '{}; exit 5' INT; echo up; read -r line; echo \"read: $line\"; while :; do sleep 0.05; done",
        world.call("/told")
    );
    world.directory.write("service.sh", &service);
    let path = |name: &str| world.directory.path(name).display().to_string();
    // No shell traps a signal that was ignored when it began, as whoever runs these tests beside something else may ignore it.
    let run = |command: &str| {
        let run = format!(
            "exec env --default-signal=INT '{}' run --config '{}' -- {command}",
            examples().join("sidecar").display(),
            path("sidecar.yaml")
        );
        let mut terminal = Command::new("script");
        terminal.args(["--quiet", "--return", "--command", &run, "/dev/null"]).kill_on_drop(true);
        terminal.env("PORTCULLIS_LOG", "warn").stdin(Stdio::piped()).stdout(Stdio::piped());
        terminal.spawn().unwrap()
    };
    let mut child = run(&format!("sh '{}'", path("service.sh")));
    let mut keys = child.stdin.take().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut sidecar = Sidecar { child, lines, complaints: None };
    assert_eq!(sidecar.line().await.trim(), "up");
    keys.write_all(b"typed\n").await.unwrap();
    while sidecar.line().await.trim() != "read: typed" {}
    let held = world.hold().await;
    keys.write_all(b"\x03").await.unwrap();
    world.until_nothing_comes_in().await;
    let meanwhile = Client::new().get(world.outbound, "/meanwhile", &[("host", "service")]).await;
    assert_eq!(meanwhile.status, 200);
    world.answer.notify_one();
    assert_eq!(held.await.unwrap(), 200);
    assert_eq!(sidecar.exit().await, Some(5));
    assert_eq!(world.happened(), ["/held", "/meanwhile", "/told"]);

    for (command, code) in [("true", 0), ("sh -c 'exit 7'", 7), ("/nowhere/is/this", 127)] {
        let mut child = run(command);
        // Whose end would be told.
        let _keys = child.stdin.take();
        let ended = timeout(PATIENCE, child.wait_with_output()).await.expect("it ends").unwrap();
        assert_eq!(ended.status.code(), Some(code), "{command}");
    }
}

#[tokio::test]
async fn a_second_signal_does_not_wait_for_what_came_in() {
    let world = World::new("60s").await;
    let script =
        format!("trap '{}; exit 5' TERM; echo up; while :; do sleep 0.05; done", world.call("/told"));
    let mut sidecar = Sidecar::run(&world, &["sh", "-c", &script]);
    assert_eq!(sidecar.line().await, "up");
    let held = world.hold().await;
    sidecar.signal("TERM");
    world.until_nothing_comes_in().await;
    sidecar.signal("TERM");
    let told = async {
        while !world.happened().contains(&"/told".to_owned()) {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, told).await.expect("it is told while a request is in flight");
    world.answer.notify_one();
    assert_eq!(held.await.unwrap(), 200, "what came in is answered as long as somebody answers");
    assert_eq!(sidecar.exit().await, Some(5));
}

#[tokio::test]
async fn who_does_not_end_is_killed_with_what_it_has_started() {
    let world = World::new("300ms").await;
    let script = "trap '' TERM; sleep 1000 & echo $!; while :; do sleep 0.05; done";
    let mut sidecar = Sidecar::run(&world, &["sh", "-c", script]);
    let started = sidecar.line().await;
    sidecar.signal("TERM");
    assert_eq!(sidecar.exit().await, Some(137));
    let gone = async {
        // Who is dead and not buried yet has no memory of its own.
        let lives = || std::fs::read_to_string(format!("/proc/{started}/statm")).unwrap_or_default();
        while !matches!(lives().split_whitespace().next(), None | Some("0")) {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, gone).await.expect("nothing is left running");
}

/// Behind a shell, which ends at once, a service has the time that it needs.
#[tokio::test]
async fn what_the_service_has_started_is_waited_for() {
    let world = World::new("60s").await;
    let slow = format!("trap '{}; exit 0' TERM; echo up; while :; do sleep 0.05; done", world.call("/slow"));
    // The outer shell has no trap.
    let script = format!("sh -c \"{slow}\"; true");
    let mut sidecar = Sidecar::run(&world, &["sh", "-c", &script]);
    assert_eq!(sidecar.line().await, "up");
    sidecar.signal("TERM");
    assert_eq!(sidecar.exit().await, Some(143));
    assert_eq!(world.happened(), ["/slow"]);
}

/// Nobody reads what it says any more: a log shipper has gone.
#[tokio::test]
async fn who_says_it_to_nobody_kills_all_the_same() {
    let world = World::new("200ms").await;
    let file = world.directory.path("sidecar.yaml");
    let mut command = Command::new(examples().join("sidecar"));
    command.args(["run", "--config", file.to_str().unwrap(), "--", "sh", "-c"]);
    let marker = world.directory.path("up");
    command.arg(format!("trap '' TERM; touch {}; while :; do sleep 0.05; done", marker.display()));
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
    drop((child.stdout.take(), child.stderr.take()));
    let up = async {
        while !marker.exists() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, up).await.expect("the service starts");
    let id = child.id().unwrap().to_string();
    assert!(std::process::Command::new("kill").arg(&id).status().unwrap().success());
    let ended = timeout(PATIENCE, child.wait()).await.expect("it ends").unwrap();
    assert_eq!(ended.code(), Some(137));
}

#[tokio::test]
async fn beside_a_service_of_somebody_elses() {
    let world = World::new("60s").await;
    let file = world.directory.path("sidecar.yaml");
    let mut sidecar = Sidecar::spawn(&["--config", file.to_str().unwrap()]);
    for _ in 0..3 {
        timeout(PATIENCE, sidecar.lines.next_line()).await.unwrap().unwrap().unwrap();
    }
    let held = world.hold().await;
    sidecar.signal("TERM");
    world.until_nothing_comes_in().await;
    assert_eq!(Client::new().get(world.outbound, "/out", &[("host", "service")]).await.status, 200);
    world.answer.notify_one();
    assert_eq!(held.await.unwrap(), 200);
    assert_eq!(sidecar.exit().await, Some(0));
}

#[tokio::test]
async fn mistakes_on_the_command_line_are_told() {
    for (arguments, told) in [
        (&["run", "--config", "a.yaml"][..], "what is to be run stands behind `--`"),
        (&["run", "--config", "a.yaml", "--"], "what is to be run stands behind `--`"),
        (&["run", "--", "sh"], "`run` needs `--config FILE`"),
        (&["check", "a.yaml", "--", "sh"], "only `run` takes a command"),
        (&["check"], "`check` needs a file"),
        (&[], "what is to be done?"),
        (&["capture"], "`capture` needs `--user`"),
        (&["capture", "--user"], "`--user` needs a value"),
        (&["capture", "--user", "proxy"], "expected `--inbound`, `--outbound` or both"),
        (&["capture", "--user", "a;b", "--inbound", "1"], "--user: expected"),
        (&["capture", "--user", "-a", "--inbound", "1"], "--user: expected"),
        (&["capture", "--user", "proxy", "--inbound", "0"], "--inbound: expected a port"),
        (&["capture", "--user", "proxy", "--inbound", "1", "--ipv6", "yes"], "--ipv6: expected `refuse`"),
        (&["capture", "--user", "proxy", "--except-inbound", "65536"], "--except-inbound: expected a port"),
    ] {
        let output = Command::new(examples().join("sidecar")).args(arguments).output().await.unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains(told) && said.contains("usage: sidecar"), "{arguments:?}: {said}");
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
    }
}
