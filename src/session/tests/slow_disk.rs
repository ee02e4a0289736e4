//! A disk that takes longer than every deadline of the session: no timer may fire again and again at one moment.

use super::*;
use crate::limits::{SAVE_AFTER, STOP_BUDGET};

#[test]
fn removed_torrent_waits_for_a_disk_that_is_slow_to_close_it() {
    let mut b = Bench::new();
    let torrent = b.open("a", Bitfield::default());
    b.tell(Event::Command(Command::Remove { number: 0 }));
    while b.s.report(b.now).is_some() {}
    b.pass(STOP_BUDGET);
    b.pass(10 * STOP_BUDGET);
    assert!(b.s.torrents.get(torrent).is_some());
    for lane in 0..2 {
        b.tell(Event::Done { lane, done: Done::Closed { torrent } });
    }
    while b.s.report(b.now).is_some() {}
    assert!(b.s.torrents.get(torrent).is_none());
}

#[test]
fn resume_record_is_saved_again_after_a_slow_save_is_done() {
    let mut b = Bench::new();
    let mut spec = Arc::into_inner(spec("a")).unwrap();
    spec.state_dir = Some("/state".into());
    let torrent = b.add(Arc::new(spec), Bitfield::default());
    let saves = |b: &Bench| {
        let is_save = |action: &&Action| matches!(action, Action::Job { job: Job::Save { .. }, .. });
        b.done.iter().filter(is_save).count()
    };
    for _ in 0..2 {
        let at = b.s.torrents.get_mut(torrent).unwrap().save_soon(b.now);
        b.s.arm_torrent(torrent, at);
        b.pass(SAVE_AFTER);
    }
    assert_eq!(saves(&b), 1);
    b.tell(Event::Done { lane: 0, done: Done::Saved { torrent } });
    b.pass(Duration::from_secs(1));
    assert_eq!(saves(&b), 2);
}
