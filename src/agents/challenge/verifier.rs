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
    is_over: bool,
}

impl Verifier {
    /// Starts so many threads, for which so many jobs may wait.
    pub(super) fn start(threads: usize, max_waiting: usize) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            queue: Mutex::new(Queue {
                // All there will be: handing over a job makes it no longer.
                jobs: VecDeque::with_capacity(max_waiting),
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
            let thread = thread::Builder::new().name(name).spawn(move || shared.run())?;
            verifier.threads.push(thread);
        }
        Ok(verifier)
    }

    /// Has this done; whether there was a place. Never waits.
    pub(super) fn submit(&self, job: impl FnOnce() + Send + 'static) -> bool {
        // Seen first, so that a full queue costs no allocation.
        if self.shared.lock().jobs.len() >= self.shared.max_waiting {
            return false;
        }
        let job: Job = Box::new(job);
        {
            let mut queue = self.shared.lock();
            if queue.jobs.len() >= self.shared.max_waiting {
                return false;
            }
            queue.jobs.push_back(job);
        }
        self.shared.came.notify_one();
        true
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
                            queue = self.came.wait(queue).unwrap_or_else(PoisonError::into_inner);
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
        assert!(verifier.submit(move || {
            began.send(()).unwrap();
            let _ = held.recv();
        }));
        running.recv().unwrap();
        for expected in [true, true, false, false] {
            let done = done.clone();
            assert_eq!(verifier.submit(move || done.send(()).unwrap()), expected);
        }
        release.send(()).unwrap();
        finished.recv().unwrap();
        finished.recv().unwrap();
        assert!(verifier.submit(move || done.send(()).unwrap()));
        finished.recv().unwrap();
    }

    #[test]
    fn a_panic_ends_one_job_and_an_end_drops_those_that_wait() {
        let verifier = Verifier::start(1, 8).unwrap();
        let (done, finished) = mpsc::channel();
        assert!(verifier.submit(|| panic!("of a test")));
        let after = done.clone();
        assert!(verifier.submit(move || after.send(1).unwrap()));
        assert_eq!(finished.recv(), Ok(1));

        let (began, running) = mpsc::channel();
        let (release, held) = mpsc::channel::<()>();
        assert!(verifier.submit(move || {
            began.send(()).unwrap();
            let _ = held.recv();
        }));
        running.recv().unwrap();
        let waits = done.clone();
        assert!(verifier.submit(move || waits.send(2).unwrap()));
        drop(done);
        let end = thread::spawn(move || drop(verifier));
        // Nobody holds the sender any more once what waited is dropped.
        assert!(finished.recv().is_err());
        release.send(()).unwrap();
        end.join().unwrap();
    }
}
