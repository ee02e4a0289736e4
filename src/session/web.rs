//! What is fetched from web seeds (BEP 19): which torrent has which thread, orders for whole runs of pieces, buffers lent
//! for the blocks to come, and what becomes of these. To the picker such a thread is a fast peer that has everything.

use super::Session;
use super::picker::{Arrival, Asker, SERVERS};
use super::torrent::Torrent;
use super::web_seed::{Place, Planned, Verdict, WebSeed, sender};
use super::whole_files::WholeFiles;
use crate::api::{Action, Call, PeerId, Reason, TorrentId, WebFailure, WebGet, WebOrder, WebPart, WebSaid};
use crate::base::arena::Handle;
use crate::base::buf::{BLOCK, Buf};
use crate::base::time::Time;
use crate::limits::{
    CONNECTIONS_MAX, TORRENT_TICK, WEB_AHEAD, WEB_BLOCKS_MAX, WEB_BLOCKS_MIN, WEB_BLOCKS_START, WEB_BUFS,
    WEB_BUFS_MIN, WEB_FETCHES, WEB_FETCHES_EACH, WEB_GETS, WEB_SKIP_FREE, WEB_SKIP_IDLE,
};
use crate::proto::layout::Block;
use crate::proto::tracker::url::Host;
use std::collections::VecDeque;
use std::net::SocketAddr;

// No connection has such a slot, and the last one is the reactor's.
const _: () = assert!(CONNECTIONS_MAX < SERVERS as usize && WEB_FETCHES < (u16::MAX - SERVERS) as usize);

/// The thread that an id of the picker stands for.
pub(super) fn slot_of(peer: PeerId) -> Option<usize> {
    let slot = usize::from(peer.slot().checked_sub(SERVERS)?);
    (slot < WEB_FETCHES).then_some(slot)
}

/// What a thread has in hand.
struct Fetch {
    torrent: TorrentId,
    seed: usize,
    /// Its name for the picker, the lanes and the rate limit; another one each time.
    id: PeerId,
    /// Orders that are not filled.
    gets: usize,
    /// Blocks that are ordered and have no buffer yet, and those that have one, with the worker they are let in for.
    due: VecDeque<Block>,
    lent: VecDeque<(Block, u8)>,
    /// Something came.
    came: bool,
    /// It was told to drop everything, and has not said that it did.
    stopping: bool,
    /// It stands in the line of the lanes, and in that of the rate limit.
    waiting: bool,
    in_line: bool,
}

/// All threads of web seeds, as the session sees them.
#[derive(Default)]
pub(super) struct Web {
    fetches: [Option<Box<Fetch>>; WEB_FETCHES],
    /// Whose thread it was last: its connection may be there still.
    last: [Option<(TorrentId, usize)>; WEB_FETCHES],
    generations: [u16; WEB_FETCHES],
    /// Torrents that would fetch, in turn.
    line: VecDeque<TorrentId>,
    /// Threads that the lanes have room for again.
    resumed: Vec<PeerId>,
}

impl Web {
    fn get(&mut self, slot: usize) -> Option<&mut Fetch> {
        self.fetches.get_mut(slot)?.as_deref_mut()
    }

    /// The thread of this id, if that is still its name.
    fn named(&mut self, id: PeerId) -> Option<(usize, &mut Fetch)> {
        let slot = slot_of(id)?;
        let fetch = self.get(slot).filter(|fetch| fetch.id == id)?;
        Some((slot, fetch))
    }

    fn free(&self) -> bool {
        self.fetches.iter().any(Option::is_none)
    }

    /// A free thread: the one that had this seed last, else one whose connection is of no use to anybody.
    fn pick(&self, whose: (TorrentId, usize)) -> Option<usize> {
        let free = (0..WEB_FETCHES).filter(|slot| self.fetches[*slot].is_none());
        free.min_by_key(|slot| match self.last[*slot] {
            Some(last) if last == whose => 0,
            None => 2,
            Some(_) => 1,
        })
    }

