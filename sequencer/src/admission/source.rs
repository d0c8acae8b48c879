//! Who sends: clients by their address, as far as it is known and not trusted.

use std::net::IpAddr;

use ipnet::IpNet;
use millrace_proto::Peer;

/// A client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Source(Peer);

impl Source {
    /// The client at an address; `None` where limits on clients do not count, since the address is not known, or that of a proxy or a machine that is trusted.
    pub(crate) fn of(address: Option<IpAddr>, trusted: &[IpNet]) -> Option<Self> {
        // On a socket of both kinds, IPv4 addresses are written as IPv6 ones.
        let address = address?.to_canonical();
        let is_trusted = trusted.iter().any(|network| network.contains(&address));
        (!is_trusted).then(|| Self(address.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PoolConfig;

    fn source(address: &str) -> Option<Source> {
        let trusted = PoolConfig::default().trusted_sources;
        Source::of(Some(address.parse().expect("an address")), &trusted)
    }

    #[test]
    fn an_ipv4_address_is_a_client_however_it_is_written() {
        assert!(source("192.0.2.1").is_some());
        assert_eq!(source("192.0.2.1"), source("::ffff:192.0.2.1"));
        assert_ne!(source("192.0.2.1"), source("192.0.2.2"));
    }

    #[test]
    fn an_ipv6_network_is_a_client() {
        assert!(source("2001:db8:1:2::1").is_some());
        assert_eq!(source("2001:db8:1:2::1"), source("2001:db8:1:2:ffff::9"));
        assert_ne!(source("2001:db8:1:2::1"), source("2001:db8:1:3::1"));
    }

    #[test]
    fn this_machine_is_trusted_unless_it_is_configured_not_to_be() {
        for address in ["127.0.0.1", "127.8.9.1", "::1", "::ffff:127.0.0.1"] {
            assert_eq!(source(address), None, "{address}");
            assert!(Source::of(Some(address.parse().expect("an address")), &[]).is_some());
        }
        assert_eq!(Source::of(None, &[]), None);
    }
}
