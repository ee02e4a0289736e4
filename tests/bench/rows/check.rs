//! A check of existing data: from the start of the process to its end, or its word that all is there.

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Room, Sample};
use crate::contestant::{Contestant, Task, transmission_verify};
use crate::shared::calls::Counter;
use crate::shared::clients;
use crate::shared::content::Content;
use crate::shared::guard::pause;
use crate::shared::process::Process;

pub(super) fn run(
    who: &Contestant,
    room: &Room<'_>,
    content: &Arc<Content>,
    counter: Option<Counter>,
) -> Result<Sample, Box<dyn Error>> {
    let job = room.job_with_all(Task::Check, content)?;
    let asked = who.checks_as_a_seed(job.task);
    let mut process = Process::start(&mut who.command(&job)?, &job.home, counter.filter(|_| !asked))?;
    let (mut start, mut before) = (process.start, Duration::ZERO);
    if asked {
        let patience = Instant::now() + Duration::from_secs(60);
        while clients::transmission_progress(job.rpc).is_none() && Instant::now() < patience {
            pause(Duration::from_millis(50))?;
        }
        if let Some(counter) = counter {
            process.attach(counter)?;
        }
        (start, before) = (Instant::now(), process.cpu()?);
        transmission_verify(job.rpc).ok_or("it does not answer")?;
    }
    let (ended, end) = process.watch(|process, polls| who.is_complete(&job, process, polls))?;
    let calls = process.calls();
    Ok(Sample { calls, ..Sample::new(start, None, end, ended.cpu - before, process.memory) })
}
