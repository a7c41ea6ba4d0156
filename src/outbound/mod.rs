//! HTTP(S) calls of agents: to a captcha provider, to a firewall for applications, to an API that has
//! lists of decisions. One thread makes them all, so that no core ever waits for one.
//!
//! Only here are tokio, hyper and rustls known, and nothing of them is seen from outside. It refuses to
//! know agents, tickets and what is asked.
//!
//! ```text
//! agents' cores                     outbound thread                          other threads
//! Endpoint::call  --- Command --->  Call::run: Pool -> Connection
//!                                   callback(Response)  --- Ticket --->      a core again
//! Endpoint::stream - Command --->   Stream::run  --- pieces, bounded --->    StreamReader
//! ```

mod breaker;
mod config;
mod connect;
mod error;
mod exchange;
mod pool;
mod proxy;
mod request;
mod shared;
mod stats;
mod stream;
mod target;
mod thread;
mod tls;

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;

pub use breaker::{BreakerConfig, BreakerState};
pub use config::{
    ClientCertificate, EndpointConfig, EndpointError, OutboundConfig, Proxy, StreamTimeouts,
    TlsConfig,
};
pub use error::{FailureKind, OutboundError, OutboundFault, Part, Phase};
pub use request::{HeaderRefused, Method, Request, Response};
pub use stats::EndpointStats;
pub use stream::StreamReader;
pub use target::UrlError;

use exchange::Call;
use proxy::ProxyServer;
use shared::{Callback, Completion, Shared};
use stream::Stream;
use target::Target;
use thread::{Command, NewEndpoint};
use tls::Tls;

/// The thread that makes calls. A handle: its clones are of the same thread, which ends with the last
/// of them, or with [`stop`](Self::stop).
///
/// ```
/// # #[cfg(feature = "outbound")]
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
/// use ringspoa::outbound::{EndpointConfig, Method, Outbound, OutboundConfig, Request};
///
/// let outbound = Outbound::start(OutboundConfig::default())?;
/// let verify = outbound.endpoint(EndpointConfig::new("captcha", "http://127.0.0.1:1/siteverify"))?;
///
/// let mut request = Request::new(Method::Post, "");
/// request
///     .header("content-type", "application/x-www-form-urlencoded")?
///     .body("secret=S&response=R");
/// verify.call(request, Duration::from_millis(300), 64 * 1024, |result| match result {
///     Ok(response) => println!("{}", response.status()),
///     Err(error) => eprintln!("{error}"),
/// });
/// # Ok(())
/// # }
/// # #[cfg(not(feature = "outbound"))]
/// # fn main() {}
/// ```
#[derive(Clone)]
pub struct Outbound {
    owner: Arc<Owner>,
}

struct Owner {
    commands: UnboundedSender<Command>,
    /// `None` once it has been joined.
    thread: Mutex<Option<JoinHandle<()>>>,
    #[cfg_attr(
        not(feature = "remediation"),
        expect(dead_code, reason = "sources ask for it")
    )]
    thread_id: Option<i32>,
    endpoints: Mutex<Vec<Weak<Shared>>>,
    next_endpoint: AtomicU64,
    config: OutboundConfig,
}

impl Outbound {
    /// Starts the thread. It takes the CPUs of the thread that starts it, so start it before a
    /// [`Server`](crate::Server) or beside one, not on a core of it.
    ///
    /// # Errors
    ///
    /// If the system has no thread or no descriptors left.
    pub fn start(config: OutboundConfig) -> io::Result<Self> {
        let started = thread::start()?;
        Ok(Self {
            owner: Arc::new(Owner {
                commands: started.commands,
                thread: Mutex::new(Some(started.thread)),
                thread_id: started.id,
                endpoints: Mutex::default(),
                next_endpoint: AtomicU64::new(0),
                config,
            }),
        })
    }

    /// What the kernel calls the thread, for whoever changes its urgency.
    #[cfg(feature = "remediation")]
    pub(crate) fn thread_id(&self) -> Option<i32> {
        self.owner.thread_id
    }

    /// Somewhere to make calls to, with connections, limits and a breaker of its own. Nothing is
    /// connected to yet. Reads the files of its TLS settings.
    ///
    /// # Errors
    ///
    /// If a setting cannot be used; the error says which and why.
    pub fn endpoint(&self, config: EndpointConfig) -> Result<Endpoint, EndpointError> {
        config.check()?;
        let target = Target::parse(&config.url).map_err(EndpointError::Url)?;
        let tls = match target.is_tls {
            true => Some(Tls::new(&config.tls, &target.host())?),
            false => None,
        };
        let environment = |name: &str| std::env::var(name).ok();
        let proxy = ProxyServer::new(&config.proxy, &target, environment)?;
        let shared = Arc::new(Shared::new(
            config.name.clone(),
            format!("{} ({target})", config.name),
            config.breaker,
            config.max_in_flight.saturating_add(config.max_queued),
        ));
        let owner = &self.owner;
        let id = owner.next_endpoint.fetch_add(1, Ordering::Relaxed);
        let new = NewEndpoint {
            target,
            tls,
            proxy,
            resolve_every: owner.config.resolve_every,
            limits: pool::Limits {
                connections: config.max_in_flight,
                idle: config.max_idle,
                idle_timeout: config.idle_timeout,
                connect_timeout: config.connect_timeout,
            },
            shared: Arc::clone(&shared),
        };
        owner
            .commands
            .send(Command::Add(id, Box::new(new)))
            .map_err(|_| EndpointError::Stopped)?;
        let mut endpoints = lock(&owner.endpoints);
        endpoints.retain(|endpoint| endpoint.strong_count() > 0);
        endpoints.push(Arc::downgrade(&shared));
        Ok(Endpoint {
            handle: Arc::new(EndpointHandle {
                id,
                shared,
                commands: owner.commands.clone(),
            }),
        })
    }

