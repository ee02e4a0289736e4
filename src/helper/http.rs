//! One bounded HTTP exchange, blocking, ended by a deadline whatever the server does.

use super::left;
use crate::api::TrackerFailure;
use crate::limits;
use crate::proto::http::{self, Body, Head};
use crate::proto::tracker::http::{Error, answer as tracker_answer};
use crate::proto::tracker::url::Url;
use crate::proto::tracker::{Response, Scheme};
use crate::sys::socket::{self, Route};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Instant;

/// What a server gave us.
#[derive(Debug)]
pub(super) enum Fetched {
    /// An answer, of whatever status.
    Answer { status: u16, body: Vec<u8> },
    /// Ask there.
    Redirect(Url),
}

type Result<T> = std::result::Result<T, TrackerFailure>;

/// Whether this build can speak to a URL's server at all.
pub(super) fn supported(url: &Url, route: &Route) -> Result<()> {
    let no = |why: &str| Err(TrackerFailure::Unsupported(why.into()));
    match url.scheme() {
        Scheme::Http => Ok(()),
        Scheme::Udp => no("this is not a URL of HTTP"),
        #[cfg(feature = "https")]
        Scheme::Https => super::https::supported(url, route),
        #[cfg(not(feature = "https"))]
        Scheme::Https => {
            let _ = route;
            no("this build of ptorrent has no HTTPS")
        }
    }
}

/// Gets a URL, `max` bytes of body at most, from the first of the addresses that takes the connection; tells which
/// that was. Redirects are for the caller to follow.
pub(super) fn fetch(
    route: &Route,
    url: &Url,
    addrs: &[IpAddr],
    deadline: Instant,
    max: usize,
) -> (Option<IpAddr>, Result<Fetched>) {
    #[cfg(feature = "https")]
    if url.scheme() == Scheme::Https {
        return (None, super::https::fetch(route, url, addrs, deadline, max));
    }
    match dial(route, url.port(), addrs, deadline) {
        Ok((mut stream, ip)) => (Some(ip), exchange(&mut stream, url, deadline, max)),
        Err(failure) => (None, Err(failure)),
    }
}

/// What the body of a tracker's answer says. A failure in its own words counts with whatever status it comes.
pub(super) fn answer(status: u16, body: &[u8]) -> Result<Response> {
    match tracker_answer(body) {
        Err(Error::Failure(words)) => Err(TrackerFailure::Refused(words.to_string())),
        _ if !(200..300).contains(&status) => Err(TrackerFailure::Answer(format!("HTTP status {status}"))),
        Ok(response) => Ok(response),
        Err(Error::Bencode(error)) => Err(TrackerFailure::Answer(error.to_string())),
        Err(Error::NotDict) => Err(TrackerFailure::Answer("it is not a dictionary".into())),
    }
}

/// Where an answer with this status and `Location` sends us; None where it stays.
pub(super) fn redirect(url: &Url, location: Option<&str>) -> Result<Option<Fetched>> {
    let refused = |error| TrackerFailure::Network(format!("redirected to an unusable URL: {error}"));
    let to = location.map(|to| url.join(to).map_err(refused)).transpose()?;
    Ok(to.map(Fetched::Redirect))
}

/// An address that does not answer takes at most half of the time that is left, so that the next has its turn, and
/// never so long that a few dead hosts hold all threads.
fn dial(route: &Route, port: u16, addrs: &[IpAddr], deadline: Instant) -> Result<(TcpStream, IpAddr)> {
    let mut last = late();
    for (at, &ip) in addrs.iter().enumerate() {
        let Some(left) = left(deadline) else { break };
        let limit = if at + 1 == addrs.len() { left } else { left / 2 }.min(limits::DIAL_MAX);
        let to = SocketAddr::new(ip, port);
        match socket::dial(route, to, limit) {
            Ok(stream) => return Ok((stream, ip)),
            Err(error) => last = TrackerFailure::Network(format!("cannot connect to {to}: {error}")),
        }
    }
    Err(last)
}

fn exchange(stream: &mut TcpStream, url: &Url, deadline: Instant, max: usize) -> Result<Fetched> {
    stream.set_write_timeout(Some(left(deadline).ok_or_else(late)?)).map_err(broken)?;
    // It fits into the socket's buffer, so this waits for nobody.
    stream.write_all(&http::get(url)).map_err(broken)?;
    let mut part = vec![0; PART];
    let (head, start) = read_head(stream, &mut part, deadline)?;
    if let Some(to) = redirect(url, head.redirect())? {
        return Ok(to);
    }
    let status = head.status;
    let mut whole = Vec::new();
    let mut body = Body::new(&head, max).map_err(bad)?;
    // Without a byte of its own a body of length 0 is whole too.
    let mut done = body.feed(&start[head.body..], &mut whole).map_err(bad)?;
    while !done {
        let n = read(stream, &mut part, deadline)?;
        if n == 0 {
            body.end().map_err(bad)?;
            break;
        }
        done = body.feed(&part[..n], &mut whole).map_err(bad)?;
    }
    Ok(Fetched::Answer { status, body: whole })
}

/// The head, and all that was read with it.
fn read_head(stream: &mut TcpStream, part: &mut [u8], deadline: Instant) -> Result<(Head, Vec<u8>)> {
    let mut start = Vec::new();
    loop {
        let n = read(stream, part, deadline)?;
        if n == 0 {
            return Err(bad(http::Error::CutShort));
        }
        start.extend_from_slice(&part[..n]);
        if let Some(head) = http::head(&start).map_err(bad)? {
            return Ok((head, start));
        }
    }
}

const PART: usize = 16 << 10;

fn read(stream: &mut TcpStream, part: &mut [u8], deadline: Instant) -> Result<usize> {
    loop {
        stream.set_read_timeout(Some(left(deadline).ok_or_else(late)?)).map_err(broken)?;
        match stream.read(part) {
            Ok(n) => return Ok(n),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return Err(late());
            }
            Err(error) => return Err(broken(error)),
        }
    }
}

pub(super) fn late() -> TrackerFailure {
    TrackerFailure::Network("no answer in time".into())
}

#[expect(clippy::needless_pass_by_value, reason = "a function for map_err")]
fn broken(error: io::Error) -> TrackerFailure {
    TrackerFailure::Network(format!("the connection broke: {error}"))
}

#[expect(clippy::needless_pass_by_value, reason = "a function for map_err")]
fn bad(error: http::Error) -> TrackerFailure {
    TrackerFailure::Network(error.to_string())
}
