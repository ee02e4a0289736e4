//! ptorrent and the tracker of the npm package bittorrent-tracker: HTTP and UDP, IPv4 and IPv6, announce and scrape.

use super::clients::{Client, bittorrent_tracker};
use super::content::{Content, Maker, Torrent};
use super::lab::{Lab, address, address_on, announce_url, can, skip};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener};
use std::process::Command;

fn udp_url(tracker: SocketAddr) -> String {
    format!("udp://{tracker}/announce")
}

/// A seeder and a leecher that know each other by the tracker alone; it is asked for both, and hears that they leave.
fn swarm(name: &str, ip: Option<IpAddr>, url: fn(SocketAddr) -> String, names_peers: bool) {
    if !can(&[Client::Libtorrent]) {
        return;
    }
    if bittorrent_tracker().is_none() {
        return skip("node with bittorrent-tracker", true);
    }
    if ip.is_some_and(|ip| TcpListener::bind((ip, 0)).is_err()) {
        return skip("a machine with IPv6", true);
    }
    let lab = Lab::new(name);
    let place = || ip.map_or_else(address, address_on);
    let listen = place();
    let torrent = Torrent::new(&lab, Maker::Mktorrent, Content::single(4_000_001), Some(&url(listen)));
    let tracker = lab.bittorrent_tracker(listen);
    let (from, to) = (lab.folder("from"), lab.folder("to"));
    torrent.content.write(&from);
    let mut seeder = lab.ptorrent(&["-s", "-p", "0"], &from, place().ip(), &torrent);
    tracker.wait_seed(&torrent, &mut seeder);
    let scrape = || {
        let mut scrape = Command::new(env!("CARGO_BIN_EXE_ptorrent"));
        let output = scrape.args(["scrape", "--json"]).arg(&torrent.path).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let text = scrape();
    assert!(text.contains("\"seeders\":1,\"leechers\":0"), "{text}");
    if names_peers {
        let mut leecher = lab.ptorrent(&["-x", "-p", "0"], &to, place().ip(), &torrent);
        leecher.wait_success();
        assert!(!leecher.stderr().contains("could not be told"), "{}", leecher.stderr());
        torrent.content.assert_only_in(&to);
    }
    seeder.terminate();
    seeder.wait_success();
    assert!(!seeder.stderr().contains("could not be told"), "{}", seeder.stderr());
    let text = scrape();
    assert!(text.contains("\"seeders\":0,\"leechers\":0"), "{text}");
}

#[test]
fn a_swarm_by_http() {
    swarm("node-http", None, announce_url, true);
}

#[test]
fn a_swarm_by_http_over_ipv6() {
    swarm("node-http-ipv6", Some(Ipv6Addr::LOCALHOST.into()), announce_url, true);
}

#[test]
fn a_swarm_by_udp() {
    swarm("node-udp", None, udp_url, true);
}

/// Over UDP it names peers of IPv4 only, whoever asks: announce and scrape alone.
#[test]
fn a_seeder_by_udp_over_ipv6() {
    swarm("node-udp-ipv6", Some(Ipv6Addr::LOCALHOST.into()), udp_url, false);
}
