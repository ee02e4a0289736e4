//! What peers have, what we ask of them, and what becomes of the blocks that come.

use super::Session;
use super::peer::{Incoming, Stage};
use super::picker::{Arrival, Asker, Pieces};
use super::web::slot_of;
use super::web_seed::seed_of;
use crate::api::{Action, DiskError, Intake, Job, PeerId, Reason, TorrentId, Verdict, Why};
use crate::base::bits::Bitfield;
use crate::base::buf::Buf;
use crate::base::time::Time;
use crate::limits::{ENDGAME_OPEN, IDLE_RETRY, REFILL_REST, SNUB_AFTER, STARVED_AT_ONCE};
use crate::proto::layout::Block;
use crate::proto::wire::message::Message;
use std::net::SocketAddr;

/// What a peer may do wrong.
pub(super) type Checked = Result<(), &'static str>;

/// Peers resumed for each block that the disk is done with: enough to keep it busy, few enough to keep the order.
const RESUME_AT_ONCE: usize = 4;

impl Session {
    pub(super) fn on_have(&mut self, peer: PeerId, piece: u32, now: Time) -> Checked {
        let Some((t, p)) = self.swarm(peer) else { return Ok(()) };
        if piece >= p.has.len() {
            return Err("have of a piece that is none");
        }
        if p.has.set(piece) {
            if p.has.all() {
                // One that loses pieces again would have it allocated anew each time.
                if p.lost == 0 {
                    p.has.settle();
                }
                t.news.moved = true;
            }
            let is_missing = t.picker.on_have(piece);
            if is_missing {
                p.lure.get_or_insert(piece);
            }
            let is_news = is_missing || p.has.all();
            if let Some(shown) = &mut t.super_seed {
                shown.on_have(piece, p.offer);
            }
            self.after_super_seed(peer, Some(piece), now);
            if is_news {
                self.after_news(peer, now);
            }
        }
        Ok(())
    }

    pub(super) fn on_bitfield(&mut self, peer: PeerId, bits: &[u8], now: Time) -> Checked {
        let Some((_, p)) = self.swarm(peer) else { return Ok(()) };
        let has = Bitfield::from_bytes(bits, p.has.len()).ok_or("a bitfield of the wrong length")?;
        self.set_has(peer, has, now)
    }

    /// A peer tells all that it has. That is due once, as the first message (BEP 3, BEP 6). Again,
    /// it replaces what was said.
    pub(super) fn set_has(&mut self, peer: PeerId, has: Bitfield, now: Time) -> Checked {
        let Some((t, p)) = self.swarm(peer) else { return Ok(()) };
        if !p.bitfields.allow(has.count(), has.len()) {
            return Err("bitfields over and over");
        }
        match p.counted_as_seed {
            true => t.picker.peer_has_all(false),
            false => t.picker.on_bitfield(&p.has, false),
        }
        if let Some(shown) = &mut t.super_seed {
            shown.on_bitfield(&p.has, &has, p.offer);
        }
        p.has = has;
        p.has.settle();
        p.counted_as_seed = p.has.all();
        match p.counted_as_seed {
            true => t.picker.peer_has_all(true),
            false => t.picker.on_bitfield(&p.has, true),
        }
        p.lure = t.picker.lure(p.pieces(), 0);
        t.news.moved = true;
        self.after_super_seed(peer, None, now);
        self.after_news(peer, now);
        self.allow_fast(peer, now);
        Ok(())
    }

    /// The swarm and the peer, when its handshake is through.
    pub(super) fn swarm(
        &mut self,
        peer: PeerId,
    ) -> Option<(&mut super::torrent::Torrent, &mut super::peer::Peer)> {
        let p = self.peers.get_mut(peer)?;
        let t = self.torrents.get_mut(p.torrent?)?;
        (p.stage == Stage::Open).then_some((t, p))
    }

    /// The peer has something new: are we interested, is there something to ask, are we both done?
    pub(super) fn after_news(&mut self, peer: PeerId, now: Time) {
        let Some((t, p)) = self.swarm(peer) else { return };
        if t.has_no_use_for(p) {
            return self.close(peer, Why::BothSeeds, now);
        }
        self.update_interest(peer, now);
        self.refill_soon(peer, now);
    }

    pub(super) fn update_interest(&mut self, peer: PeerId, now: Time) {
        let Some((t, p)) = self.swarm(peer) else { return };
        let interested = t.downloading() && p.lure.is_some();
        if interested != p.am_interested {
            p.am_interested = interested;
            let message = if interested { Message::Interested } else { Message::NotInterested };
            self.send(peer, message, now);
        }
    }

