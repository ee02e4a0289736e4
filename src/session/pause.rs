//! What the program wants of torrents that run: halt one, go on with it, forget it; one that was added twice; and
//! when the files of each may be opened, as only so many are open at a time.

use super::Session;
use super::torrent::{Phase, Torrent, Wish};
use crate::api::{Action, Call, Job, Report, Spec, State, TorrentId};
use crate::base::time::Time;
use crate::limits::{STOP_BUDGET, TORRENTS_MAX};
use crate::proto::mse::request_name;

impl Torrent {
    /// Whether its files are closed and shall be open.
    fn wants_open(&self, now: Time) -> bool {
        let shall = self.wish == Wish::Run && !self.failed && !self.goal.reached();
        shall && matches!(self.phase, Phase::Closed) && self.full.may_try(now)
    }
}

impl Session {
    pub(super) fn on_pause(&mut self, number: u32, now: Time) {
        let Some((id, t)) = self.numbered(number) else { return };
        // One that is about to end of itself does so.
        if t.wish != Wish::Run || t.goal.reached() {
            return;
        }
        log::info!("{id} paused");
        (t.wish, t.failed) = (Wish::Pause, false);
        t.full.over();
        t.goal.pause(now);
        t.news.state(State::Paused, None);
        self.stop(id, now);
    }

    pub(super) fn on_resume(&mut self, number: u32, now: Time) {
        let Some((id, t)) = self.numbered(number) else { return };
        if t.goal.reached() {
            return;
        }
        if t.full.is_so() {
            return self.look_for_room(id, now);
        }
        if t.wish != Wish::Pause && !t.failed {
            return;
        }
        log::info!("{id} goes on");
        (t.wish, t.failed) = (Wish::Run, false);
        t.news.state(State::Checking, None);
        // While its files are being closed, that comes first.
        self.open_torrent(id, now);
    }

    pub(super) fn on_remove(&mut self, number: u32, now: Time) {
        let Some((id, t)) = self.numbered(number) else { return };
        log::info!("{id} removed");
        t.wish = Wish::Remove;
        t.forget_at = now + STOP_BUDGET;
        t.news.last(Some(State::Stopped));
        let info_hash = t.spec.meta.info_hash;
        self.by_number.remove(&number);
        self.by_hash.remove(&info_hash);
        self.by_request.remove(&request_name(info_hash));
        self.removed.push(id);
        self.stop(id, now);
        self.arm_torrent(id, now + STOP_BUDGET);
        self.forget_torrent(id, now);
    }

    pub(super) fn numbered(&mut self, number: u32) -> Option<(TorrentId, &mut Torrent)> {
        let id = *self.by_number.get(&number).filter(|_| self.stopping.is_none())?;
        self.torrents.get_mut(id).map(|t| (id, t))
    }

    /// Lets go of a torrent that was removed, when nothing of it is to be done or said.
    pub(super) fn forget_torrent(&mut self, id: TorrentId, now: Time) {
        let Some(t) = self.torrents.get(id).filter(|t| t.wish == Wish::Remove) else { return };
        let told = t.announcer.stopping_done() || now >= t.forget_at;
        if self.stopping.is_none() && told && matches!(t.phase, Phase::Closed) && t.news.due() == Time::NEVER
        {
            let spec = t.spec.clone();
            self.udp.cancel(id, now);
            // Who was added in its place needs the copy.
            if spec.state_dir.is_some() && !self.by_hash.contains_key(&spec.meta.info_hash) {
                self.actions.push_back(Action::Job { lane: 0, job: Job::Forget { torrent: id, spec } });
            }
            self.torrents.remove(id);
            self.removed.retain(|other| *other != id);
        }
    }

    /// A number that was free is in use again: what is still to be said under it would be taken for news of another.
    pub(super) fn take_number(&mut self, number: u32) {
        for id in self.removed.clone() {
            if let Some(t) = self.torrents.get_mut(id).filter(|t| t.number == number) {
                t.news.last(None);
            }
        }
    }

    /// A torrent was added that is there already: what leads to peers is for the first.
    pub(super) fn merge(&mut self, number: u32, first: TorrentId, spec: &Spec, now: Time) {
        self.note(Report::State { number, state: State::Stopped, reason: Some("is there already".into()) });
        let Some(t) = self.torrents.get_mut(first) else { return };
        let trackers = t.announcer.add(&spec.trackers, now);
        let named = |peer: &&(String, u16)| !t.spec.peers.contains(peer) && !t.more_peers.contains(peer);
        let peers: Vec<_> = spec.peers.iter().filter(named).cloned().collect();
        t.more_peers.extend(peers.iter().cloned());
        let (count, web) = (peers.len(), t.web.add(&spec.web_seeds));
        t.news.warning(format!(
            "it was added again: trackers ({trackers}), web seeds ({web}) and peers ({count}) that are new are used, nothing else"
        ));
        if t.swarming() {
            self.resolve(first, peers, now);
            self.arm_torrent(first, now);
        }
    }

    /// Has the names of peers that the user gave looked up.
    pub(super) fn resolve(&mut self, torrent: TorrentId, peers: Vec<(String, u16)>, now: Time) {
        for (host, port) in peers {
            self.call(Call::Resolve { torrent, host, port }, now);
        }
    }

    /// Keeps a report that is of no torrent that is there.
    pub(super) fn note(&mut self, report: Report) {
        if self.notes.len() == TORRENTS_MAX {
            self.notes.pop_front();
        }
        self.notes.push_back(report);
    }

    /// Opens the files of a torrent if that is due; while too many are open it waits in line.
    pub(super) fn open_torrent(&mut self, id: TorrentId, now: Time) {
        let Some(t) = self.torrents.get(id).filter(|t| t.wants_open(now)) else { return };
        if self.stopping.is_some() {
            return;
        }
        let info_hash = t.spec.meta.info_hash;
        let still = |t: &Torrent| t.spec.meta.info_hash == info_hash && !matches!(t.phase, Phase::Closed);
        // One that was removed has the files still: when they are closed, this comes again.
        if self.removed.iter().any(|other| self.torrents.get(*other).is_some_and(still)) {
            return;
        }
        let Some(t) = self.torrents.get_mut(id) else { return };
        if !t.spec.meta.is_known() {
            return self.begin_fetching(id, now);
        }
        let lane = self.line.opener(self.lanes.count()).filter(|_| self.open < self.config.max_open);
        let Some(lane) = lane else {
            if !std::mem::replace(&mut t.queued, true) {
                self.openers.push_back(id);
            }
            return;
        };
        self.open += 1;
        self.line.opening[usize::from(lane)] += 1;
        t.phase = Phase::Opening;
        let job = Job::Open { torrent: id, spec: t.spec.clone() };
        self.actions.push_back(Action::Job { lane, job });
    }

    /// There may be room for another open torrent, or a worker with time to open it.
    pub(super) fn open_next(&mut self, now: Time) {
        while self.open < self.config.max_open
            && self.line.opener(self.lanes.count()).is_some()
            && let Some(id) = self.openers.pop_front()
        {
            if let Some(t) = self.torrents.get_mut(id) {
                t.queued = false;
                self.open_torrent(id, now);
            }
        }
    }
}
