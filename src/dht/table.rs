//! The routing table of one family: nodes that answered us, in buckets of K that split on our own id (BEP 5).

use super::ident::{Scope, is_lawful, network, scope};
use crate::api::DhtCount as Count;
use crate::base::rng::Rng;
use crate::base::time::Time;
use crate::limits::{DHT_BUCKETS_MAX, DHT_FAILS, DHT_FRESH, DHT_K, DHT_PER_NETWORK};
use crate::proto::id::NodeId;
use crate::proto::krpc::Contact;
use std::net::IpAddr;

/// A node that answered a query of ours.
#[derive(Clone, Debug)]
struct Entry {
    contact: Contact,
    /// When it answered last.
    answered: Time,
    /// When it last asked us something.
    asked_us: Time,
    /// Queries in a row that it left without an answer.
    fails: u8,
    /// Its id is one that its address may have (BEP 42).
    lawful: bool,
}

impl Entry {
    fn heard(&self) -> Time {
        self.answered.max(self.asked_us)
    }

    fn is_good(&self, now: Time) -> bool {
        self.fails == 0 && now.since(self.heard()) < DHT_FRESH
    }
}

#[derive(Default)]
struct Bucket {
    nodes: Vec<Entry>,
    /// Nodes that find no room, the last heard of at the end: they replace those that go bad.
    spare: Vec<Contact>,
    /// When nodes were last looked for here.
    sought: Time,
}

/// What came of a node that answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Place {
    /// It is new in the table.
    New,
    /// It was there.
    Known,
    /// It found no room.
    None,
}

/// The nodes that we know.
pub(super) struct Table {
    own: NodeId,
    /// Bucket i holds nodes that share i bits with us; the last one those that share more, too.
    buckets: Vec<Bucket>,
}

impl Table {
    pub(super) fn new(own: NodeId) -> Table {
        Table { own, buckets: vec![Bucket::default()] }
    }

    /// Our id is another one: the nodes are sorted anew.
    pub(super) fn rename(&mut self, own: NodeId) {
        let old = std::mem::replace(self, Table::new(own));
        for entry in old.buckets.into_iter().flat_map(|bucket| bucket.nodes) {
            self.insert(entry);
        }
    }

    fn bucket_of(&self, id: NodeId) -> usize {
        self.own.shared_bits(id).min(self.buckets.len() - 1)
    }

    fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.buckets.iter().flat_map(|bucket| &bucket.nodes)
    }

    fn find(&mut self, contact: Contact) -> Option<&mut Entry> {
        let at = self.bucket_of(contact.id);
        self.buckets[at].nodes.iter_mut().find(|entry| entry.contact == contact)
    }

    /// A node answered a query of ours.
    pub(super) fn on_answer(&mut self, contact: Contact, now: Time) -> Place {
        if contact.id == self.own {
            return Place::None;
        }
        if let Some(entry) = self.find(contact) {
            (entry.answered, entry.fails) = (now, 0);
            return Place::Known;
        }
        // One node an address: what answers there now is the one. Behind a local address there may be several.
        let local = scope(contact.addr.ip()) != Scope::Global;
        let same = |other: &Contact| match local {
            true => other.addr == contact.addr,
            false => other.addr.ip() == contact.addr.ip(),
        };
        for bucket in &mut self.buckets {
            bucket.nodes.retain(|entry| !same(&entry.contact));
            bucket.spare.retain(|spare| !same(spare));
        }
        let lawful = is_lawful(contact.id, contact.addr.ip());
        self.insert(Entry { contact, answered: now, asked_us: Time::ZERO, fails: 0, lawful })
    }

    fn insert(&mut self, entry: Entry) -> Place {
        loop {
            let at = self.bucket_of(entry.contact.id);
            let splits = at + 1 == self.buckets.len() && self.buckets.len() < DHT_BUCKETS_MAX;
            let bucket = &mut self.buckets[at];
            if crowded(bucket.nodes.iter().map(|e| &e.contact), entry.contact.addr.ip()) {
                return Place::None;
            }
            if bucket.nodes.len() < DHT_K {
                bucket.nodes.push(entry);
                return Place::New;
            }
            let worse = |other: &Entry| other.fails >= DHT_FAILS || entry.lawful && !other.lawful;
            if let Some(old) = bucket.nodes.iter_mut().find(|other| worse(other)) {
                *old = entry;
                return Place::New;
            }
            // A node that chose its id does not make us keep more of its kind.
            if !splits || !entry.lawful {
                bucket.spare.retain(|spare| *spare != entry.contact);
                if bucket.spare.len() == DHT_K {
                    bucket.spare.remove(0);
                }
                bucket.spare.push(entry.contact);
                return Place::None;
            }
            self.split();
        }
    }

    /// The last bucket, the one with our own id, becomes two.
    fn split(&mut self) {
        let at = self.buckets.len() - 1;
        let own = self.own;
        let old = &mut self.buckets[at];
        let nearer = |contact: &Contact| own.shared_bits(contact.id) > at;
        let (nodes, rest) =
            std::mem::take(&mut old.nodes).into_iter().partition(|entry| nearer(&entry.contact));
        let (spare, others) = std::mem::take(&mut old.spare).into_iter().partition(nearer);
        (old.nodes, old.spare) = (rest, others);
        let sought = old.sought;
        self.buckets.push(Bucket { nodes, spare, sought });
    }

    /// A node asked us something. Tells whether it is one that answered us before, under this id.
    pub(super) fn on_query(&mut self, contact: Contact, now: Time) -> bool {
        self.find(contact).map(|entry| entry.asked_us = now).is_some()
    }

    /// Whether a node that is only heard of is worth a question: there is room for it, and it may have that.
    pub(super) fn wants(&self, contact: Contact) -> bool {
        let ip = contact.addr.ip();
        let at = self.bucket_of(contact.id);
        let bucket = &self.buckets[at];
        let room = bucket.nodes.len() < DHT_K
            || bucket.nodes.iter().any(|entry| entry.fails >= DHT_FAILS)
            || at + 1 == self.buckets.len() && self.own.shared_bits(contact.id) > at;
        let taken = scope(ip) == Scope::Global && self.entries().any(|entry| entry.contact.addr.ip() == ip);
        room && !taken
            && contact.id != self.own
            && is_lawful(contact.id, ip)
            && bucket.nodes.iter().all(|entry| entry.contact.addr != contact.addr)
            && !crowded(bucket.nodes.iter().map(|entry| &entry.contact), ip)
    }

    /// A node left a query without an answer. Gives the one that waits for its room, if it goes.
    pub(super) fn on_failure(&mut self, contact: Contact) -> Option<Contact> {
        let at = self.bucket_of(contact.id);
        let bucket = &mut self.buckets[at];
        let found = bucket.nodes.iter().position(|entry| entry.contact == contact);
        if let Some(i) = found {
            let entry = &mut bucket.nodes[i];
            entry.fails = entry.fails.saturating_add(1);
            if entry.fails < DHT_FAILS {
                return None;
            }
            bucket.nodes.remove(i);
        } else {
            bucket.spare.retain(|spare| *spare != contact);
        }
        if bucket.nodes.len() < DHT_K { bucket.spare.pop() } else { None }
    }

    /// The nodes closest to a place, the closest first; `good` ones only, or all that are not known to be bad.
    pub(super) fn closest(&self, target: NodeId, most: usize, good: bool, now: Time) -> Vec<Contact> {
        let fit = |entry: &&Entry| if good { entry.is_good(now) } else { entry.fails < DHT_FAILS };
        let mut near: Vec<_> = self
            .entries()
            .filter(fit)
            .map(|entry| (entry.contact.id.distance(target), entry.contact))
            .collect();
        near.sort_unstable();
        near.into_iter().take(most).map(|(_, contact)| contact).collect()
    }

    /// Whom to look after next, and when: a node that failed once, then the one that was not heard of for longest.
    pub(super) fn stalest(&self, now: Time) -> Option<(Contact, Time)> {
        let due = |entry: &Entry| if entry.fails > 0 { now } else { entry.heard() + DHT_FRESH };
        self.entries().map(|entry| (entry.contact, due(entry))).min_by_key(|(_, due)| *due)
    }

    /// The node that was heard of last.
    pub(super) fn freshest(&self) -> Option<Contact> {
        self.entries().max_by_key(|entry| entry.heard()).map(|entry| entry.contact)
    }

    /// A bucket with room where nobody was looked for lately, and when it is due. The last one fills by searches for
    /// our own id.
    pub(super) fn thin(&self, now: Time) -> Option<(usize, Time)> {
        let others = self.buckets.iter().take(self.buckets.len() - 1).enumerate();
        let due = |bucket: &Bucket| if bucket.sought == Time::ZERO { now } else { bucket.sought + DHT_FRESH };
        let thin = others.filter(|(_, bucket)| bucket.nodes.len() < DHT_K);
        thin.map(|(at, bucket)| (at, due(bucket))).min_by_key(|(_, due)| *due)
    }

    /// Nodes are looked for in this bucket: a place in it.
    pub(super) fn seek(&mut self, at: usize, rng: &mut Rng, now: Time) -> NodeId {
        if let Some(bucket) = self.buckets.get_mut(at) {
            bucket.sought = now.max(Time(1));
        }
        let mut place = [0; 20];
        rng.fill(&mut place);
        let last = at + 1 == self.buckets.len();
        // It shares `at` bits with us, and in all but the last bucket not one more.
        for bit in 0..at.min(159) + usize::from(!last) {
            let mask = 0x80 >> (bit % 8);
            let own = self.own.0[bit / 8] & mask;
            let wanted = if bit == at { own ^ mask } else { own };
            place[bit / 8] = place[bit / 8] & !mask | wanted;
        }
        NodeId(place)
    }

    /// The bucket of a node.
    pub(super) fn place_of(&self, id: NodeId) -> usize {
        self.bucket_of(id)
    }

    pub(super) fn len(&self) -> usize {
        self.buckets.iter().map(|bucket| bucket.nodes.len()).sum()
    }

    pub(super) fn count(&self, now: Time) -> Count {
        let good = self.entries().filter(|entry| entry.is_good(now)).count();
        Count {
            good,
            questionable: self.len() - good,
            spare: self.buckets.iter().map(|bucket| bucket.spare.len()).sum(),
            buckets: self.buckets.len(),
        }
    }

    /// All nodes that are not bad, those that answered last first.
    pub(super) fn save(&self) -> Vec<Contact> {
        let mut entries: Vec<&Entry> = self.entries().filter(|entry| entry.fails == 0).collect();
        entries.sort_by_key(|entry| std::cmp::Reverse(entry.heard()));
        entries.into_iter().map(|entry| entry.contact).collect()
    }
}

