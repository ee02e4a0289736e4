//! The pieces begun: who was asked for each block, what has come and from whom. 4 bytes a block.

use crate::api::PeerId;
use crate::base::arena::Handle;
use crate::base::time::Time;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Who sent a block, in a form that outlives the connection. Whether the port counts is for the session to say (0
/// where it does not).
pub type Sender = SocketAddr;

/// Who "sent" the blocks that an earlier run stored: nobody that can be guilty.
pub(super) const DISK: Sender = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

/// A block of a partial piece. No peer has slot 0xFFFF, so ids leave room for the two other states.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Cell(u32);

const NO_PEER: u32 = 0xffff;

/// What a block's cell says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Held {
    /// It must be asked for.
    Free,
    /// This peer was asked first; the others are in `Partials::again`.
    Asked(PeerId),
    /// It came from the sender of this index.
    Got(u16),
}

impl Cell {
    const FREE: Cell = Cell(NO_PEER);

    fn asked(peer: PeerId) -> Cell {
        debug_assert!(peer.slot() != u16::MAX, "that slot is nobody's");
        Cell(peer.bits())
    }

    fn got(sender: u16) -> Cell {
        Cell((u32::from(sender) + 1) << 16 | NO_PEER)
    }

    fn held(self) -> Held {
        match (self.0 & NO_PEER, self.0 >> 16) {
            (NO_PEER, 0) => Held::Free,
            // At most 8,192 blocks, so no more senders.
            (NO_PEER, sender) => Held::Got((sender - 1) as u16),
            _ => Held::Asked(PeerId::from_bits(self.0)),
        }
    }
}

/// What a partial piece is in want of. Each has a list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stage {
    /// It has free blocks, for whoever comes.
    Shared,
    /// It has free blocks, kept for one peer.
    Owned,
    /// All its blocks are asked for or here.
    Asked,
    /// All are here; the disk has the word.
    Received,
}

pub(super) struct Partial {
    pub(super) piece: u32,
    /// How many peers have it, those with everything apart.
    pub(super) count: usize,
    /// The disk worker that has its blocks.
    pub(super) lane: Option<u8>,
    /// The peer that is to fill it alone.
    pub(super) owner: Option<PeerId>,
    /// When it was last asked for.
    pub(super) touched: Time,
    /// Blocks that are free.
    pub(super) free: u32,
    /// Blocks that are asked for and not here.
    pub(super) asked: u32,
    /// No free block is before this one.
    next: u32,
    cells: Vec<Cell>,
    senders: Vec<Sender>,
    stage: Stage,
    /// Where it stands in the list of its stage.
    at: u32,
}

impl Partial {
    fn stage_due(&self) -> Stage {
        match (self.free, self.asked, self.owner) {
            (0, 0, _) => Stage::Received,
            (0, ..) => Stage::Asked,
            (.., None) => Stage::Shared,
            (.., Some(_)) => Stage::Owned,
        }
    }

    pub(super) fn blocks(&self) -> u32 {
        self.cells.len() as u32
    }

    /// Whether the next free block is the first of a row of so many.
    pub(super) fn is_between_runs(&self, run: u32) -> bool {
        self.next.is_multiple_of(run)
    }

    pub(super) fn held(&self, block: u32) -> Held {
        self.cells[block as usize].held()
    }

    /// Who sent it, by block: an index into the senders. Only of a piece that is here as a whole.
    pub(super) fn origins(&self) -> (Vec<Sender>, Vec<u16>) {
        let index = |cell: &Cell| if let Held::Got(sender) = cell.held() { sender } else { u16::MAX };
        (self.senders.clone(), self.cells.iter().map(index).collect())
    }
}

/// All partial pieces, by an index that stays with a piece as long as it is one.
pub(super) struct Partials {
    slots: Vec<Partial>,
    unused: Vec<u32>,
    /// By stage: the index and the piece.
    lists: [Vec<(u32, u32)>; 4],
    /// Free blocks of all.
    free: u64,
    /// Blocks of all.
    blocks: usize,
    /// Who else was asked for a block: piece, block, peer.
    again: BTreeSet<(u32, u32, PeerId)>,
}

const LOWEST: u32 = 0;
const HIGHEST: u32 = u32::MAX;

