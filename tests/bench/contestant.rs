//! Who takes part, how each is started for its task, and how it is seen that it is done.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::shared::clients::{self, Client, Role, Start};
use crate::shared::process::Process;

pub(crate) struct Contestant {
    pub(crate) name: &'static str,
    what: What,
}

enum What {
    Ptorrent(PathBuf),
    Other(Client, Vec<String>),
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Task {
    /// Downloads, and ends when it has all.
    Leech,
    /// The same through mapped windows, which ptorrent alone is asked for.
    Map,
    /// Uploads what is there.
    Seed,
    /// Finds out that all is there, and ends.
    Check,
}

/// What one process is to do.
#[derive(Clone)]
pub(crate) struct Job {
    pub(crate) task: Task,
    /// Without a tracker, for who can be told of peers, and with one.
    pub(crate) plain: PathBuf,
    pub(crate) announced: PathBuf,
    pub(crate) data: PathBuf,
    pub(crate) home: PathBuf,
    pub(crate) listen: SocketAddr,
    pub(crate) rpc: SocketAddr,
    pub(crate) peers: Vec<SocketAddr>,
}

/// All of them, ptorrent first.
pub(crate) fn all(ptorrent: &Path, other: Option<&Path>) -> Vec<Contestant> {
    // For two cores and little memory: fewer threads, and a sixteenth of the write queue.
    let tuned = ["aio_threads=2", "hashing_threads=2", "max_queued_disk_bytes=6291456", "file_pool_size=10"];
    let one = |name, client| Contestant { name, what: What::Other(client, Vec::new()) };
    let ours = |name, path: &Path| Contestant { name, what: What::Ptorrent(path.to_path_buf()) };
    let mut all = vec![ours("ptorrent", ptorrent)];
    all.extend(other.map(|path| ours("other", path)));
    all.extend([
        one("libtorrent", Client::Libtorrent),
        Contestant {
            name: "libtorrent-tuned",
            what: What::Other(Client::Libtorrent, tuned.map(str::to_string).to_vec()),
        },
        one("aria2", Client::Aria2),
        one("transmission", Client::Transmission),
        one("rqbit", Client::Rqbit),
        one("rtorrent", Client::Rtorrent),
    ]);
    all
}

impl Contestant {
    pub(crate) fn is_there(&self) -> bool {
        match &self.what {
            What::Ptorrent(path) => path.exists(),
            What::Other(client, _) => client.program().is_some(),
        }
    }

    /// Whether it can do this.
    pub(crate) fn can(&self, task: Task) -> bool {
        task != Task::Map || matches!(self.what, What::Ptorrent(_))
    }

    /// What it says of its version.
    pub(crate) fn version(&self) -> String {
        let (program, args): (_, &[&str]) = match &self.what {
            What::Ptorrent(path) => (Some(path.clone()), &["--version"]),
            What::Other(Client::Libtorrent, _) => {
                (Client::Libtorrent.program(), &["-c", "import libtorrent; print(libtorrent.version)"])
            }
            What::Other(Client::Rtorrent, _) => (Client::Rtorrent.program(), &["-h"]),
            What::Other(client, _) => (client.program(), &["--version"]),
        };
        let Some(output) = program.and_then(|program| Command::new(program).args(args).output().ok()) else {
            return String::new();
        };
        // Some say it where errors go; rtorrent in a sentence about itself.
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        let line = text.lines().find(|line| line.contains(|c: char| c.is_ascii_digit()));
        line.unwrap_or_default().trim().to_string()
    }

    /// It never dials an address of loopback: the other side has to.
    pub(crate) fn must_be_dialed(&self) -> bool {
        matches!(self.what, What::Other(Client::Transmission, _))
    }

