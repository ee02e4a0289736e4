//! The messages of the DHT (KRPC: BEP 5, 32, 42, 43, 51), both directions. What is decoded borrows the datagram;
//! nothing is allocated. Keys that nobody knows are passed over.

mod compact;
#[cfg(test)]
mod tests;

pub use compact::{Contact, LEN_V4, LEN_V6, Values, nodes_v4, nodes_v6, put_node, put_value};

use super::bencode::{DictEncoder, Encoder, Value, decode as parse};
use super::compact as addresses;
use super::id::{InfoHash, NodeId};
use crate::limits::{KRPC_MAX, KRPC_TID_MAX, KRPC_TOKEN_MAX};
use std::net::SocketAddr;

/// A query could not be done (BEP 5).
pub const GENERIC: i64 = 201;
/// The node has a trouble of its own (BEP 5).
pub const SERVER: i64 = 202;
/// The query is malformed, or its token is wrong (BEP 5).
pub const PROTOCOL: i64 = 203;
/// There is no such query (BEP 5).
pub const METHOD_UNKNOWN: i64 = 204;

/// One datagram.
#[derive(Clone, PartialEq, Debug)]
pub struct Message<'a> {
    /// The transaction, chosen by who asks and sent back by who answers.
    pub tid: &'a [u8],
    /// The program that sends it, if it says so.
    pub version: Option<&'a [u8]>,
    /// In answers: the address that the query came from (BEP 42).
    pub ip: Option<SocketAddr>,
    /// What it is.
    pub body: Body<'a>,
}

/// The three kinds of message.
#[derive(Clone, PartialEq, Debug)]
pub enum Body<'a> {
    /// A question.
    Query(Query<'a>),
    /// Its answer.
    Response(Response<'a>),
    /// Why there is none.
    Error {
        /// One of 201 to 204, or whatever the other side made up.
        code: i64,
        /// Words for people.
        text: &'a [u8],
    },
}

/// A question.
#[derive(Clone, PartialEq, Debug)]
pub struct Query<'a> {
    /// Who asks.
    pub id: NodeId,
    /// It answers nobody and must not be put into a table (BEP 43).
    pub read_only: bool,
    /// What it asks for.
    pub method: Method<'a>,
}

/// What is asked for.
#[derive(Clone, PartialEq, Debug)]
pub enum Method<'a> {
    /// Whether anybody is there.
    Ping,
    /// The nodes closest to a place.
    FindNode {
        /// The place.
        target: NodeId,
        /// Of which families.
        want: Want,
    },
    /// Peers of a torrent, or the nodes closest to it.
    GetPeers {
        /// The torrent.
        info_hash: InfoHash,
        /// Nodes of which families.
        want: Want,
    },
    /// To be kept as a peer of a torrent.
    AnnouncePeer {
        /// The torrent.
        info_hash: InfoHash,
        /// The port to be reached at.
        port: u16,
        /// Take the port that the datagram comes from instead.
        implied_port: bool,
        /// What the node gave with its answer to `get_peers`.
        token: &'a [u8],
    },
    /// Some of the torrents that the node keeps peers of (BEP 51).
    Sample {
        /// The place that nodes are wanted for.
        target: NodeId,
        /// Of which families.
        want: Want,
    },
    /// Something that is not in these pages.
    Unknown(&'a [u8]),
}

/// Which families of nodes a query wants (BEP 32). Neither: that of the datagram.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Want {
    /// `nodes`.
    pub v4: bool,
    /// `nodes6`.
    pub v6: bool,
}

/// An answer. Which of these are there depends on the query; none is needed but the id.
#[derive(Clone, PartialEq, Debug)]
pub struct Response<'a> {
    /// Who answers.
    pub id: NodeId,
    /// A compact list of nodes: see [`nodes_v4`].
    pub nodes: Option<&'a [u8]>,
    /// A compact list of nodes over IPv6: see [`nodes_v6`].
    pub nodes6: Option<&'a [u8]>,
    /// What a later announce has to show.
    pub token: Option<&'a [u8]>,
    /// Peers of the torrent.
    pub values: Option<Values<'a>>,
    /// The answer to [`Method::Sample`].
    pub sample: Option<Sample<'a>>,
}

/// Torrents that a node keeps peers of (BEP 51).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sample<'a> {
    /// Seconds until it gives others.
    pub interval: i64,
    /// How many it has.
    pub num: i64,
    /// Some of them, 20 bytes each.
    pub samples: &'a [u8],
}

impl<'a> Response<'a> {
    /// An answer with nothing in it but who gives it.
    pub fn new(id: NodeId) -> Response<'a> {
        Response { id, nodes: None, nodes6: None, token: None, values: None, sample: None }
    }
}

/// What is wrong with a datagram.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Error<'a> {
    /// The transaction, when it is a query that shall hear of it (with [`PROTOCOL`]); anything else is dropped.
    pub tid: Option<&'a [u8]>,
    /// One line.
    pub what: &'static str,
}

fn bad<'a>(what: &'static str) -> Error<'a> {
    Error { tid: None, what }
}

