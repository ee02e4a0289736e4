//! Nodes that lie: they answer every question with nodes that are very close to the place asked for. Half of these
//! are other liars, who claim such ids when they are asked, half are nobody; and they name peers that are none. What
//! is announced to them they forget.

use super::world::{Host, World};
use ptorrent::base::rng::Rng;
use ptorrent::proto::id::NodeId;
use ptorrent::proto::krpc::{
    self, Body, Contact, Message, Method, Query, Response, Values, put_node, put_value,
};
use std::net::SocketAddr;

/// The id that a liar claims near a place: all of them can work it out.
fn claimed(place: NodeId, addr: SocketAddr) -> NodeId {
    let mut id = place.0;
    if let std::net::IpAddr::V4(ip) = addr.ip() {
        id[14..18].copy_from_slice(&ip.octets());
        id[18..].copy_from_slice(&addr.port().to_be_bytes());
    }
    NodeId(id)
}

pub(super) fn answer(
    world: &mut World,
    n: usize,
    from: SocketAddr,
    bytes: &[u8],
) -> Vec<(SocketAddr, Vec<u8>)> {
    let Ok(Message { tid, body: Body::Query(query), .. }) = krpc::decode(bytes) else { return Vec::new() };
    let addr = world.sites[n].addr;
    let (target, peers) = match query.method {
        Method::FindNode { target, .. } => (target, false),
        Method::GetPeers { info_hash, .. } => (info_hash.into(), true),
        _ => (ptorrent::dht::ident::new_id(Some(addr.ip()), &mut Rng::new([n as u8; 32])), false),
    };
    let (mut nodes, mut six, mut values) = (Vec::new(), Vec::new(), b"l".to_vec());
    for k in 0..8 {
        let mut other = SocketAddr::from(((world.rng.u32() & 0x3fff_ffff | 0x0800_0000).to_be_bytes(), 6881));
        if k % 2 == 0 {
            let at = world.rng.index(world.sites.len());
            if matches!(world.sites[at].host, Host::Liar) {
                other = world.sites[at].addr;
            }
        }
        put_node(Contact { id: claimed(target, other), addr: other }, &mut nodes, &mut six);
        put_value(other, &mut values);
    }
    values.push(b'e');
    let mut response = Response::new(claimed(target, addr));
    response.token = Some(b"lie");
    response.nodes = Some(&nodes);
    response.values = peers.then(|| Values::encoded(&values));
    let message = Message { tid, version: None, ip: None, body: Body::Response(response) };
    vec![(from, message.encode())]
}

/// A ping under an id that is close to a place.
pub(super) fn greeting(place: NodeId, addr: SocketAddr) -> Vec<u8> {
    let query = Query { id: claimed(place, addr), read_only: false, method: Method::Ping };
    Message { tid: b"hi", version: None, ip: None, body: Body::Query(query) }.encode()
}
