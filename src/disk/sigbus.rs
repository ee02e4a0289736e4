//! SIGBUS in a mapped window (the file was cut short, the disk is full or bad between populate and store) is an error
//! of that window; anywhere else it ends the process with a core.
//!
//! Not through signal-hook-registry: it runs the handler that was there first, and that of Rust's runtime puts the
//! default action back, so that the second fault would kill us.

use crate::limits::{LANES_MAX, WINDOW_LEN, WINDOWS};
use crate::sys::terminal;
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};
use std::ffi::c_int;
use std::ffi::c_void;
use std::io;
use std::mem::MaybeUninit;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, compiler_fence};

/// Where a registered window starts; every one is `WINDOW_LEN` bytes long, so that one atomic number tells it all.
struct Entry {
    start: AtomicUsize,
    poisoned: AtomicBool,
}

const FREE: usize = 0;
/// Taken, its window not known yet. No address is above it.
const TAKEN: usize = usize::MAX;

static TABLE: [Entry; LANES_MAX * WINDOWS] =
    [const { Entry { start: AtomicUsize::new(FREE), poisoned: AtomicBool::new(false) } };
        LANES_MAX * WINDOWS];
static PAGE: AtomicUsize = AtomicUsize::new(4096);
static OLD: OnceLock<libc::sigaction> = OnceLock::new();
static INSTALLED: OnceLock<bool> = OnceLock::new();

/// A window's place in the table; it is free again when this is dropped, which must be before the window is unmapped.
pub(super) struct Slot(&'static Entry);

impl Slot {
    /// Takes a place; None when all are taken or the handler cannot be installed: then nothing may be mapped.
    pub(super) fn take() -> Option<Slot> {
        if !*INSTALLED.get_or_init(|| install().is_ok()) {
            return None;
        }
        let free =
            |e: &&Entry| e.start.compare_exchange(FREE, TAKEN, Ordering::AcqRel, Ordering::Relaxed).is_ok();
        let entry = TABLE.iter().find(free)?;
        entry.poisoned.store(false, Ordering::Release);
        Some(Slot(entry))
    }

    /// Guards the `WINDOW_LEN` bytes from `start`, a mapping that is the caller's own.
    pub(super) fn guard(&self, start: usize) {
        self.0.start.store(start, Ordering::Release);
    }

    /// Whether a fault hit the window since it was guarded. Called by the thread that stored, after its stores.
    pub(super) fn is_poisoned(&self) -> bool {
        // The handler ran on this thread: only the compiler could have moved the stores.
        compiler_fence(Ordering::SeqCst);
        self.0.poisoned.load(Ordering::Acquire)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.start.store(FREE, Ordering::Release);
    }
}

#[expect(unsafe_code, reason = "sigaction")]
fn install() -> io::Result<()> {
    // SAFETY: sysconf has no preconditions.
    if let Ok(page) = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }) {
        PAGE.store(page, Ordering::Release);
    }
    let mut old = MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: `old` is a valid place for one sigaction, which the call fills when it returns 0.
    let old = unsafe {
        if libc::sigaction(libc::SIGBUS, std::ptr::null(), old.as_mut_ptr()) != 0 {
            return Err(io::Error::last_os_error());
        }
        old.assume_init()
    };
    OLD.get_or_init(|| old);
    // SAFETY: all zero bytes are a valid sigaction; the handler does only what is safe in a signal handler (atomics,
    // mmap, sigaction, raise) and has the signature that SA_SIGINFO calls for.
    unsafe {
        let mut new: libc::sigaction = std::mem::zeroed();
        new.sa_sigaction = on_sigbus as *const () as usize;
        new.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        if libc::sigaction(libc::SIGBUS, &new, std::ptr::null_mut()) != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

#[expect(unsafe_code, reason = "a signal handler")]
extern "C" fn on_sigbus(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel passes a valid siginfo to a SA_SIGINFO handler; SIGBUS by a fault has an address.
    let (code, addr) = unsafe { ((*info).si_code, (*info).si_addr() as usize) };
    if code > 0 && patch(addr) {
        return;
    }
    terminal::restore();
    let old = OLD.get().map_or(libc::SIG_DFL, |old| old.sa_sigaction);
    if old == libc::SIG_DFL || old == libc::SIG_IGN {
        // SAFETY: both calls are allowed in a handler; the signal is pending until we return, then ends the process.
        unsafe {
            libc::signal(signal, libc::SIG_DFL);
            libc::raise(signal);
        }
        return;
    }
    let flags = OLD.get().map_or(0, |old| old.sa_flags);
    // SAFETY: the value is a handler that someone installed with these flags, which tell its signature.
    unsafe {
        if flags & libc::SA_SIGINFO != 0 {
            let old: extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) = std::mem::transmute(old);
            old(signal, info, context);
        } else {
            let old: extern "C" fn(c_int) = std::mem::transmute(old);
            old(signal);
        }
    }
}

/// Puts an anonymous page where the fault was, if that is in a window; the copy then runs on, and its thread finds
/// the mark.
#[expect(unsafe_code, reason = "mapping over a page of ours")]
fn patch(addr: usize) -> bool {
    let inside = |e: &&Entry| {
        let start = e.start.load(Ordering::Acquire);
        start != FREE && addr >= start && addr - start < WINDOW_LEN
    };
    let Some(entry) = TABLE.iter().find(inside) else { return false };
    entry.poisoned.store(true, Ordering::Release);
    let page = PAGE.load(Ordering::Acquire);
    let (prot, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE | MapFlags::FIXED);
    // SAFETY: the page is within a mapping of WINDOW_LEN bytes that its owner registered and unregisters before
    // unmapping it, and to which no reference exists.
    unsafe { mmap_anonymous((addr & !(page - 1)) as *mut c_void, page, prot, flags).is_ok() }
}
