//! A fuzz input read as a sequence of events: each takes the bytes it needs, and the input ends where they run out.

/// The bytes that are left.
pub(crate) struct Events<'a>(&'a [u8]);

impl<'a> Events<'a> {
    pub(crate) fn new(input: &'a [u8]) -> Events<'a> {
        Events(input)
    }

    /// The kind of the next event. None at the end of the input.
    pub(crate) fn kind(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    /// An argument; 0 once the input is used up.
    pub(crate) fn byte(&mut self) -> u8 {
        self.kind().unwrap_or(0)
    }

    /// An argument below `limit`; 0 if that is 0.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        usize::from(self.byte()) % limit.max(1)
    }

    /// Up to 255 bytes, after one that tells how many.
    pub(crate) fn bytes(&mut self) -> &'a [u8] {
        let len = usize::from(self.byte()).min(self.0.len());
        let (bytes, rest) = self.0.split_at(len);
        self.0 = rest;
        bytes
    }
}
