//! stub
/// stub
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Block {
    /// stub
    pub piece: u32,
    /// stub
    pub begin: u32,
    /// stub
    pub len: u32,
}
