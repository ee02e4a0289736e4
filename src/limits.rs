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
/// The most web seeds of a torrent; more are left out. Linux distributions name each of their 400 mirrors.
pub const WEB_SEEDS_MAX: usize = 1000;
/// The most DHT nodes that a torrent may name; more are left out. A few are enough to join.
pub const NODES_MAX: usize = 100;
/// The longest comment, or name of a creating program, that is kept, in bytes: some screens of text.
pub const COMMENT_MAX: usize = 16 << 10;
/// Pieces of metadata that one peer is asked for at a time at most: what keeps a long link busy, and others queue more.
pub const METADATA_AHEAD: usize = 8;
/// A piece of metadata that has not come after so long is asked of another peer as well: several round trips.
pub const METADATA_SLOW: Duration = Duration::from_secs(3);
/// A peer that sends nothing of what it was asked for so long is not asked for a while.
pub const METADATA_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the first time, after that or when it refused; it doubles each time.
pub const METADATA_REST: Duration = Duration::from_secs(15);
/// And at most: it may have got the metadata by then.
pub const METADATA_REST_MAX: Duration = Duration::from_secs(5 * 60);
/// When nothing has come for so long, another size that peers name is tried: past two time-outs.
pub const METADATA_STALL: Duration = Duration::from_secs(25);
/// Sizes of which it is remembered that they failed.
pub const METADATA_SIZES_MAX: usize = 64;
/// Peers of which it is remembered that they took part in a try that failed.
pub const METADATA_SUSPECTS_MAX: usize = 256;
/// Bytes of bitfields that are kept, of all peers whose torrent has no metadata yet: those of sixteen of the largest
/// torrents, or of a thousand peers of a common one.
pub const EARLY_BYTES_MAX: usize = 4 << 20;
/// Pieces that such a peer says it got meanwhile; who tells more is asked for its bitfield by a new connection.
pub const EARLY_HAVES_MAX: usize = 1024;
/// Pieces of metadata that may be with the disk workers to be read for peers.
pub const METADATA_READS_OUT: usize = 4;
/// Requests for metadata that a peer may have waiting; more are refused.
pub const METADATA_REQUESTS_MAX: usize = 32;
/// Bytes of metadata that all peers get a second: nothing beside payload, and a common dictionary in no time.
pub const METADATA_RATE: u64 = 1 << 20;
/// Pieces of metadata that one connection gets at once: all of a common dictionary.
pub const METADATA_PEER_BURST: u32 = 32;
/// How far apart it gets more: 256 KiB a second, so that one peer never takes what all get together.
pub const METADATA_PEER_REST: Duration = Duration::from_micros(62_500);
/// How often one connection may have the whole of it; then it is refused.
pub const METADATA_COPIES: u32 = 3;
/// Requests for metadata of one connection that are refused; then it is closed. Others wait a minute after each.
pub const METADATA_REFUSALS_MAX: u32 = 256;
/// The longest that a .torrent may take to come from its URL: 100 KB a second of the largest that are common.
pub const TORRENT_URL_TIMEOUT: Duration = Duration::from_secs(90);
/// The longest magnet link: as many trackers and web seeds as are kept, of common length. Linux passes no longer
/// argument to a program.
pub const MAGNET_MAX: usize = 128 << 10;
/// The most peers that a magnet link may name; more are left out. A few are enough to find a swarm.
pub const MAGNET_PEERS_MAX: usize = 100;
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
/// The longest message of an extension (BEP 10), as its length prefix counts: a block of metadata (BEP 9), which is the
/// longest of them, and its head twice over. What one extension may say is bounded by [`crate::proto::extended`].
pub const EXTENDED_MAX: u32 = 2 * BLOCK;
/// The longest handshake of extensions: ten times what is common. What it names in vain is passed over.
pub const EXTENDED_HANDSHAKE_MAX: usize = 8 << 10;
/// The longest message about metadata (BEP 9), after its id: a block, and a head that is a few numbers.
pub const METADATA_MESSAGE_MAX: usize = BLOCK as usize + 1024;
/// The longest message of peer exchange (BEP 11), after its id: 50 addresses of each kind are due, some send several
/// times that.
pub const PEX_MESSAGE_MAX: usize = 16 << 10;
/// Addresses of one such message that are looked at: twice what is due. One hostile peer must not fill our table.
pub const PEX_HEARD: usize = 100;
/// Messages of peer exchange that come sooner after another one than this are passed over; one a minute is due.
pub const PEX_SOON: Duration = Duration::from_secs(45);
/// A peer that did so often, or talked nonsense, is not listened to any more.
pub const PEX_MISDEEDS_MAX: u32 = 8;
/// Peers that one message of ours adds, and drops, at most (BEP 11).
pub const PEX_TOLD: usize = 50;
/// Messages of ours to one peer are this far apart at least: a minute (BEP 11), and a little for those whose clock is
/// not as ours.
pub const PEX_REST: Duration = Duration::from_secs(62);
/// A peer is told of others so long after its handshake: those that came with it are among them.
pub const PEX_FIRST: Duration = Duration::from_secs(1);
/// All peers of a torrent are looked at this often at most for whom to tell what.
pub const PEX_PACE: Duration = Duration::from_secs(5);
/// Peers that have left and are remembered until all others have heard of it, some 50 KiB; far more than leave in the
/// minutes between two messages.
pub const PEX_LEFT_MAX: usize = 1000;
/// Handshakes of extensions that a peer may send: one is due, another each time that something changes.
pub const EXTENDED_HANDSHAKES_MAX: u32 = 64;
/// Bytes of a client's name that are kept and shown, of what it calls itself.
pub const CLIENT_NAME_MAX: usize = 40;
/// The largest info dictionary that may ever be taken from peers (BEP 9, `--max-metadata-size`): the hashes of
/// [`PIECES_MAX`] pieces, and the names of very many files.
pub const METADATA_MAX: u32 = 64 << 20;
/// The largest that is taken unless the user allows more: half as much again as the largest .torrent files that are seen,
/// of some 10 MiB.
pub const METADATA_MAX_DEFAULT: u32 = 16 << 20;
/// Bytes of all info dictionaries that come from peers at a time; what one may have, if that is more.
pub const METADATA_ALL_MAX: u64 = 32 << 20;
/// One up to this size is small: a torrent of 50,000 pieces. Most have less than a tenth of it.
pub const METADATA_SMALL: u32 = 1 << 20;
/// Bytes beside [`METADATA_ALL_MAX`] that small ones alone may take, so that they do not wait for large ones.
pub const METADATA_SMALL_ALL: u64 = 4 << 20;
/// How long metadata may take before it must have come at [`METADATA_PACE_MIN`] on average; else it makes way when
/// others wait for memory.
pub const METADATA_TURN: Duration = Duration::from_secs(60);
/// Bytes a second from then on: an eighth of what one peer gives (the same as ours, [`METADATA_PEER_REST`]).
pub const METADATA_PACE_MIN: u64 = 32 << 10;
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
/// The most that is read of a file of trusted certificates: systems have 200 KiB.
pub const CERTIFICATES_MAX: u64 = 4 << 20;
/// The longest words of a tracker that are shown: a few lines of a terminal.
pub const TRACKER_TEXT_MAX: usize = 400;
/// The longest `tracker id` that is sent back: it becomes part of a URL, three bytes each.
pub const TRACKER_ID_MAX: usize = 256;
/// Announces that ask for less are made this far apart: a tracker must not have us hammer it, or another.
pub const ANNOUNCE_INTERVAL_MIN: Duration = Duration::from_secs(60);
/// Announces that ask for more are made this far apart: a slip of a tracker must not lose us for days.
pub const ANNOUNCE_INTERVAL_MAX: Duration = Duration::from_secs(6 * 3600);
/// Tiers of a torrent whose answers are waited for at a time; one that is slow is not counted. Magnet links of twenty
/// trackers are common, of which most are dead: the calls of all torrents have to share the helpers.
pub const ANNOUNCE_TIERS_OUT: usize = 8;
/// What most trackers ask for, where one asks for nothing sensible.
pub const ANNOUNCE_INTERVAL_DEFAULT: Duration = Duration::from_secs(30 * 60);
/// The most peers taken from one announce.
pub const ANNOUNCE_PEERS_MAX: usize = 1000;

