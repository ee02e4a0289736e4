//! SHA-1 of several pieces side by side. Each step of a digest needs the step before, so that one alone leaves the
//! processor waiting: four in step take 1.6 times as long as one (docs/PERFORMANCE.md).

use sha1::block_api::compress;

/// So many digests go side by side at most.
pub(super) const WIDE: usize = 4;

type State = [u32; 5];
type Chunk = [u8; 64];

const START: State = [0x6745_2301, 0xEFCD_AB89, 0x98BA_DCFE, 0x1032_5476, 0xC3D2_E1F0];

/// The digest of what it has been given so far.
#[derive(Clone)]
pub(super) struct Sha {
    state: State,
    /// Bytes so far.
    len: u64,
    /// The last of them, where they make no whole chunk.
    tail: Chunk,
}

/// A digest, and slices that it goes on with, one after the other.
pub(super) struct Stream<'a> {
    pub(super) sha: &'a mut Sha,
    pub(super) parts: Vec<&'a [u8]>,
}

impl Sha {
    pub(super) fn new() -> Sha {
        Sha { state: START, len: 0, tail: [0; 64] }
    }

    /// Goes on with these bytes.
    pub(super) fn update(&mut self, bytes: &[u8]) {
        let chunks = self.take_in(bytes);
        compress(&mut self.state, chunks);
    }

    /// Counts these bytes and takes care of those that make no whole chunk; the chunks given back are next.
    fn take_in<'a>(&mut self, mut bytes: &'a [u8]) -> &'a [Chunk] {
        let held = (self.len % 64) as usize;
        self.len += bytes.len() as u64;
        if held > 0 {
            let (now, rest) = bytes.split_at(bytes.len().min(64 - held));
            self.tail[held..held + now.len()].copy_from_slice(now);
            if held + now.len() < 64 {
                return &[];
            }
            compress(&mut self.state, &[self.tail]);
            bytes = rest;
        }
        let (chunks, rest) = bytes.as_chunks();
        self.tail[..rest.len()].copy_from_slice(rest);
        chunks
    }

    /// The digest of all bytes (FIPS 180-4, 5.1.1: a set bit, zeros, the length in bits).
    pub(super) fn finish(mut self) -> [u8; 20] {
        const ZEROS: [u8; 64] = [0; 64];
        let (bits, held) = (self.len.wrapping_mul(8), (self.len % 64) as usize);
        self.update(&[0x80]);
        let zeros = (55 + 64 - held) % 64;
        self.update(&ZEROS[..zeros]);
        self.update(&bits.to_be_bytes());
        let mut digest = [0; 20];
        let words = self.state.iter().flat_map(|word| word.to_be_bytes());
        digest.iter_mut().zip(words).for_each(|(to, byte)| *to = byte);
        digest
    }
}

/// Goes on with all streams, as many side by side as there are.
pub(super) fn side_by_side(streams: &mut [Stream<'_>]) {
    for group in streams.chunks_mut(WIDE) {
        in_step(group);
    }
}

/// Goes on with at most [`WIDE`] streams.
fn in_step(streams: &mut [Stream<'_>]) {
    let mut lanes: Vec<Lane<'_>> = streams.iter_mut().map(Lane::new).collect();
    loop {
        lanes.retain_mut(Lane::fill);
        let Some(count) = lanes.iter().map(|lane| lane.chunks.len()).min() else { return };
        match &mut lanes[..] {
            [a] => {
                let chunks = a.next(count);
                compress(&mut a.sha.state, chunks);
            }
            [a, b] => together([a, b], count),
            [a, b, c] => together([a, b, c], count),
            [a, b, c, d, ..] => together([a, b, c, d], count),
            [] => {}
        }
    }
}

/// A stream on its way.
struct Lane<'a> {
    sha: &'a mut Sha,
    parts: std::slice::Iter<'a, &'a [u8]>,
    /// What is left of the slice at hand.
    chunks: &'a [Chunk],
}

impl<'a> Lane<'a> {
    fn new(stream: &'a mut Stream<'_>) -> Lane<'a> {
        Lane { sha: stream.sha, parts: stream.parts.iter(), chunks: &[] }
    }

    /// Sees to it that there are chunks; false at the end.
    fn fill(&mut self) -> bool {
        while self.chunks.is_empty() {
            let Some(part) = self.parts.next() else { return false };
            self.chunks = self.sha.take_in(part);
        }
        true
    }

    fn next(&mut self, count: usize) -> &'a [Chunk] {
        let (now, rest) = self.chunks.split_at(count);
        self.chunks = rest;
        now
    }
}

/// The next `count` chunks of each lane.
fn together<const N: usize>(mut lanes: [&mut Lane<'_>; N], count: usize) {
    let chunks = lanes.each_mut().map(|lane| lane.next(count));
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("sha") && is_x86_feature_detected!("sse4.1") {
        let mut states = lanes.each_ref().map(|lane| lane.sha.state);
        #[expect(
            unsafe_code,
            reason = "the processor's SHA instructions: half of what a download costs is hashing"
        )]
        // SAFETY: the processor has the features (SSE 4.1 stands for those before it); there is no other condition,
        // the function is safe.
        unsafe {
            x86::compress(&mut states, chunks);
        }
        lanes.iter_mut().zip(states).for_each(|(lane, state)| lane.sha.state = state);
        return;
    }
    lanes.iter_mut().zip(chunks).for_each(|(lane, chunks)| compress(&mut lane.sha.state, chunks));
}

