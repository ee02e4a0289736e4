//! What a thousand torrents cost that seed and are asked for nothing: `cargo bench --bench idle`.
//!
//! The files are sparse, so that all their pieces are zeros; sizes, numbers of pieces and of files are real ones. A
//! first run hashes and leaves the records, the one that is measured starts from them. A tracker in this process
//! answers that there is nobody.

#![allow(
    clippy::disallowed_methods,
    reason = "a benchmark reads the clock and starts threads; the rules guard the core"
)]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "its output is what it is for")]

use std::error::Error;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ptorrent::proto::metainfo::{Content, Plan, build};
use sha1::{Digest, Sha1};

const PIECE: u32 = 256 << 10;
const PIECES: u32 = 4096;
const HELP: &str = "\
Usage: cargo bench --bench idle -- [options]
  --torrents N      torrents of one file of 1 GiB in 4,096 pieces (1000)
  --wide N          torrents of 10,000 files of 100 KiB besides (5)
  --seconds N       how long to watch (60); 0: memory and time of the start only
  --dir PATH        where files, torrents and records are (below target)
  --ptorrent PATH   another ptorrent than the one just built";

struct Options {
    torrents: usize,
    wide: usize,
    span: Duration,
    dir: PathBuf,
    ptorrent: PathBuf,
}

impl Options {
    /// None: help is wanted.
    fn parse(mut args: impl Iterator<Item = String>) -> Result<Option<Options>, String> {
        let mut options = Options {
            torrents: 1000,
            wide: 5,
            span: Duration::from_secs(60),
            dir: PathBuf::from(env!("CARGO_TARGET_TMPDIR")),
            ptorrent: PathBuf::from(env!("CARGO_BIN_EXE_ptorrent")),
        };
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or(format!("{arg} needs a value"));
            let number = |text: String| text.parse::<usize>().map_err(|_| format!("{text} is no number"));
            match arg.as_str() {
                // Cargo gives this to every benchmark.
                "--bench" => {}
                "--torrents" => options.torrents = number(value()?)?,
                "--wide" => options.wide = number(value()?)?,
                "--seconds" => options.span = Duration::from_secs(number(value()?)? as u64),
                "--dir" => options.dir = value()?.into(),
                "--ptorrent" => options.ptorrent = value()?.into(),
                "-h" | "--help" => return Ok(None),
                _ => return Err(format!("{arg} is no option")),
            }
        }
        Ok(Some(options))
    }
}

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(Some(options)) => options,
        Ok(None) => {
            println!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Err(message) => {
            eprintln!("idle: {message}\n{HELP}");
            return ExitCode::from(2);
        }
    };
    let dir = options.dir.join("ptorrent-idle");
    let _ = fs::remove_dir_all(&dir);
    let result = measure(&options, &dir);
    let _ = fs::remove_dir_all(&dir);
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("idle: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(options: &Options, dir: &Path) -> Result<(), Box<dyn Error>> {
    let announces = Arc::new(AtomicUsize::new(0));
    let tracker = tracker(Arc::clone(&announces))?;
    fs::create_dir_all(dir.join("data"))?;
    let url = format!("http://{tracker}/announce");
    let mut torrents = Vec::new();
    for n in 0..options.torrents {
        torrents.push(plain(dir, n, &url)?);
    }
    for n in 0..options.wide {
        torrents.push(wide(dir, n, &url)?);
    }
    println!("{} torrents, {} of them with 10,000 files", torrents.len(), options.wide);
    let (mut first, took) = start(options, dir, &torrents)?;
    println!("first start, all hashed: {:.1} s", took.as_secs_f64());
    show(first.id())?;
    // What was hashed is made durable after a while, once.
    if !options.span.is_zero() {
        settle(&mut first)?;
    }
    stop(first)?;
    let before = announces.load(Ordering::Relaxed);
    let (mut child, took) = start(options, dir, &torrents)?;
    println!("start from the records, all seeding: {:.2} s", took.as_secs_f64());
    show(child.id())?;
    if options.span.is_zero() {
        return stop(child);
    }
    // Announces take their turn: the rest that follows is to be measured.
    let patience = Instant::now() + Duration::from_secs(60);
    while announces.load(Ordering::Relaxed) < before + torrents.len() && Instant::now() < patience {
        thread::sleep(Duration::from_millis(100));
    }
    println!("announces made: {}", announces.load(Ordering::Relaxed) - before);
    settle(&mut child)?;
    let (cpu, switches) = used(child.id())?;
    thread::sleep(options.span);
    let (cpu, switches) = (used(child.id())?.0 - cpu, used(child.id())?.1 - switches);
    let share = cpu.as_secs_f64() / options.span.as_secs_f64() * 100.0;
    println!(
        "idle for {:?}: {cpu:.1?} of processor time, {share:.3} % of a core; {switches} wake-ups",
        options.span
    );
    show(child.id())?;
    stop(child)?;
    Ok(())
}

/// Waits until next to nothing is done any more.
fn settle(child: &mut Child) -> Result<(), Box<dyn Error>> {
    let begun = Instant::now();
    thread::sleep(Duration::from_secs(35));
    loop {
        let before = used(child.id())?.0;
        thread::sleep(Duration::from_secs(5));
        if child.try_wait()?.is_some() {
            return Err("ptorrent has ended".into());
        }
        if used(child.id())?.0 - before < Duration::from_millis(20)
            || begun.elapsed() > Duration::from_secs(120)
        {
            println!("settled after {:.0?}", begun.elapsed());
            return Ok(());
        }
    }
}

