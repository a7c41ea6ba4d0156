//! The server: one pinned thread a core, each with its own event loop, listeners, buffers and
//! agent. The only place that knows monoio.
//!
//! | file | what it is |
//! |---|---|
//! | `config` | settings, checked |
//! | `listen` | opening sockets |
//! | `driver` | `io_uring` or epoll, tried out |
//! | `accept`, `placement` | taking connections; which core gets one |
//! | `worker` | one core: its peers, its inbox, late answers |
//! | `watch` | the clocks of a core: timeouts, deadlines, the drain |
//! | `io` | listeners, sockets, sleep, tasks, the clocks: all that is asked of monoio |
//! | `peer` | one connected peer, shared by its tasks |
//! | `pump` | one socket to one connection: read, answer, write |
//! | `hand_over` | what goes from one process to the next, and how |
//! | `metrics` | what is shown of the counters |
//! | `buffers`, `stats` | of one core |

mod accept;
mod buffers;
mod busy_poll;
mod config;
mod driver;
mod hand_over;
#[cfg(not(test))]
mod io;
mod listen;
mod metrics;
mod peer;
mod placement;
mod pump;
mod stats;
mod watch;
mod worker;

// The unit tests also run workers on a simulated runtime: `io` is then either of the two.
#[cfg(test)]
#[path = "io.rs"]
mod monoio_io;
#[cfg(test)]
mod simulation;
#[cfg(test)]
use simulation::io;

use std::fmt;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::SystemTime;

use core_affinity::CoreId;
use futures_channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded};

pub use config::{ConfigError, Cores, Driver, ListenAddress, ServerConfig};
pub use hand_over::InheritedSocket;
pub(crate) use listen::open_one;
pub use listen::{group_id, user_id};
pub use metrics::families;
pub use stats::Stats;

use crate::agent::{Agent, AgentError};
use hand_over::{Message, Resumed};
use io::CoreListener;
use listen::Listener;
use placement::{Limits as PlaceLimits, Placement};
use stats::Counters;
use worker::{Inbound, Parts, Worker};

/// A running server. Dropping it leaves it running: call [`drain`](Self::drain) and
/// [`join`](Self::join).
#[derive(Debug)]
#[must_use = "`join` waits for its end: a process that goes on to return from `main` ends it"]
pub struct Server {
    addresses: Vec<ListenAddress>,
    cores: Vec<usize>,
    drivers: Vec<String>,
    handle: ServerHandle,
    threads: Vec<JoinHandle<Stats>>,
}

/// Drains, reloads and watches a server from another thread.
#[derive(Clone, Debug)]
pub struct ServerHandle(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    inboxes: Arc<[UnboundedSender<Inbound>]>,
    counters: Vec<Arc<Counters>>,
    placement: Arc<Placement>,
    config: Mutex<Arc<ServerConfig>>,
    /// The listening sockets once more, for another process to go on with.
    listeners: Mutex<Vec<Listener>>,
    /// Those that are still ours to remove.
    socket_files: Mutex<Vec<PathBuf>>,
    reloads: Reloads,
    started: SystemTime,
    cores: Vec<usize>,
    drivers: Mutex<Vec<String>>,
    draining: std::sync::atomic::AtomicBool,
}

/// How reloads went.
#[derive(Debug, Default)]
struct Reloads {
    /// One at a time. Not the lock of the settings: whoever wants to see those, or the metrics, must
    /// not wait for a core that stands still.
    turn: Mutex<()>,
    generation: AtomicU64,
    /// Milliseconds from the start to the last success.
    at_ms: AtomicU64,
    failures: AtomicU64,
    hand_over_failures: AtomicU64,
}

/// Why a reload changed nothing.
#[derive(Debug)]
#[non_exhaustive]
pub enum ReloadError {
    /// A setting is out of range.
    Config(ConfigError),
    /// A core could not make its new agent.
    Agent(AgentError),
    /// The server is ending.
    Ended,
}

