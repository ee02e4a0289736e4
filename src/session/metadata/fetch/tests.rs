use super::*;
use crate::base::arena::Handle;
use std::time::Duration;

/// Room for whatever is tried.
const ROOMY: Room = Room::of(u64::MAX);

/// A swarm of scripted peers around one [`Fetch`].
struct Swarm {
    fetch: Fetch,
    truth: Vec<u8>,
    now: Time,
    /// By number: what it does.
    peers: Vec<Kind>,
    banned: Vec<usize>,
    requests: Vec<(usize, u32)>,
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Kind {
    Honest,
    /// Sends bytes that are not right.
    Liar,
    /// Names this size, and sends zeros.
    Size(u32),
    Silent,
    Rejects,
}

fn peer(n: usize) -> PeerId {
    PeerId::from_bits(n as u32)
}

fn addr(n: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, (n / 200) as u8, (n % 200) as u8 + 1], 6881))
}

impl Swarm {
    fn new(len: usize, peers: &[Kind], seed: u8) -> Swarm {
        let truth: Vec<u8> = (0..len).map(|i| (i * 7 + i / 251) as u8).collect();
        let mut swarm = Swarm {
            fetch: Fetch::new(Rng::new([seed; 32])),
            truth,
            now: Time(1_000_000),
            peers: peers.to_vec(),
            banned: Vec::new(),
            requests: Vec::new(),
        };
        for (n, kind) in peers.iter().enumerate() {
            let size = match kind {
                Kind::Size(size) => *size,
                _ => len as u32,
            };
            swarm.fetch.offer(peer(n), addr(n), size);
        }
        swarm
    }

    fn answer(&mut self, n: usize, piece: u32) -> Taken {
        let (at, kind) = (piece as usize * PIECE as usize, self.peers[n]);
        let total = match kind {
            Kind::Size(size) => size,
            _ => self.truth.len() as u32,
        };
        let len = piece_len(piece, total) as usize;
        let data = match kind {
            Kind::Honest => self.truth[at..at + len].to_vec(),
            Kind::Liar => self.truth[at..at + len].iter().map(|byte| byte ^ 1).collect(),
            Kind::Size(_) => vec![0; len],
            Kind::Silent => return Taken::Noted,
            Kind::Rejects => {
                self.fetch.on_reject(peer(n), piece, self.now);
                return Taken::Noted;
            }
        };
        self.fetch.on_data(peer(n), piece, total, &data, self.now)
    }

    /// Runs until it is right; tells how many seconds that took, if less than `most`.
    fn run(&mut self, most: u64) -> Option<u64> {
        let start = self.now;
        while self.now.since(start) < Duration::from_secs(most) {
            while let Some((to, piece)) = self.fetch.next(self.now, ROOMY) {
                let n = (0..self.peers.len()).find(|n| peer(*n) == to).unwrap();
                assert!(!self.banned.contains(&n), "a banned peer is asked");
                self.requests.push((n, piece));
                match self.answer(n, piece) {
                    Taken::Noted | Taken::Ignored => {}
                    Taken::Wrong(why) => panic!("{why}"),
                    Taken::Whole => {
                        let whole = self.fetch.whole().unwrap().concat();
                        if whole == self.truth {
                            return Some(self.now.since(start).as_secs());
                        }
                        for guilty in self.fetch.on_wrong() {
                            let n = (0..self.peers.len()).find(|n| addr(*n) == guilty).unwrap();
                            assert!(!matches!(self.peers[n], Kind::Honest), "an honest peer is banned");
                            self.banned.push(n);
                            self.fetch.lost(peer(n));
                        }
                    }
                }
            }
            self.now += Duration::from_secs(1);
        }
        None
    }
}

const LEN: usize = 5 * PIECE as usize + 77;

