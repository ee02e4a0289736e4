//! The DHT simulated: whole networks of nodes in virtual time from one seed. `SEED=n` replays a failure, `NODES=n`
//! sets the size of the largest network (10,000 by default in release builds, 2,000 else).

#[path = "dht_sim/liar.rs"]
mod liar;
#[path = "dht_sim/world.rs"]
mod world;

use ptorrent::dht::SideStats;
use ptorrent::limits::DHT_K;
use ptorrent::proto::id::InfoHash;
use std::net::SocketAddr;
use std::time::Duration;
use world::{FAIR, Host, Weather, World};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

#[expect(clippy::disallowed_methods, reason = "whoever runs the test sets these")]
fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[expect(clippy::print_stdout, reason = "figures for whoever runs it with --nocapture, and what to replay")]
fn figure(text: &str) {
    println!("{text}");
}

fn seed() -> u64 {
    let seed = setting("SEED", 1);
    figure(&format!("SEED={seed}"));
    seed
}

/// A network of so many nodes that start within `span`, the first three of which everybody can begin with.
fn network(count: usize, span: Duration, weather: Weather) -> World {
    let mut world = World::new(seed(), weather);
    for n in 0..count {
        let at = world.add();
        if n < 3 {
            let addr = world.sites[at].addr;
            world.routers.push(addr);
        }
        world.run(span / count as u32);
    }
    world
}

fn hash(n: u64) -> InfoHash {
    InfoHash::of(format!("torrent {n}").as_bytes())
}

fn side(world: &mut World, n: usize) -> Option<SideStats> {
    let now = world.now;
    world.honest(n).and_then(|node| node.stats(now).sides[0])
}

/// So many torrents are announced by nodes by chance.
fn announce(world: &mut World, torrents: u64) -> Vec<SocketAddr> {
    let announced = (0..torrents).map(|n| {
        let at = world.anybody();
        world.tell(at, |node, now| node.want(hash(n), true, now));
        world.run(SECOND / 4);
        world.sites[at].addr
    });
    announced.collect()
}

/// How many of so many look-ups by others find the peer that was announced.
fn look_up(world: &mut World, announced: &[SocketAddr], tries: u64) -> u64 {
    let mut asked = Vec::new();
    for n in 0..tries {
        let torrent = n % announced.len() as u64;
        let mut at = world.anybody();
        while world.sites[at].addr == announced[torrent as usize] || asked.contains(&(at, torrent)) {
            at = world.anybody();
        }
        asked.push((at, torrent));
        world.tell(at, |node, now| node.want(hash(torrent), false, now));
        world.run(SECOND / 4);
    }
    world.run(MINUTE);
    let found = asked.iter().filter(|(at, torrent)| {
        let peers = world.found.get(&(*at, hash(*torrent)));
        peers.is_some_and(|peers| peers.contains(&announced[*torrent as usize]))
    });
    let found = found.count() as u64;
    for (at, torrent) in asked {
        world.tell(at, |node, _| node.forget(hash(torrent)));
    }
    found
}

/// The distribution of something, from the least to the most.
fn spread(what: &str, mut values: Vec<usize>) -> usize {
    values.sort_unstable();
    let at = |percent: usize| values[(values.len() - 1) * percent / 100];
    figure(&format!(
        "{what}: least {} median {} 90 % {} 99 % {} most {}",
        at(0),
        at(50),
        at(90),
        at(99),
        at(100)
    ));
    at(100)
}

