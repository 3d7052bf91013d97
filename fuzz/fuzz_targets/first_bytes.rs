//! The first bytes of a connection: what they tell stands, however they arrive, and they need not be many.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis::{stack::gateway::DestinationMatch, transport::is_http};

fuzz_target!(|data: &[u8]| {
    let whole = is_http(data);
    let first = (0..=data.len()).find_map(|end| is_http(&data[..end]));
    assert_eq!(first, whole, "what was told of fewer bytes stands");
    assert!(whole.is_some() || data.len() < 1_024, "nobody is listened to for ever");
    if data.starts_with(b"GET /") || data.starts_with(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n") {
        assert_eq!(whole, Some(true));
    }
    if let Ok(text) = std::str::from_utf8(data)
        && let Ok(destination) = text.parse::<DestinationMatch>()
    {
        assert_eq!(destination.to_string().parse(), Ok(destination));
    }
});
