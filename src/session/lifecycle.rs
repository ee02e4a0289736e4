//! A torrent from its start to its end: claim the files, check what is there, run, complete, fail, stop; and the end
//! of all of them.

use super::announce;
use super::choker::Choker;
use super::goal::Goal;
use super::known::{Known, Source};
use super::picker::Picker;
use super::torrent::{Checking, News, Phase, Torrent};
use super::{Finished, Key, Session, Stopping};
use crate::api::{Action, Call, DiskError, Job, Opened, Reason, Saved, Spec, State, TorrentId, Why};
use crate::base::bits::Bitfield;
use crate::base::rate::Rate;
use crate::base::rng::Rng;
use crate::base::time::Time;
use crate::limits::{CHECK_BYTES, CHECKS_OUT, LANES_MAX, STOP_BUDGET, TORRENT_TICK};
use std::net::SocketAddr;
use std::sync::Arc;

impl Session {
    pub(super) fn on_add(&mut self, number: u32, spec: Arc<Spec>, now: Time) {
        if self.stopping.is_some() {
            return;
        }
        let layout = &spec.meta.layout;
        let picker = Picker::new(layout, &wanted_pieces(&spec), spec.sequential, &mut self.rng);
        let announcer = announce::Announcer::new(&spec.trackers, self.key, &mut self.rng, now);
        let info_hash = spec.meta.info_hash;
        let mut news = News::default();
        news.state(State::Checking, None);
        let torrent = Torrent {
            number,
            phase: Phase::Opening,
            wanted: picker.left(),
            picker,
            known: Known::new(Rng::new(self.rng.seed())),
            announcer,
            peers: Vec::new(),
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
            spec: spec.clone(),
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
        log::info!("{id} {info_hash} {}", spec.meta.name);
        self.actions.push_back(Action::Job { lane: 0, job: Job::Open { torrent: id, spec } });
    }

    pub(super) fn on_opened(&mut self, id: TorrentId, result: Result<Opened, DiskError>, now: Time) {
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
        let Some(t) = self.torrents.get_mut(id) else { return };
        let layout = &t.spec.meta.layout;
        let total = opened.candidates.iter().map(|piece| u64::from(layout.piece_len(piece))).sum();
        let (candidates, found) = (opened.candidates, opened.found);
        t.phase =
            Phase::Checking(Checking { candidates, cursor: 0, out: [0; LANES_MAX], done: 0, total, found });
        t.news.moved = true;
        self.pump_checks(id, now);
    }

    /// Keeps every worker busy with the check.
    fn pump_checks(&mut self, id: TorrentId, now: Time) {
        let lanes = self.lanes.count();
        let Some(t) = self.torrents.get_mut(id) else { return };
        let Phase::Checking(check) = &mut t.phase else { return };
        // Who has the fewest is next, so that the workers are at neighbouring pieces.
        while let Some(lane) = (0..usize::from(lanes)).min_by_key(|lane| check.out[*lane])
            && check.out[lane] < CHECKS_OUT
        {
            let Some((first, count)) = check.next_run(&t.spec.meta.layout, CHECK_BYTES) else { break };
            check.out[lane] += 1;
            let job = Job::Check { torrent: id, first, count };
            self.actions.push_back(Action::Job { lane: lane as u8, job });
        }
        if check.out.iter().all(|out| *out == 0) {
            self.on_check_done(id, now);
        }
    }

    pub(super) fn on_checked(
        &mut self,
        lane: u8,
        id: TorrentId,
        (first, count): (u32, u32),
        result: Result<Bitfield, DiskError>,
        now: Time,
    ) {
        let Some(t) = self.torrents.get_mut(id) else { return };
        match &mut t.phase {
            Phase::Checking(check) => {
                let out = &mut check.out[usize::from(lane)];
                *out = out.saturating_sub(1);
                check.done += (first..first + count)
                    .map(|piece| u64::from(t.spec.meta.layout.piece_len(piece)))
                    .sum::<u64>();
                t.news.moved = true;
                match result {
                    Ok(good) => {
                        for piece in good.iter() {
                            t.picker.set_have(first + piece);
                        }
                        self.pump_checks(id, now);
                    }
                    Err(error) => self.on_disk_error(id, &error, now),
                }
            }
            Phase::Closing { .. } => {
                self.checks_left(id);
            }
            _ => {}
        }
    }

    fn on_check_done(&mut self, id: TorrentId, now: Time) {
        let Some(t) = self.torrents.get_mut(id) else { return };
        let Phase::Checking(check) = &t.phase else { return };
        let (meta, have) = (&t.spec.meta, t.picker.have());
        let foreign =
            check.found.iter().find(|file| !meta.layout.file_pieces(**file).any(|piece| have.get(piece)));
        if let Some(file) = foreign.filter(|_| !t.spec.overwrite && !t.spec.seed_only) {
            let path: std::path::PathBuf = t.spec.dir.iter().collect();
            let path = meta.files[*file].path.iter().fold(path, |path, part| path.join(&**part));
            let message = format!(
                "{} is there and no whole piece of this torrent is in it: move it away, or say --overwrite",
                crate::proto::metainfo::printable(&path.to_string_lossy())
            );
            return self.fail(id, Reason::Io, message, now);
        }
        self.start(id, now);
    }

    /// The torrent begins to have peers.
    fn start(&mut self, id: TorrentId, now: Time) {
        let Some(t) = self.torrents.get_mut(id) else { return };
        t.phase = Phase::Running;
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
            self.call(Call::Resolve { torrent: id, host, port }, now);
        }
        self.arm_torrent(id, now);
        self.begin_seeding(id, now);
        self.join_dht(id, now);
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
        self.cancel_udp(id, now);
        self.leave_dht(id);
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
        let Some(t) = self.torrents.get_mut(id) else { return };
        match &t.phase {
            Phase::Closing { .. } | Phase::Closed => {}
            Phase::Opening => t.phase = Phase::Closing { workers: 0 },
            Phase::Checking(check) => {
                t.checks_left = check.out.iter().sum();
                t.phase = Phase::Closing { workers: 0 };
                if t.checks_left == 0 {
                    self.close_workers(id);
                }
            }
            Phase::Running => self.close_workers(id),
        }
        self.pump_announces(id, now);
    }

    fn checks_left(&mut self, id: TorrentId) {
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
        let waiting = [self.calls.clear(), self.udp.clear()].concat();
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
                if !t.failed && !t.goal.reached() {
                    t.news.state(State::Stopped, None);
                }
            }
            self.save_dht();
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
