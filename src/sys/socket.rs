//! The one function that makes a socket: address, device and family are settled here (`--bind`, `--bind-device`), for
//! peers and trackers alike, so that no connection leaves another way than the user said.

use rustix::io::Errno;
use rustix::net::sockopt::{self, Timeout};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

/// Which way sockets go.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Route {
    /// The IPv4 address to listen on and to connect from (`--bind`).
    pub v4: Option<Ipv4Addr>,
    /// The IPv6 address to listen on and to connect from (`--bind`).
    pub v6: Option<Ipv6Addr>,
    /// The network device that every socket is tied to (`--bind-device`).
    pub device: Option<String>,
}

/// An address family.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6, and nothing but that.
    V6,
}

impl Family {
    /// The family of an address.
    pub fn of(ip: IpAddr) -> Family {
        if ip.is_ipv4() { Family::V4 } else { Family::V6 }
    }
}

impl Route {
    /// From the addresses of `--bind`, one of each family at most, and the device of `--bind-device`.
    pub fn new(bind: &[IpAddr], device: Option<String>) -> Route {
        let v4 = bind.iter().find_map(|ip| if let IpAddr::V4(v4) = ip { Some(*v4) } else { None });
        let v6 = bind.iter().find_map(|ip| if let IpAddr::V6(v6) = ip { Some(*v6) } else { None });
        Route { v4, v6, device }
    }

    /// The addresses of `--bind`.
    pub fn bound(&self) -> impl Iterator<Item = IpAddr> + use<> {
        let (v4, v6) = (self.v4.map(IpAddr::V4), self.v6.map(IpAddr::V6));
        v4.into_iter().chain(v6).filter(|ip| !ip.is_unspecified())
    }

    /// The address that sockets of a family are bound to, the unspecified one where any will do. None: the family is
    /// not to be used, since `--bind` names an address of the other one only.
    pub fn local(&self, family: Family) -> Option<IpAddr> {
        let any = self.v4.is_none() && self.v6.is_none();
        match family {
            Family::V4 => self.v4.or(any.then_some(Ipv4Addr::UNSPECIFIED)).map(IpAddr::V4),
            Family::V6 => self.v6.or(any.then_some(Ipv6Addr::UNSPECIFIED)).map(IpAddr::V6),
        }
    }
}

/// How calls on a socket wait.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Waits {
    /// Not at all: they fail with `WouldBlock`.
    Never,
    /// Each call this long at most.
    For(Duration),
}

/// Makes every socket of the process, on the route's device.
fn make(route: &Route, family: Family, kind: SocketType, waits: Waits) -> io::Result<OwnedFd> {
    let domain = match family {
        Family::V4 => AddressFamily::INET,
        Family::V6 => AddressFamily::INET6,
    };
    let flags = match waits {
        Waits::Never => SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        Waits::For(_) => SocketFlags::CLOEXEC,
    };
    let fd = rustix::net::socket_with(domain, kind, flags, None)?;
    if family == Family::V6 {
        sockopt::set_ipv6_v6only(&fd, true)?;
    }
    if let Waits::For(limit) = waits {
        sockopt::set_socket_timeout(&fd, Timeout::Recv, Some(limit))?;
        sockopt::set_socket_timeout(&fd, Timeout::Send, Some(limit))?;
    }
    if let Some(device) = &route.device {
        bind_device(&fd, device)?;
    }
    Ok(fd)
}

/// Makes a socket that is bound to the route's address; `port` 0 lets the kernel pick.
fn make_at(route: &Route, family: Family, kind: SocketType, port: u16, waits: Waits) -> io::Result<OwnedFd> {
    let local = local(route, family)?;
    let fd = make(route, family, kind, waits)?;
    if kind == SocketType::STREAM {
        sockopt::set_tcp_nodelay(&fd, true)?;
        // A port that we listened on a moment ago is free again at once.
        sockopt::set_socket_reuseaddr(&fd, port != 0)?;
    }
    if port != 0 || !local.is_unspecified() {
        rustix::net::bind(&fd, &SocketAddr::new(local, port))?;
    }
    Ok(fd)
}

