//! Threads that derive keys by PBKDF2, which takes longer than a core may stand still.
//!
//! They are few, and so are those that wait for them: whoever comes when all places are taken is told so
//! at once, and asked to come back.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

/// What is to be done, on whichever thread.
type Job = Box<dyn FnOnce() + Send>;

/// A few threads and a queue that has an end. The threads end when this is gone and nothing waits.
#[derive(Debug)]
pub(super) struct Verifier {
    shared: Arc<Shared>,
}

struct Shared {
    queue: Mutex<Queue>,
    came: Condvar,
    max_waiting: usize,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    /// Places that are taken by what is not there yet.
    reserved: usize,
    is_over: bool,
}

impl Verifier {
    /// Starts so many threads, for which so many jobs may wait.
    pub(super) fn start(threads: usize, max_waiting: usize) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            queue: Mutex::new(Queue {
                // All there will be: handing over a job makes it no longer.
                jobs: VecDeque::with_capacity(max_waiting),
                reserved: 0,
                is_over: false,
            }),
            came: Condvar::new(),
            max_waiting,
        });
        let verifier = Self { shared };
        for index in 0..threads {
            let shared = Arc::clone(&verifier.shared);
            let name = format!("challenge-{index}");
            // Where one cannot be started, those before end as this is dropped.
            thread::Builder::new()
                .name(name)
                .spawn(move || shared.run())?;
        }
        Ok(verifier)
    }

    /// A place for a job, if one is left; for who is greedy, if more than half are. Never waits.
    pub(super) fn reserve(&self, is_greedy: bool) -> Option<Place<'_>> {
        let max_waiting = match is_greedy {
            true => self.shared.max_waiting.div_ceil(2),
            false => self.shared.max_waiting,
        };
        let mut queue = self.shared.lock();
        if queue.jobs.len() + queue.reserved >= max_waiting {
            return None;
        }
        queue.reserved += 1;
        Some(Place {
            shared: &self.shared,
        })
    }
}

/// A place in the queue, which nobody else gets.
#[must_use = "it is free again once it is dropped"]
#[derive(Debug)]
pub(super) struct Place<'a> {
    shared: &'a Shared,
}

impl Place<'_> {
    /// Has this done.
    pub(super) fn submit(self, job: impl FnOnce() + Send + 'static) {
        // Dropped after it is taken, so that nobody gets in between.
        self.shared.lock().jobs.push_back(Box::new(job));
        self.shared.came.notify_one();
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.shared.lock().reserved -= 1;
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        // A queue is whole at any time.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        loop {
            let job = {
                let mut queue = self.lock();
                loop {
                    match queue.jobs.pop_front() {
                        Some(job) => break job,
                        None if queue.is_over => return,
                        None => {
                            queue = self
                                .came
                                .wait(queue)
                                .unwrap_or_else(PoisonError::into_inner);
                        }
                    }
                }
            };
            // What a job holds, a ticket, is dropped with it and answers by that.
            if catch_unwind(AssertUnwindSafe(job)).is_err() {
                tracing::error!("verifying a solution panicked; HAProxy got the fallback");
            }
        }
    }
}

/// What waits is still done, as visitors wait for it; whoever drops this, a core, does not.
impl Drop for Verifier {
    fn drop(&mut self) {
        self.shared.lock().is_over = true;
        self.shared.came.notify_all();
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("max_waiting", &self.max_waiting)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn as_many_as_there_are_places_and_no_more() {
        let verifier = Verifier::start(1, 2).unwrap();
        let (release, held) = mpsc::channel::<()>();
        let (done, finished) = mpsc::channel();
        let (began, running) = mpsc::channel();
        verifier.reserve(false).unwrap().submit(move || {
            began.send(()).unwrap();
            let _ = held.recv();
        });
        running.recv().unwrap();
        let unused = verifier.reserve(true).unwrap();
        assert!(
            verifier.reserve(true).is_none(),
            "the other half is for others"
        );
        let first = verifier.reserve(false).unwrap();
        assert!(verifier.reserve(false).is_none(), "both places are taken");
        drop(unused);
        let second = verifier.reserve(false).unwrap();
        for place in [first, second] {
            let done = done.clone();
            place.submit(move || done.send(()).unwrap());
        }
        assert!(verifier.reserve(false).is_none());
        release.send(()).unwrap();
        finished.recv().unwrap();
        finished.recv().unwrap();
        verifier
            .reserve(false)
            .unwrap()
            .submit(move || done.send(()).unwrap());
        finished.recv().unwrap();
    }

    #[test]
    fn a_panic_ends_one_job_and_what_waits_at_the_end_is_done() {
        let verifier = Verifier::start(1, 8).unwrap();
        let (done, finished) = mpsc::channel();
        let (release, held) = mpsc::channel::<()>();
        let submit = |job: Job| verifier.reserve(false).unwrap().submit(job);
        submit(Box::new(|| panic!("of a test")));
        submit(Box::new(move || {
            let _ = held.recv();
        }));
        submit(Box::new(move || done.send(1).unwrap()));
        let shared = Arc::downgrade(&verifier.shared);
        drop(verifier);
        release.send(()).unwrap();
        assert_eq!(finished.recv(), Ok(1));
        // The thread ends, and nothing is left of it.
        while shared.strong_count() > 0 {
            thread::yield_now();
        }
    }
}
