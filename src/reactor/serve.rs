//! The thread of the embedded tracker: its own small loop over listeners, datagram sockets and HTTP connections, all
//! driving the one state machine of `tracker/`. A turn is: wait; read the clock once; take signals and orders; a bounded
//! number of datagrams of each socket; one burst for each HTTP connection, and new ones; then a slice of the sweep.

use super::network::{BoundDevice, DeviceChange};
use super::signals::{Signals, Wish};
use super::sockets::{Accepted, Key, Listener, Poll, Ready};
use crate::api::PeerId;
use crate::base::arena::Arena;
use crate::base::time::Time;
use crate::base::wake::Wake;
use crate::limits;
use crate::sys::netlink::{Changes, Monitor};
use crate::sys::socket::Route;
use crate::tracker::http::Exchange;
use crate::tracker::{News, Order, Tracker};
use crossbeam_channel::{Receiver, Sender};
use rustix::net::sockopt::set_socket_recv_buffer_size;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What the thread starts with.
pub struct ServeSetup {
    /// The state machine.
    pub tracker: Tracker,
    /// The most HTTP connections.
    pub connections: usize,
    /// The poller.
    pub poll: Poll,
    /// Its bell.
    pub wake: Arc<Wake>,
    /// Which way sockets go.
    pub route: Route,
    /// Where to serve: HTTP and UDP.
    pub listeners: Vec<Listener>,
    /// What the kernel says of the network, where it does.
    pub monitor: Option<Monitor>,
    /// Signals, where they are ours to take.
    pub signals: Option<Signals>,
    /// From the program. It rings the bell after each.
    pub orders: Receiver<Order>,
    /// To the program.
    pub news: Sender<News>,
}

/// A connection, with what happens to it.
struct Conn {
    stream: TcpStream,
    exchange: Exchange,
    /// What the poller was told to report.
    interest: (bool, bool),
    /// Our side is closed: what still comes is read and dropped, so that the last answer is not lost to a reset.
    shut: bool,
}

/// What a burst left of a connection.
enum After {
    /// It is gone, or at its end.
    Over,
    /// It waits to be readable, writable or both.
    Waits((bool, bool)),
}

/// The thread's state.
pub struct Server {
    tracker: Tracker,
    start: Instant,
    now: Time,
    poll: Poll,
    wake: Arc<Wake>,
    route: Route,
    listeners: Vec<Listener>,
    monitor: Option<Monitor>,
    device: BoundDevice,
    signals: Option<Signals>,
    orders: Receiver<Order>,
    news: Sender<News>,
    conns: Arena<PeerId, Conn>,
    /// How many there may be.
    connections: usize,
    /// When connections are to be looked at; one entry for each, and of some that are gone.
    deadlines: BinaryHeap<Reverse<(Time, PeerId)>>,
    ready: Vec<Ready>,
    scratch: Vec<u8>,
    answer: Vec<u8>,
    ending: bool,
}

/// The kernel gives what it allows, which may be less.
fn enlarge_buffer(listener: &Listener) {
    let _ = set_socket_recv_buffer_size(&listener.datagrams, limits::TRACKER_SOCKET_BUFFER);
}

impl Server {
    /// A server that has not begun. An error is of the poller.
    #[expect(clippy::disallowed_methods, reason = "the start of all time")]
    pub fn new(setup: ServeSetup) -> io::Result<Server> {
        let ServeSetup { tracker, connections, poll, wake, route, listeners, monitor, .. } = setup;
        let ServeSetup { signals, orders, news, .. } = setup;
        for (at, listener) in listeners.iter().enumerate() {
            enlarge_buffer(listener);
            poll.add(listener.as_fd(), Key::Listener(at), (true, false))?;
            poll.add(listener.datagrams.as_fd(), Key::Datagrams(at), (true, false))?;
        }
        if let Some(monitor) = &monitor {
            poll.add(monitor.as_fd(), Key::Network, (true, false))?;
        }
        if let Some(signals) = &signals {
            poll.add(signals.as_fd(), Key::Signals, (true, false))?;
        }
        Ok(Server {
            tracker,
            start: Instant::now(),
            now: Time::ZERO,
            poll,
            wake,
            route,
            listeners,
            monitor,
            device: BoundDevice::default(),
            signals,
            orders,
            news,
            conns: Arena::new(connections),
            connections,
            deadlines: BinaryHeap::new(),
            ready: Vec::new(),
            scratch: vec![0; limits::TRACKER_HEAD_MAX.max(limits::TRACKER_QUERY_MAX)],
            answer: Vec::new(),
            ending: false,
        })
    }

    /// Takes turns until a signal or [`Order::Quit`]. An error is of the poller.
    pub fn run(mut self) -> io::Result<()> {
        while !self.ending {
            self.sleep()?;
            self.read_clock();
            self.hear();
            self.serve();
            if self.tracker.tick(self.now) && log::log_enabled!(log::Level::Info) {
                log::info!("{}", self.tracker.statistics());
            }
            self.close_late();
        }
        self.end();
        Ok(())
    }

