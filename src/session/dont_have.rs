//! Pieces that a peer had and has not any more (`lt_donthave`, BEP 54): what we lose is told, and what others lose is
//! not asked of them.

use super::Session;
use super::download::Checked;
use crate::api::{PeerId, TorrentId};
use crate::base::time::Time;
use crate::limits::DONT_HAVES_SPARE;
use crate::proto::extended::Extension;
use crate::proto::wire::message::Message;

impl Session {
    pub(super) fn on_dont_have(&mut self, peer: PeerId, body: &[u8], now: Time) -> Checked {
        let Some(piece) = body.first_chunk().filter(|_| body.len() == 4) else {
            return Err("lt_donthave of the wrong length");
        };
        let piece = u32::from_be_bytes(*piece);
        let Some((t, p)) = self.swarm(peer) else { return Ok(()) };
        if piece >= p.has.len() {
            return Err("lt_donthave of a piece that is none");
        }
        if !p.has.clear(piece) {
            return Ok(());
        }
        p.lost += 1;
        if p.lost > p.has.len().saturating_add(DONT_HAVES_SPARE) {
            return Err("pieces lost over and over");
        }
        if std::mem::take(&mut p.counted_as_seed) {
            t.picker.peer_has_all(false);
            t.picker.on_bitfield(&p.has, true);
        } else {
            t.picker.on_dont_have(piece);
        }
        let is_lure = p.lure.is_some_and(|lure| lure == piece || !t.picker.is_missing(lure));
        if let Some(shown) = &mut t.super_seed {
            shown.on_dont_have(piece, p.offer);
        }
        t.news.moved = true;
        // With the fast extension each of them is rejected or served (BEP 6), without it nothing may come.
        if !p.fast.on {
            self.give_up_piece(peer, piece, now);
        }
        if is_lure {
            self.search_lure_soon(peer, piece, now);
        }
        Ok(())
    }

    /// We lost a piece: peers that were told of it hear so, those that can.
    pub(super) fn tell_lost(&mut self, torrent: TorrentId, piece: u32, now: Time) {
        let Some(t) = self.torrents.get(torrent) else { return };
        for peer in t.peers.clone() {
            if self.peers.get(peer).is_some_and(|p| p.was_told(piece)) {
                self.send_extended(peer, Extension::DontHave, piece.to_be_bytes().to_vec(), now);
            }
        }
    }

    /// A piece that was lost is there after all: who heard that it was lost hears of it.
    pub(super) fn tell_found(&mut self, torrent: TorrentId, piece: u32, now: Time) {
        let Some(t) = self.torrents.get(torrent) else { return };
        for peer in t.peers.clone() {
            let Some(p) = self.peers.get(peer) else { continue };
            if p.spoken.takes(Extension::DontHave) && p.was_told(piece) && !p.has.get(piece) {
                self.send(peer, Message::Have(piece), now);
            }
        }
    }
}
