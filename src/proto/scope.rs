//! How far an address can be seen from. Who names an address further inside than itself cannot know it.

use std::net::IpAddr;

/// How far an address can be seen from; the nearer one is the greater.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Scope {
    /// From everywhere.
    Global,
    /// Within a house or a provider.
    Private,
    /// Within this machine.
    Loopback,
}

/// How far an address can be seen from.
pub fn scope(ip: IpAddr) -> Scope {
    let ip = inner(ip);
    let private = match ip {
        IpAddr::V4(v4) => {
            let [a, b, ..] = v4.octets();
            v4.is_private() || v4.is_link_local() || a == 100 && b & 0xc0 == 64
        }
        IpAddr::V6(v6) => v6.is_unique_local() || v6.is_unicast_link_local(),
    };
    // The kernel takes the unspecified address for this machine.
    match (ip.is_loopback() || ip.is_unspecified(), private) {
        (true, _) => Scope::Loopback,
        (_, true) => Scope::Private,
        _ => Scope::Global,
    }
}

/// The IPv4 address within an IPv6 one that stands for it: mapped, or behind a translator (RFC 6052).
fn inner(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(v6) if v6.segments()[..6] == [0x64, 0xff9b, 0, 0, 0, 0] => {
            let [.., a, b, c, d] = v6.octets();
            [a, b, c, d].into()
        }
        ip => ip,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_a_scope() {
        for (text, expected) in [
            ("9.8.7.6", Scope::Global),
            ("10.1.2.3", Scope::Private),
            ("172.31.0.1", Scope::Private),
            ("172.32.0.1", Scope::Global),
            ("192.168.0.1", Scope::Private),
            ("169.254.0.1", Scope::Private),
            ("100.64.0.1", Scope::Private),
            ("100.128.0.1", Scope::Global),
            ("127.9.9.9", Scope::Loopback),
            ("2001:470::1", Scope::Global),
            ("fd00::1", Scope::Private),
            ("fe80::1", Scope::Private),
            ("::1", Scope::Loopback),
            ("0.0.0.0", Scope::Loopback),
            ("::", Scope::Loopback),
            ("::ffff:127.0.0.1", Scope::Loopback),
            ("64:ff9b::10.0.0.1", Scope::Private),
            ("64:ff9b::9.8.7.6", Scope::Global),
        ] {
            assert_eq!(scope(text.parse().unwrap()), expected, "{text}");
        }
    }
}
