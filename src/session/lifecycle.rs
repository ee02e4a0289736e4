//! A torrent from its start to its end: claim the files, check what is there, run, complete, fail, stop; and the end
//! of all of them.

use super::announce;
use super::choker::Choker;
use super::goal::Goal;
use super::known::{Known, Source};
use super::picker::Picker;
use super::torrent::{News, Phase, Torrent};
use super::{Finished, Key, Session, Stopping};
use crate::api::{
    Action, Call, DiskError, Job, Opened, Reason, Saved, Spec, State, TorrentId, TrackerFailure, Why,
};
use crate::base::bits::Bitfield;
use crate::base::rate::Rate;
use crate::base::rng::Rng;
use crate::base::time::Time;
use crate::limits::{CALLS_OUT, OPENS_OUT, STOP_BUDGET, TORRENT_TICK};
use crate::proto::tracker::Response;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

impl Session {
    pub(super) fn on_add(&mut self, number: u32, spec: Arc<Spec>, now: Time) {
        if self.stopping.is_some() {
            return;
        }
        let layout = &spec.meta.layout;
        let picker = Picker::at_rest(layout, &wanted_pieces(&spec), spec.sequential, &mut self.rng);
        let announcer = announce::Announcer::new(&spec.trackers, self.key, &mut self.rng, now);
        let info_hash = spec.meta.info_hash;
        let mut news = News::default();
        news.state(State::Checking, None);
        let torrent = Torrent {
            number,
            phase: Phase::Waiting,
            wanted: picker.left(),
            picker,
            known: Known::new(Rng::new(self.rng.seed())),
            announcer,
            peers: Vec::new(),
            places: 0,
            turns: VecDeque::new(),
            before: Saved::default(),
            save_at: Time::NEVER,
            saving: false,
            downloaded: 0,
            uploaded: 0,
            down: Rate::new(),
            up: Rate::new(),
            armed: Time::NEVER,
            news,
            choker: Choker::default(),
            super_seed: None,
            goal: Goal::default(),
            failed: false,
            checks_left: 0,
            calling: false,
            refilled: Time::ZERO,
            touched: false,
            listed: Time::NEVER,
            spec,
        };
        let Some(id) = self.torrents.insert(torrent) else {
            return log::error!("more torrents than {} in one process", crate::limits::TORRENTS_MAX);
        };
        if self.by_hash.contains_key(&info_hash) {
            if let Some(t) = self.torrents.get_mut(id) {
                t.phase = Phase::Closed;
            }
            return self.fail(id, Reason::Metainfo, "this torrent was given twice".to_owned(), now);
        }
        self.by_hash.insert(info_hash, id);
        self.queue_open(id);
    }

    /// Has it opened when its turn comes.
    pub(super) fn queue_open(&mut self, id: TorrentId) {
        self.line.open.push_back(id);
        self.pump_opens();
    }

    /// Each worker opens a few at a time, so that reads and writes come in between.
    fn pump_opens(&mut self) {
        let lanes = usize::from(self.lanes.count());
        while let Some(lane) = (0..lanes).min_by_key(|lane| self.line.opening[*lane])
            && self.line.opening[lane] < OPENS_OUT
            && let Some(id) = self.line.open.pop_front()
        {
            let Some(t) = self.torrents.get_mut(id) else { continue };
            t.phase = Phase::Opening;
            log::info!("{id} {} {}", t.spec.meta.info_hash, t.spec.meta.name);
            self.line.opening[lane] += 1;
            let job = Job::Open { torrent: id, spec: t.spec.clone() };
            self.actions.push_back(Action::Job { lane: lane as u8, job });
        }
    }

    pub(super) fn on_opened(
        &mut self,
        lane: u8,
        id: TorrentId,
        result: Result<Opened, DiskError>,
        now: Time,
    ) {
        let opening = &mut self.line.opening[usize::from(lane)];
        *opening = opening.saturating_sub(1);
        self.pump_opens();
        let Some(t) = self.torrents.get_mut(id) else { return };
        let closing = matches!(t.phase, Phase::Closing { .. });
        let mut opened = match result {
            Ok(opened) => opened,
            Err(error) => {
                // Nothing of it is open at the workers.
                t.phase = Phase::Closed;
                if closing {
                    return self.check_finished(now);
                }
                return self.on_disk_error(id, &error, now);
            }
        };
        if closing {
            return self.close_workers(id);
        }
        for warning in std::mem::take(&mut opened.warnings) {
            t.news.warning(warning);
        }
        self.adopt(id, &mut opened, now);
        self.queue_check(id, opened, now);
    }

