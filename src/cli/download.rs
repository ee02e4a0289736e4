//! The download: torrents to the engine, its reports to the user, an exit status at the end.

use super::console::{Console, Stream, now};
use super::dht;
use super::hook::{Ended, Facts, Hooks};
use super::json::Object;
use super::keys::{Key, Keys};
use super::options::Download;
use super::overview::status_lines;
use super::progress::{View, reason_word};
use super::status::table;
use super::text::count;
use super::torrent::{Found, Sources, chosen, find, warn_of_names, warn_of_urls, web_seed, with_sources};
use super::{Error, failed, status_of_signal};
use crate::api::{Command, Reason, Report, Spec, State};
use crate::engine::{self, Client, Engine, Hangup, Roots, Signals, no_hurry};
use crate::proto::magnet::Magnet;
use crate::proto::metainfo::Metainfo;
use crate::proto::tracker::url::Url;
use crate::sys::socket::Route;
use crossbeam_channel::{Receiver, after, never, select};
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Plain lines of progress are this far apart.
const PLAIN: Duration = Duration::from_secs(10);
/// Status lines are drawn this far apart at least: a burst of reports is one picture.
const FRAME: Duration = Duration::from_millis(100);

/// Runs the torrents until they are complete (`--exit`) or a signal comes. What ends all of them is an event, too.
pub(crate) fn run(options: &Download, console: &mut Console<'_>) -> Result<u8, Error> {
    let result = run_all(options, console);
    if let Err(Error::Failed(reason, why)) = &result
        && options.json
    {
        let event = Object::event("error").text("message", why).text("reason", reason_word(*reason)).finish();
        console.print(&(event + "\n"))?;
    }
    result
}

fn run_all(options: &Download, console: &mut Console<'_>) -> Result<u8, Error> {
    // Torrents are opened for a while where there are many of them.
    let signals = console.install_signals(match console.has_log_file() {
        true => Hangup::Reopen,
        false => Hangup::End,
    })?;
    let (wishes, failures) = wishes(options, signals.as_ref(), console)?;
    if wishes.is_empty() {
        return Ok(1);
    }
    let (specs, links): (Vec<Spec>, Vec<Option<Magnet>>) =
        wishes.into_iter().map(|wish| (wish.spec, wish.magnet)).unzip();
    let views = specs.iter().map(|spec| View::new(spec.meta.name.clone(), spec.meta.info_hash)).collect();
    let facts = specs.iter().map(|spec| facts(spec, console)).collect();
    let public = specs.iter().any(|spec| !spec.meta.private);
    let started = Engine::start(engine_options(options, console.roots(), specs.len(), public, signals));
    let engine = started.map_err(|e| unable(&e))?;
    let state_dir = specs.iter().find_map(|spec| spec.state_dir.clone());
    // Without a torrent that may use it there is no need of a node.
    if options.dht && public {
        let setup = dht::setup(&options.bind, &options.dht_bootstrap, state_dir.as_deref());
        engine.command(Command::Dht(Box::new(setup)));
    }
    for (number, spec) in (0..).zip(specs) {
        engine.command(Command::Add { number, spec: Arc::new(spec) });
    }
    let mut watch = Watch::new(views, facts, failures, options, console);
    (watch.state_dir, watch.links) = (state_dir, links);
    let keys = watch.keys()?;
    let pressed = keys.as_ref().map_or_else(never, |keys| keys.pressed.clone());
    let status = watch.run(engine.reports(), pressed, &|command| {
        // An engine that has ended has closed its reports, too.
        engine.command(command);
    });
    drop(keys);
    let joined = engine.join().map_err(|e| unable(&e));
    watch.wait_for_hooks();
    joined?;
    status.unwrap_or_else(|| Err(Error::Failed(Reason::Io, "the engine ended by itself".into())))
}

