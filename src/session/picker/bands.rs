//! The pieces that nobody has begun, by how many peers have them, the rarest at hand.
//!
//! `order` holds their numbers, those with the most peers first; pieces of equal availability stand together, a band.
//! One peer more or less is a swap over the edge of a band. A piece's availability is the band it stands in, so it is
//! stored nowhere else: 8 bytes a piece, and a whole bitfield is one pass that parts each band in two.

use crate::base::bits::Bitfield;
use crate::base::rng::Rng;

/// Which pieces a peer has.
#[derive(Clone, Copy, Debug)]
pub enum Pieces<'a> {
    /// Every one.
    All,
    /// These.
    Some(&'a Bitfield),
}

impl Pieces<'_> {
    /// Whether it has this one.
    pub fn get(&self, piece: u32) -> bool {
        match self {
            Pieces::All => true,
            Pieces::Some(bits) => bits.get(piece),
        }
    }
}

/// Where a piece is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Place {
    /// In the bands, at this index of `order`.
    Band(u32),
    /// Begun: its index among the partial pieces.
    Partial(u32),
    /// Here already, or not wanted.
    Nowhere,
}

const NOWHERE: u32 = u32::MAX;
const PARTIAL: u32 = 1 << 31;
/// Candidates that a search of the bits weighs against each other.
const SAMPLE: usize = 8;

pub(super) struct Bands {
    order: Vec<u32>,
    /// By piece: an index of `order`, `PARTIAL` and an index among the partial pieces, or `NOWHERE`. Empty as long as
    /// every piece is nowhere.
    place: Box<[u32]>,
    /// By availability: where its band starts in `order`. It ends where that of one peer less starts.
    starts: Vec<u32>,
    /// The pieces in `order`, as bits: to search for what a peer with few pieces has.
    fresh: Bitfield,
    /// A splitmix64 state: ties need speed, not secrecy.
    dice: u64,
}

impl Bands {
    /// Bands of `missing`, all of which nobody has yet.
    pub(super) fn new(missing: &Bitfield, rng: &mut Rng) -> Bands {
        let mut order: Vec<u32> = missing.iter().collect();
        rng.shuffle(&mut order);
        let mut place = vec![NOWHERE; missing.len() as usize].into_boxed_slice();
        for (at, &piece) in order.iter().enumerate() {
            place[piece as usize] = at as u32;
        }
        Bands { order, place, starts: vec![0], fresh: missing.clone(), dice: rng.u64() }
    }

    /// Bands of `pieces` pieces, all of which are nowhere.
    pub(super) fn empty(pieces: u32, rng: &mut Rng) -> Bands {
        let fresh = Bitfield::new(pieces);
        Bands { order: Vec::new(), place: Box::default(), starts: vec![0], fresh, dice: rng.u64() }
    }

    /// Gives its memory free: every piece is nowhere, and most likely to stay there.
    pub(super) fn rest(&mut self) {
        debug_assert!(self.order.is_empty(), "a piece is still to be had");
        (self.order, self.place, self.starts) = (Vec::new(), Box::default(), vec![0]);
    }

    fn set_place(&mut self, piece: u32, place: u32) {
        if self.place.is_empty() {
            self.place = vec![NOWHERE; self.fresh.len() as usize].into();
        }
        self.place[piece as usize] = place;
    }

    pub(super) fn place(&self, piece: u32) -> Place {
        match self.place.get(piece as usize) {
            None | Some(&NOWHERE) => Place::Nowhere,
            Some(at) if at & PARTIAL != 0 => Place::Partial(at & !PARTIAL),
            Some(at) => Place::Band(*at),
        }
    }

