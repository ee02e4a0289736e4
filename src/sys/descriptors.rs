//! How many files the process may have open.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Takes as many descriptors as the system allows: a torrent holds two at rest, and the usual limit of 1,024 is there
/// for programs of old that could not count further. Gives the limit.
pub fn raise() -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum
        && let Err(errno) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })
    {
        log::info!("the limit of open files stays at {current:?}: {errno}");
    }
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_the_highest_allowed() {
        let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
        setrlimit(Resource::Nofile, Rlimit { current: maximum.map(|max| max - 1), maximum }).unwrap();
        assert_eq!(raise(), maximum.unwrap_or(u64::MAX));
    }
}
