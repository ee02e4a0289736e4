//! Blocks of memory for payload: one mapping made at the start, cut into `Buf`s that are moved, never cloned, and
//! always come home. The pool belongs to the net thread, so it needs no lock.

use memmap2::MmapMut;
use std::io;

/// The size of a [`Buf`], and of a block on the wire: 16 KiB (BEP 3, request).
pub const BLOCK: u32 = 16 * 1024;

/// One owned block of memory. It is returned with [`Pool::put`]; one that is dropped is lost to its pool.
pub struct Buf(&'static mut [u8; BLOCK as usize]);

impl Buf {
    /// The first `len` bytes.
    pub fn filled(&self, len: u32) -> &[u8] {
        &self.0[..len as usize]
    }

    /// The whole block, to write into.
    pub fn space(&mut self) -> &mut [u8] {
        &mut self.0[..]
    }
}

impl std::fmt::Debug for Buf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Buf({:p})", self.0)
    }
}

/// The blocks that are free. Memory that was never used is never touched, so a pool costs what its fullest moment took.
pub struct Pool {
    free: Vec<Buf>,
    size: usize,
}

impl Pool {
    /// A pool of `count` blocks. The mapping lives as long as the process, since blocks may be out when a pool goes.
    pub fn new(count: usize) -> io::Result<Pool> {
        let size = BLOCK as usize;
        let map = MmapMut::map_anon((count * size).max(size))?;
        let map: &'static mut MmapMut = Box::leak(Box::new(map));
        let mut free: Vec<Buf> = map.as_chunks_mut().0.iter_mut().take(count).map(Buf).collect();
        free.reverse();
        Ok(Pool { free, size: count })
    }

    /// A free block, the one used last (it is still in the cache); None when all are out.
    pub fn take(&mut self) -> Option<Buf> {
        self.free.pop()
    }

    /// A block comes home.
    pub fn put(&mut self, buf: Buf) {
        self.free.push(buf);
    }

    /// How many blocks are free.
    pub fn free(&self) -> usize {
        self.free.len()
    }

    /// How many blocks are out.
    pub fn out(&self) -> usize {
        self.size - self.free.len()
    }

    /// How many blocks there are, free or not.
    pub fn size(&self) -> usize {
        self.size
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg_attr(miri, ignore = "a pool lives as long as the process, which Miri reports as a leak")]
    fn blocks_are_distinct_bounded_and_come_home() {
        let mut pool = Pool::new(2).unwrap();
        let (mut a, mut b) = (pool.take().unwrap(), pool.take().unwrap());
        assert!(pool.take().is_none());
        a.space().fill(1);
        b.space().fill(2);
        assert!(a.filled(BLOCK).iter().all(|&x| x == 1));
        assert_eq!((a.filled(3), b.filled(2), pool.out()), (&[1u8, 1, 1][..], &[2u8, 2][..], 2));
        pool.put(a);
        pool.put(b);
        assert_eq!((pool.out(), pool.size()), (0, 2));
        assert_eq!(pool.take().unwrap().filled(1), [2]);
    }
}
