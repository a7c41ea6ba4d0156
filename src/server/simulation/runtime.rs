//! A single-threaded executor with a virtual clock. The same seed gives the same run: which ready
//! task is next is drawn, time passes only when no task is ready, and nothing else decides.
//!
//! All cores of a server run in it, and the world around them: the peers, and the threads on which
//! agents find late answers. A core that an agent keeps busy stands still while the others go on.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex, Once, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use super::network::Network;

/// Events kept for the report of a failure.
const TAIL_LEN: usize = 160;

/// Polls without the clock moving, from which on a run counts as going in circles. The busiest
/// moments of ten thousand seeds took less than a tenth of it.
const MAX_POLLS_AT_ONCE: u64 = 300_000;

/// The same for reads, writes and accepts of one task that never had to wait.
const MAX_BEGUN_AT_ONCE: u64 = 100_000;

thread_local! {
    static CURRENT: RefCell<Option<Rc<Simulator>>> = const { RefCell::new(None) };
    static PANICS: Cell<u64> = const { Cell::new(0) };
}

/// The simulator of this thread, if it runs one.
pub(in crate::server) fn current() -> Option<Rc<Simulator>> {
    CURRENT.try_with(|current| current.borrow().clone()).ok()?
}

/// A small random number generator.
#[derive(Clone, Debug)]
pub(super) struct Random(u64);

impl Random {
    pub(super) const fn new(seed: u64) -> Self {
        Self(seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// xorshift64*.
    pub(super) const fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Below `bound`, which is not 0.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() >> 33).expect("31 bits") % bound
    }

    /// Once in `one_in` times; never if it is 0.
    pub(super) fn chance(&mut self, one_in: usize) -> bool {
        one_in > 0 && self.below(one_in) == 0
    }

    pub(super) fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    /// Up to `longest`, in microseconds.
    pub(super) fn duration(&mut self, longest: Duration) -> Duration {
        let micros = usize::try_from(longest.as_micros()).expect("short");
        Duration::from_micros(self.below(micros + 1) as u64)
    }
}

/// Which ready task is next.
#[derive(Clone, Copy, Debug)]
pub(super) enum Order {
    Random,
    /// As they were woken, which is what runtimes do, mostly.
    First,
    Last,
}

struct Task {
    core: usize,
    future: Pin<Box<dyn Future<Output = ()>>>,
    waker: Waker,
}

/// Puts its task on the list of those to poll.
struct TaskWaker {
    id: usize,
    woken: Arc<Mutex<Vec<usize>>>,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        let mut woken = self.woken.lock().unwrap_or_else(PoisonError::into_inner);
        woken.push(self.id);
    }
}

/// What one core is doing.
#[derive(Clone, Copy, Debug, Default)]
struct Core {
    busy_until: Duration,
    /// When it became busy, and the longest that it was without a break.
    busy_since: Duration,
    longest_stall: Duration,
    /// How long agents kept it from everything else, in total.
    stalled: Duration,
    /// Reads, writes and accepts under way.
    operations: usize,
    tasks: usize,
}

/// One thing that happened.
struct Happened {
    at: Duration,
    core: usize,
    what: &'static str,
    of: u64,
    detail: u64,
}

/// The executor, and the machine it pretends to be.
pub(in crate::server) struct Simulator {
    clock: Cell<Duration>,
    /// How far the task that runs is ahead of the clock, because its agent took its time.
    ahead: Cell<Duration>,
    pub(super) random: RefCell<Random>,
    order: Order,
    /// What the coarse clock moves by.
    tick: Duration,
    pub(super) is_io_uring: bool,
    tasks: RefCell<Vec<Option<Task>>>,
    woken: Arc<Mutex<Vec<usize>>>,
    ready: RefCell<Vec<usize>>,
    is_ready: RefCell<Vec<bool>>,
    timers: RefCell<BTreeMap<(Duration, u64), Waker>>,
    timer_serial: Cell<u64>,
    /// Those of the server, and the world's as the last one.
    cores: RefCell<Vec<Core>>,
    current: Cell<usize>,
    pub(super) network: RefCell<Network>,
    tail: RefCell<VecDeque<Happened>>,
    hash: Cell<u64>,
    failure: RefCell<Option<String>>,
    polls_at_once: Cell<u64>,
    polls: Cell<u64>,
    /// Operations since the task that runs was polled.
    begun: Cell<u64>,
    is_ending: Cell<bool>,
}

