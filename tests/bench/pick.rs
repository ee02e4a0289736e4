//! What the picker costs in a large swarm: 1,000 peers, 100,000 pieces and 2^18. `cargo bench --bench pick` prints the time of
//! each operation.

#![expect(clippy::print_stdout, reason = "a benchmark prints")]

use ptorrent::api::PeerId;
use ptorrent::base::arena::Handle;
use ptorrent::base::bits::Bitfield;
use ptorrent::base::rng::Rng;
use ptorrent::base::time::Time;
use ptorrent::proto::layout::{Block, Layout};
use ptorrent::session::picker::{Asker, Picker, Pieces, Sender};
use std::hint::black_box;
use std::time::{Duration, Instant};

const PEERS: u32 = 1000;
const PIECE_LENGTH: u32 = 256 << 10;

struct Peer {
    id: PeerId,
    from: Sender,
    has: Bitfield,
    rate: u64,
    requests: Vec<Block>,
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures")]
fn time<T>(run: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let result = run();
    (result, start.elapsed())
}

fn row(what: &str, spent: Duration, count: usize) {
    println!("{what:<58} {:>9.3} us  x {count}", spent.as_secs_f64() * 1e6 / count.max(1) as f64);
}

/// A peer with `share` of 256 of the pieces; every third is fast enough for pieces of its own.
fn peer(n: u32, pieces: u32, share: u8, rng: &mut Rng) -> Peer {
    let mut bytes = vec![0; pieces as usize];
    rng.fill(&mut bytes);
    let mut has = Bitfield::new(pieces);
    for (piece, _) in (0..pieces).zip(&bytes).filter(|(_, byte)| **byte < share) {
        has.set(piece);
    }
    let from = Sender::from(([10, 0, (n >> 8) as u8, n as u8], 6881));
    let rate = if n.is_multiple_of(3) { 1 << 20 } else { 4 << 10 };
    Peer { id: PeerId::from_bits(n), from, has, rate, requests: Vec::new() }
}

/// Each peer asks for `count` blocks. Gives the time and how many peers got some.
fn picks(picker: &mut Picker, peers: &mut [Peer], count: usize) -> (Duration, usize) {
    let (mut served, now) = (0, Time(5_000_000));
    let (_, spent) = time(|| {
        for peer in peers.iter_mut() {
            let before = peer.requests.len();
            let asker = Asker {
                peer: peer.id,
                from: peer.from,
                has: Pieces::Some(&peer.has),
                rate: peer.rate,
                copies: 16,
                is_idle: false,
            };
            picker.pick(&asker, count, now, &mut peer.requests);
            served += usize::from(peer.requests.len() > before);
        }
    });
    (spent, served)
}

/// All requested blocks come. Gives the time and how many they were.
fn arrivals(picker: &mut Picker, peers: &mut [Peer], left: &mut [u32]) -> (Duration, usize) {
    let mut blocks = 0;
    let (_, spent) = time(|| {
        for peer in peers.iter_mut() {
            for block in peer.requests.drain(..) {
                picker.on_block(peer.id, peer.from, block);
                blocks += 1;
                let left = &mut left[block.piece as usize];
                *left -= 1;
                if *left == 0 {
                    picker.on_verified(block.piece, &[]);
                }
            }
        }
    });
    (spent, blocks)
}

/// Rounds of picks and arrivals.
fn rounds(what: &str, picker: &mut Picker, peers: &mut [Peer], left: &mut [u32], count: usize) {
    let (mut asking, mut coming, mut calls, mut blocks) = (Duration::ZERO, Duration::ZERO, 0, 0);
    for _ in 0..30 {
        asking += picks(picker, peers, count).0;
        calls += peers.len();
        let (spent, came) = arrivals(picker, peers, left);
        coming += spent;
        blocks += came;
    }
    row(&format!("pick of {count}, {what}"), asking, calls);
    row("  the same, per block", asking, blocks);
    row("  block arrived (and piece verified)", coming, blocks);
}

fn main() {
    run(100_000);
    println!();
    run(1 << 18);
}

fn run(pieces: u32) {
    let mut rng = Rng::new([7; 32]);
    let layout =
        Layout::new(PIECE_LENGTH, [u64::from(pieces) * u64::from(PIECE_LENGTH)]).expect("within limits");
    println!("{PEERS} peers, {pieces} pieces");
    let all = Bitfield::full(pieces);
    let (mut picker, spent) = time(|| Picker::new(&layout, &all, false, &mut rng));
    row("new", spent, 1);

    let mut peers: Vec<Peer> = (0..PEERS).map(|n| peer(n, pieces, 20 + (n % 230) as u8, &mut rng)).collect();
    let (_, spent) = time(|| peers.iter().for_each(|peer| picker.on_bitfield(&peer.has, true)));
    row("bitfield joins", spent, peers.len());
    let lure = |peer: &Peer| picker.lure(Pieces::Some(&peer.has), 0);
    let (_, spent) = time(|| black_box(peers.iter().filter_map(lure).count()));
    row("is it interesting", spent, peers.len());

    let haves: Vec<(u32, u32)> = (0..1_000_000).map(|_| (rng.below(PEERS), rng.below(pieces))).collect();
    let news: Vec<u32> = haves
        .iter()
        .filter(|(n, piece)| peers[*n as usize].has.set(*piece))
        .map(|(_, piece)| *piece)
        .collect();
    let (_, spent) = time(|| news.iter().filter(|piece| picker.on_have(**piece)).count());
    row("have", spent, news.len());

    let mut left = vec![PIECE_LENGTH / (16 << 10); pieces as usize];
    rounds("first", &mut picker, &mut peers, &mut left, 1);
    rounds("one block", &mut picker, &mut peers, &mut left, 1);
    rounds("8 blocks", &mut picker, &mut peers, &mut left, 8);

    let mut poor: Vec<Peer> = (PEERS..2 * PEERS).map(|n| peer(n, pieces, 0, &mut rng)).collect();
    for peer in &mut poor {
        (0..20).for_each(|_| _ = peer.has.set(rng.below(pieces)));
    }
    let (_, spent) = time(|| poor.iter().for_each(|peer| picker.on_bitfield(&peer.has, true)));
    row("bitfield of 20 pieces joins", spent, poor.len());
    let (spent, served) = picks(&mut picker, &mut poor, 1);
    row(&format!("pick of 1, peers with 20 pieces ({served} served)"), spent, poor.len());
    for peer in &poor {
        picker.on_lost(peer.id, peer.requests.iter().copied());
        picker.on_bitfield(&peer.has, false);
    }
    let mut empty: Vec<Peer> = (PEERS..2 * PEERS).map(|n| peer(n, pieces, 0, &mut rng)).collect();
    let (spent, _) = picks(&mut picker, &mut empty, 1);
    row("pick of 1, peers with nothing", spent, empty.len());
    for peer in &empty {
        picker.on_lost(peer.id, []);
    }

    // Who has only what others are at.
    let mut begun: Vec<Peer> = (PEERS..2 * PEERS).map(|n| peer(n, pieces, 0, &mut rng)).collect();
    for (peer, other) in begun.iter_mut().zip(&peers) {
        other.requests.iter().for_each(|block| _ = peer.has.set(block.piece));
    }
    let (spent, served) = picks(&mut picker, &mut begun, 1);
    row(&format!("pick of 1, peers with what others are at ({served} served)"), spent, begun.len());
    for peer in &begun {
        picker.on_lost(peer.id, peer.requests.iter().copied());
    }

    let gone = peers.split_off(peers.len() / 2);
    let (_, spent) = time(|| {
        for peer in &gone {
            picker.on_lost(peer.id, peer.requests.iter().copied());
            picker.on_bitfield(&peer.has, false);
        }
    });
    row("peer leaves", spent, gone.len());

    (0..pieces - 200).for_each(|piece| picker.set_have(piece));
    while !picker.is_endgame() {
        picks(&mut picker, &mut peers, 16);
    }
    let (spent, served) = picks(&mut picker, &mut peers, 16);
    row(&format!("pick of 16 in the end-game ({served} served)"), spent, peers.len());
    let (spent, served) = picks(&mut picker, &mut peers, 16);
    row(&format!("pick of 16 in the end-game, again ({served} served)"), spent, peers.len());
}
