//! More of what has been tried against verifiers of tokens: what readers of JSON, of text and of numbers disagree about,
//! and tokens that were valid before somebody touched them.

use super::*;

fn hs256() -> (Signer, Jwt) {
    let signer = Signer::new(Algorithm::Hs256);
    let jwt = jwt(&signer);
    (signer, jwt)
}

/// Claims that are in order, as text, and these beside them.
fn payload(more: &str) -> String {
    format!(r#"{{"iss":"{ISSUER}","aud":"shop","sub":"alice","exp":{},{more}}}"#, NOW + 300)
}

const HEADER: &str = r#"{"alg":"HS256"}"#;

#[test]
fn every_spelling_of_none_is_refused_with_and_without_a_signature() {
    let (signer, jwt) = hs256();
    let spellings = (0..16_u32).map(|upper| {
        let letters = "none".chars().zip(0..);
        letters
            .map(|(c, at)| if upper >> at & 1 == 1 { c.to_ascii_uppercase() } else { c })
            .collect::<String>()
    });
    for name in spellings.chain(["none ", "\tnone", "nоne", "none\u{0}", "null", ""].map(String::from)) {
        let token = signer.token_of(&json!({ "alg": name }).to_string(), &good().to_string());
        let (signed, _) = token.rsplit_once('.').unwrap();
        for token in [&token, signed, &format!("{signed}."), &format!("{signed}.AA")] {
            let expected = if token == signed { TokenError::Malformed } else { TokenError::Algorithm };
            assert_eq!(error(&jwt, token), Some(expected), "{name:?}");
        }
    }
    // RFC 7519 section 6.1.
    let header = b64(br#"{"alg":"none"}"#);
    assert_eq!(header, "eyJhbGciOiJub25lIn0");
    let token = format!(
        "{header}.{}.",
        b64(b"{\"iss\":\"joe\",\r\n \"exp\":1300819380,\r\n \"http://example.com/is_root\":true}")
    );
    assert_eq!(
        error(&of_keys(Keys::from(KeySet::new([signer.key()]).unwrap())), &token),
        Some(TokenError::Algorithm)
    );
}

#[test]
fn whatever_a_token_says_of_keys_only_ours_verify() {
    for algorithm in [Algorithm::Es256, Algorithm::EdDsa, Algorithm::Es384] {
        let (ours, thief) = (Signer::new(algorithm), Signer::new(algorithm));
        let jwt = of_keys(KeySet::new([ours.key().named("k")]).unwrap());
        for brought in [
            json!({ "jwk": thief.jwk() }),
            json!({ "jku": "https://evil.example/jwks" }),
            json!({ "jku": "file:///dev/null" }),
            json!({ "x5u": "https://evil.example/cert" }),
            json!({ "x5c": ["MIIB"], "x5t": "AAAA", "x5t#S256": "AAAA" }),
            json!({ "jwk": thief.jwk(), "jku": "https://evil.example", "x5u": "https://evil.example" }),
        ] {
            for kid in ["k", "K", "k ", "../k", "k\u{0}", "' OR 1=1 --", "|id", "http://evil.example/k"] {
                let mut header = brought.clone();
                header["alg"] = json!(algorithm.name());
                header["kid"] = json!(kid);
                let expected = if kid == "k" { TokenError::Signature } else { TokenError::UnknownKey };
                let token = thief.token_of(&header.to_string(), &good().to_string());
                assert_eq!(error(&jwt, &token), Some(expected), "{header}");
                // They harm nobody, either.
                let honest = ours.token_of(&header.to_string(), &good().to_string());
                assert_eq!(error(&jwt, &honest).is_none(), kid == "k", "{header}");
            }
        }
        let huge = json!({ "alg": algorithm.name(), "kid": "k".repeat(8_000) }).to_string();
        assert_eq!(error(&jwt, &thief.token_of(&huge, &good().to_string())), Some(TokenError::Header));
    }
}

#[test]
fn a_name_stands_once_in_every_object_however_deep() {
    let (signer, jwt) = hs256();
    let mut twice =
        [r#"{"a":1,"a":2}"#, r#"{"a":1,"a":1}"#, r#"{"a":1,"\u0061":2}"#, r#"{"":1,"":2}"#].map(String::from);
    let mut once = r#"{"a":1,"A":2,"á":3,"a ":4}"#.to_owned();
    for depth in 0..20 {
        for twice in &mut twice {
            let claims = payload(&format!(r#""x":{twice}"#));
            assert_eq!(error(&jwt, &signer.token_of(HEADER, &claims)), Some(TokenError::Claims), "{claims}");
            let header = format!(r#"{{"alg":"HS256","x":{twice}}}"#);
            let token = signer.token_of(&header, &good().to_string());
            assert_eq!(error(&jwt, &token), Some(TokenError::Header), "{header}");
            *twice =
                if depth % 2 == 0 { format!("[0,{twice}]") } else { format!(r#"{{"b":{twice},"c":{{}}}}"#) };
        }
        assert_eq!(error(&jwt, &signer.token_of(HEADER, &payload(&format!(r#""x":{once}"#)))), None);
        once = format!(r#"{{"b":[{once}]}}"#);
    }
    // Where roles are read from, one of two lists would have to win.
    let nested = jwt.roles_at("/realm/roles");
    let roles = payload(r#""realm":{"roles":["user"],"roles":["admin"]}"#);
    assert_eq!(error(&nested, &signer.token_of(HEADER, &roles)), Some(TokenError::Claims));
    let many: Vec<String> = (0..129).map(|i| format!(r#""m{i}":0"#)).collect();
    let deep = payload(&format!(r#""x":{{{}}}"#, many.join(",")));
    assert_eq!(error(&nested, &signer.token_of(HEADER, &deep)), Some(TokenError::Claims));
}

#[test]
fn an_empty_claim_is_no_claim() {
    let (signer, jwt) = hs256();
    for name in ["sub", "jti", "scope", "scp", "roles", "client_id"] {
        let required = jwt.clone().require([name]);
        let empties: &[Value] = match name {
            "sub" => &[json!("")],
            "scope" | "scp" | "roles" => &[json!(""), json!([])],
            _ => &[json!(""), json!([]), json!({}), json!(null)],
        };
        for empty in empties {
            let token = signer.token(&with(name, empty.clone()));
            let found = error(&required, &token);
            // A list with one empty role is a list with a role.
            let expected =
                if name == "roles" && *empty == json!("") { None } else { Some(TokenError::Missing) };
            assert_eq!(found, expected, "{name} {empty}");
        }
        assert_eq!(error(&required, &signer.token(&with(name, json!("x")))), None, "{name}");
    }
    let anybody = of_keys(KeySet::new([signer.key()]).unwrap()).require(["aud", "iss"]);
    assert_eq!(error(&anybody, &signer.token(&with("iss", json!("")))), Some(TokenError::Missing));
    assert_eq!(error(&anybody, &signer.token(&with("aud", json!([""])))), Some(TokenError::Missing));
}

#[test]
fn text_is_compared_as_it_is_and_must_be_text() {
    let (signer, _) = hs256();
    let keys = || KeySet::new([signer.key()]).unwrap();
    let jwt = of_keys(keys()).issuer("https://id.exämple").audiences(["shöp"]);
    let of = |iss: &str, aud: &str| format!(r#"{{"iss":"{iss}","aud":"{aud}","exp":{}}}"#, NOW + 9);
    let check = |payload: &str| error(&jwt, &signer.token_of(HEADER, payload));
    assert_eq!(check(&of("https://id.exämple", "shöp")), None);
    assert_eq!(check(&of(r"https:\/\/id.ex\u00e4mple", r"sh\u00F6p")), None);
    // The same letters in two pieces, letters that look alike, and those that are not seen at all.
    for iss in [
        "https://id.exa\u{308}mple",
        "https://id.ехämple",
        "https://id.exämple\u{200b}",
        "\u{feff}https://id.exämple",
        "https://id.exämple\u{ad}",
    ] {
        assert_eq!(check(&of(iss, "shöp")), Some(TokenError::Issuer), "{iss:?}");
    }
    for aud in ["sho\u{308}p", "shöp\u{200d}", "SHÖP", "ｓｈöｐ", "sh\u{f6}p "] {
        assert_eq!(check(&of("https://id.exämple", aud)), Some(TokenError::Audience), "{aud:?}");
    }
    // Halves of surrogate pairs, also where nobody looks, and control characters that are not escaped.
    for value in [
        r#""\ud800""#,
        r#""\udc00\ud800""#,
        r#"{"\ud800":1}"#,
        r#"["\uDFFF"]"#,
        "\"\u{1}\"",
        "\"\n\"",
        r#""\x41""#,
        r#""\u00g0""#,
    ] {
        let token = signer.token_of(HEADER, &payload(&format!(r#""x":{value}"#)));
        assert_eq!(error(&super::jwt(&signer), &token), Some(TokenError::Claims), "{value}");
    }
    // Bytes that are no UTF-8: cut off, too long for what they say, half of a pair.
    for bytes in [&b"\xc3"[..], b"\xc0\xaf", b"\xed\xa0\x80", b"\xff", b"\xf4\x90\x80\x80"] {
        let mut text = payload(r#""x":"?""#).into_bytes();
        let at = text.iter().rposition(|byte| *byte == b'?').unwrap();
        text.splice(at..=at, bytes.iter().copied());
        let signed = format!("{}.{}", b64(HEADER.as_bytes()), b64(&text));
        let token = format!("{signed}.{}", b64(&signer.sign(signed.as_bytes())));
        assert_eq!(error(&super::jwt(&signer), &token), Some(TokenError::Claims), "{bytes:?}");
    }
}

#[test]
fn nothing_may_follow() {
    let (signer, jwt) = hs256();
    let whole = payload(r#""x":1"#);
    for after in ["x", "{}", ",", "}", "\0", "\u{feff}", " {}", "\n\0", "//", "/**/", "null"] {
        let token = signer.token_of(HEADER, &format!("{whole}{after}"));
        assert_eq!(error(&jwt, &token), Some(TokenError::Claims), "{after:?}");
        let token = signer.token_of(&format!("{HEADER}{after}"), &whole);
        assert_eq!(error(&jwt, &token), Some(TokenError::Header), "{after:?}");
    }
    assert_eq!(error(&jwt, &signer.token_of("\n {\"alg\" :\t\"HS256\"}\r\n", &format!(" {whole}\n"))), None);
    let token = signer.token_of(HEADER, &whole);
    for after in ["=", "==", "A", "AAAA", ".", ".AAAA", "\0", "%00", "#", "?", "\r\n"] {
        assert!(error(&jwt, &format!("{token}{after}")).is_some(), "{after:?}");
        assert!(error(&jwt, &format!("{after}{token}")).is_some(), "{after:?}");
    }
}

#[test]
fn numbers_are_in_range_or_refused() {
    let (signer, jwt) = hs256();
    let check = |name: &str, number: &str| {
        let mut claims = good();
        claims.as_object_mut().unwrap().remove(name);
        let text = claims.to_string();
        error(&jwt, &signer.token_of(HEADER, &format!(r#"{},"{name}":{number}}}"#, &text[..text.len() - 1])))
    };
    for name in ["exp", "nbf", "iat"] {
        for number in [
            "1e308",
            "1e309",
            "1e999999999",
            "-1",
            "-0.5",
            "-1e308",
            "253402300800",
            "18446744073709551615",
            "18446744073709551616",
            "1180591620717411303424",
            "0x7fffffff",
            "01",
            "1.",
            ".5",
            "+1",
            "NaN",
            "Infinity",
            "-Infinity",
            "1_000",
            "1e",
            "1e+",
            "--1",
            "9999999999999999999999999999999999999999",
        ] {
            assert_eq!(check(name, number), Some(TokenError::Claims), "{name} {number}");
        }
        assert!(check(name, &"9".repeat(9_000)).is_some());
    }
    // However it is written, it is the same number.
    assert_eq!(check("exp", "1.8000003e9"), None);
    assert_eq!(check("exp", "18000003E+2"), None);
    assert_eq!(check("nbf", "-0"), None);
    assert_eq!(check("exp", "1e-300"), Some(TokenError::Expired));
    // Also where nobody looks.
    assert_eq!(check("x", "1e400"), Some(TokenError::Claims));
    assert_eq!(check("x", "18446744073709551616"), None);
}

/// Both halves of an ECDSA signature are between 1 and the order of the curve, which is not among them.
#[test]
fn signatures_on_the_edge_are_refused() {
    let order = [
        0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc, 0xe6, 0xfa,
        0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
    ];
    let mut one = [0; 32];
    one[31] = 1;
    let mut below = order;
    below[31] -= 1;
    let signer = Signer::new(Algorithm::Es256);
    let token = signer.token(&good());
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let own: [u8; 64] = URL_SAFE_NO_PAD.decode(signature).unwrap().try_into().unwrap();
    let halves = [
        [0; 32],
        one,
        below,
        order,
        [0xff; 32],
        own[..32].try_into().unwrap(),
        own[32..].try_into().unwrap(),
    ];
    for r in &halves {
        for s in &halves {
            let forged = [*r, *s].concat();
            let same = forged == own;
            assert_eq!(
                error(&jwt(&signer), &format!("{signed}.{}", b64(&forged))).is_none(),
                same,
                "{forged:?}"
            );
        }
    }
    // Shorter and longer by a byte, as if it were padded or trimmed.
    for other in [&own[1..], &own[..63], &[&own[..], &[0]].concat(), &[&[0], &own[..]].concat()] {
        assert_eq!(error(&jwt(&signer), &format!("{signed}.{}", b64(other))), Some(TokenError::Signature));
    }
}

/// Each bit of each part, in the text and in what the text stands for, also while the token itself is remembered.
#[test]
fn no_bit_of_a_valid_token_can_be_another() {
    for algorithm in
        [Algorithm::Hs256, Algorithm::Es256, Algorithm::EdDsa, Algorithm::Rs256, Algorithm::Ps256]
    {
        let signer = Signer::new(algorithm);
        let jwt = jwt(&signer);
        let token = signer.token(&good());
        assert_eq!(error(&jwt, &token), None);
        let mut text = token.clone().into_bytes();
        for bit in 0..text.len() * 8 {
            text[bit / 8] ^= 1 << (bit % 8);
            if let Ok(changed) = std::str::from_utf8(&text) {
                assert!(error(&jwt, changed).is_some(), "{algorithm}: bit {bit} of the text");
            }
            text[bit / 8] ^= 1 << (bit % 8);
        }
        let parts: Vec<Vec<u8>> =
            token.split('.').map(|part| URL_SAFE_NO_PAD.decode(part).unwrap()).collect();
        for part in 0..3 {
            for bit in 0..parts[part].len() * 8 {
                let mut changed = parts.clone();
                changed[part][bit / 8] ^= 1 << (bit % 8);
                let changed: Vec<String> = changed.iter().map(|part| b64(part)).collect();
                assert!(error(&jwt, &changed.join(".")).is_some(), "{algorithm}: bit {bit} of part {part}");
            }
        }
        assert_eq!(error(&jwt, &token), None);
    }
}

/// The example of RFC 9068 section 3, at its time; the key is ours.
#[test]
fn the_access_token_of_rfc_9068_is_taken() {
    let signer = Signer::new(Algorithm::Rs256);
    let claims = json!({
        "iss": "https://authorization-server.example.com/", "sub": "5ba552d67", "aud": "https://rs.example.com/",
        "exp": 1_639_528_912, "iat": 1_618_354_090, "jti": "dbe39bf3a3ba4238a513f51d6e1691c4",
        "client_id": "s6BhdRkqt3", "scope": "openid profile reademail",
    });
    let token = signer.token_of(r#"{"typ":"at+JWT","alg":"RS256","kid":"RjEwOwOA"}"#, &claims.to_string());
    let clock = ManualClock::new(SystemTime::UNIX_EPOCH + Duration::from_secs(1_618_354_100));
    let jwt = Jwt::new(KeySet::new([signer.key().named("RjEwOwOA")]).unwrap())
        .issuer("https://authorization-server.example.com/")
        .audiences(["https://rs.example.com/"])
        .access_tokens()
        .clock(clock.clock());
    let (principal, _) = jwt.verify(&token).unwrap();
    assert_eq!(principal.subject(), "5ba552d67");
    assert_eq!(principal.scopes().collect::<Vec<_>>(), ["openid", "profile", "reademail"]);
}
