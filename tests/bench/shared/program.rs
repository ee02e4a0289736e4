//! What every benchmark begins and ends with: its options, signals, and what is left behind.

use std::error::Error;
use std::iter::Skip;
use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;

use super::guard;

/// A benchmark; its value is what was asked for.
pub(crate) trait Program {
    const NAME: &'static str;
    const HELP: &'static str;

    /// The options that most of them have.
    fn common(&mut self) -> Option<&mut Common> {
        None
    }

    /// One option of its own. False: it has no such option.
    fn take(&mut self, _option: &str, _args: &mut Args) -> Result<bool, String> {
        Ok(false)
    }

    /// All options are there.
    fn check(&mut self) -> Result<(), String> {
        Ok(())
    }

    fn run(&self) -> Result<(), Box<dyn Error>>;
}

/// Options that most of them have.
pub(crate) struct Common {
    pub(crate) rounds: usize,
    /// In MiB; 0 where there is no such thing.
    pub(crate) size: usize,
    pub(crate) dir: PathBuf,
    pub(crate) ptorrent: PathBuf,
}

impl Common {
    pub(crate) fn new(rounds: usize, size: usize) -> Common {
        let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
        Common { rounds, size, dir, ptorrent: PathBuf::from(env!("CARGO_BIN_EXE_ptorrent")) }
    }

    fn take(&mut self, option: &str, args: &mut Args) -> Result<bool, String> {
        match option {
            "--rounds" => self.rounds = args.number()?,
            "--size" => self.size = args.number()?,
            "--dir" => self.dir = args.value()?.into(),
            "--ptorrent" => self.ptorrent = args.value()?.into(),
            _ => return Ok(false),
        }
        Ok(true)
    }
}

/// The words of the command line.
pub(crate) struct Args {
    rest: Skip<std::env::Args>,
    option: String,
}

impl Args {
    /// What follows the option.
    pub(crate) fn value(&mut self) -> Result<String, String> {
        self.rest.next().ok_or_else(|| format!("{} needs a value", self.option))
    }

    /// A number above 0.
    pub(crate) fn number<T: FromStr + Default + PartialOrd>(&mut self) -> Result<T, String> {
        let text = self.value()?;
        let number = text.parse().ok().filter(|number| *number > T::default());
        number.ok_or_else(|| format!("{}: not a number above 0: {text}", self.option))
    }

    /// Words between commas.
    pub(crate) fn words(&mut self) -> Result<Vec<String>, String> {
        Ok(self.value()?.split(',').map(str::to_string).collect())
    }
}

/// Runs it with the options of the command line.
pub(crate) fn main<P: Program>(mut program: P) -> ExitCode {
    match parse(&mut program) {
        Ok(true) => {}
        Ok(false) => {
            println!("{}", P::HELP);
            return ExitCode::SUCCESS;
        }
        Err(message) => {
            eprintln!("{}: {message}\n{}", P::NAME, P::HELP);
            return ExitCode::from(2);
        }
    }
    raise_descriptors();
    let result = guard::watch().map_err(Into::into).and_then(|()| program.run());
    guard::clean();
    match result {
        _ if guard::is_stopped() => {
            eprintln!("{}: stopped by a signal", P::NAME);
            ExitCode::from(130)
        }
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}: {error}", P::NAME);
            ExitCode::FAILURE
        }
    }
}

/// False: help is wanted.
fn parse<P: Program>(program: &mut P) -> Result<bool, String> {
    let mut args = Args { rest: std::env::args().skip(1), option: String::new() };
    while let Some(option) = args.rest.next() {
        args.option.clone_from(&option);
        match option.as_str() {
            // Cargo gives this to every benchmark.
            "--bench" => continue,
            "--help" | "-h" => return Ok(false),
            _ => {}
        }
        let known = match program.common() {
            Some(common) => common.take(&option, &mut args)?,
            None => false,
        };
        if !known && !program.take(&option, &mut args)? {
            return Err(format!("unknown option: {option}"));
        }
    }
    program.check()?;
    Ok(true)
}

/// A thousand connections, or clients that keep all files open, want more than the usual limit leaves.
fn raise_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}

/// How many files a process may have open.
pub(crate) fn descriptors() -> usize {
    use rustix::process::{Resource, getrlimit};
    getrlimit(Resource::Nofile).maximum.map_or(usize::MAX, |most| most as usize)
}
