//! Faults that a caller asks for.

use std::{num::NonZeroU64, sync::LazyLock, time::Duration};

use http::{HeaderMap, HeaderName, StatusCode};

use super::policy::{Abort, Plan, Then};
use crate::{identity::AssertedHeaders, reject::GrpcCode};

const DELAY: HeaderName = HeaderName::from_static("x-portcullis-fault-delay-request");
const ABORT: HeaderName = HeaderName::from_static("x-portcullis-fault-abort-request");
const ABORT_GRPC: HeaderName = HeaderName::from_static("x-portcullis-fault-abort-grpc-request");
const RESET: HeaderName = HeaderName::from_static("x-portcullis-fault-reset-request");
const THROTTLE: HeaderName = HeaderName::from_static("x-portcullis-fault-throughput-response");

/// The headers in which callers ask for faults. No stranger may: whoever hands requests on takes them out of what strangers
/// send.
pub const HEADERS: [HeaderName; 5] = [DELAY, ABORT, ABORT_GRPC, RESET, THROTTLE];

/// The longest delay that can be asked for.
const LONGEST: Duration = Duration::from_secs(60);

static ALL: LazyLock<AssertedHeaders> = LazyLock::new(|| AssertedHeaders::new(HEADERS));

/// In every spelling.
pub(super) fn strip(headers: &mut HeaderMap) {
    ALL.strip(headers);
}

/// What is asked for. What is malformed is as if it were not there.
pub(super) fn read(headers: &HeaderMap) -> Plan {
    let number = |name: HeaderName| headers.get(name)?.to_str().ok()?.parse::<u32>().ok();
    let delay = number(DELAY).map(|millis| Duration::from_millis(millis.into()).min(LONGEST));
    let status = number(ABORT).and_then(|status| {
        StatusCode::from_u16(u16::try_from(status).ok()?).ok().filter(|status| status.as_u16() >= 200)
    });
    let code = number(ABORT_GRPC).and_then(|code| GrpcCode::of_number(u8::try_from(code).ok()?));
    let code = code.filter(|code| *code != GrpcCode::OK);
    let abort = match (status, code) {
        (None, None) => None,
        (status, code) => {
            let abort = Abort::status(status.unwrap_or(StatusCode::SERVICE_UNAVAILABLE));
            Some(Then::Abort(code.map_or(abort, |code| abort.grpc(code))))
        }
    };
    let reset = || headers.contains_key(RESET).then_some(Then::Reset);
    let throttle = || {
        let kibibytes = number(THROTTLE).and_then(|kibibytes| NonZeroU64::new(kibibytes.into()))?;
        Some(Then::Throttle(kibibytes.saturating_mul(NonZeroU64::new(1024)?)))
    };
    Plan { delay, then: abort.or_else(reset).or_else(throttle) }
}