fn unable(error: &engine::Error) -> Error {
    let reason = if matches!(error, engine::Error::Listen(_)) { Reason::Network } else { Reason::Io };
    Error::Failed(reason, error.to_string())
}

fn engine_options(
    options: &Download,
    roots: Roots,
    torrents: usize,
    public: bool,
    signals: Option<Signals>,
) -> engine::Options {
    engine::Options {
        route: Route::new(&options.bind, options.device.clone()),
        roots,
        ports: options.ports.clone(),
        max_conn: options.max_conn,
        max_upload: options.max_upload,
        max_download_rate: options.max_download_rate,
        max_upload_rate: options.max_upload_rate,
        max_metadata_size: options.max_metadata_size,
        encryption: options.encryption,
        torrents,
        pex: options.pex,
        lsd: options.lsd && public,
        lanes: None,
        signals,
    }
}

/// A TORRENT and how it is wanted.
struct Wish {
    spec: Spec,
    /// The link that it was.
    magnet: Option<Magnet>,
}

/// Reads every TORRENT. One that cannot be read is said at once and does not stop the others; the second answer is
/// whether there is one.
fn wishes(
    options: &Download,
    signals: Option<&Signals>,
    console: &mut Console<'_>,
) -> Result<(Vec<Wish>, bool), Error> {
    let state_dir = match &options.state_dir {
        Some(path) => Some(console.resolve(path)),
        None => console.state_dir(),
    };
    if let Some(state) = &state_dir {
        engine::sweep_state(state);
    }
    let (mut wishes, mut failures) = (Vec::<Wish>::new(), false);
    let route = Route::new(&options.bind, options.device.clone());
    let client = Client::new(route, console.roots());
    let sources = Sources { client, state: state_dir.as_deref(), signals };
    for torrent in &options.torrents {
        sources.check_signal()?;
        match find(torrent, &sources, console) {
            Ok(Found { meta, .. })
                if wishes.iter().any(|wish| wish.spec.meta.info_hash == meta.info_hash) =>
            {
                console.warn(&format!("{}: given twice", meta.name));
            }
            Ok(found) => {
                warn_of_urls(&found, console);
                let Found { mut meta, magnet } = found;
                if let Some(state) = state_dir.as_ref().filter(|_| meta.is_known())
                    && let Err(error) = engine::keep_on_disk(&mut meta, state)
                {
                    log::info!("{} stays in memory: {}: {error}", meta.name, state.display());
                }
                let name = meta.name.clone();
                let spec = spec(meta, magnet.as_ref(), options, console).map_err(|error| match error {
                    Error::Failed(reason, why) => Error::Failed(reason, format!("{name}: {why}")),
                    other => other,
                })?;
                warn_if_alone(&spec, options, console);
                wishes.push(Wish { spec, magnet });
            }
            Err(Error::Failed(reason, why)) => {
                failures = true;
                console.error(&why);
                if options.json {
                    let event = Object::event("error").text("message", &why);
                    console.print(&(event.text("reason", reason_word(reason)).finish() + "\n"))?;
                }
            }
            Err(other) => return Err(other),
        }
    }
    sources.check_signal()?;
    if !wishes.is_empty() && state_dir.is_none() {
        console.warn("there is no HOME, so nothing is remembered for the next run; see --state-dir");
    }
    wishes.iter_mut().for_each(|wish| wish.spec.state_dir.clone_from(&state_dir));
    let dir = console.resolve(&options.dir);
    if !wishes.is_empty() && !options.seed {
        let name = super::console::shown(&dir);
        fs::create_dir_all(&dir).map_err(|e| failed(format_args!("cannot make the folder {name}"), &e))?;
    }
    Ok((wishes, failures))
}

