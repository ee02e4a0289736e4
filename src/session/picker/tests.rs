//! The picker against a plain model of a swarm, and what it should prefer.

use super::bands::Place;
use super::*;
use crate::base::arena::Handle;
use crate::base::buf::BLOCK;
use crate::base::time::Time;
use crate::limits::STALE_AFTER;
use std::collections::BTreeMap;
use std::time::Duration;

fn id(n: u32) -> PeerId {
    PeerId::from_bits(n)
}

fn from(n: u32) -> Sender {
    Sender::from(([10, 0, (n >> 8) as u8, n as u8], 0))
}

fn layout(pieces: u32, blocks: u32) -> Layout {
    Layout::new(blocks * BLOCK, [u64::from(pieces) * u64::from(blocks * BLOCK)]).unwrap()
}

fn picker(layout: &Layout, sequential: bool, seed: u8) -> Picker {
    Picker::new(layout, &Bitfield::full(layout.pieces()), sequential, &mut Rng::new([seed; 32]))
}

fn pick(picker: &mut Picker, peer: u32, rate: u64, count: usize) -> Vec<Block> {
    pick_of(picker, peer, Pieces::All, rate, count)
}

fn sorted(mut blocks: Vec<Block>) -> Vec<Block> {
    blocks.sort_unstable();
    blocks
}

fn pick_of(picker: &mut Picker, peer: u32, has: Pieces<'_>, rate: u64, count: usize) -> Vec<Block> {
    let mut out = Vec::new();
    picker.pick(
        &Asker { peer: id(peer), from: from(peer), has, rate, copies: 99, is_idle: false },
        count,
        Time(9_000_000),
        &mut out,
    );
    out
}

fn deliver(picker: &mut Picker, peer: u32, blocks: &[Block]) {
    for block in blocks {
        assert!(matches!(picker.on_block(id(peer), from(peer), *block), Arrival::First { .. }));
    }
}

/// Verifies the first pieces, so that picks by chance are over.
fn settle(picker: &mut Picker) {
    (0..4).for_each(|piece| picker.set_have(piece));
}

const FAST: u64 = 100 << 20;

struct Peer {
    has: Bitfield,
    seed: bool,
    corrupt: bool,
    rate: u64,
    requests: Vec<Block>,
}

impl Peer {
    fn pieces(&self) -> Pieces<'_> {
        if self.seed { Pieces::All } else { Pieces::Some(&self.has) }
    }
}

/// A block that is here: its sender, and whether its bytes are right.
type Copy = (u32, bool);

/// What a session would know, kept in the plainest way.
struct Model {
    rng: Rng,
    layout: Layout,
    picker: Picker,
    sequential: bool,
    peers: BTreeMap<u32, Peer>,
    next: u32,
    verified: Bitfield,
    wanted: Bitfield,
    here: BTreeMap<Block, Copy>,
    /// The copies of the last failed try.
    failed: BTreeMap<Block, Copy>,
    now: Time,
}

impl Model {
    fn new(seed: u32) -> Model {
        let mut entropy = [1; 32];
        entropy[..4].copy_from_slice(&seed.to_be_bytes());
        let mut rng = Rng::new(entropy);
        let length = BLOCK / 2 * (1 + rng.below(9));
        let total = 1 + u64::from(length) * u64::from(rng.below(30)) + u64::from(rng.below(length));
        let layout = Layout::new(length, [total]).unwrap();
        let mut wanted = Bitfield::full(layout.pieces());
        for _ in 0..rng.below(layout.pieces()) / 3 {
            wanted.clear(rng.below(layout.pieces()));
        }
        let sequential = rng.below(4) == 0;
        let picker = Picker::new(&layout, &wanted, sequential, &mut rng);
        let verified = Bitfield::new(layout.pieces());
        let (here, failed, peers) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Model {
            rng,
            layout,
            picker,
            sequential,
            peers,
            next: 0,
            verified,
            wanted,
            here,
            failed,
            now: Time::ZERO,
        }
    }

    fn blocks(&self, piece: u32) -> Vec<Block> {
        (0..self.layout.blocks(piece)).map(|at| self.layout.block(piece, at)).collect()
    }