    /// What the endpoints count, in the order they were made; without those that are gone.
    #[must_use]
    pub fn stats(&self) -> Vec<EndpointStats> {
        let endpoints = lock(&self.owner.endpoints);
        let present = endpoints.iter().filter_map(Weak::upgrade);
        present.map(|endpoint| endpoint.stats()).collect()
    }

    /// Ends the thread. Calls in flight fail with [`OutboundFault::Stopped`]; when this returns, all
    /// have been called back. Later calls fail at once.
    ///
    /// Waits for the callback that runs; on the outbound thread itself it does not wait.
    pub fn stop(&self) {
        self.owner.stop();
    }
}

impl Owner {
    fn stop(&self) {
        // If it has ended by itself, there is nobody to tell.
        let _ = self.commands.send(Command::Stop);
        let thread = lock(&self.thread).take();
        if let Some(thread) = thread
            && thread.thread().id() != std::thread::current().id()
        {
            // It has said what there was to say about a panic.
            let _ = thread.join();
        }
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.stop();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // What is behind these locks is whole at any time.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Outbound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbound")
            .field("config", &self.owner.config)
            .finish_non_exhaustive()
    }
}

/// Somewhere to make calls to. A handle: its clones have connections, limits and breaker in common.
#[derive(Clone)]
pub struct Endpoint {
    handle: Arc<EndpointHandle>,
}

struct EndpointHandle {
    id: u64,
    shared: Arc<Shared>,
    commands: UnboundedSender<Command>,
}

impl Drop for EndpointHandle {
    fn drop(&mut self) {
        let _ = self.commands.send(Command::Forget(self.id));
    }
}

impl Endpoint {
    /// Makes a call. Never waits, so it may be used on a core that serves.
    ///
    /// The callback runs exactly once, `deadline` from now at the latest, to about a millisecond: on the
    /// outbound thread, or before this returns if the call is refused at once because the endpoint has too
    /// many, its breaker is open or calls have been stopped. On the outbound thread every other call waits for it, and
    /// deadlines with it, so it should not take longer than some microseconds: sending a
    /// [`Ticket`](crate::Ticket) is right. A panic in it is caught and counted.
    ///
    /// A body longer than `max_response_len` is an error; so is a head above 64 KiB or 100 headers.
    /// Redirects are not followed. A request goes out once more only if a connection kept from before
    /// turns out to be closed, and nothing of the request was written, or its method is GET or HEAD and
    /// nothing of an answer came.
    ///
    /// Allocates the box of the callback, beside what the request has; wakes the outbound thread by a
    /// system call if it sleeps.
    pub fn call(
        &self,
        request: Request,
        deadline: Duration,
        max_response_len: usize,
        callback: impl FnOnce(Result<Response, OutboundError>) + Send + 'static,
    ) {
        let callback: Callback = Box::new(callback);
        let shared = &self.handle.shared;
        let admitted = match shared.admit() {
            Ok(admitted) => admitted,
            Err(fault) => return shared.refuse(fault, callback),
        };
        let call = Call {
            request,
            deadline,
            began: admitted.began(),
            max_response_len,
            completion: Completion::new(admitted, callback),
        };
        // Comes back if the thread has ended, and says so to the callback when dropped.
        let _ = self
            .handle
            .commands
            .send(Command::Call(self.handle.id, call));
    }

    /// Makes a call whose answer is read as it comes, however long it is. Waits for the head of the
    /// answer, so it is for a thread that may wait, as is reading.
    ///
    /// A request goes out once more only if nothing of it was written on a connection kept from before.
    /// The breaker is told of the head only; what becomes of the body is counted, no more.
    ///
    /// # Errors
    ///
    /// As those of a call.
    ///
    /// # Panics
    ///
    /// In a callback of a call, which must not wait.
    pub fn stream(
        &self,
        request: Request,
        timeouts: StreamTimeouts,
    ) -> Result<StreamReader, OutboundError> {
        let shared = &self.handle.shared;
        let admitted = shared.admit().map_err(|fault| {
            shared.counters.failed(fault.kind());
            shared.error(fault)
        })?;
        let (stream, reader) = Stream::new(request, timeouts, admitted);
        let id = self.handle.id;
        let _ = self.handle.commands.send(Command::Stream(id, stream));
        reader.open()
    }

    /// Its name, as it was configured.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.handle.shared.name
    }

    /// Its name and where it is, as errors have it.
    #[must_use]
    pub fn title(&self) -> &str {
        self.handle.shared.title()
    }

    /// What it counts.
    #[must_use]
    pub fn stats(&self) -> EndpointStats {
        self.handle.shared.stats()
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint")
            .field("endpoint", &self.handle.shared.title())
            .finish_non_exhaustive()
    }
}