impl fmt::Display for ReloadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(error) => error.fmt(f),
            Self::Agent(error) => write!(f, "cannot make the new agent: {error}"),
            Self::Ended => f.write_str("the server is ending"),
        }
    }
}

impl std::error::Error for ReloadError {}

impl ServerHandle {
    /// Stops accepting; answers what is in flight; tells each connection goodbye with
    /// AGENT-DISCONNECT 0 once it is quiet, at the drain timeout at the latest. Returns at once.
    ///
    /// Health checks fail from now on. With a [`drain_notice`](ServerConfig::drain_notice) all else
    /// goes on for so long before the drain begins; a second call begins it at once.
    pub fn drain(&self) {
        let notice = self.config().drain_notice;
        if self.0.draining.swap(true, Ordering::Relaxed) || notice.is_zero() {
            return self.close();
        }
        self.tell_all(|| Inbound::FailChecks);
        let handle = self.clone();
        let wait = move || {
            std::thread::sleep(notice);
            handle.close();
        };
        let thread = std::thread::Builder::new().name("ringspoa-drain".to_owned());
        if thread.spawn(wait).is_err() {
            self.close();
        }
    }

    /// Stops accepting and ends.
    fn close(&self) {
        self.forget_listeners();
        // While we still listen: after that the path may be the socket of a server that takes
        // over while this one drains.
        self.remove_socket_files();
        self.tell_all(|| Inbound::Drain);
    }

    fn forget_listeners(&self) {
        let listeners = self.0.listeners.lock();
        listeners.unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// A core that is gone already has drained.
    fn tell_all(&self, message: impl Fn() -> Inbound) {
        for inbox in self.0.inboxes.iter() {
            let _ = inbox.unbounded_send(message());
        }
    }

    /// Whether [`drain`](Self::drain) was called, or a hand-over is done.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.0.draining.load(Ordering::Relaxed)
    }

    /// The settings in force.
    #[must_use]
    pub fn config(&self) -> Arc<ServerConfig> {
        let config = self.0.config.lock();
        Arc::clone(&config.unwrap_or_else(PoisonError::into_inner))
    }

