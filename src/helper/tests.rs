use super::*;
use crate::base::arena::Handle;
use crate::proto::id::InfoHash;
use crate::proto::tracker::{Event, Request};
use crossbeam_channel::{Receiver, bounded};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Far more than anything here takes; only a failing test waits so long.
const LONG: Duration = Duration::from_secs(60);

fn pool(
    look_up: impl Fn(&str) -> Result<Vec<IpAddr>, NoName> + Send + Sync + 'static,
) -> (Pool, Receiver<Reply>) {
    let (replies, inbox) = bounded(limits::CALLS_OUT);
    let wake = Arc::new(Wake::new(Box::new(|| {})));
    (Pool::with(Client::new(Route::default(), Roots::Usual), replies, wake, Box::new(look_up)), inbox)
}

fn ask(tracker: u32, url: &str, timeout: Duration) -> Call {
    let request = Request {
        info_hash: InfoHash([1; 20]),
        peer_id: [2; 20],
        port: 6881,
        uploaded: 0,
        downloaded: 0,
        left: 1,
        event: Event::Started,
        numwant: 50,
        key: 1,
        tracker_id: None,
    };
    Call::Announce {
        torrent: TorrentId::from_bits(0),
        tracker,
        url: Url::parse(url).unwrap().trust(),
        request,
        timeout,
    }
}

fn resolve(host: &str) -> Call {
    Call::Resolve { torrent: TorrentId::from_bits(0), host: host.into(), port: 7 }
}

fn start(work: impl FnOnce() + Send + 'static) {
    thread::Builder::new().spawn(work).unwrap();
}

