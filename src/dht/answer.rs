//! Answering others: never more than a small multiple of the question to an address that may be forged.

use super::ident::scope;
use super::{Node, VERSION};
use crate::base::time::Time;
use crate::limits::{DHT_GAIN, DHT_K, DHT_TOKEN_LIFE, KRPC_SEND_MAX};
use crate::proto::compact::is_callable;
use crate::proto::id::{InfoHash, NodeId};
use crate::proto::krpc::{
    Body, Contact, LEN_V4, LEN_V6, METHOD_UNKNOWN, Message, Method, PROTOCOL, Query, Response, SERVER,
    Sample, Values, Want, put_node,
};
use std::net::SocketAddr;

/// What an answer has besides the lists in it, at most: ids, keys, versions, our token and the asker's address.
const FRAME: usize = 150;

/// A query to be answered.
struct Asked<'a> {
    from: SocketAddr,
    tid: &'a [u8],
    /// Bytes that the answer may have.
    budget: usize,
    now: Time,
}

/// `nodes` and `nodes6` of an answer.
type Lists = (Option<Vec<u8>>, Option<Vec<u8>>);

impl Node {
    pub(super) fn on_query(
        &mut self,
        from: SocketAddr,
        tid: &[u8],
        query: &Query<'_>,
        len: usize,
        now: Time,
    ) {
        if !self.admit(from, now) {
            return;
        }
        self.on_reached(from, now);
        let at = usize::from(from.is_ipv6());
        let contact = Contact { id: query.id, addr: from };
        let Some(side) = self.sides[at].as_mut() else { return };
        if side.read_only {
            return;
        }
        // Who answered us at this address is really there.
        let proven = side.table.on_query(contact, now);
        let budget = if proven { KRPC_SEND_MAX } else { KRPC_SEND_MAX.min(DHT_GAIN * len) };
        let asked = Asked { from, tid, budget, now };
        match query.method {
            Method::Ping => self.reply(&asked, |_| ()),
            Method::FindNode { target, want } => {
                let (v4, v6) = self.lists(&asked, target, want, asked.budget.saturating_sub(FRAME));
                self.reply(&asked, |r| (r.nodes, r.nodes6) = (v4.as_deref(), v6.as_deref()));
            }
            Method::GetPeers { info_hash, want } => self.give_peers(&asked, info_hash, want),
            Method::AnnouncePeer { info_hash, port, implied_port, token } => {
                let port = if implied_port { from.port() } else { port };
                self.keep(&asked, info_hash, port, token);
            }
            Method::Sample { target, want } => self.give_sample(&asked, target, want),
            Method::Unknown(_) => self.reply_error(&asked, METHOD_UNKNOWN, "method unknown"),
        }
        if !proven && !query.read_only {
            self.consider(contact, now);
        }
    }

    /// Whether a query from here is answered at all.
    fn admit(&mut self, from: SocketAddr, now: Time) -> bool {
        let admitted = self.senders.allow(from.ip(), now) && self.answers.take(1, now);
        if admitted {
            self.counts.queries.0 += 1;
        } else {
            self.counts.queries.1 += 1;
        }
        admitted
    }

    /// A query that makes no sense hears of it.
    pub(super) fn refuse(&mut self, from: SocketAddr, tid: &[u8], what: &str, now: Time) {
        let side = self.sides[usize::from(from.is_ipv6())].as_ref();
        if side.is_some_and(|side| !side.read_only) && self.admit(from, now) {
            self.reply_error(&Asked { from, tid, budget: KRPC_SEND_MAX, now }, PROTOCOL, what);
        }
    }

    fn reply<'a>(&mut self, asked: &Asked<'_>, fill: impl FnOnce(&mut Response<'a>)) {
        let Some(side) = self.sides[usize::from(asked.from.is_ipv6())].as_ref() else { return };
        let mut response = Response::new(side.id);
        fill(&mut response);
        self.reply_with(asked, Body::Response(response));
    }

    fn reply_error(&mut self, asked: &Asked<'_>, code: i64, text: &str) {
        self.reply_with(asked, Body::Error { code, text: text.as_bytes() });
    }

