//! Connection ids of UDP (BEP 15), made so that nothing need be kept of who asked for one: a moment, and a digest of a
//! secret, that moment and the address. Whoever sends one back has got it, so his address is not forged.

use crate::base::rng::Rng;
use crate::base::time::Time;
use crate::limits;
use sha1::{Digest, Sha1};
use std::net::IpAddr;

/// Seconds of one moment: an id is as much longer valid than [`limits::TRACKER_ID_VALID`], at most.
const MOMENT: u64 = 10;
/// Moments before the secret changes: as many as the first byte of an id tells apart.
const EPOCH: u64 = 256;

/// What makes ids and checks them.
pub(super) struct Connections {
    rng: Rng,
    /// Which epoch `secrets[0]` is of; the other one is of the epoch before.
    epoch: u64,
    secrets: [[u8; 32]; 2],
}

impl Connections {
    pub(super) fn new(mut rng: Rng) -> Connections {
        let secrets = [rng.seed(), rng.seed()];
        Connections { rng, epoch: 0, secrets }
    }

    /// An id for the sender of a connect query. Its port is not in it: some routers change that.
    pub(super) fn id(&mut self, ip: IpAddr, now: Time) -> u64 {
        let moment = now.secs() / MOMENT;
        self.turn(moment / EPOCH);
        id(&self.secrets[0], moment, ip)
    }

    /// Whether we gave this id to this address no longer than [`limits::TRACKER_ID_VALID`] ago.
    pub(super) fn is_valid(&mut self, connection: u64, ip: IpAddr, now: Time) -> bool {
        let this = now.secs() / MOMENT;
        self.turn(this / EPOCH);
        let age = u64::from((this as u8).wrapping_sub((connection >> 56) as u8));
        if age > limits::TRACKER_ID_VALID.as_secs() / MOMENT {
            return false;
        }
        let Some(moment) = this.checked_sub(age) else { return false };
        let secret = &self.secrets[(self.epoch - moment / EPOCH) as usize];
        id(secret, moment, ip) == connection
    }

    /// Changes the secret when its time is over.
    fn turn(&mut self, epoch: u64) {
        if epoch > self.epoch {
            // Of a longer silence no id is valid any more, by whichever secret.
            self.secrets = [self.rng.seed(), self.secrets[0]];
            self.epoch = epoch;
        }
    }
}

/// The lowest 8 bits of the moment, then 56 of a digest. What is hashed has one length in each family and the secret
/// stands first; no more than a part of the digest is seen, so none can be made longer.
fn id(secret: &[u8; 32], moment: u64, ip: IpAddr) -> u64 {
    let mut hash = Sha1::new();
    hash.update(secret);
    hash.update(moment.to_be_bytes());
    match ip {
        IpAddr::V4(ip) => hash.update(ip.octets()),
        IpAddr::V6(ip) => hash.update(ip.octets()),
    }
    let digest: [u8; 20] = hash.finalize().into();
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&digest[..8]);
    bytes[0] = moment as u8;
    u64::from_be_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Time {
        Time(seconds * 1_000_000)
    }

    fn new() -> Connections {
        Connections::new(Rng::new([1; 32]))
    }

    #[test]
    fn an_id_is_good_for_two_minutes_and_for_its_address() {
        let (one, other): (IpAddr, IpAddr) = ("10.0.0.1".parse().unwrap(), "2001:db8::1".parse().unwrap());
        for start in [0, 5, 2555, 2559, 2560, 1_000_000] {
            let mut ids = new();
            let (a, b) = (ids.id(one, at(start)), ids.id(other, at(start)));
            for later in [0, 1, 60, 120] {
                let now = at(start + later);
                assert!(ids.is_valid(a, one, now) && ids.is_valid(b, other, now), "{start} {later}");
                assert!(!ids.is_valid(a, other, now) && !ids.is_valid(b, one, now));
            }
            for later in [130, 131, 2559, 2560, 2570, 100_000] {
                assert!(!ids.is_valid(a, one, at(start + later)), "{start} {later}");
            }
        }
    }

    #[test]
    fn forged_ids_are_not_valid() {
        let (mut ids, ip) = (new(), IpAddr::from([10, 0, 0, 1]));
        let good = ids.id(ip, at(100));
        for bit in 0..64 {
            assert!(!ids.is_valid(good ^ 1 << bit, ip, at(100)), "{bit}");
        }
        let mut rng = Rng::new([2; 32]);
        assert!((0..100_000).all(|_| !ids.is_valid(rng.u64(), ip, at(100))));
        assert!(!ids.is_valid(crate::proto::tracker::udp::PROTOCOL, ip, at(100)));
        assert_ne!(Connections::new(Rng::new([3; 32])).id(ip, at(100)), good);
        // A moment before the start, which 8 bits can name.
        assert!(!ids.is_valid(0xff << 56 | good, ip, at(0)));
    }

    #[test]
    fn the_secret_changes() {
        let (mut ids, ip) = (new(), IpAddr::from([10, 0, 0, 1]));
        ids.id(ip, at(0));
        let first = ids.secrets[0];
        ids.id(ip, at(2559));
        assert_eq!(ids.secrets[0], first);
        ids.id(ip, at(2560));
        assert!(ids.secrets[0] != first && ids.secrets[1] == first);
        ids.id(ip, at(5120));
        assert!(!ids.secrets.contains(&first));
    }
}
