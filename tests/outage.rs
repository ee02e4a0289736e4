//! Outages of our own network through the real program. Each test runs in a network namespace of its own, with a link to
//! a second one, where a tracker and the only seeder are. The time to go on is measured and printed.

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
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// How long anything may take here that has no limit of its own; a machine that is busy takes its time.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a download may take to go on when the network is back.
const GOES_ON: Duration = Duration::from_secs(10);
/// Fails where no link between two networks can be made.
const LINKS: &str = "ip link set lo up && ip link add w0 type veth peer name w1 && unshare -n nsenter --help";
/// The other host, and the ports of its tracker and seeder.
const THERE: &str = "10.77.0.1";
const TRACKER: u16 = 7000;
const SEEDER: u16 = 7001;
/// Our host, and the port of the download.
const HERE: &str = "10.77.0.2";
const LEECHER: u16 = 7002;

fn sh(script: &str) -> String {
    let done = Command::new("sh").args(["-c", script]).output().unwrap();
    assert!(done.status.success(), "{script}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap()
}

/// A process that is killed when the test ends, and its lines of standard output.
struct Running {
    child: Child,
    lines: Receiver<String>,
}

impl Running {
    fn start(folder: &Folder, command: &mut Command) -> Running {
        let err = fs::File::options().append(true).create(true).open(folder.0.join("err")).unwrap();
        command.current_dir(&folder.0).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(err);
        let mut child = command.spawn().unwrap();
        let (said, lines) = channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| said.send(line)));
        Running { child, lines }
    }

    /// The next line with this text.
    #[track_caller]
    fn line_with(&self, text: &str) -> String {
        let start = Instant::now();
        while let Ok(line) = self.lines.recv_timeout(PATIENCE.saturating_sub(start.elapsed())) {
            if line.contains(text) {
                return line;
            }
        }
        panic!("nothing is said of {text}");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Two hosts with a link in between, a seeder on the other one and a download here.
struct Lab {
    folder: Folder,
    host: Running,
    _tracker: Running,
    _seeder: Running,
}

impl Lab {
    fn new(name: &str) -> Lab {
        let folder = Folder::new(name);
        folder.file("there/file", &noise(64 << 20, 9));
        let holder = &mut Command::new("unshare");
        let host = Running::start(&folder, holder.args(["-n", "sh", "-c", "echo up; exec sleep 1000"]));
        host.line_with("up");
        let lab_program = |args: &[&str]| {
            let mut command = Command::new("nsenter");
            command
                .args(["-t", &host.child.id().to_string(), "-n", env!("CARGO_BIN_EXE_ptorrent")])
                .args(args);
            command
        };
        let mut made = Command::new(env!("CARGO_BIN_EXE_ptorrent"));
        made.current_dir(&folder.0).args(["create", "-o", "file.torrent", "-a"]);
        made.arg(format!("http://{THERE}:{TRACKER}/announce")).arg("there/file");
        assert!(made.output().unwrap().status.success());
        link(&host, "w0", HERE, THERE);
        let tracker = Running::start(&folder, &mut lab_program(&["tracker", "-p", &TRACKER.to_string()]));
        let port = SEEDER.to_string();
        let args = ["-s", "-d", "there", "--state-dir", "seed", "--max-upload-rate", "256K", "-p", &port];
        let args = [&args[..], &["--json", "--config", "", "file.torrent"], &ALONE].concat();
        let seeder = Running::start(&folder, &mut lab_program(&args));
        seeder.line_with(r#""state":"seeding""#);
        Lab { folder, host, _tracker: tracker, _seeder: seeder }
    }

    /// A download here, once it moves.
    fn download(&self, args: &[&str]) -> Running {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ptorrent"));
        command.args(["--json", "--config", "", "--state-dir", "leech", "-d", "here", "-p"]);
        command.arg(LEECHER.to_string()).args(ALONE).args(args).arg("file.torrent");
        let leecher = Running::start(&self.folder, &mut command);
        self.wait_for_bytes(&leecher, 256 << 10, PATIENCE);
        leecher
    }

    /// The download goes on soon; says after how long.
    #[track_caller]
    fn goes_on(&self, leecher: &Running, what: &str) {
        let took = self.wait_for_bytes(leecher, 1, PATIENCE);
        eprintln!("{what}: goes on after {:.1} s", took.as_secs_f64());
        assert!(took <= GOES_ON, "{what}: {took:?}:\n{}", self.errors());
    }

    fn errors(&self) -> String {
        fs::read_to_string(self.folder.0.join("err")).unwrap()
    }

    /// Waits until so many more bytes have come; the time it took.
    #[track_caller]
    fn wait_for_bytes(&self, leecher: &Running, more: u64, patience: Duration) -> Duration {
        let start = Instant::now();
        while leecher.lines.try_recv().is_ok() {}
        let mut first = None;
        while let Ok(line) = leecher.lines.recv_timeout(patience.saturating_sub(start.elapsed())) {
            let Some(now) = downloaded(&line) else { continue };
            if now >= *first.get_or_insert(now) + more {
                return start.elapsed();
            }
        }
        panic!("nothing comes after {:?}:\n{}", start.elapsed(), self.errors());
    }

    /// True if somebody on the other host is let in by the download.
    fn is_reachable(&self, port: u16) -> bool {
        let pid = self.host.child.id();
        let script = format!("nsenter -t {pid} -n timeout 2 bash -c 'exec 3<>/dev/tcp/{HERE}/{port}'");
        Command::new("sh").args(["-c", &script]).output().unwrap().status.success()
    }
}

/// Nothing but the tracker leads to peers.
const ALONE: [&str; 4] = ["--no-dht", "--no-pex", "--no-lsd", "-vv"];

/// The payload that a line of progress tells.
fn downloaded(line: &str) -> Option<u64> {
    let (_, rest) = line.split_once(r#""downloaded":"#)?;
    rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// Makes a link between the two hosts.
fn link(host: &Running, device: &str, here: &str, there: &str) {
    let pid = host.child.id();
    let inside = format!(
        "ip link set lo up && ip address add {there}/24 dev {device}b && ip link set {device}b up && \
         ip route add default dev {device}b"
    );
    sh(&format!(
        "ip link add {device} type veth peer name {device}b netns {pid} && ip address add {here}/24 dev {device} && \
         ip link set {device} up && nsenter -t {pid} -n sh -c '{inside}'"
    ));
}

#[test]
fn download_goes_on_when_our_address_changes() {
    if !has_network(LINKS) {
        return;
    }
    let lab = Lab::new("outage-address");
    let leecher = lab.download(&[]);
    sh(&format!("ip address del {HERE}/24 dev w0 && ip address add 10.77.0.3/24 dev w0"));
    lab.goes_on(&leecher, "another address at once");
    // As a lease that ends and one that comes later.
    sh("ip address del 10.77.0.3/24 dev w0 && sleep 8 && ip address add 10.77.0.4/24 dev w0");
    lab.goes_on(&leecher, "another address after 8 s");
    assert!(lab.errors().contains("our own address is gone"), "{}", lab.errors());
}

#[test]
fn download_goes_on_when_our_link_is_back() {
    if !has_network(LINKS) {
        return;
    }
    let lab = Lab::new("outage-link");
    let leecher = lab.download(&[]);
    sh("ip link set w0 down && sleep 40 && ip link set w0 up");
    lab.goes_on(&leecher, "a link that was down for 40 s");
}

#[test]
fn listeners_follow_a_bound_device_and_nothing_leaves_another_way() {
    if !has_network(LINKS) {
        return;
    }
    let lab = Lab::new("outage-device");
    let leecher = lab.download(&["--bind-device", "w0"]);
    assert!(lab.is_reachable(LEECHER));
    // While the device is gone there is another way to the other host.
    let other = "ip link add w9 type veth peer name w9b && sysctl -qw net.ipv6.conf.w9.disable_ipv6=1 && \
                 ip address add 10.78.0.2/24 dev w9 && ip link set w9 up && ip link set w9b up && \
                 ip neighbour add 10.78.0.1 lladdr 02:00:00:00:00:01 dev w9 && \
                 ip route add default via 10.78.0.1 dev w9";
    sh(other);
    sh("ip link del w0 && sleep 12");
    // Of the figures of a device the tenth is of packets that were sent.
    let sent = sh("awk '$1 == \"w9:\" { print $11 }' /proc/net/dev");
    assert_eq!(sent.trim(), "0", "{}", lab.errors());
    link_again(&lab);
    lab.goes_on(&leecher, "a device that was deleted for 12 s");
    assert!(lab.is_reachable(LEECHER), "{}", lab.errors());
    let errors = lab.errors();
    assert!(errors.contains("the device w0 (--bind-device) is gone"), "{errors}");
    assert!(errors.contains("the device w0 (--bind-device) is back"), "{errors}");
}

#[test]
fn tracker_follows_a_bound_device() {
    if !has_network(LINKS) {
        return;
    }
    let lab = Lab::new("outage-tracker");
    let mut command = Command::new(env!("CARGO_BIN_EXE_ptorrent"));
    let tracker = Running::start(&lab.folder, command.args(["tracker", "-p", "7003", "--bind-device", "w0"]));
    tracker.line_with("7003");
    assert!(lab.is_reachable(7003));
    sh("ip link del w0");
    link_again(&lab);
    let start = Instant::now();
    while !lab.is_reachable(7003) {
        assert!(start.elapsed() < GOES_ON, "{}", lab.errors());
    }
    assert!(lab.errors().contains("the device w0 (--bind-device) is back"), "{}", lab.errors());
}

/// Creates the deleted link again.
fn link_again(lab: &Lab) {
    let pid = lab.host.child.id();
    sh(&format!(
        "ip link add w0 type veth peer name w0b netns {pid} && ip address add {HERE}/24 dev w0 && \
         ip link set w0 up && \
         nsenter -t {pid} -n sh -c 'ip address add {THERE}/24 dev w0b && ip link set w0b up'"
    ));
}

#[test]
fn download_bound_to_an_address_goes_on_when_it_is_back() {
    if !has_network(LINKS) {
        return;
    }
    let lab = Lab::new("outage-bind");
    let leecher = lab.download(&["-b", HERE]);
    sh(&format!("ip address del {HERE}/24 dev w0 && sleep 8 && ip address add {HERE}/24 dev w0"));
    lab.goes_on(&leecher, "a bound address that was gone for 8 s");
    assert!(lab.is_reachable(LEECHER), "{}", lab.errors());
    sh("ip link del w0 && sleep 5");
    link_again(&lab);
    lab.goes_on(&leecher, "a bound address whose device was deleted");
    assert!(lab.is_reachable(LEECHER), "{}", lab.errors());
    let errors = lab.errors();
    assert!(errors.contains("(--bind) is gone") && errors.contains("(--bind) is back"), "{errors}");
}
