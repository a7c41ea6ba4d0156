//! The agent: messages in, actions out, now or later.
//!
//! It knows what an agent may do and what becomes of its faults: whatever an [`Agent`] does with a
//! NOTIFY, [`dispatch`] ends in exactly one ACK. It refuses to know sockets, cores and what the
//! messages mean.

mod actions;
mod declaration;
mod pair;
mod router;
mod ticket;

pub use declaration::{AgentDeclaration, OtherMessages};
pub use pair::AgentPair;
pub use router::{Router, Routes};
pub use ticket::Ticket;
#[cfg_attr(not(feature = "server"), allow(unused_imports))]
pub(crate) use ticket::{AnswerQueue, LateAnswer};

use actions::ActionList;
use ticket::Joint;

use std::cell::Cell;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;

use crate::connection::NotifyId;
use crate::message::{Var, VariableType};
use crate::spop::{
    AckWriter, DecodeError, EncodeError, MAX_VARINT_LEN, Messages, PREFIX_LEN, Scope, TypedData,
    Variable,
};

/// When a ticket is answered with the fallback unless something else is said, for servers, the
/// [`Harness`](crate::Harness), and the `timeout processing` that
/// [`SpoeConfig`](crate::SpoeConfig) writes: 500 ms.
pub const DEFAULT_AGENT_DEADLINE: Duration = Duration::from_millis(500);

/// Why an agent has no answer. The text goes to the log, the fallback to HAProxy.
pub type AgentError = Box<dyn std::error::Error + Send + Sync>;

/// Answers NOTIFYs. Each core has its own instance, made on that core, so it needs no locks and is
/// not `Send`.
///
/// ```
/// use ringspoa::{Agent, AgentError, Reply};
/// use ringspoa::spop::{Messages, Scope, Variable};
///
/// const TINY: Variable<'static> = Variable::literal(Scope::Transaction, "tiny");
///
/// struct Sizer;
///
/// impl Agent for Sizer {
///     fn handle_notify(
///         &mut self,
///         messages: &mut Messages<'_>,
///         reply: &mut Reply<'_>,
///     ) -> Result<(), AgentError> {
///         while let Some(message) = messages.next_message()? {
///             for argument in message {
///                 if let Some(bytes) = argument?.value.as_bytes() {
///                     reply.set_var(TINY, bytes.len() < 10)?;
///                 }
///             }
///         }
///         Ok(())
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no agent",
    label = "no agent",
    note = "implement `Agent` for it, or let a `Router` give messages to handlers"
)]
pub trait Agent {
    /// Answers one NOTIFY: reads `messages`, writes actions to `reply`.
    ///
    /// Runs on the core's event loop, which stands still until it returns: what takes longer than
    /// some microseconds belongs on another thread, with a [`Ticket`] from [`Reply::defer`].
    ///
    /// A panic is caught and the instance goes on being used, so its state must stand one. The panic
    /// hook runs all the same: the standard one writes to stderr each time.
    ///
    /// # Errors
    ///
    /// Any error discards the actions: HAProxy gets the configured fallback instead. An error from
    /// `messages` itself may just be passed on.
    fn handle_notify(
        &mut self,
        messages: &mut Messages<'_>,
        reply: &mut Reply<'_>,
    ) -> Result<(), AgentError>;

    /// The messages it takes and the variables it sets, for configurations made from code and for
    /// checking those that are there. Says nothing unless implemented.
    fn declaration(&self) -> AgentDeclaration {
        AgentDeclaration::new("agent")
    }
}

impl<A: Agent + ?Sized> Agent for Box<A> {
    #[inline]
    fn handle_notify(
        &mut self,
        messages: &mut Messages<'_>,
        reply: &mut Reply<'_>,
    ) -> Result<(), AgentError> {
        (**self).handle_notify(messages, reply)
    }

    fn declaration(&self) -> AgentDeclaration {
        (**self).declaration()
    }
}

/// The answer to one NOTIFY, while it is being made.
#[derive(Debug)]
pub struct Reply<'a> {
    ack: AckWriter<'a>,
    max_actions_len: usize,
    context: &'a Context,
    serial: u64,
    connection: usize,
    deferred: Option<Later>,
}

