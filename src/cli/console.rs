//! Standard output, standard error, the log and the status lines: one writer, so that they never cut through each
//! other.

use super::keys::Keys;
use super::log::{Line, Source, install, level};
use super::options::Common;
use super::text::width;
use super::{Env, Error, failed};
use crate::api::Reason;
use crate::engine::{Hangup, Roots, Signals};
use crate::proto::metainfo::printable;
use crate::sys::terminal::{self, Terminal};
use crossbeam_channel::Receiver;
use log::{Level, LevelFilter};
use rustix::io::Errno;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// The clock of the command line, for what is shown and when.
#[expect(clippy::disallowed_methods, reason = "status lines keep time; nothing of the core depends on it")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// A path fit for a terminal.
pub(crate) fn shown(path: &Path) -> String {
    printable(&path.to_string_lossy()).to_string()
}

/// Which stream the status lines are on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stream {
    /// Standard output: they are what was asked for.
    Out,
    /// Standard error: standard output is for the result.
    Err,
}

/// The two streams and all that shares them.
pub(crate) struct Console<'c> {
    out: &'c mut dyn Write,
    out_is_terminal: bool,
    err: &'c mut dyn Write,
    err_is_terminal: bool,
    size: fn() -> Option<(u16, u16)>,
    columns: Option<u16>,
    rust_log: Option<&'c str>,
    takes_signals: bool,
    dir: &'c Path,
    roots: &'c Roots,
    state_dir: Option<&'c Path>,
    level: LevelFilter,
    log: Source,
    file: Option<File>,
    /// The status lines that are to be seen, and where.
    status: Vec<String>,
    stream: Stream,
    /// The widths of those that are on the screen.
    drawn: Vec<usize>,
    /// The cursor stands at the end of the last one: there is no row below.
    at_end: bool,
    /// What [`terminal::stops`] said then: after a stop the cursor is elsewhere.
    stops: u32,
    log_file: Option<PathBuf>,
    in_is_terminal: bool,
    terminal: Option<Terminal>,
}

