//! Who a node is and where: ids that follow from addresses (BEP 42), and which addresses belong together.

use crate::base::crc::crc32c;
use crate::base::rng::Rng;
use crate::limits::{DHT_VOTES, DHT_VOTES_NEEDED};
use crate::proto::id::NodeId;
use std::collections::VecDeque;
use std::net::IpAddr;

pub(super) use crate::proto::network::network;
pub use crate::proto::scope::{Scope, scope};

/// The first bits of an id at this address, of which 21 count, for an id whose last byte is `last`.
fn prefix(ip: IpAddr, last: u8) -> u32 {
    let r = last & 7;
    match ip {
        IpAddr::V4(v4) => {
            let masked = v4.to_bits() & 0x030f_3fff | u32::from(r) << 29;
            crc32c(&masked.to_be_bytes())
        }
        IpAddr::V6(v6) => {
            let high = (v6.to_bits() >> 64) as u64;
            let masked = high & 0x0103_070f_1f3f_7fff | u64::from(r) << 61;
            crc32c(&masked.to_be_bytes())
        }
    }
}

/// The 21 bits that are bound to the address.
const BOUND: u32 = !0 << 11;

/// Whether a node with this id may be at this address (BEP 42). Local addresses are exempt.
pub fn is_lawful(id: NodeId, ip: IpAddr) -> bool {
    let [a, b, c, d, .., last] = id.0;
    scope(ip) != Scope::Global || (u32::from_be_bytes([a, b, c, d]) ^ prefix(ip, last)) & BOUND == 0
}

/// A new id: one that is lawful at this address, if that is known.
pub fn new_id(ip: Option<IpAddr>, rng: &mut Rng) -> NodeId {
    let mut id = [0; 20];
    rng.fill(&mut id);
    if let Some(ip) = ip.filter(|ip| scope(*ip) == Scope::Global) {
        let [a, b, c, d, .., last] = id;
        let random = u32::from_be_bytes([a, b, c, d]);
        let head = prefix(ip, last) & BOUND | random & !BOUND;
        id[..4].copy_from_slice(&head.to_be_bytes());
    }
    NodeId(id)
}

/// What others say our address is. One network has one voice, and the last voices count.
#[derive(Default)]
pub(super) struct Votes {
    ring: VecDeque<(IpAddr, IpAddr)>,
}

impl Votes {
    /// A node at `from` sees us at `ip`. Gives the address that most say, once enough of them do.
    pub(super) fn add(&mut self, from: IpAddr, ip: IpAddr) -> Option<IpAddr> {
        let from = network(from);
        self.ring.retain(|(voter, _)| *voter != from);
        if self.ring.len() >= DHT_VOTES {
            self.ring.pop_front();
        }
        self.ring.push_back((from, ip));
        let same = self.ring.iter().filter(|(_, said)| *said == ip).count();
        (same >= DHT_VOTES_NEEDED && 2 * same > self.ring.len()).then_some(ip)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn ids_are_bound_to_addresses_as_in_bep_42() {
        for (address, last, head) in [
            ("124.31.75.21", 1, [0x5f, 0xbf, 0xbf]),
            ("21.75.31.124", 86, [0x5a, 0x3c, 0xe9]),
            ("65.23.51.170", 22, [0xa5, 0xd4, 0x32]),
            ("84.124.73.14", 65, [0x1b, 0x03, 0x21]),
            ("43.213.53.83", 90, [0xe5, 0x6f, 0x6c]),
        ] {
            let mut id = [0x77; 20];
            id[..3].copy_from_slice(&head);
            id[19] = last;
            assert!(is_lawful(NodeId(id), ip(address)), "{address}");
            id[2] ^= 7; // The last three bits of the third byte are free.
            assert!(is_lawful(NodeId(id), ip(address)), "{address}");
            id[2] ^= 8;
            assert!(!is_lawful(NodeId(id), ip(address)), "{address}");
        }
    }

    #[test]
    fn our_own_id_is_lawful() {
        let mut rng = Rng::new([1; 32]);
        for address in ["9.8.7.6", "2001:470:1:2::3"] {
            let id = new_id(Some(ip(address)), &mut rng);
            assert!(is_lawful(id, ip(address)));
            assert!(!is_lawful(id, ip("99.8.7.6")));
            assert_ne!(id, new_id(Some(ip(address)), &mut rng));
        }
        assert!(is_lawful(new_id(None, &mut rng), ip("192.168.1.1")));
    }

    #[test]
    fn our_address_is_what_most_networks_say() {
        let mut votes = Votes::default();
        for _ in 0..100 {
            // However often one network says it.
            assert_eq!(votes.add(ip("6.6.6.1"), ip("6.6.6.6")), None);
        }
        let said: Vec<_> =
            (1..=DHT_VOTES_NEEDED).map(|n| votes.add(ip(&format!("9.9.{n}.1")), ip("1.2.3.4"))).collect();
        assert_eq!(said.last(), Some(&Some(ip("1.2.3.4"))));
        assert!(said[..said.len() - 1].iter().all(Option::is_none));
    }
}
