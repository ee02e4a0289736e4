//! One connection: what both sides have said, what we asked of it and what it asked of us.

use super::bitfields::Bitfields;
use super::choker::Turn;
use super::extensions::Spoken;
use super::fast::Fast;
use super::metadata::{Asks, Early};
use super::pex::Part;
use super::picker::Pieces;
use super::refills::RefillState;
use super::super_seed::Offer;
use crate::api::TorrentId;
use crate::base::bits::Bitfield;
use crate::base::buf::BLOCK;
use crate::base::rate::Rate;
use crate::base::time::Time;
use crate::limits::{
    HANDSHAKE_TIMEOUT, MSE_TIMEOUT, PIPELINE, PIPELINE_START, PIPELINE_UNKNOWN, REQUESTS_LATE_MAX,
    REQUESTS_MARGIN, REQUESTS_MARGIN_SHARE, REQUESTS_OUT_MAX,
};
use crate::proto::layout::Block;
use crate::proto::mse::Method;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

/// How far a connection has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stage {
    /// We dialled and wait for the connection.
    Connecting,
    /// It is there; we wait for the other side's handshake.
    Handshaking,
    /// Both handshakes are through.
    Open,
}

/// A block on its way from the socket into memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Incoming {
    pub(super) block: Block,
    pub(super) lane: u8,
}

/// The session's half of a connection.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) addr: SocketAddr,
    pub(super) outgoing: bool,
    /// Known from the start when we dialled, else from the handshake on.
    pub(super) torrent: Option<TorrentId>,
    pub(super) stage: Stage,
    /// We dialled it and offer an encrypted handshake.
    pub(super) offers: bool,
    /// It called, and got our handshake for this torrent before its id came.
    pub(super) answered: Option<TorrentId>,
    /// How it is encrypted, if it is.
    pub(super) encrypted: Option<Method>,
    /// The id of its handshake (BEP 20).
    pub(super) id: [u8; 20],
    /// When the stage began.
    pub(super) since: Time,
    pub(super) heard: Time,
    pub(super) said: Time,
    /// When payload moved last, either way; not what a choked peer takes.
    pub(super) active: Time,
    /// For [`super::timers`].
    pub(super) armed: Time,

    /// What it told in handshakes of extensions.
    pub(super) spoken: Spoken,
    /// Its part in [`super::fast`].
    pub(super) fast: Fast,
    /// When it last told the port of its DHT node.
    pub(super) port_at: Option<Time>,
    /// Where it says that it listens, when it called us.
    pub(super) listens: Option<SocketAddr>,
    /// Its part in [`super::pex`].
    pub(super) pex: Part,
    /// What it has.
    pub(super) has: Bitfield,
    /// What it said of its pieces while the torrent did not run.
    pub(super) early: Option<Box<Early>>,
    /// Its requests for metadata.
    pub(super) asks: Asks,
    /// The bitfields that it sent.
    pub(super) bitfields: Bitfields,
    /// How many pieces it said that it lost.
    pub(super) lost: u32,
    /// The picker knows it as one that has everything.
    pub(super) counted_as_seed: bool,
    /// A piece that it has and we want and lacked when we looked last: why we are interested.
    pub(super) lure: Option<u32>,
    /// How far it has heard of our new pieces ([`super::haves`]).
    pub(super) told: u64,
    /// It had nothing that we could ask for, and stands in line for when that changes.
    pub(super) starved: bool,
    pub(super) am_interested: bool,
    pub(super) am_choking: bool,
    pub(super) interested: bool,
    pub(super) choking: bool,
    /// Its part in [`super::choker`].
    pub(super) turn: Turn,
    /// What a super-seed shows it; None: all that we have.
    pub(super) offer: Option<Offer>,

    /// Requests open with it, oldest first.
    pub(super) asked: VecDeque<Block>,
    /// Requests given up after a choke, a cancel or a time-out: should the block come all the same, it is welcome.
    pub(super) late: VecDeque<Block>,
    /// Its part in [`super::refills`].
    pub(super) refills: RefillState,
    /// It stands in line for requests under the rate limit.
    pub(super) in_line: bool,
    /// How many requests to keep open.
    pub(super) depth: u32,
    pub(super) incoming: Option<Incoming>,
    /// It stands in line for the disk, so its clocks stand still.
    pub(super) waiting: bool,
    pub(super) snubbed: bool,
    /// When a block came last, or the first request went out.
    pub(super) block_at: Time,
    /// Since when it has been asked and has given nothing, whatever it rejects or chokes in between.
    pub(super) owes_since: Option<Time>,
    pub(super) down: Rate,
    pub(super) downloaded: u64,

    /// What it asked for and we have not begun to read.
    pub(super) queue: VecDeque<Block>,
    /// Its blocks that are being read.
    pub(super) reading: u32,
    /// Its blocks that stand in the outbox.
    pub(super) sending: u32,
    /// Bytes of these.
    pub(super) going: u64,
    /// It stands in the upload round.
    pub(super) in_round: bool,
    pub(super) up: Rate,
    pub(super) uploaded: u64,
}

