//! The real program, killed, interrupted and started again: what it has is neither fetched nor hashed again.

use ptorrent::base::rng::Rng;
use ptorrent::proto::metainfo::Metainfo;
use ptorrent::proto::metainfo::build::{Content, Plan, build};
use rustix::process::{Pid, Signal, kill_process};
use sha1::{Digest, Sha1};
use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Lines, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

const BLOCK: usize = 16 << 10;
const PIECE: usize = 4 * BLOCK;

/// A folder that is gone after the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path =
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("resume-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What the seeder sent, and may send.
#[derive(Default)]
struct Served {
    /// How many runs there were before this one: connections of those are dead, whatever they still hold.
    run: usize,
    /// Blocks that it may still send.
    budget: usize,
    /// What it sent: piece and offset, in order.
    blocks: Vec<(u32, u32)>,
}

/// A seeder in threads of the test, which counts blocks and stops where it is told to.
struct Seeder {
    addr: SocketAddr,
    served: Arc<Mutex<Served>>,
}

impl Seeder {
    fn new(meta: &Metainfo, bytes: Vec<u8>) -> Seeder {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let served = Arc::new(Mutex::new(Served::default()));
        let (hash, pieces, shared) = (meta.info_hash.0, meta.layout.pieces(), served.clone());
        let bytes = Arc::new(bytes);
        #[expect(clippy::disallowed_methods, reason = "a peer of the test")]
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (bytes, served) = (bytes.clone(), shared.clone());
                // The program is killed in the midst of it all.
                thread::spawn(move || serve(stream.unwrap(), hash, pieces, &bytes, &served).err());
            }
        });
        Seeder { addr, served }
    }

    /// The program has ended, or is about to start.
    fn next_run(&self) {
        let mut served = self.served.lock().unwrap();
        (served.run, served.budget) = (served.run + 1, 0);
    }

    /// Lets this many blocks more go out.
    fn allow(&self, blocks: usize) {
        self.served.lock().unwrap().budget = blocks;
    }

    fn sent(&self) -> usize {
        self.served.lock().unwrap().blocks.len()
    }

    /// Waits until there is nothing left that it may send.
    fn wait_spent(&self) {
        while self.served.lock().unwrap().budget > 0 {
            thread::sleep(Duration::from_millis(1));
        }
    }

    fn pieces_after(&self, from: usize) -> BTreeSet<u32> {
        self.served.lock().unwrap().blocks[from..].iter().map(|(piece, _)| *piece).collect()
    }
}

fn serve(
    mut stream: TcpStream,
    hash: [u8; 20],
    pieces: u32,
    bytes: &[u8],
    served: &Mutex<Served>,
) -> std::io::Result<()> {
    let run = served.lock().unwrap().run;
    let mut shake = [0; 68];
    stream.read_exact(&mut shake)?;
    let head: &[u8] = b"\x13BitTorrent protocol\0\0\0\0\0\0\0\0";
    stream.write_all(&[head, &hash, b"-XX0000-seeder000000"].concat())?;
    let mut bits = vec![0xff; pieces.div_ceil(8) as usize];
    if !pieces.is_multiple_of(8) {
        *bits.last_mut().unwrap() = 0xff << (8 - pieces % 8);
    }
    stream.write_all(&[&(bits.len() as u32 + 1).to_be_bytes()[..], &[5], &bits].concat())?;
    stream.write_all(&[0, 0, 0, 1, 1])?;
    loop {
        let mut len = [0; 4];
        stream.read_exact(&mut len)?;
        let mut message = vec![0; u32::from_be_bytes(len) as usize];
        stream.read_exact(&mut message)?;
        if message.first() != Some(&6) {
            continue;
        }
        let number = |at: usize| u32::from_be_bytes(message[at..at + 4].try_into().unwrap());
        let (piece, begin, len) = (number(1), number(5), number(9));
        // A request that finds no budget is kept until there is some.
        loop {
            match take(served, run, piece, begin) {
                Take::Yes => break,
                Take::Later => thread::sleep(Duration::from_millis(1)),
                Take::Never => return Ok(()),
            }
        }
        let at = piece as usize * PIECE + begin as usize;
        let head = [&(len + 9).to_be_bytes()[..], &[7], &message[1..9]].concat();
        stream.write_all(&[&head, &bytes[at..at + len as usize]].concat())?;
    }
}

enum Take {
    Yes,
    Later,
    Never,
}

