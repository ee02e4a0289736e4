//! The fast extension (BEP 6) and lost pieces (BEP 54) in whole swarms.

use super::disk::{Disk, fill};
use super::hostile::hello;
use super::world::{Link, NodeId, Script, World};
use super::{MINUTE, complete, finish, leecher, seed, seeder, spec, wind_up};
use ptorrent::api::Spec;
use ptorrent::proto::id::InfoHash;
use ptorrent::proto::layout::Block;
use ptorrent::proto::wire::decoder::{Decoder, Fate, Step};
use ptorrent::proto::wire::message::Message;
use std::sync::Arc;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

/// How a peer that has everything treats requests.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// It chokes at the first ones and rejects them, then unchokes and serves.
    ChokesAndRejects,
    /// The same, but of the first ones it says nothing, as without the extension.
    ChokesSilently,
    /// It never unchokes, but allows one piece and serves that.
    Allows(u32),
    /// It serves, but for odd pieces, which it rejects.
    RejectsOdd,
    /// It serves, but rejects each fifth request.
    RejectsFifth,
}

/// A peer that speaks the fast extension, by a manner of its own.
struct Fast {
    manner: Manner,
    decoder: Decoder,
    hello: Vec<u8>,
    choked: bool,
    requests: u32,
}

impl Fast {
    fn new(info_hash: InfoHash, manner: Manner) -> Fast {
        let mut hello = hello(info_hash, 90);
        Message::HaveAll.encode(&mut hello);
        match manner {
            Manner::Allows(piece) => Message::AllowedFast(piece).encode(&mut hello),
            _ => Message::Unchoke.encode(&mut hello),
        }
        Fast { manner, decoder: Decoder::new(), hello, choked: false, requests: 0 }
    }

    fn on_request(&mut self, block: Block, out: &mut Vec<u8>) {
        self.requests += 1;
        let serves = match self.manner {
            Manner::RejectsFifth => !self.requests.is_multiple_of(5),
            Manner::Allows(piece) => block.piece == piece,
            Manner::RejectsOdd => block.piece.is_multiple_of(2),
            Manner::ChokesAndRejects | Manner::ChokesSilently => true,
        };
        if serves {
            Message::Piece(block).encode(out);
            let at = out.len();
            out.resize(at + block.len as usize, 0);
            fill(block, &mut out[at..]);
        } else {
            Message::Reject(block).encode(out);
        }
    }

    fn choke_once(&mut self, requests: &mut Vec<Block>, out: &mut Vec<u8>) {
        let chokes = matches!(self.manner, Manner::ChokesAndRejects | Manner::ChokesSilently);
        if !chokes || requests.is_empty() || std::mem::replace(&mut self.choked, true) {
            return;
        }
        Message::Choke.encode(out);
        for block in requests.drain(..) {
            if self.manner == Manner::ChokesAndRejects {
                Message::Reject(block).encode(out);
            }
        }
        Message::Unchoke.encode(out);
    }
}

impl Script for Fast {
    fn open(&mut self) -> Vec<u8> {
        self.hello.clone()
    }

    fn bytes(&mut self, mut bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut requests = Vec::new();
        while let Ok(Some(step)) = self.decoder.next(&mut bytes) {
            match step {
                Step::Message(Message::Request(block)) => requests.push(block),
                Step::Message(message) => drop(message),
                Step::InfoHash(_) | Step::Handshake(_) => {}
                Step::Piece(_) => self.decoder.decide(Fate::Skip),
            }
        }
        self.choke_once(&mut requests, &mut out);
        for block in requests {
            self.on_request(block, &mut out);
        }
        out
    }
}

fn fast(w: &mut World, spec: &Arc<Spec>, manner: Manner) -> NodeId {
    let hash = spec.meta.info_hash;
    let node = w.add_script(Link::default(), move || Box::new(Fast::new(hash, manner)));
    w.list(node);
    node
}

/// Seconds until a leecher is complete that has only a peer of this manner.
fn takes(manner: Manner) -> u64 {
    let mut w = World::new(seed());
    let spec = spec(16, 64 << 10, |_| {});
    fast(&mut w, &spec, manner);
    let leech = leecher(&mut w, &spec, Link::default());
    finish(&mut w, &[leech], 5 * MINUTE);
    w.nodes[leech].seen.complete.map_or(u64::MAX, |at| at.secs())
}

#[test]
fn requests_that_are_rejected_are_made_again_at_once() {
    let (rejected, silent) = (takes(Manner::ChokesAndRejects), takes(Manner::ChokesSilently));
    assert!(rejected < 8 && silent >= 30, "{rejected} s, and {silent} s where nothing is said");
}

#[test]
fn a_peer_that_rejects_some_requests_alone_completes_the_download() {
    let took = takes(Manner::RejectsFifth);
    assert!(took < 30, "{took} s");
}

#[test]
fn a_piece_that_one_peer_rejects_comes_from_another() {
    let mut w = World::new(seed());
    let spec = spec(40, 64 << 10, |_| {});
    fast(&mut w, &spec, Manner::RejectsOdd);
    let leech = leecher(&mut w, &spec, Link::default());
    w.run(2 * MINUTE, |w| w.nodes[leech].disk.have().count() == 20);
    assert_eq!(w.nodes[leech].disk.have().count(), 20, "what it gives comes");
    // Who rejects and rejects costs little.
    let before = w.nodes[leech].seen.messages["request"];
    w.run(MINUTE, |_| false);
    let asked = w.nodes[leech].seen.messages["request"] - before;
    assert!(asked <= 60 * 8, "{asked} requests in a minute");
    seeder(&mut w, &spec, Link::default());
    finish(&mut w, &[leech], 30 * MINUTE);
}

