//! The heap of deadlines. Who waits keeps the moment it is armed for; an entry that is not that moment is stale and
//! falls out by itself, so nothing is ever searched for.

use crate::api::{PeerId, TorrentId};
use crate::base::time::Time;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Who waits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Key {
    Peer(PeerId),
    Torrent(TorrentId),
    /// Who is served is decided.
    Choke(TorrentId),
    /// Peers are told of new pieces.
    Haves(TorrentId),
    /// The rate limit lets requests out again.
    Requests,
    /// Peers wait for a pick.
    Refills,
    /// The rate limit lets reads begin again.
    Reads,
    /// More metadata may go out.
    Metadata,
    /// A call to a tracker has become slow.
    Calls,
    Stop,
    Dial,
    /// Something is due with UDP trackers.
    Udp,
    /// The same with the DHT.
    Dht,
    /// Something is to be announced on the local network.
    Lsd,
    /// Our network has changed and has had time to settle.
    Network,
}

#[derive(Default)]
pub(super) struct Timers {
    heap: BinaryHeap<Reverse<(Time, Key)>>,
}

impl Timers {
    /// Makes `key` come up at `at`, unless it is armed for an earlier moment already. One that moved later is not
    /// told: it comes up early, finds nothing due and is armed anew.
    pub(super) fn arm(&mut self, armed: &mut Time, at: Time, key: Key) {
        if at < *armed {
            *armed = at;
            self.heap.push(Reverse((at, key)));
        }
    }

    /// The next entry that is due, stale ones among them.
    pub(super) fn due(&mut self, now: Time) -> Option<(Time, Key)> {
        let &Reverse((at, key)) = self.heap.peek()?;
        if at > now {
            return None;
        }
        self.heap.pop();
        Some((at, key))
    }

    /// How many entries there are, stale ones among them.
    pub(super) fn len(&self) -> usize {
        self.heap.len()
    }

    /// Drops what is not `live`, and what is there twice: who is often woken early leaves its later moment behind each
    /// time.
    pub(super) fn tidy(&mut self, live: impl Fn(Time, Key) -> bool) {
        let mut rest: Vec<_> = self.heap.drain().filter(|&Reverse((at, key))| live(at, key)).collect();
        rest.sort_unstable();
        rest.dedup();
        self.heap = rest.into();
    }

    /// When to look again.
    pub(super) fn next(&self) -> Option<Time> {
        self.heap.peek().map(|&Reverse((at, _))| at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_comes_first_and_later_ones_do_not_pile_up() {
        let mut timers = Timers::default();
        let mut armed = Time::NEVER;
        timers.arm(&mut armed, Time(50), Key::Stop);
        timers.arm(&mut armed, Time(70), Key::Stop);
        timers.arm(&mut armed, Time(20), Key::Stop);
        assert_eq!((armed, timers.next()), (Time(20), Some(Time(20))));
        assert_eq!(timers.due(Time(19)), None);
        assert_eq!(timers.due(Time(60)), Some((Time(20), Key::Stop)));
        assert_eq!(timers.due(Time(60)), Some((Time(50), Key::Stop)));
        assert_eq!(timers.due(Time(60)), None);
    }
}
