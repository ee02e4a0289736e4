//! The real program on loopback: it downloads, seeds and ends as it should, also where the disk or the user gets in
//! its way in the middle of a download.

#![allow(
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "tests start threads, read the environment and say what they skip; the rules guard the core"
)]

mod common;
mod loopback {
    mod config;
    mod descriptors;
    mod encryption;
    mod hooks;
    pub(crate) mod leecher;
    mod magnet;
    mod rates;
    pub(crate) mod seeder;
    mod server;
    mod signals;
    mod state;
    mod strangers;
    mod web;
}

use common::{Folder, noise};
use loopback::leecher::Leecher;
use loopback::seeder::Seeder;
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::io::{BufRead, BufReader, Lines};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::time::{Duration, Instant};

const PTORRENT: &str = env!("CARGO_BIN_EXE_ptorrent");
/// The piece length of the torrents here: four blocks.
const PIECE: usize = 64 << 10;
/// Enough blocks for a seeder that is not to stop.
const ALL: u64 = u64::MAX;

/// The real program, killed at the latest when the test ends.
struct Running {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Running {
    fn start(folder: &Folder, args: &[&str]) -> Running {
        Running::by(Command::new(PTORRENT), folder, &[&["-b", "127.0.0.1"], args].concat())
    }

    /// What `command` becomes when it is given more arguments.
    fn by(mut command: Command, folder: &Folder, args: &[&str]) -> Running {
        let err = fs::File::options().append(true).create(true).open(folder.0.join("err")).unwrap();
        command.current_dir(&folder.0).args(["--json", "-p", "0", "--state-dir", "state"]).args(args);
        command.args(["--no-dht", "--no-pex", "--no-lsd"]);
        if !args.contains(&"--encryption") {
            command.args(["--encryption", "disabled"]);
        }
        // What the user of this machine has configured is not ours.
        command.env("XDG_CONFIG_HOME", &folder.0);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(err);
        Running::from(command.spawn().unwrap())
    }

    fn from(mut child: Child) -> Running {
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Running { child, lines }
    }

    /// Reads to the first line with all of these texts.
    #[track_caller]
    fn line_with(&mut self, texts: &[&str]) -> String {
        let mut seen = String::new();
        for line in self.lines.by_ref().map_while(Result::ok) {
            if texts.iter().all(|text| line.contains(text)) {
                return line;
            }
            seen += &(line + "\n");
        }
        panic!("it ended without {texts:?}:\n{seen}")
    }

