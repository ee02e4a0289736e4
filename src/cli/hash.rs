//! Hashing what is on disk with all cores, in file order: for `create` and `verify`. (A download checks its files in
//! the disk workers.)

use super::console::{Console, Stream, now};
use super::progress::bar;
use super::text::{count, cut, percent, rate, span, time_left};
use super::{Error, failed};
use crate::limits::LANES_MAX;
use crate::proto::layout::Layout;
use crossbeam_channel::{Sender, bounded};
use sha1::{Digest, Sha1};
use std::fs::File;
use std::io;
use std::num::NonZero;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// What one read asks for: enough for the disk to stream, little enough to stay in the cache until it is hashed.
const READ: usize = 256 << 10;
/// Bytes of pieces that a thread takes at a time, so that each reads a run of the file.
const RUN: u32 = 4 << 20;

/// The files of a torrent, end to end.
pub(crate) struct Row<'a> {
    pub(crate) layout: &'a Layout,
    /// Where each file is; None for bytes that are zero and in no file (BEP 47, padding).
    pub(crate) files: &'a [Option<PathBuf>],
    /// The pieces that can be hashed; the others are left out.
    pub(crate) readable: &'a [bool],
}

/// A file that could not be read.
pub(crate) struct Unreadable {
    pub(crate) file: usize,
    pub(crate) error: io::Error,
}

/// What came of one piece.
pub(crate) type Outcome = Result<[u8; 20], Unreadable>;

/// Hashes every piece of `row` that is readable. `each` hears of each, in no strict order, and can end it with an
/// error. `what` stands before the progress on standard error.
pub(crate) fn hash(
    row: &Row<'_>,
    what: &str,
    console: &mut Console<'_>,
    mut each: impl FnMut(u32, Outcome) -> Result<(), Error>,
) -> Result<(), Error> {
    let lanes = thread::available_parallelism().map_or(1, NonZero::get).min(LANES_MAX);
    let (next, stop) = (AtomicU32::new(0), AtomicBool::new(false));
    let (sender, outcomes) = bounded(64);
    let mut meter = Meter::new(what, row);
    thread::scope(|scope| {
        for lane in 0..lanes {
            let (sender, next, stop) = (sender.clone(), &next, &stop);
            let thread = thread::Builder::new().name(format!("ptorrent-hsh-{lane}"));
            let worker = move || Worker { row, open: None, buf: vec![0; READ] }.work(next, stop, &sender);
            thread.spawn_scoped(scope, worker).map_err(|e| failed("cannot start a thread", &e))?;
        }
        drop(sender);
        let mut result = Ok(());
        for (piece, outcome) in outcomes {
            // After an error the threads are only waited for.
            if result.is_ok() {
                result = each(piece, outcome).and_then(|()| meter.step(piece, row, console));
                stop.store(result.is_err(), Ordering::Relaxed);
            }
        }
        result
    })?;
    console.clear_status()
}

struct Worker<'a> {
    row: &'a Row<'a>,
    /// The file read last.
    open: Option<(usize, File)>,
    buf: Vec<u8>,
}

impl Worker<'_> {
    fn work(&mut self, next: &AtomicU32, stop: &AtomicBool, outcomes: &Sender<(u32, Outcome)>) {
        let layout = self.row.layout;
        let run = (RUN / layout.piece_length()).max(1);
        loop {
            let first = next.fetch_add(run, Ordering::Relaxed);
            if first >= layout.pieces() {
                return;
            }
            for piece in first..first.saturating_add(run).min(layout.pieces()) {
                if !self.row.readable[piece as usize] {
                    continue;
                }
                let outcome = self.piece(piece);
                if stop.load(Ordering::Relaxed) || outcomes.send((piece, outcome)).is_err() {
                    return;
                }
            }
        }
    }

    fn piece(&mut self, piece: u32) -> Outcome {
        let layout = self.row.layout;
        let mut hasher = Sha1::new();
        for span in layout.spans(layout.piece_offset(piece), layout.piece_len(piece).into()) {
            self.run(span.file, span.offset, span.len, &mut hasher)
                .map_err(|error| Unreadable { file: span.file, error })?;
        }
        Ok(hasher.finalize().into())
    }

    /// Hashes `len` bytes of a file from `offset`.
    fn run(&mut self, file: usize, offset: u64, len: u64, hasher: &mut Sha1) -> io::Result<()> {
        let path = self.row.files[file].as_ref();
        if let Some(path) = path
            && self.open.as_ref().is_none_or(|(number, _)| *number != file)
        {
            self.open = Some((file, File::open(path)?));
        }
        let mut at = 0;
        while at < len {
            let part = &mut self.buf[..usize::try_from(len - at).unwrap_or(READ).min(READ)];
            match (path, &self.open) {
                (Some(_), Some((_, open))) => open.read_exact_at(part, offset + at)?,
                _ => part.fill(0),
            }
            hasher.update(&*part);
            at += part.len() as u64;
        }
        Ok(())
    }
}

/// The progress of what takes longer than a second.
struct Meter {
    what: String,
    done: u64,
    total: u64,
    start: Instant,
    next: Instant,
}

impl Meter {
    fn new(what: &str, row: &Row<'_>) -> Meter {
        let pieces = (0..row.layout.pieces()).filter(|piece| row.readable[*piece as usize]);
        let total = pieces.map(|piece| u64::from(row.layout.piece_len(piece))).sum();
        let start = now();
        Meter { what: what.into(), done: 0, total, start, next: start + Duration::from_secs(1) }
    }

    fn step(&mut self, piece: u32, row: &Row<'_>, console: &mut Console<'_>) -> Result<(), Error> {
        self.done += u64::from(row.layout.piece_len(piece));
        if !console.is_terminal(Stream::Err) || console.is_quiet() {
            return Ok(());
        }
        let now = now();
        if now < self.next {
            return Ok(());
        }
        self.next = now + Duration::from_millis(250);
        let speed = self.done * 1000 / u64::try_from((now - self.start).as_millis()).unwrap_or(1).max(1);
        let left = time_left(self.total - self.done, speed).map(span).unwrap_or_default();
        let (done, speed) = (percent(self.done, self.total), rate(speed));
        let line =
            format!("{done:>6} {} {speed}  {left} left  {}", bar(self.done, self.total, 20), self.what);
        console.show_status(Stream::Err, vec![cut(&line, console.size().0.saturating_sub(1))])
    }
}

/// `3 files` and the like, for a number of things that is held in memory.
pub(crate) fn counted(n: usize, what: &str) -> String {
    count(n as u64, what)
}
