//! What the kernel says of this machine's network (rtnetlink, Linux): addresses, routes and links that come and go.
//!
//! [`changes`] reads the messages; it takes bytes and knows no socket. [`Monitor`] is the socket.

use crate::limits::{NETLINK_LINKS_MAX, NETLINK_MESSAGE_MAX, NETLINK_READS_MAX};
use crate::sys::socket::Family;
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// One change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    /// An address that others can reach is ours from now on.
    AddressAdded(Family),
    /// An address is no longer ours.
    AddressRemoved(Family),
    /// There is a way to somewhere that is more than the network of a link.
    RouteAdded(Family),
    /// A link other than loopback is there, and can carry packets or not.
    Link {
        /// Its number.
        index: u32,
        /// It is up and has a carrier.
        is_running: bool,
    },
    /// A link is gone.
    LinkRemoved {
        /// Its number.
        index: u32,
    },
}

/// The header of each message (`struct nlmsghdr`): length, type, flags, sequence, sender.
const HEADER: usize = 16;
const NEW_LINK: u16 = 16;
const DELETE_LINK: u16 = 17;
const NEW_ADDRESS: u16 = 20;
const DELETE_ADDRESS: u16 = 21;
const NEW_ROUTE: u16 = 24;

/// `RT_SCOPE_UNIVERSE`: not for one link or this machine alone.
const SCOPE_UNIVERSE: u8 = 0;
/// `IFA_F_TENTATIVE`: an IPv6 address whose uniqueness is being checked; another message follows.
const TENTATIVE: u8 = 0x40;
/// `RTN_UNICAST`.
const UNICAST: u8 = 1;
/// `RT_TABLE_LOCAL`: our own addresses as routes.
const TABLE_LOCAL: u8 = 255;
/// Routes of an administrator, of a router advertisement and of DHCP (`RTPROT_BOOT`, `_STATIC`, `_RA`, `_DHCP`). Those of
/// routing daemons change all the time.
const PROTOCOLS: [u8; 4] = [3, 4, 9, 16];
const IFF_UP: u32 = 1;
const IFF_LOOPBACK: u32 = 8;
const IFF_LOWER_UP: u32 = 0x1_0000;

/// The changes that a datagram of the kernel tells. A truncated message ends the
/// iteration; messages of other kinds are skipped.
pub fn changes(mut data: &[u8]) -> impl Iterator<Item = Change> + '_ {
    std::iter::from_fn(move || {
        loop {
            let len = usize::try_from(u32_at(data, 0)?).ok()?;
            let kind = u16::from_ne_bytes(array_at(data, 4)?);
            let body = data.get(HEADER..len)?;
            // Each message begins at a multiple of four.
            data = data.get(len.checked_next_multiple_of(4)?..).unwrap_or_default();
            if let Some(change) = change(kind, body) {
                return Some(change);
            }
        }
    })
}

fn change(kind: u16, body: &[u8]) -> Option<Change> {
    match kind {
        // struct ifinfomsg: family, padding, type, index, flags.
        NEW_LINK => {
            let (index, flags) = (u32_at(body, 4)?, u32_at(body, 8)?);
            let is_running = flags & IFF_UP != 0 && flags & IFF_LOWER_UP != 0;
            (flags & IFF_LOOPBACK == 0).then_some(Change::Link { index, is_running })
        }
        DELETE_LINK => Some(Change::LinkRemoved { index: u32_at(body, 4)? }),
        // struct ifaddrmsg: family, prefix length, flags, scope, index.
        NEW_ADDRESS | DELETE_ADDRESS => {
            let [family, _, flags, scope]: [u8; 4] = array_at(body, 0)?;
            let family = family_of(family)?;
            match kind {
                DELETE_ADDRESS => Some(Change::AddressRemoved(family)),
                _ if scope == SCOPE_UNIVERSE && flags & TENTATIVE == 0 => Some(Change::AddressAdded(family)),
                _ => None,
            }
        }
        // struct rtmsg: family, lengths of destination and source, TOS, table, protocol, scope, type.
        NEW_ROUTE => {
            let [family, to_len, _, _, table, protocol, _, route]: [u8; 8] = array_at(body, 0)?;
            let is_ours = route != UNICAST || table == TABLE_LOCAL;
            // A VPN may split the default route into two halves.
            let is_wide = to_len <= 1 || PROTOCOLS.contains(&protocol);
            (is_wide && !is_ours).then_some(Change::RouteAdded(family_of(family)?))
        }
        _ => None,
    }
}

fn family_of(number: u8) -> Option<Family> {
    match i32::from(number) {
        libc::AF_INET => Some(Family::V4),
        libc::AF_INET6 => Some(Family::V6),
        _ => None,
    }
}

