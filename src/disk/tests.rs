//! The workers from outside: real threads, real files, against a model in memory.

mod due;
mod folders;
mod holding;
mod resume;

use super::*;
use crate::api::{DiskIo, Opened, Prealloc, Spec, Verdict};
use crate::base::arena::Handle;
use crate::base::buf::{BLOCK, Pool};
use crate::base::rng::Rng;
use crate::limits::{CHECK_STAYS, READ_BATCH, RESERVED_EARLY, SEND_BUFS};
use crate::proto::layout::Layout;
use crate::proto::metainfo::{Content, Metainfo, Plan, build};
use crossbeam_channel::{bounded, unbounded};
use sha1::{Digest, Sha1};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::AtomicU32;
use std::thread::{Builder, JoinHandle};

/// A folder that goes when this does.
struct Temp(PathBuf);

impl Temp {
    fn new() -> Temp {
        Temp::below(&std::env::temp_dir())
    }

    fn below(parent: &Path) -> Temp {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = parent.join(format!("ptorrent-disk-{}-{n}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Temp(path)
    }
}

impl Drop for Temp {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A file of a test torrent: its path below the torrent's folder, its length, whether it is padding.
type Entry = (&'static str, u64, bool);

/// A torrent with these files and its bytes. A single entry without a path is a torrent of one file.
fn torrent(files: &[Entry], piece_length: u32, seed: u8) -> (Metainfo, Vec<u8>) {
    let mut rng = Rng::new([seed; 32]);
    let mut bytes = Vec::new();
    for (_, len, pad) in files {
        let from = bytes.len();
        bytes.resize(from + *len as usize, 0);
        if !pad {
            rng.fill(&mut bytes[from..]);
        }
    }
    let hashes: Vec<u8> =
        bytes.chunks(piece_length as usize).flat_map(|p| Sha1::digest(p).to_vec()).collect();
    let many: Vec<(Vec<String>, u64)> =
        files.iter().map(|(path, len, _)| (path.split('/').map(String::from).collect(), *len)).collect();
    let content = match files {
        [("", len, _)] => Content::Single(*len),
        _ => Content::Many(&many),
    };
    let plan = Plan::bare("top", content, piece_length, &hashes);
    let mut meta = Metainfo::parse(&build(&plan)).unwrap();
    for (file, (_, _, pad)) in meta.files.iter_mut().zip(files) {
        file.pad = *pad;
    }
    (meta, bytes)
}

fn spec(dir: &Path, meta: &Metainfo) -> Spec {
    Spec {
        meta: meta.clone(),
        dir: dir.to_path_buf(),
        wanted: vec![true; meta.files.len()],
        seed_only: false,
        overwrite: false,
        prealloc: Prealloc::Full,
        disk_io: DiskIo::Auto,
        sequential: false,
        super_seed: false,
        seed_ratio: None,
        seed_time: None,
        trackers: Vec::new(),
        web_seeds: vec![],
        peers: Vec::new(),
        state_dir: None,
    }
}

/// Workers that run, and the half of the net thread.
struct Rig {
    shared: Arc<Shared>,
    lanes: Vec<(Sender<Job>, Sender<Job>)>,
    done: Receiver<(u8, Done)>,
    pool: Pool,
    threads: Vec<JoinHandle<()>>,
    next: u32,
}

impl Rig {
    fn new(lanes: u8) -> Rig {
        let shared = Shared::new(lanes);
        let (done_in, done) = unbounded();
        let wake = Arc::new(Wake::new(Box::new(|| {})));
        let pool = Pool::new(SEND_BUFS).unwrap();
        let mut rig = Rig { shared: shared.clone(), lanes: vec![], done, pool, threads: vec![], next: 1 };
        let (syncs, syncs_out) = unbounded();
        let syncer = Syncer::new(shared.clone(), syncs_out, done_in.clone(), wake.clone());
        rig.threads.push(Builder::new().spawn(|| syncer.run()).unwrap());
        for lane in 0..lanes {
            let ((jobs, jobs_out), (checks, checks_out)) = (unbounded(), bounded(2));
            let (done_in, syncs, wake) = (done_in.clone(), syncs.clone(), wake.clone());
            let worker = Worker::new(lane, shared.clone(), jobs_out, checks_out, done_in, syncs, wake);
            rig.threads.push(Builder::new().spawn(|| worker.run()).unwrap());
            rig.lanes.push((jobs, checks));
        }
        rig
    }

    fn send(&self, lane: usize, job: Job) {
        self.lanes[lane].0.send(job).unwrap();
    }

    fn hear(&self) -> Done {
        self.done.recv().unwrap().1
    }

    fn open(&mut self, spec: Spec) -> Result<(TorrentId, Opened), String> {
        let torrent = TorrentId::from_bits(self.next);
        self.next += 1;
        self.send(0, Job::Open { torrent, spec: Arc::new(spec) });
        match self.hear() {
            Done::Opened { result, .. } => result.map(|o| (torrent, o)).map_err(|e| e.to_string()),
            other => panic!("{other:?}"),
        }
    }

    fn write(&mut self, torrent: TorrentId, block: Block, bytes: &[u8]) {
        let mut buf = self.pool.take().unwrap();
        buf.space()[..bytes.len()].copy_from_slice(bytes);
        let lane = block.piece as usize % self.lanes.len();
        self.send(lane, Job::Write { torrent, block, buf });
    }

    /// Writes blocks of `bytes` in this order and waits for all answers: the verdicts, and the errors of blocks.
    fn write_all(
        &mut self,
        torrent: TorrentId,
        layout: &Layout,
        bytes: &[u8],
        blocks: &[Block],
    ) -> (Vec<(u32, Verdict)>, Vec<String>) {
        let (mut verdicts, mut errors) = (vec![], vec![]);
        for part in blocks.chunks(100) {
            for block in part {
                let at = layout.offset(*block) as usize;
                self.write(torrent, *block, &bytes[at..at + block.len as usize]);
            }
            let mut left = part.len();
            while left > 0 {
                match self.hear() {
                    Done::Written { buf, result, .. } => {
                        left -= 1;
                        self.pool.put(buf);
                        errors.extend(result.err().map(|e| e.to_string()));
                    }
                    Done::Piece { piece, verdict, .. } => verdicts.push((piece, verdict)),
                    other => panic!("{other:?}"),
                }
            }
        }
        // Each lane answers this after all that it had to say of the writes.
        for lane in 0..self.lanes.len() {
            self.send(lane, Job::Close { torrent: TorrentId::from_bits(u32::MAX - 1) });
        }
        let mut left = self.lanes.len();
        while left > 0 {
            match self.hear() {
                Done::Closed { .. } => left -= 1,
                Done::Piece { piece, verdict, .. } => verdicts.push((piece, verdict)),
                other => panic!("{other:?}"),
            }
        }
        (verdicts, errors)
    }

    fn read(&mut self, torrent: TorrentId, block: Block) -> Result<Vec<u8>, String> {
        let (mut bytes, failed) = self.read_all(torrent, &[block]);
        match failed {
            None => Ok(bytes.remove(0)),
            Some((_, error)) => Err(error),
        }
    }

    /// What a job of several blocks brings, those that failed and what comes after them included.
    fn read_all(&mut self, torrent: TorrentId, blocks: &[Block]) -> (Vec<Vec<u8>>, Option<(usize, String)>) {
        let blocks = blocks.iter().map(|block| (*block, self.pool.take().unwrap())).collect();
        self.send(0, Job::Read { torrent, peer: PeerId::from_bits(1), blocks });
        let Done::Read { blocks, failed, .. } = self.hear() else { panic!("not a read") };
        let mut bytes = Vec::new();
        for (block, buf) in blocks {
            bytes.push(buf.filled(block.len).to_vec());
            self.pool.put(buf);
        }
        (bytes, failed.map(|(at, error)| (at, error.to_string())))
    }

    fn check(&mut self, torrent: TorrentId, first: u32, count: u32) -> Vec<u32> {
        let lane = first as usize % self.lanes.len();
        self.lanes[lane].1.send(Job::Check { torrent, first, count }).unwrap();
        match self.hear() {
            Done::Checked { result, .. } => result.unwrap().iter().map(|bit| bit + first).collect(),
            other => panic!("{other:?}"),
        }
    }

    fn close(&mut self, torrent: TorrentId) {
        for lane in 0..self.lanes.len() {
            self.send(lane, Job::Close { torrent });
        }
        for _ in 0..self.lanes.len() {
            assert!(matches!(self.hear(), Done::Closed { .. }));
        }
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.lanes.clear();
        self.threads.drain(..).for_each(|thread| thread.join().unwrap());
    }
}

fn blocks_of(layout: &Layout, piece: u32) -> Vec<Block> {
    (0..layout.blocks(piece)).map(|index| layout.block(piece, index)).collect()
}

fn all_blocks(layout: &Layout) -> Vec<Block> {
    (0..layout.pieces()).flat_map(|piece| blocks_of(layout, piece)).collect()
}

fn good(verdicts: &[(u32, Verdict)]) -> usize {
    verdicts.iter().filter(|(_, verdict)| matches!(verdict, Verdict::Good { .. })).count()
}

const NAMES: [&str; 6] = ["a", "b/c", "b/d", "e/f/g", "h", "e/i"];
const IO: [DiskIo; 3] = [DiskIo::Auto, DiskIo::Mmap, DiskIo::Pwrite];

/// One random torrent, downloaded in random order with some blocks wrong at first, compared, checked, read, reopened.
fn random_torrent(rng: &mut Rng, rig: &mut Rig, seed: u8, parent: &Path) {
    let piece_length = [100, 5000, BLOCK, 2 * BLOCK, 3 * BLOCK + 77][rng.index(5)];
    let lens: Vec<u64> = (0..6)
        .map(|_| if rng.below(4) == 0 { 0 } else { u64::from(rng.below(3 * piece_length) + 1) })
        .collect();
    let files: Vec<Entry> =
        NAMES.iter().zip(&lens).map(|(name, len)| (*name, *len, rng.below(5) == 0)).collect();
    let (meta, bytes) = torrent(&files, piece_length, seed);
    let temp = Temp::below(parent);
    let mut spec = spec(&temp.0, &meta);
    spec.wanted = (0..6).map(|_| rng.below(3) != 0).collect();
    spec.disk_io = IO[rng.index(3)];
    spec.prealloc = [Prealloc::Full, Prealloc::Sparse][rng.index(2)];
    let wanted = spec.wanted.clone();
    let stored = |file: usize| wanted[file] && !files[file].2;
    let layout = &meta.layout;
    let mut due: Vec<u32> =
        (0..6).filter(|file| stored(*file)).flat_map(|file| layout.file_pieces(file)).collect();
    due.dedup();
    let again = Spec {
        wanted: wanted.clone(),
        disk_io: spec.disk_io,
        prealloc: spec.prealloc,
        ..self::spec(&temp.0, &meta)
    };
    let (id, opened) = rig.open(spec).unwrap();
    assert_eq!((opened.candidates.count(), opened.found.len()), (0, 0));

    let mut blocks: Vec<Block> = due.iter().flat_map(|piece| blocks_of(layout, *piece)).collect();
    rng.shuffle(&mut blocks);
    let wrong: Vec<Block> = blocks.iter().copied().filter(|_| rng.below(8) == 0).collect();
    let mut bad_pieces: Vec<u32> = wrong.iter().map(|block| block.piece).collect();
    bad_pieces.sort_unstable();
    bad_pieces.dedup();
    let mut first_try = bytes.clone();
    wrong.iter().for_each(|block| first_try[layout.offset(*block) as usize] ^= 0xff);
    let (verdicts, errors) = rig.write_all(id, layout, &first_try, &blocks);
    assert_eq!((errors, verdicts.len()), (vec![], due.len()));
    for (piece, verdict) in &verdicts {
        assert_eq!(bad_pieces.contains(piece), matches!(verdict, Verdict::Bad), "{piece} {verdict:?}");
    }
    blocks.retain(|block| bad_pieces.contains(&block.piece));
    rng.shuffle(&mut blocks);
    let (verdicts, _) = rig.write_all(id, layout, &bytes, &blocks);
    assert_eq!(verdicts.len(), bad_pieces.len());
    for (piece, verdict) in verdicts {
        let Verdict::Good { mut differed } = verdict else { panic!("{verdict:?}") };
        differed.sort_unstable();
        let mut due: Vec<u32> = wrong.iter().filter(|b| b.piece == piece).map(|b| b.begin / BLOCK).collect();
        due.sort_unstable();
        // A wrong byte of padding is swallowed, and zeros are compared with zeros.
        differed.iter().for_each(|index| assert!(due.contains(index)));
        let swallowed = |index: &u32| {
            let at = layout.offset(layout.block(piece, *index));
            layout.spans(at, 1).any(|span| files[span.file].2)
        };
        due.retain(|index| !swallowed(index));
        differed.retain(|index| !swallowed(index));
        assert_eq!(differed, due);
    }
    for block in due.iter().flat_map(|piece| blocks_of(layout, *piece)) {
        let at = layout.offset(block) as usize;
        assert!(rig.read(id, block).unwrap() == bytes[at..at + block.len as usize]);
    }
    compare_files(&temp.0, &meta, &bytes, stored);
    rig.close(id);
    let (id, opened) = rig.open(again).unwrap();
    due.iter().for_each(|piece| assert!(opened.candidates.get(*piece)));
    // Pieces of padding alone are right without any file.
    let right = rig.check(id, 0, layout.pieces());
    due.iter().for_each(|piece| assert!(right.contains(piece)));
    let pads = |piece: u32| {
        layout.spans(layout.piece_offset(piece), layout.piece_len(piece).into()).all(|s| files[s.file].2)
    };
    right.iter().for_each(|piece| assert!(due.contains(piece) || pads(*piece), "{piece}"));
    rig.close(id);
}

fn compare_files(dir: &Path, meta: &Metainfo, bytes: &[u8], stored: impl Fn(usize) -> bool) {
    for (i, file) in meta.files.iter().enumerate() {
        let path = dir.join(meta.paths.display(i));
        if stored(i) {
            let at = meta.layout.file_offset(i) as usize;
            assert!(fs::read(&path).unwrap() == bytes[at..at + file.len as usize], "{path:?}");
        } else {
            assert!(!path.exists(), "{path:?}");
        }
    }
}

#[test]
fn random_torrents_are_stored_as_the_model_says() {
    let mut rng = Rng::new([42; 32]);
    let mut rig = Rig::new(2);
    let shm = Path::new("/dev/shm");
    for seed in 0..60 {
        let parent = if seed % 3 == 0 && shm.is_dir() { shm.to_path_buf() } else { std::env::temp_dir() };
        random_torrent(&mut rng, &mut rig, seed, &parent);
    }
}

#[test]
fn long_files_go_through_windows_and_stay_right() {
    let len = 3 * crate::limits::WINDOW_LEN as u64 / 2 + 12345;
    let (meta, bytes) = torrent(&[("a", 70_000, false), ("b", len, false)], 1 << 19, 1);
    for io in IO {
        let (temp, mut rig, mut rng) = (Temp::new(), Rig::new(2), Rng::new([1; 32]));
        let (id, _) = rig.open(Spec { disk_io: io, ..spec(&temp.0, &meta) }).unwrap();
        let mut blocks = all_blocks(&meta.layout);
        rng.shuffle(&mut blocks);
        let (verdicts, errors) = rig.write_all(id, &meta.layout, &bytes, &blocks);
        assert_eq!((good(&verdicts), errors.len()), (meta.layout.pieces() as usize, 0));
        compare_files(&temp.0, &meta, &bytes, |_| true);
        assert_eq!(rig.check(id, 0, meta.layout.pieces()).len(), meta.layout.pieces() as usize);
    }
}

#[test]
fn a_second_torrent_on_a_file_is_refused_until_the_first_is_closed() {
    let (temp, mut rig) = (Temp::new(), Rig::new(2));
    let (meta, _) = torrent(&[("a", 10, false), ("b", 10, false)], BLOCK, 1);
    let (id, _) = rig.open(spec(&temp.0, &meta)).unwrap();
    let (other, _) = torrent(&[("b", 10, false), ("c", 10, false)], BLOCK, 2);
    let error = rig.open(spec(&temp.0, &other)).unwrap_err();
    assert!(error.contains("top/b: the torrent top has it already"), "{error}");
    assert!(!temp.0.join("top/c").exists());
    let (apart, _) = torrent(&[("c", 10, false), ("d", 10, false)], BLOCK, 2);
    let (apart, _) = rig.open(spec(&temp.0, &apart)).unwrap();
    rig.close(id);
    rig.close(apart);
    rig.open(spec(&temp.0, &other)).unwrap();
}

#[test]
fn another_process_on_the_files_is_refused_and_named() {
    // Locks belong to open files, so workers that share nothing are as good as another process.
    let (temp, mut rig, mut other) = (Temp::new(), Rig::new(1), Rig::new(1));
    for files in [&[("a", 10, false), ("b", 10, false)][..], &[("", 10, false)]] {
        let (meta, _) = torrent(files, BLOCK, 1);
        let dir = temp.0.join(files.len().to_string());
        let (id, _) = rig.open(spec(&dir, &meta)).unwrap();
        let error = other.open(spec(&dir, &meta)).unwrap_err();
        assert!(error.contains("top: process ") && error.ends_with(" has it already"), "{error}");
        let error = other.open(Spec { seed_only: true, ..spec(&dir, &meta) }).unwrap_err();
        assert!(error.contains(&format!("process {}", std::process::id())), "{error}");
        rig.close(id);
        let (seed, _) = rig.open(Spec { seed_only: true, ..spec(&dir, &meta) }).unwrap();
        other.open(Spec { seed_only: true, ..spec(&dir, &meta) }).unwrap();
        rig.open(spec(&dir, &meta)).unwrap_err();
        rig.close(seed);
    }
}

#[test]
fn files_that_are_not_the_torrents_are_refused_and_left_alone() {
    let (temp, mut rig) = (Temp::new(), Rig::new(1));
    let (meta, bytes) = torrent(&[("a", 10, false), ("b", 20_000, false)], BLOCK, 1);
    fs::create_dir(temp.0.join("top")).unwrap();
    fs::write(temp.0.join("top/b"), vec![1; 20_001]).unwrap();
    let error = rig.open(spec(&temp.0, &meta)).unwrap_err();
    assert!(error.contains("top/b: it exists and is longer than in the torrent"), "{error}");
    assert!(error.ends_with("say --overwrite"), "{error}");
    assert!(!temp.0.join("top/a").exists());
    assert_eq!(fs::metadata(temp.0.join("top/b")).unwrap().len(), 20_001);

    let (id, opened) = rig.open(Spec { overwrite: true, ..spec(&temp.0, &meta) }).unwrap();
    assert_eq!(opened.found, [1]);
    assert_eq!(fs::metadata(temp.0.join("top/b")).unwrap().len(), 20_000);
    let (verdicts, _) = rig.write_all(id, &meta.layout, &bytes, &all_blocks(&meta.layout));
    assert_eq!(good(&verdicts), 2);
    compare_files(&temp.0, &meta, &bytes, |_| true);
}

#[test]
fn a_short_file_with_data_is_found_and_not_touched_before_the_first_store() {
    let (temp, mut rig) = (Temp::new(), Rig::new(2));
    let (meta, bytes) = torrent(&[("", 5 * 16384, false)], BLOCK, 1);
    fs::write(temp.0.join("top"), &bytes[..2 * 16384 + 5]).unwrap();
    let (id, opened) = rig.open(spec(&temp.0, &meta)).unwrap();
    assert_eq!((opened.found, opened.candidates.iter().collect()), (vec![0], vec![0, 1, 2]));
    assert_eq!(rig.check(id, 0, 5), [0, 1]);
    assert_eq!(fs::metadata(temp.0.join("top")).unwrap().len(), 2 * 16384 + 5);
    let (verdicts, _) = rig.write_all(id, &meta.layout, &bytes, &all_blocks(&meta.layout)[3..4]);
    assert_eq!((good(&verdicts), rig.check(id, 0, 5)), (1, vec![0, 1, 3]));
    assert_eq!(fs::metadata(temp.0.join("top")).unwrap().len(), 5 * 16384);
}

#[test]
fn zeros_and_holes_are_no_data() {
    let (temp, mut rig) = (Temp::new(), Rig::new(1));
    let (meta, _) = torrent(&[("", 5 * 16384, false)], BLOCK, 1);
    fs::write(temp.0.join("top"), vec![0; 3 * 16384]).unwrap();
    let (id, opened) = rig.open(spec(&temp.0, &meta)).unwrap();
    assert_eq!((opened.found.len(), opened.candidates.count()), (0, 0));
    rig.close(id);
    let (id, opened) = rig.open(Spec { prealloc: Prealloc::Sparse, ..spec(&temp.0, &meta) }).unwrap();
    assert_eq!((opened.found.len(), opened.candidates.count()), (0, 0));
    assert_eq!(rig.check(id, 0, 5), []);
}

#[test]
fn symbolic_links_and_other_things_in_the_way_are_refused() {
    use std::os::unix::fs::symlink;
    let (temp, mut rig, away) = (Temp::new(), Rig::new(1), Temp::new());
    let (meta, bytes) = torrent(&[("a/b", 10, false), ("c", 10, false)], BLOCK, 1);
    symlink(&away.0, temp.0.join("top")).unwrap();
    let error = rig.open(spec(&temp.0, &meta)).unwrap_err();
    assert!(error.ends_with("top: it is a symbolic link, which is not followed"), "{error}");
    fs::remove_file(temp.0.join("top")).unwrap();
    fs::create_dir(temp.0.join("top")).unwrap();
    symlink(&away.0, temp.0.join("top/a")).unwrap();
    let error = rig.open(spec(&temp.0, &meta)).unwrap_err();
    assert!(error.ends_with("top/a: it is a symbolic link, which is not followed"), "{error}");
    fs::remove_file(temp.0.join("top/a")).unwrap();
    symlink(away.0.join("x"), temp.0.join("top/c")).unwrap();
    let error = rig.open(spec(&temp.0, &meta)).unwrap_err();
    assert!(error.contains("top/c: it exists and is not a regular file"), "{error}");
    fs::remove_file(temp.0.join("top/c")).unwrap();
    fs::write(temp.0.join("top/a"), "x").unwrap();
    let error = rig.open(spec(&temp.0, &meta)).unwrap_err();
    assert!(error.ends_with("top/a: it is not a folder"), "{error}");
    assert_eq!(fs::read_dir(&away.0).unwrap().count(), 0);
    // The download folder itself may be a link.
    symlink(&away.0, temp.0.join("link")).unwrap();
    let (id, _) = rig.open(spec(&temp.0.join("link"), &meta)).unwrap();
    let (_, errors) = rig.write_all(id, &meta.layout, &bytes, &all_blocks(&meta.layout));
    assert_eq!(errors, Vec::<String>::new());
    assert!(away.0.join("top/a/b").exists());
}

#[test]
fn a_file_is_made_when_something_is_stored_in_it() {
    let (temp, mut rig) = (Temp::new(), Rig::new(2));
    let long = RESERVED_EARLY;
    let (meta, bytes) = torrent(
        &[("a/b", 20_000, false), ("c", 50_000, false), ("d", 0, false), ("e", long, false)],
        BLOCK,
        1,
    );
    let (id, _) = rig.open(Spec { prealloc: Prealloc::Sparse, ..spec(&temp.0, &meta) }).unwrap();
    let there = |names: [&str; 4]| names.map(|name| temp.0.join("top").join(name).exists());
    assert_eq!(there(["a", "c", "d", "e"]), [false, false, true, false]);
    let (_, errors) = rig.write_all(id, &meta.layout, &bytes, &blocks_of(&meta.layout, 1));
    assert_eq!((errors, there(["a/b", "c", "d", "e"])), (vec![], [true, true, true, false]));
    assert_eq!(temp.0.join("top/c").metadata().unwrap().len(), 50_000);
    assert!(rig.read(id, meta.layout.block(1, 0)).is_ok());
    rig.close(id);
    // Where space is reserved, that of long files is before the start.
    let (temp, mut rig) = (Temp::new(), Rig::new(1));
    let (id, _) = rig.open(spec(&temp.0, &meta)).unwrap();
    let there = |names: [&str; 4]| names.map(|name| temp.0.join("top").join(name).exists());
    let in_memory = rustix::fs::statfs(&temp.0).unwrap().f_type == 0x0102_1994;
    assert_eq!(there(["a", "c", "d", "e"]), [false, false, true, !in_memory]);
    rig.close(id);
}

#[test]
fn space_of_files_that_are_not_made_is_promised_until_they_are() {
    let (temp, mut rig) = (Temp::new(), Rig::new(1));
    let (meta, bytes) = torrent(&[("a", BLOCK.into(), false), ("b", 3 * u64::from(BLOCK), false)], BLOCK, 1);
    let (id, _) = rig.open(spec(&temp.0, &meta)).unwrap();
    let storage = rig.shared.find(id, 0).unwrap();
    assert_eq!(storage.still_due(), 4 * u64::from(BLOCK));
    rig.write_all(id, &meta.layout, &bytes, &blocks_of(&meta.layout, 0));
    assert_eq!(storage.still_due(), 3 * u64::from(BLOCK));
    rig.write_all(id, &meta.layout, &bytes, &all_blocks(&meta.layout)[1..]);
    assert_eq!(storage.still_due(), 0);
    drop(storage);
    rig.close(id);
}

#[test]
fn what_others_put_in_the_place_of_a_file_is_left_alone() {
    use std::os::unix::fs::symlink;
    let (temp, mut rig, away) = (Temp::new(), Rig::new(1), Temp::new());
    let (meta, bytes) = torrent(&[("a/b", BLOCK.into(), false), ("c", BLOCK.into(), false)], BLOCK, 1);
    let (id, _) = rig.open(spec(&temp.0, &meta)).unwrap();
    symlink(&away.0, temp.0.join("top/a")).unwrap();
    fs::write(temp.0.join("top/c"), "mine").unwrap();
    let mut store = |piece| {
        let (_, errors) = rig.write_all(id, &meta.layout, &bytes, &blocks_of(&meta.layout, piece));
        errors.concat()
    };
    let error = store(0);
    assert!(error.ends_with("top/a: it is a symbolic link, which is not followed"), "{error}");
    let error = store(1);
    assert!(error.contains("top/c: it was put there while the torrent was in use"), "{error}");
    assert_eq!(fs::read_dir(&away.0).unwrap().count(), 0);
    assert_eq!(fs::read(temp.0.join("top/c")).unwrap(), b"mine");
    // Once they are gone it goes on.
    fs::remove_file(temp.0.join("top/a")).unwrap();
    fs::remove_file(temp.0.join("top/c")).unwrap();
    assert_eq!((store(0), store(1)), (String::new(), String::new()));
    compare_files(&temp.0, &meta, &bytes, |_| true);
}

#[test]
fn a_failed_open_takes_back_what_it_made() {
    let (temp, mut rig) = (Temp::new(), Rig::new(1));
    let huge = 1 << 46;
    let (mut meta, _) = torrent(&[("x/a", 10, false), ("b", 10, false)], BLOCK, 1);
    meta.files[1].len = huge;
    meta.layout = Layout::new(1 << 26, [10, huge]).unwrap();
    let error = rig.open(spec(&temp.0, &meta)).unwrap_err();
    assert!(error.contains("top needs 70368744177674 bytes, ") && error.contains(" are free"), "{error}");
    assert!(!temp.0.join("top").exists());
    // The first file is made before the second turns out to need a folder of its name.
    let (mut meta, _) = torrent(&[("a", 0, false), ("b", 0, false), ("c", 10, false)], BLOCK, 1);
    meta.paths.put(1, "top/a", "b");
    let error = rig.open(spec(&temp.0, &meta)).unwrap_err();
    assert!(error.ends_with("top/a: it is not a folder"), "{error}");
    assert!(!temp.0.join("top").exists());
}

/// Does something to a file that is in use.
type Spoil = fn(&Path);

#[test]
fn a_file_removed_replaced_or_cut_short_while_in_use_is_an_error() {
    let (meta, bytes) = torrent(&[("", 8 << 20, false)], 1 << 18, 1);
    let layout = &meta.layout;
    let shm = Path::new("/dev/shm");
    let parents = [std::env::temp_dir(), if shm.is_dir() { shm.to_path_buf() } else { std::env::temp_dir() }];
    for (io, parent) in IO.iter().flat_map(|io| parents.iter().map(move |parent| (*io, parent))) {
        let spoil: [(&str, Spoil); 4] = [
            ("removed", |path| fs::remove_file(path).unwrap()),
            ("replaced", |path| {
                fs::hard_link(path, path.with_extension("link")).unwrap();
                fs::remove_file(path).unwrap();
                fs::write(path, "other").unwrap();
            }),
            ("cut short", |path| {
                fs::File::options().write(true).open(path).unwrap().set_len(1 << 19).unwrap();
            }),
            ("removed", |path| fs::rename(path, path.with_extension("moved")).unwrap()),
        ];
        for (word, spoil) in spoil {
            let (temp, mut rig) = (Temp::below(parent), Rig::new(1));
            let (id, _) = rig.open(Spec { disk_io: io, ..spec(&temp.0, &meta) }).unwrap();
            let (verdicts, _) = rig.write_all(id, layout, &bytes, &all_blocks(layout)[..18]);
            assert_eq!(good(&verdicts), 1);
            spoil(&temp.0.join("top"));
            let (verdicts, errors) = rig.write_all(id, layout, &bytes, &all_blocks(layout)[18..64]);
            assert_eq!(good(&verdicts), 0, "{word}");
            let failed = |(_, verdict): &(u32, Verdict)| match verdict {
                Verdict::Failed(error) => error.to_string().contains(word),
                _ => false,
            };
            let told = errors.iter().any(|error| error.contains(word)) || verdicts.iter().any(failed);
            assert!(told, "{word}: {errors:?} {verdicts:?}");
        }
    }
}

#[test]
fn a_read_of_a_file_cut_short_is_an_error_and_not_zeros() {
    let (temp, mut rig) = (Temp::new(), Rig::new(1));
    let (meta, bytes) = torrent(&[("", 100_000, false)], BLOCK, 1);
    fs::write(temp.0.join("top"), &bytes).unwrap();
    let (id, _) = rig.open(Spec { seed_only: true, ..spec(&temp.0, &meta) }).unwrap();
    assert_eq!(rig.check(id, 0, 7), [0, 1, 2, 3, 4, 5, 6]);
    fs::File::options().write(true).open(temp.0.join("top")).unwrap().set_len(50_000).unwrap();
    rig.read(id, meta.layout.block(2, 0)).unwrap();
    let error = rig.read(id, meta.layout.block(3, 0)).unwrap_err();
    assert!(error.contains("cannot read") && error.ends_with("top: the file was cut short"), "{error}");
}

#[test]
fn blocks_that_lie_side_by_side_are_read_at_once_and_any_others_as_they_lie() {
    let (temp, mut rig) = (Temp::new(), Rig::new(1));
    let files = [("a", 150_000, false), ("pad", 13_840, true), ("b", 100_000, false), ("c", 60_000, false)];
    let (meta, bytes) = torrent(&files, 4 * BLOCK, 1);
    let (id, _) = rig.open(spec(&temp.0, &meta)).unwrap();
    let all = all_blocks(&meta.layout);
    assert_eq!(good(&rig.write_all(id, &meta.layout, &bytes, &all).0), meta.layout.pieces() as usize);
    let mut rng = Rng::new([7; 32]);
    for round in 0..50 {
        let from = rng.below(all.len() as u32) as usize;
        let mut some: Vec<Block> = all[from..].iter().copied().take(READ_BATCH).collect();
        if round % 2 == 0 {
            rng.shuffle(&mut some);
        }
        // Peers may ask for parts of blocks.
        for block in some.iter_mut().filter(|_| round % 3 == 0) {
            block.len -= rng.below(block.len);
        }
        let (read, failed) = rig.read_all(id, &some);
        assert_eq!(failed, None);
        for (block, read) in some.iter().zip(read) {
            let at = meta.layout.offset(*block) as usize;
            assert!(read == bytes[at..at + block.len as usize], "{block:?}");
        }
    }
}

#[test]
fn the_block_that_cannot_be_read_is_named_and_those_before_it_are_there() {
    let (temp, mut rig) = (Temp::new(), Rig::new(1));
    let (meta, bytes) = torrent(&[("", 100_000, false)], 4 * BLOCK, 1);
    fs::write(temp.0.join("top"), &bytes).unwrap();
    let (id, _) = rig.open(Spec { seed_only: true, ..spec(&temp.0, &meta) }).unwrap();
    assert_eq!(rig.check(id, 0, 2), [0, 1]);
    fs::File::options().write(true).open(temp.0.join("top")).unwrap().set_len(40_000).unwrap();
    let (read, failed) = rig.read_all(id, &all_blocks(&meta.layout)[..4]);
    let (at, error) = failed.unwrap();
    assert_eq!((at, read[..2].concat()[..] == bytes[..2 * BLOCK as usize]), (2, true));
    assert!(error.ends_with("top: the file was cut short"), "{error}");
}

#[test]
fn seeding_makes_nothing_and_works_with_what_is_there() {
    let (temp, mut rig) = (Temp::new(), Rig::new(2));
    let (meta, bytes) = torrent(&[("a", 40_000, false), ("b/c", 40_000, false), ("d", 0, false)], BLOCK, 1);
    fs::create_dir(temp.0.join("top")).unwrap();
    fs::write(temp.0.join("top/a"), &bytes[..40_000]).unwrap();
    let (id, opened) = rig.open(Spec { seed_only: true, ..spec(&temp.0, &meta) }).unwrap();
    assert_eq!((opened.found, opened.candidates.count()), (vec![0], 3));
    assert_eq!(rig.check(id, 0, 5), [0, 1]);
    assert_eq!(fs::read_dir(temp.0.join("top")).unwrap().count(), 1);
    assert!(rig.read(id, meta.layout.block(3, 0)).unwrap_err().contains("top/b/c"));
    assert!(rig.read(id, meta.layout.block(0, 0)).unwrap() == bytes[..16384]);
}

#[test]
fn an_all_zero_piece_in_a_hole_is_right_without_reading() {
    let (temp, mut rig) = (Temp::new(), Rig::new(1));
    let (meta, _) = torrent(&[("a", 1, false), ("pad", 16383, true), ("z", 40_000, true)], BLOCK, 1);
    let mut meta = meta;
    meta.files[2].pad = false;
    fs::create_dir(temp.0.join("top")).unwrap();
    fs::File::create(temp.0.join("top/z")).unwrap().set_len(40_000).unwrap();
    let (id, _) = rig.open(Spec { seed_only: true, ..spec(&temp.0, &meta) }).unwrap();
    assert_eq!(rig.check(id, 0, 4), [1, 2, 3]);
}

#[test]
fn bytes_of_unselected_files_go_to_the_part_file_alone() {
    let (temp, mut rig) = (Temp::new(), Rig::new(1));
    let (meta, bytes) = torrent(&[("a", 20_000, false), ("b", 50_000, false), ("c", 9_000, false)], BLOCK, 1);
    let select = Spec { wanted: vec![true, false, false], ..spec(&temp.0, &meta) };
    let part = temp.0.join(format!(".top.{}.part", meta.info_hash));
    let (id, _) = rig.open(select).unwrap();
    assert!(!part.exists());
    let (verdicts, errors) = rig.write_all(id, &meta.layout, &bytes, &all_blocks(&meta.layout)[..2]);
    assert_eq!((good(&verdicts), errors.len()), (2, 0));
    // Piece 1 has the first slot; its first bytes are of file a.
    let kept = fs::read(&part).unwrap();
    assert_eq!(kept.len(), 16384);
    assert!(kept[..20_000 - 16384].iter().all(|byte| *byte == 0));
    assert!(kept[20_000 - 16384..] == bytes[20_000..2 * 16384]);
    assert_eq!((fs::read_dir(temp.0.join("top")).unwrap().count(), rig.check(id, 0, 5)), (1, vec![0, 1]));
    rig.close(id);
    let select = Spec { wanted: vec![true, false, false], ..spec(&temp.0, &meta) };
    let (id, _) = rig.open(select).unwrap();
    assert_eq!(rig.check(id, 0, 5), [0, 1]);
    assert!(rig.read(id, meta.layout.block(1, 0)).unwrap() == bytes[16384..2 * 16384]);
    let (_, errors) = rig.write_all(id, &meta.layout, &bytes, &all_blocks(&meta.layout)[2..3]);
    assert!(errors[0].ends_with("top/b: the file is not selected"), "{errors:?}");
}

#[test]
fn a_piece_that_is_right_is_not_stored_again() {
    let (temp, mut rig) = (Temp::new(), Rig::new(1));
    let (meta, bytes) = torrent(&[("", 20_000, false)], BLOCK, 1);
    let (id, _) = rig.open(spec(&temp.0, &meta)).unwrap();
    let blocks = all_blocks(&meta.layout);
    assert_eq!(good(&rig.write_all(id, &meta.layout, &bytes, &blocks).0), 2);
    let (verdicts, errors) = rig.write_all(id, &meta.layout, &vec![9; 20_000], &blocks);
    assert_eq!((good(&verdicts), errors.len()), (2, 0), "it is said once more");
    assert!(fs::read(temp.0.join("top")).unwrap() == bytes);
}

#[test]
fn a_block_that_comes_twice_is_judged_as_it_is_on_disk() {
    let (temp, mut rig) = (Temp::new(), Rig::new(1));
    let (meta, bytes) = torrent(&[("", 32768, false)], 2 * BLOCK, 1);
    let (id, _) = rig.open(spec(&temp.0, &meta)).unwrap();
    let blocks = all_blocks(&meta.layout);
    rig.write_all(id, &meta.layout, &bytes, &blocks[..1]);
    rig.write_all(id, &meta.layout, &vec![9; 32768], &blocks[..1]);
    let (verdicts, _) = rig.write_all(id, &meta.layout, &bytes, &blocks[1..]);
    assert!(matches!(verdicts[..], [(0, Verdict::Bad)]));
    rig.write_all(id, &meta.layout, &vec![8; 32768], &blocks[..1]);
    rig.write_all(id, &meta.layout, &bytes, &blocks[..1]);
    let (verdicts, _) = rig.write_all(id, &meta.layout, &bytes, &blocks[1..]);
    assert_eq!(good(&verdicts), 1);
}

#[test]
fn what_a_worker_has_of_a_try_that_failed_elsewhere_is_forgotten() {
    let (temp, mut rig) = (Temp::new(), Rig::new(2));
    let (meta, bytes) = torrent(&[("", 32768, false)], 2 * BLOCK, 1);
    let (id, _) = rig.open(spec(&temp.0, &meta)).unwrap();
    let wrong = vec![9; 32768];
    let blocks = all_blocks(&meta.layout);
    let mut to = |lane: usize, block: Block, bytes: &[u8]| {
        let mut buf = rig.pool.take().unwrap();
        buf.space().copy_from_slice(&bytes[block.begin as usize..][..16384]);
        rig.send(lane, Job::Write { torrent: id, block, buf });
        let Done::Written { buf, result, .. } = rig.hear() else { panic!() };
        result.unwrap();
        rig.pool.put(buf);
    };
    to(0, blocks[0], &bytes);
    to(1, blocks[0], &wrong);
    to(1, blocks[1], &bytes);
    assert!(matches!(rig.hear(), Done::Piece { verdict: Verdict::Bad, .. }));
    let (verdicts, _) = rig.write_all(id, &meta.layout, &bytes, &blocks[1..]);
    assert_eq!(verdicts.len(), 0, "block 0 on disk is the wrong one");
    let (verdicts, _) = rig.write_all(id, &meta.layout, &bytes, &blocks[..1]);
    let [(0, Verdict::Good { differed })] = &verdicts[..] else { panic!("{verdicts:?}") };
    assert_eq!(*differed, [0]);
}

#[test]
fn a_read_only_folder_is_named() {
    use std::os::unix::fs::PermissionsExt;
    let (temp, mut rig) = (Temp::new(), Rig::new(1));
    let (meta, _) = torrent(&[("", 10, false)], BLOCK, 1);
    if rustix::process::geteuid().is_root() {
        // Nothing is read-only to root but /proc and its like.
        let error = rig.open(spec(Path::new("/proc/self"), &meta)).unwrap_err();
        assert!(error.contains("/proc/self"), "{error}");
        return;
    }
    fs::set_permissions(&temp.0, PermissionsExt::from_mode(0o555)).unwrap();
    let error = rig.open(spec(&temp.0, &meta)).unwrap_err();
    assert!(error.contains("cannot create") && error.contains("Permission denied"), "{error}");
}

#[test]
fn a_torrent_of_many_files_is_no_matter() {
    let (temp, mut rig) = (Temp::new(), Rig::new(2));
    let names: Vec<&'static str> = (0..3000).map(|i| &*format!("{}/{i}", i % 40).leak()).collect();
    let files: Vec<Entry> = names.iter().map(|name| (*name, 50, false)).collect();
    let (meta, bytes) = torrent(&files, BLOCK, 1);
    let (id, opened) = rig.open(spec(&temp.0, &meta)).unwrap();
    assert_eq!(opened.found.len(), 0);
    let (verdicts, errors) = rig.write_all(id, &meta.layout, &bytes, &all_blocks(&meta.layout));
    assert_eq!((good(&verdicts), errors), (meta.layout.pieces() as usize, vec![]));
    compare_files(&temp.0, &meta, &bytes, |_| true);
    rig.close(id);
    let (id, opened) = rig.open(spec(&temp.0, &meta)).unwrap();
    assert_eq!((opened.found.len(), rig.check(id, 0, 10).len()), (3000, meta.layout.pieces() as usize));
}

/// Runs one of the tests in a process of its own, by a line of shell in which `$0` is the program and its arguments.
fn apart(script: &str, test: &str) -> bool {
    let exe = std::env::current_exe().unwrap();
    let test = format!("disk::tests::{test}");
    let mut shell = std::process::Command::new("sh");
    let shell = shell.args(["-c", script]).arg(exe).args(["--exact", &test, "--nocapture"]);
    shell.status().unwrap().success()
}

#[test]
fn few_descriptors_are_enough_for_many_files() {
    assert!(apart(r#"ulimit -n 40 && exec "$0" "$@""#, "a_torrent_of_many_files_is_no_matter"));
}

#[test]
fn a_full_disk_is_an_error_with_its_reason() {
    let temp = Temp::new();
    let mount = format!("mount -t tmpfs -o size=3m none '{0}' && cd '{0}'", temp.0.display());
    let try_it = ["-m", "sh", "-c", &mount];
    let allowed =
        std::process::Command::new("unshare").args(try_it).output().is_ok_and(|o| o.status.success());
    if !allowed {
        #[expect(clippy::print_stdout, reason = "a skip is told")]
        let () = println!("skipped: mounting a small file system is not permitted here");
        #[expect(clippy::disallowed_methods, reason = "whether a skip is allowed")]
        let ci = std::env::var_os("CI").is_some_and(|value| value == "true");
        assert!(!ci, "this test must not be skipped in CI");
        return;
    }
    // The inner shell gets the program and its arguments as its own.
    let script = format!(r#"exec unshare -m sh -c "{mount}"' && exec "$0" "$@"' "$0" "$@""#);
    assert!(apart(&script, "inside_a_full_disk"));
}

/// Does nothing but in the small file system of the test above.
#[test]
fn inside_a_full_disk() {
    let here = rustix::fs::statvfs(".").unwrap();
    if here.f_blocks * here.f_frsize != 3 << 20 {
        return;
    }
    // Space in memory is not taken before it fills, and yet promised but once.
    let half = |seed| torrent(&[("", 2 << 20, false)], 1 << 18, seed).0;
    let mut rig = Rig::new(1);
    let (first, _) = rig.open(spec(Path::new("a"), &half(2))).unwrap();
    let error = rig.open(spec(Path::new("b"), &half(3))).unwrap_err();
    assert!(error.contains("top needs 2097152 bytes, 1048576 are free"), "{error}");
    rig.close(first);
    let (second, _) = rig.open(spec(Path::new("b"), &half(3))).unwrap();
    rig.close(second);
    fs::remove_dir_all("a").unwrap();
    fs::remove_dir_all("b").unwrap();
    let (meta, bytes) = torrent(&[("", 8 << 20, false)], 1 << 18, 1);
    let blocks = all_blocks(&meta.layout);
    for io in IO {
        let mut rig = Rig::new(2);
        let error = rig.open(spec(Path::new("."), &meta)).unwrap_err();
        assert!(error.contains("top needs 8388608 bytes, 3145728 are free"), "{error}");
        assert!(!Path::new("top").exists());
        let sparse = Spec { prealloc: Prealloc::Sparse, disk_io: io, ..spec(Path::new("."), &meta) };
        let (id, opened) = rig.open(sparse).unwrap();
        assert!(opened.warnings[0].contains("space is short"), "{:?}", opened.warnings);
        let (verdicts, errors) = rig.write_all(id, &meta.layout, &bytes, &blocks);
        assert!(good(&verdicts) > 4 && !errors.is_empty(), "{verdicts:?}");
        assert!(
            errors.iter().all(|e| e.contains("cannot write ./top: No space left on device")),
            "{errors:?}"
        );
        for (piece, verdict) in &verdicts {
            assert!(matches!(verdict, Verdict::Good { .. }), "{piece} {verdict:?}");
        }
        assert_eq!(rig.check(id, 0, 32).len(), good(&verdicts));
        fs::remove_file("top").unwrap();
    }
}

#[test]
fn what_is_in_the_page_cache_is_hashed_and_not_sent_away() {
    let (temp, shared) = (Temp::new(), Shared::new(1));
    let (meta, bytes) = torrent(&[("", CHECK_STAYS + 5_000, false)], 16 << 20, 1);
    fs::write(temp.0.join("top"), &bytes).unwrap();
    let id = TorrentId::from_bits(1);
    open::open(&shared, id, &Arc::new(Spec { seed_only: true, ..spec(&temp.0, &meta) })).unwrap();
    let (storage, mut fetched) = (shared.find(id, 0).unwrap(), Vec::new());
    // What was written just now is dirty, so it is there.
    ahead::fetch(&mut Files::new(), &storage, (0, 0, 16 << 20), &mut fetched);
    assert_eq!(fetched.len(), 0);
    drop(storage);
    let mut rig = Rig::new(1);
    let (id, _) = rig.open(Spec { seed_only: true, ..spec(&temp.0, &meta) }).unwrap();
    // One long piece, then several in a job, the last of them short.
    assert_eq!((rig.check(id, 0, 1), rig.check(id, 1, 2)), (vec![0], vec![1, 2]));
}

/// What the net thread finds each time that a worker wakes it, while it does these jobs. It goes back to sleep at once.
fn found_when_woken(jobs: impl Iterator<Item = Job>) -> Vec<usize> {
    let ((jobs_in, jobs_out), (done_in, done)) = (unbounded(), unbounded());
    let ((_, checks), (syncs, _syncs)) = (bounded(1), unbounded());
    jobs.for_each(|job| jobs_in.send(job).unwrap());
    drop(jobs_in);
    let bell: Arc<OnceLock<Arc<Wake>>> = Arc::default();
    let found = Arc::new(Mutex::new(Vec::new()));
    let (of_bell, of_found) = (bell.clone(), found.clone());
    let wake = Arc::new(Wake::new(Box::new(move || {
        locked(&of_found).push(done.try_iter().count());
        of_bell.get().unwrap().doze();
    })));
    bell.set(wake.clone()).ok().unwrap();
    wake.doze();
    Worker::new(0, Shared::new(1), jobs_out, checks, done_in, syncs, wake).run();
    locked(&found).clone()
}

#[test]
fn the_net_thread_is_woken_for_answers_and_never_for_nothing() {
    let torrent = TorrentId::from_bits(1);
    let found = found_when_woken((0..2 * DISK_BATCH as u64).map(|bytes| Job::Room { torrent, bytes }));
    assert_eq!(found.iter().sum::<usize>(), 2 * DISK_BATCH, "all answers are heard");
    assert!(found.iter().all(|count| *count > 0), "woken for nothing: {found:?}");
}
