//! Outages of our own network: who is called and asked when it is back, and what is no outage.

use super::*;
use crate::api::{Call, TrackerFailure};
use crate::limits::{
    ANNOUNCE_INTERVAL_MIN, NETWORK_BACK_MAX, NETWORK_BACK_SPAN, NETWORK_BACK_SPREAD, NETWORK_SETTLE,
    OUTAGE_MIN, RECALL_SPACING,
};
use std::io::ErrorKind;
use std::net::SocketAddr;

/// All that follows the end of an outage has begun by then.
const SOON: Duration = Duration::from_secs(5);

struct Lab {
    b: Bench,
    torrent: TorrentId,
    /// The number of actions that the test has looked at.
    seen: usize,
}

fn addr(n: u8) -> SocketAddr {
    SocketAddr::from(([9, 9, n, 1], 7))
}

impl Lab {
    /// A download whose tracker has named these peers.
    fn new(peers: &[SocketAddr]) -> Lab {
        let mut b = Bench::new();
        let torrent = b.open("file", Bitfield::new(PIECES));
        let mut lab = Lab { b, torrent, seen: 0 };
        lab.answer(Ok(Response {
            interval: Duration::from_secs(1800),
            peers: peers.to_vec(),
            ..Response::default()
        }));
        lab
    }

    fn answer(&mut self, result: Result<Response, TrackerFailure>) {
        let reply = Reply::Announced { torrent: self.torrent, tracker: 0, result };
        self.b.tell(Event::Reply(reply));
    }

    fn unreached(&mut self) {
        self.answer(Err(TrackerFailure::Network("no answer in time".into())));
    }

    /// Lets this time pass, from deadline to deadline.
    fn run(&mut self, span: Duration) {
        let end = self.b.now + span;
        while let Some(at) = self.b.s.deadline().filter(|at| *at <= end) {
            self.b.now = self.b.now.max(at);
            self.b.tell(Event::Tick);
            while self.b.s.report(self.b.now).is_some() {}
        }
        self.b.now = end;
        self.b.tell(Event::Tick);
    }

    fn fresh(&mut self) -> Vec<&Action> {
        let from = std::mem::replace(&mut self.seen, self.b.done.len());
        self.b.done[from..].iter().collect()
    }

    /// The calls since the last look.
    fn calls(&mut self) -> Vec<(PeerId, SocketAddr)> {
        let call = |action: &&Action| match action {
            Action::Connect { peer, addr } => Some((*peer, *addr)),
            _ => None,
        };
        self.fresh().iter().filter_map(call).collect()
    }

    /// How many announces went out since the last look.
    fn announces(&mut self) -> usize {
        let announce = |action: &&&Action| matches!(action, Action::Call(call) if matches!(**call, Call::Announce { .. }));
        self.fresh().iter().filter(announce).count()
    }

    /// Connects a call and shakes hands.
    fn open(&mut self, peer: PeerId, n: u8) {
        self.b.tell(Event::Connected { peer });
        let info_hash = self.b.s.torrents.get(self.torrent).unwrap().spec.meta.info_hash;
        let handshake = Handshake { reserved: [0; 8], info_hash, peer_id: [n; 20] };
        self.b.tell(Event::Handshake { peer, handshake });
    }

    fn close(&mut self, peer: PeerId, why: Why) {
        self.b.tell(Event::Closed { peer, why });
    }

    fn known(&self) -> &known::Known {
        &self.b.s.torrents.get(self.torrent).unwrap().known
    }
}

#[test]
fn peers_whose_address_is_gone_are_called_again_within_seconds_of_the_new_one() {
    let mut lab = Lab::new(&[addr(1), addr(2)]);
    let calls = lab.calls();
    assert_eq!(calls.len(), 2);
    for (n, (peer, _)) in calls.iter().enumerate() {
        lab.open(*peer, n as u8);
    }
    lab.run(Duration::from_secs(600));
    lab.calls();
    for (peer, _) in calls {
        lab.close(peer, Why::AddressGone);
    }
    lab.b.tell(Event::NetworkDown { v4: true, v6: false });
    // There is no way out until the new address comes: calls fail at once, and are few.
    for _ in 0..60 {
        lab.run(Duration::from_secs(1));
        for (peer, _) in lab.calls() {
            lab.close(peer, Why::Unreachable(ErrorKind::NetworkUnreachable));
        }
    }
    lab.b.tell(Event::NetworkUp { v4: true, v6: false });
    lab.run(NETWORK_SETTLE + RECALL_SPACING * 2);
    assert_eq!(lab.calls().len(), 2);
}

#[test]
fn end_of_an_outage_ends_the_back_off_of_trackers() {
    let mut lab = Lab::new(&[]);
    lab.run(Duration::from_secs(1800));
    assert_eq!(lab.announces(), 1 + 1);
    // 26 minutes: it fails, later each time.
    let start = lab.b.now;
    lab.unreached();
    while lab.b.now < start + Duration::from_secs(26 * 60) {
        lab.run(Duration::from_secs(10));
        if lab.announces() > 0 {
            lab.unreached();
        }
    }
    lab.b.tell(Event::NetworkUp { v4: true, v6: true });
    lab.run(NETWORK_SETTLE + NETWORK_BACK_SPREAD);
    assert_eq!(lab.announces(), 1);
}