/// Says why nothing will move, where nobody can be asked for what a link leads to.
fn warn_if_alone(spec: &Spec, options: &Download, console: &mut Console<'_>) {
    let alone = spec.trackers.is_empty() && spec.peers.is_empty() && !options.dht && !options.lsd;
    if alone && !spec.meta.is_known() {
        console.warn(&format!(
            "{}: nobody can be asked for its metadata: the link names no tracker and no peer, and the DHT and \
             local discovery are off; see --tracker and --peer",
            spec.meta.name
        ));
    }
}

fn spec(
    meta: Metainfo,
    magnet: Option<&Magnet>,
    options: &Download,
    console: &mut Console<'_>,
) -> Result<Spec, Error> {
    let wanted = if meta.is_known() {
        chosen(&meta, options.select.as_deref(), magnet)?
    } else {
        // Which files there are is to be seen.
        Vec::new()
    };
    let mut trackers: Vec<Vec<Url>> = Vec::new();
    for tier in &meta.trackers {
        let mut urls = Vec::new();
        for text in tier {
            if let Ok(url) = Url::parse(text) {
                // Named by the user as well, it is as free as if it were not here.
                let named = options.trackers.iter().find(|named| **named == url);
                urls.push(named.cloned().unwrap_or(url));
            }
        }
        trackers.push(urls);
    }
    trackers.retain(|tier| !tier.is_empty());
    let known = |url: &Url| trackers.iter().flatten().any(|other| other == url);
    let more: Vec<_> =
        options.trackers.iter().filter(|url| !known(url)).map(|url| vec![url.clone()]).collect();
    trackers.extend(more);
    let web_seeds = meta.web_seeds.iter().filter_map(|text| web_seed(text).ok()).collect();
    Ok(Spec {
        dir: console.resolve(&options.dir),
        wanted,
        seed_only: options.seed,
        overwrite: options.overwrite,
        prealloc: options.prealloc,
        disk_io: options.disk_io,
        sequential: options.sequential,
        super_seed: options.super_seed,
        seed_ratio: options.seed_ratio,
        seed_time: options.seed_time,
        trackers,
        web_seeds,
        peers: options.peers.iter().chain(magnet.map_or(&[][..], |magnet| &magnet.peers)).cloned().collect(),
        state_dir: None,
        meta,
    })
}

/// What a command of `--on-complete` is told that does not change.
fn facts(spec: &Spec, console: &Console<'_>) -> Facts {
    // Relative to nothing: the command may go elsewhere.
    let dir = std::path::absolute(&spec.dir).unwrap_or_else(|_| console.resolve(&spec.dir));
    let files = spec.wanted.iter().filter(|wanted| **wanted).count();
    vec![
        ("PTORRENT_NAME", spec.meta.name.clone().into()),
        ("PTORRENT_INFO_HASH", spec.meta.info_hash.to_string().into()),
        ("PTORRENT_PATH", dir.join(&spec.meta.name).into()),
        ("PTORRENT_DIR", dir.into()),
        ("PTORRENT_FILES", files.to_string().into()),
    ]
}

/// What main sees of the engine, and makes of it.
struct Watch<'w, 'c> {
    console: &'w mut Console<'c>,
    views: Vec<View>,
    facts: Vec<Facts>,
    hooks: Hooks,
    /// Where the table of the DHT is kept.
    state_dir: Option<PathBuf>,
    options: &'w Download,
    /// The links that the torrents were.
    links: Vec<Option<Magnet>>,
    /// What the engine is to be told.
    orders: Vec<Command>,
    /// A TORRENT could not be read.
    failures: bool,
    exit: bool,
    json: bool,
    /// Status lines on a terminal, in place of plain ones.
    live: bool,
    /// The last plain line of each torrent.
    said: Vec<Instant>,
    drawn: Instant,
    /// Status lines are out of date.
    dirty: bool,
    /// The user halted all torrents.
    paused: bool,
    /// The engine was told to end, or ends by a signal.
    quitting: bool,
    /// Every torrent ended of itself, as one does that has seeded enough.
    seeded: bool,
    /// It has ended.
    ended: bool,
    signal: Option<i32>,
    /// Standard output is gone: nothing more goes there.
    closed: bool,
}