/// Torrents of one scrape over HTTP: its URL then has some 3,600 bytes, which common servers allow.
pub const HTTP_SCRAPE_MAX: usize = 50;
/// How long `ptorrent scrape` waits for all trackers together.
pub const SCRAPE_TIMEOUT: Duration = Duration::from_secs(15);
/// Trackers that are scraped side by side: all of one torrent. Who does not answer must not take another's time.
pub const SCRAPE_THREADS: usize = TRACKERS_MAX;
/// The first wait of a scrape over UDP before it is sent again; it doubles. Shorter than an announce's (BEP 15, 15 s):
/// somebody waits.
pub const SCRAPE_RESEND: Duration = Duration::from_secs(2);
/// Torrents of one scrape over UDP (BEP 15): as many as fit a datagram of 1,500 bytes.
pub const UDP_SCRAPE_MAX: usize = 74;
/// How long a connection id of a UDP tracker is used after it came (BEP 15).
pub const UDP_CONNECTION_KEPT: Duration = Duration::from_secs(60);
/// The first wait for the answer of a UDP tracker; it doubles with each resend (BEP 15).
pub const UDP_RESEND: Duration = Duration::from_secs(15);
/// Resends to a UDP tracker before it is given up (BEP 15).
pub const UDP_RESENDS_MAX: u32 = 8;
/// What all waits take together: two hours, then it counts as failed.
pub const UDP_PATIENCE: Duration = Duration::from_secs(15 * ((1 << (UDP_RESENDS_MAX + 1)) - 1));
/// After so many resends in a row a UDP tracker is slow: others are asked while its schedule goes on.
pub const UDP_SLOW_AFTER: u32 = 2;
/// The wait for an answer when there is no time: at the stop of a torrent.
pub const UDP_RESEND_HURRIED: Duration = Duration::from_secs(1);
/// Announces under way to a UDP tracker that has not answered one yet; one more with each answer, half with each loss.
pub const UDP_WINDOW_START: usize = 4;
/// The most of them, and the most that are sent again at a time.
pub const UDP_WINDOW_MAX: usize = 16;
/// The most at the stop: all torrents have three seconds together. Their answers fit a socket's buffer.
pub const UDP_WINDOW_STOP: usize = 128;
/// Announces over UDP that wait or are under way, some 300 bytes each: two of each torrent. Those past it fail.
pub const UDP_ASKS_MAX: usize = 2 * TORRENTS_MAX;
/// UDP trackers that are remembered, for their addresses and connection ids, though nobody asks them just now.
pub const UDP_PLACES_KEPT: usize = 256;
/// Names of UDP trackers that are looked up at a time: dead ones must not take all calls.
pub const UDP_LOOK_UPS_OUT: usize = 8;
/// The longest datagram that there is.
pub const DATAGRAM_MAX: usize = 65_535;
/// Datagrams read in a turn, of all sockets: a flood must not keep peers waiting. The kernel keeps or drops the others.
pub const DATAGRAMS_MAX: usize = 64;

const _: () = assert!(PIECES_MAX / 8 < MESSAGE_MAX);
const _: () = assert!(MESSAGE_SMALL > BLOCK + 13);
const _: () = assert!(EXTENDED_MAX <= MESSAGE_MAX && EXTENDED_HANDSHAKE_MAX < EXTENDED_MAX as usize);
const _: () = assert!(METADATA_MAX / 20 > PIECES_MAX && METADATA_MAX as u64 <= TORRENT_FILE_MAX);
const _: () = assert!(PIECE_LENGTH_MAX / BLOCK <= u16::MAX as u32);

/// The most torrents of a process: a handle has 16 bits of slot.
pub const TORRENTS_MAX: usize = 4096;
/// Connections that are left however few descriptors there are: with fewer nothing is downloaded.
pub const CONNECTIONS_MIN: usize = 2;
/// The most connections that `--max-conn` may ask for.
pub const CONNECTIONS_MAX: usize = 20_000;
/// Bytes that may wait for one disk worker before the peers that feed it must wait: enough to keep a worker busy
/// while the net thread is elsewhere and for four pieces to grow that are hashed side by side, little enough to stay in
/// the cache until then.
pub const LANE_HIGH: u64 = 3 << 20;
/// Below this the peers in line may go on.
pub const LANE_LOW: u64 = LANE_HIGH / 2;
/// The most disk workers.
pub const LANES_MAX: usize = 8;
/// Blocks that may be on their way from disk to peers, all together: 4 MiB.
pub const SEND_BUFS: usize = 256;
/// Blocks of one read job: half of what may be under way to one peer, so that the next half is read while this one is
/// sent, and a whole piece of the common kind with room to spare, so that a disk seeks once for it.
pub const READ_BATCH: usize = 32;
/// Bytes of a piece that are read ahead when a peer begins with them: a disk that takes 10 ms to seek then reads for as long.
pub const READ_AHEAD: u32 = 1 << 20;
/// Requests of one peer that may wait; the one past that closes it. Others pipeline up to 500 (libtorrent) or 2,000.
pub const REQUESTS_IN_MAX: usize = 2048;
/// How many that is as we tell it (BEP 10, `reqq`): a little less, as the two sides may count apart for a moment.
pub const REQUESTS_IN_TOLD: u32 = 2000;
/// Pieces that a peer which has no more than that may have though it is choked (BEP 6).
pub const ALLOWED_FAST_PIECES: usize = 10;
/// Bytes of them that it may have in all: with long pieces there are fewer.
pub const ALLOWED_FAST_BYTES: u64 = 16 << 20;
/// Bytes that a torrent gives to choked peers in this way, whatever it uploads.
pub const ALLOWED_FAST_START: u64 = 2 << 20;
/// And besides one byte of so many that it uploads: newcomers in a crowd ask for the same pieces.
pub const ALLOWED_FAST_SHARE: u64 = 16;
/// Pieces that a peer may allow us in the same way; more are passed over.
pub const ALLOWED_FAST_IN_MAX: usize = 64;
/// Pieces that a peer would not serve and that are remembered for it.
pub const REFUSED_MAX: usize = 8;
/// The first wait before it is asked for such a piece again: its queue was full for a moment, most likely. The wait
/// doubles with each further reject.
pub const REFUSED_RETRY: Duration = Duration::from_secs(2);
/// The longest of these waits: a peer that has lost a piece costs a message a minute.
pub const REFUSED_RETRY_MAX: Duration = Duration::from_secs(60);
/// How long it is asked for nothing after that: who rejects all that is asked costs a few messages a second.
pub const REFUSED_REST: Duration = Duration::from_secs(1);
/// How many more pieces than there are a peer may say that it lost (BEP 54): each is a little work, and so is its return.
pub const DONT_HAVES_SPARE: u32 = 64;
/// Bitfields that a peer may send beside those that tell of many new pieces: each is work over all pieces.
pub const BITFIELDS_MAX: u32 = 8;
/// Requests that we have open with one peer at most, as in libtorrent: 8 MiB under way, 3 s at 2.7 MiB/s, 300 ms at
/// 27 MiB/s.
pub const REQUESTS_OUT_MAX: u32 = 500;
/// How far we stay below the number of requests that a peer says it keeps. Transmission takes one less than it says, and
/// counts what was cancelled or is on its way; what is past its count it rejects or drops.
pub const REQUESTS_MARGIN: u32 = 32;
/// For peers that keep few requests, the margin is at most this part of them.
pub const REQUESTS_MARGIN_SHARE: u32 = 4;
/// Requests given up that are remembered for each peer, as their blocks may still come: two pipelines.
pub const REQUESTS_LATE_MAX: usize = 2 * REQUESTS_OUT_MAX as usize;
/// Torrents that one worker is told to open at a time: one in hand, one to follow.
pub const OPENS_OUT: usize = 2;
/// Check jobs that one worker has at a time, of all torrents: one in hand, one to follow.
pub const CHECKS_OUT: usize = 2;
/// Bytes of a check job, so that a stop need not wait long.
pub const CHECK_BYTES: u64 = 4 << 20;
/// Calls that are with the helpers at a time; more wait in the session.
pub const CALLS_OUT: usize = 64;
/// Of these, to hosts that did not answer the last time, or were never asked: the good ones have the other half.
pub const CALLS_CHANCY: usize = CALLS_OUT / 2;
/// Hosts of which the session knows whether they answer; less than 256 KiB.
pub const PLACES_MAX: usize = 1024;
/// Bytes that one socket may bring in a turn, before the others have theirs.
pub const BURST: usize = 256 << 10;
/// Bytes of small messages that may wait in a connection's outbox; a peer that does not read its answers is closed.
pub const OUTBOX_MAX: usize = 1 << 20;
/// The same in all outboxes: sixteen peers that have stopped reading, at their worst.
pub const OUTBOXES_MAX: usize = 16 << 20;
/// One outbox has this part of what is left of that: with many that do not read, each may hold less, and those that do
/// read, whose outboxes are empty at each turn, are never without room.
pub const OUTBOXES_PART: usize = 4;
/// The most pieces of a torrent that are begun and not verified: about one a peer has free
/// blocks, and few torrents have over a thousand peers. A search of all of them is a few microseconds.
pub const PARTIAL_PIECES_MAX: usize = 2048;
/// The most blocks that these pieces have in all, at 4 bytes each: 4 MiB, 128 pieces of the longest kind.
pub const PARTIAL_BLOCKS_MAX: usize = 1 << 20;
/// Pieces that failed and whose senders are remembered, 16 KiB each at most; hardly ever is there more than one.
pub const SUSPECT_PIECES_MAX: usize = 64;
/// Peers that are asked for one block at a time, in the end-game only: each copy but one is waste.
pub const ASKERS_MAX: usize = 3;
/// Pieces that a pick looks at in the order of rarity (about a microsecond) before it searches the peer's bits.
pub const PICK_WALK: u32 = 512;
/// Partial pieces that a pick looks at for the one that suits best, before any will do.
pub const PARTIAL_WALK: usize = 64;
/// A block of a piece of which nothing was requested for this long is requested from an idle peer too: the peer that has
/// the request is slow, or will be snubbed only after [`SNUB_AFTER`].
pub const STALE_AFTER: Duration = Duration::from_secs(3);
/// An idle peer, which unchokes us and has pieces that we want, is offered to the picker again at this interval.
pub const IDLE_RETRY: Duration = Duration::from_secs(2);
/// In the end-game, a peer with so many requests open is asked for no more of what others were asked for: peers of one
/// speed would send all that is under way a second time. As blocks come, it may be asked for more.
pub const ENDGAME_OPEN: usize = 16;
/// Blocks that a pick of the end-game looks at; one that somebody was asked for counts as 64. About 20 microseconds.
pub const ENDGAME_WALK: u32 = 4096;

