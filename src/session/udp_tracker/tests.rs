use super::*;
use crate::base::arena::Handle;
use crate::proto::id::InfoHash;
use crate::proto::tracker::Event;
use crate::proto::tracker::udp::{Counts, Query};

const HERE: &str = "udp://10.0.0.1:6969/announce";
const SECOND: Duration = Duration::from_secs(1);

/// The machine, the clock, and what it wanted done at which second.
struct Bench {
    m: UdpTrackers,
    now: Time,
    log: Vec<(u64, Out)>,
}

/// A datagram that was sent.
#[derive(Clone, Debug)]
struct Sent {
    at: u64,
    to: SocketAddr,
    data: Vec<u8>,
}

impl Sent {
    fn transaction(&self) -> u32 {
        udp::query(&self.data).unwrap().0
    }

    fn query(&self) -> Query<'_> {
        udp::query(&self.data).unwrap().1
    }

    fn is_connect(&self) -> bool {
        matches!(self.query(), Query::Connect)
    }

    /// The connection id of an announce.
    fn connection(&self) -> u64 {
        match self.query() {
            Query::Announce { connection, .. } => connection,
            other => panic!("{other:?}"),
        }
    }

    /// What a tracker answers: this connection id, or these numbers.
    fn answer(&self, id: u64) -> Vec<u8> {
        let mut out = Vec::new();
        match self.query() {
            Query::Connect => udp::put_connected(&mut out, self.transaction(), id),
            _ => {
                let counts = Counts { seeders: 1, completed: 2, leechers: 3 };
                let peers = ["10.9.9.9:80".parse().unwrap(), "[2001::9]:80".parse().unwrap()];
                let family = Family::of(self.to);
                let peers = peers.into_iter();
                udp::put_announced(&mut out, self.transaction(), (900, counts), peers, family, 600);
            }
        }
        out
    }

    fn refusal(&self, words: &str) -> Vec<u8> {
        let mut out = Vec::new();
        udp::put_refused(&mut out, self.transaction(), words);
        out
    }
}

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

impl Bench {
    fn new() -> Bench {
        Bench { m: UdpTrackers::new(Rng::new([5; 32])), now: Time::ZERO, log: Vec::new() }
    }

    fn ask(&mut self, torrent: u32, url: &str) {
        self.ask_in(torrent, url, None);
    }

    fn ask_in(&mut self, torrent: u32, url: &str, hurry: Option<Duration>) {
        let request = Request {
            info_hash: InfoHash([torrent as u8; 20]),
            peer_id: [1; 20],
            port: 6881,
            uploaded: 0,
            downloaded: 0,
            left: 1,
            event: if hurry.is_some() { Event::Stopped } else { Event::Started },
            numwant: 50,
            key: torrent,
            tracker_id: None,
        };
        let (torrent, url) = (TorrentId::from_bits(torrent), Url::parse(url).unwrap());
        self.m.ask(Ask { torrent, tracker: 0, url, request, hurry }, self.now);
        self.take();
    }

    fn take(&mut self) {
        while let Some(out) = self.m.next() {
            self.log.push((self.now.secs(), out));
        }
        self.check();
    }

    /// Lets time pass, from one deadline to the next.
    fn pass(&mut self, span: Duration) {
        let end = self.now + span;
        while let Some(at) = self.m.deadline().filter(|at| *at <= end) {
            assert!(at >= self.now, "a deadline in the past");
            self.now = at;
            self.m.on_tick(at);
            assert!(self.m.deadline().is_none_or(|next| next > at), "it does not go on");
            self.take();
        }
        self.now = end;
    }

    fn hear(&mut self, from: SocketAddr, data: &[u8]) {
        self.m.on_datagram(from, data, self.now);
        self.take();
    }

    /// Answers a datagram as a tracker does.
    fn answer(&mut self, sent: &Sent, id: u64) {
        self.hear(sent.to, &sent.answer(id));
    }

    fn sent(&self) -> Vec<Sent> {
        let datagram = |(at, out): &(u64, Out)| match out {
            Out::Send { to, data } => Some(Sent { at: *at, to: *to, data: data.clone() }),
            Out::Announce { to, connection, transaction, request, target, .. } => {
                let mut data = Vec::new();
                udp::announce(&mut data, *connection, *transaction, request, target);
                Some(Sent { at: *at, to: *to, data })
            }
            _ => None,
        };
        self.log.iter().filter_map(datagram).collect()
    }

    fn last(&self) -> Sent {
        self.sent().pop().unwrap()
    }

