//! Peer exchange (BEP 11) with others: three of which two know but the one in the middle. Nobody has anything, so that
//! they stay together.

use super::clients::{Client, Role};
use super::content::{Content, Maker, Torrent};
use super::lab::{Lab, Process, address, can, has_network};
use std::net::SocketAddr;

/// A ptorrent that says whom it calls and who calls, and dials these.
fn ours(lab: &Lab, torrent: &Torrent, more: &[&str], peers: &[SocketAddr]) -> (Process, SocketAddr) {
    let listen = address();
    let port = listen.port().to_string();
    let peers: Vec<String> = peers.iter().map(SocketAddr::to_string).collect();
    let mut args = vec!["-v", "-v", "--no-dht", "--no-lsd", "-p", &port];
    args.extend(more);
    peers.iter().for_each(|peer| args.extend(["--peer", peer]));
    let mut process = lab.ptorrent_with(&args, &lab.folder("data"), listen.ip(), torrent);
    process.wait_until("it runs", |process| process.stdout().contains("downloading"));
    (process, listen)
}

/// Two of ours, who know but one of theirs: the second one hears of the first.
fn in_the_middle(name: &str, client: Client) {
    if !can(&[client, Client::Libtorrent]) || client == Client::Transmission && !has_network() {
        return;
    }
    let lab = Lab::new(name);
    let torrent = Torrent::new(&lab, Maker::Libtorrent, Content::single(5_000_001), None);
    let mut middle = lab.start_at(client, Role::Leech, &torrent, &[], address(), &["pex=1".to_string()]);
    middle.wait_ready(Role::Leech);
    // The first one hears of nobody, so that it cannot call before.
    let (_first, there) = ours(&lab, &torrent, &["--no-pex"], &[middle.listen]);
    let (mut second, _) = ours(&lab, &torrent, &[], &[middle.listen]);
    let dials = format!("dialling {there}");
    second.wait_until("it calls who it was told of", |second| second.stderr().contains(&dials));
}

/// One of ours knows both: theirs hears of the other one of ours, and calls it.
fn at_the_end(name: &str, client: Client) {
    if !can(&[client, Client::Libtorrent]) || client == Client::Transmission && !has_network() {
        return;
    }
    let lab = Lab::new(name);
    let torrent = Torrent::new(&lab, Maker::Libtorrent, Content::single(5_000_001), None);
    let mut theirs = lab.start_at(client, Role::Leech, &torrent, &[], address(), &["pex=1".to_string()]);
    theirs.wait_ready(Role::Leech);
    let (mut other, there) = ours(&lab, &torrent, &["--no-pex"], &[]);
    let (_middle, _) = ours(&lab, &torrent, &[], &[there, theirs.listen]);
    let from = format!("{}:", theirs.listen.ip());
    other.wait_until("it is called by who was told of it", |other| {
        other.stderr().lines().any(|line| line.contains(&from) && line.ends_with(" came in"))
    });
}

#[test]
fn libtorrent_in_the_middle() {
    in_the_middle("pex-libtorrent", Client::Libtorrent);
}

#[test]
fn libtorrent_at_the_end() {
    at_the_end("pex-to-libtorrent", Client::Libtorrent);
}

#[test]
fn transmission_in_the_middle() {
    in_the_middle("pex-transmission", Client::Transmission);
}

#[test]
fn transmission_at_the_end() {
    at_the_end("pex-to-transmission", Client::Transmission);
}