const _: () = assert!(LANE_HIGH > 16 * BLOCK as u64);
const _: () = assert!((REQUESTS_IN_TOLD as usize) < REQUESTS_IN_MAX);
// A choke may reject all of them at once.
const _: () = assert!(REQUESTS_IN_MAX * 17 < OUTBOX_MAX);
const _: () = assert!(UDP_LOOK_UPS_OUT < CALLS_OUT && DATAGRAM_MAX <= SCRATCH);
const _: () = assert!(UDP_WINDOW_START <= UDP_WINDOW_MAX && UDP_WINDOW_MAX <= UDP_WINDOW_STOP);
const _: () = assert!(CONNECTIONS_MAX < u16::MAX as usize);
const _: () = assert!(TORRENTS_MAX < u16::MAX as usize);

/// Blocks that a disk worker takes from its queue at a time, to store neighbours in one call: a third of `LANE_HIGH`.
pub const DISK_BATCH: usize = 64;
/// Bytes of a piece that are worth a store of their own: a call then costs little beside the copy, and they are still in
/// the second cache from being hashed.
pub const STORE_RUN: u32 = 256 << 10;
/// Bytes that one worker holds until there is enough of their pieces for a store. When no more came, this must let the
/// peers in line go on.
pub const HELD_MAX: u64 = LANE_LOW;
/// What is held is stored when nothing came for so long: at rates of which stores in small parts are no burden.
pub const HOLD_REST: Duration = Duration::from_millis(5);
/// Descriptors that one disk worker keeps open at most; fewer where RLIMIT_NOFILE is low.
pub const DESCRIPTORS: usize = 64;
/// Descriptors of the process that are for no peer, torrent or call: the standard streams, the log, the poller (3), the
/// pipes of signals and terminal (4), sockets of both families (6), a state file that is written (2), a hook that starts.
pub const DESCRIPTORS_OWN: usize = 24;
/// Folders that one disk worker has open on the way to a file, beside the file: the usual depth.
pub const DESCRIPTORS_FOLDERS: usize = 4;
/// What an open torrent keeps open: its lock and its resume record.
pub const DESCRIPTORS_TORRENT: usize = 2;
/// A disk worker for each so many descriptors of the limit: below 256, eight of them would leave nothing for peers.
pub const DESCRIPTORS_LANE: usize = 32;
/// Bytes that are read at a time while hashing, of all pieces that are hashed side by side: large enough that the calls cost
/// nothing, small enough for the second cache.
pub const READ_CHUNK: usize = 256 << 10;
/// Bytes of info dictionaries that are held for their piece hashes, besides the one used last: those of the torrents
/// that are downloaded or checked just now, some GiB each.
pub const DUE_HELD: usize = 8 << 20;
/// A torrent no larger than this stays in the page cache after it was checked: it takes nobody's place there, and may be
/// asked for soon. What of a larger one was not there before leaves it again.
pub const CHECK_STAYS: u64 = 32 << 20;
/// How long the state folder keeps a copy of a torrent that no start asks for: longer than most machines are up.
pub const COPY_KEPT: Duration = Duration::from_secs(90 * 24 * 3600);
/// Bytes of a file that are looked at for anything but zeros before it counts as holding data.
pub const FOUND_LOOK: u64 = 1 << 20;
/// The size from which a file of many is made, and its space reserved, before the start. Smaller ones are made when
/// something is stored in them: tens of thousands of them would hold up the start for seconds, and they are written in
/// one go, so that reserving gains nothing.
pub const RESERVED_EARLY: u64 = 1 << 20;
/// Address space of one mapped window; less where there are but 32 bits of it.
pub const WINDOW_LEN: usize = if cfg!(target_pointer_width = "64") { 16 << 20 } else { 4 << 20 };
/// Windows that one disk worker has at most: one for each of the pieces that it is likely to have in hand.
pub const WINDOWS: usize = if cfg!(target_pointer_width = "64") { 64 } else { 8 };
/// Bytes that all windows of one disk worker may hold resident.
pub const POPULATED_MAX: usize = 16 << 20;

/// Entries of a resume record at most: half of them between two checkpoints, 128 KiB.
pub const RESUME_ENTRIES_MAX: u64 = 4096;
/// And at least: small torrents beat as often as others.
pub const RESUME_ENTRIES_MIN: u64 = 256;
/// Bytes of a resume record for blocks of partial pieces: more than a hundred peers begin.
pub const RESUME_PARTIAL_BYTES: usize = 64 << 10;
/// Peers that a resume record keeps: enough to find a swarm again.
pub const RESUME_PEERS: usize = 64;
/// How long after its beat a process may store without another: a file that others change within this time after the
/// process was killed is not found out.
pub const RESUME_BEAT: Duration = Duration::from_millis(500);
/// How much later than the store itself a store through a mapping may move the time of its file: the system writes
/// dirty pages back after 30 s, and looks each 5 s.
pub const RESUME_SLACK: Duration = Duration::from_secs(45);
/// Data is made durable, and a checkpoint written, this long after it was stored: what a loss of power costs.
pub const SYNC_AFTER: Duration = Duration::from_secs(30);
/// Bytes that a stop waits for to be durable: two seconds of a memory card.
pub const SYNC_AT_STOP: u64 = 16 << 20;
/// How long the closes of a process wait for that, all together: what else is written to the medium comes before it.
pub const SYNC_PATIENCE: Duration = Duration::from_secs(3);
/// Bytes that are made durable together while a torrent is open: a stop comes in between, after a second at most.
pub const SYNC_PART: u64 = 8 << 20;
/// Totals and good peers are handed to the disk workers this long after they changed.
pub const SAVE_AFTER: Duration = Duration::from_secs(30);