    /// What came of announces: when, whose, and what.
    fn answers(&self) -> Vec<(u64, u32, Result<usize, String>)> {
        let answer = |(at, out): &(u64, Out)| match out {
            Out::Answer { torrent, result, .. } => {
                let result = result.as_ref().map(|r| r.peers.len()).map_err(ToString::to_string);
                Some((*at, torrent.bits(), result))
            }
            _ => None,
        };
        self.log.iter().filter_map(answer).collect()
    }

    fn slow(&self) -> Vec<(u64, u32)> {
        let slow = |(at, out): &(u64, Out)| match out {
            Out::Slow { torrent, .. } => Some((*at, torrent.bits())),
            _ => None,
        };
        self.log.iter().filter_map(slow).collect()
    }

    fn look_ups(&self) -> Vec<String> {
        let look_up = |(_, out): &(u64, Out)| match out {
            Out::LookUp { host, .. } => Some(host.clone()),
            _ => None,
        };
        self.log.iter().filter_map(look_up).collect()
    }

    fn looked_up(&mut self, host: &str, result: Result<&[&str], &str>) {
        let result = result.map(|addrs| addrs.iter().map(|a| addr(a)).collect()).map_err(str::to_owned);
        self.m.on_looked_up(host, 6969, result, self.now);
        self.take();
    }

    /// Answers all that is sent, and all that is sent then, until nothing comes. Tells how many datagrams there were.
    fn serve(&mut self, from: usize) -> usize {
        let mut at = from;
        loop {
            let sent = self.sent();
            if at == sent.len() {
                return at - from;
            }
            for one in &sent[at..] {
                self.answer(one, 77);
            }
            at = sent.len();
        }
    }

    /// All counts agree with what they count.
    fn check(&self) {
        let m = &self.m;
        let (mut transactions, mut waiting) = (0, 0);
        for (id, p) in &m.places {
            let of_it = || m.asks.values().filter(|a| a.place == *id);
            assert_eq!(p.asks, of_it().count());
            assert!((1..=limits::UDP_WINDOW_MAX).contains(&p.window));
            assert_eq!(p.hurried, of_it().filter(|a| a.ask.hurry.is_some()).count());
            for kind in [0, 1] {
                let flying = of_it().filter(|a| a.flight.is_some() && a.kind() == kind).count();
                assert_eq!(p.flying[kind], flying);
                let fits = |id: &AskId| m.asks[id].flight.is_none() && m.asks[id].kind() == kind;
                assert!(p.waiting[kind].iter().all(fits));
                waiting += p.waiting[kind].len();
                transactions += flying;
            }
            transactions += p.probe.as_ref().map_or(0, |probe| probe.sent.len());
            assert_eq!(m.due.contains(&(p.due, Due::Place(*id))), p.due != Time::NEVER);
            // Whoever waits waits for something.
            let idle = p.waiting.iter().all(VecDeque::is_empty);
            assert!(idle || p.looking || p.probe.is_some() || p.flying != [0, 0]);
        }
        assert_eq!(transactions, m.transactions.len());
        assert_eq!(waiting, m.asks.values().filter(|a| a.flight.is_none()).count());
        assert_eq!(m.by_who.len(), m.asks.len());
        assert!(m.asks.iter().all(|(id, a)| m.due.contains(&(a.due, Due::Ask(*id)))));
        let armed = m.places.values().filter(|p| p.due != Time::NEVER).count();
        assert_eq!(m.due.len(), m.asks.len() + armed);
        assert!(m.asks.len() <= limits::UDP_ASKS_MAX && m.looking <= limits::UDP_LOOK_UPS_OUT);
    }
}

/// When the resends of BEP 15 are due, and when its patience ends.
const SCHEDULE: [u64; 9] = [0, 15, 45, 105, 225, 465, 945, 1905, 3825];
const END: u64 = 7665;

#[test]
fn a_dead_tracker_is_asked_by_the_whole_schedule_and_costs_one_datagram_each_time() {
    let mut b = Bench::new();
    for torrent in 0..1000 {
        b.ask(torrent, HERE);
    }
    b.pass(3 * 3600 * SECOND);
    assert_eq!(b.sent().iter().map(|sent| sent.at).collect::<Vec<_>>(), SCHEDULE);
    assert!(b.sent().iter().all(|sent| sent.is_connect() && sent.data == b.sent()[0].data));
    assert_eq!(b.slow(), (0..1000).map(|torrent| (45, torrent)).collect::<Vec<_>>());
    let mut answers = b.answers();
    answers.sort();
    assert!(
        answers.iter().enumerate().all(|(n, a)| *a == (END, n as u32, Err("no answer".to_owned()))),
        "{answers:?}"
    );
    assert_eq!((answers.len(), b.m.deadline()), (1000, None));
}

