//! The binary: arguments to `cli::run`, its result to an exit code.

use ptorrent::cli::{Env, run};
use std::io;
use std::process::ExitCode;

fn main() -> ExitCode {
    let (mut out, mut err) = (io::stdout(), io::stderr());
    ExitCode::from(run(&mut Env::of_process(&mut out, &mut err)))
}
