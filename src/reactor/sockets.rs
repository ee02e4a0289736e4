//! The poller, and the listeners.

use crate::api::PeerId;
use crate::base::arena::Handle;
use crate::base::time::Time;
use crate::base::wake::Wake;
use crate::limits;
use crate::proto::compact::canonical;
use crate::sys::socket::{self, Family, Route};
use polling::{Event, Events, PollMode, Poller};
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::num::NonZeroUsize;
use std::ops::RangeInclusive;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::Arc;
use std::time::Instant;

/// The slot of keys that are the reactor's own.
const OWN_SLOT: u32 = 0xFFFF;

/// What a key of the poller names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Key {
    /// A connection.
    Peer(PeerId),
    /// A listener, by its place.
    Listener(usize),
    /// The datagram socket beside a listener, by its place.
    Datagrams(usize),
    /// A multicast group, by its place.
    Group(usize),
    /// The pipe that signals come through.
    Signals,
    /// What the kernel says of the network.
    Network,
}

impl Key {
    /// Bits of a peer as they stand; the reactor's own lie in the slot that no peer has.
    fn bits(self) -> usize {
        match self {
            Key::Peer(id) => id.bits() as usize,
            Key::Signals => OWN_SLOT as usize,
            Key::Network => 1 << 16 | OWN_SLOT as usize,
            Key::Listener(at) => (3 * at + 2) << 16 | OWN_SLOT as usize,
            Key::Datagrams(at) => (3 * at + 3) << 16 | OWN_SLOT as usize,
            Key::Group(at) => (3 * at + 4) << 16 | OWN_SLOT as usize,
        }
    }

    fn from_bits(bits: usize) -> Key {
        match (bits as u32 & 0xFFFF, bits >> 16) {
            (OWN_SLOT, 0) => Key::Signals,
            (OWN_SLOT, 1) => Key::Network,
            (OWN_SLOT, at) => match (at - 2) % 3 {
                0 => Key::Listener((at - 2) / 3),
                1 => Key::Datagrams((at - 2) / 3),
                _ => Key::Group((at - 2) / 3),
            },
            _ => Key::Peer(PeerId::from_bits(bits as u32)),
        }
    }
}

/// What is ready.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Ready {
    /// Whose socket.
    pub(super) key: Key,
    /// There is something to read, or an error.
    pub(super) readable: bool,
    /// There is room to write, or an error.
    pub(super) writable: bool,
}

/// The poller in level mode: what is left is reported again, and a change of interest is the only call a socket needs.
pub struct Poll {
    poller: Arc<Poller>,
    events: Events,
}

impl Poll {
    /// A poller without sources.
    pub fn new() -> io::Result<Poll> {
        let most = NonZeroUsize::new(limits::READY_MAX).unwrap_or(NonZeroUsize::MIN);
        Ok(Poll { poller: Arc::new(Poller::new()?), events: Events::with_capacity(most) })
    }

    /// A bell that ends the wait.
    pub fn wake(&self) -> Arc<Wake> {
        let poller = self.poller.clone();
        Arc::new(Wake::new(Box::new(move || {
            if let Err(error) = poller.notify() {
                log::error!("cannot wake the net thread: {error}");
            }
        })))
    }

    fn event(key: Key, (readable, writable): (bool, bool)) -> Event {
        Event::new(key.bits(), readable, writable)
    }

    /// Watches a socket from now on. [`Poll::remove`] must come before it is closed.
    #[expect(unsafe_code, reason = "the poller cannot know when a descriptor is closed")]
    pub(super) fn add(&self, source: BorrowedFd<'_>, key: Key, interest: (bool, bool)) -> io::Result<()> {
        // SAFETY: every owner of a watched socket (connections, listeners, the signal pipe) takes it out with
        // `Poll::remove` before it closes it, or lives as long as the poller.
        unsafe { self.poller.add_with_mode(source.as_raw_fd(), Poll::event(key, interest), PollMode::Level) }
    }

    /// Changes what is reported of a socket.
    pub(super) fn change(&self, source: BorrowedFd<'_>, key: Key, interest: (bool, bool)) -> io::Result<()> {
        self.poller.modify_with_mode(source, Poll::event(key, interest), PollMode::Level)
    }

