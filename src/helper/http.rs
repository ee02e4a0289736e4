//! One bounded HTTP exchange, blocking, ended by a deadline whatever the server does.

use super::client::{Ask, Client};
use super::stream::Stream;
use super::{clock, left};
use crate::api::TrackerFailure;
use crate::proto::http::{self, Body, Head};
use crate::proto::magnet::is_magnet;
use crate::proto::tracker::Response;
use crate::proto::tracker::guard::Purpose;
use crate::proto::tracker::http::{Error, answer as tracker_answer};
use crate::proto::tracker::url::Url;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

/// What a server gave us.
#[derive(Debug)]
pub(super) enum Fetched {
    /// An answer, of whatever status.
    Answer { status: u16, body: Vec<u8> },
    /// Ask there.
    Redirect(Url),
    /// A redirect to a magnet link, which is not checked yet.
    Magnet(String),
}

type Result<T> = std::result::Result<T, TrackerFailure>;

/// Gets a URL, `max` bytes of body at most; tells which address answered. One that closes the connection, or whose
/// answer is not `good`, is asked after the others from now on, and the next one is asked at once. One that hangs has
/// the time of an announce, which is repeated; what is asked once leaves the next address half of the time. Redirects
/// are for the caller to follow.
pub(super) fn fetch(
    client: &Client,
    ask: &Ask<'_>,
    addrs: &[IpAddr],
    deadline: Instant,
    max: usize,
    good: impl Fn(&Fetched) -> bool,
) -> (Option<IpAddr>, Result<Fetched>) {
    let port = ask.url.port();
    let mut addrs = client.sort(addrs, port);
    let mut last = None;
    loop {
        let connected = client.connect(ask, &addrs, deadline, || Ok::<(), TrackerFailure>(()));
        let (mut stream, ip) = match connected {
            Ok(connected) => connected,
            Err(failure) => return last.unwrap_or((None, Err(failure))),
        };
        // Those before it did not take the connection.
        let at = addrs.iter().position(|addr| *addr == ip).unwrap_or(addrs.len());
        addrs.drain(..addrs.len().min(at + 1));
        let is_repeated = ask.purpose == Purpose::Announce;
        let until = match left(deadline) {
            Some(left) if !is_repeated && !addrs.is_empty() => clock() + left / 2,
            _ => deadline,
        };
        let fetched = exchange(&mut stream, ask.url, until, max);
        let is_good = fetched.as_ref().is_ok_and(&good);
        client.judge(SocketAddr::new(ip, port), is_good);
        if is_good || addrs.is_empty() || left(deadline).is_none() {
            return (Some(ip), fetched);
        }
        last = Some((Some(ip), fetched));
    }
}

/// True if a server has an answer of its own: it is not down behind a proxy, as a status from 500 on says.
pub(super) fn is_served(fetched: &Fetched) -> bool {
    match fetched {
        Fetched::Answer { status, .. } => *status < 500,
        Fetched::Redirect(_) | Fetched::Magnet(_) => true,
    }
}

/// The same of a tracker, whose answer must be one.
pub(super) fn is_tracker(fetched: &Fetched) -> bool {
    let has_sense = |body: &[u8]| !matches!(answer(200, body), Err(TrackerFailure::Answer(_)));
    is_served(fetched)
        && match fetched {
            Fetched::Answer { status: 200..300, body } => has_sense(body),
            Fetched::Answer { .. } | Fetched::Redirect(_) => true,
            Fetched::Magnet(_) => false,
        }
}

/// What the body of a tracker's answer says. A failure in its own words counts with whatever status it comes.
pub(super) fn answer(status: u16, body: &[u8]) -> Result<Response> {
    refuse_gzip(body)?;
    match tracker_answer(body) {
        Err(Error::Failure(failure)) => Err(TrackerFailure::Refused(failure)),
        _ if !(200..300).contains(&status) => Err(TrackerFailure::Answer(format!("HTTP status {status}"))),
        Ok(response) => Ok(response),
        Err(Error::Bencode(error)) => Err(TrackerFailure::Answer(error.to_string())),
        Err(Error::NotDict) => Err(TrackerFailure::Answer("it is not a dictionary".into())),
    }
}

/// An error for a body that is compressed though its head does not say so.
pub(super) fn refuse_gzip(body: &[u8]) -> Result<()> {
    if http::is_gzip(body) { Err(TrackerFailure::Compressed("gzip".into())) } else { Ok(()) }
}

/// Where an answer with this status and `Location` sends us; None where it stays.
fn redirect(url: &Url, location: Option<&str>) -> Result<Option<Fetched>> {
    if let Some(link) = location.filter(|to| is_magnet(to)) {
        return Ok(Some(Fetched::Magnet(link.to_string())));
    }
    let refused = |error| TrackerFailure::Network(format!("redirected to an unusable URL: {error}"));
    let to = location.map(|to| url.join(to).map_err(refused)).transpose()?;
    Ok(to.map(Fetched::Redirect))
}

fn exchange(stream: &mut Stream, url: &Url, deadline: Instant, max: usize) -> Result<Fetched> {
    let span = left(deadline).ok_or_else(late)?;
    stream.set_timeouts(span, span).map_err(broken)?;
    // It fits into the socket's buffer, so this waits for nobody.
    stream.write_all(&http::get(url)).map_err(broken)?;
    let mut part = vec![0; PART];
    let (head, start) = read_head(stream, &mut part, deadline)?;
    if let Some(to) = redirect(url, head.redirect())? {
        return Ok(to);
    }
    let status = head.status;
    let mut whole = Vec::new();
    match head.plain() {
        // The status says more than a page that nobody would read.
        Err(_) if !(200..300).contains(&status) => return Ok(Fetched::Answer { status, body: Vec::new() }),
        plain => plain.map_err(bad)?,
    }
    let mut body = Body::new(head.framing, max as u64).map_err(bad)?;
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
fn read_head(stream: &mut Stream, part: &mut [u8], deadline: Instant) -> Result<(Head, Vec<u8>)> {
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

fn read(stream: &mut Stream, part: &mut [u8], deadline: Instant) -> Result<usize> {
    loop {
        let span = left(deadline).ok_or_else(late)?;
        stream.set_timeouts(span, span).map_err(broken)?;
        match stream.read(part) {
            Ok(n) => return Ok(n),
            Err(error) if is_pause(&error) => {}
            Err(error) => return Err(broken(error)),
        }
    }
}

/// Whether a call on a stream has merely brought nothing yet.
pub(super) fn is_pause(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}

pub(super) fn late() -> TrackerFailure {
    TrackerFailure::Network("no answer in time".into())
}

#[expect(clippy::needless_pass_by_value, reason = "a function for map_err")]
fn broken(error: io::Error) -> TrackerFailure {
    TrackerFailure::Network(format!("the connection broke: {error}"))
}

fn bad(error: http::Error) -> TrackerFailure {
    match error {
        http::Error::Encoding(coding) => TrackerFailure::Compressed(coding),
        error => TrackerFailure::Network(error.to_string()),
    }
}

/// A tracker that redirects to a magnet link.
pub(super) fn no_tracker() -> TrackerFailure {
    TrackerFailure::Answer("it redirects to a magnet link".into())
}