    /// Has every core make a new agent with the factory that [`Server::start`] was given, then puts
    /// all of them and `config` in force. If one agent cannot be made, nothing changes.
    ///
    /// Answers go on meanwhile: each core swaps between two batches of NOTIFYs. Limits and timeouts
    /// of a connection are those at its beginning. What only a new start can change stays as it
    /// is, and is returned by name.
    ///
    /// # Errors
    ///
    /// [`ReloadError`].
    pub fn reload(&self, config: ServerConfig) -> Result<Vec<&'static str>, ReloadError> {
        let result = self.try_reload(config);
        if result.is_err() {
            self.note_failed_reload();
        }
        result
    }

    /// Counts a reload that failed before the server was asked.
    pub fn note_failed_reload(&self) {
        self.0.reloads.failures.fetch_add(1, Ordering::Relaxed);
    }

    fn try_reload(&self, config: ServerConfig) -> Result<Vec<&'static str>, ReloadError> {
        config.check().map_err(ReloadError::Config)?;
        let shared = &*self.0;
        let turn = shared.reloads.turn.lock();
        let _turn = turn.unwrap_or_else(PoisonError::into_inner);
        let current = self.config();
        let restart_needed = current.restart_needed(&config);
        let config = Arc::new(current.reloaded(config));
        let (report, reports) = mpsc::channel();
        self.tell_all(|| Inbound::Prepare(report.clone()));
        drop(report);
        let prepared: Vec<_> = reports.iter().collect();
        let count = prepared.len();
        let made: Result<Vec<()>, _> = prepared.into_iter().collect();
        if let Err(error) = made {
            self.tell_all(|| Inbound::Abort);
            return Err(ReloadError::Agent(error));
        }
        if count < shared.inboxes.len() {
            return Err(ReloadError::Ended);
        }
        let (report, reports) = mpsc::channel();
        self.tell_all(|| Inbound::Commit(Arc::clone(&config), report.clone()));
        drop(report);
        while reports.recv().is_ok() {}
        *shared.config.lock().unwrap_or_else(PoisonError::into_inner) = config;
        let since = shared.started.elapsed().unwrap_or_default();
        let at_ms = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        shared.reloads.at_ms.store(at_ms, Ordering::Relaxed);
        shared.reloads.generation.fetch_add(1, Ordering::Relaxed);
        Ok(restart_needed)
    }

    /// Totals of all cores until now.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let mut total = Stats::default();
        for counters in &self.0.counters {
            total += counters.snapshot();
        }
        total
    }

    /// A number for each core that grows every 100 ms for as long as that core is alive; `None` of a
    /// core that has drained.
    #[must_use]
    pub fn heartbeats(&self) -> Vec<Option<u64>> {
        let counters = self.0.counters.iter();
        counters
            .map(|counters| (counters.ended.get() == 0).then(|| counters.beats.get()))
            .collect()
    }

    /// Writes the server's metrics in the text format of Prometheus.
    pub fn write_metrics(&self, out: &mut crate::metrics::Exposition) {
        metrics::write(&self.0, out);
    }

    /// Sends the listening sockets to the process at the other end of `channel`, and the `others`
    /// that are not the server's.
    ///
    /// # Errors
    ///
    /// Those of the channel.
    pub fn send_listeners(
        &self,
        channel: &UnixStream,
        others: Vec<InheritedSocket>,
    ) -> std::io::Result<()> {
        for other in others {
            hand_over::send(channel, &Message::Listener(other))?;
        }
        let listeners = self.0.listeners.lock();
        for listener in &*listeners.unwrap_or_else(PoisonError::into_inner) {
            for socket in &listener.sockets {
                let inherited = InheritedSocket {
                    name: String::new(),
                    owned_file: listener.owned_file.clone(),
                    is_lent: listener.is_lent,
                    socket: socket.try_clone()?,
                };
                hand_over::send(channel, &Message::Listener(inherited))?;
            }
        }
        hand_over::send(channel, &Message::Begin)
    }

    /// Waits until the process at the other end of `channel` serves.
    ///
    /// # Errors
    ///
    /// Those of the channel: the other process ended, or it took longer than the channel's read
    /// timeout.
    pub fn await_ready(&self, channel: &UnixStream) -> std::io::Result<()> {
        match hand_over::receive(channel)? {
            Message::Ready => Ok(()),
            _ => Err(std::io::Error::other("not what a new process says")),
        }
    }

    /// Stops accepting and gives every connection to the process at the other end of `channel`, as
    /// soon as nothing is in flight on each; at the drain timeout the rest is told goodbye. Returns
    /// when all are gone, with how many went over; the server then ends.
    ///
    /// # Errors
    ///
    /// Those of the channel. What could not be sent is closed.
    pub fn send_connections(&self, channel: &UnixStream) -> std::io::Result<usize> {
        self.0.draining.store(true, Ordering::Relaxed);
        // The socket files are the other process's to remove.
        let mut files = self
            .0
            .socket_files
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        files.clear();
        drop(files);
        let (sender, connections) = mpsc::channel();
        self.tell_all(|| Inbound::HandOver(sender.clone()));
        drop(sender);
        self.forget_listeners();
        let mut count = 0;
        for connection in connections {
            hand_over::send(channel, &Message::Connection(connection))?;
            count += 1;
        }
        hand_over::send(channel, &Message::Done)?;
        Ok(count)
    }

    /// The other side of [`send_connections`](Self::send_connections): tells the process before that
    /// this one serves, and takes its connections until it has no more. Returns how many.
    ///
    /// # Errors
    ///
    /// Those of the channel. What came before the error is served.
    pub fn receive_connections(&self, channel: &UnixStream) -> std::io::Result<usize> {
        hand_over::send(channel, &Message::Ready)?;
        let mut count = 0;
        loop {
            match hand_over::receive(channel)? {
                Message::Connection(connection) => {
                    count += 1;
                    let Some(place) = self.0.placement.place(count % self.0.inboxes.len(), None)
                    else {
                        continue;
                    };
                    let resumed = Resumed {
                        socket: io::Socket::new(connection.socket),
                        snapshot: connection.snapshot,
                        input: connection.input,
                    };
                    let inbox = &self.0.inboxes[place.core];
                    let _ = inbox.unbounded_send(Inbound::Resumed(resumed, place));
                }
                Message::Done => {
                    self.claim_listeners();
                    return Ok(count);
                }
                _ => return Err(std::io::Error::other("not what a process before says")),
            }
        }
    }

    /// Makes accept wait as this process needs it: a ring fails it where it may not, and epoll can do
    /// with both for a while. Cores that wait in different ways share listeners, and so did another
    /// process.
    fn claim_listeners(&self) {
        let has_ring = {
            let drivers = self.0.drivers.lock();
            let drivers = drivers.unwrap_or_else(PoisonError::into_inner);
            drivers.iter().any(|driver| driver.starts_with("io_uring"))
        };
        let listeners = self.0.listeners.lock();
        for listener in &*listeners.unwrap_or_else(PoisonError::into_inner) {
            for socket in &listener.sockets {
                // It cannot fail on an open socket.
                let _ = socket2::SockRef::from(socket).set_nonblocking(!has_ring);
            }
        }
    }

    /// Counts a hand-over that failed: this process goes on.
    pub fn note_failed_hand_over(&self) {
        let failures = &self.0.reloads.hand_over_failures;
        failures.fetch_add(1, Ordering::Relaxed);
        self.claim_listeners();
    }

    /// Removes them once, whoever asks first.
    fn remove_socket_files(&self) {
        let mut files = self
            .0
            .socket_files
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        remove(&std::mem::take(&mut *files));
    }
}

