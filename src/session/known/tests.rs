//! The table of addresses: its order, its bounds, and who is never called.

use super::*;
use std::io::ErrorKind::ConnectionRefused;

/// What only the tests look at.
impl Known {
    fn out(&self) -> usize {
        self.all.values().filter(|c| c.place == Place::Out).count()
    }

    fn callable(&self) -> usize {
        let waiting = |side: &Side| side.waiting.range(..(Time::NEVER, LEAST)).count();
        self.sides.iter().map(|side| side.ready.len() + waiting(side)).sum()
    }

    fn banned(&self) -> usize {
        self.bans.len()
    }
}

fn count(known: &Known, of: Source) -> usize {
    known.all.values().filter(|c| c.source == of).count()
}

const REFUSED: Why = Why::Unreachable(ConnectionRefused);

fn table() -> Known {
    Known::new(Rng::new([5; 32]))
}

fn addr(n: u32) -> SocketAddr {
    SocketAddr::new(IpAddr::V4((0x0a00_0000 + n).into()), 6881)
}

fn after(secs: u64) -> Time {
    Time::ZERO + Duration::from_secs(secs)
}

#[test]
fn an_address_is_one_candidate_however_it_is_written() {
    let mut known = table();
    assert!(known.add("10.0.0.1:1".parse().unwrap(), Source::Tracker, Time::ZERO));
    assert!(!known.add("[::ffff:10.0.0.1]:1".parse().unwrap(), Source::Tracker, Time::ZERO));
    assert!(known.add("10.0.0.1:2".parse().unwrap(), Source::Tracker, Time::ZERO));
    for bad in ["10.0.0.9:0", "0.0.0.0:1", "255.255.255.255:1", "224.0.0.1:1", "[::]:1", "[ff02::1]:1"] {
        assert!(!known.add(bad.parse().unwrap(), Source::User, Time::ZERO), "{bad}");
    }
    assert_eq!(known.len(), 2);
}

#[test]
fn the_users_and_the_untried_come_first() {
    let mut known = table();
    known.add(addr(1), Source::Tracker, Time::ZERO);
    assert_eq!(known.next(Time::ZERO), Some(addr(1)));
    known.on_closed(addr(1), REFUSED, false, Time::ZERO);
    known.add(addr(2), Source::Tracker, Time::ZERO);
    known.add(addr(4), Source::Tracker, Time::ZERO);
    assert_eq!(known.next(Time::ZERO).map(|a| a == addr(2) || a == addr(4)), Some(true));
    known.add(addr(3), Source::User, after(3600));
    assert_eq!(known.next(after(3600)), Some(addr(3)));
    assert_eq!(known.next(after(3600)).map(|a| a == addr(2) || a == addr(4)), Some(true));
    assert_eq!(known.next(after(3600)), Some(addr(1)));
    assert_eq!(known.next(after(3600)), None);
}

#[test]
fn a_named_again_address_takes_the_better_source() {
    let mut known = table();
    known.add(addr(1), Source::Tracker, Time::ZERO);
    known.add(addr(2), Source::Tracker, Time::ZERO);
    known.add(addr(3), Source::Tracker, Time::ZERO);
    assert!(!known.add(addr(2), Source::User, Time::ZERO));
    assert_eq!(known.next(Time::ZERO), Some(addr(2)));
    assert_eq!(known.callable(), 2);
}

#[test]
fn failures_back_off_until_the_address_is_spent() {
    let mut known = table();
    known.add(addr(1), Source::Tracker, Time::ZERO);
    let (mut now, mut waits) = (Time::ZERO, Vec::new());
    while let Some(due) = known.deadline() {
        waits.push(due.since(now).as_secs());
        now = now.max(due);
        assert_eq!(known.next(now), Some(addr(1)));
        assert_eq!((known.next(now), known.out()), (None, 1));
        known.on_closed(addr(1), REFUSED, false, now);
    }
    assert_eq!(waits.len(), limits::REDIALS_MAX as usize);
    assert!(waits.windows(2).skip(1).all(|w| w[1] > w[0] * 3 / 2), "{waits:?}");
    assert_eq!((known.next(after(1_000_000)), known.len(), known.callable()), (None, 1, 0));
    known.add(addr(1), Source::Tracker, now);
    let due = known.deadline().unwrap();
    assert_eq!(due.since(now), limits::REDIAL_NAMED);
    assert_eq!(known.next(due), Some(addr(1)));
    known.on_closed(addr(1), REFUSED, false, due);
    assert_eq!(known.deadline(), None);
}

