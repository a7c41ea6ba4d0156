//! Which way a core waits for I/O: a ladder from `io_uring` down to epoll.
//!
//! monoio's own detection is not used. It takes default ring flags, which cost twice the CPU at
//! partial load; it believes in a ring whose `io_uring_enter` a seccomp filter refuses; and its
//! event loop then spins, since it ignores errors of that call. So a ring is tried for real here,
//! with the flags the worker will use, before monoio gets to build one.

use std::cell::Cell;
use std::fmt;
use std::io;
use std::os::fd::RawFd;
use std::time::{Duration, Instant};

use monoio::time::TimeDriver;
use monoio::{IoUringDriver, LegacyDriver, Runtime, RuntimeBuilder};

use super::config::Driver;

/// Submission queue entries a core. More are no faster, and a ring's memory counts against
/// RLIMIT_MEMLOCK: about 28 KiB for 256, of a usual limit of 8 MiB for all rings of a user.
const ENTRIES: u32 = 256;

/// A ring's locked memory is released some time after it is closed, so a restart may have to wait
/// for that of its predecessor.
const NO_MEMORY_PATIENCE: Duration = Duration::from_secs(1);

/// A monoio runtime on either driver. Lives as long as its thread: dropping one with operations in
/// flight leaks their file descriptors in monoio 0.2.4.
pub(super) enum CoreRuntime {
    IoUring(Runtime<TimeDriver<IoUringDriver>>),
    Epoll(Runtime<TimeDriver<LegacyDriver>>),
}

impl CoreRuntime {
    pub(super) fn block_on<F: Future>(&mut self, future: F) -> F::Output {
        match self {
            Self::IoUring(runtime) => runtime.block_on(future),
            Self::Epoll(runtime) => runtime.block_on(future),
        }
    }

    pub(super) const fn is_io_uring(&self) -> bool {
        matches!(self, Self::IoUring(_))
    }
}

/// What the ladder ended at.
#[derive(Clone, Debug)]
pub(super) enum Chosen {
    IoUring,
    Epoll,
    /// epoll, because `io_uring` did not work.
    EpollInstead(String),
}

impl fmt::Display for Chosen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::IoUring => {
                write!(
                    f,
                    "io_uring (SINGLE_ISSUER, COOP_TASKRUN, {ENTRIES} entries)"
                )
            }
            Self::Epoll => f.write_str("epoll"),
            Self::EpollInstead(why) => write!(f, "epoll, since io_uring is not usable: {why}"),
        }
    }
}

/// Builds the runtime on the thread that will run it, as SINGLE_ISSUER wants.
pub(super) fn build(driver: Driver) -> io::Result<(CoreRuntime, Chosen)> {
    let epoll = || {
        let runtime = RuntimeBuilder::<LegacyDriver>::new()
            .enable_timer()
            .build()?;
        Ok::<_, io::Error>(CoreRuntime::Epoll(runtime))
    };
    match driver {
        Driver::Epoll => Ok((epoll()?, Chosen::Epoll)),
        Driver::IoUring => match build_io_uring() {
            Ok(runtime) => Ok((runtime, Chosen::IoUring)),
            Err(error) => Err(io::Error::other(format!(
                "io_uring is not usable: {}; use --driver auto or epoll",
                explain(&error)
            ))),
        },
        Driver::Auto => match build_io_uring() {
            Ok(runtime) => Ok((runtime, Chosen::IoUring)),
            Err(error) => Ok((epoll()?, Chosen::EpollInstead(explain(&error)))),
        },
    }
}

fn build_io_uring() -> io::Result<CoreRuntime> {
    let mut ring = io_uring::IoUring::builder();
    // Without these two a completion interrupts the core with an inter-processor interrupt:
    // 9.9 us instead of 4.5 us a frame at 100 000 frames/s. Not DEFER_TASKRUN: monoio 0.2.4 enters
    // the kernel without GETEVENTS while tasks are ready, so deferred completions starve.
    ring.setup_single_issuer().setup_coop_taskrun();
    patiently(|| try_ring(&ring))?;
    let runtime = patiently(|| {
        RuntimeBuilder::<IoUringDriver>::new()
            .uring_builder(ring.clone())
            .with_entries(ENTRIES)
            .enable_timer()
            .build()
    })?;
    // Its descriptor is not to be had from monoio.
    RING.set(rings().into_iter().find(|&ring| is_own(ring)));
    debug_assert!(RING.get().is_some(), "the ring just built is there");
    Ok(CoreRuntime::IoUring(runtime))
}

thread_local! {
    /// The ring of this core.
    static RING: Cell<Option<RawFd>> = const { Cell::new(None) };
}

/// The ring of this core, if it runs on one.
pub(super) fn ring() -> Option<RawFd> {
    RING.get()
}