/// Takes the listening sockets of the process at the other end of `channel`, for
/// [`Server::start_with`].
///
/// # Errors
///
/// Those of the channel.
pub fn receive_listeners(channel: &UnixStream) -> std::io::Result<Vec<InheritedSocket>> {
    let mut listeners = Vec::new();
    loop {
        match hand_over::receive(channel)? {
            Message::Listener(listener) => listeners.push(listener),
            Message::Begin => return Ok(listeners),
            _ => return Err(std::io::Error::other("not what a process before says")),
        }
    }
}

/// Why a server did not start. Nothing of it runs then.
#[derive(Debug)]
#[non_exhaustive]
pub enum StartError {
    /// A setting is out of range.
    Config(ConfigError),
    /// A CPU is not one the process may use.
    Core {
        /// The CPU asked for.
        wanted: usize,
        /// Those there are.
        usable: Vec<usize>,
    },
    /// An address could not be opened.
    Listen(ListenAddress, std::io::Error),
    /// A socket of another process cannot be listened on.
    InheritedSocket(std::io::Error),
    /// A core's event loop could not be built.
    Driver(std::io::Error),
    /// The factory made no agent.
    Agent(AgentError),
    /// A thread could not be started.
    Thread(std::io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(error) => error.fmt(f),
            Self::Core { wanted, usable } => {
                write!(
                    f,
                    "CPU {wanted} is not one this process may use; those are {usable:?}"
                )
            }
            Self::Listen(address, error) => write!(f, "cannot listen on {address}: {error}"),
            Self::InheritedSocket(error) => write!(f, "cannot take over a socket: {error}"),
            Self::Driver(error) => write!(f, "cannot build an event loop: {error}"),
            Self::Agent(error) => write!(f, "cannot make the agent: {error}"),
            Self::Thread(error) => write!(f, "cannot start a thread: {error}"),
        }
    }
}

impl std::error::Error for StartError {}

/// A worker thread panicked, which is a fault of this crate: agents' panics are caught.
#[derive(Debug)]
pub struct WorkerPanicked(String);

impl fmt::Display for WorkerPanicked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "worker thread {} panicked", self.0)
    }
}

impl std::error::Error for WorkerPanicked {}