    pub(super) fn on_choke(&mut self, peer: PeerId) -> Checked {
        let Some((t, p)) = self.swarm(peer) else { return Ok(()) };
        if std::mem::replace(&mut p.choking, true) {
            return Ok(());
        }
        let torrent = p.torrent;
        if p.fast.on {
            // Each request is rejected by itself, or served. What it was to fill alone is for all.
            t.picker.on_lost(peer, []);
            return Ok(());
        }
        t.picker.on_lost(peer, p.asked.iter().copied());
        let (had, owed, now) = (!p.asked.is_empty(), p.owes(), p.heard);
        p.give_up_requests();
        self.throttle.give_back(owed);
        if let (true, Some(torrent)) = (had, torrent) {
            self.refill_all(torrent, now);
        }
        Ok(())
    }

    pub(super) fn on_unchoke(&mut self, peer: PeerId, now: Time) -> Checked {
        if let Some((_, p)) = self.swarm(peer)
            && std::mem::replace(&mut p.choking, false)
        {
            p.fast.stop_resting();
            self.refill_soon(peer, now);
        }
        Ok(())
    }

    /// Keeps as many requests open as the peer's rate asks for.
    pub(super) fn refill(&mut self, peer: PeerId, now: Time) {
        #[cfg(test)]
        {
            self.refills_done += 1;
        }
        let Some(p) = self.peers.get_mut(peer) else { return };
        let open = p.asked.len() as u32;
        if self.throttle.limits_requests() {
            return self.stand_in_line(peer, now);
        }
        // Asking in runs keeps a piece's blocks together and the work per block small.
        if open > 0 && open + (p.depth / 4).min(16) > p.depth {
            return;
        }
        let room = p.depth - open.min(p.depth);
        self.ask(peer, room, now);
    }

    /// Sends so many requests, if there is so much to ask for. Gives their bytes.
    pub(super) fn ask(&mut self, peer: PeerId, count: u32, now: Time) -> u64 {
        let Some(p) = self.peers.get_mut(peer) else { return 0 };
        let Some(t) = p.torrent.and_then(|t| self.torrents.get_mut(t)) else { return 0 };
        if !p.may_be_asked(now) || !t.downloading() {
            return 0;
        }
        let narrowed = p.narrowed(t, now);
        let has = narrowed.as_ref().map_or(p.pieces(), Pieces::Some);
        let copies = ENDGAME_OPEN.saturating_sub(p.asked.len());
        let is_idle = p.asked.is_empty();
        let asker = Asker { peer, from: p.addr, has, rate: p.rate(now), copies, is_idle };
        let mut blocks = std::mem::take(&mut self.picked);
        t.picker.pick(&asker, count as usize, now, &mut blocks);
        if blocks.is_empty() {
            self.picked = blocks;
            if is_idle {
                if !std::mem::replace(&mut p.starved, true) {
                    t.starved.push_back(peer);
                }
                self.arm_peer(peer, now + IDLE_RETRY);
            }
            return 0;
        }
        if p.asked.is_empty() {
            p.block_at = now;
        }
        p.owes_since.get_or_insert(now);
        p.said = now;
        let due = p.block_at + SNUB_AFTER;
        let mut bytes = 0;
        for block in blocks.drain(..) {
            bytes += u64::from(block.len);
            p.asked.push_back(block);
            self.actions.push_back(Action::Send { peer, message: Message::Request(block) });
        }
        self.picked = blocks;
        self.arm_peer(peer, due);
        bytes
    }

    /// Blocks became free: whoever has room for requests is asked.
    pub(super) fn refill_all(&mut self, torrent: TorrentId, now: Time) {
        let Some(t) = self.torrents.get_mut(torrent) else { return };
        if !t.downloading() {
            return;
        }
        // A peer that chokes and unchokes for ever must not make us look at all the others each time.
        let rest = t.refilled + REFILL_REST;
        if now < rest {
            return self.arm_torrent(torrent, rest);
        }
        t.refilled = now;
        t.starved.clear();
        for peer in t.peers.clone() {
            if let Some(p) = self.peers.get_mut(peer) {
                p.starved = false;
            }
            self.refill(peer, now);
        }
        self.want_web(torrent);
    }

    /// Peers that had nothing to ask for are looked at again, those that wait longest first.
    fn feed_starved(&mut self, torrent: TorrentId, count: usize, now: Time) {
        let Some(t) = self.torrents.get_mut(torrent) else { return };
        let count = count.min(t.starved.len());
        for peer in t.starved.drain(..count).collect::<Vec<_>>() {
            if let Some(p) = self.peers.get_mut(peer) {
                p.starved = false;
                self.refill(peer, now);
            }
        }
    }

