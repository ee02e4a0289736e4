//! Trackers over HTTP that break the rules, on loopback: whatever they do, an announce ends in time, in bounded
//! memory, and with a line that tells no secret.

#![allow(missing_docs)]
#![expect(clippy::print_stderr, reason = "tests say what they skip")]

use crossbeam_channel::{Receiver, bounded};
use ptorrent::api::{Call, Reply, TorrentId, TrackerFailure};
use ptorrent::base::arena::Handle;
use ptorrent::base::wake::Wake;
use ptorrent::helper::{Client, Pool, Roots};
use ptorrent::limits;
use ptorrent::proto::id::InfoHash;
use ptorrent::proto::tracker::url::Url;
use ptorrent::proto::tracker::{Event, Failure, Request, Response};
use ptorrent::sys::socket::Route;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// Far more than anything here takes; only a failing test waits so long.
const LONG: Duration = Duration::from_secs(60);
const SECRET: &str = "0123456789abcdef";
const GOOD: &str = "d8:completei3e8:intervali900e5:peers6:\x7f\0\0\x01\x1a\x22e";

/// Serves each connection, its request read, by `serve`; gives the port.
fn server_at(address: &str, serve: impl Fn(&mut TcpStream, &str) + Send + 'static) -> u16 {
    let listener = TcpListener::bind((address, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let work = move || {
        for mut stream in listener.incoming().flatten() {
            let mut request = Vec::new();
            let mut byte = [0];
            while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|n| n == 1) {
                request.push(byte[0]);
            }
            serve(&mut stream, &String::from_utf8_lossy(&request));
        }
    };
    thread::Builder::new().spawn(work).unwrap();
    port
}

fn server(serve: impl Fn(&mut TcpStream, &str) + Send + 'static) -> u16 {
    server_at("127.0.0.1", serve)
}

/// A server that says this and closes.
fn says(answer: impl Into<Vec<u8>>) -> u16 {
    let answer = answer.into();
    server(move |stream, _| {
        stream.write_all(&answer).ok();
    })
}

fn pool(route: Route) -> (Pool, Receiver<Reply>) {
    let (replies, inbox) = bounded(limits::CALLS_OUT);
    let client = Client::new(route, Roots::Usual);
    (Pool::new(client, replies, Arc::new(Wake::new(Box::new(|| {})))), inbox)
}

fn announce_by(route: Route, url: &str, timeout: Duration) -> Result<Response, TrackerFailure> {
    let (pool, inbox) = pool(route);
    let request = Request {
        info_hash: InfoHash([0xff; 20]),
        peer_id: *b"-XX0001-abcdefghijkl",
        port: 6881,
        uploaded: 0,
        downloaded: 0,
        left: 1,
        event: Event::Started,
        numwant: 50,
        key: 7,
        tracker_id: None,
    };
    let (torrent, url) = (TorrentId::from_bits(5), Url::parse(url).unwrap().trust());
    pool.call(Call::Announce { torrent, tracker: 9, url, request, timeout });
    let Ok(Reply::Announced { torrent: id, tracker: 9, result }) = inbox.recv_timeout(LONG) else {
        panic!("no answer at all")
    };
    assert_eq!(id, torrent);
    let words = format!("{result:?}");
    assert!(!words.contains(SECRET), "a secret got out: {words}");
    result
}

fn announce_to(port: u16) -> Result<Response, TrackerFailure> {
    announce_by(Route::default(), &format!("http://127.0.0.1:{port}/{SECRET}/announce?k={SECRET}"), LONG)
}

fn error_of(port: u16) -> String {
    announce_to(port).unwrap_err().to_string()
}

fn answer(head: &str, body: &str) -> Vec<u8> {
    let mut bytes = format!("HTTP/1.1 {head}\r\n\r\n").into_bytes();
    bytes.extend(body.chars().map(|c| c as u8));
    bytes
}

fn check_good(result: Result<Response, TrackerFailure>) {
    let response = result.unwrap();
    assert_eq!((response.interval, response.complete), (Duration::from_secs(900), Some(3)));
    assert_eq!(response.peers, ["127.0.0.1:6690".parse().unwrap()]);
}

#[test]
fn an_answer_is_read_however_it_comes() {
    let len = GOOD.chars().count();
    let chunked = format!("5;x=y\r\n{}\r\n{:x}\r\n{}\r\n0\r\nA: b\r\n\r\n", &GOOD[..5], len - 5, &GOOD[5..]);
    let answers = [
        answer("200 OK\r\nConnection: close", GOOD),
        answer(&format!("200 OK\r\ncontent-LENGTH:  {len} "), &format!("{GOOD}and more")),
        answer("200 OK\r\nTransfer-Encoding: chunked", &chunked),
        [answer("100 Continue", ""), answer("200 OK\r\nContent-Encoding: identity", GOOD)].concat(),
    ];
    for bytes in answers {
        for step in [1, 2, 7, bytes.len()] {
            let bytes = bytes.clone();
            check_good(announce_to(server(move |stream, request| {
                assert!(request.starts_with(&format!("GET /{SECRET}/announce?k={SECRET}&info_hash=%FF")));
                stream.set_nodelay(true).unwrap();
                bytes.chunks(step).for_each(|part| {
                    stream.write_all(part).ok();
                });
            })));
        }
    }
}

#[test]
fn the_time_is_over_for_who_is_silent_or_slow() {
    let timeout = Duration::from_millis(300);
    let drip = |first: &'static [u8]| {
        server(move |stream, _| {
            let mut good = stream.write_all(first).is_ok();
            while good {
                thread::sleep(Duration::from_millis(10));
                good = stream.write_all(b"x").is_ok();
            }
        })
    };
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = (silent.local_addr().unwrap().port(), silent).0;
    let deaf = TcpListener::bind("127.0.0.1:0").unwrap();
    let ports = [
        drip(b"HTTP/1.1 200 OK\r\nA: "),
        drip(b"HTTP/1.1 200 OK\r\n\r\n"),
        drip(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffff\r\n"),
        deaf.local_addr().unwrap().port(),
    ];
    for port in ports {
        let failure =
            announce_by(Route::default(), &format!("http://127.0.0.1:{port}/"), timeout).unwrap_err();
        assert_eq!(failure, TrackerFailure::Network("no answer in time".into()));
    }
    // One that was closed again refuses at once.
    assert!(error_of(silent).starts_with("cannot connect to 127.0.0.1:"));
}

#[test]
fn a_head_or_body_without_end_is_cut() {
    let endless = |first: &'static str, more: &'static str| {
        server(move |stream, _| {
            let mut good = stream.write_all(first.as_bytes()).is_ok();
            while good {
                good = stream.write_all(more.repeat(1000).as_bytes()).is_ok();
            }
        })
    };
    let header = "A: bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb\r\n";
    assert!(error_of(endless("HTTP/1.1 200 OK\r\n", header)).contains("too long"));
    assert!(error_of(endless("HTTP/1.1 200 OK\r\nA: ", "x")).contains("too long"));
    let too_long = format!("longer than {} bytes", limits::HTTP_BODY_MAX);
    assert!(error_of(endless("HTTP/1.1 200 OK\r\n\r\n", "d")).contains(&too_long));
    let chunks = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert!(error_of(endless(chunks, "4\r\nxxxx\r\n")).contains(&too_long));
    assert!(error_of(endless(chunks, "f;x=")).contains("chunks"));
    let huge = answer(&format!("200 OK\r\nContent-Length: {}", u64::MAX), "d");
    assert!(error_of(says(huge)).contains(&too_long));
}

#[test]
fn a_wrong_length_is_told() {
    assert!(error_of(says(answer("200 OK\r\nContent-Length: 999", GOOD))).contains("cut short"));
    assert!(error_of(says(answer("200 OK\r\nContent-Length: -1", GOOD))).contains("Content-Length"));
    assert!(
        error_of(says(answer("200 OK\r\nContent-Length: 4\r\nContent-Length: 5", GOOD)))
            .contains("Content-Length")
    );
    assert!(error_of(says(answer("200 OK\r\nContent-Length: 5", GOOD))).contains("not valid"));
    assert!(error_of(says(answer("200 OK\r\nContent-Length: 0", ""))).contains("not valid"));
    assert!(error_of(says("")).contains("cut short"));
    assert!(error_of(says("SSH-2.0-OpenSSH\r\n\r\n")).contains("not HTTP"));
}

#[test]
fn a_compressed_answer_is_refused_politely() {
    let port = server(|stream, request| {
        assert!(request.contains("Accept-Encoding: identity\r\n"));
        stream.write_all(&answer("200 OK\r\nContent-Encoding: gzip", "\x1f\u{8b}")).ok();
    });
    assert!(error_of(port).contains("\"gzip\", which was not asked for"));
    // Without a word of it in the head, and beside a status that says more.
    let failure =
        announce_to(server(|stream, _| _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n\x1f\x8b\x08")));
    assert_eq!(failure.unwrap_err(), TrackerFailure::Compressed("gzip".into()));
    assert!(error_of(says(answer("503 x\r\nContent-Encoding: br", "x"))).contains("HTTP status 503"));
}

#[test]
fn a_tracker_that_redirects_to_a_magnet_link_is_none() {
    let link = format!("magnet:?xt=urn:btih:{}", "ab".repeat(20));
    let error = error_of(says(answer(&format!("302 Found\r\nLocation: {link}"), "")));
    assert!(error.contains("redirects to a magnet link"), "{error}");
}

#[test]
fn a_status_counts_unless_the_tracker_says_why() {
    let words = format!("d14:failure reason{}:no such key {SECRET}e", 12 + SECRET.len());
    for head in ["200 OK", "404 Not Found", "500 Oops"] {
        let failure = announce_to(says(answer(head, &words))).unwrap_err();
        assert_eq!(failure, TrackerFailure::Refused(Failure::new("no such key …".as_bytes())), "{head}");
    }
    assert!(error_of(says(answer("404 Not Found", "<html>"))).contains("HTTP status 404"));
    assert!(error_of(says(answer("503 Busy", GOOD))).contains("HTTP status 503"));
    assert!(error_of(says(answer("301 Moved", "nowhere"))).contains("HTTP status 301"));
    assert!(error_of(says(answer("200 OK", "<html>"))).contains("not valid"));
}

#[test]
fn numbers_and_lists_without_sense_do_no_harm() {
    let seconds = |body: &str| announce_to(says(answer("200 OK", body))).map(|r| r.interval.as_secs());
    for (interval, due) in [("0", 1800), ("-5", 1800), ("1", 60), ("9223372036854775807", 6 * 3600)] {
        assert_eq!(seconds(&format!("d8:intervali{interval}e12:min intervali{interval}ee")), Ok(due));
    }
    // 2^63 is no number for us, and no end of a number is none at all.
    assert!(matches!(seconds("d8:intervali9223372036854775808ee"), Err(TrackerFailure::Answer(_))));
    assert!(matches!(seconds("d8:intervali99"), Err(TrackerFailure::Answer(_))));
    for (peers, due) in [("5:\x7f\0\0\x01\x1a", 0), ("13:\x7f\0\0\x01\x1a\x22\x7f\0\0\x02\x1a\x22x", 2)] {
        let response = announce_to(says(answer("200 OK", &format!("d5:peers{peers}e")))).unwrap();
        assert_eq!(response.peers.len(), due);
    }
    let giant = "d8:completei99999999999999e10:incompletei-1e5:peers999999999:xe";
    assert!(matches!(announce_to(says(answer("200 OK", giant))), Err(TrackerFailure::Answer(_))));
    let giant = "d8:completei99999999999999e10:incompletei-1e5:peersle6:peers617:aaaaaaaaaaaaaaaaae";
    let response = announce_to(says(answer("200 OK", giant))).unwrap();
    assert_eq!((response.complete, response.incomplete, response.peers.len()), (None, None, 0));
}

#[test]
fn a_warning_shows_no_secret() {
    let body = format!("d8:intervali900e15:warning message{}:old {SECRET}e", 4 + SECRET.len());
    assert_eq!(announce_to(says(answer("200 OK", &body))).unwrap().warning.as_deref(), Some("old …"));
}

#[test]
fn redirects_are_followed_but_not_for_ever() {
    let there = server(|stream, request| {
        let good = request.starts_with("GET /there?a=b HTTP/1.1\r\n");
        stream.write_all(&answer(if good { "200 OK" } else { "404 Not Found" }, GOOD)).ok();
    });
    check_good(announce_to(says(answer(
        &format!("302 Found\r\nLocation: http://127.0.0.1:{there}/there?a=b"),
        "",
    ))));
    // Without an end, and with a secret in each step.
    let round = says(answer(&format!("307 Again\r\nLocation: /{SECRET}/again?k={SECRET}"), ""));
    assert_eq!(error_of(round), "redirected too often");
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let lost =
        says(answer(&format!("301 Moved\r\nLocation: http://u:{SECRET}@127.0.0.1:{closed}/{SECRET}"), ""));
    assert!(error_of(lost).starts_with("cannot connect"));
    for bad in ["ftp://x/", "udp://x:1/", "http://", &format!("file:///{SECRET}")] {
        let failure = error_of(says(answer(&format!("302 Found\r\nLocation: {bad}"), "")));
        assert!(failure.contains("unusable URL"), "{bad}: {failure}");
    }
}

#[test]
fn user_and_password_go_along_as_basic_authentication() {
    let port = server(|stream, request| {
        let good = request.contains("\r\nAuthorization: Basic dXNlcjpwYXNzd29yZA==\r\n");
        stream.write_all(&answer(if good { "200 OK" } else { "401 Who" }, GOOD)).ok();
    });
    check_good(announce_by(Route::default(), &format!("http://user:password@127.0.0.1:{port}/a"), LONG));
}

#[test]
fn an_ipv6_literal_is_called() {
    if TcpListener::bind("[::1]:0").is_err() {
        return eprintln!("skipped: no IPv6 here");
    }
    let port = server_at("::1", |stream, request| {
        let good = request.contains("\r\nHost: [::1]:");
        stream.write_all(&answer(if good { "200 OK" } else { "400 What" }, GOOD)).ok();
    });
    check_good(announce_by(Route::default(), &format!("http://[::1]:{port}/a"), LONG));
    let route = Route { v4: Some([127, 0, 0, 1].into()), ..Route::default() };
    let failure = announce_by(route, &format!("http://[::1]:{port}/a"), LONG).unwrap_err();
    assert!(failure.to_string().contains("--bind"), "{failure}");
}

#[test]
fn a_name_with_an_address_that_refuses_is_reached_at_another() {
    // `localhost` is ::1 first where there is IPv6, and nobody listens there.
    let port = says(answer("200 OK", GOOD));
    check_good(announce_by(Route::default(), &format!("http://localhost:{port}/a"), LONG));
}

#[test]
fn the_call_leaves_from_the_bound_address() {
    let port = server(|stream, _| {
        let good = stream.peer_addr().unwrap().ip().to_string() == "127.0.0.2";
        stream.write_all(&answer(if good { "200 OK" } else { "400 What" }, GOOD)).ok();
    });
    let route = Route { v4: Some([127, 0, 0, 2].into()), ..Route::default() };
    check_good(announce_by(route, &format!("http://127.0.0.1:{port}/a"), LONG));
}

#[test]
fn a_protocol_that_we_do_not_speak_is_told_at_once() {
    let unsupported = |url: &str| match announce_by(Route::default(), url, LONG) {
        Err(TrackerFailure::Unsupported(why)) => why,
        other => panic!("{other:?}"),
    };
    assert!(unsupported("udp://tracker.invalid:80/").contains("not a URL of HTTP"));
    if !cfg!(feature = "https") {
        assert!(unsupported("https://tracker.invalid/").contains("no HTTPS"));
    }
}
