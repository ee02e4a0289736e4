//! The vocabulary: every event, action, job, call, command and report of the program. Types only.
//!
//! `session` takes [`Event`]s and gives [`Action`]s. The reactor carries actions out: [`Job`]s go to the disk workers
//! and come back as [`Done`], [`Call`]s go to the helpers and come back as [`Reply`]. The program (`cli`) says
//! [`Command`]s and hears [`Report`]s.

use crate::base::bits::Bitfield;
use crate::base::buf::Buf;
use crate::handle;
use crate::proto::id::{InfoHash, NodeId};
use crate::proto::layout::Block;
use crate::proto::metainfo::Metainfo;
use crate::proto::mse::{Method, Methods};
use crate::proto::tracker::url::Url;
use crate::proto::tracker::{Failure, Request, Response};
use crate::proto::wire::handshake::Handshake;
use crate::proto::wire::message::Message;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

handle!(
    /// A connection, dialled or accepted. The session and the reactor keep their halves of a peer under the same
    /// id, and its bits are its key in the poller.
    pub PeerId, "p"
);
handle!(
    /// A torrent of this process.
    pub TorrentId, "t"
);

/// What happens to the session.
#[derive(Debug)]
pub enum Event<'a> {
    /// A connection that [`Action::Connect`] asked for is there.
    Connected {
        /// Which.
        peer: PeerId,
    },
    /// A connection is gone: the other side closed it, or the reactor had to. The reactor has forgotten the peer and
    /// its buffers are home.
    Closed {
        /// Which.
        peer: PeerId,
        /// Why.
        why: Why,
    },
    /// The connection is encrypted from now on (message stream encryption). It comes before the other side's handshake.
    Encrypted {
        /// Which.
        peer: PeerId,
        /// How the payload goes.
        method: Method,
    },
    /// The other side's handshake is in up to its info-hash (48 bytes), and may be waiting for ours.
    InfoHash {
        /// Which.
        peer: PeerId,
        /// The torrent that it names.
        info_hash: InfoHash,
    },
    /// The other side's handshake is in, the first thing on every connection.
    Handshake {
        /// Who sent it.
        peer: PeerId,
        /// What it says.
        handshake: Handshake,
    },
    /// A message is in, any but a piece.
    Message {
        /// Who sent it.
        peer: PeerId,
        /// What it says; it borrows the reactor's buffer.
        message: Message<'a>,
    },
    /// A block that [`Intake::Take`] let in is whole.
    Block {
        /// Who sent it.
        peer: PeerId,
        /// Which block.
        block: Block,
        /// Its bytes, `block.len` of them.
        buf: Buf,
    },
    /// Blocks of [`Action::SendBlock`] went to the kernel as a whole; their buffers are home.
    Sent {
        /// To whom.
        peer: PeerId,
        /// How many.
        blocks: u32,
        /// Their payload in bytes.
        bytes: u64,
    },
    /// A disk worker has done its job.
    Done {
        /// Which worker.
        lane: u8,
        /// What came of it.
        done: Done,
    },
    /// A datagram is in.
    Datagram {
        /// Who sent it, as it says; an IPv4-mapped address is made IPv4.
        from: SocketAddr,
        /// What it says; it borrows the reactor's buffer.
        data: &'a [u8],
    },
    /// An announce of somebody on the local network is in (BEP 14), or something that was sent as one.
    Lsd {
        /// Who sent it: a neighbour by its address, at whatever port.
        from: SocketAddr,
        /// What it says; it borrows the reactor's buffer.
        data: &'a [u8],
    },
    /// A datagram of ours could not be sent, and another one would fare no better now.
    Unreachable {
        /// Where it should have gone.
        to: SocketAddr,
        /// What the system says.
        why: io::ErrorKind,
    },
    /// An address or a link of this machine is gone; connections with that address are closed already.
    NetworkDown {
        /// Over IPv4.
        v4: bool,
        /// Over IPv6.
        v6: bool,
    },
    /// This machine has a new address, default route or link.
    NetworkUp {
        /// Over IPv4.
        v4: bool,
        /// Over IPv6.
        v6: bool,
    },
    /// A helper has an answer.
    Reply(Reply),
    /// A thread of web seeds has something.
    Web {
        /// Which thread.
        slot: u8,
        /// What it says.
        said: WebSaid,
    },
    /// The program wants something.
    Command(Command),
    /// A deadline of [`deadline`](crate::session::Session::deadline) has passed.
    Tick,
}

/// What to do with a block whose header has been read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Intake {
    /// Read it into a `Buf`; [`Event::Block`] follows, or [`Event::Closed`].
    Take,
    /// Read past it: it was not asked for, or is here already.
    Skip,
    /// The disk is behind: stop reading this connection until [`Action::Resume`], then ask again.
    Wait,
}

