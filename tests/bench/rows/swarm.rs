//! A whole swarm of one client: a seed and eight downloads that start together, each told of all the others.

use std::error::Error;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::{Room, Sample, free, ip};
use crate::calls::Counter;
use crate::content::Content;
use crate::contestant::{Contestant, Job, Task};
use crate::process::{PATIENCE, Process};
use crate::sink::Sink;
use crate::usage::Memory;

/// How many download.
pub(super) const SIZE: usize = 8;

/// One that downloads.
struct Leech {
    process: Process,
    data: PathBuf,
    home: PathBuf,
    listen: SocketAddr,
    rpc: SocketAddr,
    done: Option<(Instant, Duration)>,
}

pub(super) fn run(
    who: &Contestant,
    room: &Room<'_>,
    content: &Arc<Content>,
    counter: Option<Counter>,
) -> Result<Sample, Box<dyn Error>> {
    if who.must_be_dialed() {
        return Err("it dials nobody on loopback".into());
    }
    if counter.is_some() {
        return Err("calls are not counted here".into());
    }
    let places: Vec<SocketAddr> = (0..=SIZE).map(|n| free(ip(2, n as u8 + 1))).collect::<Result<_, _>>()?;
    let (plain, announced) = room.torrents(content, &places)?;
    let data = room.make("seed")?;
    content.write(&data)?;
    let home = room.make("home-seed")?;
    let job = |task, number: usize| Job {
        task,
        plain: &plain,
        announced: &announced,
        data: &data,
        home: &home,
        listen: places[number],
        rpc: places[number],
        peers: &[],
    };
    let mut seed =
        Process::start(&mut who.command(&Job { rpc: free(ip(2, 1))?, ..job(Task::Seed, 0) })?, &home, None)?;
    Sink::connect(0, ip(3, 1), places[0], content, PATIENCE / 4)
        .map_err(|error| format!("{error}; {}", seed.last_words()))?;
    let before = seed.cpu()?;
    let start = Instant::now();
    let mut leeches = Vec::new();
    for number in 1..=SIZE {
        let (data, home) = (room.make(&format!("data-{number}"))?, room.make(&format!("home-{number}"))?);
        let peers: Vec<_> = places.iter().copied().filter(|peer| *peer != places[number]).collect();
        let rpc = free(ip(2, number as u8 + 1))?;
        let job = Job { rpc, data: &data, home: &home, peers: &peers, ..job(Task::Leech, number) };
        let process = Process::start(&mut who.command(&job)?, &home, None)?;
        leeches.push(Leech { process, data, home, listen: places[number], rpc, done: None });
    }
    let mut polls = 0;
    while leeches.iter().any(|leech| leech.done.is_none()) {
        if start.elapsed() > PATIENCE {
            return Err("it did not finish in time".into());
        }
        seed.look()?;
        for leech in leeches.iter_mut().filter(|leech| leech.done.is_none()) {
            let (listen, rpc) = (leech.listen, leech.rpc);
            let job = Job { data: &leech.data, home: &leech.home, listen, rpc, ..job(Task::Leech, 0) };
            if let Some(ended) = leech.process.look()? {
                if !ended.success {
                    return Err(leech.process.failed());
                }
                leech.done = Some((Instant::now(), ended.cpu));
            } else if who.is_complete(&job, &leech.process, polls) {
                // It goes on giving to the others, if it is one that does.
                leech.done = Some((Instant::now(), Duration::ZERO));
            }
        }
        polls += 1;
        thread::sleep(Duration::from_millis(10));
    }
    let mut cpu = seed.cpu()? - before;
    let mut memory = Memory::default();
    let mut end = start;
    for leech in &mut leeches {
        let (when, used) = leech.done.ok_or("it did not finish")?;
        cpu += if used.is_zero() { leech.process.kill()?.cpu } else { used };
        memory = memory.most(leech.process.memory);
        end = end.max(when);
        content.verify(&leech.data)?;
    }
    seed.kill()?;
    Ok(Sample::new(start, None, end, cpu, memory))
}
