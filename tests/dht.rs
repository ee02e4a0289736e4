//! The DHT through the real program, on loopback: torrents without a tracker are found, hostile datagrams and floods
//! do no harm, private torrents keep away from it, and the table outlives the process.

#![allow(
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "tests wait in real time and say what they measured; the rules guard the core"
)]

mod common;

use common::{Folder, noise};
use ptorrent::proto::id::NodeId;
use ptorrent::proto::krpc::{self, Body, Message, Method, Query, Response};
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::io::{BufRead, BufReader, Lines};
use std::net::{SocketAddr, UdpSocket};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

/// How long anything may take here; a machine that is busy takes its time.
const PATIENCE: Duration = Duration::from_secs(120);
/// Nobody is there.
const DEAD: &str = "127.0.0.1:9";

/// The program, killed at the latest when the test ends.
struct Running {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Running {
    fn start(folder: &Folder, args: &[&str]) -> Running {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ptorrent"));
        command.current_dir(&folder.0).args(args).args(["--json", "-p", "0", "-b", "127.0.0.1"]);
        if args.first() != Some(&"dht") {
            command.arg("--no-lsd");
        }
        command.env("XDG_CONFIG_HOME", &folder.0).env("XDG_STATE_HOME", &folder.0);
        let err = fs::File::options().append(true).create(true).open(folder.0.join("err")).unwrap();
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(err);
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Running { child, lines }
    }

    /// A node that others begin with; where it is.
    fn node(folder: &Folder) -> (Running, SocketAddr) {
        let mut node = Running::start(folder, &["dht", "--dht-bootstrap", DEAD, "--state-dir", "node"]);
        let addr = node.addr();
        (node, addr)
    }

    #[track_caller]
    fn line_with(&mut self, text: &str) -> String {
        let mut seen = String::new();
        for line in self.lines.by_ref().map_while(Result::ok) {
            if line.contains(text) {
                return line;
            }
            seen += &(line + "\n");
        }
        panic!("it ended without {text}:\n{seen}")
    }