/// What the session wants done.
#[derive(Debug)]
pub enum Action {
    /// Dial; [`Event::Connected`] or [`Event::Closed`] follows.
    Connect {
        /// The id it shall have.
        peer: PeerId,
        /// Where to.
        addr: SocketAddr,
    },
    /// Begin with an encrypted handshake; ours, which follows, goes along with it. [`Event::Encrypted`] follows, or
    /// [`Event::Closed`].
    Encrypt {
        /// To whom.
        peer: PeerId,
        /// What to offer.
        methods: Methods,
    },
    /// Send our handshake.
    Handshake {
        /// To whom.
        peer: PeerId,
        /// What.
        handshake: Box<Handshake>,
    },
    /// The torrent is known: from now on a message may be this long, in bytes.
    Expect {
        /// Of whom.
        peer: PeerId,
        /// The longest message that this torrent allows.
        max: u32,
    },
    /// Send a message that has no payload block.
    Send {
        /// To whom.
        peer: PeerId,
        /// What.
        message: Message<'static>,
    },
    /// Send a message for each of these pieces that we have now (BEP 3, `have`).
    Haves {
        /// To whom.
        peer: PeerId,
        /// Which.
        pieces: Vec<u32>,
    },
    /// Send a piece message; [`Event::Sent`] follows, or [`Event::Closed`].
    SendBlock {
        /// To whom.
        peer: PeerId,
        /// Which block.
        block: Block,
        /// Its bytes.
        buf: Buf,
    },
    /// Read from this connection again after [`Intake::Wait`], and ask `intake` again.
    Resume {
        /// Which.
        peer: PeerId,
    },
    /// Close the connection (what is in its outbox may be lost) and forget the peer. No [`Event::Closed`] follows.
    Close {
        /// Which.
        peer: PeerId,
        /// Why, for the log.
        why: Why,
    },
    /// Work for a disk worker.
    Job {
        /// Which worker.
        lane: u8,
        /// What.
        job: Job,
    },
    /// Read blocks that a peer asked for: a [`Job::Read`], to which the reactor adds empty buffers.
    Read {
        /// Which worker.
        lane: u8,
        /// Whose.
        torrent: TorrentId,
        /// Who asked.
        peer: PeerId,
        /// Which blocks, in its order; `limits::READ_BATCH` at most.
        blocks: Vec<Block>,
    },
    /// Send a datagram from the port that we listen on. It may be lost; [`Event::Unreachable`] tells when there is no
    /// way at all.
    Datagram {
        /// Where to.
        to: SocketAddr,
        /// What it says.
        data: Box<[u8]>,
    },
    /// Send a datagram to the group of local service discovery (BEP 14), on every network device in use. It may be
    /// lost, and nobody hears of it.
    Lsd {
        /// The group of IPv6, not that of IPv4.
        v6: bool,
        /// What it says.
        data: Box<[u8]>,
    },
    /// A call that may block, for a helper.
    Call(Box<Call>),
    /// Work for a thread of web seeds.
    Web {
        /// Which thread.
        slot: u8,
        /// What.
        order: WebOrder,
    },
    /// Lend empty buffers to a thread of web seeds: so many times [`WebOrder::Lend`], which the reactor makes.
    Lend {
        /// Which thread.
        slot: u8,
        /// How many.
        count: u32,
    },
    /// A buffer goes home to the pool.
    Release(Buf),
    /// Our network is back: the helpers forget which look-ups and hosts failed.
    ForgetFailures,
    /// All is closed: the reactor ends once the reports that are left (the last is [`Report::Finished`]) are out.
    Exit,
}