fn array_at<const N: usize>(data: &[u8], at: usize) -> Option<[u8; N]> {
    data.get(at..at.checked_add(N)?)?.try_into().ok()
}

fn u32_at(data: &[u8], at: usize) -> Option<u32> {
    array_at(data, at).map(u32::from_ne_bytes)
}

/// What several changes come to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Changes {
    /// An IPv4 address or a link is gone.
    pub v4_down: bool,
    /// An IPv6 address or a link is gone.
    pub v6_down: bool,
    /// Something came over IPv4.
    pub v4_up: bool,
    /// Something came over IPv6.
    pub v6_up: bool,
    /// A link came, went or changed.
    pub has_link: bool,
}

impl Changes {
    /// What is to be looked at when messages were lost: everything.
    pub const ALL: Changes =
        Changes { v4_down: true, v6_down: true, v4_up: true, v6_up: true, has_link: true };

    fn up(&mut self, family: Family) {
        match family {
            Family::V4 => self.v4_up = true,
            Family::V6 => self.v6_up = true,
        }
    }
}

/// Which links were running, so that one that comes back is told from one that merely reports.
#[derive(Default)]
struct Links(BTreeMap<u32, bool>);

impl Links {
    fn apply(&mut self, change: Change, to: &mut Changes) {
        match change {
            Change::AddressAdded(family) | Change::RouteAdded(family) => to.up(family),
            Change::AddressRemoved(Family::V4) => to.v4_down = true,
            Change::AddressRemoved(Family::V6) => to.v6_down = true,
            Change::Link { index, is_running } => {
                to.has_link = true;
                if self.0.len() >= NETLINK_LINKS_MAX && !self.0.contains_key(&index) {
                    self.0.pop_first();
                }
                match (self.0.insert(index, is_running), is_running) {
                    (None | Some(false), true) => (to.v4_up, to.v6_up) = (true, true),
                    (None | Some(true), false) => (to.v4_down, to.v6_down) = (true, true),
                    (Some(true), true) | (Some(false), false) => {}
                }
            }
            Change::LinkRemoved { index } => {
                self.0.remove(&index);
                (to.has_link, to.v4_down, to.v6_down) = (true, true, true);
            }
        }
    }
}

/// A socket that hears of changes.
pub struct Monitor {
    socket: OwnedFd,
    links: Links,
    buf: Vec<u8>,
}

impl Monitor {
    /// Hears of changes from now on. An error: the system has no rtnetlink, or does not let us.
    pub fn open() -> io::Result<Monitor> {
        let socket = open()?;
        Ok(Monitor { socket, links: Links::default(), buf: vec![0; NETLINK_MESSAGE_MAX] })
    }

    /// Takes what has come, a bounded number of messages; what is left is reported again.
    pub fn read(&mut self) -> Changes {
        let mut changes = Changes::default();
        for _ in 0..NETLINK_READS_MAX {
            match receive(&self.socket, &mut self.buf) {
                // Only the kernel may tell us anything.
                Ok((len, true)) => {
                    let told = self.buf.get(..len).unwrap_or_default();
                    self::changes(told).for_each(|change| self.links.apply(change, &mut changes));
                }
                Ok((_, false)) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // More came than the socket had room for.
                Err(_) => return Changes::ALL,
            }
        }
        changes
    }
}

impl AsFd for Monitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(target_os = "linux")]
fn open() -> io::Result<OwnedFd> {
    use rustix::net::netlink::SocketAddrNetlink;
    use rustix::net::{AddressFamily, SocketFlags, SocketType};
    /// `RTMGRP_LINK`, `_IPV4_IFADDR`, `_IPV4_ROUTE`, `_IPV6_IFADDR`, `_IPV6_ROUTE`.
    const GROUPS: u32 = 0x1 | 0x10 | 0x40 | 0x100 | 0x400;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
    rustix::net::bind(&socket, &SocketAddrNetlink::new(0, GROUPS))?;
    Ok(socket)
}

/// One datagram, and whether it is of the kernel.
#[cfg(target_os = "linux")]
fn receive(socket: &OwnedFd, buf: &mut [u8]) -> io::Result<(usize, bool)> {
    use rustix::net::netlink::SocketAddrNetlink;
    let (len, _, from) = rustix::net::recvfrom(socket, buf, rustix::net::RecvFlags::empty())?;
    let from = from.and_then(|from| SocketAddrNetlink::try_from(from).ok());
    Ok((len, from.is_some_and(|from| from.pid() == 0)))
}

#[cfg(not(target_os = "linux"))]
fn open() -> io::Result<OwnedFd> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "this system has no rtnetlink"))
}

