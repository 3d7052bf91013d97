//! API keys, and where credentials are looked for: header, scheme, cookie, query. Nothing but the key itself
//! lets in, and once it is found, no trace of it goes on.
#![no_main]

use std::sync::LazyLock;
use std::time::SystemTime;

use http::{HeaderName, HeaderValue, Request, Uri, header};
use libfuzzer_sys::fuzz_target;
use portcullis::authn::Location;
use portcullis::authn::api_key::{self, ApiKey, ApiKeys, InvalidKey, KeyHash, KeyTable, Minted};
use portcullis::gate::Gate;
use portcullis::head::Head;
use portcullis::identity::Principal;

static MINTED: LazyLock<Minted> = LazyLock::new(|| api_key::mint("shop", "acme").unwrap());

static GATE: LazyLock<ApiKey> = LazyLock::new(|| {
    let table = KeyTable::new("partners", [MINTED.entry().clone()]).unwrap();
    ApiKey::new(ApiKeys::from(table)).locations([
        Location::header(HeaderName::from_static("x-api-key")),
        Location::scheme(header::AUTHORIZATION, "Key"),
        Location::cookie("key"),
        Location::query("key"),
    ])
});

const NAMES: [HeaderName; 3] = [HeaderName::from_static("x-api-key"), header::AUTHORIZATION, header::COOKIE];

// Lines: the first is the target of the request, the others begin with the number of a header. `\x01` stands
// for the key.
fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    let why = TABLE.verify(&text, SystemTime::UNIX_EPOCH).unwrap_err();
    assert_eq!(api_key::is_key(&text), why == InvalidKey::Unknown);
    if let Ok(hash) = text.parse::<KeyHash>() {
        assert!(hash.to_string().parse::<KeyHash>() == Ok(hash));
    }

    let mut lines = text.split('\n').map(|line| line.replace('\u{1}', MINTED.reveal()));
    let Some(Ok(uri)) = lines.next().map(|line| line.parse::<Uri>()) else { return };
    let mut request = Request::builder().uri(uri).body(()).unwrap();
    for line in lines {
        let mut chars = line.chars();
        let Some(which) = chars.next() else { continue };
        let Ok(value) = HeaderValue::from_str(chars.as_str()) else { continue };
        request.headers_mut().append(&NAMES[which as usize % 3], value);
    }
    let presented = format!("{} {:?}", request.uri(), request.headers()).contains(MINTED.reveal());
    let let_in = GATE.check(&mut Head::of(&mut request)).is_ok();
    if let_in {
        let principal = request.extensions().get::<Principal>().unwrap();
        assert_eq!((principal.provider(), principal.subject()), ("partners", "acme"));
        assert!(presented || text.contains('%'), "let in without the key");
        assert!(!request.headers().contains_key("x-api-key"));
    }
});

/// Of a key that nobody ever sees: the fuzzer learns from what is compared, and so would find that of the gate.
static TABLE: LazyLock<KeyTable> = LazyLock::new(|| {
    let minted = api_key::mint("shop", "acme").unwrap();
    KeyTable::new("partners", [minted.entry().clone()]).unwrap()
});