impl Peer {
    pub(super) fn new(addr: SocketAddr, outgoing: bool, torrent: Option<TorrentId>, now: Time) -> Peer {
        Peer {
            addr,
            outgoing,
            torrent,
            stage: if outgoing { Stage::Connecting } else { Stage::Handshaking },
            offers: false,
            answered: None,
            encrypted: None,
            id: [0; 20],
            since: now,
            heard: now,
            said: now,
            active: now,
            armed: Time::NEVER,
            spoken: Spoken::default(),
            fast: Fast::default(),
            port_at: None,
            listens: None,
            pex: Part::default(),
            has: Bitfield::default(),
            early: None,
            asks: Asks::default(),
            bitfields: Bitfields::default(),
            lost: 0,
            counted_as_seed: false,
            lure: None,
            told: 0,
            starved: false,
            am_interested: false,
            am_choking: true,
            interested: false,
            choking: true,
            turn: Turn::new(now),
            offer: None,
            asked: VecDeque::new(),
            late: VecDeque::new(),
            refills: RefillState::default(),
            in_line: false,
            depth: PIPELINE_START,
            incoming: None,
            waiting: false,
            snubbed: false,
            block_at: now,
            owes_since: None,
            down: Rate::new(),
            downloaded: 0,
            queue: VecDeque::new(),
            reading: 0,
            sending: 0,
            going: 0,
            in_round: false,
            up: Rate::new(),
            uploaded: 0,
        }
    }

    /// How long its handshake may take.
    pub(super) fn patience(&self) -> Duration {
        if self.offers { MSE_TIMEOUT } else { HANDSHAKE_TIMEOUT }
    }

    /// Whether handshakes are through and the other side has every piece.
    pub(super) fn is_seed(&self) -> bool {
        self.stage == Stage::Open && !self.has.is_empty() && self.has.all()
    }

