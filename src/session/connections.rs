//! Making, keeping and ending connections. Who has a place among them is decided in [`super::places`].

use super::known::Known;
use super::outage::is_local;
use super::peer::{Peer, Stage};
use super::torrent::Torrent;
use super::{Key, Session};
use crate::api::{Action, Encryption, PeerId, TorrentId, Why};
use crate::base::arena::Arena;
use crate::base::bits::Bitfield;
use crate::base::time::Time;
use crate::limits::{
    ADDRESS_SILENT, CONNECT_TIMEOUT, DIALS_A_SECOND, HALF_OPEN_MAX, HALF_OPEN_OTHERS, HALF_OPEN_REST,
    INACTIVITY, KEEPALIVE, MESSAGE_MAX, MESSAGE_SMALL, SNUB_AFTER, TORRENT_TICK,
};
use crate::proto::id::InfoHash;
use crate::proto::mse::Method;
use crate::proto::network::Network;
use crate::proto::wire::handshake::{DHT_BIT, EXTENSION_BIT, FAST_BIT, Handshake};
use crate::proto::wire::message::Message;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

impl Session {
    /// Puts a torrent in line if it has somebody to call, or wakes it when it will have.
    pub(super) fn join_callers(&mut self, torrent: TorrentId, now: Time) {
        let Some(t) = self.torrents.get_mut(torrent).filter(|t| t.welcomes() && !t.calling) else { return };
        match t.known.deadline() {
            Some(due) if due <= now => {
                t.calling = true;
                self.callers.push_back(torrent);
            }
            Some(due) => self.arm_torrent(torrent, due),
            None => {}
        }
    }

    /// Dials candidates, those of the torrent with the fewest places first, as long as there is room. Costs nothing
    /// when there is nobody to call.
    pub(super) fn dial(&mut self, now: Time) {
        while self.stopping.is_none()
            && self.half_open < HALF_OPEN_MAX
            && !self.callers.is_empty()
            && self.has_place(now)
        {
            if !self.may_dial(now) {
                let at = self.dialled.1 + Duration::from_secs(1);
                return self.timers.arm(&mut self.dial_armed, at, Key::Dial);
            }
            let poorest = self
                .callers
                .iter()
                .enumerate()
                .min_by_key(|(_, id)| self.torrents.get(**id).map(|t| (!t.hungry(), t.places)));
            let Some(torrent) = poorest.map(|(at, _)| at).and_then(|at| self.callers.remove(at)) else {
                return;
            };
            self.dial_one(torrent, now);
        }
    }

    /// Whether this second has not had its calls yet.
    pub(super) fn may_dial(&mut self, now: Time) -> bool {
        if now.since(self.dialled.1) >= Duration::from_secs(1) {
            self.dialled = (0, now);
        }
        self.dialled.0 < DIALS_A_SECOND
    }

    /// Calls the next candidate of a torrent that stands in no line.
    pub(super) fn dial_one(&mut self, torrent: TorrentId, now: Time) {
        let Some(t) = self.torrents.get_mut(torrent) else { return };
        t.calling = false;
        if !t.welcomes() {
            return;
        }
        let Some(addr) = t.known.next(now) else { return self.join_callers(torrent, now) };
        let network = Network::of(addr);
        let theirs = self.half_open_networks.count(network);
        if theirs >= HALF_OPEN_OTHERS
            && self.half_open + HALF_OPEN_OTHERS >= HALF_OPEN_MAX
            && !t.known.is_users(addr)
        {
            t.known.postpone(addr, now + HALF_OPEN_REST);
            // It counts, so that thousands of them are not walked over in one turn.
            self.dialled.0 += 1;
            return self.join_callers(torrent, now);
        }
        let mut call = Peer::new(addr, true, Some(torrent), now);
        call.offers = offers(self.config.encryption, &t.known, addr);
        let Some(peer) = self.peers.insert(call) else {
            return t.known.on_closed(addr, Why::Replaced, false, now);
        };
        if let Some(t) = self.torrents.get_mut(torrent) {
            t.places += 1;
            t.known.occupy(addr.ip());
        }
        self.dialled.0 += 1;
        self.half_open += 1;
        self.half_open_networks.add(network);
        log::debug!("{torrent} {peer} dialling {addr}");
        self.arm_peer(peer, now + CONNECT_TIMEOUT);
        self.actions.push_back(Action::Connect { peer, addr });
        self.join_callers(torrent, now);
    }