/// What one worker thread is started with.
struct Start {
    index: usize,
    core: usize,
    config: Arc<ServerConfig>,
    /// The listener's index, its socket, whether it is a Unix one, and whether it is lent.
    sockets: Vec<(usize, OwnedFd, bool, bool)>,
    counters: Arc<Counters>,
    placement: Arc<Placement>,
    inboxes: Arc<[UnboundedSender<Inbound>]>,
    inbox: UnboundedReceiver<Inbound>,
}

impl Server {
    /// Starts a server whose cores each get an agent from `factory`, which is called on that core
    /// with the core's index, from 0.
    ///
    /// Returns once every core listens.
    ///
    /// # Errors
    ///
    /// [`StartError`]; whatever had been started is stopped again.
    pub fn start<A, F>(config: ServerConfig, factory: F) -> Result<Self, StartError>
    where
        A: Agent + 'static,
        F: Fn(usize) -> Result<A, AgentError> + Send + Sync + 'static,
    {
        Self::start_with(config, Vec::new(), factory)
    }

    /// As [`start`](Self::start), with sockets that another process opened: of an address of
    /// `listen` they are used instead of opening it.
    ///
    /// # Errors
    ///
    /// [`StartError`]; whatever had been started is stopped again.
    pub fn start_with<A, F>(
        config: ServerConfig,
        inherited: Vec<InheritedSocket>,
        factory: F,
    ) -> Result<Self, StartError>
    where
        A: Agent + 'static,
        F: Fn(usize) -> Result<A, AgentError> + Send + Sync + 'static,
    {
        config.check().map_err(StartError::Config)?;
        let cores = usable_cores(&config.cores)?;
        let inherited =
            listen::inherit(inherited, cores.len()).map_err(StartError::InheritedSocket)?;
        let mut listeners: Vec<Listener> = Vec::new();
        for listener in inherited {
            // What is not to be listened on any more is closed.
            if config.listen.iter().any(|at| at.is_at(&listener.address)) {
                listeners.push(listener);
            }
        }
        // Another process still listens on these and may go on doing so, if this one fails.
        let shared_files = listen::socket_files(&listeners);
        let inherited: Vec<_> = listeners.iter().map(|at| at.address.clone()).collect();
        for address in &config.listen {
            if inherited.iter().any(|at| at.is_at(address)) {
                continue;
            }
            match listen::open(address, cores.len()) {
                Ok(listener) => listeners.push(listener),
                Err(error) => {
                    remove(&listen::socket_files(&listeners[inherited.len()..]));
                    return Err(StartError::Listen(address.clone(), error));
                }
            }
        }
        let socket_files = listen::socket_files(&listeners);
        let (senders, receivers): (Vec<_>, Vec<_>) = cores.iter().map(|_| unbounded()).unzip();
        let inboxes: Arc<[_]> = senders.into();
        let (config, factory) = (Arc::new(config), Arc::new(factory));
        let limits = PlaceLimits {
            total: config.max_connections,
            per_listener: config.max_connections_per_listener,
        };
        let placement = Arc::new(Placement::new(cores.len(), listeners.len(), limits));
        let addresses = listeners
            .iter()
            .map(|listener| listener.address.clone())
            .collect();
        let counters: Vec<Arc<Counters>> = cores.iter().map(|_| Arc::default()).collect();
        let kept = duplicate(&listeners).map_err(StartError::InheritedSocket)?;
        let mut server = Self {
            addresses,
            cores: cores.clone(),
            drivers: Vec::new(),
            handle: ServerHandle(Arc::new(Shared {
                inboxes: Arc::clone(&inboxes),
                counters: counters.clone(),
                placement: Arc::clone(&placement),
                config: Mutex::new(Arc::clone(&config)),
                listeners: Mutex::new(kept),
                socket_files: Mutex::new(socket_files),
                reloads: Reloads::default(),
                started: SystemTime::now(),
                cores: cores.clone(),
                drivers: Mutex::default(),
                draining: false.into(),
            })),
            threads: Vec::new(),
        };
        let (report, reports) = mpsc::channel();
        for (index, (&core, inbox)) in cores.iter().zip(receivers).enumerate() {
            let left = cores.len() - index;
            let sockets = listeners
                .iter_mut()
                .enumerate()
                .flat_map(|(at, listener)| {
                    let is_unix = matches!(listener.address, ListenAddress::Unix { .. });
                    // More than one each where a process before had more cores.
                    let share = listener.sockets.len().div_ceil(left);
                    let from = listener.sockets.len() - share;
                    let sockets = listener.sockets.drain(from..);
                    let is_lent = listener.is_lent;
                    sockets
                        .map(move |socket| (at, socket, is_unix, is_lent))
                        .collect::<Vec<_>>()
                })
                .collect();
            let start = Start {
                index,
                core,
                config: Arc::clone(&config),
                sockets,
                counters: Arc::clone(&counters[index]),
                placement: Arc::clone(&placement),
                inboxes: Arc::clone(&inboxes),
                inbox,
            };
            let (factory, report) = (Arc::clone(&factory), report.clone());
            let thread = std::thread::Builder::new()
                .name(format!("ringspoa-{core}"))
                .spawn(move || work(start, factory, &report));
            match thread {
                Ok(thread) => server.threads.push(thread),
                Err(error) => {
                    server.give_up(!inherited.is_empty(), &shared_files);
                    return Err(StartError::Thread(error));
                }
            }
        }
        drop(report);
        let mut drivers = vec![String::new(); cores.len()];
        for _ in &cores {
            // A worker that panicked before it reported has said so on stderr.
            let lost = || StartError::Thread(std::io::Error::other("a worker thread died"));
            match reports.recv().map_err(|_| lost()).and_then(|report| report) {
                Ok((index, driver)) => drivers[index] = driver,
                Err(error) => {
                    server.give_up(!inherited.is_empty(), &shared_files);
                    return Err(error);
                }
            }
        }
        let known = server.handle.0.drivers.lock();
        known
            .unwrap_or_else(PoisonError::into_inner)
            .clone_from(&drivers);
        server.drivers = drivers;
        server.handle.claim_listeners();
        Ok(server)
    }

