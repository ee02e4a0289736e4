//! A client that runs: started, looked at, ended.

use std::error::Error;
use std::fmt::Display;
use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};

use super::calls::{Count, Counter};
use super::guard;
use super::usage::{self, Ended, Memory};

/// Nothing takes longer, not even on a slow machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(300);

pub(crate) struct Process {
    child: Child,
    /// Readable when it has ended.
    end: OwnedFd,
    pub(crate) start: Instant,
    pub(crate) memory: Memory,
    home: PathBuf,
    over: bool,
    count: Option<Count>,
}

impl Process {
    /// Starts it, its words into files below `home`. With a counter, its system calls are counted from the first.
    pub(crate) fn start(
        command: &mut Command,
        home: &Path,
        counter: Option<Counter>,
    ) -> Result<Process, Box<dyn Error>> {
        let mut held = counter.map(|_| hold_back(command));
        let command = held.as_mut().unwrap_or(command);
        command
            .stdin(Stdio::null())
            .stdout(File::create(home.join("stdout")).map_err(guard::at(home))?)
            .stderr(File::create(home.join("stderr")).map_err(guard::at(home))?)
            // Else some show where in their code an error was, behind what it was.
            .env_remove("RUST_BACKTRACE");
        let start = Instant::now();
        let child = guard::spawn(command)?;
        let end = pidfd_open(pid(&child)?, PidfdFlags::empty())?;
        let (memory, home) = (Memory::default(), home.to_path_buf());
        let mut process = Process { child, end, start, memory, home, over: false, count: None };
        if let Some(counter) = counter {
            process.wait_for_stop()?;
            process.attach(counter)?;
            process.signal(Signal::CONT)?;
        }
        Ok(process)
    }

    /// Counts its system calls from here on.
    pub(crate) fn attach(&mut self, counter: Counter) -> Result<(), Box<dyn Error>> {
        self.count = Some(counter.attach(self.child.id(), &self.home)?);
        Ok(())
    }

    /// How many there were, since then.
    pub(crate) fn calls(&mut self) -> Option<u64> {
        self.count.take()?.end()
    }

    fn wait_for_stop(&self) -> io::Result<()> {
        let path = format!("/proc/{}/stat", self.child.id());
        for _ in 0..1000 {
            // Behind the name in brackets stands the state; T: stopped.
            if fs::read_to_string(&path)?.rsplit_once(')').is_some_and(|(_, rest)| rest.starts_with(" T")) {
                return Ok(());
            }
            guard::pause(Duration::from_millis(5))?;
        }
        Err(io::Error::other("it does not wait for its counter"))
    }

    pub(crate) fn signal(&self, signal: Signal) -> io::Result<()> {
        Ok(kill_process(pid(&self.child)?, signal)?)
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether these words are in its output by now.
    pub(crate) fn said(&self, words: &str) -> bool {
        self.output().contains(words)
    }

    /// All that it has said on standard output.
    pub(crate) fn output(&self) -> String {
        fs::read_to_string(self.home.join("stdout")).unwrap_or_default()
    }

    /// What it complained of last: from the last line with an error in it on, or the last line.
    fn last_words(&self) -> String {
        let text = |name| plain(&fs::read_to_string(self.home.join(name)).unwrap_or_default());
        let text = [text("stderr"), text("stdout")].into_iter().find(|text| !text.trim().is_empty());
        let text = text.unwrap_or_default();
        let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        let error = lines.iter().rposition(|line| line.to_lowercase().starts_with("error"));
        let from = error.unwrap_or(lines.len().saturating_sub(1));
        lines[from..].iter().take(5).copied().collect::<Vec<_>>().join("; ")
    }

    /// An error that came of it, with what it said itself.
    pub(crate) fn blame(&self, error: impl Display) -> Box<dyn Error> {
        match self.last_words() {
            words if words.is_empty() => error.to_string().into(),
            words => format!("{error}; it said: {words}").into(),
        }
    }

    /// It has ended, as it should not have.
    pub(crate) fn failed(&self) -> Box<dyn Error> {
        self.blame("it has ended")
    }

    /// Waits for its end, so long at most.
    fn nap(&self, span: Duration) -> io::Result<()> {
        let time = Timespec { tv_sec: 0, tv_nsec: span.subsec_nanos().into() };
        match poll(&mut [PollFd::new(&self.end, PollFlags::IN)], Some(&time)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Processor time so far.
    pub(crate) fn cpu(&self) -> io::Result<Duration> {
        usage::cpu_of(&self.child)
    }

    /// Looks at its memory, and whether it has ended.
    pub(crate) fn look(&mut self) -> Result<Option<Ended>, Box<dyn Error>> {
        self.memory.sample(&self.child);
        self.ended(false)
    }

    fn ended(&mut self, block: bool) -> Result<Option<Ended>, Box<dyn Error>> {
        let ended = usage::wait(&self.child, block)?;
        if ended.is_some() {
            self.over = true;
            guard::ended(&self.child);
        }
        Ok(ended)
    }

    /// Ends it at once.
    pub(crate) fn kill(&mut self) -> Result<Ended, Box<dyn Error>> {
        self.memory.sample(&self.child);
        self.child.kill()?;
        self.ended(true)?.ok_or("it did not end".into())
    }

    /// Follows it until it is complete by its own end or by `complete`, which is asked every few milliseconds; then
    /// ends it. Returns when it was complete.
    pub(crate) fn watch(
        &mut self,
        mut complete: impl FnMut(&Process, u32) -> bool,
    ) -> Result<(Ended, Instant), Box<dyn Error>> {
        let mut polls: u32 = 0;
        loop {
            if let Some(ended) = self.ended(false)? {
                let end = Instant::now();
                let code = || self.blame(format!("it failed, with status {:#x}", ended.status));
                return if ended.status == 0 { Ok((ended, end)) } else { Err(code()) };
            }
            if polls.is_multiple_of(2) {
                self.memory.sample(&self.child);
            }
            let done = complete(self, polls);
            let now = Instant::now();
            if done || now - self.start > PATIENCE {
                let ended = self.kill()?;
                return if done { Ok((ended, now)) } else { Err(self.blame("it did not finish in time")) };
            }
            polls += 1;
            self.nap(Duration::from_millis(5))?;
        }
    }
}

fn pid(child: &Child) -> io::Result<Pid> {
    i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::NotFound.into())
}

/// Without the sequences that colour it.
fn plain(text: &str) -> String {
    let mut parts = text.split("\x1b[");
    let first = parts.next().unwrap_or_default().to_string();
    parts.fold(first, |plain, part| {
        plain + part.trim_start_matches(|c: char| !c.is_ascii_alphabetic()).get(1..).unwrap_or_default()
    })
}

impl Drop for Process {
    /// A row that went wrong leaves nothing running.
    fn drop(&mut self) {
        if !self.over {
            let _ = self.kill();
        }
        let _ = self.calls();
    }
}

/// The same command, but it stops itself before it begins.
fn hold_back(command: &Command) -> Command {
    let mut held = Command::new("/bin/sh");
    held.args(["-c", "kill -STOP $$; exec \"$0\" \"$@\""])
        .arg(command.get_program())
        .args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => held.env(name, value),
            None => held.env_remove(name),
        };
    }
    if let Some(dir) = command.get_current_dir() {
        held.current_dir(dir);
    }
    held
}
