//! The net thread: it drives the session, owns every socket of peers and every buffer, and reads the clock. A turn
//! is: wait; read the clock once; take what other threads sent; serve ready sockets, one burst each, accept, take datagrams;
//! `Tick` if due; one write for each connection with something to say; then the reports. The order never changes.
//! One event goes in, all actions are carried out, then the next event.

mod conn;
mod crypt;
mod deferred;
mod landing;
mod lsd;
mod network;
mod outbox;
pub mod serve;
mod signals;
mod sockets;
#[cfg(test)]
mod tests;
mod traffic;
mod udp;

pub use lsd::join_groups;
pub use signals::{Hangup, Signals, no_hurry};
pub use sockets::{ListenError, Listener, Poll, listen};

use crate::api::{Action, Call, Command, Done, Event, Job, PeerId, Reply, Report, WebOrder, WebSaid, Why};
use crate::base::buf::{BLOCK, Pool};
use crate::base::rng::Rng;
use crate::base::time::Time;
use crate::base::wake::Wake;
use crate::limits;
use crate::proto::mse::{self, Methods, Power};
use crate::proto::wire::Message;
use crate::session::Config;
#[cfg(not(test))]
use crate::session::Session;
use crate::sys::guard;
use crate::sys::multicast::Group;
use crate::sys::netlink::Monitor;
use crate::sys::socket::Route;
use conn::Conns;
use crossbeam_channel::{Receiver, Sender, TrySendError};
use deferred::{Deferred, Worker};
use landing::Landing;
use network::Network;
use signals::Wish;
use sockets::{Key, Ready};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};
#[cfg(test)]
use tests::script::Session;

/// The way to one disk worker. Each channel has room for all that can be outstanding.
pub struct Lane {
    /// For what peers wait for: everything but checks.
    pub urgent: Sender<Job>,
    /// For [`Job::Check`].
    pub checks: Sender<Job>,
}

/// The ways to the other threads. They ring the bell of [`Poll::wake`] after each send.
pub struct Links {
    /// To the disk workers.
    pub lanes: Vec<Lane>,
    /// From the disk workers, each by its number.
    pub done: Receiver<(u8, Done)>,
    /// To the helpers. It must not block.
    pub call: Box<dyn FnMut(Call) + Send>,
    /// Has the helpers forget which look-ups and hosts failed. It must not block.
    pub forget_failures: Box<dyn FnMut() + Send>,
    /// From the helpers.
    pub replies: Receiver<Reply>,
    /// To the thread of the key exchanges, [`limits::MSE_POWERS_OUT`] at a time. It must not block.
    pub raise: Box<dyn FnMut(PeerId, Power) + Send>,
    /// From it.
    pub powers: Receiver<(PeerId, mse::Key)>,
    /// To the threads of web seeds, each by its number. It must not block; an order that finds no room comes back.
    pub web: Box<dyn FnMut(u8, WebOrder) -> Result<(), WebOrder> + Send>,
    /// From these.
    pub said: Receiver<(u8, WebSaid)>,
    /// From the program.
    pub commands: Receiver<Command>,
    /// To the program.
    pub reports: Sender<Report>,
}

/// What the reactor starts with.
pub struct Setup {
    /// The session's configuration.
    pub config: Config,
    /// All chance of the session.
    pub seed: [u8; 32],
    /// The poller.
    pub poll: Poll,
    /// Its bell.
    pub wake: Arc<Wake>,
    /// Which way connections go.
    pub route: Route,
    /// The listeners.
    pub listeners: Vec<Listener>,
    /// The groups of local service discovery (BEP 14), of [`join_groups`].
    pub groups: Vec<Group>,
    /// What the kernel says of the network, where it does.
    pub monitor: Option<Monitor>,
    /// Signals, where they are ours to take.
    pub signals: Option<Signals>,
    /// The blocks: those of `config.receive_bufs` and [`limits::SEND_BUFS`].
    pub pool: Pool,
    /// The other threads.
    pub links: Links,
}

