//! The resume record of a torrent: bytes to a [`Record`] and back.
//!
//! The file is two slots for checkpoints, written in turn, then a ring of [`ENTRY`]-byte entries; all of it has a
//! fixed place from the start, so that saving needs no space. A checkpoint says everything, each entry one thing that
//! came after. A checkpoint ends with a SHA-1, an entry with 8 bytes of one. The digest of an entry covers its number
//! and the `life` of the record, so entries of an earlier turn of the ring, or of an earlier record, do not count.

use crate::base::bits::Bitfield;
use crate::limits::{
    RESUME_BEAT, RESUME_ENTRIES_MAX, RESUME_ENTRIES_MIN, RESUME_PARTIAL_BYTES, RESUME_PEERS,
};
use crate::proto::layout::Layout;
use sha1::{Digest, Sha1};
use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// The bytes of an entry: a page holds a whole number of them.
pub const ENTRY: usize = 32;
/// Slots start on pages.
const PAGE: usize = 4096;
const MAGIC: &[u8; 16] = b"ptorrent resume\x01";
/// A checkpoint up to its bitfields.
const HEAD: usize = 160;
const FACT: usize = 32;
const PEER: usize = 18;
const DIGEST: usize = 20;
/// No count of a record gets here.
const COUNT_MAX: u64 = 1 << 62;

/// How a run ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Rest {
    /// It did not: the process was killed, or still runs.
    #[default]
    Running,
    /// By its own will; its data may not have reached the medium.
    Stopped,
    /// By its own will, and all data is on the medium.
    Synced,
}

/// What is known of a file. Times are nanoseconds since 1970, as the system gives them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fact {
    /// Its length in bytes.
    pub size: u64,
    /// Its inode.
    pub inode: u64,
    /// When it was last changed, at the time of the checkpoint.
    pub mtime: i64,
    /// When it was last changed by a piece that became whole since: `mtime` or later.
    pub bound: i64,
}

/// One thing that happened after a checkpoint.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Entry {
    /// A first block of this piece is about to be stored.
    Open(u32),
    /// This piece is right; its files were last changed at this time, or earlier.
    Have(u32, i64),
    /// This piece is not right any more.
    Lost(u32),
    /// Blocks may be stored until this time: the beat of a running process.
    Beat(i64),
    /// Payload bytes sent, in all runs.
    Uploaded(u64),
    /// Payload bytes received, in all runs.
    Downloaded(u64),
    /// This file (its number) is ours, made or proved so, and has its full length; its inode.
    File(u32, u64),
    /// When that file was last changed before, where that is not [`made_after`] the beat.
    Since(u32, i64),
}

/// The time after which a file was made, or last changed before, of which an entry says no more than that it is ours:
/// stores are covered by a beat (`until`) shortly before.
pub fn made_after(until: i64) -> i64 {
    until.saturating_sub(2 * i64::try_from(RESUME_BEAT.as_nanos()).unwrap_or(0))
}

impl Entry {
    fn parts(self) -> (u32, u32, u64) {
        match self {
            Entry::Open(piece) => (1, piece, 0),
            Entry::Have(piece, time) => (2, piece, time as u64),
            Entry::Lost(piece) => (3, piece, 0),
            Entry::Beat(until) => (4, 0, until as u64),
            Entry::Uploaded(bytes) => (5, 0, bytes),
            Entry::Downloaded(bytes) => (6, 0, bytes),
            Entry::File(file, inode) => (7, file, inode),
            Entry::Since(file, time) => (8, file, time as u64),
        }
    }

    fn of(kind: u32, piece: u32, value: u64) -> Option<Entry> {
        Some(match kind {
            1 => Entry::Open(piece),
            2 => Entry::Have(piece, value as i64),
            3 => Entry::Lost(piece),
            4 => Entry::Beat(value as i64),
            5 => Entry::Uploaded(value),
            6 => Entry::Downloaded(value),
            7 => Entry::File(piece, value),
            8 => Entry::Since(piece, value as i64),
            _ => return None,
        })
    }

    /// The entry of this number as it stands in the file.
    pub fn encode(self, identity: &[u8; 20], life: u64, number: u64) -> [u8; ENTRY] {
        let (kind, piece, value) = self.parts();
        let mut bytes = [0; ENTRY];
        bytes[..8].copy_from_slice(&number.to_be_bytes());
        bytes[8..12].copy_from_slice(&kind.to_be_bytes());
        bytes[12..16].copy_from_slice(&piece.to_be_bytes());
        bytes[16..24].copy_from_slice(&value.to_be_bytes());
        let check = check(&bytes[..24], identity, life);
        bytes[24..].copy_from_slice(&check);
        bytes
    }

