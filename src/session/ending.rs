//! How torrents end, for a while or for good: peers and announces first, then the files; and the end of all of them.

use super::torrent::{Phase, Torrent, Wish};
use super::{Finished, Key, Session, Stopping};
use crate::api::{Action, Job, Reason, State, TorrentId, Why};
use crate::base::time::Time;
use crate::limits::STOP_BUDGET;

impl Torrent {
    /// Whether its state tells why it does nothing, so that the end of all is no news of it.
    fn has_ended(&self) -> bool {
        self.failed || self.full.is_so() || self.goal.reached()
    }
}

impl Session {
    /// The torrent cannot go on; the others do.
    pub(super) fn fail(&mut self, id: TorrentId, reason: Reason, message: String, now: Time) {
        let Some(t) = self.torrents.get_mut(id) else { return };
        if t.failed {
            return;
        }
        t.news.error(reason, message.clone());
        if t.wish != Wish::Run {
            // It is to do nothing as it is, and tries again when it is to go on.
            return;
        }
        t.failed = true;
        t.full.over();
        t.news.state(State::Error, Some(message));
        self.stop(id, now);
    }

    /// Ends what the torrent does: its peers, its announces, then its files.
    pub(super) fn stop(&mut self, id: TorrentId, now: Time) {
        self.cancel_udp(id, now);
        self.leave_dht(id);
        self.leave_lsd(id);
        self.stop_web(id);
        let Some(t) = self.torrents.get_mut(id) else { return };
        // Whoever it meets next begins with a handshake.
        (t.halted, t.introduced) = (true, true);
        if let Some(why) = t.goal.parted() {
            t.news.ended(why);
        }
        t.announcer.stop();
        t.web.halt();
        for peer in t.peers.clone() {
            self.close(peer, Why::Stopping, now);
        }
        let strays: Vec<_> =
            self.peers.iter().filter(|(_, p)| p.torrent == Some(id)).map(|(peer, _)| peer).collect();
        for peer in strays {
            self.close(peer, Why::Stopping, now);
        }
        self.leave_turns(id);
        let waiting = self.calls.withdraw(id);
        let Some(t) = self.torrents.get_mut(id) else { return };
        waiting.into_iter().for_each(|tracker| t.announcer.withdraw(tracker));
        let checks = match &t.phase {
            Phase::Closing { .. } | Phase::Closed => None,
            // There is nothing to be closed.
            Phase::Fetching => {
                t.phase = Phase::Closed;
                None
            }
            // The worker's answer comes first.
            Phase::Opening => {
                t.phase = Phase::Closing { workers: 0 };
                None
            }
            Phase::Checking(check) => Some(check.out),
            Phase::Running => Some(t.doubt.end()),
        };
        self.line.check.remove(&(t.number, id));
        if let Some(checks) = checks {
            t.checks_left = checks;
            t.phase = Phase::Closing { workers: 0 };
            if checks == 0 {
                self.close_workers(id);
            }
        }
        self.pump_announces(id, now);
    }

    pub(super) fn checks_left(&mut self, id: TorrentId) {
        let Some(t) = self.torrents.get_mut(id) else { return };
        t.checks_left = t.checks_left.saturating_sub(1);
        if t.checks_left == 0 {
            self.close_workers(id);
        }
    }

    pub(super) fn close_workers(&mut self, id: TorrentId) {
        let Some(t) = self.torrents.get_mut(id) else { return };
        t.phase = Phase::Closing { workers: self.lanes.count() };
        self.save(id, true, Time::NEVER);
        for lane in 0..self.lanes.count() {
            self.actions.push_back(Action::Job { lane, job: Job::Close { torrent: id } });
        }
    }

    pub(super) fn on_worker_closed(&mut self, id: TorrentId, now: Time) {
        let Some(t) = self.torrents.get_mut(id) else { return };
        let Phase::Closing { workers } = &mut t.phase else { return };
        *workers = workers.saturating_sub(1);
        if *workers == 0 {
            self.on_closed_all(id, now);
        }
    }

    /// No worker has anything of the torrent: what waited for that goes on.
    pub(super) fn on_closed_all(&mut self, id: TorrentId, now: Time) {
        let Some(t) = self.torrents.get_mut(id) else { return };
        t.phase = Phase::Closed;
        self.open = self.open.saturating_sub(1);
        let info_hash = t.spec.meta.info_hash;
        self.open_torrent(id, now);
        if let Some(heir) = self.by_hash.get(&info_hash).copied().filter(|heir| *heir != id) {
            self.open_torrent(heir, now);
        }
        self.open_next(now);
        self.forget_torrent(id, now);
        self.check_finished(now);
    }

    pub(super) fn on_quit(&mut self, now: Time) {
        if self.stopping.is_some() {
            return;
        }
        self.stopping = Some(Stopping { until: now + STOP_BUDGET, finished: Finished::No });
        let waiting = [self.calls.clear(), self.udp.clear(now)].concat();
        for (torrent, tracker) in waiting {
            if let Some(t) = self.torrents.get_mut(torrent) {
                t.announcer.withdraw(tracker);
            }
        }
        for id in self.torrents.ids().collect::<Vec<_>>() {
            self.stop(id, now);
        }
        let strangers: Vec<_> = self.peers.ids().collect();
        for peer in strangers {
            self.close(peer, Why::Stopping, now);
        }
        let mut armed = Time::NEVER;
        self.timers.arm(&mut armed, now + STOP_BUDGET, Key::Stop);
        self.check_finished(now);
    }

    /// Ends the session once every file is closed and every tracker told, or its time is up.
    pub(super) fn check_finished(&mut self, now: Time) {
        let Some(stopping) = &mut self.stopping else { return };
        let closed = self.torrents.iter().all(|(_, t)| matches!(t.phase, Phase::Closed));
        let told = self.torrents.iter().all(|(_, t)| t.announcer.stopping_done());
        if stopping.finished == Finished::No && closed && (told || now >= stopping.until) {
            let unreached = self.torrents.iter().map(|(_, t)| t.announcer.unreached()).sum();
            stopping.finished = Finished::Tell { unreached };
            for (_, t) in self.torrents.iter_mut() {
                if !t.has_ended() {
                    t.news.state(State::Stopped, None);
                }
            }
            self.save_dht();
            self.actions.push_back(Action::Exit);
        }
    }
}