    fn reply_with(&mut self, asked: &Asked<'_>, body: Body<'_>) {
        let message = Message { tid: asked.tid, version: Some(VERSION), ip: Some(asked.from), body };
        let bytes = message.encode();
        debug_assert!(bytes.len() <= KRPC_SEND_MAX);
        // One byte of it was taken when the query was let in.
        if self.answers.take(bytes.len() as u64 - 1, asked.now) {
            self.send(asked.from, bytes, asked.now);
        }
    }

    /// The good nodes closest to a place, as lists of the families that are wanted, in so many bytes.
    fn lists(&self, asked: &Asked<'_>, target: NodeId, want: Want, room: usize) -> Lists {
        let own = usize::from(asked.from.is_ipv6());
        let wanted = match (want.v4, want.v6) {
            (false, false) => [own == 0, own == 1],
            (v4, v6) => [v4, v6],
        };
        let (mut v4, mut v6, mut room) = (Vec::new(), Vec::new(), room);
        for at in [own, 1 - own] {
            let Some(side) = self.sides[at].as_ref().filter(|_| wanted[at]) else { continue };
            let each = if at == 0 { LEN_V4 } else { LEN_V6 };
            let most = DHT_K.min(room / each);
            let near = side.table.closest(target, 2 * DHT_K, true, asked.now);
            // Nobody is told of addresses that mean something else where it is.
            let seen = |node: &&Contact| scope(node.addr.ip()) <= scope(asked.from.ip());
            for node in near.iter().filter(seen).take(most) {
                put_node(*node, &mut v4, &mut v6);
            }
            room = room.saturating_sub(most * each);
        }
        let keep = |at: usize, list| (wanted[at] && self.sides[at].is_some()).then_some(list);
        (keep(0, v4), keep(1, v6))
    }

    fn give_peers(&mut self, asked: &Asked<'_>, hash: InfoHash, want: Want) {
        let token = self.tokens.token(asked.from.ip(), &mut self.rng, asked.now);
        let room = asked.budget.saturating_sub(FRAME);
        let (v4, v6) = self.lists(asked, hash.into(), want, room);
        let room = room.saturating_sub(v4.as_ref().map_or(0, Vec::len) + v6.as_ref().map_or(0, Vec::len));
        let inside = self.store.values(hash, asked.from.is_ipv4(), room, &mut self.rng, asked.now);
        let values = [b"l", &inside[..], b"e"].concat();
        self.reply(asked, |r| {
            (r.nodes, r.nodes6, r.token) = (v4.as_deref(), v6.as_deref(), Some(&token[..]));
            r.values = (!inside.is_empty()).then(|| Values::encoded(&values));
        });
    }

    fn keep(&mut self, asked: &Asked<'_>, hash: InfoHash, port: u16, token: &[u8]) {
        if !self.tokens.is_good(token, asked.from.ip(), &mut self.rng, asked.now) {
            return self.reply_error(asked, PROTOCOL, "wrong token");
        }
        let peer = SocketAddr::new(asked.from.ip(), port);
        let Some(own) = self.sides[usize::from(asked.from.is_ipv6())].as_ref().map(|side| side.id) else {
            return;
        };
        if is_callable(peer) && self.store.add(hash, peer, own, asked.now) {
            self.reply(asked, |_| ());
        } else {
            self.reply_error(asked, SERVER, "no room");
        }
    }

    fn give_sample(&mut self, asked: &Asked<'_>, target: NodeId, want: Want) {
        let room = asked.budget.saturating_sub(FRAME);
        let (v4, v6) = self.lists(asked, target, want, room);
        let room = room.saturating_sub(v4.as_ref().map_or(0, Vec::len) + v6.as_ref().map_or(0, Vec::len));
        let samples = self.store.sample(room / 20, &mut self.rng, asked.now);
        let num = self.store.len().0 as i64;
        let interval = DHT_TOKEN_LIFE.as_secs() as i64;
        self.reply(asked, |r| {
            (r.nodes, r.nodes6) = (v4.as_deref(), v6.as_deref());
            r.sample = Some(Sample { interval, num, samples: &samples });
        });
    }
}