#[test]
fn the_users_peer_that_was_connected_already_is_called_again_soon() {
    let start = Time(1_000_000);
    for (source, soon) in [(Source::User, true), (Source::Tracker, false)] {
        let mut known = Known::new(Rng::new([1; 32]));
        known.add(addr(1), source, start);
        assert_eq!(known.next(start), Some(addr(1)));
        known.on_closed(addr(1), Why::Duplicate, false, start);
        assert_eq!(known.next(start), None);
        assert_eq!(known.next(start + Duration::from_secs(60)).is_some(), soon);
    }
}

#[test]
fn the_users_peer_is_called_for_ever() {
    let mut known = table();
    known.add(addr(1), Source::User, Time::ZERO);
    let mut now = Time::ZERO;
    for why in [REFUSED, Why::Timeout, Why::Protocol("junk"), Why::Eof].iter().cycle().take(200) {
        now = now.max(known.deadline().unwrap());
        assert_eq!(known.next(now), Some(addr(1)));
        known.on_closed(addr(1), *why, false, now);
        assert!(known.deadline().unwrap().since(now) <= limits::REDIAL_USER_MAX * 5 / 4);
    }
    known.on_closed(addr(1), Why::Eof, true, now);
    assert!(known.deadline().unwrap().since(now) <= limits::REDIAL_USER * 5 / 4);
    known.on_closed(addr(1), Why::Corrupt, true, now);
    assert_eq!((known.deadline(), known.len()), (None, 0));
}

#[test]
fn a_good_connection_clears_the_failures() {
    let mut known = table();
    known.add(addr(1), Source::Tracker, Time::ZERO);
    for n in 0..40 {
        let now = after(n * 10_000);
        assert_eq!(known.next(now), Some(addr(1)), "{n}");
        known.on_connected(addr(1));
        known.on_closed(addr(1), Why::Eof, n % 3 == 0, now);
    }
}

#[test]
fn a_ban_holds_for_all_ports_but_on_loopback() {
    let mut known = table();
    let [a, b] = ["[2001:db8::1]:1", "[2001:db8::1]:2"].map(|a| a.parse::<SocketAddr>().unwrap());
    let [c, d] = ["127.0.0.1:1", "127.0.0.1:2"].map(|a| a.parse::<SocketAddr>().unwrap());
    for addr in [a, b, c, d] {
        known.add(addr, Source::Tracker, Time::ZERO);
    }
    known.on_connected(b);
    known.on_closed(a, Why::Protocol("x"), true, Time::ZERO);
    known.on_closed(c, Why::Corrupt, true, Time::ZERO);
    assert!(known.is_banned(a.ip()) && !known.is_banned(c.ip()));
    assert!(!known.add(a, Source::User, Time::ZERO) && !known.add(c, Source::User, Time::ZERO));
    assert_eq!((known.next(Time::ZERO), known.next(Time::ZERO), known.out()), (Some(d), None, 2));
    known.on_closed(b, Why::Eof, true, Time::ZERO);
    assert_eq!((known.len(), known.out(), known.deadline()), (1, 1, None));
    for n in 0..2 * limits::BANS_MAX as u32 {
        known.ban(addr(n));
    }
    assert_eq!(known.banned(), limits::BANS_MAX);
}

#[test]
fn we_are_not_called_again() {
    let mut known = table();
    known.add(addr(1), Source::User, Time::ZERO);
    assert_eq!(known.next(Time::ZERO), Some(addr(1)));
    known.on_closed(addr(1), Why::Myself, false, Time::ZERO);
    assert!(!known.add(addr(1), Source::User, after(9)) && known.len() == 0);
    assert!(!known.is_banned(addr(1).ip()));
    assert!(known.add(SocketAddr::new(addr(1).ip(), 7), Source::Tracker, after(9)));
}