    pub(super) fn on_connected(&mut self, peer: PeerId, now: Time) {
        let Some(p) = self.peers.get_mut(peer) else { return };
        (p.stage, p.since, p.heard) = (Stage::Handshaking, now, now);
        self.half_open = self.half_open.saturating_sub(1);
        let (torrent, addr, patience) = (p.torrent, p.addr, p.patience());
        self.on_sign_of_life(addr, now);
        self.half_open_networks.remove(Network::of(addr));
        self.networks.add(Network::of(addr));
        let Some(torrent) = torrent.filter(|id| self.torrents.get(*id).is_some()) else {
            return self.close(peer, Why::Stopping, now);
        };
        if !self.admit_call(torrent, addr, now) {
            return self.close(peer, Why::Replaced, now);
        }
        let Some(p) = self.peers.get(peer) else { return };
        if let Some(methods) = self.config.encryption.methods().filter(|_| p.offers) {
            self.actions.push_back(Action::Encrypt { peer, methods });
        }
        self.send_handshake(peer, torrent);
        self.arm_peer(peer, now + patience);
    }

    pub(super) fn on_encrypted(&mut self, peer: PeerId, method: Method) {
        if let Some(p) = self.peers.get_mut(peer) {
            p.encrypted = Some(method);
        }
    }

    fn send_handshake(&mut self, peer: PeerId, torrent: TorrentId) {
        let Some(t) = self.torrents.get_mut(torrent) else { return };
        t.identity.renew(&mut self.rng);
        let (info_hash, peer_id) = (t.spec.meta.info_hash, t.identity.handshake_id());
        let mut reserved = [0; 8];
        reserved[5] |= EXTENSION_BIT;
        reserved[7] |= FAST_BIT;
        if self.uses_dht(info_hash) {
            reserved[7] |= DHT_BIT;
        }
        let handshake = Handshake { reserved, info_hash, peer_id };
        self.actions.push_back(Action::Handshake { peer, handshake: Box::new(handshake) });
    }

    /// The torrent of a handshake with this info-hash, or why the peer is disconnected.
    fn torrent_for(&self, p: &Peer, info_hash: InfoHash) -> Result<TorrentId, Why> {
        if refuses(self.config.encryption, p) {
            return Err(Why::Unencrypted);
        }
        let found = self.by_hash.get(&info_hash).copied();
        let welcomes = |id: &TorrentId| self.torrents.get(*id).is_some_and(Torrent::welcomes);
        found.filter(welcomes).ok_or(Why::UnknownTorrent)
    }

    /// An incoming peer has sent its info-hash. It may wait for our handshake before it sends its peer id, as BEP 3
    /// allows. Whether it gets a connection slot is decided when the peer id is there.
    pub(super) fn on_info_hash(&mut self, peer: PeerId, info_hash: InfoHash, now: Time) {
        let Some(p) = self.peers.get(peer).filter(|p| !p.outgoing) else { return };
        let torrent = match self.torrent_for(p, info_hash) {
            Ok(torrent) => torrent,
            Err(why) => return self.close(peer, why, now),
        };
        if self.torrents.get(torrent).is_some_and(|t| t.known.is_banned(p.addr.ip())) {
            return self.close(peer, Why::Corrupt, now);
        }
        if let Some(p) = self.peers.get_mut(peer) {
            p.answered = Some(torrent);
        }
        self.send_handshake(peer, torrent);
    }