    /// The lanes have room for a block of this thread.
    pub(super) fn resume(&mut self, id: PeerId) {
        if let Some((_, fetch)) = self.named(id) {
            fetch.waiting = false;
            self.resumed.push(id);
        }
    }
}

impl Fetch {
    /// How many buffers it has at a time: a fiftieth of a second's worth.
    fn window(&self, rate: u64) -> usize {
        usize::try_from(rate / 50 / u64::from(BLOCK)).unwrap_or(WEB_BUFS).clamp(WEB_BUFS_MIN, WEB_BUFS)
    }
}

impl Session {
    /// There may be something to fetch for this torrent.
    pub(super) fn want_web(&mut self, id: TorrentId) {
        let Some(t) = self.torrents.get_mut(id).filter(|t| t.downloading() && !t.web.queued) else { return };
        if !t.web.is_empty() {
            t.web.queued = true;
            self.web.line.push_back(id);
        }
    }

    /// Gives free threads to those in line.
    pub(super) fn pump_web(&mut self, now: Time) {
        for id in std::mem::take(&mut self.web.resumed) {
            if let Some((slot, _)) = self.web.named(id) {
                self.top_up(slot, now);
            }
        }
        while self.web.free()
            && let Some(id) = self.web.line.pop_front()
        {
            let Some(t) = self.torrents.get_mut(id) else { continue };
            t.web.queued = false;
            if self.begin_fetch(id, now) {
                self.want_web(id);
            }
        }
    }

    /// Has one more thread fetch for a torrent, if there is something and somebody to fetch it from.
    fn begin_fetch(&mut self, id: TorrentId, now: Time) -> bool {
        let mut tried = Vec::new();
        loop {
            let Some(t) = self.torrents.get(id).filter(|t| t.downloading()) else { return false };
            if t.web.active() >= WEB_FETCHES_EACH {
                return false;
            }
            let Some(seed) = t.web.next(now, &tried) else { return false };
            let Some(slot) = self.web.pick((id, seed)) else { return false };
            tried.push(seed);
            self.take_slot(id, seed, slot);
            while self.order(slot, now) {}
            if self.web.get(slot).is_some_and(|fetch| fetch.gets > 0) {
                return true;
            }
            self.let_go_slot(slot);
        }
    }

    fn take_slot(&mut self, torrent: TorrentId, seed: usize, slot: usize) {
        self.web.generations[slot] = self.web.generations[slot].wrapping_add(1);
        let bits = u32::from(self.web.generations[slot]) << 16 | (u32::from(SERVERS) + slot as u32);
        self.web.last[slot] = Some((torrent, seed));
        self.web.fetches[slot] = Some(Box::new(Fetch {
            torrent,
            seed,
            id: PeerId::from_bits(bits),
            gets: 0,
            due: VecDeque::new(),
            lent: VecDeque::new(),
            came: false,
            stopping: false,
            waiting: false,
            in_line: false,
        }));
        if let Some(seed) = self.torrents.get_mut(torrent).and_then(|t| t.web.get_mut(seed)) {
            seed.slot = Some(slot as u8);
        }
    }

    /// A thread has nothing of anybody: the next one may have it.
    fn let_go_slot(&mut self, slot: usize) {
        let Some(fetch) = self.web.fetches[slot].take() else { return };
        debug_assert!(fetch.lent.is_empty() && fetch.due.is_empty(), "a thread is let go with work in hand");
        if let Some(t) = self.torrents.get_mut(fetch.torrent) {
            t.picker.on_lost(fetch.id, []);
            t.news.moved = true;
            if let Some(seed) = t.web.get_mut(fetch.seed) {
                seed.slot = None;
                seed.whole.iter_mut().for_each(WholeFiles::on_idle);
            }
        }
    }