    /// The entry in these bytes and its number; None when they are not one of this record.
    pub fn decode(bytes: &[u8], identity: &[u8; 20], life: u64) -> Option<(u64, Entry)> {
        let (body, due) = bytes.get(..ENTRY)?.split_at(24);
        if check(body, identity, life) != *due {
            return None;
        }
        let mut input = Input(body);
        let number = input.u64()?;
        Some((number, Entry::of(input.u32()?, input.u32()?, input.u64()?)?))
    }
}

fn check(body: &[u8], identity: &[u8; 20], life: u64) -> [u8; 8] {
    let digest = Sha1::new().chain_update(identity).chain_update(life.to_be_bytes()).chain_update(body);
    let digest: [u8; 20] = digest.finalize().into();
    digest[..8].try_into().unwrap_or_default()
}

/// Where things stand in the record of one torrent.
#[derive(Clone, Copy, Debug)]
pub struct Shape<'a> {
    layout: &'a Layout,
    /// Files with a fact: those of the torrent, and the part file as the last.
    files: usize,
}

impl<'a> Shape<'a> {
    /// The shape for a torrent of this layout.
    pub fn new(layout: &'a Layout) -> Shape<'a> {
        Shape { layout, files: layout.files() + 1 }
    }

    /// Bytes for partial pieces in a slot.
    fn partial_room(&self) -> usize {
        let one = 4 + Bitfield::bytes_for(self.layout.blocks(0));
        (self.layout.pieces() as usize * one).min(RESUME_PARTIAL_BYTES)
    }

    /// Bytes of a slot.
    pub fn slot_len(&self) -> usize {
        let bits = 3 * Bitfield::bytes_for(self.layout.pieces());
        let body = HEAD + bits + FACT * self.files + self.partial_room() + PEER * RESUME_PEERS + DIGEST;
        body.next_multiple_of(PAGE)
    }

    /// Entries in the ring.
    pub fn entries(&self) -> u64 {
        (4 * u64::from(self.layout.pieces())).clamp(RESUME_ENTRIES_MIN, RESUME_ENTRIES_MAX)
    }

    /// Bytes of the whole file.
    pub fn file_len(&self) -> usize {
        2 * self.slot_len() + self.entries() as usize * ENTRY
    }

    /// Where the checkpoint of that serial number stands.
    pub fn slot_at(&self, serial: u64) -> u64 {
        serial % 2 * self.slot_len() as u64
    }

    /// Where the entry of that number stands.
    pub fn entry_at(&self, number: u64) -> u64 {
        2 * self.slot_len() as u64 + number % self.entries() * ENTRY as u64
    }

    /// Reads a record: its newest whole checkpoint, and all that came after. None when there is none of this torrent
    /// and folder (`identity`), or when something in the middle of it is not what was written.
    pub fn load(&self, bytes: &[u8], identity: &[u8; 20]) -> Option<Record> {
        let slot = |serial: u64| {
            let at = self.slot_at(serial) as usize;
            Record::decode(bytes.get(at..at + self.slot_len())?, identity, self)
        };
        let mut record = slot(0).into_iter().chain(slot(1)).max_by_key(|record| record.serial)?;
        let first = record.next;
        // Cut short, or with what we never wrote: what is missing may be anything.
        record.gap = bytes.len() < self.file_len();
        let mut rest = Vec::new();
        for number in first..first.saturating_add(self.entries()) {
            let at = self.entry_at(number) as usize;
            let place = bytes.get(at..at + ENTRY).unwrap_or_default();
            let entry = Entry::decode(place, identity, record.life);
            record.gap |= entry.is_none() && place.iter().any(|byte| *byte != 0);
            rest.push(entry);
        }
        let whole = |(entry, number): &(&Option<(u64, Entry)>, u64)| entry.is_some_and(|(n, _)| n == *number);
        let good = rest.iter().zip(first..).take_while(whole).count();
        // What is valid and later than a gap was written after what is missing.
        record.gap |= rest[good..].iter().flatten().any(|(number, _)| *number > first + good as u64);
        for (number, entry) in rest.into_iter().flatten().filter(|(number, _)| *number >= first) {
            let sure = number < first + good as u64;
            if sure || matches!(entry, Entry::Open(_) | Entry::Lost(_) | Entry::Beat(_)) {
                record.apply(entry, self);
            }
            record.next = record.next.max(number.saturating_add(1));
            // A later run went on from here.
            record.rest = Rest::Running;
        }
        // Numbers that nobody gets to by counting would soon overflow.
        (record.next.max(record.serial) < COUNT_MAX).then_some(record)
    }
}

/// All that a record says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    /// A number drawn when the record was made.
    pub life: u64,
    /// How many checkpoints were written before this one.
    pub serial: u64,
    /// The number of the next entry.
    pub next: u64,
    /// How the run ended.
    pub rest: Rest,
    /// Which boot of the system it was.
    pub boot: [u8; 16],
    /// The device of the download folder.
    pub device: u64,
    /// The mount of the download folder.
    pub mount: u64,
    /// A digest of which files were wanted.
    pub selection: u64,
    /// How much later than it happened a change may show in the time of a file, in nanoseconds.
    pub slack: u64,
    /// Blocks may have been stored until this time.
    pub until: i64,
    /// Payload bytes sent, in all runs.
    pub uploaded: u64,
    /// Payload bytes received, in all runs.
    pub downloaded: u64,
    /// Pieces that were right.
    pub have: Bitfield,
    /// Of these, those that are on the medium.
    pub synced: Bitfield,
    /// Pieces of which something was stored and that are not right.
    pub open: Bitfield,
    /// The files, the part file last.
    pub files: Vec<Option<Fact>>,
    /// Pieces of which some blocks are there, from a stop.
    pub partial: BTreeMap<u32, Bitfield>,
    /// Peers that were good, the best last.
    pub peers: VecDeque<SocketAddr>,
    /// Entries are missing or garbage, so only what is synced counts: as after a loss of power.
    pub gap: bool,
}