    fn addr(&mut self) -> SocketAddr {
        let line = self.line_with(r#""event":"listening""#);
        let (_, addr) = line.split_once(r#""addr":""#).unwrap();
        addr.trim_end_matches(r#""}"#).parse().unwrap()
    }

    fn end(mut self) -> Option<i32> {
        self.lines.by_ref().map_while(Result::ok).for_each(drop);
        self.child.wait().unwrap().code()
    }

    fn terminate(self) -> Option<i32> {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        self.end()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn create(folder: &Folder, args: &[&str]) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ptorrent"));
    let made = command.current_dir(&folder.0).arg("create").args(args).output().unwrap();
    assert!(made.status.success(), "{made:?}");
}

fn socket() -> (UdpSocket, String) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let addr = socket.local_addr().unwrap().to_string();
    (socket, addr)
}

fn ping(tid: &[u8]) -> Vec<u8> {
    let query = Query { id: NodeId([7; 20]), read_only: true, method: Method::Ping };
    Message { tid, version: None, ip: None, body: Body::Query(query) }.encode()
}

/// Pings until an answer comes; how long that took.
fn answered(socket: &UdpSocket, to: SocketAddr) -> Duration {
    let (start, mut buf) = (Instant::now(), [0; 2048]);
    while start.elapsed() < PATIENCE {
        socket.send_to(&ping(b"now?"), to).unwrap();
        while let Ok((len, from)) = socket.recv_from(&mut buf) {
            let answer = krpc::decode(&buf[..len]).unwrap();
            if from == to && answer.tid == b"now?" {
                assert!(matches!(answer.body, Body::Response(_)));
                return start.elapsed();
            }
        }
    }
    panic!("no answer to a ping")
}

/// Plays a node: the first query that comes is answered. False: none comes in this time.
fn is_asked(socket: &UdpSocket, patience: Duration) -> bool {
    let (start, mut buf) = (Instant::now(), [0; 2048]);
    while start.elapsed() < patience {
        let Ok((len, from)) = socket.recv_from(&mut buf) else { continue };
        let query = krpc::decode(&buf[..len]).unwrap();
        assert!(matches!(query.body, Body::Query(_)));
        let body = Body::Response(Response::new(NodeId([9; 20])));
        socket.send_to(&Message { tid: query.tid, version: None, ip: None, body }.encode(), from).unwrap();
        return true;
    }
    false
}

#[test]
fn a_torrent_without_a_tracker_is_found_and_downloaded() {
    let folder = Folder::new("dht-swarm");
    let data = noise(300_000, 3);
    folder.file("there/file", &data);
    create(&folder, &["-o", "t.torrent", "there/file"]);
    let (_node, addr) = Running::node(&folder);
    let addr = addr.to_string();
    let begin = ["--dht-bootstrap", addr.as_str()];
    let seed = ["-s", "-d", "there", "--state-dir", "seed", "t.torrent"];
    let mut seeder = Running::start(&folder, &[&seed[..], &begin].concat());
    let line = seeder.line_with(r#""event":"state""#);
    let (_, hash) = line.split_once(r#""info_hash":""#).unwrap();
    let hash = &hash[..40];
    let start = Instant::now();
    // The command finds it as soon as it is announced.
    loop {
        let look = ["dht", "--lookup", hash, "--state-dir", "look"];
        let mut look = Running::start(&folder, &[&look[..], &begin].concat());
        let lines: Vec<String> = look.lines.by_ref().map_while(Result::ok).collect();
        if look.end() == Some(0) {
            assert!(lines.iter().any(|line| line.contains(r#""event":"peers""#)), "{lines:?}");
            break;
        }
        assert!(start.elapsed() < PATIENCE, "nobody finds it: {lines:?}");
    }
    let get = ["-x", "-d", "here", "--state-dir", "get", "t.torrent"];
    assert_eq!(Running::start(&folder, &[&get[..], &begin].concat()).end(), Some(0));
    assert_eq!(fs::read(folder.0.join("here/file")).unwrap(), data);
}

#[test]
fn hostile_datagrams_and_floods_do_no_harm() {
    let folder = Folder::new("dht-flood");
    let (node, addr) = Running::node(&folder);
    let (socket, _) = socket();
    let nested =
        [&b"d1:ad1:x"[..], &b"l".repeat(10_000), &b"e".repeat(10_000), b"e1:q4:ping1:t2:aa1:y1:qe"].concat();
    let whole = ping(b"aa");
    let mut hostile = vec![nested, vec![b'd'; 9000], b"d1:t2:aa1:y1:qe".to_vec(), vec![0xff; 40], vec![]];
    hostile.extend((0..whole.len()).map(|len| whole[..len].to_vec()));
    for key in ["a", "e", "q", "r", "t", "v", "y", "ip", "ro"] {
        for value in ["i1e", "le", "de", "1:x", "0:", "i-9223372036854775808e"] {
            hostile.push(format!("d{}:{key}{value}1:t2:aa1:y1:qe", key.len()).into_bytes());
        }
    }
    for datagram in &hostile {
        socket.send_to(datagram, addr).unwrap();
    }
    answered(&socket, addr);
    let flood = ping(b"aa");
    for _ in 0..50_000 {
        // A full queue is part of a flood.
        let _ = socket.send_to(&flood, addr);
    }
    let took = answered(&socket, addr);
    eprintln!("after 50,000 pings the next one is answered in {took:?}");
    assert_eq!(node.terminate(), Some(0));
}

#[test]
fn private_torrents_and_no_dht_keep_away_from_it() {
    let folder = Folder::new("dht-private");
    folder.file("there/file", &noise(1000, 3));
    create(&folder, &["-P", "-o", "private.torrent", "there/file"]);
    create(&folder, &["-o", "public.torrent", "there/file"]);
    for (args, asked) in [
        (&["private.torrent"][..], false),
        (&["--no-dht", "public.torrent"], false),
        (&["public.torrent"], true),
    ] {
        let (socket, addr) = socket();
        let more = ["-s", "-d", "there", "--state-dir", "state", "--dht-bootstrap", &addr];
        let mut seeder = Running::start(&folder, &[&more[..], args].concat());
        seeder.line_with(r#""state":"seeding""#);
        let patience = if asked { PATIENCE } else { Duration::from_secs(1) };
        assert_eq!(is_asked(&socket, patience), asked, "{args:?}");
        seeder.terminate();
    }
}

#[test]
fn two_at_once_keep_one_whole_table() {
    let folder = Folder::new("dht-two");
    let (socket, addr) = socket();
    let args = ["dht", "--dht-bootstrap", &addr, "--state-dir", "state"];
    let mut nodes = [Running::start(&folder, &args), Running::start(&folder, &args)];
    let start = Instant::now();
    for node in &mut nodes {
        // Whoever asks is answered, until both know the node.
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        std::thread::scope(|scope| {
            let socket = &socket;
            scope.spawn(move || {
                while stopped.try_recv().is_err() && start.elapsed() < PATIENCE {
                    is_asked(socket, Duration::from_millis(200));
                }
            });
            node.line_with(r#""good":1"#);
            stop.send(()).unwrap();
        });
    }
    for node in &nodes {
        kill_process(Pid::from_child(&node.child), Signal::TERM).unwrap();
    }
    assert_eq!(nodes.map(Running::end), [Some(0); 2]);
    let left: Vec<_> =
        fs::read_dir(folder.0.join("state")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, ["dht"], "nothing else is left there");
    let table = fs::read(folder.0.join("state/dht")).unwrap();
    let table = ptorrent::proto::bencode::decode(&table).expect("it is whole");
    assert_eq!(table.get(b"nodes").and_then(|nodes| nodes.as_bytes()).map(<[u8]>::len), Some(26));
}

#[test]
fn the_table_outlives_the_process() {
    let folder = Folder::new("dht-table");
    let (socket, addr) = socket();
    let mut node = Running::start(&folder, &["dht", "--dht-bootstrap", &addr, "--state-dir", "state"]);
    assert!(is_asked(&socket, PATIENCE), "the bootstrap node is asked");
    node.line_with(r#""good":1"#);
    assert_eq!(node.terminate(), Some(0));
    assert!(folder.0.join("state/dht").exists());
    assert_eq!(fs::read_dir(folder.0.join("state")).unwrap().count(), 1, "nothing else is left there");
    let _node = Running::start(&folder, &["dht", "--dht-bootstrap", DEAD, "--state-dir", "state"]);
    assert!(is_asked(&socket, PATIENCE), "it is asked again, whatever the bootstrap node does");
}
