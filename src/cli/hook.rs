//! `--on-complete`: a command of the user for each download that is complete.
//!
//! A thread for each command that runs waits for it, so that main goes on. What a torrent calls itself is hostile: it
//! goes into the environment of the command and never into its text.

use crate::limits::HOOKS_MAX;
use crate::proto::metainfo::printable;
use crate::sys::descriptors;
use crossbeam_channel::{Receiver, Sender, bounded};
use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus, Stdio};
use std::thread;

/// What a command is told of its torrent: names and values of its environment.
pub(crate) type Facts = Vec<(&'static str, OsString)>;

/// A command that has ended, or could not be started.
#[derive(Debug)]
pub(crate) struct Ended {
    /// Number of the torrent.
    pub(crate) number: usize,
    result: io::Result<ExitStatus>,
}

/// All commands of a run.
pub(crate) struct Hooks {
    command: Option<OsString>,
    waiting: VecDeque<(usize, Facts)>,
    running: usize,
    sender: Sender<Ended>,
    /// Those that have ended; each is to be given to [`Hooks::on_ended`].
    pub(crate) ended: Receiver<Ended>,
}

impl Hooks {
    /// Of this command, or of none.
    pub(crate) fn new(command: Option<OsString>) -> Hooks {
        let (sender, ended) = bounded(HOOKS_MAX);
        Hooks { command, waiting: VecDeque::new(), running: 0, sender, ended }
    }

    /// Whether there is a command to run.
    pub(crate) fn wanted(&self) -> bool {
        self.command.is_some()
    }

    /// Puts the command for a torrent in line.
    pub(crate) fn add(&mut self, number: usize, facts: Facts) {
        self.waiting.push_back((number, facts));
    }

    /// Whether none runs and none waits.
    pub(crate) fn idle(&self) -> bool {
        self.running == 0 && self.waiting.is_empty()
    }

    /// Starts what may run now.
    pub(crate) fn start(&mut self) {
        let Some(command) = &self.command else { return };
        while self.running < HOOKS_MAX
            && let Some((number, facts)) = self.waiting.pop_front()
        {
            self.running += 1;
            let (command, sender) = (command.clone(), self.sender.clone());
            // There is room for all that run, and who has gone does not want to know.
            let body = move || {
                let result = run(&command, facts);
                let _ = sender.send(Ended { number, result });
            };
            if let Err(error) = thread::Builder::new().name("ptorrent-hook".into()).spawn(body) {
                let _ = self.sender.send(Ended { number, result: Err(error) });
            }
        }
    }

    /// One has ended, so that the next may start. The answer is what went wrong, for the user.
    pub(crate) fn on_ended(&mut self, ended: &Ended) -> Option<String> {
        self.running -= 1;
        self.start();
        let why = match &ended.result {
            Ok(status) if status.success() => return None,
            Ok(status) => match (status.code(), status.signal()) {
                (Some(code), _) => format!("ended with status {code}"),
                (None, signal) => format!("was killed by signal {}", signal.unwrap_or(0)),
            },
            Err(error) => format!("cannot be run: {error}"),
        };
        let command = printable(&self.command.as_deref().unwrap_or_default().to_string_lossy());
        Some(format!("the command of --on-complete {why}: {command}"))
    }
}

/// Runs the command to its end. It reads nothing; what it writes goes to our standard error, since our standard output
/// is for the progress, or for a program that reads JSON.
fn run(command: &OsStr, facts: Facts) -> io::Result<ExitStatus> {
    let out = io::stderr().as_fd().try_clone_to_owned()?;
    let mut shell = Command::new("/bin/sh");
    shell.arg("-c").arg(command).envs(facts).stdin(Stdio::null()).stdout(out);
    descriptors::restore_in(&mut shell);
    shell.spawn()?.wait()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hooks(command: &str, count: usize) -> Hooks {
        let mut hooks = Hooks::new(Some(command.into()));
        (0..count).for_each(|number| hooks.add(number, vec![("PTORRENT_NAME", "it".into())]));
        hooks.start();
        hooks
    }

    /// What is said of a command that ends with its first torrent.
    fn said(command: &str) -> Option<String> {
        let mut hooks = hooks(command, 1);
        let ended = hooks.ended.recv().unwrap();
        let said = hooks.on_ended(&ended);
        assert!(hooks.idle());
        said
    }

    #[test]
    fn a_failure_names_command_and_status() {
        assert_eq!(said("test \"$PTORRENT_NAME\" = it"), None);
        let of = |why: &str| Some(format!("the command of --on-complete {why}"));
        assert_eq!(said("exit 3"), of("ended with status 3: exit 3"));
        assert_eq!(said("kill -9 $$"), of("was killed by signal 9: kill -9 $$"));
        assert_eq!(said("/nonexistent/x 2>&-"), of("ended with status 127: /nonexistent/x 2>&-"));
        assert!(said("\0").unwrap().contains("cannot be run: nul byte found"));
    }

    #[test]
    fn few_run_at_a_time_and_all_do() {
        let mut hooks = hooks("true", HOOKS_MAX + 3);
        assert_eq!((hooks.running, hooks.waiting.len()), (HOOKS_MAX, 3));
        let mut seen = Vec::new();
        while !hooks.idle() {
            let ended = hooks.ended.recv().unwrap();
            assert_eq!(hooks.on_ended(&ended), None);
            assert!(hooks.running <= HOOKS_MAX);
            seen.push(ended.number);
        }
        seen.sort_unstable();
        assert_eq!(seen, (0..HOOKS_MAX + 3).collect::<Vec<_>>());
    }
}
