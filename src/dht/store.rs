//! What we keep for others: the peers of torrents that were announced to us, and the tokens that an announce has to
//! show.

use super::ident::scope;
use crate::base::rng::Rng;
use crate::base::time::Time;
use crate::limits::{DHT_HASHES_MAX, DHT_PEER_KEPT, DHT_PEERS_MAX, DHT_PEERS_PER_HASH, DHT_TOKEN_LIFE};
use crate::proto::id::{InfoHash, NodeId};
use crate::proto::krpc::put_value;
use sha1::{Digest, Sha1};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

/// Peers by torrent, with the time of their last announce, the oldest first.
#[derive(Default)]
pub(super) struct Store {
    torrents: BTreeMap<InfoHash, Vec<(Time, SocketAddr)>>,
    peers: usize,
    /// When the oldest entry may be due to go.
    sweep: Option<Time>,
}

impl Store {
    /// A peer was announced. `own` is our place: when there are too many torrents, those far from it go. False: there
    /// is no room.
    pub(super) fn add(&mut self, hash: InfoHash, peer: SocketAddr, own: NodeId, now: Time) -> bool {
        self.expire(now);
        if let Some(list) = self.torrents.get_mut(&hash) {
            let before = list.len();
            list.retain(|(_, addr)| *addr != peer);
            if list.len() >= DHT_PEERS_PER_HASH {
                list.remove(0);
            }
            self.peers -= before - list.len();
        }
        while self.peers >= DHT_PEERS_MAX
            || self.torrents.len() >= DHT_HASHES_MAX && !self.torrents.contains_key(&hash)
        {
            let distance = |hash: &InfoHash| own.distance(NodeId::from(*hash));
            let Some(far) = self.torrents.keys().copied().max_by_key(distance) else { return false };
            if distance(&far) <= distance(&hash) {
                self.drop_empty(hash);
                return false;
            }
            self.peers -= self.torrents.remove(&far).map_or(0, |list| list.len());
        }
        self.torrents.entry(hash).or_default().push((now, peer));
        self.peers += 1;
        self.sweep.get_or_insert(now + DHT_PEER_KEPT);
        true
    }

    fn drop_empty(&mut self, hash: InfoHash) {
        if self.torrents.get(&hash).is_some_and(Vec::is_empty) {
            self.torrents.remove(&hash);
        }
    }

    fn expire(&mut self, now: Time) {
        if self.sweep.is_none_or(|at| at > now) {
            return;
        }
        self.torrents.retain(|_, list| {
            list.retain(|(at, _)| now.since(*at) < DHT_PEER_KEPT);
            !list.is_empty()
        });
        self.peers = self.torrents.values().map(Vec::len).sum();
        let oldest = self.torrents.values().filter_map(|list| list.first()).map(|(at, _)| *at).min();
        self.sweep = oldest.map(|at| at + DHT_PEER_KEPT);
    }

    /// Peers of the family of who asks, none that it could not see, as the inside of a list of values: as many as go
    /// into `room` bytes, by chance.
    pub(super) fn values(
        &mut self,
        hash: InfoHash,
        from: IpAddr,
        room: usize,
        rng: &mut Rng,
        now: Time,
    ) -> Vec<u8> {
        self.expire(now);
        let list = self.torrents.get(&hash).map(Vec::as_slice).unwrap_or_default();
        let v4 = from.is_ipv4();
        let seen = |a: &SocketAddr| a.is_ipv4() == v4 && scope(a.ip()) <= scope(from);
        let mut peers: Vec<SocketAddr> = list.iter().map(|(_, addr)| *addr).filter(seen).collect();
        rng.shuffle(&mut peers);
        let mut out = Vec::new();
        for peer in peers.into_iter().take(room / if v4 { 8 } else { 21 }) {
            put_value(peer, &mut out);
        }
        out
    }

    /// Some of the torrents, by chance, `most` of them.
    pub(super) fn sample(&mut self, most: usize, rng: &mut Rng, now: Time) -> Vec<u8> {
        self.expire(now);
        let mut hashes: Vec<&InfoHash> = self.torrents.keys().collect();
        let most = most.min(hashes.len());
        for at in 0..most {
            let other = at + rng.index(hashes.len() - at);
            hashes.swap(at, other);
        }
        hashes[..most].iter().flat_map(|hash| hash.0).collect()
    }

    /// How many torrents, and peers of all of them, are kept.
    pub(super) fn len(&self) -> (usize, usize) {
        (self.torrents.len(), self.peers)
    }
}

/// Tokens: a digest over an address and a secret that is drawn anew each five minutes; the one before is honoured.
pub(super) struct Tokens {
    secrets: [[u8; 20]; 2],
    drawn: Time,
}

/// The bytes of a token: nobody guesses one in its ten minutes.
pub(super) const TOKEN_LEN: usize = 8;

impl Tokens {
    pub(super) fn new(rng: &mut Rng, now: Time) -> Tokens {
        let mut secrets = [[0; 20]; 2];
        secrets.iter_mut().for_each(|secret| rng.fill(secret));
        Tokens { secrets, drawn: now }
    }

    fn rotate(&mut self, rng: &mut Rng, now: Time) {
        // After a long pause neither secret is one that is still good.
        for _ in 0..2 {
            if now.since(self.drawn) >= DHT_TOKEN_LIFE {
                self.secrets[1] = self.secrets[0];
                rng.fill(&mut self.secrets[0]);
                let long = now.since(self.drawn) >= 2 * DHT_TOKEN_LIFE;
                self.drawn = if long { now - DHT_TOKEN_LIFE } else { self.drawn + DHT_TOKEN_LIFE };
            }
        }
    }

