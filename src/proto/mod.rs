//! Bytes to values and back: pure functions, the fuzz targets. No clock, socket, file or thread in here.

pub mod bencode;
pub mod compact;
pub mod extended;
pub mod http;
pub mod http_server;
pub mod id;
pub mod krpc;
pub mod layout;
pub mod lsd;
pub mod magnet;
pub mod metainfo;
pub mod mse;
pub mod network;
pub mod priority;
pub mod resume;
pub mod scope;
pub mod tracker;
pub mod wire;
