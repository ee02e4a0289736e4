//! What a later run believes of an earlier one: killed (workers dropped without a close), stopped, or with files and
//! records that others changed in between.

use super::*;
use crate::api::Saved;
use crate::base::bits::Bitfield;
use crate::proto::resume::{Record, Shape};
use std::fs::{File, FileTimes};
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::time::Duration;

const FILES: [Entry; 3] = [("a", 100_000, false), ("b", 150_000, false), ("c", 80_000, false)];
const PIECE: u32 = 2 * BLOCK;

/// A torrent, its folder and its state folder.
struct Case {
    temp: Temp,
    meta: Metainfo,
    bytes: Vec<u8>,
}

impl Case {
    fn new() -> Case {
        let (meta, bytes) = torrent(&FILES, PIECE, 9);
        Case { temp: Temp::new(), meta, bytes }
    }

    fn spec(&self) -> Spec {
        Spec { state_dir: Some(self.state()), ..spec(&self.data(), &self.meta) }
    }

    fn data(&self) -> PathBuf {
        self.temp.0.join("data")
    }

    fn state(&self) -> PathBuf {
        self.temp.0.join("state")
    }

    fn file(&self, name: &str) -> PathBuf {
        self.data().join("top").join(name)
    }

    fn record(&self) -> PathBuf {
        let mut names = fs::read_dir(self.state().join("resume")).unwrap();
        names.next().unwrap().unwrap().path()
    }

    /// Stores these blocks in a run of their own, which is killed or stopped after.
    fn run(&self, blocks: &[Block], stop: bool) {
        self.run_with(self.spec(), blocks, stop);
    }

    fn run_with(&self, spec: Spec, blocks: &[Block], stop: bool) {
        let mut rig = Rig::new(2);
        let (id, _) = rig.open(spec).unwrap();
        let (_, errors) = rig.write_all(id, &self.meta.layout, &self.bytes, blocks);
        assert_eq!(errors, Vec::<String>::new());
        if stop {
            rig.close(id);
        }
    }

    /// What the next run sees, which leaves nothing behind.
    fn look(&self) -> Opened {
        self.look_with(self.spec())
    }

    fn look_with(&self, spec: Spec) -> Opened {
        Rig::new(1).open(spec).unwrap().1
    }

    fn pieces(&self, pieces: impl IntoIterator<Item = u32>) -> Vec<Block> {
        pieces.into_iter().flat_map(|piece| blocks_of(&self.meta.layout, piece)).collect()
    }
}

fn list(bits: &Bitfield) -> Vec<u32> {
    bits.iter().collect()
}

/// Changes a file so that its time tells: long after any store of ours.
fn touch(path: &Path) {
    let file = File::options().write(true).open(path).unwrap();
    let later = file.metadata().unwrap().modified().unwrap() + Duration::from_secs(7);
    file.set_times(FileTimes::new().set_modified(later)).unwrap();
}

#[test]
fn after_a_kill_only_open_pieces_are_hashed() {
    for io in IO {
        let case = Case::new();
        let mut blocks = case.pieces([0, 2, 3, 7]);
        blocks.push(case.meta.layout.block(5, 1));
        case.run_with(Spec { disk_io: io, ..case.spec() }, &blocks, false);
        let opened = case.look();
        assert_eq!((list(&opened.have), list(&opened.candidates)), (vec![0, 2, 3, 7], vec![5]), "{io:?}");
        assert_eq!((opened.found, opened.partial, opened.warnings), (vec![], vec![], vec![]));
        // And again: that run stored nothing and was killed as well.
        assert_eq!(list(&case.look().have), [0, 2, 3, 7]);
    }
}

