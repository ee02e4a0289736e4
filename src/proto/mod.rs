//! Bytes to values and back: pure functions over hostile input.

pub mod id;
pub mod layout;
pub mod wire;