#[test]
fn who_comes_to_a_tracker_that_hangs_hears_so_at_once() {
    let mut b = Bench::new();
    b.ask(1, HERE);
    b.pass(44 * SECOND);
    b.ask(2, HERE);
    assert_eq!(b.slow(), []);
    b.pass(10 * SECOND);
    assert_eq!(b.slow(), [(45, 1), (45, 2)]);
    b.ask(3, HERE);
    assert_eq!((b.slow().len(), b.sent().len()), (3, 3));
    // Late as it is, the answer serves all.
    b.answer(&b.sent()[0], 9);
    b.serve(3);
    assert_eq!(b.answers().len(), 3);
    b.ask(4, HERE);
    b.serve(6);
    assert_eq!((b.slow().len(), b.answers().len()), (3, 4));
}

/// The example of BEP 15: the connect is answered, the announce never.
#[test]
fn a_lost_announce_goes_on_with_a_new_connection_id() {
    let mut b = Bench::new();
    b.ask(1, HERE);
    b.pass(SECOND);
    b.answer(&b.last(), 0x77);
    b.pass(3600 * SECOND);
    let seen: Vec<_> = b.sent().iter().map(|sent| (sent.at, sent.is_connect())).collect();
    assert_eq!(seen[..6], [(0, true), (1, false), (16, false), (46, false), (106, true), (226, true)]);
    assert_eq!(b.slow(), [(45, 1)]);
    let announces: Vec<_> =
        b.sent()[1..4].iter().map(|sent| (sent.transaction(), sent.connection())).collect();
    assert!(announces.iter().all(|a| *a == announces[0] && a.1 == 0x77));
    b.answer(&b.last(), 0x88);
    assert_eq!(b.last().connection(), 0x88);
    b.pass(24 * 3600 * SECOND);
    assert_eq!(b.answers(), [(END, 1, Err("no answer".to_owned()))]);
}

#[test]
fn an_id_serves_sixty_seconds() {
    let mut b = Bench::new();
    b.ask(1, HERE);
    b.pass(5 * SECOND);
    b.answer(&b.last(), 0x77);
    b.answer(&b.last(), 0);
    b.pass(59 * SECOND);
    b.ask(2, "udp://10.0.0.1:6969/another?path");
    assert_eq!((b.sent().len(), b.last().connection()), (3, 0x77));
    b.answer(&b.last(), 0);
    b.pass(SECOND);
    b.ask(3, HERE);
    assert!(b.last().is_connect());
    b.answer(&b.last(), 0x99);
    assert_eq!(b.last().connection(), 0x99);
    b.answer(&b.last(), 0);
    assert_eq!(b.answers(), [(5, 1, Ok(1)), (64, 2, Ok(1)), (65, 3, Ok(1))]);
}

#[test]
fn a_thousand_torrents_share_one_id_and_go_out_a_few_at_a_time() {
    let mut b = Bench::new();
    for torrent in 0..1000 {
        b.ask(torrent, HERE);
    }
    assert_eq!(b.sent().len(), 1);
    b.answer(&b.last(), 0x77);
    assert_eq!(b.sent().len(), 1 + limits::UDP_WINDOW_START);
    assert_eq!(b.serve(1), 1000);
    assert_eq!(b.answers().len(), 1000);
    assert!(b.sent()[1..].iter().all(|sent| sent.connection() == 0x77));
    let mut ids: Vec<u32> = b.sent().iter().map(Sent::transaction).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 1001);
}

#[test]
fn what_is_late_forged_or_malformed_is_ignored() {
    let mut b = Bench::new();
    b.ask(1, "udp://10.0.0.1:6969/announce");
    let connect = b.last();
    let nothing = |b: &mut Bench, from: &str, data: &[u8]| {
        let before = b.log.len();
        b.hear(addr(from), data);
        assert_eq!(b.log.len(), before, "{from} {data:?}");
    };
    let tracker = "10.0.0.1:6969";
    let right = connect.answer(0x77);
    let mut other = right.clone();
    other[7] ^= 1;
    nothing(&mut b, tracker, &other);
    for wrong in ["10.0.0.2:6969", "10.0.0.1:6970", "[2001::1]:6969"] {
        nothing(&mut b, wrong, &right);
    }
    for len in 0..right.len() {
        nothing(&mut b, tracker, &right[..len]);
    }
    for action in [1, 2, 4, 255] {
        let mut wrong = [&right[..], &[0; 20]].concat();
        wrong[3] = action;
        nothing(&mut b, tracker, &wrong);
    }
    // A longer one is fine (BEP 15), and IPv4-mapped addresses are those of IPv4.
    b.hear(addr("[::ffff:10.0.0.1]:6969"), &[&right[..], &[1, 2, 3]].concat());
    let announce = b.last();
    assert_eq!(announce.connection(), 0x77);
    nothing(&mut b, tracker, &right);
    let right = announce.answer(0);
    nothing(&mut b, "10.0.0.2:6969", &right);
    for len in 0..20 {
        nothing(&mut b, tracker, &right[..len]);
    }
    for action in [0, 2, 4] {
        let mut wrong = right.clone();
        wrong[3] = action;
        nothing(&mut b, tracker, &wrong);
    }
    b.hear(addr(tracker), &right);
    assert_eq!(b.answers(), [(0, 1, Ok(1))]);
    nothing(&mut b, tracker, &right);
    assert_eq!(b.m.deadline(), None);
}

