//! Agents in tests, without a socket: messages in, ACKs out, deadlines in virtual time.
//!
//! It is HAProxy's side and the server's loop for one connection in memory; it refuses to know cores,
//! sockets and the clock. Those that tests from end to end have to do with are in `haproxy`, which starts a
//! real HAProxy and knows nothing of the agent but where it listens.

mod haproxy;

pub use haproxy::{TestAnswer, TestClient, TestHaproxy, TestHaproxyError};

use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::agent::{
    Agent, AgentError, AnswerQueue, Context, Fallback, Fault, LateAnswer, Notified, Outcome, Reply,
    dispatch, finish_late,
};
use crate::connection::{Connection, Event, Limits, MAX_REPLY_LEN, NotifyId, State};
use crate::message::{Message, Var, VariableType};
use crate::spop::{
    Action, Actions, EncodeError, Frame, FrameId, HaproxyHello, Messages, NotifyWriter, PREFIX_LEN,
    StreamId, TypedData, Variable,
};

/// How long [`Pending::ack`] waits for a thread that has a ticket, in real time.
const PATIENCE: Duration = Duration::from_secs(10);

/// Runs an agent in a test: what a server would do with it, without a server.
///
/// ```
/// use std::time::Duration;
///
/// use ringspoa::{Fallback, Harness, Message, Router, Var};
///
/// #[derive(Message)]
/// #[spop(name = "visit")]
/// struct Visit<'a> {
///     path: &'a str,
/// }
///
/// const IS_API: Var<bool> = Var::txn("is_api");
///
/// let agent = Router::new("paths", ()).on::<Visit>(|(), visit, reply| {
///     Ok(reply.set(IS_API, visit.path.starts_with("/api/"))?)
/// });
///
/// let mut harness = Harness::new(agent);
/// let ack = harness.notify(&Visit { path: "/api/users" }).ack();
/// assert_eq!(ack.get(IS_API), Some(true));
/// ```
///
/// Deadlines of tickets pass when the test says so, by [`Pending::after`] or
/// [`advance`](Self::advance), and in no other way: a test of them neither sleeps nor depends on how
/// busy the machine is.
///
/// ```
/// # use std::time::Duration;
/// # use ringspoa::{Harness, Message, Router};
/// # #[derive(Message)]
/// # #[spop(name = "visit")]
/// # struct Visit;
/// let mut tickets = Vec::new();
/// let agent = Router::new("slow", ()).on::<Visit>(move |(), _, reply| {
///     tickets.push(reply.defer_for(Duration::from_millis(80)));
///     Ok(())
/// });
/// let mut harness = Harness::new(agent);
/// let ack = harness.notify(&Visit).after(Duration::from_millis(80));
/// assert_eq!(ack.fault(), Some("the deadline passed"));
/// ```
pub struct Harness<A> {
    agent: A,
    settings: Settings,
    context: Context,
    queue: Arc<Queue>,
    connection: Connection,
    now: Duration,
    /// NOTIFYs sent so far.
    count: u64,
    acks: BTreeMap<NotifyId, Ack>,
}

#[derive(Clone)]
struct Settings {
    deadline: Duration,
    fallback: Fallback,
    never_empty: bool,
    max_frame_size: u32,
}

/// What comes from tickets, on whatever thread they are.
#[derive(Default)]
struct Queue {
    answers: Mutex<Vec<LateAnswer>>,
    came: Condvar,
}

impl AnswerQueue for Queue {
    fn push(&self, answer: LateAnswer) {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers.push(answer);
        self.came.notify_all();
    }
}

impl<A: Agent> Harness<A> {
    /// A connection to this agent, with the settings that a server has by default: a deadline of
    /// 500 ms for tickets, an empty fallback, and frames of 16 380 bytes as HAProxy has them.
    #[must_use]
    pub fn new(agent: A) -> Self {
        let settings = Settings {
            deadline: Duration::from_millis(500),
            fallback: Fallback::empty(),
            never_empty: false,
            max_frame_size: 16_380,
        };
        let queue = Arc::<Queue>::default();
        Self {
            agent,
            context: context(&settings, &queue),
            connection: connection(settings.max_frame_size),
            settings,
            queue,
            now: Duration::ZERO,
            count: 0,
            acks: BTreeMap::new(),
        }
    }

    /// Tickets have this deadline unless they bring one of their own: `--agent-deadline-ms`.
    #[must_use]
    pub fn with_deadline(self, deadline: Duration) -> Self {
        let settings = Settings {
            deadline,
            ..self.settings.clone()
        };
        self.with(settings)
    }

    /// What HAProxy gets where the agent fails: `--fallback`.
    #[must_use]
    pub fn with_fallback(self, fallback: Fallback) -> Self {
        let settings = Settings {
            fallback,
            ..self.settings.clone()
        };
        self.with(settings)
    }

