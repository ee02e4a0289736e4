//! What peers ask of us.

use super::*;
use crate::api::DiskError;
use crate::limits::READ_BATCH;

/// A torrent of which we have all, and a peer that we serve.
fn served() -> (Bench, TorrentId, PeerId) {
    let mut b = Bench::new();
    let torrent = b.seed("a");
    let peer = b.peer(torrent, 1);
    b.tell(Event::Message { peer, message: Message::Interested });
    b.pass(CHOKE_REST);
    (b, torrent, peer)
}

fn block(piece: u32, at: u32) -> Block {
    Block { piece, begin: at * BLOCK, len: BLOCK }
}

/// What was to be read since `from`.
fn reads(b: &Bench, from: usize) -> Vec<Vec<Block>> {
    let read = |action: &Action| match action {
        Action::Read { blocks, .. } => Some(blocks.clone()),
        _ => None,
    };
    b.done[from..].iter().filter_map(read).collect()
}

/// A worker's answer to a read.
fn answer(
    b: &mut Bench,
    pool: &mut Pool,
    (torrent, peer): (TorrentId, PeerId),
    blocks: &[Block],
    failed_at: Option<usize>,
) -> usize {
    let blocks = blocks.iter().map(|block| (*block, pool.take().unwrap())).collect();
    let error =
        || DiskError { op: "read", path: "a".into(), source: std::io::ErrorKind::UnexpectedEof.into() };
    let done = Done::Read { torrent, peer, blocks, failed: failed_at.map(|at| (at, error())) };
    b.tell(Event::Done { lane: 0, done })
}

#[test]
fn requests_gather_while_others_are_read() {
    let (mut b, torrent, peer) = served();
    let mut pool = Pool::new(SEND_BUFS).unwrap();
    let from = b.done.len();
    for at in 0..10 {
        b.tell(Event::Message { peer, message: Message::Request(block(1, at)) });
    }
    let first = reads(&b, from);
    assert_eq!(first, [[block(1, 0)]], "the first one waits for nothing");
    let from = answer(&mut b, &mut pool, (torrent, peer), &first[0], None);
    let rest: Vec<Block> = (1..10).map(|at| block(1, at)).collect();
    assert_eq!(reads(&b, from), [rest]);
    // As many as a job may have do not wait.
    let from = b.done.len();
    for at in 10..10 + READ_BATCH as u32 + 5 {
        b.tell(Event::Message { peer, message: Message::Request(block(1, at)) });
    }
    assert_eq!(reads(&b, from).iter().map(Vec::len).collect::<Vec<_>>(), [READ_BATCH]);
}

#[test]
fn what_comes_after_a_block_that_cannot_be_read_is_read_again() {
    let (mut b, torrent, peer) = served();
    let mut pool = Pool::new(SEND_BUFS).unwrap();
    b.tell(Event::Message { peer, message: Message::Request(block(1, 0)) });
    for wanted in [block(2, 0), block(3, 0), block(3, 1), block(4, 0)] {
        b.tell(Event::Message { peer, message: Message::Request(wanted) });
    }
    let from = answer(&mut b, &mut pool, (torrent, peer), &[block(1, 0)], None);
    let job = reads(&b, from).remove(0);
    assert_eq!(job.len(), 4);
    let from = answer(&mut b, &mut pool, (torrent, peer), &job, Some(1));
    let sent = |action: &Action| match action {
        Action::SendBlock { block, .. } => Some(*block),
        _ => None,
    };
    let sent: Vec<Block> = b.done[from..].iter().filter_map(sent).collect();
    assert_eq!(sent, [block(2, 0)]);
    assert_eq!(reads(&b, from), [[block(4, 0)]], "piece 3 is lost, and none of it is tried again");
    let home = b.done.drain(from..).filter(|action| matches!(action, Action::Release(_))).count();
    assert_eq!(home, 3, "the buffers of what was not sent are home");
}
