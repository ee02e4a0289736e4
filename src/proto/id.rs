//! stub
/// stub
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct InfoHash(pub [u8; 20]);
