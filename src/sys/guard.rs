//! The net thread must never block. In debug builds every place that may block asserts that it is elsewhere.

use std::cell::Cell;

thread_local! {
    static NET: Cell<bool> = const { Cell::new(false) };
}

/// Says that this thread is the net thread, from here to its end.
pub fn mark_net_thread() {
    NET.set(true);
}

/// Called before what may block (file I/O, name look-ups).
///
/// # Panics
/// On the net thread, in debug builds: that is a bug.
pub fn assert_may_block() {
    debug_assert!(!NET.get(), "a blocking call on the net thread");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_may_block_until_it_is_marked() {
        assert_may_block();
        NET.set(true);
        assert!(NET.get());
        NET.set(false);
    }
}