    fn make(secret: &[u8; 20], ip: IpAddr) -> [u8; TOKEN_LEN] {
        let mut hash = Sha1::new();
        hash.update(secret);
        match ip {
            IpAddr::V4(v4) => hash.update(v4.octets()),
            IpAddr::V6(v6) => hash.update(v6.octets()),
        }
        let digest: [u8; 20] = hash.finalize().into();
        std::array::from_fn(|i| digest[i])
    }

    /// The token of the moment for this address.
    pub(super) fn token(&mut self, ip: IpAddr, rng: &mut Rng, now: Time) -> [u8; TOKEN_LEN] {
        self.rotate(rng, now);
        Tokens::make(&self.secrets[0], ip)
    }

    /// Whether this address was given this token in the last five to ten minutes.
    pub(super) fn is_good(&mut self, token: &[u8], ip: IpAddr, rng: &mut Rng, now: Time) -> bool {
        self.rotate(rng, now);
        self.secrets.iter().any(|secret| Tokens::make(secret, ip) == token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const MINUTE: Duration = Duration::from_secs(60);

    fn asker(v4: bool) -> IpAddr {
        if v4 { IpAddr::from([9, 9, 9, 9]) } else { IpAddr::from([0x2001, 0x470, 0, 0, 0, 0, 0, 1]) }
    }

    fn peer(n: u32) -> SocketAddr {
        SocketAddr::from(((9 << 24 | n).to_be_bytes(), 6881))
    }

    fn hash(n: u32) -> InfoHash {
        let mut bytes = [0; 20];
        bytes[..4].copy_from_slice(&n.to_be_bytes());
        InfoHash(bytes)
    }

    const OWN: NodeId = NodeId([0; 20]);

    #[test]
    fn tokens_live_for_five_to_ten_minutes_and_for_one_address() {
        let mut rng = Rng::new([1; 32]);
        let mut tokens = Tokens::new(&mut rng, Time::ZERO);
        let (a, b) = (peer(1).ip(), peer(2).ip());
        let early = tokens.token(a, &mut rng, Time::ZERO);
        let late = tokens.token(a, &mut rng, Time::ZERO + 4 * MINUTE);
        assert_eq!(early, late);
        for (minute, good) in [(0, true), (4, true), (6, true), (9, true), (10, false), (30, false)] {
            let now = Time::ZERO + minute * MINUTE;
            assert_eq!(tokens.is_good(&early, a, &mut rng, now), good, "after {minute} minutes");
            assert!(!tokens.is_good(&early, b, &mut rng, now));
            assert!(!tokens.is_good(b"", a, &mut rng, now));
        }
        let mut tokens = Tokens::new(&mut rng, Time::ZERO);
        let old = tokens.token(a, &mut rng, Time::ZERO);
        assert!(!tokens.is_good(&old, a, &mut rng, Time::ZERO + 60 * MINUTE), "after an hour of silence");
    }

    #[test]
    fn peers_are_given_out_for_thirty_minutes() {
        let (mut store, mut rng) = (Store::default(), Rng::new([2; 32]));
        store.add(hash(1), peer(1), OWN, Time::ZERO);
        store.add(hash(1), peer(2), OWN, Time::ZERO + 20 * MINUTE);
        store.add(hash(1), peer(2), OWN, Time::ZERO + 21 * MINUTE);
        store.add(hash(1), "[2001::1]:5".parse().unwrap(), OWN, Time::ZERO + 21 * MINUTE);
        let mut count = |minute: u32, v4| {
            let now = Time::ZERO + minute * MINUTE;
            store.values(hash(1), asker(v4), 1000, &mut rng, now).len() / if v4 { 8 } else { 21 }
        };
        assert_eq!((count(29, true), count(29, false)), (2, 1));
        assert_eq!((count(31, true), count(50, true), count(52, true)), (1, 1, 0));
        assert_eq!(store.len(), (0, 0));
    }

    #[test]
    #[cfg_attr(miri, ignore = "takes Miri minutes")]
    fn answers_and_memory_are_bounded() {
        let (mut store, mut rng) = (Store::default(), Rng::new([3; 32]));
        for n in 0..2 * DHT_PEERS_PER_HASH as u32 {
            assert!(store.add(hash(1), peer(n), OWN, Time(u64::from(n))));
        }
        assert_eq!(store.len(), (1, DHT_PEERS_PER_HASH));
        assert_eq!(store.values(hash(1), asker(true), 99, &mut rng, Time(9)).len(), 12 * 8);
        for n in (1..20_000).rev() {
            store.add(hash(n), peer(n), OWN, Time(1_000_000));
            store.add(hash(n), peer(n + 1), OWN, Time(1_000_000));
        }
        let (hashes, peers) = store.len();
        assert!(hashes <= DHT_HASHES_MAX && peers <= DHT_PEERS_MAX, "{hashes} {peers}");
        assert!(
            !store.values(hash(2), asker(true), 99, &mut rng, Time(1_000_000)).is_empty(),
            "what is near stays"
        );
        assert!(!store.add(hash(u32::MAX), peer(1), OWN, Time(1_000_000)), "what is far finds no room");
        assert_eq!(store.sample(7, &mut rng, Time(1_000_000)).len(), 7 * 20);
    }
}
