//! Telling peers of new pieces (BEP 3, `have`). Where little happens each piece is told at once. Where much does,
//! those of a moment go together: a packet to every one of a thousand peers would cost more than the piece itself.

use super::Session;
use super::timers::Key;
use crate::api::{PeerId, TorrentId};
use crate::base::time::Time;
use crate::limits::{HAVE_REST, HAVES_MAX};
use crate::proto::wire::message::Message;

/// A torrent's pieces that its peers have not heard of.
#[derive(Default)]
pub(super) struct Haves {
    pieces: Vec<u32>,
    /// When peers may be told again.
    rest: Time,
    /// When the timer is set for; None: it is not.
    armed: Option<Time>,
}

impl Haves {
    /// Whether its timer is set for this moment.
    pub(super) fn is_armed(&self, at: Time) -> bool {
        self.armed == Some(at)
    }
}

impl Session {
    /// A piece is verified that some peers lack: they hear of it now, or soon. `last`: nothing comes after it that
    /// would be worth waiting for.
    pub(super) fn announce_piece(&mut self, torrent: TorrentId, piece: u32, last: bool, now: Time) {
        let Some(t) = self.torrents.get_mut(torrent) else { return };
        t.haves.pieces.push(piece);
        let many = t.haves.pieces.len() * t.peers.len() >= HAVES_MAX;
        if last || many || now >= t.haves.rest {
            return self.flush_haves(torrent, now);
        }
        let mut armed = t.haves.armed.unwrap_or(Time::NEVER);
        self.timers.arm(&mut armed, t.haves.rest, Key::Haves(torrent));
        t.haves.armed = Some(armed);
    }

    pub(super) fn on_haves_timer(&mut self, torrent: TorrentId, at: Time, now: Time) {
        let Some(t) = self.torrents.get_mut(torrent).filter(|t| t.haves.is_armed(at)) else { return };
        t.haves.armed = None;
        self.flush_haves(torrent, now);
    }

    fn flush_haves(&mut self, torrent: TorrentId, now: Time) {
        let Some(t) = self.torrents.get_mut(torrent) else { return };
        let mut pieces = std::mem::take(&mut t.haves.pieces);
        // One that could not be read again since is missing.
        pieces.retain(|piece| t.picker.have().get(*piece));
        t.haves.rest = now + HAVE_REST * u32::try_from(t.peers.len()).unwrap_or(u32::MAX);
        let peers: Vec<PeerId> = t.peers.clone();
        for peer in peers {
            for &piece in &pieces {
                if self.peers.get(peer).is_some_and(|p| !p.has.get(piece)) {
                    self.send(peer, Message::Have(piece), now);
                }
            }
        }
    }
}
