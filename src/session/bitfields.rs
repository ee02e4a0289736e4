//! How often a peer may say all that it has. That is due once; aria2 does so again whenever it is shorter than to name
//! each new piece by itself. Each is work over all pieces, so that only those that tell enough are free.

use crate::limits::BITFIELDS_MAX;

/// Bytes of a message that names one piece, and of the head of one that names all.
const HAVE: u64 = 9;
const HEAD: u64 = 5;

/// What one peer has told so.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Bitfields {
    /// Those that told little.
    idle: u32,
    /// The most pieces that it has said to have.
    most: u32,
}

impl Bitfields {
    /// One more came, with so many of so many pieces. Whether it may: those that are shorter than what they stand for
    /// come to less than 73 in all, as the number of pieces goes up with each; of others there may be
    /// [`BITFIELDS_MAX`].
    pub(super) fn allow(&mut self, has: u32, pieces: u32) -> bool {
        let new = u64::from(has.saturating_sub(self.most));
        self.most = self.most.max(has);
        if HEAD + u64::from(pieces.div_ceil(8)) > new * HAVE {
            self.idle += 1;
        }
        self.idle <= BITFIELDS_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_are_free_as_are_shorter_than_what_they_tell() {
        for pieces in [1, 8, 100, 1200, 100_000, 4_000_000] {
            let step = (HEAD + u64::from(pieces / 8) + 1).div_ceil(HAVE) as u32;
            let mut peer = Bitfields::default();
            let told = (1..).map(|n| n * step).take_while(|has| *has <= pieces);
            let mut free = 0;
            for has in told {
                assert!(peer.allow(has, pieces), "{has} of {pieces}");
                free += 1;
            }
            assert!(free <= 72, "{free} of {pieces}");
            // What it loses and gets again is not new.
            let idle =
                (0..100).take_while(|n| peer.allow(if n % 2 == 0 { 0 } else { pieces - step / 2 }, pieces));
            assert!(idle.count() <= BITFIELDS_MAX as usize);
        }
    }

    #[test]
    fn little_news_is_told_a_few_times() {
        let mut peer = Bitfields::default();
        let allowed = (0..100).take_while(|n| peer.allow(*n, 1200));
        assert_eq!(allowed.count(), BITFIELDS_MAX as usize);
    }
}
