//! Between the announcers and the helpers: what is due goes out, what comes back is told, and who is slow is passed.

use super::announce::{Facts, News, Outcome};
use super::known::Source;
use super::torrent::Torrent;
use super::{Key, Session};
use crate::api::{Action, Call, Reason, Reply, TorrentId, TrackerFailure};
use crate::base::buf::BLOCK;
use crate::base::time::Time;
use crate::limits::REDIAL;
use crate::proto::tracker::{Request, Response, Scheme};

impl Session {
    /// Tells the trackers what is due.
    pub(super) fn pump_announces(&mut self, id: TorrentId, now: Time) {
        while let Some(facts) = self.facts(id, now)
            && let Some(t) = self.torrents.get_mut(id)
            && let Some(due) = t.announcer.poll(now, &facts)
        {
            if due.url.scheme() == Scheme::Udp {
                self.ask_udp(id, due, now);
                continue;
            }
            if !t.announcer.is_stopping()
                && let Some((until, why)) = self.calls.resting(&due.url, now)
            {
                let outcome = t.announcer.on_rest(due.tracker, until, why, now);
                self.on_outcome(id, outcome, now);
                continue;
            }
            if self.calls.is_slow(&due.url) {
                t.announcer.on_slow(due.tracker, now);
            }
            let (tracker, url, request, timeout) = (due.tracker, due.url, due.request, due.timeout);
            self.call(Call::Announce { torrent: id, tracker, url, request, timeout }, now);
        }
    }

    fn facts(&self, id: TorrentId, now: Time) -> Option<Facts> {
        let t = self.torrents.get(id).filter(|t| t.swarming() || t.halted)?;
        let wanted = if t.welcomes() { self.config.max_conn.saturating_sub(t.peers.len()) } else { 0 };
        Some(Facts {
            info_hash: t.spec.meta.info_hash,
            peer_id: t.identity.peer_id(),
            port: self.config.port,
            uploaded: t.uploaded,
            downloaded: t.downloaded,
            // The size is not known before the metadata, but is not 0: the tracker must not count us as a seed.
            left: if t.spec.meta.is_known() { t.picker.left_of_all() } else { BLOCK.into() },
            is_partial_seed: t.upload_only() && !t.picker.have().all(),
            peers_wanted: u32::try_from(wanted).unwrap_or(u32::MAX),
            dry: t.hungry() && wanted > 0 && has_nobody_to_call(t, now),
        })
    }

    /// Updates an announce when it is sent, which may be long after it was due.
    pub(super) fn refresh(&self, id: TorrentId, request: &mut Request, now: Time) {
        if let Some(facts) = self.facts(id, now) {
            facts.update(request);
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
        match &result {
            Err(TrackerFailure::Network(_)) => {
                if t.announcer.is_current(tracker) {
                    self.outage.on_lost(now);
                }
                self.outage.on_unreached();
            }
            Err(TrackerFailure::Unsupported(_)) => {}
            Ok(_)
            | Err(TrackerFailure::Refused(_) | TrackerFailure::Answer(_) | TrackerFailure::Compressed(_)) => {
                self.on_server_answer(now);
            }
        }
        let Some(t) = self.torrents.get_mut(id) else { return };
        if let Some(outcome) = t.announcer.on_reply(tracker, result, now) {
            self.on_outcome(id, Some(outcome), now);
            self.on_torrent_timer(id, now);
        }
    }

    /// What an announce brought.
    fn on_outcome(&mut self, id: TorrentId, outcome: Option<Outcome>, now: Time) {
        let (Some(t), Some(outcome)) = (self.torrents.get_mut(id), outcome) else { return };
        match outcome.news {
            Some(News::Warning { url, words }) => t.news.warning(format!("tracker {url} says: {words}")),
            Some(News::Failed { url, failure, alone: true }) => {
                t.news.error(Reason::Tracker, format!("tracker {url}: {failure}"));
            }
            // Another one answers, or may: that one is no loss to the user.
            Some(News::Failed { url, failure, alone: false }) => log::info!("{id} tracker {url}: {failure}"),
            None => {}
        }
        t.news.moved = true;
        for addr in outcome.peers {
            t.known.add(addr, Source::Tracker, now);
        }
        if let Some(ip) = outcome.external_ip {
            self.on_external_ip(ip);
        }
    }

    /// A call goes out as soon as its host has its turn.
    pub(super) fn call(&mut self, call: Call, now: Time) {
        self.calls.push(call);
        self.pump_calls(now);
    }

    pub(super) fn pump_calls(&mut self, now: Time) {
        while let Some(mut call) = self.calls.next(now) {
            if let Call::Announce { torrent, request, .. } = &mut call {
                self.refresh(*torrent, request, now);
            }
            self.actions.push_back(Action::Call(Box::new(call)));
        }
        let due = self.calls.deadline();
        self.timers.arm(&mut self.calls.armed, due, Key::Calls);
    }

    /// What waits for a host that has just turned out dead goes elsewhere.
    pub(super) fn on_call_done(&mut self, reply: &Reply, now: Time) {
        let Some(rested) = self.calls.done(reply, now) else { return };
        for (id, tracker) in rested.who {
            let Some(t) = self.torrents.get_mut(id) else { continue };
            let outcome = t.announcer.on_rest(tracker, rested.until, rested.why.clone(), now);
            self.on_outcome(id, outcome, now);
            self.on_torrent_timer(id, now);
        }
    }

    pub(super) fn on_calls_timer(&mut self, at: Time, now: Time) {
        if self.calls.armed == at {
            self.calls.armed = Time::NEVER;
        }
        for (id, tracker) in self.calls.overdue(now) {
            let Some(t) = self.torrents.get_mut(id) else { continue };
            t.announcer.on_slow(tracker, now);
            self.on_torrent_timer(id, now);
        }
        self.pump_calls(now);
    }
}

/// True if trackers are asked before their interval is over: no address is known, or there is no peer and each address
/// waits for long after it failed.
fn has_nobody_to_call(t: &Torrent, now: Time) -> bool {
    t.known.deadline().is_none_or(|due| t.places == 0 && due > now + REDIAL)
}