    pub(crate) fn command(&self, job: &Job) -> io::Result<Command> {
        let (client, settings) = match &self.what {
            What::Ptorrent(path) => return Ok(ptorrent(path, job)),
            What::Other(client, settings) => (*client, settings),
        };
        let by_tracker = matches!(client, Client::Aria2 | Client::Rtorrent);
        let mut command = client.command(&Start {
            role: if self.checks_as_a_seed(job.task) || job.task == Task::Seed {
                Role::Seed
            } else {
                Role::Leech
            },
            torrent: if by_tracker { &job.announced } else { &job.plain },
            data: &job.data,
            home: &job.home,
            listen: job.listen,
            rpc: job.rpc.port(),
            peers: &job.peers,
            settings,
        })?;
        match client {
            Client::Aria2 if job.task == Task::Check => {
                command.args(["--check-integrity=true", "--hash-check-only=true"]);
            }
            Client::Rtorrent if job.task == Task::Check => {
                let mark = clients::rtorrent_mark(&job.home);
                let mut rc = OpenOptions::new().append(true).open(job.home.join("rtorrent.rc"))?;
                let mark = mark.display();
                writeln!(
                    rc,
                    "method.set_key = event.download.hash_done,checked,\"execute.throw=touch,{mark}\""
                )?;
            }
            _ => {}
        }
        Ok(command)
    }

    /// Transmission believes what is there, and has to be asked for a check.
    pub(crate) fn checks_as_a_seed(&self, task: Task) -> bool {
        task == Task::Check && matches!(self.what, What::Other(Client::Transmission, _))
    }

    /// Whether a download or a check is complete; some tell by ending. Asked each few milliseconds, `polls` times
    /// before.
    pub(crate) fn is_complete(&self, job: &Job, process: &Process, polls: u32) -> bool {
        match (&self.what, job.task) {
            (What::Other(Client::Aria2, _), Task::Leech) => process.said("Download complete"),
            (What::Other(Client::Libtorrent, _), _) => process.said("finished"),
            (What::Other(Client::Rtorrent, _), _) => clients::rtorrent_mark(&job.home).exists(),
            // Asking costs it something.
            (What::Other(Client::Transmission, _), _) if polls.is_multiple_of(20) => {
                clients::transmission_progress(job.rpc).is_some_and(|now| now.left == 0 && now.seeding)
            }
            _ => false,
        }
    }
}

fn ptorrent(program: &Path, job: &Job) -> Command {
    let mut command = Command::new(program);
    match job.task {
        Task::Leech | Task::Check => command.arg("-x"),
        Task::Map => command.args(["-x", "--disk-io", "mmap"]),
        // As many as there are sinks: the others have more slots than four, or no slots at all.
        Task::Seed => command.args(["-s", "-u", "16"]),
    };
    command.args(["-q", "--no-dht", "--no-pex", "--no-lsd", "--encryption", "disabled"]).args([
        "-b",
        &job.listen.ip().to_string(),
        "-p",
        &job.listen.port().to_string(),
    ]);
    for peer in &job.peers {
        command.args(["--peer", &peer.to_string()]);
    }
    command.arg("-d").arg(&job.data).arg(&job.plain);
    clients::at_home(&mut command, &job.home);
    command
}

/// Has Transmission check what is there; None while it does not answer.
pub(crate) fn transmission_verify(rpc: SocketAddr) -> Option<()> {
    let post = |header: &str| {
        let body = r#"{"method":"torrent-verify","arguments":{}}"#;
        let head = format!("POST /transmission/rpc HTTP/1.1\r\nHost: {rpc}\r\nConnection: close\r\n{header}");
        clients::http(rpc, &format!("{head}Content-Length: {}\r\n\r\n{body}", body.len())).ok()
    };
    // It answers 409 with the id of the session, which the next request must bear.
    let refusal = post("")?;
    let session = refusal.split_once("X-Transmission-Session-Id: ")?.1.split_once("\r\n")?.0;
    post(&format!("X-Transmission-Session-Id: {session}\r\n"))?.contains("success").then_some(())
}
