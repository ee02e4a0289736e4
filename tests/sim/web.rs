//! Web seeds: servers that do as a script says, and the threads that fetch from them.

use super::disk::fill;
use super::*;
use ptorrent::api::{Command, WebFailure, WebGet, WebOrder, WebPart, WebSaid};
use ptorrent::base::buf::Buf;
use ptorrent::base::rng::Rng;
use ptorrent::proto::layout::Block;
use std::collections::VecDeque;

/// A server.
#[derive(Clone)]
pub(crate) struct Server {
    /// Bytes a second for each thread.
    pub(crate) rate: u64,
    /// Until the first byte of an answer.
    pub(crate) delay: Duration,
    /// Of so many blocks one is wrong; 0: none.
    pub(crate) lies: u32,
    /// After so many blocks it fails like this; 0: never.
    pub(crate) fails: (u32, WebFailure),
    /// It says nothing more after so many blocks; 0: never.
    pub(crate) dies: u32,
    /// It has no ranges.
    pub(crate) whole: bool,
}

impl Default for Server {
    fn default() -> Server {
        let fails = (0, WebFailure::Network(String::new()));
        Server { rate: 5 << 20, delay: Duration::from_millis(20), lies: 0, fails, dies: 0, whole: false }
    }
}

/// What a thread of a node has in hand.
#[derive(Default)]
pub(crate) struct Thread {
    gets: VecDeque<Get>,
    bufs: VecDeque<Buf>,
    failed: bool,
    /// Something of it is on its way.
    pub(crate) busy: bool,
    /// It has asked for nothing since it had all.
    pub(crate) idle: bool,
    blocks: u32,
    pub(crate) orders: u32,
    /// Blocks in orders, and the most of them in one.
    pub(crate) ranges: u32,
    /// Where a server without ranges is in its file; how often it began, and what came in vain.
    at: Option<u64>,
    pub(crate) starts: u32,
    pub(crate) skipped: u64,
}

/// A part of an order: its blocks, the host, where in the file it begins, and whether whole files are taken.
struct Get {
    blocks: Vec<Block>,
    host: String,
    from: u64,
    whole: bool,
    /// It is the last part of one.
    last: bool,
}

impl Server {
    /// Whether nothing more comes to this thread.
    pub(crate) fn is_dead(&self, thread: &Thread) -> bool {
        self.dies > 0 && thread.blocks >= self.dies
    }
}

impl Thread {
    /// Whether it has this block in hand.
    pub(crate) fn fetches(&self, block: Block) -> bool {
        self.gets.iter().any(|get| get.blocks.contains(&block))
    }

    /// Takes an order; gives what it says at once.
    pub(crate) fn order(&mut self, order: WebOrder) -> Vec<WebSaid> {
        match order {
            WebOrder::Get(get) => {
                if !self.failed {
                    self.orders += 1;
                    self.ranges += get.parts.len() as u32;
                    self.gets.extend(taken(*get));
                }
                Vec::new()
            }
            WebOrder::Lend(buf) if self.failed => vec![WebSaid::Back(buf)],
            WebOrder::Lend(buf) => {
                self.bufs.push_back(buf);
                Vec::new()
            }
            WebOrder::Stop => {
                self.failed = false;
                self.gets.clear();
                self.at = None;
                self.back(WebSaid::Stopped)
            }
        }
    }

    fn back(&mut self, last: WebSaid) -> Vec<WebSaid> {
        self.bufs.drain(..).map(WebSaid::Back).chain([last]).collect()
    }

    /// The host of what comes next, and how many bytes, if there is room for them.
    pub(crate) fn next(&self) -> Option<(&str, u32)> {
        let get = self.gets.front()?;
        self.bufs.front()?;
        Some((&get.host, get.blocks.first()?.len))
    }

