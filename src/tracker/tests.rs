//! The tracker in virtual time, against a plain model, at its limits, and under hostile input.

use super::http::Exchange;
use super::*;
use crate::base::bits::Bitfield;
use crate::proto::compact;
use crate::proto::tracker::udp::{self, Family};
use crate::proto::tracker::{Request, http as client, url::Url};
use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

const HASH: InfoHash = InfoHash([7; 20]);
const INTERVAL: Duration = Duration::from_secs(1800);

fn tracker() -> Tracker {
    Tracker::new(INTERVAL, [1; 32])
}

fn at(seconds: u64) -> Time {
    Time(seconds * 1_000_000)
}

fn hash(n: u32) -> InfoHash {
    let mut hash = [0; 20];
    hash[..4].copy_from_slice(&n.to_be_bytes());
    InfoHash(hash)
}

/// The `n`th IPv4 peer, each at an address of its own.
fn peer(n: u32) -> SocketAddr {
    (Ipv4Addr::from_bits(0x0a00_0000 + n), 6881).into()
}

/// The `n`th IPv6 peer, each with a network of its own.
fn peer6(n: u32) -> SocketAddr {
    (Ipv6Addr::new(0x2001, (n >> 16) as u16, n as u16, 0, 0, 0, 0, 1), 6881).into()
}

fn from(addr: SocketAddr, seed: bool) -> Announce {
    let (ip, port) = (addr.ip(), addr.port());
    Announce { info_hash: HASH, ip, port, seed, event: Event::None, numwant: None, both: true }
}

fn ask(tracker: &mut Tracker, announce: &Announce, now: Time) -> Result<(Counts, Vec<SocketAddr>), Refusal> {
    let mut answer = Answer::default();
    tracker.announce(announce, now, &mut answer)?;
    let peers = compact::v4(&answer.v4).chain(compact::v6(&answer.v6)).collect();
    Ok((answer.counts, peers))
}

fn told(tracker: &mut Tracker, announce: &Announce, now: Time) -> Vec<SocketAddr> {
    ask(tracker, announce, now).unwrap().1
}

/// Ticks until nothing is due any more.
fn settle(tracker: &mut Tracker, now: Time) {
    while tracker.deadline().is_some_and(|due| due <= now) {
        tracker.tick(now);
    }
}

#[test]
fn peers_find_each_other_and_never_themselves() {
    let mut t = tracker();
    assert_eq!(
        ask(&mut t, &from(peer(1), true), at(0)).unwrap(),
        (Counts { seeders: 1, ..Counts::default() }, vec![])
    );
    assert_eq!(told(&mut t, &from(peer(2), false), at(1)), [peer(1)]);
    assert_eq!(told(&mut t, &from(peer(2), false), at(2)), [peer(1)]);
    assert_eq!(told(&mut t, &from(peer6(3), false), at(3)).len(), 2);
    // A seed hears of no seed.
    assert_eq!(
        told(&mut t, &from(peer(4), true), at(4)).iter().collect::<BTreeSet<_>>(),
        BTreeSet::from([&peer(2), &peer6(3)])
    );
    let (counts, peers) = ask(&mut t, &from(peer(2), true), at(5)).unwrap();
    assert_eq!((counts.seeders, counts.leechers, peers), (3, 1, vec![peer6(3)]));
    // Another port of the same host is another peer.
    let mut other = peer(2);
    other.set_port(9);
    assert_eq!(told(&mut t, &from(other, false), at(6)).len(), 4);
    let none = Announce { numwant: Some(0), ..from(other, false) };
    assert_eq!(told(&mut t, &none, at(7)), []);
    assert_eq!((t.statistics().peers, t.statistics().swarms), (5, 1));
}

#[test]
fn families_come_own_first_or_alone() {
    let mut t = tracker();
    for n in 0..40 {
        told(&mut t, &from(peer(n), false), at(0));
        told(&mut t, &from(peer6(n), false), at(0));
    }
    for (addr, v4) in [(peer(0), true), (peer6(0), false)] {
        let ask = |numwant, both| Announce { numwant: Some(numwant), both, ..from(addr, false) };
        let own = |all: &[SocketAddr]| all.iter().filter(|peer| peer.is_ipv4() == v4).count();
        let alone = told(&mut t, &ask(200, false), at(1));
        assert_eq!((alone.len(), own(&alone)), (39, 39));
        let both = told(&mut t, &ask(50, true), at(1));
        assert_eq!((both.len(), own(&both)), (50, 39));
    }
}