/// That tickets were drawn.
#[derive(Debug)]
struct Later {
    answer: Arc<Joint>,
    deadline: Duration,
}

impl Reply<'_> {
    /// Sets a variable to a value of its type.
    ///
    /// # Errors
    ///
    /// `Full` if it does not fit the frame; nothing of it is written. Unless
    /// [`clear`](Self::clear) is called, HAProxy gets the fallback instead of half an answer.
    #[inline(always)]
    pub fn set<T: VariableType + ?Sized>(
        &mut self,
        variable: Var<T>,
        value: T::Value<'_>,
    ) -> Result<(), EncodeError> {
        self.set_var(variable.variable(), value)
    }

    /// Unsets a variable.
    ///
    /// # Errors
    ///
    /// As [`set`](Self::set).
    #[inline]
    pub fn unset<T: VariableType + ?Sized>(&mut self, variable: Var<T>) -> Result<(), EncodeError> {
        self.unset_var(variable.variable())
    }

    /// Sets a variable whose name or type is not known when this is compiled. `TypedData::Null`
    /// unsets it.
    ///
    /// # Errors
    ///
    /// `Full` if it does not fit the frame; nothing of it is written. Unless
    /// [`clear`](Self::clear) is called, HAProxy gets the fallback instead of half an answer.
    #[inline(always)]
    pub fn set_var<'x>(
        &mut self,
        variable: Variable<'_>,
        value: impl Into<TypedData<'x>>,
    ) -> Result<(), EncodeError> {
        self.ack.set_var(variable, value)
    }

    /// Unsets a variable.
    ///
    /// # Errors
    ///
    /// As [`set_var`](Self::set_var).
    #[inline]
    pub fn unset_var(&mut self, variable: Variable<'_>) -> Result<(), EncodeError> {
        self.ack.unset_var(variable)
    }

    /// Takes all actions back, and forgets that one did not fit.
    #[inline]
    pub const fn clear(&mut self) {
        self.ack.clear();
    }

    /// Answers later: the ticket carries the answer, from any thread, in any order. After the
    /// server's agent deadline, or if the ticket is dropped, HAProxy gets the fallback.
    ///
    /// Each call makes one more ticket. The ACK goes out once all of a NOTIFY are sent, with the
    /// actions of this reply and then those of the tickets.
    pub fn defer(&mut self) -> Ticket {
        self.defer_for(self.context.deadline)
    }

    /// As [`defer`](Self::defer), with a deadline of its own. Of several the earliest counts.
    pub fn defer_for(&mut self, deadline: Duration) -> Ticket {
        let later = self.deferred.get_or_insert_with(|| Later {
            answer: Joint::new(
                self.connection,
                self.serial,
                Arc::clone(&self.context.queue),
            ),
            deadline,
        });
        later.deadline = later.deadline.min(deadline);
        later.answer.ticket(self.max_actions_len)
    }
}

/// What HAProxy gets instead of an answer that could not be given: nothing, or variables that tell
/// the configuration so.
#[derive(Clone, Debug, Default)]
pub struct Fallback {
    actions: ActionList,
}

/// The most that a fallback takes, in bytes.
const MAX_FALLBACK_LEN: usize = 64 * 1024;

impl Fallback {
    /// An ACK without actions.
    #[must_use]
    pub fn empty() -> Self {
        Self::default()
    }

    /// Sets a variable, too. Where all of them do not fit a connection's frame size, it gets an ACK
    /// without actions.
    ///
    /// ```
    /// use ringspoa::{Fallback, Var};
    ///
    /// const VERDICT: Var<str> = Var::txn("verdict");
    /// const SCORE: Var<i64> = Var::txn("score");
    ///
    /// let fallback = Fallback::empty().with(VERDICT, "unknown")?.with(SCORE, 50)?;
    /// # let _ = fallback;
    /// # Ok::<(), ringspoa::spop::EncodeError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// `Full` if they take more than 64 KiB.
    pub fn with<T: VariableType + ?Sized>(
        mut self,
        variable: Var<T>,
        value: T::Value<'_>,
    ) -> Result<Self, EncodeError> {
        self.actions.max_len = MAX_FALLBACK_LEN;
        self.actions.set_var(variable.variable(), value)?;
        Ok(self)
    }