    /// No ACK is without actions: `--never-empty-acks`.
    #[must_use]
    pub fn with_never_empty_acks(self) -> Self {
        let settings = Settings {
            never_empty: true,
            ..self.settings.clone()
        };
        self.with(settings)
    }

    /// Frames take at most so many bytes, either way.
    ///
    /// # Panics
    ///
    /// If it is below 256 or above 1 048 572.
    #[must_use]
    pub fn with_max_frame_size(self, max_frame_size: u32) -> Self {
        let settings = Settings {
            max_frame_size,
            ..self.settings.clone()
        };
        self.with(settings)
    }

    fn with(mut self, settings: Settings) -> Self {
        assert!(self.count == 0, "settings come before the first NOTIFY");
        self.context = context(&settings, &self.queue);
        self.connection = connection(settings.max_frame_size);
        self.settings = settings;
        self
    }

    /// The agent.
    pub const fn agent(&self) -> &A {
        &self.agent
    }

    /// The agent, to change.
    pub const fn agent_mut(&mut self) -> &mut A {
        &mut self.agent
    }

    /// Sends a message, or several in one NOTIFY as a tuple: `notify((&first, &second))`.
    ///
    /// # Panics
    ///
    /// If they do not fit a frame.
    pub fn notify(&mut self, messages: impl IntoNotify) -> Pending<'_, A> {
        self.notify_with(|notify| messages.write(notify))
    }

    /// Sends a NOTIFY that is written by hand: messages of any name, with any arguments.
    ///
    /// # Panics
    ///
    /// If it does not fit a frame.
    pub fn notify_with(
        &mut self,
        write: impl FnOnce(&mut NotifyWriter<'_>) -> Result<(), EncodeError>,
    ) -> Pending<'_, A> {
        let id = NotifyId {
            stream_id: StreamId(2 * self.count + 1),
            frame_id: FrameId(1),
        };
        let max_frame_size = self.connection.max_frame_size();
        let mut bytes = vec![0; max_frame_size as usize + PREFIX_LEN];
        let written = NotifyWriter::begin(&mut bytes, max_frame_size, id.stream_id, id.frame_id)
            .and_then(|mut notify| {
                write(&mut notify)?;
                Ok(notify.finish())
            });
        let len = match written {
            Ok(len) => len,
            Err(error) => panic!("the NOTIFY {error}: HAProxy would not send it"),
        };
        self.handle(&bytes[..len]);
        Pending { harness: self, id }
    }

    /// Lets time pass: tickets that are sent are answered, then those whose deadline is over.
    pub fn advance(&mut self, time: Duration) {
        self.now += time;
        self.answer_sent();
        while let Some(id) = self.connection.poll_expired(self.now) {
            self.answer_late(id, Err(Fault::Deadline));
        }
    }

    /// The ACK of a NOTIFY, as [`Pending::ack`].
    ///
    /// # Panics
    ///
    /// As there, and if this NOTIFY's ACK was taken already.
    pub fn ack(&mut self, id: NotifyId) -> Ack {
        let end = Instant::now() + PATIENCE;
        loop {
            self.answer_sent();
            if let Some(ack) = self.acks.remove(&id) {
                return ack;
            }
            assert!(
                self.connection.in_flight() > 0,
                "NOTIFY {} has been answered, and the ACK taken",
                id.stream_id
            );
            let answers = self.queue.answers.lock();
            let answers = answers.unwrap_or_else(PoisonError::into_inner);
            let left = end.saturating_duration_since(Instant::now());
            assert!(
                !left.is_zero(),
                "no ACK within {PATIENCE:?}: a ticket is neither sent nor dropped. In a Harness \
                 deadlines pass by `after` and `advance` only"
            );
            let _ = self
                .queue
                .came
                .wait_timeout_while(answers, left, |answers| answers.is_empty());
        }
    }

    fn handle(&mut self, bytes: &[u8]) {
        let max_ack_size = self.connection.max_ack_size();
        let (used, event) = self.connection.handle_bytes(bytes);
        debug_assert_eq!(used, bytes.len(), "one whole frame was given");
        let Event::Notify(id, messages) = event else {
            panic!("the NOTIFY is not valid: {:?}", self.connection.state());
        };
        let notified = Notified {
            id,
            max_ack_size,
            connection: 0,
            serial: self.count,
        };
        self.count += 1;
        let mut out = vec![0; self.settings.max_frame_size as usize + PREFIX_LEN];
        let mut witness = Witness {
            agent: &mut self.agent,
            error: None,
        };
        let outcome = dispatch(&mut witness, &self.context, notified, messages, &mut out);
        let error = witness.error;
        match outcome {
            Outcome::Acked(len) => self.keep(&out[..len], None, None),
            Outcome::Fallback(len, fault) => self.keep(&out[..len], Some(fault), error),
            Outcome::Deferred(deadline) => {
                let deadline = self.now.saturating_add(deadline);
                self.connection.defer(notified.serial, id, deadline);
            }
            Outcome::Invalid(error) => panic!("the NOTIFY is not valid: {error}"),
        }
    }

    /// Takes what tickets have sent.
    fn answer_sent(&mut self) {
        let sent = {
            let answers = self.queue.answers.lock();
            std::mem::take(&mut *answers.unwrap_or_else(PoisonError::into_inner))
        };
        for answer in sent {
            // Too late, or of a NOTIFY whose handler failed: the server discards it, too.
            if let Some(id) = self.connection.take_deferred(answer.serial) {
                self.answer_late(id, answer.actions.as_deref().map_err(|&fault| fault));
            }
        }
    }

    fn answer_late(&mut self, id: NotifyId, actions: Result<&[u8], Fault>) {
        let notified = Notified {
            id,
            max_ack_size: self.connection.max_ack_size(),
            connection: 0,
            serial: 0,
        };
        let mut out = vec![0; self.context.late_ack_len(actions.map_or(0, <[u8]>::len))];
        let (len, fault) = finish_late(&self.context, notified, actions, &mut out);
        self.keep(&out[..len], fault, None);
    }

    /// Takes an ACK apart as HAProxy does.
    fn keep(&mut self, bytes: &[u8], fault: Option<Fault>, error: Option<String>) {
        let (frame, _) = Frame::split(bytes, self.settings.max_frame_size)
            .expect("an ACK is a valid frame")
            .expect("and a whole one");
        let id = NotifyId {
            stream_id: frame.stream_id,
            frame_id: frame.frame_id,
        };
        let ack = Ack {
            payload: frame.payload.to_vec(),
            fault,
            error,
        };
        let before = self.acks.insert(id, ack);
        assert!(before.is_none(), "two ACKs of one NOTIFY");
    }
}