impl<'c> Console<'c> {
    pub(crate) fn new(env: &'c mut Env<'_>) -> Console<'c> {
        Console {
            out: &mut *env.out,
            out_is_terminal: env.out_is_terminal,
            err: &mut *env.err,
            err_is_terminal: env.err_is_terminal,
            size: env.size,
            columns: env.columns,
            rust_log: env.rust_log.as_deref(),
            takes_signals: env.takes_signals,
            dir: &env.dir,
            roots: &env.roots,
            state_dir: env.state_dir.as_deref(),
            level: LevelFilter::Warn,
            log: Source::none(),
            file: None,
            status: Vec::new(),
            stream: Stream::Out,
            drawn: Vec::new(),
            at_end: false,
            stops: 0,
            log_file: None,
            in_is_terminal: env.in_is_terminal,
            terminal: None,
        }
    }

    /// Makes sure that a terminal is put back as it was whatever ends or stops the program, where that is ours to do.
    pub(crate) fn guard_terminal(&mut self) -> Result<(), Error> {
        if self.takes_signals && (self.out_is_terminal || self.err_is_terminal) {
            let terminal = Terminal::install();
            self.terminal = Some(terminal.map_err(|e| failed("cannot take signals of the terminal", &e))?);
        }
        Ok(())
    }

    /// Listens to the terminal from now on, to its keys where standard input is one; None where there is none.
    pub(crate) fn keys(&self) -> Result<Option<Keys>, Error> {
        let keys = self.terminal.as_ref().map(|terminal| Keys::start(terminal, self.in_is_terminal));
        keys.transpose().map_err(|e| failed("cannot start a thread", &e))
    }

    /// Starts the log as the options say.
    pub(crate) fn open_log(&mut self, common: &Common) -> Result<(), Error> {
        self.level = level(common);
        if let Some(path) = &common.log_file {
            let path = self.resolve(path);
            self.file = Some(appended(&path)?);
            self.log_file = Some(path);
        }
        self.log = install(common, self.rust_log);
        Ok(())
    }

    /// Whether the log goes to a file.
    pub(crate) fn has_log_file(&self) -> bool {
        self.log_file.is_some()
    }

    /// Opens the log file anew: the one that was has been moved away. If that fails the old one stays in use.
    pub(crate) fn reopen_log(&mut self) {
        // What was said before belongs to the old one.
        self.log(None);
        match self.log_file.as_deref().map(appended) {
            Some(Ok(file)) => self.file = Some(file),
            Some(Err(Error::Failed(_, why))) => self.warn(&why),
            Some(Err(_)) | None => {}
        }
    }

    /// A path of the command line, as seen from the folder that we run in.
    pub(crate) fn resolve(&self, path: &Path) -> PathBuf {
        self.dir.join(path)
    }

    /// Whether a stream is a terminal.
    pub(crate) fn is_terminal(&self, stream: Stream) -> bool {
        match stream {
            Stream::Out => self.out_is_terminal,
            Stream::Err => self.err_is_terminal,
        }
    }

    /// The state folder, where no option names one.
    pub(crate) fn state_dir(&self) -> Option<PathBuf> {
        self.state_dir.map(Path::to_path_buf)
    }

    /// The certificates that HTTPS trusts.
    pub(crate) fn roots(&self) -> Roots {
        self.roots.clone()
    }

    /// Takes SIGINT, SIGTERM, SIGHUP (which means this) and SIGUSR1, where they are ours to take; once a process. What
    /// takes time comes after it.
    pub(crate) fn install_signals(&self, hangup: Hangup) -> Result<Option<Signals>, Error> {
        let signals = self.takes_signals.then(|| Signals::install(hangup)).transpose();
        signals.map_err(|e| failed("cannot take signals", &e))
    }

    /// Whether only errors are to be said.
    pub(crate) fn is_quiet(&self) -> bool {
        self.level == LevelFilter::Error
    }

    /// Columns and rows of the terminal as they are now.
    pub(crate) fn size(&self) -> (usize, usize) {
        let (columns, rows) = (self.size)().unwrap_or((self.columns.unwrap_or(80), 24));
        (columns.into(), rows.into())
    }

    /// Writes what was asked for to standard output.
    pub(crate) fn print(&mut self, text: &str) -> Result<(), Error> {
        self.erase()?;
        let written = self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush());
        written.map_err(|e| broken(&e, self.out_is_terminal))?;
        self.draw()
    }

    /// Says on standard error why the program, or a torrent, failed.
    pub(crate) fn error(&mut self, text: &str) {
        self.say(Level::Error, text);
    }

    /// Says what the user should know.
    pub(crate) fn warn(&mut self, text: &str) {
        self.say(Level::Warn, text);
    }

    fn say(&mut self, level: Level, text: &str) {
        if level <= self.level {
            self.write_log(&[Line::new(level, "ptorrent", text)]);
        }
    }

    /// The lines that wait to be written; [`Console::log`] takes one that was received.
    pub(crate) fn log_lines(&self) -> Receiver<Line> {
        self.log.lines.clone()
    }

    /// Writes `first`, if any, and the log lines that have come after it.
    pub(crate) fn log(&mut self, first: Option<Line>) {
        // What comes while these are written waits for the next call: a flood must not keep us here.
        let waiting = self.log.lines.len();
        let mut lines: Vec<Line> = first.into_iter().chain(self.log.lines.try_iter().take(waiting)).collect();
        let dropped = self.log.dropped();
        if dropped > 0 {
            let text =
                format!("{dropped} log lines were dropped: they came faster than they could be written");
            lines.push(Line::new(Level::Warn, "ptorrent", &text));
        }
        if !lines.is_empty() {
            self.write_log(&lines);
        }
    }

    /// Errors go to standard error in any case. A standard error that is gone is no reason to stop.
    fn write_log(&mut self, lines: &[Line]) {
        let (mut screen, mut kept) = (String::new(), String::new());
        for line in lines {
            if self.file.is_some() {
                kept.push_str(&line.in_file());
            }
            if self.file.is_none() || line.level == Level::Error {
                screen.push_str(&line.on_terminal());
            }
        }
        if let Some(Err(error)) = self.file.as_mut().map(|file| file.write_all(kept.as_bytes())) {
            self.file = None;
            screen.push_str(&format!("ptorrent: warning: cannot write the log file: {error}\n"));
        }
        if !screen.is_empty() {
            self.tell(&screen);
        }
    }

    /// Writes a text of several lines to standard error, fit for a terminal by who made it.
    pub(crate) fn tell(&mut self, text: &str) {
        let _ = self.erase();
        let _ = self.err.write_all(text.as_bytes()).and_then(|()| self.err.flush());
        let _ = self.draw();
    }

    /// Shows these lines, one row each, in place of the last ones. Nothing happens where the stream is no terminal.
    pub(crate) fn show_status(&mut self, stream: Stream, lines: Vec<String>) -> Result<(), Error> {
        self.erase()?;
        self.stream = stream;
        self.status = lines;
        self.draw()
    }

    /// Takes the status lines off the screen.
    pub(crate) fn clear_status(&mut self) -> Result<(), Error> {
        self.show_status(self.stream, Vec::new())
    }

    fn screen(&mut self) -> &mut dyn Write {
        match self.stream {
            Stream::Out => &mut *self.out,
            Stream::Err => &mut *self.err,
        }
    }

    fn write_screen(&mut self, text: &str) -> Result<(), Error> {
        let screen = self.screen();
        let written = screen.write_all(text.as_bytes()).and_then(|()| screen.flush());
        written.map_err(|e| broken(&e, true))
    }

    /// The cursor stands below the lines, so that they are whole whenever the program ends; but on a terminal of one
    /// row they would scroll away.
    fn draw(&mut self) -> Result<(), Error> {
        if self.status.is_empty() || !self.is_terminal(self.stream) || self.is_behind() {
            return Ok(());
        }
        let mut text = self.status.join("\n");
        self.at_end = self.status.len() >= self.size().1;
        if !self.at_end {
            text.push('\n');
        }
        self.drawn = self.status.iter().map(|line| width(line)).collect();
        self.write_screen(&text)
    }

    fn erase(&mut self) -> Result<(), Error> {
        let stops = terminal::stops();
        if std::mem::replace(&mut self.stops, stops) != stops || self.is_behind() {
            // What stands above the cursor now is not ours.
            self.drawn.clear();
        }
        if self.drawn.is_empty() {
            return Ok(());
        }
        // A terminal made narrower since has wrapped them.
        let columns = self.size().0.max(1);
        let rows: usize = self.drawn.iter().map(|width| width.div_ceil(columns).max(1)).sum();
        self.drawn.clear();
        match rows - usize::from(self.at_end) {
            0 => self.write_screen("\r\x1b[J"),
            up => self.write_screen(&format!("\x1b[{up}A\r\x1b[J")),
        }
    }

    /// Whether the screen is another job's.
    fn is_behind(&self) -> bool {
        self.takes_signals && terminal::is_behind()
    }

    /// Writes what is left to be said. The last status lines stay.
    pub(crate) fn finish(&mut self) {
        self.log(None);
        if self.at_end && !self.drawn.is_empty() && !self.is_behind() {
            let _ = self.write_screen("\n");
        }
        let _ = self.out.flush();
        let _ = self.err.flush();
    }
}