    /// Orders a run of blocks from a thread's web seed. False: it has enough to do, or there is nothing for it.
    fn order(&mut self, slot: usize, now: Time) -> bool {
        let second = self.throttle.download_rate();
        let crowded = !self.web.line.is_empty() && !self.web.free();
        let Some(fetch) = self.web.get(slot) else { return false };
        // Others wait for a thread: this one is theirs when it is through.
        let most = if crowded { 1 } else { WEB_GETS };
        if fetch.stopping || fetch.gets >= most {
            return false;
        }
        let (id, torrent, at, gets) = (fetch.id, fetch.torrent, fetch.seed, fetch.gets);
        let Some(t) = self.torrents.get_mut(torrent).filter(|t| t.downloading()) else { return false };
        let Some(seed) = t.web.get(at) else { return false };
        let rate = seed.rate(now);
        // Towards the end orders become short where there are others: what waits in one is asked of them too.
        let share = if t.peers.is_empty() && t.web.active() <= 1 { 1 } else { 16 };
        let left = usize::try_from(t.picker.left() / u64::from(BLOCK) / share).unwrap_or(usize::MAX);
        let endgame = t.picker.is_endgame();
        let count = blocks_due(rate, second, endgame).min(left.max(WEB_BLOCKS_MIN));
        // One that is not known yet counts as fast: it gets pieces of its own.
        let rate = if rate == 0 { u64::from(t.spec.meta.layout.piece_length()) } else { rate };
        let asker = Asker {
            peer: id,
            from: sender(at),
            has: seed.pieces(),
            rate,
            copies: usize::MAX,
            is_idle: false,
        };
        let mut blocks = Vec::new();
        match &seed.whole {
            None => t.picker.pick(&asker, count, now, &mut blocks),
            Some(whole) => t.picker.pick_in_order(&asker, whole.pos(), count, now, &mut blocks),
        }
        if blocks.is_empty() {
            if gets == 0
                && let Some(Verdict::Warn(words)) = t.web.get_mut(at).map(|seed| seed.end_pass(now))
            {
                t.news.warning(words);
            }
            return false;
        }
        match seed.plan(&t.spec.meta, &blocks) {
            Planned::Parts(parts) if !t.is_worth_skipping(seed, &parts, now) => {
                blocks.into_iter().for_each(|block| t.picker.release(id, block));
                false
            }
            Planned::Parts(parts) => {
                let end =
                    blocks.last().map_or(0, |last| t.spec.meta.layout.offset(*last) + u64::from(last.len));
                let whole = t.web.get_mut(at).and_then(|seed| seed.whole.as_mut());
                // Beside what is skipped others fetch, and both have one limit.
                let skip_rate = whole.map(|whole| {
                    whole.on_ordered(&parts, end);
                    if second == 0 { 0 } else { (second / 2).max(1) }
                });
                self.get(slot, WebGet { blocks, parts, skip_rate }, now);
                true
            }
            Planned::Look(place) => {
                blocks.into_iter().for_each(|block| t.picker.release(id, block));
                self.look_up_web(torrent, at, place, now);
                false
            }
            Planned::Missing(file, why) => {
                blocks.into_iter().for_each(|block| t.picker.release(id, block));
                let picker = &t.picker;
                let verdict = t.web.get_mut(at).map(|seed| {
                    seed.on_missing(file, &why, &t.spec.meta, |piece| picker.is_missing(piece), now)
                });
                if let Some(Verdict::Warn(words)) = verdict {
                    t.news.warning(words);
                }
                t.web.limit_memory(at).into_iter().for_each(|words| t.news.warning(words));
                self.want_web(torrent);
                false
            }
        }
    }

    fn get(&mut self, slot: usize, get: WebGet, now: Time) {
        let Some(fetch) = self.web.get(slot) else { return };
        fetch.gets += 1;
        fetch.due.extend(&get.blocks);
        log::trace!("{} gets {} blocks in {} ranges", fetch.id, get.blocks.len(), get.parts.len());
        let order = WebOrder::Get(Box::new(get));
        self.actions.push_back(Action::Web { slot: slot as u8, order });
        self.top_up(slot, now);
    }

    /// Has the name of a web seed's host looked up.
    fn look_up_web(&mut self, torrent: TorrentId, seed: usize, place: Place, now: Time) {
        let (Host::Name(host), port) = place.clone() else { return };
        if let Some(seed) = self.torrents.get_mut(torrent).and_then(|t| t.web.get_mut(seed)) {
            seed.look(place);
            self.call(Call::Resolve { torrent, host, port }, now);
        }
    }

