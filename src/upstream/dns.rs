use std::{
    collections::BTreeSet,
    fmt, io,
    net::{IpAddr, SocketAddr},
    num::NonZeroU32,
    time::Duration,
};

use hickory_resolver::{
    ResolverBuilder, TokioResolver,
    config::{ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolverConfig},
    lookup::Lookup,
    net::runtime::TokioRuntimeProvider,
    proto::rr::{Name, RData, RecordType, rdata::SRV},
};
use tokio::time::{sleep, timeout};

use super::{
    Endpoint,
    resolve::{Addresses, Resolve, Resolving, Target},
    source::{AGAIN, EndpointSet, EndpointSource, LOOKUP, Sets, early},
};
use crate::{body::BoxError, chance::Chance};

/// How much more an endpoint of any weight gets than one of none.
const SOME: u32 = 64;

/// Asks name servers, and believes them for as long as they say. As the [resolver](super::UpstreamBuilder::resolver) of an
/// upstream it tells the addresses of host names (A and AAAA), and it makes a [source](Self::srv) of SRV records.
///
/// ```
/// use std::time::Duration;
/// use portcullis::upstream::{Dns, Upstream};
///
/// let dns = Dns::servers(["192.0.2.53:53".parse()?])?.lifetimes(Duration::from_secs(1), Duration::from_secs(60));
/// let orders = Upstream::builder("orders").endpoint("orders.internal:8080").resolver(dns.clone()).build()?;
/// let stock = Upstream::builder("stock").source(dns.srv("_grpc._tcp.stock.internal")?).resolver(dns).build()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Dns {
    resolver: TokioResolver,
    shortest: Duration,
    longest: Duration,
}

impl Dns {
    /// How long an answer is taken to be good at least, unless told: 5 seconds.
    pub const SHORTEST: Duration = Duration::from_secs(5);
    /// How long an answer is taken to be good at most, unless told: 5 minutes.
    pub const LONGEST: Duration = Duration::from_secs(300);

    /// Asks as this machine is told to: the servers and search domains of `/etc/resolv.conf`, and before them `/etc/hosts`.
    ///
    /// # Errors
    ///
    /// These cannot be read.
    pub fn system() -> io::Result<Self> {
        Self::of(TokioResolver::builder_tokio().map_err(io::Error::other)?)
    }

    /// Asks these, over UDP, and over TCP for what is too long for that.
    ///
    /// # Errors
    ///
    /// There is none.
    pub fn servers(servers: impl IntoIterator<Item = SocketAddr>) -> io::Result<Self> {
        let at = |mut connection: ConnectionConfig, port| {
            connection.port = port;
            connection
        };
        let server = |server: SocketAddr| {
            let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()];
            let connections = connections.map(|connection| at(connection, server.port()));
            NameServerConfig::new(server.ip(), true, connections.into())
        };
        let servers: Vec<_> = servers.into_iter().map(server).collect();
        if servers.is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "there is no name server"));
        }
        let config = ResolverConfig::from_name_servers(servers);
        Self::of(TokioResolver::builder_with_config(config, TokioRuntimeProvider::default()))
    }

    fn of(mut builder: ResolverBuilder<TokioRuntimeProvider>) -> io::Result<Self> {
        let options = builder.options_mut();
        options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        // Whoever asks keeps the answer, for as long as it is good.
        options.cache_size = 0;
        options.timeout = options.timeout.min(LOOKUP / 2);
        let resolver = builder.build().map_err(io::Error::other)?;
        Ok(Self { resolver, shortest: Self::SHORTEST, longest: Self::LONGEST })
    }

    /// Answers are taken to be good for `shortest` at least and for `longest` at most, whatever they say. 5 seconds and 5
    /// minutes unless told; never less than a second.
    #[must_use]
    pub fn lifetimes(self, shortest: Duration, longest: Duration) -> Self {
        Self { shortest, longest: longest.max(shortest), ..self }
    }

    /// The endpoints that the SRV records of this name tell (RFC 2782), such as `_grpc._tcp.orders.internal`, with their
    /// ports, priorities and weights. A record that says that there is no such service, by the target `.`, is a set without
    /// endpoints, for certain; no records are an error. The addresses of their targets are for the upstream's
    /// [resolver](super::UpstreamBuilder::resolver) to tell.
    ///
    /// # Errors
    ///
    /// This is no name.
    pub fn srv(&self, name: &str) -> io::Result<SrvSource> {
        let name = Name::from_ascii(name);
        let name = name.map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error.to_string()))?;
        Ok(SrvSource { dns: self.clone(), name, chance: Chance::new() })
    }

    /// For how long this answer is taken to be good.
    fn lifetime(&self, answer: &Lookup) -> Duration {
        let told = answer.answers().iter().map(|record| record.ttl).min().unwrap_or(0);
        Duration::from_secs(told.into()).clamp(self.shortest, self.longest)
    }
}

impl Resolve for Dns {
    fn resolve(&self, host: &str, port: u16) -> Resolving {
        let (dns, host) = (self.clone(), host.to_owned());
        Box::pin(async move {
            let found = dns.resolver.lookup_ip(host).await.map_err(io::Error::other)?;
            let addresses: Vec<IpAddr> = found.iter().collect();
            let addresses = addresses.into_iter().map(|ip| SocketAddr::new(ip, port));
            Ok(Addresses::new(addresses).good_for(dns.lifetime(found.as_lookup())))
        })
    }
}

/// The endpoints that SRV records tell. See [`Dns::srv`].
#[derive(Clone)]
pub struct SrvSource {
    dns: Dns,
    name: Name,
    chance: Chance,
}

