//! A download where the system allows few open files.

use crate::common::{Folder, noise};
use crate::loopback::seeder::Seeder;
use crate::{ALL, PIECE, PTORRENT, Running, assert_same, create, errors, info_hash};
use std::io::Write;
use std::net::TcpStream;
use std::process::Command;

/// A peer that says who it is and then nothing.
fn idle_peer(addr: &str, info_hash: [u8; 20], number: usize) -> TcpStream {
    let mut stream = TcpStream::connect(addr).unwrap();
    let mut handshake = b"\x13BitTorrent protocol\0\0\0\0\0\0\0\0".to_vec();
    handshake.extend(info_hash);
    handshake.extend(format!("-XX0000-{number:012}").as_bytes());
    // One that is turned away is as good.
    let _ = stream.write_all(&handshake);
    stream
}

#[test]
fn connections_leave_descriptors_for_the_files() {
    let folder = Folder::new("descriptors");
    let mut all = Vec::new();
    for number in 0..40 {
        let data = noise(PIECE / 2 + 100 * number, number as u32 + 1);
        folder.file(&format!("there/set/{number:02}/{number:02}"), &data);
        all.extend(data);
    }
    let torrent = create(&folder, "set");
    let hash = info_hash(&folder, &torrent);
    let seeder = Seeder::new("127.0.0.2", &all, PIECE, hash);
    seeder.allow(8);
    let peer = seeder.addr.to_string();
    let mut shell = Command::new("sh");
    shell.args(["-c", "ulimit -n 64; exec \"$0\" \"$@\"", PTORRENT]);
    let args = ["-b", "127.0.0.1", "-x", "-d", "here", "--peer", &peer, &torrent];
    let mut leech = Running::by(shell, &folder, &args);
    let addr = leech.addr();
    leech.some_pieces();
    let crowd: Vec<TcpStream> = (0..80).map(|number| idle_peer(&addr, hash, number)).collect();
    // They have the time to fill the table.
    std::thread::sleep(std::time::Duration::from_millis(500));
    seeder.allow(ALL);
    assert_eq!(leech.end(), Some(0), "{}", errors(&folder));
    drop(crowd);
    assert_same(&folder.0.join("there"), &folder.0.join("here"));
    let said = errors(&folder);
    assert!(said.contains("the limit of 64 open files leaves room for "), "{said}");
    assert!(said.contains(" of 50 connections (--max-conn); raise it with ulimit -n\n"), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
}
