//! Work that is not to be noticed: what changes a table of decisions while other threads answer from it.
//!
//! A thread that merges or reads for some ten milliseconds shares its CPU with one that answers a request
//! within microseconds, and the scheduler lets it finish its slice, of some hundred microseconds to
//! milliseconds, before the other gets its turn. So it has to say that it can wait, and be fetched back
//! where it would wait for too long.

use std::io::{self, Read};
use std::panic::resume_unwind;
use std::sync::mpsc::sync_channel;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, scope, yield_now};
use std::time::{Duration, Instant};

use nix::libc;
use nix::unistd::{Uid, geteuid, gettid};

/// How long work can wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Urgency {
    /// Until a CPU has nothing else to do, or until it has waited for long: then it is `Low`. For work that
    /// takes milliseconds.
    WhenIdle,
    /// Behind others, with a tenth of a CPU in any case. For work that takes seconds.
    Low,
}

/// A thread, as the kernel numbers them.
pub(crate) type ThreadId = libc::pid_t;

/// How long work waits for a CPU that has nothing else to do. Waiting for something else does not count.
const MOST_WAITED: Duration = Duration::from_millis(250);

/// Of work that is `Low`; more where the process has more.
const LOW_NICE: libc::c_int = 10;

/// Does work with this urgency on the calling thread, one that is there for work of this kind: where
/// threads [cannot come back](coming_back) it is `Low` from then on. Without urgency for work that is
/// waited for, which is done as it is.
pub(crate) fn run<T>(urgency: Option<Urgency>, work: impl FnOnce() -> T) -> T {
    run_with_helper(urgency, None, work)
}

/// The same, with a thread that does a part of it and has the same urgency meanwhile.
pub(crate) fn run_with_helper<T>(
    urgency: Option<Urgency>,
    helper: Option<ThreadId>,
    work: impl FnOnce() -> T,
) -> T {
    match urgency {
        Some(urgency) => run_as(coming_back(), urgency, helper, work),
        None => work(),
    }
}

fn run_as<T>(
    usual: Option<Usual>,
    urgency: Urgency,
    helper: Option<ThreadId>,
    work: impl FnOnce() -> T,
) -> T {
    let own = gettid().as_raw();
    // They come back when the work is over, and if it panics.
    let _step = match usual {
        Some(usual) => Some(Step::begin(own, helper, urgency, usual)),
        None => {
            for thread in helper.into_iter().chain([own]) {
                step_back_as(thread, Urgency::Low);
            }
            None
        }
    };
    work()
}

/// A reader with which work that is done when idle lets others go first, each time it asks for more.
///
/// A thread that waits for an idle CPU has had next to nothing of it, so that by the scheduler's account it
/// can be its turn before that of one with all the weight, until the next tick. Who yields is charged. Where
/// no CPU is ever idle it does so no longer than work waits for one.
pub(crate) struct Yielding<R> {
    input: R,
    /// For how long others may still go first.
    left: Duration,
}

impl<R> Yielding<R> {
    /// Without urgency for work that is waited for.
    pub(crate) fn new(input: R, urgency: Option<Urgency>) -> Self {
        let left = match urgency {
            Some(Urgency::WhenIdle) => MOST_WAITED,
            Some(Urgency::Low) | None => Duration::ZERO,
        };
        Self { input, left }
    }
}

impl<R: Read> Read for Yielding<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if !self.left.is_zero() {
            let begun = Instant::now();
            yield_now();
            self.left = self.left.saturating_sub(begun.elapsed());
        }
        self.input.read(buffer)
    }
}

/// Does `Low` work for a thread that has other things to do, which it waits with.
pub(crate) fn run_aside<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    let work = Mutex::new(Some(work));
    let do_it = || {
        let work = work.lock().unwrap_or_else(PoisonError::into_inner).take();
        work.expect("one of two does it")()
    };
    scope(|scope| {
        let thread = Builder::new().spawn_scoped(scope, || {
            step_back(Urgency::Low);
            do_it()
        });
        match thread {
            Ok(thread) => thread.join().unwrap_or_else(|panic| resume_unwind(panic)),
            Err(_) => do_it(),
        }
    })
}