    fn missing(&self) -> impl Iterator<Item = u32> + '_ {
        self.wanted.iter().filter(|piece| !self.verified.get(*piece))
    }

    fn askers(&self, block: Block) -> usize {
        self.peers.values().filter(|peer| peer.requests.contains(&block)).count()
    }

    fn free(&self) -> Vec<Block> {
        let blocks = self.missing().flat_map(|piece| self.blocks(piece));
        blocks.filter(|block| !self.here.contains_key(block) && self.askers(*block) == 0).collect()
    }

    fn any_peer(&mut self) -> Option<u32> {
        let at = self.rng.index(self.peers.len());
        self.peers.keys().nth(at).copied()
    }

    fn join(&mut self, seed: bool, corrupt: bool) {
        let mut has = Bitfield::new(self.layout.pieces());
        for _ in 0..self.rng.below(2 * self.layout.pieces()) {
            has.set(self.rng.below(self.layout.pieces()));
        }
        if seed {
            self.picker.peer_has_all(true);
        } else {
            self.picker.on_bitfield(&has, true);
        }
        let rate = [0, 1 << 10, 1 << 20, FAST][self.rng.index(4)];
        self.peers.insert(self.next, Peer { has, seed, corrupt, rate, requests: Vec::new() });
        self.next += 1;
    }

    fn leave(&mut self, n: u32) {
        let peer = self.peers.remove(&n).unwrap();
        self.picker.on_lost(id(n), peer.requests);
        if peer.seed {
            self.picker.peer_has_all(false);
        } else {
            self.picker.on_bitfield(&peer.has, false);
        }
    }

    fn pick(&mut self, n: u32) {
        let count = 1 + self.rng.index(12);
        let mut out = Vec::new();
        let peer = &self.peers[&n];
        let asker = Asker {
            peer: id(n),
            from: from(n),
            has: peer.pieces(),
            rate: peer.rate,
            copies: 99,
            is_idle: false,
        };
        self.picker.pick(&asker, count, self.now, &mut out);
        assert!(out.len() <= count);
        for block in &out {
            let peer = &self.peers[&n];
            assert!(peer.pieces().get(block.piece), "it lacks {block:?}");
            assert!(
                self.wanted.get(block.piece) && !self.verified.get(block.piece),
                "{block:?} is not wanted"
            );
            assert!(!self.here.contains_key(block), "{block:?} is here");
            assert!(!peer.requests.contains(block), "{block:?} twice to a peer");
            let askers = self.askers(*block);
            assert!(askers < ASKERS_MAX);
            assert!(
                askers == 0 || self.sequential || self.picker.is_endgame(),
                "{block:?} twice before the end-game"
            );
            self.peers.get_mut(&n).unwrap().requests.push(*block);
        }
        if out.len() < count {
            let peer = &self.peers[&n];
            let left = self.free().into_iter().find(|block| peer.pieces().get(block.piece));
            assert_eq!(left, None, "it said that there is nothing more");
        }
    }

    fn block(&mut self, n: u32, block: Block) {
        let wanted = self.wanted.get(block.piece) && !self.verified.get(block.piece);
        let first = wanted && !self.here.contains_key(&block);
        assert_eq!(self.picker.wants(block), first);
        let peer = self.peers.get_mut(&n).unwrap();
        peer.requests.retain(|request| *request != block);
        let good = !peer.corrupt || self.rng.below(2) == 0;
        match self.picker.on_block(id(n), from(n), block) {
            Arrival::First { cancel } => {
                assert!(first);
                self.here.insert(block, (n, good));
                let mut told: Vec<PeerId> = cancel.into_iter().flatten().collect();
                told.sort_unstable();
                let others = self.peers.iter_mut().filter(|(_, peer)| peer.requests.contains(&block));
                let due: Vec<PeerId> = others
                    .map(|(n, peer)| {
                        peer.requests.retain(|request| *request != block);
                        id(*n)
                    })
                    .collect();
                assert_eq!(told, due);
                self.finish(block.piece);
            }
            Arrival::Duplicate => assert!(self.here.contains_key(&block) || self.verified.get(block.piece)),
            Arrival::Unwanted => assert!(!self.wanted.get(block.piece)),
        }
    }

    /// Hands out the verdict once all blocks of a piece are here.
    fn finish(&mut self, piece: u32) {
        let blocks = self.blocks(piece);
        let copies: Vec<Copy> = blocks.iter().filter_map(|block| self.here.get(block)).copied().collect();
        if copies.len() < blocks.len() {
            return;
        }
        let olds: Vec<Option<Copy>> = blocks.iter().map(|block| self.failed.remove(block)).collect();
        if copies.iter().all(|(_, good)| *good) {
            let bad = |at: &u32| olds[*at as usize].is_some_and(|(_, good)| !good);
            let differed: Vec<u32> = (0..blocks.len() as u32).filter(bad).collect();
            let mut due: Vec<Sender> =
                differed.iter().map(|at| from(olds[*at as usize].unwrap().0)).collect();
            due.sort_unstable();
            due.dedup();
            assert_eq!(self.picker.on_verified(piece, &differed), due);
            self.verified.set(piece);
        } else {
            let alone = copies.iter().all(|(sender, _)| *sender == copies[0].0);
            assert_eq!(self.picker.on_failed(piece), alone.then(|| from(copies[0].0)));
            for (block, copy) in blocks.iter().zip(copies) {
                self.here.remove(block);
                self.failed.insert(*block, copy);
            }
        }
    }

    fn step(&mut self) {
        self.now += Duration::from_millis(300);
        let roll = self.rng.below(40);
        if roll < 2 && self.peers.len() < 8 {
            let (seed, corrupt) = (self.rng.below(4) == 0, self.rng.below(5) == 0);
            return self.join(seed, corrupt);
        }
        let Some(n) = self.any_peer() else { return };
        let piece = self.rng.below(self.layout.pieces());
        let peer = self.peers.get_mut(&n).unwrap();
        let request = (!peer.requests.is_empty()).then(|| peer.requests[self.rng.index(peer.requests.len())]);
        match roll {
            2 => self.leave(n),
            3..6 if !peer.seed && peer.has.set(piece) => {
                let wanted = self.wanted.get(piece) && !self.verified.get(piece);
                assert_eq!(self.picker.on_have(piece), wanted);
            }
            6..8 => peer.rate = [0, 1 << 10, 1 << 20, FAST][self.rng.index(4)],
            8 => self.picker.on_lost(id(n), std::mem::take(&mut peer.requests)),
            9 => {
                if let Some(request) = request {
                    peer.requests.retain(|other| *other != request);
                    self.picker.release(id(n), request);
                }
            }
            10 => {
                let at = self.rng.below(self.layout.blocks(piece));
                self.block(n, self.layout.block(piece, at));
            }
            11 if self.rng.below(8) == 0 => {
                self.picker.on_disk_error(piece);
                for block in self.blocks(piece) {
                    self.here.remove(&block);
                    if matches!(self.picker.bands.place(piece), Place::Partial(_)) {
                        self.failed.remove(&block);
                    }
                }
                self.failed.retain(|block, _| self.picker.blame.has(block.piece));
            }
            12..22 => self.pick(n),
            _ => {
                if let Some(request) = request {
                    self.block(n, request);
                }
            }
        }
    }

    fn check(&self) {
        let count = |piece| self.peers.values().filter(|peer| !peer.seed && peer.has.get(piece)).count();
        self.picker.bands.check(count);
        self.picker.partials.check();
        let seeds = self.peers.values().filter(|peer| peer.seed).count();
        let missing: Vec<u32> = self.missing().collect();
        for &piece in &missing {
            assert_eq!(self.picker.availability(piece) as usize, count(piece) + seeds);
        }
        let bytes: u64 = missing.iter().map(|piece| u64::from(self.layout.piece_len(*piece))).sum();
        assert_eq!((self.picker.left(), self.picker.missing_count()), (bytes, missing.len() as u32));
        assert_eq!(self.picker.have(), &self.verified);
        let there: u64 = self.verified.iter().map(|piece| u64::from(self.layout.piece_len(piece))).sum();
        assert_eq!(self.picker.left_of_all(), self.layout.total() - there);
        assert_eq!(self.picker.is_complete(), missing.is_empty());
        assert_eq!(self.picker.is_endgame(), self.free().is_empty());
        for peer in self.peers.values() {
            let lures: Vec<u32> = missing.iter().copied().filter(|n| peer.pieces().get(*n)).collect();
            for from in [0, self.layout.pieces() / 2, self.layout.pieces() - 1] {
                let due = lures.iter().find(|piece| **piece >= from).or(lures.first()).copied();
                assert_eq!(self.picker.lure(peer.pieces(), from), due);
            }
        }
    }
}

