//! Downloads as small machines have to do them: `cargo bench --bench small`. As root, on Linux.
//!
//! - `memory`: a torrent of 4 GiB in a memory cgroup of 64 MiB, against the same with plenty.
//! - `core`: on one core, the seeder on the other one, against both.
//! - `card`: to a file system on a device that takes 8 MiB a second. Meanwhile somebody else connects every 50 ms and
//!   waits for our handshake: how long that takes tells whether the net thread stalls.
//!
//! All files lie on the disk of `--dir`; tmpfs would be charged to the cgroup. What is written is compared.

#![allow(
    clippy::disallowed_methods,
    reason = "a benchmark reads the clock and starts threads; the rules guard the core"
)]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "its output is what it is for")]

mod card;
mod cgroup;
mod shared;

use std::error::Error;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use cgroup::Cgroup;
use shared::content::{self, Content};
use shared::guard::{self, at};
use shared::program::{self, Args, Common, Program};
use shared::seeder::Seeder;
use shared::usage::{self, Memory};

const PIECE: usize = 256 << 10;
/// Of content, again and again: a download of any size needs no more memory on the seeder's side.
const PART: usize = 64 << 20;
const SEEDER: &str = "127.66.0.1:0";
const LISTEN: &str = "127.66.0.2";
/// Nothing takes longer.
const PATIENCE: Duration = Duration::from_secs(600);

struct Options {
    common: Common,
    only: Vec<String>,
    limit: u64,
}

impl Program for Options {
    const NAME: &'static str = "small";
    const HELP: &'static str = "\
Usage: cargo bench --bench small -- [options]
  --only LIST       of memory,core,card (all)
  --rounds N        pairs of a run and one with plenty (5)
  --size MIB        of the torrent of `memory` (4096)
  --limit MIB       memory of the cgroup (64)
  --dir PATH        where the files are (below target)
  --ptorrent PATH   another ptorrent than the one just built";

    fn common(&mut self) -> Option<&mut Common> {
        Some(&mut self.common)
    }

    fn take(&mut self, option: &str, args: &mut Args) -> Result<bool, String> {
        match option {
            "--only" => self.only = args.words()?,
            "--limit" => self.limit = args.number()?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn check(&mut self) -> Result<(), String> {
        self.common.size = self.common.size.next_multiple_of(PART >> 20);
        Ok(())
    }

    fn run(&self) -> Result<(), Box<dyn Error>> {
        measure(self, &guard::make(&self.common.dir, "ptorrent-small-")?)
    }
}

fn main() -> ExitCode {
    let only = ["memory", "core", "card"].map(str::to_string).to_vec();
    program::main(Options { common: Common::new(5, 4096), only, limit: 64 })
}

fn measure(options: &Options, dir: &Path) -> Result<(), Box<dyn Error>> {
    let wants = |name: &str| options.only.iter().any(|each| each == name);
    let part = Arc::new(content::random(PART));
    if wants("memory") {
        let source = Source::start(&part, options.common.size << 20, dir)?;
        let group = Cgroup::memory(options.limit << 20)?;
        let name = format!("{} MiB of memory", options.limit);
        pairs(options, &source, &name, &|command| group.enter(command))?;
        println!("{name}: the most that was charged: {} MiB", group.peak()? >> 20);
    }
    if wants("core") {
        let source = Source::start(&part, 1 << 30, dir)?;
        pairs(options, &source, "one core", &|command| {
            let mut pinned = Command::new("taskset");
            pinned.args(["-c", "0"]).arg(command.get_program()).args(command.get_args());
            Ok(pinned)
        })?;
    }
    if wants("card") {
        card::measure(options, &part, dir)?;
    }
    Ok(())
}

/// A command as it is to be run here.
type Changed = Result<Command, Box<dyn Error>>;

/// Runs with what `change` makes of the command, each after one without.
fn pairs(
    options: &Options,
    source: &Source,
    name: &str,
    change: &dyn Fn(&Command) -> Changed,
) -> Result<(), Box<dyn Error>> {
    let mut ratios = Vec::new();
    for round in 1..=options.common.rounds {
        let plenty = source.run(options, as_it_is)?;
        println!("round {round}, plenty: {plenty}");
        let small = source.run(options, change)?;
        println!("round {round}, {name}: {small}");
        ratios.push(plenty.wall / small.wall);
    }
    ratios.sort_by(f64::total_cmp);
    println!("{name}: {:.2} of the speed with plenty (median of pairs)", ratios[ratios.len() / 2]);
    Ok(())
}

/// The same command.
pub(crate) fn as_it_is(command: &Command) -> Changed {
    let mut same = Command::new(command.get_program());
    same.args(command.get_args());
    Ok(same)
}

/// What one download took.
pub(crate) struct Sample {
    wall: f64,
    cpu: f64,
    memory: Memory,
    peers: usize,
}

impl std::fmt::Display for Sample {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Memory { anonymous, resident } = self.memory;
        write!(f, "{:.2} s, {:.2} CPU s, ", self.wall, self.cpu)?;
        write!(f, "{} KiB anonymous, {} KiB resident, {} connection(s)", anonymous, resident, self.peers)
    }
}

/// A torrent, its seeder and where it is downloaded to.
pub(crate) struct Source {
    seeder: Arc<Seeder>,
    content: Arc<Content>,
    part: Arc<Vec<u8>>,
    dir: PathBuf,
}

impl Source {
    pub(crate) fn start(part: &Arc<Vec<u8>>, size: usize, dir: &Path) -> Result<Source, Box<dyn Error>> {
        fs::create_dir_all(dir)?;
        let content = Arc::new(Content::repeated("file.bin", part, size / part.len(), PIECE));
        content.save(&dir.join("small.torrent"), None)?;
        let seeder = Seeder::start(SEEDER.parse()?, vec![Arc::clone(&content)])?;
        Ok(Source { seeder, content, part: Arc::clone(part), dir: dir.to_path_buf() })
    }

