//! HTTPS on loopback, against servers that keep the rules and servers that break them: whatever they do, a call ends in
//! time, in bounded memory, without a thread or a descriptor left behind, and leaves by the way that the user said.

#![allow(missing_docs)]
#![cfg(feature = "https")]
#![allow(
    clippy::disallowed_methods,
    reason = "tests start threads and read the clock; the rules guard the core"
)]

mod common;

use crossbeam_channel::{Receiver, bounded};
use ptorrent::api::{Call, Reply, TorrentId, TrackerFailure};
use ptorrent::base::arena::Handle;
use ptorrent::base::wake::Wake;
use ptorrent::helper::{Client, Pool, Roots, torrent};
use ptorrent::limits;
use ptorrent::proto::id::InfoHash;
use ptorrent::proto::tracker::url::Url;
use ptorrent::proto::tracker::{Event, Request, Response};
use ptorrent::sys::socket::Route;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Far more than anything here takes; only a failing test waits so long.
const LONG: Duration = Duration::from_secs(60);
const GOOD: &[u8] = b"d8:completei3e8:intervali900e5:peers6:\x7f\0\0\x01\x1a\x22e";

type Secure = StreamOwned<ServerConnection, TcpStream>;

/// What is counted of this process is counted by one test at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn data_of(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tls").join(name)
}

/// The certificate authority of the tests alone.
fn ours() -> Roots {
    Roots::Only { file: Some(data_of("ca.pem")), dir: None }
}

fn tls() -> Arc<ServerConfig> {
    let chain = vec![CertificateDer::from_pem_file(data_of("server.pem")).unwrap()];
    let key = PrivateKeyDer::from_pem_file(data_of("server.key")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    Arc::new(config.with_no_client_auth().with_single_cert(chain, key).unwrap())
}

/// A server at this address; each connection has a thread. Gives the port.
fn server_at(address: &str, serve: impl Fn(TcpStream) + Send + Sync + 'static) -> u16 {
    let listener = TcpListener::bind((address, 0)).unwrap();
    let (port, serve) = (listener.local_addr().unwrap().port(), Arc::new(serve));
    thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            let serve = serve.clone();
            thread::spawn(move || serve(socket));
        }
    });
    port
}

/// Each connection, its handshake made and its first request read, is served by `serve`.
fn secure_at(address: &str, serve: impl Fn(&mut Secure, &str) + Send + Sync + 'static) -> u16 {
    let config = tls();
    server_at(address, move |socket| {
        let mut stream = StreamOwned::new(ServerConnection::new(config.clone()).unwrap(), socket);
        if let Some(request) = request(&mut stream) {
            serve(&mut stream, &request);
            stream.conn.send_close_notify();
            let _ = stream.flush();
        }
    })
}

fn secure(serve: impl Fn(&mut Secure, &str) + Send + Sync + 'static) -> u16 {
    secure_at("127.0.0.1", serve)
}

fn request(stream: &mut Secure) -> Option<String> {
    let (mut request, mut byte) = (Vec::new(), [0]);
    while !request.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte).ok()? == 0 {
            return None;
        }
        request.push(byte[0]);
    }
    Some(String::from_utf8_lossy(&request).into_owned())
}

fn says(head: &str, body: &[u8]) -> impl Fn(&mut Secure, &str) + Send + Sync + 'static {
    let bytes = [format!("HTTP/1.1 {head}\r\n\r\n").as_bytes(), body].concat();
    move |stream, _| {
        let _ = stream.write_all(&bytes);
    }
}

fn pool(client: Client) -> (Pool, Receiver<Reply>) {
    let (replies, inbox) = bounded(limits::CALLS_OUT);
    (Pool::new(client, replies, Arc::new(Wake::new(Box::new(|| {})))), inbox)
}

fn call(pool: &Pool, url: &str, timeout: Duration) {
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
}

fn answer(inbox: &Receiver<Reply>) -> Result<Response, TrackerFailure> {
    match inbox.recv_timeout(LONG) {
        Ok(Reply::Announced { result, .. }) => result,
        other => panic!("{other:?}"),
    }
}

