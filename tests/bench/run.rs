//! One run of one client: from the start of its process to all data complete.

use std::error::Error;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::clients::{self, Client, Role, Start};
use crate::seeder::Seeder;
use crate::usage::{self, Ended, Memory};

/// Nothing takes longer, not even a slow machine.
const PATIENCE: Duration = Duration::from_secs(300);

const LISTEN: &str = "127.66.0.2";

/// A client as it is run here.
pub(crate) struct Contestant {
    pub(crate) name: &'static str,
    what: What,
}

enum What {
    Ptorrent(PathBuf),
    Other(Client, Vec<String>),
}

/// All of them, ptorrent first.
pub(crate) fn all(ptorrent: &Path) -> Vec<Contestant> {
    // For two cores and little memory: fewer threads, and a sixteenth of the write queue.
    let tuned = ["aio_threads=2", "hashing_threads=2", "max_queued_disk_bytes=6291456", "file_pool_size=10"];
    let other = |name, client| Contestant { name, what: What::Other(client, Vec::new()) };
    vec![
        Contestant { name: "ptorrent", what: What::Ptorrent(ptorrent.to_path_buf()) },
        other("libtorrent", Client::Libtorrent),
        Contestant {
            name: "libtorrent-tuned",
            what: What::Other(Client::Libtorrent, tuned.map(str::to_string).to_vec()),
        },
        other("aria2", Client::Aria2),
        other("transmission", Client::Transmission),
        other("rqbit", Client::Rqbit),
        other("rtorrent", Client::Rtorrent),
    ]
}

impl Contestant {
    pub(crate) fn is_there(&self) -> bool {
        let there = match &self.what {
            What::Ptorrent(path) => path.exists(),
            What::Other(client, _) => client.program().is_some(),
        };
        if !there {
            println!("left out: {} is not there (scripts/setup-peers.sh)", self.name);
        }
        there
    }
}

/// What one run took.
#[derive(Clone, Copy)]
pub(crate) struct Sample {
    /// Seconds from the start of the process to all data complete.
    pub(crate) wall: f64,
    /// Seconds from its first request to all data complete: some clients take their time before.
    pub(crate) moving: f64,
    /// Seconds of the processor.
    pub(crate) cpu: f64,
    pub(crate) memory: Memory,
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (anonymous, resident) = (self.memory.anonymous / 1024, self.memory.resident / 1024);
        write!(f, "{:.2} s ({:.2} s moving), {:.2} CPU s, ", self.wall, self.moving, self.cpu)?;
        write!(f, "{anonymous} MiB anonymous, {resident} MiB resident")
    }
}

/// What all runs share.
pub(crate) struct Bench {
    pub(crate) data: Arc<Vec<u8>>,
    pub(crate) seeder: Arc<Seeder>,
}

impl Bench {
    pub(crate) fn run(&self, contestant: &Contestant, place: &Path) -> Result<Sample, Box<dyn Error>> {
        let dir = place.join("run");
        let (data, home) = (dir.join("data"), dir.join("home"));
        fs::create_dir_all(&data)?;
        fs::create_dir_all(&home)?;
        // What the last run left to write back would be counted with this one.
        rustix::fs::syncfs(File::open(&dir)?)?;
        self.seeder.reset();
        let result = self.measure(contestant, place, &data, &home);
        self.seeder.reset();
        let result = result.and_then(|sample| {
            self.verify(&data.join(crate::NAME))?;
            Ok(sample)
        });
        fs::remove_dir_all(&dir)?;
        result
    }