/// Whether one network has its share of these.
pub(super) fn crowded<'a>(mut nodes: impl Iterator<Item = &'a Contact>, ip: IpAddr) -> bool {
    if scope(ip) != Scope::Global {
        return false;
    }
    let net = network(ip);
    nodes.by_ref().filter(|node| network(node.addr.ip()) == net).take(DHT_PER_NETWORK).count()
        == DHT_PER_NETWORK
}

#[cfg(test)]
mod tests {
    use super::super::ident::new_id;
    use super::*;
    use std::net::SocketAddr;

    fn node(n: u32, rng: &mut Rng) -> Contact {
        let addr = SocketAddr::from((
            (n.wrapping_mul(0x9E37_79B1) | 0x0100_0000 & !0xE000_0000).to_be_bytes(),
            6881,
        ));
        let addr = SocketAddr::from(([5 + (n % 4) as u8, (n >> 8) as u8, n as u8, 1], addr.port()));
        Contact { id: new_id(Some(addr.ip()), rng), addr }
    }

    fn table(rng: &mut Rng) -> Table {
        Table::new(new_id(None, rng))
    }

    #[test]
    #[cfg_attr(miri, ignore = "takes Miri minutes")]
    fn buckets_split_on_our_own_id_only() {
        let mut rng = Rng::new([1; 32]);
        let mut table = table(&mut rng);
        for n in 0..5000 {
            table.on_answer(node(n, &mut rng), Time(1));
        }
        // 5,000 nodes: 8 share up to 9 or so bits with us.
        let count = table.count(Time(1));
        assert!((9..=14).contains(&count.buckets), "{count:?}");
        for (at, bucket) in table.buckets.iter().enumerate() {
            assert!(bucket.nodes.len() <= DHT_K && bucket.spare.len() <= DHT_K);
            let last = at + 1 == table.buckets.len();
            assert!(last || bucket.nodes.len() == DHT_K, "bucket {at} is not full");
            for entry in &bucket.nodes {
                let shared = table.own.shared_bits(entry.contact.id);
                assert!(shared == at || last && shared > at);
            }
            for _ in 0..20 {
                let place = Table {
                    own: table.own,
                    buckets: (0..table.buckets.len()).map(|_| Bucket::default()).collect(),
                }
                .seek(at, &mut rng, Time(1));
                assert_eq!(table.bucket_of(place), at);
            }
        }
        assert_eq!(table.closest(table.own, 3, true, Time(2)).len(), 3);
    }