/// The net thread's state.
pub struct Reactor {
    session: Session,
    /// For encrypted handshakes.
    rng: Rng,
    /// What is answered to an encrypted handshake; None: it is taken for nonsense.
    answers: Option<Methods>,
    /// Powers that are being computed.
    powers_out: usize,
    start: Instant,
    now: Time,
    poll: Poll,
    wake: Arc<Wake>,
    route: Route,
    listeners: Vec<Listener>,
    groups: Vec<Group>,
    network: Network,
    signals: Option<Signals>,
    pool: Pool,
    links: Links,
    /// The disk workers.
    workers: Vec<Worker>,
    /// What waits for buffers.
    deferred: VecDeque<Deferred>,
    conns: Conns,
    /// Where bytes of all connections are read to that have no better place.
    landing: Landing,
    /// What is ready in this turn.
    ready: Vec<Ready>,
    /// Connections with something to say.
    dirty: Vec<PeerId>,
    /// Connections that go on after [`Action::Resume`].
    resumed: Vec<PeerId>,
    /// Connections that ended while actions were carried out: the session hears of them after.
    lost: VecDeque<(PeerId, Why)>,
    /// Datagrams that could not be sent at all: the session hears of them after.
    unsent: VecDeque<(SocketAddr, io::ErrorKind)>,
    /// Outboxes that have to move by then; one entry for each connection that is `watched`, and of those that are gone.
    stalls: BinaryHeap<Reverse<(Time, PeerId)>>,
    /// Bytes of small messages in all outboxes.
    unsent_small: usize,
    /// How many connections wait for the disk.
    waiting: usize,
    /// Reports of our own.
    notes: VecDeque<Report>,
    /// While the program is behind with its reports: when to look again.
    retry: Option<Time>,
    ending: bool,
    /// Bytes that sockets brought in this turn.
    came: usize,
}

impl Reactor {
    /// A reactor that has not begun. An error is of the poller, or there is no memory.
    #[expect(clippy::disallowed_methods, reason = "the start of all time")]
    pub fn new(mut setup: Setup) -> io::Result<Reactor> {
        let mut notes = VecDeque::new();
        for (at, listener) in setup.listeners.iter().enumerate() {
            setup.poll.add(listener.as_fd(), Key::Listener(at), (true, false))?;
            setup.poll.add(listener.datagrams.as_fd(), Key::Datagrams(at), (true, false))?;
            notes.push_back(Report::Listening { addr: listener.addr()? });
        }
        for (at, group) in setup.groups.iter().enumerate() {
            setup.poll.add(group.as_fd(), Key::Group(at), (true, false))?;
        }
        if let Some(monitor) = &setup.monitor {
            setup.poll.add(monitor.as_fd(), Key::Network, (true, false))?;
        }
        if let Some(signals) = &setup.signals {
            setup.poll.add(signals.as_fd(), Key::Signals, (true, false))?;
        }
        Ok(Reactor {
            rng: Rng::new(setup.seed).fork(b"encryption"),
            answers: setup.config.encryption.methods(),
            powers_out: 0,
            session: Session::new(setup.config, setup.seed, Time::ZERO),
            start: Instant::now(),
            now: Time::ZERO,
            poll: setup.poll,
            wake: setup.wake,
            network: Network::new(setup.monitor),
            route: setup.route,
            listeners: setup.listeners,
            groups: setup.groups,
            signals: setup.signals,
            pool: setup.pool,
            workers: setup.links.lanes.drain(..).map(Worker::new).collect(),
            links: setup.links,
            deferred: VecDeque::new(),
            conns: Conns::default(),
            landing: Landing::new()?,
            ready: Vec::new(),
            dirty: Vec::new(),
            resumed: Vec::new(),
            lost: VecDeque::new(),
            unsent: VecDeque::new(),
            stalls: BinaryHeap::new(),
            unsent_small: 0,
            waiting: 0,
            notes,
            retry: None,
            ending: false,
            came: 0,
        })
    }

    /// Takes turns until the session says [`Action::Exit`]. An error is of the poller.
    pub fn run(mut self) -> io::Result<()> {
        guard::mark_net_thread();
        self.plan_look();
        self.report();
        while !self.ending {
            self.turn()?;
        }
        self.end();
        Ok(())
    }

    fn turn(&mut self) -> io::Result<()> {
        self.sleep()?;
        self.read_clock();
        self.hear();
        self.serve();
        self.go_on();
        if self.session.deadline().is_some_and(|at| at <= self.now) {
            self.tell(Event::Tick);
        }
        self.look_at_network();
        self.end_stalls();
        self.flush();
        self.retry_deferred();
        self.report();
        debug_assert!(self.came <= limits::TURN_BYTES + limits::READY_MAX * 2 * BLOCK as usize);
        Ok(())
    }

