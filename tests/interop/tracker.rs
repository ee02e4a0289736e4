//! Real clients that know each other by `ptorrent tracker` alone.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use super::clients::{Client, Role};
use super::content::{Content, Maker, Torrent};
use super::lab::{Lab, address, address_on, announce_url, can};

fn udp_url(tracker: SocketAddr) -> String {
    format!("udp://{tracker}/announce")
}

/// The seeder announces itself first; the leecher hears of it, and dials it.
fn pair(name: &str, seeder: Client, leecher: Client, url: fn(SocketAddr) -> String) {
    if !can(&[seeder, leecher]) {
        return;
    }
    let lab = Lab::new(name);
    let listen = address();
    let torrent = Torrent::new(&lab, Maker::Mktorrent, Content::single(8_000_001), Some(&url(listen)));
    let mut tracker = lab.tracker(listen);
    let _seeder = lab.start(seeder, Role::Seed, &torrent, &[]);
    tracker.wait_seeds(&torrent, 1);
    let mut leecher = lab.start(leecher, Role::Leech, &torrent, &[]);
    leecher.wait_complete(&torrent.content);
    tracker.end();
}

#[test]
fn aria2_from_libtorrent_by_http() {
    pair("by-aria2", Client::Libtorrent, Client::Aria2, announce_url);
}

#[test]
fn libtorrent_from_aria2_by_http() {
    pair("by-libtorrent", Client::Aria2, Client::Libtorrent, announce_url);
}

#[test]
fn libtorrent_from_transmission_by_http() {
    pair("by-transmission", Client::Transmission, Client::Libtorrent, announce_url);
}

#[test]
fn libtorrent_from_rqbit_by_http() {
    pair("by-rqbit-seed", Client::Rqbit, Client::Libtorrent, announce_url);
}

#[test]
fn rqbit_from_libtorrent_by_http() {
    pair("by-rqbit", Client::Libtorrent, Client::Rqbit, announce_url);
}

#[test]
fn libtorrent_from_rtorrent_by_http() {
    pair("by-rtorrent", Client::Rtorrent, Client::Libtorrent, announce_url);
}

#[test]
fn libtorrent_from_libtorrent_by_udp() {
    pair("by-udp-libtorrent", Client::Libtorrent, Client::Libtorrent, udp_url);
}

#[test]
fn libtorrent_from_transmission_by_udp() {
    pair("by-udp-transmission", Client::Transmission, Client::Libtorrent, udp_url);
}

#[test]
fn rqbit_from_libtorrent_by_udp() {
    pair("by-udp-rqbit", Client::Libtorrent, Client::Rqbit, udp_url);
}

/// Transmission never dials loopback: the seeder comes after it, hears of it, and dials it.
#[test]
fn transmission_from_libtorrent_by_http() {
    if !can(&[Client::Transmission, Client::Libtorrent]) {
        return;
    }
    let lab = Lab::new("by-transmission-leech");
    let listen = address();
    let torrent =
        Torrent::new(&lab, Maker::Mktorrent, Content::single(8_000_001), Some(&announce_url(listen)));
    let mut tracker = lab.tracker(listen);
    let mut leecher = lab.start(Client::Transmission, Role::Leech, &torrent, &[]);
    tracker.wait_leechers(&torrent, 1);
    let _seeder = lab.start(Client::Libtorrent, Role::Seed, &torrent, &[]);
    leecher.wait_complete(&torrent.content);
    tracker.end();
}

/// ptorrent from and to libtorrent.
fn with_ptorrent(name: &str, ip: Option<IpAddr>, url: fn(SocketAddr) -> String) {
    if !can(&[Client::Libtorrent]) {
        return;
    }
    let lab = Lab::new(name);
    let place = || ip.map_or_else(address, address_on);
    let listen = place();
    let torrent = Torrent::new(&lab, Maker::Libtorrent, Content::folder(), Some(&url(listen)));
    let mut tracker = lab.tracker(listen);
    let first = lab.start_at(Client::Libtorrent, Role::Seed, &torrent, &[], place(), &[]);
    tracker.wait_seeds(&torrent, 1);
    let data = lab.folder("data");
    lab.ptorrent(&["-x", "-p", "0"], &data, place().ip(), &torrent).wait_success();
    torrent.content.assert_only_in(&data);
    // It left; the first seeder is gone without a word, and the next leecher has ptorrent as well.
    drop(first);
    let mut seeder = lab.ptorrent(&["-s", "-p", "0"], &data, place().ip(), &torrent);
    tracker.wait_seeds(&torrent, 2);
    let mut leecher = lab.start_at(Client::Libtorrent, Role::Leech, &torrent, &[], place(), &[]);
    leecher.wait_complete(&torrent.content);
    seeder.terminate();
    seeder.wait_success();
    tracker.end();
}

#[test]
fn ptorrent_from_and_to_libtorrent_by_http() {
    with_ptorrent("by-ptorrent", None, announce_url);
}

#[test]
fn ptorrent_from_and_to_libtorrent_by_http_over_ipv6() {
    with_ptorrent("by-ptorrent-ipv6", Some(Ipv6Addr::LOCALHOST.into()), announce_url);
}

#[test]
fn ptorrent_from_and_to_libtorrent_by_udp() {
    with_ptorrent("by-udp-ptorrent", None, udp_url);
}