    /// Something comes from the server.
    pub(crate) fn turn(&mut self, server: &Server, rng: &mut Rng) -> Vec<WebSaid> {
        let Some(get) = self.gets.front() else { return Vec::new() };
        if server.dies > 0 && self.blocks >= server.dies {
            return Vec::new();
        }
        if server.fails.0 > 0 && self.blocks >= server.fails.0 {
            return self.fail(server.fails.1.clone());
        }
        if server.whole && !get.whole {
            return self.fail(WebFailure::NoRanges);
        }
        let from = get.from;
        let Some(mut buf) = self.bufs.pop_front() else { return Vec::new() };
        if server.whole {
            self.read_to(from);
        }
        let Some(Get { blocks, from, last, .. }) = self.gets.front_mut() else { return Vec::new() };
        let block = blocks.remove(0);
        *from += u64::from(block.len);
        self.at = Some(*from);
        self.blocks += 1;
        fill(block, buf.space());
        if server.lies > 0 && rng.below(server.lies) == 0 {
            buf.space()[0] ^= 1;
        }
        let mut said = vec![WebSaid::Block(block, buf)];
        if blocks.is_empty() {
            said.extend(last.then_some(WebSaid::Done));
            self.gets.pop_front();
            self.idle = self.gets.is_empty();
        }
        said
    }

    fn fail(&mut self, failure: WebFailure) -> Vec<WebSaid> {
        (self.blocks, self.failed, self.at) = (0, true, None);
        self.gets.clear();
        self.back(WebSaid::Failed(failure))
    }

    /// Reads a file without ranges up to there, from its start if that has passed.
    fn read_to(&mut self, from: u64) {
        let at = self.at.filter(|at| *at <= from).unwrap_or_else(|| {
            self.starts += 1;
            0
        });
        self.skipped += from - at;
    }
}

/// Of one file; blocks of an order in a file without ranges follow one another but for a gap at most.
fn taken(get: WebGet) -> Vec<Get> {
    let mut blocks = get.blocks.into_iter();
    let mut gets = Vec::new();
    for part in &get.parts {
        let WebPart::Range { url, from, len, .. } = part else { continue };
        let (mut left, mut own) = (*len, Vec::new());
        while left > 0
            && let Some(block) = blocks.next()
        {
            left -= u64::from(block.len);
            own.push(block);
        }
        let (host, whole) = (url.authority(), get.skip_rate.is_some());
        gets.push(Get { blocks: own, host, from: *from, whole, last: false });
    }
    gets.iter_mut().next_back().into_iter().for_each(|get| get.last = true);
    gets
}

fn with_seeds(pieces: u32, piece_length: u32, hosts: &[&str]) -> Arc<Spec> {
    spec(pieces, piece_length, |s| {
        s.web_seeds = hosts.iter().map(|h| Url::parse(&format!("http://{h}/f")).expect("a URL")).collect();
    })
}

/// Payload that came from servers.
fn fetched(w: &World, node: NodeId) -> u64 {
    w.nodes[node].seen.fetched
}

#[test]
fn a_web_seed_alone_is_enough_and_goes_at_its_full_rate() {
    let mut w = World::new(seed());
    let spec = with_seeds(200, 256 << 10, &["192.0.2.1"]);
    w.serve("192.0.2.1", Server::default());
    let leech = leecher(&mut w, &spec, Link::default());
    // 50 MiB at 5 MiB/s.
    finish(&mut w, &[leech], Duration::from_secs(2 + 11));
    let (total, seen) = (spec.meta.layout.total(), &w.nodes[leech].seen);
    assert_eq!((seen.downloaded, fetched(&w, leech)), (total, total), "nothing comes twice");
    assert!(seen.errors.is_empty() && seen.warnings == 0, "{seen:?}");
    let (orders, ranges) = w.orders(leech);
    // The runs are long: pieces in a row are one range.
    assert!(orders < 40 && ranges < 2 * orders, "{ranges} ranges in {orders} orders");
}

#[test]
fn a_web_seed_without_ranges_is_read_once_at_its_full_rate() {
    let mut w = World::new(seed());
    let spec = with_seeds(200, 256 << 10, &["192.0.2.1"]);
    w.serve("192.0.2.1", Server { whole: true, ..Server::default() });
    let leech = leecher(&mut w, &spec, Link::default());
    // 50 MiB at 5 MiB/s.
    finish(&mut w, &[leech], Duration::from_secs(2 + 11));
    let (total, seen) = (spec.meta.layout.total(), &w.nodes[leech].seen);
    assert_eq!((seen.downloaded, fetched(&w, leech)), (total, total), "nothing comes twice");
    assert!(seen.errors.is_empty() && seen.warnings == 0, "{seen:?}");
    assert_eq!(w.passes(leech), (1, 0));
}

