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

/// Starts all of them, and waits until signals are heard.
fn start(folder: &Folder, names: &[String]) -> Running {
    let args: Vec<&str> = ["-d", "here"].into_iter().chain(names.iter().map(String::as_str)).collect();
    let running = Running::start(folder, &args);
    while !has_handler(&running) {
        sleep(Duration::from_micros(100));
    }
    running
}

#[track_caller]
fn interrupt(folder: &Folder, running: Running) {
    let start = Instant::now();
    running.signal(Signal::INT);
    assert_eq!(running.end(), Some(130), "{}", errors(folder));
    let took = start.elapsed();
    assert!(took < Duration::from_secs(2), "it took {took:?}");
    assert_eq!(errors(folder), "");
}

#[test]
fn signals_are_heard_before_torrents_are_read() {
    let folder = Folder::new("early");
    let names = torrents(&folder);
    let running = start(&folder, &names);
    assert!(kept(&folder) < TORRENTS);
    interrupt(&folder, running);
    // Those that were left are left out.
    assert!(kept(&folder) < TORRENTS);
}

#[test]
fn signal_while_torrents_are_added_ends_at_once() {
    let folder = Folder::new("adding");
    let names = torrents(&folder);
    // What is kept of them need not be written again, so that the start is short.
    let first = start(&folder, &names);
    while kept(&folder) < TORRENTS {
        sleep(Duration::from_millis(10));
    }
    interrupt(&folder, first);
    for wait in (5..=200).step_by(15) {
        let running = start(&folder, &names);
        sleep(Duration::from_millis(wait));
        interrupt(&folder, running);
    }
}
