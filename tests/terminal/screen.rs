//! A terminal in the hands of the test: a pseudo-terminal, the program on it, and what a screen of its size shows.

use rustix::process::{Pid, Signal, kill_process};
use rustix::termios::{LocalModes, SpecialCodeIndex, Winsize, tcgetattr, tcsetwinsize};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::FromRawFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// How long anything may take: far longer than it does on the slowest machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is to be seen.
#[derive(Default)]
pub(crate) struct Picture {
    size: (usize, usize),
    /// Where the cursor is: row, column.
    cursor: (usize, usize),
    rows: Vec<Vec<char>>,
    /// Rows that have gone out at the top.
    pub(crate) scrolled: usize,
    /// All that was written.
    pub(crate) raw: String,
    escape: Option<String>,
}

impl Picture {
    fn resize(&mut self, columns: usize, rows: usize) {
        self.size = (columns, rows);
        self.rows.resize(rows, Vec::new());
        self.cursor.0 = self.cursor.0.min(rows - 1);
    }

    fn write(&mut self, text: &str) {
        self.raw += text;
        for c in text.chars() {
            match (self.escape.take(), c) {
                (Some(begun), c) => self.escape(begun + &c.to_string()),
                (None, '\x1b') => self.escape = Some(String::new()),
                (None, '\r') => self.cursor.1 = 0,
                (None, '\n') => self.line_feed(),
                (None, '\x07' | '\x08') => {}
                (None, c) => self.put(c),
            }
        }
    }

    fn line_feed(&mut self) {
        self.cursor.0 += 1;
        if self.cursor.0 == self.size.1 {
            self.rows.remove(0);
            self.rows.push(Vec::new());
            self.cursor.0 -= 1;
            self.scrolled += 1;
        }
    }

    fn put(&mut self, c: char) {
        assert!(!c.is_control(), "{c:?} controls the terminal");
        let width = if ('\u{1100}'..'\u{1f000}').contains(&c) && c != '\u{fffd}' { 2 } else { 1 };
        if self.cursor.1 + width > self.size.0 {
            self.cursor.1 = 0;
            self.line_feed();
        }
        let row = &mut self.rows[self.cursor.0];
        row.resize(row.len().max(self.cursor.1 + width), ' ');
        row[self.cursor.1] = c;
        self.cursor.1 += width;
    }

    fn escape(&mut self, code: String) {
        match code.as_bytes() {
            [b'[', number @ .., b'A'] => {
                let up: usize = std::str::from_utf8(number).unwrap().parse().unwrap();
                assert!(up > 0, "a terminal takes 0 for 1");
                self.cursor.0 = self.cursor.0.saturating_sub(up);
            }
            b"[J" => {
                self.rows[self.cursor.0].truncate(self.cursor.1);
                self.rows[self.cursor.0 + 1..].iter_mut().for_each(Vec::clear);
            }
            [b'[', .., last] if last.is_ascii_alphabetic() => panic!("unknown escape {code:?}"),
            _ => self.escape = Some(code),
        }
    }

    /// The rows that are not empty.
    pub(crate) fn lines(&self) -> Vec<String> {
        let lines = self.rows.iter().map(|row| row.iter().collect::<String>().trim_end().to_string());
        lines.filter(|line| !line.is_empty()).collect()
    }
}

/// A terminal and the program on it, which is killed at the latest when the test ends.
pub(crate) struct Screen {
    pub(crate) child: Child,
    master: File,
    /// Kept open, so that the terminal outlives the program.
    slave: File,
    seen: Arc<(Mutex<Picture>, Condvar)>,
}

impl Screen {
    /// Runs it on a terminal of that many columns and rows, in a session of its own; its standard output goes to `out`,
    /// if that is given.
    #[expect(unsafe_code, reason = "openpty, and the child's way to its controlling terminal")]
    pub(crate) fn run(mut command: Command, (columns, rows): (usize, usize), out: Option<Stdio>) -> Screen {
        let (mut master, mut slave) = (0, 0);
        let null = std::ptr::null_mut;
        // SAFETY: both places are valid, nothing else is asked for; the descriptors are ours alone, and open.
        let (master, slave) = unsafe {
            assert_eq!(libc::openpty(&mut master, &mut slave, null(), null().cast(), null().cast()), 0);
            libc::fcntl(master, libc::F_SETFD, libc::FD_CLOEXEC);
            libc::fcntl(slave, libc::F_SETFD, libc::FD_CLOEXEC);
            (File::from_raw_fd(master), File::from_raw_fd(slave))
        };
        let standard = || Stdio::from(slave.try_clone().unwrap());
        command.stdin(standard()).stderr(standard()).stdout(out.unwrap_or_else(standard));
        // SAFETY: between fork and exec there are but two system calls.
        unsafe {
            command.pre_exec(|| {
                rustix::process::setsid()?;
                Ok(rustix::process::ioctl_tiocsctty(std::io::stdin())?)
            });
        }
        let mut picture = Picture::default();
        picture.resize(columns, rows);
        let seen = Arc::new((Mutex::new(picture), Condvar::new()));
        set_size(&master, columns, rows);
        let child = command.spawn().unwrap();
        let (mut reader, shared) = (master.try_clone().unwrap(), seen.clone());
        thread::spawn(move || show(&mut reader, &shared));
        Screen { child, master, slave, seen }
    }