impl Record {
    /// The record of a torrent of which nothing is known.
    pub fn new(shape: &Shape<'_>, life: u64) -> Record {
        let none = Bitfield::new(shape.layout.pieces());
        Record {
            life,
            serial: 0,
            next: 0,
            rest: Rest::Running,
            boot: [0; 16],
            device: 0,
            mount: 0,
            selection: 0,
            slack: 0,
            until: i64::MIN,
            uploaded: 0,
            downloaded: 0,
            have: none.clone(),
            synced: none.clone(),
            open: none,
            files: vec![None; shape.files],
            partial: BTreeMap::new(),
            peers: VecDeque::new(),
            gap: false,
        }
    }

    /// Takes in what happened.
    pub fn apply(&mut self, entry: Entry, shape: &Shape<'_>) {
        match entry {
            Entry::Open(piece) => {
                self.forget(piece);
                self.open.set(piece);
            }
            Entry::Have(piece, time) => {
                self.open.clear(piece);
                self.have.set(piece);
                let layout = shape.layout;
                let spans =
                    layout.spans(layout.piece_offset(piece), layout.piece_len(piece).into()).map(|s| s.file);
                for file in spans.chain([shape.files - 1]) {
                    if let Some(Some(fact)) = self.files.get_mut(file) {
                        fact.bound = fact.bound.max(time);
                    }
                }
            }
            Entry::Lost(piece) => self.forget(piece),
            Entry::Beat(until) => self.until = self.until.max(until),
            Entry::Uploaded(bytes) => self.uploaded = bytes,
            Entry::Downloaded(bytes) => self.downloaded = bytes,
            Entry::File(file, inode) => {
                let (file, size) = (file as usize, shape.layout.file_len(file as usize));
                let (mtime, bound) = (made_after(self.until), i64::MIN);
                if let Some(place) = self.files.get_mut(file) {
                    *place = (inode != 0).then_some(Fact { size, inode, mtime, bound });
                }
            }
            Entry::Since(file, time) => {
                if let Some(Some(fact)) = self.files.get_mut(file as usize) {
                    (fact.mtime, fact.bound) = (time, fact.bound.max(time));
                }
            }
        }
    }

    /// Nothing is known of this piece.
    pub fn forget(&mut self, piece: u32) {
        for bits in [&mut self.have, &mut self.synced, &mut self.open] {
            bits.clear(piece);
        }
        self.partial.remove(&piece);
    }