    #[test]
    fn a_node_is_good_for_fifteen_minutes_and_bad_after_two_failures() {
        let mut rng = Rng::new([2; 32]);
        let mut table = table(&mut rng);
        let (a, b) = (node(1, &mut rng), node(2, &mut rng));
        assert_eq!((table.on_answer(a, Time(5)), table.on_answer(a, Time(6))), (Place::New, Place::Known));
        assert!(!table.on_query(b, Time(7)), "asking alone makes nobody known");
        let later = Time(6) + DHT_FRESH;
        assert_eq!((table.count(Time(9)).good, table.count(later).good), (1, 0));
        assert_eq!(table.stalest(later), Some((a, later)));
        assert!(table.on_query(a, later) && table.count(later).good == 1);
        assert_eq!(table.on_failure(a), None);
        assert_eq!((table.count(later).good, table.count(later).questionable), (0, 1));
        table.on_answer(a, later);
        assert_eq!(table.count(later).good, 1);
        table.on_failure(a);
        table.on_failure(a);
        assert_eq!(table.len(), 0);
    }

    #[test]
    #[cfg_attr(miri, ignore = "takes Miri minutes")]
    fn a_spare_takes_the_room_of_a_bad_node() {
        let mut rng = Rng::new([3; 32]);
        let mut table = table(&mut rng);
        let mut far = Vec::new();
        for n in 0..200 {
            let node = node(n, &mut rng);
            if table.own.shared_bits(node.id) == 0 {
                far.push(node);
            }
            table.on_answer(node, Time(1));
        }
        let first = far[0];
        assert!(!table.wants(far[DHT_K]));
        assert_eq!(table.on_failure(first), None);
        let spare = table.on_failure(first).expect("one waits");
        assert!(table.wants(spare) && table.on_answer(spare, Time(2)) == Place::New);
    }

    #[test]
    #[cfg_attr(miri, ignore = "takes Miri minutes")]
    fn one_network_has_two_nodes_in_a_bucket_and_one_an_address() {
        let mut rng = Rng::new([4; 32]);
        let mut table = table(&mut rng);
        for n in 1..=250 {
            let addr = SocketAddr::from(([6, 6, 6, n], 6881));
            table.on_answer(Contact { id: new_id(Some(addr.ip()), &mut rng), addr }, Time(1));
        }
        assert_eq!(table.len(), DHT_PER_NETWORK);
        let addr = SocketAddr::from(([7, 7, 7, 7], 1));
        for port in 1..50 {
            let addr = SocketAddr::new(addr.ip(), port);
            table.on_answer(Contact { id: new_id(Some(addr.ip()), &mut rng), addr }, Time(1));
        }
        assert_eq!(table.len(), DHT_PER_NETWORK + 1);
        // On this machine every port is another node.
        for port in 1..=5 {
            let addr = SocketAddr::from(([127, 0, 0, 1], port));
            table.on_answer(Contact { id: new_id(None, &mut rng), addr }, Time(1));
        }
        assert_eq!(table.len(), DHT_PER_NETWORK + 6);
    }

    #[test]
    #[cfg_attr(miri, ignore = "takes Miri minutes")]
    fn ids_that_do_not_fit_their_address_give_way() {
        let mut rng = Rng::new([5; 32]);
        let mut table = table(&mut rng);
        for n in 0..1000 {
            let mut node = node(n, &mut rng);
            node.id.0 = table.own.0;
            node.id.0[19] ^= n as u8 | 1;
            table.on_answer(node, Time(1));
        }
        assert_eq!((table.len(), table.buckets.len()), (DHT_K, 1), "they do not split it");
        for n in 1000..1100 {
            table.on_answer(node(n, &mut rng), Time(1));
        }
        assert!(table.buckets.len() > 1 && table.entries().all(|entry| entry.lawful));
    }

    #[test]
    fn another_id_of_ours_keeps_the_nodes_that_find_room() {
        let mut rng = Rng::new([6; 32]);
        let mut table = table(&mut rng);
        for n in 0..20 {
            table.on_answer(node(n, &mut rng), Time(1));
        }
        let before = table.len();
        table.rename(new_id(None, &mut rng));
        assert!(table.len() >= before / 2 && table.buckets.len() > 1);
    }
}
