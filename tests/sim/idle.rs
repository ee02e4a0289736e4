//! An invariant of every scenario: a download sends a request to each peer that could send it a block. It is observed
//! from outside, in the messages on the connections and on the disks of the nodes.

use super::world::{Node, NodeId};
use ptorrent::api::{Command, PeerId, Spec};
use ptorrent::base::arena::Handle;
use ptorrent::base::bits::Bitfield;
use ptorrent::base::time::Time;
use ptorrent::proto::extended::Extension;
use ptorrent::proto::id::InfoHash;
use ptorrent::proto::layout::Block;
use ptorrent::proto::wire::handshake::Handshake;
use ptorrent::proto::wire::message::Message;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// How long an unchoked peer may have a block that is requested from no peer, and be without a request.
const IDLE_MAX: Duration = Duration::from_secs(5);
/// A request counts as long as the peer that has it sent a block within this time.
const SERVING: Duration = Duration::from_secs(5);
/// Each reject of a peer adds this to `IDLE_MAX`: the session waits longer after each.
const REJECT_WAIT: Duration = Duration::from_secs(2);
/// The least time between two checks of all connections.
const INTERVAL: Duration = Duration::from_millis(250);

/// A node's view of the peer at the other end of a connection.
#[derive(Default)]
struct Peer {
    /// None before the handshake.
    torrent: Option<InfoHash>,
    have: BTreeSet<u32>,
    has_all: bool,
    lost: BTreeSet<u32>,
    /// It speaks the fast extension: a choke ends no request.
    is_fast: bool,
    is_unchoking: bool,
    requested: BTreeSet<Block>,
    /// When it sent a block, or was without a request.
    served: Time,
    rejects: u32,
    idle_since: Option<Time>,
    was_idle: bool,
}

impl Peer {
    fn has(&self, piece: u32) -> bool {
        (self.has_all || self.have.contains(&piece)) && !self.lost.contains(&piece)
    }
}

/// All connections of all nodes that are sessions.
#[derive(Default)]
pub(crate) struct Watch {
    peers: BTreeMap<(NodeId, PeerId), Peer>,
    /// The pieces that a node wants of a torrent.
    wanted: BTreeMap<(NodeId, InfoHash), (u32, Arc<Spec>, Bitfield)>,
    /// Nobody changed anything since.
    last: Time,
    next: Time,
}

impl Watch {
    /// The program of a node orders something.
    pub(crate) fn command(&mut self, node: NodeId, command: &Command) {
        if let Command::Add { number, spec } | Command::Adopt { number, spec } = command {
            let key = (node, spec.meta.info_hash);
            // One that is there already keeps its number.
            let number = self.wanted.get(&key).map_or(*number, |(number, ..)| *number);
            self.wanted.insert(key, (number, spec.clone(), wanted(spec)));
        }
    }

    /// A peer sends its handshake.
    pub(crate) fn handshake(&mut self, node: NodeId, peer: PeerId, handshake: &Handshake) {
        let peer = self.peers.entry((node, peer)).or_default();
        peer.torrent = Some(handshake.info_hash);
        peer.is_fast = handshake.reserved[7] & 4 != 0;
    }

    /// A peer says something to a node.
    pub(crate) fn received(&mut self, node: NodeId, peer: PeerId, message: &Message<'_>) {
        let peer = self.peers.entry((node, peer)).or_default();
        match message {
            Message::Choke => {
                peer.is_unchoking = false;
                if !peer.is_fast {
                    peer.requested.clear();
                }
            }
            Message::Unchoke => peer.is_unchoking = true,
            Message::Have(piece) => {
                peer.lost.remove(piece);
                peer.have.insert(*piece);
            }
            Message::HaveAll => peer.has_all = true,
            Message::Bitfield(bytes) => {
                let bits = (0u32..)
                    .zip(bytes.iter())
                    .flat_map(|(at, byte)| (0..8).map(move |bit| (at * 8 + bit, byte >> (7 - bit))));
                peer.have.extend(bits.filter(|(_, bit)| bit & 1 == 1).map(|(piece, _)| piece));
            }
            Message::Reject(block) => {
                peer.requested.remove(block);
                peer.rejects += 1;
            }
            Message::Extended { id, body } if *id == Extension::DontHave as u8 => {
                let piece = body.first_chunk().map(|bytes| u32::from_be_bytes(*bytes));
                peer.lost.extend(piece);
            }
            _ => {}
        }
    }