impl<'w, 'c> Watch<'w, 'c> {
    fn new(
        views: Vec<View>,
        facts: Vec<Facts>,
        failures: bool,
        options: &'w Download,
        console: &'w mut Console<'c>,
    ) -> Watch<'w, 'c> {
        Watch {
            live: console.is_terminal(Stream::Out) && !options.json && !console.is_quiet(),
            said: vec![now(); views.len()],
            drawn: now(),
            console,
            views,
            facts,
            hooks: Hooks::new(options.on_complete.clone()),
            state_dir: None,
            options,
            links: Vec::new(),
            orders: Vec::new(),
            failures,
            exit: options.exit,
            json: options.json,
            dirty: true,
            paused: false,
            quitting: false,
            seeded: false,
            ended: false,
            signal: None,
            closed: false,
        }
    }

    /// Listens to the terminal, where status lines are on one.
    fn keys(&self) -> Result<Option<Keys>, Error> {
        if self.live { self.console.keys() } else { Ok(None) }
    }

    /// Takes reports and keys until the engine has ended, and tells it to when it is time. None: it ended without a
    /// word.
    fn run(
        &mut self,
        reports: &Receiver<Report>,
        mut keys: Receiver<Key>,
        tell: &dyn Fn(Command),
    ) -> Option<Result<u8, Error>> {
        let log = self.console.log_lines();
        loop {
            let frame = match self.dirty {
                true => after(FRAME.saturating_sub(now() - self.drawn)),
                false => never(),
            };
            let mut result = Ok(());
            select! {
                recv(reports) -> report => match report {
                    Ok(Report::Finished { unreached }) => {
                        self.finish(unreached);
                        return Some(Ok(self.status()));
                    }
                    Ok(report) => result = self.on_report(report),
                    Err(_) => return None,
                },
                recv(log) -> line => self.console.log(line.ok()),
                recv(self.hooks.ended) -> ended => self.on_hook(ended.ok()),
                recv(frame) -> _ => result = self.draw(),
                recv(keys) -> key => match key {
                    Ok(Key::Pause) => self.pause(tell),
                    Ok(Key::Redraw) => self.dirty = true,
                    // The terminal is gone.
                    Err(_) => keys = never(),
                },
            }
            std::mem::take(&mut self.orders).into_iter().for_each(tell);
            match result {
                Ok(()) => {}
                // The reader has gone, so nobody waits for more; a full disk under standard output is an error.
                Err(Error::Closed) => self.closed = true,
                Err(Error::Failed(_, why)) => {
                    self.closed = true;
                    self.failures = true;
                    self.console.error(&why);
                }
                Err(other) => return Some(Err(other)),
            }
            let ended = self.views.iter().all(View::ended);
            let done = ended || self.exit && self.views.iter().all(View::settled);
            if !self.quitting && (self.closed || done) {
                self.seeded = ended;
                self.quitting = true;
                tell(Command::Quit);
            }
            // What is complete when the engine is about to end has its turn after it: its files are closed then.
            if !self.quitting {
                self.hooks.start();
            }
        }
    }

    /// Halts all torrents, or goes on with them.
    fn pause(&mut self, tell: &dyn Fn(Command)) {
        self.paused = !self.paused;
        for (number, view) in (0..).zip(&self.views) {
            if !view.ended() {
                tell(if self.paused { Command::Pause { number } } else { Command::Resume { number } });
            }
        }
    }

    /// After the engine has ended: every command has its turn. A second signal ends the process whatever runs.
    fn wait_for_hooks(&mut self) {
        self.hooks.start();
        if !self.hooks.idle() {
            no_hurry();
        }
        while !self.hooks.idle() {
            let ended = self.hooks.ended.recv().ok();
            self.on_hook(ended);
        }
    }

