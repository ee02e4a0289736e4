//! What a torrent takes from its resume record, and what it gives to be kept there.

use super::Session;
use super::known::Source;
use crate::api::{Action, Job, Opened, TorrentId};
use crate::base::time::Time;
use crate::proto::compact::is_callable;

impl Session {
    /// Believes what the record says.
    pub(super) fn adopt(&mut self, id: TorrentId, opened: &mut Opened, now: Time) {
        let Some(t) = self.torrents.get_mut(id) else { return };
        opened.have.iter().for_each(|piece| t.picker.set_have(piece));
        let blocks: u32 = opened.partial.iter().map(|(_, stored)| stored.count()).sum();
        let (have, partial, doubt) = (opened.have.count(), opened.partial.len(), opened.candidates.count());
        log::info!("{id} pieces: {have} believed, {doubt} to hash, {partial} begun with {blocks} blocks");
        // What this run saved is in its own count.
        if std::mem::replace(&mut t.adopted, true) {
            return;
        }
        t.before = std::mem::take(&mut opened.saved);
        t.before.peers.retain(|addr| is_callable(*addr));
        for addr in t.before.peers.iter().rev() {
            t.known.add(*addr, Source::Tracker, now);
        }
    }

    /// Saves totals and peers when that is due, or at once at the end. Gives when to come back.
    pub(super) fn save(&mut self, id: TorrentId, last: bool, now: Time) -> Time {
        let Some(t) = self.torrents.get_mut(id) else { return Time::NEVER };
        // While the disk has one in hand, the answer to it arms the timer: a moment that has passed must not.
        if t.saving && !last {
            return Time::NEVER;
        }
        if t.spec.state_dir.is_none() || !last && now < t.save_at {
            return t.save_at;
        }
        // Who is stopped while its files are opened knows nothing of what earlier runs saved.
        if !t.adopted {
            return Time::NEVER;
        }
        for peer in t.peers.clone() {
            if let Some(p) = self.peers.get(peer).filter(|p| p.outgoing && p.downloaded + p.uploaded > 0) {
                t.remember(p.addr);
            }
        }
        (t.save_at, t.saving) = (Time::NEVER, true);
        let job = Job::Save { torrent: id, saved: t.saved() };
        self.actions.push_back(Action::Job { lane: 0, job });
        Time::NEVER
    }

    pub(super) fn on_saved(&mut self, id: TorrentId) {
        if let Some(t) = self.torrents.get_mut(id) {
            t.saving = false;
            let save_at = t.save_at;
            self.arm_torrent(id, save_at);
        }
    }
}
