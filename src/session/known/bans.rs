//! Addresses that a torrent does not speak to.

use std::collections::{BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};

/// The addresses that must not be used, the oldest forgotten first.
#[derive(Default)]
pub(super) struct Bans {
    /// Port 0 stands for all ports of the address.
    set: BTreeSet<SocketAddr>,
    order: VecDeque<SocketAddr>,
}

impl Bans {
    /// Whether it is new.
    pub(super) fn add(&mut self, addr: SocketAddr) -> bool {
        let new = self.set.insert(addr);
        if new {
            self.order.push_back(addr);
        }
        new
    }

    /// Forgets the oldest one if there are more than `max`.
    pub(super) fn trim(&mut self, max: usize) -> Option<SocketAddr> {
        let oldest = if self.order.len() > max { self.order.pop_front() } else { None };
        oldest.inspect(|oldest| _ = self.set.remove(oldest))
    }

    pub(super) fn has(&self, addr: SocketAddr) -> bool {
        self.set.contains(&addr) || self.set.contains(&SocketAddr::new(addr.ip(), 0))
    }

    /// Whether all ports of this address are among them.
    pub(super) fn has_host(&self, ip: IpAddr) -> bool {
        self.set.contains(&SocketAddr::new(ip, 0))
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.set.len()
    }
}
