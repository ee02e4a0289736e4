//! All that there is to tell at one moment (SIGUSR1): built when the program has room for it, once for all who asked.

use super::Session;
use super::peer::{Peer, Stage};
use super::torrent::{Phase, Torrent, Wish, progress};
use crate::api::{PeerId, PeerStatus, State, Status, TorrentId, TorrentStatus};
use crate::base::time::Time;
use crate::limits::{STATUS_PEERS_MAX, STATUS_TRACKERS_MAX};
use crate::proto::wire::handshake::client_name;
use std::time::Duration;

impl Session {
    /// The table of all torrents and peers.
    pub(super) fn status(&self, now: Time) -> Status {
        let mut torrents: Vec<_> = self.torrents.iter().collect();
        torrents.sort_by_key(|(_, t)| t.number);
        let mut peers = Vec::new();
        for (_, t) in &torrents {
            let room = STATUS_PEERS_MAX - peers.len();
            let of_torrent = t.peers.iter().filter_map(|peer| Some((*peer, self.peers.get(*peer)?)));
            peers.extend(of_torrent.take(room).map(|(id, p)| peer_status(id, p, Some(t.number), now)));
        }
        // Those that are being dialled, or whose handshake is not in, are in no torrent's list.
        let others = self.peers.iter().filter(|(_, p)| p.stage != Stage::Open);
        let room = STATUS_PEERS_MAX - peers.len();
        peers.extend(others.take(room).map(|(id, p)| peer_status(id, p, self.number_of(p.torrent), now)));
        let (calls_out, calls_waiting) = self.calls.counts();
        Status {
            uptime: Duration::from_micros(now.0),
            torrents: torrents.iter().map(|(_, t)| self.torrent_status(t, now)).collect(),
            peers_left_out: self.peers.len().saturating_sub(peers.len()),
            peers,
            half_open: self.half_open,
            calls_out,
            calls_waiting,
            lanes: self.lanes.status(),
            receiving: self.lanes.receiving(),
            sending: self.round.sending(),
            buffers: (0, 0),
        }
    }

    fn number_of(&self, torrent: Option<TorrentId>) -> Option<u32> {
        Some(self.torrents.get(torrent?)?.number)
    }

    fn torrent_status(&self, t: &Torrent, now: Time) -> TorrentStatus {
        let mut trackers = t.announcer.table(now);
        trackers.truncate(STATUS_TRACKERS_MAX);
        TorrentStatus {
            number: t.number,
            state: state(t),
            progress: progress(t, self.seeds(t), self.stuck(t, now), now),
            downloaded_ever: t.before.downloaded.saturating_add(t.downloaded),
            begun: t.picker.begun(),
            known: t.known.len(),
            trackers,
            web_seeds: t.web.table(now, STATUS_TRACKERS_MAX),
        }
    }
}

fn state(t: &Torrent) -> State {
    match t.phase {
        _ if t.wish == Wish::Pause => State::Paused,
        _ if t.full.is_so() => State::Full,
        Phase::Fetching => State::Metadata,
        Phase::Opening | Phase::Checking(_) => State::Checking,
        Phase::Running if t.downloading() => State::Downloading,
        Phase::Running => State::Seeding,
        Phase::Closing { .. } | Phase::Closed if t.failed => State::Error,
        Phase::Closing { .. } | Phase::Closed => State::Stopped,
    }
}

fn peer_status(id: PeerId, p: &Peer, number: Option<u32>, now: Time) -> PeerStatus {
    PeerStatus {
        id,
        number,
        addr: p.addr,
        outgoing: p.outgoing,
        encrypted: p.encrypted,
        connected: p.stage != Stage::Connecting,
        open: p.stage == Stage::Open,
        client: match &p.spoken.client {
            Some(name) => name.to_string(),
            None if p.stage == Stage::Open => client_name(&p.id),
            None => String::new(),
        },
        fast: p.fast.on,
        extended: p.spoken.on,
        upload_only: p.spoken.upload_only,
        am_interested: p.am_interested,
        am_choking: p.am_choking,
        interested: p.interested,
        choking: p.choking,
        snubbed: p.snubbed,
        waiting: p.waiting,
        pieces: (p.has.count(), p.has.len()),
        download_rate: p.rate(now),
        upload_rate: p.up.per_second(3, now),
        downloaded: p.downloaded,
        uploaded: p.uploaded,
        requests_out: p.asked.len(),
        requests_in: p.queue.len() + p.reading as usize + p.sending as usize,
    }
}
