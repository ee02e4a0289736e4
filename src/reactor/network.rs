//! Changes of this machine's network, as the kernel tells them: connections whose address is gone are closed, listeners
//! follow the device of `--bind-device`, and the session hears when something came.

use super::Reactor;
use super::sockets::{Key, Listener, Poll, listen_on};
use crate::api::{Event, PeerId, Why};
use crate::base::time::Time;
use crate::limits;
use crate::sys::multicast::Group;
use crate::sys::netlink::{Changes, Monitor};
use crate::sys::socket::{self, Route};
use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::time::Duration;

/// The device of `--bind-device`, to which sockets are bound by the number that it had when they were made.
#[derive(Default)]
pub(super) struct BoundDevice {
    is_gone: bool,
    /// It is back, and a socket could not be bound to it: when that is tried again.
    retry: Option<Time>,
}

/// What became of a bound device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum DeviceChange {
    Same,
    /// Connections over it are dead.
    Gone,
    /// It is another one of the same name: the listeners are new ones.
    Back,
}

impl BoundDevice {
    /// When [`BoundDevice::follow`] is due.
    pub(super) fn deadline(&self) -> Option<Time> {
        self.retry
    }

    /// If the device was deleted and made again, binds the listeners to the new one.
    pub(super) fn follow(
        &mut self,
        poll: &Poll,
        listeners: &mut [Listener],
        route: &Route,
        now: Time,
    ) -> DeviceChange {
        let (Some(name), Some(first)) = (&route.device, listeners.first()) else { return DeviceChange::Same };
        self.retry = None;
        let shown = name.escape_default();
        let Some(number) = socket::device_number(first, name) else {
            if std::mem::replace(&mut self.is_gone, true) {
                return DeviceChange::Same;
            }
            log::warn!("the device {shown} (--bind-device) is gone: nothing is sent until it is back");
            return DeviceChange::Gone;
        };
        // One that was merely renamed for a while has the number that it had.
        if !self.is_gone && listeners.iter().all(|listener| listener.device == Some(number)) {
            return DeviceChange::Same;
        }
        for (at, listener) in listeners.iter_mut().enumerate() {
            if listener.device != Some(number)
                && let Err(error) = bind_anew(poll, at, listener, route)
            {
                log::info!("cannot listen on the device {shown} yet: {error}");
                self.retry = Some(now + limits::REBIND_RETRY);
                return DeviceChange::Same;
            }
        }
        self.is_gone = false;
        log::warn!("the device {shown} (--bind-device) is back: listening on it again");
        DeviceChange::Back
    }
}

/// Puts a new listener, at the same port, in the place of one whose device is gone.
fn bind_anew(poll: &Poll, at: usize, listener: &mut Listener, route: &Route) -> io::Result<()> {
    let (fresh, _) = listen_on(route, listener.family, listener.addr()?.port())?;
    poll.remove(listener.as_fd());
    poll.remove(listener.datagrams.as_fd());
    *listener = fresh;
    poll.add(listener.as_fd(), Key::Listener(at), (true, false))?;
    poll.add(listener.datagrams.as_fd(), Key::Datagrams(at), (true, false))
}

/// What the reactor knows of the network below its sockets.
pub(super) struct Network {
    /// None: the system does not tell us.
    monitor: Option<Monitor>,
    device: BoundDevice,
    /// Addresses of `--bind` that are gone.
    missing: Vec<IpAddr>,
    /// Without a monitor: when the device is looked at.
    look_at: Option<Time>,
}

impl Network {
    pub(super) fn new(monitor: Option<Monitor>) -> Network {
        Network { monitor, device: BoundDevice::default(), missing: Vec::new(), look_at: None }
    }

    pub(super) fn monitor(&self) -> Option<&Monitor> {
        self.monitor.as_ref()
    }

    /// When [`Reactor::look_at_network`] is due.
    pub(super) fn deadline(&self) -> Option<Time> {
        [self.look_at, self.device.deadline()].into_iter().flatten().min()
    }

    /// How long what we send to a peer may stay unacknowledged: the kernel tells nothing where there is no monitor.
    pub(super) fn unacknowledged(&self) -> Duration {
        match self.monitor {
            Some(_) => limits::UNACKNOWLEDGED,
            None => limits::UNACKNOWLEDGED_UNWATCHED,
        }
    }
}

