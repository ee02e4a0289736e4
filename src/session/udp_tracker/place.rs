//! One UDP tracker, that is a host and a port: where it is, its connection id, and who waits for it.

use super::{AskId, callable};
use crate::base::time::Time;
use crate::limits;
use crate::proto::tracker::url::Host;
use std::collections::VecDeque;
use std::net::SocketAddr;

/// What a tracker gave us to be known by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Connection {
    pub(super) id: u64,
    /// The address that gave it, and that alone takes it.
    pub(super) addr: SocketAddr,
    /// It is not used after that (BEP 15).
    pub(super) until: Time,
}

/// A connection id is asked for.
pub(super) struct Probe {
    /// Sends that came to nothing.
    pub(super) tries: u32,
    /// Where it was asked for, and under which transaction ids.
    pub(super) sent: Vec<(SocketAddr, u32)>,
    /// Addresses that nothing can be sent to.
    dead: Vec<SocketAddr>,
    /// Where it was asked for last, and whose turn is next.
    last: Option<SocketAddr>,
    next: usize,
}

impl Probe {
    pub(super) fn new(tries: u32) -> Probe {
        Probe { tries, sent: Vec::new(), dead: Vec::new(), last: None, next: 0 }
    }

    /// The address whose turn it is, one after the other; None when all are dead.
    pub(super) fn turn(&mut self, addrs: &[SocketAddr]) -> Option<SocketAddr> {
        let all = (0..addrs.len()).map(|n| (self.next + n) % addrs.len());
        let at = all.into_iter().find(|at| !self.dead.contains(&addrs[*at]))?;
        self.next = at + 1;
        self.last = Some(addrs[at]);
        self.last
    }

    /// Nothing can be sent to this address. Whether it is the one that was tried last.
    pub(super) fn bury(&mut self, addr: SocketAddr) -> bool {
        if !self.dead.contains(&addr) {
            self.dead.push(addr);
        }
        self.last == Some(addr)
    }
}

/// A tracker.
pub(super) struct Place {
    pub(super) host: Host,
    pub(super) port: u16,
    /// Where it is, the address that answered last first.
    pub(super) addrs: Vec<SocketAddr>,
    /// Its name is looked up again after that.
    pub(super) known: Time,
    /// A look-up is out, or waits to be.
    pub(super) looking: bool,
    pub(super) connection: Option<Connection>,
    pub(super) probe: Option<Probe>,
    /// Announces that wait: those that were never sent, and those that were in vain.
    pub(super) waiting: [VecDeque<AskId>; 2],
    /// How many of the two kinds are under way.
    pub(super) flying: [usize; 2],
    /// How many of the first kind may be.
    pub(super) window: usize,
    /// All announces, waiting or under way.
    pub(super) asks: usize,
    /// Those of them that are in a hurry.
    pub(super) hurried: usize,
    /// Sends in a row that came to nothing, at most.
    pub(super) silent: u32,
    /// Not asked before that as the other address family of a name: it failed as such.
    pub(super) lame: Time,
    /// When somebody asked last.
    pub(super) used: Time,
    /// Its entry among what is due.
    pub(super) due: Time,
}

impl Place {
    pub(super) fn new(host: Host, port: u16, now: Time) -> Place {
        let literal = match &host {
            Host::Ip(ip) => Some(vec![SocketAddr::new(*ip, port)]),
            Host::Name(_) => None,
        };
        Place {
            known: if literal.is_some() { Time::NEVER } else { Time::ZERO },
            // An address that nobody can call leaves nothing to probe.
            addrs: literal.and_then(|addrs| callable(addrs).ok()).unwrap_or_default(),
            host,
            port,
            looking: false,
            connection: None,
            probe: None,
            waiting: Default::default(),
            flying: [0; 2],
            window: limits::UDP_WINDOW_START,
            asks: 0,
            hurried: 0,
            silent: 0,
            lame: Time::ZERO,
            used: now,
            due: Time::NEVER,
        }
    }

    /// The connection id, while it may be used.
    pub(super) fn connected(&self, now: Time) -> Option<Connection> {
        self.connection.filter(|c| now < c.until)
    }

    /// Puts an announce in line, in front or at the back.
    pub(super) fn enqueue(&mut self, id: AskId, kind: usize, front: bool) {
        let line = &mut self.waiting[kind];
        if front { line.push_front(id) } else { line.push_back(id) }
    }

    /// Whether one more of this kind may be under way.
    pub(super) fn has_room(&self, kind: usize, hurried: bool) -> bool {
        let most = match (hurried, kind) {
            (true, _) => limits::UDP_WINDOW_STOP,
            (false, 0) => self.window,
            // What is sent again must not hold up what was never sent.
            (false, _) => limits::UDP_WINDOW_MAX,
        };
        self.flying[kind] < most
    }

    /// The next announce that may be sent.
    pub(super) fn take(&mut self, hurried: impl Fn(&AskId) -> bool) -> Option<AskId> {
        for kind in [1, 0] {
            let in_front = self.waiting[kind].front().is_some_and(&hurried);
            if self.has_room(kind, in_front)
                && let Some(id) = self.waiting[kind].pop_front()
            {
                return Some(id);
            }
        }
        None
    }

    /// Its addresses, as they were looked up.
    pub(super) fn adopt(&mut self, addrs: Vec<SocketAddr>, until: Time) {
        let best = self.addrs.first().copied();
        (self.addrs, self.known) = (addrs, until);
        if let Some(best) = best {
            self.prefer(best);
        }
    }

    /// This address answered.
    pub(super) fn prefer(&mut self, addr: SocketAddr) {
        if let Some(at) = self.addrs.iter().position(|other| *other == addr) {
            self.addrs[..=at].rotate_right(1);
        }
    }

    /// This address took a connection and then gave no answer: of several, the next one is asked.
    pub(super) fn demote(&mut self, addr: SocketAddr) {
        if self.addrs.len() > 1
            && let Some(at) = self.addrs.iter().position(|other| *other == addr)
        {
            self.addrs[at..].rotate_left(1);
            self.connection = self.connection.filter(|connection| connection.addr != addr);
        }
    }

    /// Whether anything of it may be under way to this address.
    pub(super) fn concerns(&self, addr: SocketAddr) -> bool {
        self.addrs.contains(&addr)
            || self.connection.is_some_and(|c| c.addr == addr)
            || self.probe.as_ref().is_some_and(|probe| probe.sent.iter().any(|(to, _)| *to == addr))
    }
}
