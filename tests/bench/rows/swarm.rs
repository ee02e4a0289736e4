//! A whole swarm of one client: a seed and eight downloads that start together, each told of all the others.

use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Room, Sample, free, ip};
use crate::contestant::{Contestant, Job, Task};
use crate::shared::calls::Counter;
use crate::shared::content::Content;
use crate::shared::guard::pause;
use crate::shared::process::{PATIENCE, Process};
use crate::shared::usage::Memory;
use crate::sink::Sink;

/// How many download.
pub(super) const SIZE: usize = 8;

/// One that downloads.
struct Leech {
    process: Process,
    job: Job,
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
    let data = room.make("seed")?;
    content.write(&data)?;
    let all = room.job(Task::Seed, content, data, places.clone())?;
    let job = Job { listen: places[0], rpc: free(ip(2, 1))?, peers: Vec::new(), ..all.clone() };
    let mut seed = Process::start(&mut who.command(&job)?, &job.home, None)?;
    Sink::connect(0, ip(3, 1), places[0], content, PATIENCE / 4).map_err(|error| seed.blame(error))?;
    let before = seed.cpu()?;
    let start = Instant::now();
    let mut leeches = Vec::new();
    for number in 1..=SIZE {
        let job = Job {
            task: Task::Leech,
            data: room.make(&format!("data-{number}"))?,
            home: room.make(&format!("home-{number}"))?,
            listen: places[number],
            rpc: free(ip(2, number as u8 + 1))?,
            peers: places.iter().copied().filter(|peer| *peer != places[number]).collect(),
            ..all.clone()
        };
        let process = Process::start(&mut who.command(&job)?, &job.home, None)?;
        leeches.push(Leech { process, job, done: None });
    }
    let mut polls = 0;
    while leeches.iter().any(|leech| leech.done.is_none()) {
        if start.elapsed() > PATIENCE {
            return Err("it did not finish in time".into());
        }
        seed.look()?;
        for leech in leeches.iter_mut().filter(|leech| leech.done.is_none()) {
            if let Some(ended) = leech.process.look()? {
                if ended.status != 0 {
                    return Err(leech.process.failed());
                }
                leech.done = Some((Instant::now(), ended.cpu));
            } else if who.is_complete(&leech.job, &leech.process, polls) {
                // It goes on giving to the others, if it is one that does.
                leech.done = Some((Instant::now(), Duration::ZERO));
            }
        }
        polls += 1;
        pause(Duration::from_millis(10))?;
    }
    let mut cpu = seed.cpu()? - before;
    let mut memory = Memory::default();
    let mut end = start;
    for leech in &mut leeches {
        let (when, used) = leech.done.ok_or("it did not finish")?;
        cpu += if used.is_zero() { leech.process.kill()?.cpu } else { used };
        memory = memory.most(leech.process.memory);
        end = end.max(when);
        content.verify(&leech.job.data)?;
    }
    seed.kill()?;
    Ok(Sample::new(start, None, end, cpu, memory))
}