#[test]
fn after_a_stop_nothing_is_hashed_and_blocks_are_gone_on_with() {
    let case = Case::new();
    let mut blocks = case.pieces([1, 4]);
    blocks.extend([case.meta.layout.block(6, 0), case.meta.layout.block(8, 1)]);
    case.run(&blocks, true);
    let mut rig = Rig::new(2);
    let (id, opened) = rig.open(case.spec()).unwrap();
    assert_eq!((list(&opened.have), opened.candidates.count()), (vec![1, 4], 0));
    let partial: Vec<_> = opened.partial.iter().map(|(piece, blocks)| (*piece, list(blocks))).collect();
    assert_eq!(partial, [(6, vec![0]), (8, vec![1])]);
    // The rest alone makes them whole.
    let rest = [case.meta.layout.block(6, 1), case.meta.layout.block(8, 0)];
    let (verdicts, _) = rig.write_all(id, &case.meta.layout, &case.bytes, &rest[..1]);
    assert_eq!(good(&verdicts), 1);
    rig.close(id);
    let opened = case.look();
    assert_eq!((list(&opened.have), opened.candidates.count()), (vec![1, 4, 6], 0));
    assert_eq!(opened.partial.len(), 1, "what was not gone on with is kept");
    case.run(&rest[1..], false);
    assert_eq!(list(&case.look().have), [1, 4, 6, 8]);
}

#[test]
fn the_record_is_free_when_the_end_of_its_torrent_is_told() {
    use rustix::fs::{FlockOperation, flock};
    let (case, shared, id) = (Case::new(), Shared::new(1), TorrentId::from_bits(1));
    open::open(&shared, id, &Arc::new(case.spec())).unwrap();
    let ((syncs, syncs_out), (done_in, _done)) = (unbounded(), unbounded());
    let (record, free) = (case.record(), Arc::new(OnceLock::new()));
    let seen = free.clone();
    let wake = Arc::new(Wake::new(Box::new(move || {
        let file = File::open(&record).unwrap();
        seen.set(flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok()).unwrap();
    })));
    wake.doze();
    syncs.send(SyncJob::Close(Stored(shared.close(id, 0).unwrap()), 0)).unwrap();
    drop(syncs);
    Syncer::new(shared, syncs_out, done_in, wake).run();
    assert_eq!(free.get(), Some(&true));
}

#[test]
fn a_begun_piece_that_is_gone_on_with_and_killed_is_in_doubt() {
    let case = Case::new();
    let big = Case { meta: torrent(&FILES, 4 * BLOCK, 9).0, ..case };
    let layout = &big.meta.layout;
    big.run(&[layout.block(1, 0), layout.block(2, 0)], true);
    big.run(&[layout.block(1, 1)], false);
    let opened = big.look();
    assert_eq!(list(&opened.candidates), [1]);
    assert_eq!(opened.partial.iter().map(|(piece, _)| *piece).collect::<Vec<_>>(), [2]);
}

#[test]
fn a_piece_that_came_wrong_is_not_had_after_either_end() {
    for stop in [false, true] {
        let case = Case::new();
        let wrong = Case { bytes: vec![7; case.bytes.len()], ..Case::new() };
        let mut rig = Rig::new(1);
        let (id, _) = rig.open(case.spec()).unwrap();
        let (verdicts, _) = rig.write_all(id, &case.meta.layout, &wrong.bytes, &case.pieces([3]));
        assert!(matches!(verdicts[..], [(3, Verdict::Bad)]));
        if stop {
            rig.close(id);
        }
        drop(rig);
        let opened = case.look();
        assert_eq!((opened.have.count(), opened.partial.len()), (0, 0));
        assert_eq!(list(&opened.candidates), if stop { vec![] } else { vec![3] });
    }
}

/// What others do to file `b`, the pieces 3 to 7.
const CHANGES: [fn(&Case); 6] = [
    |case| {
        File::options().write(true).open(case.file("b")).unwrap().write_all_at(b"x", 70_000).unwrap();
        touch(&case.file("b"));
    },
    |case| fs::remove_file(case.file("b")).unwrap(),
    |case| {
        fs::rename(case.file("b"), case.file("old")).unwrap();
        fs::copy(case.file("old"), case.file("b")).unwrap();
    },
    |case| File::options().write(true).open(case.file("b")).unwrap().set_len(60_000).unwrap(),
    |case| File::options().write(true).open(case.file("b")).unwrap().set_len(60_000 - 1).unwrap(),
    |case| {
        let long_ago = std::time::UNIX_EPOCH + Duration::from_secs(1);
        let file = File::options().write(true).open(case.file("b")).unwrap();
        file.set_times(FileTimes::new().set_modified(long_ago)).unwrap();
    },
];

