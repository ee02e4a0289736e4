//! RC4, for hiding. Its tables are read at places that depend on the key, so its timing tells of it; here nothing that
//! has to stay secret depends on the key. Half the cost of the crate `rc4` (docs/PERFORMANCE.md).

/// Bytes of the stream that message stream encryption leaves out at the start.
const DROPPED: usize = 1024;

/// One direction of a stream: 258 bytes.
#[derive(Clone)]
pub struct Rc4 {
    table: [u8; 256],
    i: u8,
    j: u8,
}

impl Rc4 {
    /// A cipher at its start.
    fn new(key: &[u8; 20]) -> Rc4 {
        let mut table: [u8; 256] = std::array::from_fn(|n| n as u8);
        let mut j = 0u8;
        for n in 0..256 {
            j = j.wrapping_add(table[n]).wrapping_add(key[n % key.len()]);
            table.swap(n, usize::from(j));
        }
        Rc4 { table, i: 0, j: 0 }
    }

    /// A cipher of message stream encryption: its first 1024 bytes are left out.
    pub fn stream(key: &[u8; 20]) -> Rc4 {
        let mut rc4 = Rc4::new(key);
        rc4.apply(&mut [0; DROPPED]);
        rc4
    }

    /// Encrypts or decrypts what comes next in the stream, in place.
    pub fn apply(&mut self, data: &mut [u8]) {
        let table = &mut self.table;
        let (mut i, mut j) = (self.i.wrapping_add(1), self.j);
        // The next round's entry is read before this one's are written, so that it need not wait for them.
        let mut a = table[usize::from(i)];
        let mut round = || {
            j = j.wrapping_add(a);
            let b = table[usize::from(j)];
            let next = i.wrapping_add(1);
            let ahead = table[usize::from(next)];
            table[usize::from(j)] = a;
            table[usize::from(i)] = b;
            let key = table[usize::from(a.wrapping_add(b))];
            a = if next == j { a } else { ahead };
            i = next;
            key
        };
        let (words, rest) = data.as_chunks_mut::<8>();
        for word in words {
            let mut key = [0; 8];
            key.fill_with(&mut round);
            *word = (u64::from_ne_bytes(*word) ^ u64::from_ne_bytes(key)).to_ne_bytes();
        }
        rest.iter_mut().for_each(|byte| *byte ^= round());
        (self.i, self.j) = (i.wrapping_sub(1), j);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::rng::Rng;

    /// By the book, a byte at a time.
    fn reference(key: &[u8], len: usize) -> Vec<u8> {
        let mut s: Vec<usize> = (0..256).collect();
        let mut j = 0;
        for i in 0..256 {
            j = (j + s[i] + usize::from(key[i % key.len()])) % 256;
            s.swap(i, j);
        }
        let (mut i, mut j) = (0, 0);
        let mut round = || {
            i = (i + 1) % 256;
            j = (j + s[i]) % 256;
            s.swap(i, j);
            s[(s[i] + s[j]) % 256] as u8
        };
        (0..len).map(|_| round()).collect()
    }

    #[test]
    fn the_stream_is_that_of_rfc_6229() {
        // 40 bits, 0102030405: a key of five bytes repeated is the same key.
        let key: [u8; 20] = std::array::from_fn(|n| (n % 5 + 1) as u8);
        let mut out = [0; 16];
        Rc4::new(&key).apply(&mut out);
        assert_eq!(out, *b"\xb2\x39\x63\x05\xf0\x3d\xc0\x27\xcc\xc3\x52\x4a\x0a\x11\x18\xa8");
        out = [0; 16];
        Rc4::stream(&key).apply(&mut out);
        assert_eq!(out, *b"\x30\xab\xbc\xc7\xc2\x0b\x01\x60\x9f\x23\xee\x2d\x5f\x6b\xb7\xdf");
    }

    #[test]
    fn any_split_gives_the_same_stream() {
        let mut rng = Rng::new([3; 32]);
        for _ in 0..50 {
            let mut key = [0; 20];
            rng.fill(&mut key);
            let due = reference(&key, DROPPED + 3000).split_off(DROPPED);
            let (mut rc4, mut got) = (Rc4::stream(&key), vec![0; 3000]);
            let mut rest = &mut got[..];
            while !rest.is_empty() {
                let n = rest.len().min(rng.index(40));
                let (part, tail) = rest.split_at_mut(n);
                rc4.apply(part);
                rest = tail;
            }
            assert_eq!(got, due);
        }
    }
}
