//! What the program does to torrents that run, and what disks do to them.

use super::disk::Disk;
use super::world::{DOUBLE, Link, NodeId, World};
use super::{MINUTE, NOW, complete, figure, finish, leecher, seed, seeder, spec, wind_up};
use ptorrent::api::{Command, Reason, Spec, State};
use ptorrent::limits::{FULL_RETRY, PARTING, READ_FAILS_MAX};
use ptorrent::proto::tracker::Event;
use std::sync::Arc;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

/// Whose torrents leave a record.
fn recorded(pieces: u32, change: impl FnOnce(&mut Spec)) -> Arc<Spec> {
    spec(pieces, 64 << 10, |s| {
        s.state_dir = Some("/state".into());
        change(s);
    })
}

fn slow(rate: u64) -> Link {
    Link { rate, ..Link::default() }
}

fn state(w: &World, node: NodeId) -> Option<State> {
    w.nodes[node].seen.state
}

fn whole(w: &World, node: NodeId) -> bool {
    w.nodes[node].disk.have().all() && state(w, node) == Some(State::Seeding)
}

#[test]
fn a_paused_download_is_closed_and_goes_on_where_it_was() {
    let mut w = World::new(seed());
    let spec = recorded(100, |_| {});
    let from = seeder(&mut w, &spec, slow(1 << 20));
    let leech = leecher(&mut w, &spec, Link::default());
    assert!(w.run(MINUTE, |w| w.nodes[leech].disk.have().count() >= 40));
    w.command(leech, Command::Pause { number: 0 });
    w.run(5 * SECOND, |_| false);
    assert_eq!(state(&w, leech), Some(State::Paused));
    assert!(w.nodes[leech].disk.is_closed());
    let (had, connections) = (w.nodes[leech].disk.stored, w.nodes[leech].seen.peers_max);
    let events = |w: &World| w.nodes[leech].seen.announces.iter().map(|(e, _)| *e).collect::<Vec<_>>();
    assert_eq!(events(&w), [Event::Started, Event::Stopped]);
    // Who calls it is refused, and it does nothing by itself.
    w.list(leech);
    w.command(from, Command::Pause { number: 0 });
    w.command(from, Command::Resume { number: 0 });
    w.run(30 * MINUTE, |_| false);
    assert_eq!((w.nodes[leech].disk.stored, events(&w).len()), (had, 2));
    assert_eq!(w.nodes[leech].seen.peers_max, connections);
    w.command(leech, Command::Resume { number: 0 });
    finish(&mut w, &[leech], MINUTE);
    assert_eq!(w.nodes[leech].disk.stored, spec.meta.layout.total(), "nothing is stored twice");
    let all = events(&w);
    assert_eq!(&all[..3], [Event::Started, Event::Stopped, Event::Started]);
    assert_eq!(all.last(), Some(&Event::Stopped));
    assert_eq!(w.nodes[leech].disk.checked, 0, "the record is believed");
}

#[test]
fn peers_are_called_again_without_the_trackers_help() {
    let mut w = World::new(seed());
    let quiet = recorded(100, |s| s.trackers.clear());
    let from = seeder(&mut w, &quiet, slow(1 << 20));
    let addr = w.nodes[from].addr;
    let spec = recorded(100, |s| {
        s.trackers.clear();
        s.peers.push((addr.ip().to_string(), addr.port()));
    });
    let leech = leecher(&mut w, &spec, Link::default());
    assert!(w.run(MINUTE, |w| w.nodes[leech].disk.have().count() >= 40));
    w.command(leech, Command::Pause { number: 0 });
    w.run(SECOND, |_| false);
    w.command(leech, Command::Resume { number: 0 });
    finish(&mut w, &[leech], 10 * SECOND);
}

#[test]
fn a_check_that_is_paused_goes_on_too() {
    let mut w = World::new(seed());
    let spec = recorded(400, |_| {});
    let node = w.add(Link::default(), Disk::full(400, 2), |_| {});
    w.nodes[node].disk.rate = 4 << 20;
    w.start(node, &spec, NOW);
    w.run(SECOND, |_| false);
    assert_eq!(state(&w, node), Some(State::Checking));
    w.command(node, Command::Pause { number: 0 });
    assert!(w.run(MINUTE, |w| w.nodes[node].disk.is_closed()));
    assert_eq!(state(&w, node), Some(State::Paused));
    w.command(node, Command::Resume { number: 0 });
    assert!(w.run(MINUTE, |w| state(w, node) == Some(State::Seeding)));
    wind_up(&mut w);
}