    pub(super) fn on_handshake(&mut self, peer: PeerId, handshake: &Handshake, now: Time) {
        let Some(p) = self.peers.get_mut(peer) else { return };
        p.heard = now;
        let Some(p) = self.peers.get(peer) else { return };
        let torrent = match self.torrent_for(p, handshake.info_hash) {
            Ok(torrent) => torrent,
            Err(why) => return self.close(peer, why, now),
        };
        // A torrent that was removed and added again since the info-hash came has another id.
        if p.torrent.or(p.answered).is_some_and(|other| other != torrent) {
            return self.close(peer, Why::Protocol("the handshake is of another torrent"), now);
        }
        if self.torrents.get(torrent).is_some_and(|t| t.identity.is_ours(&handshake.peer_id)) {
            return self.on_myself(torrent, peer, now);
        }
        let (addr, outgoing) = (p.addr, p.outgoing);
        if !outgoing && self.torrents.get(torrent).is_some_and(|t| t.known.is_banned(addr.ip())) {
            return self.close(peer, Why::Corrupt, now);
        }
        if let Some(other) = self.same_peer(torrent, peer, &handshake.peer_id) {
            let loser = self.loser(torrent, peer, other, &handshake.peer_id);
            self.close(loser, Why::Duplicate, now);
            if loser == peer {
                return;
            }
        }
        if let Some(loser) = self.same_address(torrent, peer, now) {
            self.close(loser, Why::Duplicate, now);
            if loser == peer {
                return;
            }
        }
        if !outgoing {
            if !self.admit(torrent, addr, now) {
                return self.close(peer, Why::Replaced, now);
            }
            if self.peers.get(peer).is_some_and(|p| p.answered.is_none()) {
                self.send_handshake(peer, torrent);
            }
        }
        self.open(torrent, peer, handshake, now);
        self.join_roll(peer, now);
        if handshake.has_extensions() {
            self.begin_extensions(peer, now);
        }
        if handshake.has_dht() && self.uses_dht(handshake.info_hash) {
            self.send(peer, Message::Port(self.config.port), now);
        }
    }

    fn same_peer(&self, torrent: TorrentId, peer: PeerId, id: &[u8; 20]) -> Option<PeerId> {
        let t = self.torrents.get(torrent)?;
        let same = |other: &PeerId| *other != peer && self.peers.get(*other).is_some_and(|p| p.id == *id);
        t.peers.iter().copied().find(same)
    }

    /// We called ourselves. The end that was called hears of it first: the one that calls would see no more than that it
    /// is closed, and call again.
    fn on_myself(&mut self, torrent: TorrentId, peer: PeerId, now: Time) {
        let Some(ip) = self.peers.get(peer).map(|p| p.addr.ip()) else { return };
        let ours = SocketAddr::new(ip, self.config.port);
        let calls = |p: &Peer| {
            p.outgoing && p.torrent == Some(torrent) && p.stage == Stage::Handshaking && p.addr == ours
        };
        let caller = self.peers.iter().find(|(_, p)| calls(p)).map(|(id, _)| id);
        for end in caller.into_iter().chain([peer]) {
            self.close(end, Why::Myself, now);
        }
    }

    /// One connection an address: of two the one that is to go, the new one unless the old one seems dead. But each port
    /// of the loopback device is another client, and whom the user named is welcome.
    fn same_address(&self, torrent: TorrentId, peer: PeerId, now: Time) -> Option<PeerId> {
        let (t, p) = (self.torrents.get(torrent)?, self.peers.get(peer)?);
        let ip = p.addr.ip();
        if ip.is_loopback() || p.outgoing && t.known.is_users(p.addr) {
            return None;
        }
        let there = |other: &PeerId| self.peers.get(*other).filter(|o| *other != peer && o.addr.ip() == ip);
        let (old, other) = t.peers.iter().find_map(|other| Some((*other, there(other)?)))?;
        let silent = !other.waiting && now.since(other.heard) >= ADDRESS_SILENT;
        Some(if silent { old } else { peer })
    }

    /// Of two connections between the same two peers, the one that both sides close: the one dialled by the side
    /// with the greater id. When one side dialled both, the newer; so too when the addresses differ, since anybody
    /// may say the id of another.
    fn loser(&self, torrent: TorrentId, new: PeerId, old: PeerId, their_id: &[u8; 20]) -> PeerId {
        let dialled = |peer| self.peers.get(peer).is_some_and(|p| p.outgoing);
        let ip = |peer| self.peers.get(peer).map(|p| p.addr.ip());
        if dialled(new) == dialled(old) || ip(new) != ip(old) {
            return new;
        }
        let we_are_greater =
            self.torrents.get(torrent).is_some_and(|t| t.identity.handshake_id() > *their_id);
        if dialled(new) == we_are_greater { new } else { old }
    }