/// Reads a datagram.
pub fn decode(datagram: &[u8]) -> Result<Message<'_>, Error<'_>> {
    if datagram.len() > KRPC_MAX {
        return Err(bad("it is too long"));
    }
    let root = parse(datagram).map_err(|_| bad("it is not bencoded"))?;
    let dict = root.as_dict().ok_or(bad("it is not a dictionary"))?;
    let keys = ["a", "e", "ip", "q", "r", "ro", "t", "v", "y"];
    let [a, e, ip, q, r, ro, t, v, y] = dict.fields(keys).map_err(|_| bad("a key comes twice"))?;
    let tid = t.and_then(Value::as_bytes).filter(|tid| (1..=KRPC_TID_MAX).contains(&tid.len()));
    let tid = tid.ok_or(bad("it has no transaction id that could be used"))?;
    let body = match y.and_then(Value::as_bytes) {
        Some(b"q") => {
            let read_only = ro.and_then(Value::as_int) == Some(1);
            query(q, a, read_only).map_err(|what| Error { tid: Some(tid), what })?
        }
        Some(b"r") => response(r).map_err(bad)?,
        Some(b"e") => error(e).map_err(bad)?,
        _ => return Err(bad("it is neither query nor answer")),
    };
    let version = v.and_then(Value::as_bytes);
    Ok(Message { tid, version, ip: ip.and_then(Value::as_bytes).and_then(endpoint), body })
}

/// The address and port of 6 or 18 bytes.
fn endpoint(bytes: &[u8]) -> Option<SocketAddr> {
    let (ip, port) = bytes.split_last_chunk::<2>()?;
    Some(SocketAddr::new(addresses::ip(ip)?, u16::from_be_bytes(*port)))
}

fn node_id(value: Option<Value<'_>>) -> Option<NodeId> {
    value.and_then(Value::as_bytes).and_then(|bytes| bytes.try_into().ok()).map(NodeId)
}

fn query<'a>(q: Option<Value<'a>>, a: Option<Value<'a>>, read_only: bool) -> Result<Body<'a>, &'static str> {
    let name = q.and_then(Value::as_bytes).ok_or("no method")?;
    let dict = a.and_then(Value::as_dict).ok_or("no arguments")?;
    let keys = ["id", "implied_port", "info_hash", "port", "target", "token", "want"];
    let [id, implied, info_hash, port, target, token, want] =
        dict.fields(keys).map_err(|_| "an argument comes twice")?;
    let id = node_id(id).ok_or("id is not 20 bytes")?;
    let target = || node_id(target).ok_or("target is not 20 bytes");
    let info_hash = || node_id(info_hash).map(|id| InfoHash(id.0)).ok_or("info_hash is not 20 bytes");
    let want = wanted(want);
    let method = match name {
        b"ping" => Method::Ping,
        b"find_node" => Method::FindNode { target: target()?, want },
        b"get_peers" => Method::GetPeers { info_hash: info_hash()?, want },
        b"announce_peer" => {
            let implied_port = implied.and_then(Value::as_int).is_some_and(|flag| flag != 0);
            let port = port.and_then(Value::as_int).and_then(|port| u16::try_from(port).ok()).unwrap_or(0);
            if port == 0 && !implied_port {
                return Err("port is not one");
            }
            let token = token.and_then(Value::as_bytes).ok_or("no token")?;
            Method::AnnouncePeer { info_hash: info_hash()?, port, implied_port, token }
        }
        b"sample_infohashes" => Method::Sample { target: target()?, want },
        _ => Method::Unknown(name),
    };
    Ok(Body::Query(Query { id, read_only, method }))
}

fn wanted(want: Option<Value<'_>>) -> Want {
    let has = |flag: &[u8]| {
        want.and_then(Value::as_list).is_some_and(|mut list| list.any(|item| item.as_bytes() == Some(flag)))
    };
    Want { v4: has(b"n4"), v6: has(b"n6") }
}

fn response(r: Option<Value<'_>>) -> Result<Body<'_>, &'static str> {
    let dict = r.and_then(Value::as_dict).ok_or("no values are returned")?;
    let keys = ["id", "interval", "nodes", "nodes6", "num", "samples", "token", "values"];
    let [id, interval, nodes, nodes6, num, samples, token, values] =
        dict.fields(keys).map_err(|_| "a value comes twice")?;
    let id = node_id(id).ok_or("id is not 20 bytes")?;
    if [nodes, nodes6].into_iter().flatten().any(|list| list.as_bytes().is_none()) {
        return Err("nodes are not a string");
    }
    let sample = samples.and_then(Value::as_bytes).map(|samples| Sample {
        interval: interval.and_then(Value::as_int).unwrap_or(0),
        num: num.and_then(Value::as_int).unwrap_or(0),
        samples,
    });
    Ok(Body::Response(Response {
        id,
        nodes: nodes.and_then(Value::as_bytes),
        nodes6: nodes6.and_then(Value::as_bytes),
        token: token.and_then(Value::as_bytes).filter(|token| token.len() <= KRPC_TOKEN_MAX),
        values: values.and_then(Values::of),
        sample,
    }))
}

