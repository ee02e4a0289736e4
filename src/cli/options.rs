//! The command line: which options there are, and their values.

use super::Error;
use super::args::{from_text, to_text};
use super::tracker;
use super::values;
use crate::api::{DiskIo, Encryption, Prealloc};
use crate::limits;
use crate::proto::id::InfoHash;
use crate::proto::metainfo::printable;
use crate::proto::tracker::url::Url;
use getopts::{Fail, HasArg, Matches, Occur};
use std::ffi::OsString;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

/// How an option is given.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// Once, without a value.
    Flag,
    /// Any number of times, without a value.
    Count,
    /// Once, with a value of this name.
    Value(&'static str),
    /// Any number of times, with a value of this name.
    Values(&'static str),
}

/// One option: short name (may be empty), long name (empty: none), kind, what `--help` says.
pub(crate) type Opt = (&'static str, &'static str, Kind, &'static str);

const COMMON: &[Opt] = &[
    ("v", "verbose", Kind::Count, "say more; twice: debug, three times: trace"),
    ("q", "quiet", Kind::Flag, "say nothing but errors"),
    ("", "log-file", Kind::Value("FILE"), "append the log to FILE (default: standard error)"),
    ("h", "help", Kind::Flag, "print this and exit"),
    ("V", "version", Kind::Flag, "print the version and exit"),
];

const DOWNLOAD: &[Opt] = &[
    ("d", "dir", Kind::Value("PATH"), "download directory, made when missing (default: .)"),
    ("s", "seed", Kind::Flag, "seed what is on disk; never download, never write"),
    ("x", "exit", Kind::Flag, "end as soon as every torrent is complete"),
    ("", "seed-ratio", Kind::Value("R"), "seed until R times the size is uploaded; or none (default: 1.0)"),
    ("", "seed-time", Kind::Value("MIN"), "seed for MIN minutes at most; or none (default: none)"),
    ("", "super-seed", Kind::Flag, "seed by showing each peer few pieces (BEP 16)"),
    ("", "select", Kind::Value("LIST"), "only these files, by the numbers that 'show' prints: 1,3-5"),
    ("", "sequential", Kind::Flag, "pieces in order rather than rarest first"),
    ("", "overwrite", Kind::Flag, "take over files that are there and are not this torrent's"),
    (
        "",
        "prealloc",
        Kind::Value("full|sparse"),
        "reserve a file's space first, or as it fills (default: full)",
    ),
    ("", "disk-io", Kind::Value("auto|mmap|pwrite"), "how pieces reach the files (default: auto)"),
    (
        "",
        "state-dir",
        Kind::Value("PATH"),
        "resume records are here (default: $XDG_STATE_HOME/ptorrent, or ~/.local/state/ptorrent)",
    ),
    ("p", "port", Kind::Value("PORT[-PORT]"), "listen port; 0: any that is free (default: 6881-6889)"),
    ("b", "bind", Kind::Values("ADDR"), "listen on and connect from ADDR; once for IPv4, once for IPv6"),
    ("", "bind-device", Kind::Value("IF"), "every socket on this network device, or none"),
    ("c", "max-conn", Kind::Value("N"), "connections in all (default: 50)"),
    ("u", "max-upload", Kind::Value("N"), "upload slots of each torrent (default: 4)"),
    (
        "",
        "max-download-rate",
        Kind::Value("RATE"),
        "bytes a second that come in, with K, M or G (default: 0, no limit)",
    ),
    (
        "",
        "max-upload-rate",
        Kind::Value("RATE"),
        "bytes a second that go out, with K, M or G (default: 0, no limit)",
    ),
    (
        "",
        "max-metadata-size",
        Kind::Value("SIZE"),
        "largest metadata that a magnet link takes from peers, up to 64M (default: 16M)",
    ),
    ("", "peer", Kind::Values("HOST:PORT"), "connect to this peer too"),
    ("", "tracker", Kind::Values("URL"), "announce there too"),
    (
        "",
        "encryption",
        Kind::Value("disabled|enabled|required"),
        "encrypt connections where the other side can, never, or all of them by RC4 (default: enabled)",
    ),
    ("", "no-dht", Kind::Flag, "find no peers by the DHT, and run no node of it"),
    (
        "",
        "dht-bootstrap",
        Kind::Values("HOST:PORT"),
        "begin with this node of the DHT, not with the built-in ones",
    ),
    ("", "no-pex", Kind::Flag, "exchange no addresses of peers with peers"),
    ("", "no-lsd", Kind::Flag, "find no peers on the local network, and tell none of us"),
    ("", "json", Kind::Flag, "one JSON object a line in place of the progress lines"),
    (
        "",
        "on-complete",
        Kind::Value("CMD"),
        "run CMD by the shell when a download is complete; facts: $PTORRENT_NAME, ...",
    ),
    (
        "",
        "config",
        Kind::Value("FILE"),
        "read options from FILE first (default: $XDG_CONFIG_HOME/ptorrent/config, or ~/.config/ptorrent/config)",
    ),
];

const CONFIG: &[Opt] =
    &[("", "save", Kind::Flag, "write it to the file of --config in place of printing it")];

const CREATE: &[Opt] = &[
    ("o", "", Kind::Value("FILE"), "write FILE (default: the name of PATH and .torrent, here)"),
    ("a", "", Kind::Values("URL"), "tracker, each a tier of its own; commas join one tier"),
    ("w", "", Kind::Values("URL"), "web seed"),
    ("l", "", Kind::Value("PIECE_LENGTH"), "a power of two from 16K to 64M (default: by the size)"),
    ("n", "", Kind::Value("NAME"), "the torrent's name (default: the file name of PATH)"),
    ("c", "", Kind::Value("COMMENT"), "a comment"),
    ("P", "", Kind::Flag, "private: peers from its trackers only"),
];

const SCRAPE: &[Opt] = &[
    ("b", "bind", Kind::Values("ADDR"), "ask from ADDR; once for IPv4, once for IPv6"),
    ("", "bind-device", Kind::Value("IF"), "every socket on this network device, or none"),
    ("", "json", Kind::Flag, "print one JSON object a line"),
];

const DHT: &[Opt] = &[
    ("", "lookup", Kind::Value("INFO_HASH"), "print the peers of this torrent, then end"),
    ("", "dht-bootstrap", Kind::Values("HOST:PORT"), "begin with this node, not with the built-in ones"),
    ("p", "port", Kind::Value("PORT[-PORT]"), "port; 0: any that is free (default: 6881-6889)"),
    ("b", "bind", Kind::Values("ADDR"), "listen on ADDR; once for IPv4, once for IPv6"),
    ("", "bind-device", Kind::Value("IF"), "every socket on this network device, or none"),
    ("", "state-dir", Kind::Value("PATH"), "the table of the last run is here"),
    ("", "json", Kind::Flag, "print one JSON object a line"),
];

const SHOW: &[Opt] = &[
    ("", "json", Kind::Flag, "print one JSON object"),
    ("", "max-metadata-size", Kind::Value("SIZE"), "as for a download (default: 16M)"),
    ("", "peer", Kind::Values("HOST:PORT"), "ask this peer too for what a link leads to"),
    ("", "tracker", Kind::Values("URL"), "ask there too for peers"),
    ("", "no-dht", Kind::Flag, "find no peers by the DHT"),
    ("", "dht-bootstrap", Kind::Values("HOST:PORT"), "begin with this node, not with the built-in ones"),
    ("", "no-pex", Kind::Flag, "take no addresses of peers from peers"),
    ("", "no-lsd", Kind::Flag, "find no peers on the local network"),
    ("", "encryption", Kind::Value("disabled|enabled|required"), "as for a download (default: enabled)"),
    ("p", "port", Kind::Value("PORT[-PORT]"), "port; 0: any that is free (default: 0)"),
    ("b", "bind", Kind::Values("ADDR"), "ask from ADDR; once for IPv4, once for IPv6"),
    ("", "bind-device", Kind::Value("IF"), "every socket on this network device, or none"),
    ("", "state-dir", Kind::Value("PATH"), "what links led to is kept here"),
];

const VERIFY: &[Opt] = &[("d", "dir", Kind::Value("PATH"), "where the files are (default: .)")];

/// The first words that name a command, also those that are not in this version.
const COMMANDS: &[&str] =
    &["create", "show", "edit", "verify", "scrape", "tracker", "dht", "config", "replay"];

/// Whether a first word names a command; else it belongs to a download.
pub(crate) fn is_command(word: &str) -> bool {
    COMMANDS.contains(&word)
}

/// The options of a download, or of `config`, which takes them all.
pub(crate) fn of_download(config: bool) -> impl Iterator<Item = &'static Opt> {
    let more: &[Opt] = if config { CONFIG } else { &[] };
    DOWNLOAD.iter().chain(COMMON).chain(more)
}
const TRACKER: &[Opt] = &[
    ("p", "port", Kind::Value("PORT"), "port for HTTP and UDP; 0: any that is free (default: 6969)"),
    ("b", "bind", Kind::Values("ADDR"), "listen on ADDR; once for IPv4, once for IPv6 (default: all)"),
    ("", "bind-device", Kind::Value("IF"), "listen on this network device only"),
    ("", "only", Kind::Value("FILE"), "serve the info-hashes in FILE only, one a line; # begins a comment"),
    ("", "interval", Kind::Value("SECONDS"), "peers announce this often, 60 to 86400 (default: 1800)"),
    ("", "json", Kind::Flag, "print one JSON object for each address"),
];

/// What is to be done.
#[derive(Debug)]
pub(crate) enum Task {
    /// Print this.
    Print(String),
    /// Download, then seed.
    Download(Box<Download>),
    /// Make a .torrent.
    Create(Create),
    /// Ask trackers how swarms stand.
    Scrape(Scrape),
    /// Run a node of the DHT.
    Dht(DhtOptions),
    /// Say what a .torrent holds.
    Show(Show),
    /// Hash what is on disk.
    Verify { torrent: OsString, dir: PathBuf },
    /// Say what the options of a download are, or save them.
    Config { save: bool },
    /// Be a tracker.
    Tracker(tracker::Options),
}

/// What every command can be told.
#[derive(Debug, Default)]
pub(crate) struct Common {
    /// How often `-v` was given.
    pub(crate) verbose: usize,
    pub(crate) quiet: bool,
    pub(crate) log_file: Option<PathBuf>,
}

/// The options of a download.
#[derive(Debug)]
pub(crate) struct Download {
    pub(crate) torrents: Vec<OsString>,
    pub(crate) dir: PathBuf,
    pub(crate) seed: bool,
    pub(crate) exit: bool,
    pub(crate) select: Option<Vec<RangeInclusive<usize>>>,
    pub(crate) sequential: bool,
    pub(crate) overwrite: bool,
    pub(crate) prealloc: Prealloc,
    pub(crate) disk_io: DiskIo,
    pub(crate) ports: RangeInclusive<u16>,
    pub(crate) bind: Vec<IpAddr>,
    pub(crate) device: Option<String>,
    pub(crate) max_conn: usize,
    pub(crate) max_upload: usize,
    pub(crate) max_download_rate: u64,
    pub(crate) max_upload_rate: u64,
    pub(crate) max_metadata_size: u32,
    pub(crate) encryption: Encryption,
    pub(crate) super_seed: bool,
    /// In thousandths.
    pub(crate) seed_ratio: Option<u64>,
    pub(crate) seed_time: Option<Duration>,
    pub(crate) peers: Vec<(String, u16)>,
    pub(crate) trackers: Vec<Url>,
    /// A node of the DHT runs.
    pub(crate) dht: bool,
    /// Peers are found by peers.
    pub(crate) pex: bool,
    /// Peers are found on the local network.
    pub(crate) lsd: bool,
    /// Where it begins; empty: at the built-in names.
    pub(crate) dht_bootstrap: Vec<(String, u16)>,
    pub(crate) json: bool,
    pub(crate) state_dir: Option<PathBuf>,
    /// A command of the shell.
    pub(crate) on_complete: Option<OsString>,
}

/// The options of `show`.
#[derive(Debug)]
pub(crate) struct Show {
    pub(crate) torrent: OsString,
    pub(crate) json: bool,
    pub(crate) max_metadata_size: u32,
    pub(crate) peers: Vec<(String, u16)>,
    pub(crate) trackers: Vec<Url>,
    pub(crate) dht: bool,
    pub(crate) dht_bootstrap: Vec<(String, u16)>,
    pub(crate) pex: bool,
    pub(crate) lsd: bool,
    pub(crate) encryption: Encryption,
    pub(crate) ports: RangeInclusive<u16>,
    pub(crate) bind: Vec<IpAddr>,
    pub(crate) device: Option<String>,
    pub(crate) state_dir: Option<PathBuf>,
}

/// The options of `create`.
#[derive(Debug)]
pub(crate) struct Create {
    pub(crate) path: PathBuf,
    pub(crate) out: Option<PathBuf>,
    pub(crate) trackers: Vec<Vec<String>>,
    pub(crate) web_seeds: Vec<String>,
    pub(crate) piece_length: Option<u32>,
    pub(crate) name: Option<String>,
    pub(crate) comment: Option<String>,
    pub(crate) private: bool,
}

/// The options of `scrape`.
#[derive(Debug)]
pub(crate) struct Scrape {
    pub(crate) torrents: Vec<OsString>,
    pub(crate) bind: Vec<IpAddr>,
    pub(crate) device: Option<String>,
    pub(crate) json: bool,
}

/// The options of `dht`.
#[derive(Debug)]
pub(crate) struct DhtOptions {
    pub(crate) lookup: Option<InfoHash>,
    pub(crate) bootstrap: Vec<(String, u16)>,
    pub(crate) ports: RangeInclusive<u16>,
    pub(crate) bind: Vec<IpAddr>,
    pub(crate) device: Option<String>,
    pub(crate) state_dir: Option<PathBuf>,
    pub(crate) json: bool,
}

/// Reads the arguments (without the program's own name).
pub(crate) fn parse(args: &[OsString]) -> Result<(Common, Task), Error> {
    let texts: Vec<String> = args.iter().map(|arg| to_text(arg)).collect();
    let (command, rest) = match texts.split_first() {
        Some((first, rest)) => (first.as_str(), rest),
        None => ("", &[][..]),
    };
    match command {
        "create" => parsed(rest, &[CREATE, COMMON], CREATE_USAGE, create),
        "scrape" => parsed(rest, &[SCRAPE, COMMON], SCRAPE_USAGE, scrape),
        "show" => parsed(rest, &[SHOW, COMMON], SHOW_USAGE, show),
        "verify" => parsed(rest, &[VERIFY, COMMON], VERIFY_USAGE, verify),
        "config" => parsed(rest, &[CONFIG, DOWNLOAD, COMMON], CONFIG_USAGE, config),
        "dht" => parsed(rest, &[DHT, COMMON], DHT_USAGE, dht),
        "tracker" => parsed(rest, &[TRACKER, COMMON], TRACKER_USAGE, as_tracker),
        "edit" | "replay" => Err(Error::Usage(format!("the command {command} is not in this version"))),
        _ => parsed(&texts, &[DOWNLOAD, COMMON], USAGE, download),
    }
}

const USAGE: &str = "\
Usage: ptorrent [options] TORRENT...       download, then seed
       ptorrent COMMAND [options] ...      config, create, dht, scrape, show, tracker or verify; each has its own --help

A TORRENT is the path of a .torrent file, a magnet link, an info-hash of 40 hexadecimal digits, or the http or https
URL of a .torrent file. A file named like a command is written ./create.
On a terminal the key p pauses all torrents, and again goes on with them; q quits.";
const CREATE_USAGE: &str = "\
Usage: ptorrent create [options] PATH
Make a .torrent of a file or folder; print its magnet URI.";
const SCRAPE_USAGE: &str = "\
Usage: ptorrent scrape [options] TORRENT...
Ask each tracker of each TORRENT for seeders, leechers and downloads; exit with 0 when one of each answers.";
const DHT_USAGE: &str = "\
Usage: ptorrent dht [options]
Run a node of the DHT and say how it stands each 10 seconds, until a signal comes; or look peers of a torrent up.";
const SHOW_USAGE: &str = "\
Usage: ptorrent show [options] TORRENT
Print what a .torrent holds. What a magnet link or an info-hash leads to is fetched from its swarm first.";
const VERIFY_USAGE: &str = "\
Usage: ptorrent verify [options] TORRENT
Hash what is on disk; print a line for each file that is bad or missing; exit with 0 only when all is there.";
const CONFIG_USAGE: &str = "\
Usage: ptorrent config [--save] [options]
Print, or save, the options of a download as they are in force: defaults, configuration file, command line.";
const TRACKER_USAGE: &str = "\
Usage: ptorrent tracker [options]
A small HTTP and UDP tracker for a LAN, a test or a few torrents of one's own; SIGINT or SIGTERM ends it.";

fn parsed(
    args: &[String],
    groups: &[&[Opt]],
    usage: &str,
    task: fn(&Matches) -> Result<Task, Error>,
) -> Result<(Common, Task), Error> {
    let mut options = getopts::Options::new();
    for (short, long, kind, about) in groups.iter().flat_map(|group| group.iter()) {
        let (hint, has, occur) = match kind {
            Kind::Flag => ("", HasArg::No, Occur::Optional),
            Kind::Count => ("", HasArg::No, Occur::Multi),
            Kind::Value(hint) => (*hint, HasArg::Yes, Occur::Optional),
            Kind::Values(hint) => (*hint, HasArg::Yes, Occur::Multi),
        };
        options.opt(short, long, about, hint, has, occur);
    }
    let matches = options.parse(args).map_err(|fail| Error::Usage(wrong(&fail)))?;
    if matches.opt_present("help") {
        return Ok((Common::default(), Task::Print(options.usage(usage))));
    }
    if matches.opt_present("version") {
        return Ok((Common::default(), Task::Print(format!("ptorrent {}\n", env!("CARGO_PKG_VERSION")))));
    }
    let common = Common {
        verbose: matches.opt_count("verbose"),
        quiet: matches.opt_present("quiet"),
        log_file: path(&matches, "log-file"),
    };
    if common.quiet && common.verbose > 0 {
        return Err(Error::Usage("--quiet and --verbose contradict each other".into()));
    }
    Ok((common, task(&matches)?))
}

/// An option as the user would type it.
fn dashed(name: &str) -> String {
    let dashes = if name.chars().count() == 1 { "-" } else { "--" };
    format!("{dashes}{}", values::shown(name))
}

pub(crate) fn wrong(fail: &Fail) -> String {
    match fail {
        Fail::ArgumentMissing(name) => format!("{} needs a value", dashed(name)),
        Fail::UnrecognizedOption(name) => format!("unknown option {}", dashed(name)),
        Fail::OptionMissing(name) => format!("{} is needed", dashed(name)),
        Fail::OptionDuplicated(name) => format!("{} is given more than once", dashed(name)),
        Fail::UnexpectedArgument(name) => format!("{} takes no value", dashed(name)),
    }
}

fn path(matches: &Matches, name: &str) -> Option<PathBuf> {
    matches.opt_str(name).map(|text| PathBuf::from(from_text(&text)))
}

/// The value of an option, or the default; `read` says what is wrong with it.
fn value<T>(
    matches: &Matches,
    name: &str,
    default: T,
    read: fn(&str) -> Result<T, String>,
) -> Result<T, Error> {
    match matches.opt_str(name) {
        Some(text) => read_value(name, &text, read),
        None => Ok(default),
    }
}

fn each<T>(matches: &Matches, name: &str, read: fn(&str) -> Result<T, String>) -> Result<Vec<T>, Error> {
    matches.opt_strs(name).iter().map(|text| read_value(name, text, read)).collect()
}

fn read_value<T>(name: &str, text: &str, read: fn(&str) -> Result<T, String>) -> Result<T, Error> {
    read(text)
        .map_err(|why| Error::Usage(format!("{} '{}': {why}", dashed(name), values::shown_safely(text))))
}

/// The one argument of a command.
fn only(matches: &Matches, what: &str) -> Result<OsString, Error> {
    match matches.free.as_slice() {
        [one] if !one.is_empty() => Ok(from_text(one)),
        [] => Err(Error::Usage(format!("{what} is missing"))),
        [_] => Err(Error::Usage(format!("{what} is empty"))),
        [_, second, ..] => Err(Error::Usage(format!("one {what} only, not '{}' too", values::shown(second)))),
    }
}

fn download(matches: &Matches) -> Result<Task, Error> {
    let options = settings(matches)?;
    let usage = |text: &str| Err(Error::Usage(text.into()));
    if options.torrents.is_empty() {
        return usage("no TORRENT is given");
    }
    if options.torrents.iter().any(|torrent| torrent.is_empty()) {
        return usage("an empty TORRENT is given");
    }
    Ok(Task::Download(Box::new(options)))
}

fn config(matches: &Matches) -> Result<Task, Error> {
    match settings(matches)?.torrents.first() {
        Some(torrent) => Err(Error::Usage(format!(
            "config takes options only, not '{}'",
            printable(&torrent.to_string_lossy())
        ))),
        None => Ok(Task::Config { save: matches.opt_present("save") }),
    }
}

/// `--bind` and `--bind-device`.
fn bind(matches: &Matches) -> Result<(Vec<IpAddr>, Option<String>), Error> {
    let bind = each(matches, "bind", values::address)?;
    if bind.iter().filter(|a| a.is_ipv4()).count() > 1 || bind.iter().filter(|a| a.is_ipv6()).count() > 1 {
        let text = "--bind is given twice for one family; allowed are one IPv4 and one IPv6 address";
        return Err(Error::Usage(text.into()));
    }
    Ok((bind, value(matches, "bind-device", None, |text| values::device(text).map(Some))?))
}

fn scrape(matches: &Matches) -> Result<Task, Error> {
    let (bind, device) = bind(matches)?;
    let torrents: Vec<OsString> = matches.free.iter().map(|text| from_text(text)).collect();
    match torrents.iter().find(|torrent| torrent.is_empty()) {
        None if torrents.is_empty() => Err(Error::Usage("no TORRENT is given".into())),
        Some(_) => Err(Error::Usage("an empty TORRENT is given".into())),
        None => Ok(Task::Scrape(Scrape { torrents, bind, device, json: matches.opt_present("json") })),
    }
}

fn dht(matches: &Matches) -> Result<Task, Error> {
    let (bind, device) = bind(matches)?;
    if let Some(text) = matches.free.first() {
        let text = printable(text);
        return Err(Error::Usage(format!("dht takes options only, not '{text}'; see --lookup")));
    }
    Ok(Task::Dht(DhtOptions {
        lookup: value(matches, "lookup", None, |text| super::dht::lookup(text).map(Some))?,
        bootstrap: each(matches, "dht-bootstrap", values::peer)?,
        ports: value(matches, "port", 6881..=6889, values::ports)?,
        bind,
        device,
        state_dir: path(matches, "state-dir"),
        json: matches.opt_present("json"),
    }))
}

/// All that a download is told besides its torrents, which may be missing here.
fn settings(matches: &Matches) -> Result<Download, Error> {
    let usage = |text: &str| Err(Error::Usage(text.into()));
    let (bind, device) = bind(matches)?;
    let (seed, exit) = (matches.opt_present("seed"), matches.opt_present("exit"));
    // Who says --seed means to seed; a download gives back what it took. --exit ends it anyway.
    let ratio = if seed { None } else { Some(1000) };
    let options = Download {
        dir: path(matches, "dir").unwrap_or_else(|| PathBuf::from(".")),
        seed,
        exit,
        select: value(matches, "select", None, |text| values::select(text).map(Some))?,
        sequential: matches.opt_present("sequential"),
        overwrite: matches.opt_present("overwrite"),
        prealloc: value(matches, "prealloc", Prealloc::default(), values::prealloc)?,
        disk_io: value(matches, "disk-io", DiskIo::default(), values::disk_io)?,
        ports: value(matches, "port", 6881..=6889, values::ports)?,
        bind,
        device,
        max_conn: value(matches, "max-conn", 50, values::connections)?,
        max_upload: value(matches, "max-upload", 4, values::connections)?,
        max_download_rate: value(matches, "max-download-rate", 0, values::rate)?,
        max_upload_rate: value(matches, "max-upload-rate", 0, values::rate)?,
        max_metadata_size: metadata_size(matches)?,
        encryption: value(matches, "encryption", Encryption::default(), values::encryption)?,
        super_seed: matches.opt_present("super-seed"),
        seed_ratio: value(matches, "seed-ratio", ratio, values::ratio)?.filter(|_| !exit),
        seed_time: value(matches, "seed-time", None, values::minutes)?.filter(|_| !exit),
        peers: each(matches, "peer", values::peer)?,
        trackers: each(matches, "tracker", values::tracker)?,
        dht: !matches.opt_present("no-dht"),
        pex: !matches.opt_present("no-pex"),
        lsd: !matches.opt_present("no-lsd"),
        dht_bootstrap: each(matches, "dht-bootstrap", values::peer)?,
        json: matches.opt_present("json"),
        state_dir: path(matches, "state-dir"),
        on_complete: matches
            .opt_str("on-complete")
            .map(|text| from_text(&text))
            .filter(|command| !command.is_empty()),
        torrents: matches.free.iter().map(|text| from_text(text)).collect(),
    };
    if options.seed && options.exit {
        return usage("--seed and --exit contradict each other");
    }
    Ok(options)
}

fn create(matches: &Matches) -> Result<Task, Error> {
    Ok(Task::Create(Create {
        path: only(matches, "PATH")?.into(),
        out: path(matches, "o"),
        trackers: each(matches, "a", values::tier)?,
        web_seeds: each(matches, "w", values::web_seed)?,
        piece_length: value(matches, "l", None, |text| values::piece_length(text).map(Some))?,
        name: value(matches, "n", None, |text| values::name(text).map(Some))?,
        comment: value(matches, "c", None, |text| values::comment(text).map(Some))?,
        private: matches.opt_present("P"),
    }))
}

fn show(matches: &Matches) -> Result<Task, Error> {
    let (bind, device) = bind(matches)?;
    Ok(Task::Show(Show {
        torrent: only(matches, "TORRENT")?,
        json: matches.opt_present("json"),
        max_metadata_size: metadata_size(matches)?,
        peers: each(matches, "peer", values::peer)?,
        trackers: each(matches, "tracker", values::tracker)?,
        dht: !matches.opt_present("no-dht"),
        dht_bootstrap: each(matches, "dht-bootstrap", values::peer)?,
        pex: !matches.opt_present("no-pex"),
        lsd: !matches.opt_present("no-lsd"),
        encryption: value(matches, "encryption", Encryption::default(), values::encryption)?,
        ports: value(matches, "port", 0..=0, values::ports)?,
        bind,
        device,
        state_dir: path(matches, "state-dir"),
    }))
}

fn metadata_size(matches: &Matches) -> Result<u32, Error> {
    value(matches, "max-metadata-size", limits::METADATA_MAX_DEFAULT, values::metadata_size)
}

fn verify(matches: &Matches) -> Result<Task, Error> {
    let dir = path(matches, "dir").unwrap_or_default();
    Ok(Task::Verify { torrent: only(matches, "TORRENT")?, dir })
}

fn as_tracker(matches: &Matches) -> Result<Task, Error> {
    if let Some(text) = matches.free.first() {
        return Err(Error::Usage(format!("tracker takes options only, not '{}'", values::shown(text))));
    }
    let (bind, device) = bind(matches)?;
    Ok(Task::Tracker(tracker::Options {
        port: value(matches, "port", 6969, values::port)?,
        bind,
        device,
        only: path(matches, "only"),
        interval: value(matches, "interval", limits::TRACKER_INTERVAL, values::interval)?,
        json: matches.opt_present("json"),
    }))
}
