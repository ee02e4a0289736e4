//! Nodes and peers as KRPC packs them: a node is its id, then its address as in compact peer lists.

use crate::proto::bencode::{List, Value};
use crate::proto::compact;
use crate::proto::id::NodeId;
use std::net::SocketAddr;

/// The bytes of a node over IPv4 (BEP 5).
pub const LEN_V4: usize = 20 + compact::LEN_V4;
/// The bytes of a node over IPv6 (BEP 32).
pub const LEN_V6: usize = 20 + compact::LEN_V6;

/// A node and where it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Contact {
    /// Its id.
    pub id: NodeId,
    /// Its address, in the one form of [`compact::canonical`].
    pub addr: SocketAddr,
}

fn contacts<'a, const LEN: usize, I: Iterator<Item = SocketAddr>>(
    bytes: &'a [u8],
    addr: impl Fn(&'a [u8]) -> I + 'a,
) -> impl Iterator<Item = Contact> + 'a {
    bytes.as_chunks::<LEN>().0.iter().filter_map(move |chunk| {
        let (id, rest) = chunk.split_first_chunk::<20>()?;
        Some(Contact { id: NodeId(*id), addr: addr(rest).next()? })
    })
}

/// The nodes of a `nodes` string that can be called. An odd tail is dropped.
pub fn nodes_v4(bytes: &[u8]) -> impl Iterator<Item = Contact> + '_ {
    contacts::<LEN_V4, _>(bytes, compact::v4)
}

/// The nodes of a `nodes6` string that can be called, but for IPv4-mapped ones. An odd tail is dropped.
pub fn nodes_v6(bytes: &[u8]) -> impl Iterator<Item = Contact> + '_ {
    contacts::<LEN_V6, _>(bytes, compact::v6).filter(|node| node.addr.is_ipv6())
}

/// Appends a node to the list of its family.
pub fn put_node(node: Contact, out_v4: &mut Vec<u8>, out_v6: &mut Vec<u8>) {
    let out = if compact::canonical(node.addr).is_ipv4() { &mut *out_v4 } else { &mut *out_v6 };
    out.extend_from_slice(&node.id.0);
    compact::put(node.addr, out_v4, out_v6);
}

/// The `values` of an answer: a bencoded list of strings, a compact address each.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Values<'a>(&'a [u8]);

impl<'a> Values<'a> {
    /// The list, if it is one.
    pub(super) fn of(value: Value<'a>) -> Option<Values<'a>> {
        value.as_list().map(|_| Values(value.raw()))
    }

    /// A list made with [`put_value`] between `l` and `e`.
    pub fn encoded(raw: &'a [u8]) -> Values<'a> {
        Values(raw)
    }

    /// The peers that can be called; entries of other lengths are passed over, families may be mixed (BEP 32).
    pub fn iter(&self) -> impl Iterator<Item = SocketAddr> + 'a {
        let list = crate::proto::bencode::decode(self.0).ok().and_then(Value::as_list);
        list.into_iter().flat_map(List::into_iter).filter_map(|item| {
            let bytes = item.as_bytes()?;
            match bytes.len() {
                compact::LEN_V4 => compact::v4(bytes).next(),
                compact::LEN_V6 => compact::v6(bytes).next(),
                _ => None,
            }
        })
    }

    /// The list as it stands in a message.
    pub(super) fn raw(&self) -> &'a [u8] {
        self.0
    }
}

/// Appends a peer to the inside of a list of values.
pub fn put_value(addr: SocketAddr, out: &mut Vec<u8>) {
    let (mut v4, mut v6) = (Vec::new(), Vec::new());
    compact::put(addr, &mut v4, &mut v6);
    let (len, bytes) = if v6.is_empty() { (&b"6:"[..], v4) } else { (&b"18:"[..], v6) };
    out.extend_from_slice(len);
    out.extend_from_slice(&bytes);
}
