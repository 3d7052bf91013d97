use std::time::Duration;

use tokio::time::Instant;

/// So long after `now`. A time too far to be told is as good as a century.
pub(crate) fn after(now: Instant, time: Duration) -> Instant {
    const CENTURY: Duration = Duration::from_secs(100 * 365 * 86_400);
    now + time.min(CENTURY)
}
