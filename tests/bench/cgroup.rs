//! A memory cgroup, version 1 or 2, that is gone with its value.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

pub(crate) struct Cgroup {
    path: PathBuf,
    /// The file that holds the most that was charged.
    peak: &'static str,
}

impl Cgroup {
    /// A new one with so many bytes, page cache included.
    pub(crate) fn memory(bytes: u64) -> Result<Cgroup, Box<dyn Error>> {
        let v1 = Path::new("/sys/fs/cgroup/memory");
        let (root, limit, peak) = if v1.exists() {
            (v1, "memory.limit_in_bytes", "memory.max_usage_in_bytes")
        } else {
            (Path::new("/sys/fs/cgroup"), "memory.max", "memory.peak")
        };
        let path = root.join(format!("ptorrent-{}", std::process::id()));
        let say = |what: &Path, error| format!("{}: {error} (this needs root)", what.display());
        fs::create_dir(&path).map_err(|error| say(&path, error))?;
        let group = Cgroup { path, peak };
        let file = group.path.join(limit);
        fs::write(&file, bytes.to_string()).map_err(|error| say(&file, error))?;
        Ok(group)
    }

    /// The same command, in the group.
    pub(crate) fn enter(&self, command: &Command) -> Result<Command, Box<dyn Error>> {
        let mut inside = Command::new("sh");
        inside
            .args(["-c", r#"echo $$ > "$0/cgroup.procs" && exec "$@""#])
            .arg(&self.path)
            .arg(command.get_program())
            .args(command.get_args());
        Ok(inside)
    }

    /// The most that was charged, in bytes.
    pub(crate) fn peak(&self) -> Result<u64, Box<dyn Error>> {
        Ok(fs::read_to_string(self.path.join(self.peak))?.trim().parse()?)
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir(&self.path) {
            eprintln!("{} stays: {error}", self.path.display());
        }
    }
}
