//! The engine: it makes the channels, starts the threads and joins them, and is the only place that knows them all.
//! The program says [`Command`]s and hears [`Report`]s.

mod serve;

pub use serve::{TrackerEngine, TrackerOptions};

use crate::api::{Command, Encryption, Report};
use crate::base::buf::Pool;
use crate::base::wake::Wake;
use crate::disk::{Shared, Syncer, Worker, keep, kept, sweep};
use crate::helper;
pub use crate::helper::scrape::{Question, Said};
pub use crate::helper::torrent::{Downloaded, Got};
pub use crate::helper::{Client, Roots};
use crate::limits;
use crate::proto::id::InfoHash;
use crate::proto::metainfo::Metainfo;
use crate::proto::tracker::url::Url;
pub use crate::reactor::{Hangup, Signals, no_hurry};
use crate::reactor::{Lane, Links, ListenError, Poll, Reactor, Setup, join_groups, listen};
use crate::session::Config;
use crate::sys::descriptors;
use crate::sys::netlink::Monitor;
use crate::sys::socket::Route;
use crossbeam_channel::{Receiver, Sender, bounded};
use rustix::rand::GetRandomFlags;
use std::fmt;
use std::io;
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

/// How the engine runs.
pub struct Options {
    /// Addresses and device of every socket.
    pub route: Route,
    /// The certificates that HTTPS trusts.
    pub roots: Roots,
    /// Ports to listen on, the first free one; 0 is one of the kernel's choice.
    pub ports: RangeInclusive<u16>,
    /// Connections in all.
    pub max_conn: usize,
    /// Unchoked peers per torrent.
    pub max_upload: usize,
    /// Payload bytes a second that come in at most; 0: no limit.
    pub max_download_rate: u64,
    /// Payload bytes a second that go out at most; 0: no limit.
    pub max_upload_rate: u64,
    /// The largest info dictionary in bytes that is taken from peers (BEP 9).
    pub max_metadata_size: u32,
    /// Whether connections are encrypted.
    pub encryption: Encryption,
    /// The most torrents that are open at a time; of more that are added some wait for one to be paused or removed.
    pub torrents: usize,
    /// Disk workers, 1 to [`limits::LANES_MAX`]; None: one for each processor, two at least.
    pub lanes: Option<usize>,
    /// Find peers on the local network (BEP 14).
    pub lsd: bool,
    /// Exchange addresses of peers with peers (BEP 11).
    pub pex: bool,
    /// Signals, where they are to be heard. They are installed before whatever takes time is begun.
    pub signals: Option<Signals>,
}

/// Why the engine did not start, or ended early.
#[derive(Debug)]
pub enum Error {
    /// There is no listener; the message names address and option.
    Listen(ListenError),
    /// The system refused something else.
    System {
        /// What was tried: "start a thread".
        what: &'static str,
        /// What the system says.
        source: io::Error,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Listen(error) => error.fmt(f),
            Error::System { what, source } => write!(f, "cannot {what}: {source}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Listen(error) => error.source(),
            Error::System { source, .. } => Some(source),
        }
    }
}

/// For `map_err`: what was tried.
fn cannot(what: &'static str) -> impl Fn(io::Error) -> Error {
    move |source| Error::System { what, source }
}

/// A running engine. One that is dropped without [`Engine::join`] goes on until it has heard [`Command::Quit`].
pub struct Engine {
    commands: Sender<Command>,
    reports: Receiver<Report>,
    wake: Arc<Wake>,
    net: JoinHandle<io::Result<()>>,
    workers: Vec<JoinHandle<()>>,
}

/// How many of each thing there are, and how many of each message can be outstanding.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Sizes {
    lanes: usize,
    /// Torrents that the workers know at a time: one more is opened when another has been closed by all of them.
    torrents: usize,
    /// Connections: those that are wanted, or that there are descriptors for.
    connections: usize,
    receive_bufs: usize,
    /// Jobs of one worker, checks apart: a write or read holds a block, and of a torrent there may be an open or a
    /// close, not both, two saves, a look for room, a digest of its metadata, and that it is forgotten; and reads of
    /// metadata, few for all.
    urgent: usize,
    /// Checks of one worker.
    checks: usize,
    /// Jobs of the sync thread: a checkpoint and a close of each torrent.
    syncs: usize,
    /// Answers of all workers and the sync thread: with the last block of a piece a write has two.
    done: usize,
}

