//! The thread of the key exchanges of message stream encryption: a power is too long a sum for the net thread, and must
//! not stand behind a busy disk. It is there while there is something to do.

use super::STACK;
use crate::api::PeerId;
use crate::base::wake::Wake;
use crate::limits::HELPER_IDLE;
use crate::proto::mse::{Key, Power};
use crossbeam_channel::{Sender, TrySendError};
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

/// The way to it.
pub struct Powers {
    shared: Arc<Shared>,
}

struct Shared {
    answers: Sender<(PeerId, Key)>,
    wake: Arc<Wake>,
    state: Mutex<State>,
    bell: Condvar,
}

#[derive(Default)]
struct State {
    queue: VecDeque<(PeerId, Power)>,
    running: bool,
    closed: bool,
}

impl Powers {
    /// No thread yet. `answers` must have room for all that are asked for at a time; `wake` rings after each.
    pub fn new(answers: Sender<(PeerId, Key)>, wake: Arc<Wake>) -> Powers {
        let (state, bell) = (Mutex::default(), Condvar::new());
        Powers { shared: Arc::new(Shared { answers, wake, state, bell }) }
    }

    /// Has a power computed for a peer; one answer follows. Never blocks for long.
    pub fn raise(&self, peer: PeerId, power: Power) {
        let mut state = self.shared.lock();
        state.queue.push_back((peer, power));
        if state.running {
            self.shared.bell.notify_one();
            return;
        }
        let shared = self.shared.clone();
        let thread = thread::Builder::new().name("ptorrent-mse".to_owned()).stack_size(STACK);
        match thread.spawn(move || shared.work()) {
            Ok(_) => state.running = true,
            // The peer is given up in time; the next one tries again.
            Err(error) => log::warn!("cannot start a thread for encrypted handshakes: {error}"),
        }
    }
}

impl Drop for Powers {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.bell.notify_one();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        while let Some((peer, power)) = self.next() {
            match self.answers.try_send((peer, power.raise())) {
                Ok(()) => self.wake.ring(),
                Err(TrySendError::Full(answer)) => {
                    debug_assert!(false, "more powers out than the channel has room for");
                    self.wake.ring();
                    let _ = self.answers.send(answer);
                    self.wake.ring();
                }
                Err(TrySendError::Disconnected(_)) => {}
            }
        }
    }

    /// The next one; None when the thread has been idle for long, or is not needed any more.
    fn next(&self) -> Option<(PeerId, Power)> {
        let mut state = self.lock();
        loop {
            if let Some(next) = state.queue.pop_front().filter(|_| !state.closed) {
                return Some(next);
            }
            let (held, slept) =
                self.bell.wait_timeout(state, HELPER_IDLE).unwrap_or_else(PoisonError::into_inner);
            state = held;
            if state.closed || slept.timed_out() && state.queue.is_empty() {
                state.running = false;
                return None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::arena::Handle;
    use crate::proto::mse::dh::GENERATOR;
    use crossbeam_channel::bounded;

    #[test]
    fn each_power_is_answered_in_turn_by_one_thread_on_demand() {
        let (tx, rx) = bounded(8);
        let powers = Powers::new(tx, Arc::new(Wake::new(Box::new(|| {}))));
        assert!(!powers.shared.lock().running);
        for n in 0..8 {
            powers.raise(PeerId::from_bits(n), Power { base: GENERATOR, secret: [n as u8; 20] });
        }
        for n in 0..8 {
            let due = Power { base: GENERATOR, secret: [n as u8; 20] }.raise();
            assert!(rx.recv().unwrap() == (PeerId::from_bits(n), due));
        }
        let shared = powers.shared.clone();
        assert!(shared.lock().running);
        drop(powers);
        while shared.lock().running {
            thread::yield_now();
        }
    }
}