/// How threads of this process are scheduled.
#[derive(Clone, Copy)]
struct Usual {
    nice: libc::c_int,
}

/// Where to if a thread may step back and come back afterwards: with CAP_SYS_NICE, or where RLIMIT_NICE
/// allows for the nice value of this process. `None` if it may not.
fn coming_back() -> Option<Usual> {
    // By who the process is, which root may give up.
    static KNOWN: Mutex<Option<(Uid, Option<Usual>)>> = Mutex::new(None);
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let own = geteuid();
    if let Some((user, usual)) = *known
        && user == own
    {
        return usual;
    }
    let (tell, told) = sync_channel(1);
    // To be asked of a thread that is no loss, and that fetches the others back from then on.
    let ask = move || {
        let usual = try_coming_back();
        let _ = tell.send(usual);
        if usual.is_some() {
            STEPPED_BACK.watch();
        }
    };
    let thread = Builder::new().name("background".to_owned()).spawn(ask);
    let usual = thread.ok().and_then(|_| told.recv().ok().flatten());
    *known = Some((own, usual));
    usual
}

fn try_coming_back() -> Option<Usual> {
    // Where that is negative RLIMIT_NICE rarely allows for it, once root is given up.
    let usual = Some(Usual { nice: nice(0) }).filter(|usual| usual.nice >= 0)?;
    set_policy(0, libc::SCHED_IDLE).ok()?;
    come_back(0, usual).ok()?;
    set_policy(0, libc::SCHED_BATCH).ok()?;
    set_nice(0, LOW_NICE.max(usual.nice)).ok()?;
    come_back(0, usual).ok()?;
    Some(usual)
}

/// A thread and who helps it, which have stepped back until this is dropped.
struct Step {
    own: ThreadId,
    helper: Option<ThreadId>,
    usual: Usual,
}

// Who waits for a CPU must not have the lock, as nobody could fetch it back.
impl Step {
    fn begin(own: ThreadId, helper: Option<ThreadId>, urgency: Urgency, usual: Usual) -> Self {
        let step = Self { own, helper, usual };
        let stepped_back = |thread| SteppedBack {
            thread,
            urgency,
            waited_before: None,
        };
        let mut steps = STEPPED_BACK.lock();
        let is_watched = steps.iter().any(SteppedBack::waits_for_idle);
        steps.extend(step.threads().map(stepped_back));
        drop(steps);
        if urgency == Urgency::WhenIdle && !is_watched {
            // All who watch, if it became somebody else.
            STEPPED_BACK.has_more.notify_all();
        }
        step.threads()
            .for_each(|thread| step_back_as(thread, urgency));
        // Who has been woken since this thread was would wait for the next tick otherwise.
        yield_now();
        step
    }

    fn threads(&self) -> impl Iterator<Item = ThreadId> {
        self.helper.into_iter().chain([self.own])
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        // They could before.
        let _ = come_back(self.own, self.usual);
        let mut steps = STEPPED_BACK.lock();
        for thread in self.threads() {
            if let Some(at) = steps.iter().position(|step| step.thread == thread) {
                steps.swap_remove(at);
            }
        }
        // Who helps may help somebody else, too.
        if let Some(helper) = self.helper
            && steps.iter().all(|step| step.thread != helper)
        {
            let _ = come_back(helper, self.usual);
        }
    }
}

struct SteppedBack {
    thread: ThreadId,
    urgency: Urgency,
    /// For a CPU, until it was looked at first.
    waited_before: Option<Duration>,
}

impl SteppedBack {
    fn waits_for_idle(&self) -> bool {
        self.urgency == Urgency::WhenIdle
    }
}

/// What has stepped back and comes back.
struct AllSteppedBack {
    steps: Mutex<Vec<SteppedBack>>,
    has_more: Condvar,
}

static STEPPED_BACK: AllSteppedBack = AllSteppedBack {
    steps: Mutex::new(Vec::new()),
    has_more: Condvar::new(),
};

