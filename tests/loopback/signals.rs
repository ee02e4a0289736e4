//! A signal while many torrents are being opened.

use crate::common::Folder;
use crate::{Running, errors};
use ptorrent::proto::metainfo::{Content, Plan, build};
use rustix::process::Signal;
use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

const TORRENTS: usize = 600;

/// Makes many torrents; gives their names.
fn torrents(folder: &Folder) -> Vec<String> {
    let name = |number: usize| format!("{number}.torrent");
    for number in 0..TORRENTS {
        let (file, hashes) = (format!("file {number}"), [number as u8; 20]);
        folder.file(&name(number), &build(&Plan::bare(&file, Content::Single(1000), 16384, &hashes)));
    }
    (0..TORRENTS).map(name).collect()
}

/// Whether the process has a handler for SIGINT.
fn has_handler(running: &Running) -> bool {
    let status = fs::read_to_string(format!("/proc/{}/status", running.child.id())).unwrap();
    let (_, caught) = status.split_once("SigCgt:\t").unwrap();
    let mask = u64::from_str_radix(caught.lines().next().unwrap(), 16).unwrap();
    mask & 1 << (Signal::INT.as_raw() - 1) != 0
}

fn kept(folder: &Folder) -> usize {
    fs::read_dir(folder.0.join("state/torrents")).map_or(0, Iterator::count)
}

#[test]
fn early_signal_ends_many_torrents_at_once() {
    let folder = Folder::new("early");
    let names = torrents(&folder);
    let args: Vec<&str> = ["-d", "here"].into_iter().chain(names.iter().map(String::as_str)).collect();
    for wait in [0, 5, 10, 20, 40, 80, 160, 320] {
        let _ = fs::remove_dir_all(folder.0.join("state"));
        let running = Running::start(&folder, &args);
        while !has_handler(&running) {
            sleep(Duration::from_micros(100));
        }
        // The handlers are there before the torrents are.
        assert!(kept(&folder) < TORRENTS);
        sleep(Duration::from_millis(wait));
        let start = Instant::now();
        running.signal(Signal::INT);
        assert_eq!(running.end(), Some(130), "{wait} ms: {}", errors(&folder));
        let took = start.elapsed();
        assert!(took < Duration::from_secs(2), "{wait} ms: it took {took:?}");
        // What is not opened yet is left out.
        assert!(wait > 0 || kept(&folder) < TORRENTS);
    }
    assert_eq!(errors(&folder), "");
}
