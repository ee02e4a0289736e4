//! Counting the system calls of a process, in a round of its own: being counted costs time. `perf stat` counts them
//! in the kernel and hardly slows them; where it may not, `strace -c -f` stops the process at each, so that a client
//! which does more at a time when it is late makes fewer of them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::clients::program;
use super::guard;

const EVENT: &str = "raw_syscalls:sys_enter";

#[derive(Clone, Copy)]
pub(crate) enum Counter {
    Perf,
    Strace,
}

impl Counter {
    /// What is there and allowed.
    pub(crate) fn find() -> Option<Counter> {
        let runs = |command: &mut Command| {
            let command = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            command.status().is_ok_and(|status| status.success())
        };
        if program("perf").is_some() && runs(Command::new("perf").args(["stat", "-e", EVENT, "--", "true"])) {
            return Some(Counter::Perf);
        }
        (program("strace").is_some() && runs(Command::new("strace").args(["-c", "-f", "true"])))
            .then_some(Counter::Strace)
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Counter::Perf => "perf stat",
            Counter::Strace => "strace -c -f",
        }
    }

    /// Begins to count the calls of all threads of a process, also those that it starts later.
    pub(crate) fn attach(self, pid: u32, dir: &Path) -> io::Result<Count> {
        let out = dir.join("calls");
        let mut command = match self {
            Counter::Perf => Command::new("perf"),
            Counter::Strace => Command::new("strace"),
        };
        match self {
            Counter::Perf => command.args(["stat", "-x,", "-e", EVENT]),
            Counter::Strace => command.args(["-c", "-f"]),
        };
        command.arg("-o").arg(&out).args(["-p", &pid.to_string()]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = guard::spawn(&mut command)?;
        let count = Count { counter: self, child, out };
        for _ in 0..1000 {
            if count.has_begun(pid) {
                // What it has opened it has still to switch on.
                guard::pause(Duration::from_millis(50))?;
                return Ok(count);
            }
            guard::pause(Duration::from_millis(5))?;
        }
        Err(io::Error::other(format!("{} does not begin", self.name())))
    }
}

/// A count that goes on.
pub(crate) struct Count {
    counter: Counter,
    child: Child,
    out: PathBuf,
}

impl Count {
    fn has_begun(&self, pid: u32) -> bool {
        match self.counter {
            // It has opened what it counts with.
            Counter::Perf => {
                let Ok(files) = fs::read_dir(format!("/proc/{}/fd", self.child.id())) else { return false };
                files.flatten().any(|file| {
                    fs::read_link(file.path()).is_ok_and(|to| to.ends_with("anon_inode:[perf_event]"))
                })
            }
            Counter::Strace => fs::read_to_string(format!("/proc/{pid}/status"))
                .is_ok_and(|status| super::usage::field(&status, "TracerPid:") > 0),
        }
    }

    /// Ends it; None when it did not come to a number.
    pub(crate) fn end(mut self) -> Option<u64> {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).ok()?)?;
        let _ = kill_process(pid, Signal::INT);
        self.child.wait().ok()?;
        guard::ended(&self.child);
        let text = fs::read_to_string(&self.out).ok()?;
        match self.counter {
            Counter::Perf => match text.lines().find(|line| line.contains(EVENT))?.split(',').next()? {
                // The process never ran.
                "<not counted>" => Some(0),
                number => number.parse().ok(),
            },
            // The line of sums: percent, seconds, microseconds a call, calls, errors.
            Counter::Strace => {
                text.lines().find(|line| line.ends_with(" total"))?.split_whitespace().nth(3)?.parse().ok()
            }
        }
    }
}