    /// Says where a piece is that is not in the bands: among the partial ones, or nowhere.
    pub(super) fn set_partial(&mut self, piece: u32, index: Option<u32>) {
        debug_assert!(!self.fresh.get(piece), "it is in the bands");
        self.set_place(piece, index.map_or(NOWHERE, |index| PARTIAL | index));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// How many peers have the piece that stands at `at`.
    pub(super) fn count(&self, at: u32) -> usize {
        self.starts.partition_point(|start| *start > at)
    }

    fn end(&self, band: usize) -> u32 {
        if band == 0 { self.order.len() as u32 } else { self.starts[band - 1] }
    }

    fn swap(&mut self, a: u32, b: u32) {
        let (x, y) = (self.order[a as usize], self.order[b as usize]);
        self.order.swap(a as usize, b as usize);
        self.place[x as usize] = b;
        self.place[y as usize] = a;
    }

    fn roll(&mut self, n: u32) -> u32 {
        self.dice = self.dice.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.dice;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((((z ^ (z >> 31)) >> 32) * u64::from(n)) >> 32) as u32
    }

    /// Moves what came in at the edge of its band to a random place in it: peers that hear the same announcements
    /// must not all ask for the same piece.
    fn mix(&mut self, at: u32, band: usize) {
        let (start, end) = (self.starts[band], self.end(band));
        let other = start + self.roll(end - start);
        self.swap(at, other);
    }

    /// One peer more has the piece at `at`.
    pub(super) fn raise(&mut self, at: u32) {
        let band = self.count(at);
        let start = self.starts[band];
        self.swap(at, start);
        self.starts[band] += 1;
        if band + 1 == self.starts.len() {
            self.starts.push(0);
        }
        self.mix(start, band + 1);
    }

    /// One peer less has the piece at `at`.
    pub(super) fn lower(&mut self, at: u32) {
        let band = self.count(at);
        debug_assert!(band > 0, "a peer left with a piece that it never had");
        if band == 0 {
            return;
        }
        let last = self.starts[band - 1] - 1;
        self.swap(at, last);
        self.starts[band - 1] -= 1;
        self.mix(last, band - 1);
        self.trim();
    }

    fn trim(&mut self) {
        while self.starts.len() > 1 && self.starts[self.starts.len() - 2] == 0 {
            self.starts.pop();
        }
    }

    /// A peer with these pieces came (`joined`) or went. Few pieces are moved one by one, many in one pass.
    pub(super) fn shift(&mut self, bits: &Bitfield, joined: bool) {
        if u64::from(bits.count()) * 16 >= self.order.len() as u64 {
            self.part(bits, joined);
            return;
        }
        for piece in bits.iter() {
            match (self.place(piece), joined) {
                (Place::Band(at), true) => self.raise(at),
                (Place::Band(at), false) => self.lower(at),
                _ => {}
            }
        }
    }

    /// Parts each band in the pieces that are in `bits` and the others: those that change the band come to lie at
    /// its edge, so that moving the edge moves them all.
    fn part(&mut self, bits: &Bitfield, joined: bool) {
        let mut end = self.order.len();
        for band in 0..self.starts.len() {
            let start = self.starts[band] as usize;
            let slice = &mut self.order[start..end];
            let mut front = 0;
            for i in 0..slice.len() {
                // What is looked up does not hang on where it goes, so that look-ups overlap.
                let piece = slice[i];
                slice.swap(i, front);
                front += usize::from(bits.get(piece) == joined);
            }
            end = start;
            if joined {
                self.starts[band] += front as u32;
            } else if band > 0 {
                self.starts[band - 1] = (start + front) as u32;
            }
        }
        if joined && self.starts.last().is_some_and(|start| *start > 0) {
            self.starts.push(0);
        }
        self.trim();
        for (at, &piece) in self.order.iter().enumerate() {
            self.place[piece as usize] = at as u32;
        }
    }

    /// Takes the piece at `at` out, to begin it or because it is here: its place is then nowhere. Gives its count.
    pub(super) fn remove(&mut self, at: u32) -> usize {
        let count = self.count(at);
        let piece = self.order[at as usize];
        let mut hole = at;
        for band in (0..=count).rev() {
            let last = self.end(band) - 1;
            if hole != last {
                let moved = self.order[last as usize];
                self.order[hole as usize] = moved;
                self.place[moved as usize] = hole;
            }
            hole = last;
            if band > 0 {
                self.starts[band - 1] -= 1;
            }
        }
        self.order.pop();
        self.place[piece as usize] = NOWHERE;
        self.fresh.clear(piece);
        self.trim();
        count
    }

    /// Puts a piece in that `count` peers have.
    pub(super) fn insert(&mut self, piece: u32, count: usize) {
        while self.starts.len() <= count {
            self.starts.push(0);
        }
        let mut hole = self.order.len() as u32;
        self.set_place(piece, hole);
        self.order.push(piece);
        for band in 0..count {
            let first = self.starts[band];
            if first != hole {
                let moved = self.order[first as usize];
                self.order[hole as usize] = moved;
                self.place[moved as usize] = hole;
            }
            self.starts[band] += 1;
            hole = first;
        }
        self.order[hole as usize] = piece;
        self.place[piece as usize] = hole;
        self.fresh.set(piece);
        self.mix(hole, count);
    }

    /// The rarest piece that `accept` takes, ties by chance. It looks at `limit` pieces at most.
    pub(super) fn rarest(&mut self, limit: u32, accept: impl Fn(u32) -> bool) -> Option<u32> {
        let (mut end, mut left) = (self.order.len() as u32, limit);
        while end > 0 && left > 0 {
            let start = self.starts[self.starts.partition_point(|start| *start >= end)];
            let size = end - start;
            let offset = self.roll(size);
            let looked = size.min(left);
            let first = &self.order[(start + offset) as usize..end as usize];
            let then = &self.order[start as usize..(start + offset) as usize];
            let found = first.iter().chain(then).take(looked as usize).find(|piece| accept(**piece));
            if found.is_some() {
                return found.copied();
            }
            left -= looked;
            end = start;
        }
        None
    }

    /// A piece that `has` and `accept` take: one of the first that the bits show from a random place on (the rarest
    /// of a few when `rare`). It finds one if there is one.
    pub(super) fn random(
        &mut self,
        has: Pieces<'_>,
        rare: bool,
        accept: impl Fn(u32) -> bool,
    ) -> Option<u32> {
        let from = self.roll(self.fresh.len());
        let (mut best, mut seen) = (None::<(u32, u32)>, 0);
        let mut look = |piece: u32| {
            if accept(piece) {
                let at = self.place[piece as usize];
                best = best.max(Some((at, piece)));
                seen += 1;
            }
            seen == if rare { SAMPLE } else { 1 }
        };
        if !common(&self.fresh, has, from, self.fresh.len(), &mut look) {
            common(&self.fresh, has, 0, from, &mut look);
        }
        best.map(|(_, piece)| piece)
    }

    /// The first piece not before `from` that `has` and `accept` take.
    pub(super) fn first(&self, has: Pieces<'_>, from: u32, accept: impl Fn(u32) -> bool) -> Option<u32> {
        let mut found = None;
        common(&self.fresh, has, from, self.fresh.len(), &mut |piece| {
            found = accept(piece).then_some(piece);
            found.is_some()
        });
        found
    }
}

/// Calls `stop` with the numbers from `from` to `to` that are in both, ascending, until it says true; tells whether
/// it did. A word at a time: this is the whole cost for a peer that has nothing for us.
pub(super) fn common(
    a: &Bitfield,
    b: Pieces<'_>,
    from: u32,
    to: u32,
    stop: &mut impl FnMut(u32) -> bool,
) -> bool {
    let has = match b {
        Pieces::All => None,
        Pieces::Some(bits) => Some(bits.as_bytes()),
    };
    let (words, rest) = a.as_bytes().as_chunks::<8>();
    let (start, end) = (from / 64, to.div_ceil(64));
    let whole = words.iter().enumerate().take(end as usize).skip(start as usize);
    let mut show = |at: usize, mut both: u64| {
        while both != 0 {
            let bit = both.leading_zeros();
            both &= !(1 << (63 - bit));
            let piece = at as u32 * 64 + bit;
            if (from..to).contains(&piece) && stop(piece) {
                return true;
            }
        }
        false
    };
    let found = match has {
        None => whole.map(|(at, a)| (at, u64::from_be_bytes(*a))).any(|(at, a)| show(at, a)),
        Some(has) => {
            let pairs = whole.zip(has.as_chunks::<8>().0.iter().skip(start as usize));
            let mut both = pairs.map(|((at, a), b)| (at, u64::from_ne_bytes(*a) & u64::from_ne_bytes(*b)));
            both.any(|(at, both)| both != 0 && show(at, u64::from_be(both)))
        }
    };
    let tail =
        |bytes: &[u8]| (0..8).fold(0, |word, i| word << 8 | u64::from(bytes.get(i).copied().unwrap_or(0)));
    let other = has.map_or(u64::MAX, |has| tail(has.get(words.len() * 8..).unwrap_or(&[])));
    found || end as usize > words.len() && show(words.len(), tail(rest) & other)
}

#[cfg(test)]
impl Bands {
    /// Panics unless each structure agrees with the others, and each piece's band with `count`.
    pub(super) fn check(&self, count: impl Fn(u32) -> usize) {
        assert_eq!(self.fresh.count() as usize, self.order.len());
        assert!(self.starts.is_sorted_by(|a, b| a >= b) && self.starts.last() == Some(&0));
        for (at, &piece) in self.order.iter().enumerate() {
            assert_eq!(self.place(piece), Place::Band(at as u32));
            assert!(self.fresh.get(piece));
            assert_eq!(self.count(at as u32), count(piece), "availability of piece {piece}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bands_follow_a_plain_count_of_peers() {
        let mut rng = Rng::new([5; 32]);
        for _ in 0..40 {
            let pieces = 1 + rng.below(200);
            let mut bands = Bands::new(&Bitfield::full(pieces), &mut rng);
            let mut counts = vec![0usize; pieces as usize];
            let mut peers: Vec<Bitfield> = Vec::new();
            for _ in 0..300 {
                match rng.below(5) {
                    0 if peers.len() < 12 => {
                        let mut bits = Bitfield::new(pieces);
                        for _ in 0..rng.below(pieces + 5) {
                            bits.set(rng.below(pieces));
                        }
                        bands.shift(&bits, true);
                        bits.iter().for_each(|piece| counts[piece as usize] += 1);
                        peers.push(bits);
                    }
                    1 if !peers.is_empty() => {
                        let bits = peers.swap_remove(rng.index(peers.len()));
                        bands.shift(&bits, false);
                        bits.iter().for_each(|piece| counts[piece as usize] -= 1);
                    }
                    2 if !peers.is_empty() => {
                        let (peer, piece) = (rng.index(peers.len()), rng.below(pieces));
                        if peers[peer].set(piece) {
                            counts[piece as usize] += 1;
                            if let Place::Band(at) = bands.place(piece) {
                                bands.raise(at);
                            }
                        }
                    }
                    3 => {
                        let piece = rng.below(pieces);
                        match bands.place(piece) {
                            Place::Band(at) => assert_eq!(bands.remove(at), counts[piece as usize]),
                            _ => bands.insert(piece, counts[piece as usize]),
                        }
                    }
                    _ => {
                        let (modulus, all) = (1 + rng.below(4), bands.order.clone());
                        let least =
                            all.iter().filter(|p| **p % modulus == 0).map(|p| counts[*p as usize]).min();
                        let found = bands.rarest(u32::MAX, |piece| piece % modulus == 0);
                        assert_eq!(found.map(|piece| counts[piece as usize]), least);
                    }
                }
                bands.check(|piece| counts[piece as usize]);
            }
        }
    }

    #[test]
    fn ties_are_broken_by_chance_also_after_announcements() {
        let (mut firsts, mut places) = ([0u32; 8], [0u32; 8]);
        for seed in 0..800u32 {
            let mut entropy = [0; 32];
            entropy[..4].copy_from_slice(&seed.to_be_bytes());
            let mut bands = Bands::new(&Bitfield::full(8), &mut Rng::new(entropy));
            for piece in 0..8 {
                let Place::Band(at) = bands.place(piece) else { panic!("it is gone") };
                bands.raise(at);
            }
            firsts[bands.rarest(8, |_| true).unwrap() as usize] += 1;
            places[bands.place[0] as usize] += 1;
        }
        assert!(places.iter().all(|n| (60..150).contains(n)), "{places:?}");
        assert!(firsts.iter().all(|n| (60..150).contains(n)), "{firsts:?}");
    }

    #[test]
    #[cfg_attr(miri, ignore = "takes Miri minutes")]
    fn a_search_of_the_bits_finds_what_is_common() {
        let mut rng = Rng::new([6; 32]);
        for _ in 0..500 {
            let len = rng.below(300);
            let (mut a, mut b) = (Bitfield::new(len), Bitfield::new(len));
            for _ in 0..rng.below(60) {
                a.set(rng.below(len));
                b.set(rng.below(len));
            }
            let (from, to) = (rng.below(len + 1), rng.below(len + 1));
            let mut found = Vec::new();
            assert!(!common(&a, Pieces::Some(&b), from, to, &mut |piece| {
                found.push(piece);
                false
            }));
            let naive: Vec<u32> =
                (from..to.max(from)).filter(|piece| a.get(*piece) && b.get(*piece)).collect();
            assert_eq!(found, naive);
        }
    }
}
