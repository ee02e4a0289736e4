//! What the benchmark is asked for.

use std::path::PathBuf;

use crate::rows::{self, Row};
use crate::shared::program::{Args, Common};

pub(crate) const HELP: &str = "\
Usage: make bench, or: cargo bench --bench clients -- [options]
  --quick           under two minutes: 192 MiB in memory, 3 rounds, the quickest clients, calls of ptorrent alone
  --rounds N        rounds (5)
  --size MIB        length of the file (1024)
  --rows NAME,...   leech-1 leech-8 leech-1-4m leech-8-4m mmap small seed-1 seed-8 check swarm idle
                    idle-many crowd
  --only NAME,...   ptorrent libtorrent libtorrent-tuned aria2 transmission rqbit rtorrent
  --fs NAME,...     tmpfs (/dev/shm), or the name of the file system below --dir
  --dir PATH        where on disk (below target)
  --ptorrent PATH   another ptorrent than the one just built
  --against PATH    a second ptorrent, called `other`: before and after a change
  --idle N          torrents of the row idle-many (1000)
  --seconds N       how long idle, idle-many and crowd watch (60)
  --no-calls        leave out the round that counts system calls
  --json FILE       where the figures go (target/bench.json)";

pub(crate) struct Options {
    pub(crate) common: Common,
    pub(crate) quick: bool,
    rows: Vec<String>,
    only: Vec<String>,
    fs: Vec<String>,
    pub(crate) against: Option<PathBuf>,
    pub(crate) idle: usize,
    pub(crate) seconds: usize,
    pub(crate) calls: bool,
    pub(crate) json: PathBuf,
}

impl Options {
    /// What stands for everything that is not said is filled in at the end.
    pub(crate) fn new() -> Options {
        let common = Common::new(0, 0);
        Options {
            quick: false,
            rows: Vec::new(),
            only: Vec::new(),
            fs: Vec::new(),
            json: common.dir.with_file_name("bench.json"),
            common,
            against: None,
            idle: 0,
            seconds: 0,
            calls: true,
        }
    }

    pub(crate) fn take(&mut self, option: &str, args: &mut Args) -> Result<bool, String> {
        match option {
            "--quick" => self.quick = true,
            "--rows" => self.rows = args.words()?,
            "--only" => self.only = args.words()?,
            "--fs" => self.fs = args.words()?,
            "--against" => self.against = Some(args.value()?.into()),
            "--idle" => self.idle = args.number()?,
            "--seconds" => self.seconds = args.number()?,
            "--no-calls" => self.calls = false,
            "--json" => self.json = args.value()?.into(),
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Fills in what was not said. The quick form leaves out what takes long, not what matters.
    pub(crate) fn check(&mut self) -> Result<(), String> {
        let or = |value: &mut usize, full, quick| {
            if *value == 0 {
                *value = if self.quick { quick } else { full };
            }
        };
        or(&mut self.common.rounds, 5, 3);
        or(&mut self.common.size, 1024, 192);
        or(&mut self.idle, 1000, 100);
        or(&mut self.seconds, 60, 2);
        let words = |text: &str| text.split(',').map(str::to_string).collect();
        if self.quick && self.only.is_empty() {
            self.only = words("ptorrent,other,libtorrent,rqbit");
        }
        if self.quick && self.fs.is_empty() {
            self.fs = words("tmpfs");
        }
        let known = |name: &String| rows::ALL.iter().any(|row| row.name == name);
        match self.rows.iter().find(|name| !known(name)) {
            Some(name) => Err(format!("there is no row {name}")),
            None => Ok(()),
        }
    }

    /// Length of the file.
    pub(crate) fn bytes(&self) -> usize {
        self.common.size << 20
    }

    pub(crate) fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == name)
    }

    pub(crate) fn wants_place(&self, name: &str) -> bool {
        self.fs.is_empty() || self.fs.iter().any(|fs| fs == name)
    }

    pub(crate) fn rows(&self) -> Vec<&'static Row> {
        let wanted = |row: &&Row| self.rows.is_empty() || self.rows.iter().any(|name| name == row.name);
        rows::ALL.iter().filter(wanted).collect()
    }
}