    /// An ACK that sets these variables, whose names or types are not known when this is compiled. Where they do not fit a connection's frame size, it gets
    /// an ACK without actions.
    ///
    /// # Errors
    ///
    /// `Full` if they take more than 64 KiB.
    pub fn with_variables<'x>(
        variables: impl IntoIterator<Item = (Variable<'x>, TypedData<'x>)>,
    ) -> Result<Self, EncodeError> {
        let mut actions = ActionList {
            bytes: BytesMut::new(),
            max_len: MAX_FALLBACK_LEN,
        };
        for (variable, value) in variables {
            actions.set_var(variable, value)?;
        }
        Ok(Self { actions })
    }
}

/// What every reply of a core shares.
pub(crate) struct Context {
    /// The deadline of tickets that bring none of their own.
    deadline: Duration,
    fallback: Fallback,
    /// Never send an ACK without actions: early HAProxy 3.1 waits for its timeout on one.
    never_empty: bool,
    queue: Arc<dyn AnswerQueue>,
    log: SparseLog,
}

impl Context {
    pub(crate) fn new(
        deadline: Duration,
        fallback: Fallback,
        never_empty: bool,
        queue: Arc<dyn AnswerQueue>,
    ) -> Self {
        Self {
            deadline,
            fallback,
            never_empty,
            queue,
            log: SparseLog::default(),
        }
    }

    /// Says what happens by the thousand or not at all.
    #[cfg(feature = "server")]
    pub(crate) fn warn(&self, what: fmt::Arguments<'_>) {
        self.log.warn(what);
    }

    /// Room that [`finish_late`] needs for actions of this length.
    pub(crate) fn late_ack_len(&self, actions_len: usize) -> usize {
        PREFIX_LEN + MAX_HEADER_LEN + actions_len.max(self.fallback.actions.bytes.len()).max(64)
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("deadline", &self.deadline)
            .field("fallback", &self.fallback)
            .field("never_empty", &self.never_empty)
            .finish_non_exhaustive()
    }
}

/// Type, flags and the two ids of an ACK.
const MAX_HEADER_LEN: usize = 5 + 2 * MAX_VARINT_LEN;

/// A log for what happens by the thousand or not at all: one line a second, with the number of
/// those that went before it unsaid.
#[derive(Debug, Default)]
pub(crate) struct SparseLog {
    last: Cell<Option<Instant>>,
    unsaid: Cell<u64>,
}

impl SparseLog {
    pub(crate) fn warn(&self, what: fmt::Arguments<'_>) {
        const INTERVAL: Duration = Duration::from_secs(1);
        let now = Instant::now();
        if self.last.get().is_some_and(|last| now < last + INTERVAL) {
            self.unsaid.set(self.unsaid.get() + 1);
            return;
        }
        self.last.set(Some(now));
        match self.unsaid.take() {
            0 => tracing::warn!("{what}"),
            unsaid => tracing::warn!("{what} ({unsaid} more since the last such line)"),
        }
    }
}

/// Why HAProxy got the fallback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Error,
    Panic,
    TooLarge,
    /// A ticket's deadline passed.
    Deadline,
    /// A ticket was dropped unsent.
    Abandoned,
    /// The core has as many tickets as it may.
    Shed,
}

/// What became of one NOTIFY.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// An ACK of this many bytes is in the buffer.
    Acked(usize),
    /// The same, but it carries the fallback.
    Fallback(usize, Fault),
    /// A ticket was drawn; the caller notes it with this deadline.
    Deferred(Duration),
    /// The NOTIFY's payload is not valid; nothing was written.
    Invalid(DecodeError),
}

