//! The PROXY protocol, versions 1 and 2: a header ends where it ends, however the bytes arrive.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis::transport::ProxyHeader;

fuzz_target!(|data: &[u8]| {
    let whole = ProxyHeader::parse(data);
    match whole {
        Ok(Some(header)) => {
            assert!(header.length <= data.len() && header.length <= ProxyHeader::MAX_LENGTH);
            for end in 0..header.length {
                assert_eq!(ProxyHeader::parse(&data[..end]), Ok(None), "more bytes decide");
            }
            assert_eq!(ProxyHeader::parse(&data[..header.length]), whole, "what follows does not");
        }
        Ok(None) => {
            assert!(data.len() < ProxyHeader::MAX_LENGTH, "a header without an end");
        }
        // Once refused, no more bytes can change it.
        Err(error) => assert_eq!(ProxyHeader::parse(&[data, b"\r\n"].concat()), Err(error)),
    }
});