#[test]
fn a_swarm_of_random_events_agrees_with_the_model_and_ends() {
    for seed in 0..300 {
        let mut model = Model::new(seed);
        for _ in 0..600 {
            model.step();
            model.check();
        }
        for n in model.peers.keys().copied().collect::<Vec<_>>() {
            model.leave(n);
        }
        model.join(true, false);
        let (n, mut rounds) = (model.next - 1, 0);
        while !model.picker.is_complete() {
            model.pick(n);
            for block in model.peers[&n].requests.clone() {
                model.block(n, block);
            }
            rounds += 1;
            assert!(rounds < 1000, "seed {seed} does not end");
        }
        model.check();
        assert_eq!(model.picker.partials.len(), 0);
    }
}

#[test]
fn the_rarest_pieces_come_first_and_ties_by_chance() {
    let layout = layout(40, 1);
    let mut firsts = [0u32; 40];
    for seed in 0..250 {
        let mut picker = picker(&layout, false, seed);
        settle(&mut picker);
        // Pieces 4 to 13 have one peer, 14 to 23 two, the others three.
        for least in [4, 14, 24] {
            let mut has = Bitfield::new(40);
            (least..40).for_each(|piece| _ = has.set(piece));
            picker.on_bitfield(&has, true);
        }
        let order: Vec<u32> = pick(&mut picker, 1, 0, 36).iter().map(|block| block.piece).collect();
        let rarity = |piece: &u32| (piece - 4) / 10;
        assert!(order.is_sorted_by_key(|piece| rarity(piece).min(2)), "{order:?}");
        firsts[order[0] as usize] += 1;
    }
    assert!(firsts[4..14].iter().all(|n| (8..50).contains(n)), "{firsts:?}");
    assert_eq!(firsts[4..14].iter().sum::<u32>(), 250);
}

