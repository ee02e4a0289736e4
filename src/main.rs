//! The binary: arguments to `cli::run`, its result to an exit code.

fn main() {}