    /// Waits until the picture is as it is to be.
    #[track_caller]
    pub(crate) fn wait(&self, what: &str, is_there: impl Fn(&Picture) -> bool) {
        let (picture, changed) = &*self.seen;
        let wait =
            changed.wait_timeout_while(picture.lock().unwrap(), PATIENCE, |picture| !is_there(picture));
        let (picture, time) = wait.unwrap();
        assert!(
            !time.timed_out(),
            "{what} does not come:\n{}\n{:?}",
            picture.lines().join("\n"),
            picture.raw
        );
    }

    /// Waits until a row holds this text.
    #[track_caller]
    pub(crate) fn wait_for(&self, text: &str) {
        self.wait(text, |picture| picture.lines().iter().any(|line| line.contains(text)));
    }

    /// What is to be seen now.
    pub(crate) fn look<T>(&self, at: impl FnOnce(&Picture) -> T) -> T {
        at(&self.seen.0.lock().unwrap())
    }

    /// Presses keys.
    pub(crate) fn press(&self, keys: &str) {
        (&self.master).write_all(keys.as_bytes()).unwrap();
    }

    /// Writes to the screen as another program does.
    pub(crate) fn scribble(&self, text: &str) {
        (&self.slave).write_all(text.as_bytes()).unwrap();
    }

    /// Makes the terminal larger or smaller; the program is told as usual.
    pub(crate) fn resize(&self, columns: usize, rows: usize) {
        self.seen.0.lock().unwrap().resize(columns, rows);
        set_size(&self.master, columns, rows);
    }

    /// Whether lines are edited and keys echoed, as they are where nobody changed it.
    pub(crate) fn is_as_it_was(&self) -> bool {
        let modes = tcgetattr(&self.slave).unwrap();
        let both = LocalModes::ICANON | LocalModes::ECHO;
        let codes =
            (modes.special_codes[SpecialCodeIndex::VMIN], modes.special_codes[SpecialCodeIndex::VTIME]);
        modes.local_modes.contains(both) && codes == (1, 0)
    }

    /// Waits until the program has taken the terminal.
    #[track_caller]
    pub(crate) fn wait_until_taken(&self) {
        self.poll("the terminal is taken", || !self.is_as_it_was());
    }

    /// Waits for what nobody tells of.
    #[track_caller]
    pub(crate) fn poll(&self, what: &str, is: impl Fn() -> bool) {
        let start = now();
        while !is() {
            assert!(
                now() - start < PATIENCE,
                "it does not come that {what}: {:?}",
                self.look(Picture::lines)
            );
            thread::sleep(Duration::from_millis(5));
        }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// The end of the program: its exit status, or the signal that ended it.
    #[track_caller]
    pub(crate) fn end(&mut self) -> Result<i32, i32> {
        let start = now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code().ok_or_else(|| status.signal().unwrap());
            }
            assert!(now() - start < PATIENCE, "it does not end: {:?}", self.look(Picture::lines));
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn now() -> Instant {
    Instant::now()
}

fn set_size(terminal: &File, columns: usize, rows: usize) {
    let (ws_col, ws_row) = (columns as u16, rows as u16);
    tcsetwinsize(terminal, Winsize { ws_row, ws_col, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
}

/// Brings what is written to the terminal into the picture.
fn show(terminal: &mut File, seen: &(Mutex<Picture>, Condvar)) {
    let (mut bytes, mut part) = (Vec::new(), [0; 4096]);
    // The end is the test's: its descriptors are closed.
    while let Ok(n) = terminal.read(&mut part) {
        if n == 0 {
            return;
        }
        bytes.extend(&part[..n]);
        let whole = match std::str::from_utf8(&bytes) {
            Ok(_) => bytes.len(),
            Err(error) => error.valid_up_to(),
        };
        let text = String::from_utf8(bytes.drain(..whole).collect()).unwrap();
        seen.0.lock().unwrap().write(&text);
        seen.1.notify_all();
    }
}
