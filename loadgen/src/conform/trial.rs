//! What one rule has while it is played: connections, waits that end, and a record of both sides.

use std::cell::{Cell, RefCell};
use std::io::ErrorKind;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ringspoa::spop::Frame;

use super::frames;
use super::judge::AgentHelloSeen;
use super::report::{Exchange, Side};
use super::socket::Socket;
use super::wire::Peer;
use super::{AgentSeen, ConformPlan};

/// How much of an exchange is kept: the last of it, which is where a rule fails.
const MAX_EXCHANGES: usize = 12;

/// How much of a frame is kept, in bytes.
const MAX_HEX_LEN: usize = 48;

/// How much of what something is, in characters.
const MAX_WHAT_LEN: usize = 200;

/// Why a rule was not played to its end.
#[derive(Debug)]
pub(super) enum Stop {
    /// The agent broke it.
    Failed(String),
    /// It does not concern this agent.
    NotApplicable(String),
    /// Nobody listens any more.
    Gone(String),
    /// The run ended before, by its time or a signal.
    TimeOver,
}

impl Stop {
    pub(super) fn failed(text: impl Into<String>) -> Self {
        Self::Failed(text.into())
    }
}

/// What a rule says of an agent.
pub(super) type Judged = Result<(), Stop>;

/// One rule being played.
#[derive(Debug)]
pub(super) struct Trial<'p> {
    pub(super) plan: &'p ConformPlan,
    deadline: Instant,
    stop: &'p AtomicBool,
    agent: &'p RefCell<Option<AgentSeen>>,
    payloads: &'p [Vec<u8>],
    connections: Cell<u32>,
    exchanges: RefCell<Vec<Exchange>>,
    omitted: Cell<u64>,
    notes: RefCell<Vec<String>>,
}

impl<'p> Trial<'p> {
    pub(super) fn new(
        plan: &'p ConformPlan,
        deadline: Instant,
        stop: &'p AtomicBool,
        agent: &'p RefCell<Option<AgentSeen>>,
        payloads: &'p [Vec<u8>],
    ) -> Self {
        Self {
            plan,
            deadline,
            stop,
            agent,
            payloads,
            connections: Cell::new(0),
            exchanges: RefCell::default(),
            omitted: Cell::new(0),
            notes: RefCell::default(),
        }
    }

    pub(super) const fn timeout(&self) -> Duration {
        self.plan.timeout
    }

    /// How long to wait for what must not come: a second ACK is mostly sent with the first.
    pub(super) fn settle(&self) -> Duration {
        (self.plan.timeout / 10).clamp(Duration::from_millis(50), Duration::from_millis(150))
    }

    /// The max-frame-size to offer.
    pub(super) const fn offer(&self) -> u32 {
        self.plan.max_frame_size
    }