    /// Both handshakes are through: the peer joins the swarm.
    fn open(&mut self, torrent: TorrentId, peer: PeerId, handshake: &Handshake, now: Time) {
        let (Some(t), Some(p)) = (self.torrents.get_mut(torrent), self.peers.get_mut(peer)) else { return };
        if p.outgoing {
            t.known.on_way(p.addr, p.encrypted.is_some());
        } else {
            t.places += 1;
            t.known.occupy(p.addr.ip());
            self.strangers.retain(|other| *other != peer);
        }
        let id = handshake.peer_id;
        (p.torrent, p.stage, p.since, p.id) = (Some(torrent), Stage::Open, now, id);
        (p.block_at, p.fast.on) = (now, handshake.has_fast());
        (p.has, p.told) = (Bitfield::uniform(t.spec.meta.layout.pieces(), false), t.haves.end());
        t.peers.push(peer);
        t.news.moved = true;
        t.known.on_connected(p.addr);
        let client = crate::proto::wire::handshake::client_name(&id);
        log::debug!("{torrent} {peer} {} open: {client}", p.addr);
        let bits_max =
            if t.spec.meta.is_known() { t.spec.meta.layout.pieces().div_ceil(8) + 1 } else { MESSAGE_MAX };
        let max = bits_max.max(MESSAGE_SMALL);
        self.actions.push_back(Action::Expect { peer, max });
        let hidden = self.hide_pieces(torrent, peer);
        self.tell_first(peer, hidden, now);
        if hidden {
            self.show_next(torrent, peer, now);
        }
        self.arm_peer(peer, now + KEEPALIVE);
        self.arm_torrent(torrent, now + TORRENT_TICK);
    }

    pub(super) fn on_peer_timer(&mut self, peer: PeerId, now: Time) {
        let Some(p) = self.peers.get(peer) else { return };
        let next = match p.stage {
            Stage::Connecting => p.since + CONNECT_TIMEOUT,
            Stage::Handshaking => p.since + p.patience(),
            Stage::Open => {
                if now >= p.said + KEEPALIVE {
                    self.send(peer, Message::KeepAlive, now);
                }
                self.check_snubbed(peer, now);
                if self.peers.get(peer).is_some_and(|p| p.starved && p.asked.is_empty()) {
                    self.refill_soon(peer, now);
                }
                let Some(p) = self.peers.get(peer) else { return };
                // While it stands in line we do not read from it: its clocks stand still.
                let silent = if p.waiting { Time::NEVER } else { p.heard + INACTIVITY };
                let owes =
                    if p.waiting || p.asked.is_empty() { Time::NEVER } else { p.block_at + SNUB_AFTER };
                if now >= silent {
                    return self.close(peer, Why::Timeout, now);
                }
                return self.arm_peer(peer, silent.min(owes).min(p.said + KEEPALIVE));
            }
        };
        if now >= next {
            return self.close(peer, Why::Timeout, now);
        }
        self.arm_peer(peer, next);
    }

    /// We close it; the reactor is told.
    pub(super) fn close(&mut self, peer: PeerId, why: Why, now: Time) {
        if self.peers.contains(peer) {
            // This first: its buffers must be home before they serve others.
            self.actions.push_back(Action::Close { peer, why });
            self.forget(peer, why, now);
        }
    }

    pub(super) fn on_closed(&mut self, peer: PeerId, why: Why, now: Time) {
        self.forget(peer, why, now);
    }

