//! The outbound thread: takes commands and makes a task of each call.

use std::collections::HashMap;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::{LocalSet, spawn_local};

use super::connect::{Connector, Resolver};
use super::exchange::Call;
use super::pool::{Limits, Pool};
use super::proxy::ProxyServer;
use super::shared::Shared;
use super::stream::Stream;
use super::target::Target;
use super::tls::Tls;

/// Names that can be resolved at a time; each has a thread meanwhile, as the C library waits.
const MAX_RESOLVING: usize = 32;

/// What the thread is told. Their number is bounded by what endpoints let through.
pub(super) enum Command {
    Add(u64, Box<NewEndpoint>),
    Call(u64, Call),
    Stream(u64, Stream),
    /// The last handle of the endpoint is gone.
    Forget(u64),
    Stop,
}

/// All the thread needs to know of an endpoint.
pub(super) struct NewEndpoint {
    pub(super) target: Target,
    pub(super) tls: Option<Tls>,
    pub(super) proxy: Option<ProxyServer>,
    pub(super) resolve_every: Duration,
    pub(super) limits: Limits,
    pub(super) shared: Arc<Shared>,
}

/// What there is of a thread that was started.
pub(super) struct Started {
    pub(super) commands: UnboundedSender<Command>,
    pub(super) thread: JoinHandle<()>,
    /// What the kernel calls it; `None` where there is no /proc to say so.
    pub(super) id: Option<i32>,
}

pub(super) fn start() -> io::Result<Started> {
    let runtime = Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .max_blocking_threads(MAX_RESOLVING)
        .thread_name("ringspoa-names")
        .build()?;
    let (sender, receiver) = unbounded_channel();
    let (tell_id, id) = sync_channel(1);
    let thread = std::thread::Builder::new()
        .name("ringspoa-outbound".to_owned())
        .spawn(move || {
            let _ = tell_id.send(own_id());
            run(runtime, receiver);
        })?;
    Ok(Started {
        commands: sender,
        thread,
        id: id.recv().unwrap_or_default(),
    })
}

/// What the kernel calls this thread.
fn own_id() -> Option<i32> {
    let link = std::fs::read_link("/proc/thread-self").ok()?;
    link.file_name()?.to_str()?.parse().ok()
}

fn run(runtime: Runtime, commands: UnboundedReceiver<Command>) {
    let tasks = LocalSet::new();
    tasks.block_on(&runtime, serve(commands));
    // The calls still in flight are called back as their tasks are dropped.
    let context = runtime.enter();
    drop(tasks);
    drop(context);
    // A name that is being resolved is not waited for.
    runtime.shutdown_background();
}

async fn serve(mut commands: UnboundedReceiver<Command>) {
    let mut pools = HashMap::new();
    while let Some(command) = commands.recv().await {
        match command {
            Command::Add(id, new) => {
                pools.insert(id, pool(*new));
            }
            // Endpoints are added before they are used, and forgotten after.
            Command::Call(id, call) => {
                if let Some(pool) = pools.get(&id) {
                    spawn_local(call.run(Rc::clone(pool)));
                }
            }
            Command::Stream(id, stream) => {
                if let Some(pool) = pools.get(&id) {
                    spawn_local(stream.run(Rc::clone(pool)));
                }
            }
            Command::Forget(id) => {
                pools.remove(&id);
            }
            Command::Stop => break,
        }
    }
    // Until nobody is in the middle of sending: what is dropped here is called back.
    commands.close();
    while commands.recv().await.is_some() {}
}

fn pool(new: NewEndpoint) -> Rc<Pool> {
    let place = match &new.proxy {
        Some(proxy) => &proxy.place,
        None => &new.target.place,
    };
    let resolver = Rc::new(Resolver::new(place, new.resolve_every));
    let connector = Connector {
        target: new.target,
        tls: new.tls,
        proxy: new.proxy,
        resolver,
    };
    Pool::new(connector, new.shared, new.limits)
}