#[test]
fn a_file_that_others_changed_is_hashed_and_no_other() {
    for (n, change) in CHANGES.into_iter().enumerate() {
        for (stop, seed_only) in [(false, false), (true, false), (false, true), (true, true)] {
            let case = Case::new();
            case.run(&case.pieces(0..case.meta.layout.pieces()), stop);
            change(&case);
            let opened = case.look_with(Spec { seed_only, ..case.spec() });
            assert_eq!(list(&opened.have), [0, 1, 2, 8, 9, 10], "change {n}, stop {stop}");
            assert_eq!(opened.candidates.iter().find(|piece| !(3..8).contains(piece)), None);
            let must: &[u32] = if n == 1 { &[3, 7] } else { &[3] };
            assert!(must.iter().all(|piece| opened.candidates.get(*piece)), "{:?}", opened.candidates);
        }
    }
}

#[test]
fn a_file_of_which_all_is_right_may_not_change_after_a_kill_at_all() {
    let case = Case::new();
    let mut blocks = case.pieces(0..8);
    blocks.push(case.meta.layout.block(9, 0));
    case.run(&blocks, false);
    // At once: well within the time that a beat covers.
    File::options().write(true).open(case.file("a")).unwrap().write_all_at(b"x", 7).unwrap();
    std::thread::sleep(Duration::from_millis(20));
    File::options().write(true).open(case.file("a")).unwrap().write_all_at(b"y", 7).unwrap();
    let opened = case.look();
    assert_eq!((list(&opened.have), list(&opened.candidates)), (vec![4, 5, 6, 7], vec![0, 1, 2, 3, 9]));
}

/// Has the record say something else.
fn edit(case: &Case, change: impl FnOnce(&mut Record)) {
    let (path, shape) = (case.record(), Shape::new(&case.meta.layout));
    let mut bytes = fs::read(&path).unwrap();
    let dir = fs::canonicalize(case.data()).unwrap();
    let identity: [u8; 20] = Sha1::new()
        .chain_update(case.meta.info_hash.0)
        .chain_update(dir.as_os_str().as_encoded_bytes())
        .finalize()
        .into();
    let mut record = shape.load(&bytes, &identity).unwrap();
    change(&mut record);
    record.serial += 1;
    let (at, slot) = (shape.slot_at(record.serial) as usize, record.encode(&identity, &shape));
    bytes[at..at + slot.len()].copy_from_slice(&slot);
    fs::write(path, bytes).unwrap();
}

#[test]
fn after_another_boot_what_was_not_synced_is_hashed() {
    let case = Case::new();
    case.run(&case.pieces([0, 5]), true);
    let mut blocks = case.pieces([6]);
    blocks.push(case.meta.layout.block(9, 0));
    case.run(&blocks, false);
    edit(&case, |record| record.boot[3] ^= 1);
    let opened = case.look();
    assert_eq!(list(&opened.have), [0, 5]);
    assert!([6, 9].iter().all(|piece| opened.candidates.get(*piece)));
    assert!(!opened.candidates.get(0) && opened.partial.is_empty());
    // A stop in between has everything synced, whatever the boot.
    case.run(&case.pieces([1]), true);
    edit(&case, |record| record.boot[3] ^= 1);
    let opened = case.look();
    assert_eq!(list(&opened.have), [0, 1, 5]);
    // And what nobody has hashed so far is still to be.
    assert!([6, 9].iter().all(|piece| opened.candidates.get(*piece)), "{:?}", opened.candidates);
    assert!(![0, 1, 5].iter().any(|piece| opened.candidates.get(*piece)), "{:?}", opened.candidates);
}

#[test]
fn what_is_found_right_is_remembered_too() {
    let case = Case::new();
    case.run(&case.pieces([0, 5]), true);
    fs::remove_file(case.record()).unwrap();
    let mut rig = Rig::new(1);
    let (id, opened) = rig.open(case.spec()).unwrap();
    assert_eq!((opened.have.count(), opened.found), (0, vec![0, 1]));
    assert_eq!(rig.check(id, 0, 11), [0, 5]);
    drop(rig);
    assert_eq!(list(&case.look().have), [0, 5]);
}

