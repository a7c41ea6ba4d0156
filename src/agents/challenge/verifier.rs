//! Threads that derive keys by PBKDF2, which takes longer than a core may stand still.
//!
//! They are few, and so are those that wait for them: whoever comes when all places are taken is told so
//! at once, and asked to come back.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

/// What is to be done, on whichever thread.
type Job = Box<dyn FnOnce() + Send>;

/// A few threads and a queue that has an end. The threads end with the last handle of it.
#[derive(Debug)]
pub(super) struct Verifier {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
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
        let mut verifier = Self {
            shared,
            threads: Vec::with_capacity(threads),
        };
        for index in 0..threads {
            let shared = Arc::clone(&verifier.shared);
            let name = format!("challenge-{index}");
            // Where one cannot be started, those before end as this is dropped.
            let thread = thread::Builder::new()
                .name(name)
                .spawn(move || shared.run())?;
            verifier.threads.push(thread);
        }
        Ok(verifier)
    }

    /// A place for a job, if one is left. Never waits.
    pub(super) fn reserve(&self) -> Option<Place<'_>> {
        let mut queue = self.shared.lock();
        if queue.jobs.len() + queue.reserved >= self.shared.max_waiting {
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
                    if queue.is_over {
                        return;
                    }
                    match queue.jobs.pop_front() {
                        Some(job) => break job,
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

/// Jobs that wait are dropped, and with them their tickets; those that run are waited for.
impl Drop for Verifier {
    fn drop(&mut self) {
        let waiting = {
            let mut queue = self.shared.lock();
            queue.is_over = true;
            std::mem::take(&mut queue.jobs)
        };
        drop(waiting);
        self.shared.came.notify_all();
        for thread in self.threads.drain(..) {
            // The last handle may be a job's own.
            if thread.thread().id() != thread::current().id() {
                let _ = thread.join();
            }
        }
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
        verifier.reserve().unwrap().submit(move || {
            began.send(()).unwrap();
            let _ = held.recv();
        });
        running.recv().unwrap();
        let unused = verifier.reserve().unwrap();
        let first = verifier.reserve().unwrap();
        assert!(verifier.reserve().is_none(), "both places are taken");
        drop(unused);
        let second = verifier.reserve().unwrap();
        for place in [first, second] {
            let done = done.clone();
            place.submit(move || done.send(()).unwrap());
        }
        assert!(verifier.reserve().is_none());
        release.send(()).unwrap();
        finished.recv().unwrap();
        finished.recv().unwrap();
        verifier
            .reserve()
            .unwrap()
            .submit(move || done.send(()).unwrap());
        finished.recv().unwrap();
    }

    #[test]
    fn a_panic_ends_one_job_and_an_end_drops_those_that_wait() {
        let verifier = Verifier::start(1, 8).unwrap();
        let (done, finished) = mpsc::channel();
        let submit = |job: Job| verifier.reserve().unwrap().submit(job);
        submit(Box::new(|| panic!("of a test")));
        let after = done.clone();
        submit(Box::new(move || after.send(1).unwrap()));
        assert_eq!(finished.recv(), Ok(1));

        let (began, running) = mpsc::channel();
        let (release, held) = mpsc::channel::<()>();
        submit(Box::new(move || {
            began.send(()).unwrap();
            let _ = held.recv();
        }));
        running.recv().unwrap();
        let waits = done.clone();
        submit(Box::new(move || waits.send(2).unwrap()));
        drop(done);
        let end = thread::spawn(move || drop(verifier));
        // Nobody holds the sender any more once what waited is dropped.
        assert!(finished.recv().is_err());
        release.send(()).unwrap();
        end.join().unwrap();
    }
}