/// A tracker that answers everybody.
fn good(address: &str) -> u16 {
    let listener = TcpListener::bind((address, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    start(move || {
        for mut stream in listener.incoming().flatten() {
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                request.push(byte[0]);
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 17\r\n\r\nd8:intervali900ee").ok();
        }
    });
    port
}

/// A tracker that takes connections and says nothing; it counts those that are open, and the most there were.
fn silent() -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (open, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let seen = most.clone();
    start(move || {
        for mut stream in listener.incoming().flatten() {
            let now = open.fetch_add(1, Ordering::SeqCst) + 1;
            seen.fetch_max(now, Ordering::SeqCst);
            let open = open.clone();
            start(move || {
                stream.read_to_end(&mut Vec::new()).ok();
                open.fetch_sub(1, Ordering::SeqCst);
            });
        }
    });
    (port, most)
}

fn never(_: &str) -> Result<Vec<IpAddr>, NoName> {
    loop {
        thread::park();
    }
}

fn announced(reply: Reply) -> (u32, Result<Duration, TrackerFailure>) {
    match reply {
        Reply::Announced { tracker, result, .. } => (tracker, result.map(|r| r.interval)),
        Reply::Resolved { .. } | Reply::LookedUp { .. } => panic!("not an announce"),
    }
}

#[test]
fn look_ups_that_hang_delay_nobody_else_and_end_in_time_for_the_caller() {
    let port = good("127.0.0.1");
    let (pool, inbox) = pool(|name| {
        assert!(thread::current().name().is_some_and(|name| name.starts_with("ptorrent-trk-")));
        if name == "fine" { Ok(vec![[127, 0, 0, 1].into()]) } else { never(name) }
    });
    for n in 0..limits::LOOK_UPS_MAX as u32 - 1 {
        pool.call(ask(100 + n, &format!("http://dead{n}/announce"), LONG * 10));
        pool.call(ask(200 + n, &format!("http://dead{n}/announce"), LONG * 10));
    }
    pool.call(ask(1, &format!("http://127.0.0.1:{port}/"), LONG));
    assert_eq!(announced(inbox.recv_timeout(LONG).unwrap()), (1, Ok(Duration::from_secs(900))));
    pool.call(ask(2, &format!("http://FINE:{port}/"), LONG));
    assert_eq!(announced(inbox.recv_timeout(LONG).unwrap()), (2, Ok(Duration::from_secs(900))));
    // Nobody is left for the next look-up, but its time is watched.
    pool.call(ask(4, "http://dead99/announce", LONG * 10));
    pool.call(ask(3, "http://dead0/announce", Duration::from_millis(50)));
    let late = TrackerFailure::Network("its name was not found in time".into());
    assert_eq!(announced(inbox.recv_timeout(LONG).unwrap()), (3, Err(late)));
    drop(pool);
    assert!(inbox.try_recv().is_err());
}

#[test]
fn one_name_is_looked_up_once_for_all_that_want_it() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let (pool, inbox) = pool(move |name| {
        count.fetch_add(1, Ordering::SeqCst);
        thread::sleep(Duration::from_millis(20));
        if name == "a" {
            return Ok(vec![[10, 0, 0, 1].into(), [10, 0, 0, 2].into()]);
        }
        Err(NoName { why: "no such name".into(), lasting: true })
    });
    for n in 0..20 {
        pool.call(resolve(if n % 2 == 0 { "a" } else { "b" }));
    }
    for _ in 0..20 {
        let Reply::Resolved { host, port: 7, result, .. } = inbox.recv_timeout(LONG).unwrap() else {
            panic!("not a look-up")
        };
        match result {
            Ok(addrs) => assert_eq!((host.as_str(), addrs[1]), ("a", "10.0.0.2:7".parse().unwrap())),
            Err(why) => assert_eq!(why, "cannot find b: no such name"),
        }
    }
    for (host, want) in [("127.0.0.1", "127.0.0.1:7"), ("::ffff:1.2.3.4", "1.2.3.4:7")] {
        pool.call(resolve(host));
        let Reply::Resolved { result, .. } = inbox.recv_timeout(LONG).unwrap() else {
            panic!("not a look-up")
        };
        assert_eq!(result.unwrap(), [want.parse().unwrap()]);
    }
    // For all torrents: out of the same cache.
    pool.call(Call::LookUp { host: "A".into(), port: 9 });
    let Reply::LookedUp { port: 9, result, .. } = inbox.recv_timeout(LONG).unwrap() else {
        panic!("not a look-up")
    };
    assert_eq!(result.unwrap()[0], "10.0.0.1:9".parse().unwrap());
    assert_eq!(asked.load(Ordering::SeqCst), 2);
}

#[test]
fn trackers_that_hang_leave_room_for_the_others() {
    let (pool, inbox) = pool(never);
    let hanging: Vec<(u16, Arc<AtomicUsize>)> = (0..4).map(|_| silent()).collect();
    for n in 0..8 {
        for (port, _) in &hanging {
            pool.call(ask(100 + n, &format!("http://127.0.0.1:{port}/"), Duration::from_secs(1)));
        }
    }
    let port = good("127.0.0.1");
    pool.call(ask(1, &format!("http://127.0.0.1:{port}/"), LONG));
    let replies: Vec<_> = (0..33).map(|_| announced(inbox.recv_timeout(LONG).unwrap())).collect();
    let good: Vec<_> = replies.iter().filter(|(_, result)| result.is_ok()).collect();
    assert_eq!(good, [&(1, Ok(Duration::from_secs(900)))]);
    for (_, most) in hanging {
        assert!((1..=2).contains(&most.load(Ordering::SeqCst)));
    }
}

#[test]
fn hosts_that_answer_come_first_and_the_others_have_one_call_and_few_threads() {
    let (mut state, now, route) = (State::default(), clock(), Route::default());
    let job = |port: u16, farewell| {
        let Call::Announce { torrent, tracker, url, .. } = ask(0, &format!("http://127.0.0.1:{port}/"), LONG)
        else {
            panic!("not an announce")
        };
        let kind =
            Kind::Announce { torrent, tracker, url: url.clone(), trail: vec![url], from: None, farewell };
        Job { kind, deadline: now + LONG }
    };
    let gave = |fine: bool| {
        let result = if fine { Ok(Got::Answer(Box::default())) } else { Asked::nothing().result };
        Asked { result, ..Asked::nothing() }
    };
    let mut hosts = Vec::new();
    for port in 1..=20 {
        state.queue.push_back(job(port, false));
        let Next::Ask { host, trust: Trust::Unknown, .. } = state.next(now, &route) else {
            panic!("not asked")
        };
        state.asked(&host, Trust::Unknown, &gave(false), now);
        state.queue.extend([job(port, false), job(port, false)]);
        hosts.push(host);
    }
    let count = |state: &mut State, due: Trust| {
        let mut n = 0;
        while let Next::Ask { trust, .. } = state.next(now, &route) {
            assert_eq!(trust, due);
            n += 1;
        }
        n
    };
    assert_eq!(count(&mut state, Trust::Failed), limits::STRAINED_MAX);
    assert!(hosts[..limits::STRAINED_MAX].iter().all(|host| state.hosts[host].calls == 1));
    state.queue.extend([job(99, false), job(99, false), job(98, true), job(98, true)]);
    state.queue.extend([job(97, false), job(96, false)]);
    assert_eq!(count(&mut state, Trust::Unknown), limits::CHANCY_MAX - limits::STRAINED_MAX);
    // With its first success a host is as good as any, and has a call more; for farewells it has all threads.
    state.asked(&hosts[0], Trust::Failed, &gave(true), now);
    assert!(matches!(state.next(now, &route), Next::Ask { trust: Trust::Good, .. }));
    state.queue.extend([job(1, true), job(1, true), job(1, true)]);
    assert_eq!(count(&mut state, Trust::Good), limits::ASKS_MAX - limits::CHANCY_MAX);
    assert_eq!(state.asks, limits::ASKS_MAX);
    assert!(state.hosts.len() <= limits::HOSTS_MAX);
}

/// Two listeners on one port, on the loopback address of each family; None where there is no IPv6.
fn pair() -> Option<[TcpListener; 2]> {
    TcpListener::bind("[::1]:0").ok()?;
    (0..100).find_map(|_| {
        let v4 = TcpListener::bind("127.0.0.1:0").ok()?;
        let v6 = TcpListener::bind(("::1", v4.local_addr().ok()?.port())).ok()?;
        Some([v4, v6])
    })
}

/// Answers each connection with one peer on this port, and counts them.
fn names_a_peer(listener: TcpListener, port: u8) -> Arc<AtomicUsize> {
    let count = Arc::new(AtomicUsize::new(0));
    let seen = count.clone();
    start(move || {
        for mut stream in listener.incoming().flatten() {
            let mut request = Vec::new();
            let mut byte = [0];
            while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|n| n == 1) {
                request.push(byte[0]);
            }
            seen.fetch_add(1, Ordering::SeqCst);
            stream.write_all(b"HTTP/1.0 200 OK\r\n\r\nd8:intervali900e5:peers6:\x0a\0\0\x01\0").ok();
            stream.write_all(&[port, b'e']).ok();
        }
    });
    count
}

