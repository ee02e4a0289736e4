//! `ptorrent tracker` through the real program on loopback: HTTP and UDP as raw bytes, its limits, its end, and two
//! ptorrents that know each other by it alone.

#![allow(
    clippy::disallowed_methods,
    reason = "tests start threads and wait in real time; the rules guard the core"
)]

mod common;

use common::{Folder, noise};
use ptorrent::proto::compact;
use ptorrent::proto::id::InfoHash;
use ptorrent::proto::tracker::udp::{self, Answer, Family};
use ptorrent::proto::tracker::{Event, Request, Response, http, url::Url};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::time::Duration;

const PTORRENT: &str = env!("CARGO_BIN_EXE_ptorrent");
const HASH: InfoHash = InfoHash(*b"\0 percent%+and more\xff");
/// Nothing here takes so long; a test that waits for it has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running tracker, killed at the latest when the test ends.
struct Tracker {
    child: Child,
    out: BufReader<ChildStdout>,
    addr: SocketAddr,
    err: std::path::PathBuf,
}

impl Tracker {
    fn start(folder: &Folder, bind: &str, args: &[&str]) -> Tracker {
        let err = folder.0.join("tracker.err");
        let mut command = Command::new(PTORRENT);
        command.current_dir(&folder.0).args(["tracker", "-b", bind, "-p", "0"]).args(args);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(File::create(&err).unwrap());
        let mut child = command.spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        let said = fs::read_to_string(&err).unwrap();
        let (_, rest) = line.split_once("http://").unwrap_or_else(|| panic!("{line} {said}"));
        let addr = rest.split_once("/announce").unwrap().0.parse().unwrap();
        Tracker { child, out, addr, err }
    }

