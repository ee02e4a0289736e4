//! Who we are in one swarm. Each torrent has an identity of its own, for as long as it is in the process: one for all of
//! them would tell trackers and peers which torrents run in the same client.

use crate::base::rng::Rng;
use crate::proto::wire::handshake::our_peer_id;

/// What a swarm and its trackers know us by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Identity {
    peer_id: [u8; 20],
    key: u32,
}

impl Identity {
    pub(super) fn new(rng: &mut Rng) -> Identity {
        Identity { peer_id: our_peer_id(rng), key: rng.u32() }
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
