//! The metadata of a magnet link, for a command that waits for it: an engine that asks the swarm and then ends.

use super::console::{Console, Stream, now};
use super::options::Show;
use super::progress::View;
use super::torrent::{Found, warn_of_names, with_sources};
use super::{Error, dht, status_of_signal};
use crate::api::{Command, DiskIo, Prealloc, Reason, Report, Spec};
use crate::engine::{self, Engine, Hangup, Roots, Signals};
use crate::proto::metainfo::Metainfo;
use crate::proto::tracker::url::Url;
use crate::sys::socket::Route;
use crossbeam_channel::RecvTimeoutError;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// What came of it.
pub(crate) enum Fetched {
    /// The torrent.
    Here(Box<Found>),
    /// A signal ended it: the exit status.
    Signal(u8),
}

/// Connections for it: some of those who answer have not got it themselves.
const CONNECTIONS: usize = 30;

/// Fetches what a link leads to. It takes as long as it takes; on a terminal one sees how far it is.
pub(crate) fn fetch(
    found: Found,
    options: &Show,
    state_dir: Option<&Path>,
    console: &mut Console<'_>,
) -> Result<Fetched, Error> {
    let signals = console.install_signals(Hangup::End)?;
    let spec = spec(&found, options, state_dir);
    let mut view = View::new(spec.meta.name.clone(), spec.meta.info_hash);
    if spec.trackers.is_empty() && spec.peers.is_empty() && !options.dht && !options.lsd {
        let why = "nobody can be asked for its metadata: no tracker, no peer, no DHT and no local discovery";
        return Err(Error::Failed(Reason::Network, format!("{}: {why}", view.name)));
    }
    let engine = Engine::start(engine_options(options, console.roots(), signals))
        .map_err(|error| Error::Failed(Reason::Network, error.to_string()))?;
    if options.dht {
        let setup = dht::setup(&options.bind, &options.dht_bootstrap, state_dir);
        engine.command(Command::Dht(Box::new(setup)));
    }
    engine.command(Command::Add { number: 0, spec: Arc::new(spec) });
    let mut watch = Watch { view: &mut view, console, result: None };
    let watched = watch.run(&engine);
    let result = watch.result;
    engine.join().map_err(|error| Error::Failed(Reason::Io, error.to_string()))?;
    console.clear_status()?;
    watched?;
    match result {
        Some(Ok(meta)) => {
            warn_of_names(&meta, &meta.name, console);
            let magnet = found.magnet;
            let meta = match &magnet {
                Some(magnet) => with_sources(*meta, magnet),
                None => *meta,
            };
            Ok(Fetched::Here(Box::new(Found { meta, magnet })))
        }
        Some(Err(Ended::Signal(signal))) => Ok(Fetched::Signal(status_of_signal(signal))),
        Some(Err(Ended::Error(reason, why))) => Err(Error::Failed(reason, format!("{}: {why}", view.name))),
        None => Err(Error::Failed(Reason::Io, "the engine ended by itself".into())),
    }
}

fn engine_options(options: &Show, roots: Roots, signals: Option<Signals>) -> engine::Options {
    engine::Options {
        route: Route::new(&options.bind, options.device.clone()),
        roots,
        ports: options.ports.clone(),
        max_conn: CONNECTIONS,
        max_upload: 1,
        max_download_rate: 0,
        max_upload_rate: 0,
        max_metadata_size: options.max_metadata_size,
        encryption: options.encryption,
        torrents: 1,
        lanes: Some(1),
        lsd: options.lsd,
        pex: options.pex,
        signals,
    }
}

/// Of a torrent that nothing is downloaded of.
fn spec(found: &Found, options: &Show, state_dir: Option<&Path>) -> Spec {
    let urls = found.meta.trackers.iter().flatten().filter_map(|text| Url::parse(text).ok());
    let peers = found.magnet.iter().flat_map(|magnet| &magnet.peers);
    Spec {
        meta: found.meta.clone(),
        dir: PathBuf::new(),
        wanted: Vec::new(),
        seed_only: true,
        overwrite: false,
        prealloc: Prealloc::Sparse,
        disk_io: DiskIo::Auto,
        sequential: false,
        super_seed: false,
        seed_ratio: None,
        seed_time: None,
        // Of two that are the same the user's own is the freer one.
        trackers: options.trackers.iter().cloned().chain(urls).map(|url| vec![url]).collect(),
        web_seeds: Vec::new(),
        peers: peers.chain(&options.peers).cloned().collect(),
        state_dir: state_dir.map(Path::to_path_buf),
    }
}

/// What ends it without metadata.
enum Ended {
    Signal(i32),
    Error(Reason, String),
}

struct Watch<'w, 'c> {
    view: &'w mut View,
    console: &'w mut Console<'c>,
    result: Option<Result<Box<Metainfo>, Ended>>,
}

impl Watch<'_, '_> {
    /// Takes reports until the engine has ended, which is told to when there is a result.
    fn run(&mut self, engine: &Engine) -> Result<(), Error> {
        let (mut show, mut quitting) = (now() + Duration::from_secs(1), false);
        let mut shown = Ok(());
        loop {
            match engine.reports().recv_deadline(show) {
                Ok(Report::Finished { .. }) | Err(RecvTimeoutError::Disconnected) => return shown,
                Ok(report) => self.on_report(report),
                Err(RecvTimeoutError::Timeout) => {
                    show = now() + Duration::from_millis(250);
                    if shown.is_ok() {
                        shown = self.draw();
                    }
                }
            }
            self.console.log(None);
            if !quitting && (self.result.is_some() || shown.is_err()) {
                quitting = true;
                engine.command(Command::Quit);
            }
        }
    }

    fn on_report(&mut self, report: Report) {
        match report {
            Report::Metadata { meta, .. } => self.end(Ok(meta)),
            Report::Signal { signal } => self.end(Err(Ended::Signal(signal))),
            Report::State { state, reason, .. } => {
                (self.view.state, self.view.reason) = (Some(state), reason);
            }
            Report::Progress { progress, .. } => self.view.progress = progress,
            Report::Error { reason, message, .. } if reason == Reason::Metainfo => {
                self.end(Err(Ended::Error(reason, message)));
            }
            // The next tracker or peer may know more.
            Report::Error { message, .. } | Report::Warning { message, .. } => {
                self.console.warn(&format!("{}: {message}", self.view.name));
            }
            _ => {}
        }
    }

    fn end(&mut self, result: Result<Box<Metainfo>, Ended>) {
        self.result.get_or_insert(result);
    }

    fn draw(&mut self) -> Result<(), Error> {
        if self.console.is_quiet() || !self.console.is_terminal(Stream::Err) {
            return Ok(());
        }
        let line = self.view.status_line(self.console.size().0);
        self.console.show_status(Stream::Err, vec![line])
    }
}