    #[expect(clippy::disallowed_methods, reason = "the one place where the clock is read, once a turn")]
    fn read_clock(&mut self) {
        self.now = Time(u64::try_from((Instant::now() - self.start).as_micros()).unwrap_or(u64::MAX));
    }

    /// Sleeps until there is something to do, or not at all when there is.
    fn sleep(&mut self) -> io::Result<()> {
        self.wake.doze();
        let links = &self.links;
        let quiet = links.done.is_empty()
            && links.replies.is_empty()
            && links.powers.is_empty()
            && links.said.is_empty();
        let mail = !(quiet && links.commands.is_empty());
        let until = if mail || !self.dirty.is_empty() || !self.resumed.is_empty() {
            Some(Time::ZERO)
        } else {
            self.deadline()
        };
        // A moment too far for the clock of the system never comes.
        let until = until.and_then(|at| self.start.checked_add(Duration::from_micros(at.0)));
        let slept = self.poll.wait(until, &mut self.ready);
        self.wake.rise();
        slept
    }

    /// When the next turn is due, should nothing else happen.
    fn deadline(&self) -> Option<Time> {
        // What the session is due with may be a report that finds no room: no spinning on it.
        let session = self.session.deadline().map(|at| self.retry.map_or(at, |retry| at.max(retry)));
        let rests = self.listeners.iter().filter_map(|listener| listener.rest).min();
        let stalls = self.stalls.peek().map(|Reverse((at, _))| *at);
        [session, self.retry, rests, stalls, self.network.deadline()].into_iter().flatten().min()
    }

    /// Takes what other threads sent, a bounded number.
    fn hear(&mut self) {
        for _ in 0..limits::MAIL_MAX {
            let Ok((lane, done)) = self.links.done.try_recv() else { break };
            self.tell(Event::Done { lane, done });
        }
        for _ in 0..limits::MAIL_MAX {
            let Ok(reply) = self.links.replies.try_recv() else { break };
            self.tell(Event::Reply(reply));
        }
        for _ in 0..limits::MAIL_MAX {
            let Ok((peer, power)) = self.links.powers.try_recv() else { break };
            self.on_power(peer, &power);
        }
        for _ in 0..limits::MAIL_MAX {
            let Ok((slot, said)) = self.links.said.try_recv() else { break };
            self.tell(Event::Web { slot, said });
        }
        for _ in 0..limits::MAIL_MAX {
            let Ok(command) = self.links.commands.try_recv() else { break };
            self.tell(Event::Command(command));
        }
    }

    /// Serves what the poller reported, connections first.
    fn serve(&mut self) {
        self.came = 0;
        let ready = std::mem::take(&mut self.ready);
        let burst = (limits::TURN_BYTES / ready.len().max(1)).clamp(limits::BURST_MIN, limits::BURST);
        for one in &ready {
            if let Key::Peer(id) = one.key {
                self.serve_peer(id, *one, burst);
            }
        }
        // Shared evenly: a flood over one address family must not silence the other.
        let sockets = ready.iter().filter(|one| matches!(one.key, Key::Datagrams(_))).count();
        let datagrams = limits::DATAGRAMS_MAX / sockets.max(1);
        for one in &ready {
            match one.key {
                Key::Listener(at) => self.accept(at),
                Key::Datagrams(at) => self.receive(at, datagrams),
                Key::Group(at) => self.hear_group(at),
                Key::Signals => self.take_signals(),
                Key::Network => self.hear_kernel(),
                Key::Peer(_) => {}
            }
        }
        self.ready = ready;
        self.wake_listeners();
    }

    fn take_signals(&mut self) {
        while let Some(wish) = self.signals.as_ref().and_then(Signals::next) {
            match wish {
                Wish::End(signal) => {
                    log::info!("signal {signal}: stopping");
                    self.notes.push_back(Report::Signal { signal });
                    self.tell(Event::Command(Command::Quit));
                }
                Wish::Reopen if self.notes.iter().any(|note| matches!(note, Report::Reopen)) => {}
                Wish::Reopen => self.notes.push_back(Report::Reopen),
                Wish::Status => self.tell(Event::Command(Command::Status)),
            }
        }
    }

    /// Says one thing to the session and does all that it wants then.
    fn tell(&mut self, event: Event<'_>) {
        self.session.handle(event, self.now);
        self.carry_out();
    }