#[test]
fn the_first_pieces_are_random_not_rare() {
    let layout = layout(100, 1);
    let mut rare = 0;
    for seed in 0..200 {
        let mut picker = picker(&layout, false, seed);
        let mut has = Bitfield::new(100);
        (10..100).for_each(|piece| _ = has.set(piece));
        picker.on_bitfield(&has, true);
        rare += u32::from(pick(&mut picker, 1, 0, 1)[0].piece < 10);
    }
    assert!((5..50).contains(&rare), "{rare} of 200");
}

#[test]
fn a_fast_peer_gets_whole_pieces_and_slow_ones_share() {
    let layout = layout(20, 8);
    let mut picker = picker(&layout, false, 1);
    settle(&mut picker);
    let a = pick(&mut picker, 1, FAST, 3);
    let b = pick(&mut picker, 2, FAST, 3);
    let c = pick(&mut picker, 3, 0, 3);
    let d = pick(&mut picker, 4, 0, 3);
    assert!(a[0].piece != b[0].piece && c[0].piece != a[0].piece && c[0].piece != b[0].piece);
    assert_eq!(d[0].piece, c[0].piece);
    assert_eq!(d[0].begin, 3 * BLOCK);
    assert_ne!(pick(&mut picker, 5, FAST, 1)[0].piece, c[0].piece);
    let rest = pick(&mut picker, 1, FAST, 5);
    assert!(rest.iter().all(|block| block.piece == a[0].piece));
    assert_eq!(rest[4].begin, 7 * BLOCK);
    // Whom a piece was kept for is gone: others finish it before they begin one.
    picker.on_lost(id(2), b.iter().copied());
    assert_ne!(pick(&mut picker, 1, FAST, 1)[0].piece, a[0].piece);
}

#[test]
fn what_is_begun_is_finished_first() {
    let layout = layout(50, 4);
    let mut picker = picker(&layout, false, 2);
    settle(&mut picker);
    let a = pick(&mut picker, 1, FAST, 2);
    deliver(&mut picker, 1, &a);
    picker.on_lost(id(1), []);
    let b = pick(&mut picker, 2, FAST, 3);
    assert_eq!((b[0].piece, b[1].piece, b[0].begin), (a[0].piece, a[0].piece, 2 * BLOCK));
    assert_ne!(b[2].piece, a[0].piece);
    // Who gives a block back does not fill the piece alone.
    let c = pick(&mut picker, 3, FAST, 2);
    picker.release(id(3), c[0]);
    assert_eq!(pick(&mut picker, 4, 0, 1), c[..1]);
}

