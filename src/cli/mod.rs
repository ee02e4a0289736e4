//! The command line: arguments in, text and an exit status out. [`run`] is the whole program as a function, so that a
//! test can call it; the binary hands it the real arguments, streams and environment.
//!
//! Main is the one writer of the terminal: `console.rs` holds standard output and standard error, and the log comes to
//! it through a channel.

mod args;
mod config;
mod console;
mod create;
mod dht;
mod download;
mod fetch;
mod hash;
mod hook;
mod json;
mod keys;
mod log;
mod options;
mod overview;
mod progress;
mod scrape;
mod show;
mod status;
mod text;
mod torrent;
mod tracker;
mod values;
mod verify;

use crate::api::Reason;
use crate::engine::Roots;
use console::Console;
use options::Task;
use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};

/// All that the program takes from its process.
pub struct Env<'a> {
    /// The arguments, without the program's own name.
    pub args: Vec<OsString>,
    /// The folder that relative paths start from.
    pub dir: PathBuf,
    /// Standard output.
    pub out: &'a mut dyn Write,
    /// Whether it is a terminal.
    pub out_is_terminal: bool,
    /// Standard error.
    pub err: &'a mut dyn Write,
    /// Whether it is a terminal.
    pub err_is_terminal: bool,
    /// Whether standard input is a terminal, so that its keys are ours.
    pub in_is_terminal: bool,
    /// The size of the terminal as columns and rows, as it is now; None when there is none or it does not tell.
    pub size: fn() -> Option<(u16, u16)>,
    /// `COLUMNS`, the width where the terminal does not tell.
    pub columns: Option<u16>,
    /// Whether signals and terminal are ours to take: in a process of our own.
    pub takes_signals: bool,
    /// `RUST_LOG`, levels of the log by module.
    pub rust_log: Option<String>,
    /// The certificates that HTTPS trusts: `SSL_CERT_FILE` and `SSL_CERT_DIR`, where one of them is set.
    pub roots: Roots,
    /// The state folder where `--state-dir` names none: `$XDG_STATE_HOME/ptorrent`, or `~/.local/state/ptorrent`.
    pub state_dir: Option<PathBuf>,
    /// The configuration file where `--config` names none: `$XDG_CONFIG_HOME/ptorrent/config`, or
    /// `~/.config/ptorrent/config`.
    pub config: Option<PathBuf>,
    /// `HOME`: what `~` is in the configuration file.
    pub home: Option<PathBuf>,
}

impl<'a> Env<'a> {
    /// The environment of this process, read once.
    #[expect(clippy::disallowed_methods, reason = "the one place where the environment is read")]
    pub fn of_process(out: &'a mut dyn Write, err: &'a mut dyn Write) -> Env<'a> {
        let home = std::env::var_os("HOME").map(PathBuf::from).filter(|path| path.is_absolute());
        Env {
            args: std::env::args_os().skip(1).collect(),
            dir: PathBuf::new(),
            out,
            out_is_terminal: io::stdout().is_terminal(),
            err,
            err_is_terminal: io::stderr().is_terminal(),
            in_is_terminal: io::stdin().is_terminal(),
            size: terminal_size,
            columns: std::env::var("COLUMNS").ok().and_then(|text| text.parse().ok()),
            takes_signals: true,
            rust_log: std::env::var("RUST_LOG").ok(),
            roots: roots(std::env::var_os("SSL_CERT_FILE"), std::env::var_os("SSL_CERT_DIR")),
            state_dir: base_dir(std::env::var_os("XDG_STATE_HOME"), home.as_deref(), ".local/state"),
            config: base_dir(std::env::var_os("XDG_CONFIG_HOME"), home.as_deref(), ".config")
                .map(|dir| dir.join("config")),
            home,
        }
    }
}

/// The certificates that HTTPS trusts; what is empty is not set.
fn roots(file: Option<OsString>, dir: Option<OsString>) -> Roots {
    let path = |given: Option<OsString>| given.filter(|text| !text.is_empty()).map(PathBuf::from);
    match (path(file), path(dir)) {
        (None, None) => Roots::Usual,
        (file, dir) => Roots::Only { file, dir },
    }
}

/// Our folder of one kind, by the XDG base directory specification: paths that are not absolute do not count.
fn base_dir(given: Option<OsString>, home: Option<&Path>, default: &str) -> Option<PathBuf> {
    let given = given.map(PathBuf::from).filter(|path| path.is_absolute());
    Some(given.or_else(|| Some(home?.join(default)))?.join("ptorrent"))
}

/// Of whichever of the two streams is a terminal.
fn terminal_size() -> Option<(u16, u16)> {
    let size = rustix::termios::tcgetwinsize(io::stdout())
        .or_else(|_| rustix::termios::tcgetwinsize(io::stderr()))
        .ok()?;
    (size.ws_col > 0 && size.ws_row > 0).then_some((size.ws_col, size.ws_row))
}

/// Why a command ends early: what the user can mend. One line on standard error each.
#[derive(Debug)]
enum Error {
    /// The command line is wrong: status 2 and a pointer to `--help`.
    Usage(String),
    /// Something is wrong with what the command line names: status 1.
    Failed(Reason, String),
    /// Standard output is closed: a quiet end.
    Closed,
    /// A signal asked for the end: a quiet one.
    Signal(i32),
}

/// A failure of the file system or of a stream.
fn failed(what: impl std::fmt::Display, error: &io::Error) -> Error {
    let reason = if error.kind() == io::ErrorKind::StorageFull { Reason::DiskFull } else { Reason::Io };
    Error::Failed(reason, format!("{what}: {error}"))
}

/// The exit status of a program that a signal has ended, as shells have it.
fn status_of_signal(signal: i32) -> u8 {
    128u8.saturating_add(u8::try_from(signal).unwrap_or(0))
}

/// Runs the program. The answer is its exit status: see the man page.
pub fn run(env: &mut Env<'_>) -> u8 {
    let parsed = config::read(env).and_then(|read| Ok((options::parse(&read.args)?, read)));
    let mut console = Console::new(env);
    let result = match parsed {
        Ok(((common, task), read)) => console
            .open_log(&common)
            .and_then(|()| console.guard_terminal())
            .and_then(|()| perform(task, &read, &mut console)),
        Err(error) => Err(error),
    };
    let status = match result {
        Ok(status) => status,
        Err(Error::Usage(why)) => {
            console.error(&format!("{why}; see 'ptorrent --help'"));
            2
        }
        Err(Error::Failed(_, why)) => {
            console.error(&why);
            1
        }
        Err(Error::Closed) => 0,
        Err(Error::Signal(signal)) => status_of_signal(signal),
    };
    console.finish();
    status
}

fn perform(task: Task, read: &config::Read, console: &mut Console<'_>) -> Result<u8, Error> {
    match task {
        Task::Print(text) => console.print(&text).map(|()| 0),
        Task::Create(options) => create::run(&options, console),
        Task::Show(options) => show::run(&options, console),
        Task::Scrape(options) => scrape::run(&options, console),
        Task::Dht(options) => dht::run(&options, console),
        Task::Verify { torrent, dir } => verify::run(&torrent, &dir, console),
        Task::Config { save } => config::run(read, save, console),
        Task::Tracker(options) => tracker::run(&options, console),
        Task::Download(options) => download::run(&options, console),
    }
}