fn announce_by(route: Route, roots: Roots, url: &str, timeout: Duration) -> Result<Response, TrackerFailure> {
    let (pool, inbox) = pool(Client::new(route, roots));
    call(&pool, url, timeout);
    answer(&inbox)
}

fn announce(host: &str, port: u16) -> Result<Response, TrackerFailure> {
    announce_by(Route::default(), ours(), &format!("https://{host}:{port}/announce"), LONG)
}

fn failure(port: u16, timeout: Duration) -> String {
    let url = format!("https://127.0.0.1:{port}/announce");
    announce_by(Route::default(), ours(), &url, timeout).unwrap_err().to_string()
}

#[track_caller]
fn check_good(result: Result<Response, TrackerFailure>) {
    let response = result.unwrap();
    assert_eq!((response.interval, response.complete), (Duration::from_secs(900), Some(3)));
}

/// How many helper threads this process has.
fn helpers() -> usize {
    let name = |task: &fs::DirEntry| fs::read_to_string(task.path().join("comm")).unwrap_or_default();
    let tasks = fs::read_dir("/proc/self/task").unwrap().flatten();
    tasks.filter(|task| name(task).starts_with("ptorrent")).count()
}

/// The most memory that this process has had, in KiB.
fn peak() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn a_server_with_a_trusted_certificate_is_believed_by_name_and_by_address() {
    let chunked = [&b"5\r\n"[..], &GOOD[..5], b"\r\n28\r\n", &GOOD[5..], b"\r\n0\r\nA: b\r\n\r\n"].concat();
    assert_eq!(GOOD.len() - 5, 0x28, "the length of the second chunk");
    let close = secure(says("200 OK", GOOD));
    let chunks = secure(says("200 OK\r\nTransfer-Encoding: chunked", &chunked));
    for port in [close, chunks] {
        check_good(announce("127.0.0.1", port));
        check_good(announce("localhost", port));
    }
    if TcpListener::bind("[::1]:0").is_ok() {
        check_good(announce("[::1]", secure_at("::1", says("200 OK", GOOD))));
    }
}

#[test]
fn a_certificate_that_nobody_vouches_for_is_refused() {
    let port = secure(says("200 OK", GOOD));
    let url = format!("https://127.0.0.1:{port}/announce");
    let of = |roots| announce_by(Route::default(), roots, &url, LONG).unwrap_err().to_string();
    let words = of(Roots::Usual);
    assert!(words.starts_with("HTTPS failed") && words.contains("certificate"), "{words}");
    let other = announce("127.0.0.2", secure_at("127.0.0.2", says("200 OK", GOOD))).unwrap_err().to_string();
    assert!(other.starts_with("HTTPS failed") && other.contains("certificate"), "{other}");
    let none = of(Roots::Only { file: Some("/nowhere.pem".into()), dir: None });
    assert!(none.contains("/nowhere.pem") && none.contains("SSL_CERT_FILE"), "{none}");
    let empty = of(Roots::Only { file: Some(data_of("make.sh")), dir: None });
    assert!(empty.contains("no certificate"), "{empty}");
}

#[test]
fn a_folder_of_certificates_will_do() {
    let port = secure(says("200 OK", GOOD));
    let roots = Roots::Only { file: None, dir: Some(data_of("")) };
    check_good(announce_by(Route::default(), roots, &format!("https://127.0.0.1:{port}/announce"), LONG));
}

#[test]
fn a_closed_a_plain_and_a_silent_port_are_told() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    assert!(failure(closed, LONG).contains("refused"));
    let plain = server_at("127.0.0.1", |mut socket| {
        let _ = socket.write_all(b"HTTP/1.1 400 Bad\r\n\r\nplain");
    });
    let words = failure(plain, LONG);
    assert!(words.starts_with("HTTPS failed"), "{words}");
    let deaf = TcpListener::bind("127.0.0.1:0").unwrap();
    assert_eq!(failure(deaf.local_addr().unwrap().port(), Duration::from_secs(1)), "no answer in time");
}

