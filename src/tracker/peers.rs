//! The peers of one swarm and one family, packed: address, port and a byte of time each, leechers before seeds, so that
//! any number of either is drawn fairly and at once. More than a few are found by an open hash table of places.

use crate::limits;
use std::hash::{DefaultHasher, Hasher};

/// No peer's place.
const EMPTY: u32 = u32::MAX;
/// So many are looked through one by one; a table would cost more than it saves.
const FEW: usize = 32;

/// A packed peer with an IPv4 address: 4 bytes of address, 2 of port, 1 of time.
pub(super) const V4: usize = 7;
/// A packed peer with an IPv6 address.
pub(super) const V6: usize = 19;

/// Keyed hashes: whoever chooses the addresses must not be able to choose their places too.
#[derive(Clone, Copy)]
pub(super) struct Key(pub(super) [u64; 2]);

impl Key {
    pub(super) fn hash(self, bytes: &[u8]) -> u64 {
        let mut hasher = DefaultHasher::new();
        hasher.write_u64(self.0[0]);
        hasher.write_u64(self.0[1]);
        hasher.write(bytes);
        hasher.finish()
    }
}

/// Cheap chance for one announce, from a seed that is not to be guessed. What it decides is no secret.
pub(super) struct Dice(pub(super) u64);

impl Dice {
    /// A number in `0..n`; 0 when `n` is 0 (splitmix64).
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((u128::from(x ^ (x >> 31)) * n as u128) >> 64) as usize
    }
}

/// Time as peers keep it: a wrapping count of thirty-seconds of the announce interval.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Stamp(pub(super) u8);

/// A peer not heard of for more than so many of them, two intervals, is forgotten.
const LIFE: u8 = 64;
/// How many of them an interval has.
pub(super) const STAMPS: u32 = 32;

impl Stamp {
    fn is_over(self, now: Stamp) -> bool {
        now.0.wrapping_sub(self.0) > LIFE
    }
}

/// What [`Peers::enter`] did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Entered {
    /// The peer was not known; `instead` tells that another of its address had to go for it.
    New { instead: bool },
    /// It was, as a seed or not.
    Known { was_seed: bool },
    /// It was not, and there is no room.
    Full,
}

/// The peers; `N` is [`V4`] or [`V6`].
pub(super) struct Peers<const N: usize> {
    /// Leechers first.
    all: Vec<[u8; N]>,
    leechers: u32,
    /// Places in `all`, by the hash of the host, found by linear probing; of no length while there are few.
    index: Box<[u32]>,
}

/// What of a packed peer says whose it is: an IPv4 address, or the half of an IPv6 one that a line or server has all of.
const fn host_len(n: usize) -> usize {
    if n == V4 { 4 } else { 8 }
}

