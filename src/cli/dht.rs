//! `ptorrent dht`: run a node of the DHT, look peers up, say how the table stands. Also what a download tells its own
//! node: where to begin, and the table of the last run.

use super::console::{Console, now, shown};
use super::json::{Object, array};
use super::options::DhtOptions;
use super::{Error, status_of_signal};
use crate::api::{Command, DhtSearch, DhtSetup, DhtSide, DhtStats, Encryption, Reason, Report};
use crate::engine::{self, Engine, Hangup};
use crate::limits::DHT_SAVED_BYTES;
use crate::proto::id::InfoHash;
use crate::sys::socket::Route;
use crate::sys::{atomic_file, private};
use crossbeam_channel::RecvTimeoutError;
use std::fs;
use std::io::{self, Read};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where to begin, when nobody says otherwise: nodes that others run for everybody.
const BOOTSTRAP: &[(&str, u16)] = &[
    ("router.bittorrent.com", 6881),
    ("dht.transmissionbt.com", 6881),
    ("dht.aelitis.com", 6881),
    ("dht.libtorrent.org", 25401),
    ("router.utorrent.com", 6881),
];
/// The file of the table in the state folder.
const TABLE: &str = "dht";
/// How the node stands is said this often.
const STATUS: Duration = Duration::from_secs(10);
/// A look-up may take so long, joining included.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long the other family may take once one has ended.
const OTHER_FAMILY: Duration = Duration::from_secs(5);

/// What the node of this process starts with.
pub(crate) fn setup(bind: &[IpAddr], bootstrap: &[(String, u16)], state_dir: Option<&Path>) -> DhtSetup {
    let local = |host: &str| host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    let any = bind.is_empty();
    // From loopback nobody else can be reached.
    let alone = !any && bind.iter().all(IpAddr::is_loopback);
    let named = || BOOTSTRAP.iter().filter(|_| !alone).map(|(host, port)| ((*host).to_owned(), *port));
    DhtSetup {
        v4: any || bind.iter().any(IpAddr::is_ipv4),
        v6: any || bind.iter().any(IpAddr::is_ipv6),
        loopback: bind.iter().any(IpAddr::is_loopback) || bootstrap.iter().any(|(host, _)| local(host)),
        bootstrap: if bootstrap.is_empty() { named().collect() } else { bootstrap.to_vec() },
        saved: state_dir.map(load).unwrap_or_default(),
    }
}

/// The table of the last run; nothing when there is none, or it cannot be read.
fn load(state_dir: &Path) -> Vec<u8> {
    let (path, mut bytes) = (state_dir.join(TABLE), Vec::new());
    let read = fs::File::open(&path)
        .inspect(private::tighten)
        .and_then(|file| file.take(DHT_SAVED_BYTES as u64 + 1).read_to_end(&mut bytes));
    match read {
        Ok(_) => bytes,
        Err(error) => {
            if error.kind() != io::ErrorKind::NotFound {
                log::warn!("cannot read {}: {error}", shown(&path));
            }
            Vec::new()
        }
    }
}

/// Keeps the table for the next run. It takes its name when it is whole: several processes may do so at a time.
pub(crate) fn save(state_dir: &Path, table: &[u8]) {
    let path = state_dir.join(TABLE);
    let written = private::make_state_folder(state_dir).and_then(|()| atomic_file::replace(&path, table));
    if let Err(error) = written {
        log::warn!("cannot write {}: {error}", shown(&path));
    }
}

/// Runs a node until a signal comes, or a look-up has ended.
pub(crate) fn run(options: &DhtOptions, console: &mut Console<'_>) -> Result<u8, Error> {
    let signals = console.install_signals(Hangup::End)?;
    let state_dir =
        options.state_dir.as_ref().map(|path| console.resolve(path)).or_else(|| console.state_dir());
    let setup = setup(&options.bind, &options.bootstrap, state_dir.as_deref());
    let engine = Engine::start(engine::Options {
        route: Route::new(&options.bind, options.device.clone()),
        roots: console.roots(),
        ports: options.ports.clone(),
        max_conn: 1,
        max_upload: 1,
        max_download_rate: 0,
        max_upload_rate: 0,
        max_metadata_size: crate::limits::METADATA_MAX_DEFAULT,
        encryption: Encryption::Disabled,
        torrents: 1,
        lanes: Some(1),
        lsd: false,
        pex: false,
        signals,
    })
    .map_err(|error| Error::Failed(Reason::Network, error.to_string()))?;
    let families = usize::from(setup.v4) + usize::from(setup.v6);
    engine.command(Command::Dht(Box::new(setup)));
    let mut watch = Watch {
        console,
        lookup: options.lookup,
        json: options.json,
        state_dir,
        families,
        searched: Vec::new(),
        peers: 0,
        signal: None,
        quitting: false,
    };
    let watched = watch.run(&engine);
    let status = watch.status();
    engine.join().map_err(|error| Error::Failed(Reason::Io, error.to_string()))?;
    watched?;
    status
}

