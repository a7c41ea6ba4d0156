//! The agent of these tests: the name of a message says what to do with it, and all it does is
//! seen from outside.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, Once};
use std::thread::ThreadId;
use std::time::Duration;

use ringspoa::spop::{Messages, Scope, TypedData, Variable};
use ringspoa::{Agent, AgentError, Driver, Reply, ServerConfig, Ticket};

use crate::memory;
use crate::support::{PATIENCE, Running, config};

/// What every answer sets.
pub(crate) const ANSWER: Variable<'static> = Variable::literal(Scope::Transaction, "answer");

/// An argument as the agent got it: its name, its type, its bytes or its text.
pub(crate) type Seen = (Vec<u8>, &'static str, Vec<u8>);

/// A message as the agent got it.
pub(crate) type SeenMessage = (Vec<u8>, Vec<Seen>);

/// What the agent did, for the test to look at.
#[derive(Debug, Default)]
pub(crate) struct Seer {
    calls: AtomicU64,
    messages: Mutex<Vec<SeenMessage>>,
    threads: Mutex<Vec<ThreadId>>,
    /// How many ACKs the client has, for `gate`.
    gate: Mutex<u64>,
    opened: Condvar,
}

impl Seer {
    /// How often the agent was called.
    pub(crate) fn calls(&self) -> u64 {
        self.calls.load(Ordering::SeqCst)
    }

    /// The messages it got since the last time this was asked.
    pub(crate) fn take_messages(&self) -> Vec<SeenMessage> {
        std::mem::take(&mut self.messages.lock().unwrap())
    }

    /// Lets `gate` messages up to this number through.
    pub(crate) fn open_gate(&self, number: u64) {
        *self.gate.lock().unwrap() = number;
        self.opened.notify_all();
    }

    /// Log lines of this server's workers at `warn` and `error`.
    pub(crate) fn complaints(&self) -> Vec<String> {
        let threads = self.threads.lock().unwrap();
        let log = LOG.lock().unwrap();
        log.iter()
            .filter(|(thread, _)| threads.contains(thread))
            .map(|(_, line)| line.clone())
            .collect()
    }
}

/// A server with the agent of these tests, and what the agent does.
pub(crate) struct Scene {
    pub(crate) server: Running,
    pub(crate) seer: Arc<Seer>,
    /// Tickets the agent drew, with the argument `n` of the message.
    pub(crate) tickets: Receiver<(i64, Ticket)>,
}

impl Scene {
    /// With settings of the test's own.
    pub(crate) fn with(config: ServerConfig) -> Self {
        listen_to_log();
        let seer = Arc::new(Seer::default());
        let (sender, tickets) = channel();
        let for_agent = Arc::clone(&seer);
        let server = Running::start(config, move || {
            let thread = std::thread::current().id();
            for_agent.threads.lock().unwrap().push(thread);
            Scripted {
                seer: Arc::clone(&for_agent),
                tickets: sender.clone(),
            }
        });
        Self {
            server,
            seer,
            tickets,
        }
    }

    /// With the usual settings.
    pub(crate) fn start() -> Self {
        Self::with(config(Driver::Auto))
    }

    /// The next `count` tickets the agent drew.
    pub(crate) fn take_tickets(&self, count: usize) -> Vec<(i64, Ticket)> {
        (0..count)
            .map(|_| {
                self.tickets
                    .recv_timeout(PATIENCE)
                    .expect("the agent draws a ticket")
            })
            .collect()
    }
}

/// Sends a ticket with `value` as the answer.
pub(crate) fn answer<'x>(mut ticket: Ticket, value: impl Into<TypedData<'x>>) {
    ticket.set_var(ANSWER, value).expect("the answer fits");
    ticket.send();
}

struct Scripted {
    seer: Arc<Seer>,
    tickets: Sender<(i64, Ticket)>,
}