    #[expect(clippy::disallowed_methods, reason = "the one place where the clock is read, once a turn")]
    fn read_clock(&mut self) {
        self.now = Time(u64::try_from((Instant::now() - self.start).as_micros()).unwrap_or(u64::MAX));
    }

    fn sleep(&mut self) -> io::Result<()> {
        self.wake.doze();
        let rests = self.listeners.iter().filter_map(|listener| listener.rest).min();
        let late = self.deadlines.peek().map(|Reverse((at, _))| *at);
        let until =
            [self.tracker.deadline(), rests, late, self.device.deadline()].into_iter().flatten().min();
        let until = if self.orders.is_empty() { until } else { Some(Time::ZERO) };
        // A moment too far for the clock of the system never comes.
        let until = until.and_then(|at| self.start.checked_add(Duration::from_micros(at.0)));
        let slept = self.poll.wait(until, &mut self.ready);
        self.wake.rise();
        slept
    }

    fn hear(&mut self) {
        for order in self.orders.try_iter() {
            match order {
                Order::Only(list) => self.tracker.set_only(list),
                Order::Quit => self.ending = true,
            }
        }
    }

    fn serve(&mut self) {
        let ready = std::mem::take(&mut self.ready);
        for one in &ready {
            match one.key {
                Key::Datagrams(at) => self.answer_datagrams(at),
                Key::Signals => self.take_signals(),
                Key::Network => self.hear_kernel(),
                Key::Listener(_) | Key::Group(_) | Key::Peer(_) => {}
            }
        }
        for one in &ready {
            if let Key::Peer(id) = one.key {
                self.serve_conn(id);
            }
        }
        for one in &ready {
            if let Key::Listener(at) = one.key {
                self.accept(at);
            }
        }
        self.ready = ready;
        self.wake_listeners();
        if self.device.deadline().is_some_and(|at| at <= self.now) {
            self.follow_device();
        }
    }

    /// The kernel has told something of the network.
    fn hear_kernel(&mut self) {
        if self.monitor.as_mut().is_some_and(|monitor| monitor.read() != Changes::default()) {
            self.follow_device();
        }
    }

    /// Sees to the device of `--bind-device`; connections that are over an old one end by their deadlines.
    fn follow_device(&mut self) {
        let change = self.device.follow(&self.poll, &mut self.listeners, &self.route, self.now);
        if change == DeviceChange::Back {
            self.listeners.iter().for_each(enlarge_buffer);
        }
    }

    fn take_signals(&mut self) {
        while let Some(wish) = self.signals.as_ref().and_then(Signals::next) {
            match wish {
                Wish::End(signal) => {
                    log::info!("signal {signal}: stopping");
                    self.ending = true;
                }
                Wish::Reopen => self.tell(News::Reload),
                Wish::Status => self.tell(News::Statistics(self.tracker.statistics())),
            }
        }
    }

    /// Tells the program something; a program that is behind does not hear it.
    fn tell(&self, news: News) {
        let _ = self.news.try_send(news);
    }

    /// Answers what one socket brought, a bounded number.
    fn answer_datagrams(&mut self, at: usize) {
        let udp = &self.listeners[at].datagrams;
        for _ in 0..limits::TRACKER_DATAGRAMS {
            let (len, from) = match udp.recv_from(&mut self.scratch[..limits::TRACKER_QUERY_MAX]) {
                Ok(came) => came,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                // What an earlier answer met (ICMP); each is told once.
                Err(_) => continue,
            };
            self.tracker.on_datagram(from, &self.scratch[..len], self.now, &mut self.answer);
            if !self.answer.is_empty() {
                // One that cannot be sent is lost like any other; the client asks again.
                let _ = udp.send_to(&self.answer, from);
            }
        }
    }

    fn accept(&mut self, at: usize) {
        for _ in 0..limits::ACCEPTS_MAX {
            match self.listeners[at].accept() {
                Accepted::Conn(stream, from) => self.welcome(stream, from.ip()),
                Accepted::Gone => {}
                Accepted::Nothing => return,
                // The one that waits is as good as one of ours.
                Accepted::Exhausted(_) if self.make_room() => {}
                Accepted::Exhausted(error) => {
                    log::warn!("cannot accept connections: {error}");
                    let listener = &mut self.listeners[at];
                    listener.rest = Some(self.now + limits::ACCEPT_REST);
                    self.listen_to(at, false);
                    return;
                }
            }
        }
    }

    fn listen_to(&self, at: usize, on: bool) {
        let (source, key) = (self.listeners[at].as_fd(), Key::Listener(at));
        if let Err(error) = self.poll.change(source, key, (on, false)) {
            log::error!("cannot watch a listener: {error}");
        }
    }

    fn wake_listeners(&mut self) {
        for at in 0..self.listeners.len() {
            if self.listeners[at].rest.is_some_and(|until| until <= self.now) {
                self.listeners[at].rest = None;
                self.listen_to(at, true);
            }
        }
    }

