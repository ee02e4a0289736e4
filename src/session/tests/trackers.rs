//! Many torrents and their trackers: nobody waits for a host that is dead but who has no other.

use super::*;
use crate::api::{Call, TrackerFailure};
use crate::limits::{ANNOUNCE_TIMEOUT, ASKS_MAX, CALLS_CHANCY, CALLS_OUT, CALLS_PER_HOST};
use crate::proto::tracker::Event as Said;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// How long a tracker that lives takes.
const BRISK: Duration = Duration::from_millis(50);

/// A session, and helpers that carry its calls out at once: hosts that begin with `dead` never answer.
struct Lab {
    b: Bench,
    /// The last report.
    last: Option<Report>,
    due: BinaryHeap<Reverse<(Time, usize)>>,
    calls: Vec<Call>,
    /// Host, torrent, event and moment of each call that went out.
    said: Vec<(String, TorrentId, Said, Time)>,
    out: BTreeMap<String, usize>,
    most: BTreeMap<String, usize>,
    all: usize,
}

fn host(call: &Call) -> String {
    match call {
        Call::Announce { url, .. } => url.authority(),
        Call::Resolve { host, .. } | Call::LookUp { host, .. } => host.clone(),
    }
}

impl Lab {
    fn new() -> Lab {
        let (due, calls, said) = (BinaryHeap::new(), Vec::new(), Vec::new());
        let (out, most) = (BTreeMap::new(), BTreeMap::new());
        Lab { b: Bench::new(), last: None, due, calls, said, out, most, all: 0 }
    }

    /// A torrent with these trackers, each a tier of its own.
    fn add(&mut self, name: &str, hosts: &[&str]) -> TorrentId {
        let url = |host: &&str| vec![Url::parse(&format!("http://{host}/announce")).unwrap()];
        let mut spec = Arc::into_inner(spec(name)).unwrap();
        spec.trackers = hosts.iter().map(url).collect();
        let id = self.b.add(Arc::new(spec), Bitfield::new(PIECES));
        self.hear();
        id
    }

    /// Takes what the session wants done.
    fn hear(&mut self) {
        for action in self.b.done.drain(..) {
            let Action::Call(call) = action else { continue };
            let (host, number) = (host(&call), self.calls.len());
            let Call::Announce { torrent, request, timeout, .. } = &*call else { continue };
            let takes = if host.starts_with("dead") { *timeout } else { BRISK };
            self.due.push(Reverse((self.b.now + takes, number)));
            self.said.push((host.clone(), *torrent, request.event, self.b.now));
            let out = self.out.entry(host.clone()).or_default();
            *out += 1;
            let most = self.most.entry(host).or_default();
            *most = (*most).max(*out);
            self.calls.push(*call);
            self.all = self.all.max(self.due.len());
        }
    }

    fn run(&mut self, span: Duration) {
        let end = self.b.now + span;
        loop {
            self.hear();
            let reply = self.due.peek().map_or(Time::NEVER, |Reverse((at, _))| *at);
            let timer = self.b.s.deadline().unwrap_or(Time::NEVER).max(self.b.now);
            let next = reply.min(timer);
            if next > end {
                self.b.now = end;
                return;
            }
            self.b.now = next;
            if timer < reply {
                self.b.tell(Event::Tick);
                self.listen();
                continue;
            }
            let Some(Reverse((_, number))) = self.due.pop() else { continue };
            let call = &self.calls[number];
            let host = host(call);
            *self.out.get_mut(&host).unwrap() -= 1;
            let result = if host.starts_with("dead") {
                Err(TrackerFailure::Network("no answer in time".into()))
            } else {
                Ok(Response { interval: Duration::from_secs(1800), ..Response::default() })
            };
            let Call::Announce { torrent, tracker, .. } = call else { continue };
            let reply = Reply::Announced { torrent: *torrent, tracker: *tracker, result };
            self.b.tell(Event::Reply(reply));
        }
    }

    fn listen(&mut self) {
        while let Some(report) = self.b.s.report(self.b.now) {
            self.last = Some(report);
        }
    }

    /// When each torrent that has spoken to this host first did.
    fn firsts(&self, host: &str) -> BTreeMap<TorrentId, Time> {
        let mut firsts = BTreeMap::new();
        for (to, torrent, _, at) in &self.said {
            if to == host {
                firsts.entry(*torrent).or_insert(*at);
            }
        }
        firsts
    }
}

