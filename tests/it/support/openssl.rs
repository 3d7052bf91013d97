//! openssl, for what other tools do not make or do not say.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Output, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::{Child, Command},
    time::timeout,
};

use super::certificates::Authority;

/// Nothing here is measured.
const PATIENCE: Duration = Duration::from_secs(30);

/// A certificate and its key, as files of a directory that goes with it.
pub(crate) struct Files(PathBuf);

impl Files {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let (process, number) = (std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(format!("portcullis-openssl-{process}-{number}"));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn of((chain, key): &(String, String)) -> Self {
        let files = Self::new();
        fs::write(files.chain(), chain).unwrap();
        fs::write(files.key(), key).unwrap();
        files
    }

    /// What others do not make: with this key (`-newkey` of `openssl req`), these extensions and these arguments of
    /// `openssl x509`.
    pub(crate) async fn made(
        authority: &Authority,
        key: &[&str],
        extensions: &str,
        arguments: &[&str],
    ) -> Self {
        let files = Self::new();
        let at = |name: &str| files.0.join(name).display().to_string();
        fs::write(at("ca.pem"), authority.pem()).unwrap();
        fs::write(at("ca.key"), authority.0.key().serialize_pem()).unwrap();
        fs::write(at("extensions"), extensions).unwrap();
        let key_at = files.key().display().to_string();
        let asked = ["req", "-new", "-nodes", "-subj", "/", "-keyout", &key_at, "-out"];
        run(&[&asked[..], &[&at("csr")], key].concat()).await;
        let (csr, ca, ca_key, extensions) = (at("csr"), at("ca.pem"), at("ca.key"), at("extensions"));
        let chain = files.chain().display().to_string();
        let signed =
            ["x509", "-req", "-in", &csr, "-CA", &ca, "-CAkey", &ca_key, "-CAcreateserial", "-days", "2"];
        run(&[&signed[..], &["-extfile", &extensions, "-out", &chain], arguments].concat()).await;
        files
    }

    pub(crate) fn chain(&self) -> PathBuf {
        self.0.join("chain.pem")
    }

    pub(crate) fn key(&self) -> PathBuf {
        self.0.join("key.pem")
    }

    /// As arguments of `s_client` and `s_server`, which use weak ones only if they are told to.
    fn shown(&self) -> [String; 6] {
        let path = |path: &Path| path.display().to_string();
        [
            "-cert".into(),
            path(&self.chain()),
            "-key".into(),
            path(&self.key()),
            "-cipher".into(),
            "DEFAULT@SECLEVEL=0".into(),
        ]
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A root with this key, and a certificate by it with a strong one and these extensions.
pub(crate) async fn root_and_leaf(key: &[&str], extensions: &str) -> (String, Files) {
    let files = Files::new();
    let at = |name: &str| files.0.join(name).display().to_string();
    let (root, root_key, csr) = (at("root.pem"), at("root.key"), at("csr"));
    fs::write(at("extensions"), extensions).unwrap();
    let made =
        ["req", "-x509", "-nodes", "-subj", "/CN=weak", "-days", "2", "-keyout", &root_key, "-out", &root];
    run(&[&made[..], key].concat()).await;
    let (chain, leaf_key) = (files.chain().display().to_string(), files.key().display().to_string());
    run(&["req", "-new", "-nodes", "-subj", "/", "-newkey", "rsa:2048", "-keyout", &leaf_key, "-out", &csr])
        .await;
    let signed = ["x509", "-req", "-in", &csr, "-CA", &root, "-CAkey", &root_key, "-CAcreateserial"];
    run(&[&signed[..], &["-days", "2", "-extfile", &at("extensions"), "-out", &chain]].concat()).await;
    (fs::read_to_string(root).unwrap(), files)
}

async fn run(arguments: &[&str]) {
    let output = timeout(PATIENCE, command(arguments).output()).await.unwrap().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", text(&output));
}

fn command(arguments: &[impl AsRef<std::ffi::OsStr>]) -> Command {
    let mut command = Command::new("openssl");
    command.args(arguments).kill_on_drop(true);
    command
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// What `openssl s_client` says and is told when it asks for `/` there, with this certificate or none.
pub(crate) async fn client(address: SocketAddr, shown: Option<&Files>, arguments: &[&str]) -> String {
    let mut command = command(&["s_client", "-ign_eof", "-connect", &address.to_string()]);
    command.args(shown.iter().flat_map(|files| files.shown())).args(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let asked = async {
        // One that is refused may be gone by then.
        let _ = stdin.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await;
        child.wait_with_output().await.unwrap()
    };
    text(&timeout(PATIENCE, asked).await.unwrap())
}

/// `openssl s_server`, which answers with a page of its own.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    _child: Child,
}

impl Server {
    pub(crate) async fn start(shown: &Files, arguments: &[&str]) -> Self {
        let mut command = command(&["s_server", "-www", "-accept", "127.0.0.1:0"]);
        command.args(shown.shown()).args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let listening = async {
            loop {
                let line = lines.next_line().await.unwrap().expect("a server");
                if let Some(address) = line.strip_prefix("ACCEPT ") {
                    return address.parse().unwrap();
                }
            }
        };
        let address = timeout(PATIENCE, listening).await.unwrap();
        // It goes on talking.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Self { address, _child: child }
    }
}