#[cfg(not(target_os = "linux"))]
fn receive(_: &OwnedFd, _: &mut [u8]) -> io::Result<(usize, bool)> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, body: &[u8]) -> Vec<u8> {
        let len = (HEADER + body.len()) as u32;
        let mut out = len.to_ne_bytes().to_vec();
        out.extend(kind.to_ne_bytes());
        out.extend([0; 10]);
        out.extend(body);
        out.resize(out.len().next_multiple_of(4), 0);
        out
    }

    fn address(family: i32, flags: u8, scope: u8) -> Vec<u8> {
        vec![family as u8, 24, flags, scope, 7, 0, 0, 0]
    }

    fn route(family: i32, to_len: u8, table: u8, protocol: u8, kind: u8) -> Vec<u8> {
        vec![family as u8, to_len, 0, 0, table, protocol, 0, kind, 0, 0, 0, 0]
    }

    fn link(index: u32, flags: u32) -> Vec<u8> {
        [&[0; 4][..], &index.to_ne_bytes(), &flags.to_ne_bytes(), &[0; 4]].concat()
    }

    fn all(data: &[u8]) -> Vec<Change> {
        changes(data).collect()
    }

    #[test]
    fn addresses_routes_and_links_are_told_in_their_order() {
        let (v4, v6) = (libc::AF_INET, libc::AF_INET6);
        let data = [
            message(DELETE_ADDRESS, &address(v4, 0, 0)),
            message(NEW_ADDRESS, &address(v6, 0, 0)),
            message(NEW_ROUTE, &route(v4, 0, 254, 2, UNICAST)),
            message(NEW_ROUTE, &route(v6, 64, 254, 9, UNICAST)),
            message(NEW_LINK, &link(3, IFF_UP | IFF_LOWER_UP)),
            message(NEW_LINK, &link(4, IFF_UP)),
            message(DELETE_LINK, &link(3, 0)),
        ];
        let expected = [
            Change::AddressRemoved(Family::V4),
            Change::AddressAdded(Family::V6),
            Change::RouteAdded(Family::V4),
            Change::RouteAdded(Family::V6),
            Change::Link { index: 3, is_running: true },
            Change::Link { index: 4, is_running: false },
            Change::LinkRemoved { index: 3 },
        ];
        assert_eq!(all(&data.concat()), expected);
    }

    #[test]
    fn what_does_not_lead_to_others_is_passed_over() {
        let v4 = libc::AF_INET;
        let data = [
            message(NEW_ADDRESS, &address(v4, 0, 254)),
            message(NEW_ADDRESS, &address(libc::AF_INET6, 0, 253)),
            message(NEW_ADDRESS, &address(libc::AF_INET6, TENTATIVE, 0)),
            message(NEW_ADDRESS, &address(99, 0, 0)),
            message(NEW_ROUTE, &route(v4, 24, 254, 2, UNICAST)),
            message(NEW_ROUTE, &route(v4, 24, 254, 12, UNICAST)),
            message(NEW_ROUTE, &route(v4, 0, TABLE_LOCAL, 2, 2)),
            message(NEW_LINK, &link(1, IFF_UP | IFF_LOWER_UP | IFF_LOOPBACK)),
            message(2, &[0; 20]),
        ];
        assert_eq!(all(&data.concat()), []);
    }

    #[test]
    fn cut_and_wrong_messages_end_the_datagram() {
        let good = message(DELETE_ADDRESS, &address(libc::AF_INET, 0, 0));
        for len in 0..good.len() {
            assert_eq!(all(&good[..len]), [], "{len} bytes");
        }
        for len in [0, 1, HEADER as u32 - 1, 9999, u32::MAX] {
            let mut wrong = good.clone();
            wrong[..4].copy_from_slice(&len.to_ne_bytes());
            assert_eq!(all(&[wrong, good.clone()].concat()), [], "a length of {len}");
        }
        // A message too short for its kind is passed over.
        assert_eq!(all(&[message(NEW_LINK, &[0; 3]), good].concat()).len(), 1);
    }

    #[test]
    fn a_link_counts_when_its_carrier_comes_and_the_number_of_links_is_bounded() {
        let mut links = Links::default();
        let mut told = |index, is_running| {
            let mut to = Changes::default();
            links.apply(Change::Link { index, is_running }, &mut to);
            to.v4_up
        };
        assert_eq!([told(1, false), told(1, true), told(1, true)], [false, true, false]);
        assert_eq!([told(1, false), told(1, true)], [false, true]);
        for index in 0..10 * NETLINK_LINKS_MAX as u32 {
            told(index, true);
        }
        assert_eq!(links.0.len(), NETLINK_LINKS_MAX);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_monitor_with_nothing_to_tell_does_not_wait() {
        let mut monitor = Monitor::open().unwrap();
        while monitor.read() != Changes::default() {}
    }
}
