//! The last net under mappings: a page that the disk refuses costs its mapping, not the process.
//!
//! When a file is cut short under a mapping, or the disk fails to deliver a page, the kernel sends SIGBUS to the thread that touched it.
//! The handler here looks the address up in a table of our mappings, puts a page of zeros there so that the access can go on, and
//! marks the mapping as poisoned; whoever touched it must look at the mark before believing anything. Any other SIGBUS goes to the handler
//! that was there before.
#![allow(unsafe_code)]

use std::io;
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};

/// Mappings that can be registered at once; files beyond it are written without a mapping.
const SLOTS: usize = 1_024;

struct Slot {
    taken: AtomicBool,
    start: AtomicUsize,
    end: AtomicUsize,
    poisoned: AtomicBool,
}

static TABLE: [Slot; SLOTS] = [const {
    Slot {
        taken: AtomicBool::new(false),
        start: AtomicUsize::new(0),
        end: AtomicUsize::new(0),
        poisoned: AtomicBool::new(false),
    }
}; SLOTS];
static PREVIOUS: AtomicPtr<libc::sigaction> = AtomicPtr::new(ptr::null_mut());
static PAGE: AtomicUsize = AtomicUsize::new(0);

/// The entry of one mapping in the table. Must be dropped before the addresses are unmapped.
#[derive(Debug)]
pub(super) struct Guard {
    slot: usize,
}

impl Guard {
    /// Puts the addresses `start..start + len` under protection, installing the handler on first use. `None` if the table is full or
    /// the handler cannot be installed.
    pub(super) fn new(start: usize, len: usize) -> Option<Self> {
        static INSTALLED: OnceLock<bool> = OnceLock::new();
        if !INSTALLED.get_or_init(|| install().is_ok()) {
            return None;
        }
        let slot = TABLE.iter().position(|slot| {
            slot.taken
                .compare_exchange(false, true, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok()
        })?;
        TABLE[slot].poisoned.store(false, Ordering::Release);
        TABLE[slot].end.store(start + len, Ordering::Release);
        TABLE[slot].start.store(start, Ordering::Release);
        Some(Self { slot })
    }

    /// Whether a page of the mapping was ever refused: then what was read from it may be zeros, and what was written lost.
    pub(super) fn is_poisoned(&self) -> bool {
        TABLE[self.slot].poisoned.load(Ordering::Acquire)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let slot = &TABLE[self.slot];
        slot.start.store(0, Ordering::Release);
        slot.end.store(0, Ordering::Release);
        slot.taken.store(false, Ordering::Release);
    }
}

/// Bytes of a page of memory.
pub(super) fn page_len() -> usize {
    // SAFETY: a plain library call; it knows the page size on every system with mmap.
    let found = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(found).unwrap_or(4_096)
}

fn install() -> io::Result<()> {
    PAGE.store(page_len(), Ordering::Release);
    // SAFETY: an all-zero sigaction is a valid value (the default action, no flags, an empty mask), and both calls get pointers to
    // live values. The old action is published before the new handler can run, and leaked, so the handler may always read it.
    unsafe {
        let mut old: libc::sigaction = std::mem::zeroed();
        if libc::sigaction(libc::SIGBUS, ptr::null(), &raw mut old) != 0 {
            return Err(io::Error::last_os_error());
        }
        PREVIOUS.store(Box::into_raw(Box::new(old)), Ordering::Release);
        let mut new: libc::sigaction = std::mem::zeroed();
        let entry: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) = handler;
        new.sa_sigaction = entry as usize;
        // On the alternative stack, where the runtime's own handler reports stack overflows.
        new.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        libc::sigemptyset(&raw mut new.sa_mask);
        if libc::sigaction(libc::SIGBUS, &raw const new, ptr::null_mut()) != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Only atomics and plain system calls: nothing here may lock or allocate.
extern "C" fn handler(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel passes a valid siginfo to a handler installed with SA_SIGINFO.
    let address = unsafe { (*info).si_addr() } as usize;
    let ours = TABLE.iter().find(|slot| {
        let start = slot.start.load(Ordering::Acquire);
        let end = slot.end.load(Ordering::Acquire);
        // A second look at `start` tells a slot that is being given to another mapping.
        (start..end).contains(&address) && slot.start.load(Ordering::Acquire) == start
    });
    if let Some(slot) = ours {
        slot.poisoned.store(true, Ordering::Release);
        if put_zero_page(address) {
            return;
        }
    }
    chain(signal, info, context);
}

fn put_zero_page(address: usize) -> bool {
    let page = PAGE.load(Ordering::Acquire);
    let start = address & !(page - 1);
    // SAFETY: the page lies within a mapping that its owner keeps alive while it is registered, so MAP_FIXED replaces a page of that
    // mapping only; munmap of the whole later removes this page too. errno belongs to the interrupted code and is put back.
    unsafe {
        let errno = libc::__errno_location();
        let saved = *errno;
        let got = libc::mmap(
            start as *mut libc::c_void,
            page,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED,
            -1,
            0,
        );
        *errno = saved;
        got != libc::MAP_FAILED
    }
}

fn chain(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    let previous = PREVIOUS.load(Ordering::Acquire);
    // SAFETY: `install` published a leaked, valid sigaction before this handler could run. What it names is a handler of the kind that its
    // flags say. Putting the default action back and returning makes the access fault again and end the process as it would have.
    unsafe {
        let action = (*previous).sa_sigaction;
        if action == libc::SIG_DFL || action == libc::SIG_IGN {
            let mut default: libc::sigaction = std::mem::zeroed();
            default.sa_sigaction = libc::SIG_DFL;
            libc::sigaction(signal, &raw const default, ptr::null_mut());
        } else if (*previous).sa_flags & libc::SA_SIGINFO != 0 {
            let call: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) =
                std::mem::transmute(action);
            call(signal, info, context);
        } else {
            let call: extern "C" fn(libc::c_int) = std::mem::transmute(action);
            call(signal);
        }
    }
}