/// Loss, NATs, churn and liars: what is announced is found.
#[test]
fn what_is_announced_is_found() {
    let nodes = setting("NODES", if cfg!(debug_assertions) { 2000 } else { 10_000 }) as usize;
    let weather = Weather { loss: 20, natted: 30, liars: 5, churn: 50 };
    let mut world = network(nodes, 5 * MINUTE, weather);
    world.begin_churn();
    world.run(5 * MINUTE);
    let announced = announce(&mut world, 100);
    world.run(MINUTE);
    world.searched.clear();
    let tries = 400;
    let soon = look_up(&mut world, &announced, tries);
    world.run(8 * MINUTE);
    let later = look_up(&mut world, &announced, tries);
    let searched = std::mem::take(&mut world.searched);
    let most_hops = spread("hops", searched.iter().map(|(.., s)| s.hops as usize).collect());
    let most_queries = spread("queries of a look-up", searched.iter().map(|(.., s)| s.asked).collect());
    spread("answers of a look-up", searched.iter().map(|(.., s)| s.answered).collect());
    figure(&format!(
        "{nodes} nodes: found {soon} and {later} of {tries}; {} datagrams in {:?}",
        world.datagrams, world.now
    ));
    assert!(soon * 100 >= tries * 99 && later * 100 >= tries * 99, "{soon} and {later} of {tries}");
    assert!(most_hops <= 30 && most_queries <= ptorrent::limits::DHT_ASKED_MAX, "{most_hops} {most_queries}");
}

/// The buckets of a table split on its own id only, fill, and are kept fresh; who has gone falls out.
#[test]
fn tables_split_and_are_refreshed() {
    let mut world = network(400, MINUTE, FAIR);
    world.run(40 * MINUTE);
    let (mut good, mut buckets, mut questionable) = (0, 0, 0);
    for n in 0..400 {
        let table = side(&mut world, n).unwrap().table;
        good += table.good;
        buckets += table.buckets;
        questionable += table.questionable;
    }
    figure(&format!(
        "a node knows {} good and {} questionable in {} buckets",
        good / 400,
        questionable / 400,
        buckets / 400
    ));
    // 400 nodes: some 6 buckets are full.
    assert!((5..=8).contains(&(buckets / 400)) && good / 400 >= 40, "{buckets} {good}");
    assert!(questionable * 20 <= good, "{questionable} of {good} are not fresh");
    let before = traffic(&mut world);
    world.run(30 * MINUTE);
    let after = traffic(&mut world);
    let (packets, bytes) = ((after.0 - before.0) / 400 / 30, (after.1 - before.1) / 400 / 30);
    figure(&format!("an idle node sends and gets {packets} datagrams a minute, {bytes} bytes"));
    assert!(packets <= 40 && bytes <= 8000, "{packets} {bytes}");
    for n in 100..220 {
        world.sites[n].host = Host::Gone;
    }
    world.run(60 * MINUTE);
    let gone: Vec<SocketAddr> = (100..220).map(|n| world.sites[n].addr).collect();
    let (mut dead, mut all) = (0, 0);
    for n in (0..100).chain(220..400) {
        let saved = world.honest(n).unwrap().save().unwrap();
        let (_, nodes) = saved.split_at(saved.windows(7).position(|w| w == b"5:nodes").unwrap());
        let start = nodes.iter().skip(7).position(|b| *b == b':').unwrap() + 8;
        let contacts: Vec<_> = ptorrent::proto::krpc::nodes_v4(&nodes[start..nodes.len() - 12]).collect();
        all += contacts.len();
        dead += contacts.iter().filter(|contact| gone.contains(&contact.addr)).count();
    }
    figure(&format!("an hour after 120 left, {dead} of {all} known nodes are of those"));
    assert!(dead * 50 <= all, "{dead} of {all}");
}

/// Datagrams and bytes of all 400 nodes, both ways.
fn traffic(world: &mut World) -> (u64, u64) {
    let now = world.now;
    let stats = (0..400).filter_map(|n| world.honest(n).map(|node| node.stats(now)));
    stats.fold((0, 0), |(packets, bytes), s| {
        (packets + s.packets.0 + s.packets.1, bytes + s.bytes.0 + s.bytes.1)
    })
}