#[test]
fn what_is_removed_can_be_added_again_at_once() {
    let mut w = World::new(seed());
    let spec = recorded(60, |_| {});
    seeder(&mut w, &spec, slow(1 << 20));
    let leech = leecher(&mut w, &spec, Link::default());
    assert!(w.run(MINUTE, |w| w.nodes[leech].disk.have().count() >= 20));
    // Its files are being closed while the next one waits for them.
    w.command(leech, Command::Remove { number: 0 });
    w.command(leech, Command::Add { number: 0, spec: spec.clone() });
    finish(&mut w, &[leech], MINUTE);
    assert_eq!(w.nodes[leech].disk.stored, spec.meta.layout.total());
    let states = &w.nodes[leech].seen.states[..4];
    assert_eq!(states, [State::Checking, State::Downloading, State::Stopped, State::Checking]);
}

#[test]
fn a_torrent_added_twice_is_one_and_has_the_peers_of_both() {
    let mut w = World::new(seed());
    let quiet = recorded(60, |s| s.trackers.clear());
    let from = seeder(&mut w, &quiet, Link::default());
    let addr = w.nodes[from].addr;
    let leech = leecher(&mut w, &quiet, Link::default());
    w.run(MINUTE, |_| false);
    assert_eq!(w.nodes[leech].seen.downloaded, 0);
    let named = recorded(60, |s| s.peers.push((addr.ip().to_string(), addr.port())));
    w.command(leech, Command::Add { number: DOUBLE, spec: named });
    finish(&mut w, &[leech], MINUTE);
    let seen = &w.nodes[leech].seen;
    assert_eq!((seen.warnings, seen.errors.len(), &seen.doubles[..]), (1, 0, &[State::Stopped][..]));
    assert_eq!(seen.announces[0].0, Event::Started, "its trackers are told, too");
}

#[test]
fn a_full_disk_halts_the_download_until_there_is_space() {
    let mut w = World::new(seed());
    let spec = recorded(100, |_| {});
    let first = seeder(&mut w, &spec, Link::default());
    let leech = leecher(&mut w, &spec, Link::default());
    w.nodes[leech].disk.space = 3 << 20;
    assert!(w.run(MINUTE, |w| state(w, leech) == Some(State::Full)));
    w.run(SECOND, |_| false);
    let got = w.nodes[leech].seen.got;
    // Long past the first tries.
    w.run(10 * MINUTE, |_| false);
    let seen = &w.nodes[leech].seen;
    assert!(matches!(&seen.errors[..], [(Reason::DiskFull, text)] if text.contains("/sim/file")), "{seen:?}");
    assert_eq!((seen.state, seen.got), (Some(State::Full), got), "nothing is asked for");
    // What is there is served.
    w.kill(first, NOW);
    let had = w.nodes[leech].disk.have().count();
    let second = leecher(&mut w, &spec, Link::default());
    assert!(w.run(5 * MINUTE, |w| w.nodes[second].disk.have().count() == had) && had > 40);
    seeder(&mut w, &spec, Link::default());
    w.nodes[leech].disk.space = u64::MAX;
    assert!(w.run(FULL_RETRY + SECOND, |w| state(w, leech) == Some(State::Downloading)));
    finish(&mut w, &[leech, second], 10 * MINUTE);
    assert_eq!(w.nodes[leech].seen.errors.len(), 1);
}

#[test]
fn a_disk_that_is_full_again_is_another_error() {
    let mut w = World::new(seed());
    let spec = recorded(500, |_| {});
    seeder(&mut w, &spec, Link::default());
    let leech = leecher(&mut w, &spec, Link::default());
    w.nodes[leech].disk.space = 1 << 20;
    for round in 1..=3 {
        assert!(w.run(2 * FULL_RETRY, |w| w.nodes[leech].seen.errors.len() == round));
        w.nodes[leech].disk.space += 9 << 20;
    }
    w.nodes[leech].disk.space = u64::MAX;
    finish(&mut w, &[leech], 2 * MINUTE);
}