    /// Watches a socket no more.
    pub(super) fn remove(&self, source: BorrowedFd<'_>) {
        if let Err(error) = self.poller.delete(source) {
            log::error!("cannot unwatch a socket: {error}");
        }
    }

    /// Sleeps until something is ready, the bell rings or `until` comes, and lays into `ready` what is ready.
    pub(super) fn wait(&mut self, until: Option<Instant>, ready: &mut Vec<Ready>) -> io::Result<()> {
        self.events.clear();
        match until {
            Some(until) => self.poller.wait_deadline(&mut self.events, until)?,
            None => self.poller.wait(&mut self.events, None)?,
        };
        ready.clear();
        ready.extend(self.events.iter().map(|event| Ready {
            key: Key::from_bits(event.key),
            readable: event.readable,
            writable: event.writable,
        }));
        Ok(())
    }
}

/// Why there is no listener.
#[derive(Debug)]
pub struct ListenError {
    /// The address that was tried, and of a range of ports the first.
    pub addr: IpAddr,
    /// The ports that were tried.
    pub ports: RangeInclusive<u16>,
    /// The device that was asked for.
    pub device: Option<String>,
    /// What the system says; of a range, about the last port.
    pub source: io::Error,
}

impl fmt::Display for ListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot listen on {}", self.addr)?;
        if !self.addr.is_unspecified() {
            write!(f, " (--bind)")?;
        }
        let (first, last) = (self.ports.start(), self.ports.end());
        match (first, last) {
            (0, _) => {}
            (first, last) if first == last => write!(f, ", port {first} (--port)")?,
            (first, last) => write!(f, ", ports {first} to {last} (--port)")?,
        }
        if let Some(device) = &self.device {
            write!(f, ", device {} (--bind-device)", device.escape_default())?;
        }
        write!(f, ": {}", self.source)
    }
}

impl std::error::Error for ListenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// A listening socket, which rests while the system has no descriptors left, and the datagram socket at the same
/// address and port.
pub struct Listener {
    socket: TcpListener,
    pub(super) datagrams: UdpSocket,
    pub(super) family: Family,
    /// The number of the device that it is bound to.
    pub(super) device: Option<u32>,
    /// When it goes on, while it rests.
    pub(super) rest: Option<Time>,
}

/// What an accept brought.
#[derive(Debug)]
pub(super) enum Accepted {
    /// A connection.
    Conn(TcpStream, SocketAddr),
    /// A connection that was gone again.
    Gone,
    /// Nothing more.
    Nothing,
    /// The system has no room: the listener must rest.
    Exhausted(io::Error),
}

impl Listener {
    /// Accepts one connection.
    pub(super) fn accept(&self) -> Accepted {
        match self.socket.accept() {
            Ok((stream, from)) => {
                let ready = stream.set_nonblocking(true).and_then(|()| stream.set_nodelay(true));
                if ready.is_ok() { Accepted::Conn(stream, canonical(from)) } else { Accepted::Gone }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Accepted::Nothing,
            Err(error) if is_exhausted(&error) => Accepted::Exhausted(error),
            // Errors of the connection that was waiting, not of the listener (accept(2)).
            Err(_) => Accepted::Gone,
        }
    }

    /// Where it listens.
    pub fn addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Whether the system lacks descriptors or memory for one more socket.
fn is_exhausted(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM))
}

/// Listens on the first of `ports` that is free in each family in use, for TCP and for UDP; 0 is a port of the kernel's choice. A system without IPv6 (or IPv4) is no error unless
/// an address of it was asked for.
pub fn listen(route: &Route, ports: RangeInclusive<u16>) -> Result<Vec<Listener>, ListenError> {
    // With 0 the port is the first family's, and may be taken in the other one: then another.
    const TRIES: usize = 16;
    let mut tries: Vec<u16> = ports.clone().collect();
    if ports == (0..=0) {
        tries = vec![0; TRIES];
    }
    let mut failed = (IpAddr::from([0, 0, 0, 0]), io::Error::from(io::ErrorKind::InvalidInput));
    for port in tries {
        match listen_at(route, port) {
            Ok(listeners) => return Ok(listeners),
            Err((addr, error)) => {
                // The error of a taken port tells less than any other: that of the address or device.
                let last = error.kind() != io::ErrorKind::AddrInUse;
                failed = (addr, error);
                if last {
                    break;
                }
            }
        }
    }
    let device = route.device.clone();
    Err(ListenError { addr: failed.0, ports, device, source: failed.1 })
}