/// Why a connection was closed. It decides whether the address is called again, and when.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Why {
    /// The other side closed it.
    Eof,
    /// The socket failed.
    Io(io::ErrorKind),
    /// The connection could not be made.
    Unreachable(io::ErrorKind),
    /// It did not connect, shake hands or say anything in time.
    Timeout,
    /// What we send is not taken.
    Stalled,
    /// Our own address that it used is gone from this machine.
    AddressGone,
    /// Our network was away, and it has been silent since.
    Outage,
    /// The other side broke the protocol.
    Protocol(&'static str),
    /// It asked for a torrent that we do not have.
    UnknownTorrent,
    /// It speaks in the clear, and the user wants none of that.
    Unencrypted,
    /// Too many encrypted handshakes are under way.
    Busy,
    /// It is ourselves.
    Myself,
    /// There is another connection to the same peer.
    Duplicate,
    /// Both of us have everything.
    BothSeeds,
    /// A better candidate needs the place.
    Replaced,
    /// It sent bytes that are not the torrent's.
    Corrupt,
    /// The torrent turned out private: its peers come from its trackers alone (BEP 27).
    Private,
    /// The torrent stopped or the program ends.
    Stopping,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Why::Eof => f.write_str("closed by the other side"),
            Why::Io(kind) => write!(f, "{kind}"),
            Why::Unreachable(kind) => write!(f, "cannot connect: {kind}"),
            Why::Timeout => f.write_str("timed out"),
            Why::Stalled => f.write_str("does not take what we send"),
            Why::AddressGone => f.write_str("our own address is gone"),
            Why::Outage => f.write_str("silent since our network was away"),
            Why::Protocol(what) => write!(f, "broke the protocol: {what}"),
            Why::UnknownTorrent => f.write_str("asked for an unknown torrent"),
            Why::Unencrypted => f.write_str("is not encrypted"),
            Why::Busy => f.write_str("too many encrypted handshakes at a time"),
            Why::Myself => f.write_str("is ourselves"),
            Why::Duplicate => f.write_str("is connected already"),
            Why::BothSeeds => f.write_str("both have everything"),
            Why::Replaced => f.write_str("made room for another"),
            Why::Corrupt => f.write_str("sent corrupt data"),
            Why::Private => f.write_str("the torrent is private, and it may not come from a tracker"),
            Why::Stopping => f.write_str("stopping"),
        }
    }
}

/// How a file's space is reserved (`--prealloc`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Prealloc {
    /// Before the start: reserved, or where that gains nothing (in memory, small files) made sure of by counting.
    #[default]
    Full,
    /// As it fills.
    Sparse,
}

/// How pieces reach the files (`--disk-io`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum DiskIo {
    /// Mapped where that is known to do well, else by `pwrite`.
    #[default]
    Auto,
    /// Mapped windows wherever the file system lets us.
    Mmap,
    /// `pwrite` everywhere.
    Pwrite,
}

/// Whether connections are encrypted (`--encryption`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Encryption {
    /// Never.
    Disabled,
    /// An encrypted handshake first, then what is cheaper; who speaks in the clear is welcome.
    #[default]
    Enabled,
    /// RC4 or nothing.
    Required,
}

impl Encryption {
    /// What may follow an encrypted handshake. None: there is none.
    pub fn methods(self) -> Option<Methods> {
        match self {
            Encryption::Disabled => None,
            Encryption::Enabled => Some(Methods::ANY),
            Encryption::Required => Some(Methods::RC4),
        }
    }
}

/// A torrent and how the user wants it; shared by the session and the disk workers.
#[derive(Debug)]
pub struct Spec {
    /// What the .torrent says; of a magnet link no more than which torrent it is, until its peers have told.
    pub meta: Metainfo,
    /// The download folder.
    pub dir: PathBuf,
    /// Which files are wanted, one flag each (`--select`).
    pub wanted: Vec<bool>,
    /// Never download, never write (`--seed`).
    pub seed_only: bool,
    /// Take over files that are there and are not this torrent's.
    pub overwrite: bool,
    /// How space is reserved.
    pub prealloc: Prealloc,
    /// How files are written.
    pub disk_io: DiskIo,
    /// Pieces in order rather than rarest first.
    pub sequential: bool,
    /// Seed by showing each peer few pieces (BEP 16).
    pub super_seed: bool,
    /// Seeding ends when so many thousandths of the size of the selected files are uploaded; None: never.
    pub seed_ratio: Option<u64>,
    /// Seeding ends after this long; None: never.
    pub seed_time: Option<Duration>,
    /// Trackers to announce to, tiers of URLs (BEP 12): the torrent's own, then those of `--tracker`.
    pub trackers: Vec<Vec<Url>>,
    /// Web seeds (BEP 19): HTTP servers that have the files.
    pub web_seeds: Vec<Url>,
    /// Peers to connect to, as `HOST:PORT` was given (`--peer`).
    pub peers: Vec<(String, u16)>,
    /// Where its resume record is; None: it has none.
    pub state_dir: Option<PathBuf>,
}

/// What the resume record keeps for the session.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Saved {
    /// Payload bytes sent, in all runs.
    pub uploaded: u64,
    /// Payload bytes received, in all runs.
    pub downloaded: u64,
    /// Peers that were good, the best last; `limits::RESUME_PEERS` at most.
    pub peers: Vec<SocketAddr>,
}