#[test]
fn who_leaves_is_forgotten_at_once() {
    let mut t = tracker();
    told(&mut t, &from(peer(1), true), at(0));
    told(&mut t, &from(peer6(2), false), at(0));
    let leave = |addr| Announce { event: Event::Stopped, ..from(addr, false) };
    let (counts, peers) = ask(&mut t, &leave(peer(1)), at(1)).unwrap();
    assert_eq!((counts, peers), (Counts { leechers: 1, ..Counts::default() }, vec![]));
    told(&mut t, &leave(peer(1)), at(2));
    told(&mut t, &leave(peer6(2)), at(2));
    assert_eq!((t.statistics().peers, t.statistics().swarms, t.deadline()), (0, 0, None));
    assert!(t.shares.counts.iter().all(|count| *count == 0));
}

#[test]
fn a_completion_is_counted_once() {
    let mut t = tracker();
    let done = Announce { event: Event::Completed, ..from(peer(1), true) };
    told(&mut t, &from(peer(1), false), at(0));
    for _ in 0..3 {
        told(&mut t, &done, at(1));
    }
    told(&mut t, &Announce { seed: false, ..done }, at(2));
    assert_eq!(t.scrape(&HASH), Counts { leechers: 1, completed: 1, seeders: 0 });
    assert_eq!(t.scrape(&hash(1)), Counts::default());
    // Nor is who finds no room counted again and again.
    let IpAddr::V4(ip) = peer(2).ip() else { panic!("of IPv4") };
    *t.shares.of(&ip.octets()) = limits::TRACKER_SHARE_MAX;
    for _ in 0..3 {
        told(&mut t, &Announce { event: Event::Completed, ..from(peer(2), true) }, at(3));
    }
    assert_eq!(t.scrape(&HASH), Counts { leechers: 1, completed: 1, seeders: 0 });
}

#[test]
fn a_peer_is_kept_for_two_intervals_and_forgotten_then() {
    for start in [0, 7, 12_345, 1_000_000] {
        let mut t = tracker();
        for n in 0..100 {
            told(&mut t, &from(peer(n), n % 2 == 0), at(start));
            told(&mut t, &from(peer6(n), n % 2 == 0), at(start));
        }
        settle(&mut t, at(start + 3600));
        assert_eq!(t.statistics().peers, 200, "{start}");
        assert_eq!(
            told(&mut t, &Announce { numwant: Some(200), ..from(peer(0), false) }, at(start + 3600)).len(),
            199
        );
        // From then on nobody is told of them, though they are not swept yet.
        let late = start + 3600 + 2 * 57;
        assert_eq!(told(&mut t, &from(peer(0), false), at(late)), []);
        settle(&mut t, at(late));
        assert_eq!(t.statistics().peers, 1, "{start}");
        settle(&mut t, at(late + 4000));
        assert_eq!((t.statistics().peers, t.statistics().swarms, t.deadline()), (0, 0, None));
        assert!(t.shares.counts.iter().all(|count| *count == 0));
    }
}

#[test]
fn a_sweep_is_cut_into_slices_and_idle_means_asleep() {
    let mut t = tracker();
    assert_eq!(t.deadline(), None);
    for n in 0..3 * limits::TRACKER_SWEEP as u32 {
        let announce = Announce { info_hash: hash(n % 1000), numwant: Some(0), ..from(peer(n), false) };
        told(&mut t, &announce, at(0));
    }
    let due = t.deadline().unwrap();
    assert!(due > at(50) && due < at(60));
    assert!(!t.tick(at(50)));
    let mut calls = 1;
    while !t.tick(at(60)) {
        calls += 1;
        assert_eq!(t.deadline(), Some(Time::ZERO), "not before it is done");
    }
    assert!((3..=5).contains(&calls), "{calls}");
    assert!(t.deadline().unwrap() > at(60));
    // All of them go in the end, whatever comes and goes meanwhile.
    for step in 1..80u32 {
        let now = at(60 * u64::from(step));
        let other = Announce { info_hash: hash(step * 31 % 2000), ..from(peer6(step), false) };
        told(&mut t, &other, now);
        t.tick(now);
        told(&mut t, &Announce { event: Event::Stopped, ..other }, now);
        settle(&mut t, now);
    }
    assert_eq!((t.statistics().peers, t.statistics().swarms), (0, 0));
}