    /// The torrent begins to have peers.
    pub(super) fn start(&mut self, id: TorrentId, now: Time) {
        let Some(t) = self.torrents.get_mut(id) else { return };
        let phase = std::mem::replace(&mut t.phase, Phase::Running);
        if !t.spec.seed_only {
            t.picker.begin_picking(&mut self.rng);
        }
        if let Phase::Checking(check) = phase {
            check.partial.iter().for_each(|(piece, stored)| t.picker.set_stored(*piece, stored));
        }
        t.news.moved = true;
        let complete = t.picker.is_complete();
        let have = t.picker.have().count();
        if t.spec.seed_only && have == 0 && t.spec.meta.layout.pieces() > 0 {
            let message = format!("nothing of this torrent is in {}", t.spec.dir.display());
            return self.fail(id, Reason::Io, message, now);
        }
        if t.downloading() {
            t.news.state(State::Downloading, None);
        } else {
            let part = (!complete).then(|| "only a part of it is here".to_owned());
            t.news.state(State::Seeding, part);
        }
        t.known.set_seeding(!t.downloading(), now);
        if complete {
            t.news.complete();
        }
        let peers = t.spec.peers.clone();
        for (host, port) in peers {
            self.call(Call::Resolve { torrent: id, host, port });
        }
        self.arm_torrent(id, now);
        self.begin_seeding(id, now);
    }

    /// Every wanted piece is verified.
    pub(super) fn on_complete(&mut self, id: TorrentId, now: Time) {
        let Some(t) = self.torrents.get_mut(id) else { return };
        log::info!("{id} complete");
        t.announcer.on_complete(now);
        t.known.set_seeding(true, now);
        t.news.state(State::Seeding, None);
        t.news.complete();
        for peer in t.peers.clone() {
            self.update_interest(peer, now);
            if self.peers.get(peer).is_some_and(super::peer::Peer::is_seed) {
                self.close(peer, Why::BothSeeds, now);
            }
        }
        self.arm_torrent(id, now);
        self.begin_seeding(id, now);
    }

    /// The torrent cannot go on; the others do.
    pub(super) fn fail(&mut self, id: TorrentId, reason: Reason, message: String, now: Time) {
        let Some(t) = self.torrents.get_mut(id) else { return };
        if t.failed {
            return;
        }
        t.failed = true;
        t.news.state(State::Error, Some(message.clone()));
        t.news.error(reason, message);
        self.stop(id, now);
    }

