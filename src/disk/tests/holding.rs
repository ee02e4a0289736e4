//! How long blocks are held before they are stored.

use super::*;

/// Reads that take far longer than blocks are held, on any machine.
const READS: usize = 200_000;

#[test]
fn a_piece_is_verified_while_reads_keep_its_worker_busy() {
    let (temp, mut rig) = (Temp::new(), Rig::new(1));
    let (meta, bytes) = torrent(&[("a", 2 * u64::from(BLOCK), false)], BLOCK, 1);
    let (id, _) = rig.open(spec(&temp.0, &meta)).unwrap();
    let (first, second) = (meta.layout.block(0, 0), meta.layout.block(1, 0));
    rig.write_all(id, &meta.layout, &bytes, &[first]);
    let read = |rig: &mut Rig| {
        let blocks = vec![(first, rig.pool.take().unwrap())];
        rig.send(0, Job::Read { torrent: id, peer: PeerId::from_bits(1), blocks });
    };
    // So many that the worker never finds its queue empty.
    (0..100).for_each(|_| read(&mut rig));
    rig.write(id, second, &bytes[BLOCK as usize..]);
    let mut written = None;
    for _ in 0..READS {
        match rig.hear() {
            Done::Read { blocks, .. } => {
                blocks.into_iter().for_each(|(_, buf)| rig.pool.put(buf));
                read(&mut rig);
            }
            Done::Written { buf, .. } => written = Some(buf),
            Done::Piece { verdict, .. } => {
                assert!(matches!(verdict, Verdict::Good { .. }) && written.is_some());
                return;
            }
            other => panic!("{other:?}"),
        }
    }
    panic!("the piece is not verified");
}
