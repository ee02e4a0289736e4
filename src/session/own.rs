//! Our own address, as others see it: what priorities of connections follow from (BEP 40). A tracker is believed
//! (BEP 24); peers only when several of them say the same, and no tracker says anything.

use super::Session;
use crate::limits::ADDRESS_VOTES;
use std::net::{IpAddr, SocketAddr};

/// What we know of one address family.
#[derive(Default)]
struct Side {
    ip: Option<IpAddr>,
    /// A tracker said it.
    sure: bool,
    /// What peers say, who said it last, and how many have done so in a row.
    hint: Option<(IpAddr, IpAddr, u32)>,
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
    fn hinted(&mut self, by: IpAddr, ip: IpAddr) -> bool {
        let side = &mut self.0[usize::from(ip.is_ipv6())];
        if side.sure {
            return false;
        }
        let votes = match side.hint {
            Some((said, last, votes)) if said == ip => votes + u32::from(last != by),
            _ => 1,
        };
        side.hint = Some((ip, by, votes.min(ADDRESS_VOTES)));
        votes >= ADDRESS_VOTES && side.ip.replace(ip) != Some(ip)
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
    pub(super) fn on_your_ip(&mut self, by: IpAddr, ip: IpAddr) {
        let ip = ip.to_canonical();
        if self.own.hinted(by, ip) {
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

    fn ip(n: u8) -> IpAddr {
        [9, 9, 9, n].into()
    }

    #[test]
    fn several_peers_have_to_agree_and_a_tracker_is_believed_at_once() {
        let mut own = Own::default();
        for _ in 0..10 {
            assert!(!own.hinted(ip(1), ip(100)), "one peer, however often");
        }
        assert!(!own.hinted(ip(2), ip(200)) && !own.hinted(ip(3), ip(100)));
        assert!(!own.hinted(ip(4), ip(100)) && own.known().next().is_none());
        assert!(own.hinted(ip(5), ip(100)) && !own.hinted(ip(6), ip(100)));
        assert_eq!(own.known().collect::<Vec<_>>(), [ip(100)]);
        assert!(own.told(ip(50)) && !own.told(ip(50)));
        assert!((0..9).all(|n| !own.hinted(ip(n), ip(100))));
        let v6: IpAddr = "2001::1".parse().unwrap();
        assert!(own.told(v6));
        assert_eq!(own.known().collect::<Vec<_>>(), [ip(50), v6]);
    }
}
