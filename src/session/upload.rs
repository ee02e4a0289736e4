//! What peers ask of us: which accepted request is read next. Who may ask is decided in [`super::choker`].

use super::Session;
use super::download::Checked;
use super::peer::{Peer, Stage};
use crate::api::{Action, DiskError, PeerId, TorrentId, Why};
use crate::base::buf::Buf;
use crate::base::time::Time;
use crate::limits::{READ_BATCH, REQUESTS_IN_MAX, SEND_BUFS};
use crate::proto::layout::Block;
use std::cmp::Ordering;
use std::collections::VecDeque;

/// Blocks under way to one peer: at least these, so that reading and sending overlap.
const AHEAD_MIN: u32 = 8;
/// And at most these: a slow reader must not hold the buffers of the others.
const AHEAD_MAX: u32 = 64;

/// Torrents that have peers with requests, in turn, so that each has its share however many peers it has; those peers
/// take turns in [`Torrent::turns`](super::torrent::Torrent::turns). And the blocks that are on their way to all.
#[derive(Default)]
pub(super) struct Round {
    torrents: VecDeque<TorrentId>,
    /// Peers in the turns of all torrents.
    peers: usize,
    bufs: usize,
}

impl Round {
    /// Blocks on their way, and how many there may be.
    pub(super) fn sending(&self) -> (usize, usize) {
        (self.bufs, SEND_BUFS)
    }

    /// Blocks that may be under way to one peer more: its share, within bounds.
    fn ahead(&self) -> u32 {
        let share = (SEND_BUFS / (self.peers + 1)) as u32;
        share.clamp(AHEAD_MIN, AHEAD_MAX)
    }
}

/// How many blocks to read for a peer now: half of what may be under way to it, so that one half is read while the
/// other is sent. Of fewer requests all, but those that come while others are being read gather until these are there.
/// At 0 it asks for nothing, or something is under way to it, which will bring it back here.
fn due(p: &Peer, ahead: u32) -> u32 {
    let batch = ahead / 2;
    let wanted = u32::try_from(p.queue.len()).unwrap_or(batch).min(batch);
    let room = ahead.saturating_sub(p.reading + p.sending);
    if wanted <= room && (wanted == batch || p.reading == 0) { wanted } else { 0 }
}

impl Session {
    pub(super) fn on_interested(&mut self, peer: PeerId, now: Time) -> Checked {
        let Some(p) = self.peers.get_mut(peer) else { return Ok(()) };
        let changed = !std::mem::replace(&mut p.interested, true);
        if let Some(torrent) = p.torrent.filter(|_| changed) {
            self.slot_free(torrent, now);
        }
        Ok(())
    }

    pub(super) fn on_not_interested(&mut self, peer: PeerId, now: Time) -> Checked {
        let Some(p) = self.peers.get_mut(peer) else { return Ok(()) };
        if !std::mem::replace(&mut p.interested, false) {
            return Ok(());
        }
        let uploaded = p.uploaded;
        let got_piece = p.offer.as_mut().is_some_and(|offer| offer.on_not_interested(uploaded));
        let (am_choking, torrent) = (p.am_choking, p.torrent);
        if let (false, Some(torrent)) = (am_choking, torrent) {
            self.slot_free(torrent, now);
        }
        if let (true, Some(torrent)) = (got_piece, torrent) {
            self.after_lost_interest(torrent, peer, now);
        }
        Ok(())
    }

    pub(super) fn on_request(&mut self, peer: PeerId, block: Block) -> Checked {
        let Some(p) = self.peers.get_mut(peer) else { return Ok(()) };
        let now = p.heard;
        let Some(t) = p.torrent.and_then(|t| self.torrents.get(t)) else { return Ok(()) };
        if p.stage != Stage::Open {
            return Ok(());
        }
        if !t.spec.meta.layout.contains(block) {
            return Err("a request outside the torrent");
        }
        if !t.picker.have().get(block.piece) {
            // One that we told of and lost since may come back. If not, the peer shall come again to hear what there is.
            return match t.doubt.is_lost(block.piece) || p.fast.serves(block.piece) {
                true if p.fast.on => {
                    self.reject(peer, block, now);
                    Ok(())
                }
                true if t.spec.seed_only && !t.doubt.is_looked_at(block.piece) => {
                    self.close(peer, Why::Stopping, now);
                    Ok(())
                }
                true => Ok(()),
                false => Err("a request of a piece that we do not have"),
            };
        }
        // A request may cross our choke on the wire: that is nobody's fault.
        if p.am_choking && !self.grant(peer, block) {
            self.reject(peer, block, now);
            return Ok(());
        }
        let Some(p) = self.peers.get_mut(peer) else { return Ok(()) };
        if p.queue.len() >= REQUESTS_IN_MAX {
            return Err("too many requests");
        }
        p.queue.push_back(block);
        p.turn.asked = now;
        let torrent = p.torrent;
        self.join_round(peer);
        self.pump_reads(now);
        if let Some(torrent) = torrent {
            self.check_ratio(torrent, now);
        }
        Ok(())
    }