#[test]
fn files_that_found_no_space_are_tried_again() {
    let mut w = World::new(seed());
    let spec = recorded(40, |_| {});
    seeder(&mut w, &spec, Link::default());
    let leech = leecher(&mut w, &spec, Link::default());
    (w.nodes[leech].disk.full_at_open, w.nodes[leech].disk.space) = (true, 0);
    w.run(10 * MINUTE, |_| false);
    let seen = &w.nodes[leech].seen;
    assert_eq!((seen.state, seen.errors.len(), seen.announces.len()), (Some(State::Full), 1, 0));
    w.nodes[leech].disk.full_at_open = false;
    w.nodes[leech].disk.space = u64::MAX;
    finish(&mut w, &[leech], FULL_RETRY + MINUTE);
    assert_eq!(w.nodes[leech].seen.errors.len(), 1);
}

#[test]
fn a_piece_that_cannot_be_read_is_fetched_again() {
    let mut w = World::new(seed());
    let spec = recorded(40, |_| {});
    let from = seeder(&mut w, &spec, slow(1 << 20));
    // So slow that one of the bad pieces is asked of the first.
    let other = seeder(&mut w, &spec, slow(1 << 17));
    w.nodes[from].disk.bad.insert(7);
    w.nodes[from].disk.bad.insert(8);
    let leech = leecher(&mut w, &spec, Link::default());
    finish_all(&mut w, &[leech, from, other]);
    let seen = &w.nodes[from].seen;
    assert!(matches!(&seen.errors[..], [(Reason::Io, text)] if text.contains("fetched again")), "{seen:?}");
    assert!(seen.states.contains(&State::Downloading) && seen.completes == 1, "{seen:?}");
}

fn finish_all(w: &mut World, nodes: &[NodeId]) {
    let done = w.run(10 * MINUTE, |w| nodes.iter().all(|node| whole(w, *node)));
    assert!(done, "{:?}", nodes.iter().map(|n| &w.nodes[*n].seen).collect::<Vec<_>>());
    wind_up(w);
}

#[test]
fn a_seed_hashes_again_what_it_cannot_read() {
    for moody in [false, true] {
        let mut w = World::new(seed());
        let only = spec(40, 64 << 10, |s| s.seed_only = true);
        let normal = recorded(40, |_| {});
        let from = seeder(&mut w, &only, slow(1 << 20));
        w.run(SECOND, |_| false);
        w.nodes[from].disk.bad.insert(7);
        w.nodes[from].disk.moody = moody;
        let leech = leecher(&mut w, &normal, Link::default());
        w.run(5 * MINUTE, |w| w.nodes[leech].disk.have().count() >= 39);
        let had = w.nodes[leech].disk.have().count();
        assert!(had >= 39, "the rest is served: {had}");
        assert_eq!((state(&w, from), w.nodes[from].seen.errors.len()), (Some(State::Seeding), 1));
        w.nodes[from].disk.bad.clear();
        let more = seeder(&mut w, &normal, Link::default());
        w.list(more);
        w.cut(leech, NOW);
        finish(&mut w, &[leech], 30 * MINUTE);
    }
}

#[test]
fn a_disk_that_cannot_be_read_again_and_again_is_an_error() {
    let mut w = World::new(seed());
    let spec = recorded(40, |_| {});
    let from = seeder(&mut w, &spec, slow(1 << 20));
    w.nodes[from].disk.bad.extend(0..40);
    leecher(&mut w, &spec, Link::default());
    assert!(w.run(5 * MINUTE, |w| state(w, from) == Some(State::Error)));
    // Reads of a few more were under way by then.
    let left = w.nodes[from].disk.have().count();
    assert!((40 - 2 * READ_FAILS_MAX..40 - READ_FAILS_MAX).contains(&left), "{left}");
    // It tries again when it is told to.
    w.nodes[from].disk.bad.clear();
    w.command(from, Command::Resume { number: 0 });
    assert!(w.run(MINUTE, |w| state(w, from) == Some(State::Downloading)));
    wind_up(&mut w);
}

#[test]
fn who_has_seeded_enough_waits_for_the_last_bytes_to_arrive() {
    let mut w = World::new(seed());
    let spec = recorded(16, |s| s.seed_ratio = Some(1000));
    let endless = recorded(16, |_| {});
    let from = seeder(&mut w, &spec, Link::default());
    // What the connection holds takes it four seconds.
    let leech = leecher(&mut w, &endless, slow(64 << 10));
    assert!(w.run(MINUTE, |w| state(w, from) == Some(State::Stopped)));
    assert!(complete(&w, leech));
    assert_eq!(w.nodes[from].seen.uploaded, spec.meta.layout.total());
    wind_up(&mut w);
}