    /// One download, from the start of the process to its end.
    fn run(
        &self,
        options: &Options,
        change: impl FnOnce(&Command) -> Changed,
    ) -> Result<Sample, Box<dyn Error>> {
        let data = self.dir.join("data");
        let (sample, _) = self.run_at(options, &data, 0, change)?;
        Ok(sample)
    }

    /// As [`Source::run`], to the folder `data`; with a port, others knock there meanwhile. Returns the longest that
    /// one of them waited, too.
    pub(crate) fn run_at(
        &self,
        options: &Options,
        data: &Path,
        port: u16,
        change: impl FnOnce(&Command) -> Changed,
    ) -> Result<(Sample, Duration), Box<dyn Error>> {
        fs::create_dir_all(data).map_err(at(data))?;
        rustix::fs::syncfs(File::open(data)?)?;
        let connections = self.seeder.answered();
        let mut command = Command::new(&options.common.ptorrent);
        command
            .args([
                "--config",
                "",
                "-x",
                "-q",
                "--no-dht",
                "--no-pex",
                "--no-lsd",
                "--encryption",
                "disabled",
            ])
            .args(["-b", LISTEN, "-p", &port.to_string(), "--peer", &self.seeder.listen.to_string()])
            .arg("--state-dir")
            .arg(data.join("state"))
            .arg("-d")
            .arg(data)
            .arg(self.dir.join("small.torrent"));
        let mut command = change(&command)?;
        command.stdin(Stdio::null());
        let start = Instant::now();
        let mut child = guard::spawn(&mut command)?;
        let over = AtomicBool::new(false);
        let (sample, waited) = thread::scope(|scope| {
            let knocking = scope.spawn(|| if port == 0 { Duration::ZERO } else { self.knock(port, &over) });
            let mut memory = Memory::default();
            let ended = loop {
                if let Some(ended) = usage::wait(&child, false)? {
                    guard::ended(&child);
                    break ended;
                }
                memory.sample(&child);
                if start.elapsed() > PATIENCE {
                    child.kill()?;
                }
                thread::sleep(Duration::from_millis(5));
            };
            let wall = start.elapsed().as_secs_f64();
            over.store(true, Ordering::Relaxed);
            let waited = knocking.join().map_err(|_| "the one who knocks failed")?;
            if ended.status != 0 {
                return Err(Box::<dyn Error>::from("the download failed or was killed"));
            }
            let peers = self.seeder.answered() - connections;
            Ok((Sample { wall, cpu: ended.cpu.as_secs_f64(), memory, peers }, waited))
        })?;
        self.verify(&data.join("file.bin"))?;
        fs::remove_dir_all(data)?;
        Ok((sample, waited))
    }

    /// Connects again and again and waits for the handshake; returns the longest that took.
    fn knock(&self, port: u16, over: &AtomicBool) -> Duration {
        let address: SocketAddr = (LISTEN.parse::<std::net::IpAddr>().expect("an address"), port).into();
        let mut longest = Duration::ZERO;
        let (mut knocks, mut id) = (0, 0u64);
        while !over.load(Ordering::Relaxed) {
            let start = Instant::now();
            id += 1;
            if let Ok(true) = handshake(address, &self.content.info_hash, id) {
                longest = longest.max(start.elapsed());
                knocks += 1;
            }
            thread::sleep(Duration::from_millis(50));
        }
        println!("{knocks} handshakes were answered meanwhile, the slowest after {longest:.1?}");
        longest
    }

    fn verify(&self, path: &Path) -> Result<(), Box<dyn Error>> {
        let mut file = File::open(path).map_err(at(path))?;
        let mut found = vec![0; 1 << 20];
        for _ in 0..self.content.len() / self.part.len() {
            for wanted in self.part.chunks(1 << 20) {
                file.read_exact(&mut found)?;
                if found != wanted {
                    return Err("what it wrote differs".into());
                }
            }
        }
        Ok(())
    }
}

/// Whether our handshake is answered with one.
fn handshake(address: SocketAddr, info_hash: &[u8; 20], id: u64) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(20))?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    let peer_id = format!("-XB0001-{id:012}");
    let hello = [&b"\x13BitTorrent protocol"[..], &[0; 8], info_hash, peer_id.as_bytes()].concat();
    stream.write_all(&hello)?;
    let mut answer = [0; 68];
    stream.read_exact(&mut answer)?;
    Ok(answer[28..48] == info_hash[..])
}
