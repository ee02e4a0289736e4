//! The groups of local service discovery (BEP 14): announces of neighbours to the session, and ours to them.

use super::Reactor;
use super::sockets::Listener;
use crate::api::Event;
use crate::limits;
use crate::proto::compact::canonical;
use crate::proto::lsd;
use crate::proto::scope::{Scope, scope};
use crate::sys::multicast::Group;
use crate::sys::socket::{Family, Route};
use std::net::IpAddr;

/// Joins the groups of the families that we listen in. Where that cannot be, neighbours are not found, and all else
/// goes on.
pub fn join_groups(route: &Route, listeners: &[Listener]) -> Vec<Group> {
    let join = |listener: &Listener| {
        let addr = lsd::group(listener.family == Family::V6);
        let group = Group::join(route, addr);
        group.inspect_err(|error| log::info!("no local discovery by {addr}: {error}")).ok()
    };
    listeners.iter().filter_map(join).collect()
}

impl Reactor {
    /// Reads what was said to a group, a bounded number; what is left is reported again.
    pub(super) fn hear_group(&mut self, at: usize) {
        let mut scratch = std::mem::take(&mut self.landing.scratch);
        for _ in 0..limits::LSD_HEARD {
            // One byte more than an announce may have: what is longer is not taken for its beginning.
            let heard =
                self.groups.get(at).map(|group| group.receive(&mut scratch[..=limits::LSD_DATAGRAM_MAX]));
            let Some(Ok((len, from))) = heard else { break };
            let from = canonical(from);
            if self.groups.get(at).is_some_and(|group| is_neighbour(from.ip(), group.is_near(from.ip()))) {
                self.tell(Event::Lsd { from, data: &scratch[..len] });
            }
        }
        self.landing.scratch = scratch;
    }

    /// Announces something, from the port that we listen on.
    pub(super) fn announce_locally(&mut self, v6: bool, data: &[u8]) {
        let family = if v6 { Family::V6 } else { Family::V4 };
        let listener = self.listeners.iter().find(|listener| listener.family == family);
        let group = self.groups.iter_mut().find(|group| group.family() == family);
        if let (Some(listener), Some(group)) = (listener, group) {
            group.send(&listener.datagrams, data);
        }
    }
}

/// Whether an address is one of the local network: who forges another one must not have us call whom it likes.
fn is_neighbour(ip: IpAddr, near: bool) -> bool {
    near || scope(ip) != Scope::Global
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_have_addresses_of_the_house() {
        for (ip, near, due) in [
            ("192.168.1.7", false, true),
            ("10.0.0.1", false, true),
            ("169.254.3.4", false, true),
            ("127.0.0.1", false, true),
            ("fe80::1", false, true),
            ("fd00::1", false, true),
            ("9.9.9.9", false, false),
            ("2001:db8::1", false, false),
            ("2001:db8::1", true, true),
        ] {
            assert_eq!(is_neighbour(ip.parse().unwrap(), near), due, "{ip}");
        }
    }
}
