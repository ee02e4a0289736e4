//! A download by a configuration file, and the port that it takes of a range.

use crate::{ALL, PTORRENT, Running, errors, scripted};
use std::fs;
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

#[test]
fn a_download_by_the_file_alone() {
    let (folder, data, seeder) = scripted("by-config");
    seeder.allow(ALL);
    let lines = [
        "exit = true\nport = 0\nbind = 127.0.0.1\ndir = ~/here\nstate-dir = state\nno-dht = true\n",
        &format!("no-pex = true\nno-lsd = true\nencryption = disabled\npeer = {}\n", seeder.addr),
    ];
    folder.file("ptorrent/config", lines.concat().as_bytes());
    let mut command = Command::new(PTORRENT);
    command.current_dir(&folder.0).env("XDG_CONFIG_HOME", &folder.0).env("HOME", &folder.0);
    let mut child = command.arg("file.torrent").stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
    let start = Instant::now();
    let status = loop {
        match child.try_wait().unwrap() {
            Some(status) => break Some(status),
            None if start.elapsed() > Duration::from_secs(60) => break None,
            None => sleep(Duration::from_millis(10)),
        }
    };
    let _ = child.kill();
    assert!(status.is_some_and(|status| status.success()), "{status:?}");
    assert!(fs::read(folder.0.join("here/file")).unwrap() == data);
}

/// Two neighbouring ports, the first of them taken.
fn a_taken_port() -> (TcpListener, u16) {
    loop {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        if port < u16::MAX {
            return (taken, port);
        }
    }
}

#[test]
fn of_a_port_range_the_first_free_one_is_taken() {
    let (folder, _, _seeder) = scripted("range");
    let (_taken, port) = a_taken_port();
    let start = |range: &str| {
        folder.file(
            "range",
            format!("port = {range}\nbind = 127.0.0.1\nno-dht = true\nno-lsd = true\n").as_bytes(),
        );
        let mut command = Command::new(PTORRENT);
        command.current_dir(&folder.0).args([
            "--config",
            "range",
            "--json",
            "--state-dir",
            "state",
            "file.torrent",
        ]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    };
    // The range is of one port, which is taken: the error says so.
    let output = start(&format!("{port}-{port}")).wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(&format!("127.0.0.1 (--bind), port {port} (--port): ")), "{said}");
    let all = TcpListener::bind(("127.0.0.1", port + 1));
    let end = if all.is_ok() { port + 1 } else { port };
    if end > port {
        let output = start(&format!("{port}-{end}")).wait_with_output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains(&format!("ports {port} to {end} (--port): ")), "{said}");
    }
    drop(all);
    // Whoever takes one of them in between, the taken one is not what it listens on.
    let last = port.saturating_add(100);
    let mut running = Running::from(start(&format!("{port}-{last}")));
    let addr = running.addr();
    let found: u16 = addr.rsplit(':').next().unwrap().parse().unwrap();
    assert!(found > port && found <= last, "{addr} {}", errors(&folder));
}
