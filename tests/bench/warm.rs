//! Memory that is kept touched. A virtual machine hands idle memory back to its host, and getting it again can cost
//! more than what is measured: this is let go just before each run, so that the run finds it warm.

use std::fs;
use std::hint::black_box;

use crate::usage::field;

pub(crate) struct Warm {
    bytes: usize,
    held: Vec<u8>,
}

impl Warm {
    /// At most half of what is free.
    pub(crate) fn new(wanted: usize) -> Warm {
        let info = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let free = field(&info, "MemAvailable:") as usize * 1024;
        Warm { bytes: wanted.min(free / 2), held: Vec::new() }
    }

    pub(crate) fn hold(&mut self) {
        self.held = vec![0; self.bytes];
        for page in self.held.chunks_mut(4096) {
            page[0] = 1;
        }
        black_box(&self.held);
    }

    pub(crate) fn let_go(&mut self) {
        self.held = Vec::new();
    }
}