#[test]
fn hostile_answers_do_no_harm() {
    for (interval, tail, peers) in [
        (0u32, &[][..], 0),
        (u32::MAX, &[10, 0, 0, 9, 0, 0][..], 0),
        (1 << 31, &[10, 0, 0, 9, 0, 80, 1, 2, 3][..], 1),
        (i32::MAX as u32, &[9; 60_000][..], limits::ANNOUNCE_PEERS_MAX),
    ] {
        let mut b = Bench::new();
        b.ask(1, HERE);
        b.answer(&b.last(), 0x77);
        let mut answer = b.last().answer(0);
        answer.truncate(20);
        answer[8..12].copy_from_slice(&interval.to_be_bytes());
        answer[12..20].fill(0xff);
        answer.extend_from_slice(tail);
        b.hear(b.last().to, &answer);
        assert_eq!(b.answers(), [(0, 1, Ok(peers))]);
        let Some((_, Out::Answer { result: Ok(response), .. })) = b.log.last() else { panic!() };
        let bounds = limits::ANNOUNCE_INTERVAL_MIN..=limits::ANNOUNCE_INTERVAL_MAX;
        assert!(bounds.contains(&response.interval));
    }
}

#[test]
fn errors_are_told_without_secrets_and_a_lost_id_is_asked_for_again_once() {
    let mut b = Bench::new();
    let url = "udp://10.0.0.1:6969/0123456789abcdef/announce";
    b.ask(1, url);
    b.answer(&b.last(), 0x77);
    b.hear(addr("10.0.0.1:6969"), &b.last().refusal("no torrent for 0123456789abcdef\0"));
    assert_eq!(b.answers(), [(0, 1, Err("the tracker says: no torrent for …".to_owned()))]);

    b.ask(2, url);
    let first = b.last();
    b.hear(first.to, &first.refusal("Connection ID missmatch.\0"));
    assert!(b.last().is_connect());
    b.answer(&b.last(), 0x88);
    assert_eq!(b.last().connection(), 0x88);
    b.hear(first.to, &b.last().refusal("connection id expired"));
    let refused = (0, 2, Err("the tracker says: connection id expired".to_owned()));
    assert_eq!((b.answers().len(), &b.answers()[1]), (2, &refused));

    // A connect may be refused too, and then for all.
    b.pass(60 * SECOND);
    b.ask(3, url);
    b.ask(4, url);
    b.hear(first.to, &b.last().refusal("go away"));
    let whose: Vec<_> = b.answers()[2..].iter().map(|(_, whose, result)| (*whose, result.is_err())).collect();
    assert_eq!(whose, [(3, true), (4, true)]);
    assert_eq!(b.m.deadline(), None);
}

#[test]
fn a_tracker_that_hangs_starves_no_other() {
    let mut b = Bench::new();
    for torrent in 0..1000 {
        b.ask(torrent, "udp://10.0.0.66:6969");
    }
    b.pass(100 * SECOND);
    let before = b.sent().len();
    assert_eq!(before, 3);
    for torrent in 1000..1100 {
        b.ask(torrent, HERE);
    }
    assert_eq!(b.serve(before), 101);
    assert_eq!(b.answers().len(), 100);
}

/// One that answers connects, and no announce: it hears little, and all are told.
#[test]
fn a_tracker_that_answers_connects_only_is_not_flooded() {
    let mut b = Bench::new();
    for torrent in 0..1000 {
        b.ask(torrent, HERE);
    }
    let mut done = 0;
    for _ in 0..600 {
        b.pass(SECOND);
        let sent = b.sent();
        for one in sent[done..].iter().filter(|sent| sent.is_connect()) {
            b.answer(one, 0x77);
        }
        done = sent.len();
    }
    assert!(b.sent().len() < 150, "{} datagrams in ten minutes", b.sent().len());
    assert_eq!(b.slow().len(), 1000);
    assert!(b.slow().iter().all(|(at, _)| *at <= 47));
}

