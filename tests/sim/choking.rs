//! Who is served: tit for tat, turns, super-seeding, and when seeding ends.

use super::*;

fn rider(w: &mut World, spec: &Arc<Spec>, link: Link) -> NodeId {
    let node = w.add(link, Disk::empty(spec.meta.layout.pieces(), 2), |c| c.max_upload = 0);
    w.start(node, spec, Duration::from_secs(2));
    node
}

fn slow(rate: u64) -> Link {
    Link { delay: Duration::from_millis(30), rate }
}

/// Seconds from the start of the world until a node was complete.
fn when(w: &World, node: NodeId) -> u64 {
    w.nodes[node].seen.complete.map_or(u64::MAX, |at| at.secs())
}

fn copies(bytes: u64, spec: &Spec) -> f64 {
    bytes as f64 / spec.meta.layout.total() as f64
}

#[test]
fn those_who_upload_finish_before_free_riders() {
    let mut w = World::new(seed());
    let spec = spec(240, 64 << 10, |_| {});
    seeder(&mut w, &spec, slow(512 << 10));
    // Together they could take far more than there is to get.
    let (mut fair, mut riders) = (Vec::new(), Vec::new());
    for n in 0..30 {
        if n % 3 == 0 {
            fair.push(leecher(&mut w, &spec, slow(128 << 10)));
        } else {
            riders.push(rider(&mut w, &spec, slow(128 << 10)));
        }
    }
    let all: Vec<NodeId> = fair.iter().chain(&riders).copied().collect();
    assert!(w.run(30 * MINUTE, |w| all.iter().all(|n| complete(w, *n))));
    let times = |nodes: &[NodeId]| {
        let mut times: Vec<u64> = nodes.iter().map(|n| when(&w, *n)).collect();
        times.sort();
        times
    };
    let (fair, riders) = (times(&fair), times(&riders));
    figure(format_args!("uploaders complete at {fair:?} s, free riders at {riders:?} s"));
    // Slots make circles of four: of ten uploaders, a few may find none for long.
    assert!(fair[4] < riders[0], "half of the uploaders are complete before any free rider");
    assert!(fair.iter().sum::<u64>() * 2 * 10 < riders.iter().sum::<u64>() * 9);
    wind_up(&mut w);
}

#[test]
fn a_seed_gives_little_more_than_one_copy_before_the_first_of_fifty_is_complete() {
    let mut w = World::new(seed());
    let spec = spec(256, 128 << 10, |_| {});
    // A copy takes the seed two minutes: what all ask for ahead, in ignorance of each other, is a small part of it.
    let from = w.add(slow(256 << 10), Disk::full(256, 2), |c| c.max_conn = 60);
    w.start(from, &spec, NOW);
    let leechers: Vec<NodeId> = (0..50).map(|_| leecher(&mut w, &spec, slow(256 << 10))).collect();
    assert!(w.run(30 * MINUTE, |w| leechers.iter().any(|n| complete(w, *n))));
    let given = copies(w.nodes[from].seen.sent, &spec);
    let first = leechers.iter().map(|n| when(&w, *n)).min();
    finish(&mut w, &leechers, 30 * MINUTE);
    let last = leechers.iter().map(|n| when(&w, *n)).max();
    let all = copies(w.nodes[from].seen.sent, &spec);
    figure(format_args!(
        "{given:.2} copies until the first ({first:?} s), {all:.2} until the last ({last:?} s)"
    ));
    assert!(given < 1.5, "{given}");
}

/// Everybody gets something within that time.
fn everybody_is_served(w: &mut World, nodes: &[NodeId], bound: Duration) {
    let start = w.now;
    let done = w.run(bound, |w| nodes.iter().all(|n| w.nodes[*n].seen.got > 0));
    let left = nodes.iter().filter(|n| w.nodes[**n].seen.got == 0).count();
    figure(format_args!("everybody was served after {:?}", w.now.since(start)));
    assert!(done, "{left} of {} got nothing in {bound:?}", nodes.len());
}

#[test]
fn a_seed_lets_everybody_have_a_turn() {
    let mut w = World::new(seed());
    let spec = spec(64, 1 << 20, |_| {});
    seeder(&mut w, &spec, slow(128 << 10));
    let riders: Vec<NodeId> = (0..40).map(|_| rider(&mut w, &spec, slow(1 << 20))).collect();
    // Ten turns of 30 s for four at a time, begun at rounds of 10 s.
    everybody_is_served(&mut w, &riders, Duration::from_secs(11 * 40));
    wind_up(&mut w);
}

#[test]
fn a_leecher_that_gets_nothing_lets_everybody_have_a_turn() {
    let mut w = World::new(seed());
    let spec = spec(64, 1 << 20, |_| {});
    let half = w.add(slow(128 << 10), Disk::empty(64, 2), |_| {});
    w.nodes[half].disk.set_good(0..32);
    w.start(half, &spec, NOW);
    let riders: Vec<NodeId> = (0..20).map(|_| rider(&mut w, &spec, slow(1 << 20))).collect();
    everybody_is_served(&mut w, &riders, Duration::from_secs(8 * 40));
    wind_up(&mut w);
}

