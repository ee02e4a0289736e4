//! Every bound on hostile input, memory and time, each with its reason, and how they relate. Decoders take lengths
//! from the wire only through these.

use crate::base::buf::BLOCK;

/// The longest piece: twice what the largest known torrents use.
pub const PIECE_LENGTH_MAX: u32 = 128 << 20;
/// The most pieces of a torrent: the hashes then take 40 MiB, a peer's bitfield 256 KiB. Others stop here as well.
pub const PIECES_MAX: u32 = 1 << 21;
/// The most files of a torrent.
pub const FILES_MAX: usize = 1 << 20;
/// The most bytes of a torrent: file offsets are signed 64-bit numbers for the system.
pub const TOTAL_MAX: u64 = 1 << 48;
/// The largest .torrent file that is read.
pub const TORRENT_FILE_MAX: u64 = 100 << 20;
/// How deep bencoded values may nest: ten times what any known message does.
pub const BENCODE_DEPTH: usize = 64;
/// The most trackers of a torrent; more are left out.
pub const TRACKERS_MAX: usize = 100;
/// The longest URL of a tracker or web seed.
pub const URL_MAX: usize = 2048;
/// The longest file name, in bytes: that of every common file system.
pub const NAME_MAX: usize = 255;
/// The longest path below the download folder, in bytes.
pub const PATH_MAX: usize = 2048;
/// How deep folders of a torrent may nest.
pub const PATH_DEPTH: usize = 64;

/// The longest block that a peer may ask for. Others drop requests above 16 KiB to 128 KiB; one `Buf` holds 16 KiB.
pub const REQUEST_MAX: u32 = BLOCK;
/// The longest message before a torrent's size is known, and the longest of unknown type after.
pub const MESSAGE_SMALL: u32 = 32 << 10;
/// The longest message of all: the bitfield of the largest torrent.
pub const MESSAGE_MAX: u32 = PIECES_MAX / 8 + 1;

/// The most of a tracker's HTTP answer that is read: thousands of peers.
pub const HTTP_BODY_MAX: usize = 1 << 20;
/// The most peers taken from one announce.
pub const ANNOUNCE_PEERS_MAX: usize = 1000;

const _: () = assert!(PIECES_MAX / 8 < MESSAGE_MAX);
const _: () = assert!(MESSAGE_SMALL > BLOCK + 13);
const _: () = assert!(PIECE_LENGTH_MAX / BLOCK <= u16::MAX as u32);

/// The most torrents of a process: a handle has 16 bits of slot.
pub const TORRENTS_MAX: usize = 4096;
/// The most connections that `--max-conn` may ask for.
pub const CONNECTIONS_MAX: usize = 20_000;
/// Bytes that may wait for one disk worker before the peers that feed it must wait: enough to keep a worker busy
/// while the net thread is elsewhere, little enough to stay in the cache until it is hashed.
pub const LANE_HIGH: u64 = 2 << 20;
/// Below this the peers in line may go on.
pub const LANE_LOW: u64 = LANE_HIGH / 2;
/// The most disk workers.
pub const LANES_MAX: usize = 8;
/// Blocks that may be on their way from disk to peers, all together: 4 MiB.
pub const SEND_BUFS: usize = 256;
/// Requests of one peer that may wait; the one past that closes it. Others pipeline up to 500 (libtorrent) or 2,000.
pub const REQUESTS_IN_MAX: usize = 2048;
/// Requests that we have open with one peer at most: 8 MiB under way, 3 s at 2.7 MiB/s, 300 ms at 27 MiB/s.
pub const REQUESTS_OUT_MAX: u32 = 512;
/// Check jobs that one worker has at a time: one in hand, one to follow.
pub const CHECKS_OUT: usize = 2;
/// Bytes of a check job, so that a stop need not wait long.
pub const CHECK_BYTES: u64 = 4 << 20;
/// Calls that are with the helpers at a time; more wait in the session.
pub const CALLS_OUT: usize = 64;
/// Bytes that one socket may bring in a turn, before the others have theirs.
pub const BURST: usize = 256 << 10;
/// Bytes of small messages that may wait in a connection's outbox; a peer that does not read its answers is closed.
pub const OUTBOX_MAX: usize = 1 << 20;

const _: () = assert!(LANE_HIGH > 16 * BLOCK as u64);
const _: () = assert!(CONNECTIONS_MAX < u16::MAX as usize && TORRENTS_MAX < u16::MAX as usize);

/// Log lines that may wait for the terminal; more are dropped and counted.
pub const LOG_LINES: usize = 1024;
/// The longest log line, in bytes: with `LOG_LINES` it bounds what a stalled terminal costs to 4 MiB.
pub const LOG_LINE_MAX: usize = 4096;
