//! Who we are in one swarm. Each torrent has an identity of its own: one for all of them would tell trackers and peers
//! which torrents run in the same client. It is the same for as long as the process runs, also for a torrent that is
//! removed and added again, so that a tracker does not count us twice.

use crate::base::rng::Rng;
use crate::proto::id::InfoHash;
use crate::proto::wire::handshake::our_peer_id;

/// What a swarm and its trackers know us by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Identity {
    peer_id: [u8; 20],
    key: u32,
}

impl Identity {
    /// That of a torrent. `secret` is random and of this process.
    pub(super) fn of(info_hash: InfoHash, secret: [u8; 32]) -> Identity {
        let mut seed = secret;
        seed.iter_mut().zip(info_hash.0).for_each(|(byte, hash)| *byte ^= hash);
        let mut rng = Rng::new(seed);
        Identity { peer_id: our_peer_id(&mut rng), key: rng.u32() }
    }

    /// Our peer id in handshakes and announces (BEP 3, BEP 20).
    pub(super) fn peer_id(&self) -> [u8; 20] {
        self.peer_id
    }

    /// By which a tracker knows us when our address changes (BEP 7).
    pub(super) fn key(&self) -> u32 {
        self.key
    }

    /// Whether a peer with this id is ourselves.
    pub(super) fn is_ours(&self, peer_id: &[u8; 20]) -> bool {
        self.peer_id == *peer_id
    }
}
