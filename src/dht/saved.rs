//! The table as bytes, so that the next run begins with nodes that were there.

use super::Node;
use super::ident::is_lawful;
use crate::base::time::Time;
use crate::limits::{DHT_SAVED_BYTES, DHT_SAVED_MAX};
use crate::proto::bencode::{Value, decode, encode};
use crate::proto::id::NodeId;
use crate::proto::krpc::{nodes_v4, nodes_v6, put_node};

impl Node {
    /// Our ids and the best of our nodes, `limits::DHT_SAVED_BYTES` at most; None when there is nobody to remember.
    pub fn save(&self) -> Option<Vec<u8>> {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for side in self.sides.iter().flatten() {
            for contact in side.table.save().into_iter().take(DHT_SAVED_MAX) {
                put_node(contact, &mut v4, &mut v6);
            }
        }
        if v4.is_empty() && v6.is_empty() {
            return None;
        }
        let id = |at: usize| self.sides[at].as_ref().map(|side| side.id.0);
        Some(encode(|e| {
            e.dict(|d| {
                if let Some(id) = id(0) {
                    d.entry("id").bytes(&id);
                }
                if let Some(id) = id(1) {
                    d.entry("id6").bytes(&id);
                }
                d.entry("nodes").bytes(&v4);
                d.entry("nodes6").bytes(&v6);
            });
        }))
    }

    /// Begins where [`Node::save`] left off: to be called before anything else. What makes no sense is passed over.
    pub fn load(&mut self, bytes: &[u8], now: Time) {
        let Some(value) = (bytes.len() <= DHT_SAVED_BYTES).then(|| decode(bytes).ok()).flatten() else {
            return;
        };
        let text = |key: &str| value.get(key.as_bytes()).and_then(Value::as_bytes).unwrap_or_default();
        for (at, key) in ["id", "id6"].into_iter().enumerate() {
            let Some(side) = self.sides[at].as_mut() else { continue };
            if let Ok(id) = <[u8; 20]>::try_from(text(key)).map(NodeId)
                && side.external.is_none_or(|ip| is_lawful(id, ip))
            {
                side.id = id;
                side.table.rename(id);
            }
        }
        let nodes: Vec<_> = nodes_v4(text("nodes")).chain(nodes_v6(text("nodes6"))).collect();
        for contact in nodes {
            let usable = self.is_usable(contact.addr);
            if let Some(side) = self.sides[usize::from(contact.addr.is_ipv6())].as_mut().filter(|_| usable) {
                side.hear_of(&[contact]);
            }
        }
        self.pump(now);
    }
}