#[test]
fn what_a_run_did_not_get_to_hash_is_hashed_by_the_next_one() {
    for (stop, seed_only) in [(false, false), (true, false), (false, true), (true, true)] {
        let case = Case::new();
        case.run(&case.pieces(0..9), true);
        fs::remove_file(case.record()).unwrap();
        let spec = || Spec { seed_only, ..case.spec() };
        let mut had = Vec::new();
        for checked in [0..2, 2..4, 4..6] {
            let mut rig = Rig::new(2);
            let (id, opened) = rig.open(spec()).unwrap();
            assert_eq!(list(&opened.have), had, "stop {stop}, seed_only {seed_only}");
            let left: Vec<u32> = (checked.start..9).collect();
            let candidates = list(&opened.candidates);
            assert!(left.iter().all(|piece| candidates.contains(piece)), "{candidates:?}, {left:?}");
            assert_eq!(rig.check(id, checked.start, 2), checked.clone().collect::<Vec<_>>());
            had.extend(checked);
            if stop {
                rig.close(id);
            }
        }
        // What proved wrong is not hashed again.
        let mut rig = Rig::new(1);
        let (id, opened) = rig.open(spec()).unwrap();
        assert_eq!(rig.check(id, 6, 5), [6, 7, 8], "{:?}", opened.candidates);
        rig.close(id);
        drop(rig);
        let opened = case.look_with(spec());
        assert_eq!((list(&opened.have), opened.candidates.count()), ((0..9).collect(), 0));
    }
}

#[test]
fn what_is_not_hashed_of_files_that_are_not_selected_is_not_forgotten() {
    let only = |case: &Case, file: usize| Spec { wanted: (0..3).map(|n| n == file).collect(), ..case.spec() };
    let case = Case::new();
    case.run(&case.pieces(0..11), true);
    fs::remove_file(case.record()).unwrap();
    let mut rig = Rig::new(1);
    let (id, _) = rig.open(case.spec()).unwrap();
    assert_eq!((rig.check(id, 0, 2), rig.check(id, 8, 1)), (vec![0, 1], vec![8]));
    rig.close(id);
    drop(rig);
    case.run_with(only(&case, 0), &[], true);
    let opened = case.look();
    assert_eq!(list(&opened.have), [0, 1, 8]);
    assert_eq!(list(&opened.candidates), [2, 3, 4, 5, 6, 7, 9, 10]);
    // After a loss of power the same is true of what was not durable.
    let case = Case::new();
    case.run(&case.pieces(0..9), false);
    edit(&case, |record| record.boot[3] ^= 1);
    case.run_with(only(&case, 0), &[], true);
    let opened = case.look();
    assert!((4..9).all(|piece| opened.candidates.get(piece)), "{:?}", opened.candidates);
}

#[test]
fn a_piece_that_cannot_be_read_is_hashed_by_the_next_run() {
    for stop in [false, true] {
        let case = Case::new();
        case.run(&case.pieces(0..11), true);
        let mut rig = Rig::new(1);
        let (id, _) = rig.open(Spec { seed_only: true, ..case.spec() }).unwrap();
        // It is out of the way for a moment only.
        fs::rename(case.file("b"), case.file("away")).unwrap();
        rig.read(id, case.meta.layout.block(5, 0)).unwrap_err();
        fs::rename(case.file("away"), case.file("b")).unwrap();
        if stop {
            rig.close(id);
        }
        drop(rig);
        let opened = case.look_with(Spec { seed_only: true, ..case.spec() });
        assert_eq!((opened.have.count(), list(&opened.candidates)), (10, vec![5]), "stop {stop}");
    }
}

#[test]
fn any_garbage_in_the_record_makes_nothing_had_that_is_not() {
    let (case, mut rng) = (Case::new(), Rng::new([5; 32]));
    let mut blocks = case.pieces([0, 2, 3, 7]);
    blocks.push(case.meta.layout.block(5, 1));
    case.run(&blocks, false);
    let (path, record) = (case.record(), fs::read(case.record()).unwrap());
    for round in 0..300 {
        let mut bad = record.clone();
        match round % 4 {
            0 => bad.truncate(rng.index(bad.len())),
            1 => rng.fill(&mut bad),
            2 => {
                let at = rng.index(bad.len());
                bad[at] ^= 1 << rng.below(8);
            }
            _ => {
                let (from, to) = (rng.index(bad.len()), rng.index(bad.len()));
                bad[from.min(to)..from.max(to)].fill(rng.u32() as u8 | 1);
            }
        }
        fs::write(&path, bad).unwrap();
        let opened = case.look();
        assert!(opened.have.iter().all(|piece| [0, 2, 3, 7].contains(&piece)), "round {round}");
        for piece in [0, 2, 3, 7] {
            assert!(opened.have.get(piece) || opened.candidates.get(piece), "round {round}, {piece} is lost");
        }
    }
}