/// Work for a disk worker. A worker does writes and reads before checks, each kind in order.
#[derive(Debug)]
pub enum Job {
    /// Claim the files, make folders, reserve space. Other jobs of the torrent come only after its answer, and then to
    /// any worker.
    Open {
        /// Whose.
        torrent: TorrentId,
        /// What and where.
        spec: Arc<Spec>,
    },
    /// Store a block. All blocks of a piece go to the same worker until [`Done::Piece`].
    Write {
        /// Whose.
        torrent: TorrentId,
        /// Where.
        block: Block,
        /// The bytes.
        buf: Buf,
    },
    /// Hash these pieces as they are on disk. It gives way to writes and reads.
    Check {
        /// Whose.
        torrent: TorrentId,
        /// The first piece.
        first: u32,
        /// How many.
        count: u32,
    },
    /// Read blocks that a peer asked for, of verified pieces.
    Read {
        /// Whose.
        torrent: TorrentId,
        /// Who asked.
        peer: PeerId,
        /// Which blocks, and where to put each.
        blocks: Vec<(Block, Buf)>,
    },
    /// Keep this in the resume record.
    Save {
        /// Whose.
        torrent: TorrentId,
        /// What.
        saved: Saved,
    },
    /// Look whether there is space again. It comes after what was to be stored before.
    Room {
        /// Whose.
        torrent: TorrentId,
        /// For how many bytes.
        bytes: u64,
    },
    /// Forget the torrent: drop its pieces in hand, windows, descriptors and, with the last worker, its claims. The
    /// last answer comes when the resume record is written, and the data is on the medium if that takes no time.
    Close {
        /// Whose.
        torrent: TorrentId,
    },
    /// Is this the info dictionary, and what does it say? One that is right is kept in the state folder.
    Digest {
        /// Whose.
        torrent: TorrentId,
        /// As far as it is known.
        spec: Arc<Spec>,
        /// The dictionary, in the pieces in which it came.
        info: Vec<Box<[u8]>>,
    },
    /// Read a piece of the info dictionary that a peer asked for (BEP 9).
    Info {
        /// Whose.
        torrent: TorrentId,
        /// Of what.
        spec: Arc<Spec>,
        /// Who asked.
        peer: PeerId,
        /// Which piece of it.
        piece: u32,
    },
    /// Drop what the state folder has but for the next start to be shorter. It comes after the last answer to `Close`,
    /// and is not answered.
    Forget {
        /// Whose.
        torrent: TorrentId,
        /// Of what.
        spec: Arc<Spec>,
    },
}

/// What came of a [`Job`].
#[derive(Debug)]
pub enum Done {
    /// Of [`Job::Open`].
    Opened {
        /// Whose.
        torrent: TorrentId,
        /// What was found, or why it cannot be.
        result: Box<Result<Opened, DiskError>>,
    },
    /// Of [`Job::Write`]. After an error the worker has forgotten all blocks of that piece.
    Written {
        /// Whose.
        torrent: TorrentId,
        /// Which block.
        block: Block,
        /// The buffer, free again.
        buf: Buf,
        /// Whether it is stored.
        result: Result<(), DiskError>,
    },
    /// The last block of a piece was written, and the piece hashed.
    Piece {
        /// Whose.
        torrent: TorrentId,
        /// Which.
        piece: u32,
        /// Whether it is right.
        verdict: Verdict,
    },
    /// Of [`Job::Check`].
    Checked {
        /// Whose.
        torrent: TorrentId,
        /// The first piece.
        first: u32,
        /// How many.
        count: u32,
        /// Which of them are right (bit 0 is `first`); missing and short files are just not right.
        result: Result<Bitfield, DiskError>,
    },
    /// Of [`Job::Read`].
    Read {
        /// Whose.
        torrent: TorrentId,
        /// Who asked.
        peer: PeerId,
        /// The blocks with their bytes; all buffers, however it went.
        blocks: Vec<(Block, Buf)>,
        /// Which of them could not be read, by its place, and why: those before it are there, those after it were not
        /// tried.
        failed: Option<(usize, DiskError)>,
    },
    /// Of [`Job::Save`].
    Saved {
        /// Whose.
        torrent: TorrentId,
    },
    /// Of [`Job::Room`].
    Room {
        /// Whose.
        torrent: TorrentId,
        /// Whether there is some.
        result: Result<(), DiskError>,
    },
    /// Data that was stored could not be made durable.
    Unsynced {
        /// Whose.
        torrent: TorrentId,
        /// What the system said.
        error: DiskError,
        /// The pieces with it: those that were right are so no more, of the others no block is stored.
        lost: Vec<u32>,
    },
    /// Of [`Job::Digest`].
    Digested {
        /// Whose.
        torrent: TorrentId,
        /// What it says.
        result: Result<Box<Metainfo>, BadInfo>,
    },
    /// Of [`Job::Info`].
    Info {
        /// Whose.
        torrent: TorrentId,
        /// Who asked.
        peer: PeerId,
        /// Which piece.
        piece: u32,
        /// Its bytes.
        result: Result<Box<[u8]>, DiskError>,
    },
    /// Of [`Job::Close`].
    Closed {
        /// Whose.
        torrent: TorrentId,
    },
}