#[test]
fn an_allowed_piece_comes_though_we_are_choked() {
    let mut w = World::new(seed());
    let spec = spec(16, 64 << 10, |_| {});
    fast(&mut w, &spec, Manner::Allows(11));
    let leech = leecher(&mut w, &spec, Link::default());
    w.run(10 * SECOND, |_| false);
    let have = w.nodes[leech].disk.have();
    assert_eq!(have.iter().collect::<Vec<_>>(), [11]);
    assert_eq!(w.nodes[leech].seen.peers, 1);
    wind_up(&mut w);
}

#[test]
fn a_seed_without_a_slot_gives_newcomers_their_first_pieces() {
    let mut w = World::new(seed());
    let quiet = spec(200, 64 << 10, |s| s.trackers.clear());
    let from = w.add(Link { rate: 2 << 20, ..Link::default() }, Disk::full(200, 2), |c| c.max_upload = 1);
    w.start(from, &quiet, Duration::ZERO);
    let addr = w.nodes[from].addr;
    let named = spec(200, 64 << 10, |s| {
        s.trackers.clear();
        s.peers.push((addr.ip().to_string(), addr.port()));
    });
    let leechers: Vec<NodeId> = (0..4).map(|_| leecher(&mut w, &named, Link::default())).collect();
    w.run(7 * SECOND, |_| false);
    let mut have: Vec<u32> = leechers.iter().map(|n| w.nodes[*n].disk.have().count()).collect();
    have.sort_unstable();
    let [few @ .., most] = &have[..] else { panic!("{have:?}") };
    assert!(few.iter().all(|count| (5..=10).contains(count)) && *most > 20, "{have:?}");
    let said = &w.nodes[from].seen.messages;
    assert_eq!(
        (said["have all"], said["allowed"], said.contains_key("bitfield")),
        (4, 40, false),
        "{said:?}"
    );
    assert!(leechers.iter().all(|n| w.nodes[*n].seen.messages["have none"] == 1));
    assert!(w.run(10 * MINUTE, |w| leechers.iter().all(|n| complete(w, *n))));
    wind_up(&mut w);
}

#[test]
fn who_loses_a_piece_keeps_its_peers() {
    let mut w = World::new(seed());
    let spec = spec(40, 64 << 10, |_| {});
    let only = super::spec(40, 64 << 10, |s| s.seed_only = true);
    let from = seeder(&mut w, &only, Link { rate: 1 << 20, ..Link::default() });
    w.run(SECOND, |_| false);
    w.nodes[from].disk.bad.insert(7);
    let leech = leecher(&mut w, &spec, Link::default());
    assert!(w.run(MINUTE, |w| w.nodes[leech].disk.have().count() == 39));
    w.run(MINUTE, |_| false);
    let seen = &w.nodes[leech].seen;
    assert_eq!((seen.peers, seen.closed.len(), w.nodes[from].seen.closed.len()), (1, 0, 0), "{seen:?}");
    // It is known to lack that piece: it is not asked for it again and again.
    let before = seen.messages["request"];
    w.run(10 * MINUTE, |_| false);
    assert_eq!(w.nodes[leech].seen.messages["request"], before);
    let more = seeder(&mut w, &spec, Link::default());
    w.list(more);
    finish(&mut w, &[leech], 60 * MINUTE);
}

/// All kinds of messages at random, from peers that speak every extension: nothing breaks, and nobody is kept up.
#[test]
fn random_messages_of_all_kinds_harm_nobody() {
    struct Noise {
        hello: Vec<u8>,
        rng: ptorrent::base::rng::Rng,
        pieces: u32,
    }
    impl Script for Noise {
        fn open(&mut self) -> Vec<u8> {
            self.hello.clone()
        }
        fn bytes(&mut self, _: &[u8]) -> Vec<u8> {
            let (rng, pieces) = (&mut self.rng, self.pieces);
            let mut out = Vec::new();
            for _ in 0..rng.below(20) {
                let piece = rng.below(pieces);
                let block = Block { piece, begin: rng.below(4) << 14, len: 16384 };
                match rng.below(12) {
                    0 => Message::Choke,
                    1 => Message::Unchoke,
                    2 => Message::Interested,
                    3 => Message::NotInterested,
                    4 => Message::Have(piece),
                    5 => Message::Cancel(block),
                    6 => Message::Suggest(piece),
                    7 => Message::AllowedFast(piece),
                    8 => Message::Extended { id: 3, body: piece.to_be_bytes().to_vec().into() },
                    9 => Message::Extended {
                        id: 0,
                        body: b"d1:md11:lt_donthavei3e11:upload_onlyi4eee"[..].into(),
                    },
                    10 => Message::Extended { id: 4, body: vec![rng.below(2) as u8].into() },
                    _ => Message::HaveNone,
                }
                .encode(&mut out);
            }
            out
        }
    }
    let mut w = World::new(seed());
    let spec = spec(40, 64 << 10, |_| {});
    let (hash, pieces) = (spec.meta.info_hash, 40);
    for n in 0..8u8 {
        let make = move || -> Box<dyn Script> {
            let rng = ptorrent::base::rng::Rng::new([n; 32]);
            Box::new(Noise { hello: hello(hash, 100 + n), rng, pieces })
        };
        let node = w.add_script(Link::default(), make);
        w.list(node);
    }
    seeder(&mut w, &spec, Link { rate: 1 << 20, ..Link::default() });
    let leech = leecher(&mut w, &spec, Link::default());
    finish(&mut w, &[leech], 10 * MINUTE);
}