#[test]
fn a_torrent_that_its_tracker_ignores_holds_up_no_other() {
    let mut b = Bench::new();
    for torrent in 0..110 {
        b.ask(torrent, HERE);
    }
    b.answer(&b.last(), 0x77);
    let mut done = 1;
    for _ in 0..40 {
        let sent = b.sent();
        for one in &sent[done..] {
            let ignored = matches!(one.query(), Query::Announce { announce, .. } if announce.key < 10);
            if !ignored {
                b.answer(one, 0x77);
            }
        }
        done = sent.len();
        b.pass(15 * SECOND);
    }
    let answered = b.answers().iter().filter(|(_, _, result)| result.is_ok()).count();
    assert!(answered == 100, "{answered} of 100 were answered");
}

#[test]
fn every_address_of_a_name_has_its_turn() {
    let mut b = Bench::new();
    b.ask(1, "udp://tracker.example:6969");
    b.ask(2, "udp://tracker.example:6969/x");
    assert_eq!((b.look_ups(), b.sent().len()), (vec!["tracker.example".to_owned()], 0));
    b.pass(5 * SECOND);
    b.looked_up("tracker.example", Ok(&["[2001::1]:6969", "10.0.0.1:6969"]));
    b.pass(50 * SECOND);
    let seen: Vec<_> = b.sent().iter().map(|sent| (sent.at, sent.to.is_ipv6())).collect();
    assert_eq!(seen, [(5, true), (20, false), (50, true)]);
    // Late, from one that was asked before: its id holds for it, and it is the first from now on.
    b.answer(&b.sent()[1], 0x77);
    assert_eq!((b.last().to, b.last().connection()), (addr("10.0.0.1:6969"), 0x77));
    b.answer(&b.sent()[3], 0);
    b.answer(&b.sent()[4], 0);
    // The other one is asked too, in vain.
    b.pass(limits::FAMILY_GRACE);
    assert_eq!(b.answers().iter().map(|a| a.2.clone()).collect::<Vec<_>>(), [Ok(1), Ok(1)]);
    b.pass(66 * SECOND);
    b.ask(3, "udp://tracker.example:6969");
    assert_eq!((b.last().to, b.look_ups().len()), (addr("10.0.0.1:6969"), 1));
    b.serve(b.sent().len() - 1);
    assert_eq!(b.answers().last(), Some(&(125, 3, Ok(1))));
    b.pass(limits::NAME_KEPT);
    b.ask(4, "udp://tracker.example:6969");
    assert_eq!(b.look_ups().len(), 2);
    b.looked_up("tracker.example", Ok(&["[2001::1]:6969", "10.0.0.1:6969"]));
    assert_eq!(b.last().to, addr("10.0.0.1:6969"));
    // Over IPv6 peers are of that family.
    let mut b = Bench::new();
    b.ask(1, "udp://[2001::1]:6969/announce");
    b.serve(0);
    let Some((_, Out::Answer { result: Ok(response), .. })) = b.log.last() else { panic!() };
    assert_eq!(response.peers, [addr("[2001::9]:80")]);
}

/// BEP 7.
#[test]
fn a_name_of_both_families_hears_each_announce_over_both() {
    const NAME: &str = "udp://tracker.example:6969/announce?key=1";
    let (four, six) = (addr("10.0.0.1:6969"), addr("[2001::1]:6969"));
    let mut b = Bench::new();
    for torrent in 0..100 {
        b.ask(torrent, NAME);
    }
    b.looked_up("tracker.example", Ok(&["[2001::1]:6969", "10.0.0.1:6969"]));
    assert_eq!(b.serve(0), 2 + 200);
    for to in [four, six] {
        let there: Vec<Sent> = b.sent().into_iter().filter(|sent| sent.to == to).collect();
        assert_eq!(there.iter().filter(|sent| sent.is_connect()).count(), 1);
        let keys = there.iter().filter_map(|sent| match sent.query() {
            Query::Announce { announce, .. } => Some(announce.key),
            _ => None,
        });
        assert_eq!(keys.collect::<BTreeSet<_>>().len(), 100);
    }
    // One answer each, with the peers of both.
    assert_eq!(b.answers().len(), 100);
    assert!(b.answers().iter().all(|(_, _, result)| *result == Ok(2)));
    // So is the end, within its time, and by one connect more where an id is too old.
    b.pass(61 * SECOND);
    let before = b.sent().len();
    b.ask_in(1, NAME, Some(3 * SECOND));
    assert_eq!(b.serve(before), 4);
    assert!(b.sent()[before + 3].to != b.sent()[before + 1].to);

    // One that answers the connect only, or nothing: the answer of the other waits a little, once.
    b.pass(61 * SECOND);
    let before = b.sent().len();
    b.ask(2, NAME);
    b.ask(3, NAME);
    let dead = if b.last().to == four { six } else { four };
    let mut at = before;
    while at < b.sent().len() {
        let one = b.sent()[at].clone();
        if one.to != dead {
            b.answer(&one, 78);
        }
        at += 1;
    }
    assert_eq!(b.answers().len(), 101);
    let asked = b.now.secs();
    b.pass(limits::FAMILY_GRACE);
    let late = |whose| (asked + limits::FAMILY_GRACE.as_secs(), whose, Ok(1));
    let mut answers = b.answers()[101..].to_vec();
    answers.sort();
    assert_eq!(answers, [late(2), late(3)]);
    b.ask(4, NAME);
    b.answer(&b.last(), 0);
    assert_eq!(b.answers().last(), Some(&late(4)));
    // Tried again when an hour has passed; what is not to be sent there counts as said.
    b.pass(limits::FAMILY_RETRY);
    b.ask(5, NAME);
    b.looked_up("tracker.example", Ok(&["[2001::1]:6969", "10.0.0.1:6969"]));
    b.answer(&b.last(), 79);
    b.answer(&b.last(), 79);
    assert_eq!((b.last().to, b.last().is_connect()), (dead, true));
    assert_eq!(b.m.cancel(TorrentId::from_bits(5), b.now), []);
    b.take();
    assert_eq!(b.answers().last(), Some(&(b.now.secs(), 5, Ok(1))));
    b.ask(6, NAME);
    b.answer(&b.last(), 0);
    b.m.on_unreachable(dead, io::ErrorKind::NetworkUnreachable, b.now);
    b.take();
    assert_eq!(b.answers().last(), Some(&(b.now.secs(), 6, Ok(1))));
}

