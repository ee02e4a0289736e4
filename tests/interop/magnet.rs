//! Metadata from and to real clients (BEP 9): nobody but the seed has the .torrent.

use super::clients::{Client, Role, transmission_name};
use super::content::{Content, Maker, Torrent};
use super::lab::{Lab, address, can};
use super::one_peer;
use std::fs;
use std::net::TcpStream;

/// So many pieces that the info dictionary has more than one piece itself.
fn content() -> Content {
    Content::single(300 << 20)
}

/// ptorrent gets the metadata, and the file, from this client.
fn from(name: &str, seeder: Client) {
    if !can(&[seeder, Client::Libtorrent]) {
        return;
    }
    let lab = Lab::new(name);
    let torrent = Torrent::new(&lab, Maker::Transmission, content(), None);
    let mut seed = lab.start(seeder, Role::Seed, &torrent, &[]);
    seed.wait_ready(Role::Seed);
    if seeder == Client::Transmission {
        let name = transmission_name(&torrent.info_hash);
        fs::copy(&torrent.path, seed.home.join("torrents").join(name)).unwrap();
    }
    let data = lab.folder("data");
    let link = torrent.link(&format!("&x.pe={}", seed.listen));
    lab.ptorrent(&["-x", "-p", "0"], &data, address().ip(), &link).wait_success();
    torrent.content.assert_only_in(&data);
}

#[test]
fn metadata_from_aria2() {
    from("magnet-aria2", Client::Aria2);
}

#[test]
fn metadata_from_libtorrent() {
    from("magnet-libtorrent", Client::Libtorrent);
}

#[test]
fn metadata_from_rqbit() {
    from("magnet-rqbit", Client::Rqbit);
}

#[test]
fn metadata_from_transmission() {
    from("magnet-transmission", Client::Transmission);
}

/// This client gets the metadata, and the file, from ptorrent, which it hears of by a tracker.
fn to(name: &str, leecher: Client) {
    if !can(&[leecher, Client::Libtorrent]) {
        return;
    }
    let lab = Lab::new(name);
    let torrent = Torrent::new(&lab, Maker::Libtorrent, content(), None);
    let data = lab.folder("data");
    torrent.content.write(&data);
    let seeder = address();
    let port = seeder.port().to_string();
    let mut ptorrent = lab.ptorrent(&["-s", "--json", "-p", &port], &data, seeder.ip(), &torrent);
    ptorrent.wait_until("it seeds", |process| process.stdout().contains("\"seeding\""));
    let tracker = one_peer::start(address(), &[seeder]).unwrap();
    let link = torrent.link(&format!("&tr={tracker}"));
    lab.start(leecher, Role::Leech, &link, &[seeder]).wait_complete(&torrent.content);
    ptorrent.terminate();
    ptorrent.wait_success();
}

#[test]
fn metadata_to_aria2() {
    to("magnet-to-aria2", Client::Aria2);
}

#[test]
fn metadata_to_libtorrent() {
    to("magnet-to-libtorrent", Client::Libtorrent);
}

#[test]
fn metadata_to_rqbit() {
    to("magnet-to-rqbit", Client::Rqbit);
}

/// Transmission never dials loopback: ptorrent dials it.
#[test]
fn metadata_to_transmission() {
    if !can(&[Client::Transmission, Client::Libtorrent]) {
        return;
    }
    let lab = Lab::new("magnet-to-transmission");
    let torrent = Torrent::new(&lab, Maker::Libtorrent, content(), None);
    let mut leecher = lab.start(Client::Transmission, Role::Leech, &torrent.link(""), &[]);
    let listen = leecher.listen;
    leecher.process.wait_until("it listens", |_| TcpStream::connect(listen).is_ok());
    let data = lab.folder("data");
    torrent.content.write(&data);
    let peer = listen.to_string();
    let mut ptorrent = lab.ptorrent(&["-s", "-p", "0", "--peer", &peer], &data, address().ip(), &torrent);
    leecher.wait_complete(&torrent.content);
    ptorrent.terminate();
    ptorrent.wait_success();
}
