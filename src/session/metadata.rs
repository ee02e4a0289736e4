//! A torrent whose metadata is missing: it has peers, and asks them for its info dictionary (BEP 9). Whoever has it is
//! asked as [`fetch`] says; a disk worker hashes what came and reads it; the program says how it wants the torrent, and
//! that goes on as any other, with the peers that it has. How others get the dictionary from us is in [`serve`].

mod budget;
mod early;
mod fetch;
mod serve;

pub(super) use budget::Budget;
pub(super) use early::{Early, Told};
pub(super) use fetch::Fetch;
pub(super) use serve::{Asks, Serving};

use super::Session;
use super::download::Checked;
use super::lifecycle::new_picker;
use super::torrent::{Phase, Torrent};
use crate::api::{Action, BadInfo, Job, PeerId, Reason, Spec, State, TorrentId, Why};
use crate::base::rng::Rng;
use crate::base::time::Time;
use crate::limits::MESSAGE_SMALL;
use crate::proto::extended::Extension;
use crate::proto::extended::metadata::{Metadata, read, write};
use crate::proto::metainfo::Metainfo;
use fetch::Taken;
use std::sync::Arc;

impl Session {
    /// The torrent begins to have peers, to get its metadata from.
    pub(super) fn begin_fetching(&mut self, id: TorrentId, now: Time) {
        let rng = Rng::new(self.rng.seed());
        let Some(t) = self.torrents.get_mut(id) else { return };
        t.phase = Phase::Fetching;
        t.fetch.get_or_insert_with(|| Box::new(Fetch::new(rng)));
        t.news.state(State::Metadata, None);
        t.news.moved = true;
        self.join_swarm(id, now);
    }

    /// A peer said in a handshake of extensions what it has, or that it takes no more requests.
    pub(super) fn on_metadata_offer(&mut self, peer: PeerId, now: Time) {
        let max = self.budget.max();
        let Some((t, p)) = self.swarm(peer) else { return };
        let Some(fetch) = t.fetch.as_mut() else { return };
        match p.spoken.metadata_size.filter(|_| p.spoken.takes(Extension::Metadata)) {
            Some(size) if size > max => fetch.refuse(peer, size),
            Some(size) => fetch.offer(peer, p.addr, size),
            None => fetch.lost(peer),
        }
        if let Some(torrent) = p.torrent {
            self.pump_metadata(torrent, now);
        }
    }

    /// Sends the requests that are due.
    pub(super) fn pump_metadata(&mut self, id: TorrentId, now: Time) {
        if self.torrents.get(id).is_none_or(|t| !t.fetching()) {
            return;
        }
        self.share_metadata_room(id, now);
        let room = self.metadata_room(id);
        while let Some(t) = self.torrents.get_mut(id).filter(|t| t.fetching())
            && let Some((peer, piece)) = t.fetch.as_mut().and_then(|fetch| fetch.next(now, room))
        {
            self.send_extended(peer, Extension::Metadata, write(&Metadata::Request { piece }), now);
        }
        self.note_metadata_room(id, now);
    }

    /// A message of metadata exchange came.
    pub(super) fn on_metadata(&mut self, peer: PeerId, body: &[u8], now: Time) -> Checked {
        let message = read(body)?;
        let Some((t, p)) = self.swarm(peer) else { return Ok(()) };
        let Some(id) = p.torrent else { return Ok(()) };
        match (message, t.fetch.as_mut()) {
            (Metadata::Request { piece }, _) => return self.on_metadata_request(peer, piece, now),
            (Metadata::Data { piece, total, data }, Some(fetch)) => {
                match fetch.on_data(peer, piece, total, data, now) {
                    Taken::Ignored => return Ok(()),
                    Taken::Wrong(what) => return Err(what),
                    Taken::Whole => {
                        self.budget.whole.push_back(id);
                        self.hash_metadata();
                    }
                    Taken::Noted => {}
                }
                self.mark_moved(id);
            }
            (Metadata::Reject { piece }, Some(fetch)) => {
                if fetch.on_reject(peer, piece, now) == Taken::Ignored {
                    return Ok(());
                }
            }
            (Metadata::Data { .. } | Metadata::Reject { .. } | Metadata::Other, _) => return Ok(()),
        }
        self.pump_metadata(id, now);
        Ok(())
    }

    fn mark_moved(&mut self, id: TorrentId) {
        if let Some(t) = self.torrents.get_mut(id) {
            t.news.moved = true;
        }
    }

    /// All of it is there: a worker finds out whether it is right, when it is done with that of others.
    fn hash_metadata(&mut self) {
        while !self.budget.is_hashing
            && let Some(torrent) = self.budget.whole.pop_front()
        {
            let lane = self.lanes.idlest();
            let Some(t) = self.torrents.get_mut(torrent) else { continue };
            if let Some(info) = t.fetch.as_mut().and_then(|fetch| fetch.whole()) {
                let job = Job::Digest { torrent, spec: t.spec.clone(), info };
                self.actions.push_back(Action::Job { lane, job });
                self.budget.is_hashing = true;
            }
        }
    }