/// The rings of this process.
fn rings() -> Vec<RawFd> {
    let Ok(entries) = std::fs::read_dir("/proc/self/fd") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter(|entry| {
            std::fs::read_link(entry.path())
                .is_ok_and(|target| target.as_os_str() == "anon_inode:[io_uring]")
        })
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

/// `struct io_uring_sync_cancel_reg` of linux/io_uring.h.
#[repr(C)]
struct SyncCancel {
    addr: u64,
    fd: i32,
    flags: u32,
    timeout: [i64; 2],
    opcode: u8,
    pad: [u8; 7],
    pad2: [u64; 3],
}

impl SyncCancel {
    /// Cancels one operation by its `fd`, or, of which there is none, by what monoio never calls one.
    const fn new(fd: Option<RawFd>) -> Self {
        const CANCEL_FD: u32 = 2;
        let (fd, flags) = match fd {
            // Not all that there is: the kernel then tries again and again for what is just being
            // completed, which on a ring of this kind needs this very thread, and never returns.
            Some(fd) => (fd, CANCEL_FD),
            None => (-1, 0),
        };
        Self {
            addr: u64::MAX - 0x7269_6e67,
            fd,
            flags,
            // Do not wait for what is just being carried out: it completes by itself.
            timeout: [0, 0],
            opcode: 0,
            pad: [0; 7],
            pad2: [0; 3],
        }
    }

    fn on(&self, ring: RawFd) -> io::Result<()> {
        const REGISTER_SYNC_CANCEL: u32 = 24;
        // SAFETY: the kernel reads one structure of this size (its layout is fixed by the kernel's
        // interface) and keeps nothing of it.
        let result = unsafe {
            nix::libc::syscall(
                nix::libc::SYS_io_uring_register,
                ring,
                REGISTER_SYNC_CANCEL,
                std::ptr::from_ref(self),
                1_u32,
            )
        };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }
}

/// Whether this thread may use the ring: to all others the kernel says EEXIST of a SINGLE_ISSUER one,
/// to this one that there is nothing to cancel.
fn is_own(ring: RawFd) -> bool {
    let error = SyncCancel::new(None).on(ring).err();
    error.and_then(|error| error.raw_os_error()) == Some(nix::libc::ENOENT)
}

/// Cancels the operation that waits for `fd` on this core's ring. monoio cancels only what was
/// submitted to be cancelled, at the price of a hash table's insert and remove for each read.
pub(super) fn cancel(ring: RawFd, fd: RawFd) {
    // Nothing to cancel is fine.
    match SyncCancel::new(Some(fd)).on(ring) {
        Err(error) if error.raw_os_error() != Some(nix::libc::ENOENT) => {
            tracing::debug!("cancelling an operation: {error}");
        }
        _ => {}
    }
}

const _: () = assert!(std::mem::size_of::<SyncCancel>() == 64);

/// Repeats what fails for want of locked memory.
fn patiently<T>(mut attempt: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let give_up = Instant::now() + NO_MEMORY_PATIENCE;
    loop {
        match attempt() {
            Err(error)
                if error.kind() == io::ErrorKind::OutOfMemory && Instant::now() < give_up =>
            {
                std::thread::sleep(Duration::from_millis(20));
            }
            result => return result,
        }
    }
}

/// One real round trip through a ring like the worker's.
fn try_ring(builder: &io_uring::Builder) -> io::Result<()> {
    const TOKEN: u64 = 0x7269_6e67;
    let mut ring = builder.build(ENTRIES)?;
    let entry = io_uring::opcode::Nop::new().build().user_data(TOKEN);
    // SAFETY: a NOP refers to no memory, and the queue of a new ring has room for it.
    unsafe { ring.submission().push(&entry) }.map_err(io::Error::other)?;
    ring.submit_and_wait(1)?;
    match ring.completion().next() {
        Some(completion) if completion.user_data() == TOKEN => Ok(()),
        _ => Err(io::Error::other("a NOP did not come back")),
    }
}

/// The usual causes in an operator's words.
fn explain(error: &io::Error) -> String {
    let hint = match error.raw_os_error() {
        Some(nix::libc::ENOSYS) => "the kernel has none, or a seccomp filter hides it",
        Some(nix::libc::EPERM | nix::libc::EACCES) => {
            "forbidden by a seccomp filter or by sysctl kernel.io_uring_disabled"
        }
        Some(nix::libc::EINVAL) => "the kernel is older than 6.0",
        Some(nix::libc::ENOMEM) => "RLIMIT_MEMLOCK is too small, see LimitMEMLOCK= or ulimit -l",
        _ => return error.to_string(),
    };
    format!("{hint} ({error})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_drivers_run_a_timer() {
        for driver in [Driver::Auto, Driver::Epoll] {
            // Each on its own thread, as workers are.
            let ran = std::thread::spawn(move || {
                let (mut runtime, _) = build(driver).unwrap();
                runtime.block_on(async {
                    monoio::time::sleep(Duration::from_millis(1)).await;
                    7
                })
            });
            assert_eq!(ran.join().unwrap(), 7);
        }
    }

    /// Of several threads that build rings at the same time each finds its own.
    #[test]
    fn each_core_knows_its_ring() {
        let threads: Vec<_> = (0..16)
            .map(|_| {
                std::thread::spawn(|| {
                    let (runtime, _) = build(Driver::Auto).unwrap();
                    let ring = ring();
                    assert_eq!(ring.is_some(), runtime.is_io_uring());
                    assert!(ring.is_none_or(is_own));
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
    }

    #[test]
    fn reasons_are_in_an_operators_words() {
        let text = |code| explain(&io::Error::from_raw_os_error(code));
        assert!(text(nix::libc::EPERM).contains("io_uring_disabled"));
        assert!(text(nix::libc::ENOMEM).contains("RLIMIT_MEMLOCK"));
        assert!(text(nix::libc::EINVAL).contains("older than 6.0"));
        assert!(text(nix::libc::ENOSYS).contains("seccomp"));
    }
}
