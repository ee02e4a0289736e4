//! Multicast groups: one that we hear, and how something is said to it on every network device in use. Several programs
//! of a machine hear the same group. Only what was sent to the group arrives: nobody from afar can write to it.
//!
//! Devices come and go (a laptop starts before its network does): they are looked at anew before each word.

use crate::limits::{LSD_DEVICES, LSD_OWN};
use crate::sys::socket::{self, Family, Route};
use rustix::net::netdevice::name_to_index;
use rustix::net::sockopt;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};

/// How many routers a word may pass: BEP 14 wants more than none, for houses with several networks.
const HOPS: u32 = 4;

/// The loopback device of Linux.
const LOOPBACK: &str = "lo";

/// Which way a word goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Way {
    /// The device with this address.
    Address(Ipv4Addr),
    /// The device with this number; 0 leaves it to the system.
    Device(u32),
}

/// A group that we hear.
pub struct Group {
    socket: UdpSocket,
    addr: SocketAddr,
    route: Route,
    ways: Vec<Way>,
    /// Our own addresses, by which neighbours are told.
    own: Vec<Ipv6Addr>,
}

impl Group {
    /// Joins the group at `addr` on the devices of the route.
    pub fn join(route: &Route, addr: SocketAddr) -> io::Result<Group> {
        let socket = socket::group(route, addr)?;
        let mut group = Group { socket, addr, route: route.clone(), ways: Vec::new(), own: Vec::new() };
        group.refresh();
        if group.ways.is_empty() {
            return Err(io::Error::new(io::ErrorKind::AddrNotAvailable, "no network device has it"));
        }
        Ok(group)
    }

    /// The family of the group.
    pub fn family(&self) -> Family {
        Family::of(self.addr.ip())
    }

    /// Takes the next datagram; it fails with `WouldBlock` when there is none.
    pub fn receive(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.socket.recv_from(buf)
    }

    /// Says something to the group from `socket`, on each device. Gives on how many that went well.
    pub fn send(&mut self, socket: &UdpSocket, data: &[u8]) -> usize {
        self.refresh();
        let said = |way: &&Way| {
            let sent = self.choose(socket, **way).and_then(|()| socket.send_to(data, self.addr));
            if let Err(error) = &sent {
                log::debug!("cannot announce to {} by {way:?}: {error}", self.addr);
            }
            sent.is_ok()
        };
        self.ways.iter().filter(said).count()
    }

    /// Whether an address is in one network with us: of IPv6, where addresses that are seen from everywhere are common
    /// in a house, in the /64 of one of ours.
    pub fn is_near(&self, ip: IpAddr) -> bool {
        let network = |ip: &Ipv6Addr| ip.to_bits() >> 64;
        matches!(ip, IpAddr::V6(ip) if self.own.iter().any(|own| network(own) == network(&ip)))
    }

    /// Its address.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Joins on devices that are new.
    pub fn refresh(&mut self) {
        let ways = self.find_ways();
        // A membership that is there already is an error that changes nothing; a device that is gone has lost its own.
        self.ways = ways
            .into_iter()
            .filter(|way| match self.enter(*way) {
                Ok(()) => true,
                Err(error) => error.kind() == io::ErrorKind::AddrInUse,
            })
            .collect();
        self.own = own_v6().into_iter().map(|(ip, _)| ip).collect();
    }

    fn find_ways(&self) -> Vec<Way> {
        if let Some(device) = self.route.device.as_deref().filter(|_| !self.is_bound()) {
            return self.way(device).into_iter().collect();
        }
        match self.route.local(self.family()) {
            Some(IpAddr::V4(ip)) if !ip.is_unspecified() => vec![Way::Address(ip)],
            Some(IpAddr::V6(ip)) if !ip.is_unspecified() => own_v6()
                .into_iter()
                .find(|(own, _)| *own == ip)
                .map(|(_, at)| Way::Device(at))
                .into_iter()
                .collect(),
            _ => self.all_ways(),
        }
    }

    /// Whether `--bind` names an address of this family.
    fn is_bound(&self) -> bool {
        self.route.local(self.family()).is_some_and(|ip| !ip.is_unspecified())
    }

    /// By this device. Of the loopback one the system takes no address by itself for what goes to a group.
    fn way(&self, device: &str) -> Option<Way> {
        if device == LOOPBACK && self.family() == Family::V4 {
            return Some(Way::Address(Ipv4Addr::LOCALHOST));
        }
        name_to_index(&self.socket, device).ok().map(Way::Device)
    }

    /// By each network device that there is, but the loopback one only if there is no other; where the system does not
    /// tell them, by the one of its choice.
    fn all_ways(&self) -> Vec<Way> {
        let Ok(text) = fs::read_to_string("/proc/net/dev") else { return vec![Way::Device(0)] };
        let names = text.lines().skip(2).filter_map(|line| Some(line.split_once(':')?.0.trim()));
        let ways: Vec<Way> = names
            .filter(|name| *name != LOOPBACK)
            .filter_map(|name| self.way(name))
            .take(LSD_DEVICES)
            .collect();
        if ways.is_empty() { self.way(LOOPBACK).into_iter().collect() } else { ways }
    }

