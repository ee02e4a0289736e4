//! Local discovery (BEP 14) with others, between two hosts: network namespaces that a pair of virtual devices joins.

use super::clients::{Client, Role};
use super::content::{Content, Maker, Torrent};
use super::lab::{Host, Lab, can, has_network};
use std::net::SocketAddr;

const HERE: &str = "10.78.0.1";
const THERE: &str = "10.78.0.2";

fn at(ip: &str, port: u16) -> SocketAddr {
    SocketAddr::new(ip.parse().unwrap(), port)
}

/// A torrent without a tracker; theirs on the other host.
fn with(name: &str, client: Client, role: Role, flag: &str) {
    if !can(&[client, Client::Libtorrent]) || !has_network() {
        return;
    }
    let lab = Lab::new(name);
    let host = Host::new(&lab, HERE, THERE);
    let torrent = Torrent::new(&lab, Maker::Libtorrent, Content::single(5_000_001), None);
    let data = lab.folder("data");
    let ip = HERE.parse().unwrap();
    let args = ["-v", "-v", "--no-dht", "--no-pex", "-p", "7001"];
    let mut theirs = lab.start_on(&host, client, role, &torrent, at(THERE, 7002), &[flag.to_string()]);
    if role == Role::Seed {
        let mut ours = lab.ptorrent_with(&[&args[..], &["-x"]].concat(), &data, ip, &torrent);
        ours.wait_success();
        torrent.content.assert_only_in(&data);
    } else {
        torrent.content.write(&data);
        let _ours = lab.ptorrent_with(&[&args[..], &["-s"]].concat(), &data, ip, &torrent);
        theirs.wait_complete(&torrent.content);
    }
}

#[test]
fn from_libtorrent() {
    with("lsd-from-libtorrent", Client::Libtorrent, Role::Seed, "enable_lsd=1");
}

#[test]
fn to_libtorrent() {
    with("lsd-to-libtorrent", Client::Libtorrent, Role::Leech, "enable_lsd=1");
}

#[test]
fn from_transmission() {
    with("lsd-from-transmission", Client::Transmission, Role::Seed, "lpd=1");
}

#[test]
fn to_transmission() {
    with("lsd-to-transmission", Client::Transmission, Role::Leech, "lpd=1");
}