#[test]
fn seeds_are_not_called_while_we_seed() {
    let mut known = table();
    known.add(addr(1), Source::Tracker, Time::ZERO);
    known.set_seeding(true, Time::ZERO);
    assert_eq!(known.next(Time::ZERO), Some(addr(1)));
    known.on_closed(addr(1), Why::BothSeeds, false, Time::ZERO);
    assert_eq!((known.deadline(), known.next(after(1 << 30))), (None, None));
    known.set_seeding(false, after(1));
    assert_eq!(known.next(after(3600)), Some(addr(1)));
}

#[test]
fn who_made_room_is_called_later() {
    let mut known = table();
    known.add(addr(1), Source::Tracker, Time::ZERO);
    for n in 0..100 {
        let now = after(n * 1000);
        assert_eq!(known.next(now), Some(addr(1)));
        let why = if n % 2 == 0 { Why::Replaced } else { Why::Duplicate };
        known.on_closed(addr(1), why, false, now);
        assert_eq!(known.next(now), None);
    }
}

#[test]
fn a_full_table_drops_the_worst_and_keeps_the_users() {
    let mut known = table();
    known.add(addr(0), Source::User, Time::ZERO);
    for n in 1..limits::KNOWN_MAX as u32 {
        assert!(known.add(addr(n), Source::Tracker, Time::ZERO));
    }
    assert!(!known.add(addr(99_999), Source::Tracker, Time::ZERO));
    assert!(known.add(addr(99_999), Source::User, Time::ZERO));
    let called = [known.next(Time::ZERO), known.next(Time::ZERO), known.next(Time::ZERO)];
    for addr in called.into_iter().flatten() {
        known.on_closed(addr, REFUSED, false, Time::ZERO);
    }
    assert!(known.add(addr(77_777), Source::Tracker, Time::ZERO));
    assert!(!known.add(addr(77_778), Source::Tracker, Time::ZERO));
    assert_eq!(known.len(), limits::KNOWN_MAX);
    assert_eq!(known.all.values().filter(|c| c.source == Source::User).count(), 2);
}

#[test]
fn with_many_torrents_each_keeps_fewer() {
    let (one, many) = (share(1), share(1000));
    assert_eq!((one, share(8)), (limits::KNOWN_MAX, limits::KNOWN_MAX));
    assert!(many * 1000 <= limits::KNOWN_ALL_MAX && many >= limits::KNOWN_MIN, "{many}");
    assert_eq!(share(limits::TORRENTS_MAX), limits::KNOWN_MIN);
    let mut known = table();
    (0..3).for_each(|n| _ = known.add(addr(n), Source::User, Time::ZERO));
    (10..3000).for_each(|n| _ = known.add(addr(n), Source::Tracker, Time::ZERO));
    (5000..7000).for_each(|n| _ = known.add(addr(n), Source::Pex, Time::ZERO));
    known.set_max(3500);
    assert_eq!(ALL.map(|of| count(&known, of)), [3, 2990, 0, 0, 507], "the worst went");
    known.set_max(many);
    assert_eq!((known.len(), count(&known, Source::User)), (many, 3));
    assert!(!known.add(addr(9999), Source::Dht, Time::ZERO));
    known.set_max(1);
    assert_eq!(known.len(), 3, "the user's stay");
}

const WHYS: [Why; 14] = [
    Why::Eof,
    Why::Io(ConnectionRefused),
    REFUSED,
    Why::Timeout,
    Why::Stalled,
    Why::Protocol("x"),
    Why::UnknownTorrent,
    Why::Myself,
    Why::Duplicate,
    Why::BothSeeds,
    Why::Replaced,
    Why::Corrupt,
    Why::Stopping,
    Why::Eof,
];

/// What the test itself remembers of an address.
#[derive(Default, Clone)]
struct Seen {
    out: bool,
    never: bool,
    closed: Option<Time>,
}

