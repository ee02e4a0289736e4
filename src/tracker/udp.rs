//! Datagrams (BEP 15): one in, one out or none. Who has not shown that his address is his own gets 16 bytes for 16 at
//! most; what is no query at all gets nothing. The path that BEP 41 names is ignored: there is one tracker here.

use super::{Announce, Answer, Tracker};
use crate::base::time::Time;
use crate::limits;
use crate::proto::compact::{self, canonical};
use crate::proto::id::InfoHash;
use crate::proto::tracker::udp::{self, Family, Query};
use std::net::{IpAddr, SocketAddr};

impl Tracker {
    /// Reads a datagram and lays the answer into `out`, which stays empty where none is due.
    pub fn on_datagram(&mut self, from: SocketAddr, data: &[u8], now: Time, out: &mut Vec<u8>) {
        out.clear();
        let from = canonical(from);
        let (transaction, query) = match udp::query(data) {
            Ok(query) => query,
            Err(_) => {
                self.statistics.ignored += 1;
                return;
            }
        };
        let ip = from.ip();
        if let Query::Connect = query {
            let id = self.connections.id(ip, now);
            return udp::put_connected(out, transaction, id);
        }
        let (Query::Announce { connection, .. } | Query::Scrape { connection, .. }) = query else { return };
        if !self.connections.is_valid(connection, ip, now) {
            self.statistics.ignored += 1;
            return;
        }
        match query {
            Query::Connect => {}
            Query::Announce { announce, .. } => self.on_announce(ip, transaction, &announce, now, out),
            Query::Scrape { torrents, .. } => {
                self.statistics.scrapes += 1;
                let counts = torrents.iter().map(|hash| self.scrape(&InfoHash(*hash)));
                udp::put_scraped(out, transaction, counts);
            }
        }
    }

    fn on_announce(
        &mut self,
        ip: IpAddr,
        transaction: u32,
        said: &udp::Announce<'_>,
        now: Time,
        out: &mut Vec<u8>,
    ) {
        if said.port == 0 {
            self.statistics.refused += 1;
            return udp::put_refused(out, transaction, "port 0 is none to listen on");
        }
        let family = Family::of((ip, said.port).into());
        let fit = udp::peers_that_fit(limits::TRACKER_DATAGRAM_MAX, family) as u32;
        let announce = Announce {
            info_hash: said.info_hash,
            ip,
            port: said.port,
            seed: said.left == 0,
            event: said.event,
            numwant: Some(said.numwant.unwrap_or(limits::TRACKER_NUMWANT).min(fit)),
            both: false,
        };
        let mut answer = std::mem::take(&mut self.scratch);
        match self.announce(&announce, now, &mut answer) {
            Ok(()) => {
                self.statistics.udp += 1;
                let head = (self.interval.as_secs() as u32, answer.counts);
                let Answer { v4, v6, .. } = &answer;
                let peers = compact::v4(v4).chain(compact::v6(v6));
                udp::put_announced(out, transaction, head, peers, family, limits::TRACKER_DATAGRAM_MAX);
            }
            Err(refusal) => {
                self.statistics.refused += 1;
                udp::put_refused(out, transaction, refusal.words());
            }
        }
        self.scratch = answer;
    }
}

/// Has a tracker read `data` from a sender that has proved its address and from one that has not, and asserts that the
/// latter gets no more than he sent.
#[doc(hidden)]
pub fn fuzz_tracker_udp(data: &[u8]) {
    let mut tracker = Tracker::new(limits::TRACKER_INTERVAL, [1; 32]);
    let (now, mut out) = (Time(5_000_000), Vec::new());
    for from in ["10.0.0.1:6881", "[2001:db8::1]:6881"] {
        let Ok(from) = from.parse::<SocketAddr>() else { return };
        tracker.on_datagram(from, data, now, &mut out);
        assert!(out.is_empty() || out.len() == 16 && data.len() >= 16);
        assert_eq!(tracker.statistics().peers, 0);
        let mut proven = data.to_vec();
        if let Some(id) = proven.first_chunk_mut::<8>() {
            *id = tracker.connections.id(from.ip(), now).to_be_bytes();
        }
        tracker.on_datagram(from, &proven, now, &mut out);
        assert!(out.len() <= limits::TRACKER_DATAGRAM_MAX);
        assert!(udp::answer(&out).is_ok() || out.is_empty());
        assert!(tracker.statistics().peers <= 1);
        tracker = Tracker::new(limits::TRACKER_INTERVAL, [1; 32]);
    }
}