#[test]
fn the_call_leaves_from_the_bound_address_on_the_bound_device() {
    let port = secure(|stream, _| {
        let good = stream.sock.peer_addr().unwrap().ip().to_string() == "127.0.0.2";
        says(if good { "200 OK" } else { "400 What" }, GOOD)(stream, "");
    });
    let bound = Route { v4: Some([127, 0, 0, 2].into()), ..Route::default() };
    let url = format!("https://127.0.0.1:{port}/announce");
    check_good(announce_by(bound.clone(), ours(), &url, LONG));
    let device = Route { device: Some("lo".into()), ..bound.clone() };
    check_good(announce_by(device, ours(), &url, LONG));
    // The name has an IPv6 address as well, or IPv6 alone: nothing is asked over it.
    let asked = Arc::new(AtomicUsize::new(0));
    let seen = asked.clone();
    let Ok(listener) = TcpListener::bind("[::1]:0") else { return };
    let six = listener.local_addr().unwrap().port();
    thread::spawn(move || listener.incoming().for_each(|_| _ = seen.fetch_add(1, Ordering::Relaxed)));
    for host in ["localhost", "[::1]"] {
        let url = format!("https://{host}:{six}/announce");
        announce_by(bound.clone(), ours(), &url, LONG).unwrap_err();
    }
    assert_eq!(asked.load(Ordering::Relaxed), 0, "IPv6 was used though --bind names IPv4 alone");
}

#[test]
fn handshakes_that_hang_leave_no_thread_and_no_descriptor() {
    let _alone = alone();
    let hangs: [fn(TcpStream); 2] = [
        // Reads what comes and says not a word.
        |mut socket| while socket.read(&mut [0; 512]).is_ok_and(|n| n > 0) {},
        // The head of a long record, and then a byte now and then.
        |mut socket| {
            let _ = socket.write_all(&[22, 3, 3, 0x40, 0]);
            while socket.write_all(&[0]).is_ok() {
                thread::sleep(Duration::from_millis(50));
            }
        },
    ];
    for hang in hangs {
        // Those that the server has open end when our descriptors are closed.
        let open = Arc::new(AtomicUsize::new(0));
        let there = open.clone();
        let port = server_at("127.0.0.1", move |socket| {
            there.fetch_add(1, Ordering::SeqCst);
            hang(socket);
            there.fetch_sub(1, Ordering::SeqCst);
        });
        let (pool, inbox) = pool(Client::new(Route::default(), ours()));
        let start = Instant::now();
        for _ in 0..8 {
            call(&pool, &format!("https://127.0.0.1:{port}/announce"), Duration::from_secs(1));
        }
        for _ in 0..8 {
            answer(&inbox).unwrap_err();
        }
        assert!(start.elapsed() < LONG / 2, "{:?}", start.elapsed());
        let threads = helpers();
        assert!(threads <= limits::HELPERS_MAX, "{threads} threads");
        drop(pool);
        let end = Instant::now() + LONG;
        while helpers() + open.load(Ordering::SeqCst) > 0 && Instant::now() < end {
            thread::sleep(Duration::from_millis(10));
        }
        let left = (helpers(), open.load(Ordering::SeqCst));
        assert_eq!(left, (0, 0), "threads and connections are left");
    }
}