    /// What it has, as the picker likes to hear it.
    pub(super) fn pieces(&self) -> Pieces<'_> {
        if self.has.all() { Pieces::All } else { Pieces::Some(&self.has) }
    }

    /// Bytes a second, lately.
    pub(super) fn rate(&self, now: Time) -> u64 {
        self.down.per_second(PIPELINE.as_secs(), now)
    }

    /// Sets how many requests to keep open: what it sends in [`PIPELINE`], and a few to find out whether it can do
    /// more. That doubles a round trip's worth each round trip until the rate stops growing.
    pub(super) fn tune_depth(&mut self, now: Time) {
        let ahead = self.rate(now).saturating_mul(PIPELINE.as_secs()) / u64::from(BLOCK);
        let ahead = u32::try_from(ahead).unwrap_or(u32::MAX);
        self.depth = PIPELINE_START.saturating_add(ahead).min(self.depth_max());
    }

    /// The most requests to keep open: a margin less than it says that it keeps (BEP 10), or than others keep.
    pub(super) fn depth_max(&self) -> u32 {
        let kept = self.spoken.reqq.unwrap_or(PIPELINE_UNKNOWN);
        let margin = (kept / REQUESTS_MARGIN_SHARE).min(REQUESTS_MARGIN);
        kept.saturating_sub(margin).clamp(1, REQUESTS_OUT_MAX)
    }

    /// Where it can be called, as far as we know.
    pub(super) fn home(&self) -> SocketAddr {
        self.listens.unwrap_or(self.addr)
    }

    /// Whether it knows that we have this piece, if we do: a super-seed hides most.
    pub(super) fn was_told(&self, piece: u32) -> bool {
        self.offer.is_none_or(|offer| offer.shows(piece))
    }

    /// Whether this block was asked for and not given up for good.
    pub(super) fn expects(&self, block: Block) -> bool {
        self.asked.contains(&block) || self.late.contains(&block)
    }

    /// Takes the block off the requests. Tells whether it was open or given up.
    pub(super) fn settle(&mut self, block: Block) -> bool {
        if let Some(at) = self.asked.iter().position(|b| *b == block) {
            self.asked.remove(at).is_some()
        } else if let Some(at) = self.late.iter().position(|b| *b == block) {
            self.late.remove(at).is_some()
        } else {
            false
        }
    }

    /// Bytes that it was asked for and has not sent.
    pub(super) fn owes(&self) -> u64 {
        self.asked.iter().map(|block| u64::from(block.len)).sum()
    }

    /// Gives up the open requests; the blocks may still come.
    pub(super) fn give_up_requests(&mut self) {
        self.late.append(&mut self.asked);
        self.trim_late();
    }

    /// Gives up one open request; the block, or a reject, may still come.
    pub(super) fn give_up(&mut self, at: usize) {
        self.late.extend(self.asked.remove(at));
        self.trim_late();
    }

    fn trim_late(&mut self) {
        while self.late.len() > REQUESTS_LATE_MAX {
            self.late.pop_front();
            self.fast.forgot = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer() -> Peer {
        Peer::new("127.0.0.1:1".parse().unwrap(), true, None, Time::ZERO)
    }

    #[test]
    fn the_pipeline_follows_the_rate_and_stays_bounded() {
        let mut p = peer();
        p.tune_depth(Time::ZERO);
        assert_eq!(p.depth, PIPELINE_START);
        let mut now = Time(10_000_000);
        for _ in 0..50 {
            p.down.add(10 * u64::from(BLOCK), now);
            now += Duration::from_millis(100);
        }
        p.tune_depth(now);
        let most = PIPELINE_UNKNOWN - REQUESTS_MARGIN;
        assert!((200..=most).contains(&p.depth), "100 blocks a second: {}", p.depth);
        p.down.add(1 << 40, now);
        p.tune_depth(now);
        assert_eq!(p.depth, most);
        let max = REQUESTS_OUT_MAX;
        for (reqq, depth) in
            [(0, 1), (1, 1), (40, 30), (512, 480), (max, max - 32), (2000, max), (u32::MAX, max)]
        {
            p.spoken.reqq = Some(reqq);
            p.tune_depth(now);
            assert_eq!(p.depth, depth, "it keeps {reqq}");
        }
        p.tune_depth(now + Duration::from_secs(30));
        assert_eq!(p.depth, PIPELINE_START);
    }

    #[test]
    fn requests_given_up_are_still_expected_but_not_without_bound() {
        let mut p = peer();
        for begin in 0..2 * REQUESTS_LATE_MAX as u32 {
            p.asked.push_back(Block { piece: 0, begin, len: 1 });
        }
        let last = *p.asked.back().unwrap();
        p.give_up_requests();
        assert!(p.asked.is_empty() && p.expects(last));
        assert_eq!((p.late.len(), p.fast.forgot), (REQUESTS_LATE_MAX, true));
        p.settle(last);
        assert!(!p.expects(last));
    }
}
