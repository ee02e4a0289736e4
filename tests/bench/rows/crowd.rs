//! A thousand connected peers and 100,000 pieces: what they cost while nothing is transferred and while each tells of
//! a new piece every two seconds, what a storm of such messages costs, and whether ten peers that give are as fast
//! among them as alone.

use std::error::Error;
use std::fs;
use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use super::{Lab, Room, free, ip};
use crate::crowd::Crowd;
use crate::options::Options;
use crate::place::Place;
use crate::result::{Figure, median};
use crate::shared::clients::at_home;
use crate::shared::guard::pause;
use crate::shared::process::{PATIENCE, Process};
use crate::shared::usage::own_cpu;

const PEERS: usize = 1000;
/// Each tells of a new piece so often: 500 messages a second.
const PAUSE: Duration = Duration::from_secs(2);
/// In the storm each tells of so many at once.
const STORM: u64 = 200;
/// Bytes that are given before the clock runs, so that the buffers of the sockets are as full at the start as at the
/// end, and bytes that are given by the clock.
const LEAD: u64 = 128 << 20;
const GIVEN: u64 = 512 << 20;
/// How often they give to the one among the others and to the one alone, by turns.
const TURNS: usize = 3;

pub(super) fn run(options: &Options, lab: &Lab, place: &Place) -> Result<Vec<Figure>, Box<dyn Error>> {
    let room = Room::new(place)?;
    let result = measure(options, lab, &room);
    fs::remove_dir_all(&room.dir)?;
    result
}

fn measure(options: &Options, lab: &Lab, room: &Room<'_>) -> Result<Vec<Figure>, Box<dyn Error>> {
    let (mut process, listen) = start(options, lab, room, "with")?;
    wait_for(&process, listen)?;
    let alone = process.cpu()?;
    let crowd = Crowd::gather(listen, &lab.crowd.info_hash, lab.crowd.pieces(), PEERS, PAUSE)?;
    let joined = process.cpu()? - alone;
    let span = Duration::from_secs(options.seconds as u64);
    println!("{PEERS} peers are connected; watching for {span:?} what they cost, after a moment's rest");
    pause(Duration::from_secs(if options.quick { 1 } else { 3 }))?;
    process.look()?;
    let before = process.memory.anonymous;
    let (cpu, told) = (process.cpu()?, crowd.told());
    pause(span)?;
    let (cpu, told) = (process.cpu()? - cpu, crowd.told() - told);
    let behind = unread(listen)?;
    println!("a storm of HAVEs");
    let (storm, messages) = storm(&process, &crowd, listen)?;
    let (mut lonely, other) = start(options, lab, room, "without")?;
    wait_for(&lonely, other)?;
    let (mut among, mut alone) = (Vec::new(), Vec::new());
    for turn in 1..=TURNS {
        println!("ten give, turn {turn} of {TURNS}");
        among.push(give(&mut process, lab, listen)?);
        alone.push(give(&mut lonely, lab, other)?);
    }
    process.look()?;
    let memory = process.memory;
    drop(crowd);
    process.kill()?;
    lonely.kill()?;
    let of = |turns: &[Given], figure: fn(&Given) -> f64| median(turns.iter().map(figure).collect());
    let kept = among.iter().zip(&alone).map(|(among, alone)| alone.wall / among.wall).collect();
    let mib = GIVEN as f64 / f64::from(1 << 20);
    Ok(vec![
        Figure::new("processor, a peer that joins", joined.as_secs_f64() * 1e6 / PEERS as f64, "us"),
        Figure::new("HAVE messages", told as f64 / span.as_secs_f64(), "a second"),
        Figure::new(
            "processor, nothing transferred",
            cpu.as_secs_f64() / span.as_secs_f64() * 100.0,
            "% of a core",
        ),
        Figure::new("bytes of theirs unread at the end", behind as f64, ""),
        Figure::new("processor, one HAVE in a storm", storm.as_secs_f64() * 1e6 / messages as f64, "us"),
        Figure::new("anonymous memory, nothing transferred", before as f64 / 1024.0, "MiB"),
        Figure::new("anonymous memory at most", memory.anonymous as f64 / 1024.0, "MiB"),
        Figure::new("from 10 that give, among the others", mib / of(&among, |turn| turn.wall), "MiB/s"),
        Figure::new("from 10 that give, alone", mib / of(&alone, |turn| turn.wall), "MiB/s"),
        Figure::new("of the speed alone, pair by pair", median(kept) * 100.0, "%"),
        Figure::new("processor, among the others", of(&among, |turn| turn.cpu), "s/GiB"),
        Figure::new("processor, alone", of(&alone, |turn| turn.cpu), "s/GiB"),
        Figure::new("of the ten and the crowd, among them", of(&among, |turn| turn.bench), "s/GiB"),
        Figure::new("of the ten, alone", of(&alone, |turn| turn.bench), "s/GiB"),
    ])
}

