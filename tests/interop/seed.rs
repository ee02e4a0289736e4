//! Real clients download from ptorrent.

use std::net::TcpStream;

use super::clients::{self, Client, Role};
use super::content::{Content, Maker, Torrent};
use super::lab::{Lab, Process, address, announce_url, can, has_network, tell};

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

/// A swarm that finds each other by opentracker, in a network where all of them dial.
fn swarm(name: &str, content: Content, seed: &[&str], run: impl FnOnce(&Lab, &Torrent, &mut Process)) {
    let all = [Client::Libtorrent, Client::Aria2, Client::Transmission];
    if !can(&all) || !has_network() {
        return;
    }
    let lab = Lab::new(name);
    let listen = address();
    let torrent = Torrent::new(&lab, Maker::Mktorrent, content, Some(&announce_url(listen)));
    let tracker = lab.opentracker(listen, &[&torrent]);
    let data = lab.folder("data");
    torrent.content.write(&data);
    let seeder = address();
    let port = seeder.port().to_string();
    let args = [&["-s", "--json", "-p", &port], seed].concat();
    let mut ptorrent = lab.ptorrent(&args, &data, seeder.ip(), &torrent);
    tracker.wait_seed(&torrent, &mut ptorrent);
    run(&lab, &torrent, &mut ptorrent);
    end(ptorrent);
    torrent.content.assert_only_in(&data);
}

#[test]
fn folder_to_several_at_once() {
    swarm("to-several", Content::folder(), &[], |lab, torrent, _| {
        let found = [Client::Transmission, Client::Libtorrent, Client::Aria2, Client::Rqbit].into_iter();
        let found = found.filter(|client| client.program().is_some());
        let leechers: Vec<_> = found.map(|client| lab.start(client, Role::Leech, torrent, &[])).collect();
        for mut leecher in leechers {
            leecher.wait_complete(&torrent.content);
        }
    });
}

/// How many copies of the torrent ptorrent has uploaded.
fn copies(ptorrent: &Process, size: u64) -> f64 {
    let out = ptorrent.stdout();
    let uploaded = out.lines().rev().find_map(|line| clients::number_after(line, "\"uploaded\":"));
    uploaded.unwrap_or(0) as f64 / size as f64
}

/// The seed is slow, so that the ten have to help each other.
#[test]
fn mixed_swarm_of_ten() {
    let size = 32 << 20;
    swarm(
        "mixed",
        Content::single(size),
        &["--max-upload-rate", "3M", "-u", "10"],
        |lab, torrent, seeder| {
            let others = [Client::Transmission, Client::Libtorrent, Client::Aria2];
            let mut others: Vec<_> = others
                .into_iter()
                .cycle()
                .take(6)
                .map(|client| lab.start(client, Role::Leech, torrent, &[]))
                .collect();
            let mut ours: Vec<_> = (0..4)
                .map(|_| {
                    let data = lab.folder("leech");
                    let args = ["-p", "0", "--json", "--seed-ratio", "none"];
                    (lab.ptorrent(&args, &data, address().ip(), torrent), data)
                })
                .collect();
            for (leecher, data) in &mut ours {
                leecher.wait_until("it is complete", |process| {
                    process.stdout().contains("\"event\":\"complete\"")
                });
                torrent.content.assert_only_in(data);
            }
            for leecher in &mut others {
                leecher.wait_complete(&torrent.content);
            }
            let shares = ours.iter().map(|(leecher, _)| format!("{:.1}", copies(leecher, size)));
            let shares = shares.collect::<Vec<_>>().join(", ");
            tell(&format!(
                "copies uploaded: {:.1} by the seed; by the ptorrents among the ten: {shares}",
                copies(seeder, size)
            ));
            ours.into_iter().for_each(|(leecher, _)| end(leecher));
        },
    );
}

/// Its log of the connection tells what it understood of us.
#[test]
fn libtorrent_hears_our_extensions() {
    if !can(&[Client::Libtorrent]) {
        return;
    }
    let lab = Lab::new("extensions");
    let torrent = Torrent::new(&lab, Maker::Libtorrent, Content::single(4_000_001), None);
    let data = lab.folder("data");
    torrent.content.write(&data);
    let seeder = address();
    let port = seeder.port().to_string();
    let mut ptorrent = lab.ptorrent(&["-s", "-p", &port], &data, seeder.ip(), &torrent);
    ptorrent.wait_until("it listens", |_| TcpStream::connect(seeder).is_ok());
    // What its script asks for, and the log of peers.
    let settings = [format!("alert_mask={}", 73 | 1 << 15)];
    let listen = address();
    let mut leecher = lab.start_at(Client::Libtorrent, Role::Leech, &torrent, &[seeder], listen, &settings);
    leecher.wait_complete(&torrent.content);
    let log = leecher.process.stdout();
    let version = format!("ptorrent {}", env!("CARGO_PKG_VERSION"));
    for word in ["<== HAVE_ALL", "<== ALLOWED_FAST", "<== EXTENDED_HANDSHAKE", &version, "lt_donthave"] {
        assert!(log.contains(word), "{word} is not in {log}");
    }
    end(ptorrent);
}
