//! Who gets on with whom where some encrypt and others do not.

use super::*;
use ptorrent::api::Encryption;

fn node(w: &mut World, spec: &Arc<Spec>, disk: Disk, encryption: Encryption) -> NodeId {
    let node = w.add(Link::default(), disk, |c| c.encryption = encryption);
    let after = w.rng.below(5000);
    w.start(node, spec, Duration::from_millis(u64::from(after)));
    node
}

#[test]
fn a_mixed_swarm_finds_to_each_other() {
    let mut w = World::new(seed());
    let spec = spec(64, 64 << 10, |_| {});
    // Those without encryption and those who require it never meet: the others carry the pieces between them.
    let kinds = [Encryption::Disabled, Encryption::Enabled, Encryption::Required];
    node(&mut w, &spec, Disk::full(64, 2), Encryption::Required);
    let all: Vec<NodeId> = (0..24).map(|n| node(&mut w, &spec, Disk::empty(64, 2), kinds[n % 3])).collect();
    finish(&mut w, &all, 20 * MINUTE);
    let seen = |n: usize| &w.nodes[all[n]].seen;
    for n in (0..24).step_by(3) {
        assert_eq!(seen(n).encrypted, 0);
        assert!(seen(n + 1).encrypted > 0 && seen(n + 2).encrypted > 0);
        assert!(seen(n + 2).closed.contains(&Why::Unencrypted), "nobody called in the clear");
        assert!(!seen(n + 1).closed.contains(&Why::Unencrypted));
    }
}

#[test]
fn who_is_not_there_is_called_as_often_as_without_encryption() {
    let calls = |encryption: Encryption| {
        let mut w = World::new(seed());
        let spec = spec(4, 64 << 10, |_| {});
        let gone: Vec<NodeId> = (0..20)
            .map(|_| {
                let node = w.add(Link::default(), Disk::empty(4, 2), |_| {});
                w.list(node);
                w.kill(node, NOW);
                node
            })
            .collect();
        let lonely = node(&mut w, &spec, Disk::empty(4, 2), encryption);
        w.run(10 * MINUTE, |_| false);
        let calls = &w.nodes[lonely].seen.calls;
        let all: u32 = gone.iter().map(|node| calls.get(&w.nodes[*node].addr).copied().unwrap_or(0)).sum();
        wind_up(&mut w);
        all
    };
    let plain = calls(Encryption::Disabled);
    assert!(plain >= 40, "{plain} calls");
    assert_eq!(calls(Encryption::Enabled), plain);
    assert_eq!(calls(Encryption::Required), plain);
}
