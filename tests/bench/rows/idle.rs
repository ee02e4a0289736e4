//! What torrents cost that seed and are asked for nothing: one, and a thousand with some of 10,000 files.
//!
//! The files are sparse, so that all their pieces are zeros; sizes, numbers of pieces and of files are real ones. A
//! first run hashes and leaves the records, the one that is measured starts from them. A tracker in this process
//! answers that there is nobody.

use std::error::Error;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use ptorrent::proto::metainfo::{Content, Plan, build};
use sha1::{Digest, Sha1};

use super::{Room, ip};
use crate::options::Options;
use crate::place::Place;
use crate::result::Figure;
use crate::shared::calls::Counter;
use crate::shared::guard::pause;
use crate::shared::one_peer;
use crate::shared::process::{PATIENCE, Process};
use crate::shared::usage::{field, switches};

const PIECE: u32 = 256 << 10;
const PIECES: u32 = 4096;
/// Files of the wide torrents.
const FILES: usize = 10_000;
/// One in so many torrents is wide.
const WIDE: usize = 200;
/// What was hashed is made durable after half a minute, once: the rest that follows is to be measured.
const SETTLE: Duration = Duration::from_secs(35);

/// `count` torrents at rest.
pub(super) fn run(
    options: &Options,
    place: &Place,
    count: usize,
    counter: Option<Counter>,
) -> Result<Vec<Figure>, Box<dyn Error>> {
    let room = Room::new(place)?;
    let result = measure(options, &room, count, counter);
    fs::remove_dir_all(&room.dir)?;
    result
}

fn measure(
    options: &Options,
    room: &Room<'_>,
    count: usize,
    counter: Option<Counter>,
) -> Result<Vec<Figure>, Box<dyn Error>> {
    let (data, home) = (room.make("data")?, room.make("home")?);
    let url = one_peer::start((ip(0, 1), 0).into(), &[])?;
    println!("making {count} torrents");
    let mut torrents = Vec::new();
    for n in 0..count {
        torrents.push(if n % WIDE == WIDE - 1 {
            wide(room, &data, n, &url)?
        } else {
            plain(room, &data, n, &url)?
        });
    }
    println!("hashing them");
    let (mut first, hashed) = start(options, &data, &home, &torrents)?;
    let most = first.memory;
    end(&mut first)?;
    let (mut process, began) = start(options, &data, &home, &torrents)?;
    println!("{count} torrents seed, after {began:.2?}; waiting until they rest");
    settle(&mut process, options.quick)?;
    if let Some(counter) = counter {
        process.attach(counter)?;
    }
    let span = Duration::from_secs(options.seconds as u64);
    println!("watching for {span:?}");
    let (cpu, woken) = (process.cpu()?, switches(process.id())?);
    pause(span)?;
    let (cpu, woken) = (process.cpu()? - cpu, switches(process.id())? - woken);
    let calls = process.calls();
    let status = fs::read_to_string(format!("/proc/{}/status", process.id()))?;
    let mib = |name| field(&status, name) as f64 / 1024.0;
    let minute = |value: u64| value as f64 * 60.0 / span.as_secs_f64();
    end(&mut process)?;
    let mut figures = vec![
        Figure::new("all hashed, first start", hashed.as_secs_f64(), "s"),
        Figure::new("most anonymous memory of that", most.anonymous as f64 / 1024.0, "MiB"),
        Figure::new("all seeding, from the records", began.as_secs_f64(), "s"),
        Figure::new("processor", cpu.as_secs_f64() / span.as_secs_f64() * 100.0, "% of a core"),
        Figure::new("wake-ups", minute(woken), "a minute"),
    ];
    figures.extend(calls.map(|calls| Figure::new("system calls", minute(calls), "a minute")));
    figures.extend([
        Figure::new("anonymous memory", mib("RssAnon:"), "MiB"),
        Figure::new("resident at most", mib("VmHWM:"), "MiB"),
    ]);
    Ok(figures)
}

/// Starts ptorrent with all torrents; gives it, and how long it took until all seed.
fn start(
    options: &Options,
    data: &Path,
    home: &Path,
    torrents: &[PathBuf],
) -> Result<(Process, Duration), Box<dyn Error>> {
    let mut command = Command::new(&options.common.ptorrent);
    command
        .args(["-s", "--json", "--no-dht", "--no-pex", "--no-lsd", "-p", "0", "-b", "127.66.0.2"])
        .args(["--config", "", "-d"])
        .arg(data)
        .arg("--state-dir")
        .arg(home.join("state"))
        .args(torrents);
    let mut process = Process::start(&mut command, home, None)?;
    loop {
        let seeding = process.output().matches(r#""state":"seeding""#).count();
        if seeding >= torrents.len() {
            let took = process.start.elapsed();
            return Ok((process, took));
        }
        if process.look()?.is_some() || process.said(r#""state":"error""#) {
            return Err(process.failed());
        }
        if process.start.elapsed() > PATIENCE {
            return Err("not all of them seed".into());
        }
        // Reading what it says is work as well.
        pause(Duration::from_millis(if torrents.len() > 1 { 50 } else { 2 }))?;
    }
}

/// Asks it to end, so that it leaves its records.
fn end(process: &mut Process) -> Result<(), Box<dyn Error>> {
    process.signal(rustix::process::Signal::TERM)?;
    let patience = Instant::now() + PATIENCE;
    while process.look()?.is_none() {
        if Instant::now() > patience {
            return Err("it does not end".into());
        }
        pause(Duration::from_millis(20))?;
    }
    Ok(())
}

/// Waits until next to nothing is done any more.
fn settle(process: &mut Process, quick: bool) -> Result<(), Box<dyn Error>> {
    let begun = Instant::now();
    pause(if quick { Duration::from_secs(1) } else { SETTLE })?;
    loop {
        let before = process.cpu()?;
        pause(Duration::from_secs(1))?;
        if process.look()?.is_some() {
            return Err(process.failed());
        }
        if process.cpu()? - before < Duration::from_millis(2) || begun.elapsed() > Duration::from_secs(120) {
            return Ok(());
        }
    }
}

/// A torrent of one file.
fn plain(room: &Room<'_>, data: &Path, n: usize, url: &str) -> Result<PathBuf, Box<dyn Error>> {
    let name = format!("plain-{n}");
    let len = u64::from(PIECE) * u64::from(PIECES);
    File::create(data.join(&name))?.set_len(len)?;
    save(room, &name, Content::Single(len), url)
}

/// A torrent of many files.
fn wide(room: &Room<'_>, data: &Path, n: usize, url: &str) -> Result<PathBuf, Box<dyn Error>> {
    let name = format!("wide-{n}");
    let mut files = Vec::new();
    for at in 0..FILES {
        let path = vec![format!("folder-{}", at / 100), format!("some-file-{at:05}.jpeg")];
        let place = data.join(&name).join(path.join("/"));
        if at % 100 == 0 {
            fs::create_dir_all(place.parent().ok_or("no parent")?)?;
        }
        File::create(place)?.set_len(100 << 10)?;
        files.push((path, 100 << 10));
    }
    save(room, &name, Content::Many(&files), url)
}

fn save(room: &Room<'_>, name: &str, content: Content<'_>, url: &str) -> Result<PathBuf, Box<dyn Error>> {
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
    let path = room.dir.join(format!("{name}.torrent"));
    fs::write(&path, bytes)?;
    Ok(path)
}
