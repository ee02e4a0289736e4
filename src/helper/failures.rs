//! Which addresses of servers have failed lately: of a name with several, those that work are asked first, though its
//! look-up says otherwise.

use crate::limits::{ADDRESS_FAILURES_KEPT, ADDRESS_FAILURES_MAX};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

struct Failure {
    /// How often in a row.
    times: u32,
    /// The last time.
    at: Instant,
}

/// Addresses that failed the last time, `ADDRESS_FAILURES_MAX` at most.
#[derive(Default)]
pub(super) struct AddressFailures(BTreeMap<SocketAddr, Failure>);

impl AddressFailures {
    /// The addresses in the order in which to ask them: those that failed least come first, and others keep their order.
    pub(super) fn sort(&self, addrs: &[IpAddr], port: u16, now: Instant) -> Vec<IpAddr> {
        let mut sorted = addrs.to_vec();
        sorted.sort_by_key(|ip| self.times(SocketAddr::new(*ip, port), now));
        sorted
    }

    /// How often in a row this address has failed.
    pub(super) fn times(&self, addr: SocketAddr, now: Instant) -> u32 {
        let failure = self.0.get(&addr);
        let recent = |f: &&Failure| now.saturating_duration_since(f.at) < ADDRESS_FAILURES_KEPT;
        failure.filter(recent).map_or(0, |failure| failure.times)
    }

    pub(super) fn on_failure(&mut self, addr: SocketAddr, now: Instant) {
        let times = self.times(addr, now).saturating_add(1);
        if self.0.len() >= ADDRESS_FAILURES_MAX && !self.0.contains_key(&addr) {
            let oldest = self.0.iter().min_by_key(|(_, failure)| failure.at).map(|(addr, _)| *addr);
            oldest.map(|addr| self.0.remove(&addr));
        }
        self.0.insert(addr, Failure { times, at: now });
    }

    pub(super) fn on_success(&mut self, addr: SocketAddr) {
        self.0.remove(&addr);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::helper::clock;
    use std::time::Duration;

    fn ip(n: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, n])
    }

    #[test]
    fn address_that_failed_least_comes_first_until_it_is_forgiven() {
        let (mut failures, now) = (AddressFailures::default(), clock());
        let addrs = [ip(1), ip(2), ip(3)];
        let at = |n| SocketAddr::new(ip(n), 80);
        assert_eq!(failures.sort(&addrs, 80, now), addrs);
        failures.on_failure(at(1), now);
        failures.on_failure(at(1), now);
        failures.on_failure(at(2), now);
        assert_eq!(failures.sort(&addrs, 80, now), [ip(3), ip(2), ip(1)]);
        // Another port is another server.
        assert_eq!(failures.sort(&addrs, 81, now), addrs);
        failures.on_success(at(1));
        assert_eq!(failures.sort(&addrs, 80, now), [ip(1), ip(3), ip(2)]);
        assert_eq!(failures.sort(&addrs, 80, now + ADDRESS_FAILURES_KEPT), addrs);
    }

    #[test]
    fn failures_are_bounded_and_the_oldest_is_forgotten() {
        let (mut failures, now) = (AddressFailures::default(), clock());
        for n in 0..2 * ADDRESS_FAILURES_MAX {
            let addr = SocketAddr::new(ip(1), n as u16);
            failures.on_failure(addr, now + Duration::from_millis(n as u64));
        }
        assert_eq!(failures.0.len(), ADDRESS_FAILURES_MAX);
        assert!(!failures.0.contains_key(&SocketAddr::new(ip(1), 0)));
    }
}
