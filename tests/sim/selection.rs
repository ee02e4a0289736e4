//! A selection of files: what the trackers hear of it (BEP 21).

use super::*;

const MIB: u64 = 1 << 20;

/// Files of 1, 3 and 1 MiB in pieces of 256 KiB.
fn three_files() -> Metainfo {
    let files: Vec<(Vec<String>, u64)> =
        (1u64..).zip([1, 3, 1]).map(|(n, mib)| (vec![n.to_string()], mib * MIB)).collect();
    let hashes = [0; 20 * 20];
    let plan = Plan::bare("folder", Content::Many(&files), 256 << 10, &hashes);
    Metainfo::parse(&build(&plan)).expect("a sound torrent")
}

/// What a peer announces that wants these files, and has the first pieces at the start.
fn announces(wanted: [bool; 3], have: u32) -> Vec<(Event, u64)> {
    let mut w = World::new(seed());
    let of = |wanted: &[bool]| {
        spec(20, 256 << 10, |spec| (spec.meta, spec.wanted) = (three_files(), wanted.to_vec()))
    };
    seeder(&mut w, &of(&[true; 3]), Link::default());
    let mut disk = Disk::empty(20, 2);
    disk.set_good(0..have);
    let leech = w.add(Link::default(), disk, |_| {});
    w.start(leech, &of(&wanted), Duration::from_secs(2));
    assert!(w.run(MINUTE, |w| complete(w, leech)));
    w.run(100 * MINUTE, |_| false);
    wind_up(&mut w);
    std::mem::take(&mut w.nodes[leech].seen.announces)
}

#[test]
fn a_selection_is_announced_as_a_part_of_the_torrent() {
    let seen = announces([true, false, false], 0);
    let (first, rest) = seen.split_first().expect("announces");
    assert_eq!(*first, (Event::Started, 5 * MIB));
    let (last, between) = rest.split_last().expect("announces");
    assert_eq!(*last, (Event::Stopped, 4 * MIB));
    assert!(
        between.len() >= 2 && between.iter().all(|seen| *seen == (Event::Paused, 4 * MIB)),
        "{between:?}"
    );
}

#[test]
fn a_partial_seed_is_one_after_a_restart_too() {
    let seen = announces([true, false, false], 4);
    assert_eq!(seen[..2], [(Event::Started, 4 * MIB), (Event::Paused, 4 * MIB)]);
}

#[test]
fn completed_is_announced_once_when_all_of_the_torrent_is_there() {
    for have in [0, 4] {
        let seen = announces([true; 3], have);
        let start = 5 * MIB - u64::from(have) * (256 << 10);
        assert_eq!(seen[..2], [(Event::Started, start), (Event::Completed, 0)]);
        assert!(!seen[2..].iter().any(|(event, _)| *event == Event::Completed), "{seen:?}");
    }
    let seen = announces([true; 3], 20);
    assert!(seen.iter().all(|(event, left)| *event != Event::Completed && *left == 0), "{seen:?}");
}
