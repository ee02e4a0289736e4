//! A name with several addresses of which one is broken: the others are asked.

use super::*;
use crate::proto::tracker::url::Url;
use std::net::{SocketAddr, TcpStream};

/// How a server is broken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fault {
    /// It takes connections and closes them.
    Closes,
    /// Its proxy does not reach it.
    BadGateway,
    /// It answers what is no answer of a tracker.
    Nonsense,
    /// It takes connections and says nothing.
    Hangs,
}

/// A broken server; it counts those who ask it.
fn broken(address: &str, port: u16, fault: Fault) -> Option<Arc<AtomicUsize>> {
    let listener = TcpListener::bind((address, port)).ok()?;
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    start(move || {
        let mut kept: Vec<TcpStream> = Vec::new();
        for mut stream in listener.incoming().flatten() {
            count.fetch_add(1, Ordering::SeqCst);
            let answer: &[u8] = match fault {
                Fault::Closes => continue,
                Fault::BadGateway => b"HTTP/1.1 522 x\r\nContent-Length: 3\r\n\r\nno\n",
                Fault::Nonsense => b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>",
                Fault::Hangs => b"",
            };
            if fault != Fault::Hangs {
                // Closing a socket with unread data would send a reset.
                let _ = stream.read(&mut [0; 4096]);
            }
            let _ = stream.write_all(answer);
            if fault == Fault::Hangs {
                kept.push(stream);
            }
        }
    });
    Some(asked)
}

/// The addresses of a name whose first address is broken, and the port; None: this machine lacks an address.
fn half_broken(first: &str, second: &str, fault: Fault) -> Option<(Vec<IpAddr>, u16, Arc<AtomicUsize>)> {
    let port = good(second);
    let asked = broken(first, port, fault)?;
    Some((vec![first.parse().unwrap(), second.parse().unwrap()], port, asked))
}

const FAULTS: [Fault; 4] = [Fault::Closes, Fault::BadGateway, Fault::Nonsense, Fault::Hangs];

#[test]
fn announce_goes_to_the_next_address_and_what_failed_is_not_preferred() {
    for (first, second) in [("127.0.0.11", "127.0.0.12"), ("::1", "127.0.0.12")] {
        for fault in FAULTS {
            let Some((addrs, port, asked)) = half_broken(first, second, fault) else { continue };
            let (pool, inbox) = pool(move |_| Ok(addrs.clone()));
            let url = format!("http://name:{port}/announce");
            let mut results = Vec::new();
            for _ in 0..3 {
                let span = if fault == Fault::Hangs { Duration::from_millis(700) } else { LONG };
                pool.call(ask(1, &url, span));
                results.push(announced(inbox.recv_timeout(LONG).unwrap()).1.is_ok());
            }
            // One that hangs has the whole time of the first announce.
            let expected = [fault != Fault::Hangs, true, true];
            assert_eq!(results, expected, "{first}: {fault:?}");
            // Over the other address family it is asked once more (BEP 7), and not again.
            let most = if first == "::1" { 2 } else { 1 };
            let asked = asked.load(Ordering::SeqCst);
            assert!((1..=most).contains(&asked), "{first}: {fault:?}: asked {asked} times");
        }
    }
}

#[test]
fn what_is_asked_once_reaches_the_good_address() {
    for fault in [Fault::Closes, Fault::BadGateway, Fault::Hangs] {
        let (addrs, port, _) = half_broken("127.0.0.11", "127.0.0.12", fault).unwrap();
        let client = Client::new(Route::default(), Roots::Usual);
        let url = Url::parse(&format!("http://name:{port}/file.torrent")).unwrap().trust();
        let ask = Ask { url: &url, named: &url, purpose: Purpose::Torrent, from: None };
        let deadline = clock() + Duration::from_secs(2);
        let (used, got) = http::fetch(&client, &ask, &addrs, deadline, 1000, http::is_served);
        assert!(matches!(got, Ok(Fetched::Answer { status: 200, .. })), "{fault:?}: {got:?}");
        assert_eq!(used, Some(addrs[1]), "{fault:?}");
        assert!(client.has_failed(SocketAddr::new(addrs[0], port)));
    }
}

#[test]
fn answer_of_the_only_address_is_the_answer_whatever_it_says() {
    let port = good("127.0.0.13");
    let asked = broken("127.0.0.11", port, Fault::BadGateway).unwrap();
    let (pool, inbox) = pool(|_| Ok(vec![[127, 0, 0, 11].into()]));
    for n in 1..4 {
        pool.call(ask(1, &format!("http://name:{port}/announce"), LONG));
        let failure = announced(inbox.recv_timeout(LONG).unwrap()).1.unwrap_err();
        assert_eq!(failure, TrackerFailure::Answer("HTTP status 522".into()));
        assert_eq!(asked.load(Ordering::SeqCst), n);
    }
}
