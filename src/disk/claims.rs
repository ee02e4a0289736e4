//! Who has which file: (device, inode) within the process, `flock` between processes.

use rustix::fs::{FlockOperation, Stat, flock};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

/// Which file it is, whatever its name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Id {
    dev: u64,
    ino: u64,
}

impl Id {
    pub(super) fn of(stat: &Stat) -> Id {
        Id { dev: stat.st_dev, ino: stat.st_ino }
    }

    /// Its number on its device.
    pub(super) fn inode(&self) -> u64 {
        self.ino
    }
}

struct Claim {
    who: Arc<str>,
    exclusive: bool,
    count: u32,
}

struct Lock {
    file: File,
    exclusive: bool,
    count: u32,
}

/// Why something cannot be had.
#[derive(Debug)]
pub(super) enum Refused {
    /// A torrent of this process has it: its name.
    Torrent(Arc<str>),
    /// Another process has it: its id, if the system tells.
    Process(Option<u32>),
    /// This file system has no locks.
    NoLocks(Errno),
}

/// What this process has.
#[derive(Default)]
pub(super) struct Claims {
    files: BTreeMap<Id, Claim>,
    locks: BTreeMap<Id, Lock>,
}

impl Claims {
    /// Claims a file for the torrent of that name; shared ones go together.
    pub(super) fn take(&mut self, id: Id, exclusive: bool, who: &Arc<str>) -> Result<(), Refused> {
        let claim = self.files.entry(id).or_insert_with(|| Claim { who: who.clone(), exclusive, count: 0 });
        if claim.count > 0 && (claim.exclusive || exclusive) {
            return Err(Refused::Torrent(claim.who.clone()));
        }
        claim.count += 1;
        Ok(())
    }

    /// Gives a file free that was claimed.
    pub(super) fn release(&mut self, id: Id) {
        if let Some(claim) = self.files.get_mut(&id) {
            claim.count -= 1;
            if claim.count == 0 {
                self.files.remove(&id);
            }
        }
    }

    /// Locks a file or folder against other processes. Torrents of this process share a lock: theirs are told apart
    /// by their files.
    pub(super) fn lock(&mut self, id: Id, file: File, exclusive: bool) -> Result<(), Refused> {
        crate::sys::guard::assert_may_block();
        let op = if exclusive {
            FlockOperation::NonBlockingLockExclusive
        } else {
            FlockOperation::NonBlockingLockShared
        };
        if let Some(lock) = self.locks.get_mut(&id) {
            if exclusive && !lock.exclusive {
                flock(&lock.file, op).map_err(|e| refused(e, id))?;
                lock.exclusive = true;
            }
            lock.count += 1;
            return Ok(());
        }
        flock(&file, op).map_err(|e| refused(e, id))?;
        self.locks.insert(id, Lock { file, exclusive, count: 1 });
        Ok(())
    }

    /// Takes back a [`Claims::lock`].
    pub(super) fn unlock(&mut self, id: Id) {
        if let Some(lock) = self.locks.get_mut(&id) {
            lock.count -= 1;
            if lock.count == 0 {
                self.locks.remove(&id);
            }
        }
    }
}

fn refused(errno: Errno, id: Id) -> Refused {
    match errno {
        Errno::WOULDBLOCK => {
            let locks = std::fs::read_to_string(Path::new("/proc/locks")).unwrap_or_default();
            Refused::Process(holder(&locks, id))
        }
        errno => Refused::NoLocks(errno),
    }
}

/// Who holds a flock on this file, by the text of `/proc/locks` (proc(5)).
fn holder(locks: &str, id: Id) -> Option<u32> {
    let (major, minor) = (rustix::fs::major(id.dev), rustix::fs::minor(id.dev));
    let file = format!("{major:02x}:{minor:02x}:{}", id.ino);
    locks.lines().find_map(|line| {
        let mut words = line.split_ascii_whitespace().skip(1).filter(|word| *word != "->");
        let (kind, pid, place) = (words.next()?, words.nth(2)?, words.next()?);
        (kind == "FLOCK" && place == file).then(|| pid.parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: Id = Id { dev: 0xfe00, ino: 131 };

    #[test]
    fn an_exclusive_claim_goes_with_no_other() {
        let (mut claims, a, b) = (Claims::default(), Arc::from("a"), Arc::from("b"));
        claims.take(ID, false, &a).unwrap();
        claims.take(ID, false, &b).unwrap();
        assert!(matches!(claims.take(ID, true, &b), Err(Refused::Torrent(who)) if *who == *"a"));
        claims.release(ID);
        claims.release(ID);
        claims.take(ID, true, &b).unwrap();
        assert!(matches!(claims.take(ID, false, &a), Err(Refused::Torrent(who)) if *who == *"b"));
    }

    #[test]
    fn the_holder_is_read_from_the_table_of_locks() {
        let locks =
            "1: POSIX  ADVISORY  WRITE 7 fe:00:131 0 EOF\n2: FLOCK  ADVISORY  WRITE 42 fe:00:131 0 EOF\n";
        assert_eq!(holder(locks, ID), Some(42));
        assert_eq!(holder("1: -> FLOCK  ADVISORY  READ 43 fe:00:131 0 EOF", ID), Some(43));
        assert_eq!(holder(locks, Id { dev: 0xfe00, ino: 13 }), None);
    }
}