    fn carry_out(&mut self) {
        loop {
            while let Some(action) = self.session.poll() {
                self.act(action);
            }
            if let Some((peer, why)) = self.lost.pop_front() {
                self.session.handle(Event::Closed { peer, why }, self.now);
            } else if let Some((to, why)) = self.unsent.pop_front() {
                self.session.handle(Event::Unreachable { to, why }, self.now);
            } else {
                return;
            }
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Connect { peer, addr } => self.connect(peer, addr),
            Action::Encrypt { peer, methods } => self.encrypt(peer, methods),
            Action::Handshake { peer, handshake } => self.say_handshake(peer, &handshake),
            Action::Expect { peer, max } => {
                if let Some(conn) = self.conns.get_mut(peer) {
                    conn.decoder.set_max(max);
                }
            }
            Action::Send { peer, message } => self.say(peer, |outbox| outbox.push_message(&message)),
            Action::Haves { peer, pieces } => self.say(peer, |outbox| {
                pieces.into_iter().for_each(|piece| outbox.push_message(&Message::Have(piece)));
            }),
            Action::SendBlock { peer, block, buf } => {
                if self.conns.get_mut(peer).is_some() {
                    self.say(peer, |outbox| outbox.push_block(block, buf));
                } else {
                    self.pool.put(buf);
                }
            }
            Action::Resume { peer } => self.resumed.push(peer),
            Action::Close { peer, why } => self.drop_peer(peer, why),
            Action::Job { lane, job } => self.give(lane, job),
            Action::Read { lane, torrent, peer, blocks } => {
                self.act_with_buffers(Deferred::Read { lane, torrent, peer, blocks });
            }
            Action::Datagram { to, data } => self.send_datagram(to, &data),
            Action::Lsd { v6, data } => self.announce_locally(v6, &data),
            Action::Call(call) => (self.links.call)(*call),
            Action::Web { slot, order } => self.act_with_buffers(Deferred::Web { slot, order }),
            Action::Lend { slot, count } => self.act_with_buffers(Deferred::Lend { slot, count }),
            Action::Release(buf) => self.pool.put(buf),
            Action::ForgetFailures => (self.links.forget_failures)(),
            Action::Exit => self.ending = true,
        }
    }

    /// Hands a job to a disk worker.
    fn give(&mut self, lane: u8, job: Job) {
        match self.workers.get_mut(usize::from(lane)) {
            Some(worker) => worker.give(job),
            None => debug_assert!(false, "a job for worker {lane}, which is none"),
        }
    }

    /// Gives the program its reports while it has room for them, a bounded number.
    fn report(&mut self) {
        for _ in 0..limits::REPORTS_MAX {
            if self.links.reports.is_full() {
                self.retry = Some(self.now + limits::REPORT_RETRY);
                return;
            }
            let Some(report) = self.next_report() else { break };
            match self.links.reports.try_send(report) {
                // A program that has hung up is about to end; nobody is left to tell.
                Ok(()) | Err(TrySendError::Disconnected(_)) => {}
                Err(TrySendError::Full(_)) => debug_assert!(false, "another sender of reports"),
            }
        }
        self.retry = None;
    }

    fn next_report(&mut self) -> Option<Report> {
        let mut report = self.notes.pop_front().or_else(|| self.session.report(self.now))?;
        if let Report::Status(status) = &mut report {
            status.buffers = (self.pool.out(), self.pool.size());
        }
        Some(report)
    }

    /// Everything is closed: the program hears the rest, and here waiting for it delays nobody. But where a signal asked
    /// for the end, who does not read our output cannot put it off.
    fn end(mut self) {
        // It may still be adding torrents: who waits for room there would not hear the rest.
        self.links.commands = crossbeam_channel::never();
        if let Some(signals) = &self.signals {
            signals.end_within(limits::LAST_WORDS);
        }
        while let Some(report) = self.next_report() {
            if self.links.reports.send(report).is_err() {
                break;
            }
        }
        for conn in self.conns.drain() {
            self.poll.remove(conn.stream.as_fd());
            conn.close(&mut self.pool);
        }
        for listener in &self.listeners {
            self.poll.remove(listener.as_fd());
            self.poll.remove(listener.datagrams.as_fd());
        }
        for group in &self.groups {
            self.poll.remove(group.as_fd());
        }
        if let Some(monitor) = self.network.monitor() {
            self.poll.remove(monitor.as_fd());
        }
        if let Some(signals) = &self.signals {
            self.poll.remove(signals.as_fd());
        }
        log::debug!("{} of {} buffers are out at the end", self.pool.out(), self.pool.size());
    }
}