    /// Where it listens, with the ports the kernel chose where 0 was asked for.
    #[must_use]
    pub fn addresses(&self) -> &[ListenAddress] {
        &self.addresses
    }

    /// The CPUs it runs on.
    #[must_use]
    pub fn cores(&self) -> &[usize] {
        &self.cores
    }

    /// How each core waits for I/O, and why, in words.
    #[must_use]
    pub fn drivers(&self) -> &[String] {
        &self.drivers
    }

    /// Drains it from elsewhere.
    #[must_use]
    pub fn handle(&self) -> ServerHandle {
        self.handle.clone()
    }

    /// See [`ServerHandle::drain`].
    pub fn drain(&self) {
        self.handle.drain();
    }

    /// Waits until every core has drained, and returns the totals.
    ///
    /// # Errors
    ///
    /// A worker thread panicked.
    pub fn join(mut self) -> Result<Stats, WorkerPanicked> {
        let mut total = Stats::default();
        let mut failed = None;
        for thread in std::mem::take(&mut self.threads) {
            let name = thread.thread().name().unwrap_or("worker").to_owned();
            match thread.join() {
                Ok(stats) => total += stats,
                Err(_) => failed = Some(WorkerPanicked(name)),
            }
        }
        self.handle.remove_socket_files();
        failed.map_or(Ok(total), Err)
    }

    /// Ends what was started. Listeners that are another process's too are left as they are.
    fn give_up(self, is_shared: bool, shared_files: &[PathBuf]) {
        if is_shared {
            let files = self.handle.0.socket_files.lock();
            files
                .unwrap_or_else(PoisonError::into_inner)
                .retain(|file| !shared_files.contains(file));
            // As for a hand-over: a drain would shut the listeners down for both.
            let (nobody, _) = mpsc::channel();
            self.handle.tell_all(|| Inbound::HandOver(nobody.clone()));
        } else {
            self.drain();
        }
        let _ = self.join();
    }
}

