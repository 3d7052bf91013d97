//! Redis servers.
use super::{Compiler, authentication::warn_if_open, compiler::named};
use crate::{
    admission::rate_limit::Distribution,
    config::{at::At, kept::Said, schema::RedisServer},
    redis::{Redis, RedisBuilder},
    tls::ClientTls,
};

impl Compiler<'_> {
    /// The servers that have names.
    pub(super) fn servers(&mut self) {
        let file = self.file;
        for (at, name, server) in self.top.field("redis").entries(&file.redis) {
            if let (true, Some((said, redis))) = (named(at, name), self.redis(at, name, server)) {
                let stores = self.stores.get_mut();
                // As long as the connection is the same one, this is the same instance to others.
                let kept = self.kept.stores.distributions.again(name, &said).cloned();
                let distribution = kept.unwrap_or_else(|| Distribution::on(redis.clone()));
                stores.distributions.insert(name, said.clone(), distribution);
                stores.redis.insert(name, said, redis);
            }
        }
    }

    /// A server, with what tells it from others; that of the snapshot before, if the file says the same of it.
    fn redis(&self, at: At<'_>, name: &str, server: &RedisServer) -> Option<(Said<RedisServer>, Redis)> {
        let mut builder = self.way(at, server)?;
        let mut read = Vec::new();
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
            read.push(pem);
        }
        if let Some(namespace) = &server.namespace {
            builder = builder.namespace(namespace.0.0.as_str());
        }
        let said = Said(server.clone(), read);
        let kept = self.kept.stores.redis.again(name, &said).cloned();
        Some((said, kept.unwrap_or_else(|| builder.build())))
    }

    /// Which servers there are.
    fn way(&self, at: At<'_>, server: &RedisServer) -> Option<RedisBuilder> {
        match (&server.url, &server.sentinel, &server.cluster) {
            (Some(url), None, None) => at.field("url").accept(Redis::builder(url)),
            (None, Some(sentinel), None) => {
                let at = at.field("sentinel");
                let sentinels = sentinel.sentinels.iter().map(String::as_str);
                let made = Redis::sentinel(sentinel.master.as_str(), sentinels);
                let builder = at.field("sentinels").accept(made)?;
                let Some(password) = &sentinel.password else { return Some(builder) };
                let at = at.field("password").field("file");
                self.material(at, password)?;
                warn_if_open(at, &self.path(&password.file));
                Some(builder.sentinel_password_file(self.path(&password.file)))
            }
            (None, None, Some(nodes)) => {
                at.field("cluster").accept(Redis::cluster(nodes.iter().map(String::as_str)))
            }
            _ => at.refuse("expected exactly one of `url`, `sentinel` and `cluster`"),
        }
    }
}
