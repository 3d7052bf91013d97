//! What an agent of SPIFFE tells: identities, revocation lists and roots, in protobuf. What a later version says besides changes
//! nothing of it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis::tls::fuzzing;

fuzz_target!(|data: &[u8]| {
    let later = [data, &[15 << 3, 1]].concat();
    for (now, later) in fuzzing::answers(data).into_iter().zip(fuzzing::answers(&later)) {
        assert!(now.is_none() || now == later);
    }
});
