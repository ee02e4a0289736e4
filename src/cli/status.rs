//! The table of SIGUSR1: what each torrent and each peer is doing, as text for people.

use super::progress::{View, ratio, state_word};
use super::text::{count, fit, percent, rate, size, span, width};
use crate::api::{PeerStatus, Status, TorrentStatus};
use crate::proto::mse::Method;
use std::fmt::Write;

/// What the letters of a peer mean.
const LEGEND: &str =
    "  flags: I came in, D d gives us (d: would, but chokes us), U u we give (u: it wants, we choke it), \
    K ? unchoked without use,
         E encrypted (e: its handshake only), S snubs us, W waits for the disk, O wants nothing more,
         F fast extension, X extension protocol, C connecting, H shaking hands\n";

/// The table; every line ends with a line end. `views` are the torrents by their numbers.
pub(crate) fn table(status: &Status, views: &[View]) -> String {
    let mut text = String::new();
    head(&mut text, status);
    for torrent in &status.torrents {
        let Some(view) = views.get(torrent.number as usize) else { continue };
        torrent_lines(&mut text, torrent, view);
        let mut peers = status.peers.iter().filter(|peer| peer.number == Some(torrent.number)).peekable();
        if peers.peek().is_some() {
            rows(&mut text, peers);
        }
    }
    let mut strangers = status.peers.iter().filter(|peer| peer.number.is_none()).peekable();
    if strangers.peek().is_some() {
        text.push_str("peers of no torrent yet\n");
        rows(&mut text, strangers);
    }
    if status.peers_left_out > 0 {
        let _ = writeln!(text, "and {}", count(status.peers_left_out as u64, "more peer"));
    }
    if !status.peers.is_empty() {
        text.push_str(LEGEND);
    }
    text
}

/// What belongs to no torrent. Writing to a String cannot fail, here and below.
fn head(text: &mut String, s: &Status) {
    let (torrents, peers) = (s.torrents.len() as u64, (s.peers.len() + s.peers_left_out) as u64);
    let _ = writeln!(
        text,
        "ptorrent: status after {}: {}, {} ({} being made)",
        span(s.uptime),
        count(torrents, "torrent"),
        count(peers, "connection"),
        s.half_open
    );
    let _ = writeln!(
        text,
        "  buffers: {} of {} out; blocks coming or at the disk: {} of {}; blocks going out: {} of {}",
        s.buffers.0, s.buffers.1, s.receiving.0, s.receiving.1, s.sending.0, s.sending.1
    );
    for (at, lane) in s.lanes.iter().enumerate() {
        let (writing, coming) = (size(lane.writing), size(lane.coming));
        let reads = count(lane.reads, "read");
        let _ = writeln!(text, "  disk worker {at}: {writing} to write, {coming} coming, {reads}");
    }
    let _ =
        writeln!(text, "  helpers: {} out, {} waiting", count(s.calls_out as u64, "call"), s.calls_waiting);
}

fn torrent_lines(text: &mut String, t: &TorrentStatus, view: &View) {
    let p = &t.progress;
    let _ = writeln!(text, "torrent {} {}", t.number, view.name);
    let _ = writeln!(
        text,
        "  {} {} {} ({} of {}), {} begun",
        view.info_hash,
        state_word(t.state),
        percent(p.have, p.total),
        size(p.have),
        size(p.total),
        count(t.begun as u64, "piece")
    );
    let _ = writeln!(
        text,
        "  down {} ({}, in all runs {}), up {} ({}, in all runs {}), ratio {}",
        rate(p.download_rate),
        size(p.downloaded),
        size(t.downloaded_ever),
        rate(p.upload_rate),
        size(p.uploaded),
        size(p.uploaded_ever),
        ratio(p.uploaded_ever, p.total)
    );
    if let Some(why) = view.reason.as_ref().or(p.stuck.as_ref()) {
        let _ = writeln!(text, "  {why}");
    }
    let (peers, seeds) = (count(p.peers, "peer"), count(p.seeds, "seed"));
    let _ = writeln!(text, "  {peers} ({seeds}), {} known", addresses(t.known));
    for (url, word) in &t.trackers {
        let _ = writeln!(text, "  tracker {url} {word}");
    }
    for web in &t.web_seeds {
        let (down, got) = (rate(web.download_rate), size(web.downloaded));
        let _ = writeln!(text, "  web seed {} {}, down {down} ({got})", web.url, web.word);
    }
}

fn addresses(n: usize) -> String {
    if n == 1 { "1 address".into() } else { format!("{n} addresses") }
}

/// One row for each peer, under a row of words, in columns as wide as they have to be.
fn rows<'a>(text: &mut String, peers: impl Iterator<Item = &'a PeerStatus>) {
    let words = ["id", "address", "client", "flags", "has", "down", "up", "got", "sent", "asked", "asks"];
    let mut table = vec![words.map(str::to_string)];
    table.extend(peers.map(cells));
    let widths: [usize; 11] =
        std::array::from_fn(|column| table.iter().map(|row| width(&row[column])).max().unwrap_or(0));
    for row in &table {
        let cells: Vec<String> = row.iter().zip(widths).map(|(cell, width)| fit(cell, width)).collect();
        let _ = writeln!(text, "  {}", cells.join("  ").trim_end());
    }
}

fn cells(p: &PeerStatus) -> [String; 11] {
    let (have, all) = p.pieces;
    [
        p.id.to_string(),
        p.addr.to_string(),
        p.client.clone(),
        flags(p),
        if p.open { percent(have.into(), all.into()) } else { String::new() },
        rate(p.download_rate),
        rate(p.upload_rate),
        size(p.downloaded),
        size(p.uploaded),
        p.requests_out.to_string(),
        p.requests_in.to_string(),
    ]
}

