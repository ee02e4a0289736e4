//! What one party is likely to own as a whole. Whoever owns one address of an IPv6 network owns 2^64 of them, so limits
//! that count addresses do not hold; those that count networks do.

use super::compact::canonical;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

/// The /24 of an IPv4 address, the /64 of an IPv6 one.
pub fn network(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(v4) => Ipv4Addr::from_bits(v4.to_bits() & !0xff).into(),
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).into(),
    }
}

/// The network to whose account a peer goes. On the loopback device every port is another client of the same user, so
/// each is a network of its own there.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Network(SocketAddr);

impl Network {
    /// The network of a peer at this address.
    pub fn of(addr: SocketAddr) -> Network {
        let addr = canonical(addr);
        let own = addr.ip().is_loopback();
        Network(if own { addr } else { SocketAddr::new(network(addr.ip()), 0) })
    }

    /// The first and the last of its addresses, in the order of `SocketAddr`.
    pub fn range(self) -> (SocketAddr, SocketAddr) {
        let last = match self.0 {
            addr if addr.ip().is_loopback() => addr,
            SocketAddr::V4(v4) => {
                SocketAddr::new(Ipv4Addr::from_bits(v4.ip().to_bits() | 0xff).into(), u16::MAX)
            }
            SocketAddr::V6(v6) => {
                let ip = Ipv6Addr::from_bits(v6.ip().to_bits() | u128::from(u64::MAX));
                SocketAddrV6::new(ip, u16::MAX, u32::MAX, u32::MAX).into()
            }
        };
        (self.0, last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(addr: &str) -> Network {
        Network::of(addr.parse().unwrap())
    }

    #[test]
    fn addresses_have_a_network() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        assert_eq!(network(ip("9.8.7.6")), ip("9.8.7.0"));
        assert_eq!(network(ip("2001:1:2:3:4:5:6:7")), ip("2001:1:2:3::"));
        assert_eq!(of("9.8.7.6:1"), of("[::ffff:9.8.7.255]:2"));
        assert_ne!(of("9.8.7.6:1"), of("9.8.6.6:1"));
        assert_eq!(of("[2001:1:2:3::1]:1"), of("[2001:1:2:3:ffff::]:2"));
        assert_ne!(of("[2001:1:2:3::1]:1"), of("[2001:1:2:4::1]:1"));
    }

    #[test]
    fn ports_of_the_loopback_device_are_networks_of_their_own() {
        assert_ne!(of("127.0.0.1:1"), of("127.0.0.1:2"));
        assert_ne!(of("127.0.0.1:1"), of("127.0.0.2:1"));
        assert_ne!(of("[::1]:1"), of("[::1]:2"));
        assert_eq!(of("127.0.0.1:1"), of("[::ffff:127.0.0.1]:1"));
    }

    #[test]
    fn range_holds_the_addresses_of_the_network_alone() {
        for (inside, outside) in [
            ("9.8.7.0:0", "9.8.6.255:65535"),
            ("9.8.7.255:65535", "9.8.8.0:0"),
            ("[2001:1:2:3:ffff:ffff:ffff:ffff]:65535", "[2001:1:2:4::]:0"),
            ("127.0.0.1:7", "127.0.0.1:8"),
            ("[::1]:7", "[::1]:6"),
        ] {
            let (first, last) = of(inside).range();
            let holds = |addr: &str| (first..=last).contains(&addr.parse::<SocketAddr>().unwrap());
            assert!(holds(inside) && !holds(outside), "{inside} {outside}");
        }
    }
}
