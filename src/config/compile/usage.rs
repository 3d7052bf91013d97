//! `usage`.
use std::{path::PathBuf, time::Duration};

use http::{HeaderMap, HeaderName};

use super::Compiler;
use crate::{
    config::{at::At, kept::KeptUsage, schema::Usage},
    stack::gateway::SnapshotBuilder,
    telemetry::usage::{UsageFile, UsageMeter},
};
#[cfg(feature = "redis")]
use crate::{
    config::{
        kept::Said,
        schema::{RedisServer, UsageStream as StreamRules},
    },
    telemetry::usage::UsageStream,
};

const DAY: Duration = Duration::from_secs(86_400);

impl Compiler<'_> {
    /// The meter: that of the snapshot before, if the file says the same of it.
    pub(super) fn usage(&self, builder: SnapshotBuilder) -> SnapshotBuilder {
        let (Some(usage), at) = (&self.file.usage, self.top.field("usage")) else { return builder };
        let Some(kept) = self.meter(at, usage) else { return builder };
        let meter = kept.1.clone();
        self.meter.borrow_mut().replace(kept);
        builder.usage(meter)
    }

    fn meter(&self, at: At<'_>, usage: &Usage) -> Option<KeptUsage> {
        if usage.file.is_none() && usage.redis.is_none() && !at.is_broken() {
            return at.refuse("is delivered nowhere: expected `file`, `redis` or both");
        }
        self.bounds(at, usage)?;
        #[cfg(feature = "redis")]
        let stream = match &usage.redis {
            Some(to) => {
                let at = at.field("redis");
                if usage.spool.is_none() {
                    at.warn(
                        "without a `spool` events that wait for Redis are lost if the process ends meanwhile",
                    );
                }
                Some(self.usage_stream(at, to)?)
            }
            None => None,
        };
        #[cfg(feature = "redis")]
        let server = stream.as_ref().map(|(said, _)| said.clone());
        #[cfg(not(feature = "redis"))]
        let server = None;
        let said = (usage.clone(), server, self.path(&PathBuf::new()));
        if let Some(kept) = self.kept.usage.as_ref().filter(|(before, _)| *before == said) {
            return Some(kept.clone());
        }
        let mut builder = UsageMeter::builder();
        if let Some(name) = &usage.instance {
            builder = builder.instance(name.as_str());
        }
        if let Some(interval) = &usage.interval {
            builder = builder.interval(interval.0);
        }
        if let Some(header) = usage.units_header.as_ref().map(|header| header.0.clone()) {
            builder = builder.units_by_response(move |head| number(&head.headers, &header));
        }
        if let Some(file) = &usage.file {
            let sink = UsageFile::new(self.path(&file.path));
            builder = builder.sink(file.rotate_bytes.map_or(sink.clone(), |bytes| sink.rotate(bytes.get())));
        }
        #[cfg(feature = "redis")]
        if let Some((_, stream)) = stream {
            builder = builder.sink(stream);
        }
        if let Some(directory) = &usage.spool {
            builder = builder.spool(self.path(directory));
        }
        if let Some(most) = usage.max_entries {
            builder = builder.max_entries(most.get() as usize);
        }
        if let Some(most) = usage.max_waiting_bytes {
            builder = builder.max_waiting(most.get() as usize);
        }
        Some((said, builder.build()))
    }

    /// Refuses numbers of which nothing sensible can come.
    fn bounds(&self, at: At<'_>, usage: &Usage) -> Option<()> {
        let interval = usage.interval.as_ref().map(|interval| interval.0);
        if interval.is_some_and(|interval| interval.is_zero()) {
            return at.field("interval").refuse("expected some time: batches would never end");
        }
        if interval.is_some_and(|interval| interval > DAY) {
            return at
                .field("interval")
                .refuse("expected at most a day: what is not sealed is lost in a crash");
        }
        let (file, spool) = (usage.file.as_ref().map(|file| self.path(&file.path)), usage.spool.as_ref());
        if let (Some(file), Some(spool)) = (file, spool)
            && file.starts_with(self.path(spool))
        {
            let why = "`file` is there, or in it: batches lie in a directory of their own";
            return at.field("spool").refuse(why);
        }
        Some(())
    }

    #[cfg(feature = "redis")]
    fn usage_stream(&self, at: At<'_>, to: &StreamRules) -> Option<(Said<RedisServer>, UsageStream)> {
        let (said, redis) = self.server(at.field("server"), &to.server)?;
        let name = to.stream.as_ref().map_or("events", |name| &name.0.0);
        let stream = UsageStream::new(redis, name);
        let most = to.max_length.map(std::num::NonZero::get);
        Some((said, most.map_or(stream.clone(), |most| stream.max_length(most))))
    }
}

/// A whole number in a header field that stands there once.
fn number<N: std::str::FromStr>(headers: &HeaderMap, name: &HeaderName) -> Option<N> {
    let mut values = headers.get_all(name).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    let text = value.to_str().ok()?.trim();
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}