    fn on_hook(&mut self, ended: Option<Ended>) {
        let Some(ended) = ended else { return };
        let name = self.views.get(ended.number).map_or("", |view| &view.name);
        if let Some(why) = self.hooks.on_ended(&ended) {
            self.console.warn(&format!("{name}: {why}"));
        }
    }

    /// Puts the command for a download that is complete in line; one that was complete at the start is none.
    fn call_hook(&mut self, number: usize) {
        let (Some(view), Some(facts)) = (self.views.get(number), self.facts.get(number)) else { return };
        let progress = &view.progress;
        if !self.hooks.wanted() || progress.downloaded == 0 {
            return;
        }
        let mut facts = facts.clone();
        facts.push(("PTORRENT_SIZE", progress.total.to_string().into()));
        facts.push(("PTORRENT_DOWNLOADED", progress.downloaded.to_string().into()));
        facts.push(("PTORRENT_UPLOADED", progress.uploaded.to_string().into()));
        self.hooks.add(number, facts);
    }

    fn status(&self) -> u8 {
        let complete = self.views.iter().all(|view| view.complete);
        match self.signal {
            Some(signal) if !complete => status_of_signal(signal),
            _ if self.failures || !complete && !self.seeded || self.views.iter().any(View::failed) => 1,
            _ => 0,
        }
    }

    /// The picture and the tracker's silence, as the last words.
    fn finish(&mut self, unreached: u32) {
        self.ended = true;
        // The engine has ended: an error here changes nothing any more.
        let _ = self.draw();
        self.console.log(None);
        if unreached > 0 {
            self.console.warn(&format!("{} could not be told that we left", count(unreached, "tracker")));
        }
    }

    fn draw(&mut self) -> Result<(), Error> {
        self.dirty = false;
        self.drawn = now();
        if !self.live || self.closed {
            return Ok(());
        }
        let size = self.console.size();
        let lines = status_lines(&self.views, size, self.quitting && !self.ended);
        self.console.show_status(Stream::Out, lines)
    }

    /// Writes a line to standard output, one of the two by the options.
    fn line(&mut self, json: impl FnOnce() -> String, plain: impl FnOnce() -> String) -> Result<(), Error> {
        if self.closed {
            return Ok(());
        }
        if self.json {
            return self.console.print(&(json() + "\n"));
        }
        if self.live || self.console.is_quiet() {
            return Ok(());
        }
        self.console.print(&plain())
    }

    fn on_report(&mut self, report: Report) -> Result<(), Error> {
        self.dirty = self.live;
        match report {
            Report::Listening { addr } => {
                log::info!("listening on {addr}");
                if self.json && !self.closed {
                    let event = Object::event("listening").text("addr", &addr.to_string()).finish();
                    self.console.print(&(event + "\n"))?;
                }
                Ok(())
            }
            Report::Signal { signal } => {
                self.signal = Some(signal);
                self.quitting = true;
                self.line_of_stopping()
            }
            Report::Reopen => {
                self.console.reopen_log();
                Ok(())
            }
            Report::Status(status) => {
                self.console.tell(&table(&status, &self.views));
                Ok(())
            }
            Report::State { number, state, reason } => self.on_state(number, state, reason),
            Report::Progress { number, progress } => {
                let Some(view) = self.views.get_mut(number as usize) else { return Ok(()) };
                view.progress = progress;
                self.on_progress(number as usize)
            }
            Report::Metadata { number, meta } => self.on_metadata(number, *meta),
            Report::Complete { number } => self.on_complete(number as usize),
            Report::Error { number, reason, message } => self.on_error(number as usize, reason, &message),
            Report::Warning { number, message } => {
                let name = self.views.get(number as usize).map_or("", |view| &view.name);
                self.console.warn(&format!("{name}: {message}"));
                Ok(())
            }
            Report::DhtTable(table) => {
                if let Some(dir) = &self.state_dir {
                    dht::save(dir, &table);
                }
                Ok(())
            }
            // Nobody asks for these here.
            Report::DhtStats(_) | Report::DhtPeers { .. } | Report::DhtSearched { .. } => Ok(()),
            Report::Finished { .. } => Ok(()),
        }
    }

