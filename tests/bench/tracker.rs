//! `ptorrent tracker` beside opentracker: processor time of the server for UDP announces, and bytes a peer.
//! `cargo bench --no-default-features --bench tracker`. Both get the same load, by turns: a million peers
//! announce once, then peers among them announce again and are told of 50 others.

#![allow(clippy::disallowed_methods, reason = "a benchmark measures and starts threads")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "its output is what it is for")]

mod shared;

use ptorrent::base::rng::Rng;
use ptorrent::proto::id::InfoHash;
use ptorrent::proto::tracker::udp::{self, Answer};
use ptorrent::proto::tracker::{Event, Request};
use shared::guard;
use shared::program::{self, Common, Program};
use shared::usage::{self, Memory};
use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::io::{self, BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

const PEERS: u32 = 1_000_000;
const AGAIN: u32 = 1_000_000;
/// Each at an address of its own, as clients are; ports tell the peers of one apart.
const HOSTS: u32 = 500;
/// Queries of one host that are under way together: what fits its receive buffer, answered with 50 peers.
const WINDOW: u32 = 50;
/// Threads that make load.
const THREADS: u32 = 2;

fn hash(n: u32) -> InfoHash {
    let mut hash = [0xab; 20];
    hash[..4].copy_from_slice(&n.to_be_bytes());
    InfoHash(hash)
}

/// A tracker process, killed when it is dropped.
struct Server {
    child: Child,
    addr: SocketAddr,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        guard::ended(&self.child);
    }
}

impl Server {
    fn ptorrent(program: &Path) -> io::Result<Server> {
        let mut command = Command::new(program);
        command.args(["tracker", "-b", "127.0.0.1", "-p", "0"]);
        let mut child = guard::spawn(command.stdin(Stdio::null()).stdout(Stdio::piped()))?;
        let mut line = String::new();
        if let Some(out) = child.stdout.take() {
            BufReader::new(out).read_line(&mut line)?;
        }
        let place = line.split_once("http://").and_then(|(_, rest)| rest.split_once("/announce"));
        let addr = place.and_then(|(addr, _)| addr.parse().ok());
        Ok(Server { addr: addr.ok_or_else(|| io::Error::other(line.clone()))?, child })
    }

    /// Debian's serves the torrents of a list only; started as root it goes into its folder first.
    fn opentracker(folder: &Path, torrents: u32) -> io::Result<Server> {
        let mut list = String::new();
        for n in 0..torrents {
            let _ = writeln!(list, "{}", hash(n));
        }
        fs::write(folder.join("list"), list)?;
        let addr = UdpSocket::bind("127.0.0.1:0")?.local_addr()?;
        let port = addr.port().to_string();
        let mut command = Command::new("opentracker");
        command.args(["-i", "127.0.0.1", "-p", &port, "-P", &port, "-w", "list", "-d"]).arg(folder);
        let child =
            command.current_dir(folder).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let server = Server { child: guard::spawn(child)?, addr };
        // It says nothing when it is ready.
        guard::pause(Duration::from_secs(1))?;
        Ok(server)
    }

    /// Processor time so far, user and system.
    fn cpu(&self) -> io::Result<Duration> {
        usage::cpu_of(&self.child)
    }

    /// Bytes of its own memory.
    fn memory(&self) -> u64 {
        let mut memory = Memory::default();
        memory.sample(&self.child);
        1024 * memory.anonymous
    }
}

/// One host: its socket, and its connection id.
struct Host {
    socket: UdpSocket,
    connection: u64,
    number: u32,
}

impl Host {
    fn new(number: u32, server: SocketAddr) -> io::Result<Host> {
        let [.., third, fourth] = (number + 1).to_be_bytes();
        let socket = UdpSocket::bind((Ipv4Addr::new(127, 9, third, fourth), 0))?;
        socket.connect(server)?;
        socket.set_read_timeout(Some(Duration::from_millis(200)))?;
        let mut host = Host { socket, connection: 0, number };
        let (mut query, mut answer) = (Vec::new(), [0; 64]);
        udp::connect(&mut query, 1);
        for _ in 0..50 {
            host.socket.send(&query)?;
            if let Ok(len) = host.socket.recv(&mut answer)
                && let Ok((_, Answer::Connected { connection })) = udp::answer(&answer[..len])
            {
                host.connection = connection;
                return Ok(host);
            }
        }
        Err(io::Error::other("the tracker does not answer"))
    }