#[test]
fn what_is_here_is_skipped_where_there_are_no_ranges() {
    let mut w = World::new(seed());
    let spec = with_seeds(200, 256 << 10, &["192.0.2.1"]);
    w.serve("192.0.2.1", Server { whole: true, ..Server::default() });
    let mut part = Disk::empty(200, 2);
    part.set_good(0..50);
    part.set_good(100..150);
    let leech = w.add(Link::default(), part, |_| {});
    w.start(leech, &spec, NOW);
    finish(&mut w, &[leech], Duration::from_secs(20));
    // The last block is short.
    assert_eq!((fetched(&w, leech), w.passes(leech)), ((25 << 20) - 5, (1, 25 << 20)));
}

#[test]
fn web_seeds_without_ranges_and_peers_share_the_work() {
    let mut w = World::new(seed());
    let spec = with_seeds(400, 256 << 10, &["192.0.2.1", "192.0.2.2", "192.0.2.3"]);
    for host in ["192.0.2.1", "192.0.2.2"] {
        w.serve(host, Server { whole: true, ..Server::default() });
    }
    w.serve("192.0.2.3", Server { rate: 2 << 20, ..Server::default() });
    seeder(&mut w, &spec, Link { rate: 5 << 20, ..Link::default() });
    let leech = leecher(&mut w, &spec, Link { rate: 100 << 20, ..Link::default() });
    // 100 MiB at 12 MiB/s, and dialling.
    finish(&mut w, &[leech], Duration::from_secs(2 + 13));
    let (total, all) = (spec.meta.layout.total(), w.nodes[leech].seen.downloaded);
    assert!(all < total + total / 50, "{all} for {total}: too much comes twice");
    let (starts, skipped) = w.passes(leech);
    assert!(starts <= 3 && skipped < total, "{starts} starts, {skipped} bytes skipped");
}

#[test]
fn a_web_seed_without_ranges_that_breaks_off_is_not_read_for_nothing() {
    let mut w = World::new(seed());
    let spec = with_seeds(400, 256 << 10, &["192.0.2.1", "192.0.2.2"]);
    // It gives 4 MiB of 100 each time.
    let broken = WebFailure::Network("the connection broke".into());
    let server = Server { whole: true, fails: (256, broken), rate: 50 << 20, ..Server::default() };
    w.serve("192.0.2.1", server);
    w.serve("192.0.2.2", Server { rate: 1 << 10, dies: 1, ..Server::default() });
    let leech = leecher(&mut w, &spec, Link::default());
    w.run(30 * MINUTE, |_| false);
    let (came, (starts, skipped)) = (fetched(&w, leech), w.passes(leech));
    assert!(
        came >= 40 << 20 && skipped < 8 * came + (100 << 20),
        "{came} in {starts} starts, {skipped} skipped"
    );
    assert_eq!(w.nodes[leech].seen.warnings, 1, "it is said when it is not used any more");
    wind_up(&mut w);
}

#[test]
fn web_seeds_and_peers_share_the_work() {
    let mut w = World::new(seed());
    let spec = with_seeds(400, 256 << 10, &["192.0.2.1", "192.0.2.2"]);
    w.serve("192.0.2.1", Server::default());
    w.serve("192.0.2.2", Server { rate: 2 << 20, ..Server::default() });
    seeder(&mut w, &spec, Link { rate: 5 << 20, ..Link::default() });
    let leech = leecher(&mut w, &spec, Link { rate: 100 << 20, ..Link::default() });
    // 100 MiB at 12 MiB/s, and dialling.
    finish(&mut w, &[leech], Duration::from_secs(2 + 12));
    let total = spec.meta.layout.total();
    let (all, web) = (w.nodes[leech].seen.downloaded, fetched(&w, leech));
    assert!(web > total / 3 && web < total * 8 / 10, "{web} of {total} from web seeds");
    assert!(all < total + total / 50, "{all} for {total}: too much comes twice");
}

#[test]
fn a_web_seed_that_lies_is_not_asked_again() {
    let mut w = World::new(seed());
    let spec = with_seeds(100, 256 << 10, &["192.0.2.1", "192.0.2.2"]);
    w.serve("192.0.2.1", Server { lies: 200, ..Server::default() });
    w.serve("192.0.2.2", Server { rate: 1 << 20, ..Server::default() });
    let leech = leecher(&mut w, &spec, Link::default());
    finish(&mut w, &[leech], Duration::from_secs(60));
    let errors = &w.nodes[leech].seen.errors;
    let told = |(reason, words): &(Reason, String)| {
        *reason == Reason::Hash && words.contains("http://192.0.2.1/") && words.contains("corrupt")
    };
    assert!(errors.len() == 1 && told(&errors[0]), "{errors:?}");
}

