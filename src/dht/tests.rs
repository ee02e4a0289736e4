use super::*;
use crate::limits::{DHT_GAIN, DHT_SAVED_BYTES, DHT_SENDER_BURST, KRPC_SEND_MAX};
use crate::proto::krpc::{METHOD_UNKNOWN, PROTOCOL};

const HASH: InfoHash = InfoHash(*b"mnopqrstuvwxyz123456");

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn config() -> Config {
    Config { v4: true, v6: true, port: 6881, implied_port: false, loopback: false, external: [None; 2] }
}

/// A node, and others that are played by hand.
struct Bench {
    node: Node,
    now: Time,
    rng: Rng,
}

impl Bench {
    fn new(config: Config) -> Bench {
        let now = Time(1_000_000);
        let mut bench = Bench { node: Node::new(config, [3; 32], now), now, rng: Rng::new([4; 32]) };
        bench.node.tick(now);
        bench.out();
        bench
    }

    /// Datagrams that it sends.
    fn out(&mut self) -> Vec<(SocketAddr, Vec<u8>)> {
        let outputs = std::iter::from_fn(|| self.node.poll());
        outputs
            .filter_map(
                |output| if let Output::Send { to, bytes } = output { Some((to, bytes)) } else { None },
            )
            .collect()
    }

    fn give(&mut self, from: &str, bytes: &[u8]) -> Vec<(SocketAddr, Vec<u8>)> {
        self.node.datagram(addr(from), bytes, self.now);
        self.out()
    }

    fn ask(&mut self, from: &str, method: Method<'_>) -> Vec<(SocketAddr, Vec<u8>)> {
        let id = ident::new_id(Some(addr(from).ip()), &mut self.rng);
        let bytes = query(id, method);
        self.give(from, &bytes)
    }

    fn pass(&mut self, span: Duration) {
        self.now += span;
        self.node.tick(self.now);
    }

    fn good(&self) -> usize {
        let stats = self.node.stats(self.now);
        stats.sides.iter().flatten().map(|side| side.table.good).sum()
    }

    /// Makes a node known: it is asked, and answers.
    fn meet(&mut self, from: &str) -> NodeId {
        let id = ident::new_id(Some(addr(from).ip()), &mut self.rng);
        self.node.add_node(addr(from), self.now);
        let sent = self.out();
        let (_, bytes) = sent.iter().find(|(to, _)| *to == addr(from)).expect("it is asked");
        let bytes = answer(bytes, Response::new(id), None);
        self.give(from, &bytes);
        id
    }
}

fn query(id: NodeId, method: Method<'_>) -> Vec<u8> {
    let body = Body::Query(Query { id, read_only: false, method });
    Message { tid: b"aa", version: None, ip: None, body }.encode()
}

fn answer(query: &[u8], response: Response<'_>, ip: Option<SocketAddr>) -> Vec<u8> {
    let tid = krpc::decode(query).unwrap().tid;
    Message { tid, version: None, ip, body: Body::Response(response) }.encode()
}

fn code(bytes: &[u8]) -> Option<i64> {
    match krpc::decode(bytes).unwrap().body {
        Body::Error { code, .. } => Some(code),
        _ => None,
    }
}

