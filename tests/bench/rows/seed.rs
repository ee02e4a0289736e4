//! An upload of what is there to bare sinks: from the first request to the last byte. How long a client takes to see
//! that all is there is not counted here (the row `check` has that).

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use super::{Room, Sample, free, ip};
use crate::calls::Counter;
use crate::content::Content;
use crate::contestant::{Contestant, Job, Task};
use crate::process::{PATIENCE, Process};
use crate::sink::Sink;

pub(super) fn run(
    who: &Contestant,
    room: &Room<'_>,
    content: &Arc<Content>,
    sinks: usize,
    counter: Option<Counter>,
) -> Result<Sample, Box<dyn Error>> {
    let data = room.place.full();
    // Brings all of it into the page cache, too.
    content.verify(&data)?;
    let (plain, announced) = room.torrents(content, &[])?;
    let home = room.make("home")?;
    let job = Job {
        task: Task::Seed,
        plain: &plain,
        announced: &announced,
        data: &data,
        home: &home,
        listen: free(ip(0, 2))?,
        rpc: free(ip(0, 2))?,
        peers: &[],
    };
    let mut process = Process::start(&mut who.command(&job)?, &home, None)?;
    let failed = |process: &Process, error: io::Error| format!("{error}; {}", process.last_words());
    let connect =
        |number: usize| Sink::connect(number, ip(3, number as u8 + 1), job.listen, content, PATIENCE / 4);
    let mut connected = Vec::new();
    for number in 0..sinks {
        connected.push(connect(number).map_err(|error| failed(&process, error))?);
    }
    if let Some(counter) = counter {
        process.attach(counter)?;
    }
    let before = process.cpu()?;
    let (start, end) = take_all(&mut process, connected, counter.is_some())
        .map_err(|error| format!("{error}; {}", process.last_words()))?;
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
            thread::sleep(Duration::from_millis(20));
        }
        let join = |thread: thread::ScopedJoinHandle<'_, io::Result<_>>| {
            thread.join().unwrap_or_else(|_| Err(io::Error::other("a panic")))
        };
        Ok(threads.into_iter().map(join).collect::<io::Result<_>>()?)
    })?;
    let first = times.iter().map(|time| time.0).min().ok_or("there was no sink")?;
    let last = times.iter().map(|time| time.1).max().ok_or("there was no sink")?;
    Ok((first, last))
}
