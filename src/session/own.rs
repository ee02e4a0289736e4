//! Our own address, as others see it: what priorities of connections follow from (BEP 40). A tracker is believed
//! (BEP 24); peers only when several of them say the same, and no tracker says anything.

use super::Session;
use crate::base::time::Time;
use crate::limits::{ADDRESS_REST, ADDRESS_VOTES};
use std::net::{IpAddr, SocketAddr};

/// What we know of one address family.
#[derive(Default)]
struct Side {
    ip: Option<IpAddr>,
    /// A tracker said it.
    sure: bool,
    /// What peers say, and those that have said so in a row, without anybody who said something else.
    hint: Option<(IpAddr, Vec<IpAddr>)>,
    /// Until then we do not believe peers something else.
    rest: Time,
}

/// Our own addresses.
#[derive(Default)]
pub(super) struct Own([Side; 2]);

impl Own {
    /// A tracker says so. Whether that is news.
    fn told(&mut self, ip: IpAddr) -> bool {
        let side = &mut self.0[usize::from(ip.is_ipv6())];
        side.sure = true;
        side.ip.replace(ip) != Some(ip)
    }

    /// A peer says so. Whether that is enough to believe it, and news.
    fn hinted(&mut self, by: IpAddr, ip: IpAddr, now: Time) -> bool {
        let side = &mut self.0[usize::from(ip.is_ipv6())];
        if side.sure || side.ip == Some(ip) {
            side.hint = None;
            return false;
        }
        if now < side.rest {
            return false;
        }
        let (said, voters) = side.hint.get_or_insert_with(|| (ip, Vec::new()));
        if *said != ip {
            (*said, *voters) = (ip, Vec::new());
        }
        if !voters.contains(&by) {
            voters.push(by);
        }
        if voters.len() < ADDRESS_VOTES {
            return false;
        }
        (side.ip, side.hint, side.rest) = (Some(ip), None, now + ADDRESS_REST);
        true
    }

    /// What is known.
    pub(super) fn known(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.0.iter().filter_map(|side| side.ip)
    }
}

impl Session {
    /// A tracker tells our address.
    pub(super) fn on_external_ip(&mut self, ip: IpAddr) {
        let ip = ip.to_canonical();
        if self.own.told(ip) {
            log::info!("trackers see us as {ip}");
            self.use_own(ip);
        }
    }

    /// A peer tells our address.
    pub(super) fn on_your_ip(&mut self, by: IpAddr, ip: IpAddr, now: Time) {
        let ip = ip.to_canonical();
        if self.own.hinted(by, ip, now) {
            log::info!("peers see us as {ip}");
            self.use_own(ip);
        }
    }

    fn use_own(&mut self, ip: IpAddr) {
        let own = SocketAddr::new(ip, self.config.port);
        for (_, t) in self.torrents.iter_mut() {
            t.known.set_own(own);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn ip(n: u8) -> IpAddr {
        [9, 9, 9, n].into()
    }

    #[test]
    fn several_peers_have_to_agree_and_a_tracker_is_believed_at_once() {
        let mut own = Own::default();
        let hinted = |own: &mut Own, by, says| own.hinted(ip(by), ip(says), Time::ZERO);
        for n in 0..10 {
            assert!(!hinted(&mut own, 1 + n % 2, 100), "two peers, however often");
        }
        assert!(!hinted(&mut own, 2, 200) && !hinted(&mut own, 3, 100));
        assert!(!hinted(&mut own, 4, 100) && own.known().next().is_none());
        assert!(hinted(&mut own, 5, 100) && !hinted(&mut own, 6, 100));
        assert_eq!(own.known().collect::<Vec<_>>(), [ip(100)]);
        assert!(own.told(ip(50)) && !own.told(ip(50)));
        assert!((0..9).all(|n| !own.hinted(ip(n), ip(100), Time::ZERO + 2 * ADDRESS_REST)));
        let v6: IpAddr = "2001::1".parse().unwrap();
        assert!(own.told(v6));
        assert_eq!(own.known().collect::<Vec<_>>(), [ip(50), v6]);
    }

    #[test]
    fn what_peers_say_is_not_believed_now_this_way_and_now_that() {
        let mut own = Own::default();
        let start = Time::ZERO + Duration::from_secs(1000);
        let believed =
            |own: &mut Own, says, now| (0..9).filter(|n| own.hinted(ip(*n), ip(says), now)).count();
        assert_eq!(believed(&mut own, 100, start), 1);
        assert_eq!(believed(&mut own, 200, start + ADDRESS_REST / 2), 0);
        assert_eq!(believed(&mut own, 200, start + ADDRESS_REST), 1);
        // Who agrees with what we know speaks against the others.
        let later = start + 3 * ADDRESS_REST;
        assert!(!own.hinted(ip(1), ip(100), later) && !own.hinted(ip(2), ip(100), later));
        assert!(!own.hinted(ip(3), ip(200), later) && !own.hinted(ip(4), ip(100), later));
        assert_eq!(own.known().collect::<Vec<_>>(), [ip(200)]);
    }
}
