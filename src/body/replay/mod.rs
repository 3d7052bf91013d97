//! A body that can be sent several times.

mod tape;
#[cfg(test)]
mod tests;

pub use tape::Replay;
