//! What the benchmark is asked for.

use std::path::PathBuf;

use crate::rows::{self, Row};

pub(crate) const HELP: &str = "\
Usage: make bench, or: cargo bench --bench clients -- [options]
  --quick           under two minutes: 256 MiB in memory, 3 rounds, the quickest clients
  --rounds N        rounds (5)
  --size MIB        length of the file (1024)
  --rows NAME,...   leech-1 leech-8 leech-1-4m leech-8-4m small seed-1 seed-8 check swarm idle idle-many crowd
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
    pub(crate) quick: bool,
    pub(crate) rounds: usize,
    /// In bytes.
    pub(crate) size: usize,
    rows: Vec<String>,
    only: Vec<String>,
    fs: Vec<String>,
    pub(crate) dir: PathBuf,
    pub(crate) ptorrent: PathBuf,
    pub(crate) against: Option<PathBuf>,
    pub(crate) idle: usize,
    pub(crate) seconds: usize,
    pub(crate) calls: bool,
    pub(crate) json: PathBuf,
}

impl Options {
    /// None: help is wanted.
    pub(crate) fn parse(mut args: impl Iterator<Item = String>) -> Result<Option<Options>, String> {
        let scratch = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
        let mut options = Options {
            quick: false,
            rounds: 0,
            size: 0,
            rows: Vec::new(),
            only: Vec::new(),
            fs: Vec::new(),
            json: scratch.with_file_name("bench.json"),
            dir: scratch,
            ptorrent: PathBuf::from(env!("CARGO_BIN_EXE_ptorrent")),
            against: None,
            idle: 0,
            seconds: 0,
            calls: true,
        };
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or(format!("{arg} needs a value"));
            match arg.as_str() {
                // Cargo gives this to every benchmark.
                "--bench" => {}
                "--help" | "-h" => return Ok(None),
                "--quick" => options.quick = true,
                "--rounds" => options.rounds = number(&value()?)?,
                "--size" => options.size = number(&value()?)? << 20,
                "--rows" => options.rows = words(&value()?),
                "--only" => options.only = words(&value()?),
                "--fs" => options.fs = words(&value()?),
                "--dir" => options.dir = value()?.into(),
                "--ptorrent" => options.ptorrent = value()?.into(),
                "--against" => options.against = Some(value()?.into()),
                "--idle" => options.idle = number(&value()?)?,
                "--seconds" => options.seconds = number(&value()?)?,
                "--no-calls" => options.calls = false,
                "--json" => options.json = value()?.into(),
                _ => return Err(format!("unknown option: {arg}")),
            }
        }
        options.fill_in();
        let known = |name: &String| rows::ALL.iter().any(|row| row.name == name);
        match options.rows.iter().find(|name| !known(name)) {
            Some(name) => Err(format!("there is no row {name}")),
            None => Ok(Some(options)),
        }
    }

    /// What was not said. The quick form leaves out what takes long, not what matters.
    fn fill_in(&mut self) {
        let or = |value: &mut usize, full, quick| {
            if *value == 0 {
                *value = if self.quick { quick } else { full };
            }
        };
        or(&mut self.rounds, 5, 3);
        or(&mut self.size, 1 << 30, 256 << 20);
        or(&mut self.idle, 1000, 100);
        or(&mut self.seconds, 60, 5);
        if self.quick && self.only.is_empty() {
            self.only = words("ptorrent,other,libtorrent,rqbit");
        }
        if self.quick && self.fs.is_empty() {
            self.fs = words("tmpfs");
        }
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

fn words(text: &str) -> Vec<String> {
    text.split(',').map(str::to_string).collect()
}

fn number(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|&number| number > 0).ok_or(format!("not a number above 0: {text}"))
}
