//! What opentracker tells of a swarm, over HTTP and over UDP.

use super::clients::Client;
use super::content::{Content, Maker, Torrent};
use super::lab::{Lab, address, announce_url, can};
use std::process::Command;

#[test]
fn opentracker_tells_over_http_and_udp() {
    if !can(&[Client::Libtorrent]) {
        return;
    }
    let lab = Lab::new("scrape");
    let listen = address();
    let made = |url: &str| Torrent::new(&lab, Maker::Mktorrent, Content::single(100_000), Some(url));
    let (torrent, udp) = (made(&announce_url(listen)), made(&format!("udp://{listen}/announce")));
    assert_eq!(torrent.info_hash, udp.info_hash);
    let tracker = lab.opentracker(listen, &[&torrent]);
    let data = lab.folder("data");
    torrent.content.write(&data);
    let seeder = address();
    let port = seeder.port().to_string();
    let mut ptorrent = lab.ptorrent(&["-s", "-p", &port], &data, seeder.ip(), &torrent);
    tracker.wait_seed(&torrent, &mut ptorrent);
    for torrent in [&torrent, &udp] {
        let mut scrape = Command::new(env!("CARGO_BIN_EXE_ptorrent"));
        let output = scrape.args(["scrape", "--json"]).arg(&torrent.path).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{output:?}");
        assert!(text.ends_with("\"seeders\":1,\"leechers\":0,\"downloads\":0}\n"), "{text}");
    }
    ptorrent.terminate();
    ptorrent.wait_success();
}
