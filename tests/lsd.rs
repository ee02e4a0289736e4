//! Local discovery (BEP 14) through the real program, each test in a network namespace of its own: who runs these tests
//! has neighbours that are none of ours.

#![allow(
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "tests wait in real time and say what was skipped; the rules guard the core"
)]

mod common;
#[path = "common/network.rs"]
mod network;

use common::{Folder, noise};
use network::has_network;
use ptorrent::proto::id::InfoHash;
use ptorrent::proto::lsd;
use ptorrent::sys::multicast::Group;
use ptorrent::sys::socket::Route;
use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Lines, Read};
use std::net::UdpSocket;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

/// How long anything may take here; a machine that is busy takes its time.
const PATIENCE: Duration = Duration::from_secs(120);

/// The program, killed at the latest when the test ends.
struct Running {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Running {
    fn start(folder: &Folder, args: &[&str]) -> Running {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ptorrent"));
        command.current_dir(&folder.0).args([
            "--json",
            "-p",
            "0",
            "--no-dht",
            "--no-pex",
            "--config",
            "",
            "--encryption",
            "disabled",
        ]);
        let err = fs::File::options().append(true).create(true).open(folder.0.join("err")).unwrap();
        command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(err);
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Running { child, lines }
    }

    #[track_caller]
    fn wait_for(&mut self, text: &str) {
        let found = self.lines.by_ref().map_while(Result::ok).any(|line| line.contains(text));
        assert!(found, "it ended without {text}");
    }

    fn end(mut self) -> Option<i32> {
        self.lines.by_ref().map_while(Result::ok).for_each(drop);
        self.child.wait().unwrap().code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Makes a torrent of a file in `there`; its info-hash.
fn create(folder: &Folder, name: &str, private: bool) -> InfoHash {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ptorrent"));
    command.current_dir(&folder.0).args(["create", "-o", &format!("{name}.torrent")]);
    command.args(private.then_some("-P")).arg(format!("there/{name}"));
    let made = command.output().unwrap();
    assert!(made.status.success(), "{made:?}");
    let said = String::from_utf8(made.stdout).unwrap();
    said.split_once("urn:btih:").unwrap().1[..40].parse().unwrap()
}

/// Two programs of one machine, without a tracker or anything else that leads them to each other.
fn find_each_other(name: &str, bind: [&[&str]; 2]) {
    if !has_network("ip link set lo up") {
        return;
    }
    let folder = Folder::new(name);
    let data = noise(300_000, 3);
    folder.file("there/file", &data);
    create(&folder, "file", false);
    let args = ["-s", "-d", "there", "--state-dir", "seed", "file.torrent"];
    let mut seeder = Running::start(&folder, &[&args[..], bind[0]].concat());
    seeder.wait_for(r#""state":"seeding""#);
    let args = ["-x", "-d", "here", "--state-dir", "leech", "file.torrent"];
    let leecher = Running::start(&folder, &[&args[..], bind[1]].concat());
    assert_eq!(leecher.end(), Some(0), "{}", fs::read_to_string(folder.0.join("err")).unwrap());
    assert!(fs::read(folder.0.join("here/file")).unwrap() == data);
}

#[test]
fn two_programs_find_each_other() {
    find_each_other("lsd", [&[], &[]]);
}

#[test]
fn two_programs_find_each_other_where_they_are_bound() {
    let device = ["-b", "127.0.0.3", "--bind-device", "lo"];
    find_each_other("lsd-bound", [&["-b", "127.0.0.2"], &device]);
}

#[test]
fn nothing_is_said_of_private_torrents_or_with_no_lsd() {
    if !has_network("ip link set lo up") {
        return;
    }
    let folder = Folder::new("lsd-silent");
    for name in ["public", "private", "silent"] {
        folder.file(&format!("there/{name}"), name.as_bytes());
    }
    let [public, _, _] = [("public", false), ("private", true), ("silent", false)]
        .map(|(name, private)| create(&folder, name, private));
    let group = Group::join(&Route::default(), lsd::group(false)).unwrap();
    let args = ["-s", "-d", "there", "--state-dir"];
    let mut silent = Running::start(&folder, &[&args[..], &["a", "--no-lsd", "silent.torrent"]].concat());
    silent.wait_for(r#""state":"seeding""#);
    let mut alone = Running::start(&folder, &[&args[..], &["b", "private.torrent"]].concat());
    alone.wait_for(r#""state":"seeding""#);
    let both = ["c", "private.torrent", "public.torrent"];
    let _both = Running::start(&folder, &[&args[..], &both].concat());
    let (start, mut buf) = (Instant::now(), [0; 2048]);
    loop {
        assert!(start.elapsed() < PATIENCE, "nobody announces anything");
        match group.receive(&mut buf) {
            Ok((len, _)) => {
                let heard: Vec<_> = lsd::decode(&buf[..len]).unwrap().torrents().collect();
                assert_eq!(heard, [public]);
                return;
            }
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn hostile_datagrams_do_no_harm() {
    if !has_network("ip link set lo up") {
        return;
    }
    let folder = Folder::new("lsd-hostile");
    folder.file("there/file", b"something");
    let hash = create(&folder, "file", false);
    let args = ["-s", "-d", "there", "--state-dir", "state", "file.torrent"];
    let mut seeder = Running::start(&folder, &args);
    seeder.wait_for(r#""state":"seeding""#);
    let mut group = Group::join(&Route::default(), lsd::group(false)).unwrap();
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    let listener = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let sound = lsd::encode(false, port, "x", [hash].into_iter());
    for n in 0..2000usize {
        let mut data = noise(n % 1500, n as u32);
        data.splice(..0, sound[..n % sound.len()].iter().copied());
        group.send(&socket, &data);
    }
    // It still hears: it calls who announces itself.
    listener.set_nonblocking(true).unwrap();
    let start = Instant::now();
    let mut stream = loop {
        assert!(start.elapsed() < PATIENCE, "it does not call");
        group.send(&socket, &sound);
        match listener.accept() {
            Ok((stream, _)) => break stream,
            Err(_) => std::thread::sleep(Duration::from_millis(100)),
        }
    };
    stream.set_nonblocking(false).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut handshake = [0; 48];
    stream.read_exact(&mut handshake).unwrap();
    assert!(handshake.ends_with(&hash.0));
}