#[test]
fn who_holds_a_slot_idle_loses_it() {
    let mut w = World::new(seed());
    let spec = spec(40, 256 << 10, |_| {});
    let hash = spec.meta.info_hash;
    for who in 0..6 {
        let idler = w.add_script(Link::default(), move || Box::new(hostile::Idler::new(hash, who)));
        w.list(idler);
    }
    let from = seeder(&mut w, &spec, Link::default());
    w.run(Duration::from_secs(25), |_| false);
    assert!(w.nodes[from].seen.messages["unchoke"] >= 6, "they take turns, too");
    // 10 MiB at 10 MiB/s, and the time to connect.
    let leech = leecher(&mut w, &spec, Link::default());
    finish(&mut w, &[leech], Duration::from_secs(10));
}

#[test]
fn a_single_leecher_is_served_at_once() {
    let mut w = World::new(seed());
    let spec = spec(8, 64 << 10, |_| {});
    seeder(&mut w, &spec, Link::default());
    let leech = leecher(&mut w, &spec, Link::default());
    finish(&mut w, &[leech], Duration::from_secs(4));
}

/// What the first seed sent until the others had all of it between them.
fn first_copy(seed: u64, super_seed: bool) -> f64 {
    let mut w = World::new(seed);
    let normal = spec(128, 128 << 10, |_| {});
    let first = spec(128, 128 << 10, |s| s.super_seed = super_seed);
    let from = seeder(&mut w, &first, slow(512 << 10));
    let leechers: Vec<NodeId> = (0..20).map(|_| leecher(&mut w, &normal, slow(1 << 20))).collect();
    let there = |w: &World| (0..128).all(|piece| leechers.iter().any(|n| w.nodes[*n].disk.have().get(piece)));
    for _ in 0..1800 {
        w.run(Duration::from_secs(1), |_| false);
        if there(&w) {
            break;
        }
    }
    assert!(there(&w), "the swarm has no copy after half an hour");
    let (given, at) = (copies(w.nodes[from].seen.sent, &normal), w.now);
    finish(&mut w, &leechers, 30 * MINUTE);
    let last = leechers.iter().map(|n| when(&w, *n)).max();
    figure(format_args!(
        "super-seeding {super_seed}: {given:.2} copies until the swarm has one ({at:?}), all at {last:?} s"
    ));
    given
}

#[test]
fn a_super_seed_gives_about_one_copy() {
    let seed = seed();
    let (normal, given) = (first_copy(seed, false), first_copy(seed, true));
    assert!(given < 1.25 && given < normal, "{given} copies, {normal} without");
}

#[test]
fn a_super_seed_serves_one_that_is_alone() {
    let mut w = World::new(seed());
    let first = spec(40, 64 << 10, |s| s.super_seed = true);
    let normal = spec(40, 64 << 10, |_| {});
    let from = seeder(&mut w, &first, Link::default());
    let leech = leecher(&mut w, &normal, Link::default());
    w.run(MINUTE, |w| complete(w, leech));
    assert!(!w.nodes[from].seen.messages.contains_key("bitfield"));
    finish(&mut w, &[leech], MINUTE);
}

#[test]
fn seeding_ends_at_the_ratio() {
    let mut w = World::new(seed());
    let spec = spec(64, 64 << 10, |s| s.seed_ratio = Some(1500));
    let endless = super::spec(64, 64 << 10, |_| {});
    let from = seeder(&mut w, &spec, slow(1 << 20));
    for _ in 0..4 {
        rider(&mut w, &endless, slow(1 << 20));
    }
    assert!(w.run(5 * MINUTE, |w| w.nodes[from].seen.state == Some(State::Stopped)));
    let given = copies(w.nodes[from].seen.uploaded, &spec);
    figure(format_args!("ended at a ratio of {given:.3}"));
    assert!((1.5..1.6).contains(&given) && complete(&w, from));
    assert_eq!(w.nodes[from].seen.announces.last().map(|(event, _)| *event), Some(Event::Stopped));
    assert!(!w.nodes[from].exited, "the program decides when it ends");
    wind_up(&mut w);
}

#[test]
fn seeding_ends_when_its_time_is_over() {
    let mut w = World::new(seed());
    let spec = spec(8, 64 << 10, |s| s.seed_time = Some(10 * MINUTE));
    let endless = super::spec(8, 64 << 10, |_| {});
    seeder(&mut w, &endless, Link::default());
    let leech = leecher(&mut w, &spec, Link::default());
    assert!(w.run(20 * MINUTE, |w| w.nodes[leech].seen.state == Some(State::Stopped)));
    let seen = &w.nodes[leech].seen;
    let span = w.now.since(seen.complete.expect("it was complete before"));
    assert!((599..=602).contains(&span.as_secs()), "{span:?}");
    wind_up(&mut w);
}

#[test]
fn a_ratio_of_nothing_ends_at_once_and_all_is_told() {
    let mut w = World::new(seed());
    let spec = spec(8, 64 << 10, |s| s.seed_ratio = Some(0));
    let endless = super::spec(8, 64 << 10, |_| {});
    seeder(&mut w, &endless, Link::default());
    let leech = leecher(&mut w, &spec, Link::default());
    assert!(w.run(MINUTE, |w| w.nodes[leech].seen.state == Some(State::Stopped)));
    assert!(complete(&w, leech), "complete is said before");
    w.run(Duration::from_secs(5), |_| false);
    let events: Vec<Event> = w.nodes[leech].seen.announces.iter().map(|(event, _)| *event).collect();
    assert_eq!(events, [Event::Started, Event::Completed, Event::Stopped]);
    wind_up(&mut w);
}