#[test]
fn an_address_that_nothing_can_be_sent_to_is_passed_over_at_once() {
    let mut b = Bench::new();
    b.ask(1, "udp://tracker.example:6969");
    b.looked_up("tracker.example", Ok(&["[2001::1]:6969", "10.0.0.1:6969"]));
    b.m.on_unreachable(addr("[2001::1]:6969"), io::ErrorKind::NetworkUnreachable, b.now);
    b.take();
    assert_eq!((b.sent().len(), b.last().to), (2, addr("10.0.0.1:6969")));
    b.m.on_unreachable(addr("10.0.0.9:6969"), io::ErrorKind::NetworkUnreachable, b.now);
    b.m.on_unreachable(addr("10.0.0.1:6969"), io::ErrorKind::PermissionDenied, b.now);
    b.take();
    assert_eq!(b.answers(), [(0, 1, Err("cannot send to it: permission denied".to_owned()))]);
    // In the midst of an announce: another address may do.
    b.ask(2, "udp://tracker.example:6969");
    b.answer(&b.last(), 0x77);
    let lost = b.last();
    b.m.on_unreachable(lost.to, io::ErrorKind::NetworkUnreachable, b.now);
    b.take();
    assert!(b.last().is_connect() && b.last().to != lost.to);
    b.serve(b.sent().len() - 1);
    assert_eq!(b.answers().last(), Some(&(0, 2, Ok(2))));
    // An address that is none.
    b.ask(3, "udp://224.0.0.1:6969");
    assert_eq!(b.answers().last(), Some(&(0, 3, Err("its address cannot be called".to_owned()))));
}

#[test]
fn look_ups_are_shared_bounded_and_may_fail() {
    let mut b = Bench::new();
    for n in 0..50 {
        b.ask(n, &format!("udp://t{}.example:6969", n % 25));
    }
    assert_eq!(b.look_ups().len(), limits::UDP_LOOK_UPS_OUT);
    b.looked_up("t0.example", Err("cannot find t0.example: no"));
    assert_eq!(b.answers().iter().map(|a| a.1).collect::<Vec<_>>(), [0, 25]);
    assert_eq!(b.look_ups().len(), limits::UDP_LOOK_UPS_OUT + 1);
    b.looked_up("t1.example", Ok(&["0.0.0.0:6969"]));
    assert!(b.answers()[2].2.as_ref().is_err_and(|why| why == "it has no address that can be called"));
    for n in 2..25 {
        b.looked_up(&format!("t{n}.example"), Ok(&["10.0.0.1:6969"]));
    }
    assert_eq!((b.look_ups().len(), b.sent().len()), (25, 23));
}