impl Partials {
    pub(super) fn new() -> Partials {
        let lists = [const { Vec::new() }; 4];
        Partials { slots: Vec::new(), unused: Vec::new(), lists, free: 0, blocks: 0, again: BTreeSet::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.unused.len()
    }

    pub(super) fn blocks(&self) -> usize {
        self.blocks
    }

    pub(super) fn free(&self) -> u64 {
        self.free
    }

    pub(super) fn get(&self, index: u32) -> &Partial {
        &self.slots[index as usize]
    }

    pub(super) fn list(&self, stage: Stage) -> &[(u32, u32)] {
        &self.lists[stage as usize]
    }

    /// Changes what does not count, and puts the piece in the list where it then belongs.
    pub(super) fn edit<T>(&mut self, index: u32, change: impl FnOnce(&mut Partial) -> T) -> T {
        let result = change(&mut self.slots[index as usize]);
        self.relist(index);
        result
    }

    fn relist(&mut self, index: u32) {
        let due = self.get(index).stage_due();
        if due != self.get(index).stage {
            self.unlist(index);
            self.enlist(index);
        }
    }

    fn enlist(&mut self, index: u32) {
        let partial = &mut self.slots[index as usize];
        partial.stage = partial.stage_due();
        let list = &mut self.lists[partial.stage as usize];
        partial.at = list.len() as u32;
        list.push((index, partial.piece));
    }

    fn unlist(&mut self, index: u32) {
        let (stage, at) = (self.get(index).stage, self.get(index).at);
        let list = &mut self.lists[stage as usize];
        list.swap_remove(at as usize);
        if let Some(&(moved, _)) = list.get(at as usize) {
            self.slots[moved as usize].at = at;
        }
    }

    /// Begins a piece of that many blocks. The memory of one that is gone is used again.
    pub(super) fn begin(&mut self, piece: u32, blocks: u32, count: usize) -> u32 {
        let index = self.unused.pop().unwrap_or(self.slots.len() as u32);
        if index as usize == self.slots.len() {
            self.slots.push(Partial {
                piece,
                count,
                lane: None,
                owner: None,
                touched: Time::ZERO,
                free: 0,
                asked: 0,
                next: 0,
                cells: Vec::with_capacity(blocks as usize),
                senders: Vec::new(),
                stage: Stage::Shared,
                at: 0,
            });
        }
        let partial = &mut self.slots[index as usize];
        (partial.piece, partial.count, partial.lane, partial.owner) = (piece, count, None, None);
        (partial.free, partial.asked, partial.next) = (blocks, 0, 0);
        partial.cells.clear();
        partial.cells.resize(blocks as usize, Cell::FREE);
        partial.senders.clear();
        self.free += u64::from(blocks);
        self.blocks += blocks as usize;
        self.enlist(index);
        index
    }

    /// Forgets a piece.
    pub(super) fn end(&mut self, index: u32) {
        self.unlist(index);
        let partial = &self.slots[index as usize];
        self.free -= u64::from(partial.free);
        self.blocks -= partial.cells.len();
        let piece = partial.piece;
        while let Some(&entry) = self.again.range((piece, LOWEST, PeerId::from_bits(LOWEST))..).next()
            && entry.0 == piece
        {
            self.again.remove(&entry);
        }
        self.unused.push(index);
    }

    /// Marks the first free block as asked of a peer.
    pub(super) fn ask_next(&mut self, index: u32, peer: PeerId, now: Time) -> Option<u32> {
        let partial = &mut self.slots[index as usize];
        if partial.free == 0 {
            return None;
        }
        let ahead = partial.cells.iter().skip(partial.next as usize).position(|cell| *cell == Cell::FREE)?;
        let block = partial.next + ahead as u32;
        partial.cells[block as usize] = Cell::asked(peer);
        partial.next = block + 1;
        partial.touched = now;
        partial.free -= 1;
        partial.asked += 1;
        self.free -= 1;
        self.relist(index);
        Some(block)
    }

    fn others(&self, piece: u32, block: u32) -> impl Iterator<Item = PeerId> + '_ {
        let range = (piece, block, PeerId::from_bits(LOWEST))..=(piece, block, PeerId::from_bits(HIGHEST));
        self.again.range(range).map(|(.., peer)| *peer)
    }

