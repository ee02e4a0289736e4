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
    /// Our peer id in handshakes, and the one before it.
    handshake_ids: [[u8; 20]; 2],
    /// Peers may still hold connections with that id which are dead.
    is_stale: bool,
    key: u32,
}

impl Identity {
    /// That of a torrent. `secret` is random and of this process.
    pub(super) fn of(info_hash: InfoHash, secret: [u8; 32]) -> Identity {
        let mut seed = secret;
        seed.iter_mut().zip(info_hash.0).for_each(|(byte, hash)| *byte ^= hash);
        let mut rng = Rng::new(seed);
        let peer_id = our_peer_id(&mut rng);
        Identity { peer_id, handshake_ids: [peer_id; 2], is_stale: false, key: rng.u32() }
    }

    /// Our peer id in announces (BEP 3, BEP 20).
    pub(super) fn peer_id(&self) -> [u8; 20] {
        self.peer_id
    }

    /// Our peer id in handshakes: that of announces until our own network ended connections.
    pub(super) fn handshake_id(&self) -> [u8; 20] {
        self.handshake_ids[0]
    }

    /// Our own network ended a connection. The other side does not know yet, and would refuse a new connection with the
    /// same peer id as a duplicate.
    pub(super) fn on_lost_network(&mut self) {
        self.is_stale = true;
    }

    /// Takes another id for the handshakes to come, if peers may hold dead connections with the one that we have.
    pub(super) fn renew(&mut self, rng: &mut Rng) {
        if std::mem::take(&mut self.is_stale) {
            self.handshake_ids = [our_peer_id(rng), self.handshake_ids[0]];
        }
    }

    /// By which a tracker knows us when our address changes (BEP 7).
    pub(super) fn key(&self) -> u32 {
        self.key
    }

    /// Whether a peer with this id is ourselves.
    pub(super) fn is_ours(&self, peer_id: &[u8; 20]) -> bool {
        self.peer_id == *peer_id || self.handshake_ids.contains(peer_id)
    }
}
