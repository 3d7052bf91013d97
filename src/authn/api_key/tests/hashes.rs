//! Hashes, peppers, and the text of keys.
use super::*;

const PEPPER: &[u8] = b"a pepper that is as long as it has to be";

fn pepper(name: &str) -> Pepper {
    Pepper::new(name, PEPPER).unwrap()
}

/// Computed with `openssl dgst -sha256` and `-mac HMAC -macopt key:...`.
#[test]
fn hashes_are_those_of_the_standards() {
    let plain = KeyHash::of("shop_0123456789ab_secret");
    assert_eq!(plain.to_string(), SHA256);
    assert_eq!(plain.with_pepper(&pepper("2026")).unwrap().to_string(), HMAC);
}
const SHA256: &str = "sha256:659bd04c415835fde9f25ab563dab49464876238a6f3f5d763b46d244ecfdc57";
const HMAC: &str = "hmac-sha256:2026:2dd8d2a21679dc5887d6ab7f108ffd76756bad657cb95af8cbf2ce7fe2feaac9";

#[test]
fn hashes_of_both_kinds_are_read_and_written() {
    let digits = "0a".repeat(32);
    for text in [format!("sha256:{digits}"), format!("hmac-sha256:2026-a:{digits}")] {
        assert_eq!(text.parse::<KeyHash>().unwrap().to_string(), text);
    }
    for text in [
        format!("sha256:2026:{digits}"),
        format!("hmac-sha256:{digits}"),
        format!("hmac-sha256::{digits}"),
        format!("hmac-sha256:A:{digits}"),
        format!("hmac-sha256:a b:{digits}"),
        format!("hmac-sha256:{}:{digits}", "a".repeat(33)),
        format!("hmac-sha256:a:{digits}0"),
        format!("md5:{digits}"),
    ] {
        assert!(text.parse::<KeyHash>().is_err(), "{text}");
    }
}

#[test]
fn a_pepper_is_a_name_and_a_long_secret_that_does_not_show() {
    for (name, secret, error) in [
        ("", PEPPER, PepperError::Name),
        ("A", PEPPER, PepperError::Name),
        ("a:b", PEPPER, PepperError::Name),
        ("a", &PEPPER[..31], PepperError::Short),
        ("a", b"", PepperError::Short),
        ("a", b"0123456789012345678901234567890\n", PepperError::Short),
    ] {
        assert_eq!(Pepper::new(name, secret).unwrap_err(), error);
    }
    let key = "shop_0123456789ab_secret";
    let line = Pepper::new("2026", &[PEPPER, b"\r\n"].concat()).unwrap();
    assert_eq!(KeyHash::of(key).with_pepper(&line), KeyHash::of(key).with_pepper(&pepper("2026")));
    let shown = format!("{:?} {:?}", pepper("a"), Peppers::from(pepper("a")));
    assert!(shown.contains("\"a\"") && !shown.contains("long"), "{shown}");
}

/// One table, hashes of three generations: plain, under an old pepper, under a new one.
#[test]
fn generations_of_hashes_stand_side_by_side() {
    let (old, new) = (pepper("2025"), Pepper::new("2026", &[b'x'; 32]).unwrap());
    let minted = ["plain", "old", "new"].map(|owner| mint("a", owner).unwrap());
    let [plain, under_old, under_new] = minted.each_ref().map(|minted| minted.entry().clone());
    let entries = [plain, under_old.peppered(&old), under_new.peppered(&new)];
    let table = |peppers: Peppers| KeyTable::peppered("p", peppers, entries.clone());

    let both = table([old.clone(), new.clone()].into_iter().collect()).unwrap();
    for (minted, owner) in minted.iter().zip(["plain", "old", "new"]) {
        HASHED.set(0);
        assert_eq!(both.verify(minted.reveal(), at(0)).unwrap().subject(), owner);
        // The digest and the pepper's step, whichever it is under: who measures learns nothing.
        assert_eq!(HASHED.get(), 2, "{owner}");
    }
    let stranger = mint("a", "stranger").unwrap();
    HASHED.set(0);
    assert_eq!(both.verify(stranger.reveal(), at(0)), Err(InvalidKey::Unknown));
    assert_eq!(HASHED.get(), 2);

    let missing = KeyTableError::Pepper(entries[2].id().into());
    assert_eq!(table(old.into()).unwrap_err(), missing);
    // A pepper of that name with another secret makes no key of it.
    let wrong = table([pepper("2025"), pepper("2026")].into_iter().collect()).unwrap();
    assert_eq!(wrong.verify(minted[2].reveal(), at(0)), Err(InvalidKey::Unknown));
}

#[test]
fn who_writes_to_the_store_without_the_pepper_makes_no_key_of_it() {
    let pepper = pepper("2026");
    let minted = mint("a", "x").unwrap();
    let forged = KeyHash { pepper: Some("2026".into()), bytes: KeyHash::of(minted.reveal()).bytes };
    let entry = KeyEntry::new(minted.entry().id(), forged, "root");
    let table = KeyTable::peppered("p", pepper.into(), [entry]).unwrap();
    assert_eq!(table.verify(minted.reveal(), at(0)), Err(InvalidKey::Unknown));
}

#[cfg(feature = "routing")]
#[test]
fn a_scanner_finds_keys_wherever_they_stand() {
    let pattern = regex::Regex::new(PATTERN).unwrap();
    for prefix in ["pc", "shop_live", &"x".repeat(32)] {
        let minted = mint(prefix, "acme").unwrap();
        let key = minted.reveal();
        for text in [
            key.to_owned(),
            format!("curl -H 'x-api-key: {key}' https://shop.example"),
            format!("{{\"key\":\"{key}\"}}"),
            format!("https://shop.example/?key={key}&a=1"),
        ] {
            let found = pattern.find(&text).unwrap().as_str();
            assert!(found == key && is_key(found), "{found}");
        }
    }
    // What only looks like a key is told by its checksum.
    let like = format!("pc_0123456789ab_{}", "0".repeat(49));
    assert!(pattern.is_match(&like) && !is_key(&like));
    let hash = KeyHash::of("x").to_string();
    assert!(!pattern.is_match(&format!("- id: \"0123456789ab\"\n  hash: \"{hash}\"\n")));
}
