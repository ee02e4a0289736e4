//! The thread `ptorrent-key`: it reads the keyboard and hears of the terminal's stops and sizes. `q` is an interrupt as
//! Ctrl-C is, so that it works the same however much hangs; `p` is main's to carry out.

use crate::limits::BACKGROUND_LOOK;
use crate::sys::terminal::{Happened, Terminal, restore};
use crossbeam_channel::{Receiver, Sender, bounded};
use rustix::process::{Signal, getpid, kill_process};
use std::io;
use std::thread::{self, JoinHandle};

/// Keys that wait for main; more, pressed while it cannot write, are dropped.
const WAITING: usize = 16;

/// What main has to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Key {
    /// Pause all torrents, or go on with them.
    Pause,
    /// The screen is another one: draw again.
    Redraw,
}

/// The thread. When this is dropped the thread has ended and the terminal is as it was.
pub(crate) struct Keys {
    /// What it tells.
    pub(crate) pressed: Receiver<Key>,
    terminal: Terminal,
    thread: Option<JoinHandle<()>>,
}

impl Keys {
    /// Starts it; without a `keyboard` it only hears of stops and sizes.
    pub(crate) fn start(terminal: &Terminal, keyboard: bool) -> io::Result<Keys> {
        let (sender, pressed) = bounded(WAITING);
        let of_thread = terminal.clone();
        let thread = thread::Builder::new().name("ptorrent-key".to_owned());
        let thread = thread.spawn(move || listen(&of_thread, keyboard, &sender))?;
        Ok(Keys { pressed, terminal: terminal.clone(), thread: Some(thread) })
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        self.terminal.end();
        // A panic there has ended the process.
        self.thread.take().map(JoinHandle::join);
        restore();
    }
}

fn listen(terminal: &Terminal, keyboard: bool, sender: &Sender<Key>) {
    Terminal::prepare_thread();
    loop {
        // A full channel drops the key: main is not there to see what came of the ones before.
        match terminal.next(keyboard, BACKGROUND_LOOK) {
            Happened::Keys(bytes) => {
                for key in keys(&bytes) {
                    match key {
                        b'p' => drop(sender.try_send(Key::Pause)),
                        // A process may always signal itself.
                        b'q' => drop(kill_process(getpid(), Signal::INT)),
                        _ => {}
                    }
                }
            }
            Happened::Look => drop(sender.try_send(Key::Redraw)),
            Happened::End => return,
        }
    }
}

/// The keys among what was read, without arrows and the like: those come as an escape, a bracket or an `O`, perhaps a
/// number, and a last character.
fn keys(bytes: &[u8]) -> Vec<u8> {
    let (mut keys, mut rest) = (Vec::new(), bytes.iter().copied());
    while let Some(byte) = rest.next() {
        if byte != 0x1b {
            keys.push(byte);
        } else if matches!(rest.next(), Some(b'[' | b'O')) {
            rest.by_ref().find(|byte| (0x40..=0x7e).contains(byte));
        }
    }
    keys
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_follows_an_escape_is_no_key() {
        assert_eq!(keys(b"pq"), b"pq");
        assert_eq!(keys(b"x\x1bOq\x1b[15;2~y\x1bqz\x1b"), b"xyz");
    }
}