/// Each of the others is told equally often, whoever asks and however many are wanted.
#[test]
fn the_choice_is_fair() {
    const PEERS: u32 = 101;
    for (numwant, rounds) in [(1, 20_000u32), (7, 3000), (50, 400), (99, 200)] {
        let mut t = tracker();
        for n in 0..PEERS {
            told(&mut t, &from(peer(n), n % 3 == 0), at(0));
        }
        let mut seen = vec![0u32; PEERS as usize];
        for _ in 0..rounds {
            let ask = Announce { numwant: Some(numwant), ..from(peer(4), false) };
            let peers = told(&mut t, &ask, at(1));
            assert_eq!(peers.len(), numwant as usize);
            let mut once = Bitfield::new(PEERS);
            for addr in peers {
                let n = (0..PEERS).find(|n| peer(*n) == addr).unwrap();
                assert!(n != 4 && once.set(n), "itself, or one twice");
                seen[n as usize] += 1;
            }
        }
        seen.remove(4);
        // Six deviations of a binomial distribution either way, with a little to spare.
        let mean = f64::from(numwant * rounds) / f64::from(PEERS - 1);
        let spread = 6.0 * mean.sqrt();
        assert!(seen.iter().all(|n| (f64::from(*n) - mean).abs() < spread), "{numwant}: {seen:?} of {mean}");
    }
}

/// Announces at random, and a model that keeps everything in a map.
#[test]
fn it_does_what_a_plain_model_does() {
    let mut rng = Rng::new([9; 32]);
    let mut t = tracker();
    let mut model: BTreeMap<(InfoHash, SocketAddr), (bool, u64)> = BTreeMap::new();
    let mut now = 0;
    for step in 0..60_000u32 {
        now += u64::from(rng.below(6));
        let (swarm, n) = (rng.below(3), rng.below(400));
        // A host has a few ports.
        let mut addr = if rng.below(3) == 0 { peer6(n / 4) } else { peer(n / 4) };
        addr.set_port(1 + (n % 4) as u16);
        let seed = rng.below(3) == 0;
        let stop = rng.below(5) == 0;
        let event = if stop { Event::Stopped } else { Event::None };
        let announce = Announce { info_hash: hash(swarm), event, numwant: Some(200), ..from(addr, seed) };
        let (counts, peers) = ask(&mut t, &announce, at(now)).unwrap();
        if stop {
            model.remove(&(hash(swarm), addr));
        } else {
            model.insert((hash(swarm), addr), (seed, now));
        }
        settle(&mut t, at(now));
        let mine = || model.iter().filter(|((h, _), _)| *h == hash(swarm));
        if step % 64 == 0 {
            let seeds = mine().filter(|(_, (seed, _))| *seed).count() as u32;
            let all = mine().count() as u32;
            // Those that are over may be counted a little longer, and those that are not, never less.
            assert!(
                counts.seeders >= seeds.min(counts.seeders) && counts.seeders + counts.leechers >= all.min(1)
            );
            let fresh: BTreeSet<SocketAddr> = mine()
                .filter(|((_, a), (other, then))| {
                    *a != addr && !(seed && *other) && now - then <= 3600 && !stop
                })
                .map(|((_, a), _)| *a)
                .collect();
            let told: BTreeSet<SocketAddr> = peers.iter().copied().collect();
            assert_eq!(told.len(), peers.len(), "one twice");
            // With those that are over, fewer than may be told.
            if fresh.len() < 150 {
                assert!(fresh.is_subset(&told), "{:?}", fresh.difference(&told).collect::<Vec<_>>());
            }
            assert!(told.iter().all(|a| model.contains_key(&(hash(swarm), *a))));
        }
        model.retain(|_, (_, then)| now - *then <= 3600 + 3 * 57);
    }
    settle(&mut t, at(now + 10_000));
    settle(&mut t, at(now + 20_000));
    assert_eq!(t.statistics().peers, 0);
    assert!(t.shares.counts.iter().all(|count| *count == 0));
}

