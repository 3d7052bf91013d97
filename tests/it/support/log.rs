//! What is logged.
use std::{
    io,
    sync::{Arc, LazyLock, Mutex},
    time::Duration,
};

use portcullis::telemetry::access_log::TARGET;
use serde_json::Value;
use tracing::{
    Dispatch, Level,
    subscriber::{DefaultGuard, NoSubscriber},
};

/// While there is one subscriber alone, tracing asks only the thread that first comes to a place in the code whether what
/// is logged there is wanted, and believes it for all threads: a test without a log would silence another's. With a second
/// one it asks all of them.
static ANOTHER: LazyLock<Dispatch> = LazyLock::new(|| Dispatch::new(NoSubscriber::default()));

/// What this thread logs, as JSON. Tests run on one thread each, servers included.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    pub(crate) fn start() -> (Self, DefaultGuard) {
        Self::start_at(Level::INFO)
    }

    pub(crate) fn start_at(level: Level) -> (Self, DefaultGuard) {
        LazyLock::force(&ANOTHER);
        let log = Self::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt().json().with_max_level(level);
        let subscriber = subscriber.with_writer(move || writer.clone()).finish();
        (log, tracing::subscriber::set_default(subscriber))
    }

    /// All that the crate itself has said, a line for each event with its spans.
    pub(crate) fn ours(&self) -> Vec<String> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        let is_ours = |line: &&str| line.contains(r#""target":"portcullis"#);
        text.lines().filter(is_ours).map(str::to_owned).collect()
    }

    pub(crate) fn of(&self, target: &str) -> Vec<Value> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        let events = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        events.filter(|event| event["target"] == target).collect()
    }

    /// The access log, once it has at least so many lines.
    pub(crate) async fn access(&self, lines: usize) -> Vec<Value> {
        let waiting = async {
            while self.of(TARGET).len() < lines {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), waiting).await.expect("logged");
        self.of(TARGET).iter().map(|event| event["fields"].clone()).collect()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