#[test]
fn many_peers_are_asked_side_by_side() {
    let mut swarm = Swarm::new(LEN, &[Kind::Honest; 6], 1);
    for _ in 0..6 {
        let (to, piece) = swarm.fetch.next(swarm.now, ROOMY).unwrap();
        swarm.requests.push((usize::from(to.slot()), piece));
    }
    assert_eq!(swarm.fetch.next(swarm.now, ROOMY), None, "nothing is asked for twice at once");
    let mut askers: Vec<_> = swarm.requests.iter().map(|(n, _)| *n).collect();
    askers.sort_unstable();
    assert_eq!(askers, [0, 1, 2, 3, 4, 5]);
    assert_eq!(swarm.fetch.progress(), Some((0, LEN as u64)));
    for (n, piece) in std::mem::take(&mut swarm.requests) {
        swarm.answer(n, piece);
    }
    assert_eq!(swarm.fetch.progress(), Some((LEN as u64, LEN as u64)));
    assert_eq!(swarm.fetch.whole().unwrap().concat(), swarm.truth);
    assert_eq!(swarm.fetch.next(swarm.now, ROOMY), None, "nothing is asked for while it is hashed");
}

#[test]
fn fifty_peers_of_which_ten_lie() {
    for seed in 0..40 {
        let mut peers = vec![Kind::Honest; 40];
        let mut rng = Rng::new([seed; 32]);
        for n in 0..10 {
            let kind = [Kind::Liar, Kind::Size(LEN as u32 + 9), Kind::Silent][n % 3];
            peers.insert(rng.index(peers.len()), kind);
        }
        let took = Swarm::new(LEN, &peers, seed).run(120);
        assert!(took.is_some(), "seed {seed}");
    }
}

#[test]
fn liars_alone_are_banned_one_by_one_until_an_honest_peer_comes() {
    let mut swarm = Swarm::new(LEN, &[Kind::Liar; 7], 3);
    assert_eq!(swarm.run(300), None);
    let mut banned = swarm.banned.clone();
    banned.sort_unstable();
    assert_eq!(banned, [0, 1, 2, 3, 4, 5, 6]);
    swarm.peers.push(Kind::Honest);
    swarm.fetch.offer(peer(7), addr(7), LEN as u32);
    assert_eq!(swarm.run(10), Some(0));
}

#[test]
fn a_size_that_the_most_name_is_not_believed_for_ever() {
    for wrong in [1, LEN as u32 - 1, LEN as u32 + PIECE, crate::limits::METADATA_MAX] {
        let mut peers = vec![Kind::Size(wrong); 5];
        peers.push(Kind::Honest);
        let mut swarm = Swarm::new(LEN, &peers, 2);
        assert!(swarm.run(60).is_some(), "{wrong}");
    }
}

#[test]
fn a_size_whose_peers_say_nothing_comes_after_the_others() {
    let mut swarm = Swarm::new(LEN, &[Kind::Silent, Kind::Silent, Kind::Honest], 2);
    for n in 0..2 {
        swarm.fetch.offer(peer(n), addr(n), 99);
    }
    let took = swarm.run(120).unwrap();
    assert!(took >= METADATA_TIMEOUT.as_secs().min(METADATA_STALL.as_secs()), "{took}");
}

#[test]
fn who_refuses_or_is_silent_is_asked_again_later_and_less_and_less() {
    let mut swarm = Swarm::new(100, &[Kind::Rejects, Kind::Silent], 4);
    assert_eq!(swarm.run(3600), None);
    for n in 0..2 {
        let count = swarm.requests.iter().filter(|(who, _)| *who == n).count();
        assert!((5..40).contains(&count), "{n} was asked {count} times in an hour");
    }
    swarm.peers[0] = Kind::Honest;
    assert!(swarm.run(METADATA_REST_MAX.as_secs() + 20).is_some());
}

#[test]
fn a_slow_peer_does_not_hold_up_the_others() {
    let mut swarm = Swarm::new(LEN, &[Kind::Silent, Kind::Honest], 4);
    let took = swarm.run(60).unwrap();
    assert!(took <= METADATA_SLOW.as_secs() + 1, "{took}");
}