    /// A node says something to a peer.
    pub(crate) fn sent(&mut self, node: NodeId, peer: PeerId, message: &Message<'_>, now: Time) {
        let peer = self.peers.entry((node, peer)).or_default();
        match message {
            Message::Request(block) => {
                if peer.requested.is_empty() {
                    peer.served = now;
                }
                peer.requested.insert(*block);
            }
            Message::Cancel(block) => _ = peer.requested.remove(block),
            _ => {}
        }
    }

    /// A block came from a peer.
    pub(crate) fn block(&mut self, node: NodeId, peer: PeerId, block: Block, now: Time) {
        if let Some(peer) = self.peers.get_mut(&(node, peer)) {
            peer.requested.remove(&block);
            peer.served = now;
        }
    }

    /// A connection is gone.
    pub(crate) fn closed(&mut self, node: NodeId, peer: PeerId) {
        self.peers.remove(&(node, peer));
    }

    /// Checks all connections, before the event at `now`.
    pub(crate) fn check(&mut self, now: Time, nodes: &[Node]) {
        let last = std::mem::replace(&mut self.last, now);
        if now < self.next {
            return;
        }
        self.next = now + INTERVAL;
        let idle: Vec<((NodeId, PeerId), Block)> =
            self.peers.keys().filter_map(|id| Some((*id, self.block_for(*id, nodes, now)?))).collect();
        self.peers.values_mut().for_each(|peer| peer.was_idle = false);
        for (id, block) in idle {
            let Some(peer) = self.peers.get_mut(&id) else { continue };
            peer.was_idle = true;
            let since = *peer.idle_since.get_or_insert(last);
            let most = IDLE_MAX + REJECT_WAIT * peer.rejects.min(60);
            assert!(
                now.since(since) <= most,
                "node {} requests nothing from {:?} for {:?}, though it is unchoked and {block:?} is there to be requested",
                id.0,
                id.1,
                now.since(since),
            );
        }
        self.peers.values_mut().filter(|peer| !peer.was_idle).for_each(|peer| peer.idle_since = None);
    }

    /// A block that an idle peer could be asked for and no other peer sends.
    fn block_for(&self, id: (NodeId, PeerId), nodes: &[Node], now: Time) -> Option<Block> {
        let (node, peer) = (&nodes[id.0], &self.peers[&id]);
        if !peer.is_unchoking || !peer.requested.is_empty() {
            return None;
        }
        let torrent = peer.torrent?;
        let (number, spec, wanted) = self.wanted.get(&(id.0, torrent))?;
        let disk = node.disks.get(&torrent).unwrap_or(&node.disk);
        if !node.alive
            || node.exited
            || node.is_limited
            || !node.is_downloading(*number)
            || disk.is_behind(now)
        {
            return None;
        }
        let layout = &spec.meta.layout;
        let others = self.peers.range((id.0, PeerId::from_bits(0))..).take_while(|((of, _), _)| *of == id.0);
        let serving: Vec<&Peer> = others
            .map(|(_, other)| other)
            .filter(|other| other.torrent == Some(torrent) && now.since(other.served) < SERVING)
            .collect();
        let is_free = |block: &Block| {
            !disk.has_block(*block)
                && !node.web.values().any(|thread| thread.fetches(*block))
                && !serving.iter().any(|other| other.requested.contains(block))
        };
        let mut next = wanted.next_not_in(disk.have(), 0);
        while let Some(piece) = next {
            let mut blocks = (0..layout.blocks(piece)).map(|index| layout.block(piece, index));
            if peer.has(piece)
                && let Some(block) = blocks.find(is_free)
            {
                return Some(block);
            }
            next = wanted.next_not_in(disk.have(), piece + 1);
        }
        None
    }
}

/// The pieces below the files that are wanted.
fn wanted(spec: &Spec) -> Bitfield {
    let layout = &spec.meta.layout;
    let mut pieces = Bitfield::new(layout.pieces());
    for (file, _) in spec.wanted.iter().enumerate().filter(|(_, wanted)| **wanted) {
        layout.file_pieces(file).for_each(|piece| _ = pieces.set(piece));
    }
    pieces
}