fn take(served: &Mutex<Served>, run: usize, piece: u32, begin: u32) -> Take {
    let mut served = served.lock().unwrap();
    if served.run != run {
        return Take::Never;
    }
    if served.budget == 0 {
        return Take::Later;
    }
    served.budget -= 1;
    served.blocks.push((piece, begin));
    Take::Yes
}

/// A run of the program.
struct Running {
    child: Child,
    out: Lines<BufReader<ChildStdout>>,
    err: Lines<BufReader<ChildStderr>>,
}

/// What a run says of its record.
#[derive(Debug)]
struct Believed {
    have: usize,
    hash: usize,
    partial: usize,
    blocks: usize,
}

impl Running {
    fn start(dir: &Path, state: &Path, seeder: Option<&Seeder>, more: &[&str]) -> Running {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ptorrent"));
        command.current_dir(dir).args(["--json", "-v", "-b", "127.0.0.1", "-p", "0", "-d", "data"]);
        command.args(["--no-dht", "--no-pex", "--no-lsd", "--encryption", "disabled"]).args(more);
        // No file at all: what the user of this machine has configured is not ours.
        command.args(["--config", ""]).arg("--state-dir").arg(state);
        if let Some(seeder) = seeder {
            seeder.next_run();
            command.arg("--peer").arg(seeder.addr.to_string());
        }
        let command = command.arg("t").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap()).lines();
        let err = BufReader::new(child.stderr.take().unwrap()).lines();
        Running { child, out, err }
    }

    #[track_caller]
    fn line_with(&mut self, text: &str) -> String {
        let found = self.out.by_ref().map_while(Result::ok).find(|line| line.contains(text));
        found.unwrap_or_else(|| {
            let err: Vec<_> = self.err.by_ref().map_while(Result::ok).collect();
            panic!("it ended without {text}: {err:?}")
        })
    }

    #[track_caller]
    fn believed(&mut self) -> Believed {
        let line = self.err.by_ref().map_while(Result::ok).find(|line| line.contains(" believed, "));
        let line = line.expect("it says what it believes");
        let (_, words) = line.split_once(" pieces: ").unwrap();
        let words: Vec<&str> = words.split_whitespace().collect();
        let number = |at: usize| words[at].parse().unwrap();
        Believed { have: number(0), hash: number(2), partial: number(5), blocks: number(8) }
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn end(mut self) -> Option<i32> {
        self.out.by_ref().map_while(Result::ok).for_each(drop);
        self.child.wait().unwrap().code()
    }

    fn interrupt(&self) {
        kill_process(Pid::from_child(&self.child), Signal::INT).unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A torrent of two files in a folder, as `t`, and a seeder of it.
fn torrent(folder: &Path, pieces: usize) -> (Seeder, Vec<u8>, u64) {
    let mut bytes = vec![0; pieces * PIECE];
    Rng::new([3; 32]).fill(&mut bytes);
    let hashes: Vec<u8> = bytes.chunks(PIECE).flat_map(|piece| Sha1::digest(piece).to_vec()).collect();
    let first = bytes.len() as u64 / 3;
    let files = [(vec!["a".to_owned()], first), (vec!["b".to_owned()], bytes.len() as u64 - first)];
    let torrent = build(&Plan::bare("top", Content::Many(&files), PIECE as u32, &hashes));
    fs::write(folder.join("t"), &torrent).unwrap();
    let seeder = Seeder::new(&Metainfo::parse(&torrent).unwrap(), bytes.clone());
    (seeder, bytes, first)
}

fn compare(folder: &Path, bytes: &[u8], first: u64) {
    let (a, b) = bytes.split_at(first as usize);
    assert!(fs::read(folder.join("data/top/a")).unwrap() == a, "a differs");
    assert!(fs::read(folder.join("data/top/b")).unwrap() == b, "b differs");
}

#[test]
fn killed_again_and_again_it_fetches_and_hashes_no_more_than_was_in_flight() {
    const PIECES: usize = 400;
    let folder = Folder::new("kill");
    let (seeder, bytes, first) = torrent(&folder.0, PIECES);
    let mut rng = Rng::new([1; 32]);
    // Pieces that may be in doubt, and blocks that were in flight at a kill: sent, and not of a piece that is had.
    let (mut doubt, mut again) = (BTreeSet::new(), 0);
    let (mut had, mut fetched) = (0, 0);
    for round in 0..36 {
        let before = seeder.sent();
        let mut run = Running::start(&folder.0, Path::new("state"), Some(&seeder), &["-x"]);
        if round % 6 == 5 {
            // In the midst of the start.
            thread::sleep(Duration::from_millis(rng.below(30).into()));
            run.kill();
            continue;
        }
        let believed = run.believed();
        assert!(
            believed.have >= had && believed.hash <= doubt.len(),
            "{round}: {believed:?}, {had} {doubt:?}"
        );
        assert_eq!(believed.partial, 0);
        again += fetched - ((believed.have - had) * PIECE / BLOCK).min(fetched);
        had = believed.have;
        run.line_with(r#""state":"downloading""#);
        seeder.allow(1 + rng.index(40));
        seeder.wait_spent();
        thread::sleep(Duration::from_millis(rng.below(12).into()));
        run.kill();
        doubt = seeder.pieces_after(before);
        fetched = seeder.sent() - before;
    }
    assert!(had > 50, "{had} pieces after 30 runs");
    let mut run = Running::start(&folder.0, Path::new("state"), Some(&seeder), &["-x"]);
    seeder.allow(usize::MAX);
    again += fetched - ((run.believed().have - had) * PIECE / BLOCK).min(fetched);
    run.line_with(r#""event":"complete""#);
    assert_eq!(run.end(), Some(0));
    let sent = seeder.sent();
    assert!(sent <= PIECES * PIECE / BLOCK + again, "{sent} blocks, {again} of them in flight at kills");
    compare(&folder.0, &bytes, first);
    // All is there: the next run hashes and fetches nothing, nor does one that seeds.
    for args in [&["-x"][..], &["-s"]] {
        let mut run = Running::start(&folder.0, Path::new("state"), None, args);
        let believed = run.believed();
        assert_eq!((believed.have, believed.hash), (PIECES, 0));
        run.line_with(r#""event":"complete""#);
        run.kill();
    }
    assert_eq!(seeder.sent(), sent);
}

#[test]
fn an_interrupted_download_goes_on_with_the_blocks_it_has() {
    const PIECES: usize = 40;
    let folder = Folder::new("interrupt");
    let (seeder, bytes, first) = torrent(&folder.0, PIECES);
    let mut run = Running::start(&folder.0, Path::new("state"), Some(&seeder), &["-x"]);
    seeder.allow(50);
    run.line_with(&format!(r#""downloaded":{},"#, 50 * BLOCK));
    run.interrupt();
    assert_eq!(run.end(), Some(130));
    let mut run = Running::start(&folder.0, Path::new("state"), Some(&seeder), &["-x"]);
    let believed = run.believed();
    assert_eq!((believed.hash, believed.have * PIECE / BLOCK + believed.blocks), (0, 50), "{believed:?}");
    assert!(believed.partial > 0);
    seeder.allow(usize::MAX);
    run.line_with(r#""event":"complete""#);
    assert_eq!(run.end(), Some(0));
    assert_eq!(seeder.sent(), PIECES * PIECE / BLOCK, "a block was fetched twice");
    compare(&folder.0, &bytes, first);
}

#[test]
fn a_first_check_that_is_interrupted_goes_on_where_it_was() {
    const PIECES: usize = 1000;
    let folder = Folder::new("check");
    let (_seeder, bytes, first) = torrent(&folder.0, PIECES);
    fs::create_dir_all(folder.0.join("data/top")).unwrap();
    let (a, b) = bytes.split_at(first as usize);
    fs::write(folder.0.join("data/top/a"), a).unwrap();
    fs::write(folder.0.join("data/top/b"), b).unwrap();
    for round in 0..6 {
        let mut run = Running::start(&folder.0, Path::new("state"), None, &["-s"]);
        let believed = run.believed();
        assert_eq!(believed.have + believed.hash, PIECES, "{round}: {believed:?}");
        // Mostly in the midst of the check.
        if round % 2 == 0 {
            run.interrupt();
            run.end();
        } else {
            run.kill();
        }
    }
    let mut run = Running::start(&folder.0, Path::new("state"), None, &["-s"]);
    run.line_with(r#""event":"complete""#);
    run.interrupt();
    assert_eq!(run.end(), Some(0));
    let believed = Running::start(&folder.0, Path::new("state"), None, &["-s"]).believed();
    assert_eq!((believed.have, believed.hash), (PIECES, 0));
}

#[test]
fn garbage_in_the_record_costs_a_check_and_no_more() {
    const PIECES: usize = 40;
    let folder = Folder::new("garbage");
    let (seeder, bytes, first) = torrent(&folder.0, PIECES);
    let mut run = Running::start(&folder.0, Path::new("state"), Some(&seeder), &["-x"]);
    seeder.allow(usize::MAX);
    run.line_with(r#""event":"complete""#);
    assert_eq!(run.end(), Some(0));
    let record = fs::read_dir(folder.0.join("state/resume")).unwrap().next().unwrap().unwrap().path();
    for garbage in [&b""[..], b"short", &[0xff; 100_000]] {
        fs::write(&record, garbage).unwrap();
        let mut run = Running::start(&folder.0, Path::new("state"), None, &["-x"]);
        let believed = run.believed();
        assert_eq!((believed.have, believed.hash), (0, PIECES));
        run.line_with(r#""event":"complete""#);
        assert_eq!(run.end(), Some(0));
    }
    // A byte that changed in a file is found, though the record is whole.
    let path = folder.0.join("data/top/b");
    let mut changed = bytes[first as usize..].to_vec();
    changed[500_000] ^= 1;
    fs::write(&path, changed).unwrap();
    let before = seeder.sent();
    let mut run = Running::start(&folder.0, Path::new("state"), Some(&seeder), &["-x"]);
    assert!(run.believed().have > 0);
    seeder.allow(usize::MAX);
    run.line_with(r#""event":"complete""#);
    assert_eq!(run.end(), Some(0));
    assert_eq!(seeder.sent() - before, PIECE / BLOCK);
    compare(&folder.0, &bytes, first);
}

#[test]
fn a_full_state_disk_stops_nothing() {
    let folder = Folder::new("full");
    let mount = format!("mount -t tmpfs -o size=8m none '{0}' && cd '{0}'", folder.0.display());
    let allowed = Command::new("unshare").args(["-m", "sh", "-c", &mount]).output();
    if !allowed.is_ok_and(|output| output.status.success()) {
        #[expect(clippy::print_stdout, reason = "a skip is told")]
        let () = println!("skipped: mounting a small file system is not permitted here");
        #[expect(clippy::disallowed_methods, reason = "whether a skip is allowed")]
        let ci = std::env::var_os("CI").is_some_and(|value| value == "true");
        assert!(!ci, "this test must not be skipped in CI");
        return;
    }
    let script = format!(r#"{mount} && exec "$0" "$@""#);
    let mut shell = Command::new("unshare");
    let shell = shell.args(["-m", "sh", "-c", &script]).arg(std::env::current_exe().unwrap());
    let status = shell.args(["--exact", "inside_a_full_state_disk", "--nocapture"]).status().unwrap();
    assert!(status.success());
}

/// Fills the file system of the test to the last byte.
fn fill(path: &str) {
    let mut file = fs::File::create(path).unwrap();
    while file.write_all(&[1; 4096]).is_ok() {}
}

/// Does nothing but in the small file system of the test above, where the state folder is; the data is elsewhere.
#[test]
fn inside_a_full_state_disk() {
    let here = rustix::fs::statvfs(".").unwrap();
    if here.f_blocks * here.f_frsize != 8 << 20 {
        return;
    }
    const PIECES: usize = 40;
    let folder = Folder::new("full-data");
    let (seeder, bytes, first) = torrent(&folder.0, PIECES);
    let state = std::env::current_dir().unwrap();
    fill("ballast");
    // No room for a record: that is said, and the download goes on.
    let mut run = Running::start(&folder.0, &state, Some(&seeder), &["-x"]);
    seeder.allow(20);
    let warning = run.err.by_ref().map(Result::unwrap).find(|line| line.contains("warning: "));
    assert!(warning.is_some_and(|line| line.contains("will not be remembered") && line.contains("No space")));
    seeder.wait_spent();
    run.kill();
    fs::remove_dir_all(folder.0.join("data")).unwrap();
    fs::remove_file("ballast").unwrap();
    // Once there is a record, a disk that gets full does not stop saving.
    let mut run = Running::start(&folder.0, &state, Some(&seeder), &["-x"]);
    run.line_with(r#""state":"downloading""#);
    fill("ballast");
    seeder.allow(50);
    run.line_with(&format!(r#""downloaded":{},"#, 50 * BLOCK));
    run.interrupt();
    assert_eq!(run.end(), Some(130));
    let mut run = Running::start(&folder.0, &state, Some(&seeder), &["-x"]);
    let believed = run.believed();
    assert_eq!((believed.hash, believed.have * PIECE / BLOCK + believed.blocks), (0, 50), "{believed:?}");
    seeder.allow(usize::MAX);
    run.line_with(r#""event":"complete""#);
    assert_eq!(run.end(), Some(0));
    compare(&folder.0, &bytes, first);
}