/// What [`Job::Open`] found.
#[derive(Debug, Default)]
pub struct Opened {
    /// Pieces that are right by the resume record: they need not be hashed.
    pub have: Bitfield,
    /// Pieces of which some blocks are there by the resume record: which ones.
    pub partial: Vec<(u32, Bitfield)>,
    /// What earlier runs saved.
    pub saved: Saved,
    /// Pieces that may be there (a file with data lies under them) and must be hashed before anything is asked for.
    pub candidates: Bitfield,
    /// Files that were there with data and are not this torrent's by the resume record: unless a piece in one turns
    /// out right, or `overwrite` was said, it is not this torrent's and must not be written.
    pub found: Vec<usize>,
    /// What the user should be told (no preallocation on this file system, and the like).
    pub warnings: Vec<String>,
}

/// Whether a piece that was downloaded is right.
#[derive(Debug)]
pub enum Verdict {
    /// It is. `differed` holds the numbers of those blocks that an earlier, failed try had other bytes for: who
    /// sent those then is guilty.
    Good {
        /// Block numbers within the piece.
        differed: Vec<u32>,
    },
    /// The hash is not the one due.
    Bad,
    /// It could not be read back.
    Failed(DiskError),
}

/// What is wrong with an info dictionary that came from peers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum BadInfo {
    /// It is not that of the info-hash: somebody lied.
    Hash,
    /// It is, and this program cannot use it: why.
    Refused(String),
}

/// The file system said no.
#[derive(Debug)]
pub struct DiskError {
    /// What was tried, as a verb: "write", "open", "reserve space for".
    pub op: &'static str,
    /// Where.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

impl fmt::Display for DiskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = crate::proto::metainfo::printable(&self.path.to_string_lossy());
        write!(f, "cannot {} {path}: {}", self.op, self.source)
    }
}

impl std::error::Error for DiskError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// A call that may block for long.
#[derive(Debug)]
pub enum Call {
    /// Tell a tracker.
    Announce {
        /// Whose.
        torrent: TorrentId,
        /// Which tracker, a number of the torrent's own.
        tracker: u32,
        /// Where.
        url: Url,
        /// What.
        request: Request,
        /// Give up after this long.
        timeout: Duration,
    },
    /// Look a host name up.
    Resolve {
        /// Whose.
        torrent: TorrentId,
        /// The name, or an address literal.
        host: String,
        /// The port that the answer shall have.
        port: u16,
    },
    /// Look the name of a UDP tracker up, for all torrents.
    LookUp {
        /// The name.
        host: String,
        /// The port that the answer shall have.
        port: u16,
    },
}

/// The answer to a [`Call`].
#[derive(Debug)]
pub enum Reply {
    /// Of [`Call::Announce`].
    Announced {
        /// Whose.
        torrent: TorrentId,
        /// Which tracker.
        tracker: u32,
        /// What it says.
        result: Result<Response, TrackerFailure>,
    },
    /// Of [`Call::Resolve`].
    Resolved {
        /// Whose.
        torrent: TorrentId,
        /// The name that was looked up.
        host: String,
        /// The port.
        port: u16,
        /// The addresses, or what is wrong.
        result: Result<Vec<SocketAddr>, String>,
    },
    /// Of [`Call::LookUp`].
    LookedUp {
        /// The name that was looked up.
        host: String,
        /// The port.
        port: u16,
        /// The addresses, or what is wrong.
        result: Result<Vec<SocketAddr>, String>,
    },
}

/// Why an announce failed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TrackerFailure {
    /// The name, the connection or the answer's transport failed.
    Network(String),
    /// It answered with a `failure reason` (BEP 3).
    Refused(Failure),
    /// The answer makes no sense.
    Answer(String),
    /// The answer is compressed in this content coding, though it was asked for as it is.
    Compressed(String),
    /// This build or the options cannot speak to it.
    Unsupported(String),
}

impl fmt::Display for TrackerFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TrackerFailure::Network(what) => f.write_str(what),
            TrackerFailure::Refused(failure) => write!(f, "the tracker says: {failure}"),
            TrackerFailure::Answer(what) => write!(f, "the tracker's answer is not valid: {what}"),
            TrackerFailure::Compressed(coding) => write!(
                f,
                "the answer is encoded as \"{coding}\", which was not asked for and cannot be decompressed yet; use \
                 another tracker (--tracker)"
            ),
            TrackerFailure::Unsupported(what) => f.write_str(what),
        }
    }
}

/// What a thread of web seeds is to do, in the order of its queue.
#[derive(Debug)]
pub enum WebOrder {
    /// Fetch this after what was ordered before; [`WebSaid::Done`] follows its last block.
    Get(Box<WebGet>),
    /// A buffer for the next block that has none.
    Lend(Buf),
    /// Drop everything: each buffer comes back, then [`WebSaid::Stopped`]. Due after [`WebSaid::Failed`], too.
    Stop,
}