/// Has the agent answer one NOTIFY with an ACK at the front of `out`. `out` has room for the
/// largest ACK, so that not fitting is always the agent's doing.
#[inline]
pub(crate) fn dispatch<A: Agent + ?Sized>(
    agent: &mut A,
    context: &Context,
    notify: Notified,
    mut messages: Messages<'_>,
    out: &mut [u8],
) -> Outcome {
    let mut reply = Reply {
        ack: begin(&notify, out),
        max_actions_len: notify.max_actions_len(),
        context,
        serial: notify.serial,
        connection: notify.connection,
        deferred: None,
    };
    // The agent's own state may be half changed after a panic; its documentation says so.
    let result = catch_unwind(AssertUnwindSafe(|| {
        agent.handle_notify(&mut messages, &mut reply)
    }));
    let Reply { ack, deferred, .. } = reply;
    let deadline = deferred.map(|later| {
        // What becomes of it is decided below: of a NOTIFY that is answered now, nothing.
        later.answer.settle_reply(ack.actions());
        later.deadline
    });
    // What the agent did not read is checked too: bytes we do not understand are not acknowledged.
    if let Err(error) = messages.finish() {
        return Outcome::Invalid(error);
    }
    let fault = match result {
        Ok(Ok(())) if ack.overflowed() => {
            context.log.warn(format_args!(
                "the agent's actions do not fit the frame; HAProxy got the fallback"
            ));
            Fault::TooLarge
        }
        Ok(Ok(())) => {
            return match deadline {
                Some(deadline) => Outcome::Deferred(deadline),
                None => Outcome::Acked(finish(ack, context)),
            };
        }
        Ok(Err(error)) => {
            context
                .log
                .warn(format_args!("{error}; HAProxy got the fallback"));
            if ack.overflowed() {
                Fault::TooLarge
            } else {
                Fault::Error
            }
        }
        Err(_) => {
            context
                .log
                .warn(format_args!("the agent panicked; HAProxy got the fallback"));
            Fault::Panic
        }
    };
    Outcome::Fallback(finish_fallback(ack, context), fault)
}

/// Which NOTIFY is answered, and within which limits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Notified {
    pub(crate) id: NotifyId,
    pub(crate) max_ack_size: u32,
    pub(crate) connection: usize,
    pub(crate) serial: u64,
}

impl Notified {
    fn max_actions_len(&self) -> usize {
        let ids = [self.id.stream_id.0, self.id.frame_id.0];
        let header = 5 + ids
            .iter()
            .map(|&id| crate::spop::varint_len(id))
            .sum::<usize>();
        (self.max_ack_size as usize).saturating_sub(header)
    }
}

/// Writes the ACK of a late answer at the front of `out` and returns its bytes, with the fault if
/// it carries the fallback.
pub(crate) fn finish_late(
    context: &Context,
    notify: Notified,
    actions: Result<&[u8], Fault>,
    out: &mut [u8],
) -> (usize, Option<Fault>) {
    let mut ack = begin(&notify, out);
    let fault = match actions {
        Ok(actions) => match ack.append_encoded(actions) {
            Ok(()) => return (finish(ack, context), None),
            Err(_) => Fault::TooLarge,
        },
        Err(fault) => fault,
    };
    (finish_fallback(ack, context), Some(fault))
}

#[inline]
fn begin<'b>(notify: &Notified, out: &'b mut [u8]) -> AckWriter<'b> {
    AckWriter::begin(
        out,
        notify.max_ack_size,
        notify.id.stream_id,
        notify.id.frame_id,
    )
    .expect("an ACK's header fits the smallest frame")
}

fn finish_fallback(mut ack: AckWriter<'_>, context: &Context) -> usize {
    ack.clear();
    if ack.append_encoded(&context.fallback.actions.bytes).is_err() {
        ack.clear();
    }
    finish(ack, context)
}

/// Unsetting it changes nothing: nobody sets it.
const NOTHING: Variable<'static> = Variable::literal(Scope::Transaction, "ringspoa_nothing");

#[inline]
fn finish(mut ack: AckWriter<'_>, context: &Context) -> usize {
    if context.never_empty && ack.is_empty() {
        // Fits: an ACK is allowed 255 bytes at least.
        let _ = ack.unset_var(NOTHING);
    }
    ack.finish()
}
