//! Every torrent and every peer, as one state machine: an event and the time go in, actions come out.

use crate::api::{Action, Event, Intake, PeerId, Report};
use crate::base::time::Time;
use crate::proto::layout::Block;
use std::net::SocketAddr;

/// What the session must know of its process.
#[derive(Clone, Debug)]
pub struct Config {
    /// Our peer id in handshakes and announces (BEP 20).
    pub peer_id: [u8; 20],
    /// The port that others can reach us at.
    pub port: u16,
    /// Connections in all.
    pub max_conn: usize,
    /// Unchoked peers per torrent.
    pub max_upload: usize,
    /// How many disk workers there are.
    pub lanes: u8,
    /// Blocks that may be received or wait for the disk at a time. The pool holds these and `limits::SEND_BUFS`.
    pub receive_bufs: usize,
}
