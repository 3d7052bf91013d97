//! Whether it is the caller who is waited for: the rest of its request's body.
//!
//! A request that takes too long is the server's fault, unless it waits for its own body. Whoever reads the body off
//! the connection says so in an [`Upload`], a request extension; who bounds the time of the request looks there to tell
//! 408 from 504. Our [server](crate::transport) tells it of every request that has a body.
//!
//! ```
//! use portcullis::upload::Upload;
//!
//! let upload = Upload::new();
//! let told = upload.clone(); // in the request's extensions
//! upload.set_awaited(true); // somebody asked for more, and nothing has come
//! assert!(told.is_awaited());
//! ```
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};

/// Whether somebody asked for more of a request's body than has come. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Upload(Arc<AtomicBool>);

impl Upload {
    /// Nobody has asked for anything yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether the request waits for its caller.
    #[must_use]
    pub fn is_awaited(&self) -> bool {
        self.0.load(Relaxed)
    }

    /// Tells whether it does.
    pub fn set_awaited(&self, awaited: bool) {
        self.0.store(awaited, Relaxed);
    }
}
