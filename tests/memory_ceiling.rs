//! The ceiling of the process's memory, by kind of thing: the sums of the limits, which docs/ARCHITECTURE.md states in a
//! table. A limit that grows, or one that is forgotten there, fails here.

use ptorrent::base::buf::BLOCK;
use ptorrent::limits::*;
use std::fs;

const MIB: u64 = 1 << 20;
/// Bytes of a block's place in a queue of requests.
const REQUEST: usize = 12;
/// Bytes of one connection in the session, the reactor and the kernel-side tables that we hold, without buffers.
const CONNECTION: usize = 4 << 10;
/// Bytes of an address that may be called, in its two maps.
const KNOWN: usize = 200;
/// Bytes of an announce that waits for a UDP tracker.
const UDP_ASK: usize = 300;
/// Bytes of a stack that are ever touched.
const STACK: usize = 64 << 10;

/// What the user asks for.
struct Use {
    connections: usize,
    workers: usize,
    /// Torrents that download, and the pieces of all of them.
    torrents: usize,
    pieces: usize,
}

/// The kinds of things, each with the most bytes that all of that kind take.
fn ceiling(of: &Use) -> Vec<(&'static str, usize)> {
    let pool = of.connections.clamp(COMING_BUFS_MIN, COMING_BUFS_MAX) + of.workers * LANE_BUFS + SEND_BUFS;
    let queues = (REQUESTS_IN_MAX + REQUESTS_OUT_MAX as usize + REQUESTS_LATE_MAX) * REQUEST;
    // A bitfield, and one that is being received.
    let bits = 2 * (of.pieces / of.torrents).div_ceil(8);
    let threads = 8 + of.workers + HELPERS_MAX + WEB_FETCHES + HOOKS_MAX;
    vec![
        ("block pool", pool * BLOCK as usize),
        ("read ahead of a message", STASHES * BURST + SCRATCH),
        (
            "outboxes of peers that do not read",
            2 * OUTBOXES_MAX.min(of.connections * OUTBOX_MAX) + of.connections * (OUTBOX_KEEP + bits / 2),
        ),
        (
            "connections, bitfields and requests",
            of.connections * (CONNECTION + queues + bits + EXTENDED_MAX as usize),
        ),
        ("metadata from peers", METADATA_ALL_MAX as usize + METADATA_SMALL_ALL as usize),
        ("bitfields before the metadata", EARLY_BYTES_MAX + of.connections * EARLY_HAVES_MAX * 4),
        ("metadata for peers", METADATA_READS_OUT * 2 * BLOCK as usize),
        ("addresses to call, and PEX", KNOWN_ALL_MAX * KNOWN + of.torrents * PEX_LEFT_MAX * 48),
        ("DHT", 2 << 20),
        (
            "answers of trackers and web seeds",
            (HELPERS_MAX * (HTTP_BODY_MAX + HTTP_HEAD_MAX)) + WEB_FETCHES * HTTP_HEAD_MAX,
        ),
        ("announces over UDP", UDP_ASKS_MAX * UDP_ASK),
        ("pieces: bands, bits and hashes", of.pieces * 29 + DUE_HELD),
        (
            "blocks of partial and of failed pieces",
            of.torrents * (PARTIAL_BLOCKS_MAX * 4 + SUSPECT_PIECES_MAX * BLOCK as usize),
        ),
        ("hashing", of.workers * READ_CHUNK),
        ("log lines and reports", LOG_LINES * LOG_LINE_MAX + (1 << 20)),
        ("stacks", threads * STACK),
    ]
}

#[test]
fn the_table_of_the_ceiling_is_the_sum_of_the_limits() {
    let usual = Use { connections: 50, workers: 2, torrents: 1, pieces: 10_000 };
    let large = Use { connections: 1000, workers: 8, torrents: 20, pieces: 2_000_000 };
    let text = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/ARCHITECTURE.md")).unwrap();
    let mib = |bytes: usize| (bytes as u64 * 10).div_ceil(MIB) as f64 / 10.0;
    let (mut rows, mut sums) = (Vec::new(), (0, 0));
    for ((name, small), (_, big)) in ceiling(&usual).into_iter().zip(ceiling(&large)) {
        sums = (sums.0 + small, sums.1 + big);
        rows.push(format!("| {name} | {:.1} | {:.1} |", mib(small), mib(big)));
    }
    rows.push(format!("| all | {:.0} | {:.0} |", mib(sums.0), mib(sums.1)));
    let missing: Vec<&String> = rows.iter().filter(|row| !text.contains(row.as_str())).collect();
    assert!(missing.is_empty(), "docs/ARCHITECTURE.md has to say:\n{}", rows.join("\n"));
    assert!(sums.0 as u64 <= 192 * MIB, "a common download may take more than a small machine has");
}
