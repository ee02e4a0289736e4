//! Who finds each other by opentracker over UDP. The torrents name no tracker but the one on the command line.

use super::clients::{Client, Role};
use super::content::{Content, Maker, Torrent};
use super::lab::{Lab, address, can};
use std::net::SocketAddr;

fn url(tracker: SocketAddr) -> String {
    format!("udp://{tracker}/announce")
}

/// A ptorrent that seeds and one that loads. Over IPv4 only: the opentracker of the distributions knows no other.
#[test]
fn ourselves() {
    if !can(&[Client::Libtorrent]) {
        return;
    }
    let lab = Lab::new("udp");
    let seeder = address();
    let torrent = Torrent::new(&lab, Maker::Transmission, Content::single(8_000_000), None);
    let tracker = lab.opentracker(address(), &[&torrent]);
    let url = url(tracker.listen());
    let (from, to) = (lab.folder("from"), lab.folder("to"));
    torrent.content.write(&from);
    let port = seeder.port().to_string();
    let args = ["-s", "-p", &port, "--tracker", &url];
    let mut seeding = lab.ptorrent(&args, &from, seeder.ip(), &torrent);
    tracker.wait_seed(&torrent, &mut seeding);
    lab.ptorrent(&["-x", "-p", "0", "--tracker", &url], &to, address().ip(), &torrent).wait_success();
    torrent.content.assert_only_in(&to);
    // Told by `stopped`, it forgets the seeder.
    seeding.terminate();
    seeding.wait_success();
    assert!(!seeding.stderr().contains("could not be told"), "{}", seeding.stderr());
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