#[test]
fn at_the_stop_there_is_little_time() {
    let budget = 3 * SECOND;
    let mut b = Bench::new();
    b.ask(0, HERE);
    b.serve(0);
    // With an id at hand all go out at once; the lost one again after a second.
    for torrent in 0..100 {
        b.ask_in(torrent, HERE, Some(budget));
    }
    let sent = b.sent();
    assert_eq!(sent.len(), 102);
    for one in &sent[2..101] {
        b.answer(one, 0);
    }
    b.pass(10 * SECOND);
    assert_eq!(b.sent()[102..].iter().map(|sent| sent.at).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(b.answers().len(), 101);
    assert_eq!(b.answers().last(), Some(&(3, 99, Err("no answer".to_owned()))));
    // Without: one connect a second, also where the long schedule was under way.
    let mut b = Bench::new();
    b.ask(0, HERE);
    b.pass(200 * SECOND);
    let before = b.sent().len();
    assert_eq!(b.m.cancel(TorrentId::from_bits(0), b.now), [0]);
    b.ask_in(0, HERE, Some(budget));
    for torrent in 1..50 {
        b.ask_in(torrent, HERE, Some(budget));
    }
    assert_eq!(b.sent().len(), before + 1);
    b.pass(SECOND);
    b.serve(before + 1);
    assert_eq!(b.answers().len(), 50);
}

#[test]
fn what_is_cancelled_is_gone() {
    let mut b = Bench::new();
    for torrent in 0..20 {
        b.ask(torrent, HERE);
    }
    b.answer(&b.last(), 0x77);
    // What has just gone out is let end, soon; nothing takes its place.
    for torrent in 0..4 {
        assert_eq!(b.m.cancel(TorrentId::from_bits(torrent), b.now).len(), 0);
    }
    for torrent in 4..20 {
        assert_eq!(b.m.cancel(TorrentId::from_bits(torrent), b.now), [0]);
        assert_eq!(b.m.cancel(TorrentId::from_bits(torrent), b.now).len(), 0);
        b.check();
    }
    b.answer(&b.sent()[1], 0);
    b.pass(limits::COMPLETED_TIMEOUT);
    assert_eq!(b.answers().iter().filter(|(_, _, result)| result.is_ok()).count(), 1);
    assert_eq!((b.answers().len(), b.sent().len()), (4, 1 + 4 + 3));
    b.log.clear();
    assert!(b.m.asks.is_empty() && b.m.transactions.is_empty() && b.m.due.is_empty());
    b.take();
    let before = b.sent().len();
    for torrent in 0..20 {
        b.ask(torrent, HERE);
    }
    assert_eq!(b.m.clear(b.now).len(), 19);
    b.take();
    assert_eq!(b.sent().len(), before + 1, "the window is small after three losses");
    b.pass(60 * SECOND);
    assert_eq!((b.answers().len(), b.m.asks.len()), (1, 0));
    // A connect that nobody waits for any more is not sent again.
    let mut b = Bench::new();
    b.ask(1, HERE);
    b.m.cancel(TorrentId::from_bits(1), b.now);
    b.pass(1000 * SECOND);
    assert_eq!((b.sent().len(), b.m.deadline(), b.m.transactions.len()), (1, None, 0));
}

#[test]
fn all_is_bounded() {
    let mut b = Bench::new();
    for n in 0..limits::UDP_ASKS_MAX as u32 {
        // Counting all in each step takes too long here.
        let url = if n % 4 == 0 { "udp://10.0.0.2:1" } else { HERE };
        let url = Url::parse(url).unwrap();
        b.m.ask(
            Ask { torrent: TorrentId::from_bits(n), tracker: 0, url, request: any(), hurry: None },
            b.now,
        );
    }
    b.take();
    assert!(b.answers().is_empty());
    b.ask(1 << 20, "udp://10.0.0.3:1");
    let full = "too many announces wait for it".to_owned();
    assert_eq!(b.answers(), [(0, limits::UDP_ASKS_MAX as u32 - 1, Err(full))]);
    // Places that nobody asks are forgotten, the oldest first.
    let mut b = Bench::new();
    for n in 0..3 * limits::UDP_PLACES_KEPT {
        b.ask(1, &format!("udp://10.1.{}.{}:1", n / 250, n % 250 + 1));
        b.pass(SECOND / 10);
        b.serve(b.sent().len() - 1);
    }
    assert_eq!((b.m.places.len(), b.m.by_host.len()), (limits::UDP_PLACES_KEPT, limits::UDP_PLACES_KEPT));
}

fn any() -> Request {
    Request {
        info_hash: InfoHash([0; 20]),
        peer_id: [1; 20],
        port: 6881,
        uploaded: 0,
        downloaded: 0,
        left: 1,
        event: Event::None,
        numwant: 50,
        key: 1,
        tracker_id: None,
    }
}

/// Anything in any order: the counts agree after each step, and in the end everybody has an answer.
#[test]
fn whatever_happens_all_are_answered() {
    for seed in 0..20 {
        let mut rng = Rng::new([seed; 32]);
        let mut b = Bench::new();
        let mut asked = BTreeSet::new();
        let hosts = ["udp://10.0.0.1:1", "udp://10.0.0.2:1", "udp://[2001::1]:1", "udp://name.example:6969"];
        for step in 0..600 {
            let sent = b.sent();
            let one = sent.get(rng.index(sent.len())).cloned();
            match (rng.below(10), one) {
                (0..3, _) => {
                    let hurry = (rng.below(4) == 0).then_some(3 * SECOND);
                    let torrent = rng.below(60);
                    b.log.retain(
                        |(_, out)| !matches!(out, Out::Answer { torrent: t, .. } if t.bits() == torrent),
                    );
                    b.ask_in(torrent, hosts[rng.index(4)], hurry);
                    asked.insert(torrent);
                }
                (3..6, Some(one)) => b.answer(&one, rng.u64()),
                (6, Some(one)) => {
                    let words = ["Connection ID missmatch.", "no"][rng.index(2)];
                    b.hear(one.to, &one.refusal(words));
                }
                (7, Some(one)) => {
                    b.m.on_unreachable(one.to, io::ErrorKind::HostUnreachable, b.now);
                    b.take();
                }
                (8, _) if step % 3 == 0 => {
                    let result = if rng.below(2) == 0 {
                        Err("no")
                    } else {
                        Ok(&["10.0.0.4:6969", "10.0.0.5:6969", "[2001::2]:6969"][..])
                    };
                    if b.m.looking > 0 {
                        b.looked_up("name.example", result);
                    }
                }
                (8, _) => {
                    let torrent = rng.below(60);
                    if !b.m.cancel(TorrentId::from_bits(torrent), b.now).is_empty() {
                        asked.remove(&torrent);
                    }
                    b.check();
                }
                _ => b.pass(Duration::from_millis(u64::from(rng.below(40_000)))),
            }
        }
        b.pass(3 * 3600 * SECOND);
        let answered: BTreeSet<u32> = b.answers().iter().map(|a| a.1).collect();
        assert!(asked.is_subset(&answered), "seed {seed}: {asked:?} {answered:?}");
        assert!(b.m.asks.is_empty() && b.m.transactions.is_empty() && b.m.due.is_empty());
    }
}

/// Answers connects at both addresses, and announces at the second one only, until an announce was answered; where
/// announces went.
fn serve_half(b: &mut Bench, from: usize, span: Duration) -> Vec<SocketAddr> {
    let (good, end) = (addr("10.0.0.12:6969"), b.now + span);
    let (mut seen, mut went) = (from, Vec::new());
    while b.now < end {
        while let Some(sent) = b.sent().get(seen).cloned() {
            seen += 1;
            if sent.is_connect() {
                b.answer(&sent, 77);
                continue;
            }
            went.push(sent.to);
            if sent.to == good {
                b.answer(&sent, 77);
            }
        }
        b.pass(Duration::from_secs(1));
    }
    went
}

#[test]
fn address_that_answers_connects_alone_makes_way_for_the_next_one_of_its_name() {
    let mut b = Bench::new();
    b.ask(1, "udp://half.example:6969/");
    b.looked_up("half.example", Ok(&["10.0.0.11:6969", "10.0.0.12:6969"]));
    let went = serve_half(&mut b, 0, Duration::from_secs(60));
    assert_eq!(went, [addr("10.0.0.11:6969"), addr("10.0.0.12:6969")]);
    assert!(b.answers()[0].2.is_ok(), "{:?}", b.answers());
    // The next announce goes to the good one at once, whatever the name server says first.
    b.pass(limits::NAME_KEPT);
    let from = b.sent().len();
    b.ask(1, "udp://half.example:6969/");
    b.looked_up("half.example", Ok(&["10.0.0.11:6969", "10.0.0.12:6969"]));
    assert_eq!(serve_half(&mut b, from, Duration::from_secs(5)), [addr("10.0.0.12:6969")]);
}

#[test]
fn what_is_under_way_goes_out_again_when_our_network_is_back() {
    let mut b = Bench::new();
    b.ask(1, "udp://10.0.0.1:7/");
    let connect = b.last();
    b.answer(&connect, 9);
    assert!(!b.last().is_connect());
    // Nothing is answered: the next try is minutes off.
    b.pass(Duration::from_secs(200));
    let before = b.sent().len();
    b.m.on_network_back(b.now);
    b.take();
    // With a new connection id, as the old one is of the address that we had.
    let fresh = b.sent()[before..].to_vec();
    assert_eq!((fresh.len(), fresh[0].is_connect()), (1, true));
    b.answer(&fresh[0], 10);
    let announce = b.last();
    assert_eq!((announce.is_connect(), announce.connection()), (false, 10));
    b.answer(&announce, 10);
    assert!(b.answers().last().unwrap().2.is_ok(), "{:?}", b.answers());
}