    /// The metadata of a link has come: now it is known what the options mean for it.
    fn on_metadata(&mut self, number: u32, meta: Metainfo) -> Result<(), Error> {
        let at = number as usize;
        let magnet = self.links.get(at).and_then(Option::as_ref);
        let Some(view) = self.views.get_mut(at) else { return Ok(()) };
        warn_of_names(&meta, &meta.name, self.console);
        view.name.clone_from(&meta.name);
        let meta = match magnet {
            Some(magnet) => with_sources(meta, magnet),
            None => meta,
        };
        match spec(meta, magnet, self.options, self.console) {
            Ok(mut spec) => {
                spec.state_dir.clone_from(&self.state_dir);
                if let Some(of) = self.facts.get_mut(at) {
                    *of = facts(&spec, self.console);
                }
                self.orders.push(Command::Adopt { number, spec: Arc::new(spec) });
                Ok(())
            }
            Err(Error::Usage(why) | Error::Failed(_, why)) => {
                self.failures = true;
                self.orders.push(Command::Remove { number });
                self.on_error(at, Reason::Metainfo, &why)
            }
            Err(error) => Err(error),
        }
    }

    fn line_of_stopping(&mut self) -> Result<(), Error> {
        if self.json {
            return Ok(());
        }
        self.line(String::new, || "stopping...\n".into())
    }

    fn on_state(&mut self, number: u32, state: State, reason: Option<String>) -> Result<(), Error> {
        let Some(view) = self.views.get_mut(number as usize) else { return Ok(()) };
        view.state = Some(state);
        view.reason = reason;
        let (json, plain) = (view.state_json(), view.state_line());
        self.line(|| json, || plain)
    }

    /// Every report makes a JSON line; of plain lines there is one in ten seconds.
    fn on_progress(&mut self, number: usize) -> Result<(), Error> {
        let (view, now) = (&self.views[number], now());
        let moving = view.progress.download_rate > 0 || view.progress.upload_rate > 0;
        let busy = matches!(view.state, Some(State::Checking | State::Metadata));
        let due = (moving || busy) && now - self.said[number] >= PLAIN;
        if !self.json && !due {
            return Ok(());
        }
        self.said[number] = now;
        let (json, plain) = (view.progress_json(), view.progress_line());
        self.line(|| json, || plain)
    }

    fn on_complete(&mut self, number: usize) -> Result<(), Error> {
        let Some(view) = self.views.get_mut(number) else { return Ok(()) };
        let first = !std::mem::replace(&mut view.complete, true);
        let (json, plain) = (view.complete_json(), format!("{}: complete\n", view.name));
        if first {
            self.call_hook(number);
        }
        self.line(|| json, || plain)
    }

