//! The simulator: whole swarms in virtual time from one seed (`SEED=n` replays a failure). Each test reads as a
//! picture of a network and says what must come of it.

#[path = "sim/choking.rs"]
mod choking;
#[path = "sim/commands.rs"]
mod commands;
#[path = "sim/datagrams.rs"]
mod datagrams;
#[path = "sim/disk.rs"]
mod disk;
#[path = "sim/encryption.rs"]
mod encryption;
#[path = "sim/fast.rs"]
mod fast;
#[path = "sim/hostile.rs"]
mod hostile;
#[path = "sim/idle.rs"]
mod idle;
#[path = "sim/many.rs"]
mod many;
#[path = "sim/metadata.rs"]
mod metadata;
#[path = "sim/peers.rs"]
mod peers;
#[path = "sim/rates.rs"]
mod rates;
#[path = "sim/selection.rs"]
mod selection;
#[path = "sim/turnover.rs"]
mod turnover;
#[path = "sim/udp.rs"]
mod udp;
#[path = "sim/web.rs"]
mod web;
#[path = "sim/world.rs"]
mod world;

use disk::Disk;
use ptorrent::api::{Reason, Spec, State, Why};
use ptorrent::limits::{LANE_HIGH, REQUEST_MAX};
use ptorrent::proto::metainfo::Metainfo;
use ptorrent::proto::metainfo::{Content, Plan, build};
use ptorrent::proto::tracker::Event;
use ptorrent::proto::tracker::url::Url;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use world::{Link, NodeId, World};

const MINUTE: Duration = Duration::from_secs(60);
const NOW: Duration = Duration::ZERO;

