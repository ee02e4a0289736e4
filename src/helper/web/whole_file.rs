//! A file from a server without ranges. One exchange brings the whole file: its bytes are read in order, those of the
//! ranges that are ordered go into the buffers, those between are skipped. Ranges that follow one another in a file are
//! served by the same exchange.

use super::super::clock;
use super::exchange::{SHORT, Want, bad, useless};
use super::{Halt, PART, Step, Thread};
use crate::base::buf::BLOCK;
use crate::limits::WEB_LOOK;
use crate::proto::http::{Body, Head};
use crate::proto::tracker::url::Url;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// The body of a whole file, part of which was read.
pub(super) struct WholeFile {
    url: Arc<Url>,
    body: Body,
    /// The offset in the file of the next byte that is read: the one of `decoded` at `at`.
    pos: u64,
    /// Bytes of the body that were received together; those before `at` are used up.
    decoded: Vec<u8>,
    at: usize,
    /// Bytes that were skipped since the server was last known to be alive.
    skipped: u64,
    /// The connection may be used again after the body.
    keep: bool,
}

impl WholeFile {
    pub(super) fn new(want: &Want, head: &Head) -> Result<WholeFile, Halt> {
        let body = Body::new(head.framing, want.size).map_err(bad)?;
        let (url, decoded) = (want.url.clone(), Vec::with_capacity(PART));
        Ok(WholeFile { url, body, pos: 0, decoded, at: 0, skipped: 0, keep: head.keep })
    }

    /// Whether a range is still to come.
    fn leads_to(&self, want: &Want) -> bool {
        self.url == want.url && self.pos <= want.from
    }

    /// Bytes that are here, and how many of them are before the range, or in it.
    fn next(&self, want: &Want) -> (usize, bool) {
        let have = (self.decoded.len() - self.at) as u64;
        let skip = want.from.saturating_sub(self.pos);
        let len = if skip > 0 { skip } else { (want.from + want.len).saturating_sub(self.pos) };
        (len.min(have) as usize, skip > 0)
    }

    fn advance(&mut self, len: usize) {
        self.at += len;
        self.pos += len as u64;
    }
}

impl Thread {
    /// Whether a range comes from the file that is being read.
    pub(super) fn is_under_way(&self, want: &Want) -> bool {
        let whole = self.conn.as_ref().and_then(|conn| conn.whole.as_ref());
        whole.is_some_and(|whole| whole.leads_to(want))
    }

    /// Reads the file up to the end of a range.
    pub(super) fn read_whole(&mut self, want: &Want) -> Step<()> {
        self.since = clock();
        let end = want.from + want.len;
        while let Some(whole) = self.conn.as_mut().and_then(|conn| conn.whole.as_mut())
            && whole.pos < end
        {
            let (len, skip) = whole.next(want);
            if len == 0 {
                self.refill()?;
            } else if skip {
                whole.advance(len);
                whole.skipped += len as u64;
                if whole.skipped >= u64::from(BLOCK) {
                    whole.skipped = 0;
                    self.since = clock();
                }
                self.pause_after(len as u64)?;
            } else {
                // It is lent out, since waiting for a buffer may end the connection.
                let decoded = std::mem::take(&mut whole.decoded);
                let at = whole.at;
                self.put(&decoded[at..at + len])?;
                if let Some(whole) = self.conn.as_mut().and_then(|conn| conn.whole.as_mut()) {
                    whole.decoded = decoded;
                    whole.advance(len);
                }
            }
        }
        self.close_whole(want);
        Ok(())
    }

    /// Receives more of the body.
    fn refill(&mut self) -> Step<()> {
        let mut part = [0; PART];
        let rest = self.rest(PART as u64);
        let input = if rest.is_empty() {
            let n = self.read(&mut part)?;
            &part[..n]
        } else {
            &rest[..]
        };
        let Some(conn) = &mut self.conn else { return Ok(()) };
        let Some(whole) = &mut conn.whole else { return Ok(()) };
        whole.decoded.clear();
        whole.at = 0;
        let used = whole.body.take(input, &mut whole.decoded).map_err(bad)?;
        if used < input.len() {
            // What follows the body.
            let rest = [&input[used..], conn.rest.get(conn.at..).unwrap_or_default()].concat();
            (conn.rest, conn.at) = (rest, 0);
        }
        match (whole.decoded.is_empty(), input.is_empty() || whole.body.is_done()) {
            (true, true) => {
                whole.body.end().map_err(bad)?;
                useless(SHORT)
            }
            _ => Ok(()),
        }
    }

    /// Waits as long as these bytes may take that were not wanted, so that they do not exceed the rate limit.
    fn pause_after(&mut self, skipped: u64) -> Step<()> {
        let Some(rate @ 1..) = self.skip_rate else { return Ok(()) };
        let until = clock() + Duration::from_micros(skipped.saturating_mul(1_000_000) / rate);
        loop {
            self.heed()?;
            let left = until.saturating_duration_since(clock());
            if left.is_zero() {
                break;
            }
            thread::sleep(left.min(WEB_LOOK));
        }
        // That time is not the server's.
        self.since = clock();
        Ok(())
    }

    /// After the last byte of a file its connection can be used again, if the server says so.
    fn close_whole(&mut self, want: &Want) {
        let Some(conn) = &mut self.conn else { return };
        let Some(whole) = conn.whole.take_if(|whole| whole.pos >= want.size) else { return };
        if whole.keep && whole.body.is_done() {
            conn.on_answered();
        } else {
            self.conn = None;
        }
    }
}