const _: () = assert!(LANE_HIGH >= DISK_BATCH as u64 * BLOCK as u64);
const _: () = assert!(WINDOW_LEN / 64 <= POPULATED_MAX && WINDOW_LEN.is_power_of_two());
/// Connections being made at a time: home routers choke on more.
pub const HALF_OPEN_MAX: usize = 32;
/// Of these, so many are not for a network that has as many under way already: addresses of one network at which nobody
/// answers must not keep those of others waiting.
pub const HALF_OPEN_OTHERS: usize = HALF_OPEN_MAX / NETWORK_SHARE;
/// An address that was not called for that is looked at again after this.
pub const HALF_OPEN_REST: Duration = Duration::from_secs(5);
/// Connections begun in a second: where the network is down they all fail at once, and thousands of candidates must
/// not be tried in one turn.
pub const DIALS_A_SECOND: u32 = 100;
/// How long a connection may take to be made.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// How long the other side's handshake may take from then on.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(20);
/// The longest padding in a handshake of message stream encryption (its specification).
pub const MSE_PADDING_MAX: usize = 512;
/// How long a peer that we dialled may take for an encrypted handshake and its own one: some round trips. Who only waits
/// for more of what it takes for nonsense is then called in the clear.
pub const MSE_TIMEOUT: Duration = Duration::from_secs(10);
/// Powers of the key exchange that wait for their thread, 132 bytes each: 10 ms of work, a second on a small machine.
/// Who comes in past it is refused.
pub const MSE_POWERS_OUT: usize = 128;
/// We say something at least this often; others close after two minutes of silence (BEP 3).
pub const KEEPALIVE: Duration = Duration::from_secs(100);
/// A peer that says nothing for this long is gone.
pub const INACTIVITY: Duration = Duration::from_secs(180);
/// A peer that owes us blocks and sends none for this long is snubbing us: others are asked for them.
pub const SNUB_AFTER: Duration = Duration::from_secs(30);
/// Peers are not asked one and all more often than this: it is work for each of them.
pub const REFILL_REST: Duration = Duration::from_millis(20);
/// Picks in that time that messages without payload cause, of all peers: a millisecond of work with a million pieces, and
/// far more than there are unchokes in a swarm of thousands.
pub const PICKS_A_TURN: u32 = 64;
/// Peers of a torrent hear of new pieces so far apart, in turn: with some 5 microseconds a packet it takes a hundredth of
/// a core, and 1,000 peers hear of a piece after half a second at most.
pub const HAVE_REST: Duration = Duration::from_micros(500);
/// So many of them have their turn at a time: to be woken for each would cost more than to tell it.
pub const HAVE_PEERS: u32 = 16;
/// New pieces that one peer hears of in its turn, 36 KiB of messages; of more it hears in its next ones.
pub const HAVES_MAX: u64 = 4096;
/// Peers that had nothing to ask for are looked at again when a piece is verified, so many at a time.
pub const STARVED_AT_ONCE: usize = 8;
/// What is asked of a peer ahead of time, in time at its own rate. It covers the longest round trip.
pub const PIPELINE: Duration = Duration::from_secs(3);
/// Requests open with a peer of which nothing is known yet.
pub const PIPELINE_START: u32 = 6;
/// Requests open with a peer that does not say how many it keeps: what the common clients of ten years ago kept.
pub const PIPELINE_UNKNOWN: u32 = 250;
/// An idle connection is let alone this long before a better candidate may take its place.
pub const REPLACE_AFTER: Duration = Duration::from_secs(60);
/// A peer over which nothing has moved for this long makes way if somebody waits: several turns of an optimistic unchoke
/// (30 s) among few leechers, and soon enough that a table full of peers that choke for ever is new within minutes.
pub const TURNOVER_AFTER: Duration = Duration::from_secs(3 * 60);
/// The same for a peer that waits for us to unchoke it while we seed: with many of them its turn comes late.
pub const TURNOVER_CHOKED_AFTER: Duration = Duration::from_secs(15 * 60);
/// A network (/24 or /64) with more than one part in so many of the connection table, of the candidates or of the calls
/// under way comes after the others: no party owns a quarter of a swarm by honest means, and four still fit.
pub const NETWORK_SHARE: usize = 4;
/// Of those who came in and have not shaken hands, the oldest so many are looked at for one to make way: a flood of them
/// must not make each newcomer a walk over all.
pub const STRANGERS_LOOKED_AT: usize = 64;
/// Of so many places of the connection table one is kept for those who came in and have not shaken hands yet: enough to
/// hear which torrents are asked for, a few in a hundred of what the user allows.
pub const DOOR_SHARE: usize = 16;
/// A torrent with so many calls under way takes no more places of others: one that answers may be of no more use.
pub const CLAIMS_OUT: usize = 4;
/// Calls and connections together may be so many more than the connections that the user allows: who is to make way for
/// a call stays until it is answered, as most addresses that one hears of are dead.
pub const CALLS_BEYOND: usize = 8;
/// How long such a connection has before a call of ours may take its place; a handshake takes a round trip.
pub const STRANGER_REST: Duration = Duration::from_secs(2);
/// The time for telling the trackers `stopped`: users kill what does not end soon.
pub const STOP_BUDGET: Duration = Duration::from_secs(5);
/// How often a torrent that found no space looks for some: soon for who has just made room, and hardly any work.
pub const FULL_RETRY: Duration = Duration::from_secs(20);
/// Bytes of space, or what is missing if that is less, before such a torrent goes on: not for a block at a time.
pub const FULL_ROOM: u64 = 8 << 20;
/// Pieces that could not be read again before the torrent is in error: a bad spot is passed over, a dying disk is not
/// written to.
pub const READ_FAILS_MAX: u32 = 4;
/// How long a torrent that has seeded enough waits until those it served have all: the last blocks may be on their way.
pub const PARTING: Duration = Duration::from_secs(10);
/// How often a torrent that has something to look after is looked after.
pub const TORRENT_TICK: Duration = Duration::from_secs(1);
/// Warnings and errors of a torrent that wait to be reported; the oldest go first.
pub const NOTES_MAX: usize = 32;

const _: () = assert!(MSE_TIMEOUT.as_secs() < HANDSHAKE_TIMEOUT.as_secs());
const _: () =
    assert!(PIPELINE_UNKNOWN <= REQUESTS_OUT_MAX && REFUSED_REST.as_secs() < REFUSED_RETRY.as_secs());
const _: () = assert!(PARTIAL_BLOCKS_MAX as u64 >= 16 * (PIECE_LENGTH_MAX / BLOCK) as u64);
/// How long a tracker may take to answer: overloaded ones do take half of it.
pub const ANNOUNCE_TIMEOUT: Duration = Duration::from_secs(30);
/// A tracker that has not answered for so long is passed over: the next one is asked while its call goes on. Far more
/// than a look-up, a TLS handshake and a busy server take together.
pub const ANNOUNCE_SLOW: Duration = Duration::from_secs(10);
/// How long `stopped` may take.
pub const STOP_TIMEOUT: Duration = Duration::from_secs(3);
/// How long `completed` may take before it, if that is due still.
pub const COMPLETED_TIMEOUT: Duration = Duration::from_secs(2);

const _: () = assert!(COMPLETED_TIMEOUT.as_secs() + STOP_TIMEOUT.as_secs() <= STOP_BUDGET.as_secs());

/// The wait after a tracker's first failure; it doubles with each.
pub const ANNOUNCE_RETRY: Duration = ANNOUNCE_INTERVAL_MIN;
/// The longest wait after a failure (up to a quarter more by chance): how long a tracker that came back may be missed.
pub const ANNOUNCE_RETRY_MAX: Duration = Duration::from_secs(30 * 60);
/// The most peers that we ask of a tracker: most send 50 to 200 at most.
pub const NUMWANT_MAX: u32 = 200;

