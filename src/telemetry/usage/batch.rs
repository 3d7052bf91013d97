use std::{fmt, sync::Arc, time::SystemTime};

use super::ledger::Line;
use crate::{reject::escape_json, time::format_utc};

/// Events that were sealed together: they have their ids now, and keep them however often they are delivered. Clones
/// share them.
#[derive(Clone)]
pub struct UsageBatch(Arc<Sealed>);

struct Sealed {
    id: Box<str>,
    /// One event a line, each line with its end.
    text: Box<str>,
    requests: u64,
}

impl UsageBatch {
    /// The batch of this number of an instance; `tag` is another for each process.
    pub(super) fn seal(id: String, instance: &str, from: SystemTime, to: SystemTime, lines: &[Line]) -> Self {
        let mut of_batch = String::from("\"instance\":\"");
        escape_json(instance, &mut of_batch);
        of_batch.push_str(&format!("\",\"from\":\"{}\",\"to\":\"{}\"", format_utc(from), format_utc(to)));
        let mut text = String::with_capacity(lines.len() * 256);
        for (line, number) in lines.iter().zip(0..) {
            line.write(&event_id(&id, number), &of_batch, &mut text);
            text.push('\n');
        }
        let requests = lines.iter().map(|line| line.totals().requests).sum();
        Self(Arc::new(Sealed { id: id.into(), text: text.into(), requests }))
    }

    /// A batch that a process before has sealed.
    pub(super) fn left(id: &str, text: String) -> Self {
        let requests = text.lines().filter_map(requests).fold(0, u64::saturating_add);
        Self(Arc::new(Sealed { id: id.into(), text: text.into(), requests }))
    }

    /// Its id. No other batch has it, of whatever instance.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.0.id
    }

    /// The events as text: a JSON object on each line.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.0.text
    }

    /// Each event, as its id and its JSON object.
    pub fn events(&self) -> impl Iterator<Item = (String, &str)> {
        self.text().lines().zip(0..).map(|(json, number)| (event_id(self.id(), number), json))
    }

    /// How many requests it tells of.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.0.requests
    }
}

/// What an event tells; quotes in its names are escaped.
fn requests(event: &str) -> Option<u64> {
    let (_, count) = event.rsplit_once("\"requests\":")?;
    count.split(',').next()?.parse().ok()
}

fn event_id(batch: &str, number: usize) -> String {
    format!("{batch}-{number}")
}

impl fmt::Debug for UsageBatch {
    /// Who has used what is left out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UsageBatch").field("id", &self.id()).field("bytes", &self.text().len()).finish()
    }
}