/// A torrent of one file.
fn plain(dir: &Path, n: usize, url: &str) -> Result<PathBuf, Box<dyn Error>> {
    let name = format!("plain-{n}");
    let len = u64::from(PIECE) * u64::from(PIECES);
    File::create(dir.join("data").join(&name))?.set_len(len)?;
    save(dir, &name, Content::Single(len), url)
}

/// A torrent of many files.
fn wide(dir: &Path, n: usize, url: &str) -> Result<PathBuf, Box<dyn Error>> {
    let name = format!("wide-{n}");
    let mut files = Vec::new();
    for at in 0..10_000 {
        let path = vec![format!("folder-{}", at / 100), format!("some-file-{at:05}.jpeg")];
        let place = dir.join("data").join(&name).join(path.join("/"));
        if at % 100 == 0 {
            fs::create_dir_all(place.parent().ok_or("no parent")?)?;
        }
        File::create(place)?.set_len(100 << 10)?;
        files.push((path, 100 << 10));
    }
    save(dir, &name, Content::Many(&files), url)
}

fn save(dir: &Path, name: &str, content: Content<'_>, url: &str) -> Result<PathBuf, Box<dyn Error>> {
    let total = match content {
        Content::Single(len) => len,
        Content::Many(files) => files.iter().map(|(_, len)| len).sum(),
    };
    let zeros = vec![0; PIECE as usize];
    let whole: [u8; 20] = Sha1::digest(&zeros).into();
    let mut hashes = whole.repeat((total / u64::from(PIECE)) as usize);
    let rest = (total % u64::from(PIECE)) as usize;
    if rest > 0 {
        hashes.extend_from_slice(&Sha1::digest(&zeros[..rest]));
    }
    let trackers = [vec![url.to_owned()]];
    let bytes = build(&Plan { trackers: &trackers, ..Plan::bare(name, content, PIECE, &hashes) });
    let path = dir.join(format!("{name}.torrent"));
    fs::write(&path, bytes)?;
    Ok(path)
}

/// A tracker that knows nobody; counts who asks.
fn tracker(announces: Arc<AtomicUsize>) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let addr = listener.local_addr()?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            if answer(stream).is_ok() {
                announces.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    Ok(addr)
}

fn answer(mut stream: TcpStream) -> io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let (mut head, mut chunk) = (Vec::new(), [0; 2048]);
    while !head.ends_with(b"\r\n\r\n") {
        let n = stream.read(&mut chunk)?;
        if n == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        head.extend_from_slice(&chunk[..n]);
    }
    let body = "d8:intervali1800e5:peers0:e";
    write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
}

/// Starts ptorrent with all torrents; gives it, and how long it took until all seed.
fn start(options: &Options, dir: &Path, torrents: &[PathBuf]) -> Result<(Child, Duration), Box<dyn Error>> {
    let begun = Instant::now();
    let mut child = Command::new(&options.ptorrent)
        .args(["-s", "--json", "--no-dht", "--no-pex", "--no-lsd", "-p", "0", "-b", "127.0.0.1"])
        .args(["--config", "", "-d"])
        .arg(dir.join("data"))
        .arg("--state-dir")
        .arg(dir.join("state"))
        .args(torrents)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let out = BufReader::new(child.stdout.take().ok_or("no standard output")?);
    let (sender, receiver) = std::sync::mpsc::channel();
    thread::spawn(move || {
        // All of it is read to the end, or the child would stand still.
        for line in out.lines().map_while(Result::ok) {
            if line.contains(r#""event":"state""#) {
                let _ = sender.send(line);
            }
        }
    });
    let mut seeding = 0;
    while seeding < torrents.len() {
        let line = receiver.recv_timeout(Duration::from_secs(600))?;
        if line.contains(r#""state":"error""#) {
            let _ = child.kill();
            return Err(line.into());
        }
        seeding += usize::from(line.contains(r#""state":"seeding""#));
    }
    Ok((child, begun.elapsed()))
}

fn stop(mut child: Child) -> Result<(), Box<dyn Error>> {
    let begun = Instant::now();
    Command::new("kill").arg(child.id().to_string()).status()?;
    let status = child.wait()?;
    println!("stopped in {:.1} s: {status}", begun.elapsed().as_secs_f64());
    Ok(())
}

/// Processor time and voluntary switches of all threads.
fn used(pid: u32) -> Result<(Duration, u64), Box<dyn Error>> {
    let (mut nanos, mut switches) = (0, 0);
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let task = task?.path();
        let times = fs::read_to_string(task.join("schedstat"))?;
        nanos += times.split_whitespace().next().ok_or("no schedstat")?.parse::<u64>()?;
        switches += field(&fs::read_to_string(task.join("status"))?, "voluntary_ctxt_switches:");
    }
    Ok((Duration::from_nanos(nanos), switches))
}

fn field(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

fn show(pid: u32) -> Result<(), Box<dyn Error>> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let mib = |name| field(&status, name) as f64 / 1024.0;
    let files = fs::read_dir(format!("/proc/{pid}/fd"))?.count();
    let threads = fs::read_dir(format!("/proc/{pid}/task"))?.count();
    println!(
        "  memory: {:.1} MiB anonymous, {:.1} MiB resident, {:.1} MiB at most; {files} descriptors, {threads} threads",
        mib("RssAnon:"),
        mib("VmRSS:"),
        mib("VmHWM:")
    );
    Ok(())
}