/// Blocks, and the ranges of files that they are made of: the bytes of the one list are those of the other.
#[derive(Debug)]
pub struct WebGet {
    /// The blocks, in order.
    pub blocks: Vec<Block>,
    /// Where their bytes are, in order.
    pub parts: Vec<WebPart>,
    /// None: the server has to serve ranges. Otherwise a whole file is taken as well, and read from its start; bytes of
    /// it that are not wanted are read at no more than this rate, in bytes a second (0: no limit).
    pub skip_rate: Option<u64>,
}

/// A run of the bytes of a [`WebGet`].
#[derive(Debug)]
pub enum WebPart {
    /// From a server.
    Range {
        /// The file's URL.
        url: Arc<Url>,
        /// Addresses of its host.
        addrs: Arc<[IpAddr]>,
        /// Which file of the torrent.
        file: usize,
        /// How long that file is, in bytes.
        size: u64,
        /// The first byte.
        from: u64,
        /// How many bytes; never 0.
        len: u64,
    },
    /// So many zeros: padding (BEP 47), which no server has.
    Zeros(u64),
}

/// What a thread of web seeds says.
#[derive(Debug)]
pub enum WebSaid {
    /// A block is whole. They come in the order of the gets.
    Block(Block, Buf),
    /// All blocks of a get came.
    Done,
    /// It cannot go on. What it has and gets before [`WebOrder::Stop`] it gives back or forgets.
    Failed(WebFailure),
    /// A buffer without a block.
    Back(Buf),
    /// Of [`WebOrder::Stop`]: it has nothing any more.
    Stopped,
}

/// Why a web seed did not give what was asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum WebFailure {
    /// The connection could not be made, broke, or was too slow: worth another try.
    Network(String),
    /// The server has no time for us just now.
    Busy {
        /// Its HTTP status.
        status: u16,
        /// When to come again, if it says so.
        after: Option<Duration>,
    },
    /// A file is elsewhere.
    Moved {
        /// Which file.
        file: usize,
        /// Where.
        to: Url,
    },
    /// A file is not there, or is another one.
    Missing {
        /// Which file.
        file: usize,
        /// What the server says.
        why: String,
    },
    /// The server answers with whole files only, and was asked for a range.
    NoRanges,
    /// This server, or this build, cannot do it at all.
    Useless(String),
}

/// How our node of the DHT runs.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct DhtSetup {
    /// Over IPv4.
    pub v4: bool,
    /// Over IPv6.
    pub v6: bool,
    /// Nodes of this machine count: for private networks.
    pub loopback: bool,
    /// Hosts and ports of nodes to begin with.
    pub bootstrap: Vec<(String, u16)>,
    /// What [`Report::DhtTable`] said in an earlier run.
    pub saved: Vec<u8>,
}

/// How our node of the DHT stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct DhtStats {
    /// Over IPv4 and over IPv6, where it runs.
    pub sides: [Option<DhtSide>; 2],
    /// Torrents that we keep peers of for others.
    pub stored_torrents: usize,
    /// Peers of all of them.
    pub stored_peers: usize,
    /// Datagrams that came, and went.
    pub packets: (u64, u64),
    /// Bytes of them.
    pub bytes: (u64, u64),
    /// Queries that were let in, and those that were dropped for being too many.
    pub queries: (u64, u64),
    /// Searches under way.
    pub searches: usize,
}

/// How it stands in one family.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DhtSide {
    /// Our id.
    pub id: NodeId,
    /// Whom we know.
    pub table: DhtCount,
    /// Our address as others see it.
    pub external: Option<IpAddr>,
    /// Nobody reaches us (BEP 43).
    pub read_only: bool,
}

/// How many nodes we know.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct DhtCount {
    /// Nodes that answered, or asked us, within 15 minutes.
    pub good: usize,
    /// Nodes that have to be asked again first.
    pub questionable: usize,
    /// Nodes that wait for room.
    pub spare: usize,
    /// Buckets.
    pub buckets: usize,
}

/// What a search for a torrent took.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct DhtSearch {
    /// Over IPv6.
    pub v6: bool,
    /// Queries.
    pub asked: usize,
    /// Answers.
    pub answered: usize,
    /// The longest way from our table to a node that answered.
    pub hops: u32,
    /// Peers that were found.
    pub peers: usize,
    /// Nodes that we were announced to.
    pub announced: usize,
}

