//! Outages of our own network: how they are told from those of others, and what happens when the network is back.
//!
//! On Linux the reactor hears from the kernel that an address, a route or a link came ([`Event::NetworkUp`]). Elsewhere,
//! and when the outage is beyond our router, it ends with the first sign of life after a silence in which something that
//! had worked was lost. Then nobody is to blame for what failed: peers are called and trackers are asked at once.
//!
//! [`Event::NetworkUp`]: crate::api::Event::NetworkUp

use super::peer::{Peer, Stage};
use super::{Key, Session};
use crate::api::{Action, PeerId, TorrentId, Why};
use crate::base::time::Time;
use crate::limits::{CONNECT_TIMEOUT, NETWORK_BACK_MAX, NETWORK_BACK_SPAN, NETWORK_SETTLE, OUTAGE_MIN};
use crate::proto::wire::message::Message;
use std::io::ErrorKind;
use std::net::SocketAddr;

/// True if a connection ended, or was not made, for want of our own network.
pub(super) fn is_local(why: Why) -> bool {
    match why {
        Why::AddressGone | Why::Outage => true,
        Why::Io(kind) => is_local_error(kind),
        // A firewall of this machine forbids it, as those of a VPN do while it is down.
        Why::Unreachable(kind) => is_local_error(kind) || kind == ErrorKind::PermissionDenied,
        _ => false,
    }
}

fn is_local_error(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::NetworkUnreachable | ErrorKind::NetworkDown | ErrorKind::AddrNotAvailable)
}

/// What we know of our network in one address family.
#[derive(Clone, Copy)]
struct FamilyState {
    /// The last sign of life from anybody; [`Time::ZERO`]: none yet.
    last_sign: Time,
    /// Something that had worked was lost since then.
    is_lost: bool,
    /// An error said that our own network is gone, since the network was last back.
    is_down: bool,
    /// Something could not be reached that may never have been there: not enough to speak of an outage, but to try
    /// again when the kernel says that something came.
    is_suspect: bool,
    /// The first loss or error.
    lost_at: Time,
    /// The kernel says that something came.
    is_changed: bool,
}

/// Whether our network is there, by address family: IPv4, then IPv6.
pub(super) struct Outage {
    families: [FamilyState; 2],
    /// How often the network was back in the span that began then.
    backs: (u32, Time),
    /// For [`super::timers`].
    armed: Time,
}

impl Outage {
    pub(super) fn new(now: Time) -> Outage {
        let family = FamilyState {
            last_sign: Time::ZERO,
            is_lost: false,
            is_down: false,
            is_suspect: false,
            lost_at: Time::NEVER,
            is_changed: false,
        };
        Outage { families: [family; 2], backs: (0, now), armed: Time::NEVER }
    }

    /// A server was lost that had answered before; by which family is not known.
    pub(super) fn on_lost(&mut self, now: Time) {
        for family in self.families.iter_mut().filter(|family| family.last_sign > Time::ZERO) {
            family.is_lost = true;
            family.lost_at = family.lost_at.min(now);
        }
    }

    /// A server or a name was not reached.
    pub(super) fn on_unreached(&mut self) {
        self.families.iter_mut().for_each(|family| family.is_suspect = true);
    }

    /// The kernel says that an address or a link of this machine is gone.
    pub(super) fn on_network_down(&mut self, gone: [bool; 2], now: Time) {
        for (family, _) in self.families.iter_mut().zip(gone).filter(|(_, gone)| *gone) {
            family.is_down = true;
            family.lost_at = family.lost_at.min(now);
        }
    }

    fn family(&mut self, addr: SocketAddr) -> &mut FamilyState {
        &mut self.families[usize::from(addr.is_ipv6())]
    }

    /// True if the end of one more outage may be acted on now; counts it.
    fn may_be_back(&mut self, now: Time) -> bool {
        if now.since(self.backs.1) >= NETWORK_BACK_SPAN {
            self.backs = (0, now);
        }
        let may = self.backs.0 < NETWORK_BACK_MAX;
        self.backs.0 += u32::from(may);
        may
    }
}

impl FamilyState {
    fn is_troubled(&self) -> bool {
        self.is_lost || self.is_down
    }

    /// The moment from which on failures are those of the outage. Gives it once.
    fn end(&mut self) -> Time {
        // Calls that failed first were under way before anything was noticed.
        let since = self.last_sign.min(self.lost_at - CONNECT_TIMEOUT);
        (self.is_lost, self.is_down, self.is_suspect) = (false, false, false);
        (self.is_changed, self.lost_at) = (false, Time::NEVER);
        since
    }
}

impl Session {
    /// Somebody at this address is there, so our network is.
    pub(super) fn on_sign_of_life(&mut self, from: SocketAddr, now: Time) {
        self.on_sign(from.is_ipv6(), now);
    }

    /// A server answered; by which family is not known. IPv6 counts where it has worked before.
    pub(super) fn on_server_answer(&mut self, now: Time) {
        self.on_sign(false, now);
        if self.outage.families[1].last_sign > Time::ZERO {
            self.on_sign(true, now);
        }
    }

