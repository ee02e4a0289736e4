//! Bytes to values and back: pure functions, the fuzz targets. No clock, socket, file or thread in here.

pub mod bencode;
pub mod id;
pub mod layout;