#[test]
fn very_fast_peers_fill_eight_pieces_abreast() {
    let layout = layout(60, 64);
    let mut picker = picker(&layout, false, 5);
    settle(&mut picker);
    let turn = pick(&mut picker, 1, FAST, 8 * 16);
    let pieces: Vec<u32> = turn.chunks(16).map(|run| run[0].piece).collect();
    assert!(turn.chunks(16).all(|run| run[0].begin == 0 && run.iter().all(|b| b.piece == run[0].piece)));
    assert_eq!(pieces.iter().collect::<std::collections::BTreeSet<_>>().len(), 8);
    // In uneven portions, then: each piece has its turn, and its next blocks.
    let next: Vec<Block> =
        [5, 1, 60, 62].into_iter().flat_map(|count| pick(&mut picker, 1, FAST, count)).collect();
    for (run, piece) in next.chunks(16).zip(&pieces) {
        assert!(run.iter().all(|b| b.piece == *piece && b.begin >= 16 * BLOCK), "{run:?} {pieces:?}");
    }
    // All come to their end together, and others are begun in their place: never more at a time.
    for _ in 0..40 {
        pick(&mut picker, 1, FAST, 64);
        let open = picker.partials.list(Stage::Owned).len() + picker.partials.list(Stage::Shared).len();
        assert!(open <= 8, "{open}");
    }
    // The next peer finds eight begun and has one for itself, as do those that are not that fast.
    assert!(pick(&mut picker, 2, FAST, 48).windows(2).all(|two| two[0].piece == two[1].piece));
    let mut other = self::picker(&layout, false, 6);
    settle(&mut other);
    assert!(pick(&mut other, 1, 1 << 20, 64).windows(2).all(|two| two[0].piece == two[1].piece));
}

#[test]
fn partial_pieces_are_few_for_few_peers() {
    let layout = layout(400, 4);
    let mut picker = picker(&layout, false, 3);
    settle(&mut picker);
    // Each peer has one block of its own and goes.
    for peer in 0..40 {
        let mut has = Bitfield::new(400);
        has.set(10 + peer);
        let block = pick_of(&mut picker, peer, Pieces::Some(&has), FAST, 1);
        deliver(&mut picker, peer, &block);
        picker.on_lost(id(peer), []);
    }
    assert_eq!(picker.partials.len(), 40);
    pick(&mut picker, 99, FAST, 120);
    assert_eq!(picker.partials.len(), 40);
    pick(&mut picker, 99, FAST, 1);
    assert_eq!(picker.partials.len(), 41);
}

#[test]
fn in_order_the_lagging_head_is_asked_of_a_faster_peer() {
    let layout = layout(10, 2);
    let mut picker = picker(&layout, true, 4);
    let head = pick(&mut picker, 1, 10, 2);
    assert_eq!((head[0].piece, head[1].piece), (0, 0));
    let mut out = Vec::new();
    let mut asker =
        Asker { peer: id(2), from: from(2), has: Pieces::All, rate: FAST, copies: 99, is_idle: false };
    picker.pick(&asker, 4, Time(9_500_000), &mut out);
    assert_eq!(out.iter().map(|block| block.piece).collect::<Vec<_>>(), [1, 1, 2, 2]);
    out.clear();
    picker.pick(&asker, 3, Time(11_000_000), &mut out);
    assert_eq!(out.iter().map(|block| block.piece).collect::<Vec<_>>(), [0, 0, 3]);
    out.clear();
    asker = Asker { peer: id(3), rate: 5, ..asker };
    picker.pick(&asker, 1, Time(19_000_000), &mut out);
    assert_ne!(out[0].piece, 0);
    let Arrival::First { cancel } = picker.on_block(id(2), from(2), head[0]) else { panic!("it was due") };
    assert_eq!(cancel.into_iter().flatten().collect::<Vec<_>>(), [id(1)]);
}

