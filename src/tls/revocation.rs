//! Whether an issuer has taken a certificate back (RFC 5280 section 5).
use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::SystemTime,
};

use rustls::pki_types::CertificateRevocationListDer;
use webpki::{
    Cert, CertRevocationList, Error, ExpirationPolicy, OwnedCertRevocationList, RevocationOptions,
    RevocationOptionsBuilder, VerifiedPath,
};

use super::certificate;

/// The most of one issuer: an old one and a new one, each for an old key and a new one.
const MAX_OF_ONE: usize = 8;
/// How many choices of one list for each issuer are tried, before a chain is not believed.
const TRIES: usize = 64;

/// Revocation lists, by the names of those who signed them, as they are written.
#[derive(Clone, Default)]
pub(super) struct Lists(BTreeMap<Vec<u8>, Vec<Listed>>);

#[derive(Clone)]
struct Listed {
    list: Arc<CertRevocationList<'static>>,
    /// When it is over.
    until: SystemTime,
}

/// What is asked of a path to a root that is good otherwise.
pub(super) type Look<'a> = &'a dyn Fn(&VerifiedPath<'_>) -> Result<(), Error>;

impl Lists {
    /// `None` if it cannot be read, or is one too many.
    pub(super) fn add(&mut self, list: &CertificateRevocationListDer<'_>) -> Option<()> {
        let until = certificate::list_is_over(list)?;
        let list: CertRevocationList<'static> = OwnedCertRevocationList::from_der(list).ok()?.into();
        let of_issuer = self.0.entry(list.issuer().to_vec()).or_default();
        of_issuer.push(Listed { list: Arc::new(list), until });
        (of_issuer.len() <= MAX_OF_ONE).then_some(())
    }

    pub(super) fn len(&self) -> usize {
        self.0.values().map(Vec::len).sum()
    }

    /// When they are over, each.
    pub(super) fn ends(&self) -> impl Iterator<Item = SystemTime> {
        self.0.values().flatten().map(|listed| listed.until)
    }

    /// When the first issuer has none left that is not over.
    pub(super) fn expire(&self) -> Option<SystemTime> {
        self.0.values().filter_map(|of_one| of_one.iter().map(|listed| listed.until).max()).min()
    }

    /// Has a path to a root found by `find`, of which no certificate but the root is on a list that is not over, and of which each
    /// issuer has a list that is not over and that he has signed himself.
    ///
    /// `find` is asked for a path at first, for what it is to be looked up in: an error of one path may be hidden behind that of
    /// another, and of the lists of one issuer it would look at the first only.
    pub(super) fn find(
        &self,
        now: SystemTime,
        find: impl Fn(Option<RevocationOptions<'_>>, Look<'_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        if self.0.is_empty() {
            return find(None, &|_| Ok(()));
        }
        let issuers = RefCell::new(BTreeSet::new());
        let look = |path: &VerifiedPath<'_>| {
            let of_path = self.issuers(path, now)?;
            issuers.replace(of_path);
            Ok(())
        };
        find(None, &look)?;
        let choices: Vec<_> = issuers.take().into_iter().map(|issuer| self.of(issuer, now)).collect();
        let tries = choices.iter().map(Vec::len).product::<usize>().min(TRIES);
        let mut found = Err(Error::UnknownRevocationStatus);
        for mut choice in 0..tries {
            let mut lists = Vec::new();
            for of_issuer in &choices {
                lists.push(of_issuer[choice % of_issuer.len()]);
                choice /= of_issuer.len();
            }
            let Ok(options) = RevocationOptionsBuilder::new(&lists) else { break };
            found = find(Some(options.with_expiration_policy(ExpirationPolicy::Enforce).build()), &look);
            if found.is_ok() {
                break;
            }
        }
        found
    }

    /// Who has lists, of those who signed the certificates of a path.
    fn issuers(&self, path: &VerifiedPath<'_>, now: SystemTime) -> Result<BTreeSet<&[u8]>, Error> {
        let leaf: &Cert<'_> = path.end_entity();
        let mut issuers = BTreeSet::new();
        for certificate in std::iter::once(leaf).chain(path.intermediate_certificates()) {
            let Some((issuer, lists)) = self.0.get_key_value(certificate.issuer()) else { continue };
            for listed in lists.iter().filter(|listed| listed.until > now) {
                if listed.list.find_serial(certificate.serial())?.is_some() {
                    return Err(Error::CertRevoked);
                }
            }
            issuers.insert(issuer.as_slice());
        }
        Ok(issuers)
    }

    /// The lists of an issuer that are not over, or else the last, to tell why there is none.
    fn of(&self, issuer: &[u8], now: SystemTime) -> Vec<&CertRevocationList<'static>> {
        let lists = self.0.get(issuer).map(Vec::as_slice).unwrap_or_default();
        let live: Vec<_> =
            lists.iter().filter(|listed| listed.until > now).map(|listed| &*listed.list).collect();
        match lists.last() {
            Some(last) if live.is_empty() => vec![&*last.list],
            _ => live,
        }
    }
}
