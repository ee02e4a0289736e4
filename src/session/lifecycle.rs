//! A torrent from its start on: claim the files, check what is there, run, complete. How it ends is in
//! [`super::ending`].

use super::Session;
use super::announce;
use super::choker::Choker;
use super::doubt::Doubt;
use super::full::Full;
use super::goal::Goal;
use super::haves::Haves;
use super::identity::Identity;
use super::known::{Known, Source};
use super::pex::Roll;
use super::picker::Picker;
use super::torrent::{News, Phase, Torrent, Wish};
use super::web_seed::WebSeeds;
use crate::api::{DiskError, Opened, Reason, Report, Saved, Spec, State, TorrentId, Why};
use crate::base::bits::Bitfield;
use crate::base::rate::Rate;
use crate::base::rng::Rng;
use crate::base::time::Time;
use crate::limits::TORRENT_TICK;
use crate::proto::mse::request_name;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

impl Session {
    pub(super) fn on_add(&mut self, number: u32, spec: Arc<Spec>, now: Time) {
        if self.stopping.is_some() {
            return;
        }
        if self.by_number.contains_key(&number) {
            return log::error!("the number {number} is in use: {} is left out", spec.meta.name);
        }
        self.take_number(number);
        if let Some(first) = self.by_hash.get(&spec.meta.info_hash).copied() {
            return self.merge(number, first, &spec, now);
        }
        let picker = new_picker(&spec, &mut self.rng);
        let identity = Identity::of(spec.meta.info_hash, self.secret);
        let announcer = announce::Announcer::new(&spec.trackers, identity.key(), &mut self.rng, now);
        let (info_hash, name) = (spec.meta.info_hash, spec.meta.name.clone());
        let mut news = News::default();
        news.state(State::Checking, None);
        let torrent = Torrent {
            number,
            identity,
            phase: Phase::Closed,
            wish: Wish::Run,
            wanted: picker.left(),
            picker,
            known: Known::new(Rng::new(self.rng.seed())),
            announcer,
            fetch: None,
            introduced: true,
            web: WebSeeds::new(&spec.web_seeds),
            peers: Vec::new(),
            roll: Roll::default(),
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
            haves: Haves::default(),
            super_seed: None,
            starved: VecDeque::new(),
            goal: Goal::default(),
            going: 0,
            gifts: 0,
            upload_only_told: false,
            failed: false,
            full: Full::default(),
            doubt: Doubt::default(),
            halted: false,
            adopted: false,
            queued: false,
            more_peers: Vec::new(),
            forget_at: Time::NEVER,
            checks_left: 0,
            calling: false,
            refilled: Time::ZERO,
            touched: false,
            listed: Time::NEVER,
            spec,
        };
        let Some(id) = self.torrents.insert(torrent) else {
            let reason = Some(format!("more than {} torrents in one process", crate::limits::TORRENTS_MAX));
            return self.note(Report::State { number, state: State::Error, reason });
        };
        if let Some(t) = self.torrents.get_mut(id) {
            self.own.known().for_each(|ip| t.known.set_own(SocketAddr::new(ip, self.config.port)));
        }
        self.by_hash.insert(info_hash, id);
        self.by_request.insert(request_name(info_hash), info_hash);
        self.by_number.insert(number, id);
        log::info!("{id} {info_hash} {name}");
        self.open_torrent(id, now);
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
        self.open_next(now);
        let Some(t) = self.torrents.get_mut(id) else { return };
        let closing = matches!(t.phase, Phase::Closing { .. });
        let mut opened = match result {
            Ok(opened) => opened,
            Err(error) => {
                // Nothing of it is open at the workers.
                t.phase = Phase::Closed;
                if !closing {
                    self.on_disk_error(id, &error, now);
                }
                return self.on_closed_all(id, now);
            }
        };
        if closing {
            return self.close_workers(id);
        }
        if t.adopted {
            t.picker = new_picker(&t.spec, &mut self.rng);
        } else {
            opened.warnings.drain(..).for_each(|warning| t.news.warning(warning));
        }
        if t.full.over() {
            t.news.state(State::Checking, None);
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
        let (state, reason) = t.state();
        t.news.state(state, reason);
        t.known.set_seeding(!t.downloading(), now);
        t.upload_only_told = t.upload_only();
        if complete {
            t.news.complete();
        }
        // Who had peers before is in the swarm already.
        if !t.introduced {
            self.introduce(id, now);
            self.arm_torrent(id, now);
        } else {
            self.join_swarm(id, now);
        }
        self.begin_seeding(id, now);
    }

    /// The torrent has peers from now on: those that are named are called, others are looked for.
    pub(super) fn join_swarm(&mut self, id: TorrentId, now: Time) {
        let Some(t) = self.torrents.get_mut(id) else { return };
        if std::mem::take(&mut t.halted) {
            t.announcer.restart(now);
            t.known.recall();
        }
        let peers = t.spec.peers.iter().chain(&t.more_peers).cloned().collect();
        self.resolve(id, peers, now);
        self.arm_torrent(id, now);
        self.join_dht(id, now);
        self.join_lsd(id, now);
    }

    /// Every wanted piece is verified.
    pub(super) fn on_complete(&mut self, id: TorrentId, now: Time) {
        let Some(t) = self.torrents.get_mut(id) else { return };
        log::info!("{id} complete");
        // Trackers count downloads of the whole torrent only.
        if t.picker.have().all() {
            t.announcer.on_complete(now);
        }
        t.full.over();
        t.known.set_seeding(true, now);
        t.news.state(State::Seeding, None);
        t.news.complete();
        self.tell_upload_only(id, now);
        let Some(t) = self.torrents.get(id) else { return };
        for peer in t.peers.clone() {
            self.update_interest(peer, now);
            if self.swarm(peer).is_some_and(|(t, p)| t.has_no_use_for(p)) {
                self.close(peer, Why::BothSeeds, now);
            }
        }
        self.stop_web(id);
        self.arm_torrent(id, now);
        self.begin_seeding(id, now);
    }

    /// What a torrent does by the clock: announces, dialling, figures.
    pub(super) fn on_torrent_timer(&mut self, id: TorrentId, now: Time) {
        self.pump_announces(id, now);
        self.call_beyond(id, now);
        self.join_callers(id, now);
        self.refill_all(id, now);
        self.pump_metadata(id, now);
        let running = self.torrents.get(id).is_some_and(Torrent::running);
        let save = if running { self.save(id, false, now) } else { Time::NEVER };
        let full = self.full_due(id, now).min(self.parting_due(id, now));
        self.forget_torrent(id, now);
        let Some(t) = self.torrents.get(id) else { return };
        // Once that moment has passed, the torrent waits for its files to be closed, which may take the disk long.
        let forgettable = t.wish == Wish::Remove && t.forget_at > now;
        let mut next = if forgettable { t.forget_at } else { Time::NEVER };
        if t.swarming() {
            next = next.min(t.announcer.deadline().unwrap_or(Time::NEVER));
        }
        next = next.min(save).min(full).min(t.web_due(now));
        // Rates change and the end-game begins without an event of the peer that could help.
        if t.hungry() && !t.peers.is_empty() {
            next = next.min(now + TORRENT_TICK);
        }
        // With a candidate that is due now it stands in line, and who downloads looks for one to take the place of.
        if t.welcomes()
            && let Some(due) = t.known.deadline()
            && (due > now || t.hungry())
        {
            next = next.min(due.max(now + TORRENT_TICK));
        }
        next = next.min(self.super_seed_due(id, now)).min(self.goal_due(id, now));
        next = next.min(self.pex_due(id, now));
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
        if result.is_err() {
            self.outage.on_unreached();
        }
        let web = self.on_web_resolved(id, host, port, &result, now);
        let Some(t) = self.torrents.get_mut(id) else { return };
        let named = t.spec.peers.iter().chain(&t.more_peers).any(|(name, at)| name == host && *at == port);
        if web && !named {
            return;
        }
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

pub(super) fn new_picker(spec: &Spec, rng: &mut Rng) -> Picker {
    Picker::at_rest(&spec.meta.layout, &wanted_pieces(spec), spec.sequential, rng)
}

/// The pieces under the wanted files.
pub(super) fn wanted_pieces(spec: &Spec) -> Bitfield {
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