#[test]
fn the_end_game_asks_the_fast_and_cancels() {
    let layout = layout(1, 4);
    let mut picker = picker(&layout, false, 5);
    let all = pick(&mut picker, 1, 1000, 4);
    assert!(picker.is_endgame());
    assert_eq!(pick(&mut picker, 2, 10, 4), [], "too slow to help");
    let mut few = Vec::new();
    let slow = Asker { peer: id(9), from: from(9), has: Pieces::All, rate: 600, copies: 1, is_idle: false };
    picker.pick(&slow, 4, Time(9_000_000), &mut few);
    assert_eq!(few.len(), 1, "no more copies than it may be asked for");
    picker.release(id(9), few[0]);
    assert_eq!(sorted(pick(&mut picker, 3, 5000, 4)), all);
    assert_eq!(pick(&mut picker, 4, 9000, 4), [], "not much faster than the second");
    assert_eq!(sorted(pick(&mut picker, 5, 20_000, 4)), all);
    assert_eq!(pick(&mut picker, 6, FAST, 4), [], "three are enough");
    assert_eq!(pick(&mut picker, 5, FAST, 4), []);
    let Arrival::First { cancel } = picker.on_block(id(5), from(5), all[2]) else { panic!("it was due") };
    assert_eq!(cancel.into_iter().flatten().collect::<Vec<_>>(), [id(1), id(3)]);
    assert_eq!(picker.on_block(id(1), from(1), all[2]), Arrival::Duplicate);
}

#[test]
fn an_idle_peer_is_asked_for_a_block_that_another_peer_is_slow_with() {
    let layout = layout(6, 4);
    let mut picker = picker(&layout, false, 6);
    settle(&mut picker);
    let mut has = Bitfield::new(6);
    has.set(4);
    let all = pick_of(&mut picker, 1, Pieces::Some(&has), 0, 4);
    assert_eq!((all.len(), picker.is_endgame()), (4, false));
    let idle =
        Asker { peer: id(2), from: from(2), has: Pieces::Some(&has), rate: 0, copies: 16, is_idle: true };
    let ask = |picker: &mut Picker, asker: &Asker<'_>, millis: u64| {
        let mut out = Vec::new();
        picker.pick(asker, 4, Time(9_000_000 + millis * 1000), &mut out);
        out
    };
    let stale = STALE_AFTER.as_millis() as u64;
    assert_eq!(ask(&mut picker, &idle, stale - 1), [], "the first peer may still be about to send it");
    assert_eq!(ask(&mut picker, &Asker { is_idle: false, ..idle }, stale), []);
    assert_eq!(ask(&mut picker, &idle, stale), [all[3]], "one block, the last");
    assert_eq!(
        ask(&mut picker, &Asker { peer: id(3), ..idle }, stale),
        [all[2]],
        "each block once more at most"
    );
    let Arrival::First { cancel } = picker.on_block(id(2), from(2), all[3]) else { panic!("it was due") };
    assert_eq!(cancel.into_iter().flatten().collect::<Vec<_>>(), [id(1)]);
}

#[test]
fn a_peer_with_few_pieces_gives_its_rarest_first() {
    let layout = layout(8192, 1);
    let mut picker = picker(&layout, false, 10);
    settle(&mut picker);
    let mut has = Bitfield::new(8192);
    for (others, piece) in [700, 90, 8000, 3000, 1234].into_iter().enumerate() {
        has.set(piece);
        (0..others).for_each(|_| _ = picker.on_have(piece));
    }
    let order: Vec<u32> =
        pick_of(&mut picker, 1, Pieces::Some(&has), 0, 9).iter().map(|block| block.piece).collect();
    assert_eq!(order, [700, 90, 8000, 3000, 1234]);
}