#[test]
fn one_lie_among_blocks_of_peers_is_laid_at_the_right_door() {
    let mut w = World::new(seed());
    let spec = with_seeds(60, 256 << 10, &["192.0.2.1"]);
    w.serve("192.0.2.1", Server { lies: 20, rate: 1 << 20, ..Server::default() });
    for _ in 0..2 {
        seeder(&mut w, &spec, Link { rate: 1 << 20, ..Link::default() });
    }
    let leech = leecher(&mut w, &spec, Link::default());
    finish(&mut w, &[leech], Duration::from_secs(90));
    let errors = &w.nodes[leech].seen.errors;
    assert!(errors.iter().all(|(_, words)| words.contains("web seed")) && errors.len() == 1, "{errors:?}");
}

#[test]
fn a_web_seed_that_breaks_off_is_asked_again() {
    let mut w = World::new(seed());
    let spec = with_seeds(100, 64 << 10, &["192.0.2.1"]);
    let broken = WebFailure::Network("the connection broke".into());
    w.serve("192.0.2.1", Server { fails: (100, broken), ..Server::default() });
    let leech = leecher(&mut w, &spec, Link::default());
    finish(&mut w, &[leech], Duration::from_secs(30));
    assert_eq!(w.nodes[leech].seen.warnings, 0, "what goes on at once is no news");
}

#[test]
fn one_that_is_busy_is_left_alone_for_as_long_as_it_says() {
    let mut w = World::new(seed());
    let spec = with_seeds(100, 64 << 10, &["192.0.2.1"]);
    let busy = WebFailure::Busy { status: 503, after: Some(Duration::from_secs(120)) };
    w.serve("192.0.2.1", Server { fails: (50, busy), ..Server::default() });
    let leech = leecher(&mut w, &spec, Link::default());
    w.run(Duration::from_secs(100), |_| false);
    let (orders, _) = w.orders(leech);
    assert!(orders <= 3, "{orders} orders");
    assert_eq!(w.nodes[leech].seen.warnings, 1);
    finish(&mut w, &[leech], 30 * MINUTE);
}

#[test]
fn one_that_is_of_no_use_is_dropped_with_a_word_and_peers_go_on() {
    let mut w = World::new(seed());
    let spec = with_seeds(40, 256 << 10, &["192.0.2.1"]);
    let useless = WebFailure::Useless("it does not serve parts of files (ranges)".into());
    w.serve("192.0.2.1", Server { fails: (1, useless), ..Server::default() });
    seeder(&mut w, &spec, Link::default());
    let leech = leecher(&mut w, &spec, Link::default());
    finish(&mut w, &[leech], Duration::from_secs(12));
    assert_eq!((w.nodes[leech].seen.warnings, w.orders(leech).0 <= 2), (1, true));
}

#[test]
fn what_a_silent_server_was_asked_for_is_asked_of_peers_in_the_end() {
    let mut w = World::new(seed());
    let spec = with_seeds(40, 256 << 10, &["192.0.2.1"]);
    w.serve("192.0.2.1", Server { dies: 3, ..Server::default() });
    seeder(&mut w, &spec, Link::default());
    let leech = leecher(&mut w, &spec, Link::default());
    finish(&mut w, &[leech], Duration::from_secs(20));
}

#[test]
fn the_rate_limit_holds_for_web_seeds_and_is_used_up() {
    const RATE: u64 = 1 << 20;
    let mut w = World::new(seed());
    let spec = with_seeds(200, 256 << 10, &["192.0.2.1"]);
    w.serve("192.0.2.1", Server { rate: 50 << 20, ..Server::default() });
    let leech = w.add(Link::default(), Disk::empty(200, 2), |c| c.max_download_rate = RATE);
    w.start(leech, &spec, NOW);
    w.run(Duration::from_secs(5), |_| false);
    let mut last = fetched(&w, leech);
    let start = last;
    for _ in 0..20 {
        w.run(Duration::from_secs(1), |_| false);
        let now = fetched(&w, leech);
        assert!(now - last <= RATE + RATE / 4 + (64 << 10), "{} in one second", now - last);
        last = now;
    }
    let mean = (last - start) / 20;
    assert!(mean.abs_diff(RATE) < RATE / 50, "{mean} B/s");
    finish(&mut w, &[leech], 2 * MINUTE);
}