/// The most addresses that a torrent keeps to call: some 2 MiB.
pub const KNOWN_MAX: usize = 10_000;
/// The same of all torrents together; with many of them each keeps fewer.
pub const KNOWN_ALL_MAX: usize = 100_000;
/// So many each torrent keeps all the same: who is connected may be lost and has to be found again.
pub const KNOWN_MIN: usize = 64;
/// A part of these may be of the DHT, where anybody may name anybody: a flood must not push all others out.
pub const KNOWN_DHT_PART: usize = 2;
/// And one of peers (BEP 11): one hostile peer names what it likes.
pub const KNOWN_PEX_PART: usize = 4;
/// And one of the local network: more than a house has, less than a forger makes up.
pub const KNOWN_LSD_PART: usize = 8;
/// Ports of one address that are kept: one is connected at a time, but whole houses are behind one.
pub const KNOWN_PORTS_MAX: usize = 4;
/// How often trackers, the local network, the DHT and peers are asked for the next one to call, in turn: what is
/// harder to forge has more turns, and none is left out.
pub const SOURCE_TURNS: [u64; 4] = [4, 3, 2, 1];
/// The lowest port that a peer may name for itself (PORT, BEP 5; `p`, BEP 10): below it are the services of a host,
/// which no peer may make us connect to.
pub const PEER_PORT_MIN: u16 = 1024;
/// Peers that have to agree before we believe what they say our address is.
pub const ADDRESS_VOTES: usize = 3;
/// How long that holds: every change orders all candidates anew, and addresses change once a day at most.
pub const ADDRESS_REST: Duration = Duration::from_secs(10 * 60);
/// The most addresses that a torrent bans; then the oldest ban ends.
pub const BANS_MAX: usize = 1000;
/// With so many banned addresses a network's other addresses are called last: by then it is most likely one liar with
/// many addresses, but a house or a campus is not punished for one.
pub const NETWORK_BANS: u32 = 4;
/// The most addresses at which a torrent remembers to have met itself: a host has few.
pub const OWN_ADDRESSES_MAX: usize = 32;
/// A peer is called again this long after it was lost or could not be reached; the wait doubles with each failure.
pub const REDIAL: Duration = Duration::from_secs(60);
/// The longest wait before a peer is called again (up to a quarter more by chance).
pub const REDIAL_MAX: Duration = Duration::from_secs(30 * 60);
/// A peer of which so many calls in a row came to nothing is not called again by itself.
pub const REDIALS_MAX: u32 = 5;
/// An address that somebody names again is called at once whatever its back-off, but not within this span of its last
/// call: a tracker that names a victim with every answer must not make us hammer it.
pub const REDIAL_NAMED: Duration = Duration::from_secs(30);
/// The wait after a call that our own network did not let out. It doubles with each: such a call costs a system call and
/// nobody hears of it, but an address may be of a family that this machine does not have.
pub const REDIAL_LOCAL: Duration = Duration::from_secs(2);
/// After our own network ended a good connection, calls to that peer are repeated this often, without back-off: the other
/// side may not know yet, and many clients refuse a second connection of the same address for up to a minute.
pub const RECONNECTS: u32 = 15;
/// The wait between them.
pub const RECONNECT_WAIT: Duration = Duration::from_secs(4);
/// When our network is back, lost addresses are called this far apart: a fifth of [`DIALS_A_SECOND`], so that addresses
/// which are named meanwhile have their turn.
pub const RECALL_SPACING: Duration = Duration::from_millis(50);
/// Something that had worked was lost, and nobody at all was heard for so long: that is an outage of our own. Where only
/// one party is gone others are heard sooner.
pub const OUTAGE_MIN: Duration = Duration::from_secs(20);
/// How long we wait after a new address, route or link: several of them come together.
pub const NETWORK_SETTLE: Duration = Duration::from_secs(1);
/// The end of an outage is acted on this often within [`NETWORK_BACK_SPAN`]: a link that flaps must not make us announce
/// and call all the time.
pub const NETWORK_BACK_MAX: u32 = 4;
/// See [`NETWORK_BACK_MAX`].
pub const NETWORK_BACK_SPAN: Duration = Duration::from_secs(60);
/// After an outage announces are spread over this span, so that all torrents of a tracker do not ask at one moment.
pub const NETWORK_BACK_SPREAD: Duration = Duration::from_secs(2);
/// Addresses of servers that are remembered for having failed.
pub const ADDRESS_FAILURES_MAX: usize = 256;
/// How long they are asked after the others of their name: an address that was mended has a chance, and longer than
/// trackers and web seeds are let alone after failures.
pub const ADDRESS_FAILURES_KEPT: Duration = Duration::from_secs(2 * 3600);
/// How long what we send to a peer may stay unacknowledged before the kernel closes the connection: without it a peer
/// behind a router that has forgotten us is missed only after [`INACTIVITY`].
pub const UNACKNOWLEDGED: Duration = Duration::from_secs(60);
/// The same where the kernel does not tell us that our address is gone.
pub const UNACKNOWLEDGED_UNWATCHED: Duration = Duration::from_secs(20);
/// A device that is back and cannot be bound to, as its address is not there yet, is tried again after this.
pub const REBIND_RETRY: Duration = Duration::from_secs(2);
/// How often a bound device or address is looked at where the kernel does not tell us that it came or went.
pub const NETWORK_LOOK: Duration = Duration::from_secs(5);
/// The longest datagram of the kernel about the network: it fills a page, or two where pages are small.
pub const NETLINK_MESSAGE_MAX: usize = 32 << 10;
/// Datagrams of the kernel that are read in a turn.
pub const NETLINK_READS_MAX: usize = 64;
/// Network links whose state is remembered.
pub const NETLINK_LINKS_MAX: usize = 256;
/// The same wait for a peer that the user named: it may be started any moment.
pub const REDIAL_USER: Duration = Duration::from_secs(5);
/// The longest wait for a peer that the user named.
pub const REDIAL_USER_MAX: Duration = Duration::from_secs(5 * 60);
/// A second address of a peer that is connected is tried again after this.
pub const REDIAL_DUPLICATE: Duration = Duration::from_secs(5 * 60);
/// The same for an address that the user named.
pub const REDIAL_DUPLICATE_USER: Duration = Duration::from_secs(30);
/// A connection of an address that says nothing for this long may be a dead one: a new one from there takes its place.
pub const ADDRESS_SILENT: Duration = Duration::from_secs(60);

/// The longest announce on the local network that is looked at: ours have 1,400 bytes at most (BEP 14).
pub const LSD_DATAGRAM_MAX: usize = 2048;
/// Torrents of one announce that are looked at: as many as fit it.
pub const LSD_HASHES_MAX: usize = 36;
/// Torrents of one announce of ours: as many as fit 1,400 bytes (BEP 14).
pub const LSD_HASHES_OUT: usize = 24;
/// A torrent is announced on the local network this often (BEP 14).
pub const LSD_INTERVAL: Duration = Duration::from_secs(5 * 60);
/// Announces are this far apart at least, whatever the number of torrents (BEP 14).
pub const LSD_REST: Duration = Duration::from_secs(60);
/// Torrents that have been announced have one each to themselves while they are no more than this: old programs read
/// one only (BEP 14).
pub const LSD_ALONE: usize = 5;
/// How long the first announce waits for others that start with it.
pub const LSD_SETTLE: Duration = Duration::from_secs(1);
/// Announces of others that are read in a second: a house full of clients that start at once.
pub const LSD_HEARD: u32 = 50;
/// Network devices that are announced on.
pub const LSD_DEVICES: usize = 16;
/// Addresses of our own that are known, to tell neighbours by.
pub const LSD_OWN: usize = 64;

const _: () =
    assert!(KNOWN_MIN / KNOWN_DHT_PART + KNOWN_MIN / KNOWN_PEX_PART + KNOWN_MIN / KNOWN_LSD_PART < KNOWN_MIN);
const _: () = assert!(LSD_HASHES_OUT * 52 + 120 <= 1400 && LSD_HASHES_OUT <= LSD_HASHES_MAX);
const _: () = assert!(LSD_ALONE as u64 * LSD_REST.as_secs() <= LSD_INTERVAL.as_secs());