    /// Who was asked for a block.
    pub(super) fn askers(&self, index: u32, block: u32) -> impl Iterator<Item = PeerId> + '_ {
        let partial = self.get(index);
        let first = if let Held::Asked(peer) = partial.held(block) { Some(peer) } else { None };
        first.into_iter().chain(self.others(partial.piece, block))
    }

    /// Marks a block that was asked of others as asked of this peer too.
    pub(super) fn ask_again(&mut self, index: u32, block: u32, peer: PeerId) {
        self.again.insert((self.get(index).piece, block, peer));
    }

    /// A block is here. The peers that were asked for it go to `told`; that are all but the sender.
    pub(super) fn receive(
        &mut self,
        index: u32,
        block: u32,
        peer: PeerId,
        from: Sender,
        told: &mut [Option<PeerId>],
    ) {
        let others = self.askers(index, block).filter(|other| *other != peer);
        told.iter_mut().zip(others).for_each(|(place, other)| *place = Some(other));
        let piece = self.get(index).piece;
        told.iter().flatten().for_each(|other| _ = self.again.remove(&(piece, block, *other)));
        self.again.remove(&(piece, block, peer));
        let partial = &mut self.slots[index as usize];
        match partial.held(block) {
            Held::Free => {
                partial.free -= 1;
                self.free -= 1;
            }
            Held::Asked(_) => partial.asked -= 1,
            Held::Got(_) => return,
        }
        let known = partial.senders.iter().rposition(|sender| *sender == from);
        let sender = known.unwrap_or_else(|| {
            partial.senders.push(from);
            partial.senders.len() - 1
        });
        partial.cells[block as usize] = Cell::got(sender as u16);
        self.relist(index);
    }

    /// A peer that was asked for a block will not send it.
    pub(super) fn give_back(&mut self, index: u32, block: u32, peer: PeerId) {
        let piece = self.get(index).piece;
        if self.again.remove(&(piece, block, peer)) {
            return;
        }
        let next = self.others(piece, block).next();
        let partial = &mut self.slots[index as usize];
        if partial.held(block) != Held::Asked(peer) {
            return;
        }
        if let Some(next) = next {
            partial.cells[block as usize] = Cell::asked(next);
            self.again.remove(&(piece, block, next));
            return;
        }
        partial.cells[block as usize] = Cell::FREE;
        partial.next = partial.next.min(block);
        partial.free += 1;
        partial.asked -= 1;
        self.free += 1;
        partial.owner = partial.owner.filter(|owner| *owner != peer);
        self.relist(index);
    }

    /// The blocks that are here are lost; those that are asked for may still come.
    pub(super) fn forget_received(&mut self, index: u32) {
        let partial = &mut self.slots[index as usize];
        for cell in &mut partial.cells {
            if matches!(cell.held(), Held::Got(_)) {
                *cell = Cell::FREE;
                partial.free += 1;
                self.free += 1;
            }
        }
        partial.next = 0;
        partial.owner = None;
        partial.senders.clear();
        self.relist(index);
    }
}

#[cfg(test)]
impl Partials {
    /// Panics unless the counters equal a recount.
    pub(super) fn check(&self) {
        let (mut free, mut blocks, mut pieces) = (0, 0, 0);
        for (stage, list) in self.lists.iter().enumerate() {
            for (at, &(index, piece)) in list.iter().enumerate() {
                let partial = self.get(index);
                assert_eq!((partial.stage as usize, partial.at, partial.piece), (stage, at as u32, piece));
                assert_eq!(partial.stage, partial.stage_due());
                let count =
                    |want: fn(Held) -> bool| partial.cells.iter().filter(|cell| want(cell.held())).count();
                assert_eq!(partial.free as usize, count(|held| held == Held::Free));
                assert_eq!(partial.asked as usize, count(|held| matches!(held, Held::Asked(_))));
                assert!(partial.cells[..partial.next as usize].iter().all(|cell| cell.held() != Held::Free));
                free += u64::from(partial.free);
                blocks += partial.cells.len();
                pieces += 1;
            }
        }
        assert_eq!((free, blocks, pieces), (self.free, self.blocks, self.len()));
    }
}