#[test]
fn a_thousand_torrents_do_not_wait_for_a_few_dead_trackers() {
    let mut lab = Lab::new();
    let start = lab.b.now;
    for n in 0..1000 {
        let dead = format!("dead{}", n % 10);
        let hosts: &[&str] = if n % 2 == 0 { &[&dead, "good"] } else { &["good"] };
        lab.add(&n.to_string(), hosts);
    }
    lab.run(ANNOUNCE_TIMEOUT);
    let firsts = lab.firsts("good");
    assert_eq!(firsts.len(), 1000, "all have found the one that lives");
    let pace = |torrents: u32| BRISK * torrents / CALLS_PER_HOST as u32;
    assert!(firsts.values().all(|at| at.since(start) <= pace(1000) + BRISK));
    // It is not asked harder for that, and the dead ones one call at a time, for all torrents together.
    assert_eq!(lab.most["good"], CALLS_PER_HOST);
    assert!((0..5).all(|n| lab.most[&format!("dead{}", 2 * n)] == 1));
    lab.said.clear();
    lab.run(Duration::from_secs(4 * 3600));
    let dead = lab.said.iter().filter(|said| said.0.starts_with("dead")).count();
    assert!((5 * 5..5 * 20).contains(&dead), "the dead are tried again now and then: {dead}");
    assert!(lab.said.len() >= 1000 * 8);
}

#[test]
fn many_dead_hosts_leave_room_for_those_that_answer() {
    let mut lab = Lab::new();
    lab.add("first", &["good"]);
    lab.run(BRISK);
    for n in 0..2 * CALLS_OUT {
        lab.add(&format!("d{n}"), &[&format!("dead{n}")]);
    }
    assert_eq!(lab.due.len(), CALLS_CHANCY);
    let now = lab.b.now;
    for n in 0..20 {
        lab.add(&format!("g{n}"), &["good"]);
    }
    lab.run(BRISK * 11);
    let firsts = lab.firsts("good");
    assert_eq!(firsts.len(), 21);
    assert!(firsts.values().all(|at| *at <= now + BRISK * 10));
    // A host of which nothing is known yet has its turn as well.
    lab.add("new", &["other"]);
    lab.run(ANNOUNCE_TIMEOUT * 5);
    assert_eq!((lab.firsts("other").len(), lab.all <= CALLS_OUT), (1, true));
}

#[test]
fn a_host_that_comes_back_has_all_torrents_again_and_one_failure_is_no_death() {
    let mut lab = Lab::new();
    for n in 0..50 {
        lab.add(&n.to_string(), &["good"]);
    }
    lab.run(Duration::from_secs(100));
    // At the next interval the first call fails; the others are tried all the same.
    let fails = |lab: &mut Lab, torrent, tracker| {
        let result = Err(TrackerFailure::Network("reset".into()));
        lab.b.tell(Event::Reply(Reply::Announced { torrent, tracker, result }));
    };
    lab.said.clear();
    lab.b.pass(Duration::from_secs(1700));
    lab.hear();
    let (_, torrent, ..) = lab.said[0].clone();
    let at = lab.due.pop().map(|Reverse((_, number))| number).unwrap();
    assert!(matches!(&lab.calls[at], Call::Announce { torrent: t, .. } if *t == torrent));
    fails(&mut lab, torrent, 0);
    lab.run(Duration::from_secs(59));
    assert_eq!(lab.said.len(), 50);
    lab.run(Duration::from_secs(60));
    assert_eq!((lab.said.len(), lab.said[50].1), (51, torrent));
}

#[test]
fn all_say_good_bye_side_by_side_and_calls_that_never_went_out_do_not_delay_it() {
    let mut lab = Lab::new();
    for n in 0..200 {
        lab.add(&n.to_string(), &["good"]);
    }
    lab.run(Duration::from_secs(100));
    lab.said.clear();
    // All are due again; most of the calls wait, and then the program ends.
    lab.b.pass(Duration::from_secs(1800));
    lab.hear();
    assert_eq!(lab.said.len(), CALLS_PER_HOST);
    let start = lab.b.now;
    lab.b.tell(Event::Command(Command::Quit));
    lab.hear();
    for torrent in lab.b.ids.clone() {
        for lane in 0..2 {
            lab.b.tell(Event::Done { lane, done: Done::Closed { torrent } });
        }
    }
    lab.hear();
    lab.run(crate::limits::STOP_BUDGET);
    let stopped: Vec<Time> = lab.said.iter().filter(|said| said.2 == Said::Stopped).map(|s| s.3).collect();
    assert_eq!((stopped.len(), lab.most["good"]), (200, ASKS_MAX));
    assert!(stopped.iter().all(|at| at.since(start) <= BRISK * (2 + 200 / ASKS_MAX as u32)));
    lab.listen();
    assert!(matches!(lab.last, Some(Report::Finished { unreached: 0 })));
}