#[test]
fn who_pauses_fetches_nothing_more_and_goes_on_later() {
    let mut w = World::new(seed());
    let spec = with_seeds(100, 256 << 10, &["192.0.2.1"]);
    w.serve("192.0.2.1", Server::default());
    let leech = leecher(&mut w, &spec, Link::default());
    w.run(Duration::from_secs(4), |_| false);
    w.command(leech, Command::Pause { number: 0 });
    w.run(Duration::from_secs(1), |_| false);
    let before = fetched(&w, leech);
    assert!(before > 0 && w.nodes[leech].pool.out() == 0, "{} buffers are out", w.nodes[leech].pool.out());
    w.run(Duration::from_secs(20), |_| false);
    assert_eq!(fetched(&w, leech), before);
    w.command(leech, Command::Resume { number: 0 });
    finish(&mut w, &[leech], Duration::from_secs(12));
}

#[test]
fn who_has_all_or_only_seeds_asks_no_web_seed() {
    let mut w = World::new(seed());
    let spec = with_seeds(20, 64 << 10, &["192.0.2.1"]);
    w.serve("192.0.2.1", Server::default());
    let full = seeder(&mut w, &spec, Link::default());
    let mut part = Disk::empty(20, 2);
    part.set_good(0..7);
    let only = self::spec(20, 64 << 10, |s| {
        s.seed_only = true;
        s.web_seeds.clone_from(&spec.web_seeds);
    });
    let seeds = w.add(Link::default(), part, |_| {});
    w.start(seeds, &only, NOW);
    w.run(MINUTE, |_| false);
    assert_eq!((w.orders(full).0, w.orders(seeds).0), (0, 0));
    wind_up(&mut w);
}

#[test]
fn many_torrents_share_the_threads() {
    let mut w = World::new(seed());
    w.serve("192.0.2.1", Server { rate: 1 << 20, ..Server::default() });
    let link = Link { rate: 100 << 20, ..Link::default() };
    let specs: Vec<_> = (0..20)
        .map(|n| {
            spec(8, 256 << 10, |s| {
                s.meta = named(&format!("file {n}"), 8, 256 << 10);
                s.web_seeds = vec![Url::parse("http://192.0.2.1/f").expect("a URL")];
            })
        })
        .collect();
    let node = w.add(link, Disk::empty(8, 2), |_| {});
    for (number, spec) in (0..).zip(&specs) {
        w.nodes[node].disks.insert(spec.meta.info_hash, Disk::empty(8, 2));
        w.start_as(node, number, spec, NOW);
    }
    // 40 MiB over 8 threads of 1 MiB/s.
    let all = |w: &World| w.nodes[node].seen.each.values().filter(|e| e.complete.is_some()).count() == 20;
    assert!(w.run(Duration::from_secs(15), all), "{:?}", w.nodes[node].seen.each);
    wind_up(&mut w);
}

#[test]
fn chaos_of_web_seeds_and_peers_ends_well() {
    for n in 0..12 {
        let mut w = World::new(seed() * 1000 + n);
        let hosts = ["192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4"];
        let spec = with_seeds(60, 64 << 10, &hosts);
        let fails = [
            WebFailure::Network("the connection broke".into()),
            WebFailure::Busy { status: 429, after: None },
            WebFailure::Missing { file: 0, why: "HTTP status 404".into() },
            WebFailure::Useless("HTTP status 418".into()),
        ];
        for (host, failure) in hosts.iter().zip(fails) {
            let mut server = Server { rate: 1 << (16 + w.rng.below(6)), ..Server::default() };
            server.fails = (w.rng.below(60), failure);
            server.whole = w.rng.below(3) == 0;
            server.lies = if w.rng.below(3) == 0 { 1 + w.rng.below(100) } else { 0 };
            w.serve(host, server);
        }
        seeder(&mut w, &spec, Link { rate: 1 << 18, ..Link::default() });
        let leech = leecher(&mut w, &spec, Link::default());
        w.run(Duration::from_secs(2), |_| false);
        for step in 0..5 {
            let span = Duration::from_millis(u64::from(w.rng.below(2000)));
            w.run(span, |_| false);
            let (pause, resume) = (Command::Pause { number: 0 }, Command::Resume { number: 0 });
            w.command(leech, if step % 2 == 0 { pause } else { resume });
        }
        w.command(leech, Command::Resume { number: 0 });
        finish(&mut w, &[leech], 10 * MINUTE);
    }
}
