//! Two hosts: network namespaces of their own, joined by a wire, which go with the script that is run among them.
use std::{path::Path, process::Stdio, time::Duration};

use tokio::{process::Command, time::timeout};

/// What two hosts and the tools of their scripts take in the worst case.
const PATIENCE: Duration = Duration::from_secs(120);

/// Said before each script: `$1` is the program, `$2` and `$3` are the names of the hosts, which are 10.77.0.1 and 10.77.0.2.
const PRELUDE: &str = r#"
set -euo pipefail
for tool in curl ip nft python3 setpriv ss; do
  command -v "$tool" >/dev/null || { echo "there is no $tool: tests/run.sh installs it" >&2; exit 3; }
done
mount -t tmpfs tmpfs /run
mkdir -p /run/netns
ip netns add $2
ip netns add $3
ip link add v0 netns $2 type veth peer name v0 netns $3
ip -n $2 address add 10.77.0.1/24 dev v0
ip -n $3 address add 10.77.0.2/24 dev v0
ip -n $2 address add fd77::1/64 dev v0 nodad
ip -n $3 address add fd77::2/64 dev v0 nodad
for host in $2 $3; do ip -n $host link set lo up; ip -n $host link set v0 up; done

until_holds() {
  for _ in $(seq 600); do "$@" && return; sleep 0.1; done
  echo "never held: $*" >&2
  return 1
}
_listens() { [ -n "$(ip netns exec $1 ss -Hltn "sport = :$2")" ]; }
_logged() { [ "$(grep -c portcullis::access $1.log)" -ge $2 ]; }
listens() { until_holds _listens "$@"; } # HOST PORT
logged() { until_holds _logged "$@"; }   # HOST LINES: of the access log, in HOST.log
logs() { for host in $*; do sed "s/^/$host: /" $host.log; done; }
"#;

/// What a script said.
pub(crate) struct Said {
    pub(crate) out: String,
    failed: String,
}

impl Said {
    /// Some line has all the words.
    #[track_caller]
    pub(crate) fn has(&self, words: &[&str]) {
        let Self { out, failed } = self;
        let found = out.lines().any(|line| words.iter().all(|word| line.contains(word)));
        assert!(found, "no line has {words:?}:\n{out}\n{failed}");
    }
}

/// Runs `script` among the hosts, in `directory`. With `users` it needs root, who can be somebody else; without, whoever runs it
/// is root among namespaces of his own.
pub(crate) async fn run(
    script: &str,
    hosts: [&str; 2],
    program: &Path,
    directory: &Path,
    users: bool,
) -> Said {
    let is_root =
        std::fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0);
    let mut command = Command::new(if users && !is_root { "sudo" } else { "unshare" });
    if users && !is_root {
        command.args(["--non-interactive", "unshare"]);
    }
    if !users {
        command.arg("--map-root-user");
    }
    command
        .args(["--net", "--mount", "--pid", "--fork", "--kill-child", "bash", "-c"])
        .args([&format!("{PRELUDE}{script}"), "script"])
        .arg(program)
        .args(hosts)
        .current_dir(directory)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = timeout(PATIENCE, command.output())
        .await
        .expect("it ends")
        .expect("`unshare` runs: it is of util-linux");
    let [out, failed] =
        [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    assert!(
        output.status.success(),
        "two hosts could not be set up, with network namespaces and nftables: {failed}\n{out}"
    );
    Said { out, failed }
}
