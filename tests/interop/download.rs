//! ptorrent downloads from real clients.

use std::net::Ipv6Addr;

use super::clients::{self, Client, Role};
use super::content::{Content, Maker, Torrent};
use super::lab::{Lab, address, address_on, announce_url, can};
use super::one_peer;

/// One seeder, found by opentracker.
fn from_one(name: &str, maker: Maker, content: Content, seeder: Client) {
    from_all(name, maker, content, &[seeder]);
}

/// Seeders found by opentracker, each with its own copy.
fn from_all(name: &str, maker: Maker, content: Content, seeders: &[Client]) {
    if !can(seeders) || !can(&[Client::Libtorrent]) {
        return;
    }
    let lab = Lab::new(name);
    let listen = address();
    let torrent = Torrent::new(&lab, maker, content, Some(&announce_url(listen)));
    let mut tracker = lab.opentracker(listen, &[&torrent]);
    let _seeders: Vec<_> =
        seeders.iter().map(|&client| lab.start(client, Role::Seed, &torrent, &[])).collect();
    tracker.wait_seeds(&torrent, seeders.len() as u64);
    let data = lab.folder("data");
    lab.ptorrent(&["-x", "-p", "0"], &data, address().ip(), &torrent).wait_success();
    torrent.content.assert_only_in(&data);
}

#[test]
fn file_from_aria2() {
    from_one("file-aria2", Maker::Mktorrent, Content::single(16_777_216), Client::Aria2);
}

#[test]
fn file_from_libtorrent() {
    from_one("file-libtorrent", Maker::Transmission, Content::single(50_000_001), Client::Libtorrent);
}

#[test]
fn file_from_rqbit() {
    from_one("file-rqbit", Maker::Libtorrent, Content::single(16_777_217), Client::Rqbit);
}

#[test]
fn file_from_rtorrent() {
    from_one("file-rtorrent", Maker::Mktorrent, Content::single(16_777_215), Client::Rtorrent);
}

#[test]
fn file_from_transmission() {
    from_one("file-transmission", Maker::Libtorrent, Content::single(16_000_000), Client::Transmission);
}

#[test]
fn folder_from_aria2() {
    from_one("folder-aria2", Maker::Libtorrent, Content::folder(), Client::Aria2);
}

#[test]
fn folder_from_libtorrent() {
    from_one("folder-libtorrent", Maker::Mktorrent, Content::folder(), Client::Libtorrent);
}

#[test]
fn folder_from_rqbit() {
    from_one("folder-rqbit", Maker::Mktorrent, Content::folder(), Client::Rqbit);
}

#[test]
fn folder_from_transmission() {
    from_one("folder-transmission", Maker::Mktorrent, Content::folder(), Client::Transmission);
}

#[test]
fn less_than_a_block() {
    from_one("tiny", Maker::Mktorrent, Content::single(1), Client::Libtorrent);
}

#[test]
fn swarm_of_four_different_seeders() {
    let seeders = [Client::Aria2, Client::Libtorrent, Client::Rqbit, Client::Transmission];
    from_all("swarm", Maker::Mktorrent, Content::single(64 << 20), &seeders);
}

#[test]
fn peer_named_without_any_tracker() {
    if !can(&[Client::Libtorrent]) {
        return;
    }
    let lab = Lab::new("peer");
    let torrent = Torrent::new(&lab, Maker::Transmission, Content::single(8_000_000), None);
    let mut seeder = lab.start(Client::Libtorrent, Role::Seed, &torrent, &[]);
    seeder.wait_ready(Role::Seed);
    let data = lab.folder("data");
    let peer = seeder.listen.to_string();
    lab.ptorrent(&["-x", "-p", "0", "--peer", &peer], &data, address().ip(), &torrent).wait_success();
    torrent.content.assert_only_in(&data);
}

/// `-b ::1` for both, the peer named on the command line or by the tracker in the torrent.
fn over_ipv6(name: &str, by_tracker: bool) {
    if !can(&[Client::Libtorrent]) {
        return;
    }
    let lab = Lab::new(name);
    let localhost = Ipv6Addr::LOCALHOST.into();
    let listen = address_on(localhost);
    let url = by_tracker.then(|| one_peer::start(address_on(localhost), &[listen]).unwrap());
    let torrent = Torrent::new(&lab, Maker::Libtorrent, Content::folder(), url.as_deref());
    let mut seeder = lab.start_at(Client::Libtorrent, Role::Seed, &torrent, &[], listen, &[]);
    seeder.wait_ready(Role::Seed);
    let data = lab.folder("data");
    let peer = listen.to_string();
    let mut args = vec!["-x", "-p", "0"];
    if !by_tracker {
        args.extend(["--peer", &peer]);
    }
    lab.ptorrent(&args, &data, localhost, &torrent).wait_success();
    torrent.content.assert_only_in(&data);
}

#[test]
fn ipv6_peer_named() {
    over_ipv6("ipv6-peer", false);
}

#[test]
fn ipv6_peer_from_tracker() {
    over_ipv6("ipv6-tracker", true);
}

/// Both seeders are slow, so that the one that goes, goes in mid-download.
#[test]
fn one_of_two_seeders_is_killed() {
    if !can(&[Client::Libtorrent]) {
        return;
    }
    let lab = Lab::new("killed");
    let torrent = Torrent::new(&lab, Maker::Transmission, Content::single(32 << 20), None);
    let rate = ["upload_rate_limit=4000000".to_string()];
    let slow = || lab.start_at(Client::Libtorrent, Role::Seed, &torrent, &[], address(), &rate);
    let (mut victim, mut other) = (slow(), slow());
    victim.wait_ready(Role::Seed);
    other.wait_ready(Role::Seed);
    let data = lab.folder("data");
    let (first, second) = (victim.listen.to_string(), other.listen.to_string());
    let args = ["-x", "-p", "0", "--json", "--peer", &first, "--peer", &second];
    let mut ptorrent = lab.ptorrent(&args, &data, address().ip(), &torrent);
    ptorrent.wait_until("a part is there", |process| {
        let out = process.stdout();
        let have = out.lines().rev().find_map(|line| clients::number_after(line, "\"have\":"));
        have.is_some_and(|have| have > 0)
    });
    assert!(!ptorrent.stdout().contains("\"complete\""), "complete before the seeder was killed");
    victim.process.kill();
    ptorrent.wait_success();
    assert!(ptorrent.stdout().contains("\"complete\""), "no complete event");
    torrent.content.assert_only_in(&data);
}