    fn enter(&self, way: Way) -> io::Result<()> {
        let any = Ipv4Addr::UNSPECIFIED;
        match (self.addr.ip(), way) {
            (IpAddr::V4(group), Way::Address(ip)) => {
                sockopt::set_ip_add_membership(&self.socket, &group, &ip)?;
            }
            (IpAddr::V4(group), Way::Device(0)) => {
                sockopt::set_ip_add_membership(&self.socket, &group, &any)?;
            }
            (IpAddr::V4(group), Way::Device(at)) => {
                sockopt::set_ip_add_membership_with_ifindex(&self.socket, &group, &any, at)?;
            }
            (IpAddr::V6(group), Way::Device(at)) => {
                sockopt::set_ipv6_add_membership(&self.socket, &group, at)?;
            }
            (IpAddr::V6(_), Way::Address(_)) => return Err(io::ErrorKind::AddrNotAvailable.into()),
        }
        Ok(())
    }

    /// The next datagram of the socket to the group goes this way.
    fn choose(&self, socket: &UdpSocket, way: Way) -> io::Result<()> {
        let any = Ipv4Addr::UNSPECIFIED;
        match (self.family(), way) {
            (Family::V4, Way::Address(ip)) => sockopt::set_ip_multicast_if(socket, &ip)?,
            (Family::V4, Way::Device(0)) => sockopt::set_ip_multicast_if(socket, &any)?,
            (Family::V4, Way::Device(at)) => {
                sockopt::set_ip_multicast_if_with_ifindex(socket, &any, &any, at)?;
            }
            (Family::V6, Way::Device(at)) => sockopt::set_ipv6_multicast_if(socket, at)?,
            (Family::V6, Way::Address(_)) => return Err(io::ErrorKind::AddrNotAvailable.into()),
        }
        match self.family() {
            Family::V4 => sockopt::set_ip_multicast_ttl(socket, HOPS)?,
            Family::V6 => sockopt::set_ipv6_multicast_hops(socket, HOPS)?,
        }
        Ok(())
    }
}

impl AsFd for Group {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Our IPv6 addresses and the numbers of their devices, as Linux tells them.
fn own_v6() -> Vec<(Ipv6Addr, u32)> {
    let text = fs::read_to_string("/proc/net/if_inet6").unwrap_or_default();
    text.lines().filter_map(address_of).take(LSD_OWN).collect()
}

/// Of a line of `/proc/net/if_inet6` the address and the number of the device, both in hexadecimal.
fn address_of(line: &str) -> Option<(Ipv6Addr, u32)> {
    let mut words = line.split_whitespace();
    let ip = u128::from_str_radix(words.next()?, 16).ok()?;
    Some((Ipv6Addr::from_bits(ip), u32::from_str_radix(words.next()?, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    const GROUP: &str = "239.192.152.77:0";

    fn loopback() -> Route {
        Route { v4: Some(Ipv4Addr::LOCALHOST), ..Route::default() }
    }

    /// A group that no other test speaks to.
    fn group() -> Group {
        let free = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut addr: SocketAddr = GROUP.parse().unwrap();
        addr.set_port(free);
        Group::join(&loopback(), addr).unwrap()
    }

    #[expect(clippy::disallowed_methods, reason = "a test waits in real time")]
    fn hear(group: &Group) -> Option<(Vec<u8>, SocketAddr)> {
        let (start, mut buf) = (Instant::now(), [0; 64]);
        while start.elapsed() < Duration::from_secs(10) {
            match group.receive(&mut buf) {
                Ok((len, from)) => return Some((buf[..len].to_vec(), from)),
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        None
    }

    #[test]
    fn all_who_joined_hear_what_is_said_from_the_bound_address() {
        let mut first = group();
        let second = Group::join(&loopback(), first.addr).unwrap();
        let mouth = UdpSocket::bind("127.0.0.1:0").unwrap();
        assert_eq!(first.send(&mouth, b"hello"), 1);
        let expected = (b"hello".to_vec(), mouth.local_addr().unwrap());
        assert_eq!(hear(&first), Some(expected.clone()));
        assert_eq!(hear(&second), Some(expected.clone()));
        // A second word: the membership is there already.
        assert_eq!((first.send(&mouth, b"hello"), hear(&second)), (1, Some(expected)));
    }

    #[test]
    fn what_is_not_sent_to_the_group_does_not_arrive() {
        let mut group = group();
        let mouth = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = group.addr.port();
        // Nobody is there, or somebody else: in any case it is not for the group.
        let _ = mouth.send_to(b"from afar", ("127.0.0.1", port));
        assert_eq!(group.send(&mouth, b"near"), 1);
        assert_eq!(hear(&group).map(|(said, _)| said), Some(b"near".to_vec()));
    }

    #[test]
    fn a_device_that_is_not_there_or_a_family_that_is_not_used_is_an_error() {
        let addr = "239.192.152.77:6771".parse().unwrap();
        let route = Route { device: Some("no-such-dev".into()), ..loopback() };
        assert!(Group::join(&route, addr).is_err());
        let v6 = Route { v6: Some(Ipv6Addr::LOCALHOST), ..Route::default() };
        assert_eq!(Group::join(&v6, addr).map(|_| ()).unwrap_err().kind(), io::ErrorKind::AddrNotAvailable);
    }

    #[test]
    fn our_addresses_are_read_as_linux_tells_them() {
        let line = "fe8000000000000000fc00fffe000001 04 40 20 80     eth0";
        assert_eq!(address_of(line), Some(("fe80::fc:ff:fe00:1".parse().unwrap(), 4)));
        assert_eq!((address_of(""), address_of("junk 4")), (None, None));
        let mut group = group();
        group.own = vec!["2001:db8:1:2::3".parse().unwrap()];
        let near = |ip: &str| group.is_near(ip.parse().unwrap());
        assert!(near("2001:db8:1:2:ffff::1") && !near("2001:db8:1:3::3") && !near("9.9.9.9"));
    }
}