    /// Takes the peer out of everything it is part of.
    fn forget(&mut self, peer: PeerId, why: Why, now: Time) {
        let Some(p) = self.peers.remove(peer) else { return };
        log::debug!("{peer} {} closed: {why}", p.addr);
        self.on_lost_connection(&p, why, now);
        if p.stage == Stage::Connecting {
            self.half_open = self.half_open.saturating_sub(1);
            self.half_open_networks.remove(Network::of(p.addr));
        } else {
            self.networks.remove(Network::of(p.addr));
        }
        if let Some(incoming) = p.incoming {
            self.lanes.let_go(incoming.lane, incoming.block.len);
            self.resume();
        }
        if p.waiting {
            self.lanes.leave_line(peer);
        }
        self.leave_round(&p, now);
        self.throttle.give_back(p.owes());
        self.early -= p.early.as_ref().map_or(0, |early| early.bytes());
        let Some(torrent) = p.torrent else { return self.strangers.retain(|other| *other != peer) };
        let Some(t) = self.torrents.get_mut(torrent) else { return };
        t.places = t.places.saturating_sub(1);
        t.known.vacate(p.addr.ip());
        if p.stage == Stage::Open {
            self.leave_roll(torrent, &p.pex, now);
            let Some(t) = self.torrents.get_mut(torrent) else { return };
            t.peers.retain(|other| *other != peer);
            if p.starved {
                t.starved.retain(|other| *other != peer);
            }
            match p.counted_as_seed {
                true => t.picker.peer_has_all(false),
                false => t.picker.on_bitfield(&p.has, false),
            }
            t.picker.on_lost(peer, p.asked.iter().copied());
            t.news.moved = true;
            if let Some(fetch) = &mut t.fetch {
                fetch.lost(peer);
                self.arm_torrent(torrent, now);
            }
            let Some(t) = self.torrents.get_mut(torrent) else { return };
            if let Some(shown) = &mut t.super_seed {
                shown.on_left(&p);
            }
            if !p.am_choking {
                self.slot_free(torrent, now);
            }
        }
        let Some(t) = self.torrents.get_mut(torrent) else { return };
        let addr = p.home();
        let required = self.config.encryption == Encryption::Required;
        if required && p.outgoing && p.stage == Stage::Handshaking {
            log::info!("{torrent} {}: no encrypted handshake, and --encryption is required: {why}", p.addr);
        }
        if self.config.encryption == Encryption::Enabled && calls_again(t, &self.peers, &p, why) {
            log::debug!("{torrent} {} is called again, in the clear", p.addr);
        } else if p.outgoing || why == Why::Corrupt || p.stage == Stage::Open && t.known.has(addr) {
            let useful = p.downloaded + p.uploaded > 0;
            // What answers no handshake may be no peer at all, at an address that somebody made up: its host, which
            // may be that of real peers, is not to blame.
            let foreign = p.stage != Stage::Open && matches!(why, Why::Protocol(_));
            let why = if foreign { Why::Unreachable(io::ErrorKind::InvalidData) } else { why };
            t.known.on_closed(addr, why, useful, now);
            if useful && !matches!(why, Why::Corrupt | Why::Protocol(_)) {
                t.remember(addr);
            }
        }
        // Somebody else may be asked for what this one owed.
        if !p.asked.is_empty() {
            self.refill_all(torrent, now);
        }
        let Some(t) = self.torrents.get(torrent) else { return };
        if t.goal.is_parting() {
            self.arm_torrent(torrent, now);
        } else if let Some(due) = t.known.deadline() {
            self.arm_torrent(torrent, due);
        }
    }
}

/// Whether the call to this address begins with an encrypted handshake.
fn offers(encryption: Encryption, known: &Known, addr: SocketAddr) -> bool {
    match encryption {
        Encryption::Disabled => false,
        Encryption::Enabled => known.encrypts(addr),
        Encryption::Required => true,
    }
}

/// Whether this connection, whose handshake is in, is not encrypted as the user wants it.
fn refuses(encryption: Encryption, p: &Peer) -> bool {
    let refuses = encryption == Encryption::Required && p.encrypted != Some(Method::Rc4);
    if refuses {
        log::info!("{} is not encrypted and --encryption is required: refused", p.addr);
    }
    refuses
}

/// A connection is gone: if we dialled it and its encrypted handshake has failed, it is called in the clear, and tells
/// whether that is at once. Who could not be reached is not called twice.
fn calls_again(t: &mut Torrent, peers: &Arena<PeerId, Peer>, p: &Peer, why: Why) -> bool {
    let failed = matches!(why, Why::Eof | Why::Io(_) | Why::Timeout | Why::Protocol(_));
    if !failed || is_local(why) || !p.outgoing || p.stage != Stage::Handshaking {
        return false;
    }
    // If it is connected already, that may be why: no hurry.
    let same = |other: &PeerId| peers.get(*other).is_some_and(|other| other.addr.ip() == p.addr.ip());
    let connected = t.peers.iter().any(same);
    t.known.on_failed_way(p.addr, p.offers, !connected)
}