#[test]
fn a_record_of_another_folder_or_torrent_says_nothing() {
    let case = Case::new();
    case.run(&case.pieces(0..11), true);
    let (path, bytes) = (case.record(), fs::read(case.record()).unwrap());
    let other = Case { bytes: case.bytes.clone(), ..Case::new() };
    fs::create_dir_all(other.data()).unwrap();
    fs::rename(case.data().join("top"), other.data().join("top")).unwrap();
    drop(Rig::new(1).open(other.spec()).unwrap());
    fs::write(other.record(), bytes).unwrap();
    let opened = other.look();
    assert_eq!((opened.have.count(), opened.candidates.count()), (0, 11));
    drop(path);
}

#[test]
fn with_another_selection_border_pieces_are_hashed() {
    let case = Case::new();
    case.run(&case.pieces(0..11), true);
    let only_b = || Spec { wanted: vec![false, true, false], ..case.spec() };
    let opened = case.look_with(only_b());
    assert_eq!(list(&opened.have), [4, 5, 6]);
    // The part file has its place for piece 3, but not its bytes.
    let mut rig = Rig::new(1);
    let (id, _) = rig.open(only_b()).unwrap();
    rig.check(id, 0, 11);
    rig.close(id);
    drop(rig);
    let opened = case.look();
    assert_eq!(
        list(&opened.have).iter().filter(|piece| [0, 1, 2, 4, 5, 6, 8, 9, 10].contains(piece)).count(),
        9
    );
    assert!(opened.candidates.get(3));
    assert_eq!(opened.found, Vec::<usize>::new());
}

#[test]
fn a_part_file_is_believed_like_the_others() {
    for stop in [false, true] {
        let case = Case::new();
        let only_b = || Spec { wanted: vec![false, true, false], ..case.spec() };
        case.run_with(only_b(), &case.pieces(3..8), stop);
        let opened = case.look_with(only_b());
        let have = list(&opened.have);
        assert!([4, 5, 6].iter().all(|piece| have.contains(piece)), "{have:?}");
        assert!([3, 7].iter().all(|piece| opened.have.get(*piece) || opened.candidates.get(*piece)));
        assert_eq!(list(&opened.have), [3, 4, 5, 6, 7]);
    }
}

#[test]
fn a_foreign_file_that_was_refused_stays_foreign() {
    let case = Case::new();
    fs::create_dir_all(case.data().join("top")).unwrap();
    fs::write(case.file("a"), vec![9; 100_000]).unwrap();
    for _ in 0..3 {
        let mut rig = Rig::new(1);
        let (id, opened) = rig.open(case.spec()).unwrap();
        assert_eq!((opened.found, opened.have.count()), (vec![0], 0));
        assert_eq!(rig.check(id, 0, 11), [0; 0]);
        rig.close(id);
    }
    // Once something of ours is in it, it is ours.
    case.run(&case.pieces([0]), false);
    let opened = case.look();
    assert_eq!((opened.found.len(), list(&opened.have)), (0, vec![0]));
}

#[test]
fn totals_and_peers_come_back() {
    let case = Case::new();
    let saved = Saved {
        uploaded: 5 << 40,
        downloaded: 7,
        peers: vec!["1.2.3.4:5".parse().unwrap(), "[2001:db8::1]:9".parse().unwrap()],
    };
    let save = |stop: bool| {
        let mut rig = Rig::new(2);
        let (torrent, _) = rig.open(case.spec()).unwrap();
        rig.send(0, Job::Save { torrent, saved: saved.clone() });
        assert!(matches!(rig.hear(), Done::Saved { .. }));
        if stop {
            rig.close(torrent);
        }
    };
    save(false);
    let killed = case.look().saved;
    assert_eq!((killed.uploaded, killed.downloaded), (5 << 40, 7));
    save(true);
    assert_eq!(case.look().saved, saved);
}

#[test]
fn without_a_usable_state_folder_a_run_goes_on_and_says_so() {
    let case = Case::new();
    fs::write(case.state(), b"a file").unwrap();
    let mut rig = Rig::new(1);
    let (id, opened) = rig.open(case.spec()).unwrap();
    assert!(
        opened.warnings[0].starts_with("what is there will not be remembered: "),
        "{:?}",
        opened.warnings
    );
    let (verdicts, _) = rig.write_all(id, &case.meta.layout, &case.bytes, &case.pieces(0..11));
    assert_eq!(good(&verdicts), 11);
    rig.close(id);
}