impl Agent for Scripted {
    fn handle_notify(
        &mut self,
        messages: &mut Messages<'_>,
        reply: &mut Reply<'_>,
    ) -> Result<(), AgentError> {
        self.seer.calls.fetch_add(1, Ordering::SeqCst);
        while let Some(mut message) = messages.next_message()? {
            let name = message.name();
            let mut seen = Vec::new();
            let mut n = 0;
            while let Some(argument) = message.next_argument()? {
                n = argument.value.as_i64().unwrap_or(n);
                let bytes = match argument.value.as_bytes() {
                    Some(bytes) => bytes.to_vec(),
                    None => argument.value.to_string().into_bytes(),
                };
                seen.push((argument.name.to_vec(), argument.value.type_name(), bytes));
                if name == b"echo" {
                    reply.set_var(ANSWER, argument.value)?;
                }
            }
            // A flood is not worth remembering.
            if !matches!(name, b"now" | b"late" | b"nothing") {
                let seen = (name.to_vec(), seen);
                self.seer.messages.lock().unwrap().push(seen);
            }
            self.act(name, n, reply)?;
        }
        Ok(())
    }
}

impl Scripted {
    fn act(&self, name: &[u8], n: i64, reply: &mut Reply<'_>) -> Result<(), AgentError> {
        let size = usize::try_from(n).unwrap_or(0);
        match name {
            b"now" => reply.set_var(ANSWER, n)?,
            b"error" => return Err("the test wants an error".into()),
            b"panic" => panic!("the test wants a panic"),
            b"late" => self.tickets.send((n, reply.defer()))?,
            b"late-forever" => self.tickets.send((n, reply.defer_for(Duration::MAX)))?,
            b"late-and-error" => {
                self.tickets.send((n, reply.defer()))?;
                return Err("the test wants an error after a ticket".into());
            }
            b"abandon" => drop(reply.defer()),
            b"abandon-and-error" => {
                let _ticket = reply.defer();
                return Err("the test wants an error after a ticket".into());
            }
            b"big" => reply.set_var(ANSWER, &vec![7; size][..])?,
            // The caller of the API takes no notice of what did not fit.
            b"big-unnoticed" => {
                reply.set_var(ANSWER, 1_i64)?;
                let _ = reply.set_var(ANSWER, &vec![7; size][..]);
            }
            b"block" => std::thread::sleep(Duration::from_millis(n.unsigned_abs())),
            b"gate" => {
                let gate = self.seer.gate.lock().unwrap();
                let closed = |open: &mut u64| *open < n.unsigned_abs();
                let (_gate, timeout) = self
                    .seer
                    .opened
                    .wait_timeout_while(gate, PATIENCE, closed)
                    .unwrap();
                if timeout.timed_out() {
                    return Err("the gate stayed closed".into());
                }
                reply.set_var(ANSWER, &[7; 1000][..])?;
            }
            b"bad-name" => reply.set_var(Variable::new(Scope::Transaction, "a-b")?, n)?,
            b"values" => {
                reply.set_var(ANSWER, -1_i32)?;
                reply.set_var(ANSWER, true)?;
                reply.set_var(ANSWER, false)?;
                reply.set_var(ANSWER, "s")?;
            }
            b"null" => reply.set_var(ANSWER, TypedData::Null)?,
            b"unset" => reply.unset_var(ANSWER)?,
            b"memory" => {
                let live = Variable::literal(Scope::Transaction, "live");
                let largest = Variable::literal(Scope::Transaction, "largest");
                reply.set_var(live, memory::live())?;
                reply.set_var(largest, memory::largest())?;
            }
            _ => {}
        }
        Ok(())
    }
}

static LOG: Mutex<Vec<(ThreadId, String)>> = Mutex::new(Vec::new());

struct Log;

impl log::Log for Log {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.level() <= log::Level::Warn
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            let line = format!("{}: {}", record.level(), record.args());
            LOG.lock()
                .unwrap()
                .push((std::thread::current().id(), line));
        }
    }

    fn flush(&self) {}
}

fn listen_to_log() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        log::set_logger(&Log).expect("there is no other logger");
        log::set_max_level(log::LevelFilter::Warn);
    });
}