    /// Takes a new connection in. When all places are taken, one of the address that has most goes for it.
    fn welcome(&mut self, stream: TcpStream, ip: IpAddr) {
        if self.conns.len() >= self.connections {
            self.make_room();
        }
        let exchange = Exchange::new(ip, self.now);
        let deadline = exchange.deadline();
        let interest = (true, false);
        let Some(id) = self.conns.insert(Conn { stream, exchange, interest, shut: false }) else { return };
        let watched =
            self.conns.get(id).map(|conn| self.poll.add(conn.stream.as_fd(), Key::Peer(id), interest));
        if let Some(Err(error)) = watched {
            log::warn!("cannot watch a connection: {error}");
            self.conns.remove(id);
            return;
        }
        self.deadlines.push(Reverse((deadline, id)));
        // The request is there already, most of the time.
        self.serve_conn(id);
    }

    /// Closes one connection for another; false where there is none.
    fn make_room(&mut self) -> bool {
        let id = crowded(self.conns.iter().map(|(id, conn)| (id, &conn.exchange)));
        id.map(|id| self.close(id)).is_some()
    }

    fn serve_conn(&mut self, id: PeerId) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        match burst(conn, &mut self.tracker, &mut self.scratch, self.now) {
            After::Over => self.close(id),
            After::Waits(interest) => {
                if interest != conn.interest {
                    conn.interest = interest;
                    if let Err(error) = self.poll.change(conn.stream.as_fd(), Key::Peer(id), interest) {
                        log::warn!("cannot watch a connection: {error}");
                        self.close(id);
                    }
                }
            }
        }
    }

    fn close(&mut self, id: PeerId) {
        if let Some(conn) = self.conns.remove(id) {
            self.poll.remove(conn.stream.as_fd());
        }
    }

    /// Closes connections whose time is over.
    fn close_late(&mut self) {
        while let Some(Reverse((at, id))) = self.deadlines.peek().copied()
            && at <= self.now
        {
            self.deadlines.pop();
            match self.conns.get(id).map(|conn| conn.exchange.deadline()) {
                Some(deadline) if deadline > self.now => self.deadlines.push(Reverse((deadline, id))),
                Some(_) => self.close(id),
                None => {}
            }
        }
    }

    fn end(mut self) {
        self.tell(News::Ended(self.tracker.statistics()));
        let ids: Vec<PeerId> = self.conns.iter().map(|(id, _)| id).collect();
        ids.into_iter().for_each(|id| self.close(id));
        for listener in &self.listeners {
            self.poll.remove(listener.as_fd());
            self.poll.remove(listener.datagrams.as_fd());
        }
        if let Some(monitor) = &self.monitor {
            self.poll.remove(monitor.as_fd());
        }
        if let Some(signals) = &self.signals {
            self.poll.remove(signals.as_fd());
        }
    }
}

/// Who has to go: of the host with most connections, the one that would be closed first anyway.
fn crowded<'a>(conns: impl Iterator<Item = (PeerId, &'a Exchange)>) -> Option<PeerId> {
    let mut hosts: BTreeMap<u64, (usize, Reverse<Time>, PeerId)> = BTreeMap::new();
    for (id, exchange) in conns {
        let host = match exchange.ip() {
            IpAddr::V4(ip) => u64::from(ip.to_bits()),
            // The part of an address that one line or server has all of; no such part looks like an IPv4 address.
            IpAddr::V6(ip) => (ip.to_bits() >> 64) as u64 | 1 << 63,
        };
        let at = Reverse(exchange.deadline());
        let entry = hosts.entry(host).or_insert((0, at, id));
        *entry = if at > entry.1 { (entry.0 + 1, at, id) } else { (entry.0 + 1, entry.1, entry.2) };
    }
    hosts.into_values().max().map(|(_, _, id)| id)
}

/// Moves what can be moved, a bounded number of requests.
fn burst(conn: &mut Conn, tracker: &mut Tracker, scratch: &mut [u8], now: Time) -> After {
    for _ in 0..2 * limits::TRACKER_REQUESTS {
        let exchange = &mut conn.exchange;
        if !exchange.output().is_empty() {
            match conn.stream.write(exchange.output()) {
                Ok(sent) => exchange.on_sent(sent, now),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return After::Waits((false, true)),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return After::Over,
            }
            continue;
        }
        if exchange.advance(tracker, now) {
            continue;
        }
        if exchange.is_over() && !conn.shut {
            if conn.stream.shutdown(Shutdown::Write).is_err() {
                return After::Over;
            }
            conn.shut = true;
        }
        let room = if conn.shut { scratch.len() } else { exchange.room().min(scratch.len()) };
        match conn.stream.read(&mut scratch[..room]) {
            Ok(0) => return After::Over,
            Ok(len) => exchange.on_bytes(&scratch[..len]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return After::Waits((true, false)),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return After::Over,
        }
    }
    // Enough for this turn; there may be a request in hand, which the socket does not report again.
    After::Waits((true, true))
}