    /// A peer that owes us blocks and sends none: others are asked for them, it is asked for one at a time.
    pub(super) fn check_snubbed(&mut self, peer: PeerId, now: Time) {
        let Some((t, p)) = self.swarm(peer) else { return };
        if p.asked.is_empty() || p.waiting || now < p.block_at + SNUB_AFTER {
            return;
        }
        log::debug!("{peer} {} snubs us", p.addr);
        t.picker.on_lost(peer, p.asked.iter().copied());
        let (owed, torrent) = (p.owes(), p.torrent);
        p.give_up_requests();
        p.snubbed = true;
        p.depth = 1;
        p.block_at = now;
        self.throttle.give_back(owed);
        if let Some(torrent) = torrent {
            self.refill_all(torrent, now);
        }
    }

    pub(super) fn on_piece_header(&mut self, peer: PeerId, block: Block, now: Time) -> Intake {
        let idlest = self.lanes.idlest();
        let Some((t, p)) = self.swarm(peer) else { return Intake::Skip };
        if p.waiting {
            // Time spent in line is not the peer's.
            (p.waiting, p.heard, p.block_at) = (false, now, now);
        }
        // What was given up was given back to the limit; asked for again, it is paid again.
        let given_up = p.late.contains(&block) && !p.asked.contains(&block);
        let unpaid = if given_up { u64::from(block.len) } else { 0 };
        if !t.downloading() || !p.expects(block) || !t.picker.wants(block) {
            let was_asked = p.settle(block);
            p.owes_since = p.owes_since.filter(|_| !was_asked);
            p.heard = now;
            self.throttle.take_download(unpaid);
            if was_asked {
                self.refill(peer, now);
            }
            return Intake::Skip;
        }
        let lane = t.picker.lane(block.piece).unwrap_or(idlest);
        t.picker.set_lane(block.piece, lane);
        if self.lanes.take(peer, lane, block.len) {
            self.throttle.take_download(unpaid);
            if let Some(p) = self.peers.get_mut(peer) {
                p.incoming = Some(Incoming { block, lane });
            }
            Intake::Take
        } else {
            if let Some(p) = self.peers.get_mut(peer) {
                p.waiting = true;
            }
            Intake::Wait
        }
    }

    pub(super) fn on_block(&mut self, peer: PeerId, block: Block, buf: Buf, now: Time) {
        let Some((t, p)) = self.swarm(peer) else { return self.actions.push_back(Action::Release(buf)) };
        let (Some(torrent), Some(Incoming { lane, .. })) = (p.torrent, p.incoming.take()) else {
            return self.actions.push_back(Action::Release(buf));
        };
        let len = u64::from(block.len);
        (p.heard, p.block_at, p.active, p.snubbed) = (now, now, now, false);
        p.owes_since = None;
        p.settle(block);
        p.fast.on_block(block.piece);
        p.down.add(len, now);
        p.downloaded += len;
        p.tune_depth(now);
        t.count_down(block.len, now);
        let save_at = t.save_soon(now);
        // The torrent may have ended, or another peer been faster, while the bytes came in.
        let arrival =
            if t.downloading() { t.picker.on_block(peer, p.addr, block) } else { Arrival::Unwanted };
        self.settle(torrent, block, buf, lane, arrival, now);
        self.refill(peer, now);
        self.arm_torrent(torrent, save_at);
    }

    /// A block that was let in for a worker is stored, or its buffer goes home.
    pub(super) fn settle(
        &mut self,
        torrent: TorrentId,
        block: Block,
        buf: Buf,
        lane: u8,
        arrival: Arrival,
        now: Time,
    ) {
        match arrival {
            Arrival::First { cancel } => {
                let lane = self.settle_lane(torrent, block, lane);
                self.actions.push_back(Action::Job { lane, job: Job::Write { torrent, block, buf } });
                for other in cancel.into_iter().flatten() {
                    self.cancel(other, block, now);
                }
            }
            Arrival::Duplicate | Arrival::Unwanted => {
                self.actions.push_back(Action::Release(buf));
                self.lanes.let_go(lane, block.len);
                self.resume();
            }
        }
    }

    /// The worker of this block's piece. A late block may be of a piece that nobody had begun when it was let in, and
    /// that another block has begun since.
    fn settle_lane(&mut self, torrent: TorrentId, block: Block, lane: u8) -> u8 {
        let Some(t) = self.torrents.get_mut(torrent) else { return lane };
        let due = t.picker.lane(block.piece).unwrap_or(lane);
        t.picker.set_lane(block.piece, due);
        self.lanes.hand_over(lane, due, block.len);
        due
    }

