use std::{collections::BTreeSet, fmt, time::Duration};

use thiserror::Error;
use tokio::time::timeout;

use super::{
    InvalidEndpoint,
    endpoint::Endpoint,
    message::{Answer, Svid},
    updates::Updates,
};
use crate::{
    body::BoxError,
    identity::{SpiffeId, TrustDomain},
    tls::{Identity, IdentitySource, Material, Trust},
};

/// How long an agent has for its first answer.
const FIRST: Duration = Duration::from_secs(30);
const SVIDS: &str = "http://localhost/SpiffeWorkloadAPI/FetchX509SVID";
const BUNDLES: &str = "http://localhost/SpiffeWorkloadAPI/FetchX509Bundles";

/// An agent of SPIFFE beside us, such as SPIRE's, which knows who this process is, tells it, and renews it.
///
/// It is asked over its [Workload API](https://github.com/spiffe/spiffe/blob/main/standards/SPIFFE_Workload_API.md) and tells
/// what changes as soon as it changes. While it is away, or what it tells cannot be used, what it told before is in force,
/// and it is asked again at growing intervals. Of several identities the first is ours, unless told which.
///
/// Only workloads of our own trust domain are believed, by its roots, whomever the agent federates with:
/// [`federated`](Self::federated) names others. Each of them is believed by its own roots and for its own SPIFFE IDs only.
/// Who is believed may still be anybody of a domain: who may do what is for policies to say.
///
/// ```
/// use portcullis::tls::{Credentials, ServerTls, WorkloadApi};
///
/// # async fn begin() -> Result<(), Box<dyn std::error::Error>> {
/// let agent = WorkloadApi::from_env()?.federated("partner.example".parse()?);
/// let credentials = Credentials::follow(agent);
/// credentials.ready().await;
/// let inbound = ServerTls::mutual(&credentials);
/// # Ok(())
/// # }
/// ```
#[must_use]
pub struct WorkloadApi {
    endpoint: Endpoint,
    choice: Choice,
    federated: Federated,
    /// What it tells; `None` until it was asked.
    updates: Option<Updates>,
}

/// Which identity is ours.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Choice {
    First,
    Hint(Box<str>),
    Id(SpiffeId),
    /// None: we are a client that believes this domain.
    None(TrustDomain),
}

/// Whom to believe besides.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Federated {
    With(BTreeSet<TrustDomain>),
    All,
}

/// Why what the agent tells cannot be used.
#[derive(Debug, Error)]
enum Unusable {
    #[error("the agent of SPIFFE did not answer within {FIRST:?}")]
    Late,
    #[error("the agent of SPIFFE has no identity for us: {0}")]
    NoIdentity(Choice),
    #[error("the agent of SPIFFE calls {0:?} what is another's certificate")]
    AnothersName(String),
    #[error("the agent of SPIFFE tells an identity that has expired: {0}")]
    Expired(SpiffeId),
    #[error("the agent of SPIFFE has no roots for {0}")]
    NoRoots(TrustDomain),
}

impl WorkloadApi {
    /// The agent at `SPIFFE_ENDPOINT_SOCKET`, as [`new`](Self::new) reads it.
    ///
    /// # Errors
    ///
    /// The variable is not set, or says something else.
    pub fn from_env() -> Result<Self, InvalidEndpoint> {
        let endpoint = std::env::var("SPIFFE_ENDPOINT_SOCKET").map_err(|_| InvalidEndpoint::NotSet)?;
        Self::new(&endpoint)
    }

    /// The agent at `unix:///run/spire/sockets/agent.sock` or `tcp://127.0.0.1:8000`.
    ///
    /// # Errors
    ///
    /// It is neither.
    pub fn new(endpoint: &str) -> Result<Self, InvalidEndpoint> {
        let federated = Federated::With(BTreeSet::new());
        Ok(Self { endpoint: endpoint.parse()?, choice: Choice::First, federated, updates: None })
    }

    /// Takes the first identity with this hint, as operators name what each is for. If there is none, none is taken.
    pub fn hint(self, hint: impl Into<Box<str>>) -> Self {
        Self { choice: Choice::Hint(hint.into()), ..self }
    }

    /// Takes the identity with this name. If there is none, none is taken.
    pub fn spiffe_id(self, id: SpiffeId) -> Self {
        Self { choice: Choice::Id(id), ..self }
    }

    /// Takes no identity: a client that shows none, and believes the workloads of this domain.
    pub fn without_identity(self, domain: TrustDomain) -> Self {
        Self { choice: Choice::None(domain), ..self }
    }

    /// Believes the workloads of this domain too, if the agent has its roots.
    pub fn federated(mut self, domain: TrustDomain) -> Self {
        if let Federated::With(domains) = &mut self.federated {
            domains.insert(domain);
        }
        self
    }

