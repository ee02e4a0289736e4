//! What the benchmark is asked for.

use std::path::PathBuf;

pub(crate) const HELP: &str = "\
Usage: cargo bench --bench clients -- [options]
  --quick           256 MiB, 3 rounds
  --rounds N        rounds (5)
  --size MIB        length of the file (1024)
  --only NAME,...   ptorrent libtorrent libtorrent-tuned aria2 transmission rqbit rtorrent
  --dir PATH        where on disk (below target)
  --ptorrent PATH   another ptorrent than the one just built
  --json FILE       where the figures go (target/bench.json)";

pub(crate) struct Options {
    pub(crate) rounds: usize,
    /// In bytes.
    pub(crate) size: usize,
    only: Vec<String>,
    pub(crate) dir: PathBuf,
    pub(crate) ptorrent: PathBuf,
    pub(crate) json: PathBuf,
}

impl Options {
    /// None: help is wanted.
    pub(crate) fn parse(mut args: impl Iterator<Item = String>) -> Result<Option<Options>, String> {
        let scratch = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
        let mut options = Options {
            rounds: 5,
            size: 1 << 30,
            only: Vec::new(),
            json: scratch.with_file_name("bench.json"),
            dir: scratch,
            ptorrent: PathBuf::from(env!("CARGO_BIN_EXE_ptorrent")),
        };
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or(format!("{arg} needs a value"));
            match arg.as_str() {
                // Cargo gives this to every benchmark.
                "--bench" => {}
                "--help" | "-h" => return Ok(None),
                "--quick" => (options.rounds, options.size) = (3, 256 << 20),
                "--rounds" => options.rounds = number(&value()?)?,
                "--size" => options.size = number(&value()?)? << 20,
                "--only" => options.only = value()?.split(',').map(str::to_string).collect(),
                "--dir" => options.dir = value()?.into(),
                "--ptorrent" => options.ptorrent = value()?.into(),
                "--json" => options.json = value()?.into(),
                _ => return Err(format!("unknown option: {arg}")),
            }
        }
        Ok(Some(options))
    }

    pub(crate) fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == name)
    }
}

fn number(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|&number| number > 0).ok_or(format!("not a number above 0: {text}"))
}