fn step(known: &mut Known, rng: &mut Rng, seen: &mut BTreeMap<SocketAddr, Seen>, now: Time) {
    let who = addr(rng.below(6000));
    let from = rng.below(6000);
    let out = |(a, s): (&SocketAddr, &Seen)| s.out.then_some(*a);
    let out: Option<SocketAddr> = seen.range(addr(from)..).find_map(out);
    match rng.below(8) {
        0..=2 => {
            known.add(who, if rng.below(100) == 0 { Source::User } else { Source::Tracker }, now);
        }
        3 if known.all.contains_key(&who) => {
            known.on_connected(who);
            seen.entry(who).or_default().out = true;
        }
        4..=5 => {
            let Some(who) = out else { return };
            let why = WHYS[rng.index(WHYS.len())];
            // We have few addresses, and only so many are remembered.
            let why = if why == Why::Myself && who > addr(30) { Why::Eof } else { why };
            let user = known.all.get(&who).is_some_and(|c| c.source == Source::User);
            known.on_closed(who, why, rng.below(2) == 0, now);
            let never = matches!(why, Why::Corrupt | Why::Myself) || matches!(why, Why::Protocol(_)) && !user;
            seen.insert(who, Seen { out: false, never, closed: Some(now) });
        }
        _ => {
            let Some(got) = known.next(now) else { return };
            let s = seen.entry(got).or_default();
            assert!(!s.out && !s.never && !known.is_banned(got.ip()), "{got} {now:?}");
            assert!(s.closed.is_none_or(|at| now.since(at) >= limits::REDIAL_USER), "{got} {now:?}");
            s.out = true;
        }
    }
}

fn there_or_out(known: &Known) -> usize {
    known.out() + known.sides.iter().map(|side| side.ready.len()).sum::<usize>()
}

#[test]
fn it_stays_bounded_and_calls_nobody_it_must_not() {
    for seed in 0..8 {
        let mut rng = Rng::new([seed; 32]);
        let (mut known, mut seen, mut now) = (Known::new(Rng::new(rng.seed())), BTreeMap::new(), Time::ZERO);
        for turn in 0..20_000 {
            now += Duration::from_millis(u64::from(rng.below(200)));
            if turn % 1000 == 0 {
                known.set_seeding(rng.below(2) == 0, now);
            }
            step(&mut known, &mut rng, &mut seen, now);
            assert!(known.len() <= limits::KNOWN_MAX && known.banned() <= limits::BANS_MAX);
            let there: usize = known.sides.iter().map(|side| side.ready.len() + side.waiting.len()).sum();
            assert_eq!(known.len(), there + known.out());
            assert_eq!(known.len(), known.sides.iter().map(|side| side.count).sum::<usize>());
            assert_eq!((known.len(), there_or_out(&known)), known.networks.sums());
        }
    }
}

/// Calls everybody there is once, each in vain, and tells how many of each source came among the first `n`.
fn called(known: &mut Known, n: usize) -> BTreeMap<Source, usize> {
    let mut by = BTreeMap::new();
    for _ in 0..n {
        let Some(addr) = known.next(Time::ZERO) else { break };
        *by.entry(known.all[&addr].source).or_default() += 1;
        known.on_closed(addr, REFUSED, false, Time::ZERO);
    }
    by
}

const ALL: [Source; SOURCES] = [Source::User, Source::Tracker, Source::Local, Source::Dht, Source::Pex];

#[test]
fn every_source_has_its_turns_and_the_user_comes_first() {
    let mut known = table();
    for n in 0..500 {
        known.add(addr(n), ALL[1 + n as usize % 4], Time::ZERO);
    }
    known.add(addr(1000), Source::User, Time::ZERO);
    assert_eq!(called(&mut known, 1), [(Source::User, 1)].into());
    let due = [(Source::Tracker, 40), (Source::Local, 30), (Source::Dht, 20), (Source::Pex, 10)];
    assert_eq!(called(&mut known, 100), due.into());
    // Who had nobody to call for long has no more than its share after.
    let mut known = table();
    (0..200).for_each(|n| assert!(known.add(addr(n), Source::Tracker, Time::ZERO)));
    called(&mut known, 100);
    (200..400).for_each(|n| assert!(known.add(addr(n), Source::Pex, Time::ZERO)));
    let by = called(&mut known, 50);
    assert!((9..=11).contains(&by[&Source::Pex]) && by[&Source::Tracker] == 50 - by[&Source::Pex], "{by:?}");
}

