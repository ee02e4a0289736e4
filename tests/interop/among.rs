//! The real clients among themselves: proves the harness, in both roles of each client, without ptorrent.

use std::net::Ipv6Addr;

use super::clients::{Client, Role};
use super::content::{Content, Maker, Torrent};
use super::lab::{Lab, address, address_on, announce_url, can};
use super::one_peer;

/// `seeder` and `leecher` find each other by opentracker.
fn pair(name: &str, maker: Maker, content: Content, seeder: Client, leecher: Client) {
    if !can(&[seeder, leecher, Client::Libtorrent]) {
        return;
    }
    let lab = Lab::new(name);
    let listen = address();
    let torrent = Torrent::new(&lab, maker, content, Some(&announce_url(listen)));
    let mut tracker = lab.opentracker(listen, &[&torrent]);
    let _seeder = lab.start(seeder, Role::Seed, &torrent, &[]);
    tracker.wait_seeds(&torrent, 1);
    let mut leecher = lab.start(leecher, Role::Leech, &torrent, &[]);
    leecher.wait_complete(&torrent.content);
}

#[test]
fn aria2_from_libtorrent() {
    pair("among-aria2", Maker::Mktorrent, Content::single(8_000_001), Client::Libtorrent, Client::Aria2);
}

#[test]
fn libtorrent_from_aria2() {
    pair("among-libtorrent", Maker::Mktorrent, Content::folder(), Client::Aria2, Client::Libtorrent);
}

#[test]
fn libtorrent_from_rqbit() {
    pair("among-rqbit-seed", Maker::Libtorrent, Content::folder(), Client::Rqbit, Client::Libtorrent);
}

#[test]
fn rqbit_from_libtorrent() {
    pair("among-rqbit", Maker::Libtorrent, Content::folder(), Client::Libtorrent, Client::Rqbit);
}

#[test]
fn libtorrent_from_rtorrent() {
    pair("among-rtorrent-seed", Maker::Mktorrent, Content::folder(), Client::Rtorrent, Client::Libtorrent);
}

#[test]
fn rtorrent_from_libtorrent() {
    pair("among-rtorrent", Maker::Mktorrent, Content::folder(), Client::Libtorrent, Client::Rtorrent);
}

#[test]
fn libtorrent_from_transmission() {
    pair(
        "among-transmission-seed",
        Maker::Mktorrent,
        Content::folder(),
        Client::Transmission,
        Client::Libtorrent,
    );
}

/// Transmission never dials loopback: the seeder dials it.
#[test]
fn transmission_from_libtorrent() {
    if !can(&[Client::Transmission, Client::Libtorrent]) {
        return;
    }
    let lab = Lab::new("among-transmission");
    let torrent = Torrent::new(&lab, Maker::Transmission, Content::single(8_000_001), None);
    let mut leecher = lab.start(Client::Transmission, Role::Leech, &torrent, &[]);
    leecher.wait_ready(Role::Leech);
    let _seeder = lab.start(Client::Libtorrent, Role::Seed, &torrent, &[leecher.listen]);
    leecher.wait_complete(&torrent.content);
}

#[test]
fn libtorrent_over_ipv6() {
    if !can(&[Client::Libtorrent]) {
        return;
    }
    let lab = Lab::new("among-ipv6");
    let localhost = Ipv6Addr::LOCALHOST.into();
    let listen = address_on(localhost);
    let url = one_peer::start(address_on(localhost), &[listen]).unwrap();
    let torrent = Torrent::new(&lab, Maker::Libtorrent, Content::single(8_000_001), Some(&url));
    let mut seeder = lab.start_at(Client::Libtorrent, Role::Seed, &torrent, &[], listen, &[]);
    seeder.wait_ready(Role::Seed);
    let own = address_on(localhost);
    let mut leecher = lab.start_at(Client::Libtorrent, Role::Leech, &torrent, &[], own, &[]);
    leecher.wait_complete(&torrent.content);
}