#[test]
fn announce_that_was_out_when_the_network_came_back_is_made_again_at_once() {
    let mut lab = Lab::new(&[]);
    lab.run(Duration::from_secs(1800));
    lab.b.tell(Event::NetworkDown { v4: true, v6: false });
    lab.b.tell(Event::NetworkUp { v4: true, v6: false });
    lab.run(NETWORK_SETTLE * 2);
    lab.announces();
    lab.unreached();
    lab.run(SOON);
    assert_eq!(lab.announces(), 1);
}

#[test]
fn first_sign_of_life_after_a_silence_ends_an_outage_that_no_kernel_tells() {
    let mut lab = Lab::new(&[addr(1), addr(2)]);
    let calls = lab.calls();
    lab.open(calls[0].0, 1);
    lab.open(calls[1].0, 2);
    lab.run(Duration::from_secs(60));
    // Both are lost, and nothing is heard until one of them calls us.
    for (peer, _) in &calls {
        lab.close(*peer, Why::Io(ErrorKind::TimedOut));
    }
    for _ in 0..(26 * 60) {
        lab.run(Duration::from_secs(1));
        for (peer, _) in lab.calls() {
            lab.close(peer, Why::Timeout);
        }
    }
    let due = lab.known().deadline().unwrap_or(Time::NEVER);
    assert!(due > lab.b.now + Duration::from_secs(60), "{due:?} at {:?}", lab.b.now);
    lab.b.s.accept("9.9.1.1:55555".parse().unwrap(), lab.b.now).unwrap();
    lab.run(SOON);
    let mut called: Vec<SocketAddr> = lab.calls().into_iter().map(|(_, addr)| addr).collect();
    called.sort_unstable();
    assert_eq!(called, [addr(1), addr(2)]);
}

#[test]
fn loss_of_one_party_while_others_are_heard_is_no_outage() {
    let mut lab = Lab::new(&[addr(1), addr(2)]);
    let calls = lab.calls();
    lab.open(calls[0].0, 1);
    lab.close(calls[1].0, Why::Timeout);
    lab.run(OUTAGE_MIN * 3);
    for (peer, _) in lab.calls() {
        lab.close(peer, Why::Timeout);
    }
    lab.b.tell(Event::Message { peer: calls[0].0, message: Message::KeepAlive });
    lab.close(calls[0].0, Why::Timeout);
    let from = lab.b.done.len();
    lab.b.s.accept("9.9.7.1:5".parse().unwrap(), lab.b.now).unwrap();
    lab.b.s.accept("9.9.8.1:5".parse().unwrap(), lab.b.now + OUTAGE_MIN).unwrap();
    lab.run(SOON);
    assert!(!lab.b.done[from..].iter().any(|action| matches!(action, Action::ForgetFailures)));
}

#[test]
fn link_that_flaps_makes_us_announce_and_call_a_few_times_only() {
    let mut lab = Lab::new(&[]);
    lab.run(Duration::from_secs(1800));
    let (start, mut announces) = (lab.b.now, 0);
    while lab.b.now < start + NETWORK_BACK_SPAN {
        lab.b.tell(Event::NetworkDown { v4: true, v6: true });
        lab.b.tell(Event::NetworkUp { v4: true, v6: true });
        lab.run(Duration::from_secs(2));
        let fresh = lab.announces();
        announces += fresh;
        if fresh > 0 {
            lab.unreached();
        }
    }
    assert!(announces <= 2 + NETWORK_BACK_MAX as usize, "{announces}");
}

#[test]
fn download_that_waits_long_for_its_only_address_asks_the_tracker_within_its_interval() {
    let mut lab = Lab::new(&[addr(1)]);
    let (start, mut asked) = (lab.b.now, Vec::new());
    while lab.b.now < start + Duration::from_secs(26 * 60) {
        for action in lab.fresh().into_iter().map(|a| format!("{a:?}")).collect::<Vec<_>>() {
            if action.starts_with("Call") {
                asked.push(lab.b.now);
            }
        }
        let calling: Vec<PeerId> = lab.b.s.peers.iter().map(|(id, _)| id).collect();
        calling.into_iter().for_each(|peer| lab.close(peer, Why::Timeout));
        lab.run(Duration::from_secs(1));
        if lab.b.s.calls.counts().0 > 0 {
            lab.answer(Ok(Response { interval: Duration::from_secs(1800), ..Response::default() }));
        }
    }
    assert!(asked.len() >= 3, "{asked:?}");
    assert!(asked.windows(2).skip(1).all(|w| w[1].since(w[0]) >= ANNOUNCE_INTERVAL_MIN), "{asked:?}");
}
