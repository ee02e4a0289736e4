//! Downloads from a web seed that serves whole files only. Each pass reads its files in the order of the torrent. Blocks
//! that are on disk, or requested from peers, are skipped; they take as long as the others, so skipped bytes are counted.

use crate::api::WebPart;
use crate::limits::WEB_SKIP_FREE;

/// How far a web seed is read.
#[derive(Default)]
pub(super) struct WholeFiles {
    /// The offset in the torrent behind the last block that was ordered in this pass.
    pos: u64,
    /// The file that its server is sending, and the offset in it of the next byte; None: none is for sure.
    sending: Option<(usize, u64)>,
    /// Bytes of this pass that are between the ranges that were ordered, and payload that came.
    skipped: u64,
    came: u64,
    /// Passes in a row that cost far more than they brought.
    wasted: u32,
}

impl WholeFiles {
    pub(super) fn pos(&self) -> u64 {
        self.pos
    }

    /// How many bytes would be skipped before and between these ranges, and what the server would be sending then.
    fn follow(&self, parts: &[WebPart]) -> (u64, Option<(usize, u64)>) {
        let (mut skipped, mut sending) = (0u64, self.sending);
        for part in parts {
            let WebPart::Range { file, from, len, .. } = part else { continue };
            let start = match sending {
                Some((at, pos)) if at == *file && pos <= *from => pos,
                _ => 0,
            };
            skipped = skipped.saturating_add(from - start);
            sending = Some((*file, from.saturating_add(*len)));
        }
        (skipped, sending)
    }

    /// How many bytes would be skipped for these ranges.
    pub(super) fn cost(&self, parts: &[WebPart]) -> u64 {
        self.follow(parts).0
    }

    /// These ranges are ordered; their blocks end at `end` in the torrent.
    pub(super) fn on_ordered(&mut self, parts: &[WebPart], end: u64) {
        let (skipped, sending) = self.follow(parts);
        self.skipped = self.skipped.saturating_add(skipped);
        (self.pos, self.sending) = (end, sending);
    }

    pub(super) fn on_block(&mut self, len: u32) {
        self.came += u64::from(len);
    }

    /// Its thread is free for others: the connection may be closed.
    pub(super) fn on_idle(&mut self) {
        self.sending = None;
    }

    /// The pass has ended, or broke off: the next one begins with the first piece that is missing. Gives how many passes in
    /// a row were not worth it.
    pub(super) fn end_pass(&mut self) -> u32 {
        const WORTH: u64 = 8;
        let wasted = if self.skipped > WEB_SKIP_FREE.saturating_add(self.came.saturating_mul(WORTH)) {
            self.wasted + 1
        } else if self.came > 0 {
            0
        } else {
            self.wasted
        };
        *self = WholeFiles { wasted, ..WholeFiles::default() };
        wasted
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::tracker::url::Url;
    use std::sync::Arc;

    fn range(file: usize, from: u64, len: u64) -> WebPart {
        let url = Arc::new(Url::parse("http://a/").unwrap());
        WebPart::Range { url, addrs: Arc::from([]), file, size: u64::MAX, from, len }
    }

    #[test]
    fn skipped_bytes_are_those_between_ranges_of_one_exchange() {
        let mut whole = WholeFiles::default();
        let parts = [range(0, 100, 50), WebPart::Zeros(7), range(1, 0, 10), range(1, 30, 10)];
        assert_eq!(whole.cost(&parts), 100 + 20);
        whole.on_ordered(&parts, 500);
        assert_eq!((whole.pos(), whole.cost(&[range(1, 45, 1)])), (500, 5));
        // What the server has passed comes with a new exchange, and so does all once it may be closed.
        assert_eq!(whole.cost(&[range(1, 39, 1)]), 39);
        whole.on_idle();
        assert_eq!(whole.cost(&[range(1, 45, 1)]), 45);
        assert_eq!(whole.cost(&[range(0, u64::MAX - 1, 1), range(1, u64::MAX - 1, 1)]), u64::MAX);
    }

    #[test]
    fn passes_that_bring_little_for_what_they_cost_are_counted() {
        let mut whole = WholeFiles::default();
        let mut pass = |skipped: u64, came: u32| {
            whole.on_ordered(&[range(0, skipped, 1)], 1);
            whole.on_block(came);
            whole.end_pass()
        };
        assert_eq!((pass(WEB_SKIP_FREE, 0), pass(WEB_SKIP_FREE + 1, 0)), (0, 1));
        assert_eq!((pass(WEB_SKIP_FREE + 80, 9), pass(WEB_SKIP_FREE + 80, 11)), (2, 0));
        assert_eq!((pass(u64::MAX, 1), pass(0, 0), pass(0, 1)), (1, 1, 0));
    }
}