#[test]
fn a_record_that_another_process_has_is_left_alone() {
    let case = Case::new();
    case.run(&case.pieces(0..11), true);
    let seed = || Spec { seed_only: true, ..case.spec() };
    let (mut one, mut two) = (Rig::new(1), Rig::new(1));
    assert_eq!(one.open(seed()).unwrap().1.have.count(), 11);
    let opened = two.open(seed()).unwrap().1;
    assert_eq!((opened.have.count(), opened.candidates.count()), (0, 11));
    assert!(opened.warnings[0].contains("another process has it"), "{:?}", opened.warnings);
}

#[test]
fn many_pieces_go_round_the_ring() {
    let temp = Temp::new();
    let (meta, bytes) = torrent(&[("", 1000 * 50, false)], 50, 3);
    let spec = || Spec { state_dir: Some(temp.0.join("state")), ..spec(&temp.0, &meta) };
    let mut rng = Rng::new([8; 32]);
    let mut left: Vec<u32> = (0..1000).collect();
    rng.shuffle(&mut left);
    let mut had: Vec<u32> = Vec::new();
    while !left.is_empty() {
        let mut rig = Rig::new(2);
        let (id, opened) = rig.open(spec()).unwrap();
        had.sort_unstable();
        assert_eq!((list(&opened.have), opened.candidates.count()), (had.clone(), 0));
        let now: Vec<u32> = left.drain(..left.len().min(150 + rng.index(200))).collect();
        let blocks: Vec<Block> = now.iter().map(|piece| meta.layout.block(*piece, 0)).collect();
        assert_eq!(good(&rig.write_all(id, &meta.layout, &bytes, &blocks).0), now.len());
        had.extend(now);
        if rng.below(3) == 0 {
            rig.close(id);
        }
    }
}

/// Makes all files.
fn make_all(storage: &Storage) {
    let places = (0..storage.spec.meta.files.len()).map(storage::Place::File);
    Files::new().make(storage, places).unwrap();
}

#[test]
fn a_checkpoint_gives_way_to_a_close_and_forgets_nothing() {
    let case = Case::new();
    let shared = Shared::new(1);
    let torrent = TorrentId::from_bits(1);
    open::open(&shared, torrent, &Arc::new(case.spec())).unwrap();
    let storage = shared.find(torrent, 0).unwrap();
    make_all(&storage);
    storage.set_right(0, 0);
    let have = Bitfield::full(1);
    assert!(matches!(storage.sync_files(&have, &|| false), (None, None)));
    assert!(storage.wants_sync(), "it is still to be synced");
    assert!(matches!(storage.sync_files(&have, &|| true), (Some(true), None)));
    assert!(matches!(storage.sync_files(&have, &|| false), (Some(false), None)));
}

#[test]
fn blocks_of_an_earlier_run_are_on_the_medium_before_that_is_said() {
    let case = Case::new();
    case.run(&case.pieces([9])[..1], true);
    edit(&case, |record| record.rest = crate::proto::resume::Rest::Stopped);
    let shared = Shared::new(1);
    let torrent = TorrentId::from_bits(1);
    assert_eq!(open::open(&shared, torrent, &Arc::new(case.spec())).unwrap().partial.len(), 1);
    let storage = shared.find(torrent, 0).unwrap();
    assert!(matches!(storage.sync_files(&Bitfield::new(11), &|| true), (Some(true), None)));
}

#[test]
fn a_record_that_met_a_full_disk_is_whole_again_with_the_next_checkpoint() {
    let case = Case::new();
    let shared = Shared::new(1);
    let torrent = TorrentId::from_bits(1);
    let full = || File::options().write(true).open("/dev/full").unwrap();
    open::open(&shared, torrent, &Arc::new(case.spec())).unwrap();
    let storage = shared.find(torrent, 0).unwrap();
    let journal = storage.journal.as_ref().unwrap();
    storage.set_right(0, i64::MAX);
    let file = locked(journal).swap_file(full());
    storage.set_right(1, i64::MAX);
    locked(journal).fold();
    // There is space again, and the file is not as it should be until all is said once more.
    let _full = locked(journal).swap_file(file);
    storage.set_right(2, i64::MAX);
    let said = |case: &Case| {
        let mut have = Vec::new();
        edit(case, |record| have = list(&record.have));
        have
    };
    let (path, before) = (case.record(), fs::read(case.record()).unwrap());
    assert_eq!(said(&case), [0]);
    fs::write(&path, before).unwrap();
    locked(journal).fold();
    storage.set_right(3, i64::MAX);
    assert_eq!(said(&case), [0, 1, 2, 3]);
}

