//! A check of existing data: from the start of the process to its end, or its word that all is there.

use std::error::Error;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::{Room, Sample, free, ip};
use crate::calls::Counter;
use crate::clients;
use crate::content::Content;
use crate::contestant::{Contestant, Job, Task, transmission_verify};
use crate::process::Process;

pub(super) fn run(
    who: &Contestant,
    room: &Room<'_>,
    content: &Arc<Content>,
    counter: Option<Counter>,
) -> Result<Sample, Box<dyn Error>> {
    let data = room.place.full();
    // Brings all of it into the page cache, too.
    content.verify(&data)?;
    let (plain, announced) = room.torrents(content, &[])?;
    let home = room.make("home")?;
    let job = Job {
        task: Task::Check,
        plain: &plain,
        announced: &announced,
        data: &data,
        home: &home,
        listen: free(ip(0, 2))?,
        rpc: free(ip(0, 2))?,
        peers: &[],
    };
    let asked = who.checks_as_a_seed(job.task);
    let mut process = Process::start(&mut who.command(&job)?, &home, counter.filter(|_| !asked))?;
    let (mut start, mut before) = (process.start, Duration::ZERO);
    if asked {
        let patience = Instant::now() + Duration::from_secs(60);
        while clients::transmission_progress(job.rpc).is_none() && Instant::now() < patience {
            thread::sleep(Duration::from_millis(50));
        }
        if let Some(counter) = counter {
            process.attach(counter)?;
        }
        (start, before) = (Instant::now(), process.cpu()?);
        transmission_verify(job.rpc).ok_or("it does not answer")?;
    }
    let (ended, end) = process
        .watch(|process, polls| who.is_complete(&job, process, polls))
        .map_err(|error| format!("{error} {}", process.last_words()))?;
    let calls = process.calls();
    Ok(Sample { calls, ..Sample::new(start, None, end, ended.cpu - before, process.memory) })
}