    /// Where it listens.
    fn addr(&mut self) -> String {
        let line = self.line_with(&[r#""event":"listening""#]);
        let (_, addr) = line.split_once(r#""addr":""#).unwrap();
        addr.trim_end_matches(r#""}"#).to_string()
    }

    /// Waits until a piece is verified.
    fn some_pieces(&mut self) {
        loop {
            if !self.line_with(&[r#""event":"progress""#]).contains(r#""have":0,"#) {
                return;
            }
        }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// The exit status, after the rest of its output.
    fn end(self) -> Option<i32> {
        self.end_with_lines().0
    }

    /// The same, and the rest of its output.
    fn end_with_lines(mut self) -> (Option<i32>, Vec<String>) {
        let lines = self.lines.by_ref().map_while(Result::ok).collect();
        (self.child.wait().unwrap().code(), lines)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn run(folder: &Folder, args: &[&str]) -> Output {
    Command::new(PTORRENT).current_dir(&folder.0).args(args).output().unwrap()
}

/// Makes `NAME.torrent` of a path below `there`.
fn create(folder: &Folder, path: &str) -> String {
    let name = format!("{}.torrent", path.replace('/', "-"));
    let output = run(folder, &["create", "-l", "64K", "-o", &name, &format!("there/{path}")]);
    assert!(output.status.success(), "{output:?}");
    name
}

fn info_hash(folder: &Folder, torrent: &str) -> [u8; 20] {
    let shown = String::from_utf8(run(folder, &["show", "--json", torrent]).stdout).unwrap();
    let (_, hex) = shown.split_once(r#""info_hash":""#).unwrap();
    std::array::from_fn(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap())
}

/// A folder with a file of 32 pieces, its torrent, and a seeder of it.
fn scripted(name: &str) -> (Folder, Vec<u8>, Seeder) {
    let folder = Folder::new(name);
    let data = noise(32 * PIECE, 5);
    folder.file("there/file", &data);
    let hash = info_hash(&folder, &create(&folder, "file"));
    let seeder = Seeder::new("127.0.0.2", &data, PIECE, hash);
    (folder, data, seeder)
}

/// A download of it to `here` that has some pieces and waits for more.
fn half_way(folder: &Folder, seeder: &Seeder, args: &[&str]) -> Running {
    seeder.allow(40);
    let peer = seeder.addr.to_string();
    let fixed = ["-x", "-d", "here", "--peer", &peer, "file.torrent"];
    let mut leech = Running::start(folder, &[&fixed, args].concat());
    leech.some_pieces();
    leech
}

fn errors(folder: &Folder) -> String {
    fs::read_to_string(folder.0.join("err")).unwrap()
}

/// Both have the same files in them, and the second nothing else.
#[track_caller]
fn assert_same(one: &Path, other: &Path) {
    let names = |path: &Path| {
        let mut names: Vec<_> = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    if one.is_dir() {
        assert_eq!(names(one), names(other));
        names(one).iter().for_each(|name| assert_same(&one.join(name), &other.join(name)));
    } else {
        assert!(fs::read(one).unwrap() == fs::read(other).unwrap(), "{} differs", other.display());
    }
}

#[test]
fn several_torrents_go_from_one_process_to_another() {
    let folder = Folder::new("several");
    folder.file("there/file", &noise(3_000_001, 77)).file("there/tree/a/b/c/deep", &noise(200_000, 78));
    folder.file("there/tree/empty", b"").file("there/tree/sp ace/\u{fc}n\u{ef} \u{2603}", &noise(7, 79));
    folder.file("there/small", b"x");
    let torrents = ["file", "tree", "small"].map(|name| create(&folder, name));
    let torrents = torrents.each_ref().map(String::as_str);
    let mut seeder = Running::start(&folder, &[&["--seed", "-d", "there"], &torrents[..]].concat());
    let addr = seeder.addr();
    for (dir, more) in
        [("auto", &[][..]), ("mmap", &["--disk-io", "mmap"]), ("thin", &["--prealloc", "sparse"])]
    {
        let args = [&["-x", "-d", dir, "--peer", &addr], more, &torrents].concat();
        assert_eq!(Running::start(&folder, &args).end(), Some(0), "{}", errors(&folder));
        assert_same(&folder.0.join("there"), &folder.0.join(dir));
    }
    seeder.signal(Signal::INT);
    assert_eq!(seeder.end(), Some(0));
    assert_eq!(errors(&folder), "");
}

#[test]
fn ipv6_is_as_good() {
    if TcpListener::bind("[::1]:0").is_err() {
        return eprintln!("skipped: no IPv6 on loopback");
    }
    let folder = Folder::new("six");
    folder.file("there/file", &noise(500_000, 3));
    let torrent = create(&folder, "file");
    let six = |args: &[&str]| Running::by(Command::new(PTORRENT), &folder, &[&["-b", "::1"], args].concat());
    let mut seeder = six(&["--seed", "-d", "there", &torrent]);
    let addr = seeder.addr();
    assert!(addr.starts_with("[::1]:"), "{addr}");
    assert_eq!(six(&["-x", "-d", "here", "--peer", &addr, &torrent]).end(), Some(0));
    assert_same(&folder.0.join("there"), &folder.0.join("here"));
}

#[test]
fn two_thousand_small_files_and_few_descriptors() {
    let folder = Folder::new("many");
    for i in 0..2000u32 {
        folder.file(&format!("there/many/{}/{i}", i % 20), &noise((i * 37 % 5000) as usize, i));
    }
    let torrent = create(&folder, "many");
    let few = |args: &[&str]| {
        let mut shell = Command::new("sh");
        shell.args(["-c", "ulimit -n 64; exec \"$0\" \"$@\"", PTORRENT]);
        Running::by(shell, &folder, &[&["-b", "127.0.0.1"], args].concat())
    };
    let mut seeder = few(&["--seed", "-d", "there", &torrent]);
    let addr = seeder.addr();
    for io in ["pwrite", "mmap"] {
        let args = ["-x", "-d", io, "--disk-io", io, "--peer", &addr, &torrent];
        assert_eq!(few(&args).end(), Some(0), "{}", errors(&folder));
        assert_same(&folder.0.join("there"), &folder.0.join(io));
    }
}

#[test]
fn a_selection_leaves_the_other_files_out() {
    let folder = Folder::new("select");
    for (i, name) in ["a", "b", "c", "d"].into_iter().enumerate() {
        folder.file(&format!("there/set/{name}"), &noise(3 * PIECE + 1000, i as u32 + 20));
    }
    let torrent = create(&folder, "set");
    let mut seeder = Running::start(&folder, &["--seed", "-d", "there", &torrent]);
    let addr = seeder.addr();
    let get = |list: &str| {
        let args = ["-x", "-d", "here", "--select", list, "--peer", &addr, &torrent];
        assert_eq!(Running::start(&folder, &args).end(), Some(0), "{}", errors(&folder));
    };
    get("2");
    let (there, here) = (folder.0.join("there/set"), folder.0.join("here/set"));
    assert_same(&there.join("b"), &here.join("b"));
    assert_eq!(fs::read_dir(&here).unwrap().count(), 1);
    // The bytes of its neighbours, in the pieces that they share with it, have a file of their own.
    let mut beside: Vec<_> =
        fs::read_dir(folder.0.join("here")).unwrap().map(|e| e.unwrap().file_name()).collect();
    beside.sort();
    let [part, set] = &beside[..] else { panic!("{beside:?}") };
    assert!(part.to_str().unwrap().starts_with(".set.") && set == "set", "{beside:?}");
    get("2-4");
    get("1-4");
    assert_same(&there, &here);
}

#[test]
fn signals_end_a_download_with_their_status() {
    for (signal, status) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let (folder, data, seeder) = scripted(&format!("signal-{status}"));
        let leech = half_way(&folder, &seeder, &[]);
        leech.signal(signal);
        assert_eq!(leech.end(), Some(status));
        seeder.allow(ALL);
        let before = seeder.served();
        let peer = seeder.addr.to_string();
        let args = ["-x", "-d", "here", "--peer", &peer, "file.torrent"];
        assert_eq!(Running::start(&folder, &args).end(), Some(0), "{}", errors(&folder));
        assert!(fs::read(folder.0.join("here/file")).unwrap() == data);
        // What was whole is not fetched again: of 40 blocks, a few were of pieces that were not.
        assert!(seeder.served() - before < 32 * 4 - 4, "{before} {}", seeder.served());
    }
}

#[test]
fn a_killed_download_goes_on() {
    let (folder, data, seeder) = scripted("kill");
    let leech = half_way(&folder, &seeder, &["--sequential"]);
    leech.signal(Signal::KILL);
    leech.end();
    seeder.allow(ALL);
    let peer = seeder.addr.to_string();
    assert_eq!(
        Running::start(&folder, &["-x", "-d", "here", "--peer", &peer, "file.torrent"]).end(),
        Some(0),
        "{}",
        errors(&folder)
    );
    assert!(fs::read(folder.0.join("here/file")).unwrap() == data);
}

/// What is done to the file of a running download, and the words that it then ends with.
#[track_caller]
fn ends_with(name: &str, mischief: impl Fn(&Path), words: &str) {
    for io in ["pwrite", "mmap"] {
        let (folder, _, seeder) = scripted(&format!("{name}-{io}"));
        let mut leech = half_way(&folder, &seeder, &["--disk-io", io]);
        mischief(&folder.0.join("here"));
        seeder.allow(ALL);
        let line = leech.line_with(&[r#""event":"error""#]);
        assert!(line.contains(words) && line.contains("here/file"), "{line}");
        assert_eq!(leech.end(), Some(1));
        let said = errors(&folder);
        assert!(said.starts_with("ptorrent: file: ") && said.lines().count() == 1, "{said}");
    }
}

#[test]
fn a_file_removed_in_mid_download_is_an_error() {
    ends_with("remove", |here| fs::remove_file(here.join("file")).unwrap(), "it was removed");
    ends_with("remove-all", |here| fs::remove_dir_all(here).unwrap(), "it was removed");
}

#[test]
fn a_file_cut_short_in_mid_download_is_an_error() {
    let cut =
        |here: &Path| fs::File::options().write(true).open(here.join("file")).unwrap().set_len(5).unwrap();
    ends_with("cut", cut, "cut short");
}

#[test]
fn a_file_put_in_place_of_ours_is_an_error_and_stays_as_it_is() {
    let theirs = noise(32 * PIECE, 99);
    let swap = |here: &Path| {
        fs::write(here.join("new"), &theirs).unwrap();
        fs::rename(here.join("file"), here.join("old")).unwrap();
        fs::rename(here.join("new"), here.join("file")).unwrap();
    };
    ends_with("swap", swap, "it was replaced");
}

#[test]
fn a_foreign_file_is_never_overwritten_unasked() {
    let (folder, data, seeder) = scripted("foreign");
    seeder.allow(ALL);
    let peer = seeder.addr.to_string();
    for len in [1, data.len(), data.len() + 1] {
        let theirs = noise(len, 31);
        folder.file("here/file", &theirs);
        let args = ["-x", "-d", "here", "--peer", &peer, "file.torrent"];
        let mut leech = Running::start(&folder, &args);
        leech.line_with(&[r#""event":"error""#, "here/file", "--overwrite"]);
        assert_eq!(leech.end(), Some(1));
        assert!(fs::read(folder.0.join("here/file")).unwrap() == theirs);
        assert_eq!(Running::start(&folder, &[&args[..], &["--overwrite"]].concat()).end(), Some(0));
        assert!(fs::read(folder.0.join("here/file")).unwrap() == data);
    }
}

#[test]
fn a_download_and_its_files_belong_to_one_process() {
    let (folder, data, seeder) = scripted("claim");
    let leech = half_way(&folder, &seeder, &[]);
    for args in [&["-x"][..], &["-s"], &["-x", "--overwrite"]] {
        let args = [args, &["-d", "here", "file.torrent"]].concat();
        let mut second = Running::start(&folder, &args);
        second.line_with(&[r#""event":"error""#, "process", "has it already"]);
        assert_eq!(second.end(), Some(1));
    }
    seeder.allow(ALL);
    assert_eq!(leech.end(), Some(0));
    assert!(fs::read(folder.0.join("here/file")).unwrap() == data);
}

#[test]
fn wrong_bytes_are_never_called_verified() {
    let (folder, data, good) = scripted("lies");
    let bad = Seeder::new("127.0.0.3", &data, PIECE, info_hash(&folder, "file.torrent"));
    bad.lie();
    bad.allow(ALL);
    let (liar, honest) = (bad.addr.to_string(), good.addr.to_string());
    let args = ["-x", "-d", "here", "--peer", &liar, "--peer", &honest, "file.torrent"];
    let mut leech = Running::start(&folder, &args);
    // The honest one serves nothing yet, so that the other has its say.
    leech.line_with(&[r#""event":"progress""#]);
    good.allow(ALL);
    assert_eq!(leech.end(), Some(0));
    assert!(fs::read(folder.0.join("here/file")).unwrap() == data);
    assert!(bad.served() == 0 || errors(&folder).contains("does not match its hash"), "{}", errors(&folder));
    assert!(run(&folder, &["verify", "-d", "here", "file.torrent"]).status.success());
}

/// Whether a test may mount something for itself; if not that is said.
fn may_mount() -> bool {
    let mount = ["-rm", "mount", "-t", "tmpfs", "tmpfs", "/tmp"];
    if Command::new("unshare").args(mount).output().is_ok_and(|output| output.status.success()) {
        return true;
    }
    assert!(std::env::var_os("CI").is_none(), "a mount namespace is needed");
    eprintln!("skipped: no mount namespace to be had");
    false
}

/// A download of `file.torrent` to a file system in memory, which `mount` makes at `small`.
fn small(folder: &Folder, mount: &str, args: &[&str]) -> Running {
    let mut shell = Command::new("unshare");
    shell.args(["-rm", "sh", "-c", &format!("{mount} && exec \"$0\" \"$@\""), PTORRENT]);
    Running::by(shell, folder, &[&["-b", "127.0.0.1", "-d", "small", "file.torrent"], args].concat())
}

#[test]
fn a_full_disk_halts_a_download_until_there_is_space() {
    if !may_mount() {
        return;
    }
    let (folder, data, seeder) = scripted("ballast");
    fs::create_dir(folder.0.join("small")).unwrap();
    seeder.allow(ALL);
    // Of 3 MiB two are taken until the test says so.
    let ballast = "mount -t tmpfs -o size=3M tmpfs small && head -c 2M /dev/zero > small/ballast && \
        { (for i in $(seq 1200); do [ -e go ] && break; sleep 0.1; done; rm small/ballast) >&- 2>&- & }";
    let peer = seeder.addr.to_string();
    let mut leech = small(&folder, ballast, &["--prealloc", "sparse", "--peer", &peer]);
    let addr = leech.addr();
    leech.line_with(&[r#""event":"error""#, "disk_full", "small/file", "bytes are still to come"]);
    leech.line_with(&[r#""event":"state""#, r#""state":"error""#]);
    // What is there can be had.
    let mut other = Leecher::new(&addr, info_hash(&folder, "file.torrent"), data.len(), PIECE);
    let pieces = other.pieces();
    assert!(pieces.len() >= 8 && pieces.len() < 32, "{pieces:?}");
    for (piece, bytes) in other.get(&pieces, Duration::ZERO).unwrap() {
        assert!(bytes == data[piece * PIECE..][..PIECE], "piece {piece}");
    }
    fs::write(folder.0.join("go"), "").unwrap();
    leech.line_with(&[r#""state":"downloading""#]);
    leech.line_with(&[r#""event":"complete""#]);
    leech.signal(Signal::INT);
    assert_eq!(leech.end(), Some(0));
    // Beside the warning at the start.
    assert_eq!(errors(&folder).lines().count(), 2, "{}", errors(&folder));
}

#[test]
fn a_download_that_found_no_space_begins_when_there_is_some() {
    if !may_mount() {
        return;
    }
    let (folder, _, seeder) = scripted("begin");
    fs::create_dir(folder.0.join("small")).unwrap();
    seeder.allow(ALL);
    let ballast = "mount -t tmpfs -o size=3M tmpfs small && head -c 2M /dev/zero > small/ballast && \
        { (for i in $(seq 1200); do [ -e go ] && break; sleep 0.1; done; rm small/ballast) >&- 2>&- & }";
    let mut leech = small(&folder, ballast, &["--peer", &seeder.addr.to_string()]);
    leech.line_with(&[r#""event":"error""#, "disk_full", "needs 2097152 bytes"]);
    fs::write(folder.0.join("go"), "").unwrap();
    leech.line_with(&[r#""event":"complete""#]);
    leech.signal(Signal::INT);
    assert_eq!(leech.end(), Some(0));
}

#[test]
fn a_full_disk_is_said_and_ends_the_download() {
    let small = |args: &[&str], folder: &Folder| {
        small(folder, "mount -t tmpfs -o size=1M tmpfs small", &[&["-x"], args].concat())
    };
    if !may_mount() {
        return;
    }
    let (folder, _, seeder) = scripted("full");
    fs::create_dir(folder.0.join("small")).unwrap();
    seeder.allow(ALL);
    let peer = seeder.addr.to_string();
    let mut leech = small(&["--peer", &peer], &folder);
    leech.line_with(&[r#""event":"error""#, "needs 2097152 bytes, 1048576 are free", "disk_full"]);
    assert_eq!(leech.end(), Some(1));
    for io in ["pwrite", "mmap"] {
        let mut leech = small(&["--prealloc", "sparse", "--disk-io", io, "--peer", &peer], &folder);
        leech.line_with(&[r#""event":"error""#, "small/file", "No space left on device", "disk_full"]);
        assert_eq!(leech.end(), Some(1), "{io}");
    }
}

/// How long a download of 8 MiB takes, each side with arguments of its own; from the start of the leecher.
fn eight_mib(name: &str, seed: &[&str], leech: &[&str]) -> Duration {
    let folder = Folder::new(name);
    folder.file("there/file", &noise(8 << 20, 41));
    let torrent = create(&folder, "file");
    let mut seeder = Running::start(&folder, &[&["--seed", "-d", "there", &torrent], seed].concat());
    let addr = seeder.addr();
    let start = Instant::now();
    let args = ["-x", "-d", "here", "--peer", &addr, &torrent];
    assert_eq!(Running::start(&folder, &[&args, leech].concat()).end(), Some(0), "{}", errors(&folder));
    let taken = start.elapsed();
    assert_same(&folder.0.join("there"), &folder.0.join("here"));
    taken
}

#[test]
fn a_limited_download_is_no_faster_than_its_limit() {
    // A quarter of a second's worth may come at once.
    let taken = eight_mib("down", &[], &["--max-download-rate", "2M"]);
    assert!(taken >= Duration::from_secs_f64(3.7), "{taken:?}");
}

#[test]
fn a_limited_upload_is_no_faster_than_its_limit() {
    let taken = eight_mib("up", &["--max-upload-rate", "2M"], &[]);
    assert!(taken >= Duration::from_secs_f64(3.7), "{taken:?}");
}

#[test]
fn a_seeder_ends_at_its_ratio_and_whom_it_served_has_all() {
    for round in 0..3 {
        let folder = Folder::new(&format!("ratio-{round}"));
        folder.file("there/file", &noise(8 << 20, 43));
        let torrent = create(&folder, "file");
        let mut seeder = Running::start(&folder, &["--seed", "--seed-ratio", "1", "-d", "there", &torrent]);
        let addr = seeder.addr();
        let leech = Running::start(&folder, &["-x", "-d", "here", "--peer", &addr, &torrent]);
        // It closes when the last byte is on its way: nothing of it may get lost.
        assert_eq!(seeder.end(), Some(0), "{}", errors(&folder));
        assert_eq!(leech.end(), Some(0), "{}", errors(&folder));
        assert_same(&folder.0.join("there"), &folder.0.join("here"));
    }
}

#[test]
fn a_seeder_at_its_ratio_waits_for_a_slow_reader() {
    let folder = Folder::new("slow-reader");
    let data = noise(4 << 20, 47);
    folder.file("there/file", &data);
    let torrent = create(&folder, "file");
    let mut seeder = Running::start(&folder, &["--seed", "--seed-ratio", "1", "-d", "there", &torrent]);
    let addr = seeder.addr();
    seeder.line_with(&[r#""state":"seeding""#]);
    let mut leech = Leecher::new(&addr, info_hash(&folder, &torrent), data.len(), PIECE);
    let pieces = leech.pieces();
    for (piece, bytes) in leech.get(&pieces, Duration::from_millis(10)).unwrap() {
        assert!(bytes == data[piece * PIECE..][..PIECE], "piece {piece}");
    }
    // It has announced all, so it is waited for no longer.
    assert_eq!(seeder.end(), Some(0), "{}", errors(&folder));
}
