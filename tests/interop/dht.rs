//! The DHT with others: a network of libtorrent's nodes on loopback, torrents without a tracker.

use super::clients::{self, Client, Role};
use super::content::{Content, Maker, Torrent};
use super::lab::{Lab, Process, address, can, has_network};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU8, Ordering};

/// Twenty nodes, and what the last of them does.
struct Network {
    process: Process,
    at: String,
}

impl Network {
    fn new(lab: &Lab, more: &[&str]) -> Network {
        static NETWORKS: AtomicU8 = AtomicU8::new(0);
        let network = format!("127.77.{}", NETWORKS.fetch_add(1, Ordering::Relaxed));
        let home = lab.folder("nodes");
        let mut command = Command::new(Client::Libtorrent.program().unwrap());
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/dht.py");
        let port = address().port().to_string();
        command.args(["-W", "ignore"]).arg(script).args(["--network", &network, "--port", &port]).args(more);
        clients::at_home(&mut command, &home);
        let mut process = Process::start("nodes", command, &home);
        process.wait_until("the nodes know each other", |nodes| nodes.stdout().contains("at "));
        let said = process.stdout();
        let at = said.lines().find_map(|line| line.strip_prefix("at ")).unwrap().to_string();
        Network { process, at }
    }
}

/// Looks the torrent up until somebody has it; each time a node of ours joins anew.
fn wait_found(lab: &Lab, torrent: &Torrent, at: &str, who: SocketAddr) {
    let home = lab.folder("look-up");
    for _ in 0..60 {
        let mut look = Command::new(env!("CARGO_BIN_EXE_ptorrent"));
        look.args(["dht", "--lookup", &torrent.info_hash, "--dht-bootstrap", at, "-p", "0"]);
        look.args(["-b", &address().ip().to_string(), "--state-dir", "state"]);
        clients::at_home(&mut look, &home);
        let said = look.output().unwrap();
        if String::from_utf8_lossy(&said.stdout).lines().any(|line| line == who.to_string()) {
            return;
        }
        std::thread::sleep(std::time::Duration::from_secs(1));
    }
    panic!("nobody finds {who}");
}

fn seeder(lab: &Lab, torrent: &Torrent, at: &str) -> (Process, SocketAddr) {
    let data = lab.folder("data");
    torrent.content.write(&data);
    let listen = address();
    let port = listen.port().to_string();
    let ptorrent =
        lab.ptorrent_with_dht(&["-s", "-p", &port, "--dht-bootstrap", at], &data, listen.ip(), torrent);
    (ptorrent, listen)
}

#[test]
fn file_from_a_libtorrent_seeder_without_a_tracker() {
    if !can(&[Client::Libtorrent]) {
        return;
    }
    let lab = Lab::new("dht-from-libtorrent");
    let torrent = Torrent::new(&lab, Maker::Libtorrent, Content::single(5_000_001), None);
    let there = lab.folder("there");
    torrent.content.write(&there);
    let path = torrent.path.to_str().unwrap();
    let network = Network::new(&lab, &["--seed", path, there.to_str().unwrap()]);
    let last = network.at.replace(".1:", ".20:").parse().unwrap();
    wait_found(&lab, &torrent, &network.at, last);
    let data = lab.folder("data");
    let args = ["-x", "-p", "0", "--dht-bootstrap", &network.at];
    lab.ptorrent_with_dht(&args, &data, address().ip(), &torrent).wait_success();
    torrent.content.assert_only_in(&data);
}

#[test]
fn file_to_libtorrent_without_a_tracker() {
    if !can(&[Client::Libtorrent]) {
        return;
    }
    let lab = Lab::new("dht-to-libtorrent");
    let torrent = Torrent::new(&lab, Maker::Libtorrent, Content::single(5_000_001), None);
    let network = Network::new(&lab, &[]);
    let (_ptorrent, listen) = seeder(&lab, &torrent, &network.at);
    wait_found(&lab, &torrent, &network.at, listen);
    let here = lab.folder("here");
    let path = torrent.path.to_str().unwrap();
    let more = ["--count", "2", "--node", &network.at, "--leech", path, here.to_str().unwrap()];
    let mut leecher = Network::new(&lab, &more);
    leecher.process.wait_until("all is there", |nodes| nodes.stdout().contains("finished"));
    torrent.content.assert_only_in(&here);
}

/// A network of our own nodes, since Transmission never speaks to 127/8; it announces once it knows a dozen.
#[test]
fn file_to_transmission_without_a_tracker() {
    if !can(&[Client::Libtorrent, Client::Transmission]) || !has_network() {
        return;
    }
    let lab = Lab::new("dht-to-transmission");
    let torrent = Torrent::new(&lab, Maker::Libtorrent, Content::single(5_000_001), None);
    let (first, mut nodes) = (address(), Vec::new());
    for n in 0..20 {
        let (home, own) = (lab.folder("node"), if n == 0 { first } else { address() });
        let mut command = Command::new(env!("CARGO_BIN_EXE_ptorrent"));
        command.args(["dht", "--json", "-b", &own.ip().to_string(), "-p", &own.port().to_string()]);
        command.args(["--dht-bootstrap", &first.to_string()]);
        clients::at_home(&mut command, &home);
        nodes.push(Process::start("node", command, &home));
    }
    let (_ptorrent, listen) = seeder(&lab, &torrent, &first.to_string());
    wait_found(&lab, &torrent, &first.to_string(), listen);
    let begin = [format!("{} {}", first.ip(), first.port())];
    let mut leecher = lab.start_at(Client::Transmission, Role::Leech, &torrent, &[], address(), &begin);
    leecher.wait_complete(&torrent.content);
}

#[test]
fn file_to_aria2_without_a_tracker() {
    if !can(&[Client::Libtorrent, Client::Aria2]) {
        return;
    }
    let lab = Lab::new("dht-to-aria2");
    let torrent = Torrent::new(&lab, Maker::Libtorrent, Content::single(5_000_001), None);
    let network = Network::new(&lab, &[]);
    let (_ptorrent, listen) = seeder(&lab, &torrent, &network.at);
    wait_found(&lab, &torrent, &network.at, listen);
    let (here, home, own) = (lab.folder("here"), lab.folder("aria2"), address());
    let mut command = Command::new(Client::Aria2.program().unwrap());
    command
        .args(["--no-conf", "--bt-enable-lpd=false", "--enable-dht=true", "--enable-dht6=false"])
        .args(["--enable-peer-exchange=false", "--disable-ipv6=true", "--seed-time=0"])
        .arg(format!("--dht-entry-point={}", network.at))
        .arg(format!("--dht-file-path={}", home.join("dht.dat").display()))
        .arg(format!("--interface={}", own.ip()))
        .args([format!("--listen-port={}", own.port()), format!("--dht-listen-port={}", own.port())])
        .arg(format!("--dir={}", here.display()))
        .arg(&torrent.path);
    clients::at_home(&mut command, &home);
    Process::start("aria2", command, &home).wait_success();
    torrent.content.assert_only_in(&here);
}
