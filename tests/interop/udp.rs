//! Who finds each other by opentracker over UDP. The torrents name no tracker but the one on the command line.

use super::clients::{Client, Role};
use super::content::{Content, Maker, Torrent};
use super::lab::{Lab, address, address_on, can};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

fn url(tracker: SocketAddr) -> String {
    format!("udp://{tracker}/announce")
}

/// A ptorrent that seeds and one that loads, each on its own.
fn among_ourselves(name: &str, tracker: SocketAddr, seeder: SocketAddr, leecher: IpAddr) {
    if !can(&[Client::Libtorrent]) {
        return;
    }
    let lab = Lab::new(name);
    let torrent = Torrent::new(&lab, Maker::Mktorrent, Content::single(8_000_000), None);
    let tracker = lab.opentracker(tracker, &[&torrent]);
    let url = url(tracker.listen());
    let (from, to) = (lab.folder("from"), lab.folder("to"));
    torrent.content.write(&from);
    let port = seeder.port().to_string();
    let args = ["-s", "-p", &port, "--tracker", &url];
    let mut seeding = lab.ptorrent(&args, &from, seeder.ip(), &torrent);
    tracker.wait_seed(&torrent, &mut seeding);
    lab.ptorrent(&["-x", "-p", "0", "--tracker", &url], &to, leecher, &torrent).wait_success();
    torrent.content.assert_only_in(&to);
    // Told by `stopped`, it forgets the seeder.
    seeding.terminate();
    seeding.wait_success();
    assert!(!seeding.stderr().contains("could not be told"), "{}", seeding.stderr());
}

#[test]
fn ourselves_over_ipv4() {
    among_ourselves("udp4", address(), address(), address().ip());
}

#[test]
fn ourselves_over_ipv6() {
    let here = Ipv6Addr::LOCALHOST.into();
    among_ourselves("udp6", address_on(here), address_on(here), here);
}

/// Libtorrent announces over UDP, too.
#[test]
fn a_libtorrent_that_seeds() {
    if !can(&[Client::Libtorrent]) {
        return;
    }
    let lab = Lab::new("udp-libtorrent");
    let listen = address();
    let torrent = Torrent::new(&lab, Maker::Mktorrent, Content::folder(), Some(&url(listen)));
    let mut tracker = lab.opentracker(listen, &[&torrent]);
    let _seeder = lab.start(Client::Libtorrent, Role::Seed, &torrent, &[]);
    tracker.wait_seeds(&torrent, 1);
    let data = lab.folder("data");
    lab.ptorrent(&["-x", "-p", "0"], &data, address().ip(), &torrent).wait_success();
    torrent.content.assert_only_in(&data);
}