impl SrvSource {
    async fn ask(&self) -> Result<(EndpointSet, Duration), BoxError> {
        let answer = self.dns.resolver.lookup(self.name.clone(), RecordType::SRV);
        let answer = timeout(LOOKUP, answer).await.map_err(|_| "there was no answer")??;
        let records = answer.answers().iter().filter_map(|record| match &record.data {
            RData::SRV(record) => Some(record),
            _ => None,
        });
        let records: Vec<_> = records.collect();
        if records.is_empty() {
            return Err("it has no SRV records".into());
        }
        Ok((endpoints(&records)?, self.dns.lifetime(&answer)))
    }
}

impl EndpointSource for SrvSource {
    fn follow(&self) -> Sets {
        let source = self.clone();
        Sets::told(|teller| async move {
            let mut failed = 0_u32;
            loop {
                let wait = match source.ask().await {
                    Ok((set, lifetime)) => {
                        failed = 0;
                        teller.tell(Ok(set)).await;
                        early(lifetime, &source.chance)
                    }
                    Err(error) => {
                        failed = failed.saturating_add(1);
                        teller.tell(Err(format!("{}: {error}", source.name).into())).await;
                        AGAIN.delay(failed, &source.chance)
                    }
                };
                sleep(wait).await;
            }
        })
    }
}

/// What records say. Priorities are counted through, as there may be 65536 of theirs. What is no endpoint takes nothing away
/// from the others, and is told.
fn endpoints(records: &[&SRV]) -> Result<EndpointSet, BoxError> {
    if let [only] = records
        && only.target.is_root()
    {
        return Ok(EndpointSet::none());
    }
    let address = |record: &SRV| format!("{}:{}", record.target, record.port);
    let (records, odd): (Vec<&SRV>, Vec<&SRV>) =
        records.iter().partition(|record| address(record).parse::<Target>().is_ok());
    let odd =
        odd.first().map(|record| format!("not all of its records are endpoints: {:?}", address(record)));
    if records.is_empty() {
        return Err(odd.unwrap_or_default().into());
    }
    let priorities: BTreeSet<_> = records.iter().map(|record| record.priority).collect();
    let with_none: BTreeSet<_> =
        records.iter().filter(|record| record.weight == 0).map(|record| record.priority).collect();
    let endpoint = |record: &SRV| {
        let priority = priorities.range(..record.priority).count();
        // A weight of 0 has a small chance beside others, and the same as others of its kind.
        let factor = if with_none.contains(&record.priority) { SOME } else { 1 };
        let weight = NonZeroU32::new(u32::from(record.weight) * factor).unwrap_or(NonZeroU32::MIN);
        Endpoint::new(address(record)).priority(u8::try_from(priority).unwrap_or(u8::MAX)).weight(weight)
    };
    let set = EndpointSet::new(records.iter().map(|record| endpoint(record)));
    Ok(odd.into_iter().fold(set, EndpointSet::stale))
}

impl fmt::Debug for Dns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dns")
            .field("shortest", &self.shortest)
            .field("longest", &self.longest)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for SrvSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SrvSource").field(&self.name.to_string()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Records as `priority weight port target`, and endpoints as `address priority weight`.
    fn told(records: &[&str]) -> Vec<String> {
        let records: Vec<_> = records
            .iter()
            .map(|record| {
                let fields: Vec<_> = record.split(' ').collect();
                let number = |at: usize| fields[at].parse::<u16>().unwrap();
                SRV::new(number(0), number(1), number(2), Name::from_ascii(fields[3]).unwrap())
            })
            .collect();
        let set = endpoints(&records.iter().collect::<Vec<_>>()).unwrap();
        assert_eq!(set == EndpointSet::none(), set.endpoints().is_empty() && records.len() == 1);
        let line =
            |endpoint: &Endpoint| format!("{} {} {}", endpoint.address, endpoint.priority, endpoint.weight);
        set.endpoints().iter().map(line).collect()
    }

    #[test]
    fn records_are_endpoints() {
        let records = ["20 5 81 b.example.", "10 3 80 a.example.", "65535 0 82 c.example."];
        assert_eq!(told(&records), ["b.example.:81 1 5", "a.example.:80 0 3", "c.example.:82 2 1"]);
        let mixed = ["1 0 80 a.", "1 65535 80 b.", "2 0 80 c.", "2 0 80 d."];
        assert_eq!(told(&mixed), ["a.:80 0 1", "b.:80 0 4194240", "c.:80 1 1", "d.:80 1 1"]);
        let many: Vec<_> = (0..300).map(|n| format!("{n} 1 80 a.")).collect();
        let many = told(&many.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!((&*many[7], &*many[299]), ("a.:80 7 1", "a.:80 255 1"));
        assert_eq!(told(&["0 0 0 ."]), [""; 0], "there is no such service");
    }

    #[test]
    fn what_is_no_endpoint_takes_nothing_away() {
        let records = |said: &[(u16, &str)]| -> Result<EndpointSet, BoxError> {
            let record = |(port, target): &(u16, &str)| SRV::new(1, 1, *port, target.parse().unwrap());
            let records: Vec<_> = said.iter().map(record).collect();
            endpoints(&records.iter().collect::<Vec<_>>())
        };
        let some = records(&[(80, "a.example."), (80, "-odd-.example."), (0, "b.example.")]).unwrap();
        assert_eq!(&*some.endpoints()[0].address, "a.example.:80");
        assert_eq!(
            (some.endpoints().len(), some.why_stale()),
            (1, Some("not all of its records are endpoints: \"-odd-.example.:80\""))
        );
        let why = records(&[(0, "."), (0, "a.")]).unwrap_err().to_string();
        assert_eq!(why, "not all of its records are endpoints: \".:0\"");
    }
}
