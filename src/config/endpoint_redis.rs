//! A key of a Redis server as the source of endpoints.
use std::{fmt, sync::Arc, time::Duration};

use tokio::time::sleep;

use super::{endpoint_list::endpoint_list, files::LARGEST};
use crate::{
    body::BoxError,
    chance::Chance,
    redis::Redis,
    upstream::{EndpointSource, Sets},
};

/// Endpoints in a key of a Redis server, of which the value is a document as in an [`EndpointFileSource`]: a list
/// `endpoints`, in YAML or JSON, up to 1 MiB. So a set is always whole, and whoever writes it does so with one `SET`.
///
/// It is read every 2 seconds, and up to a tenth later by chance. A server that does not answer, a key that is not there, and
/// a value that cannot be read change nothing. An empty list, `{"endpoints": []}`, is a set without endpoints: somebody has
/// written that.
///
/// ```
/// use std::time::Duration;
/// use portcullis::{config::EndpointRedisSource, redis::Redis, upstream::Upstream};
///
/// let redis = Redis::builder("redis://127.0.0.1:6379")?.build();
/// let source = EndpointRedisSource::new(redis, "endpoints:orders").interval(Duration::from_secs(1));
/// let orders = Upstream::builder("orders").source(source).build()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// [`EndpointFileSource`]: super::EndpointFileSource
#[derive(Clone)]
pub struct EndpointRedisSource {
    redis: Redis,
    key: Arc<str>,
    interval: Duration,
    chance: Chance,
}

impl EndpointRedisSource {
    /// The endpoints in this key of this server. The key is taken as it is: no namespace is put before it.
    #[must_use]
    pub fn new(redis: Redis, key: impl Into<Arc<str>>) -> Self {
        Self { redis, key: key.into(), interval: Duration::from_secs(2), chance: Chance::new() }
    }

    /// How often it is read. 2 seconds unless told.
    #[must_use]
    pub fn interval(self, interval: Duration) -> Self {
        Self { interval, ..self }
    }

    async fn read(&self) -> Result<Vec<u8>, BoxError> {
        // What is too long is not fetched.
        let mut command = redis::cmd("GETRANGE");
        command.arg(&*self.key).arg(0).arg(LARGEST);
        let text: Vec<u8> = self.redis.ask(&command).await?;
        match text.len() as u64 {
            0 => Err("there is nothing in it".into()),
            length if length > LARGEST => Err("larger than 1 MiB".into()),
            _ => Ok(text),
        }
    }
}

impl EndpointSource for EndpointRedisSource {
    fn follow(&self) -> Sets {
        let source = self.clone();
        Sets::told(|teller| async move {
            let mut last = None;
            loop {
                match source.read().await {
                    Ok(text) if last.as_ref() == Some(&text) => {}
                    Ok(text) => {
                        let set = endpoint_list(&format!("redis:{}", source.key), &text);
                        teller.tell(set.map_err(Into::into)).await;
                        last = Some(text);
                    }
                    Err(error) => {
                        teller.tell(Err(format!("redis:{}: {error}", source.key).into())).await;
                        last = None;
                    }
                }
                sleep(source.interval.saturating_add(source.chance.up_to(source.interval / 10))).await;
            }
        })
    }
}

impl fmt::Debug for EndpointRedisSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EndpointRedisSource").field("key", &self.key).finish_non_exhaustive()
    }
}