impl Simulator {
    /// Makes a simulator and installs it on this thread.
    pub(super) fn install(
        cores: usize,
        is_io_uring: bool,
        network: Network,
        random: &mut Random,
    ) -> Rc<Self> {
        watch_panics();
        PANICS.set(0);
        let simulator = Rc::new(Self {
            // Not 0: time before the start can be asked for.
            clock: Cell::new(Duration::from_secs(1000)),
            ahead: Cell::default(),
            order: random.pick(&[Order::Random, Order::Random, Order::First, Order::Last]),
            tick: Duration::from_millis(random.pick(&[1, 1, 4])),
            random: RefCell::new(Random::new(random.next())),
            is_io_uring,
            tasks: RefCell::default(),
            woken: Arc::default(),
            ready: RefCell::default(),
            is_ready: RefCell::default(),
            timers: RefCell::default(),
            timer_serial: Cell::default(),
            cores: RefCell::new(vec![Core::default(); cores + 1]),
            current: Cell::new(cores),
            network: RefCell::new(network),
            tail: RefCell::default(),
            hash: Cell::new(0xcbf2_9ce4_8422_2325),
            failure: RefCell::default(),
            polls_at_once: Cell::default(),
            polls: Cell::default(),
            begun: Cell::default(),
            is_ending: Cell::new(false),
        });
        CURRENT.set(Some(Rc::clone(&simulator)));
        simulator
    }

    /// Lets go of everything; tasks that still wait are dropped.
    pub(super) fn dismantle(&self) {
        self.is_ending.set(true);
        let tasks = std::mem::take(&mut *self.tasks.borrow_mut());
        drop(tasks);
        self.timers.borrow_mut().clear();
        CURRENT.set(None);
    }

    pub(super) fn is_ending(&self) -> bool {
        self.is_ending.get()
    }

    /// The fine clock.
    pub(in crate::server) fn now(&self) -> Duration {
        self.clock.get() + self.ahead.get()
    }

    /// The coarse clock, which stands still for a tick.
    pub(in crate::server) fn coarse_now(&self) -> Duration {
        let tick = u64::try_from(self.tick.as_nanos()).expect("short");
        let now = u64::try_from(self.now().as_nanos()).expect("short");
        Duration::from_nanos(now / tick * tick)
    }

    pub(super) const fn tick(&self) -> Duration {
        self.tick
    }

    /// The core whose task runs now.
    pub(super) fn core(&self) -> usize {
        self.current.get()
    }

    /// Where everything lives that is not the server.
    pub(super) fn world(&self) -> usize {
        self.cores.borrow().len() - 1
    }

    /// Keeps the core that runs now from all else for this long.
    pub(super) fn stall(&self, duration: Duration) {
        self.ahead.set(self.ahead.get() + duration);
        self.cores.borrow_mut()[self.core()].stalled += duration;
    }

    /// How long agents have kept this core busy so far, without what is still to come of it.
    pub(super) fn stalled(&self, core: usize) -> Duration {
        let core = self.cores.borrow()[core];
        core.stalled - core.busy_until.saturating_sub(self.clock.get())
    }

    /// The same for all cores together.
    pub(super) fn stalled_in_all(&self) -> Duration {
        (0..self.world()).map(|core| self.stalled(core)).sum()
    }

    /// The longest that a core was kept busy without a break.
    pub(super) fn longest_stall(&self) -> Duration {
        let cores = self.cores.borrow();
        let stalls = cores.iter().map(|core| core.longest_stall);
        stalls.max().unwrap_or_default()
    }

    /// Reads, writes and accepts that a core has under way.
    pub(super) fn operations(&self, core: usize) -> usize {
        self.cores.borrow()[core].operations
    }

    /// Tasks that have not ended.
    pub(super) fn tasks(&self, core: usize) -> usize {
        self.cores.borrow()[core].tasks
    }

    /// Starts a task where the one that runs now is.
    pub(in crate::server) fn spawn(&self, future: impl Future<Output = ()> + 'static) {
        self.spawn_on(self.core(), future);
    }

    pub(super) fn spawn_on(&self, core: usize, future: impl Future<Output = ()> + 'static) {
        let mut tasks = self.tasks.borrow_mut();
        let id = tasks.len();
        let woken = Arc::clone(&self.woken);
        let waker = Waker::from(Arc::new(TaskWaker { id, woken }));
        waker.wake_by_ref();
        tasks.push(Some(Task {
            core,
            future: Box::pin(future),
            waker,
        }));
        self.is_ready.borrow_mut().push(false);
        self.cores.borrow_mut()[core].tasks += 1;
    }