    fn url(&self, scheme: &str) -> String {
        format!("{scheme}://{}/announce", self.addr)
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits until it says this on standard error.
    fn wait_for(&self, words: &str) {
        let begun = std::time::Instant::now();
        while !fs::read_to_string(&self.err).unwrap().contains(words) {
            assert!(begun.elapsed() < PATIENCE, "{}", fs::read_to_string(&self.err).unwrap());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Its status, and what else it wrote to standard output and standard error.
    fn end(mut self) -> (Option<i32>, String, String) {
        let mut out = String::new();
        self.out.read_to_string(&mut out).unwrap();
        let status = self.child.wait().unwrap().code();
        (status, out, fs::read_to_string(&self.err).unwrap())
    }
}

impl Drop for Tracker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn request(port: u16, left: u64, event: Event) -> Request {
    Request {
        info_hash: HASH,
        peer_id: *b"-XX0000-0123456789ab",
        port,
        uploaded: 0,
        downloaded: 0,
        left,
        event,
        numwant: 50,
        key: 1,
        tracker_id: None,
    }
}

fn dial(to: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// All that the tracker answers before it closes.
fn exchange(to: SocketAddr, request: &[u8]) -> Vec<u8> {
    let mut stream = dial(to);
    stream.write_all(request).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    answer
}

fn body(answer: &[u8]) -> &[u8] {
    let end = answer.windows(4).position(|end| end == b"\r\n\r\n");
    &answer[end.unwrap_or_else(|| panic!("{}", answer.escape_ascii())) + 4..]
}

fn announce_http(tracker: &Tracker, request: &Request) -> Response {
    let url = http::announce(&Url::parse(&tracker.url("http")).unwrap(), request);
    http::answer(body(&exchange(tracker.addr, &ptorrent::proto::http::get(&url)))).unwrap()
}

/// Asks over UDP; asks again should a datagram be lost.
fn ask(socket: &UdpSocket, query: &[u8]) -> Vec<u8> {
    socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    for _ in 0..10 {
        socket.send(query).unwrap();
        let mut answer = [0; 2048];
        if let Ok(len) = socket.recv(&mut answer) {
            return answer[..len].to_vec();
        }
    }
    panic!("no answer over UDP");
}

fn announce_udp(tracker: &Tracker, request: &Request) -> Response {
    let socket = UdpSocket::bind((tracker.addr.ip(), 0)).unwrap();
    socket.connect(tracker.addr).unwrap();
    let mut query = Vec::new();
    udp::connect(&mut query, 1);
    let answer = ask(&socket, &query);
    let Ok((1, Answer::Connected { connection })) = udp::answer(&answer) else { panic!("{answer:?}") };
    query.clear();
    udp::announce(&mut query, connection, 2, request, "/announce");
    let answer = ask(&socket, &query);
    let Ok((2, Answer::Announced(said))) = udp::answer(&answer) else { panic!("{answer:?}") };
    said.response(Family::of(tracker.addr))
}

#[test]
fn http_and_udp_share_one_port_and_one_swarm() {
    let folder = Folder::new("serve-both");
    for bind in ["127.0.0.1", "::1"] {
        if TcpListener::bind((bind, 0)).is_err() {
            continue;
        }
        let tracker = Tracker::start(&folder, bind, &["--interval", "900"]);
        assert_eq!(announce_http(&tracker, &request(1, 5, Event::Started)).peers, []);
        let response = announce_udp(&tracker, &request(2, 0, Event::Started));
        assert_eq!(response.peers, [SocketAddr::new(tracker.addr.ip(), 1)]);
        assert_eq!(
            (response.interval.as_secs(), response.complete, response.incomplete),
            (900, Some(1), Some(1))
        );
        let response = announce_http(&tracker, &request(1, 5, Event::None));
        assert_eq!(response.peers, [SocketAddr::new(tracker.addr.ip(), 2)]);
        assert_eq!(response.external_ip, Some(tracker.addr.ip()));
        announce_udp(&tracker, &request(2, 0, Event::Stopped));
        assert_eq!(announce_http(&tracker, &request(1, 5, Event::None)).peers, []);
        tracker.signal(Signal::TERM);
        assert_eq!(tracker.end(), (Some(0), String::new(), String::new()));
    }
}

#[test]
fn connections_are_kept_answered_in_order_and_closed_when_asked() {
    let folder = Folder::new("serve-keep");
    let tracker = Tracker::start(&folder, "127.0.0.1", &[]);
    let get = |target: &str, end: &str| format!("GET {target} HTTP/1.1\r\nHost: x\r\n{end}\r\n");
    // Far more than one turn answers, all at once.
    let many = [get("/", "").repeat(100), get("/none", "Connection: close\r\n")].concat();
    let answer = String::from_utf8(exchange(tracker.addr, many.as_bytes())).unwrap();
    assert_eq!(answer.matches("HTTP/1.1 200 OK").count(), 100);
    assert!(answer.ends_with("here.\n") && answer.matches("HTTP/1.1 404").count() == 1, "{answer}");
    for (text, status) in [
        ("POST / HTTP/1.1\r\n\r\n", "405"),
        ("\x16\x03\x01\x02\r\n\r\n", "400"),
        (&format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(60_000)), "414"),
    ] {
        let answer = String::from_utf8(exchange(tracker.addr, text.as_bytes())).unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
    }
    // Byte by byte.
    let mut stream = dial(tracker.addr);
    for byte in get("/scrape", "Connection: close\r\n").bytes() {
        stream.write_all(&[byte]).unwrap();
    }
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert!(body(&answer).starts_with(b"d14:failure reason"));
    tracker.signal(Signal::INT);
    assert_eq!(tracker.end().0, Some(0));
}

/// One host with all the connections that there may be does not shut others out, and loses its own.
#[test]
fn who_takes_all_connections_gives_way() {
    let folder = Folder::new("serve-full");
    let tracker = Tracker::start(&folder, "127.0.0.1", &[]);
    let greedy: Vec<TcpStream> =
        (0..ptorrent::limits::TRACKER_CONNECTIONS).map(|_| dial(tracker.addr)).collect();
    let quick = dial_from([127, 0, 0, 9].into(), tracker.addr);
    let answer = get_once(quick);
    assert!(answer.starts_with(b"HTTP/1.1 200 OK"), "{}", answer.escape_ascii());
    // Another one of the greedy host is served as well, in the place of one that says nothing.
    assert!(get_once(dial(tracker.addr)).starts_with(b"HTTP/1.1 200 OK"));
    let gone = greedy.iter().filter(|stream| {
        stream.set_nonblocking(true).unwrap();
        matches!(stream.peek(&mut [0]), Ok(0) | Err(_)) && !would_block(stream)
    });
    assert!(gone.count() >= 1);
}

/// Silence, and a request that comes in drips: both end when their time is over.
#[test]
fn who_takes_too_long_is_closed() {
    let folder = Folder::new("serve-slow");
    let tracker = Tracker::start(&folder, "127.0.0.1", &[]);
    let (silent, drips) = (dial(tracker.addr), dial(tracker.addr));
    drips.set_nonblocking(true).unwrap();
    let mut hand = drips;
    let dripping = std::thread::spawn(move || {
        while hand.write_all(b"G").is_ok() {
            std::thread::sleep(Duration::from_millis(300));
            if !would_block(&hand) {
                break;
            }
        }
    });
    dripping.join().unwrap();
    assert_eq!((&silent).read(&mut [0]).unwrap(), 0);
    assert!(get_once(dial(tracker.addr)).starts_with(b"HTTP/1.1 200 OK"));
}

fn would_block(stream: &TcpStream) -> bool {
    stream.peek(&mut [0]).is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
}

fn get_once(mut stream: TcpStream) -> Vec<u8> {
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    answer
}

/// A connection from another address of this host.
fn dial_from(from: Ipv4Addr, to: SocketAddr) -> TcpStream {
    use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
    let fd = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&fd, &SocketAddr::from((from, 0))).unwrap();
    connect(&fd, &to).unwrap();
    let stream = TcpStream::from(fd);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

#[test]
fn datagrams_without_a_valid_id_get_no_answer() {
    let folder = Folder::new("serve-forged");
    let tracker = Tracker::start(&folder, "127.0.0.1", &[]);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(tracker.addr).unwrap();
    let mut query = Vec::new();
    for junk in [&b""[..], b"x", &[0; 15], &[0xff; 2000], &[0; 9000]] {
        socket.send(junk).unwrap();
    }
    for forged in [0, udp::PROTOCOL, 0x0123_4567_89ab_cdef] {
        query.clear();
        udp::announce(&mut query, forged, 9, &request(1, 0, Event::None), "/");
        socket.send(&query).unwrap();
        query.clear();
        udp::scrape(&mut query, forged, 9, &[HASH]);
        socket.send(&query).unwrap();
    }
    // Datagrams of one socket keep their order: the first answer is that of the last query.
    query.clear();
    udp::connect(&mut query, 4711);
    let answer = ask(&socket, &query);
    assert!(matches!(udp::answer(&answer), Ok((4711, Answer::Connected { .. }))), "{answer:?}");
    assert_eq!(announce_http(&tracker, &request(2, 5, Event::None)).complete, Some(0));
}

fn run(folder: &Folder, args: &[&str]) -> Output {
    Command::new(PTORRENT).current_dir(&folder.0).args(args).output().unwrap()
}

#[track_caller]
fn fails(folder: &Folder, args: &[&str], status: i32, words: &str) {
    let output = run(folder, &[&["tracker"], args].concat());
    let err = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(status), "{err}");
    assert!(err.starts_with("ptorrent: ") && err.contains(words) && err.lines().count() == 1, "{err}");
    assert!(output.stdout.is_empty());
}

#[test]
fn what_is_wrong_is_named() {
    let folder = Folder::new("serve-wrong");
    let tracker = Tracker::start(&folder, "127.0.0.1", &[]);
    let port = tracker.addr.port().to_string();
    fails(
        &folder,
        &["-b", "127.0.0.1", "-p", &port],
        1,
        &format!("127.0.0.1 (--bind), port {port} (--port)"),
    );
    fails(&folder, &["-b", "192.0.2.1", "-p", "0"], 1, "192.0.2.1 (--bind)");
    fails(&folder, &["--only", "none"], 1, "cannot read none (--only)");
    folder.file("list", b"# ok\n00ff17a3b4c5d6e7f80912233445566778899aab\n\n00ff\n");
    fails(&folder, &["--only", "list"], 1, "list, line 4 (--only)");
    fails(&folder, &["-p", "1-2"], 2, "--port '1-2'");
    fails(&folder, &["--interval", "5"], 2, "--interval '5'");
    fails(&folder, &["x.torrent"], 2, "not 'x.torrent'");
    fails(&folder, &["-b", "::1", "-b", "::2"], 2, "--bind");
}

#[test]
fn a_private_tracker_reads_its_list() {
    let folder = Folder::new("serve-only");
    folder.file("list", format!("# one\n{HASH}\n").as_bytes());
    let tracker = Tracker::start(&folder, "127.0.0.1", &["--only", "list"]);
    assert_eq!(announce_http(&tracker, &request(1, 5, Event::None)).incomplete, Some(1));
    let other = Request { info_hash: InfoHash([1; 20]), ..request(1, 5, Event::None) };
    let url = http::announce(&Url::parse(&tracker.url("http")).unwrap(), &other);
    let answer = exchange(tracker.addr, &ptorrent::proto::http::get(&url));
    assert!(body(&answer).starts_with(b"d14:failure reason40:this tracker does not serve"));
    // A list that is wrong changes nothing; a right one is in force once it is read.
    folder.file("list", b"nonsense\n");
    tracker.signal(Signal::HUP);
    tracker.wait_for("line 1 (--only)");
    assert_eq!(announce_http(&tracker, &request(2, 5, Event::None)).incomplete, Some(2));
    folder.file("list", format!("{}\n", other.info_hash).as_bytes());
    tracker.signal(Signal::HUP);
    let begun = std::time::Instant::now();
    while body(&exchange(tracker.addr, &ptorrent::proto::http::get(&url))).starts_with(b"d14:failure") {
        assert!(begun.elapsed() < PATIENCE, "the list is not read again");
        std::thread::sleep(Duration::from_millis(20));
    }
    tracker.signal(Signal::USR1);
    tracker.wait_for("torrents 1, peers 1 in ");
    tracker.signal(Signal::TERM);
    assert_eq!(tracker.end().0, Some(0));
}

#[test]
fn the_line_is_there_for_programs_too() {
    let folder = Folder::new("serve-json");
    let mut command = Command::new(PTORRENT);
    command.current_dir(&folder.0).args(["tracker", "-b", "127.0.0.1", "-p", "0", "--json"]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let start = r#"{"event":"listening","addr":"127.0.0.1:"#;
    assert!(line.starts_with(start) && line.contains(r#""announce":["http://127.0.0.1:"#), "{line}");
    // What it says is where it listened: each of both protocols.
    assert!(line.contains(r#","udp://127.0.0.1:"#) && line.ends_with("/announce\"]}\n"), "{line}");
}

/// A seeder and a leecher that know nothing but the tracker.
fn two_ptorrents(scheme: &str) {
    let folder = Folder::new(&format!("serve-two-{scheme}"));
    let data = noise(700_001, 3);
    folder.file("there/file", &data);
    let tracker = Tracker::start(&folder, "127.0.0.1", &[]);
    let made = run(&folder, &["create", "-a", &tracker.url(scheme), "-o", "t.torrent", "there/file"]);
    assert!(made.status.success(), "{made:?}");
    let start = |args: &[&str]| {
        let mut command = Command::new(PTORRENT);
        command.current_dir(&folder.0).args(["-q", "-b", "127.0.0.1", "-p", "0", "--state-dir", "state"]);
        command.args(["--no-dht", "--no-pex", "--no-lsd", "--config", ""]).args(args).arg("t.torrent");
        command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap()
    };
    let mut seeder = start(&["-s", "-d", "there"]);
    let hash = String::from_utf8(run(&folder, &["show", "--json", "t.torrent"]).stdout).unwrap();
    let (_, hash) = hash.split_once(r#""info_hash":""#).unwrap();
    let hash: String =
        hash.as_bytes()[..40].chunks(2).map(|pair| format!("%{}", str::from_utf8(pair).unwrap())).collect();
    let scrape = format!("GET /scrape?info_hash={hash} HTTP/1.0\r\n\r\n");
    let begun = std::time::Instant::now();
    while !exchange(tracker.addr, scrape.as_bytes()).windows(14).any(|part| part == b"8:completei1e1") {
        assert!(
            begun.elapsed() < PATIENCE && seeder.try_wait().unwrap().is_none(),
            "the seeder does not announce"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    let leecher = start(&["-x", "-d", "here"]).wait().unwrap();
    kill_process(Pid::from_child(&seeder), Signal::TERM).unwrap();
    assert_eq!((leecher.code(), seeder.wait().unwrap().code()), (Some(0), Some(0)));
    assert!(fs::read(folder.0.join("here/file")).unwrap() == data);
    // Both have said that they leave.
    assert!(
        exchange(tracker.addr, scrape.as_bytes())
            .ends_with(b"8:completei0e10:downloadedi0e10:incompletei0eeee")
    );
}

#[test]
fn two_ptorrents_find_each_other_over_http() {
    two_ptorrents("http");
}

#[test]
fn two_ptorrents_find_each_other_over_udp() {
    two_ptorrents("udp");
}

#[test]
fn peers_of_an_answer_can_be_called() {
    let folder = Folder::new("serve-peers");
    let tracker = Tracker::start(&folder, "127.0.0.1", &[]);
    for port in 1..=60 {
        announce_http(&tracker, &request(port, u64::from(port % 2), Event::Started));
    }
    let peers = announce_udp(&tracker, &request(61, 5, Event::Started)).peers;
    assert!(peers.len() == 50 && peers.iter().all(|peer| compact::is_callable(*peer)));
    // A seed is told of leechers only.
    let peers = announce_udp(&tracker, &request(62, 0, Event::Started)).peers;
    assert!(peers.len() == 31 && peers.iter().all(|peer| peer.port() % 2 == 1), "{peers:?}");
}