#[expect(clippy::disallowed_methods, reason = "SEED=n replays a failure")]
#[expect(clippy::print_stdout, reason = "shown with a failure: what to replay")]
fn seed() -> u64 {
    let seed = std::env::var("SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(1);
    println!("SEED={seed}");
    seed
}

/// Says what came of a scenario.
#[expect(clippy::print_stdout, reason = "figures for whoever runs a scenario with --nocapture")]
fn figure(text: std::fmt::Arguments<'_>) {
    println!("{text}");
}

/// A torrent of one file; its hashes are never looked at, the simulated disk knows what is right.
fn meta(pieces: u32, piece_length: u32) -> Metainfo {
    named("file", pieces, piece_length)
}

fn named(name: &str, pieces: u32, piece_length: u32) -> Metainfo {
    let total = u64::from(pieces) * u64::from(piece_length) - 5;
    let hashes = vec![0; pieces as usize * 20];
    let plan = Plan::bare(name, Content::Single(total), piece_length, &hashes);
    Metainfo::parse(&build(&plan)).expect("a sound torrent")
}

fn spec(pieces: u32, piece_length: u32, change: impl FnOnce(&mut Spec)) -> Arc<Spec> {
    let mut spec = Spec {
        meta: meta(pieces, piece_length),
        dir: PathBuf::from("/sim"),
        wanted: vec![true],
        seed_only: false,
        overwrite: false,
        prealloc: Default::default(),
        disk_io: Default::default(),
        sequential: false,
        super_seed: false,
        seed_ratio: None,
        seed_time: None,
        trackers: vec![vec![Url::parse("http://tracker.sim/announce").expect("a URL")]],
        web_seeds: vec![],
        peers: vec![],
        state_dir: None,
    };
    change(&mut spec);
    Arc::new(spec)
}

fn seeder(w: &mut World, spec: &Arc<Spec>, link: Link) -> NodeId {
    let pieces = spec.meta.layout.pieces();
    let node = w.add(link, Disk::full(pieces, 2), |_| {});
    w.start(node, spec, NOW);
    node
}

fn leecher(w: &mut World, spec: &Arc<Spec>, link: Link) -> NodeId {
    let pieces = spec.meta.layout.pieces();
    let node = w.add(link, Disk::empty(pieces, 2), |_| {});
    w.start(node, spec, Duration::from_secs(2));
    node
}

fn complete(w: &World, node: NodeId) -> bool {
    w.nodes[node].seen.complete.is_some()
}

/// Runs until these are complete; then ends everybody and looks at what must hold of every world.
fn finish(w: &mut World, leechers: &[NodeId], span: Duration) {
    let done = w.run(span, |w| leechers.iter().all(|n| complete(w, *n)));
    for node in leechers {
        let seen = &w.nodes[*node].seen;
        assert!(
            done,
            "node {node} is not complete after {span:?}: {:?} {seen:?}",
            w.nodes[*node].disk.have().count()
        );
        assert!(w.nodes[*node].disk.have().all());
    }
    wind_up(w);
}

fn wind_up(w: &mut World) {
    for node in 0..w.nodes.len() {
        w.quit(node, NOW);
    }
    w.run(MINUTE, |_| false);
    for (id, node) in w.nodes.iter().enumerate().filter(|(_, n)| n.alive) {
        assert_eq!(node.pool.out(), 0, "node {id} did not bring every buffer home");
        assert!(node.seen.finished || node.seen.state.is_none(), "node {id} did not finish");
        assert!(node.disk.is_closed(), "node {id} left its files open");
    }
}

#[test]
fn one_leecher_gets_the_file_from_one_seed_at_nearly_the_rate_of_the_link() {
    let mut w = World::new(seed());
    let spec = spec(200, 256 << 10, |_| {});
    seeder(&mut w, &spec, Link::default());
    let leech = leecher(&mut w, &spec, Link::default());
    // 50 MiB at 10 MiB/s are 5 s; dialling and the slow start come on top.
    finish(&mut w, &[leech], Duration::from_secs(12));
    assert_eq!(w.nodes[leech].seen.downloaded, spec.meta.layout.total());
}

#[test]
fn the_pipeline_fills_a_long_link() {
    // 200 Mbit/s, 100 ms there and back, and a window that does not narrow it.
    let mut w = World::new(seed());
    w.window = 8 << 20;
    let spec = spec(1024, 256 << 10, |_| {});
    let far = Link { delay: Duration::from_millis(25), rate: 25_000_000 };
    seeder(&mut w, &spec, far);
    let leech = leecher(&mut w, &spec, far);
    assert!(w.run(Duration::from_secs(20), |w| w.nodes[leech].seen.got > 0));
    let start = w.now;
    finish(&mut w, &[leech], Duration::from_secs(60));
    let took = w.nodes[leech].seen.complete.expect("it is complete").since(start);
    let rate = spec.meta.layout.total() * 1000 / took.as_millis() as u64;
    assert!(rate * 10 >= far.rate * 9, "{rate} bytes a second of {}", far.rate);
}

#[test]
fn several_seeds_share_the_work() {
    let mut w = World::new(seed());
    let spec = spec(160, 256 << 10, |_| {});
    let slow = Link { delay: Duration::from_millis(30), rate: 2 << 20 };
    let seeds: Vec<NodeId> = (0..4).map(|_| seeder(&mut w, &spec, slow)).collect();
    let leech = leecher(&mut w, &spec, Link::default());
    finish(&mut w, &[leech], Duration::from_secs(15));
    for seed in seeds {
        let share = w.nodes[seed].seen.uploaded * 100 / spec.meta.layout.total();
        assert!((10..=45).contains(&share), "a quarter each, more or less: {share} %");
    }
}

#[test]
fn lost_connections_and_dead_peers_cost_time_but_no_data() {
    let mut w = World::new(seed());
    let spec = spec(120, 256 << 10, |_| {});
    let slow = Link { delay: Duration::from_millis(30), rate: 1 << 20 };
    let seeds: Vec<NodeId> = (0..5).map(|_| seeder(&mut w, &spec, slow)).collect();
    let leech = leecher(&mut w, &spec, Link::default());
    for (n, node) in seeds.iter().enumerate().take(3) {
        w.kill(*node, Duration::from_secs(3 + n as u64));
    }
    for second in 0..6 {
        w.cut(leech, Duration::from_millis(3500 + 1500 * second));
    }
    finish(&mut w, &[leech], 5 * MINUTE);
}

#[test]
fn a_peer_that_alone_sent_a_bad_piece_is_banned() {
    let mut w = World::new(seed());
    let spec = spec(40, 256 << 10, |_| {});
    let liar = seeder(&mut w, &spec, Link::default());
    w.nodes[liar].disk.lies = |block| block.piece.is_multiple_of(5) && block.begin == 0;
    let leech = leecher(&mut w, &spec, Link::default());
    w.run(Duration::from_secs(20), |w| !w.nodes[leech].seen.errors.is_empty());
    let errors = &w.nodes[leech].seen.errors;
    assert!(
        errors.iter().any(|(reason, text)| *reason == Reason::Hash && text.contains("banned")),
        "{errors:?}"
    );
    assert!(w.nodes[leech].seen.closed.contains(&Why::Corrupt));
    let honest = seeder(&mut w, &spec, Link::default());
    w.list(honest);
    w.cut(leech, NOW);
    w.list(liar);
    finish(&mut w, &[leech], 60 * MINUTE);
}

#[test]
fn of_several_senders_only_the_guilty_one_is_banned() {
    let mut w = World::new(seed());
    // Pieces so long that one piece comes from several peers.
    let spec = spec(12, 4 << 20, |_| {});
    let slow = Link { delay: Duration::from_millis(30), rate: 1 << 20 };
    let liar = seeder(&mut w, &spec, slow);
    w.nodes[liar].disk.lies = |block| (block.begin >> 14).is_multiple_of(7);
    for _ in 0..4 {
        seeder(&mut w, &spec, slow);
    }
    let leech = leecher(&mut w, &spec, Link { rate: 100 << 20, ..Link::default() });
    finish(&mut w, &[leech], 10 * MINUTE);
    let seen = &w.nodes[leech].seen;
    let banned: Vec<&String> =
        seen.errors.iter().filter(|(r, _)| *r == Reason::Hash).map(|(_, t)| t).collect();
    let liar = w.nodes[liar].addr;
    assert_eq!(banned, [&format!("{liar} sent corrupt data and is banned")]);
}

#[test]
fn a_slow_disk_makes_peers_wait_and_memory_stays_flat() {
    let mut w = World::new(seed());
    let spec = spec(100, 256 << 10, |_| {});
    for _ in 0..4 {
        seeder(&mut w, &spec, Link { rate: 50 << 20, ..Link::default() });
    }
    let leech = leecher(&mut w, &spec, Link { rate: 200 << 20, ..Link::default() });
    w.nodes[leech].disk.rate = 1 << 20;
    finish(&mut w, &[leech], 2 * MINUTE);
    // What a worker has waiting is at most the mark and what was let in just below it.
    let queue = w.nodes[leech].disk.queue_max;
    assert!(queue > LANE_HIGH / 2 && queue <= LANE_HIGH + 4 * u64::from(REQUEST_MAX), "{queue}");
    assert!(!w.nodes[leech].seen.closed.contains(&Why::Timeout), "nobody is dropped for our slow disk");
}

#[test]
fn two_hundred_peers_complete_from_one_seed() {
    let mut w = World::new(seed());
    let spec = spec(32, 64 << 10, |_| {});
    let link = Link { delay: Duration::from_millis(40), rate: 1 << 20 };
    seeder(&mut w, &spec, link);
    let leechers: Vec<NodeId> = (0..199).map(|_| leecher(&mut w, &spec, link)).collect();
    // One copy takes the seed 2 s: were it alone, 199 copies would take 400.
    finish(&mut w, &leechers, 3 * MINUTE);
    assert!(w.nodes.iter().all(|n| n.seen.peers_max <= 50), "no more connections than allowed");
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    let run = |seed| {
        let mut w = World::new(seed);
        let spec = spec(20, 64 << 10, |_| {});
        seeder(&mut w, &spec, Link::default());
        let leechers: Vec<NodeId> = (0..5).map(|_| leecher(&mut w, &spec, Link::default())).collect();
        w.cut(leechers[2], Duration::from_secs(3));
        finish(&mut w, &leechers, 5 * MINUTE);
        (w.trace, w.events)
    };
    let seed = seed();
    assert_eq!(run(seed), run(seed));
    assert_ne!(run(seed), run(seed + 1));
}

#[test]
fn two_peers_that_dial_each_other_keep_one_connection() {
    for n in 0..10 {
        let mut w = World::new(seed() + n);
        // Half is here, half is there, and they dial each other at the same moment.
        let addr = |n: u8| format!("10.77.0.{n}");
        let with = |peer: String| {
            spec(64, 256 << 10, |s| {
                s.trackers.clear();
                s.peers.push((peer, 6881));
            })
        };
        let a = seeder(&mut w, &with(addr(2)), Link { rate: 1 << 20, ..Link::default() });
        let b = leecher(&mut w, &with(addr(1)), Link { rate: 1 << 20, ..Link::default() });
        w.kill(a, 120 * MINUTE);
        let spec = with(addr(1));
        w.start(b, &spec, 120 * MINUTE);
        w.run(Duration::from_secs(8), |_| false);
        assert_eq!((w.nodes[a].seen.peers, w.nodes[b].seen.peers), (1, 1), "seed {n}");
        assert!(w.nodes[b].seen.downloaded > 0);
    }
}

#[test]
fn a_peer_that_falls_silent_is_asked_no_more() {
    let mut w = World::new(seed());
    let spec = spec(40, 256 << 10, |_| {});
    let pieces = spec.meta.layout.pieces();
    let hash = spec.meta.info_hash;
    let mute = w.add_script(Link::default(), move || Box::new(hostile::Mute::new(hash, pieces)));
    w.list(mute);
    seeder(&mut w, &spec, Link { rate: 2 << 20, ..Link::default() });
    let leech = leecher(&mut w, &spec, Link::default());
    finish(&mut w, &[leech], 2 * MINUTE);
}

#[test]
fn hostile_peers_are_closed_and_harm_nobody() {
    let mut w = World::new(seed());
    let spec = spec(40, 256 << 10, |_| {});
    let (pieces, hash) = (spec.meta.layout.pieces(), spec.meta.info_hash);
    for kind in 0..hostile::KINDS {
        let node = w.add_script(Link::default(), move || Box::new(hostile::Foul::new(hash, pieces, kind)));
        w.list(node);
    }
    seeder(&mut w, &spec, Link { rate: 1 << 20, ..Link::default() });
    let leech = leecher(&mut w, &spec, Link::default());
    finish(&mut w, &[leech], 5 * MINUTE);
    let closed = &w.nodes[leech].seen.closed;
    let protocol = closed.iter().filter(|why| matches!(why, Why::Protocol(_))).count();
    assert!(protocol >= 4, "{closed:?}");
}

#[test]
fn announces_are_sent_when_due_and_completed_once() {
    let mut w = World::new(seed());
    let spec = spec(40, 64 << 10, |_| {});
    let seed = seeder(&mut w, &spec, Link::default());
    let leech = leecher(&mut w, &spec, Link::default());
    w.run(MINUTE, |w| complete(w, leech));
    w.run(75 * MINUTE, |_| false);
    wind_up(&mut w);
    let events = |n: NodeId| w.nodes[n].seen.announces.iter().map(|(event, _)| *event).collect::<Vec<_>>();
    let total = spec.meta.layout.total();
    let leech_events = events(leech);
    assert_eq!(leech_events[0], Event::Started);
    assert_eq!(w.nodes[leech].seen.announces[0].1, total);
    assert_eq!(leech_events.iter().filter(|e| **e == Event::Completed).count(), 1, "{leech_events:?}");
    assert_eq!(leech_events.last(), Some(&Event::Stopped));
    assert!(leech_events.iter().filter(|e| **e == Event::None).count() >= 2, "{leech_events:?}");
    assert!(!events(seed).contains(&Event::Completed), "it was complete at the start");
}

#[test]
fn an_idle_swarm_sleeps() {
    let mut w = World::new(seed());
    let spec = spec(8, 64 << 10, |_| {});
    let seed = seeder(&mut w, &spec, Link::default());
    let leech = leecher(&mut w, &spec, Link::default());
    w.run(MINUTE, |w| complete(w, leech));
    w.run(MINUTE, |_| false);
    let before = w.events;
    w.run(30 * MINUTE, |_| false);
    let events = w.events - before;
    assert!(events < 60, "{events} events of two seeds in half an hour");
    assert_eq!(w.nodes[seed].seen.state, Some(State::Seeding));
}

#[test]
fn only_what_is_selected_comes() {
    let mut w = World::new(seed());
    let all = spec(30, 64 << 10, |_| {});
    let none = spec(30, 64 << 10, |s| s.wanted = vec![false]);
    seeder(&mut w, &all, Link::default());
    let leech = leecher(&mut w, &none, Link::default());
    assert!(w.run(MINUTE, |w| complete(w, leech)));
    assert_eq!(w.nodes[leech].seen.downloaded, 0);
    wind_up(&mut w);
}

#[test]
fn a_partial_seed_gives_what_it_has_and_asks_for_nothing() {
    let mut w = World::new(seed());
    let only = spec(30, 64 << 10, |s| s.seed_only = true);
    let normal = spec(30, 64 << 10, |_| {});
    let part = w.add(Link::default(), Disk::empty(30, 2), |_| {});
    w.nodes[part].disk.set_good(0..10);
    w.start(part, &only, NOW);
    let rest = w.add(Link::default(), Disk::empty(30, 2), |_| {});
    w.nodes[rest].disk.set_good(10..30);
    w.start(rest, &normal, NOW);
    let leech = leecher(&mut w, &normal, Link::default());
    assert!(w.run(5 * MINUTE, |w| complete(w, leech) && complete(w, rest)));
    assert_eq!(w.nodes[part].seen.downloaded, 0);
    assert_eq!(w.nodes[part].disk.stored, 0);
    wind_up(&mut w);
}
