//! Addresses of peers: compact lists, 6 bytes for IPv4 (BEP 23) and 18 for IPv6 (BEP 7), and what makes an address
//! one that can be called. Every source of addresses comes through here.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

/// The bytes of an IPv4 address and its port.
pub const LEN_V4: usize = 6;
/// The bytes of an IPv6 address and its port.
pub const LEN_V6: usize = 18;

/// The one form of an address: IPv4-mapped IPv6 is made IPv4, and the flow label is dropped, so that one peer is not
/// met as two.
pub fn canonical(addr: SocketAddr) -> SocketAddr {
    match addr {
        SocketAddr::V4(_) => addr,
        SocketAddr::V6(v6) => match v6.ip().to_ipv4_mapped() {
            Some(ip) => (ip, v6.port()).into(),
            None => SocketAddrV6::new(*v6.ip(), v6.port(), 0, v6.scope_id()).into(),
        },
    }
}

/// Whether a peer could be at this address: not at port 0, nor at an unspecified, multicast or broadcast one.
pub fn is_callable(addr: SocketAddr) -> bool {
    let addr = canonical(addr);
    let ip = addr.ip();
    addr.port() != 0
        && !ip.is_unspecified()
        && !ip.is_multicast()
        && !matches!(ip, IpAddr::V4(v4) if v4.is_broadcast())
}

/// The addresses of a compact IPv4 list that can be called. An odd tail is dropped: lists are hints, and some trackers
/// cut them at a byte count.
pub fn v4(bytes: &[u8]) -> impl Iterator<Item = SocketAddr> + '_ {
    let peer = |&[a, b, c, d, high, low]: &[u8; LEN_V4]| {
        SocketAddr::from((Ipv4Addr::new(a, b, c, d), u16::from_be_bytes([high, low])))
    };
    bytes.as_chunks().0.iter().map(peer).filter(|addr| is_callable(*addr))
}

/// The addresses of a compact IPv6 list that can be called, in their one form. An odd tail is dropped.
pub fn v6(bytes: &[u8]) -> impl Iterator<Item = SocketAddr> + '_ {
    let peer = |chunk: &[u8; LEN_V6]| {
        let (mut ip, mut port) = ([0; 16], [0; 2]);
        ip.copy_from_slice(&chunk[..16]);
        port.copy_from_slice(&chunk[16..]);
        canonical((Ipv6Addr::from(ip), u16::from_be_bytes(port)).into())
    };
    bytes.as_chunks().0.iter().map(peer).filter(|addr| is_callable(*addr))
}

/// The IP address of 4 or 16 bytes, IPv4-mapped made IPv4 (BEP 24); None of any other number.
pub fn ip(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => bytes.first_chunk::<4>().map(|b| Ipv4Addr::from(*b).into()),
        16 => bytes.first_chunk::<16>().map(|b| Ipv6Addr::from(*b).to_canonical()),
        _ => None,
    }
}

/// Appends an address, in its one form, as its list holds it: 6 bytes to `out_v4` or 18 to `out_v6`.
pub fn put(addr: SocketAddr, out_v4: &mut Vec<u8>, out_v6: &mut Vec<u8>) {
    let out = match canonical(addr) {
        SocketAddr::V4(v4) => {
            out_v4.extend_from_slice(&v4.ip().octets());
            out_v4
        }
        SocketAddr::V6(v6) => {
            out_v6.extend_from_slice(&v6.ip().octets());
            out_v6
        }
    };
    out.extend_from_slice(&addr.port().to_be_bytes());
}

/// Decodes `data` as both lists and asserts that what comes out can be called and goes back in unchanged.
#[doc(hidden)]
pub fn fuzz_compact(data: &[u8]) {
    let (mut out_v4, mut out_v6) = (Vec::new(), Vec::new());
    let peers = || v4(data).chain(v6(data));
    assert!(peers().count() <= data.len() / LEN_V4 + data.len() / LEN_V6);
    for peer in peers() {
        assert!(is_callable(peer) && canonical(peer) == peer);
        put(peer, &mut out_v4, &mut out_v6);
    }
    assert!(v4(&out_v4).eq(peers().filter(SocketAddr::is_ipv4)));
    assert!(v6(&out_v6).eq(peers().filter(SocketAddr::is_ipv6)));
    assert_eq!(ip(data).is_some(), data.len() == 4 || data.len() == 16);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn lists_are_as_the_beps_have_them() {
        assert_eq!(v4(&[10, 0, 0, 1, 0x1a, 0xe1]).collect::<Vec<_>>(), [addr("10.0.0.1:6881")]);
        let mut bytes = [0; 18];
        (bytes[0], bytes[1], bytes[15], bytes[17]) = (0x20, 0x01, 9, 80);
        assert_eq!(v6(&bytes).collect::<Vec<_>>(), [addr("[2001::9]:80")]);
        let (mut out_v4, mut out_v6) = (Vec::new(), Vec::new());
        for text in ["10.0.0.1:6881", "[2001::9]:80", "[::ffff:1.2.3.4]:258"] {
            put(addr(text), &mut out_v4, &mut out_v6);
        }
        assert_eq!(out_v4, [10, 0, 0, 1, 0x1a, 0xe1, 1, 2, 3, 4, 1, 2]);
        assert_eq!(out_v6, bytes);
        fuzz_compact(&[out_v6, out_v4].concat());
    }

    #[test]
    fn an_odd_tail_is_dropped() {
        assert_eq!(v4(&[10, 0, 0, 1, 0, 80, 10, 0, 0, 2, 0]).count(), 1);
        assert_eq!((v4(&[1; 5]).count(), v6(&[1; 17]).count(), v6(&[]).count()), (0, 0, 0));
    }

    #[test]
    fn what_nobody_can_call_is_left_out() {
        for text in [
            "1.2.3.4:0",
            "0.0.0.0:80",
            "224.0.0.1:80",
            "255.255.255.255:80",
            "[::]:80",
            "[ff02::1]:80",
            "[2001::1]:0",
            "[::ffff:0.0.0.0]:80",
            "[::ffff:239.1.2.3]:80",
        ] {
            assert!(!is_callable(addr(text)), "{text}");
            let (mut out_v4, mut out_v6) = (Vec::new(), Vec::new());
            put(addr(text), &mut out_v4, &mut out_v6);
            assert_eq!(v4(&out_v4).chain(v6(&out_v6)).count(), 0, "{text}");
        }
        assert!(is_callable(addr("127.0.0.1:1")) && is_callable(addr("[::1]:65535")));
    }

    #[test]
    fn an_address_has_one_form() {
        assert_eq!(canonical(addr("[::ffff:1.2.3.4]:5")), addr("1.2.3.4:5"));
        let flow = SocketAddrV6::new("fe80::1".parse().unwrap(), 5, 77, 3);
        assert_eq!(canonical(flow.into()), SocketAddrV6::new(*flow.ip(), 5, 0, 3).into());
        assert_eq!(ip(&[1, 2, 3, 4]), Some(addr("1.2.3.4:0").ip()));
        assert_eq!(ip(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 1, 2, 3, 4]), Some(addr("1.2.3.4:0").ip()));
        assert_eq!(ip(&[1, 2, 3]), None);
    }
}
