//! What the program hears: asked for by the reactor while there is room, so that a program that does not listen
//! neither blocks the session nor fills memory.

use super::torrent::{Phase, Torrent, progress};
use super::{Finished, Session};
use crate::api::{Report, TorrentId};
use crate::base::time::Time;

impl Session {
    /// When there is something to report.
    pub(super) fn news_due(&self) -> Time {
        if self.dht.as_ref().is_some_and(|dht| dht.has_reports()) {
            return Time::ZERO;
        }
        let news = self.torrents.loudest().map_or(Time::NEVER, |(due, _)| due);
        match &self.stopping {
            _ if self.status_due => Time::ZERO,
            Some(s) if matches!(s.finished, Finished::Tell { .. }) => Time::ZERO,
            _ if !self.notes.is_empty() => Time::ZERO,
            _ => news,
        }
    }

    pub(super) fn next_report(&mut self, now: Time) -> Option<Report> {
        if let Some(report) = self.notes.pop_front() {
            return Some(report);
        }
        self.torrents.settle();
        if std::mem::take(&mut self.status_due) {
            return Some(Report::Status(Box::new(self.status(now))));
        }
        if let Some((due, id)) = self.torrents.loudest()
            && due <= now
        {
            let report = self.report_of(id, now);
            self.forget_torrent(id, now);
            self.torrents.settle();
            return report;
        }
        if let Some(report) = self.dht.as_mut().and_then(|dht| dht.report()) {
            return Some(report);
        }
        let stopping = self.stopping.as_mut()?;
        let Finished::Tell { unreached } = stopping.finished else { return None };
        stopping.finished = Finished::Told;
        Some(Report::Finished { unreached })
    }

    fn report_of(&mut self, id: TorrentId, now: Time) -> Option<Report> {
        let t = self.torrents.get_mut(id)?;
        let number = t.number;
        if let Some(report) = t.news.next(number) {
            return Some(report);
        }
        let t = self.torrents.get(id)?;
        let progress = progress(t, self.seeds(t), self.stuck(t, now), now);
        let t = self.torrents.get_mut(id)?;
        t.news.said(now);
        t.news.moved |= t.down.per_second(5, now) + t.up.per_second(5, now) > 0;
        Some(Report::Progress { number, progress })
    }

    pub(super) fn seeds(&self, t: &Torrent) -> u32 {
        let seeds = t.peers.iter().filter(|p| self.peers.get(**p).is_some_and(super::peer::Peer::is_seed));
        seeds.count() as u32
    }

    /// Why nothing comes in, when something should.
    pub(super) fn stuck(&self, t: &Torrent, now: Time) -> Option<String> {
        if let Phase::Checking(check) = &t.phase
            && check.done == 0
            && check.out == 0
        {
            return Some("waits for the check of others".to_owned());
        }
        if t.fetching() {
            return self.stuck_without_metadata(t);
        }
        if !t.downloading() || t.down.per_second(5, now) > 0 {
            return None;
        }
        if self.lanes.behind() {
            return Some("the disk is behind".to_owned());
        }
        let words = t.web.stuck(now).or_else(|| t.announcer.status());
        if t.peers.is_empty() {
            return Some(words.unwrap_or_else(|| "no peers".to_owned()));
        }
        let peers = || t.peers.iter().filter_map(|p| self.peers.get(*p));
        if !peers().any(|p| p.am_interested) {
            return Some("no peer has what is missing".to_owned());
        }
        if peers().all(|p| !p.am_interested || p.choking) {
            return Some("all peers choke us".to_owned());
        }
        None
    }
}
