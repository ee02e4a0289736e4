//! One HTTP connection to the tracker: bytes in, bytes out, one request at a time. The reactor moves the bytes, and
//! closes the connection when its time is over.

use super::{Announce, Tracker};
use crate::base::time::Time;
use crate::limits;
use crate::proto::http_server::{reply, request};
use crate::proto::tracker::served;
use std::net::IpAddr;

/// The state of a connection.
pub struct Exchange {
    ip: IpAddr,
    input: Vec<u8>,
    /// There may be a whole head in `input`: bytes that drip are not parsed anew with each of them.
    fresh: bool,
    output: Vec<u8>,
    sent: usize,
    over: bool,
    deadline: Time,
}

impl Exchange {
    /// A connection from this address, in its one form.
    pub fn new(ip: IpAddr, now: Time) -> Exchange {
        let deadline = now + limits::TRACKER_HTTP_TIMEOUT;
        Exchange { ip, input: Vec::new(), fresh: false, output: Vec::new(), sent: 0, over: false, deadline }
    }

    /// Where it comes from.
    pub fn ip(&self) -> IpAddr {
        self.ip
    }

    /// When it is to be closed if nothing happens before: bytes that drip do not count.
    pub fn deadline(&self) -> Time {
        self.deadline
    }

    /// How many bytes may be read now.
    pub fn room(&self) -> usize {
        limits::TRACKER_HEAD_MAX - self.input.len()
    }

    /// What is to be sent next.
    pub fn output(&self) -> &[u8] {
        &self.output[self.sent..]
    }

    /// Whether no more requests are taken: once all is sent, our side is closed.
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// Takes bytes that came, [`Exchange::room`] of them at most. Once it is over they are dropped.
    pub fn on_bytes(&mut self, bytes: &[u8]) {
        if !self.over {
            self.input.extend_from_slice(bytes);
            self.fresh |= bytes.contains(&b'\n') || self.input.len() > limits::TRACKER_LINE_MAX;
        }
    }

    /// So many bytes of the output are sent.
    pub fn on_sent(&mut self, count: usize, now: Time) {
        self.sent += count;
        if self.sent >= self.output.len() {
            // Most connections are never heard of again: nothing is kept for the next answer.
            (self.output, self.sent) = (Vec::new(), 0);
            self.deadline = now + limits::TRACKER_HTTP_TIMEOUT;
        }
    }

    /// Answers the next request, if it is all there and the answer before it is sent. True: there is output.
    pub fn advance(&mut self, tracker: &mut Tracker, now: Time) -> bool {
        if self.over || !self.output.is_empty() || !self.fresh {
            return false;
        }
        let mut taken = 0;
        match request(lines(&self.input)) {
            Ok(None) => {
                self.fresh = false;
                return false;
            }
            Ok(Some(request)) => {
                let (status, body) = tracker.on_request(self.ip, request.target, now);
                reply(&mut self.output, status, request.keep_alive, &body);
                self.over = !request.keep_alive;
                taken = request.len;
            }
            Err(fault) => {
                tracker.statistics.ignored += 1;
                reply(&mut self.output, fault.status(), false, b"");
                self.over = true;
            }
        }
        self.input.drain(..taken);
        if self.over || self.input.is_empty() {
            self.input = Vec::new();
        }
        self.deadline = now + limits::TRACKER_HTTP_TIMEOUT;
        true
    }
}

/// The lines that are whole; all there is once a line may be too long.
fn lines(input: &[u8]) -> &[u8] {
    let end = match input.len() > limits::TRACKER_LINE_MAX {
        true => input.len(),
        false => input.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1),
    };
    &input[..end]
}

impl Tracker {
    /// The status and body of what a target is answered.
    fn on_request(&mut self, ip: IpAddr, target: &str, now: Time) -> (&'static str, Vec<u8>) {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let body = match path {
            "/announce" => self.on_announce_query(ip, query, now),
            "/scrape" => self.on_scrape_query(query),
            "/" => return ("200 OK", b"This is a BitTorrent tracker: see /announce and /scrape.\n".to_vec()),
            _ => return ("404 Not Found", b"There is only /announce and /scrape here.\n".to_vec()),
        };
        // A refusal is an answer, too: clients look into nothing but a 200.
        let body = body.unwrap_or_else(|words| {
            self.statistics.refused += 1;
            served::refused(words)
        });
        ("200 OK", body)
    }

    fn on_announce_query(&mut self, ip: IpAddr, query: &str, now: Time) -> Result<Vec<u8>, &'static str> {
        let said = served::announce(query)?;
        let announce = Announce {
            info_hash: said.info_hash,
            ip,
            port: said.port,
            seed: said.left == 0,
            event: said.event,
            numwant: said.numwant,
            both: true,
        };
        let mut answer = std::mem::take(&mut self.scratch);
        let result = self.announce(&announce, now, &mut answer).map(|()| {
            let (counts, v4, v6) = (answer.counts, &answer.v4[..], &answer.v6[..]);
            let (interval, min_interval) = (self.interval, limits::TRACKER_INTERVAL_SHORT.min(self.interval));
            served::announced(&served::Announced { interval, min_interval, counts, v4, v6, ip }, said.compact)
        });
        self.scratch = answer;
        self.statistics.http += u64::from(result.is_ok());
        result.map_err(|refusal| refusal.words())
    }

    /// Torrents that are not served are left out.
    fn on_scrape_query(&mut self, query: &str) -> Result<Vec<u8>, &'static str> {
        let torrents = served::scrape(query)?;
        self.statistics.scrapes += 1;
        let served = torrents.into_iter().filter(|hash| self.is_served(hash));
        Ok(served::scraped(served.map(|hash| (hash, self.scrape(&hash)))))
    }
}

/// Has a tracker read `data` as a connection, in parts of any size, and asserts that it answers the same and holds no
/// more than it may.
#[doc(hidden)]
pub fn fuzz_tracker_http(data: &[u8]) {
    let run = |part: usize| {
        let mut tracker = Tracker::new(limits::TRACKER_INTERVAL, [1; 32]);
        let mut exchange = Exchange::new([10, 0, 0, 1].into(), Time::ZERO);
        let mut said = Vec::new();
        for bytes in data.chunks(part) {
            let mut bytes = bytes;
            while !bytes.is_empty() && !exchange.is_over() {
                let now = bytes.len().min(exchange.room());
                assert!(now > 0, "a full buffer is a fault");
                exchange.on_bytes(&bytes[..now]);
                bytes = &bytes[now..];
                while exchange.advance(&mut tracker, Time::ZERO) {
                    said.extend_from_slice(exchange.output());
                    exchange.on_sent(exchange.output().len(), Time::ZERO);
                }
            }
        }
        assert!(exchange.input.len() <= limits::TRACKER_HEAD_MAX);
        let statistics = tracker.statistics();
        (said, statistics)
    };
    let (whole, statistics) = run(data.len().max(1));
    assert!(statistics.peers <= statistics.http);
    assert_eq!(whole, run(7).0);
    assert!(whole.is_empty() || whole.starts_with(b"HTTP/1.1 "));
}
