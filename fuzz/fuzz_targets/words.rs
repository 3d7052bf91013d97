//! The small words of a configuration: durations, ratios, rates, trusted proxies. What is printed is read back.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis::admission::rate_limit::Rate;
use portcullis::identity::TrustedProxies;
use portcullis::ratio::Ratio;
use portcullis::time::{format_duration, parse_duration, parse_duration_or_days};

fuzz_target!(|text: &str| {
    match parse_duration(text) {
        Ok(duration) => {
            assert_eq!(parse_duration_or_days(text), Ok(duration));
            let shown = format_duration(duration).to_string();
            assert!(
                parse_duration(&shown) == Ok(duration) || duration.as_secs() >= 100_000 * 3_600,
                "{shown}"
            );
        }
        Err(error) => assert!(error.at() <= text.len() && text.is_char_boundary(error.at())),
    }
    if let Ok(ratio) = text.parse::<Ratio>() {
        assert_eq!(ratio.to_string().parse(), Ok(ratio));
    }
    if let Ok(rate) = text.parse::<Rate>() {
        assert_eq!(rate.to_string().parse(), Ok(rate));
    }
    let _ = text.parse::<TrustedProxies>();
});