/// Hears what an agent's error says before it is forgotten.
struct Witness<'a, A> {
    agent: &'a mut A,
    error: Option<String>,
}

impl<A: Agent> Agent for Witness<'_, A> {
    fn handle_notify(
        &mut self,
        messages: &mut Messages<'_>,
        reply: &mut Reply<'_>,
    ) -> Result<(), AgentError> {
        let agent = AssertUnwindSafe(|| self.agent.handle_notify(messages, reply));
        match catch_unwind(agent) {
            Ok(result) => result.inspect_err(|error| self.error = Some(error.to_string())),
            Err(panic) => {
                let text = panic.downcast_ref::<&str>().copied();
                let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
                self.error = text.map(str::to_owned);
                resume_unwind(panic)
            }
        }
    }
}

impl<A: fmt::Debug> fmt::Debug for Harness<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Harness")
            .field("agent", &self.agent)
            .field("now", &self.now)
            .field("acks", &self.acks)
            .finish_non_exhaustive()
    }
}

fn context(settings: &Settings, queue: &Arc<Queue>) -> Context {
    Context::new(
        settings.deadline,
        settings.fallback.clone(),
        settings.never_empty,
        Arc::clone(queue) as Arc<dyn AnswerQueue>,
    )
}

/// A connection that HAProxy has introduced itself on.
fn connection(max_frame_size: u32) -> Connection {
    let limits = Limits {
        max_frame_size,
        max_in_flight: usize::MAX,
        ..Limits::default()
    };
    let mut connection = Connection::new(limits, Duration::ZERO);
    let hello = HaproxyHello {
        supported_versions: b"2.0",
        max_frame_size,
        capabilities: b"pipelining",
        engine_id: Some(b"harness"),
        healthcheck: false,
    };
    let mut bytes = [0; 256];
    let len = hello.encode(&mut bytes).expect("a HELLO fits");
    connection.handle_bytes(&bytes[..len]);
    connection.poll_reply(&mut [0; MAX_REPLY_LEN]);
    assert_eq!(connection.state(), State::Running, "the HELLO is accepted");
    connection
}

/// A NOTIFY that was sent, until its ACK is asked for.
#[must_use = "the ACK is what a test is about: `ack`, `after`, or `id` for later"]
pub struct Pending<'h, A> {
    harness: &'h mut Harness<A>,
    id: NotifyId,
}

