//! When a torrent has seeded enough: `--seed-ratio` and `--seed-time`, the first of the two reached.

use super::Session;
use super::torrent::Torrent;
use crate::api::{Spec, TorrentId, Why};
use crate::base::time::Time;
use crate::limits::PARTING;
use std::time::Duration;

/// What a torrent that is complete still has to give.
#[derive(Debug, Default)]
pub(super) struct Goal {
    /// From when on, once it seeds.
    seeding: Option<Seeding>,
    /// What was left of its time when it was paused.
    left: Option<Duration>,
    reached: bool,
    /// It serves nobody any more, and waits for those that it served: until when at most, and why it ends.
    parting: Option<(Time, &'static str)>,
}

#[derive(Clone, Copy, Debug)]
struct Seeding {
    /// Bytes to upload, in all runs.
    bytes: u64,
    until: Time,
}

impl Goal {
    /// Whether the torrent has ended by it.
    pub(super) fn reached(&self) -> bool {
        self.reached
    }

    /// Whether nobody is served or taken in any more.
    pub(super) fn is_parting(&self) -> bool {
        self.parting.is_some()
    }

    /// It has come to its end, and if it was waiting for that, why.
    pub(super) fn parted(&mut self) -> Option<String> {
        self.parting.take().map(|(_, why)| why.to_owned())
    }

    /// Something is missing again.
    pub(super) fn off(&mut self) {
        self.seeding = None;
    }

    /// The clock stands still from now on.
    pub(super) fn pause(&mut self, now: Time) {
        if let Some(seeding) = self.seeding.take().filter(|seeding| seeding.until != Time::NEVER) {
            self.left = Some(seeding.until.since(now));
        }
    }
}

/// Bytes to upload until the ratio is reached.
fn bytes(spec: &Spec) -> u64 {
    let Some(ratio) = spec.seed_ratio else { return u64::MAX };
    let files = spec.meta.files.iter().zip(&spec.wanted).filter(|(file, wanted)| **wanted && !file.pad);
    let size: u128 = files.map(|(file, _)| u128::from(file.len)).sum();
    u64::try_from((size * u128::from(ratio)).div_ceil(1000)).unwrap_or(u64::MAX)
}

/// Payload bytes uploaded in all runs.
fn uploaded(t: &Torrent) -> u64 {
    t.before.uploaded.saturating_add(t.uploaded)
}

impl Session {
    /// Nothing is missing any more: from now on it is counted.
    pub(super) fn begin_seeding(&mut self, id: TorrentId, now: Time) {
        let Some(t) = self.torrents.get_mut(id) else { return };
        if !t.running() || t.downloading() {
            return;
        }
        let until = t.goal.left.take().or(t.spec.seed_time).map_or(Time::NEVER, |span| now + span);
        t.goal.seeding = Some(Seeding { bytes: bytes(&t.spec), until });
        self.begin_super_seed(id);
        self.slot_free(id, now);
        self.check_ratio(id, now);
        self.goal_due(id, now);
    }

    /// Ends the torrent when enough was uploaded, or will be with what is on its way.
    pub(super) fn check_ratio(&mut self, id: TorrentId, now: Time) {
        let Some(t) = self.torrents.get(id) else { return };
        if t.goal.seeding.is_some_and(|goal| uploaded(t).saturating_add(t.going) >= goal.bytes) {
            self.end(id, "the seed ratio is reached", now);
        }
    }

    /// Ends the torrent when its time is over; else when that will be.
    pub(super) fn goal_due(&mut self, id: TorrentId, now: Time) -> Time {
        let Some(t) = self.torrents.get(id).filter(|t| t.running()) else { return Time::NEVER };
        let Some(goal) = t.goal.seeding else { return Time::NEVER };
        if now < goal.until {
            return goal.until;
        }
        self.end(id, "the seed time is over", now);
        Time::NEVER
    }

    /// It serves nobody any more. What was sent last may still be on its way, so those that got something have time to
    /// take it in and say so.
    fn end(&mut self, id: TorrentId, why: &'static str, now: Time) {
        let Some(t) = self.torrents.get_mut(id).filter(|t| t.running() && !t.goal.reached) else { return };
        log::info!("{id} ends: {why}");
        t.goal.reached = true;
        t.goal.parting = Some((now + PARTING, why));
        for peer in t.peers.clone() {
            let Some(p) = self.peers.get(peer) else { continue };
            if p.is_seed() || p.uploaded == 0 && p.reading + p.sending == 0 {
                self.close(peer, Why::Stopping, now);
            } else if !p.am_choking {
                self.choke(peer, now);
            }
        }
        self.parting_due(id, now);
    }

    /// Stops a torrent that is about to end once all have gone; should somebody have gone without what was on its way,
    /// it serves on. Gives when to come back.
    pub(super) fn parting_due(&mut self, id: TorrentId, now: Time) -> Time {
        let Some(t) = self.torrents.get_mut(id) else { return Time::NEVER };
        let Some((until, _)) = t.goal.parting else { return Time::NEVER };
        let enough = |goal: Seeding| now >= goal.until || uploaded(t) >= goal.bytes;
        if now < until && t.peers.is_empty() && !t.goal.seeding.is_none_or(enough) {
            (t.goal.parting, t.goal.reached) = (None, false);
            self.join_callers(id, now);
            return Time::NEVER;
        }
        if now >= until || t.peers.is_empty() {
            self.stop(id, now);
            return Time::NEVER;
        }
        self.arm_torrent(id, until);
        until
    }
}