/// The address that sockets of a family are bound to.
fn local(route: &Route, family: Family) -> io::Result<IpAddr> {
    let none = || io::Error::new(io::ErrorKind::AddrNotAvailable, "no --bind address of this family");
    route.local(family).ok_or_else(none)
}

/// Ties a socket to a network device (Linux; unprivileged since 5.7).
#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "rustix has no SO_BINDTODEVICE")]
fn bind_device(fd: &OwnedFd, device: &str) -> io::Result<()> {
    let name = device.as_bytes();
    let len = libc::socklen_t::try_from(name.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: the descriptor is open while `fd` is borrowed, and the kernel only reads the `len` bytes of `name`.
    let result = unsafe {
        libc::setsockopt(fd.as_raw_fd(), libc::SOL_SOCKET, libc::SO_BINDTODEVICE, name.as_ptr().cast(), len)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(not(target_os = "linux"))]
fn bind_device(_: &OwnedFd, _: &str) -> io::Result<()> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "this system cannot bind a socket to a device"))
}

/// The number that the kernel has given a network device; another one each time that the device is made. None: there is
/// no such device. `socket` is any one.
pub fn device_number(socket: impl AsFd, device: &str) -> Option<u32> {
    rustix::net::netdevice::name_to_index(socket, device).ok()
}

/// True if this is an address of this machine, or if that cannot be found out.
pub fn is_ours(addr: SocketAddr) -> bool {
    let mut addr = addr;
    addr.set_port(0);
    let domain = if addr.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let Ok(fd) = rustix::net::socket_with(domain, SocketType::DGRAM, SocketFlags::CLOEXEC, None) else {
        return true;
    };
    // The device of a link-local address may be gone.
    !matches!(rustix::net::bind(&fd, &addr), Err(Errno::ADDRNOTAVAIL | Errno::NODEV))
}

/// Has the kernel close a connection when what was sent is not acknowledged for so long, where it can.
#[cfg(target_os = "linux")]
pub fn limit_unacknowledged(stream: &TcpStream, limit: Duration) -> io::Result<()> {
    let millis = u32::try_from(limit.as_millis()).unwrap_or(u32::MAX);
    Ok(sockopt::set_tcp_user_timeout(stream, millis)?)
}

/// Has the kernel close a connection when what was sent is not acknowledged for so long, where it can.
#[cfg(not(target_os = "linux"))]
pub fn limit_unacknowledged(_: &TcpStream, _: Duration) -> io::Result<()> {
    Ok(())
}

/// Has the end of a connection be a reset, which nothing that waits to be sent holds up.
pub fn reset_on_close(stream: &TcpStream) -> io::Result<()> {
    Ok(sockopt::set_socket_linger(stream, Some(Duration::ZERO))?)
}

/// A non-blocking listener on `port` of the route's address; an IPv6 one takes no IPv4 connections.
pub fn listen(route: &Route, family: Family, port: u16) -> io::Result<TcpListener> {
    const BACKLOG: i32 = 128;
    let fd = make_at(route, family, SocketType::STREAM, port, Waits::Never)?;
    rustix::net::listen(&fd, BACKLOG)?;
    Ok(TcpListener::from(fd))
}

/// A non-blocking datagram socket on `port` of the route's address.
pub fn datagram(route: &Route, family: Family, port: u16) -> io::Result<UdpSocket> {
    make_at(route, family, SocketType::DGRAM, port, Waits::Never).map(UdpSocket::from)
}

/// A non-blocking datagram socket that hears what is sent to this multicast group and nothing else, once it has joined
/// it. Other programs may have one too.
pub fn group(route: &Route, group: SocketAddr) -> io::Result<UdpSocket> {
    let family = Family::of(group.ip());
    local(route, family)?;
    let fd = make(route, family, SocketType::DGRAM, Waits::Never)?;
    sockopt::set_socket_reuseaddr(&fd, true)?;
    // Elsewhere than on Linux the port is shared by this one.
    #[cfg(not(target_os = "linux"))]
    sockopt::set_socket_reuseport(&fd, true)?;
    rustix::net::bind(&fd, &group)?;
    Ok(UdpSocket::from(fd))
}