    fn measure(
        &self,
        contestant: &Contestant,
        place: &Path,
        data: &Path,
        home: &Path,
    ) -> Result<Sample, Box<dyn Error>> {
        let ip: IpAddr = LISTEN.parse()?;
        let (listen, rpc) = (free(ip)?, free(ip)?);
        let mut command = match &contestant.what {
            What::Ptorrent(path) => self.ptorrent(path, place, data, home, ip),
            What::Other(client, settings) => {
                let peers = [self.seeder.listen];
                let by_tracker = matches!(client, Client::Aria2 | Client::Rtorrent);
                let torrent = place.join(if by_tracker { "tracker.torrent" } else { "plain.torrent" });
                client.command(&Start {
                    role: Role::Leech,
                    torrent: &torrent,
                    data,
                    home,
                    listen,
                    rpc: rpc.port(),
                    peers: &peers,
                    settings,
                })?
            }
        };
        let (out, err) = (home.join("stdout"), home.join("stderr"));
        command.stdin(Stdio::null()).stdout(File::create(&out)?).stderr(File::create(&err)?);
        let start = Instant::now();
        let mut child = command.spawn()?;
        if matches!(contestant.what, What::Other(Client::Transmission, _)) {
            self.seeder.dial(listen);
        }
        let mut memory = Memory::default();
        let said = |words: &str| fs::read_to_string(&out).is_ok_and(|out| out.contains(words));
        let complete = |polls: u32| match contestant.what {
            // These take their time to end.
            What::Other(Client::Aria2, _) => said("Download complete"),
            What::Other(Client::Libtorrent, _) => said("finished"),

            What::Other(Client::Rtorrent, _) => clients::rtorrent_mark(home).exists(),
            // Asking costs it something: not before it has begun, and not too often.
            What::Other(Client::Transmission, _) => {
                polls.is_multiple_of(20)
                    && self.seeder.first_request().is_some()
                    && clients::transmission_progress(SocketAddr::new(ip, rpc.port()))
                        .is_some_and(|now| now.left == 0)
            }
            _ => false,
        };
        let ended = watch(&mut child, start, &mut memory, complete);
        let (ended, end) = ended.inspect_err(|_| {
            let text = fs::read_to_string(&err).unwrap_or_default();
            let last = text.lines().last().unwrap_or("");
            println!("{}: {last}", contestant.name);
        })?;
        let first = self.seeder.first_request().ok_or("it asked for no block")?;
        Ok(Sample {
            wall: (end - start).as_secs_f64(),
            moving: end.saturating_duration_since(first).as_secs_f64(),
            cpu: ended.cpu.0.as_secs_f64(),
            memory,
        })
    }

    fn ptorrent(&self, program: &Path, place: &Path, data: &Path, home: &Path, ip: IpAddr) -> Command {
        let mut command = Command::new(program);
        command
            .args(["-x", "-q", "-p", "0", "--no-dht", "--no-pex", "--no-lsd", "--encryption", "disabled"])
            .args(["-b", &ip.to_string(), "--peer", &self.seeder.listen.to_string(), "-d"])
            .arg(data)
            .arg(place.join("plain.torrent"));
        clients::at_home(&mut command, home);
        command
    }

    /// A client that is fast because it leaves bytes out is not fast.
    fn verify(&self, path: &Path) -> Result<(), Box<dyn Error>> {
        let mut file = File::open(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let mut found = vec![0; 1 << 20];
        for wanted in self.data.chunks(found.len()) {
            let found = &mut found[..wanted.len()];
            file.read_exact(found)?;
            if found != wanted {
                return Err("what it wrote differs".into());
            }
        }
        Ok(())
    }
}

/// Follows a client until it is complete by its own end or by `complete`, which is asked every few milliseconds;
/// then ends it. Returns when that was.
fn watch(
    child: &mut Child,
    start: Instant,
    memory: &mut Memory,
    complete: impl Fn(u32) -> bool,
) -> Result<(Ended, Instant), Box<dyn Error>> {
    let mut polls = 0;
    loop {
        if let Some(ended) = usage::wait(child, false)? {
            let end = Instant::now();
            return if ended.success { Ok((ended, end)) } else { Err("it failed".into()) };
        }
        if polls % 4 == 0 {
            memory.sample(child);
        }
        let done = complete(polls);
        let now = Instant::now();
        if done || now - start > PATIENCE {
            memory.sample(child);
            child.kill()?;
            let ended = usage::wait(child, true)?.ok_or("it did not end")?;
            return if done { Ok((ended, now)) } else { Err("it did not finish in time".into()) };
        }
        polls += 1;
        thread::sleep(Duration::from_millis(5));
    }
}

fn free(ip: IpAddr) -> io::Result<SocketAddr> {
    TcpListener::bind((ip, 0))?.local_addr()
}
