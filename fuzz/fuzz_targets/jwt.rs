//! JSON Web Tokens: bytes that nobody signed are never valid, and signed ones only if their claims say so.
#![no_main]

use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use libfuzzer_sys::fuzz_target;
use portcullis::authn::jwt::{Algorithm, Jwt, Key, KeySet};
use portcullis::time::ManualClock;
use sha2::Sha256;

const SECRET: &[u8] = b"a secret of at least 256 bits, for HS256";
const NOW: u64 = 1_800_000_000;

static JWT: LazyLock<Jwt> = LazyLock::new(|| {
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(NOW);
    let keys = KeySet::new([Key::secret(SECRET).unwrap().named("k")]).unwrap();
    Jwt::new(keys)
        .issuer("https://id.example")
        .audiences(["shop"])
        .algorithms([Algorithm::Hs256])
        .roles_at("/realm/roles")
        .clock(ManualClock::new(now).clock())
});

fuzz_target!(|data: &[u8]| {
    if let Ok(token) = std::str::from_utf8(data) {
        assert!(JWT.verify(token).is_err(), "nobody signed this");
    }
    // The first line is a header, the rest are claims; we sign them.
    let Some(end) = data.iter().position(|byte| *byte == b'\n') else { return };
    let signed =
        format!("{}.{}", URL_SAFE_NO_PAD.encode(&data[..end]), URL_SAFE_NO_PAD.encode(&data[end + 1..]));
    let mut hmac = Hmac::<Sha256>::new_from_slice(SECRET).unwrap();
    hmac.update(signed.as_bytes());
    let signature = URL_SAFE_NO_PAD.encode(hmac.finalize().into_bytes());
    let token = format!("{signed}.{signature}");
    let first = JWT.verify(&token);
    // The second time it is remembered, or refused for the same reason.
    assert_eq!(first, JWT.verify(&token));
    let Ok((principal, claims)) = first else { return };

    // What was let through is what a plain reading of the JSON says, too.
    let header: serde_json::Value = serde_json::from_slice(&data[..end]).unwrap();
    assert_eq!(header["alg"], "HS256");
    assert!(header.get("crit").is_none());
    let plain: serde_json::Value = serde_json::from_slice(&data[end + 1..]).unwrap();
    assert_eq!(plain["iss"], "https://id.example");
    assert!(
        plain["aud"] == "shop" || plain["aud"].as_array().unwrap().iter().any(|audience| audience == "shop")
    );
    assert!(plain["exp"].as_f64().unwrap() + 61.0 >= NOW as f64);
    assert!(plain.get("nbf").is_none_or(|nbf| nbf.as_f64().unwrap() <= NOW as f64 + 61.0));
    assert_eq!(plain.get("sub").map_or("", |sub| sub.as_str().unwrap()), principal.subject());
    assert_eq!(claims.claim("/iss").unwrap(), plain["iss"]);
    assert!(plain.get("cnf").is_none(), "nobody has shown a certificate");
    // Policies see each text of a list, whoever has read the token before.
    for (name, value) in plain.as_object().unwrap().iter().filter(|(name, _)| !name.starts_with('/')) {
        let list = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
        for text in list.iter().filter_map(serde_json::Value::as_str) {
            assert!(principal.any_claim(name, &mut |shown| shown == text), "{name}");
        }
    }
});
