//! The rows of the table, and what all of them share.

use std::error::Error;
use std::fmt;
use std::fs::{self, File};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::contestant::{Contestant, Job, Task};
use crate::limits::Limits;
use crate::machine::Cost;
use crate::options::Options;
use crate::place::Place;
use crate::result::Figure;
use crate::shared::calls::Counter;
use crate::shared::content::Content;
use crate::shared::guard::at;
use crate::shared::one_peer;
use crate::shared::program::descriptors;
use crate::shared::seeder::Seeder;
use crate::shared::usage::Memory;

mod check;
mod crowd;
mod idle;
mod leech;
mod seed;
mod swarm;

pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    pub(crate) kind: Kind,
}

pub(crate) enum Kind {
    /// Every client does it in turn.
    Race(Race),
    /// Ptorrent alone is looked at.
    Look(Look),
}

#[derive(Clone, Copy)]
pub(crate) enum Look {
    /// One torrent at rest, or as many as the options say.
    Idle {
        many: bool,
    },
    Crowd,
}

#[derive(Clone, Copy)]
pub(crate) enum Race {
    Leech(Of, usize),
    /// A download through mapped windows.
    Map,
    Seed(Of, usize),
    Check,
    Swarm,
}

/// Which content.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Of {
    Plain,
    Large,
    Many,
    Quarter,
}

const fn race(name: &'static str, title: &'static str, race: Race) -> Row {
    Row { name, title, kind: Kind::Race(race) }
}

const fn look(name: &'static str, title: &'static str, look: Look) -> Row {
    Row { name, title, kind: Kind::Look(look) }
}

pub(crate) const ALL: &[Row] = &[
    race("leech-1", "Download from 1, pieces of 256 KiB", Race::Leech(Of::Plain, 1)),
    race("leech-8", "Download from 8, pieces of 256 KiB", Race::Leech(Of::Plain, 8)),
    race("leech-1-4m", "Download from 1, pieces of 4 MiB", Race::Leech(Of::Large, 1)),
    race("leech-8-4m", "Download from 8, pieces of 4 MiB", Race::Leech(Of::Large, 8)),
    race("mmap", "Download from 1 with --disk-io mmap, pieces of 256 KiB", Race::Map),
    race("small", "Download small files from 1", Race::Leech(Of::Many, 1)),
    race("seed-1", "Upload to 1", Race::Seed(Of::Plain, 1)),
    race("seed-8", "Upload a quarter to each of 8", Race::Seed(Of::Quarter, 8)),
    race("check", "Check what is there", Race::Check),
    race("swarm", "A seed and 8 downloads of a quarter, all of this client", Race::Swarm),
    look("idle", "One torrent at rest", Look::Idle { many: false }),
    look("idle-many", "Many torrents at rest", Look::Idle { many: true }),
    look("crowd", "1,000 connected peers, 100,000 pieces", Look::Crowd),
];

/// Small files at most.
const SMALL_FILES: usize = 20_000;
/// What a client opens besides the files of its torrent, at most.
const SPARE: usize = 200;

/// Seeders of the benchmark at most.
const SEEDERS: usize = 10;

/// What all rows share.
pub(crate) struct Lab {
    pub(crate) plain: Arc<Content>,
    large: Arc<Content>,
    pub(crate) many: Arc<Content>,
    quarter: Arc<Content>,
    crowd: Arc<Content>,
    seeders: Vec<Arc<Seeder>>,
}