fn peers(inbox: &Receiver<Reply>) -> Vec<String> {
    let Ok(Reply::Announced { result, .. }) = inbox.recv_timeout(LONG) else { panic!("no answer") };
    result.unwrap().peers.iter().map(ToString::to_string).collect()
}

#[test]
fn a_name_with_addresses_of_both_families_is_told_over_each() {
    let Some([v4, v6]) = pair() else { return };
    let port = v4.local_addr().unwrap().port();
    let counts = [names_a_peer(v4, 4), names_a_peer(v6, 6)];
    let (pool, inbox) = pool(|_| Ok(vec!["::1".parse().unwrap(), [127, 0, 0, 1].into()]));
    for n in 1..=2 {
        pool.call(ask(0, &format!("http://two:{port}/"), LONG));
        assert_eq!(peers(&inbox), ["10.0.0.1:6", "10.0.0.1:4"]);
        assert!(counts.iter().all(|count| count.load(Ordering::SeqCst) == n));
    }
    // An address is one family only.
    pool.call(ask(0, &format!("http://[::1]:{port}/"), LONG));
    assert_eq!(peers(&inbox), ["10.0.0.1:6"]);
}

#[test]
fn a_family_that_fails_does_no_harm_and_is_left_alone_for_a_while() {
    let Some([v4, v6]) = pair() else { return };
    let port = v4.local_addr().unwrap().port();
    let count = names_a_peer(v4, 4);
    let refused = Arc::new(AtomicUsize::new(0));
    let seen = refused.clone();
    start(move || v6.incoming().for_each(|_| _ = seen.fetch_add(1, Ordering::SeqCst)));
    let (pool, inbox) = pool(|_| Ok(vec![[127, 0, 0, 1].into(), "::1".parse().unwrap()]));
    for n in 1..=3 {
        pool.call(ask(0, &format!("http://two:{port}/"), LONG));
        assert_eq!(peers(&inbox), ["10.0.0.1:4"]);
        assert_eq!((count.load(Ordering::SeqCst), refused.load(Ordering::SeqCst)), (n, 1));
    }
}

