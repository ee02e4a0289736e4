//! An upload of what is there to bare sinks: from the first request to the last byte. How long a client takes to see
//! that all is there is not counted here (the row `check` has that).

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use super::{Room, Sample, ip};
use crate::contestant::{Contestant, Task};
use crate::shared::calls::Counter;
use crate::shared::content::Content;
use crate::shared::guard::pause;
use crate::shared::process::{PATIENCE, Process};
use crate::sink::Sink;

pub(super) fn run(
    who: &Contestant,
    room: &Room<'_>,
    content: &Arc<Content>,
    sinks: usize,
    counter: Option<Counter>,
) -> Result<Sample, Box<dyn Error>> {
    let job = room.job_with_all(Task::Seed, content)?;
    let mut process = Process::start(&mut who.command(&job)?, &job.home, None)?;
    let connect =
        |number: usize| Sink::connect(number, ip(3, number as u8 + 1), job.listen, content, PATIENCE / 4);
    let mut connected = Vec::new();
    for number in 0..sinks {
        connected.push(connect(number).map_err(|error| process.blame(error))?);
    }
    if let Some(counter) = counter {
        process.attach(counter)?;
    }
    let before = process.cpu()?;
    let (start, end) = take_all(&mut process, connected, counter.is_some())?;
    let cpu = process.cpu()? - before;
    let calls = process.calls();
    process.kill()?;
    Ok(Sample { calls, ..Sample::new(start, None, end, cpu, process.memory) })
}

/// All sinks take all. Returns when the first of them had its turn, and when the last was done.
fn take_all(
    process: &mut Process,
    sinks: Vec<Sink>,
    compare: bool,
) -> Result<(Instant, Instant), Box<dyn Error>> {
    let count = sinks.len();
    let ready = Barrier::new(count);
    let take = |mut sink: Sink, number| -> io::Result<(Instant, Instant)> {
        ready.wait();
        sink.wait_for_turn()?;
        let first = Instant::now();
        sink.take(number, count, compare)?;
        Ok((first, Instant::now()))
    };
    let times = thread::scope(|scope| -> Result<Vec<_>, Box<dyn Error>> {
        let take = &take;
        let threads: Vec<_> = sinks
            .into_iter()
            .enumerate()
            .map(|(number, sink)| scope.spawn(move || take(sink, number)))
            .collect();
        while threads.iter().any(|thread| !thread.is_finished()) {
            if process.look()?.is_some() {
                return Err(process.failed());
            }
            pause(Duration::from_millis(20))?;
        }
        let join = |thread: thread::ScopedJoinHandle<'_, io::Result<_>>| {
            thread.join().unwrap_or_else(|_| Err(io::Error::other("a panic")))
        };
        threads.into_iter().map(join).collect::<io::Result<_>>().map_err(|error| process.blame(error))
    })?;
    let first = times.iter().map(|time| time.0).min().ok_or("there was no sink")?;
    let last = times.iter().map(|time| time.1).max().ok_or("there was no sink")?;
    Ok((first, last))
}