impl Lab {
    /// Contents of `size` bytes, and who sends them.
    pub(crate) fn new(all: &Arc<Vec<u8>>, size: usize) -> Result<Lab, Box<dyn Error>> {
        // Twenty thousand of them have 200 MiB. rqbit keeps all files open.
        let count = SMALL_FILES.min(size / 10_700).min(descriptors().saturating_sub(SPARE).max(1));
        let plain = Arc::new(Content::one("plain.bin", all, size, 256 << 10));
        let large = Arc::new(Content::one("large.bin", all, size, 4 << 20));
        let quarter = Arc::new(Content::one("quarter.bin", all, size / 4, 256 << 10));
        let many = Arc::new(Content::many("many", all, count));
        // More than fits: only a part of it is ever sent.
        let piece = Arc::new(all[..256 << 10].to_vec());
        let crowd = Arc::new(Content::repeated("crowd.bin", &piece, 100_000, 256 << 10));
        let contents: Vec<_> = [&plain, &large, &quarter, &many, &crowd].map(Arc::clone).into();
        let seeder = |number| Seeder::start(SocketAddr::new(ip(1, number), 0), contents.clone());
        let seeders = (1..=SEEDERS as u8).map(seeder).collect::<io::Result<_>>()?;
        Ok(Lab { plain, large, many, quarter, crowd, seeders })
    }

    fn content(&self, of: Of) -> &Arc<Content> {
        match of {
            Of::Plain => &self.plain,
            Of::Large => &self.large,
            Of::Many => &self.many,
            Of::Quarter => &self.quarter,
        }
    }
}

impl Look {
    pub(crate) fn run(
        self,
        options: &Options,
        lab: &Lab,
        place: &Place,
        counter: Option<Counter>,
    ) -> Result<Vec<Figure>, Box<dyn Error>> {
        match self {
            Look::Idle { many: false } => idle::run(options, place, 1, counter),
            Look::Idle { many: true } => idle::run(options, place, options.idle, counter),
            Look::Crowd => crowd::run(options, lab, place),
        }
    }
}

impl Race {
    /// Bytes that a client moves, or reads.
    pub(crate) fn bytes(self, lab: &Lab) -> usize {
        match self {
            Race::Leech(of, _) => lab.content(of).len(),
            Race::Map => lab.plain.len(),
            Race::Seed(of, sinks) => lab.content(of).len() * sinks,
            Race::Check => lab.plain.len(),
            Race::Swarm => lab.quarter.len() * swarm::SIZE,
        }
    }

    /// Memory that a run may want: what it writes where files are in memory, and what the greediest client takes.
    pub(crate) fn memory(self, lab: &Lab) -> usize {
        let written = match self {
            Race::Leech(of, _) => lab.content(of).len(),
            Race::Map => lab.plain.len(),
            Race::Swarm => lab.quarter.len() * (swarm::SIZE + 1),
            Race::Seed(..) | Race::Check => 0,
        };
        written + (256 << 20)
    }

    /// What a perfect client would take for a GiB.
    pub(crate) fn limit(self, limits: &Limits, place: &Place) -> Cost {
        match self {
            Race::Leech(of, _) => limits.leech(place, of == Of::Many),
            Race::Map => limits.leech(place, false),
            Race::Seed(..) => limits.seed(place),
            Race::Check => limits.check(place),
            Race::Swarm => limits.swarm(place),
        }
    }

    /// Whether a client can take part.
    pub(crate) fn is_for(self, who: &Contestant) -> bool {
        who.can(if matches!(self, Race::Map) { Task::Map } else { Task::Leech })
    }

    /// Of how many files, where that is not one.
    pub(crate) fn files(self, lab: &Lab) -> Option<usize> {
        matches!(self, Race::Leech(Of::Many, _)).then(|| lab.many.count())
    }

    /// Whether system calls are counted: not of nine processes at a time.
    pub(crate) fn is_counted(self) -> bool {
        !matches!(self, Race::Swarm)
    }

    /// What is there before the first round: for a seed and a check, the content.
    pub(crate) fn prepare(self, lab: &Lab, place: &Place) -> Result<(), Box<dyn Error>> {
        let of = match self {
            Race::Seed(of, _) => of,
            Race::Check => Of::Plain,
            Race::Leech(..) | Race::Map | Race::Swarm => return Ok(()),
        };
        Ok(lab.content(of).write(&place.full())?)
    }