/// Opens a log file at its end.
fn appended(path: &Path) -> Result<File, Error> {
    let file = OpenOptions::new().append(true).create(true).open(path);
    file.map_err(|e| failed(format_args!("cannot open {}", shown(path)), &e))
}

/// What a failed write to a terminal or to standard output means.
fn broken(error: &io::Error, is_terminal: bool) -> Error {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Error::Closed,
        // Its window was closed.
        _ if is_terminal && error.raw_os_error() == Some(Errno::IO.raw_os_error()) => Error::Closed,
        _ => Error::Failed(Reason::Io, format!("cannot write to standard output: {error}")),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Calls `f` with a console on two terminals, 40 columns wide, and gives what it wrote.
    pub(crate) fn on_terminal(terminal: bool, f: impl FnOnce(&mut Console<'_>)) -> (String, String) {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut env = Env {
            args: Vec::new(),
            dir: PathBuf::new(),
            out: &mut out,
            out_is_terminal: terminal,
            err: &mut err,
            err_is_terminal: terminal,
            in_is_terminal: terminal,
            size: || Some((40, 10)),
            columns: None,
            takes_signals: false,
            rust_log: None,
            roots: Roots::Usual,
            state_dir: None,
            config: None,
            home: None,
        };
        f(&mut Console::new(&mut env));
        (String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
    }

    #[test]
    fn log_lines_go_above_the_status() {
        let (out, err) = on_terminal(true, |console| {
            console.show_status(Stream::Out, vec!["a".into(), "x".repeat(41)]).unwrap();
            console.warn("careful");
            console.print("result\n").unwrap();
            console.clear_status().unwrap();
        });
        // Two lines, the second wrapped: three rows up before anything else is written.
        let status = format!("a\n{}\n", "x".repeat(41));
        let up = "\x1b[3A\r\x1b[J";
        assert_eq!(out, format!("{status}{up}{status}{up}result\n{status}{up}"));
        assert_eq!(err, "ptorrent: warning: careful\n");
    }

    #[test]
    fn there_is_no_status_off_a_terminal() {
        let (out, _) = on_terminal(false, |console| {
            console.show_status(Stream::Out, vec!["a".into()]).unwrap();
            console.print("b\n").unwrap();
            console.clear_status().unwrap();
        });
        assert_eq!(out, "b\n");
    }

    #[test]
    fn quiet_lets_only_errors_through() {
        let (_, err) = on_terminal(false, |console| {
            console.level = LevelFilter::Error;
            console.warn("careful");
            console.error("broken");
        });
        assert_eq!(err, "ptorrent: broken\n");
    }
}
