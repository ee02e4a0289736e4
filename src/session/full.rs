//! What the disk refuses. For want of space a torrent asks for nothing more, serves what it has, and looks for space
//! from time to time; at anything else it cannot go on.

use super::Session;
use super::torrent::{Phase, Wish};
use crate::api::{Action, DiskError, Job, Reason, State, TorrentId};
use crate::base::time::Time;
use crate::limits::{FULL_RETRY, FULL_ROOM};
use crate::proto::wire::message::Message;
use std::io::ErrorKind;

/// Whether a torrent lacks space.
#[derive(Debug, Default)]
pub(super) struct Full {
    wait: Option<Wait>,
    /// The user knows; once something was stored, it would be news again.
    told: bool,
}

#[derive(Clone, Copy, Debug)]
struct Wait {
    /// When to look for space.
    retry: Time,
    /// A worker is looking.
    looking: bool,
}

impl Full {
    pub(super) fn is_so(&self) -> bool {
        self.wait.is_some()
    }

    /// Whether files that could not be opened may be tried again.
    pub(super) fn may_try(&self, now: Time) -> bool {
        self.wait.is_none_or(|wait| now >= wait.retry)
    }

    /// When to look again; [`Time::NEVER`] when that is not to be done.
    pub(super) fn due(&self) -> Time {
        self.wait.filter(|wait| !wait.looking).map_or(Time::NEVER, |wait| wait.retry)
    }

    /// There is space, or it does not matter any more. Tells whether there was none.
    pub(super) fn over(&mut self) -> bool {
        self.wait.take().is_some()
    }

    fn retry_at(&mut self, retry: Time) {
        self.wait = Some(Wait { retry, looking: false });
    }
}

/// Whether it is space that lacks.
fn is_full(error: &DiskError) -> bool {
    matches!(error.source.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

impl Session {
    /// The file system said no.
    pub(super) fn on_disk_error(&mut self, id: TorrentId, error: &DiskError, now: Time) {
        if is_full(error) {
            return self.on_full(id, error, now);
        }
        self.fail(id, Reason::Io, error.to_string(), now);
    }

    fn on_full(&mut self, id: TorrentId, error: &DiskError, now: Time) {
        log::info!("{id} no space: {error}");
        let Some(t) = self.torrents.get_mut(id) else { return };
        let opening = matches!(t.phase, Phase::Closed);
        // What is being closed has its record of what is there, and asks for nothing.
        if t.wish != Wish::Run || t.failed || !opening && !t.lacks() {
            return;
        }
        let news = !t.full.is_so();
        t.full.retry_at(now + FULL_RETRY);
        self.arm_torrent(id, now + FULL_RETRY);
        if !news {
            return;
        }
        let Some(t) = self.torrents.get_mut(id) else { return };
        let left = t.picker.left();
        let needs = if opening { String::new() } else { format!(" ({left} bytes are still to come)") };
        let message = format!("{error}{needs}; it goes on by itself when there is space");
        t.news.state(State::Full, Some(message.clone()));
        if !std::mem::replace(&mut t.full.told, true) {
            t.news.error(Reason::DiskFull, message);
        }
        self.ask_for_nothing(id, now);
    }

    /// Takes all requests back. What comes all the same is not stored.
    fn ask_for_nothing(&mut self, id: TorrentId, now: Time) {
        self.stop_web(id);
        let Some(t) = self.torrents.get(id) else { return };
        for peer in t.peers.clone() {
            let Some((t, p)) = self.swarm(peer) else { continue };
            t.picker.on_lost(peer, p.asked.iter().copied());
            let (owed, asked) = (p.owes(), p.asked.iter().copied().collect::<Vec<_>>());
            p.give_up_requests();
            self.throttle.give_back(owed);
            for block in asked {
                self.send(peer, Message::Cancel(block), now);
            }
            self.update_interest(peer, now);
        }
    }

    /// Something was stored, so the next time that there is no space is another one.
    pub(super) fn on_stored(&mut self, id: TorrentId) {
        if let Some(t) = self.torrents.get_mut(id).filter(|t| !t.full.is_so()) {
            t.full.told = false;
        }
    }

    /// Looks for space if it is time. Gives when to come back.
    pub(super) fn full_due(&mut self, id: TorrentId, now: Time) -> Time {
        let Some(t) = self.torrents.get(id) else { return Time::NEVER };
        if now >= t.full.due() {
            self.look_for_room(id, now);
        }
        self.torrents.get(id).map_or(Time::NEVER, |t| t.full.due())
    }

    /// Looks for space: opens the files again if that failed, else asks a worker.
    pub(super) fn look_for_room(&mut self, id: TorrentId, now: Time) {
        let Some(t) = self.torrents.get_mut(id) else { return };
        let bytes = t.picker.left().min(FULL_ROOM);
        let (closed, running) = (matches!(t.phase, Phase::Closed), t.running());
        let Some(wait) = t.full.wait.as_mut().filter(|wait| !wait.looking) else { return };
        wait.retry = now;
        wait.looking = true;
        if closed {
            self.open_torrent(id, now);
        } else if running {
            self.actions.push_back(Action::Job { lane: 0, job: Job::Room { torrent: id, bytes } });
        }
    }

    pub(super) fn on_room(&mut self, id: TorrentId, result: Result<(), DiskError>, now: Time) {
        let Some(t) = self.torrents.get_mut(id).filter(|t| t.full.is_so() && t.running()) else { return };
        if let Err(error) = result {
            log::debug!("{id} still no space: {error}");
            t.full.retry_at(now + FULL_RETRY);
            return self.arm_torrent(id, now + FULL_RETRY);
        }
        log::info!("{id} there is space again");
        self.go_on_downloading(id, now);
    }

    /// Something is missing again, and there is space for it.
    pub(super) fn go_on_downloading(&mut self, id: TorrentId, now: Time) {
        let Some(t) = self.torrents.get_mut(id) else { return };
        t.full.over();
        t.known.set_seeding(false, now);
        t.news.state(State::Downloading, None);
        for peer in t.peers.clone() {
            self.update_interest(peer, now);
            self.refill(peer, now);
        }
        self.tell_upload_only(id, now);
        self.arm_torrent(id, now);
    }

    /// Data could not be made durable, and these pieces are lost.
    pub(super) fn on_unsynced(&mut self, id: TorrentId, error: &DiskError, lost: &[u32], now: Time) {
        let Some(t) = self.torrents.get_mut(id) else { return };
        log::info!("{id} {} pieces are lost: {error}", lost.len());
        if !is_full(error) {
            return self.fail(id, Reason::Io, error.to_string(), now);
        }
        if !t.running() {
            // Opened again, the record has no more of them than there is. Who ends with it has not got all.
            return self.fail(id, Reason::DiskFull, error.to_string(), now);
        }
        for piece in lost {
            self.lose(id, *piece, now);
        }
        self.on_full(id, error, now);
    }
}
