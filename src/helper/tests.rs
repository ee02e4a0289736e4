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
    (Pool::with(Route::default(), replies, wake, Box::new(look_up)), inbox)
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
        url: Url::parse(url).unwrap(),
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
    pool.call(resolve("127.0.0.1"));
    pool.call(resolve("::ffff:1.2.3.4"));
    for want in ["127.0.0.1:7", "1.2.3.4:7"] {
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
fn a_host_that_failed_is_asked_one_at_a_time_and_by_few_threads() {
    let (mut state, now, route) = (State::default(), clock(), Route::default());
    let job = |port: u16| {
        let Call::Announce { torrent, tracker, url, .. } = ask(0, &format!("http://127.0.0.1:{port}/"), LONG)
        else {
            panic!("not an announce")
        };
        let kind = Kind::Announce { torrent, tracker, url: url.clone(), trail: vec![url] };
        Job { kind, deadline: now + LONG }
    };
    let mut hosts = Vec::new();
    for port in 1..=20 {
        state.queue.push_back(job(port));
        let Next::Ask { host, .. } = state.next(now, &route) else { panic!("not asked") };
        state.asked(&host, false, true);
        state.queue.extend([job(port), job(port)]);
        hosts.push(host);
    }
    let mut strained = 0;
    while let Next::Ask { strained: true, .. } = state.next(now, &route) {
        strained += 1;
    }
    assert_eq!(strained, limits::STRAINED_MAX);
    assert!(hosts[..strained].iter().all(|host| state.hosts[host].calls == 1));
    state.queue.extend([job(99), job(99), job(99)]);
    let mut fresh = 0;
    while let Next::Ask { strained: false, .. } = state.next(now, &route) {
        fresh += 1;
    }
    assert_eq!(fresh, limits::CALLS_PER_HOST);
    // One success and it is as good as new.
    state.asked(&hosts[0], true, false);
    assert!(matches!(state.next(now, &route), Next::Ask { strained: false, .. }));
    assert!(matches!(state.next(now, &route), Next::Ask { .. }));
    assert!(state.hosts.len() <= limits::HOSTS_MAX);
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
    let state = pool.shared.lock();
    let Found::Known(addrs) = state.names.find("two", clock()) else { panic!("not known") };
    assert_eq!(addrs[0], IpAddr::from([127, 0, 0, 1]));
}

#[test]
fn a_pool_goes_without_waiting_for_who_hangs() {
    let (pool, inbox) = pool(never);
    pool.call(resolve("dead"));
    drop(pool);
    assert!(inbox.try_recv().is_err());
}