/// SHA-1 with the instructions that x86 has for it, N digests in step.
#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{Chunk, State};
    use std::arch::x86_64::*;

    /// Four words of a chunk, the first one highest.
    #[target_feature(enable = "sha,ssse3,sse4.1")]
    fn words(chunk: &Chunk, at: usize) -> __m128i {
        let bytes = chunk.as_chunks().0.get(at).copied().unwrap_or([0; 16]);
        let number = u128::from_le_bytes(bytes);
        let order = _mm_set_epi64x(0x0001_0203_0405_0607, 0x0809_0A0B_0C0D_0E0F);
        _mm_shuffle_epi8(_mm_set_epi64x((number >> 64) as i64, number as i64), order)
    }

    /// The chunks of all slices, which are equally many, into the states.
    #[target_feature(enable = "sha,ssse3,sse4.1")]
    pub(super) fn compress<const N: usize>(states: &mut [State; N], chunks: [&[Chunk]; N]) {
        // Loops, not `map`: a closure is not compiled into this with the features that this has.
        let (mut abcd, mut e) = ([_mm_setzero_si128(); N], [_mm_setzero_si128(); N]);
        for lane in 0..N {
            let [a, b, c, d, last] = states[lane].map(u32::cast_signed);
            abcd[lane] = _mm_set_epi32(a, b, c, d);
            e[lane] = _mm_set_epi32(last, 0, 0, 0);
        }
        let count = chunks.map(<[Chunk]>::len).into_iter().min().unwrap_or(0);
        #[expect(clippy::needless_range_loop, reason = "every lane has its own row: an index reads best")]
        for at in 0..count {
            let before = (abcd, e);
            let mut schedule = [[_mm_setzero_si128(); 4]; N];
            for lane in 0..N {
                for (four, to) in schedule[lane].iter_mut().enumerate() {
                    *to = words(&chunks[lane][at], four);
                }
            }
            let mut last = e;
            // Four of the 80 steps. The schedule goes round: what is four words old makes room.
            macro_rules! steps {
                ($group:literal, $function:literal) => {
                    for lane in 0..N {
                        let w = &mut schedule[lane];
                        let now = $group % 4;
                        if $group >= 4 {
                            let mixed = _mm_sha1msg1_epu32(w[now], w[(now + 1) % 4]);
                            let mixed = _mm_xor_si128(mixed, w[(now + 2) % 4]);
                            w[now] = _mm_sha1msg2_epu32(mixed, w[(now + 3) % 4]);
                        }
                        let input = match $group {
                            0 => _mm_add_epi32(e[lane], w[now]),
                            _ => _mm_sha1nexte_epu32(last[lane], w[now]),
                        };
                        last[lane] = abcd[lane];
                        abcd[lane] = _mm_sha1rnds4_epu32(abcd[lane], input, $function);
                    }
                };
            }
            macro_rules! round {
                ($function:literal: $($group:literal)*) => { $(steps!($group, $function);)* };
            }
            round!(0: 0 1 2 3 4);
            round!(1: 5 6 7 8 9);
            round!(2: 10 11 12 13 14);
            round!(3: 15 16 17 18 19);
            for lane in 0..N {
                e[lane] = _mm_sha1nexte_epu32(last[lane], before.1[lane]);
                abcd[lane] = _mm_add_epi32(abcd[lane], before.0[lane]);
            }
        }
        for lane in 0..N {
            let high = abcd[lane];
            let words = [
                _mm_extract_epi32(high, 3),
                _mm_extract_epi32(high, 2),
                _mm_extract_epi32(high, 1),
                _mm_extract_epi32(high, 0),
                _mm_extract_epi32(e[lane], 3),
            ];
            states[lane] = words.map(i32::cast_unsigned);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::rng::Rng;
    use sha1::{Digest, Sha1};

    #[test]
    fn streams_of_any_length_in_any_parts_have_the_digests_that_are_due() {
        let mut rng = Rng::new([5; 32]);
        for round in 0..60 {
            let count = 1 + round % (WIDE + 2);
            let mut data = Vec::new();
            for _ in 0..count {
                // Each place of the end in a chunk counts, and long ones have whole chunks in step.
                let most = [200, 5000, 70_000][round % 3];
                let mut bytes = vec![0; rng.below(most) as usize];
                rng.fill(&mut bytes);
                data.push(bytes);
            }
            let mut digests = vec![Sha::new(); count];
            let mut rest: Vec<&[u8]> = data.iter().map(|bytes| &bytes[..]).collect();
            while rest.iter().any(|bytes| !bytes.is_empty()) {
                let mut streams = Vec::new();
                for (sha, rest) in digests.iter_mut().zip(&mut rest) {
                    let mut parts = Vec::new();
                    for _ in 0..rng.below(4) {
                        let step = [64, 100, 16384][rng.index(3)];
                        let (part, later) = rest.split_at(rest.len().min(step));
                        parts.push(part);
                        *rest = later;
                    }
                    streams.push(Stream { sha, parts });
                }
                side_by_side(&mut streams);
            }
            for (sha, bytes) in digests.into_iter().zip(&data) {
                let due: [u8; 20] = Sha1::digest(bytes).into();
                assert_eq!(sha.finish(), due, "{} bytes, {count} side by side", bytes.len());
            }
        }
    }
}