/// A thousand nodes of one /24, with ids as close to a torrent as they like, do not take it over.
#[test]
fn forged_ids_of_one_network_do_not_take_a_torrent_over() {
    let mut world = network(300, MINUTE, FAIR);
    let target = hash(0);
    let first = world.sites.len();
    for n in 0..1000u32 {
        let addr = SocketAddr::from(([66, 66, 66, (n % 250) as u8 + 1], 7000 + (n / 250) as u16));
        world.put(addr, Host::Liar, false);
    }
    // They make themselves known to everybody, close to the torrent.
    for round in 0..4 {
        for n in 0..1000 {
            let bytes = liar::greeting(target.into(), world.sites[first + n].addr);
            let to = world.sites[(n * 7 + round * 13) % 300].addr;
            world.send(first + n, to, bytes);
        }
        world.run(MINUTE);
    }
    let announced = announce(&mut world, 1);
    world.run(MINUTE);
    let (_, _, search) = *world.searched.last().unwrap();
    assert_eq!(search.announced, DHT_K, "{search:?}");
    let found = look_up(&mut world, &announced, 200);
    figure(&format!("found {found} of 200 among 1,000 forged nodes"));
    assert!(found >= 198, "{found} of 200");
}

/// The nodes that everybody begins with come last.
#[test]
fn nodes_that_start_before_their_bootstrap_node_find_each_other() {
    let mut world = World::new(seed(), FAIR);
    let router: SocketAddr = "77.7.7.7:6881".parse().unwrap();
    world.routers.push(router);
    for _ in 0..60 {
        world.add();
    }
    world.run(20 * MINUTE);
    assert!((0..60).all(|n| side(&mut world, n).unwrap().table.good == 0));
    let node = world.node(1);
    world.put(router, Host::Honest(Box::new(node)), false);
    // The longest wait between two tries is 10 minutes.
    world.run(12 * MINUTE);
    let least = (0..60).map(|n| side(&mut world, n).unwrap().table.good).min();
    figure(&format!("12 minutes after it came, everybody knows at least {least:?}"));
    assert!(least >= Some(DHT_K), "{least:?}");
}

/// There is no bootstrap node at all: each node was told of one other (a PORT message, a .torrent).
#[test]
fn one_node_that_is_known_is_enough() {
    let mut world = World::new(seed(), FAIR);
    for _ in 0..60 {
        world.add();
    }
    for n in 0..60 {
        let other = world.sites[(n + 1) % 60].addr;
        world.tell(n, |node, now| node.add_node(other, now));
    }
    world.run(10 * MINUTE);
    let least = (0..60).map(|n| side(&mut world, n).unwrap().table.good).min();
    assert!(least >= Some(DHT_K), "{least:?}");
    let announced = announce(&mut world, 5);
    world.run(MINUTE);
    assert_eq!(look_up(&mut world, &announced, 50), 50);
}

/// Everybody starts again with the table of the last run, and every bootstrap node is dead.
#[test]
fn the_table_of_the_last_run_is_enough() {
    let mut world = network(100, MINUTE, FAIR);
    world.run(5 * MINUTE);
    let dead: SocketAddr = "77.7.7.7:6881".parse().unwrap();
    world.routers = vec![dead];
    for n in 0..100 {
        let saved = world.honest(n).unwrap().save().expect("it knows some");
        let mut node = world.node(n);
        node.load(&saved, world.now);
        world.sites[n].host = Host::Honest(Box::new(node));
        world.tell(n, |_, _| ());
    }
    world.run(2 * MINUTE);
    let least = (0..100).map(|n| side(&mut world, n).unwrap().table.good).min();
    figure(&format!("two minutes after, everybody knows at least {least:?}"));
    assert!(least >= Some(DHT_K), "{least:?}");
}

/// Who is behind a NAT notices and says so (BEP 43); the others do not.
#[test]
fn nodes_that_nobody_reaches_are_read_only() {
    let weather = Weather { natted: 30, ..FAIR };
    let mut world = network(200, MINUTE, weather);
    world.run(90 * MINUTE);
    let (mut hidden, mut open) = ((0, 0), (0, 0));
    for n in 0..200 {
        let natted = world.is_natted(n);
        let count = if natted { &mut hidden } else { &mut open };
        count.1 += 1;
        count.0 += usize::from(side(&mut world, n).unwrap().read_only);
    }
    figure(&format!("read-only: {} of {} behind a NAT, {} of {} others", hidden.0, hidden.1, open.0, open.1));
    assert!(hidden.0 * 10 >= hidden.1 * 9 && open.0 * 20 <= open.1, "{hidden:?} {open:?}");
}