    /// Wakes at a time.
    pub(super) fn set_timer(&self, at: Duration, waker: &Waker) {
        let serial = self.timer_serial.get();
        self.timer_serial.set(serial + 1);
        self.timers.borrow_mut().insert((at, serial), waker.clone());
    }

    /// Waits, to the microsecond.
    pub(super) async fn pause(&self, duration: Duration) {
        self.pause_until(self.now() + duration).await;
    }

    pub(super) async fn pause_until(&self, until: Duration) {
        let mut is_set = false;
        poll_fn(|context| {
            if is_set && self.now() >= until {
                return Poll::Ready(());
            }
            is_set = true;
            self.set_timer(until, context.waker());
            Poll::Pending
        })
        .await;
    }

    /// Waits as monoio's timers do, to the end of a millisecond.
    pub(in crate::server) async fn sleep(&self, duration: Duration) {
        let millis = (self.now() + duration).as_nanos().div_ceil(1_000_000);
        let until = Duration::from_millis(u64::try_from(millis).expect("short"));
        self.pause(until.saturating_sub(self.now())).await;
    }

    /// Notes an operation of the core that runs now; what it returns sees it to its end.
    pub(super) fn begin(self: &Rc<Self>, what: &'static str) -> Operation {
        let core = self.core();
        self.begun.set(self.begun.get() + 1);
        if self.begun.get() > MAX_BEGUN_AT_ONCE {
            self.fail(format!(
                "going in circles: one task began {what} again and again"
            ));
            panic!("nothing else would stop it");
        }
        self.cores.borrow_mut()[core].operations += 1;
        Operation {
            simulator: Rc::clone(self),
            core,
            what,
            is_done: false,
        }
    }

    /// What happened, for the report of a failure and for the hash of the run.
    pub(super) fn note(&self, what: &'static str, of: u64, detail: u64) {
        let (at, core) = (self.now(), self.core());
        let at_nanos = u64::try_from(at.as_nanos()).expect("short");
        self.mix(at_nanos);
        self.mix(core as u64);
        what.bytes().for_each(|byte| self.mix(u64::from(byte)));
        self.mix(of);
        self.mix(detail);
        let mut tail = self.tail.borrow_mut();
        if tail.len() == TAIL_LEN {
            tail.pop_front();
        }
        tail.push_back(Happened {
            at,
            core,
            what,
            of,
            detail,
        });
    }

    fn mix(&self, number: u64) {
        let hash = (self.hash.get() ^ number).wrapping_mul(0x0100_0000_01b3);
        self.hash.set(hash ^ (hash >> 29));
    }

    /// A number that any difference between two runs changes.
    pub(super) fn hash(&self) -> u64 {
        self.hash.get()
    }

    pub(super) fn polls(&self) -> u64 {
        self.polls.get()
    }

    /// Ends the run: what must not be has happened. The first one counts.
    pub(super) fn fail(&self, what: impl Into<String>) {
        let mut failure = self.failure.borrow_mut();
        if failure.is_none() && !self.is_ending() {
            *failure = Some(what.into());
        }
    }

    pub(super) fn has_failed(&self) -> bool {
        self.failure.borrow().is_some()
    }

    /// What failed, if anything did, and what happened before.
    pub(super) fn failure(&self) -> Option<String> {
        let failure = self.failure.borrow().clone()?;
        let mut text = failure;
        let _ = write!(
            text,
            "\n\nwhat happened last (time, core, what, of which connection):"
        );
        for happened in &*self.tail.borrow() {
            let Happened {
                at,
                core,
                what,
                of,
                detail,
            } = happened;
            let core = if *core == self.world() {
                "world".to_owned()
            } else {
                format!("core {core}")
            };
            let at = at.saturating_sub(Duration::from_secs(1000));
            let _ = write!(text, "\n{at:>12.3?} {core:<7} {what} #{of}: {detail}");
        }
        Some(text)
    }

    /// Runs until `is_over`, or until something fails.
    pub(super) fn run(&self, mut is_over: impl FnMut(&Self) -> bool) {
        while !self.has_failed() && !is_over(self) {
            self.take_woken();
            if let Some(id) = self.next_task() {
                self.poll(id);
            } else if !self.pass_time() {
                self.fail("stuck: no task is ready and no timer is set");
            }
        }
    }

