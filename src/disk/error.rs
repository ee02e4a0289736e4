//! Making `DiskError`s: one clear line each, with the path and the reason.

use crate::api::DiskError;
use std::io;
use std::path::PathBuf;

/// The error of `op` on `path`.
pub(super) fn fail(op: &'static str, path: impl Into<PathBuf>, source: impl Into<io::Error>) -> DiskError {
    DiskError { op, path: path.into(), source: source.into() }
}

/// The error of `op` on `path`, in our own words.
pub(super) fn say(
    op: &'static str,
    path: impl Into<PathBuf>,
    kind: io::ErrorKind,
    words: impl Into<String>,
) -> DiskError {
    fail(op, path, io::Error::new(kind, words.into()))
}

/// The same error once more: `io::Error` has no `clone`.
pub(super) fn again(error: &DiskError) -> DiskError {
    let source = match error.source.raw_os_error() {
        Some(errno) => io::Error::from_raw_os_error(errno),
        None => io::Error::new(error.source.kind(), error.source.to_string()),
    };
    DiskError { op: error.op, path: error.path.clone(), source }
}
