//! Where keys are kept: a file, or a server.
use portcullis::{
    authn::api_key::{KeyAdmin, KeyEntry},
    config::FileKeyStore,
};

use super::{Failed, Order, order::is_server};

/// The store that the order names, if it names one. A file is made if it may be.
pub(super) fn open(order: &Order, make: bool) -> Result<Option<KeyAdmin>, Failed> {
    let Some(store) = order.get("--store") else { return Ok(None) };
    if is_server(store) {
        return server(order, store).map(Some);
    }
    let file = if make { FileKeyStore::create(store) } else { Ok(FileKeyStore::new(store)) };
    Ok(Some(KeyAdmin::new(file.map_err(|error| format!("{store}: {error}"))?)))
}

#[cfg(feature = "redis")]
fn server(order: &Order, url: &str) -> Result<KeyAdmin, Failed> {
    use portcullis::{authn::api_key::RedisKeyStore, redis::Redis, tls::ClientTls};

    let set = order.get("--set").ok_or("`--set NAME` is needed: the provider whose keys these are")?;
    // Somebody waits for it, and no request does.
    let mut builder = Redis::builder(url)?.deadline(std::time::Duration::from_secs(5));
    if let Some(file) = order.get("--password-file") {
        builder = builder.password_file(file);
    }
    if let Some(file) = order.get("--roots") {
        builder = builder.tls(ClientTls::roots(&std::fs::read(file)?)?);
    }
    if let Some(namespace) = order.get("--namespace") {
        builder = builder.namespace(namespace);
    }
    Ok(KeyAdmin::new(RedisKeyStore::new(builder.build(), set)))
}

#[cfg(not(feature = "redis"))]
fn server(_: &Order, _: &str) -> Result<KeyAdmin, Failed> {
    Err("this gateway was made without the feature `redis`".into())
}

/// The entries of a backup.
pub(super) fn read(file: &str) -> Result<Vec<KeyEntry>, Failed> {
    Ok(FileKeyStore::new(file).load()?)
}