/// Log lines that may wait for the terminal; more are dropped and counted.
pub const LOG_LINES: usize = 1024;
/// The longest log line, in bytes: with `LOG_LINES` it bounds what a stalled terminal costs to 4 MiB.
pub const LOG_LINE_MAX: usize = 4096;

/// Bytes read ahead of what a connection is known to bring, into one buffer for all of them: fewer calls a block, yet
/// small enough to stay in the cache until they are sorted.
pub const SCRATCH: usize = 128 << 10;
/// Blocks of one connection that are read at a time, each to a buffer of its own: a burst.
pub const LOOK_AHEAD: usize = BURST / BLOCK as usize;
/// While so many connections wait for the disk, no other reads ahead: so what they keep is 4 MiB at most.
pub const STASHES: usize = 16;
/// The same where there is no room for blocks: what was read ahead must be kept when the connection has to wait.
pub const SCRATCH_SMALL: usize = 2 << 10;
/// Bytes that all sockets together may bring in a turn; a burst shrinks to keep to it, down to [`BURST_MIN`].
pub const TURN_BYTES: usize = 8 << 20;
/// The least burst: a call's worth.
pub const BURST_MIN: usize = 32 << 10;
/// Sockets that are served in a turn; the poller reports the others first in the next one.
pub const READY_MAX: usize = 256;
/// Answers of other threads that are taken in a turn, of each kind.
pub const MAIL_MAX: usize = 1024;
/// Connections accepted in a turn and listener: the backlog keeps the others.
pub const ACCEPTS_MAX: usize = 32;
/// How long a listener rests when the system is out of descriptors or memory.
pub const ACCEPT_REST: Duration = Duration::from_secs(1);
/// How long an outbox may stand still before its connection is closed.
pub const STALL: Duration = Duration::from_secs(30);
/// Segments of one write: 32 blocks with their headers.
pub const IOVECS: usize = 64;
/// Bytes that an empty outbox keeps for the next messages, the most of a connection's memory at rest.
pub const OUTBOX_KEEP: usize = 512;
/// Reports that wait for the program; more stay in the session, where progress folds together.
pub const REPORTS_MAX: usize = 256;
/// How soon a program that was behind with its reports is looked after again.
pub const REPORT_RETRY: Duration = Duration::from_millis(200);
/// After a signal, when all is saved and the trackers are told: how long our output may hold up the end.
pub const LAST_WORDS: Duration = Duration::from_secs(3);
/// Peers in the table of SIGUSR1: some 250 KiB of text.
pub const STATUS_PEERS_MAX: usize = 2000;
/// Trackers of each torrent in it.
pub const STATUS_TRACKERS_MAX: usize = 20;
/// While another job is in the foreground of our terminal: how often we look whether it still is.
pub const BACKGROUND_LOOK: Duration = Duration::from_secs(1);
/// Commands that wait for the net thread; the program waits in turn.
pub const COMMANDS_MAX: usize = 64;

const _: () = assert!(READY_MAX * BURST_MIN <= TURN_BYTES && BURST_MIN <= BURST);
const _: () = assert!(SCRATCH <= BURST && SCRATCH_SMALL >= 68 && IOVECS <= 1024);
/// Blocks that may be coming in at a time, whatever waits for the disk, where there are few connections: each holds
/// one, and whole ones follow each other fast.
pub const COMING_BUFS_MIN: usize = 256;
/// The same for very many connections: 16 MiB. More of them wait for a block to be whole.
pub const COMING_BUFS_MAX: usize = 1024;
/// Blocks that may wait for one disk worker.
pub const LANE_BUFS: usize = (LANE_HIGH / BLOCK as u64) as usize;
/// Helper threads at most.
pub const HELPERS_MAX: usize = 16;
/// Of these, for name look-ups: one may hang for half a minute.
pub const LOOK_UPS_MAX: usize = 6;
/// Of these, for announces.
pub const ASKS_MAX: usize = 9;
/// Of the announces, those to hosts that failed the last time or were never asked: those that answer must not wait
/// for them.
pub const CHANCY_MAX: usize = 7;
/// Of these, to hosts that failed the last time: a new one must not wait for them.
pub const STRAINED_MAX: usize = 4;
/// Announces to one host at a time; but one after a failure and before the first answer, and `ASKS_MAX` at the end.
pub const CALLS_PER_HOST: usize = 2;
/// The announce over a tracker's other address family (BEP 7) may take so long: the answer of the first one waits.
pub const FAMILY_GRACE: Duration = Duration::from_secs(4);
/// An address family that failed is not tried again for so long, where the other one works.
pub const FAMILY_RETRY: Duration = Duration::from_secs(60 * 60);
/// A helper thread with nothing to do ends after this.
pub const HELPER_IDLE: Duration = Duration::from_secs(20);
/// The longest time-out of a call.
pub const CALL_MAX: Duration = Duration::from_secs(120);
/// How long a look-up for its own sake is waited for: what resolvers take when every server of theirs is dead.
pub const RESOLVE_TIMEOUT: Duration = Duration::from_secs(40);
/// How long one address may take to answer at all: what a connection takes whose first two packets are lost.
pub const DIAL_MAX: Duration = Duration::from_secs(8);
/// Hosts of which a failure is remembered.
pub const HOSTS_MAX: usize = 256;
/// Names that are remembered.
pub const NAMES_MAX: usize = 256;
/// Addresses of one name that are used.
pub const ADDRESSES_MAX: usize = 8;
/// How long a name's addresses are believed; trackers move rarely.
pub const NAME_KEPT: Duration = Duration::from_secs(5 * 60);
/// How long a name is believed not to exist.
pub const NO_NAME_KEPT: Duration = Duration::from_secs(15 * 60);
/// After a look-up that failed for another reason (no network, a dead name server) the next one waits.
pub const NAME_RETRY: Duration = Duration::from_secs(30);
/// Threads for web seeds, each of which fetches from one at a time: some mirrors of a torrent, or some torrents.
pub const WEB_FETCHES: usize = 8;
/// Of these, those that one torrent has at most.
pub const WEB_FETCHES_EACH: usize = 4;
/// Orders that a thread has at a time: one in hand, one to follow without a pause.
pub const WEB_GETS: usize = 2;
/// Blocks of one order at most: 8 MiB, which is in a piece or some.
pub const WEB_BLOCKS_MAX: usize = 512;
/// Blocks of the first order, while nothing is known of the server.
pub const WEB_BLOCKS_START: usize = 32;
/// Blocks of an order at least: a request is worth it.
pub const WEB_BLOCKS_MIN: usize = 16;
/// Buffers that one thread has at a time at most: 512 KiB.
pub const WEB_BUFS: usize = 32;
/// The same while its server is slow or not known.
pub const WEB_BUFS_MIN: usize = 2;
/// What a web seed is asked for at a time, in time at its own rate; with the one to follow it is twice that.
pub const WEB_AHEAD: Duration = Duration::from_millis(1500);
/// Requests on one connection that are not answered, once the server has shown that it keeps it open.
pub const WEB_PIPELINE: usize = 4;
/// A block that takes longer, the head of an answer likewise, is too slow: as for peers.
pub const WEB_SLOW: Duration = SNUB_AFTER;
/// How often a thread that waits for a server looks whether it is to stop.
pub const WEB_LOOK: Duration = Duration::from_millis(250);
/// A connection that nothing is fetched over is kept so long; servers keep it for 5 s to 75 s.
pub const WEB_KEPT: Duration = Duration::from_secs(15);
/// How long a web seed is let alone after a failure; it doubles with each.
pub const WEB_RETRY: Duration = Duration::from_secs(10);
/// The same after a failure that came in the middle of what was fetched.
pub const WEB_RETRY_SOON: Duration = Duration::from_secs(1);
/// The longest of these waits, whatever a server asks for.
pub const WEB_RETRY_MAX: Duration = Duration::from_secs(30 * 60);
/// Files in a row that a web seed may lack before it counts as one that has none.
pub const WEB_MISSES_MAX: u32 = 8;
/// Bytes of a file that are read for nothing without regard to what they bring, where a server serves whole files only:
/// a second or some.
pub const WEB_SKIP_FREE: u64 = 16 << 20;
/// A download that gets less than this, in bytes a second, has any number of bytes skipped: nobody else serves it.
pub const WEB_SKIP_IDLE: u64 = 16 << 10;
/// Passes in a row over whole files that cost far more than they brought; then the web seed is not used any more.
pub const WEB_PASSES_WASTED: u32 = 3;
/// Files of a web seed whose redirects are remembered.
pub const WEB_MOVED_MAX: usize = 64;
/// The same of all web seeds of a torrent, so that their URLs take some 10 MiB at most.
pub const WEB_MOVED_ALL: usize = 5000;
/// Names of web seeds that are looked up at a time for one torrent, so that hundreds of mirrors do not hold up trackers.
pub const WEB_LOOK_UPS: usize = 4;
/// Bytes for the pieces that web seeds of one torrent have, of those that lack some; one more is not used any more.
pub const WEB_HAS_MAX: u64 = 4 << 20;
/// The longest URL of a file: a web seed's URL and the longest path, three bytes each.
pub const WEB_URL_MAX: usize = URL_MAX + 3 * (PATH_MAX + PATH_DEPTH);