#[test]
fn a_piece_that_failed_is_fetched_from_one_other_peer() {
    for seed in 0..10 {
        let layout = layout(6, 4);
        let mut picker = picker(&layout, false, seed);
        settle(&mut picker);
        let (a, b) = (pick(&mut picker, 1, 0, 2), pick(&mut picker, 2, 0, 2));
        let bad = a[0].piece;
        assert_eq!(bad, b[0].piece);
        deliver(&mut picker, 1, &a);
        deliver(&mut picker, 2, &b);
        assert_eq!(picker.on_failed(bad), None);
        let other = pick(&mut picker, 1, FAST, 1)[0].piece;
        assert_ne!(other, bad, "a suspect gets another piece");
        let mut only = Bitfield::new(6);
        only.set(bad);
        let again = pick_of(&mut picker, 3, Pieces::Some(&only), 0, 3);
        assert_eq!(again.len(), 3);
        let more = pick(&mut picker, 4, 0, 3);
        assert!(more.iter().all(|block| block.piece == other), "it is left to one peer: {more:?}");
        let rest = pick_of(&mut picker, 3, Pieces::Some(&only), 0, 3);
        assert_eq!(rest.len(), 1);
        deliver(&mut picker, 3, &again);
        deliver(&mut picker, 3, &rest);
        assert_eq!(picker.on_verified(bad, &[2]), [from(2)]);
        assert_eq!(picker.on_verified(bad, &[2]), []);
    }
}

#[test]
fn suspects_are_bounded_and_a_lone_one_is_guilty() {
    let layout = layout(SUSPECTS + 10, 1);
    let mut picker = picker(&layout, false, 7);
    for piece in 0..SUSPECTS + 10 {
        let block = layout.block(piece, 0);
        deliver(&mut picker, piece, &[block]);
        assert_eq!(picker.on_failed(piece), Some(from(piece)));
    }
    assert!(!picker.blame.has(9) && picker.blame.has(10));
}

#[test]
fn after_a_disk_error_nobody_is_blamed_for_what_was_there() {
    let layout = layout(1, 2);
    let mut picker = picker(&layout, false, 11);
    let blocks = pick(&mut picker, 1, 0, 2);
    deliver(&mut picker, 1, &blocks);
    assert_eq!(picker.on_failed(0), Some(from(1)));
    let blocks = pick(&mut picker, 2, 0, 2);
    deliver(&mut picker, 2, &blocks[..1]);
    picker.on_disk_error(0);
    assert_eq!(picker.on_verified(0, &[0]), []);
}

const SUSPECTS: u32 = crate::limits::SUSPECT_PIECES_MAX as u32;

#[test]
fn the_lane_stays_with_a_piece_until_the_verdict() {
    let layout = layout(5, 2);
    let mut picker = picker(&layout, false, 8);
    let block = pick(&mut picker, 1, 0, 1)[0];
    deliver(&mut picker, 1, &[block]);
    picker.set_lane(block.piece, 3);
    picker.on_disk_error(block.piece);
    assert!(picker.wants(block));
    assert_eq!(picker.lane(block.piece), Some(3));
    picker.on_verified(block.piece, &[]);
    assert_eq!(picker.lane(block.piece), None);
}

#[test]
fn partial_pieces_stop_at_their_limit() {
    let blocks = 1 << 13;
    let layout = layout(200, blocks);
    let mut picker = picker(&layout, false, 9);
    let most = PARTIAL_BLOCKS_MAX as u32 / blocks;
    for piece in 0..most {
        deliver(&mut picker, 1, &[layout.block(piece, 0)]);
    }
    let late = layout.block(most, 0);
    assert!(!picker.wants(late));
    assert_eq!(picker.on_block(id(1), from(1), late), Arrival::Unwanted);
    let mut has = Bitfield::new(200);
    has.set(most);
    assert_eq!(pick_of(&mut picker, 2, Pieces::Some(&has), FAST, 4), []);
    picker.set_have(0);
    assert!(picker.wants(late));
    assert_eq!(pick_of(&mut picker, 2, Pieces::Some(&has), FAST, 4).len(), 4);
}

#[test]
fn blocks_of_an_earlier_run_are_not_asked_for_and_nobody_is_guilty_of_them() {
    let layout = layout(8, 4);
    let mut picker = picker(&layout, true, 1);
    let mut stored = Bitfield::new(4);
    stored.set(1);
    stored.set(3);
    picker.set_stored(2, &stored);
    assert!(!picker.wants(layout.block(2, 1)) && picker.wants(layout.block(2, 0)));
    let asked = pick(&mut picker, 1, FAST, 32);
    assert_eq!((asked.len(), asked.iter().filter(|block| block.piece == 2).count()), (30, 2));
    let rest = [layout.block(2, 0), layout.block(2, 2)];
    deliver(&mut picker, 1, &rest);
    // It is wrong, and right the next time: where the stored blocks differ nobody sent them.
    assert_eq!(picker.on_failed(2), None);
    (0..4).for_each(|at| deliver(&mut picker, 2, &[layout.block(2, at)]));
    assert_eq!(picker.on_verified(2, &[1, 2, 3]), [from(1)]);
    // All blocks, none, or of a piece that is here: nothing to go on with.
    for (piece, blocks) in
        [(3, Bitfield::full(4)), (4, Bitfield::new(4)), (2, stored.clone()), (5, Bitfield::new(9))]
    {
        picker.set_stored(piece, &blocks);
        assert!(!matches!(picker.bands.place(piece), Place::Partial(_)) || piece != 2);
    }
}