#[test]
fn a_flood_of_one_source_leaves_the_others_what_they_named() {
    let mut known = table();
    for n in 0..100 {
        assert!(
            known.add(addr(n), Source::Tracker, Time::ZERO)
                && known.add(addr(1000 + n), Source::Dht, Time::ZERO)
        );
    }
    for n in 10_000..30_000 {
        known.add(addr(n), Source::Pex, Time::ZERO);
    }
    assert_eq!(ALL.map(|of| count(&known, of)), [0, 100, 0, 100, limits::KNOWN_MAX / limits::KNOWN_PEX_PART]);
    // Even then a third of the calls go to each that is better, and trackers have room for all of theirs.
    for n in 40_000..50_000 {
        known.add(addr(n), Source::Tracker, Time::ZERO);
    }
    assert_eq!(
        (known.len(), count(&known, Source::Dht), count(&known, Source::Pex)),
        (limits::KNOWN_MAX, 0, 0)
    );
    assert!(!known.add(addr(60_000), Source::Pex, Time::ZERO));
}

#[test]
fn one_connection_an_address_but_on_loopback_and_where_the_user_says_so() {
    let mut known = table();
    let at = |ip: [u8; 4], port| SocketAddr::from((ip, port));
    for port in 1..=limits::KNOWN_PORTS_MAX as u16 + 3 {
        known.add(at([9, 9, 9, 9], port), Source::Tracker, Time::ZERO);
        known.add(at([8, 8, 8, 8], port), Source::Pex, Time::ZERO);
        known.add(at([127, 0, 0, 1], port), Source::Tracker, Time::ZERO);
    }
    assert_eq!(known.len(), limits::KNOWN_PORTS_MAX + 1 + limits::KNOWN_PORTS_MAX + 3);
    let mut out = Vec::new();
    while let Some(addr) = known.next(Time::ZERO) {
        known.occupy(addr.ip());
        out.push(addr);
    }
    let of = |ip: [u8; 4]| out.iter().filter(|addr| addr.ip() == IpAddr::from(ip)).count();
    assert_eq!([of([9, 9, 9, 9]), of([8, 8, 8, 8]), of([127, 0, 0, 1])], [1, 1, 7]);
    known.add(at([9, 9, 9, 9], 99), Source::User, Time::ZERO);
    assert_eq!(known.next(Time::ZERO), Some(at([9, 9, 9, 9], 99)));
    // When it is gone, another port is tried.
    known.on_closed(at([9, 9, 9, 9], 1), Why::Eof, false, Time::ZERO);
    known.vacate([9, 9, 9, 9].into());
    let due = known.deadline().unwrap();
    assert!(due > Time::ZERO && known.next(after(10 * 60)).is_some());
}

#[test]
fn who_may_make_addresses_up_names_another_port_only_of_one_that_failed() {
    let mut known = table();
    let at = |port| SocketAddr::from(([9, 9, 9, 9], port));
    assert!(known.add(at(1), Source::Pex, Time::ZERO) && !known.add(at(2), Source::Pex, Time::ZERO));
    assert!(!known.add(at(2), Source::Dht, Time::ZERO));
    assert_eq!(known.next(Time::ZERO), Some(at(1)));
    known.on_closed(at(1), REFUSED, false, Time::ZERO);
    assert!(known.add(at(2), Source::Pex, Time::ZERO));
}

#[test]
fn priorities_decide_once_our_address_is_known() {
    let mut known = table();
    let addrs: Vec<SocketAddr> = (1..120u8).map(|n| SocketAddr::from(([n, 7, n, 1], 6881))).collect();
    addrs.iter().for_each(|addr| assert!(known.add(*addr, Source::Tracker, Time::ZERO)));
    let own = SocketAddr::from(([200, 1, 2, 3], 6881));
    known.set_own(own);
    let mut due = addrs.clone();
    due.sort_by_key(|addr| std::cmp::Reverse(priority(own, *addr)));
    let order: Vec<SocketAddr> =
        std::iter::from_fn(|| known.next(Time::ZERO)).filter(|a| a.port() > 0).collect();
    assert_eq!(order, due.iter().copied().filter(|a| !a.ip().is_multicast()).collect::<Vec<_>>());
}

/// Candidates of one /64, and of networks of their own.
fn crowd(n: u16) -> SocketAddr {
    SocketAddr::from(([0x2001, 0xdb8, 1, 2, 0, 0, 3, n], 6881))
}

fn lone(n: u8) -> SocketAddr {
    SocketAddr::from(([20, n, 1, 1], 6881))
}

