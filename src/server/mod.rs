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
//! | `buffers`, `stats` | of one core |

mod accept;
mod buffers;
mod busy_poll;
mod config;
mod driver;
mod io;
mod listen;
mod peer;
mod placement;
mod pump;
mod stats;
mod watch;
mod worker;

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;

use core_affinity::CoreId;
use futures_channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded};

pub use config::{ConfigError, Cores, Driver, ListenAddress, ServerConfig};
pub use stats::Stats;

use crate::agent::{Agent, AgentError};
use io::CoreListener;
use listen::Listener;
use placement::Placement;
use worker::{Inbound, Parts, Worker};

/// A running server. Dropping it leaves it running: call [`drain`](Self::drain) and
/// [`join`](Self::join).
#[derive(Debug)]
pub struct Server {
    addresses: Vec<ListenAddress>,
    cores: Vec<usize>,
    drivers: Vec<String>,
    handle: ServerHandle,
    threads: Vec<JoinHandle<Stats>>,
}

/// Drains a server from another thread.
#[derive(Clone, Debug)]
pub struct ServerHandle {
    inboxes: Arc<[UnboundedSender<Inbound>]>,
    /// Those that are still ours to remove.
    socket_files: Arc<Mutex<Vec<PathBuf>>>,
}

impl ServerHandle {
    /// Stops accepting; answers what is in flight; tells each connection goodbye with
    /// AGENT-DISCONNECT 0 once it is quiet, at the drain timeout at the latest. Returns at once.
    pub fn drain(&self) {
        // While we still listen: after that the path may be the socket of a server that takes
        // over while this one drains.
        self.remove_socket_files();
        for inbox in self.inboxes.iter() {
            // A core that is gone already has drained.
            let _ = inbox.unbounded_send(Inbound::Drain);
        }
    }

    /// Removes them once, whoever asks first.
    fn remove_socket_files(&self) {
        let mut files = self
            .socket_files
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        remove(&std::mem::take(&mut *files));
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
    sockets: Vec<(std::os::fd::OwnedFd, bool)>,
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
        config.check().map_err(StartError::Config)?;
        let cores = usable_cores(&config.cores)?;
        let mut listeners: Vec<Listener> = Vec::new();
        for address in &config.listen {
            match listen::open(address, cores.len()) {
                Ok(listener) => listeners.push(listener),
                Err(error) => {
                    remove(&listen::socket_files(&listeners));
                    return Err(StartError::Listen(address.clone(), error));
                }
            }
        }
        let socket_files = listen::socket_files(&listeners);
        let (senders, receivers): (Vec<_>, Vec<_>) = cores.iter().map(|_| unbounded()).unzip();
        let inboxes: Arc<[_]> = senders.into();
        let (config, factory) = (Arc::new(config), Arc::new(factory));
        let placement = Arc::new(Placement::new(cores.len(), config.max_connections));
        let addresses = listeners
            .iter()
            .map(|listener| listener.address.clone())
            .collect();
        let mut server = Self {
            addresses,
            cores: cores.clone(),
            drivers: Vec::new(),
            handle: ServerHandle {
                inboxes: Arc::clone(&inboxes),
                socket_files: Arc::new(Mutex::new(socket_files)),
            },
            threads: Vec::new(),
        };
        let (report, reports) = mpsc::channel();
        for (index, (&core, inbox)) in cores.iter().zip(receivers).enumerate() {
            let sockets = listeners
                .iter_mut()
                .filter_map(|listener| {
                    let is_unix = matches!(listener.address, ListenAddress::Unix { .. });
                    listener.sockets.pop().map(|socket| (socket, is_unix))
                })
                .collect();
            let start = Start {
                index,
                core,
                config: Arc::clone(&config),
                sockets,
                placement: Arc::clone(&placement),
                inboxes: Arc::clone(&inboxes),
                inbox,
            };
            let (factory, report) = (Arc::clone(&factory), report.clone());
            let thread = std::thread::Builder::new()
                .name(format!("ringspoa-{core}"))
                .spawn(move || work(start, &*factory, &report));
            match thread {
                Ok(thread) => server.threads.push(thread),
                Err(error) => {
                    server.give_up();
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
                    server.give_up();
                    return Err(error);
                }
            }
        }
        server.drivers = drivers;
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

    fn give_up(self) {
        self.drain();
        let _ = self.join();
    }
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
fn work<A, F>(start: Start, factory: &F, report: &mpsc::Sender<Report>) -> Stats
where
    A: Agent + 'static,
    F: Fn(usize) -> Result<A, AgentError>,
{
    let Start {
        index,
        core,
        config,
        sockets,
        placement,
        inboxes,
        inbox,
    } = start;
    if !core_affinity::set_for_current(CoreId { id: core }) {
        log::warn!("cannot pin a worker to CPU {core}; it runs where the scheduler puts it");
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
        for (socket, is_unix) in sockets {
            match CoreListener::new(socket, is_unix, is_io_uring) {
                Ok(listener) => listeners.push(listener),
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
