use std::time::Duration;

use redis::{Cmd, cmd, pipe};

use super::{UsageBatch, UsageSink, sink::Delivering};
use crate::redis::Redis;

/// How long so many events may take.
const DEADLINE: Duration = Duration::from_secs(5);
/// The events that are sent together: all of them, or none, are added.
const TOGETHER: usize = 500;

/// Delivers usage to a stream on a Redis server: an entry for each event, with the fields `id` and `event`, a JSON
/// object.
///
/// The stream is `namespace:{usage}:<name>`. An ACL user needs `+xadd +multi +exec` on it.
#[derive(Clone, Debug)]
#[must_use]
pub struct UsageStream {
    redis: Redis,
    key: String,
    most: Option<u64>,
}

impl UsageStream {
    /// The stream of this name, over this connection. The name is yours to choose, and no stranger's.
    pub fn new(redis: Redis, name: &str) -> Self {
        let key = redis.key("usage", name);
        Self { redis, key, most: None }
    }

    /// Lets the server drop the oldest entries, read or not, once there are about so many. No limit unless told.
    pub fn max_length(mut self, entries: u64) -> Self {
        self.most = Some(entries);
        self
    }

    fn add(&self, id: &str, event: &str) -> Cmd {
        let mut add = cmd("XADD");
        add.arg(&self.key);
        if let Some(most) = self.most {
            add.arg("MAXLEN").arg("~").arg(most);
        }
        add.arg("*").arg("id").arg(id).arg("event").arg(event);
        add
    }
}

impl UsageSink for UsageStream {
    fn name(&self) -> &'static str {
        "redis"
    }

    fn deliver<'a>(&'a self, batch: &'a UsageBatch) -> Delivering<'a> {
        Box::pin(async move {
            let events: Vec<_> = batch.events().collect();
            for some in events.chunks(TOGETHER) {
                let mut all = pipe();
                all.atomic();
                for (id, event) in some {
                    all.add_command(self.add(id, event)).ignore();
                }
                let sent = async |mut redis| all.query_async::<()>(&mut redis).await;
                self.redis.within(DEADLINE, sent).await?;
            }
            Ok(())
        })
    }
}
