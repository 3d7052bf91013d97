//! Who we are on connections and whom we believe, as it is told.

use std::sync::Arc;
#[cfg(feature = "prometheus")]
use std::time::{Duration, SystemTime};

use crate::tls::Credentials;
#[cfg(feature = "prometheus")]
use crate::{
    telemetry::metrics::{Metrics, Samples},
    tls::CredentialsStatus,
};

/// Who a service is on connections, and whom it believes, by names: so that its metrics tell when a certificate expires, and how
/// often in a row it could not be renewed. A gateway tells of its own by itself, and so does a mesh client that is made of a file.
///
/// ```
/// # #[cfg(feature = "prometheus")] {
/// use portcullis::{stack::Identities, telemetry::metrics::Metrics, tls::{Credentials, Directory}};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let ours = Credentials::follow(Directory::new("/etc/certs"));
/// let metrics = Metrics::new();
/// Identities::new().identity("ours", &ours).tell(&metrics);
/// assert!(metrics.render().contains(r#"portcullis_identity_renewal_failures{identity="ours"} 0"#));
/// # }
/// # }
/// ```
///
/// The series are those of a gateway: `identity_expiry_timestamp_seconds`, `identity_rotations_total`,
/// `identity_renewal_failures`, `identity_revocation_expiry_timestamp_seconds` and `identity_revocation_unreadable`; of
/// [roots](Self::roots) `roots_rotations_total` and `roots_renewal_failures`.
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct Identities {
    pub(super) identities: Vec<(Arc<str>, Credentials)>,
    /// Those that say whom to believe, and not who we are.
    pub(super) roots: Vec<(Arc<str>, Credentials)>,
}

impl Identities {
    /// Nobody's yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds these, who we are, by this name.
    pub fn identity(mut self, name: impl Into<Arc<str>>, credentials: &Credentials) -> Self {
        self.identities.push((name.into(), credentials.clone()));
        self
    }

    /// Adds these, which say whom to believe and not who we are, by this name.
    pub fn roots(mut self, name: impl Into<Arc<str>>, credentials: &Credentials) -> Self {
        self.roots.push((name.into(), credentials.clone()));
        self
    }

    #[cfg(feature = "config")]
    pub(super) fn is_empty(&self) -> bool {
        self.identities.is_empty() && self.roots.is_empty()
    }

    /// Has these metrics tell of them, for as long as they are there. It is to be said once.
    #[cfg(feature = "prometheus")]
    #[cfg_attr(docsrs, doc(cfg(feature = "prometheus")))]
    pub fn tell(&self, metrics: &Metrics) {
        let told = self.clone();
        metrics.also(move |samples| told.numbers(samples));
    }

    #[cfg(feature = "prometheus")]
    pub(crate) fn numbers(&self, samples: &mut Samples) {
        for (name, credentials) in &self.identities {
            of_identity(&[("identity", name)], &credentials.status(), samples);
        }
        for (name, credentials) in &self.roots {
            of_roots(&[("roots", name)], &credentials.status(), samples);
        }
    }
}

#[cfg(feature = "prometheus")]
fn of_identity(name: &[(&'static str, &str)], status: &CredentialsStatus, samples: &mut Samples) {
    if let Some(expires) = status.expires {
        let help = "When the certificate expires";
        samples.gauge("identity_expiry_timestamp_seconds", help, name, since_epoch(expires));
    }
    if let Some(expires) = status.revocation_expires {
        let help = "When the first issuer has no revocation list left that is not over";
        samples.gauge("identity_revocation_expiry_timestamp_seconds", help, name, since_epoch(expires));
    }
    let help = "Identities and roots that were taken into use";
    samples.counter("identity_rotations", help, name, status.rotations);
    let help = "How often in a row they could not be renewed";
    samples.gauge("identity_renewal_failures", help, name, status.failures);
    let help = "Whether nobody is let in, since revocation lists cannot be read: 1 if so";
    samples.gauge("identity_revocation_unreadable", help, name, status.revocation_failure.is_some());
}

#[cfg(feature = "prometheus")]
fn of_roots(name: &[(&'static str, &str)], status: &CredentialsStatus, samples: &mut Samples) {
    samples.counter("roots_rotations", "Roots that were taken into use", name, status.rotations);
    let help = "How often in a row they could not be read";
    samples.gauge("roots_renewal_failures", help, name, status.failures);
}

#[cfg(feature = "prometheus")]
fn since_epoch(time: SystemTime) -> Duration {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

#[cfg(all(test, feature = "prometheus"))]
mod tests {
    use super::*;
    use crate::{
        body::BoxError,
        tls::{Identity, IdentitySource, Material, Trust},
    };

    /// Has nothing new, and says so.
    struct Broken;

    impl IdentitySource for Broken {
        async fn next(&mut self, _: Option<&Material>) -> Result<Material, BoxError> {
            Err("nobody signs".into())
        }
    }

    fn number(metrics: &Metrics, series: &str) -> Option<f64> {
        let text = metrics.render();
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("portcullis_{series} ")));
        line?.parse().ok()
    }

    /// An alarm that grows, long before the certificate expires.
    #[tokio::test(start_paused = true)]
    async fn failed_renewals_are_counted_in_a_row() {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(["orders.shop".to_owned()]).unwrap();
        let made = params.self_signed(&key).unwrap();
        let identity = Identity::from_pem(made.pem().as_bytes(), key.serialize_pem().as_bytes()).unwrap();
        let material = Material::new(identity, Trust::none());
        let ours = Credentials::follow_from(material.clone(), Broken);
        let (theirs, metrics) = (Credentials::new(material), Metrics::new());
        Identities::new().identity("ours", &ours).identity("fixed", &theirs).roots("r", &ours).tell(&metrics);
        let mut before = 0.0;
        for _ in 0..3 {
            tokio::time::sleep(Duration::from_secs(10)).await;
            let now = number(&metrics, "identity_renewal_failures{identity=\"ours\"}").unwrap();
            assert!(now > before, "{now} after {before}");
            assert_eq!(number(&metrics, "roots_renewal_failures{roots=\"r\"}"), Some(now));
            before = now;
        }
        assert_eq!(number(&metrics, "identity_renewal_failures{identity=\"fixed\"}"), Some(0.0));
        assert_eq!(number(&metrics, "identity_rotations_total{identity=\"ours\"}"), Some(1.0));
        assert_eq!(number(&metrics, "identity_revocation_unreadable{identity=\"ours\"}"), Some(0.0));
        let expires = number(&metrics, "identity_expiry_timestamp_seconds{identity=\"ours\"}").unwrap();
        assert_eq!(expires, since_epoch(ours.status().expires.unwrap()).as_secs_f64());
    }
}