struct Watch<'w, 'c> {
    console: &'w mut Console<'c>,
    lookup: Option<InfoHash>,
    json: bool,
    state_dir: Option<PathBuf>,
    families: usize,
    searched: Vec<DhtSearch>,
    peers: usize,
    signal: Option<i32>,
    quitting: bool,
}

impl Watch<'_, '_> {
    fn run(&mut self, engine: &Engine) -> Result<(), Error> {
        let mut end = None;
        if let Some(info_hash) = self.lookup {
            end = Some(now() + PATIENCE);
            engine.command(Command::DhtLookUp(info_hash));
        }
        let mut status = now() + Duration::from_secs(1);
        loop {
            let until = end.map_or(status, |end| status.min(end));
            match engine.reports().recv_deadline(until) {
                Ok(Report::Finished { .. }) => return Ok(()),
                Ok(report) => self.on_report(report)?,
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
                Err(RecvTimeoutError::Timeout) if now() >= status && !self.quitting => {
                    status = now() + STATUS;
                    if self.lookup.is_none() {
                        engine.command(Command::DhtStatus);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
            self.console.log(None);
            if let Some(last) = end
                && !self.searched.is_empty()
            {
                end = Some(last.min(now() + OTHER_FAMILY));
            }
            let done = self.lookup.is_some() && self.searched.len() >= self.families;
            if !self.quitting && (done || end.is_some_and(|end| end <= now()) || self.signal.is_some()) {
                self.quitting = true;
                engine.command(Command::DhtStatus);
                engine.command(Command::Quit);
                end = None;
            }
        }
    }

    fn on_report(&mut self, report: Report) -> Result<(), Error> {
        match report {
            Report::Listening { addr } if self.json => {
                self.line(&Object::event("listening").text("addr", &addr.to_string()).finish())
            }
            Report::Listening { addr } => {
                log::info!("listening on {addr}");
                Ok(())
            }
            Report::Signal { signal } => {
                self.signal = Some(signal);
                Ok(())
            }
            Report::DhtPeers { info_hash, peers } => self.on_peers(info_hash, &peers),
            Report::DhtSearched { info_hash, search } => self.on_searched(info_hash, search),
            Report::DhtStats(stats) => self.on_stats(&stats),
            Report::DhtTable(table) => {
                if let Some(dir) = &self.state_dir {
                    save(dir, &table);
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn line(&mut self, text: &str) -> Result<(), Error> {
        self.console.print(&format!("{text}\n"))
    }

    fn on_peers(&mut self, info_hash: InfoHash, peers: &[SocketAddr]) -> Result<(), Error> {
        self.peers += peers.len();
        if self.json {
            let peers = array(peers.iter().map(|peer| format!("\"{peer}\"")));
            let event = Object::event("peers").text("info_hash", &info_hash.to_string());
            return self.line(&event.raw("peers", peers).finish());
        }
        peers.iter().try_for_each(|peer| self.line(&peer.to_string()))
    }

    fn on_searched(&mut self, info_hash: InfoHash, search: DhtSearch) -> Result<(), Error> {
        self.searched.push(search);
        let family = if search.v6 { "IPv6" } else { "IPv4" };
        if self.json {
            let event = Object::event("searched").text("info_hash", &info_hash.to_string());
            let event = event.text("family", family).raw("asked", search.asked);
            let event = event.raw("answered", search.answered).raw("hops", search.hops);
            return self.line(&event.raw("peers", search.peers).finish());
        }
        log::info!(
            "{family}: {} peers; {} of {} nodes answered, {} hops",
            search.peers,
            search.answered,
            search.asked,
            search.hops
        );
        Ok(())
    }

    fn on_stats(&mut self, stats: &DhtStats) -> Result<(), Error> {
        if self.json {
            return self.line(&as_json(stats));
        }
        if self.lookup.is_some() || self.console.is_quiet() {
            return Ok(());
        }
        self.console.print(&as_text(stats))
    }

    fn status(&self) -> Result<u8, Error> {
        let Some(info_hash) = self.lookup else { return Ok(0) };
        if let Some(signal) = self.signal {
            return Ok(status_of_signal(signal));
        }
        if self.searched.iter().all(|search| search.answered == 0) {
            let text = "no node of the DHT answered; see --dht-bootstrap".to_owned();
            return Err(Error::Failed(Reason::Network, text));
        }
        if self.peers == 0 {
            return Err(Error::Failed(Reason::Network, format!("{info_hash}: the DHT knows no peers")));
        }
        Ok(0)
    }
}

fn side_json(side: &DhtSide) -> String {
    let object = Object::new().text("id", &side.id.to_string()).raw("good", side.table.good);
    let object = object.raw("questionable", side.table.questionable).raw("spare", side.table.spare);
    let object = object.raw("buckets", side.table.buckets).raw("read_only", side.read_only);
    object.maybe("external", side.external.map(|ip| ip.to_string()).as_deref()).finish()
}

fn as_json(stats: &DhtStats) -> String {
    let mut object = Object::event("dht");
    for (name, side) in ["ipv4", "ipv6"].into_iter().zip(&stats.sides) {
        if let Some(side) = side {
            object = object.raw(name, side_json(side));
        }
    }
    object = object.raw("stored_torrents", stats.stored_torrents).raw("stored_peers", stats.stored_peers);
    object = object.raw("packets_in", stats.packets.0).raw("packets_out", stats.packets.1);
    object = object.raw("bytes_in", stats.bytes.0).raw("bytes_out", stats.bytes.1);
    object.raw("queries", stats.queries.0).raw("dropped", stats.queries.1).finish()
}

fn as_text(stats: &DhtStats) -> String {
    let mut text = String::new();
    for (name, side) in ["IPv4", "IPv6"].into_iter().zip(&stats.sides) {
        let Some(DhtSide { id, table, external, read_only }) = side else { continue };
        let seen = external.map_or(String::new(), |ip| format!(", seen at {ip}"));
        let mode = if *read_only { ", read-only" } else { "" };
        text += &format!(
            "{name}: {} good and {} questionable nodes in {} buckets{seen}{mode}; id {id}\n",
            table.good, table.questionable, table.buckets
        );
    }
    text + &format!(
        "kept for others: {} peers of {} torrents; datagrams in {} out {}; queries {}, dropped {}\n",
        stats.stored_peers,
        stats.stored_torrents,
        stats.packets.0,
        stats.packets.1,
        stats.queries.0,
        stats.queries.1
    )
}

/// `--lookup`.
pub(crate) fn lookup(text: &str) -> Result<InfoHash, String> {
    text.parse().map_err(|error: crate::proto::id::Error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many names a node that is bound so begins with.
    fn names(bind: &[&str], bootstrap: &[(String, u16)]) -> usize {
        let bind: Vec<IpAddr> = bind.iter().map(|text| text.parse().unwrap()).collect();
        setup(&bind, bootstrap, None).bootstrap.len()
    }

    #[test]
    fn who_is_bound_to_loopback_asks_nobody_elsewhere() {
        assert_eq!((names(&["127.0.0.1"], &[]), names(&["127.0.0.1", "::1"], &[])), (0, 0));
        assert_eq!(
            (names(&[], &[]), names(&["127.0.0.1", "9.8.7.6"], &[])),
            (BOOTSTRAP.len(), BOOTSTRAP.len())
        );
        assert_eq!(names(&["127.0.0.1"], &[("localhost".to_owned(), 1)]), 1);
    }

    #[test]
    fn table_is_for_its_owner_only() {
        use std::os::unix::fs::PermissionsExt;
        let state = std::env::temp_dir().join(format!("ptorrent-dht-{}", std::process::id()));
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        save(&state, b"table");
        assert_eq!((load(&state), mode(&state), mode(&state.join(TABLE))), (b"table".to_vec(), 0o700, 0o600));
        fs::set_permissions(state.join(TABLE), PermissionsExt::from_mode(0o644)).unwrap();
        assert_eq!((load(&state), mode(&state.join(TABLE))), (b"table".to_vec(), 0o600));
        fs::remove_dir_all(state).unwrap();
    }

    #[test]
    fn the_families_are_those_that_it_is_bound_to() {
        let families = |text: &str| {
            let setup = setup(&[text.parse().unwrap()], &[], None);
            (setup.v4, setup.v6, setup.loopback)
        };
        assert_eq!(families("9.8.7.6"), (true, false, false));
        assert_eq!(families("2001:470::1"), (false, true, false));
        assert_eq!(families("127.0.0.1"), (true, false, true));
    }
}