impl<const N: usize> Peers<N> {
    pub(super) fn new() -> Peers<N> {
        Peers { all: Vec::new(), leechers: 0, index: Box::default() }
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    pub(super) fn leechers(&self) -> usize {
        self.leechers as usize
    }

    pub(super) fn seeds(&self) -> usize {
        self.len() - self.leechers()
    }

    /// Calls `f` with each of them.
    pub(super) fn each(&self, f: impl FnMut(&[u8; N])) {
        self.all.iter().for_each(f);
    }

    /// Bytes on the heap.
    pub(super) fn heap(&self) -> usize {
        self.all.capacity() * N + self.index.len() * 4
    }

    fn home(&self, peer: &[u8; N], key: Key) -> usize {
        // The low bits: the table's length is a power of two.
        key.hash(&peer[..host_len(N)]) as usize & self.index.len().wrapping_sub(1)
    }

    /// Calls `f` with the place of each peer of this host, and of some others, until it has enough.
    fn near(&self, peer: &[u8; N], key: Key, mut f: impl FnMut(usize) -> bool) {
        if self.index.is_empty() {
            let _ = (0..self.all.len()).any(f);
            return;
        }
        let mut slot = self.home(peer, key);
        while self.index[slot] != EMPTY && !f(self.index[slot] as usize) {
            slot = (slot + 1) & (self.index.len() - 1);
        }
    }

    /// The place of a peer, whatever its time.
    pub(super) fn find(&self, peer: &[u8; N], key: Key) -> Option<usize> {
        let mut found = None;
        self.near(peer, key, |at| {
            let same = self.all[at][..N - 1] == peer[..N - 1];
            found = if same { Some(at) } else { found };
            same
        });
        found
    }

    /// Of the peers of this host, if there are as many as one may have, the one that was silent for longest.
    fn crowded(&self, peer: &[u8; N], key: Key, now: Stamp) -> Option<usize> {
        let (mut count, mut oldest) = (0, None);
        self.near(peer, key, |at| {
            let other = &self.all[at];
            if other[..host_len(N)] == peer[..host_len(N)] {
                count += 1;
                let age = now.0.wrapping_sub(other[N - 1]);
                oldest = oldest.max(Some((age, at)));
            }
            false
        });
        oldest.filter(|_| count >= limits::TRACKER_PORTS_MAX).map(|(_, at)| at)
    }

    /// Takes note of a peer, heard of now. A new one needs `room`, or a place of its own host.
    pub(super) fn enter(&mut self, peer: &[u8; N], seed: bool, now: Stamp, room: bool, key: Key) -> Entered {
        let mut peer = *peer;
        peer[N - 1] = now.0;
        if let Some(at) = self.find(&peer, key) {
            let was_seed = at >= self.leechers();
            self.all[at] = peer;
            self.move_to(at, seed, key);
            return Entered::Known { was_seed };
        }
        let crowd = self.crowded(&peer, key, now);
        if !room && crowd.is_none() {
            return Entered::Full;
        }
        if let Some(at) = crowd {
            self.remove(at, key);
        }
        self.push(peer, seed, key);
        Entered::New { instead: crowd.is_some() }
    }

    /// Makes the peer at this place a seed or a leecher.
    fn move_to(&mut self, at: usize, seed: bool, key: Key) {
        let leechers = self.leechers();
        match (at < leechers, seed) {
            (true, true) => {
                self.swap(at, leechers - 1, key);
                self.leechers -= 1;
            }
            (false, false) => {
                self.swap(at, leechers, key);
                self.leechers += 1;
            }
            _ => {}
        }
    }

    fn push(&mut self, peer: [u8; N], seed: bool, key: Key) {
        if self.all.len() == self.all.capacity() {
            // By a quarter: what is left empty counts with a million peers.
            self.all.reserve_exact(self.all.len() / 4 + 4);
        }
        self.all.push(peer);
        let last = self.all.len() - 1;
        if self.all.len() * 4 > self.index.len() * 3 && self.all.len() > FEW {
            self.rebuild(key);
        } else if !self.index.is_empty() {
            self.place(last, key);
        }
        if !seed {
            self.swap(last, self.leechers(), key);
            self.leechers += 1;
        }
    }

    /// Puts the peer at this place into the table.
    fn place(&mut self, at: usize, key: Key) {
        let mut slot = self.home(&self.all[at], key);
        while self.index[slot] != EMPTY {
            slot = (slot + 1) & (self.index.len() - 1);
        }
        self.index[slot] = at as u32;
    }

    /// Makes the table anew, half full or a little less.
    fn rebuild(&mut self, key: Key) {
        self.index = Box::default();
        if self.all.len() > FEW {
            self.index = vec![EMPTY; (self.all.len() * 2).next_power_of_two()].into();
            (0..self.all.len()).for_each(|at| self.place(at, key));
        }
    }

    /// Where the table has the peer at this place.
    fn slot_of(&self, at: usize, key: Key) -> usize {
        let mut slot = self.home(&self.all[at], key);
        while self.index[slot] != at as u32 {
            slot = (slot + 1) & (self.index.len() - 1);
        }
        slot
    }

    fn swap(&mut self, one: usize, other: usize, key: Key) {
        if one != other && !self.index.is_empty() {
            let (a, b) = (self.slot_of(one, key), self.slot_of(other, key));
            self.index.swap(a, b);
        }
        self.all.swap(one, other);
    }

    /// Forgets the peer at this place; others change theirs.
    pub(super) fn remove(&mut self, at: usize, key: Key) -> [u8; N] {
        let mut at = at;
        if at < self.leechers() {
            self.swap(at, self.leechers() - 1, key);
            self.leechers -= 1;
            at = self.leechers();
        }
        let last = self.all.len() - 1;
        self.swap(at, last, key);
        if !self.index.is_empty() {
            self.vacate(self.slot_of(last, key), key);
        }
        self.all.swap_remove(last)
    }

    /// Empties a slot of the table; those behind it that would not be found any more move up.
    fn vacate(&mut self, mut hole: usize, key: Key) {
        let mask = self.index.len() - 1;
        let mut slot = hole;
        loop {
            slot = (slot + 1) & mask;
            let place = self.index[slot];
            if place == EMPTY {
                break;
            }
            let home = self.home(&self.all[place as usize], key);
            if slot.wrapping_sub(home) & mask >= slot.wrapping_sub(hole) & mask {
                self.index[hole] = place;
                hole = slot;
            }
        }
        self.index[hole] = EMPTY;
    }

    /// Looks at up to `most` peers from this place on and forgets those whose time is over, with a word to `gone`.
    /// Gives the place to go on at; None at the end.
    pub(super) fn sweep(
        &mut self,
        mut at: usize,
        most: &mut usize,
        now: Stamp,
        key: Key,
        mut gone: impl FnMut(&[u8; N]),
    ) -> Option<usize> {
        while at < self.all.len() {
            if *most == 0 {
                return Some(at);
            }
            *most -= 1;
            if Stamp(self.all[at][N - 1]).is_over(now) {
                gone(&self.remove(at, key));
            } else {
                at += 1;
            }
        }
        if self.all.capacity() > 2 * self.all.len() + 8 {
            self.all.shrink_to(self.all.len() + self.all.len() / 4);
            self.rebuild(key);
        }
        None
    }

    /// Appends up to `want` peers, 6 or 18 bytes each: all that there are, or a fair draw. None of them is the one at
    /// `me`, a seed where `seeds` is false, or one whose time is over.
    pub(super) fn draw(
        &self,
        want: usize,
        seeds: bool,
        me: Option<usize>,
        now: Stamp,
        dice: &mut Dice,
        out: &mut Vec<u8>,
    ) {
        let range = if seeds { self.len() } else { self.leechers() };
        let me = me.filter(|at| *at < range).unwrap_or(usize::MAX);
        let among = range - usize::from(me != usize::MAX);
        let want = want.min(among);
        let start = dice.below(among);
        // One of each of `want` equal parts, from a random start: each peer is as likely, and no two are the same.
        for n in 0..want {
            let (from, to) = (n * among / want, (n + 1) * among / want);
            let at = (start + from + dice.below(to - from)) % among;
            let peer = &self.all[if at >= me { at + 1 } else { at }];
            if !Stamp(peer[N - 1]).is_over(now) {
                out.extend_from_slice(&peer[..N - 1]);
            }
        }
    }
}
