//! Asking DNS which pods there are.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::LookupIpStrategy;
use hickory_resolver::net::NetError;
use hickory_resolver::proto::rr::{Name, RData};
use tokio::time::timeout;

use crate::config::settings::Discover;

/// A look-up that takes longer has failed.
const LOOKUP_MAX: Duration = Duration::from_secs(10);

/// Looks one `redis.discover` up.
pub(super) struct Lookup {
    resolver: TokioResolver,
    discover: Discover,
}

impl Lookup {
    /// With the system's resolvers.
    pub(super) fn new(discover: Discover) -> Result<Lookup, String> {
        let why = |error: NetError| format!("the system's DNS configuration can't be used: {error}");
        let mut resolver = TokioResolver::builder_tokio().map_err(why)?;
        let options = resolver.options_mut();
        options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        // Every look-up is to see what DNS says now: how often is `redis.discover_interval`'s to say.
        options.cache_size = 0;
        Ok(Lookup { resolver: resolver.build().map_err(why)?, discover })
    }

    /// `host:port` of every pod, at least one.
    pub(super) async fn addresses(&self) -> Result<BTreeSet<String>, String> {
        let found = match timeout(LOOKUP_MAX, self.ask()).await {
            Ok(found) => found.map_err(|error| error.to_string())?,
            Err(_) => return Err(format!("no answer within {LOOKUP_MAX:?}")),
        };
        if found.is_empty() { Err("no addresses".to_owned()) } else { Ok(found) }
    }

    async fn ask(&self) -> Result<BTreeSet<String>, NetError> {
        match &self.discover {
            Discover::Dns { host, port } => {
                let found = self.resolver.lookup_ip(host.as_str()).await?;
                Ok(found.iter().map(|ip| SocketAddr::new(ip, *port).to_string()).collect())
            }
            Discover::Srv { name } => {
                let found = self.resolver.srv_lookup(name.as_str()).await?;
                Ok(found
                    .answers()
                    .iter()
                    .filter_map(|record| match &record.data {
                        // "." means that the service is decidedly not available here (RFC 2782).
                        RData::SRV(srv) if !srv.target.is_root() => {
                            Some(format!("{}:{}", host(&srv.target), srv.port))
                        }
                        _ => None,
                    })
                    .collect())
            }
        }
    }
}

fn host(name: &Name) -> String {
    let name = name.to_lowercase().to_utf8();
    name.strip_suffix('.').unwrap_or(&name).to_owned()
}

#[cfg(test)]
pub(super) mod tests {
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
    use std::sync::{Arc, Mutex};

    use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
    use hickory_resolver::net::runtime::TokioRuntimeProvider;
    use hickory_resolver::proto::op::{Message, MessageType, OpCode, ResponseCode};
    use hickory_resolver::proto::rr::Record;
    use hickory_resolver::proto::rr::rdata::SRV;
    use tokio::net::UdpSocket;

    use super::*;

    /// A name server on loopback: what it knows, and whether it answers at all.
    #[derive(Clone, Default)]
    pub(crate) struct Zone(Arc<Mutex<Vec<RData>>>);

    impl Zone {
        pub(crate) fn set(&self, records: Vec<RData>) {
            *self.0.lock().unwrap() = records;
        }

        /// Serves the zone under every name, until the runtime ends, and gives a look-up that asks only there.
        pub(crate) async fn lookup(&self, discover: Discover) -> Lookup {
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
            let mut connection = ConnectionConfig::udp();
            connection.port = socket.local_addr().unwrap().port();
            tokio::spawn(serve(socket, self.clone()));
            let ip = IpAddr::V4(Ipv4Addr::LOCALHOST);
            let config =
                ResolverConfig::from_name_servers(vec![NameServerConfig::new(ip, true, vec![connection])]);
            let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
            *builder.options_mut() = Lookup::new(discover.clone()).unwrap().resolver.options().clone();
            Lookup { resolver: builder.build().unwrap(), discover }
        }
    }

    async fn serve(socket: UdpSocket, zone: Zone) {
        let mut packet = [0; 4096];
        while let Ok((len, from)) = socket.recv_from(&mut packet).await {
            let Ok(question) = Message::from_vec(&packet[..len]) else { continue };
            let query = question.queries[0].clone();
            let mut answer = Message::new(question.metadata.id, MessageType::Response, OpCode::Query);
            let known = zone.0.lock().unwrap().clone();
            if known.is_empty() {
                answer.metadata.response_code = ResponseCode::NXDomain;
            }
            for data in known.into_iter().filter(|data| data.record_type() == query.query_type()) {
                answer.add_answer(Record::from_rdata(query.name().clone(), 3600, data));
            }
            answer.add_query(query);
            let _ = socket.send_to(&answer.to_vec().unwrap(), from).await;
        }
    }

    pub(crate) fn a(last: u8) -> RData {
        RData::A(Ipv4Addr::new(10, 0, 0, last).into())
    }

    pub(crate) fn dns() -> Discover {
        Discover::Dns { host: "pods.example.".to_owned(), port: 7000 }
    }

    fn srv(port: u16, target: &str) -> RData {
        RData::SRV(SRV::new(0, 0, port, Name::from_utf8(target).unwrap()))
    }

    #[tokio::test]
    async fn every_address_of_a_name_is_a_pod() {
        let zone = Zone::default();
        zone.set(vec![a(2), RData::AAAA(Ipv6Addr::LOCALHOST.into()), a(1)]);
        let found = zone.lookup(dns()).await.addresses().await.unwrap();
        assert_eq!(Vec::from_iter(found), ["10.0.0.1:7000", "10.0.0.2:7000", "[::1]:7000"]);
    }

    #[tokio::test]
    async fn every_target_of_an_srv_record_is_a_pod() {
        let zone = Zone::default();
        zone.set(vec![srv(7001, "b.example."), srv(7000, "A.example."), srv(0, ".")]);
        let name = "_redis._tcp.example.".to_owned();
        let found = zone.lookup(Discover::Srv { name }).await.addresses().await.unwrap();
        assert_eq!(Vec::from_iter(found), ["a.example:7000", "b.example:7001"]);
    }

    #[tokio::test]
    async fn an_answer_is_not_kept_and_an_empty_one_is_a_failure() {
        let zone = Zone::default();
        let lookup = zone.lookup(dns()).await;
        assert!(lookup.addresses().await.is_err());
        zone.set(vec![a(1)]);
        assert_eq!(Vec::from_iter(lookup.addresses().await.unwrap()), ["10.0.0.1:7000"]);
        zone.set(vec![srv(1, "a.example.")]);
        assert!(lookup.addresses().await.is_err(), "the name is there, without addresses");
    }
}