/// What the program wants of the engine.
#[derive(Debug)]
pub enum Command {
    /// Run this torrent; reports about it carry the number. One that is there already gets the trackers and peers of
    /// this one, whose number then is [`State::Stopped`].
    Add {
        /// The program's own number of it, of none that is there.
        number: u32,
        /// What and how.
        spec: Arc<Spec>,
    },
    /// What [`Report::Metadata`] said of a torrent, as the user wants it: it goes on.
    Adopt {
        /// The program's number of it.
        number: u32,
        /// The same torrent, now with all that there is to know.
        spec: Arc<Spec>,
    },
    /// Join the DHT; once.
    Dht(Box<DhtSetup>),
    /// Look peers of a torrent up in the DHT: [`Report::DhtPeers`], then [`Report::DhtSearched`] for each family.
    DhtLookUp(InfoHash),
    /// [`Report::DhtStats`], please.
    DhtStatus,
    /// Halt this torrent: close its peers and files, tell its trackers `stopped`, keep its record.
    Pause {
        /// The program's number of it; one that is not there is ignored, here and below.
        number: u32,
    },
    /// Go on with a torrent that is paused, or try again one that is in error.
    Resume {
        /// The program's number of it.
        number: u32,
    },
    /// Stop this torrent and forget it. Its number and its info-hash may be added again.
    Remove {
        /// The program's number of it.
        number: u32,
    },
    /// Stop everything: tell the trackers, close what is open, then [`Report::Finished`].
    Quit,
    /// Tell all there is to tell: one [`Report::Status`] for all who ask before it is made.
    Status,
}

/// What the program is told.
#[derive(Debug)]
pub enum Report {
    /// A listener is there.
    Listening {
        /// Where.
        addr: SocketAddr,
    },
    /// A signal came; the engine is stopping.
    Signal {
        /// Which.
        signal: i32,
    },
    /// The log was rotated: its file is to be opened anew.
    Reopen,
    /// The answer to [`Command::Status`].
    Status(Box<Status>),
    /// A torrent's state is another one.
    State {
        /// Which torrent.
        number: u32,
        /// The new state.
        state: State,
        /// Why, where there is something to say.
        reason: Option<String>,
    },
    /// How far it is, at most once a second.
    Progress {
        /// Which torrent.
        number: u32,
        /// The figures.
        progress: Progress,
    },
    /// The metadata of a torrent that was added without has come from its peers; it waits for [`Command::Adopt`].
    Metadata {
        /// Which torrent.
        number: u32,
        /// What it says.
        meta: Box<Metainfo>,
    },
    /// All that was wanted is there and verified.
    Complete {
        /// Which torrent.
        number: u32,
    },
    /// Something failed. The torrent's state tells whether it goes on.
    Error {
        /// Which torrent.
        number: u32,
        /// What kind of thing.
        reason: Reason,
        /// One line, with the file or address at fault.
        message: String,
    },
    /// Something the user should know.
    Warning {
        /// Which torrent.
        number: u32,
        /// One line.
        message: String,
    },
    /// The table of the DHT, for [`DhtSetup::saved`].
    DhtTable(Vec<u8>),
    /// How the DHT stands.
    DhtStats(Box<DhtStats>),
    /// Peers that a look-up found.
    DhtPeers {
        /// Of which torrent.
        info_hash: InfoHash,
        /// Addresses of them.
        peers: Vec<SocketAddr>,
    },
    /// A look-up has ended in one family.
    DhtSearched {
        /// Of which torrent.
        info_hash: InfoHash,
        /// What it took.
        search: DhtSearch,
    },
    /// The engine has ended.
    Finished {
        /// How many trackers could not be told `stopped` in time.
        unreached: u32,
    },
}

/// What a torrent is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// Getting its metadata from peers.
    Metadata,
    /// Hashing what is on disk.
    Checking,
    /// Getting what is missing.
    Downloading,
    /// It has all that it wants.
    Seeding,
    /// It was halted by [`Command::Pause`], and its peers and files are closed or about to be.
    Paused,
    /// It has ended.
    Stopped,
    /// It cannot go on, unless [`Command::Resume`] has it try again.
    Error,
    /// It cannot get what is missing, for want of space; what is there is served. It goes on by itself once there is
    /// some. The user reads `error`.
    Full,
}

/// What kind of thing failed (`reason` in `--json`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    /// No space.
    DiskFull,
    /// A file could not be read or written.
    Io,
    /// A tracker.
    Tracker,
    /// Data that does not match its hash.
    Hash,
    /// The .torrent.
    Metainfo,
    /// A socket or address.
    Network,
}