    /// The checkpoint as it stands in its slot. Partial pieces for which there is no room are left out: they are
    /// fetched again.
    pub fn encode(&self, identity: &[u8; 20], shape: &Shape<'_>) -> Vec<u8> {
        let (mut room, mut partial) = (shape.partial_room(), Vec::new());
        for (piece, blocks) in &self.partial {
            let Some(left) = room.checked_sub(4 + blocks.as_bytes().len()) else { break };
            room = left;
            partial.push((piece, blocks));
        }
        let peers = self.peers.iter().rev().take(RESUME_PEERS).rev();
        let mut out = Vec::with_capacity(shape.slot_len());
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(identity);
        let rest = match self.rest {
            Rest::Running => 0,
            Rest::Stopped => 1,
            Rest::Synced => 2,
        };
        let numbers = [self.life, self.serial, self.next, rest];
        numbers.iter().for_each(|n| out.extend_from_slice(&n.to_be_bytes()));
        out.extend_from_slice(&self.boot);
        let numbers = [self.device, self.mount, self.selection, self.slack, self.until as u64];
        numbers.iter().for_each(|n| out.extend_from_slice(&n.to_be_bytes()));
        [self.uploaded, self.downloaded].iter().for_each(|n| out.extend_from_slice(&n.to_be_bytes()));
        let counts = [shape.layout.pieces(), shape.files as u32, partial.len() as u32, peers.len() as u32];
        counts.iter().for_each(|n| out.extend_from_slice(&n.to_be_bytes()));
        out.extend_from_slice(&shape.layout.piece_length().to_be_bytes());
        debug_assert_eq!(out.len(), HEAD);
        [&self.have, &self.synced, &self.open].iter().for_each(|bits| out.extend_from_slice(bits.as_bytes()));
        for fact in &self.files {
            let fact = fact.unwrap_or(Fact { size: 0, inode: 0, mtime: 0, bound: 0 });
            let numbers = [fact.size, fact.inode, fact.mtime as u64, fact.bound as u64];
            numbers.iter().for_each(|n| out.extend_from_slice(&n.to_be_bytes()));
        }
        for (piece, blocks) in partial {
            out.extend_from_slice(&piece.to_be_bytes());
            out.extend_from_slice(blocks.as_bytes());
        }
        for peer in peers {
            let ip = match peer.ip() {
                IpAddr::V4(v4) => v4.to_ipv6_mapped(),
                IpAddr::V6(v6) => v6,
            };
            out.extend_from_slice(&ip.octets());
            out.extend_from_slice(&peer.port().to_be_bytes());
        }
        let digest: [u8; DIGEST] = Sha1::digest(&out).into();
        out.extend_from_slice(&digest);
        out
    }

    /// The checkpoint in a slot. None when it is none of this torrent and folder, or torn.
    fn decode(slot: &[u8], identity: &[u8; 20], shape: &Shape<'_>) -> Option<Record> {
        let (record, len) = Record::read(slot, identity, shape)?;
        let (body, rest) = slot.split_at(len);
        let digest: [u8; DIGEST] = Sha1::digest(body).into();
        (rest.get(..DIGEST)? == digest).then_some(record)
    }

