//! Work that is not to be noticed: what changes a table of decisions while other threads answer from it.
//!
//! A thread that merges or reads for some ten milliseconds shares its CPU with one that answers a request
//! within microseconds, and the scheduler lets it finish its slice, of some hundred microseconds to
//! milliseconds, before the other gets its turn. So it has to say that it can wait. Without
//! privileges no thread can take that back, so what is to be done runs on a thread of its own.

use std::panic::resume_unwind;
use std::sync::{Mutex, PoisonError};
use std::thread::{Builder, current, scope};

use nix::libc;

/// How long work can wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Urgency {
    /// Until a CPU has nothing else to do, or nearly so: where all of them are busy all the time, it gets
    /// some thousandths of one. For work that takes milliseconds.
    WhenIdle,
    /// Behind others, with a tenth of a CPU in any case. For work that takes seconds.
    Low,
}

/// Does work on a thread for it and waits for the outcome. Where there can be no such thread, or it
/// cannot have its urgency, the work is done all the same.
pub(crate) fn run<T: Send>(urgency: Urgency, work: impl FnOnce() -> T + Send) -> T {
    let work = Mutex::new(Some(work));
    let do_it = || {
        let work = work.lock().unwrap_or_else(PoisonError::into_inner).take();
        work.expect("one of two does it")()
    };
    let name = current().name().unwrap_or("background").to_owned();
    scope(|scope| {
        let thread = Builder::new().name(name).spawn_scoped(scope, || {
            step_back(urgency);
            do_it()
        });
        match thread {
            Ok(thread) => thread.join().unwrap_or_else(|panic| resume_unwind(panic)),
            Err(_) => do_it(),
        }
    })
}

/// Gives this thread its urgency, for good. What the system refuses, by a filter of system calls, is left.
pub(crate) fn step_back(urgency: Urgency) {
    let policy = match urgency {
        Urgency::WhenIdle => libc::SCHED_IDLE,
        Urgency::Low => libc::SCHED_BATCH,
    };
    let priority = 0_i32;
    // Not by the C library, as musl's function refuses.
    // SAFETY: 0 is the calling thread, and the third argument points to a `sched_param`, which is an int,
    // that outlives the call.
    unsafe { libc::syscall(libc::SYS_sched_setscheduler, 0, policy, &raw const priority) };
    if urgency == Urgency::Low {
        // SAFETY: takes numbers alone. 0 is the calling thread: on Linux each has a nice value of its own.
        unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, 10) };
    }
}

#[cfg(test)]
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
        assert_eq!(run(Urgency::WhenIdle, shown).0, "5");
        let (policy, nice) = run(Urgency::Low, shown);
        assert_eq!(policy, "3");
        assert!(nice.parse::<i32>().unwrap() >= 10, "{nice}");
        assert_eq!(shown(), own);
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
