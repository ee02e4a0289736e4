//! One range over HTTP or HTTPS: the request, the head of the answer and what it may be, the bytes.

use super::super::client::{Ask, supported};
use super::super::clock;
use super::super::http::is_pause;
use super::super::stream::Stream;
use super::whole_file::WholeFile;
use super::{Halt, Item, PART, Step, Thread};
use crate::api::{TrackerFailure, WebFailure, WebPart};
use crate::limits::{WEB_LOOK, WEB_PIPELINE, WEB_SLOW};
use crate::proto::http::{self, Body, Framing, Head, get_range};
use crate::proto::tracker::Scheme;
use crate::proto::tracker::guard::Purpose;
use crate::proto::tracker::url::{Host, Url};
use std::io::{self, IoSliceMut, Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// Bytes of requests that are sent ahead: they fit into the socket's buffer, whatever the server is at.
const AHEAD_BYTES: usize = 4 << 10;

fn network<T>(why: impl Into<String>) -> Step<T> {
    Err(Halt::Failed(WebFailure::Network(why.into())))
}

pub(super) fn useless<T>(why: impl Into<String>) -> Step<T> {
    Err(Halt::Failed(WebFailure::Useless(why.into())))
}

#[expect(clippy::needless_pass_by_value, reason = "a function for map_err")]
fn broken(error: io::Error) -> Halt {
    Halt::Failed(WebFailure::Network(format!("the connection broke: {error}")))
}

pub(super) fn bad(error: http::Error) -> Halt {
    match error {
        http::Error::CutShort => Halt::Failed(WebFailure::Network(error.to_string())),
        error => Halt::Failed(WebFailure::Useless(error.to_string())),
    }
}

impl From<TrackerFailure> for Halt {
    fn from(failure: TrackerFailure) -> Halt {
        Halt::Failed(match failure {
            TrackerFailure::Network(why) => WebFailure::Network(why),
            other => WebFailure::Useless(other.to_string()),
        })
    }
}

/// A connection that is kept.
pub(super) struct Conn {
    stream: Stream,
    addr: SocketAddr,
    scheme: Scheme,
    host: Host,
    port: u16,
    /// Answers that came whole: a server that closes after one did so by right.
    served: u32,
    /// Requests that are sent and not answered, in the order of the items.
    ahead: usize,
    /// Bytes that were read past the end of an answer, from `at` on.
    pub(super) rest: Vec<u8>,
    pub(super) at: usize,
    /// The file that is being read from its start, where the server has no ranges.
    pub(super) whole: Option<WholeFile>,
}

impl Conn {
    fn leads_to(&self, url: &Url) -> bool {
        (self.scheme, &self.host, self.port) == (url.scheme(), url.host(), url.port())
    }

    /// An answer came whole, and the connection stays.
    pub(super) fn on_answered(&mut self) {
        self.served = self.served.saturating_add(1);
        self.ahead = self.ahead.saturating_sub(1);
    }
}

impl Thread {
    /// The range at the front of the items.
    pub(super) fn range(&mut self) -> Step<()> {
        let Some(Item::Part(WebPart::Range { url, addrs, file, size, from, len })) = self.items.front()
        else {
            return Ok(());
        };
        let want = Want { url: url.clone(), file: *file, size: *size, from: *from, len: *len };
        let addrs = addrs.clone();
        if self.is_under_way(&want) {
            return self.read_whole(&want);
        }
        supported(&want.url)?;
        let head = loop {
            self.connect(&want.url, &addrs)?;
            if self.ask()?
                && let Some(head) = self.read_head()?
            {
                break head;
            }
            // The server closed the kept connection meanwhile, as it may.
            self.conn = None;
        };
        if want.check(&head, self.skip_rate.is_some())? == Answer::WholeFile {
            let whole = WholeFile::new(&want, &head)?;
            if let Some(conn) = &mut self.conn {
                conn.whole = Some(whole);
            }
            return self.read_whole(&want);
        }
        match head.framing {
            Framing::Chunked => self.read_chunks(&head, want.len)?,
            Framing::Length(_) | Framing::Close => self.read_body(want.len)?,
        }
        if let Some(conn) = &self.conn {
            self.client.judge(conn.addr, true);
        }
        match &mut self.conn {
            Some(conn) if head.keep => conn.on_answered(),
            _ => self.conn = None,
        }
        Ok(())
    }

    /// The server at the address of our connection failed: others of its name come first from now on. While there is
    /// one that has not failed, the web seed is not given up.
    pub(super) fn blame(&self, failure: WebFailure) -> WebFailure {
        let Some(conn) = &self.conn else { return failure };
        let is_down = match &failure {
            WebFailure::Network(_) | WebFailure::Useless(_) => true,
            WebFailure::Busy { status, .. } => *status >= 500,
            WebFailure::Moved { .. } | WebFailure::Missing { .. } | WebFailure::NoRanges => false,
        };
        if !is_down {
            return failure;
        }
        self.client.judge(conn.addr, false);
        let addrs = match self.items.front() {
            Some(Item::Part(WebPart::Range { addrs, .. })) => addrs.clone(),
            _ => return failure,
        };
        let has_other = addrs.iter().any(|ip| !self.client.has_failed(SocketAddr::new(*ip, conn.port)));
        match failure {
            WebFailure::Useless(why) if has_other => WebFailure::Network(why),
            failure => failure,
        }
    }

    /// Sees to it that there is a connection to the URL's host.
    fn connect(&mut self, url: &Url, addrs: &[IpAddr]) -> Step<()> {
        // A file that is not read to its end occupies its connection.
        if self.conn.as_ref().is_some_and(|conn| conn.leads_to(url) && conn.whole.is_none()) {
            return Ok(());
        }
        self.conn = None;
        let (client, deadline) = (self.client.clone(), clock() + WEB_SLOW);
        // Redirects are the session's to follow, and to refuse.
        let ask = Ask { url, named: url, purpose: Purpose::WebSeed, from: None };
        let (stream, ip) = client.connect(&ask, addrs, deadline, || self.heed())?;
        stream.set_timeouts(WEB_LOOK, WEB_SLOW).map_err(broken)?;
        let (scheme, host, port) = (url.scheme(), url.host().clone(), url.port());
        let addr = SocketAddr::new(ip, port);
        let (served, ahead, rest, at, whole) = (0, 0, Vec::new(), 0, None);
        self.conn = Some(Conn { stream, addr, scheme, host, port, served, ahead, rest, at, whole });
        Ok(())
    }

    /// Sends the request of the first item, and those of the next ones once the server has kept its connection open.
    /// False: the connection is gone, by right.
    fn ask(&mut self) -> Step<bool> {
        let Some(conn) = &mut self.conn else { return Ok(false) };
        // Behind a whole file every request would wait for all of it.
        let most = if conn.served == 0 || self.skip_rate.is_some() { 1 } else { WEB_PIPELINE };
        let ranges = self.items.iter().filter_map(|item| match item {
            Item::Part(WebPart::Range { url, from, len, .. }) => Some((url, *from, *len)),
            _ => None,
        });
        let next = ranges.take(most).take_while(|(url, ..)| conn.leads_to(url)).skip(conn.ahead);
        let (mut bytes, mut count) = (Vec::new(), 0);
        for (url, from, len) in next {
            let request = get_range(url, from, len);
            if conn.ahead + count > 0 && bytes.len() + request.len() > AHEAD_BYTES {
                break;
            }
            bytes.extend_from_slice(&request);
            count += 1;
        }
        conn.ahead += count;
        match conn.stream.write_all(&bytes) {
            Ok(()) => Ok(true),
            Err(_) if conn.served > 0 => Ok(false),
            Err(error) => Err(broken(error)),
        }
    }

    /// The head of the next answer. None: the connection is gone, by right.
    fn read_head(&mut self) -> Step<Option<Head>> {
        self.since = clock();
        let mut part = [0; PART];
        let Some(conn) = &mut self.conn else { return Ok(None) };
        let mut start = std::mem::take(&mut conn.rest).split_off(conn.at);
        let fresh = conn.served == 0;
        loop {
            if !start.is_empty()
                && let Some(head) = http::head(&start).map_err(bad)?
            {
                if let Some(conn) = &mut self.conn {
                    (conn.rest, conn.at) = (start, head.body);
                }
                return Ok(Some(head));
            }
            match self.read(&mut part) {
                Ok(0) if start.is_empty() && !fresh => return Ok(None),
                Ok(0) => return Err(bad(http::Error::CutShort)),
                Ok(n) => start.extend_from_slice(&part[..n]),
                Err(Halt::Failed(WebFailure::Network(_)))
                    if start.is_empty() && !fresh && !self.is_late() =>
                {
                    return Ok(None);
                }
                Err(other) => return Err(other),
            }
        }
    }

    fn is_late(&self) -> bool {
        clock().saturating_duration_since(self.since) >= WEB_SLOW
    }

    /// Reads once, heeding what is said while the server says nothing; 0: the end of the connection.
    pub(super) fn read(&mut self, part: &mut [u8]) -> Step<usize> {
        loop {
            self.heed()?;
            if self.is_late() {
                return network("it is too slow");
            }
            let Some(conn) = &mut self.conn else { return Ok(0) };
            match conn.stream.read(part) {
                Ok(n) => return Ok(n),
                Err(error) if is_pause(&error) => {}
                Err(error) => return Err(broken(error)),
            }
        }
    }

    /// So many bytes of the answer, straight into the buffers.
    fn read_body(&mut self, len: u64) -> Step<()> {
        let mut left = len;
        while left > 0 {
            let rest = self.rest(left);
            if !rest.is_empty() {
                left -= rest.len() as u64;
                self.put(&rest)?;
                continue;
            }
            self.heed()?;
            self.want_buf()?;
            if self.is_late() {
                return network("it is too slow");
            }
            match self.read_into(left) {
                Ok(0) => return Err(bad(http::Error::CutShort)),
                Ok(n) => {
                    left -= n as u64;
                    self.advance(n as u64);
                }
                Err(error) if is_pause(&error) => {}
                Err(error) => return Err(broken(error)),
            }
        }
        Ok(())
    }

    /// One read into all buffers that are here.
    fn read_into(&mut self, left: u64) -> io::Result<usize> {
        let Some(conn) = &mut self.conn else { return Ok(0) };
        let mut room = usize::try_from(left).unwrap_or(usize::MAX);
        let mut from = self.filled as usize;
        let mut slices = Vec::with_capacity(self.bufs.len());
        for (buf, block) in self.bufs.iter_mut().zip(&self.blocks) {
            let to = (block.len as usize).min(from.saturating_add(room));
            slices.push(IoSliceMut::new(&mut buf.space()[from..to]));
            room -= to - from;
            from = 0;
            if room == 0 {
                break;
            }
        }
        conn.stream.read_vectored(&mut slices)
    }

    /// What was read past the end of the head, `most` bytes of it.
    pub(super) fn rest(&mut self, most: u64) -> Vec<u8> {
        let Some(conn) = &mut self.conn else { return Vec::new() };
        let have = conn.rest.get(conn.at..).unwrap_or_default();
        let len = usize::try_from(most).map_or(have.len(), |most| most.min(have.len()));
        let bytes = have[..len].to_vec();
        conn.at += len;
        bytes
    }

    /// A body in chunks that has to be so long.
    fn read_chunks(&mut self, head: &Head, len: u64) -> Step<()> {
        let mut body = Body::new(head.framing, len).map_err(bad)?;
        let (mut part, mut whole) = ([0; PART], Vec::new());
        let mut came = 0;
        loop {
            let mut input = self.rest(PART as u64);
            if input.is_empty() {
                let n = self.read(&mut part)?;
                if n == 0 {
                    return Err(bad(http::Error::CutShort));
                }
                input.extend_from_slice(&part[..n]);
            }
            whole.clear();
            let used = body.take(&input, &mut whole).map_err(bad)?;
            came += whole.len() as u64;
            self.put(&whole)?;
            if body.is_done() {
                if let Some(conn) = &mut self.conn {
                    let mut rest = input.split_off(used);
                    rest.extend_from_slice(conn.rest.get(conn.at..).unwrap_or_default());
                    (conn.rest, conn.at) = (rest, 0);
                }
                return if came == len { Ok(()) } else { useless(SHORT) };
            }
        }
    }
}

pub(super) const SHORT: &str = "the answer is not as long as the range that was asked for";

/// A range that was asked for.
pub(super) struct Want {
    pub(super) url: Arc<Url>,
    file: usize,
    pub(super) size: u64,
    pub(super) from: u64,
    pub(super) len: u64,
}

/// What follows a head.
#[derive(PartialEq, Eq)]
enum Answer {
    /// The range.
    Range,
    /// The whole file, of which the range is a part.
    WholeFile,
}

impl Want {
    fn missing(&self, why: String) -> Step<Answer> {
        Err(Halt::Failed(WebFailure::Missing { file: self.file, why }))
    }

    /// What this is the head of: just these bytes, or the whole file if `whole_files` are taken.
    fn check(&self, head: &Head, whole_files: bool) -> Step<Answer> {
        let is_all = self.from == 0 && self.len == self.size;
        match head.status {
            206 => match head.part {
                None => return useless("it answers with a part of the file and does not say which"),
                Some(part) if part.whole.is_some_and(|whole| whole != self.size) => {
                    return self.other_size(part.whole.unwrap_or(0));
                }
                Some(part) if (part.from, part.to) != (self.from, self.from + self.len - 1) => {
                    return useless("it answers with another part of the file than was asked for");
                }
                Some(_) => {}
            },
            200 if is_all || whole_files => {
                match head.framing {
                    Framing::Length(len) if len != self.size => return self.other_size(len),
                    Framing::Length(_) => {}
                    // Compressed on the way it has another length, which is not known.
                    _ => head.plain().map_err(bad)?,
                }
                return Ok(if is_all { Answer::Range } else { Answer::WholeFile });
            }
            200 => return Err(Halt::Failed(WebFailure::NoRanges)),
            301 | 302 | 303 | 307 | 308 => return self.moved(head),
            401 | 403 | 404 | 410 | 416 => return self.missing(format!("HTTP status {}", head.status)),
            // From 520 on: a proxy does not reach the server behind it.
            408 | 429 | 500 | 502..=504 | 520..=599 => {
                let after = head.retry_after.map(Duration::from_secs);
                return Err(Halt::Failed(WebFailure::Busy { status: head.status, after }));
            }
            status => return useless(format!("HTTP status {status}")),
        }
        // A range is of the file as the server has it, whatever coding it names for that (a .tgz is "gzip" to some).
        match head.framing {
            Framing::Length(len) if len != self.len => useless(SHORT),
            _ => Ok(Answer::Range),
        }
    }

    fn other_size(&self, size: u64) -> Step<Answer> {
        self.missing(format!("the file there has {size} bytes, not {}", self.size))
    }

    fn moved(&self, head: &Head) -> Step<Answer> {
        let Some(to) = head.redirect() else { return useless("it redirects and does not say where") };
        match self.url.join(to) {
            Ok(to) => Err(Halt::Failed(WebFailure::Moved { file: self.file, to })),
            Err(error) => useless(format!("it redirects to an unusable URL: {error}")),
        }
    }
}
