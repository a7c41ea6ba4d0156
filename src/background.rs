//! Work that is not to be noticed: what changes a table of decisions while other threads answer from it.
//!
//! A thread that merges or reads for some ten milliseconds shares its CPU with one that answers a request
//! within microseconds, and the scheduler lets it finish its slice, of some hundred microseconds to
//! milliseconds, before the other gets its turn. So it has to say that it can wait, and be fetched back
//! where it would wait for too long. Not every thread may take back what it said, so what is to be done
//! runs on a thread of its own.

use std::io;
use std::panic::resume_unwind;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread::{Builder, current, scope};
use std::time::Duration;

use nix::libc;

/// How long work can wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Urgency {
    /// Until a CPU has nothing else to do, or until it has waited for long: then it is `Low`. For work that
    /// takes milliseconds.
    WhenIdle,
    /// Behind others, with a tenth of a CPU in any case. For work that takes seconds.
    Low,
}

/// How long work waits for a CPU that has nothing else to do. Waiting for something else does not count.
const MOST_WAITED: Duration = Duration::from_millis(250);

/// Does work on a thread for it and waits for the outcome. Where there can be no such thread, or it
/// cannot have its urgency, the work is done all the same.
pub(crate) fn run<T: Send>(urgency: Urgency, work: impl FnOnce() -> T + Send) -> T {
    let urgency = match urgency {
        Urgency::WhenIdle if !can_be_fetched_back() => Urgency::Low,
        urgency => urgency,
    };
    let work = Mutex::new(Some(work));
    let do_it = || {
        let work = work.lock().unwrap_or_else(PoisonError::into_inner).take();
        work.expect("one of two does it")()
    };
    let name = current().name().unwrap_or("background").to_owned();
    // The thread that is at work, which cannot end while somebody holds this.
    let at_work = Mutex::new(None);
    let (done, is_done) = channel::<()>();
    scope(|scope| {
        let at_work = &at_work;
        let thread = Builder::new().name(name).spawn_scoped(scope, move || {
            let _done = done;
            // SAFETY: takes nothing, and cannot fail.
            let own = unsafe { libc::syscall(libc::SYS_gettid) };
            *at_work.lock().unwrap_or_else(PoisonError::into_inner) = Some(own);
            step_back(urgency);
            let outcome = do_it();
            *at_work.lock().unwrap_or_else(PoisonError::into_inner) = None;
            outcome
        });
        // Its end is the thread's, as nothing is sent.
        while thread.is_ok()
            && urgency == Urgency::WhenIdle
            && is_done.recv_timeout(MOST_WAITED) == Err(RecvTimeoutError::Timeout)
        {
            let at_work = at_work.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(thread) = *at_work
                && waited(thread).is_none_or(|waited| waited >= MOST_WAITED)
            {
                step_back_as(thread, Urgency::Low);
                break;
            }
        }
        match thread {
            Ok(thread) => thread.join().unwrap_or_else(|panic| resume_unwind(panic)),
            Err(_) => do_it(),
        }
    })
}

/// Whether a thread that waits for an idle CPU can be made one that does not: with CAP_SYS_NICE, or where
/// RLIMIT_NICE allows for a nice value of 0.
fn can_be_fetched_back() -> bool {
    static CAN: OnceLock<bool> = OnceLock::new();
    let try_it =
        || set_policy(0, libc::SCHED_IDLE).is_ok() && set_policy(0, libc::SCHED_OTHER).is_ok();
    *CAN.get_or_init(|| {
        let thread = Builder::new().name("background".to_owned()).spawn(try_it);
        thread.is_ok_and(|thread| thread.join().unwrap_or(false))
    })
}

/// How long a thread has waited for a CPU, all in all; `None` if the kernel does not count that.
fn waited(thread: libc::c_long) -> Option<Duration> {
    let text = std::fs::read_to_string(format!("/proc/self/task/{thread}/schedstat")).ok()?;
    let nanoseconds = text.split_whitespace().nth(1)?;
    Some(Duration::from_nanos(nanoseconds.parse().ok()?))
}

/// Gives this thread its urgency, for good.
pub(crate) fn step_back(urgency: Urgency) {
    step_back_as(0, urgency);
}

/// Gives a thread, 0 for the calling one, its urgency. What the system refuses, by a filter of system
/// calls, is left.
fn step_back_as(thread: libc::c_long, urgency: Urgency) {
    let policy = match urgency {
        Urgency::WhenIdle => libc::SCHED_IDLE,
        Urgency::Low => libc::SCHED_BATCH,
    };
    let is_set = set_policy(thread, policy).is_ok();
    if is_set && urgency == Urgency::Low {
        // SAFETY: takes numbers alone. On Linux each thread has a nice value of its own.
        unsafe { libc::syscall(libc::SYS_setpriority, libc::PRIO_PROCESS, thread, 10) };
    }
}

/// Has a thread, 0 for the calling one, scheduled by one of the policies without priorities.
fn set_policy(thread: libc::c_long, policy: libc::c_int) -> io::Result<()> {
    let priority: libc::c_int = 0;
    // Not by the C library, as musl's function refuses.
    // SAFETY: the third argument points to a `sched_param`, which is an int, that outlives the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_sched_setscheduler,
            thread,
            policy,
            &raw const priority,
        )
    };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

// Threads are put on CPUs by what the server has.
#[cfg(all(test, feature = "server"))]
mod tests {
    use super::*;

    /// The policy and the nice value of this thread, as the kernel shows them.
    fn shown() -> (String, String) {
        let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split(' ').collect();
        // From the third on, as the name is behind.
        (fields[41 - 2].to_owned(), fields[19 - 2].to_owned())
    }

    #[test]
    fn work_has_its_urgency_and_its_caller_keeps_its_own() {
        let own = shown();
        let policy = if can_be_fetched_back() { "5" } else { "3" };
        assert_eq!(run(Urgency::WhenIdle, shown).0, policy);
        let (policy, nice) = run(Urgency::Low, shown);
        assert_eq!(policy, "3");
        assert!(nice.parse::<i32>().unwrap() >= 10, "{nice}");
        assert_eq!(shown(), own);
    }

    /// As it has to be where all CPUs are busy without a pause.
    #[test]
    fn what_waits_for_a_cpu_for_too_long_is_fetched_back_and_what_sleeps_is_not() {
        if !can_be_fetched_back() {
            return;
        }
        let policy = run(Urgency::WhenIdle, || {
            std::thread::sleep(MOST_WAITED * 3);
            shown().0
        });
        assert_eq!(policy, "5");
        // On one CPU with a thread that leaves it nothing.
        let cpu = core_affinity::get_core_ids().unwrap()[0];
        let is_over = std::sync::atomic::AtomicBool::new(false);
        let end = std::time::Instant::now() + Duration::from_secs(30);
        let policy = scope(|scope| {
            scope.spawn(|| {
                core_affinity::set_for_current(cpu);
                while !is_over.load(std::sync::atomic::Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
            let policy = run(Urgency::WhenIdle, || {
                core_affinity::set_for_current(cpu);
                while shown().0 == "5" && std::time::Instant::now() < end {}
                shown().0
            });
            is_over.store(true, std::sync::atomic::Ordering::Relaxed);
            policy
        });
        assert_eq!(policy, "3");
    }

    #[test]
    fn what_goes_wrong_in_the_work_goes_wrong_for_its_caller() {
        let caught = std::panic::catch_unwind(|| run(Urgency::Low, || panic!("as wanted")));
        assert_eq!(
            *caught.unwrap_err().downcast::<&str>().unwrap(),
            "as wanted"
        );
    }
}
