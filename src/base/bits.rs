//! A fixed number of bits, in the order of the wire: bit 0 is the high bit of byte 0 (BEP 3, bitfield).

/// A set of piece (or block) numbers below a fixed length, with the count of its members at hand.
#[derive(Clone, Eq, Debug, Default)]
pub struct Bitfield {
    /// Empty where all bits are alike and [`Bitfield::settle`] found so.
    bytes: Box<[u8]>,
    len: u32,
    ones: u32,
}

impl PartialEq for Bitfield {
    fn eq(&self, other: &Bitfield) -> bool {
        let alike = self.ones == 0 || self.ones == self.len;
        (self.len, self.ones) == (other.len, other.ones) && (alike || self.bytes == other.bytes)
    }
}

impl Bitfield {
    /// `len` bits, all set or all clear, that take no memory as long as they are alike.
    pub fn uniform(len: u32, set: bool) -> Bitfield {
        Bitfield { bytes: Box::default(), len, ones: if set { len } else { 0 } }
    }

    /// Gives its memory free if all bits are alike.
    pub fn settle(&mut self) {
        if self.ones == 0 || self.ones == self.len {
            self.bytes = Box::default();
        }
    }

    /// There are bytes from now on.
    fn unsettle(&mut self) {
        if self.bytes.is_empty() {
            *self = if self.ones == 0 { Bitfield::new(self.len) } else { Bitfield::full(self.len) };
        }
    }

    /// `len` bits, all clear.
    pub fn new(len: u32) -> Bitfield {
        Bitfield { bytes: vec![0; Self::bytes_for(len)].into(), len, ones: 0 }
    }

    /// `len` bits, all set.
    pub fn full(len: u32) -> Bitfield {
        let mut bytes: Box<[u8]> = vec![0xff; Self::bytes_for(len)].into();
        if !len.is_multiple_of(8)
            && let Some(last) = bytes.last_mut()
        {
            *last = 0xff << (8 - len % 8);
        }
        Bitfield { bytes, len, ones: len }
    }

    /// The bits that came over the wire. None when the length is not the one due, or when a spare bit is set
    /// (BEP 3: such a connection is dropped).
    pub fn from_bytes(bytes: &[u8], len: u32) -> Option<Bitfield> {
        if bytes.len() != Self::bytes_for(len) {
            return None;
        }
        if !len.is_multiple_of(8) && bytes.last().is_some_and(|&last| last << (len % 8) != 0) {
            return None;
        }
        let ones = bytes.iter().map(|b| b.count_ones()).sum();
        Some(Bitfield { bytes: bytes.into(), len, ones })
    }

    /// How many bytes `len` bits take.
    pub fn bytes_for(len: u32) -> usize {
        len.div_ceil(8) as usize
    }

    /// The bytes as they go over the wire; none of a settled one, which must not be full.
    pub fn as_bytes(&self) -> &[u8] {
        debug_assert!(!self.bytes.is_empty() || self.ones == 0, "who has all is asked differently");
        &self.bytes
    }

    /// The number of bits, set or not.
    pub fn len(&self) -> u32 {
        self.len
    }

    /// Whether there are no bits at all (a length of 0).
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The number of bits set.
    pub fn count(&self) -> u32 {
        self.ones
    }

    /// Whether every bit is set.
    pub fn all(&self) -> bool {
        self.ones == self.len
    }

    /// Whether bit `i` is set; false past the end.
    pub fn get(&self, i: u32) -> bool {
        let byte = self.bytes.get((i / 8) as usize);
        i < self.len && byte.map_or(self.ones > 0, |byte| byte & (0x80 >> (i % 8)) != 0)
    }

    /// Sets bit `i`; tells whether that changed it. A bit past the end is left alone.
    pub fn set(&mut self, i: u32) -> bool {
        if i >= self.len || self.get(i) {
            return false;
        }
        self.unsettle();
        self.bytes[(i / 8) as usize] |= 0x80 >> (i % 8);
        self.ones += 1;
        true
    }

    /// Clears bit `i`; tells whether that changed it.
    pub fn clear(&mut self, i: u32) -> bool {
        if !self.get(i) {
            return false;
        }
        self.unsettle();
        self.bytes[(i / 8) as usize] &= !(0x80 >> (i % 8));
        self.ones -= 1;
        true
    }

    /// The first clear bit at or after `from`.
    pub fn first_clear(&self, from: u32) -> Option<u32> {
        if self.bytes.is_empty() {
            return Some(from).filter(|from| *from < self.len && self.ones == 0);
        }
        let mut i = from;
        while i < self.len {
            if i.is_multiple_of(8) && self.bytes[(i / 8) as usize] == 0xff {
                i += 8;
            } else if self.get(i) {
                i += 1;
            } else {
                return Some(i);
            }
        }
        None
    }

    /// Bits `64 * at` and those after it, the first one on top; clear past the end of the bytes.
    fn word(&self, at: usize) -> u64 {
        if self.bytes.is_empty() {
            return if self.ones > 0 { u64::MAX } else { 0 };
        }
        let bytes = self.bytes.get(at * 8..).unwrap_or_default();
        match bytes.first_chunk() {
            Some(word) => u64::from_be_bytes(*word),
            None => (0..8).fold(0, |word, i| word << 8 | u64::from(bytes.get(i).copied().unwrap_or(0))),
        }
    }