const _: () = assert!(WEB_BUFS_MIN >= 1 && WEB_BUFS_MIN <= WEB_BUFS && WEB_FETCHES_EACH <= WEB_FETCHES);
// However slow all of them are, peers have buffers left.
const _: () = assert!(WEB_FETCHES * WEB_BUFS <= COMING_BUFS_MIN);

/// Redirects that one announce follows: http to https, and to another name.
pub const HTTP_REDIRECTS_MAX: usize = 5;

// One thread is always left to watch over the calls that wait.
const _: () =
    assert!(LOOK_UPS_MAX + ASKS_MAX < HELPERS_MAX && STRAINED_MAX < CHANCY_MAX && CHANCY_MAX < ASKS_MAX);
const _: () = assert!(ANNOUNCE_TIMEOUT.as_secs() <= CALL_MAX.as_secs());
const _: () = assert!(ANNOUNCE_SLOW.as_secs() < ANNOUNCE_TIMEOUT.as_secs());

/// How often it is decided anew whom we serve (BEP 3).
pub const CHOKE_ROUND: Duration = Duration::from_secs(10);
/// It is not decided more often than this, however often peers change their minds: it is work for each of them.
pub const CHOKE_REST: Duration = Duration::from_millis(20);
/// How long a slot is held: by the peer that is tried out (BEP 3), and by each in turn while we seed. Long enough for
/// a peer to reach its full rate and, tried out, to choose us in turn.
pub const SLOT_TURN: Duration = Duration::from_secs(30);
/// A slot whose peer asks for nothing for so long goes to another: some round trips of the longest kind.
pub const SLOT_IDLE: Duration = Duration::from_secs(5);
/// The highest rate limit, 1 TiB a second: past every link.
pub const RATE_MAX: u64 = 1 << 40;
/// Blocks that one peer is asked for at once under a rate limit, before the next one has its turn.
pub const ASK_AT_ONCE: u32 = 16;
/// A super-seed waits so long for others to announce the piece that a peer has got, then shows it another one: the
/// two may not know of each other.
pub const SUPER_PATIENCE: Duration = Duration::from_secs(60);
/// Other seeds that a swarm has when super-seeding ends: one may leave.
pub const SUPER_SEEDS: usize = 2;
/// Pieces that are looked at for the one to show next; some 20 microseconds. Each search begins elsewhere, so that none is
/// passed over for long.
pub const SUPER_WALK: u32 = 4096;
/// Pieces that are announced at once to a peer when super-seeding ends: 36 KiB of messages.
pub const SUPER_REVEAL: u32 = 4096;

const _: () = assert!(SUPER_REVEAL as usize * 9 < OUTBOX_MAX && HAVES_MAX as usize * 9 < OUTBOX_MAX);
const _: () = assert!(CHOKE_ROUND.as_secs() < SLOT_TURN.as_secs());

/// The longest datagram of the DHT that is read: 1,024 bytes are due at most (BEP 32), some send what Ethernet takes.
pub const KRPC_MAX: usize = 1500;
/// The longest datagram of the DHT that is sent (BEP 32).
pub const KRPC_SEND_MAX: usize = 1024;
/// The longest transaction id that is sent back: 2 to 8 bytes are common.
pub const KRPC_TID_MAX: usize = 32;
/// The longest token that is kept: 4 to 20 bytes are common.
pub const KRPC_TOKEN_MAX: usize = 64;
/// Nodes that are taken from one answer: 8 are due, some send twice that.
pub const KRPC_NODES_MAX: usize = 16;
/// Peers that are taken from one answer: what fits the longest datagram is more than twice that.
pub const KRPC_PEERS_MAX: usize = 100;

const _: () = assert!(KRPC_SEND_MAX <= KRPC_MAX);

/// Nodes of a bucket, of an answer and of a search: the K of BEP 5.
pub const DHT_K: usize = 8;
/// Queries of a search under way at a time: fast enough on the first nodes, and no burst (Kademlia's alpha).
pub const DHT_ALPHA: usize = 3;
/// Buckets of a table at most: one for each bit. Some 20 are ever filled in a network of millions.
pub const DHT_BUCKETS_MAX: usize = 160;
/// Nodes of one network (/24, /64) in one bucket, and in one search: who owns a network does not own a place.
pub const DHT_PER_NETWORK: usize = 2;
/// A node that was not heard of for this long is questionable (BEP 5).
pub const DHT_FRESH: Duration = Duration::from_secs(15 * 60);
/// A node that leaves so many queries in a row without an answer is bad (BEP 5).
pub const DHT_FAILS: u8 = 2;
/// After so long without an answer another node is asked; the answer may still come.
pub const DHT_SLOW: Duration = Duration::from_millis(1500);
/// After so long there is no answer.
pub const DHT_TIMEOUT: Duration = Duration::from_secs(6);
/// Our queries that may wait for an answer, 100 bytes each.
pub const DHT_CALLS_MAX: usize = 512;
/// Our queries a second in the long run: a search takes some 30, and 1,000 torrents search each 15 minutes.
pub const DHT_QUERY_RATE: u64 = 60;
/// Our queries at once after a pause.
pub const DHT_QUERY_BURST: u64 = 120;
/// Searches at a time; others wait their turn.
pub const DHT_SEARCHES_MAX: usize = 8;
/// Nodes that a search remembers: the K nearest, and those that stand in for what does not answer.
pub const DHT_CANDIDATES_MAX: usize = 96;
/// Queries of one search at most, so that liars who name ever nearer nodes cannot keep it going.
pub const DHT_ASKED_MAX: usize = 160;
/// Of these, queries to nodes whose id does not fit their address (BEP 42).
pub const DHT_UNLAWFUL_MAX: usize = 24;
/// Nodes that one node can bring into a search.
pub const DHT_TOLD_MAX: usize = DHT_K;
/// Peers that one search brings at most: what a torrent can use.
pub const DHT_FOUND_MAX: usize = 1000;
/// A torrent is searched and announced this often (BEP 5 keeps an announce for 30 minutes or so).
pub const DHT_ANNOUNCE: Duration = Duration::from_secs(15 * 60);
/// All torrents together are searched so far apart at most, so with more than 450 of them each is less often.
pub const DHT_SPACING: Duration = Duration::from_secs(2);
/// The same as [`DHT_ANNOUNCE`] after a search that nobody answered.
pub const DHT_ANNOUNCE_RETRY: Duration = Duration::from_secs(60);
/// The same after a search that left a download without a peer; it doubles each time, up to the usual.
pub const DHT_HURRY: Duration = Duration::from_secs(60);
/// The secret of tokens changes this often (BEP 5).
pub const DHT_TOKEN_LIFE: Duration = Duration::from_secs(5 * 60);
/// A peer that was announced to us is given out for so long.
pub const DHT_PEER_KEPT: Duration = Duration::from_secs(30 * 60);
/// Torrents that we keep peers of; a node of the public network has some hundreds.
pub const DHT_HASHES_MAX: usize = 2000;
/// Peers of all of them, 48 bytes each: half a MiB.
pub const DHT_PEERS_MAX: usize = 10_000;
/// Peers of one torrent: several times what goes into an answer.
pub const DHT_PEERS_PER_HASH: usize = 200;
/// Networks whose queries are counted one by one.
pub const DHT_SENDERS: usize = 64;
/// Queries of one network that are answered, a second.
pub const DHT_SENDER_RATE: u64 = 20;
/// The same at once, after a pause.
pub const DHT_SENDER_BURST: u64 = 100;
/// Bytes of answers a second, whoever asks: what a slow line can spare.
pub const DHT_ANSWER_RATE: u64 = 32 << 10;
/// The same at once, after a pause.
pub const DHT_ANSWER_BURST: u64 = 128 << 10;
/// An answer to an address that may be forged is so many times the size of its query at most.
pub const DHT_GAIN: usize = 5;
/// Voices about our address that count, the last ones.
pub const DHT_VOTES: usize = 16;
/// Voices that have to agree about it.
pub const DHT_VOTES_NEEDED: usize = 4;
/// Addresses to begin with, of bootstrap names and the like.
pub const DHT_ROUTERS_MAX: usize = 32;
/// Nodes of the last run that are tried first.
pub const DHT_SAVED_MAX: usize = 64;
/// The longest saved table that is read: both families, and room.
pub const DHT_SAVED_BYTES: usize = 16 << 10;
/// The wait before joining is tried again; it doubles each time.
pub const DHT_JOIN_RETRY: Duration = Duration::from_secs(5);
/// The longest wait before joining is tried again.
pub const DHT_JOIN_RETRY_MAX: Duration = Duration::from_secs(10 * 60);
/// The same while the other family is joined: this host most likely has none of this one.
pub const DHT_JOIN_OTHER_MAX: Duration = Duration::from_secs(6 * 3600);
/// The neighbourhood of our id is searched this often: new nodes there are the ones that searches end at.
pub const DHT_NEIGHBOURS: Duration = Duration::from_secs(30 * 60);
/// Nodes of the table are looked after one at a time, this far apart at least.
pub const DHT_UPKEEP: Duration = Duration::from_secs(5);
/// When nobody answered for this long, no node is blamed for being silent: we may have no network.
pub const DHT_ALONE: Duration = Duration::from_secs(2 * 60);
/// Who asks us within this long after we sent it something may come through a hole that we made (NAT): it does not
/// tell that we can be reached.
pub const DHT_HOLE: Duration = Duration::from_secs(3 * 60);
/// Addresses that we remember for it.
pub const DHT_HOLES_MAX: usize = 1024;
/// A node that nobody reached for so long is read-only (BEP 43).
pub const DHT_UNREACHED: Duration = Duration::from_secs(30 * 60);
/// A read-only node tries anew after this long whether it can be reached.
pub const DHT_READ_ONLY: Duration = Duration::from_secs(6 * 3600);
/// What waits to be sent or told; the reactor empties it after each event.
pub const DHT_OUT_MAX: usize = 1024;