/// The figures of a torrent.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Progress {
    /// Bytes of the selected files.
    pub total: u64,
    /// Of these, bytes that are verified.
    pub have: u64,
    /// While checking: bytes that were looked at, of all that must be.
    pub checked: Option<(u64, u64)>,
    /// While it gets its metadata: bytes of it that are there, of all. None: how many there are is not known.
    pub metadata: Option<(u64, u64)>,
    /// Payload bytes received in this run.
    pub downloaded: u64,
    /// Payload bytes sent in this run.
    pub uploaded: u64,
    /// Payload bytes sent in all runs.
    pub uploaded_ever: u64,
    /// Bytes a second.
    pub download_rate: u64,
    /// Bytes a second.
    pub upload_rate: u64,
    /// Connected peers.
    pub peers: u32,
    /// Of these, how many have everything.
    pub seeds: u32,
    /// Web seeds that something is fetched from.
    pub web: u32,
    /// Why nothing moves, when nothing does.
    pub stuck: Option<String>,
}

/// Every torrent and every peer at one moment, for those who look for a fault.
#[derive(Debug, Default)]
pub struct Status {
    /// Time since the engine started.
    pub uptime: Duration,
    /// The torrents, in the order in which they were added.
    pub torrents: Vec<TorrentStatus>,
    /// The peers, `limits::STATUS_PEERS_MAX` at most: those of the first torrent first.
    pub peers: Vec<PeerStatus>,
    /// How many peers are left out.
    pub peers_left_out: usize,
    /// Connections being made.
    pub half_open: usize,
    /// Calls that helpers have in hand.
    pub calls_out: usize,
    /// Calls that wait for that.
    pub calls_waiting: usize,
    /// What each disk worker has to do.
    pub lanes: Vec<LaneStatus>,
    /// Blocks being received or on their way to disk, and how many there may be.
    pub receiving: (usize, usize),
    /// Blocks being read or sent, and how many there may be.
    pub sending: (usize, usize),
    /// Buffers that are out of the pool, and how many there are.
    pub buffers: (usize, usize),
}

/// One torrent in a [`Status`].
#[derive(Debug)]
pub struct TorrentStatus {
    /// The program's number of it.
    pub number: u32,
    /// What it is doing.
    pub state: State,
    /// Its figures.
    pub progress: Progress,
    /// Payload bytes received in all runs.
    pub downloaded_ever: u64,
    /// Pieces that are begun and not verified.
    pub begun: usize,
    /// Addresses that we know.
    pub known: usize,
    /// Its trackers, each redacted and with a word on how it is; `limits::STATUS_TRACKERS_MAX` at most.
    pub trackers: Vec<(String, String)>,
    /// Its web seeds; `limits::STATUS_TRACKERS_MAX` at most.
    pub web_seeds: Vec<WebStatus>,
}

/// One web seed in a [`Status`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WebStatus {
    /// Its URL, redacted.
    pub url: String,
    /// How it is.
    pub word: String,
    /// Bytes a second.
    pub download_rate: u64,
    /// Payload bytes received from it.
    pub downloaded: u64,
}

/// One connection in a [`Status`].
#[derive(Debug)]
pub struct PeerStatus {
    /// As the log names it.
    pub id: PeerId,
    /// Its torrent's number, once it is known.
    pub number: Option<u32>,
    /// The other side.
    pub addr: SocketAddr,
    /// We dialled.
    pub outgoing: bool,
    /// How it is encrypted, if it is.
    pub encrypted: Option<Method>,
    /// There is a connection.
    pub connected: bool,
    /// Both handshakes are through.
    pub open: bool,
    /// Its program, as it says (BEP 10) or by its peer id (BEP 20).
    pub client: String,
    /// Both sides speak the fast extension (BEP 6).
    pub fast: bool,
    /// Both sides speak the extension protocol (BEP 10).
    pub extended: bool,
    /// It says that it wants nothing more (BEP 21).
    pub upload_only: bool,
    /// We want something of it.
    pub am_interested: bool,
    /// We serve it nothing.
    pub am_choking: bool,
    /// It wants something of us.
    pub interested: bool,
    /// It serves us nothing.
    pub choking: bool,
    /// It owes us blocks for long.
    pub snubbed: bool,
    /// It is not read, as the disk is behind.
    pub waiting: bool,
    /// Pieces it has, of how many.
    pub pieces: (u32, u32),
    /// Bytes a second.
    pub download_rate: u64,
    /// Bytes a second.
    pub upload_rate: u64,
    /// Payload bytes received from it.
    pub downloaded: u64,
    /// Payload bytes sent to it.
    pub uploaded: u64,
    /// Requests open with it.
    pub requests_out: usize,
    /// Its requests that wait, are read, or stand in the outbox.
    pub requests_in: usize,
}

/// What one disk worker has to do, in a [`Status`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LaneStatus {
    /// Bytes that are with it and not written.
    pub writing: u64,
    /// Bytes that are still coming for it.
    pub coming: u64,
    /// Reads it has.
    pub reads: u64,
}
