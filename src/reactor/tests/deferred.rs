//! What finds no free buffer, or no room in a channel, waits and loses nothing.

use super::*;
use crate::api::Action;
use std::sync::Mutex;

fn block(piece: u32) -> Block {
    Block { piece, begin: 0, len: BLOCK }
}

/// Takes all buffers out of the pool.
fn drain(b: &mut Bench) -> Vec<crate::base::buf::Buf> {
    std::iter::from_fn(|| b.reactor.pool.take()).collect()
}

#[test]
fn a_read_waits_until_there_is_a_buffer_for_each_block() {
    let mut b = bench(2, |_, _| {});
    let mut bufs = drain(&mut b);
    let (torrent, blocks) = (TorrentId::from_bits(0), vec![block(0), block(1)]);
    b.reactor.act(Action::Read { lane: 0, torrent, peer: peer(0), blocks });
    for _ in 0..2 {
        assert!(b.jobs[0].try_recv().is_err());
        b.reactor.pool.put(bufs.pop().unwrap());
        b.quiet_turn();
    }
    let Ok(Job::Read { blocks, .. }) = b.jobs[0].try_recv() else { panic!("no read") };
    assert_eq!(blocks.iter().map(|(block, _)| block.piece).collect::<Vec<_>>(), [0, 1]);
    assert!(b.reactor.deferred.is_empty());
}

#[test]
fn an_admitted_block_waits_for_a_buffer_and_is_not_asked_about_again() {
    let mut b = bench(1, |_, _| {});
    let mut there = b.peer(0);
    let mut bufs = drain(&mut b);
    there.write_all(&[piece(7, 9000), piece(8, 10)].concat()).unwrap();
    b.until("p0.0 7 Take");
    assert_eq!((b.quiet_turn(), b.reactor.waiting), (vec!["p0.0 7 Take".into(), "tick".into()], 1));
    // In a turn it is something that happens that brings a buffer home.
    b.reactor.pool.put(bufs.pop().unwrap());
    b.quiet_turn();
    b.until("p0.0 8 block");
    assert_eq!(b.heard(), ["p0.0 7 block", "p0.0 8 Take", "p0.0 8 block"]);
    assert_eq!((b.reactor.session.payload.len(), b.reactor.waiting, b.reactor.pool.out()), (9010, 0, 0));
}

#[test]
fn a_connection_that_waits_for_a_buffer_may_close() {
    let mut b = bench(1, |_, _| {});
    let mut there = b.peer(0);
    let mut bufs = drain(&mut b);
    there.write_all(&piece(7, 9000)).unwrap();
    b.until("p0.0 7 Take");
    b.reactor.lose(peer(0), Why::Eof);
    b.reactor.pool.put(bufs.pop().unwrap());
    b.quiet_turn();
    b.quiet_turn();
    assert_eq!((b.reactor.deferred.len(), b.reactor.waiting, b.reactor.pool.out()), (0, 0, 0));
}

#[test]
fn jobs_wait_in_order_for_room_in_the_channel_of_their_worker() {
    let mut b = bench(1, |_, _| {});
    for n in 0..30 {
        b.reactor.act(Action::Job { lane: 0, job: Job::Close { torrent: TorrentId::from_bits(n) } });
    }
    let mut seen = Vec::new();
    while seen.len() < 30 {
        let closes = b.jobs[0].try_iter().map(|job| match job {
            Job::Close { torrent } => torrent.bits(),
            job => panic!("{job:?}"),
        });
        seen.extend(closes);
        b.quiet_turn();
    }
    assert_eq!(seen, Vec::from_iter(0..30));
}

#[test]
fn orders_to_web_seeds_wait_in_order_for_room_and_for_buffers() {
    let mut b = bench(3, |_, _| {});
    let (room, seen) = (Arc::new(Mutex::new(1)), Arc::new(Mutex::new(Vec::new())));
    let (room_left, log) = (room.clone(), seen.clone());
    b.reactor.links.web = Box::new(move |_, order| {
        let mut room = room_left.lock().unwrap();
        if *room == 0 {
            return Err(order);
        }
        *room -= 1;
        log.lock().unwrap().push(if matches!(order, WebOrder::Stop) { "stop" } else { "lend" });
        Ok(())
    });
    let held = b.reactor.pool.take();
    b.reactor.act(Action::Lend { slot: 0, count: 3 });
    b.reactor.act(Action::Web { slot: 0, order: WebOrder::Stop });
    assert_eq!((seen.lock().unwrap().len(), b.reactor.pool.free()), (1, 1));
    *room.lock().unwrap() = 9;
    b.quiet_turn();
    assert_eq!((seen.lock().unwrap().len(), b.reactor.pool.free()), (2, 0));
    b.reactor.pool.put(held.unwrap());
    b.quiet_turn();
    assert_eq!(*seen.lock().unwrap(), ["lend", "lend", "lend", "stop"]);
}
