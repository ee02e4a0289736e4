//! What each disk worker has to do, by our own count: which one a piece goes to, and when the peers that feed it wait.

use crate::api::{LaneStatus, PeerId};
use crate::base::buf::BLOCK;
use crate::limits::{LANE_HIGH, LANE_LOW};
use std::collections::VecDeque;

/// The disk workers as the session sees them.
pub(super) struct Lanes {
    lanes: Vec<Lane>,
    /// Blocks that were let in and whose buffers are not home yet.
    bufs: usize,
    bufs_max: usize,
    /// Peers that wait for a lane or a buffer, first come first served.
    line: VecDeque<(PeerId, u8)>,
}

#[derive(Default)]
struct Lane {
    /// Bytes of blocks that are with this worker and not written yet.
    bytes: u64,
    /// Bytes of blocks that were let in for it and are still coming. They take their time where peers are slow, and
    /// are no work for it yet.
    coming: u64,
    /// Blocks it has to read.
    reads: u64,
}

impl Lanes {
    pub(super) fn new(count: u8, bufs_max: usize) -> Lanes {
        let lanes = (0..count.max(1)).map(|_| Lane::default()).collect();
        Lanes { lanes, bufs: 0, bufs_max, line: VecDeque::new() }
    }

    pub(super) fn count(&self) -> u8 {
        self.lanes.len() as u8
    }

    /// The worker with the least to do.
    pub(super) fn idlest(&self) -> u8 {
        let load = |l: &Lane| l.bytes + l.coming + l.reads * u64::from(BLOCK);
        let least = self.lanes.iter().enumerate().min_by_key(|(_, l)| load(l));
        least.map_or(0, |(at, _)| at as u8)
    }

    /// Lets a block in if there is room for it; else the peer is put in line.
    pub(super) fn take(&mut self, peer: PeerId, lane: u8, len: u32) -> bool {
        let to = &mut self.lanes[usize::from(lane)];
        if to.bytes >= LANE_HIGH || self.bufs >= self.bufs_max {
            self.line.push_back((peer, lane));
            return false;
        }
        to.coming += u64::from(len);
        self.bufs += 1;
        true
    }

    /// How many blocks this worker would be let in now.
    pub(super) fn room(&self, lane: u8) -> usize {
        let bytes = LANE_HIGH.saturating_sub(self.lanes[usize::from(lane)].bytes);
        bytes.div_ceil(u64::from(BLOCK)).min(self.bufs_max.saturating_sub(self.bufs) as u64) as usize
    }

    /// A block that was let in for `from` is whole and goes to `to`.
    pub(super) fn hand_over(&mut self, from: u8, to: u8, len: u32) {
        self.came(from, len);
        self.lanes[usize::from(to)].bytes += u64::from(len);
    }

    /// A block that was let in came to nothing: its buffer is home.
    pub(super) fn let_go(&mut self, lane: u8, len: u32) {
        self.came(lane, len);
        self.buf_home();
    }

    /// A block that was handed over is written: its buffer is home.
    pub(super) fn written(&mut self, lane: u8, len: u32) {
        let lane = &mut self.lanes[usize::from(lane)];
        debug_assert!(lane.bytes >= u64::from(len), "more written than handed over");
        lane.bytes = lane.bytes.saturating_sub(u64::from(len));
        self.buf_home();
    }

    fn came(&mut self, lane: u8, len: u32) {
        let lane = &mut self.lanes[usize::from(lane)];
        debug_assert!(lane.coming >= u64::from(len), "more came than was let in");
        lane.coming = lane.coming.saturating_sub(u64::from(len));
    }

    fn buf_home(&mut self) {
        debug_assert!(self.bufs > 0, "more buffers came home than went out");
        self.bufs = self.bufs.saturating_sub(1);
    }

    /// The next peer in line that may go on. Each call assumes that the peers it named before will take a block.
    pub(super) fn next_in_line(&mut self) -> Option<PeerId> {
        if self.bufs >= self.bufs_max {
            return None;
        }
        let at = self.line.iter().position(|(_, lane)| self.lanes[usize::from(*lane)].bytes <= LANE_LOW)?;
        self.line.remove(at).map(|(peer, _)| peer)
    }

    /// Whether no block is under way at all, so that nothing will be given back.
    pub(super) fn idle(&self) -> bool {
        self.bufs == 0
    }

    /// Whether anybody waits for the disk.
    pub(super) fn behind(&self) -> bool {
        !self.line.is_empty()
    }

    /// What each worker has to do.
    pub(super) fn status(&self) -> Vec<LaneStatus> {
        let status = |l: &Lane| LaneStatus { writing: l.bytes, coming: l.coming, reads: l.reads };
        self.lanes.iter().map(status).collect()
    }

    /// Blocks that were let in and whose buffers are not home yet, and how many there may be.
    pub(super) fn receiving(&self) -> (usize, usize) {
        (self.bufs, self.bufs_max)
    }

    pub(super) fn leave_line(&mut self, peer: PeerId) {
        self.line.retain(|(waiting, _)| *waiting != peer);
    }

    pub(super) fn read_begun(&mut self, lane: u8, blocks: usize) {
        self.lanes[usize::from(lane)].reads += blocks as u64;
    }

    pub(super) fn read_done(&mut self, lane: u8, blocks: usize) {
        let reads = &mut self.lanes[usize::from(lane)].reads;
        *reads = reads.saturating_sub(blocks as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::arena::Handle;

    fn peer(n: u32) -> PeerId {
        PeerId::from_bits(n)
    }

    #[test]
    fn a_full_lane_makes_peers_wait_in_turn_and_the_other_goes_on() {
        let mut lanes = Lanes::new(2, 10_000);
        let mut taken = 0;
        while lanes.take(peer(1), 0, BLOCK) {
            lanes.hand_over(0, 0, BLOCK);
            taken += 1;
        }
        assert_eq!(taken, LANE_HIGH / u64::from(BLOCK));
        assert!(!lanes.take(peer(2), 0, BLOCK) && lanes.take(peer(3), 1, BLOCK));
        assert_eq!((lanes.idlest(), lanes.behind()), (1, true));
        lanes.written(0, BLOCK);
        assert_eq!(lanes.next_in_line(), None, "it has to fall to the low mark");
        for _ in 0..taken / 2 {
            lanes.written(0, BLOCK);
        }
        assert_eq!(lanes.next_in_line(), Some(peer(1)));
        assert_eq!(lanes.next_in_line(), Some(peer(2)));
        assert_eq!(lanes.next_in_line(), None);
    }

    #[test]
    fn buffers_are_bounded_over_all_lanes() {
        let mut lanes = Lanes::new(2, 3);
        assert!((0..3).all(|n| lanes.take(peer(n), (n % 2) as u8, 1)));
        assert!(!lanes.take(peer(9), 0, 1));
        assert_eq!(lanes.next_in_line(), None);
        lanes.let_go(1, 1);
        assert_eq!(lanes.next_in_line(), Some(peer(9)));
        assert!(!lanes.behind());
    }

    #[test]
    fn who_leaves_is_out_of_the_line() {
        let mut lanes = Lanes::new(1, 0);
        assert!(!lanes.take(peer(1), 0, 1) && !lanes.take(peer(2), 0, 1));
        lanes.leave_line(peer(1));
        lanes.bufs_max = 1;
        assert_eq!(lanes.next_in_line(), Some(peer(2)));
    }
}
