//! The real program and a UDP tracker on loopback: what it sends, byte for byte, and how it ends.

#![allow(clippy::disallowed_methods, reason = "tests start threads; the rule guards the core")]

mod common;

use common::{Folder, noise};
use ptorrent::proto::metainfo::build::{Content, Plan, build};
use ptorrent::proto::tracker::Event;
use ptorrent::proto::tracker::udp::{self, Counts, Family, Query};
use rustix::process::{Pid, Signal, kill_process};
use sha1::{Digest, Sha1};
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

const PTORRENT: &str = env!("CARGO_BIN_EXE_ptorrent");
const PIECE: usize = 64 << 10;
/// Far more than anything here takes; only a failing test waits so long.
const LONG: Duration = Duration::from_secs(60);
const ID: u64 = 0x0123_4567_89ab_cdef;

/// What the tracker heard.
#[derive(PartialEq, Eq, Debug)]
enum Heard {
    Connect,
    Announce {
        event: Event,
        url: String,
        port: u16,
        left: u64,
        numwant: Option<u32>,
    },
    /// Something that no client should send.
    Nonsense(Vec<u8>),
}

/// A tracker that names these peers. It answers no announce of `mute`.
struct Tracker {
    addr: SocketAddr,
    heard: Receiver<(SocketAddr, Heard)>,
}

impl Tracker {
    fn start(at: &str, peers: Vec<SocketAddr>, mute: Option<Event>) -> Option<Tracker> {
        let socket = UdpSocket::bind(at).ok()?;
        let addr = socket.local_addr().unwrap();
        let (tx, heard) = channel();
        thread::spawn(move || serve(&socket, &peers, mute, &tx));
        Some(Tracker { addr, heard })
    }

    fn next(&self) -> (SocketAddr, Heard) {
        self.heard.recv_timeout(LONG).unwrap()
    }

    /// Passes over connects to the next announce; tells its event.
    fn announce(&self) -> (SocketAddr, Heard) {
        loop {
            match self.next() {
                (_, Heard::Connect) => {}
                (from, announce @ Heard::Announce { .. }) => return (from, announce),
                (from, nonsense) => panic!("{from}: {nonsense:?}"),
            }
        }
    }
}

fn serve(socket: &UdpSocket, peers: &[SocketAddr], mute: Option<Event>, tx: &Sender<(SocketAddr, Heard)>) {
    let mut buffer = [0; 4096];
    while let Ok((len, from)) = socket.recv_from(&mut buffer) {
        let mut out = Vec::new();
        let heard = match udp::query(&buffer[..len]) {
            Ok((transaction, Query::Connect)) => {
                // First of all what is wrong: another id, another action, too little.
                let mut forged = Vec::new();
                udp::put_connected(&mut forged, transaction ^ 1, 5);
                socket.send_to(&forged, from).unwrap();
                udp::put_connected(&mut out, transaction, ID);
                socket.send_to(&out[..15], from).unwrap();
                Heard::Connect
            }
            Ok((transaction, Query::Announce { connection: ID, announce })) => {
                let family = Family::of(from);
                if mute != Some(announce.event) {
                    let peers = peers.iter().copied();
                    let answer = (1800, Counts::default());
                    udp::put_announced(&mut out, transaction, answer, peers, family, 1000);
                }
                let url = announce.url_data().flatten().copied().collect();
                let url = String::from_utf8(url).unwrap();
                let (event, port) = (announce.event, announce.port);
                Heard::Announce { event, url, port, left: announce.left, numwant: announce.numwant }
            }
            _ => Heard::Nonsense(buffer[..len].to_vec()),
        };
        if !out.is_empty() {
            socket.send_to(&out, from).unwrap();
        }
        if tx.send((from, heard)).is_err() {
            return;
        }
    }
}

/// The real program, killed at the latest when the test ends.
struct Running(Child);

impl Running {
    /// Starts it; gives the port that it listens on, too.
    fn start(folder: &Folder, args: &[&str]) -> (Running, u16) {
        let mut command = Command::new(PTORRENT);
        command.current_dir(&folder.0).args(["--json", "-p", "0", "--state-dir", "state"]).args(args);
        command.args(["--no-dht", "--no-pex", "--no-lsd", "--encryption", "disabled", "--config", ""]);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let out = child.stdout.take().unwrap();
        let (tx, lines) = channel();
        thread::spawn(move || {
            BufReader::new(out).lines().map_while(Result::ok).for_each(|line| drop(tx.send(line)));
        });
        let running = Running(child);
        loop {
            let line = lines.recv_timeout(LONG).unwrap();
            if let Some((_, rest)) = line.split_once(r#"{"event":"listening","addr":""#) {
                let addr: SocketAddr = rest.trim_end_matches("\"}").parse().unwrap();
                return (running, addr.port());
            }
        }
    }