impl AllSteppedBack {
    fn lock(&self) -> MutexGuard<'_, Vec<SteppedBack>> {
        self.steps.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fetches back who waits for an idle CPU for too long. For a thread of its own.
    fn watch(&self) -> ! {
        let mut steps = self.lock();
        loop {
            if !steps.iter().any(SteppedBack::waits_for_idle) {
                let has_more = self.has_more.wait(steps);
                steps = has_more.unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            // Not looked at as they begin: that takes as long as many an answer.
            let has_more = self.has_more.wait_timeout(steps, MOST_WAITED);
            let (guard, timeout) = has_more.unwrap_or_else(PoisonError::into_inner);
            steps = guard;
            if !timeout.timed_out() {
                continue;
            }
            for step in steps.iter_mut().filter(|step| step.waits_for_idle()) {
                let waited = waited(step.thread);
                let before = step.waited_before.get_or_insert(waited.unwrap_or_default());
                if waited.is_none_or(|waited| waited >= *before + MOST_WAITED) {
                    step.urgency = Urgency::Low;
                    step_back_as(step.thread, Urgency::Low);
                }
            }
        }
    }
}

/// How long a thread has waited for a CPU, all in all; `None` if the kernel does not count that.
fn waited(thread: ThreadId) -> Option<Duration> {
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
fn step_back_as(thread: ThreadId, urgency: Urgency) {
    match urgency {
        Urgency::WhenIdle => {
            let _ = set_policy(thread, libc::SCHED_IDLE);
        }
        Urgency::Low => {
            let _ = set_policy(thread, libc::SCHED_BATCH)
                .and_then(|()| set_nice(thread, LOW_NICE.max(nice(thread))));
        }
    }
}

fn come_back(thread: ThreadId, usual: Usual) -> io::Result<()> {
    set_policy(thread, libc::SCHED_OTHER).and_then(|()| set_nice(thread, usual.nice))
}

/// The nice value of a thread, 0 for the calling one. On Linux each has its own.
fn nice(thread: ThreadId) -> libc::c_int {
    // SAFETY: takes numbers alone.
    let nice = unsafe { libc::syscall(libc::SYS_getpriority, libc::PRIO_PROCESS, thread) };
    // The system call has 40 to 1, and less than that for a thread that has gone.
    match libc::c_int::try_from(nice) {
        Ok(nice @ 1..=40) => 20 - nice,
        _ => 0,
    }
}

fn set_nice(thread: ThreadId, nice: libc::c_int) -> io::Result<()> {
    // SAFETY: takes numbers alone.
    let result = unsafe { libc::syscall(libc::SYS_setpriority, libc::PRIO_PROCESS, thread, nice) };
    succeeded(result)
}

/// Has a thread, 0 for the calling one, scheduled by one of the policies without priorities.
fn set_policy(thread: ThreadId, policy: libc::c_int) -> io::Result<()> {
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
    succeeded(result)
}

fn succeeded(result: libc::c_long) -> io::Result<()> {
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

// Threads are put on CPUs by what the server has.
#[cfg(all(test, feature = "server"))]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::mpsc::channel;

    use super::*;

    /// The policy and the nice value of this thread, as the kernel shows them.
    fn shown() -> (String, String) {
        let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split(' ').collect();
        // From the third on, as the name is behind.
        (fields[41 - 2].to_owned(), fields[19 - 2].to_owned())
    }

    #[test]
    fn a_thread_has_the_urgency_of_its_work_and_comes_back_where_it_may() {
        let before = shown();
        for usual in [coming_back(), None] {
            let (during, after) = std::thread::spawn(move || {
                let urgencies = [Urgency::WhenIdle, Urgency::Low];
                let during = urgencies.map(|urgency| run_as(usual, urgency, None, shown));
                (during, shown())
            })
            .join()
            .unwrap();
            let low = ("3".to_owned(), "10".to_owned());
            let idle = ("5".to_owned(), "0".to_owned());
            match usual {
                Some(_) => assert_eq!((during, after), ([idle, low], before.clone())),
                None => assert_eq!((during, after), ([low.clone(), low.clone()], low)),
            }
        }
    }

    #[test]
    fn what_is_done_aside_is_low_and_its_caller_is_not() {
        let before = shown();
        let (policy, nice) = run_aside(shown);
        assert_eq!((&*policy, &*nice), ("3", "10"));
        assert_eq!(shown(), before);
    }

    /// As it has to be where all CPUs are busy without a pause.
    #[test]
    fn what_waits_for_a_cpu_for_too_long_is_fetched_back_and_what_sleeps_is_not() {
        let if_idle = |policy| coming_back().map_or("3", |_| policy);
        let after_sleep = || {
            std::thread::sleep(MOST_WAITED * 3);
            shown().0
        };
        let policy = scope(|scope| {
            scope
                .spawn(|| run(Some(Urgency::WhenIdle), after_sleep))
                .join()
        });
        assert_eq!(policy.unwrap(), if_idle("5"));
        // On one CPU with a thread that leaves it nothing.
        let cpu = core_affinity::get_core_ids().unwrap()[0];
        let is_over = AtomicBool::new(false);
        let end = Instant::now() + Duration::from_secs(30);
        let (before, after) = scope(|scope| {
            scope.spawn(|| {
                core_affinity::set_for_current(cpu);
                while !is_over.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
            let starved = || {
                let before = shown().0;
                core_affinity::set_for_current(cpu);
                while shown().0 == "5" && Instant::now() < end {}
                (before, shown().0)
            };
            let policies = scope
                .spawn(move || run(Some(Urgency::WhenIdle), starved))
                .join();
            is_over.store(true, Ordering::Relaxed);
            policies.unwrap()
        });
        assert_eq!((&*before, &*after), (if_idle("5"), "3"));
    }

    #[test]
    fn who_helps_has_the_urgency_of_the_work_while_there_is_any() {
        let (tell, told) = channel();
        let (ask, asked) = channel::<()>();
        let helping = std::thread::spawn(move || {
            let _ = tell.send(gettid().to_string());
            while asked.recv().is_ok() {
                let _ = tell.send(shown().0);
            }
        });
        let helper = told.recv().unwrap().parse().unwrap();
        let policy = || {
            ask.send(()).unwrap();
            told.recv().unwrap()
        };
        assert_eq!(policy(), "0");
        let work = |work: &dyn Fn() -> String| {
            run_as(coming_back(), Urgency::WhenIdle, Some(helper), work)
        };
        let (idle, at_last) = coming_back().map_or(("3", "3"), |_| ("5", "0"));
        let meanwhile = work(&|| {
            // As two that run at the same time.
            assert_eq!(work(&policy), idle);
            policy()
        });
        assert_eq!((&*meanwhile, &*policy()), (idle, at_last));
        drop(ask);
        helping.join().unwrap();
    }

    #[test]
    fn others_go_first_for_no_longer_than_work_waits() {
        let begun = Instant::now();
        let mut reader = Yielding::new(io::repeat(7), Some(Urgency::WhenIdle));
        let mut buffer = [0; 1];
        while !reader.left.is_zero() && begun.elapsed() < Duration::from_secs(60) {
            reader.read_exact(&mut buffer).unwrap();
        }
        assert!(begun.elapsed() >= MOST_WAITED && reader.left.is_zero());
        reader.read_exact(&mut buffer).unwrap();
        assert_eq!(buffer, [7]);
        for urgency in [Some(Urgency::Low), None] {
            assert!(Yielding::new(io::empty(), urgency).left.is_zero());
        }
    }

    #[test]
    fn what_goes_wrong_in_the_work_goes_wrong_for_its_caller() {
        let caught = std::panic::catch_unwind(|| run_aside(|| panic!("as wanted")));
        let said = caught.unwrap_err();
        assert_eq!(*said.downcast::<&str>().unwrap(), "as wanted");
        let policies = std::thread::spawn(|| {
            let before = shown().0;
            let caught =
                std::panic::catch_unwind(|| run(Some(Urgency::WhenIdle), || panic!("too")));
            (before, caught.is_err(), shown().0)
        });
        let after = coming_back().map_or("3", |_| "0").to_owned();
        assert_eq!(policies.join().unwrap(), ("0".to_owned(), true, after));
    }
}
