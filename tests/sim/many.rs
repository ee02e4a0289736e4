//! Many torrents in one process: who has the places of the connection table and the upload, who waits for whom.

use super::*;
use crate::world::Script;
use ptorrent::session::Config;

/// A torrent of that name without a tracker, that calls these peers.
fn torrent(w: &World, name: &str, pieces: u32, peers: &[NodeId]) -> Arc<Spec> {
    let addr = |node: &NodeId| (w.nodes[*node].addr.ip().to_string(), w.nodes[*node].addr.port());
    let peers = peers.iter().map(addr).collect();
    spec(pieces, 256 << 10, |spec| {
        spec.meta = named(name, pieces, 256 << 10);
        spec.trackers = vec![];
        spec.peers = peers;
    })
}

/// A node that may run many torrents.
fn several(w: &mut World, change: impl FnOnce(&mut Config)) -> NodeId {
    w.add(Link::default(), Disk::empty(1, 2), |c| {
        c.max_open = 100;
        change(c);
    })
}

/// A torrent of a node with a disk of its own.
fn run(w: &mut World, node: NodeId, number: u32, spec: &Arc<Spec>, disk: Disk, after: Duration) {
    w.nodes[node].disks.insert(spec.meta.info_hash, disk);
    w.start_as(node, number, spec, after);
}

fn seeds(w: &mut World, name: &str, pieces: u32, count: usize) -> Vec<NodeId> {
    let alone = torrent(w, name, pieces, &[]);
    (0..count).map(|_| seeder(w, &alone, Link::default())).collect()
}

fn peers(w: &World, node: NodeId) -> Vec<u32> {
    w.nodes[node].seen.each.values().map(|each| each.peers).collect()
}

/// One node downloads torrents with so many seeds each; the first has a minute of its own. It takes little a second,
/// so that none of them is done soon.
fn downloads(w: &mut World, candidates: &[usize]) -> NodeId {
    let node = several(w, |c| c.max_download_rate = 128 << 10);
    for (n, count) in candidates.iter().enumerate() {
        let name = format!("torrent {n}");
        let seeds = seeds(w, &name, 200, *count);
        let spec = torrent(w, &name, 200, &seeds);
        let after = if n == 0 { Duration::from_secs(1) } else { MINUTE };
        run(w, node, n as u32, &spec, Disk::empty(200, 2), after);
    }
    node
}

#[test]
fn one_torrent_with_many_candidates_leaves_the_others_their_share() {
    let mut w = World::new(seed());
    let mut candidates = vec![3; 20];
    candidates[0] = 500;
    let node = downloads(&mut w, &candidates);
    w.run(MINUTE, |_| false);
    let alone = peers(&w, node)[0];
    assert!((47..=50).contains(&alone), "it had what nobody else wanted: {alone}");
    w.run(MINUTE / 2, |_| false);
    let shared = peers(&w, node);
    figure(format_args!("places after half a minute: {shared:?}"));
    assert!(shared.len() == 20 && shared.iter().all(|n| (2..=3).contains(n)), "{shared:?}");
    assert!(shared.iter().sum::<u32>() >= 45);
    // And there it stays: who was sent away calls back, and is not let in.
    let (closed, opened) = (w.nodes[node].seen.closed.len(), w.nodes[node].seen.opened);
    w.run(2 * MINUTE, |_| false);
    let seen = &w.nodes[node].seen;
    assert!(seen.opened - opened <= 4 && peers(&w, node) == shared, "{:?}", &seen.closed[closed..]);
    assert!(w.nodes[node].seen.peers_max <= 50);
    wind_up(&mut w);
}

#[test]
fn what_a_torrent_leaves_of_its_share_is_for_the_others() {
    let mut w = World::new(seed());
    let node = downloads(&mut w, &[200, 4, 0, 0, 0, 1]);
    w.run(2 * MINUTE, |_| false);
    let shared = peers(&w, node);
    assert_eq!(shared[1..], [4, 0, 0, 0, 1]);
    assert!(shared[0] >= 41, "{shared:?}");
    wind_up(&mut w);
}

#[test]
fn who_asks_for_a_torrent_without_peers_is_let_in_though_the_table_is_full() {
    let mut w = World::new(seed());
    let node = downloads(&mut w, &[80]);
    let rare = torrent(&w, "rare", 4, &[]);
    run(&mut w, node, 1, &rare, Disk::full(4, 2), NOW);
    w.run(MINUTE, |_| false);
    assert!(peers(&w, node)[0] >= 47);
    let rare = torrent(&w, "rare", 4, &[node]);
    let leech = w.add(Link::default(), Disk::empty(4, 2), |_| {});
    w.start(leech, &rare, NOW);
    assert!(w.run(3 * MINUTE, |w| complete(w, leech)), "{:?}", w.nodes[leech].seen);
    assert!(w.nodes[node].seen.peers_max <= 50);
    wind_up(&mut w);
}

#[test]
fn a_torrent_that_fails_disturbs_no_other() {
    let mut w = World::new(seed());
    let node = several(&mut w, |_| {});
    for n in 0..8 {
        let name = format!("torrent {n}");
        let seeds = seeds(&mut w, &name, 8, 2);
        let spec = torrent(&w, &name, 8, &seeds);
        let mut disk = Disk::empty(8, 2);
        disk.broken = n < 6;
        run(&mut w, node, n, &spec, disk, NOW);
    }
    let done =
        |w: &World| w.nodes[node].seen.each.values().filter(|each| each.complete.is_some()).count() == 2;
    assert!(w.run(MINUTE, done), "{:?}", w.nodes[node].seen);
    let seen = &w.nodes[node].seen;
    for n in 0..6 {
        assert_eq!(seen.each[&n].state, Some(State::Error));
    }
    assert!(seen.errors.len() == 6 && seen.errors.iter().all(|(_, text)| text.contains("/sim/file")));
    wind_up(&mut w);
}