#[test]
fn one_host_has_few_places_in_a_swarm_and_the_latest_stay() {
    let mut t = tracker();
    let max = limits::TRACKER_PORTS_MAX as u16;
    for host in [peer(1), peer6(1)] {
        told(
            &mut t,
            &Announce { numwant: Some(0), ..from(if host.is_ipv4() { peer(99) } else { peer6(99) }, false) },
            at(0),
        );
        for port in 1..=3 * max {
            let mut addr = host;
            addr.set_port(port);
            if let SocketAddr::V6(v6) = &mut addr {
                // Any address of the network is the same host.
                v6.set_ip(Ipv6Addr::from_bits(v6.ip().to_bits() + u128::from(port)));
            }
            told(&mut t, &from(addr, port % 2 == 0), at(u64::from(port) * 60));
        }
    }
    assert_eq!(t.statistics().peers, 2 * u64::from(max) + 2);
    let all =
        told(&mut t, &Announce { numwant: Some(200), ..from(peer(7), false) }, at(60 * 3 * u64::from(max)));
    let late: BTreeSet<u16> = all.iter().filter(|a| a.ip() == peer(1).ip()).map(|a| a.port()).collect();
    // The first ones that are over are not told any more; of the last, all.
    assert!(late.iter().all(|port| *port > 2 * max) && late.contains(&(3 * max)), "{late:?}");
}

#[test]
fn one_address_cannot_fill_the_tracker() {
    let mut t = tracker();
    let each = limits::TRACKER_PORTS_MAX as u32;
    let most = limits::TRACKER_SHARE_MAX;
    for n in 0..most / each + 100 {
        for port in 1..=each {
            let mut addr = peer(1);
            addr.set_port(port as u16);
            let announce = Announce { info_hash: hash(n), numwant: Some(0), ..from(addr, false) };
            told(&mut t, &announce, at(0));
        }
    }
    assert_eq!(t.statistics().peers, u64::from(most));
    // No swarm is left behind of those that found no place, and others still do.
    assert_eq!(t.statistics().swarms, u64::from(most / each));
    let others: Vec<SocketAddr> =
        told(&mut t, &Announce { info_hash: hash(0), ..from(peer(2), false) }, at(0));
    assert_eq!((others.len(), t.statistics().peers), (50, u64::from(most) + 1));
}

#[test]
fn a_full_tracker_refuses_new_swarms_and_still_answers() {
    let mut t = tracker();
    let mut n = 0;
    let mut refused = None;
    for swarm in 0..=limits::TRACKER_SWARMS_MAX as u32 {
        n += 1;
        let announce = Announce { info_hash: hash(swarm), numwant: Some(0), ..from(peer(n), false) };
        refused = ask(&mut t, &announce, at(0)).err();
    }
    assert_eq!(refused, Some(Refusal::Full));
    assert_eq!(t.statistics().swarms, limits::TRACKER_SWARMS_MAX as u64);
    // A swarm that is there goes on until all peers are taken; then who comes is told of others, and not kept.
    while t.peers < limits::TRACKER_PEERS_MAX {
        n += 1;
        let announce = Announce { info_hash: hash(n % 5), numwant: Some(0), ..from(peer(n), false) };
        told(&mut t, &announce, at(0));
    }
    assert_eq!(told(&mut t, &Announce { info_hash: hash(1), ..from(peer6(1), false) }, at(0)).len(), 50);
    assert_eq!(t.peers, limits::TRACKER_PEERS_MAX);
    assert!(t.statistics().bytes < 96 << 20, "{}", t.statistics().bytes);
    let known = Announce { info_hash: hash(2), event: Event::Stopped, ..from(peer(n), false) };
    told(&mut t, &Announce { info_hash: hash(n % 5), ..known }, at(0));
    assert_eq!(t.peers, limits::TRACKER_PEERS_MAX - 1);
}

#[test]
fn a_private_tracker_serves_its_list() {
    let mut t = tracker();
    told(&mut t, &from(peer(1), false), at(0));
    let other = Announce { info_hash: hash(1), ..from(peer(1), false) };
    told(&mut t, &other, at(0));
    t.set_only(vec![HASH, hash(5), HASH]);
    assert_eq!(ask(&mut t, &other, at(1)), Err(Refusal::NotListed));
    assert_eq!((t.statistics().peers, t.statistics().swarms), (1, 1));
    assert_eq!(told(&mut t, &from(peer(2), false), at(1)), [peer(1)]);
    t.set_only(vec![]);
    assert_eq!(ask(&mut t, &from(peer(2), false), at(1)), Err(Refusal::NotListed));
    assert_eq!(t.statistics().peers, 0);
}