#[test]
fn network_with_many_candidates_waits_behind_the_others() {
    let mut known = table();
    for n in 0..1000 {
        assert!(known.add(crowd(n), Source::Tracker, Time::ZERO));
    }
    (0..50).for_each(|n| assert!(known.add(lone(n), Source::Tracker, Time::ZERO)));
    let share = limits::HALF_OPEN_MAX / limits::NETWORK_SHARE;
    let first: Vec<SocketAddr> = (0..50 + share).filter_map(|_| known.next(Time::ZERO)).collect();
    assert_eq!(first.iter().filter(|addr| addr.is_ipv4()).count(), 50);
    assert!(known.next(Time::ZERO).is_some(), "when nobody else waits the rest of it is called");
    // One that failed comes before them still.
    known.on_closed(lone(7), REFUSED, false, Time::ZERO);
    assert_eq!(known.next(after(limits::REDIAL.as_secs() * 2)), Some(lone(7)));
}

#[test]
fn full_table_has_room_for_others_than_a_network_with_its_share() {
    for (source, max) in
        [(Source::Tracker, limits::KNOWN_MAX), (Source::Pex, limits::KNOWN_MAX / limits::KNOWN_PEX_PART)]
    {
        let mut known = table();
        (0..60_000).for_each(|n| _ = known.add(crowd(n), source, Time::ZERO));
        assert_eq!(known.len(), max, "while there is room, one network may have all");
        for n in 0..100 {
            assert!(known.add(lone(n), source, Time::ZERO), "{n}");
        }
        (60_000..65_000).for_each(|n| _ = known.add(crowd(n), source, Time::ZERO));
        assert!((0..100).all(|n| known.has(lone(n))) && known.len() == max);
    }
}

#[test]
fn network_with_many_bans_is_called_last_and_not_never() {
    let mut known = table();
    (0..40).for_each(|n| assert!(known.add(crowd(n), Source::Tracker, Time::ZERO)));
    for n in 0..limits::NETWORK_BANS as u16 {
        known.ban(crowd(n));
    }
    // Known from before, or named now.
    known.add(crowd(99), Source::Tracker, Time::ZERO);
    (0..20).for_each(|n| assert!(known.add(lone(n), Source::Tracker, Time::ZERO)));
    let order: Vec<SocketAddr> = std::iter::from_fn(|| known.next(Time::ZERO)).collect();
    assert!(order[..20].iter().all(SocketAddr::is_ipv4), "{order:?}");
    assert_eq!(order.len(), 20 + 41 - limits::NETWORK_BANS as usize);
}

#[test]
fn accounts_of_networks_are_forgotten_with_their_addresses() {
    let mut known = table();
    for n in 0..3 * limits::BANS_MAX as u32 {
        known.add(addr(n << 8), Source::Tracker, Time::ZERO);
        known.ban(addr(n << 8));
        assert!(known.networks.len() <= limits::BANS_MAX + 1);
    }
    assert_eq!((known.len(), known.networks.len()), (0, limits::BANS_MAX));
}

#[test]
fn lost_address_that_is_named_again_is_called_at_once_and_not_hammered() {
    for source in [Source::Tracker, Source::Local, Source::Dht, Source::Pex] {
        let mut known = table();
        known.add(addr(1), source, Time::ZERO);
        let mut now = Time::ZERO;
        // 26 minutes of failures: the next call is far off.
        while now < after(26 * 60) {
            now = now.max(known.deadline().unwrap());
            assert_eq!(known.next(now), Some(addr(1)));
            known.on_closed(addr(1), Why::Timeout, false, now);
            if known.deadline().is_none() {
                break;
            }
        }
        // Whoever names it and however often, there is one call in each span.
        let (start, mut calls) = (now, Vec::new());
        while now < start + 10 * limits::REDIAL_NAMED {
            known.add(addr(1), source, now);
            if let Some(addr) = known.next(now) {
                calls.push(now);
                known.on_closed(addr, Why::Timeout, false, now);
            }
            now += Duration::from_secs(1);
        }
        assert!((9..=10).contains(&calls.len()), "{source:?}: {calls:?}");
        assert!(calls.windows(2).all(|w| w[1].since(w[0]) >= limits::REDIAL_NAMED), "{source:?}: {calls:?}");
    }
}