    /// Ends the torrent: its peers, its announces, then its files.
    pub(super) fn stop(&mut self, id: TorrentId, now: Time) {
        let Some(t) = self.torrents.get_mut(id) else { return };
        t.announcer.stop();
        for peer in t.peers.clone() {
            self.close(peer, Why::Stopping, now);
        }
        let strays: Vec<_> =
            self.peers.iter().filter(|(_, p)| p.torrent == Some(id)).map(|(peer, _)| peer).collect();
        for peer in strays {
            self.close(peer, Why::Stopping, now);
        }
        self.leave_turns(id);
        let Some(t) = self.torrents.get_mut(id) else { return };
        match &t.phase {
            Phase::Closing { .. } | Phase::Closed => {}
            Phase::Waiting => {
                t.phase = Phase::Closed;
                self.line.open.retain(|other| *other != id);
            }
            Phase::Opening => t.phase = Phase::Closing { workers: 0 },
            Phase::Checking(check) => {
                t.checks_left = check.out;
                self.line.check.remove(&(t.number, id));
                t.phase = Phase::Closing { workers: 0 };
                if t.checks_left == 0 {
                    self.close_workers(id);
                }
            }
            Phase::Running => self.close_workers(id),
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

    fn close_workers(&mut self, id: TorrentId) {
        let Some(t) = self.torrents.get_mut(id) else { return };
        t.phase = Phase::Closing { workers: self.lanes.count() };
        self.save(id, true, Time::NEVER);
        for lane in 0..self.lanes.count() {
            self.actions.push_back(Action::Job { lane, job: Job::Close { torrent: id } });
        }
    }

    pub(super) fn on_worker_closed(&mut self, id: TorrentId, now: Time) {
        let Some(t) = self.torrents.get_mut(id) else { return };
        if let Phase::Closing { workers } = &mut t.phase {
            *workers = workers.saturating_sub(1);
            if *workers == 0 {
                t.phase = Phase::Closed;
            }
        }
        self.check_finished(now);
    }

    pub(super) fn on_quit(&mut self, now: Time) {
        if self.stopping.is_some() {
            return;
        }
        self.stopping = Some(Stopping { until: now + STOP_BUDGET, finished: Finished::No });
        for call in std::mem::take(&mut self.calls) {
            if let Call::Announce { torrent, tracker, .. } = call
                && let Some(t) = self.torrents.get_mut(torrent)
            {
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
                if !t.failed && !t.goal.reached() {
                    t.news.state(State::Stopped, None);
                }
            }
            self.actions.push_back(Action::Exit);
        }
    }

    /// What a torrent does by the clock: announces, dialling, figures.
    pub(super) fn on_torrent_timer(&mut self, id: TorrentId, now: Time) {
        self.pump_announces(id, now);
        self.make_room(id, now);
        self.join_callers(id, now);
        self.refill_all(id, now);
        let running = self.torrents.get(id).is_some_and(Torrent::running);
        let save = if running { self.save(id, false, now) } else { Time::NEVER };
        let Some(t) = self.torrents.get(id) else { return };
        let mut next = t.announcer.deadline().unwrap_or(Time::NEVER).min(save);
        // Rates change and the end-game begins without an event of the peer that could help.
        if t.downloading() && !t.peers.is_empty() {
            next = next.min(now + TORRENT_TICK);
        }
        // With a candidate that is due now it stands in line, and who downloads looks for one to take the place of.
        if t.running()
            && let Some(due) = t.known.deadline()
            && (due > now || t.downloading())
        {
            next = next.min(due.max(now + TORRENT_TICK));
        }
        next = next.min(self.super_seed_due(id, now)).min(self.goal_due(id, now));
        self.arm_torrent(id, next);
    }

    /// Tells the trackers what is due.
    pub(super) fn pump_announces(&mut self, id: TorrentId, now: Time) {
        let max = self.config.max_conn;
        loop {
            let Some(t) = self.torrents.get_mut(id) else { return };
            let wanted = if t.running() { max.saturating_sub(t.peers.len()) } else { 0 };
            let peers_wanted = u32::try_from(wanted).unwrap_or(u32::MAX);
            let facts = announce::Facts {
                info_hash: t.spec.meta.info_hash,
                peer_id: self.config.peer_id,
                port: self.config.port,
                uploaded: t.uploaded,
                downloaded: t.downloaded,
                left: t.picker.left(),
                peers_wanted,
                dry: t.downloading() && wanted > 0 && t.known.deadline().is_none(),
            };
            let Some(due) = t.announcer.poll(now, &facts) else { return };
            self.call(Call::Announce {
                torrent: id,
                tracker: due.tracker,
                url: due.url,
                request: due.request,
                timeout: due.timeout,
            });
        }
    }

    pub(super) fn on_announced(
        &mut self,
        id: TorrentId,
        tracker: u32,
        result: Result<Response, TrackerFailure>,
        now: Time,
    ) {
        let Some(t) = self.torrents.get_mut(id) else { return };
        let Some(outcome) = t.announcer.on_reply(tracker, result, now) else { return };
        match outcome.news {
            Some(announce::News::Warning { url, words }) => {
                t.news.warning(format!("tracker {url} says: {words}"));
            }
            Some(announce::News::Failed { url, failure, alone }) => {
                let message = format!("tracker {url}: {failure}");
                if alone { t.news.error(Reason::Tracker, message) } else { t.news.warning(message) }
            }
            None => {}
        }
        t.news.moved = true;
        for addr in outcome.peers {
            t.known.add(addr, Source::Tracker, now);
        }
        if outcome.external_ip.is_some_and(|ip| self.external_ip.replace(ip) != Some(ip)) {
            log::info!("trackers see us as {:?}", outcome.external_ip);
        }
        self.on_torrent_timer(id, now);
    }

    pub(super) fn on_resolved(
        &mut self,
        id: TorrentId,
        host: &str,
        port: u16,
        result: Result<Vec<SocketAddr>, String>,
        now: Time,
    ) {
        let Some(t) = self.torrents.get_mut(id) else { return };
        match result {
            Ok(addrs) => {
                for addr in addrs {
                    t.known.add(addr, Source::User, now);
                }
            }
            Err(what) => t.news.error(Reason::Network, format!("--peer {host}:{port}: {what}")),
        }
        self.arm_torrent(id, now);
    }

    fn call(&mut self, call: Call) {
        self.calls.push_back(call);
        self.pump_calls();
    }

    pub(super) fn pump_calls(&mut self) {
        while self.calls_out < CALLS_OUT {
            let Some(call) = self.calls.pop_front() else { return };
            self.calls_out += 1;
            self.actions.push_back(Action::Call(Box::new(call)));
        }
    }
}

/// The pieces under the wanted files.
fn wanted_pieces(spec: &Spec) -> Bitfield {
    let layout = &spec.meta.layout;
    if spec.wanted.iter().all(|wanted| *wanted) {
        return Bitfield::full(layout.pieces());
    }
    let mut pieces = Bitfield::new(layout.pieces());
    for (file, _) in spec.wanted.iter().enumerate().filter(|(_, wanted)| **wanted) {
        for piece in layout.file_pieces(file) {
            pieces.set(piece);
        }
    }
    pieces
}