#[test]
fn a_piece_that_a_peer_suggests_is_begun_when_it_is_its_turn() {
    let layout = layout(100, 4);
    let mut p = picker(&layout, false, 1);
    settle(&mut p);
    p.suggest(id(1), 40);
    p.suggest(id(1), 60);
    // What others begin does not depend on it.
    let other = pick(&mut p, 2, FAST, 4)[0].piece;
    assert_ne!(other, 60);
    let mine = pick(&mut p, 1, FAST, 8);
    assert!(mine[..4].iter().all(|block| block.piece == 60), "{mine:?}");
    assert!(
        mine[4..].iter().all(|block| block.piece != 60 && block.piece != 40),
        "only the last hint counts"
    );
    // One that it has not got, or that is begun, is none.
    p.suggest(id(3), 70);
    let mut has = Bitfield::full(100);
    has.clear(70);
    assert_ne!(pick_of(&mut p, 3, Pieces::Some(&has), FAST, 1)[0].piece, 70);
    p.suggest(id(4), 60);
    assert_ne!(pick(&mut p, 4, FAST, 1)[0].piece, 60);
}

#[test]
fn a_piece_less_of_a_peer_is_a_step_down_in_any_place() {
    let layout = layout(20, 4);
    let mut p = picker(&layout, false, 2);
    p.on_bitfield(&Bitfield::full(20), true);
    p.on_have(3);
    p.on_dont_have(3);
    p.on_dont_have(5);
    assert_eq!((p.availability(3), p.availability(5), p.availability(6)), (1, 0, 1));
    let begun = pick(&mut p, 1, FAST, 1)[0].piece;
    let before = p.availability(begun);
    p.on_have(begun);
    p.on_dont_have(begun);
    assert_eq!(p.availability(begun), before);
    p.set_have(7);
    p.on_dont_have(7);
}

#[test]
fn a_pick_in_order_gives_what_is_free_behind_a_place() {
    let layout = Layout::new(4 * BLOCK, [10 * 4 * u64::from(BLOCK)]).unwrap();
    let mut picker = Picker::new(&layout, &Bitfield::full(10), false, &mut Rng::new([1; 32]));
    (0..3).for_each(|piece| picker.set_have(piece));
    let server = PeerId::from_bits(u32::from(SERVERS));
    let asker =
        Asker { peer: server, from: from(900), has: Pieces::All, rate: FAST, copies: 99, is_idle: false };
    let pick = |picker: &mut Picker, at: u64, count| {
        let mut out = Vec::new();
        picker.pick_in_order(&asker, at, count, Time(9_000_000), &mut out);
        out.iter().map(|block| block.piece * 4 + block.begin / BLOCK).collect::<Vec<u32>>()
    };
    assert_eq!(pick(&mut picker, 0, 6), [12, 13, 14, 15, 16, 17]);
    // It goes on in the middle of a piece, and a block that was passed is not given.
    picker.release(server, layout.block(4, 0));
    assert_eq!(pick(&mut picker, 18 * u64::from(BLOCK), 4), [18, 19, 20]);
    assert_eq!(pick(&mut picker, 21 * u64::from(BLOCK), 2), [21, 22]);
    assert_eq!(pick(&mut picker, 0, 1), [16]);
    assert_eq!(pick(&mut picker, 39 * u64::from(BLOCK), 99), [39]);
    assert_eq!(pick(&mut picker, 40 * u64::from(BLOCK), 99), []);
    assert_eq!(picker.missing_bytes(2, 5), 2 * 4 * u64::from(BLOCK));
}