/// A million peers, over few swarms and over many: what one takes.
#[test]
#[ignore = "a measurement: cargo test --release --lib tracker:: -- --ignored --nocapture"]
#[expect(clippy::print_stderr, reason = "a measurement")]
fn bytes_a_peer() {
    for swarms in [1, 1000, 100_000] {
        for v6 in [false, true] {
            let mut t = tracker();
            for n in 0..1_000_000 {
                let addr = if v6 { peer6(n) } else { peer(n) };
                let announce =
                    Announce { info_hash: hash(n % swarms), numwant: Some(0), ..from(addr, n % 4 == 0) };
                told(&mut t, &announce, at(0));
            }
            let s = t.statistics();
            eprintln!(
                "{swarms} swarms, v6 {v6}: {} peers, {:.1} bytes each",
                s.peers,
                s.bytes as f64 / s.peers as f64
            );
        }
    }
}

fn request(event: Event) -> Request {
    Request {
        info_hash: HASH,
        peer_id: [b'x'; 20],
        port: 6881,
        uploaded: 0,
        downloaded: 0,
        left: 5,
        event,
        numwant: 50,
        key: 1,
        tracker_id: None,
    }
}

/// What a datagram is answered.
fn send(t: &mut Tracker, addr: SocketAddr, data: &[u8], now: Time) -> Vec<u8> {
    let mut out = vec![1, 2, 3];
    t.on_datagram(addr, data, now, &mut out);
    out
}

fn connect(t: &mut Tracker, addr: SocketAddr, now: Time) -> u64 {
    let mut query = Vec::new();
    udp::connect(&mut query, 77);
    let answer = send(t, addr, &query, now);
    assert_eq!(answer.len(), 16);
    match udp::answer(&answer) {
        Ok((77, udp::Answer::Connected { connection })) => connection,
        other => panic!("{other:?}"),
    }
}