/// Listens on this very port in each family in use.
fn listen_at(route: &Route, mut port: u16) -> Result<Vec<Listener>, (IpAddr, io::Error)> {
    let mut listeners: Vec<Listener> = Vec::new();
    let mut missing = None;
    for family in [Family::V4, Family::V6] {
        let Some(addr) = route.local(family) else { continue };
        match listen_on(route, family, port) {
            Ok((listener, taken)) => {
                port = taken;
                listeners.push(listener);
            }
            Err(error) if addr.is_unspecified() && is_missing(&error) => missing = Some((addr, error)),
            Err(error) => return Err((addr, error)),
        }
    }
    match missing {
        Some(failure) if listeners.is_empty() => Err(failure),
        _ => Ok(listeners),
    }
}

/// Listens in one family; tells the port.
pub(super) fn listen_on(route: &Route, family: Family, port: u16) -> io::Result<(Listener, u16)> {
    let listening = socket::listen(route, family, port)?;
    let port = listening.local_addr()?.port();
    let datagrams = socket::datagram(route, family, port)?;
    let device = route.device.as_deref().and_then(|device| socket::device_number(&datagrams, device));
    Ok((Listener { socket: listening, datagrams, family, device, rest: None }, port))
}

/// Whether the system has no such family.
fn is_missing(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EAFNOSUPPORT) || error.kind() == io::ErrorKind::AddrNotAvailable
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::net::{Ipv4Addr, Ipv6Addr};
    use std::time::Duration;

    fn loopback() -> Route {
        Route { v4: Some(Ipv4Addr::LOCALHOST), ..Route::default() }
    }

    #[test]
    fn keys_survive_the_poller() {
        for key in [
            Key::Peer(PeerId::from_bits(0)),
            Key::Peer(PeerId::from_bits(0xFFFF_FFFE)),
            Key::Signals,
            Key::Network,
            Key::Listener(0),
            Key::Listener(1),
            Key::Datagrams(0),
            Key::Datagrams(1),
            Key::Group(0),
            Key::Group(1),
        ] {
            assert_eq!(Key::from_bits(key.bits()), key);
        }
    }

    #[test]
    fn a_port_is_held_for_datagrams_too() {
        let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        assert!(listen(&loopback(), port..=port).is_err());
        let only = listen(&loopback(), 0..=0).map_err(|e| e.to_string()).unwrap();
        let port = only[0].addr().unwrap().port();
        assert_eq!(only[0].datagrams.local_addr().unwrap(), only[0].addr().unwrap());
        assert!(UdpSocket::bind(("127.0.0.1", port)).is_err());
    }

    #[test]
    fn both_families_get_the_same_port() {
        let Ok(listeners) = listen(&Route::default(), 0..=0) else { panic!("no port is free") };
        let addrs: Vec<SocketAddr> = listeners.iter().map(|l| l.addr().unwrap()).collect();
        assert!(addrs.iter().all(|addr| addr.port() == addrs[0].port() && addr.port() != 0), "{addrs:?}");
        let has_v6 = TcpListener::bind((Ipv6Addr::UNSPECIFIED, 0)).is_ok();
        assert_eq!(addrs.len(), 1 + usize::from(has_v6));
        let only = listen(&loopback(), 0..=0).map_err(|e| e.to_string()).unwrap();
        assert_eq!(only.len(), 1);
        assert_eq!(only[0].addr().unwrap().ip(), IpAddr::from(Ipv4Addr::LOCALHOST));
    }

    #[test]
    fn of_a_range_the_first_free_port_is_taken_and_errors_name_the_options() {
        let taken = loop {
            let taken = socket::listen(&loopback(), Family::V4, 0).unwrap();
            if taken.local_addr().unwrap().port() < u16::MAX {
                break taken;
            }
        };
        let port = taken.local_addr().unwrap().port();
        let error = listen(&loopback(), port..=port).err().unwrap().to_string();
        let start = format!("cannot listen on 127.0.0.1 (--bind), port {port} (--port): ");
        assert!(error.starts_with(&start), "{error}");
        // Whether the next one is free is not ours to know; if a port is found, it is not the taken one.
        if let Ok(listeners) = listen(&loopback(), port..=port + 1) {
            assert_eq!(listeners[0].addr().unwrap().port(), port + 1);
        }
        let route = Route { device: Some("no-such-dev".to_string()), ..loopback() };
        let error = listen(&route, 0..=0).err().unwrap().to_string();
        assert!(error.contains("device no-such-dev (--bind-device)"), "{error}");
    }

    #[test]
    fn a_port_whose_udp_side_is_taken_is_passed_over() {
        let udp = socket::datagram(&loopback(), Family::V4, 0).unwrap();
        let port = udp.local_addr().unwrap().port();
        assert!(listen(&loopback(), port..=port).is_err());
    }

    #[test]
    fn level_mode_reports_what_is_left_again_and_the_bell_ends_a_wait() {
        let mut poll = Poll::new().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut there = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (here, _) = listener.accept().unwrap();
        let key = Key::Peer(PeerId::from_bits(7 << 16 | 3));
        poll.add(here.as_fd(), key, (true, false)).unwrap();
        there.write_all(b"x").unwrap();
        let mut ready = Vec::new();
        for _ in 0..3 {
            poll.wait(None, &mut ready).unwrap();
            assert_eq!(ready, [Ready { key, readable: true, writable: false }]);
        }
        poll.change(here.as_fd(), key, (false, false)).unwrap();
        let wake = poll.wake();
        wake.doze();
        wake.ring();
        poll.wait(None, &mut ready).unwrap();
        assert_eq!(ready, []);
        poll.remove(here.as_fd());
    }

    /// Senders and a sleeper race: a message whose bell is lost would leave the sleeper asleep for good.
    #[test]
    fn no_bell_is_lost_between_doze_and_sleep() {
        const EACH: usize = 20_000;
        let mut poll = Poll::new().unwrap();
        let (tx, rx) = crossbeam_channel::bounded(8);
        let wake = poll.wake();
        std::thread::scope(|scope| {
            for _ in 0..2 {
                let (tx, wake) = (tx.clone(), wake.clone());
                scope.spawn(move || {
                    for n in 0..EACH {
                        tx.send(n).unwrap();
                        wake.ring();
                    }
                });
            }
            let (mut got, mut ready) = (0, Vec::new());
            while got < 2 * EACH {
                wake.doze();
                if rx.is_empty() {
                    poll.wait(None, &mut ready).unwrap();
                }
                wake.rise();
                got += rx.try_iter().count();
            }
        });
    }

    /// Run by the test below in a process of its own, where descriptors may run out without harm to others.
    #[test]
    #[ignore = "takes every descriptor of the process"]
    fn exhausted_child() {
        let (listener, _) = listen_on(&loopback(), Family::V4, 0).unwrap();
        let _there = TcpStream::connect(listener.addr().unwrap()).unwrap();
        let mut taken = Vec::new();
        while let Ok(copy) = listener.socket.try_clone() {
            taken.push(copy);
        }
        assert!(matches!(listener.accept(), Accepted::Exhausted(_)));
        drop(taken);
        assert!(matches!(listener.accept(), Accepted::Conn(..)));
        assert!(matches!(listener.accept(), Accepted::Nothing));
    }

    #[test]
    fn a_system_without_descriptors_is_told_from_one_without_connections() {
        let output = std::process::Command::new("sh")
            .args([
                "-c",
                "ulimit -n 64; exec \"$0\" --ignored --exact reactor::sockets::tests::exhausted_child",
            ])
            .arg(std::env::current_exe().unwrap())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains("1 passed"), "{text}");
    }

    #[test]
    fn a_wait_ends_at_its_deadline() {
        #[expect(clippy::disallowed_methods, reason = "the poller's deadlines are instants")]
        let until = Instant::now() + Duration::from_millis(20);
        let mut ready = vec![Ready { key: Key::Signals, readable: true, writable: false }];
        Poll::new().unwrap().wait(Some(until), &mut ready).unwrap();
        assert_eq!(ready, []);
    }
}
