//! Keys: JSON Web Key Sets and PEM. One bad key discards no good one.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis::authn::jwt::{Key, KeySet, KeySetError};

const GOOD: &str =
    r#"{"kty":"OKP","crv":"Ed25519","kid":"good","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;

fuzz_target!(|data: &[u8]| {
    let _ = Key::pem(data);
    let _ = Key::secret(data);
    let Ok(text) = std::str::from_utf8(data) else { return };
    match KeySet::jwks(text) {
        Ok(set) => assert!(!set.is_empty() && set.keys().all(|key| key.algorithms().next().is_some())),
        Err(KeySetError::NoKey(skipped)) => {
            assert!(skipped.windows(2).all(|pair| pair[0].index < pair[1].index))
        }
        Err(_) => {}
    }
    let read = Key::jwk(text);
    if serde_json::from_str::<serde_json::Value>(text).is_ok() {
        let set = KeySet::jwks(&format!(r#"{{"keys":[{text},{GOOD}]}}"#)).unwrap();
        assert_eq!(set.len(), 1 + usize::from(read.is_ok()));
        assert_eq!(set.skipped().len(), usize::from(read.is_err()));
    }
});