const _: () = assert!(DHT_VOTES_NEEDED * 2 <= DHT_VOTES && DHT_CANDIDATES_MAX >= 8 * DHT_K);
const _: () = assert!(DHT_SLOW.as_millis() < DHT_TIMEOUT.as_millis() && DHT_ALPHA <= DHT_K);
const _: () = assert!(DHT_SAVED_MAX * (26 + 38) + 256 < DHT_SAVED_BYTES);
/// The longest configuration file: thousands of trackers and peers, read and checked in no time.
pub const CONFIG_MAX: u64 = 256 << 10;
/// Commands of `--on-complete` that run at a time: enough that one that copies holds up no short one for long.
pub const HOOKS_MAX: usize = 4;

/// Names of bootstrap nodes that are looked up at a time.
pub const DHT_NAMES_MAX: usize = 16;
/// A PORT message of one peer leads to a ping this often at most: a node keeps its port.
pub const DHT_PORT_REST: Duration = Duration::from_secs(60);
/// Pings after PORT messages in a second, of all peers together: enough for a new swarm, no flood for those who are
/// pinged.
pub const DHT_PORTS_A_SECOND: u32 = 10;
/// What a program that does not listen is told of the DHT, later.
pub const DHT_REPORTS_MAX: usize = 256;
/// The table of the DHT is kept this often, and at the end.
pub const DHT_SAVE: Duration = Duration::from_secs(30 * 60);
/// Peers that the embedded tracker knows at most: 16 bytes each in large swarms, 28 with IPv6.
pub const TRACKER_PEERS_MAX: usize = 5 << 18;
/// Of these, in one swarm: the others must have room.
pub const TRACKER_SWARM_MAX: usize = 1 << 19;
/// Swarms at most, some 150 bytes each.
pub const TRACKER_SWARMS_MAX: usize = 1 << 18;
/// Peers of one host (an IPv4 address, or the /64 of an IPv6 one) in one swarm; then the one longest silent makes room.
/// Whole campuses are behind one address.
pub const TRACKER_PORTS_MAX: usize = 64;
/// Counters of the peers that each address has in all swarms: 4 KiB.
pub const TRACKER_SHARES: usize = 1024;
/// How many that may be, a twentieth of all: sixty thousand announces an interval are no client's.
pub const TRACKER_SHARE_MAX: u32 = 1 << 16;
/// Torrents that `--only` may name: 20 bytes each.
pub const TRACKER_ONLY_MAX: usize = 1 << 20;
/// Peers that are told where nobody says how many.
pub const TRACKER_NUMWANT: u32 = 50;
/// The most peers that are told: as many IPv4 addresses as fit one datagram of 1,280 bytes.
pub const TRACKER_NUMWANT_MAX: u32 = 200;
/// The longest answer over UDP: what every IPv6 link must carry, less the headers.
pub const TRACKER_DATAGRAM_MAX: usize = 1232;
/// The longest datagram that is looked at: an announce with options, or a full scrape.
pub const TRACKER_QUERY_MAX: usize = 2048;
/// How often peers are to announce, unless the user says otherwise.
pub const TRACKER_INTERVAL: Duration = Duration::from_secs(30 * 60);
/// The least of that: clients would not announce more often.
pub const TRACKER_INTERVAL_MIN: Duration = Duration::from_secs(60);
/// The most of that: who is gone should not be told for days.
pub const TRACKER_INTERVAL_MAX: Duration = Duration::from_secs(24 * 3600);
/// Peers may announce again this soon (BEP 3, `min interval`).
pub const TRACKER_INTERVAL_SHORT: Duration = Duration::from_secs(60);
/// How long a connection id is valid (BEP 15).
pub const TRACKER_ID_VALID: Duration = Duration::from_secs(120);
/// Peers that are looked at in one turn to see whether they are to be forgotten: 20 microseconds.
pub const TRACKER_SWEEP: usize = 1 << 14;
/// Datagrams that one socket brings in a turn, before the others have theirs: a millisecond.
pub const TRACKER_DATAGRAMS: usize = 256;
/// The receive buffer that is asked for, in bytes: what comes while a turn lasts.
pub const TRACKER_SOCKET_BUFFER: usize = 1 << 20;
/// HTTP connections at a time; then one of the address that has most must go. The usual limit is 1,024 descriptors.
pub const TRACKER_CONNECTIONS: usize = 512;
/// The longest head of a request: a scrape of 64 torrents, and what browsers send.
pub const TRACKER_HEAD_MAX: usize = 8 << 10;
/// The longest first line of it.
pub const TRACKER_LINE_MAX: usize = 6 << 10;
/// How long a request may take to arrive, its answer to leave, or a connection to be silent between two.
pub const TRACKER_HTTP_TIMEOUT: Duration = Duration::from_secs(10);
/// Requests of one connection that are answered in a turn, before the others have theirs.
pub const TRACKER_REQUESTS: usize = 16;

const _: () =
    assert!(TRACKER_SHARE_MAX as usize * 16 < TRACKER_PEERS_MAX && TRACKER_SWARM_MAX < TRACKER_PEERS_MAX);
const _: () = assert!(20 + 6 * TRACKER_NUMWANT_MAX as usize <= TRACKER_DATAGRAM_MAX);
const _: () = assert!(TRACKER_LINE_MAX < TRACKER_HEAD_MAX);