    /// Another peer was faster with this block (end-game).
    pub(super) fn cancel(&mut self, peer: PeerId, block: Block, now: Time) {
        let Some(p) = self.peers.get_mut(peer) else { return };
        if let Some(at) = p.asked.iter().position(|b| *b == block) {
            if p.fast.on {
                // An answer is due all the same; should it be the block, that is paid again.
                p.give_up(at);
                self.throttle.give_back(block.len.into());
            } else {
                p.asked.remove(at);
            }
            self.send(peer, Message::Cancel(block), now);
            self.refill(peer, now);
        }
    }

    /// The requests of one piece are given up; others are asked.
    pub(super) fn give_up_piece(&mut self, peer: PeerId, piece: u32, now: Time) {
        let Some((t, p)) = self.swarm(peer) else { return };
        let mut given_up = 0;
        while let Some(at) = p.asked.iter().position(|block| block.piece == piece) {
            let block = p.asked[at];
            given_up += u64::from(block.len);
            t.picker.release(peer, block);
            p.give_up(at);
        }
        let torrent = p.torrent;
        self.throttle.give_back(given_up);
        if let Some(torrent) = torrent.filter(|_| given_up > 0) {
            self.refill_all(torrent, now);
        }
    }

    /// A block is off the account of the lanes: who waits for the disk may go on.
    pub(super) fn resume(&mut self) {
        let mut resumed = 0;
        while resumed < RESUME_AT_ONCE || self.lanes.idle() {
            let Some(peer) = self.lanes.next_in_line() else { break };
            match slot_of(peer) {
                Some(_) => self.web.resume(peer),
                None => self.actions.push_back(Action::Resume { peer }),
            }
            resumed += 1;
        }
    }

    pub(super) fn on_written(
        &mut self,
        lane: u8,
        torrent: TorrentId,
        block: Block,
        buf: Buf,
        result: Result<(), DiskError>,
        now: Time,
    ) {
        self.actions.push_back(Action::Release(buf));
        self.lanes.written(lane, block.len);
        self.resume();
        let Err(error) = result else { return self.on_stored(torrent) };
        if let Some(t) = self.torrents.get_mut(torrent) {
            t.picker.on_disk_error(block.piece);
        }
        self.on_disk_error(torrent, &error, now);
    }

    /// A piece is whole and hashed.
    pub(super) fn on_verdict(&mut self, torrent: TorrentId, piece: u32, verdict: Verdict, now: Time) {
        let Some(t) = self.torrents.get_mut(torrent) else { return };
        // One that is had already was believed lost, and is not.
        if !t.running() || t.picker.have().get(piece) {
            return;
        }
        match verdict {
            Verdict::Good { differed } => {
                let guilty = t.picker.on_verified(piece, &differed);
                t.news.moved = true;
                self.on_piece_done(torrent, piece, now);
                self.punish(torrent, &guilty, now);
            }
            Verdict::Bad => {
                let guilty = t.picker.on_failed(piece);
                log::warn!("{torrent} piece {piece} does not match its hash and is fetched again");
                self.punish(torrent, guilty.as_slice(), now);
                self.refill_all(torrent, now);
            }
            Verdict::Failed(error) => {
                t.picker.on_disk_error(piece);
                self.on_disk_error(torrent, &error, now);
            }
        }
    }

    /// Who sent bytes that are not the torrent's is not spoken to again.
    pub(super) fn punish(&mut self, torrent: TorrentId, guilty: &[SocketAddr], now: Time) {
        for addr in guilty {
            if let Some(seed) = seed_of(*addr) {
                self.convict_web(torrent, seed);
                continue;
            }
            let Some(t) = self.torrents.get_mut(torrent) else { return };
            // One that lied a lot is found out more than once.
            if t.known.ban(*addr) {
                t.news.error(Reason::Hash, format!("{addr} sent corrupt data and is banned"));
            }
            for peer in t.peers.clone() {
                if self.peers.get(peer).is_some_and(|p| p.addr == *addr) {
                    self.close(peer, Why::Corrupt, now);
                }
            }
        }
    }

    /// One more verified piece.
    fn on_piece_done(&mut self, torrent: TorrentId, piece: u32, now: Time) {
        let Some(t) = self.torrents.get(torrent) else { return };
        let complete = t.picker.is_complete();
        self.announce_piece(torrent, piece, complete, now);
        // It makes room for another one to be begun.
        self.feed_starved(torrent, STARVED_AT_ONCE, now);
        if complete {
            self.on_complete(torrent, now);
        }
    }
}