    fn on_error(&mut self, number: usize, reason: Reason, message: &str) -> Result<(), Error> {
        let Some(view) = self.views.get(number) else { return Ok(()) };
        let (line, event) = (format!("{}: {message}", view.name), view.error_json(reason, message));
        self.console.error(&line);
        if self.json && !self.closed {
            self.console.print(&(event + "\n"))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::console::tests::on_terminal;
    use super::super::options::{Task, parse};
    use super::*;
    use crate::api::Progress;
    use crate::proto::id::InfoHash;
    use crossbeam_channel::unbounded;
    use std::cell::Cell;

    /// What main makes of these reports: exit status, standard output, standard error, and whether it asked for the
    /// end. `Finished` follows by itself.
    fn watch(terminal: bool, args: &[&str], reports: Vec<Report>) -> (u8, String, String, bool) {
        let args: Vec<_> = args.iter().map(Into::into).collect();
        let Ok((_, Task::Download(options))) = parse(&args) else { panic!("wrong arguments") };
        let views = options.torrents.iter().map(|name| name.to_string_lossy().into_owned());
        let views = views.map(|name| View::new(name, InfoHash([1; 20]))).collect();
        let (sender, receiver) = unbounded();
        reports.into_iter().for_each(|report| sender.send(report).unwrap());
        sender.send(Report::Finished { unreached: 0 }).unwrap();
        let (mut status, asked) = (None, Cell::new(false));
        let (out, err) = on_terminal(terminal, |console| {
            let facts = vec![vec![("PTORRENT_NAME", "x".into())]; options.torrents.len()];
            let mut watch = Watch::new(views, facts, false, &options, console);
            let ended = watch.run(&receiver, never(), &|_| assert!(!asked.replace(true), "asked twice"));
            watch.wait_for_hooks();
            status = ended.unwrap().ok();
        });
        (status.unwrap(), out, err, asked.get())
    }

    fn state(number: u32, state: State) -> Report {
        Report::State { number, state, reason: None }
    }

    fn error(number: u32) -> Report {
        Report::Error { number, reason: Reason::DiskFull, message: "no space in /x".into() }
    }

    const COMPLETE: Report = Report::Complete { number: 0 };

    #[test]
    fn exit_waits_for_every_torrent() {
        let (status, out, _, quit) = watch(false, &["-x", "a", "b"], vec![COMPLETE]);
        assert_eq!((status, out.as_str(), quit), (1, "a: complete\n", false));
        let both = vec![COMPLETE, Report::Complete { number: 1 }];
        let (status, out, _, quit) = watch(false, &["-x", "a", "b"], both);
        assert_eq!((status, out.as_str(), quit), (0, "a: complete\nb: complete\n", true));
    }

    #[test]
    fn a_failed_torrent_makes_the_status_1() {
        let reports = vec![COMPLETE, error(1), state(1, State::Error)];
        let (status, out, err, quit) = watch(false, &["-x", "a", "b"], reports);
        assert_eq!((status, out.as_str(), quit), (1, "a: complete\nb: error\n", true));
        assert_eq!(err, "ptorrent: b: no space in /x\n");
        // Without --exit the other one goes on, until there is no other.
        assert!(!watch(false, &["a", "b"], vec![error(0), state(0, State::Error)]).3);
        let (status, _, _, quit) = watch(false, &["a"], vec![error(0), state(0, State::Error)]);
        assert_eq!((status, quit), (1, true));
    }

    #[test]
    fn a_full_disk_ends_who_does_not_stay() {
        let full = || vec![error(0), state(0, State::Full)];
        let (status, out, err, quit) = watch(false, &["-x", "a"], full());
        assert_eq!((status, out.as_str(), quit), (1, "a: error\n", true));
        assert_eq!(err, "ptorrent: a: no space in /x\n");
        // Who stays waits for space, and is as good as new when there is some.
        assert_eq!((watch(false, &["a"], full()).0, watch(false, &["a"], full()).3), (1, false));
        let goes_on = full().into_iter().chain([state(0, State::Downloading), COMPLETE]).collect();
        assert_eq!(watch(false, &["a"], goes_on).0, 0);
    }

    #[test]
    fn a_signal_is_130_or_143_before_all_is_complete_and_0_after() {
        let signal = |signal| Report::Signal { signal };
        let (status, out, _, quit) = watch(false, &["a"], vec![signal(2), state(0, State::Stopped)]);
        assert_eq!((status, out.as_str(), quit), (130, "stopping...\na: stopped\n", false));
        assert_eq!(watch(false, &["a"], vec![signal(15)]).0, 143);
        assert_eq!(watch(false, &["a"], vec![COMPLETE, signal(2), state(0, State::Stopped)]).0, 0);
        assert_eq!(watch(false, &["a", "b"], vec![COMPLETE, signal(15)]).0, 143);
    }

    #[test]
    fn seeding_goes_on_without_exit() {
        let (status, out, _, quit) = watch(false, &["a"], vec![state(0, State::Seeding), COMPLETE]);
        assert_eq!((status, out.as_str(), quit), (0, "a: seeding\na: complete\n", false));
    }

    #[test]
    fn the_program_ends_when_every_torrent_has_seeded_enough() {
        let stopped = |number| Report::State {
            number,
            state: State::Stopped,
            reason: Some("the seed ratio is reached".into()),
        };
        let (status, out, _, quit) = watch(false, &["a", "b"], vec![COMPLETE, stopped(0)]);
        assert_eq!((out.as_str(), quit), ("a: complete\na: stopped: the seed ratio is reached\n", false));
        assert_ne!(status, 0);
        let all = vec![COMPLETE, stopped(0), Report::Complete { number: 1 }, stopped(1)];
        let (status, _, _, quit) = watch(false, &["a", "b"], all);
        assert_eq!((status, quit), (0, true));
        // A part of a torrent was seeded for as long as it was to be.
        assert_eq!(watch(false, &["-s", "a"], vec![stopped(0)]).0, 0);
    }

    #[test]
    fn json_is_one_object_a_line_and_nothing_else() {
        let progress = Progress { total: 9, have: 4, ..Progress::default() };
        let reports = vec![
            Report::Listening { addr: "127.0.0.1:6881".parse().unwrap() },
            state(0, State::Downloading),
            Report::Progress { number: 0, progress },
            error(0),
            Report::Warning { number: 0, message: "careful".into() },
            Report::Signal { signal: 2 },
        ];
        let (_, out, err, _) = watch(true, &["--json", "a"], reports);
        let events: Vec<&str> = out.lines().map(|line| line.split('"').nth(3).unwrap()).collect();
        assert_eq!(events, ["listening", "state", "progress", "error"]);
        assert!(out.starts_with("{\"event\":\"listening\",\"addr\":\"127.0.0.1:6881\"}\n"));
        assert!(out.contains(r#""total":9,"have":4,"#) && out.lines().all(|line| line.ends_with('}')));
        assert_eq!(err, "ptorrent: a: no space in /x\nptorrent: warning: a: careful\n");
    }

    #[test]
    fn a_terminal_gets_status_lines_and_a_clean_end() {
        let progress = Progress { total: 10, have: 10, ..Progress::default() };
        let reports = vec![state(0, State::Seeding), Report::Progress { number: 0, progress }, COMPLETE];
        let (_, out, err, _) = watch(true, &["-x", "a"], reports);
        assert!(out.ends_with("a  100.0%  seeding  0 B/s up  0 peers\n"), "{out:?}");
        assert_eq!((out.matches("complete").count(), err.as_str()), (0, ""));
    }

    #[test]
    fn a_command_is_called_for_what_was_downloaded_in_this_run_once() {
        let args = ["--on-complete", "echo \"$PTORRENT_NAME\" $PTORRENT_SIZE; exit 3", "a"];
        let progress = |downloaded| Report::Progress {
            number: 0,
            progress: Progress { total: 10, have: 10, downloaded, ..Progress::default() },
        };
        let (_, _, err, _) = watch(false, &args, vec![progress(10), COMPLETE, COMPLETE]);
        let due = "ptorrent: warning: a: the command of --on-complete ended with status 3: ";
        assert!(err.starts_with(due) && err.lines().count() == 1, "{err}");
        let (_, _, err, _) = watch(false, &args, vec![progress(0), COMPLETE]);
        assert_eq!(err, "");
    }

    #[test]
    fn trackers_that_were_not_told_are_counted() {
        let (_, _, err, _) = watch(false, &["a"], vec![Report::Finished { unreached: 2 }]);
        assert_eq!(err, "ptorrent: warning: 2 trackers could not be told that we left\n");
    }
}
