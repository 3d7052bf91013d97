//! The file of API keys, an entry as it stands in Redis, and the address of a Redis server. What is read, and written
//! again, is the same.
#![no_main]

use std::{fs, path::PathBuf, sync::LazyLock};

use libfuzzer_sys::fuzz_target;
use portcullis::authn::api_key::KeyEntry;
use portcullis::config::FileKeyStore;
use portcullis::redis::Redis;

static FILE: LazyLock<PathBuf> =
    LazyLock::new(|| std::env::temp_dir().join(format!("portcullis-fuzz-keys-{}.yaml", std::process::id())));

fn read(text: &[u8]) -> Option<Vec<KeyEntry>> {
    fs::write(&*FILE, text).unwrap();
    FileKeyStore::new(&*FILE).load().ok()
}

fuzz_target!(|data: &[u8]| {
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = Redis::builder(text);
    }
    if let Ok(entry) = serde_json::from_slice::<KeyEntry>(data) {
        let text = serde_json::to_string(&entry).unwrap();
        assert_eq!(serde_json::from_str::<KeyEntry>(&text).expect("what was written cannot be read"), entry);
    }
    let Some(entries) = read(data) else { return };
    let items: String = entries.iter().map(KeyEntry::to_yaml).collect();
    let text = if items.is_empty() { "keys: []\n".to_owned() } else { format!("keys:\n{items}") };
    assert_eq!(read(text.as_bytes()).expect("what was written cannot be read"), entries);
});
