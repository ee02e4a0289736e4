//! A disk of the simulator: it keeps a fingerprint of each block and knows what each should be from a content function
//! of piece and offset. It answers late, and can be slow, full or broken.

use ptorrent::api::{BadInfo, DiskError, Done, Job, Opened, Spec, TorrentId, Verdict};
use ptorrent::base::bits::Bitfield;
use ptorrent::base::time::Time;
use ptorrent::limits::READ_BATCH;
use ptorrent::proto::extended::metadata::PIECE;
use ptorrent::proto::id::InfoHash;
use ptorrent::proto::layout::{Block, Layout};
use ptorrent::proto::metainfo::Metainfo;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// The bytes of a block: eight bytes over and over that depend on where it lies.
fn pattern(block: Block) -> [u8; 8] {
    let x = (u64::from(block.piece) << 32 | u64::from(block.begin)) + 1;
    x.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes()
}

/// Writes what belongs there.
pub(crate) fn fill(block: Block, out: &mut [u8]) {
    let pattern = pattern(block);
    for chunk in out.chunks_mut(8) {
        chunk.copy_from_slice(&pattern[..chunk.len()]);
    }
}

/// 0 when the bytes are right, else a digest of what is wrong.
fn fingerprint(block: Block, bytes: &[u8]) -> u64 {
    let pattern = pattern(block);
    let wrong = bytes.chunks(8).zip(0u64..).find(|(chunk, _)| **chunk != pattern[..chunk.len()]);
    wrong.map_or(0, |(chunk, at)| (at + 1) * 256 + u64::from(chunk[0]))
}

/// What a node keeps and how fast.
pub(crate) struct Disk {
    spec: Option<Arc<Spec>>,
    /// The torrent that has its files open, and how many workers have closed them.
    open: Option<(TorrentId, usize)>,
    /// Answers that are on their way.
    pending: usize,
    /// It was opened before, so that there is a record.
    known: bool,
    /// Verified pieces.
    good: Bitfield,
    /// Pieces that were verified at some time.
    once: Bitfield,
    /// Pieces that cannot be read, until they are stored again.
    pub(crate) bad: BTreeSet<u32>,
    /// Pieces of which a read failed at some time.
    unread: BTreeSet<u32>,
    /// How many pieces could be hashed again all the same.
    pub(crate) moody: bool,
    pub(crate) checked: u32,

    /// Fingerprints of blocks of pieces that are not verified.
    partial: BTreeMap<u32, BTreeMap<u32, u64>>,
    /// Of failed pieces: what was there.
    failed: BTreeMap<u32, BTreeMap<u32, u64>>,
    differed: BTreeMap<u32, Vec<u32>>,
    busy: Vec<Time>,
    pub(crate) latency: Duration,
    /// Bytes a second and worker.
    pub(crate) rate: u64,
    /// Bytes that fit.
    pub(crate) space: u64,
    /// It cannot be opened.
    pub(crate) broken: bool,
    /// Not even the files can be made.
    pub(crate) full_at_open: bool,
    /// Serves wrong bytes in blocks where this says so.
    pub(crate) lies: fn(Block) -> bool,
    /// Serves wrong metadata.
    pub(crate) lies_of_info: bool,
    pub(crate) stored: u64,
    /// The most bytes that waited for one worker.
    pub(crate) queue_max: u64,
}

impl Disk {
    fn with(good: Bitfield, lanes: u8) -> Disk {
        Disk {
            spec: None,
            open: None,
            pending: 0,
            known: false,
            once: good.clone(),
            good,
            bad: BTreeSet::new(),
            unread: BTreeSet::new(),
            moody: false,
            checked: 0,
            partial: BTreeMap::new(),
            failed: BTreeMap::new(),
            differed: BTreeMap::new(),
            busy: vec![Time::ZERO; usize::from(lanes)],
            latency: Duration::from_micros(200),
            rate: 200 << 20,
            space: u64::MAX,
            broken: false,
            full_at_open: false,
            lies: |_| false,
            lies_of_info: false,
            stored: 0,
            queue_max: 0,
        }
    }

    /// Nothing on it.
    pub(crate) fn empty(pieces: u32, lanes: u8) -> Disk {
        Disk::with(Bitfield::new(pieces), lanes)
    }

    /// Everything on it.
    pub(crate) fn full(pieces: u32, lanes: u8) -> Disk {
        Disk::with(Bitfield::full(pieces), lanes)
    }

    pub(crate) fn verified(&self, piece: u32) -> bool {
        self.once.get(piece)
    }

