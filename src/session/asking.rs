//! Between the announcers and the machine of UDP trackers, and between that and the network.

use super::announce::Announce;
use super::udp_tracker::{Ask, Out};
use super::{Key, Session};
use crate::api::{Action, Call, TorrentId};
use crate::base::time::Time;
use crate::limits::ANNOUNCE_TIMEOUT;
use crate::proto::tracker::udp;
use std::net::SocketAddr;

impl Session {
    /// Carries out an announce over UDP; `on_announced` follows.
    pub(super) fn ask_udp(&mut self, torrent: TorrentId, due: Announce, now: Time) {
        let Announce { tracker, url, request, timeout } = due;
        // Less than the usual time is what a stop leaves.
        let hurry = Some(timeout).filter(|timeout| *timeout < ANNOUNCE_TIMEOUT);
        self.udp.ask(Ask { torrent, tracker, url, request, hurry }, now);
    }

    /// What a torrent asks over UDP is given up, so that it can ask something else.
    pub(super) fn cancel_udp(&mut self, torrent: TorrentId, now: Time) {
        let cancelled = self.udp.cancel(torrent, now);
        let Some(t) = self.torrents.get_mut(torrent) else { return };
        for tracker in cancelled {
            t.announcer.withdraw(tracker);
        }
    }

    /// Datagrams are told apart by their first byte: answers of UDP trackers begin with an action below 2^24, what the
    /// DHT says is a bencoded dictionary.
    pub(super) fn on_datagram(&mut self, from: SocketAddr, data: &[u8], now: Time) {
        self.on_sign_of_life(from, now);
        match data.first() {
            Some(0) => self.udp.on_datagram(from, data, now),
            Some(b'd') => self.on_dht_datagram(from, data, now),
            _ => log::trace!("a datagram of {} bytes from {from} that is for nobody", data.len()),
        }
    }

    /// Carries out what the machine of UDP trackers wants.
    pub(super) fn pump_udp(&mut self, now: Time) {
        while let Some(out) = self.udp.next() {
            match out {
                Out::Send { to, data } => {
                    self.actions.push_back(Action::Datagram { to, data: data.into_boxed_slice() });
                }
                Out::Announce { torrent, to, connection, transaction, mut request, target } => {
                    self.refresh(torrent, &mut request, now);
                    let mut data = Vec::new();
                    udp::announce(&mut data, connection, transaction, &request, &target);
                    self.actions.push_back(Action::Datagram { to, data: data.into_boxed_slice() });
                }
                Out::LookUp { host, port } => self.call(Call::LookUp { host, port }, now),
                Out::Answer { torrent, tracker, result } => self.on_announced(torrent, tracker, result, now),
                Out::Slow { torrent, tracker } => {
                    if let Some(t) = self.torrents.get_mut(torrent) {
                        t.announcer.on_slow(tracker, now);
                        self.on_torrent_timer(torrent, now);
                    }
                }
            }
            if self.stopping.is_some() {
                self.check_finished(now);
            }
        }
        if let Some(at) = self.udp.deadline() {
            self.timers.arm(&mut self.udp_armed, at, Key::Udp);
        }
    }
}
