//! A real Redis or Valkey server, on a port of its own, in a directory of its own.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

const PATIENCE: Duration = Duration::from_secs(60);
const STEP: Duration = Duration::from_millis(10);

pub(crate) struct Server {
    child: Child,
    settings: String,
    directory: PathBuf,
    pub(crate) address: SocketAddr,
}

impl Server {
    pub(crate) fn start() -> Self {
        Self::with("", &[])
    }

    /// With these lines of configuration beside the usual, and these files in its directory.
    pub(crate) fn with(settings: &str, files: &[(&str, &str)]) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let directory =
            std::env::temp_dir().join(format!("portcullis-redis-{}-{number}", std::process::id()));
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(&directory).unwrap();
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        files.iter().for_each(|(name, text)| fs::write(directory.join(name), text).unwrap());
        let settings = settings.replace("DIRECTORY", directory.to_str().unwrap());
        let child = spawn(&directory, address.port(), &settings);
        let mut server = Self { child, settings, directory, address };
        server.wait();
        server
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://{}", self.address)
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
        self.child = spawn(&self.directory, self.address.port(), &self.settings);
        self.wait();
    }

    /// Asks without a password and without TLS, word by word.
    pub(crate) fn ask(&self, words: &str) -> String {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.write_all(format!("{words}\r\nQUIT\r\n").as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    /// Whether it answers, and has read what it had written.
    fn is_there(&self) -> bool {
        let speaks = TcpStream::connect(self.address).is_ok();
        speaks && (self.settings.contains("tls-cert-file") || self.ask("PING").starts_with("+PONG"))
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

fn spawn(directory: &std::path::Path, port: u16, settings: &str) -> Child {
    let port = if settings.contains("tls-cert-file") {
        format!("port 0\ntls-port {port}")
    } else {
        format!("port {port}")
    };
    let file = directory.join("redis.conf");
    let text = format!(
        "{port}\nbind 127.0.0.1\ndir {}\nappendonly yes\nappendfsync always\n{settings}\n",
        directory.display()
    );
    fs::write(&file, text).unwrap();
    let start =
        |program: &str| Command::new(program).arg(&file).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let started = start("redis-server").or_else(|_| start("valkey-server"));
    started.expect("neither redis-server nor valkey-server is installed: tests/run.sh brings one")
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.directory);
    }
}