    pub(crate) fn have(&self) -> &Bitfield {
        &self.good
    }

    /// An answer arrived.
    pub(crate) fn answered(&mut self) {
        self.pending -= 1;
    }

    /// Whether no torrent has its files open and nothing is to be answered.
    pub(crate) fn is_closed(&self) -> bool {
        self.open.is_none() && self.pending == 0
    }

    /// Whether a block of a piece that is not verified is there.
    pub(crate) fn has_block(&self, block: Block) -> bool {
        let index = self.spec.as_ref().and_then(|spec| spec.meta.layout.block_index(block));
        let blocks = self.partial.get(&block.piece);
        blocks.zip(index).is_some_and(|(blocks, index)| blocks.contains_key(&index))
    }

    /// Whether it has no room, or answers what is asked of it now only after a second.
    pub(crate) fn is_behind(&self, now: Time) -> bool {
        let late = Duration::from_secs(1);
        self.space != u64::MAX || self.latency > late || self.busy.iter().any(|busy| busy.since(now) > late)
    }

    fn layout(&self) -> Layout {
        self.spec.as_ref().expect("opened before anything else").meta.layout.clone()
    }

    /// Does a job; the answers come at their times.
    pub(crate) fn job(&mut self, lane: u8, job: Job, now: Time) -> Vec<(Time, Done)> {
        let bytes = match &job {
            Job::Write { block, .. } => u64::from(block.len),
            Job::Read { blocks, .. } => blocks.iter().map(|(block, _)| u64::from(block.len)).sum(),
            Job::Check { count, .. } => u64::from(*count) * u64::from(self.layout().piece_length()),
            _ => 0,
        };
        let busy = &mut self.busy[usize::from(lane)];
        let wait = busy.since(now).as_micros() as u64;
        self.queue_max = self.queue_max.max(wait * self.rate / 1_000_000);
        *busy = (*busy).max(now) + Duration::from_micros(bytes * 1_000_000 / self.rate);
        let at = *busy + self.latency;
        let done = self.carry_out(job);
        self.pending += done.len();
        done.into_iter().map(|done| (at, done)).collect()
    }

    fn carry_out(&mut self, job: Job) -> Vec<Done> {
        match job {
            Job::Open { torrent, spec } => {
                assert!(self.is_closed(), "opened while {:?} has the files", self.open);
                if self.full_at_open {
                    return vec![Done::Opened {
                        torrent,
                        result: Box::new(self.room(u64::MAX).map(|()| Opened::default())),
                    }];
                }
                if self.broken {
                    let source = io::Error::from(io::ErrorKind::PermissionDenied);
                    let error = DiskError { op: "open", path: PathBuf::from("/sim/file"), source };
                    return vec![Done::Opened { torrent, result: Box::new(Err(error)) }];
                }
                self.open = Some((torrent, 0));
                let opened = self.look(&spec);
                self.spec = Some(spec);
                vec![Done::Opened { torrent, result: Box::new(Ok(opened)) }]
            }
            Job::Check { torrent, first, count } => {
                self.assert_open(torrent);
                self.checked += count;
                if self.moody {
                    (first..first + count).for_each(|piece| _ = self.good.set(piece));
                }
                let mut good = Bitfield::new(count);
                for piece in (0..count).filter(|p| self.good.get(first + p)) {
                    good.set(piece);
                }
                vec![Done::Checked { torrent, first, count, result: Ok(good) }]
            }
            Job::Digest { torrent, spec, info } => {
                let info = info.concat();
                let right = InfoHash::of(&info) == spec.meta.info_hash;
                let read = || Metainfo::from_info(&info).map_err(|error| BadInfo::Refused(error.to_string()));
                let result = if right { read().map(Box::new) } else { Err(BadInfo::Hash) };
                vec![Done::Digested { torrent, result }]
            }
            Job::Info { torrent, spec, peer, piece } => {
                let data = spec.meta.info.chunks(PIECE as usize).nth(piece as usize).expect("a piece of it");
                let mut data: Box<[u8]> = data.into();
                if self.lies_of_info {
                    data[0] ^= 1;
                }
                vec![Done::Info { torrent, peer, piece, result: Ok(data) }]
            }
            Job::Forget { .. } => vec![],
            Job::Save { torrent, .. } => vec![Done::Saved { torrent }],
            Job::Room { torrent, bytes } => vec![Done::Room { torrent, result: self.room(bytes) }],
            Job::Close { torrent } => {
                self.assert_open(torrent);
                let closed = self.open.map_or(0, |(_, closed)| closed) + 1;
                self.open = (closed < self.busy.len()).then_some((torrent, closed));
                vec![Done::Closed { torrent }]
            }
            Job::Read { torrent, peer, mut blocks } => {
                self.assert_open(torrent);
                assert!(blocks.len() <= READ_BATCH, "a read of {} blocks", blocks.len());
                let mut failed = None;
                for (at, (block, buf)) in blocks.iter_mut().enumerate() {
                    if self.bad.contains(&block.piece) {
                        self.good.clear(block.piece);
                        self.unread.insert(block.piece);
                        failed = Some((at, unreadable()));
                        break;
                    }
                    let out = &mut buf.space()[..block.len as usize];
                    fill(*block, out);
                    if (self.lies)(*block) {
                        out[0] ^= 0xff;
                    }
                }
                vec![Done::Read { torrent, peer, blocks, failed }]
            }
            Job::Write { torrent, block, buf } => {
                self.assert_open(torrent);
                if self.stored + u64::from(block.len) > self.space {
                    self.partial.remove(&block.piece);
                    let result = self.room(block.len.into());
                    return vec![Done::Written { torrent, block, buf, result }];
                }
                self.stored += u64::from(block.len);
                let print = fingerprint(block, buf.filled(block.len));
                let verdict = self.store(block, print);
                let mut dones = vec![Done::Written { torrent, block, buf, result: Ok(()) }];
                dones.extend(verdict.map(|verdict| Done::Piece { torrent, piece: block.piece, verdict }));
                dones
            }
        }
    }