    pub(super) fn on_cancel(&mut self, peer: PeerId, block: Block, now: Time) -> Checked {
        if let Some(p) = self.peers.get_mut(peer)
            && let Some(at) = p.queue.iter().position(|b| *b == block)
        {
            p.queue.remove(at);
            self.reject(peer, block, now);
        }
        Ok(())
    }

    fn join_round(&mut self, peer: PeerId) {
        let ahead = self.round.ahead();
        if let Some(p) = self.peers.get_mut(peer)
            && !p.in_round
            && due(p, ahead) > 0
        {
            let Some((torrent, t)) = p.torrent.and_then(|id| Some((id, self.torrents.get_mut(id)?))) else {
                return;
            };
            p.in_round = true;
            if t.turns.is_empty() {
                self.round.torrents.push_back(torrent);
            }
            t.turns.push_back(peer);
            self.round.peers += 1;
        }
    }

    /// The peer whose turn it is. Its torrent goes to the end of the line.
    fn next_turn(&mut self) -> Option<(TorrentId, PeerId)> {
        let torrent = self.round.torrents.pop_front()?;
        let t = self.torrents.get_mut(torrent)?;
        let peer = t.turns.pop_front()?;
        self.round.peers = self.round.peers.saturating_sub(1);
        if !t.turns.is_empty() {
            self.round.torrents.push_back(torrent);
        }
        Some((torrent, peer))
    }

    /// Begins reads, peer by peer in turn, as long as there are buffers for them.
    pub(super) fn pump_reads(&mut self, now: Time) {
        while self.round.bufs < SEND_BUFS && !self.round.torrents.is_empty() {
            let allowed = self.throttle.reads(now);
            if allowed == 0 {
                return self.wait_for_reads(now);
            }
            let Some((torrent, peer)) = self.next_turn() else { continue };
            let ahead = self.round.ahead();
            // A peer that is gone left its name here.
            let Some(p) = self.peers.get_mut(peer) else { continue };
            p.in_round = false;
            let room = SEND_BUFS - self.round.bufs;
            let count = (due(p, ahead).min(allowed) as usize).min(room);
            self.begin_read(torrent, peer, count);
            self.join_round(peer);
        }
    }

    fn begin_read(&mut self, torrent: TorrentId, peer: PeerId, count: usize) {
        let Some(p) = self.peers.get_mut(peer).filter(|_| count > 0) else { return };
        let blocks: Vec<Block> = p.queue.drain(..count).collect();
        let bytes = blocks.iter().map(|block| u64::from(block.len)).sum();
        p.reading += count as u32;
        if let Some(t) = self.torrents.get_mut(torrent) {
            t.going += bytes;
        }
        self.throttle.take_upload(bytes);
        self.peers.pin(peer);
        self.round.bufs += count;
        let lane = self.lanes.idlest();
        self.lanes.read_begun(lane, count);
        self.actions.push_back(Action::Read { lane, torrent, peer, blocks });
    }