    /// Believes the workloads of every domain of which the agent has the roots: whoever configures the agent decides who
    /// may connect to us.
    pub fn any_federated(self) -> Self {
        Self { federated: Federated::All, ..self }
    }

    /// What the agent tells next; at first, what is so now.
    async fn told(&mut self) -> Result<bytes::Bytes, BoxError> {
        if let Some(updates) = &mut self.updates {
            return Ok(updates.next().await?);
        }
        let method = if matches!(self.choice, Choice::None(_)) { BUNDLES } else { SVIDS };
        let first = async {
            let mut updates = self.endpoint.ask(method).await?;
            let message = updates.next().await?;
            Ok::<_, BoxError>((updates, message))
        };
        let (updates, message) = timeout(FIRST, first).await.map_err(|_| Unusable::Late)??;
        self.updates = Some(updates);
        Ok(message)
    }

    /// What is `served` already can go on without what cannot be read.
    fn material(&self, message: &[u8], served: bool) -> Result<Material, BoxError> {
        if let Choice::None(domain) = &self.choice {
            let answer = Answer::of_bundles(message)?;
            let is_it = |name: &&&str| name.parse::<TrustDomain>().as_ref() == Ok(domain);
            let name = answer.bundles.keys().find(is_it).ok_or_else(|| Unusable::NoRoots(domain.clone()))?;
            return Ok(Material::new(None, self.trust(domain, answer.bundles[name], &answer, served)?));
        }
        let answer = Answer::of_svids(message)?;
        let svid = self.choice.of(&answer.svids).ok_or_else(|| Unusable::NoIdentity(self.choice.clone()))?;
        let id: SpiffeId = svid.id.parse()?;
        let identity = Identity::from_der(svid.chain, svid.key)?;
        if identity.names().spiffe_id() != Some(id.as_str()) {
            return Err(Unusable::AnothersName(svid.id.to_owned()).into());
        }
        if identity.left().is_zero() {
            return Err(Unusable::Expired(id).into());
        }
        let trust = self.trust(&id.trust_domain().parse()?, svid.bundle, &answer, served)?;
        Ok(Material::new(identity, trust))
    }

    fn trust(
        &self,
        own: &TrustDomain,
        roots: &[u8],
        answer: &Answer<'_>,
        served: bool,
    ) -> Result<Trust, BoxError> {
        let mut trust = Trust::none().trust_domain_in_der(own.clone(), roots)?;
        for (name, roots) in &answer.bundles {
            let Ok(domain) = name.parse::<TrustDomain>() else { continue };
            if domain == *own || !self.federated.has(&domain) {
                continue;
            }
            // What is wrong with others' roots shall not keep us from ours.
            match trust.clone().trust_domain_in_der(domain.clone(), roots) {
                Ok(more) => trust = more,
                Err(error) => {
                    tracing::warn!(%domain, %error, "a federated domain is not believed: its roots are unusable");
                }
            }
        }
        if answer.revocation_lists.is_empty() {
            return Ok(trust);
        }
        match trust.clone().revocation_lists_in_der(&answer.revocation_lists) {
            Err(error) if served => {
                tracing::error!(%error, "the agent's revocation lists cannot be read: nobody is let in until they can be");
                Ok(trust.with_unreadable_lists(error.to_string().into()))
            }
            read => Ok(read?),
        }
    }
}

impl Choice {
    fn of<'a, 's>(&self, svids: &'s [Svid<'a>]) -> Option<&'s Svid<'a>> {
        svids.iter().find(|svid| match self {
            Self::First => true,
            Self::Hint(hint) => svid.hint == &**hint,
            Self::Id(id) => svid.id == id.as_str(),
            Self::None(_) => false,
        })
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::First | Self::None(_) => f.write_str("it told none"),
            Self::Hint(hint) => write!(f, "none has the hint {hint:?}"),
            Self::Id(id) => write!(f, "none is {id}"),
        }
    }
}

impl Federated {
    fn has(&self, domain: &TrustDomain) -> bool {
        match self {
            Self::With(domains) => domains.contains(domain),
            Self::All => true,
        }
    }
}

impl IdentitySource for WorkloadApi {
    async fn next(&mut self, before: Option<&Material>) -> Result<Material, BoxError> {
        let served = before.is_some();
        let material = self.told().await.and_then(|message| self.material(&message, served));
        if material.is_err() {
            // It is asked anew, and not waited for until it changes its mind.
            self.updates = None;
        }
        material
    }
}

impl fmt::Debug for WorkloadApi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkloadApi")
            .field("endpoint", &self.endpoint)
            .field("choice", &self.choice)
            .field("federated", &self.federated)
            .finish_non_exhaustive()
    }
}