    fn take_woken(&self) {
        let mut woken = self.woken.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut ready, mut is_ready) = (self.ready.borrow_mut(), self.is_ready.borrow_mut());
        for id in woken.drain(..) {
            if !std::mem::replace(&mut is_ready[id], true) {
                ready.push(id);
            }
        }
    }

    /// A ready task of a core that is free.
    fn next_task(&self) -> Option<usize> {
        let (mut ready, tasks) = (self.ready.borrow_mut(), self.tasks.borrow());
        let (cores, clock) = (self.cores.borrow(), self.clock.get());
        let count = ready.len();
        if count == 0 {
            return None;
        }
        let first = match self.order {
            Order::Random => self.random.borrow_mut().below(count),
            Order::First => 0,
            Order::Last => count - 1,
        };
        let mut candidates = (0..count).map(|offset| match self.order {
            Order::Last => first - offset,
            _ => (first + offset) % count,
        });
        let index = candidates.find(|&index| {
            // One that has ended may be woken all the same.
            let core = tasks[ready[index]].as_ref().map_or(0, |task| task.core);
            cores[core].busy_until <= clock
        })?;
        let id = match self.order {
            Order::Random => ready.swap_remove(index),
            _ => ready.remove(index),
        };
        self.is_ready.borrow_mut()[id] = false;
        Some(id)
    }

    fn poll(&self, id: usize) {
        let Some(mut task) = self.tasks.borrow_mut()[id].take() else {
            return;
        };
        self.polls.set(self.polls.get() + 1);
        self.begun.set(0);
        self.polls_at_once.set(self.polls_at_once.get() + 1);
        if self.polls_at_once.get() > MAX_POLLS_AT_ONCE {
            self.fail("going in circles: the clock does not move any more");
        }
        self.mix(id as u64);
        self.current.set(task.core);
        let waker = task.waker.clone();
        let mut context = Context::from_waker(&waker);
        let result = catch_unwind(AssertUnwindSafe(|| task.future.as_mut().poll(&mut context)));
        let core = task.core;
        match result {
            Ok(Poll::Pending) => self.tasks.borrow_mut()[id] = Some(task),
            Ok(Poll::Ready(())) => {
                drop(task);
                self.cores.borrow_mut()[core].tasks -= 1;
            }
            Err(_) => self.fail("a task panicked, which ends its core"),
        }
        if PANICS.get() > 0 {
            self.fail("something panicked that is not the agent");
        }
        let ahead = self.ahead.take();
        if !ahead.is_zero() {
            let (now, core) = (self.clock.get(), &mut self.cores.borrow_mut()[core]);
            if core.busy_until < now {
                core.busy_since = now;
            }
            core.busy_until = now + ahead;
            core.longest_stall = core.longest_stall.max(core.busy_until - core.busy_since);
        }
        self.current.set(self.world());
    }

    /// Moves the clock to the next thing that happens; false if nothing will.
    fn pass_time(&self) -> bool {
        let mut timers = self.timers.borrow_mut();
        let timer = timers.first_key_value().map(|(&(at, _), _)| at);
        let (ready, tasks, cores) = (
            self.ready.borrow(),
            self.tasks.borrow(),
            self.cores.borrow(),
        );
        let waiting = ready.iter().filter_map(|&id| tasks[id].as_ref());
        let free = waiting.map(|task| cores[task.core].busy_until).min();
        let Some(next) = timer.into_iter().chain(free).min() else {
            return false;
        };
        if next > self.clock.get() {
            self.clock.set(next);
            self.polls_at_once.set(0);
        }
        while let Some(entry) = timers.first_entry()
            && entry.key().0 <= self.clock.get()
        {
            entry.remove().wake();
        }
        true
    }
}

/// A read, write or accept under way. The kernel works on it whether or not somebody waits, so that
/// dropping one loses what it gets.
pub(super) struct Operation {
    simulator: Rc<Simulator>,
    core: usize,
    what: &'static str,
    is_done: bool,
}

impl Operation {
    pub(super) fn done(mut self) {
        self.is_done = true;
    }
}

impl Drop for Operation {
    fn drop(&mut self) {
        self.simulator.cores.borrow_mut()[self.core].operations -= 1;
        if !self.is_done {
            let what = self.what;
            self.simulator
                .fail(format!("{what} was dropped while it was under way"));
        }
    }
}

/// Counts the panics of each thread, also those that somebody catches. Agents of the simulation
/// panic past the hook.
fn watch_panics() {
    static WATCH: Once = Once::new();
    WATCH.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let _ = PANICS.try_with(|panics| panics.set(panics.get() + 1));
            before(info);
        }));
    });
}
