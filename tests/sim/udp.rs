//! Swarms that find each other by UDP trackers, over a network that loses, doubles and mixes datagrams.

use super::datagrams::{Liar, Tracker, Weather};
use super::world::{Link, NodeId, World};
use super::{Disk, MINUTE, NOW, complete, finish, leecher, meta, seed, seeder, spec, wind_up};
use ptorrent::api::Spec;
use ptorrent::base::rng::Rng;
use ptorrent::base::time::Time;
use ptorrent::proto::tracker::Event;
use ptorrent::proto::tracker::url::Url;
use std::sync::Arc;
use std::time::Duration;

const TRACKER: &str = "10.66.0.1:6969";

fn by(urls: &[&str]) -> impl FnOnce(&mut Spec) {
    let tiers = urls.iter().map(|url| vec![Url::parse(url).expect("a URL")]).collect();
    move |spec| spec.trackers = tiers
}

fn swarm(w: &mut World, spec: &Arc<Spec>, leechers: usize) -> Vec<NodeId> {
    seeder(w, spec, Link::default());
    (0..leechers).map(|_| leecher(w, spec, Link::default())).collect()
}

#[test]
fn a_swarm_finds_itself_and_says_good_bye() {
    let mut w = World::new(seed());
    w.add_host(TRACKER.parse().unwrap(), Box::new(Tracker::default()));
    let spec = spec(64, 1 << 18, by(&["udp://10.66.0.1:6969/announce?key=1"]));
    let leechers = swarm(&mut w, &spec, 5);
    finish(&mut w, &leechers, 10 * MINUTE);
    let seen = w.host(TRACKER).seen();
    let count = |event| seen.announces.iter().filter(|e| **e == event).count();
    assert_eq!((count(Event::Started), count(Event::Completed), count(Event::Stopped)), (6, 5, 6));
    assert_eq!(seen.strange, 0);
}

#[test]
fn half_of_the_datagrams_lost_and_the_rest_in_disorder_only_take_longer() {
    let mut w = World::new(seed());
    w.weather = Weather { lost: 50, twice: 30, delay: Duration::from_secs(3) };
    w.add_host(TRACKER.parse().unwrap(), Box::new(Tracker::default()));
    let spec = spec(64, 1 << 18, by(&["udp://10.66.0.1:6969"]));
    let leechers = swarm(&mut w, &spec, 5);
    // Nobody is told of who comes later: the swarm is asked for again.
    finish(&mut w, &leechers, 240 * MINUTE);
}

#[test]
fn a_dead_tracker_does_not_delay_that_of_another_tier() {
    let mut w = World::new(seed());
    w.add_host(TRACKER.parse().unwrap(), Box::new(Tracker::default()));
    let spec = spec(16, 1 << 18, by(&["udp://10.66.0.2:6969", "udp://10.66.0.1:6969"]));
    let leechers = swarm(&mut w, &spec, 1);
    assert!(w.run(Duration::from_secs(15), |w| complete(w, leechers[0])));
    wind_up(&mut w);
}

#[test]
fn a_thousand_torrents_at_a_deaf_tracker_send_it_little_and_all_announce_once_it_hears() {
    let mut w = World::new(seed());
    let deaf = Tracker { deaf_until: Time::ZERO + 5 * MINUTE, ..Tracker::default() };
    w.add_host(TRACKER.parse().unwrap(), Box::new(deaf));
    let one = spec(2, 1 << 16, by(&["udp://10.66.0.1:6969"]));
    let node = w.add(Link::default(), Disk::full(2, 2), |_| {});
    for n in 0..1000u32 {
        let mut meta = meta(2, 1 << 16);
        meta.info_hash.0[..4].copy_from_slice(&n.to_be_bytes());
        let trackers = one.trackers.clone();
        let spec = spec(2, 1 << 16, |spec| (spec.meta, spec.trackers) = (meta, trackers));
        w.nodes[node].disks.insert(spec.meta.info_hash, Disk::full(2, 2));
        w.start_as(node, n, &spec, NOW);
    }
    w.run(4 * MINUTE, |_| false);
    let seen = w.host(TRACKER).seen();
    assert!(seen.datagrams <= 5, "{seen:?}");
    assert!(w.run(5 * MINUTE, |w| w.host(TRACKER).seen().announces.len() == 1000));
    assert!(w.host(TRACKER).seen().datagrams < 1020);
    w.run(MINUTE, |_| false);
    w.quit(node, NOW);
    w.run(MINUTE, |w| w.nodes[node].exited);
    let seen = w.host(TRACKER).seen();
    let stopped = seen.announces.iter().filter(|e| **e == Event::Stopped).count();
    assert_eq!((stopped, seen.strange), (1000, 0));
}

#[test]
fn an_announce_that_waited_tells_how_things_are_when_it_goes_out() {
    let mut w = World::new(seed());
    let deaf = Tracker { deaf_until: Time::ZERO + 5 * MINUTE, ..Tracker::default() };
    w.add_host(TRACKER.parse().unwrap(), Box::new(deaf));
    let spec = spec(16, 1 << 18, by(&["udp://10.66.0.1:6969", "http://tracker.example/announce"]));
    let leechers = swarm(&mut w, &spec, 1);
    assert!(w.run(5 * MINUTE, |w| complete(w, leechers[0])));
    assert_eq!(w.host(TRACKER).seen().announces, []);
    assert!(w.run(10 * MINUTE, |w| w.host(TRACKER).seen().announces.len() == 2));
    let seen = w.host(TRACKER).seen();
    assert_eq!((seen.announces, seen.lefts), (vec![Event::Started; 2], vec![0; 2]));
    wind_up(&mut w);
}

#[test]
fn a_tracker_of_garbage_is_passed_over() {
    let mut w = World::new(seed());
    w.add_host(TRACKER.parse().unwrap(), Box::new(Tracker::default()));
    w.add_host("10.66.0.3:6969".parse().unwrap(), Box::new(Liar(Rng::new([3; 32]))));
    let spec = spec(16, 1 << 18, by(&["udp://10.66.0.3:6969", "udp://10.66.0.1:6969"]));
    let leechers = swarm(&mut w, &spec, 2);
    finish(&mut w, &leechers, 60 * MINUTE);
}