#[test]
fn endless_heads_trailers_and_bodies_end_the_call_in_bounded_memory() {
    let _alone = alone();
    // The third is what made the header limit of a library wrap: lines of three bytes.
    let kinds: [(&str, &str); 6] = [
        ("HTTP/1.1 200 OK\r\n", "X: y\r\n"),
        ("HTTP/1.1 200 OK\r\nX: ", "yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy"),
        ("HTTP/1.1 200 OK\r\n", "a:\n"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", "a:\n"),
        ("HTTP/1.1 200 OK\r\n\r\n", "zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz"),
        ("", "HTTP/1.1 100 Continue\r\n\r\n"),
    ];
    for (start, more) in kinds {
        let before = peak();
        let port = secure(move |stream, _| {
            let part = more.repeat(16 << 10).into_bytes();
            if stream.write_all(start.as_bytes()).is_ok() {
                while stream.write_all(&part).is_ok() {}
            }
        });
        let begun = Instant::now();
        let words = failure(port, Duration::from_secs(20));
        assert!(words.contains("too long") || words.contains("longer than"), "{more:?}: {words}");
        assert!(begun.elapsed() < Duration::from_secs(15), "{more:?}: {:?}", begun.elapsed());
        let grown = peak().saturating_sub(before);
        assert!(grown < 24 << 10, "{more:?}: {grown} KiB more");
    }
}

#[test]
fn a_redirect_to_plain_http_is_not_followed() {
    let port = secure(says("302 Found\r\nLocation: http://127.0.0.1:9/announce", b""));
    assert!(failure(port, LONG).contains("https:// to http://"));
}

#[test]
fn a_torrent_comes_over_https() {
    let port = secure(says("200 OK\r\nContent-Length: 3", b"abcd"));
    let url = Url::parse(&format!("https://localhost:{port}/x.torrent")).unwrap().trust();
    let got = torrent::download(Client::new(Route::default(), ours()), url, LONG).unwrap();
    let torrent::Downloaded::Torrent(bytes) = got.recv_timeout(LONG).unwrap().unwrap() else {
        panic!("a magnet link")
    };
    assert_eq!(bytes, b"abc");
}

/// The bytes of a file, by the ranges that are asked for, over as many requests as the client likes.
fn ranges(file: &'static [u8]) -> impl Fn(&mut Secure, &str) + Send + Sync + 'static {
    move |stream, first| {
        let mut next = Some(first.to_string());
        while let Some(head) = next {
            let range = head.lines().find_map(|line| line.strip_prefix("Range: bytes=")).unwrap();
            let (from, to) = range.split_once('-').unwrap();
            let (from, to): (usize, usize) = (from.parse().unwrap(), to.parse().unwrap());
            let head = format!(
                "HTTP/1.1 206 Part\r\nContent-Range: bytes {from}-{to}/{}\r\nContent-Length: {}\r\n\r\n",
                file.len(),
                to + 1 - from
            );
            if stream.write_all(&[head.as_bytes(), &file[from..=to]].concat()).is_err() {
                return;
            }
            next = request(stream);
        }
    }
}

#[test]
fn the_program_downloads_from_a_web_seed_over_one_connection() {
    let folder = common::Folder::new("https-web");
    let data: &'static [u8] = common::noise(3 << 20, 9).leak();
    folder.file("there/file", data);
    let connections = Arc::new(AtomicUsize::new(0));
    let (seen, serve) = (connections.clone(), ranges(data));
    let port = secure(move |stream, first| {
        seen.fetch_add(1, Ordering::Relaxed);
        serve(stream, first);
    });
    let run = |args: &[&str], trusted: Option<PathBuf>| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_ptorrent"));
        command
            .current_dir(&folder.0)
            .args(args)
            .env("XDG_CONFIG_HOME", &folder.0)
            .env_remove("SSL_CERT_DIR");
        command.env("SSL_CERT_FILE", trusted.unwrap_or_default());
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let seed = format!("https://localhost:{port}/file");
    let made = run(&["create", "-l", "64K", "-o", "a.torrent", "-w", &seed, "there/file"], None);
    assert_eq!(made.0, Some(0), "{made:?}");
    let args =
        ["--json", "-p", "0", "--state-dir", "state", "--no-dht", "--no-pex", "--no-lsd", "-b", "127.0.0.1"];
    let got = run(&[&args[..], &["-x", "-d", "here", "a.torrent"]].concat(), Some(data_of("ca.pem")));
    assert_eq!(got, (Some(0), String::new()));
    assert!(fs::read(folder.0.join("here/file")).unwrap() == data, "other bytes");
    assert_eq!(connections.load(Ordering::Relaxed), 1);
}