impl<A: Agent> Pending<'_, A> {
    /// The ACK: at once, or as soon as all tickets are sent or one is dropped, by whatever thread.
    ///
    /// # Panics
    ///
    /// If a ticket is neither sent nor dropped within 10 s of real time.
    #[must_use]
    pub fn ack(self) -> Ack {
        self.harness.ack(self.id)
    }

    /// The ACK when so much time has passed: for what has an end by its deadline.
    ///
    /// # Panics
    ///
    /// If there is none then.
    #[must_use]
    pub fn after(self, time: Duration) -> Ack {
        self.harness.advance(time);
        match self.harness.acks.remove(&self.id) {
            Some(ack) => ack,
            None => panic!(
                "no ACK after {time:?}: a ticket is neither sent nor dropped, and its deadline is later; \
                 that of tickets without one of their own is {:?} here",
                self.harness.settings.deadline
            ),
        }
    }

    /// The ids of the NOTIFY, to go on with others and ask [`Harness::ack`] later.
    #[must_use]
    pub fn id(self) -> NotifyId {
        self.id
    }
}

impl<A> fmt::Debug for Pending<'_, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pending")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// What HAProxy got.
#[derive(Clone, Debug)]
pub struct Ack {
    payload: Vec<u8>,
    fault: Option<Fault>,
    error: Option<String>,
}

impl Ack {
    /// What the variable is set to; `None` if it is not, or is unset.
    ///
    /// # Panics
    ///
    /// If it is set to a value of another type, or to what is none of its own, such as text that is not
    /// UTF-8.
    #[must_use]
    pub fn get<T: VariableType + ?Sized>(&self, variable: Var<T>) -> Option<T::Read<'_>> {
        let value = self.value(variable.variable())?;
        let read = T::read(value);
        assert!(
            read.is_some(),
            "{variable} is set to {} {value}, which is not the {} that is asked for",
            value.type_name(),
            T::TYPES
        );
        read
    }

    /// What a variable is set to, whatever its type. The last action on it counts, as for HAProxy.
    #[must_use]
    pub fn value(&self, variable: Variable<'_>) -> Option<TypedData<'_>> {
        match self.last(variable)? {
            // HAProxy takes NULL as unsetting it.
            Action::SetVar { value, .. } if value != TypedData::Null => Some(value),
            _ => None,
        }
    }

    /// Whether the variable is unset.
    #[must_use]
    pub fn is_unset<T: VariableType + ?Sized>(&self, variable: Var<T>) -> bool {
        let variable = variable.variable();
        self.last(variable).is_some() && self.value(variable).is_none()
    }

    fn last(&self, variable: Variable<'_>) -> Option<Action<'_>> {
        let is_it = |scope, name| scope == variable.scope() && name == variable.name().as_bytes();
        self.actions()
            .filter(|action| match *action {
                Action::SetVar { scope, name, .. } | Action::UnsetVar { scope, name } => {
                    is_it(scope, name)
                }
            })
            .last()
    }

    /// All actions in order.
    pub fn actions(&self) -> impl Iterator<Item = Action<'_>> {
        Actions::new(&self.payload).map(|action| action.expect("an agent's actions are valid"))
    }

    /// Whether there is no action.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.payload.is_empty()
    }

    /// The error that the agent returned, or what it panicked with, if it did: then this is the fallback.
    #[must_use]
    pub fn error(&self) -> Option<&str> {
        self.error.as_deref()
    }

    /// Why it is the fallback, if it is.
    #[must_use]
    pub fn fault(&self) -> Option<&'static str> {
        Some(match self.fault? {
            Fault::Error => "the agent returned an error",
            Fault::Panic => "the agent panicked",
            Fault::TooLarge => "the actions do not fit the frame",
            Fault::Deadline => "the deadline passed",
            Fault::Abandoned => "a ticket was dropped",
            Fault::Shed => "too many tickets were out",
        })
    }
}

/// What [`Harness::notify`] sends: a reference to a message, or a tuple of such.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be sent as a NOTIFY",
    label = "no reference to a message",
    note = "a NOTIFY is made of `&message`, or of several as `(&one, &two)`"
)]
pub trait IntoNotify {
    /// Writes the messages.
    ///
    /// # Errors
    ///
    /// `Full` if they do not fit.
    fn write(self, notify: &mut NotifyWriter<'_>) -> Result<(), EncodeError>;
}

impl<M: Message> IntoNotify for &M {
    fn write(self, notify: &mut NotifyWriter<'_>) -> Result<(), EncodeError> {
        self.encode(notify)
    }
}

macro_rules! tuple {
    ($($name:ident)*) => {
        impl<$($name: IntoNotify),*> IntoNotify for ($($name,)*) {
            #[allow(non_snake_case, reason = "a type and its value have one name here")]
            fn write(self, notify: &mut NotifyWriter<'_>) -> Result<(), EncodeError> {
                let ($($name,)*) = self;
                $($name.write(notify)?;)*
                Ok(())
            }
        }
    };
}

tuple!(A B);
tuple!(A B C);
tuple!(A B C D);