    /// The first bit at or after `from` that is set here and clear in `other`, which has the same length. It looks at 64
    /// of them at a time.
    pub fn next_not_in(&self, other: &Bitfield, from: u32) -> Option<u32> {
        let mut mask = u64::MAX >> (from % 64);
        for at in from / 64..self.len.div_ceil(64) {
            let word = self.word(at as usize) & !other.word(at as usize) & mask;
            if word != 0 {
                return Some(at * 64 + word.leading_zeros()).filter(|bit| *bit < self.len);
            }
            mask = u64::MAX;
        }
        None
    }

    /// The numbers of the set bits, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        let settled = if self.bytes.is_empty() { self.ones } else { 0 };
        let rest = self.bytes.iter().enumerate().filter(|(_, b)| **b != 0).flat_map(|(at, b)| {
            let b = *b;
            (0..8).filter(move |bit| b & (0x80 >> bit) != 0).map(move |bit| at as u32 * 8 + bit)
        });
        (0..settled).chain(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_in_the_order_of_the_wire() {
        let mut bits = Bitfield::new(10);
        assert!(bits.set(0) && bits.set(9) && !bits.set(9) && !bits.set(10));
        assert_eq!(bits.as_bytes(), [0x80, 0x40]);
        assert_eq!(bits.iter().collect::<Vec<_>>(), [0, 9]);
        assert!(bits.clear(0) && !bits.clear(0) && !bits.clear(99));
        assert_eq!((bits.count(), bits.len(), bits.all()), (1, 10, false));
    }

    #[test]
    fn a_wrong_length_or_a_spare_bit_is_refused() {
        assert!(Bitfield::from_bytes(&[0xff], 10).is_none());
        assert!(Bitfield::from_bytes(&[0xff, 0xe0], 10).is_none());
        assert!(Bitfield::from_bytes(&[0xff, 0xc0, 0], 10).is_none());
        let full = Bitfield::from_bytes(&[0xff, 0xc0], 10).unwrap();
        assert!(full.all());
        assert_eq!(full, Bitfield::full(10));
        assert_eq!(Bitfield::full(16).as_bytes(), [0xff, 0xff]);
        assert!(Bitfield::from_bytes(&[], 0).unwrap().is_empty());
    }

    #[test]
    fn bits_that_are_alike_take_no_memory_and_are_the_same() {
        for (len, set) in [(1, true), (8, false), (100, true), (100, false)] {
            let plain = if set { Bitfield::full(len) } else { Bitfield::new(len) };
            let mut bits = plain.clone();
            bits.settle();
            assert!(bits.bytes.is_empty() && bits == plain && bits == Bitfield::uniform(len, set));
            assert_eq!((bits.get(0), bits.get(len - 1), bits.get(len)), (set, set, false));
            assert!(bits.iter().eq(plain.iter()) && bits.first_clear(0) == plain.first_clear(0));
            assert_eq!((bits.count(), bits.all(), bits.first_clear(len)), (plain.count(), set, None));
            let mut other = plain.clone();
            assert_eq!((bits.set(0), other.set(0)), (!set, !set));
            assert_eq!((bits.clear(len - 1), other.clear(len - 1)), (set || len == 1, set || len == 1));
            assert!(bits == other && bits.iter().eq(other.iter()));
            bits.settle();
            assert_eq!(bits.bytes.is_empty(), len == 1);
        }
        assert_eq!(Bitfield::uniform(0, true), Bitfield::new(0));
    }

    #[test]
    fn the_next_bit_that_another_field_lacks_is_found() {
        let mut rng = crate::base::rng::Rng::new([3; 32]);
        for _ in 0..if cfg!(miri) { 4 } else { 200 } {
            let len = rng.below(300);
            let [mut a, mut b] = [(); 2].map(|()| {
                let mut bits = Bitfield::new(len);
                (0..rng.below(2 * len + 1)).for_each(|_| _ = bits.set(rng.below(len)));
                bits
            });
            for (a_like, b_like) in
                [(None, None), (Some(true), None), (None, Some(false)), (Some(true), Some(true))]
            {
                a = a_like.map_or(a, |set| Bitfield::uniform(len, set));
                b = b_like.map_or(b, |set| Bitfield::uniform(len, set));
                let from = rng.below(len + 2);
                let naive = (from..len).find(|bit| a.get(*bit) && !b.get(*bit));
                assert_eq!(a.next_not_in(&b, from), naive, "{a:?} {b:?} {from}");
            }
        }
    }

    #[test]
    fn first_clear_skips_whole_bytes() {
        let mut bits = Bitfield::full(100);
        assert_eq!(bits.first_clear(0), None);
        bits.clear(77);
        assert_eq!(bits.first_clear(0), Some(77));
        assert_eq!(bits.first_clear(77), Some(77));
        assert_eq!(bits.first_clear(78), None);
    }
}
