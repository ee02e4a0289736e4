//! The fuzz targets, as `cargo test --test fuzz` and libFuzzer run them. A new target is a line in one of the tables
//! and a folder `tests/data/corpus/NAME` with seeds.

#[path = "events.rs"]
mod events;
#[path = "node.rs"]
mod node;
#[path = "session.rs"]
mod session;

use ptorrent::proto::{
    bencode, compact, extended, http, http_server, krpc, lsd, magnet, metainfo, mse, resume, tracker, wire,
};
use ptorrent::tracker as serve;

/// Runs one input, and panics if it breaks an invariant.
pub(crate) type Target = fn(&[u8]);

/// State machines: the input is a sequence of events.
pub(crate) const MACHINES: &[(&str, Target)] = &[
    ("session", session::fuzz_session), //
    ("node", node::fuzz_node),
];

/// Decoders: the name of the target, which is that of its corpus, and the function that decodes and checks.
pub(crate) const DECODERS: &[(&str, Target)] = &[
    ("bencode", bencode::fuzz_bencode), //
    ("metainfo", metainfo::fuzz_metainfo),
    ("magnet", magnet::fuzz_magnet),
    ("metadata", extended::metadata::fuzz_metadata),
    ("wire", wire::decoder::fuzz_wire),
    ("mse", mse::fuzz_mse),
    ("compact", compact::fuzz_compact),
    ("announce", tracker::http::fuzz_announce),
    ("scrape", tracker::http::fuzz_scrape),
    ("udp", tracker::udp::fuzz_udp),
    ("url", tracker::url::fuzz_url),
    ("http", http::fuzz_http),
    ("resume", resume::fuzz_resume),
    ("krpc", krpc::fuzz_krpc),
    ("request", http_server::fuzz_request),
    ("served", serve::http::fuzz_tracker_http),
    ("extended", extended::handshake::fuzz_extended),
    ("pex", extended::pex::fuzz_pex),
    ("lsd", lsd::fuzz_lsd),
    ("datagram", serve::udp::fuzz_tracker_udp),
];