fn error(e: Option<Value<'_>>) -> Result<Body<'_>, &'static str> {
    let mut list = e.and_then(Value::as_list).ok_or("the error is not a list")?;
    let code = list.next().and_then(Value::as_int).ok_or("the error has no code")?;
    let text = list.next().and_then(Value::as_bytes).unwrap_or_default();
    Ok(Body::Error { code, text })
}

impl Message<'_> {
    /// The datagram.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(128);
        Encoder::new(&mut out).dict(|d| {
            match &self.body {
                Body::Query(query) => d.entry("a").dict(|a| query.arguments(a)),
                Body::Error { code, text } => d.entry("e").list(|l| {
                    l.item().int(*code);
                    l.item().bytes(text);
                }),
                Body::Response(_) => {}
            }
            if let Some(ip) = self.ip {
                let (mut v4, mut v6) = (Vec::new(), Vec::new());
                addresses::put(ip, &mut v4, &mut v6);
                d.entry("ip").bytes(if v4.is_empty() { &v6 } else { &v4 });
            }
            match &self.body {
                Body::Query(query) => {
                    d.entry("q").bytes(query.name());
                    if query.read_only {
                        d.entry("ro").int(1);
                    }
                }
                Body::Response(response) => d.entry("r").dict(|r| response.values_of(r)),
                Body::Error { .. } => {}
            }
            d.entry("t").bytes(self.tid);
            if let Some(version) = self.version {
                d.entry("v").bytes(version);
            }
            d.entry("y").str(match self.body {
                Body::Query(_) => "q",
                Body::Response(_) => "r",
                Body::Error { .. } => "e",
            });
        });
        out
    }
}

impl Query<'_> {
    fn name(&self) -> &[u8] {
        match self.method {
            Method::Ping => b"ping",
            Method::FindNode { .. } => b"find_node",
            Method::GetPeers { .. } => b"get_peers",
            Method::AnnouncePeer { .. } => b"announce_peer",
            Method::Sample { .. } => b"sample_infohashes",
            Method::Unknown(name) => name,
        }
    }

    fn arguments(&self, a: &mut DictEncoder<'_>) {
        a.entry("id").bytes(&self.id.0);
        match self.method {
            Method::Ping | Method::Unknown(_) => {}
            Method::FindNode { target, want } | Method::Sample { target, want } => {
                a.entry("target").bytes(&target.0);
                want.put(a);
            }
            Method::GetPeers { info_hash, want } => {
                a.entry("info_hash").bytes(&info_hash.0);
                want.put(a);
            }
            Method::AnnouncePeer { info_hash, port, implied_port, token } => {
                if implied_port {
                    a.entry("implied_port").int(1);
                }
                a.entry("info_hash").bytes(&info_hash.0);
                a.entry("port").int(i64::from(port));
                a.entry("token").bytes(token);
            }
        }
    }
}

impl Want {
    fn put(self, a: &mut DictEncoder<'_>) {
        if !self.v4 && !self.v6 {
            return;
        }
        a.entry("want").list(|l| {
            if self.v4 {
                l.item().str("n4");
            }
            if self.v6 {
                l.item().str("n6");
            }
        });
    }
}

impl Response<'_> {
    fn values_of(&self, r: &mut DictEncoder<'_>) {
        r.entry("id").bytes(&self.id.0);
        if let Some(sample) = self.sample {
            r.entry("interval").int(sample.interval);
        }
        if let Some(nodes) = self.nodes {
            r.entry("nodes").bytes(nodes);
        }
        if let Some(nodes6) = self.nodes6 {
            r.entry("nodes6").bytes(nodes6);
        }
        if let Some(sample) = self.sample {
            r.entry("num").int(sample.num);
            r.entry("samples").bytes(sample.samples);
        }
        if let Some(token) = self.token {
            r.entry("token").bytes(token);
        }
        if let Some(values) = &self.values {
            r.entry("values").raw(values.raw());
        }
    }
}

/// Decodes `data`, and asserts that what came out is encoded and decoded to the same again, and that lists hold no
/// more than their bytes do.
#[doc(hidden)]
pub fn fuzz_krpc(data: &[u8]) {
    let message = match decode(data) {
        Ok(message) => message,
        Err(error) => return assert!(error.tid.is_none_or(|tid| (1..=KRPC_TID_MAX).contains(&tid.len()))),
    };
    if let Body::Response(response) = &message.body {
        let nodes = |bytes: Option<&[u8]>, len: usize| bytes.map_or(0, |bytes| bytes.len() / len);
        assert!(nodes_v4(response.nodes.unwrap_or_default()).count() <= nodes(response.nodes, LEN_V4));
        assert!(nodes_v6(response.nodes6.unwrap_or_default()).count() <= nodes(response.nodes6, LEN_V6));
        assert!(response.values.iter().flat_map(Values::iter).count() <= data.len() / 6);
    }
    let again = message.encode();
    // A missing port is written out, so that this one may be a little longer.
    if again.len() <= KRPC_MAX {
        assert_eq!(decode(&again).as_ref(), Ok(&message));
    }
}