    /// Lends a thread buffers when it is about to have none, as the disk and the rate limit allow.
    fn top_up(&mut self, slot: usize, now: Time) {
        let limited = self.throttle.limits_requests();
        let room = self.web_room(slot, now);
        let Some(fetch) = self.web.get(slot) else { return };
        // In one go rather than one by one: each wakes the thread.
        if room == 0 || (room as usize) < fetch.lent.len() && (room as usize) < fetch.due.len() {
            return;
        }
        if !limited {
            self.lend(slot, room);
        } else if !std::mem::replace(&mut fetch.in_line, true) {
            let id = fetch.id;
            self.throttle.stand_in_line(id);
            self.pump_requests(now);
        }
    }

    /// How many buffers a thread could do with.
    fn web_room(&mut self, slot: usize, now: Time) -> u32 {
        let Some(fetch) = self.web.fetches.get(slot).and_then(Option::as_deref) else { return 0 };
        if fetch.stopping || fetch.waiting {
            return 0;
        }
        let t = self.torrents.get(fetch.torrent);
        let rate = t.and_then(|t| t.web.get(fetch.seed)).map_or(0, |seed| seed.rate(now));
        fetch.window(rate).saturating_sub(fetch.lent.len()).min(fetch.due.len()) as u32
    }

    /// A thread has its turn under the rate limit, for so many blocks: gives their bytes, and whether it would have more.
    pub(super) fn on_web_turn(&mut self, id: PeerId, most: u32, now: Time) -> (u64, bool) {
        let Some((slot, fetch)) = self.web.named(id) else { return (0, false) };
        fetch.in_line = false;
        let room = self.web_room(slot, now);
        let bytes = self.lend(slot, room.min(most));
        let more = bytes > 0 && self.web_room(slot, now) > 0;
        if let Some((_, fetch)) = self.web.named(id) {
            fetch.in_line = more;
        }
        (bytes, more)
    }

    /// Lends a thread so many buffers, if the disk has room for their blocks. Gives the bytes of these.
    fn lend(&mut self, slot: usize, count: u32) -> u64 {
        let (mut bytes, mut lent) = (0, 0);
        while lent < count {
            let idlest = self.lanes.idlest();
            let Some(fetch) = self.web.get(slot) else { break };
            let Some(block) = fetch.due.front().copied() else { break };
            let Some(t) = self.torrents.get_mut(fetch.torrent) else { break };
            let lane = t.picker.lane(block.piece).unwrap_or(idlest);
            if !self.lanes.take(fetch.id, lane, block.len) {
                fetch.waiting = true;
                break;
            }
            t.picker.set_lane(block.piece, lane);
            fetch.due.pop_front();
            fetch.lent.push_back((block, lane));
            bytes += u64::from(block.len);
            lent += 1;
        }
        if lent > 0 {
            self.actions.push_back(Action::Lend { slot: slot as u8, count: lent });
        }
        bytes
    }

    pub(super) fn on_web(&mut self, slot: u8, said: WebSaid, now: Time) {
        let slot = usize::from(slot);
        match said {
            WebSaid::Block(block, buf) => self.on_web_block(slot, block, buf, now),
            WebSaid::Done => self.on_web_done(slot, now),
            WebSaid::Failed(failure) => self.on_web_failure(slot, failure, now),
            WebSaid::Back(buf) => {
                self.actions.push_back(Action::Release(buf));
                let Some(fetch) = self.web.get(slot) else { return };
                let (id, torrent) = (fetch.id, fetch.torrent);
                if let Some((block, lane)) = fetch.lent.pop_front() {
                    // Others may be asked for it, if they are not already.
                    if let Some(t) = self.torrents.get_mut(torrent) {
                        t.picker.release(id, block);
                    }
                    self.lanes.let_go(lane, block.len);
                    self.throttle.give_back(block.len.into());
                    self.resume();
                }
            }
            WebSaid::Stopped => {
                let torrent = self.web.get(slot).map(|fetch| fetch.torrent);
                self.let_go_slot(slot);
                torrent.into_iter().for_each(|torrent| self.want_web(torrent));
            }
        }
    }