#[test]
fn address_named_again_that_was_not_lost_keeps_its_wait() {
    for why in [Why::Replaced, Why::Duplicate, Why::BothSeeds, Why::Busy] {
        let mut known = table();
        known.set_seeding(true, Time::ZERO);
        known.add(addr(1), Source::Tracker, Time::ZERO);
        assert_eq!(known.next(Time::ZERO), Some(addr(1)));
        known.on_closed(addr(1), why, true, Time::ZERO);
        let due = known.deadline();
        known.add(addr(1), Source::Tracker, after(40));
        assert_eq!((known.deadline(), known.next(after(40))), (due, None), "{why:?}");
    }
}

#[test]
fn failures_of_our_own_network_count_against_nobody() {
    use std::io::ErrorKind::{AddrNotAvailable, NetworkDown, NetworkUnreachable, PermissionDenied};
    let local = [AddrNotAvailable, NetworkDown, NetworkUnreachable, PermissionDenied].map(Why::Unreachable);
    for why in local.into_iter().chain([Why::AddressGone, Why::Io(NetworkDown)]) {
        let mut known = table();
        known.add(addr(1), Source::Tracker, Time::ZERO);
        let (mut now, mut waits) = (Time::ZERO, Vec::new());
        for _ in 0..20 {
            let due = known.deadline().expect("it is called for ever");
            waits.push(due.since(now));
            now = now.max(due);
            assert_eq!(known.next(now), Some(addr(1)), "{why:?}");
            known.on_closed(addr(1), why, false, now);
        }
        // Soon at first; an address of a family that this machine does not have costs little in the end.
        assert!(waits[1] <= limits::REDIAL_LOCAL * 5 / 4, "{why:?}: {waits:?}");
        assert!(waits[19] >= limits::REDIAL_MAX && waits[19] <= limits::REDIAL_MAX * 5 / 4, "{waits:?}");
        assert_eq!(known.all[&addr(1)].failures, 0);
        // When it is named, or our network is back, nothing holds it up: no packet has left.
        known.add(addr(1), Source::Tracker, now);
        assert_eq!(known.next(now), Some(addr(1)));
    }
}

#[test]
fn after_an_outage_what_was_lost_in_it_is_called_and_not_what_had_failed_before() {
    let mut known = table();
    let v6: SocketAddr = "[2001:db8::1]:1".parse().unwrap();
    for addr in [addr(1), addr(2), addr(3), addr(4), v6] {
        known.add(addr, Source::Tracker, Time::ZERO);
    }
    while known.next(Time::ZERO).is_some() {}
    known.on_closed(addr(4), Why::Timeout, false, after(80));
    known.on_closed(addr(1), Why::Timeout, true, after(100));
    known.on_closed(addr(2), Why::Timeout, false, after(110));
    known.on_closed(addr(3), Why::BothSeeds, true, after(110));
    known.on_closed(v6, Why::AddressGone, true, after(111));
    known.on_network_back(false, after(90), after(111));
    let spread = after(111) + limits::RECALL_SPACING * 2;
    let mut called: Vec<_> = std::iter::from_fn(|| known.next(spread)).collect();
    called.sort_unstable();
    assert_eq!(called, [addr(1), addr(2)]);
    known.on_network_back(true, after(90), spread);
    assert_eq!(known.next(spread), Some(v6));
}

#[test]
fn peer_that_still_holds_the_connection_that_our_network_ended_is_called_again_soon() {
    let mut known = table();
    known.add(addr(1), Source::Tracker, Time::ZERO);
    assert_eq!(known.next(Time::ZERO), Some(addr(1)));
    known.on_closed(addr(1), Why::AddressGone, true, Time::ZERO);
    let mut now = Time::ZERO;
    let mut refused = |known: &mut Known| {
        let due = known.deadline().unwrap();
        let wait = due.since(now);
        now = now.max(due);
        assert_eq!(known.next(now), Some(addr(1)));
        known.on_closed(addr(1), Why::Eof, false, now);
        wait
    };
    let waits: Vec<Duration> = (0..limits::RECONNECTS).map(|_| refused(&mut known)).collect();
    assert!(waits.iter().all(|wait| *wait <= limits::RECONNECT_WAIT * 5 / 4), "{waits:?}");
    assert!(waits.iter().sum::<Duration>() >= limits::ADDRESS_SILENT * 9 / 10, "{waits:?}");
    // Then it is a failure as any other.
    refused(&mut known);
    assert!(refused(&mut known) >= limits::REDIAL);
}
