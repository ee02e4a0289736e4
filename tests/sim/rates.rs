//! Rate limits: exact, without bursts, fair.

use super::*;

/// Near enough not to hold any of the rates back.
const NEAR: Link = Link { delay: Duration::from_millis(1), rate: 1 << 30 };

/// A torrent that is not over within `seconds` at `rate`.
fn endless(rate: u64, seconds: u64) -> Arc<Spec> {
    let pieces = 64 + rate * seconds / (1 << 20);
    spec(pieces as u32, 1 << 20, |_| {})
}

/// Looks at `counter` for `span`, in steps of a second: bytes a second in the mean, and the most of a second.
fn measure(w: &mut World, span: u64, counter: impl Fn(&World) -> u64) -> (u64, u64) {
    let start = counter(w);
    let (mut last, mut most) = (start, 0);
    for _ in 0..span {
        w.run(Duration::from_secs(1), |_| false);
        most = most.max(counter(w) - last);
        last = counter(w);
    }
    ((last - start) / span, most)
}

fn within(what: &str, rate: u64, mean: u64, most: u64, shares: &[u64]) {
    let off = (mean as f64 / rate as f64 - 1.0) * 100.0;
    figure(format_args!("{what} at {rate} B/s: {off:+.2} %, most of a second {most}, shares {shares:?}"));
    assert!(off.abs() < 2.0, "{mean} B/s of {rate}");
    assert!(most <= rate + rate / 4 + (64 << 10), "{most} in one second of {rate}");
    let fair = shares.iter().sum::<u64>() / shares.len() as u64;
    assert!(shares.iter().all(|s| s.abs_diff(fair) <= fair / 10), "shares of {fair}: {shares:?}");
}

fn upload(rate: u64, span: u64) {
    let mut w = World::new(seed());
    let spec = endless(rate, span + 12);
    let pieces = spec.meta.layout.pieces();
    let from = w.add(NEAR, Disk::full(pieces, 4), |c| {
        (c.max_upload_rate, c.max_upload, c.lanes) = (rate, 8, 4);
    });
    w.nodes[from].disk.rate = 1 << 30;
    w.start(from, &spec, NOW);
    let takers: Vec<NodeId> = (0..5)
        .map(|_| {
            let node = w.add(NEAR, Disk::empty(pieces, 2), |c| c.max_upload = 0);
            w.nodes[node].disk.rate = 1 << 30;
            w.start(node, &spec, Duration::from_secs(1));
            node
        })
        .collect();
    w.run(Duration::from_secs(6), |_| false);
    let before: Vec<u64> = takers.iter().map(|n| w.nodes[*n].seen.got).collect();
    let (mean, most) = measure(&mut w, span, |w| w.nodes[from].seen.sent);
    let shares: Vec<u64> = takers.iter().zip(before).map(|(n, b)| w.nodes[*n].seen.got - b).collect();
    within("upload", rate, mean, most, &shares);
    wind_up(&mut w);
}

fn download(rate: u64, span: u64) {
    let mut w = World::new(seed());
    let spec = endless(rate, span + 12);
    let pieces = spec.meta.layout.pieces();
    let seeds: Vec<NodeId> = (0..5)
        .map(|_| {
            let node = w.add(NEAR, Disk::full(pieces, 2), |_| {});
            w.nodes[node].disk.rate = 1 << 30;
            w.start(node, &spec, NOW);
            node
        })
        .collect();
    let leech = w.add(NEAR, Disk::empty(pieces, 4), |c| (c.max_download_rate, c.lanes) = (rate, 4));
    w.nodes[leech].disk.rate = 1 << 30;
    w.start(leech, &spec, Duration::from_secs(1));
    w.run(Duration::from_secs(6), |_| false);
    let before: Vec<u64> = seeds.iter().map(|n| w.nodes[*n].seen.sent).collect();
    let (mean, most) = measure(&mut w, span, |w| w.nodes[leech].seen.got);
    let shares: Vec<u64> = seeds.iter().zip(before).map(|(n, b)| w.nodes[*n].seen.sent - b).collect();
    within("download", rate, mean, most, &shares);
    wind_up(&mut w);
}

#[test]
fn uploads_keep_to_64_kib_a_second() {
    upload(64 << 10, 60);
}

#[test]
fn uploads_keep_to_1_mib_a_second() {
    upload(1 << 20, 30);
}

#[test]
fn uploads_keep_to_100_mib_a_second() {
    upload(100 << 20, 3);
}

#[test]
fn downloads_keep_to_64_kib_a_second() {
    download(64 << 10, 60);
}

#[test]
fn downloads_keep_to_1_mib_a_second() {
    download(1 << 20, 30);
}

#[test]
fn downloads_keep_to_100_mib_a_second() {
    download(100 << 20, 3);
}

#[test]
fn a_limit_is_kept_though_peers_choke_vanish_and_snub() {
    let mut w = World::new(seed());
    let rate = 512 << 10;
    let spec = endless(rate, 200);
    let pieces = spec.meta.layout.pieces();
    let hash = spec.meta.info_hash;
    let mute = w.add_script(NEAR, move || Box::new(hostile::Mute::new(hash, pieces)));
    w.list(mute);
    // One slot for two: it chokes now and then.
    for _ in 0..3 {
        let node = w.add(NEAR, Disk::full(pieces, 2), |c| c.max_upload = 1);
        w.start(node, &spec, NOW);
    }
    let leech = w.add(NEAR, Disk::empty(pieces, 2), |c| c.max_download_rate = rate);
    w.start(leech, &spec, Duration::from_secs(1));
    let other = w.add(NEAR, Disk::empty(pieces, 2), |c| (c.max_upload, c.max_download_rate) = (0, rate));
    w.start(other, &spec, Duration::from_secs(1));
    w.kill(mute + 1, Duration::from_secs(50));
    w.run(Duration::from_secs(6), |_| false);
    let (mean, most) = measure(&mut w, 120, |w| w.nodes[leech].seen.got);
    figure(format_args!("{mean} B/s of {rate}, most of a second {most}"));
    assert!(mean <= rate + rate / 50 && most <= 2 * rate, "never above the limit");
    assert!(mean >= rate / 4, "and not far below");
    wind_up(&mut w);
}
