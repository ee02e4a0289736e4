//! What the real program says and to whom: output that nobody reads, signals that ask for something, the log.

#![allow(
    clippy::disallowed_methods,
    reason = "tests start threads and read the clock; the rules guard the core"
)]

mod common;
#[path = "loopback/seeder.rs"]
#[allow(dead_code, reason = "tests/loopback.rs uses all of it")]
mod seeder;

use common::{Folder, noise};
use rustix::fs::{OFlags, fcntl_setfl};
use rustix::pipe::PipeFlags;
use rustix::process::{Pid, Signal, kill_process};
use seeder::Seeder;
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

const PTORRENT: &str = env!("CARGO_BIN_EXE_ptorrent");
/// The piece length of the torrents here: four blocks.
const PIECE: usize = 64 << 10;
/// Enough blocks for a seeder that is not to stop.
const ALL: u64 = u64::MAX;
/// How long anything may take: far longer than it does on the slowest machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A folder with a torrent of a file of 32 pieces, and a seeder of it that may serve nothing yet.
fn scripted(name: &str) -> (Folder, Vec<u8>, Seeder) {
    let folder = Folder::new(name);
    let data = noise(32 * PIECE, 5);
    folder.file("there/file", &data);
    let run = |args: &[&str]| Command::new(PTORRENT).current_dir(&folder.0).args(args).output().unwrap();
    assert!(run(&["create", "-l", "64K", "-o", "file.torrent", "there/file"]).status.success());
    let shown = String::from_utf8(run(&["show", "--json", "file.torrent"]).stdout).unwrap();
    let (_, hex) = shown.split_once(r#""info_hash":""#).unwrap();
    let hash = std::array::from_fn(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap());
    let seeder = Seeder::new("127.0.0.2", &data, PIECE, hash);
    (folder, data, seeder)
}

/// The program, killed at the latest when the test ends.
struct Running(Child);

impl Running {
    /// A download from this seeder to `here`, by `sh -c SHELL` with standard error in the file `err`.
    fn start(folder: &Folder, seeder: &Seeder, shell: &str, args: &[&str], out: impl Into<Stdio>) -> Running {
        let peer = seeder.addr.to_string();
        let mut command = Command::new("sh");
        command.current_dir(&folder.0).args(["-c", shell, PTORRENT]);
        command.args(["-b", "127.0.0.1", "-p", "0", "--state-dir", "state", "-d", "here", "--peer", &peer]);
        command
            .args([
                "--no-dht",
                "--no-pex",
                "--no-lsd",
                "--encryption",
                "disabled",
                "--config",
                "",
                "file.torrent",
            ])
            .args(args);
        let err = File::create(folder.0.join("err")).unwrap();
        command.stdin(Stdio::null()).stdout(out).stderr(err).env_remove("RUST_LOG");
        Running(command.spawn().unwrap())
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).unwrap();
    }

    fn runs(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }

    /// The exit status; it must not take long.
    #[track_caller]
    fn end(&mut self) -> Option<i32> {
        until("it ends", || self.0.try_wait().unwrap().is_some());
        let status = self.0.wait().unwrap();
        assert_eq!(status.signal(), None);
        status.code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

const EXEC: &str = r#"exec "$0" "$@""#;

#[track_caller]
fn until(what: &str, mut is: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is() {
        assert!(start.elapsed() < PATIENCE, "it does not come that {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

fn text(folder: &Folder, name: &str) -> String {
    fs::read_to_string(folder.0.join(name)).unwrap_or_default()
}

fn is_there(path: &Path, data: &[u8]) -> bool {
    fs::read(path).is_ok_and(|found| found == data)
}

/// A pipe in which there is no room for a single byte, and how many are in it.
fn full_pipe() -> (File, File, usize) {
    let (reader, writer) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).unwrap();
    let mut writer = File::from(writer);
    fcntl_setfl(&writer, OFlags::NONBLOCK).unwrap();
    let mut filled = 0;
    for part in [4096, 1] {
        loop {
            match writer.write(&vec![b'x'; part]) {
                Ok(n) => filled += n,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("{error}"),
            }
        }
    }
    fcntl_setfl(&writer, OFlags::empty()).unwrap();
    (File::from(reader), writer, filled)
}

#[test]
fn output_that_nobody_reads_does_not_stop_the_transfer() {
    for close in [false, true] {
        let (folder, data, seeder) = scripted(&format!("stalled-{close}"));
        let (mut reader, writer, filled) = full_pipe();
        seeder.allow(ALL);
        let mut leech = Running::start(&folder, &seeder, EXEC, &["-x", "--json", "-vvv"], writer);
        until("all is there", || is_there(&folder.0.join("here/file"), &data));
        assert!(leech.runs());
        if close {
            drop(reader);
        } else {
            let mut said = String::new();
            reader.read_to_string(&mut said).unwrap();
            let events: Vec<&str> = said[filled..].lines().collect();
            assert!(events.iter().all(|line| line.starts_with(r#"{"event":""#) && line.ends_with('}')));
            // States are told however late, figures are not told twice.
            let of = |event: &str| events.iter().filter(|line| line.contains(event)).count();
            assert_eq!((of(r#""event":"complete""#), of(r#""state":"stopped""#)), (1, 1), "{events:?}");
            assert!(events.len() < 20, "{events:?}");
        }
        assert_eq!(leech.end(), Some(0));
    }
}

#[test]
fn a_signal_ends_what_cannot_say_so() {
    let (folder, data, seeder) = scripted("stalled-signal");
    let (reader, writer, _) = full_pipe();
    seeder.allow(40);
    let mut leech = Running::start(&folder, &seeder, EXEC, &["--json"], writer);
    until("all that may be served is", || seeder.served() == 40);
    leech.signal(Signal::INT);
    assert_eq!(leech.end(), Some(130));
    drop(reader);
    // All is saved: what was whole is not fetched again.
    seeder.allow(ALL);
    let before = seeder.served();
    let mut leech = Running::start(&folder, &seeder, EXEC, &["-x"], Stdio::null());
    assert_eq!(leech.end(), Some(0));
    assert!(is_there(&folder.0.join("here/file"), &data));
    assert!(seeder.served() - before < 32 * 4 - 4, "{before} {}", seeder.served());
}

#[test]
fn a_closed_output_is_a_quiet_end() {
    let (folder, _, seeder) = scripted("closed");
    let (reader, writer) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).unwrap();
    let mut leech = Running::start(&folder, &seeder, EXEC, &["--json"], writer);
    let mut start = [0; 20];
    File::from(reader).read_exact(&mut start).unwrap();
    seeder.allow(ALL);
    // Whether all is complete then decides about the status.
    assert!(matches!(leech.end(), Some(0 | 1)));
    assert_eq!((&start, text(&folder, "err").as_str()), (br#"{"event":"listening""#, ""));
}

#[test]
fn a_hangup_opens_the_log_file_anew() {
    let (folder, _, seeder) = scripted("rotated");
    let mut leech = Running::start(&folder, &seeder, EXEC, &["-v", "--log-file", "log"], Stdio::null());
    until("it logs", || text(&folder, "log").contains("listening on"));
    fs::rename(folder.0.join("log"), folder.0.join("log.1")).unwrap();
    leech.signal(Signal::HUP);
    until("there is a new log", || folder.0.join("log").exists());
    // Where there can be none, the one that is goes on.
    fs::rename(folder.0.join("log"), folder.0.join("log.2")).unwrap();
    fs::create_dir(folder.0.join("log")).unwrap();
    leech.signal(Signal::HUP);
    until("it is said", || text(&folder, "log.2").contains("cannot open log"));
    leech.signal(Signal::INT);
    assert_eq!(leech.end(), Some(130));
    assert!(text(&folder, "log.2").contains("stopping") && !text(&folder, "log.1").contains("stopping"));
}

#[test]
fn a_hangup_without_a_log_file_is_the_end_but_under_nohup() {
    let (folder, _, seeder) = scripted("hangup");
    let mut leech = Running::start(&folder, &seeder, EXEC, &["-v"], Stdio::null());
    until("it runs", || text(&folder, "err").contains("listening on"));
    leech.signal(Signal::HUP);
    assert_eq!(leech.end(), Some(129));
    let nohup = r#"trap '' HUP; exec "$0" "$@""#;
    let mut leech = Running::start(&folder, &seeder, nohup, &["-v"], Stdio::null());
    until("it runs", || text(&folder, "err").contains("listening on"));
    leech.signal(Signal::HUP);
    leech.signal(Signal::USR1);
    until("it answers", || text(&folder, "err").contains("ptorrent: status after"));
    assert!(leech.runs());
    leech.signal(Signal::TERM);
    assert_eq!(leech.end(), Some(143));
}

#[test]
fn a_table_of_torrents_and_peers_is_there_for_the_asking() {
    let (folder, _, seeder) = scripted("asked");
    let out = File::create(folder.0.join("out")).unwrap();
    seeder.allow(40);
    let mut leech = Running::start(&folder, &seeder, EXEC, &["--json", "-q"], out);
    until("all that may be served is", || seeder.served() == 40);
    let peer = seeder.addr.to_string();
    // Each of them is answered, or two by one answer.
    for _ in 0..3 {
        let before = text(&folder, "err").matches("ptorrent: status after").count();
        leech.signal(Signal::USR1);
        until("it answers", || text(&folder, "err").matches("ptorrent: status after").count() > before);
    }
    until("the last one is whole", || text(&folder, "err").matches("flags: ").count() == 3);
    let said = text(&folder, "err");
    let row = said.lines().find(|line| line.contains(&peer)).expect(&said);
    assert!(row.contains("-XX0000-") && row.contains("100.0%") && row.contains(" D "), "{row}");
    assert!(said.contains("torrent 0 file\n") && said.contains(" downloading "), "{said}");
    leech.signal(Signal::INT);
    assert_eq!(leech.end(), Some(130));
    assert!(text(&folder, "out").lines().all(|line| line.starts_with(r#"{"event":""#)));
}

#[test]
fn more_is_said_the_more_is_asked_for() {
    let (folder, _, seeder) = scripted("levels");
    seeder.allow(ALL);
    for (args, said) in [
        (&[][..], &[][..]),
        (&["-q"], &[]),
        (&["-v"], &[" INFO "]),
        (&["-vv"], &[" INFO ", " DEBUG "]),
        (&["-v", "-v", "-v"], &[" INFO ", " DEBUG ", " TRACE "]),
    ] {
        let _ = fs::remove_dir_all(folder.0.join("here"));
        let out = File::create(folder.0.join("out")).unwrap();
        let mut leech = Running::start(&folder, &seeder, EXEC, &[&["-x"], args].concat(), out);
        assert_eq!(leech.end(), Some(0));
        let log = text(&folder, "err");
        for level in [" INFO ", " DEBUG ", " TRACE "] {
            assert_eq!(log.contains(level), said.contains(&level), "{args:?}: {log}");
        }
        assert_eq!(text(&folder, "out").is_empty(), args == ["-q"]);
    }
    // The environment picks modules, beside what the options say.
    let _ = fs::remove_dir_all(folder.0.join("here"));
    let shell = r#"RUST_LOG=ptorrent::session=debug exec "$0" "$@""#;
    let mut leech = Running::start(&folder, &seeder, shell, &["-x"], Stdio::null());
    assert_eq!(leech.end(), Some(0));
    let log = text(&folder, "err");
    assert!(log.contains(" DEBUG ptorrent::session") && !log.contains("ptorrent::cli"), "{log}");
}

#[test]
fn what_keeps_it_from_starting_is_an_event_with_its_reason() {
    let (folder, _, seeder) = scripted("reasons");
    folder.file("junk.torrent", b"d4:junke");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    for (args, reason, what) in [
        (["-x", "junk.torrent"], "metainfo", "junk.torrent: "),
        (["-x", "none.torrent"], "io", "cannot read none.torrent"),
        (["--port", &port], "network", "--port"),
    ] {
        let out = File::create(folder.0.join("out")).unwrap();
        seeder.allow(ALL);
        let shell = if args[0] == "--port" { r#"shift 4; exec "$0" -b 127.0.0.1 "$@""# } else { EXEC };
        let mut leech = Running::start(&folder, &seeder, shell, &[&["--json"], &args[..]].concat(), out);
        assert_eq!(leech.end(), Some(1));
        let events = text(&folder, "out");
        let event = events.lines().find(|line| line.contains(r#""event":"error""#)).expect(&events);
        assert!(event.contains(what) && event.ends_with(&format!(r#""reason":"{reason}"}}"#)), "{event}");
        assert!(text(&folder, "err").contains(what));
    }
}