#[test]
fn torrents_are_checked_one_after_another_in_order() {
    let mut w = World::new(seed());
    let node = several(&mut w, |_| {});
    // 400 MiB at 200 MiB a second and worker: a second each, were it alone.
    for n in 0..4 {
        let spec = torrent(&w, &format!("torrent {n}"), 1600, &[]);
        // The last has nothing that must be looked at.
        let disk = if n == 3 { Disk::empty(1600, 2) } else { Disk::full(1600, 2) };
        run(&mut w, node, n, &spec, disk, NOW);
    }
    let state = |w: &World, n: u32| w.nodes[node].seen.each.get(&n).and_then(|each| each.state);
    let complete = |w: &World, n: u32| w.nodes[node].seen.each[&n].complete.is_some();
    w.run(Duration::from_millis(500), |_| false);
    assert_eq!(state(&w, 3), Some(State::Downloading), "it waits for nobody");
    w.run(Duration::from_millis(1000), |_| false);
    assert!(complete(&w, 0) && !complete(&w, 1) && w.nodes[node].seen.each[&2].checked == 0);
    w.run(Duration::from_millis(1000), |_| false);
    assert!(complete(&w, 1) && !complete(&w, 2));
    w.run(Duration::from_millis(1000), |_| false);
    assert!(complete(&w, 2));
    wind_up(&mut w);
}

#[test]
fn the_upload_limit_is_shared_by_torrents_and_not_by_their_peers() {
    let mut w = World::new(seed());
    let node = several(&mut w, |c| c.max_upload_rate = 256 << 10);
    for (n, leechers) in [(0, 4), (1, 1)] {
        let name = format!("torrent {n}");
        let spec = torrent(&w, &name, 200, &[]);
        run(&mut w, node, n, &spec, Disk::full(200, 2), NOW);
        let spec = torrent(&w, &name, 200, &[node]);
        for _ in 0..leechers {
            let leech = w.add(Link::default(), Disk::empty(200, 2), |_| {});
            w.start(leech, &spec, Duration::from_secs(2));
        }
    }
    w.run(2 * MINUTE, |_| false);
    let sent: Vec<u64> = w.nodes[node].seen.each.values().map(|each| each.uploaded).collect();
    figure(format_args!("sent by torrent: {sent:?}"));
    assert!(sent[0].abs_diff(sent[1]) * 10 < sent[0], "{sent:?}");
    wind_up(&mut w);
}

/// It never says a word.
struct Silent;

impl Script for Silent {
    fn open(&mut self) -> Vec<u8> {
        Vec::new()
    }

    fn bytes(&mut self, _: &[u8]) -> Vec<u8> {
        Vec::new()
    }
}

#[test]
fn a_thousand_silent_connections_do_not_keep_a_good_peer_out() {
    let mut w = World::new(seed());
    let silent = w.add_script(Link::default(), || Box::new(Silent));
    let node = w.add(Link::default(), Disk::full(8, 2), |_| {});
    let spec = torrent(&w, "file", 8, &[]);
    w.start(node, &spec, NOW);
    w.run(Duration::from_secs(1), |_| false);
    let theirs = torrent(&w, "file", 8, &[node]);
    let leech = w.add(Link::default(), Disk::empty(8, 2), |_| {});
    w.start(leech, &theirs, Duration::from_secs(2));
    // A hundred a second, before and after the good one comes.
    for _ in 0..1000 {
        w.dial(silent, node);
        w.run(Duration::from_millis(10), |_| false);
    }
    assert!(complete(&w, leech), "{:?}", w.nodes[leech].seen);
    assert!(w.nodes[node].seen.peers_max <= 50);
    w.run(MINUTE, |_| false);
    wind_up(&mut w);
}

#[test]
fn dead_candidates_of_one_torrent_cost_another_few_places() {
    let mut w = World::new(seed());
    let node = downloads(&mut w, &[60]);
    w.run(MINUTE, |_| false);
    assert!(peers(&w, node)[0] >= 47);
    // They take the connection and never shake hands.
    let dead: Vec<NodeId> = (0..100).map(|_| w.add_script(Link::default(), || Box::new(Silent))).collect();
    let spec = torrent(&w, "dead", 8, &dead);
    run(&mut w, node, 1, &spec, Disk::empty(8, 2), NOW);
    for _ in 0..120 {
        w.run(Duration::from_secs(1), |_| false);
        assert!(peers(&w, node)[0] >= 40, "{:?}", peers(&w, node));
    }
    wind_up(&mut w);
}

#[test]
fn silent_connections_do_not_keep_us_from_calling() {
    let mut w = World::new(seed());
    let silent = w.add_script(Link::default(), || Box::new(Silent));
    let good = seeds(&mut w, "file", 8, 10);
    let node = several(&mut w, |c| c.max_conn = 20);
    let waiting = torrent(&w, "other", 8, &[]);
    run(&mut w, node, 1, &waiting, Disk::empty(8, 2), NOW);
    w.run(Duration::from_secs(1), |_| false);
    for _ in 0..20 {
        w.dial(silent, node);
    }
    let spec = torrent(&w, "file", 8, &good);
    run(&mut w, node, 0, &spec, Disk::empty(8, 2), Duration::from_secs(3));
    let done = |w: &World| w.nodes[node].seen.each.get(&0).is_some_and(|each| each.complete.is_some());
    assert!(w.run(Duration::from_secs(12), done), "they hold their places for {:?}", w.nodes[node].seen);
    wind_up(&mut w);
}