    fn on_web_block(&mut self, slot: usize, block: Block, buf: Buf, now: Time) {
        let Some(fetch) = self.web.get(slot) else { return self.actions.push_back(Action::Release(buf)) };
        let lent = fetch.lent.pop_front();
        debug_assert_eq!(
            lent.map(|(lent, _)| lent),
            Some(block),
            "blocks come in the order of their buffers"
        );
        let Some((_, lane)) = lent else { return self.actions.push_back(Action::Release(buf)) };
        let (id, torrent, at, stopping) = (fetch.id, fetch.torrent, fetch.seed, fetch.stopping);
        fetch.came = true;
        let t = self.torrents.get_mut(torrent).filter(|t| t.downloading());
        let (arrival, save_at) = match t {
            Some(t) => {
                t.count_down(block.len, now);
                if let Some(seed) = t.web.get_mut(at) {
                    seed.down.add(block.len.into(), now);
                    seed.downloaded += u64::from(block.len);
                    seed.whole.iter_mut().for_each(|whole| whole.on_block(block.len));
                }
                // What was given up may have been asked of others, and is as good as theirs.
                (t.picker.on_block(id, sender(at), block), t.save_soon(now))
            }
            None => (Arrival::Unwanted, Time::NEVER),
        };
        self.settle(torrent, block, buf, lane, arrival, now);
        self.arm_torrent(torrent, save_at);
        if !stopping {
            self.top_up(slot, now);
        }
    }

    fn on_web_done(&mut self, slot: usize, now: Time) {
        let Some(fetch) = self.web.get(slot) else { return };
        fetch.gets = fetch.gets.saturating_sub(1);
        let (torrent, at, stopping) = (fetch.torrent, fetch.seed, fetch.stopping);
        if let Some(seed) = self.torrents.get_mut(torrent).and_then(|t| t.web.get_mut(at)) {
            seed.on_done();
        }
        self.on_server_answer(now);
        if stopping {
            return;
        }
        while self.order(slot, now) {}
        if self.web.get(slot).is_some_and(|fetch| fetch.gets == 0) {
            self.let_go_slot(slot);
            self.want_web(torrent);
        }
    }

    fn on_web_failure(&mut self, slot: usize, failure: WebFailure, now: Time) {
        let Some(fetch) = self.web.get(slot).filter(|fetch| !fetch.stopping) else { return };
        let (torrent, at, came) = (fetch.torrent, fetch.seed, fetch.came);
        self.abort(slot);
        if matches!(failure, WebFailure::Network(_)) {
            if came {
                self.outage.on_lost(now);
            }
            self.outage.on_unreached();
        }
        let Some(t) = self.torrents.get_mut(torrent) else { return };
        let picker = &t.picker;
        let Some(seed) = t.web.get_mut(at) else { return };
        let missing = |piece| picker.is_missing(piece);
        if let Verdict::Warn(words) = seed.on_failure(failure, came, &t.spec.meta, missing, now) {
            t.news.warning(words);
        }
        t.web.limit_memory(at).into_iter().for_each(|words| t.news.warning(words));
        t.news.moved = true;
        self.refill_all(torrent, now);
        self.arm_torrent(torrent, now + TORRENT_TICK);
    }

    /// Gives up what a thread has in hand: others may be asked for it at once. The thread is free when it says so.
    fn abort(&mut self, slot: usize) {
        let Some(fetch) = self.web.get(slot).filter(|fetch| !fetch.stopping) else { return };
        fetch.stopping = true;
        let (id, torrent) = (fetch.id, fetch.torrent);
        let lent: Vec<Block> = fetch.lent.iter().map(|(block, _)| *block).collect();
        let due = std::mem::take(&mut fetch.due);
        if let Some(t) = self.torrents.get_mut(torrent) {
            t.picker.on_lost(id, lent.into_iter().chain(due));
        }
        self.lanes.leave_line(id);
        self.actions.push_back(Action::Web { slot: slot as u8, order: WebOrder::Stop });
    }

