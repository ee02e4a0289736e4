//! Real clients download from ptorrent.

use super::clients::{Client, Role};
use super::content::{Content, Maker, Torrent};
use super::lab::{Lab, Process, address, announce_url, can};

/// The leecher finds ptorrent by opentracker.
fn to_one(name: &str, maker: Maker, content: Content, leecher: Client) {
    if !can(&[leecher, Client::Libtorrent]) {
        return;
    }
    let lab = Lab::new(name);
    let listen = address();
    let torrent = Torrent::new(&lab, maker, content, Some(&announce_url(listen)));
    let tracker = lab.opentracker(listen, &[&torrent]);
    let data = lab.folder("data");
    torrent.content.write(&data);
    let seeder = address();
    let port = seeder.port().to_string();
    let mut ptorrent = lab.ptorrent(&["-s", "-p", &port], &data, seeder.ip(), &torrent);
    tracker.wait_seed(&torrent, &mut ptorrent);
    lab.start(leecher, Role::Leech, &torrent, &[]).wait_complete(&torrent.content);
    end(ptorrent);
    torrent.content.assert_only_in(&data);
}

/// All is complete: SIGTERM is a good end.
fn end(mut ptorrent: Process) {
    ptorrent.terminate();
    ptorrent.wait_success();
}

#[test]
fn file_to_aria2() {
    to_one("to-aria2", Maker::Mktorrent, Content::single(16_777_216), Client::Aria2);
}

#[test]
fn file_to_libtorrent() {
    to_one("to-libtorrent", Maker::Transmission, Content::single(50_000_001), Client::Libtorrent);
}

#[test]
fn folder_to_libtorrent() {
    to_one("folder-to-libtorrent", Maker::Mktorrent, Content::folder(), Client::Libtorrent);
}

#[test]
fn folder_to_rqbit() {
    to_one("to-rqbit", Maker::Libtorrent, Content::folder(), Client::Rqbit);
}

#[test]
fn folder_to_rtorrent() {
    to_one("to-rtorrent", Maker::Mktorrent, Content::folder(), Client::Rtorrent);
}

/// Transmission never dials loopback: ptorrent dials it.
#[test]
fn folder_to_transmission() {
    if !can(&[Client::Transmission, Client::Libtorrent]) {
        return;
    }
    let lab = Lab::new("to-transmission");
    let torrent = Torrent::new(&lab, Maker::Libtorrent, Content::folder(), None);
    let mut leecher = lab.start(Client::Transmission, Role::Leech, &torrent, &[]);
    leecher.wait_ready(Role::Leech);
    let data = lab.folder("data");
    torrent.content.write(&data);
    let peer = leecher.listen.to_string();
    let ptorrent = lab.ptorrent(&["-s", "-p", "0", "--peer", &peer], &data, address().ip(), &torrent);
    leecher.wait_complete(&torrent.content);
    end(ptorrent);
    torrent.content.assert_only_in(&data);
}

#[test]
fn folder_to_several_at_once() {
    if !can(&[Client::Libtorrent, Client::Aria2]) {
        return;
    }
    let lab = Lab::new("to-several");
    let listen = address();
    let torrent = Torrent::new(&lab, Maker::Mktorrent, Content::folder(), Some(&announce_url(listen)));
    let tracker = lab.opentracker(listen, &[&torrent]);
    let data = lab.folder("data");
    torrent.content.write(&data);
    let seeder = address();
    let port = seeder.port().to_string();
    let mut ptorrent = lab.ptorrent(&["-s", "-p", &port], &data, seeder.ip(), &torrent);
    tracker.wait_seed(&torrent, &mut ptorrent);
    let found = [Client::Libtorrent, Client::Aria2, Client::Rqbit].into_iter();
    let found = found.filter(|client| client.program().is_some());
    let leechers: Vec<_> = found.map(|client| lab.start(client, Role::Leech, &torrent, &[])).collect();
    for mut leecher in leechers {
        leecher.wait_complete(&torrent.content);
    }
    end(ptorrent);
    torrent.content.assert_only_in(&data);
}