#[test]
fn what_was_not_asked_for_counts_for_nothing() {
    let mut swarm = Swarm::new(LEN, &[Kind::Honest, Kind::Liar], 4);
    let (to, piece) = swarm.fetch.next(swarm.now, ROOMY).unwrap();
    let other = if to == peer(0) { 1 } else { 0 };
    assert_eq!(swarm.answer(other, 3), Taken::Ignored);
    assert_eq!(swarm.fetch.progress().unwrap().0, 0);
    let one = usize::from(to.slot());
    let data = vec![1; PIECE as usize];
    assert!(matches!(swarm.fetch.on_data(peer(one), piece, 9, &data, swarm.now), Taken::Wrong(_)));
    let (to, piece) = swarm.fetch.next(swarm.now, ROOMY).unwrap();
    assert!(matches!(swarm.fetch.on_data(to, piece, 0, &data[1..], swarm.now), Taken::Wrong(_)));
    assert_eq!(swarm.fetch.on_data(PeerId::from_bits(99), 0, 0, &data, swarm.now), Taken::Ignored);
}

#[test]
fn a_peer_that_leaves_makes_room_for_others() {
    let mut swarm = Swarm::new(100, &[Kind::Silent], 4);
    assert_eq!(swarm.fetch.next(swarm.now, ROOMY), Some((peer(0), 0)));
    swarm.fetch.lost(peer(0));
    assert!(!swarm.fetch.has_sources());
    swarm.fetch.offer(peer(1), addr(1), 100);
    assert_eq!(swarm.fetch.next(swarm.now, ROOMY), Some((peer(1), 0)));
}

#[test]
fn nothing_is_asked_for_until_there_is_room_for_the_size() {
    let mut swarm = Swarm::new(LEN, &[Kind::Honest], 4);
    assert_eq!(swarm.fetch.next(swarm.now, Room::of(LEN as u64 - 1)), None);
    assert!(swarm.fetch.waits() && swarm.fetch.reserved() == 0);
    assert!(swarm.fetch.next(swarm.now, Room::of(LEN as u64)).is_some());
    assert!(!swarm.fetch.waits() && swarm.fetch.reserved() == LEN as u64);
    assert!(swarm.run(60).is_some());
}

#[test]
fn a_try_that_gets_too_little_makes_way_and_a_good_one_does_not() {
    // A peer that sends a piece now and then holds its share for a minute.
    let mut swarm = Swarm::new(1 << 24, &[Kind::Honest], 4);
    let start = swarm.now;
    while swarm.fetch.reserved() > 0 || swarm.now == start {
        assert!(swarm.now.since(start) <= METADATA_TURN + Duration::from_secs(20), "it holds its share");
        if let Some((_, piece)) = swarm.fetch.next(swarm.now, ROOMY) {
            swarm.answer(0, piece);
        }
        swarm.now += Duration::from_secs(5);
        swarm.fetch.give_way(swarm.now);
    }
    assert!(swarm.now.since(start) >= METADATA_TURN);
    assert_eq!(swarm.fetch.next(swarm.now, ROOMY), None, "others have their turn");
    swarm.now += METADATA_REST;
    assert!(swarm.fetch.next(swarm.now, ROOMY).is_some());
    // One that sends nothing holds it for less.
    swarm.now += METADATA_STALL;
    swarm.fetch.give_way(swarm.now);
    assert_eq!(swarm.fetch.reserved(), 0);
    // At 48 KiB a second it may take as long as it takes.
    let mut swarm = Swarm::new(1 << 24, &[Kind::Honest], 4);
    for _ in 0..300 {
        for _ in 0..3 {
            let (_, piece) = swarm.fetch.next(swarm.now, ROOMY).unwrap();
            swarm.answer(0, piece);
        }
        swarm.now += Duration::from_secs(1);
        swarm.fetch.give_way(swarm.now);
        assert!(swarm.fetch.reserved() > 0);
    }
}

#[test]
fn sizes_that_are_too_large_are_told_while_nobody_names_another() {
    let mut swarm = Swarm::new(LEN, &[], 4);
    swarm.fetch.refuse(peer(0), 9 << 20);
    swarm.fetch.refuse(peer(1), 8 << 20);
    assert_eq!(swarm.fetch.too_large(), Some(8 << 20));
    assert_eq!(swarm.fetch.next(swarm.now, ROOMY), None);
    swarm.fetch.offer(peer(2), addr(2), LEN as u32);
    assert_eq!(swarm.fetch.too_large(), None);
}