/// The same sockets once more.
fn duplicate(listeners: &[Listener]) -> std::io::Result<Vec<Listener>> {
    let again = |listener: &Listener| {
        let sockets = listener.sockets.iter().map(OwnedFd::try_clone);
        Ok(Listener {
            address: listener.address.clone(),
            sockets: sockets.collect::<Result<_, _>>()?,
            owned_file: listener.owned_file.clone(),
            is_lent: listener.is_lent,
        })
    };
    listeners.iter().map(again).collect()
}

fn remove(files: &[PathBuf]) {
    for file in files {
        let _ = std::fs::remove_file(file);
    }
}

/// The CPUs to run on.
fn usable_cores(cores: &Cores) -> Result<Vec<usize>, StartError> {
    let usable: Vec<usize> = core_affinity::get_core_ids()
        .unwrap_or_default()
        .into_iter()
        .map(|core| core.id)
        .collect();
    match cores {
        Cores::List(list) => match list.iter().find(|core| !usable.contains(core)) {
            Some(&wanted) => Err(StartError::Core { wanted, usable }),
            None => Ok(list.clone()),
        },
        // Knows the CPU quota of a container too, of which the affinity says nothing.
        Cores::Auto => {
            let quota = std::thread::available_parallelism().map_or(1, usize::from);
            Ok(usable.into_iter().take(quota.max(1)).collect())
        }
    }
}

type Report = Result<(usize, String), StartError>;

/// The life of a worker thread.
fn work<A, F>(start: Start, factory: Arc<F>, report: &mpsc::Sender<Report>) -> Stats
where
    A: Agent + 'static,
    F: Fn(usize) -> Result<A, AgentError> + 'static,
{
    let Start {
        index,
        core,
        config,
        sockets,
        counters,
        placement,
        inboxes,
        inbox,
    } = start;
    if !core_affinity::set_for_current(CoreId { id: core }) {
        tracing::warn!("cannot pin a worker to CPU {core}; it runs where the scheduler puts it");
    }
    let (mut runtime, chosen) = match driver::build(config.driver) {
        Ok(built) => built,
        Err(error) => {
            let _ = report.send(Err(StartError::Driver(error)));
            return Stats::default();
        }
    };
    let agent = match factory(index) {
        Ok(agent) => agent,
        Err(error) => {
            let _ = report.send(Err(StartError::Agent(error)));
            return Stats::default();
        }
    };
    let is_io_uring = runtime.is_io_uring();
    let report = report.clone();
    runtime.block_on(async move {
        let mut listeners = Vec::new();
        for (index, socket, is_unix, is_lent) in sockets {
            match CoreListener::new(socket, is_unix, is_io_uring) {
                Ok(listener) => listeners.push((index, listener, is_lent)),
                Err(error) => {
                    let _ = report.send(Err(StartError::Driver(error)));
                    return Stats::default();
                }
            }
        }
        let _ = report.send(Ok((index, chosen.to_string())));
        let worker = Worker::new(Parts {
            index,
            is_io_uring,
            config,
            agent,
            factory: Box::new(move || factory(index)),
            counters,
            placement,
            inboxes,
        });
        worker.run(listeners, inbox).await
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::Reply;
    use crate::spop::Messages;

    struct Silent;

    impl Agent for Silent {
        fn handle_notify(
            &mut self,
            _: &mut Messages<'_>,
            _: &mut Reply<'_>,
        ) -> Result<(), AgentError> {
            Ok(())
        }
    }

    #[test]
    fn a_drained_server_leaves_the_socket_of_its_successor_alone() {
        let name = format!("ringspoa-successor-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let address: ListenAddress = format!("unix:{}", path.display()).parse().unwrap();
        let start = || {
            let config = ServerConfig {
                listen: vec![address.clone()],
                ..ServerConfig::default()
            };
            Server::start(config, |_| Ok(Silent)).unwrap()
        };
        let first = start();
        first.drain();
        let second = start();
        first.join().unwrap();
        assert!(path.exists());
        second.drain();
        assert!(!path.exists());
        second.join().unwrap();
    }
}