#[test]
fn pieces_that_a_sync_lost_are_not_had_and_what_was_begun_of_others_is_not_stored() {
    let case = Case::new();
    let shared = Shared::new(1);
    let torrent = TorrentId::from_bits(1);
    open::open(&shared, torrent, &Arc::new(case.spec())).unwrap();
    let storage = shared.find(torrent, 0).unwrap();
    make_all(&storage);
    let journal = storage.journal.as_ref().unwrap();
    [0, 3, 4, 6, 7, 8].iter().for_each(|piece| storage.set_right(*piece, 0));
    // What is on the medium is not lost, and what is only to be hashed was not stored by us.
    locked(journal).record.synced.set(4);
    [6, 7].iter().for_each(|piece| storage.set_in_doubt(*piece));
    // One of them is fetched again.
    assert!(storage.begin(5).is_none() && storage.begin(7).is_none());
    fs::remove_file(case.file("b")).unwrap();
    let have = locked(journal).record.have.clone();
    let (_, loss) = storage.sync_files(&have, &|| true);
    let loss = loss.unwrap();
    assert_eq!(loss.pieces.into_iter().collect::<Vec<_>>(), [3, 5, 7]);
    assert!(loss.error.to_string().contains("top/b"), "{}", loss.error);
    let right: Vec<u32> = (0..11).filter(|piece| storage.is_right(*piece)).collect();
    assert_eq!((right, storage.failed(5).tries, storage.failed(6).tries), (vec![0, 4, 8], 1, 0));
    let journal = locked(journal);
    assert_eq!((list(&journal.record.have), list(&journal.record.open)), (vec![0, 4, 8], vec![5, 6, 7]));
}

#[test]
fn what_the_last_sync_lost_is_told_and_not_believed_later() {
    let case = Case::new();
    let mut rig = Rig::new(1);
    let (id, _) = rig.open(case.spec()).unwrap();
    rig.write_all(id, &case.meta.layout, &case.bytes, &case.pieces(0..11));
    fs::rename(case.file("b"), case.file("away")).unwrap();
    rig.send(0, Job::Close { torrent: id });
    let Done::Unsynced { torrent, error, lost } = rig.hear() else { panic!("nothing was lost") };
    assert_eq!((torrent, lost), (id, vec![3, 4, 5, 6, 7]));
    assert!(error.to_string().contains("top/b"), "{error}");
    assert!(matches!(rig.hear(), Done::Closed { .. }));
    drop(rig);
    fs::rename(case.file("away"), case.file("b")).unwrap();
    assert_eq!(list(&case.look().have), [0, 1, 2, 8, 9, 10]);
}

#[test]
fn room_is_found_where_it_is_and_the_refusal_says_how_much_is_needed() {
    let case = Case::new();
    let mut rig = Rig::new(1);
    let (torrent, _) = rig.open(case.spec()).unwrap();
    let room = |bytes: u64| {
        rig.send(0, Job::Room { torrent, bytes });
        match rig.hear() {
            Done::Room { result, .. } => result.map_err(|error| (error.source.kind(), error.to_string())),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!((room(0), room(4096)), (Ok(()), Ok(())));
    let (kind, words) = room(u64::MAX).unwrap_err();
    assert_eq!(kind, ErrorKind::StorageFull);
    assert!(words.contains("18446744073709551615 bytes are needed"), "{words}");
    assert!(words.contains(case.data().to_str().unwrap()), "{words}");
    // What was tried is gone.
    assert_eq!(fs::read_dir(case.data()).unwrap().count(), 1);
    fs::remove_dir_all(case.data()).unwrap();
    let (kind, _) = room(1).unwrap_err();
    assert_eq!(kind, ErrorKind::NotFound);
}
