//! A download from bare seeders, cold start to complete; every byte is compared after.

use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;

use super::{Lab, Room, Sample, free, ip};
use crate::calls::Counter;
use crate::content::Content;
use crate::contestant::{Contestant, Job, Task};
use crate::process::Process;
use crate::seeder::Seeder;

pub(super) fn run(
    lab: &Lab,
    who: &Contestant,
    room: &Room<'_>,
    content: &Arc<Content>,
    seeders: usize,
    counter: Option<Counter>,
) -> Result<Sample, Box<dyn Error>> {
    let seeders = &lab.seeders[..seeders];
    seeders.iter().for_each(|seeder| seeder.reset());
    let sample = measure(seeders, who, room, content, counter);
    seeders.iter().for_each(|seeder| seeder.reset());
    sample
}

fn measure(
    seeders: &[Arc<Seeder>],
    who: &Contestant,
    room: &Room<'_>,
    content: &Arc<Content>,
    counter: Option<Counter>,
) -> Result<Sample, Box<dyn Error>> {
    let peers: Vec<SocketAddr> = seeders.iter().map(|seeder| seeder.listen).collect();
    let (plain, announced) = room.torrents(content, &peers)?;
    let (data, home) = (room.make("data")?, room.make("home")?);
    let job = Job {
        task: Task::Leech,
        plain: &plain,
        announced: &announced,
        data: &data,
        home: &home,
        listen: free(ip(0, 2))?,
        rpc: free(ip(0, 2))?,
        peers: &peers,
    };
    let mut process = Process::start(&mut who.command(&job)?, &home, counter)?;
    if who.must_be_dialed() {
        seeders.iter().for_each(|seeder| seeder.dial(job.listen, content));
    }
    let first = || seeders.iter().filter_map(|seeder| seeder.first_request()).min();
    let (ended, end) = process
        .watch(|process, polls| who.is_complete(&job, process, polls) && first().is_some())
        .map_err(|error| format!("{error} {}", process.last_words()))?;
    let first = first().ok_or("it asked for no block")?;
    content.verify(&data)?;
    let calls = process.calls();
    Ok(Sample { calls, ..Sample::new(process.start, Some(first), end, ended.cpu, process.memory) })
}