#[test]
fn udp_clients_find_each_other() {
    let mut t = tracker();
    for (one, other, family) in [(peer(1), peer(2), Family::V4), (peer6(1), peer6(2), Family::V6)] {
        let mut announce = |addr, event, now| {
            let (id, mut query) = (connect(&mut t, addr, now), Vec::new());
            udp::announce(&mut query, id, 5, &request(event), "/announce?x=y");
            let answer = send(&mut t, addr, &query, now);
            match udp::answer(&answer) {
                Ok((5, udp::Answer::Announced(said))) => said.response(family),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(announce(one, Event::Started, at(1)).peers, []);
        let response = announce(other, Event::Started, at(2));
        assert_eq!((response.peers, response.interval), (vec![one], INTERVAL));
        assert_eq!(announce(one, Event::None, at(3)).peers, [other]);
        assert_eq!(announce(other, Event::Stopped, at(4)).peers, []);
        assert_eq!(announce(one, Event::None, at(5)).peers, []);
    }
    let (id, mut query) = (connect(&mut t, peer(9), at(9)), Vec::new());
    udp::scrape(&mut query, id, 6, &[hash(1), HASH]);
    let answer = send(&mut t, peer(9), &query, at(9));
    let Ok((6, udp::Answer::Scraped(scraped))) = udp::answer(&answer) else { panic!("{answer:?}") };
    let both = Counts { leechers: 2, ..Counts::default() };
    assert_eq!(scraped.entries().collect::<Vec<_>>(), [Counts::default(), both]);
}

#[test]
fn a_full_answer_over_udp_fits_its_datagram() {
    let mut t = tracker();
    for n in 0..500 {
        told(&mut t, &from(peer(n), false), at(0));
        told(&mut t, &from(peer6(n), false), at(0));
    }
    for (addr, peers) in [(peer(1), 200), (peer6(1), 67)] {
        let (id, mut query) = (connect(&mut t, addr, at(1)), Vec::new());
        udp::announce(&mut query, id, 5, &Request { numwant: 5000, ..request(Event::None) }, "/");
        let answer = send(&mut t, addr, &query, at(1));
        let Ok((5, udp::Answer::Announced(said))) = udp::answer(&answer) else { panic!("{answer:?}") };
        assert_eq!(said.response(Family::of(addr)).peers.len(), peers);
        assert!(answer.len() <= limits::TRACKER_DATAGRAM_MAX);
    }
}

#[test]
fn who_may_be_forged_gets_no_more_than_he_sends() {
    let mut t = tracker();
    told(&mut t, &from(peer(1), true), at(0));
    let mut query = Vec::new();
    udp::connect(&mut query, 7);
    for len in 0..query.len() {
        assert_eq!(send(&mut t, peer(2), &query[..len], at(0)), [], "{len}");
    }
    assert_eq!(send(&mut t, peer(2), &[&query[..], &[0; 100]].concat(), at(0)).len(), 16);
    let good = connect(&mut t, peer(2), at(0));
    let mut rng = Rng::new([4; 32]);
    for round in 0..1000u32 {
        let forged = match round % 4 {
            0 => 0,
            1 => udp::PROTOCOL,
            2 => good ^ 1 << rng.below(64),
            _ => rng.u64(),
        };
        let mut query = Vec::new();
        if round % 2 == 0 {
            udp::announce(&mut query, forged, 5, &request(Event::Started), "/");
        } else {
            udp::scrape(&mut query, forged, 5, &[HASH]);
        }
        assert_eq!(send(&mut t, peer(2), &query, at(1)), []);
    }
    // The id of one address is none of another, and ends.
    let mut query = Vec::new();
    udp::announce(&mut query, good, 5, &request(Event::Started), "/");
    assert_eq!(send(&mut t, peer(3), &query, at(1)), []);
    assert_eq!(send(&mut t, peer(2), &query, at(131)), []);
    assert_eq!(t.statistics().peers, 1);
    assert_eq!(send(&mut t, peer(2), &query, at(120)).len(), 26);
    assert_eq!(t.statistics().ignored, 16 + 1000 + 2);
}

#[test]
fn refusals_over_udp_have_words() {
    let mut t = tracker();
    t.set_only(vec![]);
    let (id, mut query) = (connect(&mut t, peer(1), at(0)), Vec::new());
    udp::announce(&mut query, id, 5, &request(Event::None), "/");
    let answer = send(&mut t, peer(1), &query, at(0));
    assert_eq!(udp::answer(&answer), Ok((5, udp::Answer::Refused(Refusal::NotListed.words().as_bytes()))));
    let mut query = Vec::new();
    udp::announce(&mut query, id, 5, &Request { port: 0, ..request(Event::None) }, "/");
    let answer = send(&mut t, peer(1), &query, at(0));
    assert!(
        matches!(udp::answer(&answer), Ok((5, udp::Answer::Refused(words))) if words.starts_with(b"port 0"))
    );
}

/// All that a connection says to these bytes, and whether it is over then.
fn http(t: &mut Tracker, addr: SocketAddr, text: &str) -> (String, bool) {
    let mut exchange = Exchange::new(addr.ip(), at(0));
    exchange.on_bytes(text.as_bytes());
    let mut said = Vec::new();
    while exchange.advance(t, at(0)) {
        said.extend_from_slice(exchange.output());
        exchange.on_sent(exchange.output().len(), at(0));
    }
    (String::from_utf8_lossy(&said).into_owned(), exchange.is_over())
}

fn get(t: &mut Tracker, addr: SocketAddr, target: &str) -> Vec<u8> {
    let mut exchange = Exchange::new(addr.ip(), at(0));
    exchange.on_bytes(format!("GET {target} HTTP/1.0\r\n\r\n").as_bytes());
    assert!(exchange.advance(t, at(0)) && exchange.is_over());
    let output = exchange.output();
    let head = output.windows(4).position(|end| end == b"\r\n\r\n").unwrap();
    assert!(output.starts_with(b"HTTP/1.1 200 OK\r\n"));
    output[head + 4..].to_vec()
}

#[test]
fn http_clients_find_each_other() {
    let mut t = tracker();
    let base = Url::parse("http://t/announce").unwrap();
    let mut announce = |addr: SocketAddr, event| {
        let url = client::announce(&base, &request(event));
        client::answer(&get(&mut t, addr, url.target())).unwrap()
    };
    assert_eq!(announce(peer(1), Event::Started).peers, []);
    let response = announce(peer6(2), Event::Started);
    assert_eq!((response.peers, response.external_ip), (vec![peer(1)], Some(peer6(2).ip())));
    assert_eq!((response.interval, response.min_interval), (INTERVAL, Some(limits::TRACKER_INTERVAL_SHORT)));
    assert_eq!((response.complete, response.incomplete), (Some(0), Some(2)));
    assert_eq!(announce(peer(1), Event::None).peers, [peer6(2)]);
    assert_eq!(announce(peer(1), Event::Stopped).incomplete, Some(1));
    let hash = "%07".repeat(20);
    let scraped = get(&mut t, peer(9), &format!("/scrape?info_hash={hash}"));
    assert!(
        scraped.ends_with(b"d8:completei0e10:downloadedi0e10:incompletei1eeee"),
        "{}",
        scraped.escape_ascii()
    );
    // An address that is claimed is not believed.
    get(&mut t, peer(3), &format!("/announce?info_hash={hash}&port=9&ip=1.2.3.4&left=0&compact=0"));
    let list =
        get(&mut t, peer(4), &format!("/announce?info_hash={hash}&port=9&compact=0&numwant=1&event=started"));
    let peers = client::answer(&list).unwrap().peers;
    assert!(peers.len() == 1 && (peers[0].ip() == peer(3).ip() || peers[0] == peer6(2)), "{peers:?}");
    let text = String::from_utf8_lossy(&list).into_owned();
    assert!(
        text.contains("5:peersld2:ip") && !text.contains("peers6") && !text.contains("1.2.3.4"),
        "{text}"
    );
}

#[test]
fn what_is_asked_wrongly_is_refused_in_words_or_by_status() {
    let mut t = tracker();
    for target in
        ["/announce", "/announce?", "/announce?info_hash=x&port=5", "/scrape", "/scrape?info_hash=x"]
    {
        assert!(get(&mut t, peer(1), target).starts_with(b"d14:failure reason"), "{target}");
    }
    assert_eq!(t.statistics().refused, 5);
    let long = "x".repeat(limits::TRACKER_LINE_MAX);
    for (text, status) in [
        ("GET /x HTTP/1.1\r\n\r\n", "404 Not Found"),
        ("GET /announce/x HTTP/1.1\r\n\r\n", "404 Not Found"),
        ("GET /%2e%2e/etc HTTP/1.1\r\n\r\n", "404 Not Found"),
        ("GET / HTTP/1.1\r\n\r\n", "200 OK"),
        ("POST /announce HTTP/1.1\r\n\r\n", "405 Method Not Allowed"),
        ("nonsense\r\n\r\n", "400 Bad Request"),
        (&format!("GET /{long}"), "414 URI Too Long"),
    ] {
        let (said, over) = http(&mut t, peer(1), text);
        assert!(said.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{said}");
        assert_eq!(
            over,
            !text.ends_with("\r\n\r\n") || status.starts_with("40") && status != "404 Not Found"
        );
        assert_eq!(said.contains("Connection: close"), over);
    }
}

#[test]
fn a_connection_carries_requests_one_after_the_other() {
    let mut t = tracker();
    let one = "GET / HTTP/1.1\r\n\r\n";
    let (said, over) = http(&mut t, peer(1), &one.repeat(5));
    assert_eq!((said.matches("HTTP/1.1 200 OK").count(), over), (5, false));
    let (said, over) = http(&mut t, peer(1), &format!("{one}GET / HTTP/1.0\r\n\r\n{one}"));
    assert_eq!((said.matches("HTTP/1.1 200 OK").count(), over), (2, true));
    // The next one is not looked at before the answer is sent, and drips do not buy time.
    let mut exchange = Exchange::new(peer(1).ip(), at(0));
    let ten = limits::TRACKER_HTTP_TIMEOUT;
    for (second, byte) in one.bytes().chain(one.bytes()).enumerate() {
        exchange.on_bytes(&[byte]);
        exchange.advance(&mut t, at(second as u64));
    }
    let answered = one.len() as u64 - 1;
    assert_eq!(exchange.deadline(), at(answered) + ten);
    let len = exchange.output().len();
    exchange.on_sent(len - 1, at(50));
    assert!(!exchange.advance(&mut t, at(50)) && exchange.output().len() == 1);
    assert_eq!(exchange.deadline(), at(answered) + ten);
    exchange.on_sent(1, at(51));
    assert!(exchange.advance(&mut t, at(52)));
    assert_eq!(exchange.deadline(), at(52) + ten);
}