    fn on_sign(&mut self, v6: bool, now: Time) {
        let family = self.outage.families[usize::from(v6)];
        let silence = now.since(family.last_sign.max(family.lost_at));
        if family.is_troubled()
            && silence >= OUTAGE_MIN
            && !self.has_open_peer(v6)
            && self.outage.may_be_back(now)
        {
            self.network_back(v6, now);
        }
        let family = &mut self.outage.families[usize::from(v6)];
        (family.last_sign, family.is_lost) = (now, false);
        if !family.is_down {
            family.lost_at = Time::NEVER;
        }
    }

    /// True if a peer of this family is left. In an outage all are lost within [`crate::limits::INACTIVITY`]; while some
    /// are there, silence is that of a swarm with nothing to say.
    fn has_open_peer(&self, v6: bool) -> bool {
        self.peers.iter().any(|(_, p)| p.stage == Stage::Open && p.addr.is_ipv6() == v6)
    }

    /// A connection ended: it may be our network that is gone.
    pub(super) fn on_lost_connection(&mut self, p: &Peer, why: Why, now: Time) {
        let family = &mut self.outage.families[usize::from(p.addr.is_ipv6())];
        let silent = matches!(
            why,
            Why::Timeout | Why::Stalled | Why::Io(ErrorKind::TimedOut | ErrorKind::HostUnreachable)
        );
        if is_local(why) {
            // Connections that are closed at the end of an outage do not start another one.
            family.is_down |= why != Why::Outage;
            if p.stage != Stage::Connecting
                && let Some(t) = p.torrent.and_then(|id| self.torrents.get_mut(id))
            {
                t.identity.on_lost_network();
            }
        } else if p.stage == Stage::Open && silent {
            family.is_lost = true;
        } else {
            return;
        }
        family.lost_at = family.lost_at.min(now);
    }

    /// A datagram could not be sent.
    pub(super) fn on_send_failure(&mut self, to: SocketAddr, why: ErrorKind, now: Time) {
        if is_local(Why::Unreachable(why)) {
            let family = self.outage.family(to);
            family.is_down = true;
            family.lost_at = family.lost_at.min(now);
        }
    }

    /// The kernel says that this machine has a new address, route or link.
    pub(super) fn on_network_up(&mut self, changed: [bool; 2], now: Time) {
        for (family, changed) in self.outage.families.iter_mut().zip(changed) {
            family.is_changed |= changed && (family.is_troubled() || family.is_suspect);
        }
        if self.outage.families.iter().any(|family| family.is_changed) {
            self.timers.arm(&mut self.outage.armed, now + NETWORK_SETTLE, Key::Network);
        }
    }

    pub(super) fn on_network_timer(&mut self, now: Time) {
        self.outage.armed = Time::NEVER;
        if !self.outage.may_be_back(now) {
            let at = self.outage.backs.1 + NETWORK_BACK_SPAN;
            return self.timers.arm(&mut self.outage.armed, at, Key::Network);
        }
        for v6 in [false, true] {
            if self.outage.families[usize::from(v6)].is_changed {
                self.network_back(v6, now);
            }
        }
    }

    /// Our network is back. A peer that owes us blocks and was silent meanwhile would go on late: its TCP waits as long
    /// as the outage took before it sends again, so a new connection is faster. Others are sent something, so that the
    /// kernel finds out whether they are there.
    fn close_silent(&mut self, v6: bool, now: Time) {
        let silent = |p: &Peer| {
            p.stage == Stage::Open && p.addr.is_ipv6() == v6 && !p.waiting && now.since(p.heard) >= OUTAGE_MIN
        };
        let silent: Vec<(PeerId, bool)> =
            self.peers.iter().filter(|(_, p)| silent(p)).map(|(id, p)| (id, !p.asked.is_empty())).collect();
        for (peer, owes) in silent {
            if owes {
                self.close(peer, Why::Outage, now);
            } else {
                self.send(peer, Message::KeepAlive, now);
            }
        }
    }

    /// Our network is back: whatever waits because of the outage goes on.
    fn network_back(&mut self, v6: bool, now: Time) {
        let since = self.outage.families[usize::from(v6)].end();
        if self.stopping.is_some() {
            return;
        }
        log::info!("the network is back (IPv{})", if v6 { 6 } else { 4 });
        self.actions.push_back(Action::ForgetFailures);
        self.calls.on_network_back();
        self.udp.on_network_back(now);
        self.on_dht_network_back(v6, now);
        self.close_silent(v6, now);
        let all: Vec<TorrentId> =
            self.torrents.iter().filter(|(_, t)| t.swarming()).map(|(id, _)| id).collect();
        for id in all {
            let Some(t) = self.torrents.get_mut(id) else { continue };
            let is_alone = t.peers.is_empty();
            t.known.on_network_back(v6, since, now);
            t.announcer.on_network_back(is_alone, now);
            t.web.on_network_back();
            let is_searched = is_alone && t.hungry();
            let named = t.spec.peers.iter().chain(&t.more_peers).cloned().collect();
            // A name that could not be looked up has no address yet.
            self.resolve(id, named, now);
            if is_searched {
                self.join_dht(id, now);
            }
            self.join_lsd(id, now);
            self.restart_stalled_web(id, now);
            self.want_web(id);
            self.arm_torrent(id, now);
        }
    }
}