#[test]
fn who_has_seeded_enough_does_not_wait_for_ever() {
    let mut w = World::new(seed());
    let spec = recorded(64, |s| s.seed_ratio = Some(500));
    let endless = recorded(64, |_| {});
    let from = seeder(&mut w, &spec, Link::default());
    let leech = leecher(&mut w, &endless, slow(1 << 20));
    // What is on its way counts: it serves nobody any more before all that was sent.
    assert!(w.run(MINUTE, |w| w.nodes[from].seen.messages.contains_key("choke")));
    let before = w.now;
    assert!(w.run(MINUTE, |w| state(w, from) == Some(State::Stopped)));
    let span = w.now.since(before);
    figure(format_args!("it ended after {span:?}"));
    assert!(span >= PARTING && span < PARTING + 3 * SECOND, "{span:?}");
    let given = w.nodes[from].seen.sent;
    assert!(given < spec.meta.layout.total() * 6 / 10 && !complete(&w, leech), "{given}");
    wind_up(&mut w);
}

/// One thing after another happens to the nodes, at random.
struct Chaos {
    spec: Arc<Spec>,
    /// The number under which each node has the torrent.
    numbers: Vec<Option<u32>>,
    next: u32,
}

impl Chaos {
    fn strike(&mut self, w: &mut World, node: NodeId) {
        let number = self.numbers[node].unwrap_or(self.next);
        match w.rng.below(11) {
            0..3 => w.command(node, Command::Pause { number }),
            3..6 => w.command(node, Command::Resume { number }),
            6 => {
                w.command(node, Command::Remove { number });
                self.numbers[node] = None;
            }
            7 => self.add(w, node),
            8 => w.nodes[node].disk.space = w.nodes[node].disk.stored + u64::from(w.rng.below(1 << 20)),
            9 => w.nodes[node].disk.space = u64::MAX,
            _ => {
                let piece = w.rng.below(self.spec.meta.layout.pieces());
                if w.nodes[node].disk.have().get(piece) {
                    w.nodes[node].disk.bad.insert(piece);
                }
            }
        }
    }

    fn add(&mut self, w: &mut World, node: NodeId) {
        let number = match self.numbers[node] {
            Some(_) => DOUBLE + self.next,
            None => w.rng.below(2).max(u32::from(self.next.is_multiple_of(3))),
        };
        self.next += 1;
        if self.numbers[node].is_none() {
            self.numbers[node] = Some(number);
        }
        w.command(node, Command::Add { number, spec: self.spec.clone() });
    }
}

#[test]
fn commands_in_any_order_lose_nothing() {
    for round in 0..40 {
        let mut w = World::new(seed() * 1000 + round);
        let spec = if round % 2 == 0 { recorded(60, |_| {}) } else { spec(60, 64 << 10, |_| {}) };
        // One that is never struck has everything for the others.
        seeder(&mut w, &spec, slow(512 << 10));
        let nodes = [seeder(&mut w, &spec, slow(512 << 10)), leecher(&mut w, &spec, Link::default())];
        w.nodes[nodes[1]].disk.latency = Duration::from_millis(200);
        let mut chaos = Chaos { spec, numbers: vec![Some(0); 3], next: 1 };
        w.run(3 * SECOND, |_| false);
        for _ in 0..60 {
            let wait = [1, 30, 400, 3000][w.rng.below(4) as usize];
            let wait = Duration::from_millis(u64::from(w.rng.below(wait)));
            w.run(wait, |_| false);
            let node = nodes[w.rng.below(2) as usize];
            chaos.strike(&mut w, node);
        }
        if round % 4 == 3 {
            wind_up(&mut w);
            continue;
        }
        for node in nodes {
            w.nodes[node].disk.space = u64::MAX;
            w.nodes[node].disk.bad.clear();
            if chaos.numbers[node].is_none() {
                chaos.add(&mut w, node);
            }
            w.run(SECOND, |_| false);
            let number = chaos.numbers[node].unwrap_or(0);
            w.command(node, Command::Resume { number });
        }
        finish_all(&mut w, &nodes);
    }
}
