//! PROXY protocol headers: no panic, bounded, and the same whether they come at once or byte by byte.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis::transport::Header;

fuzz_target!(|bytes: &[u8]| {
    let whole = Header::parse(bytes);
    for end in 0..bytes.len() {
        match Header::parse(&bytes[..end]) {
            Ok(None) => {}
            early => {
                assert_eq!(early, whole);
                break;
            }
        }
    }
    if let Ok(Some(header)) = whole {
        assert!(header.length <= bytes.len().min(Header::MAX_LENGTH));
    }
});