#[test]
fn a_dead_address_of_a_host_is_passed_and_the_good_one_is_first_next_time() {
    let port = good("127.0.0.1");
    // Nobody listens there on IPv6, or the machine has none.
    let (pool, inbox) = pool(|_| Ok(vec!["::1".parse().unwrap(), [127, 0, 0, 1].into()]));
    for n in 0..2 {
        pool.call(ask(n, &format!("http://two:{port}/"), LONG));
        assert_eq!(announced(inbox.recv_timeout(LONG).unwrap()), (n, Ok(Duration::from_secs(900))));
    }
    let both = ["::1".parse().unwrap(), IpAddr::from([127, 0, 0, 1])];
    assert_eq!(pool.shared.client.sort(&both, port)[0], both[1]);
}

#[test]
fn a_pool_goes_without_waiting_for_who_hangs() {
    let (pool, inbox) = pool(never);
    pool.call(resolve("dead"));
    drop(pool);
    assert!(inbox.try_recv().is_err());
}

#[test]
fn where_a_name_of_a_stranger_leads_is_judged_after_the_look_up() {
    let asked = Arc::new(AtomicUsize::new(0));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (port, seen) = (listener.local_addr().unwrap().port(), asked.clone());
    start(move || listener.incoming().for_each(|_| _ = seen.fetch_add(1, Ordering::SeqCst)));
    // What was public a moment ago is an address of this machine now.
    let (pool, inbox) = pool(|_| Ok(vec![[127, 0, 0, 1].into()]));
    for path in ["/reboot.cgi?now=yes", "/announce?now=yes", "/"] {
        let mut call = ask(0, &format!("http://rebinding.example:{port}{path}"), LONG);
        if let Call::Announce { url, .. } = &mut call {
            *url = Url::parse(&url.reveal()).unwrap();
        }
        pool.call(call);
        let Ok(Reply::Announced { result: Err(failure), .. }) = inbox.recv_timeout(LONG) else {
            panic!("{path} was asked")
        };
        assert!(
            matches!(&failure, TrackerFailure::Unsupported(why) if why.contains("127.0.0.1")),
            "{failure}"
        );
    }
    assert_eq!(asked.load(Ordering::SeqCst), 0);
}

#[test]
fn no_redirect_leads_from_the_public_network_inside() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = Url::parse(&format!("http://{}/announce", listener.local_addr().unwrap())).unwrap().trust();
    listener.set_nonblocking(true).unwrap();
    let (pool, _inbox) = pool(|_| Ok(vec![]));
    let kind = |from| Kind::Announce {
        torrent: TorrentId::from_bits(0),
        tracker: 0,
        url: url.clone(),
        trail: vec![Url::parse("http://public.example/announce").unwrap(), url.clone()],
        from: Some(from),
        farewell: false,
    };
    let here = [127, 0, 0, 1].into();
    for from in [[9, 8, 7, 6], [192, 168, 1, 1]] {
        let job = Job { kind: kind(from.into()), deadline: clock() + LONG };
        let failure = pool.shared.ask(&job, &[here], false).result.err();
        let words = failure.map(|failure| failure.to_string()).unwrap_or_default();
        assert!(words.contains("further out redirects to 127.0.0.1"), "{words}");
        assert!(listener.accept().is_err());
    }
    let job = Job { kind: kind(here), deadline: clock() + Duration::from_millis(50) };
    assert_eq!(pool.shared.ask(&job, &[here], false).used, Some(here));
}

mod addresses;
