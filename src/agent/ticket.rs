//! Tickets: answers that are given later, on any thread.
//!
//! An ACK waits for all tickets of its NOTIFY, so that handlers of several messages may each draw
//! one: what the reply was given is sent first, then what the tickets bring in the order they are
//! sent.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Bytes, BytesMut};

use super::Fault;
use super::actions::ActionList;
use crate::message::{Var, VariableType};
use crate::spop::{EncodeError, TypedData, Variable};

/// A NOTIFY that is answered later. `Send`: take it to where the answer is found.
///
/// ```no_run
/// # use ringspoa::{Reply, AgentError};
/// # use ringspoa::spop::{Scope, Variable};
/// # fn ask_a_slow_service() -> i64 { 7 }
/// # fn in_handle_notify(reply: &mut Reply<'_>) -> Result<(), AgentError> {
/// let mut ticket = reply.defer();
/// std::thread::spawn(move || {
///     let score = ask_a_slow_service();
///     let _ = ticket.set_var(Variable::literal(Scope::Transaction, "score"), score);
///     ticket.send();
/// });
/// # Ok(())
/// # }
/// ```
#[must_use = "HAProxy waits for it: set variables and `send` it, or give it to whoever does"]
pub struct Ticket {
    actions: ActionList,
    overflowed: bool,
    /// `None` once it is sent.
    answer: Option<Arc<Joint>>,
}

impl Ticket {
    /// Sets a variable to a value of its type when the ticket is sent.
    ///
    /// # Errors
    ///
    /// `Full` if it does not fit the frame; nothing of it is written. HAProxy then gets the
    /// fallback instead of half an answer.
    pub fn set<T: VariableType + ?Sized>(
        &mut self,
        variable: Var<T>,
        value: T::Value<'_>,
    ) -> Result<(), EncodeError> {
        self.set_var(variable.variable(), value)
    }

    /// Unsets a variable when the ticket is sent.
    ///
    /// # Errors
    ///
    /// As [`set`](Self::set).
    pub fn unset<T: VariableType + ?Sized>(&mut self, variable: Var<T>) -> Result<(), EncodeError> {
        self.unset_var(variable.variable())
    }

    /// Sets a variable whose name or type is not known when this is compiled, when the ticket is
    /// sent. `TypedData::Null` unsets it.
    ///
    /// # Errors
    ///
    /// `Full` if it does not fit the frame; nothing of it is written. HAProxy then gets the
    /// fallback instead of half an answer.
    pub fn set_var<'x>(
        &mut self,
        variable: Variable<'_>,
        value: impl Into<TypedData<'x>>,
    ) -> Result<(), EncodeError> {
        let result = self.actions.set_var(variable, value);
        self.overflowed |= result.is_err();
        result
    }

    /// Unsets a variable when the ticket is sent.
    ///
    /// # Errors
    ///
    /// As [`set_var`](Self::set_var).
    pub fn unset_var(&mut self, variable: Variable<'_>) -> Result<(), EncodeError> {
        let result = self.actions.unset_var(variable);
        self.overflowed |= result.is_err();
        result
    }

    /// Sends its part of the answer; with the last one of a NOTIFY the ACK goes out. Too late, it is
    /// discarded.
    pub fn send(mut self) {
        if let Some(answer) = self.answer.take() {
            answer.settle(if self.overflowed {
                Err(Fault::TooLarge)
            } else {
                Ok(std::mem::take(&mut self.actions.bytes))
            });
        }
    }
}

/// A ticket dropped unsent asks for the fallback, so that HAProxy need not wait for the deadline.
impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some(answer) = self.answer.take() {
            answer.settle(Err(Fault::Abandoned));
        }
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket")
            .field("answer", &self.answer)
            .finish_non_exhaustive()
    }
}

/// The answer that the tickets of one NOTIFY make together.
pub(super) struct Joint {
    connection: usize,
    serial: u64,
    queue: Arc<dyn AnswerQueue>,
    parts: Mutex<Parts>,
}

struct Parts {
    /// Those still to come: the reply's, and one of each ticket.
    missing: usize,
    reply: BytesMut,
    tickets: BytesMut,
    /// The answer is sent, or is not to be.
    is_over: bool,
}

impl Joint {
    /// The answer to a NOTIFY, with the reply's own part to come.
    pub(super) fn new(connection: usize, serial: u64, queue: Arc<dyn AnswerQueue>) -> Arc<Self> {
        Arc::new(Self {
            connection,
            serial,
            queue,
            parts: Mutex::new(Parts {
                missing: 1,
                reply: BytesMut::new(),
                tickets: BytesMut::new(),
                is_over: false,
            }),
        })
    }

    /// One more ticket, with so much room for its actions.
    pub(super) fn ticket(self: &Arc<Self>, max_len: usize) -> Ticket {
        self.with_parts(|parts| parts.missing += 1);
        Ticket {
            actions: ActionList {
                bytes: BytesMut::new(),
                max_len,
            },
            overflowed: false,
            answer: Some(Arc::clone(self)),
        }
    }

    /// The reply's own actions, once its handler has returned.
    pub(super) fn settle_reply(&self, actions: &[u8]) {
        let answer = self.with_parts(|parts| {
            parts.reply.extend_from_slice(actions);
            parts.one_less()
        });
        self.push(answer);
    }

    /// A ticket's part.
    fn settle(&self, part: Result<BytesMut, Fault>) {
        let answer = self.with_parts(|parts| match part {
            Ok(actions) => {
                if parts.tickets.is_empty() {
                    parts.tickets = actions;
                } else {
                    parts.tickets.extend_from_slice(&actions);
                }
                parts.one_less()
            }
            Err(_) if parts.is_over => None,
            Err(fault) => {
                parts.is_over = true;
                Some(Err(fault))
            }
        });
        self.push(answer);
    }

    fn push(&self, actions: Option<Result<Bytes, Fault>>) {
        if let Some(actions) = actions {
            self.queue.push(LateAnswer {
                connection: self.connection,
                serial: self.serial,
                actions,
            });
        }
    }

    fn with_parts<T>(&self, change: impl FnOnce(&mut Parts) -> T) -> T {
        // Nothing in here panics, so that a poisoned lock has whole parts.
        change(&mut self.parts.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Parts {
    /// A part less is missing; the whole, if it was the last.
    fn one_less(&mut self) -> Option<Result<Bytes, Fault>> {
        self.missing -= 1;
        if self.missing > 0 || self.is_over {
            return None;
        }
        self.is_over = true;
        let mut actions = std::mem::take(&mut self.reply);
        if actions.is_empty() {
            actions = std::mem::take(&mut self.tickets);
        } else {
            actions.extend_from_slice(&self.tickets);
        }
        Some(Ok(actions.freeze()))
    }
}

impl fmt::Debug for Joint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Joint")
            .field("connection", &self.connection)
            .field("serial", &self.serial)
            .finish_non_exhaustive()
    }
}

/// What tickets send to their core.
#[derive(Debug)]
pub(crate) struct LateAnswer {
    /// The core's name for the connection.
    pub(crate) connection: usize,
    /// The core's name for the NOTIFY.
    pub(crate) serial: u64,
    /// Encoded actions, or why HAProxy is to get the fallback.
    pub(crate) actions: Result<Bytes, Fault>,
}

/// Where tickets send their answers.
pub(crate) trait AnswerQueue: Send + Sync {
    fn push(&self, answer: LateAnswer);
}