    /// Nothing more is fetched for this torrent, for now.
    pub(super) fn stop_web(&mut self, torrent: TorrentId) {
        for slot in 0..WEB_FETCHES {
            if self.web.get(slot).is_some_and(|fetch| fetch.torrent == torrent) {
                self.abort(slot);
            }
        }
    }

    /// Our network is back: blocks that wait on a connection without data are requested again over a new one.
    pub(super) fn restart_stalled_web(&mut self, torrent: TorrentId, now: Time) {
        for slot in 0..WEB_FETCHES {
            let Some(fetch) = self.web.get(slot).filter(|fetch| fetch.torrent == torrent) else { continue };
            let at = fetch.seed;
            let seed = self.torrents.get(torrent).and_then(|t| t.web.get(at));
            if seed.is_some_and(|seed| seed.rate(now) == 0) {
                self.abort(slot);
            }
        }
    }

    /// A web seed of this torrent sent bytes that are not its.
    pub(super) fn convict_web(&mut self, torrent: TorrentId, seed: usize) {
        let Some(t) = self.torrents.get_mut(torrent) else { return };
        let Some(words) = t.web.convict(seed) else { return };
        t.news.error(Reason::Hash, words);
        let slot = t.web.get(seed).and_then(|seed| seed.slot);
        slot.into_iter().for_each(|slot| self.abort(usize::from(slot)));
    }

    /// A name that a web seed waits for was looked up. False: none does.
    pub(super) fn on_web_resolved(
        &mut self,
        torrent: TorrentId,
        host: &str,
        port: u16,
        result: &Result<Vec<SocketAddr>, String>,
        now: Time,
    ) -> bool {
        let Some(t) = self.torrents.get_mut(torrent) else { return false };
        let (any, words) = t.web.on_resolved(&(Host::Name(host.to_owned()), port), result, now);
        words.into_iter().for_each(|words| t.news.warning(words));
        if any {
            self.want_web(torrent);
            self.arm_torrent(torrent, now + TORRENT_TICK);
        }
        any
    }
}

/// How many blocks to order at once, of a web seed that brings `rate` bytes a second, under a limit of `second` bytes a
/// second (0: none).
fn blocks_due(rate: u64, second: u64, endgame: bool) -> usize {
    if endgame {
        // Others have been asked for all of them.
        return WEB_BLOCKS_MIN;
    }
    let rate = if second == 0 { rate } else { rate.min(second) };
    let bytes = rate.saturating_mul(WEB_AHEAD.as_millis() as u64) / 1000;
    let blocks = usize::try_from(bytes / u64::from(BLOCK)).unwrap_or(WEB_BLOCKS_MAX);
    if rate == 0 { WEB_BLOCKS_START } else { blocks.clamp(WEB_BLOCKS_MIN, WEB_BLOCKS_MAX) }
}

impl Torrent {
    /// Whether these ranges are worth what is skipped for them, if the web seed serves whole files only: that is little, or no
    /// more than what is missing of the file, or nobody else serves us.
    fn is_worth_skipping(&self, seed: &WebSeed, parts: &[WebPart], now: Time) -> bool {
        let cost = seed.whole.as_ref().map_or(0, |whole| whole.cost(parts));
        let first = parts.iter().find_map(|part| match part {
            WebPart::Range { file, from, .. } => Some((*file, *from)),
            WebPart::Zeros(_) => None,
        });
        let Some((file, from)) = first.filter(|_| cost > WEB_SKIP_FREE) else { return true };
        let layout = &self.spec.meta.layout;
        let piece = (layout.file_offset(file) + from) / u64::from(layout.piece_length());
        let piece = u32::try_from(piece).unwrap_or(u32::MAX);
        cost <= self.picker.missing_bytes(piece, layout.file_pieces(file).end)
            || self.down.per_second(3, now) < WEB_SKIP_IDLE
    }

    /// When its web seeds are to be looked after.
    pub(super) fn web_due(&self, now: Time) -> Time {
        if self.downloading() { self.web.due(now + TORRENT_TICK) } else { Time::NEVER }
    }
}
