//! Bytes to values and back: pure functions over hostile input.

pub mod bencode;
pub mod compact;
pub mod http;
pub mod id;
pub mod layout;
pub mod tracker;
pub mod wire;
