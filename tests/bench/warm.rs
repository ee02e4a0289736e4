//! Memory that is kept touched. A virtual machine hands idle memory back to its host, and getting it again can cost
//! more than what is measured: this is let go just before each run, so that the run finds it warm.

use std::fs;
use std::hint::black_box;
use std::thread;

use crate::machine::cores;
use crate::shared::usage::field;

#[derive(Default)]
pub(crate) struct Warm {
    held: Vec<u8>,
}

impl Warm {
    /// Holds so many bytes, at most half of what is free: as many as the next run will want, since touching all that a
    /// long row could want takes longer than a short run.
    pub(crate) fn hold(&mut self, bytes: usize) {
        let info = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let free = field(&info, "MemAvailable:") as usize * 1024;
        self.held = vec![0; bytes.min(free / 2)];
        thread::scope(|scope| {
            for part in self.held.chunks_mut(bytes.div_ceil(cores()).max(1)) {
                scope.spawn(|| part.chunks_mut(4096).for_each(|page| page[0] = 1));
            }
        });
        black_box(&self.held);
    }

    pub(crate) fn let_go(&mut self) {
        self.held = Vec::new();
    }
}
