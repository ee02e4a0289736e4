//! Every bound on hostile input, memory and time, each with its reason, and how they relate. Decoders take lengths
//! from the wire only through these.

use crate::base::buf::BLOCK;
use std::time::Duration;

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
/// The most web seeds of a torrent; more are left out.
pub const WEB_SEEDS_MAX: usize = 100;
/// The most DHT nodes that a torrent may name; more are left out. A few are enough to join.
pub const NODES_MAX: usize = 100;
/// The longest comment, or name of a creating program, that is kept, in bytes: some screens of text.
pub const COMMENT_MAX: usize = 16 << 10;
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
/// The longest head of an HTTP answer, and the longest trailer of a chunked one: what common servers allow a request.
pub const HTTP_HEAD_MAX: usize = 16 << 10;
/// The most header lines of an HTTP answer: common servers send 5 to 20.
pub const HTTP_HEADERS_MAX: usize = 64;
/// The longest line between two chunks of an HTTP body: a length and extensions that nobody sends.
pub const HTTP_CHUNK_LINE_MAX: usize = 256;
/// The longest words of a tracker that are shown: a few lines of a terminal.
pub const TRACKER_TEXT_MAX: usize = 400;
/// The longest `tracker id` that is sent back: it becomes part of a URL, three bytes each.
pub const TRACKER_ID_MAX: usize = 256;
/// Announces that ask for less are made this far apart: a tracker must not have us hammer it, or another.
pub const ANNOUNCE_INTERVAL_MIN: Duration = Duration::from_secs(60);
/// Announces that ask for more are made this far apart: a slip of a tracker must not lose us for days.
pub const ANNOUNCE_INTERVAL_MAX: Duration = Duration::from_secs(6 * 3600);
/// What most trackers ask for, where one asks for nothing sensible.
pub const ANNOUNCE_INTERVAL_DEFAULT: Duration = Duration::from_secs(30 * 60);
/// The most peers taken from one announce.
pub const ANNOUNCE_PEERS_MAX: usize = 1000;

const _: () = assert!(PIECES_MAX / 8 < MESSAGE_MAX);
const _: () = assert!(MESSAGE_SMALL > BLOCK + 13);
const _: () = assert!(PIECE_LENGTH_MAX / BLOCK <= u16::MAX as u32);