    /// Blocks were read: they are sent, if the peer is still there and their pieces are still right. What was not tried
    /// because of a block before it goes back to the front of the queue.
    pub(super) fn on_read(
        &mut self,
        torrent: TorrentId,
        peer: PeerId,
        blocks: Vec<(Block, Buf)>,
        failed: Option<(usize, DiskError)>,
        now: Time,
    ) {
        self.peers.unpin(peer);
        if let Some(p) = self.peers.get_mut(peer) {
            p.reading = p.reading.saturating_sub(blocks.len() as u32);
        }
        let good = failed.as_ref().map_or(blocks.len(), |(at, _)| *at);
        let (mut bad, mut again) = (None, Vec::new());
        for (at, (block, buf)) in blocks.into_iter().enumerate() {
            let verified = self.torrents.get(torrent).is_some_and(|t| t.picker.have().get(block.piece));
            if let (Some(p), true, true) = (self.peers.get_mut(peer), at < good, verified) {
                p.sending += 1;
                p.going += u64::from(block.len);
                self.actions.push_back(Action::SendBlock { peer, block, buf });
                continue;
            }
            self.actions.push_back(Action::Release(buf));
            self.round.bufs = self.round.bufs.saturating_sub(1);
            self.gone(torrent, block.len.into());
            match at.cmp(&good) {
                Ordering::Less => self.reject(peer, block, now),
                Ordering::Equal => {
                    bad = Some(block.piece);
                    self.reject(peer, block, now);
                }
                Ordering::Greater => again.push(block),
            }
        }
        if let (Some(piece), Some((_, error))) = (bad, failed) {
            self.on_read_error(torrent, piece, &error, now);
            self.ask_again(torrent, peer, again, now);
        }
        self.join_round(peer);
        self.pump_reads(now);
    }

    /// Requests go back to the front of a peer's queue, those of pieces that are still there.
    fn ask_again(&mut self, torrent: TorrentId, peer: PeerId, blocks: Vec<Block>, now: Time) {
        for block in blocks.into_iter().rev() {
            let there = self.torrents.get(torrent).is_some_and(|t| t.picker.have().get(block.piece));
            let choked = self.peers.get(peer).is_none_or(|p| p.am_choking);
            if !there || choked && !self.grant(peer, block) {
                self.reject(peer, block, now);
            } else if let Some(p) = self.peers.get_mut(peer) {
                p.queue.push_front(block);
            }
        }
    }

    pub(super) fn on_sent(&mut self, peer: PeerId, blocks: u32, bytes: u64, now: Time) {
        let Some(p) = self.peers.get_mut(peer) else { return };
        let blocks = blocks.min(p.sending);
        p.sending -= blocks;
        p.going = p.going.saturating_sub(bytes);
        p.said = now;
        p.up.add(bytes, now);
        p.uploaded += bytes;
        // What it may take while it is choked is no use that would keep it its place.
        if !p.am_choking {
            p.active = now;
        }
        let torrent = p.torrent;
        if let Some(torrent) = torrent {
            self.gone(torrent, bytes);
        }
        let Some(p) = self.peers.get(peer) else { return };
        if let Some(t) = torrent.and_then(|t| self.torrents.get_mut(t)) {
            t.uploaded += bytes;
            t.up.add(bytes, now);
            t.news.moved = true;
            let save_at = t.save_soon(now);
            if let Some(torrent) = p.torrent {
                self.arm_torrent(torrent, save_at);
            }
        }
        self.round.bufs = self.round.bufs.saturating_sub(blocks as usize);
        self.join_round(peer);
        self.pump_reads(now);
        if let Some(torrent) = torrent {
            self.check_ratio(torrent, now);
        }
    }

    /// The torrent has no peers any more.
    pub(super) fn leave_turns(&mut self, torrent: TorrentId) {
        let Some(t) = self.torrents.get_mut(torrent) else { return };
        self.round.peers = self.round.peers.saturating_sub(t.turns.len());
        t.turns.clear();
        self.round.torrents.retain(|other| *other != torrent);
    }

    /// So many bytes of a torrent's blocks are not under way any more.
    fn gone(&mut self, torrent: TorrentId, bytes: u64) {
        if let Some(t) = self.torrents.get_mut(torrent) {
            t.going = t.going.saturating_sub(bytes);
        }
    }

    /// A peer is gone: what stands in its outbox went home with it; what is being read comes back by itself.
    pub(super) fn leave_round(&mut self, p: &Peer, now: Time) {
        if let Some(torrent) = p.torrent {
            self.gone(torrent, p.going);
        }
        self.round.bufs = self.round.bufs.saturating_sub(p.sending as usize);
        self.pump_reads(now);
    }
}

const _: () =
    assert!(AHEAD_MAX as usize <= SEND_BUFS && AHEAD_MAX as usize / 2 <= READ_BATCH && AHEAD_MIN >= 2);