fn flags(p: &PeerStatus) -> String {
    let stage = match (p.open, p.connected) {
        (true, _) => None,
        (false, true) => Some('H'),
        (false, false) => Some('C'),
    };
    let down = match (p.am_interested, p.choking) {
        (true, false) => Some('D'),
        (true, true) => Some('d'),
        (false, false) => Some('K'),
        (false, true) => None,
    };
    let up = match (p.interested, p.am_choking) {
        (true, false) => Some('U'),
        (true, true) => Some('u'),
        (false, false) => Some('?'),
        (false, true) => None,
    };
    let encrypted = p.encrypted.map(|method| if method == Method::Rc4 { 'E' } else { 'e' });
    let others = [
        (!p.outgoing, 'I'),
        (p.snubbed, 'S'),
        (p.waiting, 'W'),
        (p.upload_only, 'O'),
        (p.fast, 'F'),
        (p.extended, 'X'),
    ];
    let [came, snubs, waits, sated, fast, extended] = others.map(|(is, letter)| is.then_some(letter));
    [came, stage, down, up, encrypted, snubs, waits, sated, fast, extended].into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::super::progress::tests::view;
    use super::*;
    use crate::api::{LaneStatus, PeerId, Progress, State, WebStatus};
    use crate::base::arena::Handle;
    use std::time::Duration;

    fn peer(number: Option<u32>, port: u16) -> PeerStatus {
        PeerStatus {
            id: PeerId::from_bits(u32::from(port)),
            number,
            addr: ([127, 0, 0, 1], port).into(),
            outgoing: true,
            encrypted: None,
            connected: true,
            open: true,
            client: "qBittorrent 4.6.5".into(),
            fast: true,
            extended: true,
            upload_only: false,
            am_interested: true,
            am_choking: true,
            interested: true,
            choking: false,
            snubbed: true,
            waiting: false,
            pieces: (1, 3),
            download_rate: 2048,
            upload_rate: 0,
            downloaded: 1 << 20,
            uploaded: 7,
            requests_out: 12,
            requests_in: 3,
        }
    }

    #[test]
    fn it_tells_of_torrents_and_peers_in_columns() {
        let torrent = |number| TorrentStatus {
            number,
            state: State::Downloading,
            progress: Progress {
                total: 2048,
                have: 1024,
                uploaded_ever: 4096,
                peers: 1,
                ..Progress::default()
            },
            downloaded_ever: 5,
            begun: 1,
            known: 2,
            trackers: vec![("http://x:80/...".into(), "works, next announce in 9 s".into())],
            web_seeds: vec![WebStatus {
                url: "http://w/…".into(),
                word: "is asked".into(),
                download_rate: 1024,
                downloaded: 2048,
            }],
        };
        let mut stranger = peer(None, 9);
        (stranger.open, stranger.outgoing, stranger.client) = (false, false, String::new());
        (stranger.fast, stranger.extended) = (false, false);
        stranger.encrypted = Some(Method::Plain);
        let mut first = peer(Some(1), 6881);
        first.encrypted = Some(Method::Rc4);
        let status = Status {
            uptime: Duration::from_secs(61),
            torrents: vec![torrent(0), torrent(1)],
            peers: vec![first, stranger],
            peers_left_out: 1,
            half_open: 0,
            calls_out: 1,
            calls_waiting: 2,
            lanes: vec![LaneStatus { writing: 16384, coming: 0, reads: 1 }],
            receiving: (3, 40),
            sending: (4, 50),
            buffers: (7, 90),
        };
        let text = table(&status, &[view("one", State::Downloading), view("two", State::Downloading)]);
        let hash = "ab".repeat(20);
        let due = format!(
            "ptorrent: status after 1:01: 2 torrents, 3 connections (0 being made)
  buffers: 7 of 90 out; blocks coming or at the disk: 3 of 40; blocks going out: 4 of 50
  disk worker 0: 16.0 KiB to write, 0 B coming, 1 read
  helpers: 1 call out, 2 waiting
torrent 0 one
  {hash} downloading 50.0% (1.0 KiB of 2.0 KiB), 1 piece begun
  down 0 B/s (0 B, in all runs 5 B), up 0 B/s (0 B, in all runs 4.0 KiB), ratio 2.00
  1 peer (0 seeds), 2 addresses known
  tracker http://x:80/... works, next announce in 9 s
  web seed http://w/… is asked, down 1.0 KiB/s (2.0 KiB)
torrent 1 two
  {hash} downloading 50.0% (1.0 KiB of 2.0 KiB), 1 piece begun
  down 0 B/s (0 B, in all runs 5 B), up 0 B/s (0 B, in all runs 4.0 KiB), ratio 2.00
  1 peer (0 seeds), 2 addresses known
  tracker http://x:80/... works, next announce in 9 s
  web seed http://w/… is asked, down 1.0 KiB/s (2.0 KiB)
  id       address         client             flags   has    down       up     got      sent  asked  asks
  p6881.0  127.0.0.1:6881  qBittorrent 4.6.5  DuESFX  33.3%  2.0 KiB/s  0 B/s  1.0 MiB  7 B   12     3
peers of no torrent yet
  id    address      client  flags   has  down       up     got      sent  asked  asks
  p9.0  127.0.0.1:9          IHDueS       2.0 KiB/s  0 B/s  1.0 MiB  7 B   12     3
and 1 more peer
"
        );
        assert_eq!(text, due + LEGEND);
    }
}
