//! What the agent says, in the messages of its `workload.proto`.

use std::collections::BTreeMap;

use crate::protobuf::{Fields, Malformed, Value};

/// More identities than a workload has, and more domains than one federates with.
const MOST: usize = 1_000;

/// An answer to either question: who we are, and whom to believe.
#[derive(Default)]
pub(super) struct Answer<'a> {
    pub(super) svids: Vec<Svid<'a>>,
    /// In DER.
    pub(super) revocation_lists: Vec<&'a [u8]>,
    /// Roots of trust domains, in DER, by their SPIFFE IDs. Of `FetchX509SVID` those of other domains only.
    pub(super) bundles: BTreeMap<&'a str, &'a [u8]>,
}

/// One of our identities. What is missing is empty.
#[derive(Clone, Copy, Default)]
pub(super) struct Svid<'a> {
    pub(super) id: &'a str,
    /// Certificates in DER, its own first.
    pub(super) chain: &'a [u8],
    /// In PKCS#8.
    pub(super) key: &'a [u8],
    /// The roots of its trust domain, in DER.
    pub(super) bundle: &'a [u8],
    /// What an operator says of what it is for.
    pub(super) hint: &'a str,
}

impl<'a> Answer<'a> {
    /// An `X509SVIDResponse`.
    pub(super) fn of_svids(message: &'a [u8]) -> Result<Self, Malformed> {
        Self::read(message, [1, 2, 3])
    }

    /// An `X509BundlesResponse`.
    pub(super) fn of_bundles(message: &'a [u8]) -> Result<Self, Malformed> {
        Self::read(message, [0, 1, 2])
    }

    /// With the numbers of these fields: identities, revocation lists, bundles.
    fn read(message: &'a [u8], [svids, revocation_lists, bundles]: [u64; 3]) -> Result<Self, Malformed> {
        let mut answer = Self::default();
        for field in byte_fields(message) {
            let (number, bytes) = field?;
            if number == svids {
                answer.svids.push(Svid::read(bytes)?);
            } else if number == revocation_lists {
                answer.revocation_lists.push(bytes);
            } else if number == bundles {
                let (domain, bundle) = entry(bytes)?;
                answer.bundles.insert(domain, bundle);
            }
            if answer.svids.len().max(answer.bundles.len()) > MOST {
                return Err(Malformed);
            }
        }
        Ok(answer)
    }
}

impl<'a> Svid<'a> {
    fn read(message: &'a [u8]) -> Result<Self, Malformed> {
        let mut svid = Self::default();
        for field in byte_fields(message) {
            let (number, bytes) = field?;
            match number {
                1 => svid.id = text(bytes)?,
                2 => svid.chain = bytes,
                3 => svid.key = bytes,
                4 => svid.bundle = bytes,
                5 => svid.hint = text(bytes)?,
                _ => {}
            }
        }
        Ok(svid)
    }
}

/// An entry of a map of texts and bytes.
fn entry(message: &[u8]) -> Result<(&str, &[u8]), Malformed> {
    let (mut key, mut value) = ("", &[][..]);
    for field in byte_fields(message) {
        match field? {
            (1, bytes) => key = text(bytes)?,
            (2, bytes) => value = bytes,
            _ => {}
        }
    }
    Ok((key, value))
}

/// Others are not in these messages: of a later version, at most.
fn byte_fields(message: &[u8]) -> impl Iterator<Item = Result<(u64, &[u8]), Malformed>> {
    Fields::of(message).filter_map(|field| match field {
        Ok((number, Value::Bytes(bytes))) => Some(Ok((number, bytes))),
        Ok(_) => None,
        Err(malformed) => Some(Err(malformed)),
    })
}

fn text(bytes: &[u8]) -> Result<&str, Malformed> {
    std::str::from_utf8(bytes).map_err(|_| Malformed)
}

/// What the fuzzer reaches: what an agent has said, without its socket.
#[cfg(fuzzing)]
pub mod fuzzing {
    use super::Answer;

    /// How many identities and bundles an answer has to either question, if it is one.
    pub fn answers(message: &[u8]) -> [Option<(usize, usize)>; 2] {
        [Answer::of_svids(message), Answer::of_bundles(message)]
            .map(|answer| answer.ok().map(|answer| (answer.svids.len(), answer.bundles.len())))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A field of bytes.
    fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
        assert!(bytes.len() < 128, "one byte of length");
        [&[number << 3 | 2, bytes.len() as u8], bytes].concat()
    }

    fn svid(id: &str, hint: &str) -> Vec<u8> {
        [
            field(1, id.as_bytes()),
            field(2, b"chain"),
            field(3, b"key"),
            field(4, b"roots"),
            field(5, hint.as_bytes()),
        ]
        .concat()
    }

    fn bundle(domain: &str, roots: &[u8]) -> Vec<u8> {
        [field(1, domain.as_bytes()), field(2, roots)].concat()
    }

    /// `tests/it/transport/spiffe.rs` hears what prost writes.
    #[test]
    fn an_answer_has_identities_lists_and_bundles() {
        let message = [
            field(1, &svid("spiffe://a/b", "internal")),
            field(2, b"revoked"),
            field(3, &bundle("spiffe://c", b"first")),
            field(3, &bundle("spiffe://c", b"roots of c")),
            field(9, b"of a later version"),
            vec![10 << 3, 7],
            field(1, &svid("spiffe://a/c", "")),
        ]
        .concat();
        let answer = Answer::of_svids(&message).unwrap();
        let svids: Vec<_> = answer.svids.iter().map(|svid| (svid.id, svid.hint)).collect();
        assert_eq!(svids, [("spiffe://a/b", "internal"), ("spiffe://a/c", "")]);
        let first = answer.svids[0];
        assert_eq!((first.chain, first.key, first.bundle), (&b"chain"[..], &b"key"[..], &b"roots"[..]));
        assert_eq!(answer.revocation_lists, [b"revoked"]);
        assert_eq!(answer.bundles.into_iter().collect::<Vec<_>>(), [("spiffe://c", &b"roots of c"[..])]);

        let message = [field(1, b"revoked"), field(2, &bundle("spiffe://c", b"roots"))].concat();
        let answer = Answer::of_bundles(&message).unwrap();
        assert!(answer.svids.is_empty());
        assert_eq!(answer.revocation_lists, [b"revoked"]);
        assert_eq!(answer.bundles.into_iter().collect::<Vec<_>>(), [("spiffe://c", &b"roots"[..])]);
    }

    #[test]
    fn what_is_no_answer() {
        assert!(Answer::of_svids(b"").unwrap().svids.is_empty(), "no identity");
        for message in [
            field(1, b"no message"),
            field(1, &field(1, b"\xff")),
            field(1, &field(5, b"\xff")),
            field(3, &field(1, b"\xff")),
            field(3, b"\x0a"),
            vec![1 << 3 | 2, 5],
            field(1, b"").repeat(MOST + 1),
            (0..=MOST).flat_map(|n| field(3, &bundle(&n.to_string(), b""))).collect(),
        ] {
            assert!(Answer::of_svids(&message).is_err(), "{message:?}");
        }
        assert!(Answer::of_svids(&field(1, b"").repeat(MOST)).is_ok());
    }

    proptest! {
        #[test]
        fn it_panics_on_nothing(message in prop::collection::vec(any::<u8>(), 0..128)) {
            let _ = Answer::of_svids(&message);
            let _ = Answer::of_bundles(&message);
            let _ = Svid::read(&message);
        }
    }
}
