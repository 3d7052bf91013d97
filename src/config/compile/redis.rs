//! Redis servers.
use super::{Compiler, authentication::warn_if_open, compiler::named};
use crate::{
    config::{at::At, schema::RedisServer},
    redis::Redis,
    tls::ClientTls,
};

impl Compiler<'_> {
    /// The servers that have names.
    pub(super) fn servers(&mut self) {
        let file = self.file;
        for (at, name, server) in self.top.field("redis").entries(&file.redis) {
            if let (true, Some(redis)) = (named(at, name), self.redis(at, name, server)) {
                self.stores.get_mut().redis.insert(name.to_owned(), redis);
            }
        }
    }

    /// A server, with what tells it from others; that of the snapshot before, if the file says the same of it.
    fn redis(&self, at: At<'_>, name: &str, server: &RedisServer) -> Option<(String, Redis)> {
        let mut builder = at.field("url").accept(Redis::builder(&server.url))?;
        let mut said = format!("{server:?}");
        if let Some(password) = &server.password {
            let at = at.field("password").field("file");
            self.material(at, password)?;
            warn_if_open(at, &self.path(&password.file));
            builder = builder.password_file(self.path(&password.file));
        }
        if let Some(roots) = &server.roots {
            let at = at.field("roots").field("file");
            let pem = self.material(at, roots)?;
            builder = builder.tls(at.accept(ClientTls::roots(&pem))?);
            said.push_str(&String::from_utf8_lossy(&pem));
        }
        if let Some(namespace) = &server.namespace {
            builder = builder.namespace(namespace.0.0.as_str());
        }
        let kept = self.kept.stores.redis.get(name).filter(|(before, _)| *before == said);
        Some(kept.cloned().unwrap_or_else(|| (said, builder.build())))
    }
}
