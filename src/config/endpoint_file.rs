//! A file of endpoints as their source.
use std::{fmt, path::PathBuf, sync::Arc};

use tokio::{
    task::spawn_blocking,
    time::{Instant, sleep},
};

use super::{
    debounce::{Debounce, LOOK},
    endpoint_list::endpoint_list,
    files::{print, slurp},
};
use crate::{
    body::BoxError,
    upstream::{EndpointSet, EndpointSource, Sets},
};

/// Endpoints in a file that is watched: YAML or JSON with a list `endpoints`, in the form of an upstream's.
///
/// A change is taken when it has come to rest, a second later at most. A file that is gone, cannot be read or has a fault in
/// it changes nothing; what is wrong shows in [`Upstream::discovery`](crate::upstream::Upstream::discovery) with line and
/// column. An empty list, `endpoints: []`, is a set without endpoints: somebody has written that.
///
/// ```
/// use portcullis::{config::EndpointFileSource, upstream::Upstream};
///
/// # tokio_test::block_on(async {
/// # let path = std::env::temp_dir().join(format!("portcullis-endpoints-{}.yaml", std::process::id()));
/// std::fs::write(&path, "endpoints: [192.0.2.1:9000, 192.0.2.2:9000]")?;
/// let orders = Upstream::builder("orders").source(EndpointFileSource::new(&path)).build()?;
/// orders.warm().await?;
/// assert_eq!(orders.endpoints().len(), 2);
/// # std::fs::remove_file(path)?;
/// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
/// # }).unwrap();
/// ```
#[derive(Clone)]
pub struct EndpointFileSource(Arc<PathBuf>);

impl EndpointFileSource {
    /// The endpoints in this file.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(Arc::new(path.into()))
    }

    /// What stands in it now. It blocks.
    ///
    /// # Errors
    ///
    /// What keeps it from being read, and what is wrong with it, with lines and columns.
    pub fn load(&self) -> Result<EndpointSet, BoxError> {
        self.named(slurp(&self.0))
    }

    /// What is wrong with it now, if anything is. It blocks.
    pub(super) fn fault(&self) -> Option<String> {
        slurp(&self.0).and_then(|text| self.parse(&text)).err()
    }

    fn named(&self, text: Result<Vec<u8>, String>) -> Result<EndpointSet, BoxError> {
        let text = text.map_err(|problem| format!("{}: {problem}", self.0.display()))?;
        Ok(self.parse(&text)?)
    }

    fn parse(&self, text: &[u8]) -> Result<EndpointSet, String> {
        endpoint_list(&self.0.to_string_lossy(), text)
    }

    /// Looks at it once.
    async fn look(&self) -> (Result<Vec<u8>, String>, u64) {
        let path = Arc::clone(&self.0);
        let read = spawn_blocking(move || slurp(&path)).await;
        let text = read.unwrap_or_else(|lost| Err(format!("cannot be read: {lost}")));
        let print = print(&text);
        (text, print)
    }
}

impl EndpointSource for EndpointFileSource {
    fn follow(&self) -> Sets {
        let file = self.clone();
        Sets::told(|teller| async move {
            let (mut text, seen) = file.look().await;
            let mut debounce = Debounce::new(seen);
            loop {
                teller.tell(file.named(text)).await;
                text = loop {
                    sleep(LOOK).await;
                    let (text, seen) = file.look().await;
                    if debounce.look(seen, Instant::now()) {
                        break text;
                    }
                };
            }
        })
    }
}

impl fmt::Debug for EndpointFileSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("EndpointFileSource").field(&self.0).finish()
    }
}
