//! A download from one peer over a long link, against one TCP stream of iperf3 on the same link:
//! `cargo bench --bench links`. As root, on Linux, with iproute2 and iperf3.
//!
//! The link is between two network namespaces, each with a TUN device; a thread for each direction passes packets on
//! at the link's rate, after its delay, and loses some by chance. Both ends are ptorrent. Times are from the start of
//! the leecher's process to its end, and of iperf3 what it says itself.

#![allow(
    clippy::disallowed_methods,
    reason = "a benchmark reads the clock and starts threads; the rules guard the core"
)]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "its output is what it is for")]

mod link;
mod shared;

use std::error::Error;
use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use link::{Line, Link};
use shared::content;
use shared::guard::{self, at};
use shared::program::{self, Args, Common, Program};

struct Options {
    common: Common,
    rate: u64,
    trip: u64,
    loss: Vec<u32>,
}

impl Program for Options {
    const NAME: &'static str = "links";
    const HELP: &'static str = "\
Usage: cargo bench --bench links -- [options]
  --rounds N        pairs of a stream and a download (5)
  --size MIB        what is sent (256)
  --rate MBIT       of the link, each way (200)
  --trip MS         there and back (100)
  --loss LIST       packets lost of 1,000, each way (0,10)
  --dir PATH        where the files are (below target)
  --ptorrent PATH   another ptorrent than the one just built";

    fn common(&mut self) -> Option<&mut Common> {
        Some(&mut self.common)
    }

    fn take(&mut self, option: &str, args: &mut Args) -> Result<bool, String> {
        let number = |text: String| text.parse().map_err(|_| format!("--loss: {text} is no number"));
        match option {
            "--rate" => self.rate = args.number()?,
            "--trip" => self.trip = args.number()?,
            "--loss" => self.loss = args.words()?.into_iter().map(number).collect::<Result<_, _>>()?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn run(&self) -> Result<(), Box<dyn Error>> {
        measure(self, &guard::make(&self.common.dir, "ptorrent-links-")?)
    }
}

fn main() -> ExitCode {
    program::main(Options { common: Common::new(5, 256), rate: 200, trip: 100, loss: vec![0, 10] })
}

fn measure(options: &Options, dir: &Path) -> Result<(), Box<dyn Error>> {
    let seed = dir.join("seed/file.bin");
    fs::create_dir_all(dir.join("seed")).map_err(at(dir))?;
    fs::write(&seed, content::random(options.common.size << 20)).map_err(at(&seed))?;
    let torrent = dir.join("link.torrent");
    let mut create = Command::new(&options.common.ptorrent);
    create.args(["create", "-l", "256K", "-o"]).arg(&torrent).arg(dir.join("seed/file.bin"));
    if !create.stdout(Stdio::null()).status()?.success() {
        return Err("the torrent could not be made".into());
    }
    for loss in &options.loss {
        let line = Line {
            rate: options.rate * 1_000_000 / 8,
            delay: Duration::from_millis(options.trip) / 2,
            loss: *loss,
        };
        let link = Link::make(line)?;
        let mut ratios = Vec::new();
        let name = format!("{} Mbit/s, {} ms, {} of 1,000 lost", options.rate, options.trip, loss);
        for round in 1..=options.common.rounds {
            let stream = stream(&link, options.common.size)?;
            let download = download(&link, options, dir)?;
            println!("{name}: round {round}: iperf3 {stream:.1} Mbit/s, ptorrent {download:.1} Mbit/s");
            ratios.push(download / stream);
        }
        ratios.sort_by(f64::total_cmp);
        println!("{name}: {:.2} of one stream of iperf3 (median of pairs)", ratios[ratios.len() / 2]);
    }
    Ok(())
}

/// What one TCP stream gets, in Mbit/s.
fn stream(link: &Link, size: usize) -> Result<f64, Box<dyn Error>> {
    let mut server = link.command(0, Path::new("iperf3"));
    let mut server = Reaped(guard::spawn(server.args(["-s", "-1"]).stdout(Stdio::null()))?);
    guard::pause(Duration::from_millis(300))?;
    let mut client = link.command(1, Path::new("iperf3"));
    client.args(["-c", link::ADDRESSES[0], "-R", "-J", "-n", &format!("{size}M")]);
    let client = guard::spawn(client.stdout(Stdio::piped()))?;
    let output = client.wait_with_output()?;
    server.0.wait()?;
    let text = String::from_utf8(output.stdout)?;
    let received = text.rsplit("\"sum_received\":").next().filter(|_| output.status.success());
    let rate = received.and_then(|text| {
        let rest = text.split("\"bits_per_second\":").nth(1)?;
        rest.split([',', '}']).next()?.trim().parse::<f64>().ok()
    });
    Ok(rate.ok_or_else(|| format!("iperf3: {text}"))? / 1e6)
}

/// What a download gets, in Mbit/s.
fn download(link: &Link, options: &Options, dir: &Path) -> Result<f64, Box<dyn Error>> {
    // Free in our namespace, so nobody listens there in the new ones, where nobody listens at all.
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let leech = dir.join("leech");
    let start = |at: usize, state: &str| {
        let mut command = link.command(at, &options.common.ptorrent);
        command
            .args(["--config", "", "-q", "--no-dht", "--no-pex", "--no-lsd", "--state-dir"])
            .arg(dir.join(state));
        command.arg(dir.join("link.torrent")).stdin(Stdio::null());
        command
    };
    let mut seeder = start(0, "state-seed");
    seeder.arg("-s").arg("-d").arg(dir.join("seed")).args([
        "-b",
        link::ADDRESSES[0],
        "-p",
        &port.to_string(),
    ]);
    let _seeder = Reaped(guard::spawn(&mut seeder)?);
    // It hashes first; one that is called too early is called again after seconds.
    guard::pause(Duration::from_secs(2))?;
    let mut command = start(1, "state-leech");
    command.arg("-x").arg("-d").arg(&leech).args(["-b", link::ADDRESSES[1]]);
    command.args(["--peer", &format!("{}:{port}", link::ADDRESSES[0])]);
    let begun = Instant::now();
    let status = guard::spawn(&mut command)?.wait()?;
    let took = begun.elapsed().as_secs_f64();
    if !status.success() {
        return Err("the download failed".into());
    }
    let same = fs::read(leech.join("file.bin"))? == fs::read(dir.join("seed/file.bin"))?;
    fs::remove_dir_all(&leech)?;
    if !same {
        return Err("what it wrote differs".into());
    }
    Ok((options.common.size << 20) as f64 * 8.0 / 1e6 / took)
}

/// A child that is not left behind.
struct Reaped(Child);

impl Drop for Reaped {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
        guard::ended(&self.0);
    }
}