    /// What is there by the record, if one is kept, or must be hashed.
    fn look(&mut self, spec: &Spec) -> Opened {
        if spec.state_dir.is_some() && std::mem::replace(&mut self.known, true) {
            let bits = |(piece, blocks): (&u32, &BTreeMap<u32, u64>)| {
                let mut bits = Bitfield::new(spec.meta.layout.blocks(*piece));
                blocks.keys().for_each(|block| _ = bits.set(*block));
                (*piece, bits)
            };
            let partial = self.partial.iter().map(bits).collect();
            return Opened { have: self.good.clone(), partial, ..Opened::default() };
        }
        self.partial.clear();
        let found = if self.good.count() > 0 { vec![0] } else { vec![] };
        Opened { candidates: self.good.clone(), found, ..Opened::default() }
    }

    fn assert_open(&self, torrent: TorrentId) {
        let open = self.open.map(|(open, _)| open);
        assert_eq!(open, Some(torrent), "a job of a torrent whose files are not open");
    }

    /// Whether so many bytes more fit.
    fn room(&self, bytes: u64) -> Result<(), DiskError> {
        if self.stored.saturating_add(bytes) <= self.space {
            return Ok(());
        }
        let source = io::Error::from(io::ErrorKind::StorageFull);
        Err(DiskError { op: "write", path: PathBuf::from("/sim/file"), source })
    }

    fn store(&mut self, block: Block, print: u64) -> Option<Verdict> {
        let layout = self.layout();
        let piece = block.piece;
        if self.good.get(piece) {
            // As the workers do: the answer to an earlier read may have come late.
            assert!(self.unread.contains(&piece), "a verified piece is written again");
            return Some(Verdict::Good { differed: Vec::new() });
        }
        let index = layout.block_index(block).expect("only whole blocks are written");
        let blocks = self.partial.entry(piece).or_default();
        assert!(blocks.insert(index, print).is_none(), "a block is written twice");
        if let Some(old) = self.failed.get(&piece)
            && old.get(&index).is_some_and(|old| *old != print)
        {
            self.differed.entry(piece).or_default().push(index);
        }
        if blocks.len() < layout.blocks(piece) as usize {
            return None;
        }
        let blocks = self.partial.remove(&piece).unwrap_or_default();
        if blocks.values().all(|print| *print == 0) {
            self.good.set(piece);
            self.once.set(piece);
            self.bad.remove(&piece);
            self.failed.remove(&piece);
            return Some(Verdict::Good { differed: self.differed.remove(&piece).unwrap_or_default() });
        }
        self.differed.remove(&piece);
        self.failed.insert(piece, blocks);
        Some(Verdict::Bad)
    }
}

fn unreadable() -> DiskError {
    DiskError { op: "read", path: PathBuf::from("/sim/file"), source: io::Error::from_raw_os_error(5) }
}

impl Disk {
    /// These pieces are there.
    pub(crate) fn set_good(&mut self, pieces: std::ops::Range<u32>) {
        for piece in pieces {
            self.good.set(piece);
            self.once.set(piece);
        }
    }
}
