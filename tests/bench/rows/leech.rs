//! A download from bare seeders, cold start to complete; every byte is compared after.

use std::error::Error;
use std::sync::Arc;

use super::{Room, Sample};
use crate::contestant::{Contestant, Task};
use crate::shared::calls::Counter;
use crate::shared::content::Content;
use crate::shared::process::Process;
use crate::shared::seeder::Seeder;

pub(super) fn run(
    task: Task,
    seeders: &[Arc<Seeder>],
    who: &Contestant,
    room: &Room<'_>,
    content: &Arc<Content>,
    counter: Option<Counter>,
) -> Result<Sample, Box<dyn Error>> {
    seeders.iter().for_each(|seeder| seeder.reset());
    let sample = measure(task, seeders, who, room, content, counter);
    seeders.iter().for_each(|seeder| seeder.reset());
    sample
}

fn measure(
    task: Task,
    seeders: &[Arc<Seeder>],
    who: &Contestant,
    room: &Room<'_>,
    content: &Arc<Content>,
    counter: Option<Counter>,
) -> Result<Sample, Box<dyn Error>> {
    let peers = seeders.iter().map(|seeder| seeder.listen).collect();
    let job = room.job(task, content, room.make("data")?, peers)?;
    let mut process = Process::start(&mut who.command(&job)?, &job.home, counter)?;
    if who.must_be_dialed() {
        seeders.iter().for_each(|seeder| seeder.dial(job.listen, content));
    }
    let first = || seeders.iter().filter_map(|seeder| seeder.first_request()).min();
    let (ended, end) =
        process.watch(|process, polls| who.is_complete(&job, process, polls) && first().is_some())?;
    let first = first().ok_or("it asked for no block")?;
    content.verify(&job.data)?;
    let calls = process.calls();
    Ok(Sample { calls, ..Sample::new(process.start, Some(first), end, ended.cpu, process.memory) })
}
