//! How many files the process may have open, and what they are for. What runs short is the connections: a peer that is
//! not connected costs nothing, a file that cannot be opened ends its torrent.

use crate::limits::{
    CALLS_BEYOND, CONNECTIONS_MIN, DESCRIPTORS, DESCRIPTORS_FOLDERS, DESCRIPTORS_LANE, DESCRIPTORS_OWN,
    DESCRIPTORS_TORRENT, HELPERS_MAX, LANES_MAX, WEB_FETCHES,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::OnceLock;

/// The limit before it was raised.
static ORIGINAL: OnceLock<Rlimit> = OnceLock::new();

/// Takes as many descriptors as the system allows: a torrent holds two at rest, and the usual limit of 1,024 is there
/// for programs of old that could not count further. Gives the limit.
pub fn raise() -> usize {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    ORIGINAL.get_or_init(|| Rlimit { current, maximum });
    if current != maximum
        && let Err(errno) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })
    {
        log::info!("the limit of open files stays at {current:?}: {errno}");
    }
    limit()
}

/// Has a command start with the limit that we were started with: a program that counts its descriptors with `select`, or
/// that closes all of them one by one, is not made for a high one.
#[expect(unsafe_code, reason = "a call between fork and exec")]
pub fn restore_in(command: &mut Command) {
    let Some(original) = ORIGINAL.get().copied() else { return };
    // SAFETY: between fork and exec the closure does one system call and allocates nothing; what it holds was made before.
    unsafe {
        command.pre_exec(move || Ok(setrlimit(Resource::Nofile, original)?));
    }
}

/// The limit in force.
pub fn limit() -> usize {
    let current = getrlimit(Resource::Nofile).current;
    current.and_then(|current| usize::try_from(current).ok()).unwrap_or(usize::MAX)
}

/// How many files of torrents one disk worker may keep open: all workers together take a quarter of the limit.
pub fn files_of_worker(limit: usize) -> usize {
    (limit / 4 / LANES_MAX).clamp(2, DESCRIPTORS)
}

/// How many of these disk workers there are descriptors for.
pub fn workers(limit: usize, wanted: usize) -> usize {
    wanted.min(limit / DESCRIPTORS_LANE).max(1)
}

/// How many of these connections the rest of the process leaves descriptors for.
pub fn connections(limit: usize, wanted: usize, workers: usize, torrents: usize) -> usize {
    let disk = workers * (files_of_worker(limit) + DESCRIPTORS_FOLDERS);
    // A call that finds no descriptor fails and is made again.
    let calls = (HELPERS_MAX + WEB_FETCHES).min(limit / 8);
    let reserved = DESCRIPTORS_OWN + disk + calls + torrents * DESCRIPTORS_TORRENT + CALLS_BEYOND;
    wanted.min(limit.saturating_sub(reserved).max(CONNECTIONS_MIN))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_the_highest_allowed() {
        let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
        setrlimit(Resource::Nofile, Rlimit { current: maximum.map(|max| max - 1), maximum }).unwrap();
        assert_eq!(raise(), maximum.map_or(usize::MAX, |max| max as usize));
    }

    #[test]
    fn connections_get_what_files_leave() {
        // The default of 50 connections fits the usual limit, with hundreds of torrents.
        assert_eq!(connections(1024, 50, workers(1024, 4), 300), 50);
        assert_eq!(connections(usize::MAX, 20_000, LANES_MAX, 4096), 20_000);
        for limit in [64, 128, 256, 1024, 4096] {
            for cores in 1..=LANES_MAX {
                let workers = workers(limit, cores);
                let got = connections(limit, 20_000, workers, 1);
                let disk = workers * (files_of_worker(limit) + DESCRIPTORS_FOLDERS);
                let used = got + CALLS_BEYOND + disk + DESCRIPTORS_OWN + DESCRIPTORS_TORRENT;
                assert!(got >= CONNECTIONS_MIN && used <= limit, "{got} of {limit} with {workers} workers");
            }
        }
    }

    #[test]
    fn some_connections_are_left_where_nothing_is() {
        assert_eq!(connections(64, 50, 1, 4096), CONNECTIONS_MIN);
        assert_eq!((connections(0, 50, workers(0, 8), 1), connections(0, 1, 1, 1)), (CONNECTIONS_MIN, 1));
    }
}