    /// The same without the digest, and how many bytes it covers.
    fn read(slot: &[u8], identity: &[u8; 20], shape: &Shape<'_>) -> Option<(Record, usize)> {
        let mut input = Input(slot);
        if input.take(16)? != MAGIC || input.take(20)? != identity {
            return None;
        }
        let (life, serial, next) = (input.u64()?, input.u64()?, input.u64()?);
        let rest = match input.u64()? {
            0 => Rest::Running,
            1 => Rest::Stopped,
            2 => Rest::Synced,
            _ => return None,
        };
        let boot = input.take(16)?.try_into().ok()?;
        let (device, mount, selection) = (input.u64()?, input.u64()?, input.u64()?);
        let (slack, until) = (input.u64()?, input.u64()? as i64);
        let (uploaded, downloaded) = (input.u64()?, input.u64()?);
        let (pieces, files, partials, peers) = (input.u32()?, input.u32()?, input.u32()?, input.u32()?);
        let layout = shape.layout;
        if (pieces, files as usize) != (layout.pieces(), shape.files)
            || input.u32()? != layout.piece_length()
            || peers as usize > RESUME_PEERS
        {
            return None;
        }
        let mut bits = || Bitfield::from_bytes(input.take(Bitfield::bytes_for(pieces))?, pieces);
        let (have, synced, open) = (bits()?, bits()?, bits()?);
        let mut record = Record::new(shape, life);
        for place in &mut record.files {
            let (size, inode) = (input.u64()?, input.u64()?);
            let (mtime, bound) = (input.u64()? as i64, input.u64()? as i64);
            *place = (inode != 0).then_some(Fact { size, inode, mtime, bound });
        }
        let mut room = shape.partial_room();
        for _ in 0..partials {
            let piece = input.u32()?;
            let blocks = layout.blocks(piece);
            room = room.checked_sub(4 + Bitfield::bytes_for(blocks)).filter(|_| blocks > 0)?;
            let blocks = Bitfield::from_bytes(input.take(Bitfield::bytes_for(blocks))?, blocks)?;
            record.partial.insert(piece, blocks);
        }
        for _ in 0..peers {
            let ip: [u8; 16] = input.take(16)?.try_into().ok()?;
            let port = u16::from_be_bytes(input.take(2)?.try_into().ok()?);
            record.peers.push_back(SocketAddr::new(Ipv6Addr::from(ip).to_canonical(), port));
        }
        let len = slot.len() - input.0.len();
        let numbers = Record { serial, next, rest, boot, device, mount, selection, slack, until, ..record };
        Some((Record { uploaded, downloaded, have, synced, open, ..numbers }, len))
    }
}

/// Bytes that are taken from the front.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (front, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(front)
    }

    fn u64(&mut self) -> Option<u64> {
        Some(u64::from_be_bytes(self.take(8)?.try_into().ok()?))
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_be_bytes(self.take(4)?.try_into().ok()?))
    }
}

/// The torrent of the fuzz target: 10 pieces of 3 blocks, 2 files.
const FUZZ_LAYOUT: (u32, [u64; 2]) = (40_000, [250_000, 130_000]);