/// Starts ptorrent with the torrent of many pieces and nothing of it.
fn start(
    options: &Options,
    lab: &Lab,
    room: &Room<'_>,
    name: &str,
) -> Result<(Process, SocketAddr), Box<dyn Error>> {
    let (data, home) = (room.make(&format!("data-{name}"))?, room.make(&format!("home-{name}"))?);
    let torrent = room.dir.join("crowd.torrent");
    lab.crowd.save(&torrent, None)?;
    let listen = free(ip(0, 2))?;
    let mut command = Command::new(&options.common.ptorrent);
    command
        .args(["-q", "--no-dht", "--no-pex", "--no-lsd", "--encryption", "disabled", "--prealloc", "sparse"])
        .args(["-c", &(PEERS + 100).to_string(), "-b", &listen.ip().to_string()])
        .args(["-p", &listen.port().to_string(), "-d"])
        .arg(data)
        .arg(torrent);
    at_home(&mut command, &home);
    Ok((Process::start(&mut command, &home, None)?, listen))
}

/// Until it listens.
fn wait_for(process: &Process, listen: SocketAddr) -> Result<(), Box<dyn Error>> {
    while std::net::TcpStream::connect(listen).is_err() {
        if process.start.elapsed() > PATIENCE {
            return Err(process.failed());
        }
        pause(Duration::from_millis(20))?;
    }
    // It is checked that nothing is there.
    pause(Duration::from_secs(1))?;
    Ok(())
}

/// All of them tell of many pieces at once: the processor time until all is read, and how many there were.
fn storm(process: &Process, crowd: &Crowd, listen: SocketAddr) -> Result<(Duration, u64), Box<dyn Error>> {
    let (cpu, told) = (process.cpu()?, crowd.told());
    crowd.storm(STORM);
    let patience = Instant::now() + Duration::from_secs(30);
    pause(Duration::from_millis(500))?;
    while unread(listen)? > 0 && Instant::now() < patience {
        pause(Duration::from_millis(50))?;
    }
    Ok((process.cpu()? - cpu, (crowd.told() - told).max(1)))
}

/// What it took to be given: seconds, and processor seconds for a GiB.
struct Given {
    wall: f64,
    /// Of the one that is given to.
    cpu: f64,
    /// Of this process: those that give, and the crowd.
    bench: f64,
}

/// Ten bare seeders give for a while, then they hang up.
fn give(process: &mut Process, lab: &Lab, listen: SocketAddr) -> Result<Given, Box<dyn Error>> {
    lab.seeders.iter().for_each(|seeder| seeder.reset());
    lab.seeders.iter().for_each(|seeder| seeder.dial(listen, &lab.crowd));
    let begun = wait_until_sent(process, lab, LEAD)?;
    let (start, cpu, bench) = (Instant::now(), process.cpu()?, own_cpu());
    let ended = wait_until_sent(process, lab, begun + GIVEN)?;
    let gib = (ended - begun) as f64 / (1u64 << 30) as f64;
    let given = Given {
        wall: start.elapsed().as_secs_f64() * GIVEN as f64 / (ended - begun) as f64,
        cpu: (process.cpu()? - cpu).as_secs_f64() / gib,
        bench: (own_cpu() - bench).as_secs_f64() / gib,
    };
    lab.seeders.iter().for_each(|seeder| seeder.reset());
    Ok(given)
}

/// Waits until the seeders have sent so many bytes; gives how many they are by then.
fn wait_until_sent(process: &mut Process, lab: &Lab, bytes: u64) -> Result<u64, Box<dyn Error>> {
    let begun = Instant::now();
    loop {
        let sent = lab.seeders.iter().map(|seeder| seeder.sent()).sum();
        if sent >= bytes {
            return Ok(sent);
        }
        if process.look()?.is_some() {
            return Err(process.failed());
        }
        if begun.elapsed() > PATIENCE {
            return Err("nothing arrives".into());
        }
        pause(Duration::from_millis(5))?;
    }
}

/// Bytes that the kernel has for a listener's connections and that were not read.
fn unread(listen: SocketAddr) -> Result<u64, Box<dyn Error>> {
    let SocketAddr::V4(addr) = listen else { return Err("an address of IPv4 is expected".into()) };
    let local = format!("{:08X}:{:04X}", u32::from_ne_bytes(addr.ip().octets()), addr.port());
    let mut sum = 0;
    for line in fs::read_to_string("/proc/net/tcp")?.lines() {
        let fields: Vec<&str> = line.split_whitespace().collect();
        // Local address, remote address, state (01: connected), queues `tx:rx`.
        if let [_, own, _, "01", queues, ..] = fields[..]
            && own == local
            && let Some((_, received)) = queues.split_once(':')
        {
            sum += u64::from_str_radix(received, 16)?;
        }
    }
    Ok(sum)
}