impl Sizes {
    /// Where the process may have so many descriptors.
    fn of(options: &Options, descriptors: usize) -> Sizes {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let lanes = options.lanes.unwrap_or(cores.max(2)).clamp(1, limits::LANES_MAX);
        let lanes = descriptors::workers(descriptors, lanes);
        let torrents = options.torrents.clamp(1, limits::TORRENTS_MAX);
        let wanted = options.max_conn.min(limits::CONNECTIONS_MAX);
        let connections = descriptors::connections(descriptors, wanted, lanes, torrents);
        if connections < wanted {
            log::warn!(
                "the limit of {descriptors} open files leaves room for {connections} of {wanted} connections \
                 (--max-conn); raise it with ulimit -n"
            );
        }
        let coming = connections.clamp(limits::COMING_BUFS_MIN, limits::COMING_BUFS_MAX);
        let receive_bufs = coming + lanes * limits::LANE_BUFS;
        let bufs = receive_bufs + limits::SEND_BUFS;
        let checks = limits::CHECKS_OUT;
        let infos = limits::METADATA_READS_OUT;
        let done = 2 * (bufs + torrents * (lanes + 5) + checks * lanes + infos);
        Sizes {
            lanes,
            torrents,
            connections,
            receive_bufs,
            urgent: bufs + 6 * torrents + infos,
            checks,
            syncs: 2 * torrents,
            done,
        }
    }
}

/// Has the state folder keep what is most of a torrent, so that it need not stay in memory. After an error it does.
pub fn keep_on_disk(meta: &mut Metainfo, state: &Path) -> io::Result<()> {
    keep(meta, state)
}

/// What the state folder keeps of a torrent: all that is hashed, and nothing of where to find peers. None: it does not.
pub fn kept_on_disk(info_hash: InfoHash, state: &Path) -> Option<Metainfo> {
    kept(info_hash, state)
}

/// Drops what the state folder keeps of torrents that nobody has started for months.
pub fn sweep_state(state: &Path) {
    sweep(state);
}

impl Engine {
    /// Listens, then starts the threads; the first reports tell the addresses. An error names what the user can mend.
    pub fn start(options: Options) -> Result<Engine, Error> {
        let sizes = Sizes::of(&options, descriptors::raise());
        let listeners = listen(&options.route, options.ports.clone()).map_err(Error::Listen)?;
        let groups = if options.lsd { join_groups(&options.route, &listeners) } else { Vec::new() };
        let addr = listeners.first().map(|listener| listener.addr());
        let port =
            addr.transpose().map_err(cannot("read a listener's address"))?.map_or(0, |addr| addr.port());
        let poll = Poll::new().map_err(cannot("make a poller"))?;
        let pool =
            Pool::new(sizes.receive_bufs + limits::SEND_BUFS).map_err(cannot("reserve memory for blocks"))?;
        let wake = poll.wake();
        let seed = chance()?;
        let config = Config {
            port,
            max_conn: sizes.connections,
            max_upload: options.max_upload,
            max_download_rate: options.max_download_rate,
            max_upload_rate: options.max_upload_rate,
            max_metadata_size: options.max_metadata_size,
            encryption: options.encryption,
            lanes: sizes.lanes as u8,
            max_open: sizes.torrents,
            receive_bufs: sizes.receive_bufs,
            lsd: !groups.is_empty(),
            pex: options.pex,
        };
        let (done_tx, done) = bounded(sizes.done);
        let (workers, lanes) = start_workers(&sizes, &done_tx, &wake)?;
        let (replies_tx, replies) = bounded(limits::CALLS_OUT);
        let client = Client::new(options.route.clone(), options.roots);
        let helpers = Arc::new(helper::Pool::new(client.clone(), replies_tx, wake.clone()));
        let (said_tx, said) = bounded(helper::web::SAID_MAX);
        let mut web = helper::web::Web::new(client, said_tx, wake.clone());
        let (commands, commands_rx) = bounded(limits::COMMANDS_MAX);
        let (reports_tx, reports) = bounded(limits::REPORTS_MAX);
        let forgetful = helpers.clone();
        let call = Box::new(move |call| helpers.call(call));
        let forget_failures = Box::new(move || forgetful.forget_failures());
        let (powers_tx, powers) = bounded(limits::MSE_POWERS_OUT);
        let raiser = helper::powers::Powers::new(powers_tx, wake.clone());
        let raise = Box::new(move |peer, power| raiser.raise(peer, power));
        let web = Box::new(move |slot, order| web.order(slot, order));
        let links = Links {
            lanes,
            done,
            call,
            forget_failures,
            replies,
            raise,
            powers,
            web,
            said,
            commands: commands_rx,
            reports: reports_tx,
        };
        let (route, signals, bell) = (options.route, options.signals, wake.clone());
        let monitor = monitor();
        let setup =
            Setup { config, seed, poll, wake: bell, route, listeners, groups, monitor, signals, pool, links };
        let reactor = Reactor::new(setup).map_err(cannot("watch a socket"))?;
        let net = start("ptorrent-net".to_owned(), move || reactor.run())?;
        Ok(Engine { commands, reports, wake, net, workers })
    }

