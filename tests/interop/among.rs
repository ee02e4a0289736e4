//! The real clients among themselves: proves the harness, in both roles of each client, without ptorrent.

use super::clients::{Client, Role};
use super::content::{Content, Maker, Torrent};
use super::lab::{Lab, address, announce_url, can};

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
