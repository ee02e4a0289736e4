//! Encrypted connections with real clients, each side dialling.

use super::clients::{Client, Role};
use super::content::{Content, Maker, Torrent};
use super::lab::{Lab, Process, address, address_on, can, has_network};
use super::one_peer;

/// What makes libtorrent want encryption, and this method only: 1 the clear, 2 RC4.
fn forced(method: u32) -> Vec<String> {
    vec!["in_enc_policy=0".into(), "out_enc_policy=0".into(), format!("allowed_enc_level={method}")]
}

/// What makes aria2 and Transmission want encryption.
fn wanted() -> Vec<String> {
    vec!["encryption".into()]
}

/// Our log says that so many connections were encrypted, with this payload.
#[track_caller]
fn assert_encrypted(ptorrent: &Process, method: &str) {
    let log = ptorrent.stderr();
    assert!(log.contains(&format!("encrypted, payload: {method}")), "{log}");
}

/// The client seeds, and ptorrent dials it.
fn from(name: &str, seeder: Client, settings: &[String], ours: &str, method: &str) {
    if !can(&[seeder, Client::Libtorrent]) {
        return;
    }
    let lab = Lab::new(name);
    let torrent = Torrent::new(&lab, Maker::Libtorrent, Content::single(20_000_001), None);
    let mut seeder = lab.start_at(seeder, Role::Seed, &torrent, &[], address(), settings);
    seeder.wait_ready(Role::Seed);
    let (data, peer) = (lab.folder("data"), seeder.listen.to_string());
    let args = ["-vv", "-x", "-p", "0", "--encryption", ours, "--peer", &peer];
    let mut ptorrent = lab.ptorrent(&args, &data, address().ip(), &torrent);
    ptorrent.wait_success();
    torrent.content.assert_only_in(&data);
    assert_encrypted(&ptorrent, method);
}

/// The client downloads from ptorrent, which it dials.
fn to(name: &str, leecher: Client, settings: &[String], length: u64, ours: &str, method: &str) {
    if !can(&[leecher, Client::Libtorrent]) {
        return;
    }
    let lab = Lab::new(name);
    let seeder = address();
    // The other way to tell a client a peer.
    let tracker = one_peer::start(address(), &[seeder]).unwrap();
    let torrent = Torrent::new(&lab, Maker::Libtorrent, Content::single(length), Some(&tracker));
    let data = lab.folder("data");
    torrent.content.write(&data);
    let port = seeder.port().to_string();
    let args = ["-vv", "-s", "-p", &port, "--encryption", ours];
    let mut ptorrent = lab.ptorrent(&args, &data, seeder.ip(), &torrent);
    ptorrent.wait_until("it listens", |_| std::net::TcpStream::connect(seeder).is_ok());
    let peers = if leecher == Client::Libtorrent { &[seeder][..] } else { &[] };
    let mut leecher = lab.start_at(leecher, Role::Leech, &torrent, peers, address(), settings);
    leecher.wait_complete(&torrent.content);
    assert_encrypted(&ptorrent, method);
    ptorrent.terminate();
    ptorrent.wait_success();
}

#[test]
fn rc4_from_libtorrent() {
    from("rc4-from-libtorrent", Client::Libtorrent, &forced(2), "required", "Rc4");
}

#[test]
fn rc4_to_libtorrent() {
    to("rc4-to-libtorrent", Client::Libtorrent, &forced(2), 20_000_001, "required", "Rc4");
}

#[test]
fn clear_payload_from_libtorrent() {
    from("clear-from-libtorrent", Client::Libtorrent, &forced(1), "enabled", "Plain");
}

#[test]
fn clear_payload_to_libtorrent() {
    to("clear-to-libtorrent", Client::Libtorrent, &forced(1), 20_000_001, "enabled", "Plain");
}

#[test]
fn rc4_of_libtorrents_choice() {
    // It allows both and prefers RC4, or the clear; we would take the clear.
    let both = |prefer: u32| [forced(3), vec![format!("prefer_rc4={prefer}")]].concat();
    from("rc4-chosen", Client::Libtorrent, &both(1), "enabled", "Rc4");
    from("clear-chosen", Client::Libtorrent, &both(0), "enabled", "Plain");
    to("clear-taken", Client::Libtorrent, &both(1), 20_000_001, "enabled", "Plain");
}

#[test]
fn rc4_from_aria2() {
    from("rc4-from-aria2", Client::Aria2, &wanted(), "required", "Rc4");
}

#[test]
fn rc4_to_aria2() {
    // A few pieces: it sends a bitfield in place of several haves, and we take a few of them only.
    to("rc4-to-aria2", Client::Aria2, &wanted(), 1_000_001, "required", "Rc4");
}

#[test]
fn rc4_from_transmission() {
    from("rc4-from-transmission", Client::Transmission, &wanted(), "required", "Rc4");
}

/// It dials no loopback address: in a network of its own only.
#[test]
fn rc4_to_transmission_that_dials() {
    if has_network() {
        to("rc4-to-transmission", Client::Transmission, &wanted(), 20_000_001, "required", "Rc4");
    }
}

#[test]
fn rc4_to_transmission() {
    if !can(&[Client::Transmission, Client::Libtorrent]) {
        return;
    }
    let lab = Lab::new("rc4-called-transmission");
    let torrent = Torrent::new(&lab, Maker::Libtorrent, Content::single(20_000_001), None);
    let mut leecher = lab.start_at(Client::Transmission, Role::Leech, &torrent, &[], address(), &wanted());
    leecher.wait_ready(Role::Leech);
    let data = lab.folder("data");
    torrent.content.write(&data);
    let peer = leecher.listen.to_string();
    let args = ["-vv", "-s", "-p", "0", "--encryption", "required", "--peer", &peer];
    let mut ptorrent = lab.ptorrent(&args, &data, address().ip(), &torrent);
    leecher.wait_complete(&torrent.content);
    assert_encrypted(&ptorrent, "Rc4");
    ptorrent.terminate();
    ptorrent.wait_success();
}

/// It has no encryption.
#[test]
fn rqbit_is_called_in_the_clear() {
    if !can(&[Client::Rqbit, Client::Libtorrent]) {
        return;
    }
    let lab = Lab::new("clear-rqbit");
    let torrent = Torrent::new(&lab, Maker::Libtorrent, Content::single(20_000_001), None);
    let listen = address_on(std::net::Ipv4Addr::LOCALHOST.into());
    let mut seeder = lab.start_at(Client::Rqbit, Role::Seed, &torrent, &[], listen, &[]);
    seeder.wait_ready(Role::Seed);
    let (data, peer) = (lab.folder("data"), listen.to_string());
    let args = ["-vv", "-x", "-p", "0", "--encryption", "enabled", "--peer", &peer];
    let mut ptorrent = lab.ptorrent(&args, &data, address().ip(), &torrent);
    ptorrent.wait_success();
    torrent.content.assert_only_in(&data);
    assert!(ptorrent.stderr().contains("is called again, in the clear"), "{}", ptorrent.stderr());
}