    /// Tells the engine something; waits while [`limits::COMMANDS_MAX`] others are before it. False: it has ended.
    pub fn command(&self, command: Command) -> bool {
        let sent = self.commands.send(command).is_ok();
        self.wake.ring();
        sent
    }

    /// What the engine tells. [`Report::Finished`] is the last; after it, or should it end early, the channel closes.
    pub fn reports(&self) -> &Receiver<Report> {
        &self.reports
    }

    /// Waits for the end, that of [`Command::Quit`]. Reports that were not taken are lost. Helper threads are left
    /// alone: one may hang in a name look-up.
    pub fn join(self) -> Result<(), Error> {
        drop(self.reports);
        let ended = joined(self.net);
        // The reactor had the other ends of their channels.
        self.workers.into_iter().for_each(joined);
        ended.map_err(cannot("wait for sockets"))
    }
}

/// Asks trackers how swarms stand, without an engine: each answer comes with the number of its question, within
/// [`limits::SCRAPE_TIMEOUT`] unless a name look-up hangs.
pub fn scrape(client: &Client, questions: Vec<Question>) -> Result<Receiver<(usize, Said)>, Error> {
    helper::scrape::scrape(client, questions, limits::SCRAPE_TIMEOUT).map_err(cannot("start a thread"))
}

/// Gets a .torrent, or the magnet link in its place, from a URL, without an engine: within [`limits::TORRENT_URL_TIMEOUT`], unless a name look-up hangs.
pub fn download(client: Client, url: Url) -> Result<Receiver<Got>, Error> {
    helper::torrent::download(client, url, limits::TORRENT_URL_TIMEOUT).map_err(cannot("start a thread"))
}

/// What the kernel says of the network, where it does.
fn monitor() -> Option<Monitor> {
    let monitor = Monitor::open();
    monitor.inspect_err(|error| log::info!("the kernel does not tell of the network: {error}")).ok()
}

/// The result of a thread; its panic, if it had one, is ours.
fn joined<T>(thread: JoinHandle<T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// All chance of the process.
fn chance() -> Result<[u8; 32], Error> {
    let mut seed = [0; 32];
    let n = rustix::rand::getrandom(&mut seed[..], GetRandomFlags::empty())
        .map_err(|error| cannot("get random numbers")(error.into()))?;
    if n < seed.len() {
        return Err(cannot("get random numbers")(io::ErrorKind::UnexpectedEof.into()));
    }
    Ok(seed)
}

/// Starts the disk workers; gives the ways to them.
fn start_workers(
    sizes: &Sizes,
    done: &Sender<(u8, crate::api::Done)>,
    wake: &Arc<Wake>,
) -> Result<(Vec<JoinHandle<()>>, Vec<Lane>), Error> {
    let shared = Shared::new(sizes.lanes as u8);
    let (mut workers, mut lanes) = (Vec::new(), Vec::new());
    let (syncs, syncs_rx) = bounded(sizes.syncs);
    let syncer = Syncer::new(shared.clone(), syncs_rx, done.clone(), wake.clone());
    workers.push(start("ptorrent-sync".to_owned(), move || syncer.run())?);
    for lane in 0..sizes.lanes as u8 {
        let (urgent, jobs) = bounded(sizes.urgent);
        let (checks, checks_rx) = bounded(sizes.checks);
        let (done, syncs, wake) = (done.clone(), syncs.clone(), wake.clone());
        let worker = Worker::new(lane, shared.clone(), jobs, checks_rx, done, syncs, wake);
        workers.push(start(format!("ptorrent-dsk-{lane}"), move || worker.run())?);
        lanes.push(Lane { urgent, checks });
    }
    Ok((workers, lanes))
}

fn start<T: Send + 'static>(
    name: String,
    body: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>, Error> {
    thread::Builder::new().name(name).spawn(body).map_err(cannot("start a thread"))
}