impl Reactor {
    /// The kernel has told something.
    pub(super) fn hear_kernel(&mut self) {
        let Some(monitor) = &mut self.network.monitor else { return };
        let changes = monitor.read();
        self.apply_changes(changes);
    }

    fn apply_changes(&mut self, changes: Changes) {
        if changes == Changes::default() {
            return;
        }
        log::debug!("the network has changed: {changes:?}");
        if changes.v4_down || changes.v6_down {
            self.close_without_address();
            self.tell(Event::NetworkDown { v4: changes.v4_down, v6: changes.v6_down });
        }
        self.look_at_bound_addresses();
        let is_bound_anew = self.follow_device();
        if changes.v4_up || changes.v6_up {
            self.groups.iter_mut().for_each(Group::refresh);
            self.tell(Event::NetworkUp { v4: changes.v4_up, v6: changes.v6_up });
        } else if is_bound_anew {
            self.tell(Event::NetworkUp { v4: true, v6: true });
        }
    }

    /// Does what is due: without a monitor the network is looked at now and then, if the sockets depend on it.
    pub(super) fn look_at_network(&mut self) {
        if self.network.deadline().is_some_and(|at| at <= self.now) {
            self.network.look_at = None;
            self.look_at_bound_addresses();
            if self.follow_device() {
                self.tell(Event::NetworkUp { v4: true, v6: true });
            }
        }
        self.plan_look();
    }

    /// Without a monitor a bound device is looked at now and then.
    pub(super) fn plan_look(&mut self) {
        let is_blind = self.network.monitor.is_none() && self.route.device.is_some();
        if is_blind && self.network.look_at.is_none() {
            self.network.look_at = Some(self.now + limits::NETWORK_LOOK);
        }
    }

    /// Closes connections whose own address is no longer one of this machine: nothing can come or go over them.
    fn close_without_address(&mut self) {
        let mut ours: BTreeMap<IpAddr, bool> = BTreeMap::new();
        let mut gone: Vec<PeerId> = Vec::new();
        for conn in self.conns.iter() {
            let Ok(local) = conn.stream.local_addr() else { continue };
            if !*ours.entry(local.ip()).or_insert_with(|| socket::is_ours(local)) {
                gone.push(conn.id);
            }
        }
        for id in gone {
            self.lose(id, Why::AddressGone);
        }
    }

    /// Says when an address of `--bind` goes or comes. Sockets bound to one work again when it is back.
    fn look_at_bound_addresses(&mut self) {
        for ip in self.route.bound() {
            let was_there = !self.network.missing.contains(&ip);
            match (socket::is_ours(SocketAddr::new(ip, 0)), was_there) {
                (false, true) => {
                    log::warn!("the address {ip} (--bind) is gone: nothing is sent until it is back");
                    self.network.missing.push(ip);
                }
                (true, false) => {
                    log::warn!("the address {ip} (--bind) is back");
                    self.network.missing.retain(|other| *other != ip);
                }
                _ => {}
            }
        }
    }

    /// Sees to the device of `--bind-device`. True if there are new listeners.
    fn follow_device(&mut self) -> bool {
        let change = self.network.device.follow(&self.poll, &mut self.listeners, &self.route, self.now);
        if change != DeviceChange::Same {
            self.close_all_connections();
        }
        if change == DeviceChange::Back {
            self.rejoin_groups();
        }
        change == DeviceChange::Back
    }

    fn close_all_connections(&mut self) {
        let all: Vec<PeerId> = self.conns.iter().map(|conn| conn.id).collect();
        for id in all {
            self.lose(id, Why::AddressGone);
        }
    }

    fn rejoin_groups(&mut self) {
        for at in 0..self.groups.len() {
            let addr = self.groups[at].addr();
            match Group::join(&self.route, addr) {
                Ok(group) => {
                    self.poll.remove(self.groups[at].as_fd());
                    self.groups[at] = group;
                    if let Err(error) = self.poll.add(self.groups[at].as_fd(), Key::Group(at), (true, false))
                    {
                        log::error!("cannot watch the group {addr}: {error}");
                    }
                }
                Err(error) => log::info!("no local discovery by {addr}: {error}"),
            }
        }
    }
}

/// The kind of an error of a socket. A device that is gone is a network that is down.
pub(super) fn kind_of(error: &io::Error) -> ErrorKind {
    match error.raw_os_error() {
        Some(libc::ENODEV) => ErrorKind::NetworkDown,
        _ => error.kind(),
    }
}
