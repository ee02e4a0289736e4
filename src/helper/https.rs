//! HTTPS, through minreq with every bound that it has. It looks the host up by itself (again: the name was found a
//! moment ago) and makes its own socket, so it is refused where that would leave another way than the user said.

use super::http::{Fetched, late, redirect};
use super::left;
use crate::api::TrackerFailure;
use crate::limits;
use crate::proto::http::{self, Head, USER_AGENT, base64};
use crate::proto::metainfo::printable;
use crate::proto::tracker::url::{Host, Url};
use crate::sys::socket::{Family, Route};
use std::io::{ErrorKind, Read};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Instant;

type Result<T> = std::result::Result<T, TrackerFailure>;

fn unsupported<T>(why: &str) -> Result<T> {
    Err(TrackerFailure::Unsupported(why.into()))
}

/// Whether minreq can do it.
pub(super) fn supported(url: &Url, route: &Route) -> Result<()> {
    match url.host() {
        _ if route.device.is_some() => unsupported("HTTPS cannot be bound to a device (--bind-device)"),
        // It would split the literal at its first colon.
        Host::Ip(IpAddr::V6(_)) => unsupported("HTTPS to an IPv6 address needs a host name"),
        _ => Ok(()),
    }
}

/// As `http::fetch`, over TLS. A server that hangs within TLS leaves a thread of minreq behind until its connection
/// ends; the call itself ends in time.
pub(super) fn fetch(
    route: &Route,
    url: &Url,
    addrs: &[IpAddr],
    deadline: Instant,
    max: usize,
) -> Result<Fetched> {
    let (head, mut answer) = open(route, url, addrs, deadline, None)?;
    if let Some(to) = redirect(url, head.redirect())? {
        return Ok(to);
    }
    if head.encoding.is_some() {
        return Err(TrackerFailure::Network("the answer is compressed, which was not asked for".into()));
    }
    let body = read_body(&mut answer, deadline, max)?;
    Ok(Fetched::Answer { status: head.status, body })
}

/// Asks for a URL, or so many of its bytes from one on; gives the head of the answer and what its body is read from.
pub(super) fn open(
    route: &Route,
    url: &Url,
    addrs: &[IpAddr],
    deadline: Instant,
    range: Option<(u64, u64)>,
) -> Result<(Head, impl Read + use<>)> {
    for &ip in addrs {
        leaves_as_bound(route, SocketAddr::new(ip, url.port()))?;
    }
    let secs = left(deadline).ok_or_else(late)?.as_secs().max(1);
    // A header line of just the right length makes its counter wrap: a length that nobody can guess.
    let (head_max, line_max) = (head_bound(), head_bound() / 4);
    let mut request = minreq::get(format!("https://{}{}", url.authority(), url.target()))
        .with_header("User-Agent", USER_AGENT)
        .with_header("Accept-Encoding", "identity")
        .with_header("Connection", "close")
        .with_follow_redirects(false)
        .with_max_redirects(1)
        .with_max_headers_size(head_max)
        .with_max_status_line_length(line_max)
        .with_timeout(secs);
    if let Some((from, len)) = range {
        request = request.with_header("Range", http::range(from, len));
    }
    if let Some(user) = url.user() {
        request = request.with_header("Authorization", format!("Basic {}", base64(user)));
    }
    let answer = request.send_lazy().map_err(|error| failed(&error))?;
    let head = http::decoded(answer.status_code, &answer.headers)
        .map_err(|e| TrackerFailure::Network(e.to_string()))?;
    Ok((head, answer))
}

fn read_body(answer: &mut impl Read, deadline: Instant, max: usize) -> Result<Vec<u8>> {
    let (mut body, mut part) = (Vec::new(), vec![0; 16 << 10]);
    loop {
        left(deadline).ok_or_else(late)?;
        match answer.read(&mut part) {
            Ok(0) => return Ok(body),
            Ok(n) if body.len() + n > max => {
                return Err(TrackerFailure::Network(format!("the answer is longer than {max} bytes")));
            }
            Ok(n) => body.extend_from_slice(&part[..n]),
            // Many servers end without TLS's own farewell; a body cut short is not valid bencode.
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(body),
            Err(error) if error.kind() == ErrorKind::TimedOut => return Err(late()),
            Err(error) => return Err(TrackerFailure::Network(format!("the connection broke: {error}"))),
        }
    }
}

/// Asks the kernel which address a socket that is not bound would have towards `to`, and compares.
fn leaves_as_bound(route: &Route, to: SocketAddr) -> Result<()> {
    let Some(bound) = route.local(Family::of(to.ip())) else {
        return unsupported("HTTPS would leave by an address family that --bind excludes");
    };
    if bound.is_unspecified() {
        return Ok(());
    }
    let any: IpAddr = if to.is_ipv4() { [0; 4].into() } else { [0u16; 8].into() };
    let probe = UdpSocket::bind((any, 0)).and_then(|socket| {
        socket.connect(to)?;
        socket.local_addr()
    });
    match probe {
        Ok(from) if from.ip() == bound => Ok(()),
        Ok(from) => {
            let from = from.ip();
            unsupported(&format!("HTTPS would leave from {from}, not from {bound} as --bind says"))
        }
        Err(error) => Err(TrackerFailure::Network(format!("no way to {to}: {error}"))),
    }
}

fn head_bound() -> usize {
    let mut bytes = [0; 2];
    let filled = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    let chance = if filled.is_ok() { u16::from_ne_bytes(bytes) } else { 4711 };
    (16 << 10) + usize::from(chance) % (16 << 10)
}

/// The words of an error. The variants that could quote the URL do not exist; what TLS says is kept short.
fn failed(error: &minreq::Error) -> TrackerFailure {
    match error {
        minreq::Error::IoError(error) if error.kind() == ErrorKind::TimedOut => late(),
        error => {
            // A certificate may bring names of its own, thousands of them.
            let words: String = error.to_string().chars().take(limits::TRACKER_TEXT_MAX).collect();
            TrackerFailure::Network(format!("HTTPS failed: {}", printable(&words)))
        }
    }
}