    /// A wait cut to the time the run still has.
    pub(super) fn limited(&self, wait: Duration) -> Result<Duration, Stop> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() || self.stop.load(Ordering::Relaxed) {
            return Err(Stop::TimeOver);
        }
        Ok(wait.min(left))
    }

    /// Opens a connection, on which nothing is said yet.
    pub(super) fn connect(&self) -> Result<Peer<'_>, Stop> {
        self.try_connect()?.map_err(|error| {
            let text = format!("cannot connect to {}: {error}", self.plan.target);
            match error.kind() {
                ErrorKind::ConnectionRefused | ErrorKind::NotFound => Stop::Gone(text),
                _ => Stop::Failed(text),
            }
        })
    }

    /// Opens a connection, or says what the system said.
    pub(super) fn try_connect(&self) -> Result<Result<Peer<'_>, std::io::Error>, Stop> {
        let within = self.limited(self.timeout())?;
        Ok(Socket::connect(&self.plan.target, within).map(|socket| {
            let number = self.connections.get() + 1;
            self.connections.set(number);
            Peer::new(self, number, socket, self.offer())
        }))
    }

    /// A connection that said HELLO, offering pipelining.
    pub(super) fn introduced(&self) -> Result<Peer<'_>, Stop> {
        let mut peer = self.connect()?;
        peer.introduce("pipelining")?;
        Ok(peer)
    }

    /// A NOTIFY payload of the profile; there are several, which repeat.
    pub(super) fn payload(&self, index: usize) -> &'p [u8] {
        &self.payloads[index % self.payloads.len()]
    }

    /// The name of the profile's first message.
    pub(super) fn message(&self) -> &'p str {
        &self.plan.profile.messages()[0]
    }

    /// That the agent still answers a new connection, after something that must not harm it.
    pub(super) fn still_answers(&self, after: &str) -> Result<(), Stop> {
        let checked = self.introduced().and_then(|mut peer| {
            peer.ask("a message of the profile", (1, 1), self.payload(0))?;
            peer.reset();
            Ok(())
        });
        checked.map_err(|stop| match stop {
            Stop::Failed(text) => Stop::Failed(format!(
                "after {after} a new connection is not served: {text}"
            )),
            Stop::Gone(text) => Stop::Gone(format!("after {after}: {text}")),
            other => other,
        })
    }

    /// Sends each of `cases` on a connection of its own, after HELLO where `introduced`, all before
    /// the first is looked at: an agent may take its time to refuse, which is wise.
    pub(super) fn send_each(
        &self,
        introduced: bool,
        cases: &[(String, Vec<u8>)],
    ) -> Result<Vec<Peer<'_>>, Stop> {
        let mut peers = Vec::new();
        for (what, bytes) in cases {
            let mut peer = if introduced {
                self.introduced()?
            } else {
                self.connect()?
            };
            peer.send(what, bytes)?;
            peers.push(peer);
        }
        Ok(peers)
    }

    /// Says something about an agent that passes all the same.
    pub(super) fn note(&self, text: impl Into<String>) {
        let text = text.into();
        let mut notes = self.notes.borrow_mut();
        if !notes.contains(&text) {
            notes.push(text);
        }
    }

    /// Keeps what the first HELLO said, for the head of the report.
    pub(super) fn met(&self, hello: &AgentHelloSeen) {
        self.agent.borrow_mut().get_or_insert_with(|| AgentSeen {
            max_frame_size: hello.max_frame_size,
            capabilities: hello.capabilities.clone().unwrap_or_default(),
        });
    }

    pub(super) fn sent(&self, connection: u32, what: &str, bytes: &[u8]) {
        self.record(Side::Haproxy, connection, what, bytes);
    }

    pub(super) fn came(&self, connection: u32, what: &str, bytes: &[u8]) {
        self.record(Side::Agent, connection, what, bytes);
    }

    /// Records again what was sent, if it is no longer among what is kept.
    pub(super) fn recall(&self, connection: u32, what: &str, bytes: &[u8]) {
        let kept = self.exchanges.borrow().iter().any(|one| one.what == what);
        if !kept {
            self.sent(connection, what, bytes);
        }
    }

    fn record(&self, from: Side, connection: u32, what: &str, bytes: &[u8]) {
        let mut exchanges = self.exchanges.borrow_mut();
        if exchanges.len() == MAX_EXCHANGES {
            exchanges.remove(0);
            self.omitted.set(self.omitted.get() + 1);
        }
        let shown = bytes.iter().take(MAX_HEX_LEN);
        let mut what: String = what.to_owned();
        if let Some((cut, _)) = what.char_indices().nth(MAX_WHAT_LEN) {
            what.truncate(cut);
            what.push_str("...");
        }
        exchanges.push(Exchange {
            from,
            connection,
            what,
            hex: shown.map(|byte| format!("{byte:02x}")).collect(),
            len: bytes.len(),
        });
    }

    /// What is left of it for the report: exchanges, how many are left out, notes.
    pub(super) fn into_record(self) -> (Vec<Exchange>, u64, Vec<String>) {
        (
            self.exchanges.into_inner(),
            self.omitted.get(),
            self.notes.into_inner(),
        )
    }
}

/// NOTIFY payloads of a profile, made by its own generator.
pub(super) fn payloads(plan: &ConformPlan, count: usize) -> Vec<Vec<u8>> {
    let mut generator = plan.profile.generator(0);
    let mut payload = || {
        let mut bytes = Vec::new();
        generator.encode(&mut bytes, 1);
        let (frame, _) = Frame::split(&bytes, u32::MAX).ok()??;
        Some(frame.payload.to_vec())
    };
    let made = (0..count).map_while(|_| payload()).collect::<Vec<_>>();
    debug_assert_eq!(made.len(), count, "a generator makes whole frames");
    if made.is_empty() {
        return vec![frames::message("m", &[])];
    }
    made
}
