//! API keys, hashed at rest.

mod date;
mod entry;
mod gate;
mod table;
mod text;

pub use entry::{InvalidText, KeyEntry, KeyFile, KeyHash, Minted, mint};
pub use gate::ApiKey;
pub use table::{ApiKeys, InvalidKey, KeyTable, KeyTableError, MAX_KEYS};