    pub(crate) fn clean_up(self, place: &Place) -> io::Result<()> {
        match fs::remove_dir_all(place.full()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// One run of one client. With a counter, what it takes is not to be believed: its system calls are counted.
    pub(crate) fn run(
        self,
        lab: &Lab,
        who: &Contestant,
        place: &Place,
        counter: Option<Counter>,
    ) -> Result<Sample, Box<dyn Error>> {
        let room = Room::new(place)?;
        // What the last run left to write back would be counted with this one.
        rustix::fs::syncfs(File::open(&room.dir)?)?;
        let sample = match self {
            Race::Leech(of, seeders) => {
                leech::run(Task::Leech, &lab.seeders[..seeders], who, &room, lab.content(of), counter)
            }
            Race::Map => leech::run(Task::Map, &lab.seeders[..1], who, &room, &lab.plain, counter),
            Race::Seed(of, sinks) => seed::run(who, &room, lab.content(of), sinks, counter),
            Race::Check => check::run(who, &room, &lab.plain, counter),
            Race::Swarm => swarm::run(who, &room, &lab.quarter, counter),
        };
        fs::remove_dir_all(&room.dir).map_err(at(&room.dir))?;
        sample
    }
}

/// What one run took.
#[derive(Clone, Copy)]
pub(crate) struct Sample {
    /// Seconds from the start of the process to all complete; of a seed, from the first request to the last byte.
    pub(crate) wall: f64,
    /// Seconds from its first request to all complete: some clients take their time before.
    pub(crate) moving: Option<f64>,
    /// Seconds of the processor.
    pub(crate) cpu: f64,
    pub(crate) memory: Memory,
    /// System calls, when they were counted.
    pub(crate) calls: Option<u64>,
}

impl Sample {
    fn new(start: Instant, first: Option<Instant>, end: Instant, cpu: Duration, memory: Memory) -> Sample {
        Sample {
            wall: (end - start).as_secs_f64(),
            moving: first.map(|first| end.saturating_duration_since(first).as_secs_f64()),
            cpu: cpu.as_secs_f64(),
            memory,
            calls: None,
        }
    }
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (anonymous, resident) = (self.memory.anonymous / 1024, self.memory.resident / 1024);
        write!(f, "{:.2} s, {:.2} CPU s, ", self.wall, self.cpu)?;
        write!(f, "{anonymous} MiB anonymous, {resident} MiB resident")?;
        self.calls.map_or(Ok(()), |calls| write!(f, "; {calls} system calls"))
    }
}

/// The folder of one run.
struct Room<'a> {
    place: &'a Place,
    dir: PathBuf,
}

impl Room<'_> {
    fn new(place: &Place) -> io::Result<Room<'_>> {
        let dir = place.dir.join("run");
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).map_err(at(&dir))?;
        Ok(Room { place, dir })
    }

    fn make(&self, name: &str) -> io::Result<PathBuf> {
        let dir = self.dir.join(name);
        fs::create_dir_all(&dir).map_err(at(&dir))?;
        Ok(dir)
    }

    /// What a client is to do here, with a home and addresses of its own; its data is below `data`. The torrent is
    /// there without a tracker and with one that names these peers.
    fn job(&self, task: Task, content: &Content, data: PathBuf, peers: Vec<SocketAddr>) -> io::Result<Job> {
        let (plain, announced) = (self.dir.join("plain.torrent"), self.dir.join("announced.torrent"));
        content.save(&plain, None)?;
        content.save(&announced, Some(&one_peer::start(SocketAddr::new(ip(0, 1), 0), &peers)?))?;
        let (listen, rpc) = (free(ip(0, 2))?, free(ip(0, 2))?);
        Ok(Job { task, plain, announced, data, home: self.make("home")?, listen, rpc, peers })
    }

    /// The same for what is there before, all of it in the page cache: it is compared.
    fn job_with_all(&self, task: Task, content: &Content) -> Result<Job, Box<dyn Error>> {
        let data = self.place.full();
        content.verify(&data)?;
        Ok(self.job(task, content, data, Vec::new())?)
    }
}

/// Clients take one address for one peer: all have addresses of their own.
fn ip(net: u8, number: u8) -> IpAddr {
    Ipv4Addr::new(127, 66, net, number).into()
}

fn free(ip: IpAddr) -> io::Result<SocketAddr> {
    TcpListener::bind((ip, 0))?.local_addr()
}