fn response(bytes: &[u8]) -> Response<'_> {
    match krpc::decode(bytes).unwrap().body {
        Body::Response(response) => response,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_ping_is_answered_with_our_id_and_their_address() {
    let mut bench = Bench::new(config());
    let sent = bench.ask("9.8.7.6:5", Method::Ping);
    let (to, bytes) = &sent[0];
    let message = krpc::decode(bytes).unwrap();
    assert_eq!((*to, message.tid, message.ip), (addr("9.8.7.6:5"), &b"aa"[..], Some(addr("9.8.7.6:5"))));
    assert_eq!(response(bytes).id, bench.node.stats(bench.now).sides[0].unwrap().id);
    // A stranger that we have room for is asked in turn; one that cannot be asked is not.
    assert!(matches!(krpc::decode(&sent[1].1).unwrap().body, Body::Query(_)));
    let body = Body::Query(Query { id: NodeId([5; 20]), read_only: true, method: Method::Ping });
    let quiet = Message { tid: b"aa", version: None, ip: None, body }.encode();
    assert_eq!(bench.give("9.8.6.6:5", &quiet).len(), 1);
}

#[test]
fn an_announce_needs_the_token_of_its_address() {
    let mut bench = Bench::new(config());
    let get = || Method::GetPeers { info_hash: HASH, want: Want::default() };
    let announce = |token| Method::AnnouncePeer { info_hash: HASH, port: 99, implied_port: false, token };
    let first = bench.ask("9.8.7.6:5", get());
    let token = response(&first[0].1).token.expect("a token").to_vec();
    assert!(response(&first[0].1).values.is_none());
    for (from, token) in [("9.8.7.6:5", &b"wrong"[..]), ("9.8.7.7:5", &token), ("9.8.7.6:5", b"")] {
        assert_eq!(code(&bench.ask(from, announce(token))[0].1), Some(PROTOCOL));
    }
    assert_eq!(code(&bench.ask("9.8.7.6:6", announce(&token))[0].1), None, "another port of it is all right");
    let found = bench.ask("9.1.1.1:5", get());
    let values = response(&found[0].1).values.expect("it is kept");
    assert_eq!(values.iter().collect::<Vec<_>>(), [addr("9.8.7.6:99")]);
    // IPv6 is another network.
    assert!(response(&bench.ask("[2001:470::1]:5", get())[0].1).values.is_none());
    let sampled = bench.ask("9.1.1.1:5", Method::Sample { target: HASH.into(), want: Want::default() });
    let sample = response(&sampled[0].1).sample.unwrap();
    assert_eq!((sample.num, sample.samples), (1, &HASH.0[..]));
}

#[test]
fn what_makes_no_sense_hears_of_it() {
    let mut bench = Bench::new(config());
    let unknown = bench.ask("9.8.7.6:5", Method::Unknown(b"vote"));
    assert_eq!(code(&unknown[0].1), Some(METHOD_UNKNOWN));
    let bad = bench.give("9.8.7.6:5", b"d1:ad2:id3:abce1:q4:ping1:t2:aa1:y1:qe");
    assert_eq!(code(&bad[0].1), Some(PROTOCOL));
    for datagram in [&b""[..], b"d", b"d1:t2:aa1:y1:re", &[b'l'; 1400], &[b'd'; 60_000]] {
        assert_eq!(bench.give("9.8.7.6:5", datagram), [], "{}", datagram.len());
    }
}

#[test]
fn an_address_that_may_be_forged_gets_little() {
    let mut bench = Bench::new(config());
    let known = bench.meet("9.99.7.6:5");
    for n in 1..=30 {
        bench.meet(&format!("9.{n}.7.6:5"));
        bench.meet(&format!("[2001:{n}::1]:5"));
    }
    let own = bench.node.stats(bench.now).sides[0].unwrap().id;
    for n in 0..200u8 {
        bench.node.store.add(HASH, SocketAddr::from(([8, 8, n, 8], 8)), own, bench.now);
    }
    let want = Want { v4: true, v6: true };
    let victim = addr("7.7.7.7:7");
    for method in [
        Method::Ping,
        Method::FindNode { target: HASH.into(), want },
        Method::GetPeers { info_hash: HASH, want },
        Method::Sample { target: HASH.into(), want },
        Method::Unknown(b"x"),
    ] {
        let bytes = query(ident::new_id(Some(victim.ip()), &mut bench.rng), method.clone());
        let sent = bench.give("7.7.7.7:7", &bytes);
        let total: usize = sent.iter().filter(|(to, _)| *to == victim).map(|(_, bytes)| bytes.len()).sum();
        // One question of ours may be among them.
        assert!(total <= DHT_GAIN * bytes.len() + 100, "{total} for {}: {method:?}", bytes.len());
    }
    // Who answered us is there: it gets all that goes into a datagram.
    let sent = bench.give("9.99.7.6:5", &query(known, Method::GetPeers { info_hash: HASH, want }));
    assert!((800..=KRPC_SEND_MAX).contains(&sent[0].1.len()), "{}", sent[0].1.len());
    let answer = response(&sent[0].1);
    assert_eq!((nodes_v4(answer.nodes.unwrap()).count(), nodes_v6(answer.nodes6.unwrap()).count()), (8, 8));
}

#[test]
fn forged_answers_change_nothing() {
    let mut bench = Bench::new(config());
    bench.node.add_node(addr("9.8.7.6:5"), bench.now);
    let sent = bench.out();
    let id = ident::new_id(Some(addr("9.8.7.6:5").ip()), &mut bench.rng);
    let good = answer(&sent[0].1, Response::new(id), None);
    bench.give("9.8.7.6:6", &good);
    bench.give("9.8.7.7:5", &good);
    let mut other = good.clone();
    let at = other.windows(5).position(|w| w == b"1:t4:").unwrap() + 5;
    other[at] ^= 1;
    bench.give("9.8.7.6:5", &other);
    assert_eq!(bench.good(), 0);
    bench.give("9.8.7.6:5", &good);
    assert_eq!(bench.good(), 1);
    bench.give("9.8.7.6:5", &good);
    assert_eq!(bench.good(), 1);
}

#[test]
fn nobody_names_addresses_that_it_cannot_see() {
    let mut bench = Bench::new(config());
    bench.node.want(HASH, false, bench.now);
    bench.node.add_router(addr("9.8.7.6:5"), bench.now);
    let sent = bench.out();
    let id = ident::new_id(Some(addr("9.8.7.6:5").ip()), &mut bench.rng);
    let (mut v4, mut v6) = (Vec::new(), Vec::new());
    for text in
        ["127.0.0.1:7", "192.168.0.1:7", "10.0.0.1:7", "0.0.0.0:7", "224.0.0.1:7", "9.9.9.9:0", "5.5.5.5:7"]
    {
        krpc::put_node(Contact { id, addr: addr(text) }, &mut v4, &mut v6);
    }
    let (_, bytes) = sent.iter().find(|(to, _)| *to == addr("9.8.7.6:5")).unwrap();
    let mut response = Response::new(ident::new_id(Some(addr("9.8.7.6:5").ip()), &mut bench.rng));
    response.nodes = Some(&v4);
    let bytes = answer(bytes, response, None);
    let asked = bench.give("9.8.7.6:5", &bytes);
    assert!(asked.iter().all(|(to, _)| *to == addr("5.5.5.5:7") || *to == addr("9.8.7.6:5")), "{asked:?}");
    // This machine counts only when that is said.
    assert_eq!(bench.ask("127.0.0.1:9", Method::Ping), []);
    let mut bench = Bench::new(Config { loopback: true, ..config() });
    assert_ne!(bench.ask("127.0.0.1:9", Method::Ping), []);
    assert_eq!(bench.ask("127.0.0.1:0", Method::Ping), [], "nobody is at port 0");
}

#[test]
fn a_flood_is_not_answered_and_soon_forgotten() {
    let mut bench = Bench::new(config());
    let mut answers = 0;
    for _ in 0..50_000 {
        bench.now += Duration::from_micros(20);
        answers +=
            bench.ask("9.8.7.6:5", Method::Ping).iter().filter(|(to, _)| *to == addr("9.8.7.6:5")).count();
    }
    assert!(answers as u64 <= DHT_SENDER_BURST + 30, "{answers}");
    assert!(!bench.ask("9.8.99.6:5", Method::Ping).is_empty(), "others are answered all the while");
    bench.pass(Duration::from_millis(100));
    bench.out();
    assert!(!bench.ask("9.8.7.6:5", Method::Ping).is_empty(), "and the same one right after");
}

#[test]
fn our_id_follows_the_address_that_others_see() {
    let mut bench = Bench::new(config());
    let before = bench.node.stats(bench.now).sides[0].unwrap();
    for n in 1..=6 {
        let from = format!("9.{n}.7.6:5");
        bench.node.add_node(addr(&from), bench.now);
        let sent = bench.out();
        let (_, bytes) = sent.iter().find(|(to, _)| *to == addr(&from)).unwrap();
        let id = ident::new_id(Some(addr(&from).ip()), &mut bench.rng);
        let bytes = answer(bytes, Response::new(id), Some(addr("1.2.3.4:5")));
        bench.give(&from, &bytes);
    }
    let side = bench.node.stats(bench.now).sides[0].unwrap();
    assert_eq!(side.external, Some(addr("1.2.3.4:5").ip()));
    assert!(side.id != before.id && is_lawful(side.id, addr("1.2.3.4:5").ip()));
    assert_eq!(bench.good(), 6, "whom we know stays");
}

#[test]
fn the_table_is_kept_and_asked_again() {
    let mut bench = Bench::new(config());
    for n in 1..=20 {
        bench.meet(&format!("9.{n}.7.6:5"));
    }
    assert_eq!(Bench::new(config()).node.save(), None);
    let saved = bench.node.save().unwrap();
    assert!(saved.len() <= DHT_SAVED_BYTES);
    let mut again =
        Bench { node: Node::new(config(), [5; 32], bench.now), now: bench.now, rng: Rng::new([6; 32]) };
    again.node.load(&saved, again.now);
    let asked = again.out();
    assert!(!asked.is_empty() && asked.iter().all(|(to, _)| to.port() == 5));
    assert_eq!(
        again.node.stats(again.now).sides[0].unwrap().id,
        bench.node.stats(bench.now).sides[0].unwrap().id
    );
    for junk in [&b""[..], b"d", b"de", b"i1e", b"d2:id3:abc5:nodesi1ee", &[b'l'; 100_000]] {
        let mut bench = Bench::new(config());
        bench.node.load(junk, bench.now);
        assert_eq!(bench.out(), []);
    }
}

#[test]
fn who_knows_nobody_asks_for_addresses_ever_more_rarely() {
    let now = Time(1_000_000);
    let mut node = Node::new(config(), [3; 32], now);
    let (mut asked, mut at) = (Vec::new(), now);
    while at < now + Duration::from_secs(3600) {
        at = node.deadline().expect("it does not give up");
        node.tick(at);
        while let Some(output) = node.poll() {
            if output == Output::Bootstrap {
                asked.push(at.since(now).as_secs());
            }
        }
    }
    assert!((10..=30).contains(&asked.len()) && asked[0] == 0, "{asked:?}");
}

/// How often a host asks for addresses of IPv6, which it does not have, in a day.
#[test]
fn a_family_that_is_not_there_is_tried_ever_more_rarely() {
    let (mut bench, mut ids) = (Bench::new(config()), BTreeMap::new());
    for n in 1..=20 {
        let from = format!("9.{n}.7.6:5");
        ids.insert(addr(&from), bench.meet(&from));
    }
    let (end, mut asked) = (bench.now + Duration::from_secs(24 * 3600), 0);
    while bench.now < end {
        bench.now = bench.node.deadline().unwrap().max(bench.now);
        bench.node.tick(bench.now);
        let outputs: Vec<_> = std::iter::from_fn(|| bench.node.poll()).collect();
        for output in outputs {
            match output {
                Output::Bootstrap => asked += 1,
                Output::Send { to, bytes } if to.is_ipv4() => {
                    if let Some(id) = ids.get(&to).copied() {
                        let bytes = answer(&bytes, Response::new(id), None);
                        bench.node.datagram(to, &bytes, bench.now);
                    }
                }
                _ => {}
            }
        }
    }
    assert!((10..=20).contains(&asked), "{asked}");
}

/// Starts a search of which the only node answers last; what it is told then.
fn told_at_the_end(bench: &mut Bench, drain: bool) -> usize {
    let id = bench.meet("9.8.7.6:5");
    bench.pass(Duration::from_secs(20));
    bench.out();
    bench.node.want(HASH, true, bench.now);
    let sent = bench.out();
    let asks = |bytes: &[u8]| matches!(krpc::decode(bytes).unwrap().body, Body::Query(q) if matches!(q.method, Method::GetPeers { .. }));
    let (_, bytes) = sent.iter().find(|(_, bytes)| asks(bytes)).expect("a search");
    let mut response = Response::new(id);
    response.token = Some(b"token");
    let bytes = answer(bytes, response, None);
    if drain {
        while bench.node.pace.take(1, bench.now) {}
    }
    bench.give("9.8.7.6:5", &bytes).len()
}

#[test]
fn an_announce_goes_out_however_much_is_searched() {
    assert_eq!(told_at_the_end(&mut Bench::new(config()), false), 1);
    let mut bench = Bench::new(config());
    assert_eq!(told_at_the_end(&mut bench, true), 1);
    assert!(!bench.node.pace.has(0, bench.now), "it is owed");
}

#[test]
fn a_hungry_torrent_is_searched_sooner_and_ever_less_so() {
    let mut bench = Bench::new(config());
    told_at_the_end(&mut bench, false);
    let due = |bench: &Bench| bench.node.wanted[&HASH].due[0];
    let usual = due(&bench);
    let mut waits = Vec::new();
    for _ in 0..6 {
        bench.node.hurry(HASH, false, true, bench.now);
        waits.push(due(&bench).since(bench.now).as_secs().div_ceil(60));
        // As if that search had ended.
        bench.node.due[0] = BTreeSet::from([(usual, HASH)]);
        bench.node.wanted.get_mut(&HASH).unwrap().due[0] = usual;
    }
    assert!(waits.iter().zip([1, 2, 4, 8, 15, 15]).all(|(wait, most)| *wait <= most), "{waits:?}");
    assert!(waits[2] == 4 && waits[3] == 8 && waits[5] >= 13, "{waits:?}");
    bench.node.hurry(HASH, false, false, bench.now);
    assert_eq!(due(&bench), usual);
    bench.node.hurry(HASH, false, true, bench.now);
    assert!(due(&bench) <= bench.now + Duration::from_secs(60), "from the start again");
    bench.node.hurry(InfoHash([1; 20]), true, true, bench.now);
}

#[test]
fn peers_of_a_local_network_are_no_news_for_the_world() {
    let mut bench = Bench::new(config());
    let own = bench.node.stats(bench.now).sides[0].unwrap().id;
    bench.node.store.add(HASH, addr("10.0.0.1:99"), own, bench.now);
    let get = || Method::GetPeers { info_hash: HASH, want: Want::default() };
    assert!(response(&bench.ask("9.1.1.1:5", get())[0].1).values.is_none());
    assert!(response(&bench.ask("10.0.0.2:5", get())[0].1).values.is_some());
}

#[test]
fn a_scrap_of_a_query_gets_no_long_error() {
    let mut bench = Bench::new(config());
    for scrap in [&b"d1:t2:aa1:y1:qe"[..], b"d1:t0:1:y1:qe", b"d1:t1:a1:y1:xe"] {
        let sent = bench.give("9.8.7.6:5", scrap);
        assert!(sent.iter().all(|(_, bytes)| bytes.len() <= DHT_GAIN * scrap.len()), "{sent:?}");
    }
}

#[test]
fn strangers_do_not_use_up_what_our_searches_need() {
    let mut bench = Bench::new(config());
    let mut pinged = 0;
    for n in 0..=255u8 {
        let from = format!("9.{n}.7.6:5");
        pinged += bench
            .ask(&from, Method::Ping)
            .iter()
            .filter(|(_, b)| b.windows(6).any(|w| w == b"1:y1:q"))
            .count();
        let from = format!("11.{n}.7.6:5");
        pinged += bench
            .ask(&from, Method::Ping)
            .iter()
            .filter(|(_, b)| b.windows(6).any(|w| w == b"1:y1:q"))
            .count();
    }
    assert!(pinged > 0 && bench.node.pace.has(DHT_QUERY_BURST / 2 - 1, bench.now), "{pinged}");
}

#[test]
fn errors_and_silence_end_a_search() {
    let mut bench = Bench::new(config());
    bench.meet("9.8.7.6:5");
    bench.pass(Duration::from_secs(20));
    bench.out();
    bench.node.want(HASH, true, bench.now);
    let mut searched = None;
    for _ in 0..100 {
        while let Some(output) = bench.node.poll() {
            if let Output::Searched { search, .. } = output {
                searched = Some(search);
            }
        }
        bench.now = bench.node.deadline().unwrap().max(bench.now);
        bench.node.tick(bench.now);
    }
    let searched = searched.expect("it ends");
    assert_eq!((searched.answered, searched.announced, searched.peers), (0, 0, 0));
}

#[test]
fn a_thousand_torrents_are_searched_no_more_often_than_some() {
    let mut b = Bench::new(Config { v6: false, ..config() });
    let id = b.meet("8.8.8.8:1");
    for n in 0..1000u32 {
        let mut hash = [7; 20];
        hash[..4].copy_from_slice(&n.to_be_bytes());
        b.node.want(InfoHash(hash), true, b.now);
    }
    // The one node that there is answers, so that each search is one query.
    let mut minutes = vec![0; 100];
    for second in 0..6000 {
        b.pass(Duration::from_secs(1));
        let mut sent = b.out();
        while let Some((to, bytes)) = sent.pop() {
            let Ok(Message { body: Body::Query(query), .. }) = krpc::decode(&bytes) else { continue };
            minutes[second / 60] += u32::from(matches!(query.method, Method::GetPeers { .. }));
            let bytes = answer(&bytes, Response { token: Some(b"t"), ..Response::new(id) }, None);
            b.node.datagram(to, &bytes, b.now);
            sent.extend(b.out());
        }
    }
    let spaced = 60 / u32::try_from(DHT_SPACING.as_secs()).unwrap();
    let (first, later) = minutes.split_first().unwrap();
    assert_eq!(*first, 1000, "each at once: {minutes:?}");
    assert!(later.iter().all(|searches| *searches <= spaced + 2), "{minutes:?}");
    assert!(
        later[20..].iter().all(|searches| *searches >= spaced - 2),
        "and all have their turns: {minutes:?}"
    );
}