/// Starts a connection that does not block: it is made, or has failed ([`TcpStream::take_error`]), once the socket is
/// writable.
pub fn connect(route: &Route, to: SocketAddr) -> io::Result<TcpStream> {
    let fd = make_at(route, Family::of(to.ip()), SocketType::STREAM, 0, Waits::Never)?;
    match rustix::net::connect(&fd, &to) {
        Ok(()) | Err(Errno::INPROGRESS | Errno::INTR) => Ok(TcpStream::from(fd)),
        Err(error) => Err(error.into()),
    }
}

/// Makes a connection and waits for it, `limit` at most; each later read or write waits as long at most (and then
/// fails with `WouldBlock`).
pub fn dial(route: &Route, to: SocketAddr, limit: Duration) -> io::Result<TcpStream> {
    // A zero would mean no limit to the kernel.
    let limit = limit.max(Duration::from_millis(1));
    let fd = make_at(route, Family::of(to.ip()), SocketType::STREAM, 0, Waits::For(limit))?;
    match rustix::net::connect(fd.as_fd(), &to) {
        Ok(()) => Ok(TcpStream::from(fd)),
        // What Linux says when SO_SNDTIMEO ends a connect.
        Err(Errno::INPROGRESS | Errno::AGAIN) => Err(io::ErrorKind::TimedOut.into()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn loopback() -> Route {
        Route { v4: Some(Ipv4Addr::LOCALHOST), ..Route::default() }
    }

    #[test]
    fn a_connection_leaves_from_the_bound_address() {
        let route = Route { v4: Some(Ipv4Addr::new(127, 0, 0, 2)), ..Route::default() };
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = listener.local_addr().unwrap();
        let dialled = dial(&route, to, Duration::from_secs(10)).unwrap();
        let started = connect(&route, to).unwrap();
        for stream in [dialled, started] {
            let (_, from) = listener.accept().unwrap();
            assert_eq!(from.ip(), IpAddr::from([127, 0, 0, 2]));
            assert!(stream.nodelay().unwrap());
        }
    }

    #[test]
    fn a_family_without_a_bound_address_is_not_used() {
        let route = loopback();
        assert_eq!(route.local(Family::V6), None);
        let error = connect(&route, "[::1]:1".parse().unwrap()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrNotAvailable);
        assert_eq!(Route::default().local(Family::V6), Some(Ipv6Addr::UNSPECIFIED.into()));
    }

    #[test]
    fn a_device_that_is_not_there_is_an_error_and_loopback_works() {
        let mut route = Route { device: Some("no-such-dev".to_string()), ..loopback() };
        assert!(listen(&route, Family::V4, 0).is_err());
        route.device = Some("lo".to_string());
        let listener = listen(&route, Family::V4, 0).unwrap();
        dial(&route, listener.local_addr().unwrap(), Duration::from_secs(10)).unwrap();
    }

    #[test]
    fn an_address_in_use_or_not_ours_is_an_error() {
        let first = listen(&loopback(), Family::V4, 0).unwrap();
        let port = first.local_addr().unwrap().port();
        assert_eq!(listen(&loopback(), Family::V4, port).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        let foreign = Route { v4: Some(Ipv4Addr::new(192, 0, 2, 1)), ..Route::default() };
        assert_eq!(listen(&foreign, Family::V4, 0).unwrap_err().kind(), io::ErrorKind::AddrNotAvailable);
    }

    #[test]
    fn an_ipv6_listener_leaves_the_port_to_ipv4() {
        let Ok(v6) = listen(&Route::default(), Family::V6, 0) else { return };
        let port = v6.local_addr().unwrap().port();
        // Another process may hold the IPv4 port; with a mapped listener ours would hold it always.
        assert!(sockopt::ipv6_v6only(&v6).unwrap());
        drop(listen(&Route::default(), Family::V4, port));
    }

    #[test]
    fn a_read_past_the_deadline_fails() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = listener.local_addr().unwrap();
        let mut stream = dial(&Route::default(), to, Duration::from_millis(20)).unwrap();
        assert_eq!(stream.read(&mut [0; 1]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }
}