/// The fuzz target: any bytes as a record, and their start as a checkpoint whose digest is not looked at.
pub fn fuzz_resume(data: &[u8]) {
    let Ok(layout) = Layout::new(FUZZ_LAYOUT.0, FUZZ_LAYOUT.1) else { return };
    let (shape, identity) = (Shape::new(&layout), [7; 20]);
    if let Some(record) = shape.load(data, &identity) {
        assert!(record.have.len() == layout.pieces() && record.files.len() == 3);
    }
    if let Some((record, _)) = Record::read(data, &identity, &shape) {
        let bytes = record.encode(&identity, &shape);
        assert!(bytes.len() <= shape.slot_len());
        assert_eq!(Record::decode(&bytes, &identity, &shape), Some(record));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::rng::Rng;

    const WHO: [u8; 20] = [7; 20];

    fn layout() -> Layout {
        Layout::new(FUZZ_LAYOUT.0, FUZZ_LAYOUT.1).unwrap()
    }

    fn sample(shape: &Shape<'_>) -> Record {
        let mut record = Record::new(shape, 99);
        (record.serial, record.next, record.rest) = (4, 17, Rest::Stopped);
        (record.boot, record.device, record.mount) = ([3; 16], 5, 6);
        (record.selection, record.slack, record.until) = (8, 9, -10);
        (record.uploaded, record.downloaded) = (11, 12);
        record.have.set(2);
        record.synced.set(2);
        record.open.set(5);
        record.files[0] = Some(Fact { size: 250_000, inode: 77, mtime: -5, bound: 6 });
        let mut blocks = Bitfield::new(3);
        blocks.set(1);
        record.partial.insert(8, blocks);
        record.peers.push_back("1.2.3.4:5".parse().unwrap());
        record.peers.push_back("[2001:db8::1]:6".parse().unwrap());
        record
    }

    /// A file with these checkpoints and entries.
    struct Image(Vec<u8>);

    impl Image {
        fn put(&mut self, at: u64, bytes: &[u8]) {
            self.0[at as usize..at as usize + bytes.len()].copy_from_slice(bytes);
        }

        fn fold(&mut self, record: &mut Record, shape: &Shape<'_>) {
            record.serial += 1;
            self.put(shape.slot_at(record.serial), &record.encode(&WHO, shape));
        }

        fn add(&mut self, record: &mut Record, entry: Entry, shape: &Shape<'_>) {
            self.put(shape.entry_at(record.next), &entry.encode(&WHO, record.life, record.next));
            record.next += 1;
            record.rest = Rest::Running;
            record.apply(entry, shape);
        }
    }

    fn random_entry(rng: &mut Rng) -> Entry {
        let piece = rng.below(10);
        match rng.below(8) {
            0..=2 => Entry::Open(piece),
            3..=4 => Entry::Have(piece, i64::from(rng.below(1000))),
            5 => Entry::Lost(piece),
            6 => match rng.below(3) {
                0 => Entry::Beat(i64::from(rng.below(1000))),
                1 => Entry::File(rng.below(4), 5),
                _ => Entry::Since(rng.below(4), i64::from(rng.below(1000))),
            },
            _ => Entry::Uploaded(rng.below(1000).into()),
        }
    }

    #[test]
    fn a_checkpoint_comes_back_as_it_was() {
        let layout = layout();
        let shape = Shape::new(&layout);
        let record = sample(&shape);
        let bytes = record.encode(&WHO, &shape);
        assert!(bytes.len() <= shape.slot_len());
        assert_eq!(Record::decode(&bytes, &WHO, &shape).as_ref(), Some(&record));
        assert_eq!(Record::decode(&bytes, &[8; 20], &shape), None, "it is of another torrent or folder");
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            assert_eq!(Record::decode(&bad, &WHO, &shape), None, "byte {at}");
            assert_eq!(Record::decode(&bytes[..at], &WHO, &shape), None);
        }
        let other = Layout::new(30_000, FUZZ_LAYOUT.1).unwrap();
        assert_eq!(Record::decode(&bytes, &WHO, &Shape::new(&other)), None);
    }

    #[test]
    fn numbers_that_would_overflow_are_no_record() {
        let layout = layout();
        let shape = Shape::new(&layout);
        for (serial, next, entry) in [(u64::MAX - 1, 1, 0), (1, u64::MAX - 1, 0), (1, 1, u64::MAX - 1)] {
            let mut image = Image(vec![0; shape.file_len()]);
            let mut record = Record { serial, next, ..sample(&shape) };
            image.fold(&mut record, &shape);
            if entry > 0 {
                let bytes = Entry::Beat(1).encode(&WHO, record.life, entry);
                image.put(shape.entry_at(entry), &bytes);
            }
            assert_eq!(shape.load(&image.0, &WHO), None);
        }
    }

    #[test]
    fn what_has_no_room_is_left_out() {
        let layout = Layout::new(1 << 20, [20_000 << 20]).unwrap();
        let shape = Shape::new(&layout);
        let mut record = Record::new(&shape, 1);
        (0..20_000).for_each(|piece| _ = record.partial.insert(piece, Bitfield::full(64)));
        (0..500u16).for_each(|n| record.peers.push_back(SocketAddr::new([1, 2, 3, 4].into(), n)));
        let bytes = record.encode(&WHO, &shape);
        assert!(bytes.len() <= shape.slot_len());
        let back = Record::decode(&bytes, &WHO, &shape).unwrap();
        assert_eq!(back.partial.len(), RESUME_PARTIAL_BYTES / 12);
        assert_eq!(back.peers.iter().map(SocketAddr::port).max(), Some(499));
        assert_eq!(back.peers.len(), RESUME_PEERS);
    }

    /// The states a record went through, its last image, and how many entries follow the last checkpoint.
    fn history(rng: &mut Rng, shape: &Shape<'_>) -> (Vec<Record>, Image) {
        let mut record = sample(shape);
        let mut image = Image(vec![0; shape.file_len()]);
        image.fold(&mut record, shape);
        for _ in 0..rng.below(40) {
            image.add(&mut record, random_entry(rng), shape);
        }
        image.fold(&mut record, shape);
        let mut states = vec![record.clone()];
        for _ in 0..rng.below(30) {
            image.add(&mut record, random_entry(rng), shape);
            states.push(record.clone());
        }
        (states, image)
    }

    #[test]
    fn a_log_torn_at_any_byte_says_what_was_whole_before() {
        let layout = layout();
        let (shape, mut rng) = (Shape::new(&layout), Rng::new([1; 32]));
        for _ in 0..40 {
            let (states, image) = history(&mut rng, &shape);
            let first = states[0].next;
            let end = shape.entry_at(first) as usize + (states.len() - 1) * ENTRY;
            for cut in shape.entry_at(first) as usize..=end {
                let mut torn = image.0.clone();
                torn[cut..].fill(0);
                let whole = (cut - shape.entry_at(first) as usize) / ENTRY;
                let mut back = shape.load(&image.0[..cut], &WHO).unwrap();
                assert!(std::mem::take(&mut back.gap), "that it is cut short is noticed");
                assert_eq!(back, states[whole]);
                // An entry that ends with zeros is whole before its end.
                let same = |number: u64| {
                    let at = shape.entry_at(number) as usize;
                    torn[at..at + ENTRY] == image.0[at..at + ENTRY]
                };
                let whole = (first..).take(states.len() - 1).take_while(|number| same(*number)).count();
                let mut back = shape.load(&torn, &WHO).unwrap();
                let at = shape.entry_at(first + whole as u64) as usize;
                let rag = torn[at..at + ENTRY].iter().any(|byte| *byte != 0);
                assert_eq!(std::mem::take(&mut back.gap), rag);
                assert_eq!(back, states[whole]);
            }
        }
    }

    #[test]
    fn a_torn_checkpoint_leaves_the_one_before_and_its_entries() {
        let layout = layout();
        let (shape, mut rng) = (Shape::new(&layout), Rng::new([2; 32]));
        for _ in 0..40 {
            let (states, image) = history(&mut rng, &shape);
            let last = states.last().unwrap();
            let mut torn = image.0.clone();
            let at = shape.slot_at(last.serial) as usize + rng.index(200);
            torn[at] ^= 0x40;
            let back = shape.load(&torn, &WHO).unwrap();
            assert_eq!((&back.have, &back.open, &back.synced), (&last.have, &last.open, &last.synced));
            assert_eq!((back.serial + 1, back.next, back.gap), (last.serial, last.next, false));
        }
    }

    #[test]
    fn a_gap_in_the_log_is_told_and_adds_nothing() {
        let layout = layout();
        let (shape, mut rng) = (Shape::new(&layout), Rng::new([3; 32]));
        for _ in 0..200 {
            let (states, image) = history(&mut rng, &shape);
            if states.len() < 3 {
                continue;
            }
            let hole = rng.index(states.len() - 2);
            let mut torn = image.0.clone();
            torn[shape.entry_at(states[hole].next) as usize + rng.index(ENTRY)] ^= 1;
            let back = shape.load(&torn, &WHO).unwrap();
            assert!(back.gap);
            assert!(back.have.iter().all(|piece| states[hole].have.get(piece)));
            assert!(back.synced.iter().all(|piece| states[hole].synced.get(piece)));
            assert_eq!(back.next, states.last().unwrap().next, "what is there is not written over");
        }
    }

    #[test]
    fn entries_of_another_life_or_turn_do_not_count() {
        let layout = layout();
        let shape = Shape::new(&layout);
        let mut image = Image(vec![0; shape.file_len()]);
        let mut old = Record::new(&shape, 1);
        image.fold(&mut old, &shape);
        for _ in 0..shape.entries() + 3 {
            image.add(&mut old, Entry::Have(1, 0), &shape);
        }
        let overrun = shape.load(&image.0, &WHO).unwrap();
        assert!(overrun.gap && !overrun.have.get(1), "the ring went over what the checkpoint needs");
        let mut new = Record::new(&shape, 2);
        image.fold(&mut new, &shape);
        image.fold(&mut new, &shape);
        image.add(&mut new, Entry::Have(3, 0), &shape);
        assert_eq!(shape.load(&image.0, &WHO), Some(Record { gap: true, ..new.clone() }));
        image.0[2 * shape.slot_len() + ENTRY..].fill(0);
        assert_eq!(shape.load(&image.0, &WHO), Some(new));
    }

    #[test]
    fn any_byte_that_is_wrong_adds_nothing() {
        let layout = layout();
        let (shape, mut rng) = (Shape::new(&layout), Rng::new([4; 32]));
        for _ in 0..300 {
            let (states, image) = history(&mut rng, &shape);
            let mut bad = image.0.clone();
            for _ in 0..1 + rng.below(4) {
                let at = rng.index(bad.len());
                bad[at] = rng.u32() as u8;
            }
            if let Some(back) = shape.load(&bad, &WHO) {
                let ever =
                    |piece| states.iter().any(|state| state.have.get(piece)) || states[0].open.get(piece);
                assert!(back.have.iter().all(|piece| ever(piece) || back.serial + 1 == states[0].serial));
            }
        }
    }
}