    /// Sends these announces and takes the answers; tells how many came.
    fn announce(&self, peers: impl Iterator<Item = u32>, torrents: u32, numwant: u32) -> io::Result<u32> {
        let (mut sent, mut came) = (0, 0);
        let (mut query, mut answer) = (Vec::new(), [0; 2048]);
        for peer in peers {
            let request = Request {
                info_hash: hash(peer % torrents),
                peer_id: [b'x'; 20],
                port: 1024 + (peer / torrents) as u16,
                uploaded: 0,
                downloaded: 0,
                left: u64::from(!peer.is_multiple_of(4)),
                event: Event::None,
                numwant,
                key: self.number,
                tracker_id: None,
            };
            query.clear();
            udp::announce(&mut query, self.connection, peer, &request, "/");
            self.socket.send(&query)?;
            sent += 1;
        }
        while came < sent {
            match self.socket.recv(&mut answer) {
                Ok(len) if matches!(udp::answer(&answer[..len]), Ok((_, Answer::Announced(_)))) => came += 1,
                Ok(_) => return Err(io::Error::other("the tracker refuses")),
                Err(_) => break,
            }
        }
        Ok(came)
    }
}

/// Has every host announce: each its share of the peers once, or `again` announces of such peers at random.
fn load(hosts: &[Host], torrents: u32, again: Option<u32>) -> io::Result<u32> {
    let each = PEERS / HOSTS;
    let run = |mine: &[Host], seed: u8| -> io::Result<u32> {
        let (mut came, mut rng) = (0, Rng::new([seed; 32]));
        let rounds = again.map_or(each, |all| all / HOSTS).div_ceil(WINDOW);
        for round in 0..rounds {
            for host in mine {
                let peers = (0..WINDOW).map(|n| match again {
                    Some(_) => rng.below(each),
                    None => (round * WINDOW + n).min(each - 1),
                });
                // Hosts begin at different torrents, so that each torrent has as many peers.
                let peers = peers.map(|n| n + host.number * each % torrents);
                came += host.announce(peers, torrents, if again.is_some() { 50 } else { 0 })?;
            }
        }
        Ok(came)
    };
    thread::scope(|scope| {
        let parts = hosts.chunks(hosts.len().div_ceil(THREADS as usize));
        let threads: Vec<_> =
            (1..).zip(parts).map(|(seed, part)| scope.spawn(move || run(part, seed))).collect();
        threads.into_iter().map(|t| t.join().unwrap_or_else(|_| Err(io::Error::other("a panic")))).sum()
    })
}

/// Announces a second of processor time, and what came.
fn rate(server: &Server, run: impl FnOnce() -> io::Result<u32>) -> io::Result<(f64, f64, u32)> {
    let (cpu, start) = (server.cpu()?, Instant::now());
    let came = run()?;
    let (cpu, wall) = ((server.cpu()? - cpu).as_secs_f64(), start.elapsed().as_secs_f64());
    Ok((f64::from(came) / cpu.max(0.01), f64::from(came) / wall, came))
}

fn measure(name: &str, torrents: u32, server: &Server) -> io::Result<()> {
    let hosts: io::Result<Vec<Host>> = (0..HOSTS).map(|n| Host::new(n, server.addr)).collect();
    let hosts = hosts?;
    let empty = server.memory();
    let (first, _, came) = rate(server, || load(&hosts, torrents, None))?;
    let bytes = server.memory().saturating_sub(empty) as f64 / f64::from(came.max(1));
    let (again, wall, answers) = rate(server, || load(&hosts, torrents, Some(AGAIN)))?;
    println!(
        "| {name} | {torrents} | {came} | {bytes:.1} | {first:.0} | {again:.0} | {wall:.0} | {} |",
        AGAIN - answers.min(AGAIN)
    );
    Ok(())
}

struct Options {
    common: Common,
}

impl Program for Options {
    const NAME: &'static str = "tracker";
    const HELP: &'static str = "\
Usage: cargo bench --bench tracker -- [options]
  --rounds N        of both, one after the other (1)
  --dir PATH        where the files are (below target)
  --ptorrent PATH   another ptorrent than the one just built";

    fn common(&mut self) -> Option<&mut Common> {
        Some(&mut self.common)
    }

    fn check(&mut self) -> Result<(), String> {
        if self.common.size == 0 { Ok(()) } else { Err("unknown option: --size".into()) }
    }

    fn run(&self) -> Result<(), Box<dyn Error>> {
        let folder = guard::make(&self.common.dir, "ptorrent-tracker-")?;
        println!(
            "| tracker | torrents | peers | bytes a peer | new peers / CPU s | announces / CPU s | announces / s | lost |"
        );
        println!("|---|---|---|---|---|---|---|---|");
        for torrents in [1000, 100_000] {
            for _ in 0..self.common.rounds {
                measure("ptorrent", torrents, &Server::ptorrent(&self.common.ptorrent)?)?;
                match Server::opentracker(&folder, torrents) {
                    Ok(server) => measure("opentracker", torrents, &server)?,
                    Err(error) => println!("opentracker: {error}"),
                }
            }
        }
        Ok(())
    }
}

fn main() -> ExitCode {
    program::main(Options { common: Common::new(1, 0) })
}