    pub(super) fn on_digested(&mut self, id: TorrentId, result: Result<Box<Metainfo>, BadInfo>, now: Time) {
        self.budget.is_hashing = false;
        self.hash_metadata();
        let Some(t) = self.torrents.get_mut(id) else { return };
        let Some(fetch) = t.fetch.as_mut() else { return };
        match result {
            Ok(meta) => {
                log::info!("{id} its metadata is here: {}", meta.name);
                t.news.metadata(meta);
            }
            Err(BadInfo::Hash) => {
                let guilty = fetch.on_wrong();
                if self.budget.is_wanted(now) {
                    fetch.let_others(now);
                }
                log::warn!("{id} metadata that does not match the info-hash is fetched again");
                self.punish(id, &guilty, now);
                self.pump_metadata(id, now);
            }
            Err(BadInfo::Refused(why)) => {
                t.fetch = None;
                self.fail(id, Reason::Metainfo, format!("its metadata cannot be used: {why}"), now);
            }
        }
    }

    /// The program says how it wants the torrent whose metadata has come.
    pub(super) fn on_adopt(&mut self, number: u32, spec: Arc<Spec>, now: Time) {
        let Some((id, t)) = self.numbered(number) else { return };
        let same = t.spec.meta.info_hash == spec.meta.info_hash && spec.meta.is_known();
        if t.spec.meta.is_known() || !same {
            return log::error!("{id} cannot become {}", spec.meta.name);
        }
        let picker = new_picker(&spec, &mut self.rng);
        let Some(t) = self.torrents.get_mut(id) else { return };
        t.web.add(&spec.web_seeds);
        (t.spec, t.fetch, t.picker) = (spec, None, picker);
        t.wanted = t.picker.left();
        t.news.moved = true;
        let private = t.spec.meta.private;
        if t.fetching() {
            // Its files are claimed and looked through; the peers stay meanwhile.
            (t.phase, t.introduced) = (Phase::Closed, false);
            t.news.state(State::Checking, None);
            self.open_torrent(id, now);
        }
        if private {
            self.turn_private(id, now);
        }
    }

    /// The torrent turned out private (BEP 27): from now on its peers come from its trackers.
    fn turn_private(&mut self, id: TorrentId, now: Time) {
        self.leave_dht(id);
        self.leave_lsd(id);
        let Some(t) = self.torrents.get_mut(id) else { return };
        t.known.keep_private();
        // Who came in may have found us anywhere.
        let theirs = self.peers.iter().filter(|(_, p)| p.torrent == Some(id) && !t.known.has(p.addr));
        let foreign: Vec<PeerId> = theirs.map(|(peer, _)| peer).collect();
        foreign.into_iter().for_each(|peer| self.close(peer, Why::Private, now));
    }

    /// The torrent runs: the peers that it had before hear what is here, and what they said meanwhile counts.
    pub(super) fn introduce(&mut self, id: TorrentId, now: Time) {
        let Some(t) = self.torrents.get_mut(id) else { return };
        if std::mem::replace(&mut t.introduced, true) || t.peers.is_empty() {
            return;
        }
        let pieces = t.spec.meta.layout.pieces();
        let max = (pieces.div_ceil(8) + 1).max(MESSAGE_SMALL);
        for peer in t.peers.clone() {
            self.actions.push_back(Action::Expect { peer, max });
            self.tell_extensions(peer, now);
            if !self.tell_haves(id, peer, now) {
                self.close(peer, Why::Replaced, now);
                continue;
            }
            let heard = self.hear_early(peer, pieces, now);
            heard.unwrap_or_else(|what| self.close(peer, Why::Protocol(what), now));
        }
    }

    /// Why the metadata does not come.
    pub(super) fn stuck_without_metadata(&self, t: &Torrent) -> Option<String> {
        if t.peers.is_empty() {
            let alone = t.spec.trackers.is_empty() && self.dht.is_none() && self.lsd.is_none();
            let alone = alone && t.known.len() == 0;
            let words = if alone { "nobody to ask: no tracker, no peer and no DHT" } else { "no peers" };
            return Some(t.announcer.status().unwrap_or_else(|| words.to_owned()));
        }
        let fetch = t.fetch.as_ref()?;
        if fetch.waits() {
            return Some("waits for the metadata of other torrents".to_owned());
        }
        if let Some(size) = fetch.too_large() {
            let mib = size.div_ceil(1 << 20);
            return Some(format!("its metadata has {mib} MiB, more than --max-metadata-size allows"));
        }
        (!fetch.has_sources()).then(|| "no peer has the metadata".to_owned())
    }
}
