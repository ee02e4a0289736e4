//! A long link in user space: two network namespaces, a TUN device in each, and a thread for each direction.

use std::collections::VecDeque;
use std::error::Error;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// The two ends.
pub(crate) const ADDRESSES: [&str; 2] = ["10.77.0.1", "10.77.0.2"];
const DEVICE: &str = "link0";
/// What fits into a packet; a datagram of a local network.
const MTU: usize = 1500;
/// How long what waits for the line may take to send: more is dropped, as a router does.
const QUEUE: Duration = Duration::from_millis(100);

/// One direction.
#[derive(Clone, Copy)]
pub(crate) struct Line {
    /// Bytes a second.
    pub(crate) rate: u64,
    /// How long a packet takes, once it is sent.
    pub(crate) delay: Duration,
    /// Of 1,000 packets so many are lost.
    pub(crate) loss: u32,
}

/// Both directions; all is gone with its value.
pub(crate) struct Link {
    spaces: [String; 2],
    over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<io::Result<()>>>,
}

impl Link {
    pub(crate) fn make(line: Line) -> Result<Link, Box<dyn Error>> {
        let spaces = [0, 1].map(|at| format!("ptorrent-{}-{at}", std::process::id()));
        let mut link = Link { spaces, over: Arc::default(), threads: Vec::new() };
        let mut devices = Vec::new();
        for (space, address) in link.spaces.iter().zip(ADDRESSES) {
            ip(&["netns", "add", space])?;
            let name = space.clone();
            // A thread enters the namespace and ends; the device's descriptor stays.
            let device = thread::spawn(move || open(&name)).join().map_err(|_| "no device")??;
            for words in [
                &["addr", "add", &format!("{address}/24"), "dev", DEVICE][..],
                &["link", "set", DEVICE, "up", "mtu", &MTU.to_string(), "txqueuelen", "1000"],
                &["link", "set", "lo", "up"],
            ] {
                ip(&[&["-n", space.as_str()], words].concat())?;
            }
            devices.push(Arc::new(device));
        }
        for (from, to) in [(0, 1), (1, 0)] {
            let (from, to) = (Arc::clone(&devices[from]), Arc::clone(&devices[to]));
            let over = Arc::clone(&link.over);
            link.threads.push(thread::spawn(move || pass(&from, &to, line, &over)));
        }
        Ok(link)
    }

    /// A command at one of the ends.
    pub(crate) fn command(&self, at: usize, program: &Path) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.spaces[at]]).arg(program);
        command
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            if let Ok(Err(error)) = thread.join() {
                eprintln!("links: the link failed: {error}");
            }
        }
        for space in &self.spaces {
            if let Err(error) = ip(&["netns", "del", space]) {
                eprintln!("links: {error}");
            }
        }
    }
}

fn ip(words: &[&str]) -> Result<(), Box<dyn Error>> {
    let output = Command::new("ip").args(words).output().map_err(|error| format!("ip: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!(
        "ip {}: {} (this needs root)",
        words.join(" "),
        String::from_utf8_lossy(&output.stderr).trim()
    )
    .into())
}

/// Enters the namespace, for good, and makes a TUN device there.
#[expect(unsafe_code, reason = "neither std nor the features of rustix that we use have these two calls")]
fn open(space: &str) -> io::Result<File> {
    let space = File::open(format!("/run/netns/{space}"))?;
    // SAFETY: the descriptor is open; only this thread changes its namespace.
    if unsafe { libc::setns(space.as_raw_fd(), libc::CLONE_NEWNET) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let device =
        OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open("/dev/net/tun")?;
    // An ifreq: the name, then the flags; 40 bytes at most on every platform.
    let mut request = [0u8; 40];
    request[..DEVICE.len()].copy_from_slice(DEVICE.as_bytes());
    let flags = (libc::IFF_TUN | libc::IFF_NO_PI) as u16;
    request[libc::IFNAMSIZ..libc::IFNAMSIZ + 2].copy_from_slice(&flags.to_ne_bytes());
    // SAFETY: the request is as large as an ifreq and lives through the call.
    if unsafe { libc::ioctl(device.as_raw_fd(), libc::TUNSETIFF as _, request.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(device)
}

/// Passes packets on until it is over.
fn pass(from: &File, to: &File, line: Line, over: &AtomicBool) -> io::Result<()> {
    let mut under_way: VecDeque<(Instant, Vec<u8>)> = VecDeque::new();
    let mut spare = Vec::new();
    let mut free = Instant::now();
    let mut chance: u32 = 2_463_534_242;
    while !over.load(Ordering::Relaxed) {
        let now = Instant::now();
        while under_way.front().is_some_and(|(due, _)| *due <= now) {
            let Some((_, packet)) = under_way.pop_front() else { break };
            // A device whose queue is full drops it.
            let _ = (&*to).write(&packet);
            spare.push(packet);
        }
        loop {
            let mut packet = spare.pop().unwrap_or_default();
            packet.resize(MTU, 0);
            let len = match (&*from).read(&mut packet) {
                Ok(len) => len,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            };
            packet.truncate(len);
            chance ^= chance << 13;
            chance ^= chance >> 17;
            chance ^= chance << 5;
            if chance % 1000 < line.loss || free > now + QUEUE {
                spare.push(packet);
                continue;
            }
            free = free.max(now) + Duration::from_secs_f64(len as f64 / line.rate as f64);
            under_way.push_back((free + line.delay, packet));
        }
        let next = under_way.front().map_or(Duration::from_millis(20), |(due, _)| {
            due.saturating_duration_since(Instant::now()).min(Duration::from_millis(20))
        });
        let timeout = rustix::event::Timespec { tv_sec: 0, tv_nsec: next.subsec_nanos().into() };
        let mut ready = [rustix::event::PollFd::from_borrowed_fd(from.as_fd(), rustix::event::PollFlags::IN)];
        match rustix::event::poll(&mut ready, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