    fn interrupt(&self) {
        kill_process(Pid::from_child(&self.0), Signal::INT).unwrap();
    }

    fn wait(&mut self) -> Option<i32> {
        self.0.wait().unwrap().code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A folder with a torrent and, where it is to be seeded, its data.
fn folder(name: &str, with_data: bool) -> (Folder, Vec<u8>) {
    let data = noise(5 * PIECE, 7);
    let hashes: Vec<u8> = data.chunks(PIECE).flat_map(|piece| Sha1::digest(piece).to_vec()).collect();
    let torrent = build(&Plan::bare("data", Content::Single(data.len() as u64), PIECE as u32, &hashes));
    let folder = Folder::new(name);
    folder.file("t.torrent", &torrent);
    if with_data {
        folder.file("data", &data);
    }
    (folder, data)
}

/// One address family: a seeder and a leecher find each other and say good-bye.
fn swarm_at(name: &str, ip: &str) {
    let at = if ip.contains(':') { format!("[{ip}]:0") } else { format!("{ip}:0") };
    let (seeding, data) = folder(&format!("{name}-seed"), true);
    let Some(first) = Tracker::start(&at, vec![], None) else { return };
    let url = format!("udp://{}/announce?{}", first.addr, "x".repeat(300));
    let (mut seeder, port) = Running::start(&seeding, &["-b", ip, "-s", "--tracker", &url, "t.torrent"]);
    let (from, heard) = first.next();
    assert_eq!((from.port(), heard), (port, Heard::Connect));
    let target = format!("/announce?{}", "x".repeat(300));
    let (from, heard) = first.next();
    let Heard::Announce { event: Event::Started, url: sent, port: said, left: 0, numwant: Some(n) } = heard
    else {
        panic!("{heard:?}")
    };
    assert_eq!((from.port(), said, sent, n > 0), (port, port, target, true));

    let (loading, _) = folder(&format!("{name}-load"), false);
    let peer = SocketAddr::new(ip.parse().unwrap(), port);
    let second = Tracker::start(&at, vec![peer], None).unwrap();
    let url = format!("udp://{}", second.addr);
    let (mut leecher, _) = Running::start(&loading, &["-b", ip, "-x", "--tracker", &url, "t.torrent"]);
    let mut events = Vec::new();
    for _ in 0..3 {
        let (_, Heard::Announce { event, url, left, .. }) = second.announce() else { unreachable!() };
        assert_eq!((url.as_str(), left == 0), ("", event != Event::Started));
        events.push(event);
    }
    assert_eq!(events, [Event::Started, Event::Completed, Event::Stopped]);
    assert_eq!(leecher.wait(), Some(0));
    assert!(std::fs::read(loading.0.join("data")).unwrap() == data);
    seeder.interrupt();
    let (_, Heard::Announce { event, numwant, .. }) = first.announce() else { unreachable!() };
    assert_eq!((event, numwant), (Event::Stopped, Some(0)));
    assert_eq!(seeder.wait(), Some(0));
}

#[test]
fn a_swarm_over_ipv4() {
    swarm_at("udp4", "127.0.0.1");
}

#[test]
fn a_swarm_over_ipv6() {
    swarm_at("udp6", "::1");
}

/// One that is not there, and one that goes silent at the end: neither keeps the program from ending.
#[test]
fn silent_trackers_do_not_delay_the_end() {
    let (folder, _) = folder("udp-silent", true);
    let nobody = UdpSocket::bind("127.0.0.1:0").unwrap();
    let tracker = Tracker::start("127.0.0.1:0", vec![], Some(Event::Stopped)).unwrap();
    let (dead, url) =
        (format!("udp://{}", nobody.local_addr().unwrap()), format!("udp://{}/a", tracker.addr));
    let args = ["-b", "127.0.0.1", "-s", "--tracker", &url, "--tracker", &dead, "t.torrent"];
    let (mut seeder, _) = Running::start(&folder, &args);
    let (_, Heard::Announce { event: Event::Started, .. }) = tracker.announce() else { panic!() };
    seeder.interrupt();
    // Sent again each second while there is time.
    for _ in 0..2 {
        let (_, Heard::Announce { event: Event::Stopped, .. }) = tracker.announce() else { panic!() };
    }
    assert_eq!(seeder.wait(), Some(0));
}
