//! The bell of the net thread: who sends to it rings after, and only when it sleeps.

use std::sync::atomic::{AtomicBool, Ordering};

/// Wakes a thread that sleeps in its poller. A call while it is awake costs one atomic operation, no system call.
pub struct Wake {
    asleep: AtomicBool,
    notify: Box<dyn Fn() + Send + Sync>,
}

impl Wake {
    /// A bell that rings by calling `notify`.
    pub fn new(notify: Box<dyn Fn() + Send + Sync>) -> Wake {
        Wake { asleep: AtomicBool::new(false), notify }
    }

    /// Says that the owner is about to sleep. It must look into its channels once more after this, before it does:
    /// what is sent from now on rings.
    pub fn doze(&self) {
        self.asleep.store(true, Ordering::SeqCst);
    }

    /// Says that the owner is awake.
    pub fn rise(&self) {
        self.asleep.store(false, Ordering::SeqCst);
    }

    /// Called after something was put in a channel of the owner.
    pub fn ring(&self) {
        if self.asleep.swap(false, Ordering::SeqCst) {
            (self.notify)();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::AtomicU32;

    #[test]
    fn it_rings_once_and_only_for_a_sleeper() {
        let count = Arc::new(AtomicU32::new(0));
        let seen = count.clone();
        let wake = Wake::new(Box::new(move || {
            seen.fetch_add(1, Ordering::Relaxed);
        }));
        wake.ring();
        wake.doze();
        wake.ring();
        wake.ring();
        assert_eq!(count.load(Ordering::Relaxed), 1);
        wake.doze();
        wake.rise();
        wake.ring();
        assert_eq!(count.load(Ordering::Relaxed), 1);
    }
}
