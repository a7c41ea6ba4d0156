//! The agent of the simulation: it does with each NOTIFY what the NOTIFY asks for, and answers with a
//! digest of its content, so that an answer shows which question it belongs to.

use std::rc::Rc;
use std::time::Duration;

use super::World;
use crate::agent::{Agent, AgentError, Reply, Ticket};
use crate::spop::{DecodeError, EncodeError, Messages, Scope, TypedData, Variable};

/// The digest.
pub(super) const SEEN: Variable<'static> = Variable::literal(Scope::Transaction, "seen");

/// Bytes that make an answer long.
pub(super) const FILL: Variable<'static> = Variable::literal(Scope::Transaction, "fill");

/// What HAProxy gets instead of an answer, where the settings have something.
pub(super) const FALLBACK: Variable<'static> = Variable::literal(Scope::Transaction, "fallback");

/// What an agent may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Deed {
    Answer,
    AnswerAtLength,
    Fail,
    Panic,
    SayTooMuch,
    /// Answers after it kept its core busy.
    Stall,
    Defer,
    DeferAtLength,
    DeferTooMuch,
    DeferTwice,
    DeferAndFail,
    DeferAndPanic,
    /// Draws a ticket that is never sent.
    Keep,
    /// Draws a ticket and drops it at once.
    Drop,
    DropLater,
}

impl Deed {
    pub(super) const ALL: [Self; 15] = [
        Self::Answer,
        Self::AnswerAtLength,
        Self::Fail,
        Self::Panic,
        Self::SayTooMuch,
        Self::Stall,
        Self::Defer,
        Self::DeferAtLength,
        Self::DeferTooMuch,
        Self::DeferTwice,
        Self::DeferAndFail,
        Self::DeferAndPanic,
        Self::Keep,
        Self::Drop,
        Self::DropLater,
    ];

    /// Whether the ACK waits for a ticket.
    pub(super) const fn is_late(self) -> bool {
        matches!(
            self,
            Self::Defer
                | Self::DeferAtLength
                | Self::DeferTooMuch
                | Self::DeferTwice
                | Self::Keep
                | Self::Drop
                | Self::DropLater
        )
    }

    /// Whether there is an answer of the agent's own.
    pub(super) const fn has_answer(self) -> bool {
        matches!(
            self,
            Self::Answer
                | Self::AnswerAtLength
                | Self::Stall
                | Self::Defer
                | Self::DeferAtLength
                | Self::DeferTwice
        )
    }

    /// Whether its answer has the bytes that it is asked for.
    pub(super) const fn is_long(self) -> bool {
        matches!(
            self,
            Self::AnswerAtLength
                | Self::DeferAtLength
                | Self::DeferTwice
                | Self::SayTooMuch
                | Self::DeferTooMuch
        )
    }
}

/// What a NOTIFY asks for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Order {
    pub(super) conversation: u64,
    pub(super) sequence: u64,
    pub(super) deed: Deed,
    /// When a late answer comes, or how long the core stands still.
    pub(super) delay: Duration,
    /// A deadline of the ticket's own, if not 0.
    pub(super) deadline: Duration,
    pub(super) fill_len: usize,
}

/// An order that came to the agent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Handled {
    pub(super) order: Order,
    pub(super) core: usize,
    /// For the report of a failure.
    #[allow(dead_code, reason = "Debug prints it")]
    pub(super) at: Duration,
    /// How long the core had been kept busy until then.
    pub(super) stalled: Duration,
}

/// The agent of one core.
pub(super) struct SimulatedAgent {
    pub(super) world: Rc<World>,
}

impl Agent for SimulatedAgent {
    fn handle_notify(
        &mut self,
        messages: &mut Messages<'_>,
        reply: &mut Reply<'_>,
    ) -> Result<(), AgentError> {
        let world = Rc::clone(&self.world);
        world.notifies.set(world.notifies.get() + 1);
        let (digest, order) = match read(messages) {
            Ok((digest, Some(order))) => (digest, order),
            // Bits were flipped on the way.
            Ok((digest, None)) => {
                world.note_damage();
                return Ok(reply.set_var(SEEN, digest)?);
            }
            Err(error) => {
                world.note_damage();
                return Err(error.into());
            }
        };
        let core = world.simulator.core();
        world.note_handled(Handled {
            order,
            core,
            at: world.simulator.now(),
            stalled: world.simulator.stalled(core),
        });
        world.do_deed(order, digest, reply)
    }
}

impl World {
    fn do_deed(
        self: &Rc<Self>,
        order: Order,
        digest: u64,
        reply: &mut Reply<'_>,
    ) -> Result<(), AgentError> {
        let defer = |reply: &mut Reply<'_>| {
            if order.deadline.is_zero() {
                reply.defer()
            } else {
                reply.defer_for(order.deadline)
            }
        };
        let fill = vec![b'f'; order.fill_len];
        match order.deed {
            Deed::Answer => reply.set_var(SEEN, digest)?,
            Deed::Stall => {
                self.simulator.stall(order.delay);
                reply.set_var(SEEN, digest)?;
            }
            Deed::AnswerAtLength => {
                reply.set_var(SEEN, digest)?;
                reply.set_var(FILL, &fill[..])?;
            }
            Deed::SayTooMuch => {
                reply.set_var(SEEN, digest)?;
                let result = reply.set_var(FILL, &fill[..]);
                // Whether or not it says so itself.
                if digest.is_multiple_of(2) {
                    result?;
                }
            }
            Deed::Fail => {
                reply.set_var(SEEN, digest)?;
                return Err("no answer today".into());
            }
            // Past the panic hook, which tells the simulation of panics that are none of the agent's.
            Deed::Panic => std::panic::resume_unwind(Box::new("the agent panics")),
            Deed::Defer | Deed::DeferAtLength | Deed::DeferTooMuch => {
                let ticket = defer(reply);
                self.answer_later(ticket, order, digest, order.delay);
            }
            Deed::DeferTwice => {
                let first = defer(reply);
                let second = defer(reply);
                // The ACK has what the reply was given, and both tickets' actions, once both are sent.
                reply.set_var(SEEN, digest)?;
                self.answer_later(first, order, digest, order.delay / 2);
                self.answer_later(
                    second,
                    Order {
                        fill_len: 0,
                        ..order
                    },
                    digest,
                    order.delay,
                );
            }
            Deed::DeferAndFail => {
                let ticket = defer(reply);
                self.answer_later(ticket, order, digest, order.delay);
                return Err("no answer after all".into());
            }
            Deed::DeferAndPanic => {
                let ticket = defer(reply);
                self.answer_later(ticket, order, digest, order.delay);
                std::panic::resume_unwind(Box::new("the agent panics with a ticket"));
            }
            Deed::Keep => self.kept.borrow_mut().push(defer(reply)),
            Deed::Drop => drop(defer(reply)),
            Deed::DropLater => {
                let (ticket, simulator) = (defer(reply), Rc::clone(&self.simulator));
                let (elsewhere, until) = (simulator.world(), simulator.now() + order.delay);
                self.simulator.spawn_on(elsewhere, async move {
                    simulator.pause_until(until).await;
                    drop(ticket);
                });
            }
        }
        Ok(())
    }

    /// Another thread finds the answer.
    fn answer_later(&self, mut ticket: Ticket, order: Order, digest: u64, delay: Duration) {
        let simulator = Rc::clone(&self.simulator);
        // By the clock of this core, which may be ahead.
        let until = simulator.now() + delay;
        self.simulator.spawn_on(self.simulator.world(), async move {
            simulator.pause_until(until).await;
            simulator.note("a ticket is sent", order.conversation, order.sequence);
            let result = match order {
                // The other ticket brings it all.
                Order {
                    deed: Deed::DeferTwice,
                    fill_len: 0,
                    ..
                } => Ok(()),
                Order {
                    deed: Deed::DeferTwice,
                    ..
                } => fill(&mut ticket, order),
                _ => write(&mut ticket, order, digest),
            };
            if result.is_err() != (order.deed == Deed::DeferTooMuch) {
                simulator.fail(format!("a late answer of {order:?} gave {result:?}"));
            }
            ticket.send();
        });
    }
}

fn write(ticket: &mut Ticket, order: Order, digest: u64) -> Result<(), EncodeError> {
    ticket.set_var(SEEN, digest)?;
    if order.deed.is_long() {
        fill(ticket, order)?;
    }
    Ok(())
}

fn fill(ticket: &mut Ticket, order: Order) -> Result<(), EncodeError> {
    ticket.set_var(FILL, &vec![b'f'; order.fill_len][..])
}

/// A number that changes with every byte of what it is given.
#[derive(Clone, Copy, Debug)]
pub(super) struct Digest(u64);

impl Digest {
    pub(super) const fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    pub(super) fn mix(&mut self, bytes: &[u8]) {
        for byte in bytes.iter().chain(&[0xff]) {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    pub(super) fn mix_argument(&mut self, name: &[u8], value: &TypedData<'_>) {
        self.mix(name);
        match value.as_bytes() {
            Some(bytes) => self.mix(bytes),
            None => self.mix(value.to_string().as_bytes()),
        }
    }

    pub(super) const fn get(self) -> u64 {
        self.0
    }
}

/// The digest of all messages but the last, and what they ask for if the last one confirms it.
pub(super) fn read(messages: &mut Messages<'_>) -> Result<(u64, Option<Order>), DecodeError> {
    let mut digest = Digest::new();
    let mut numbers = [None; 6];
    let mut is_confirmed = false;
    while let Some(mut message) = messages.next_message()? {
        let is_sum = message.name() == b"sum";
        if !is_sum {
            digest.mix(message.name());
        }
        while let Some(argument) = message.next_argument()? {
            if is_sum {
                is_confirmed = argument.value.as_u64() == Some(digest.get());
                continue;
            }
            digest.mix_argument(argument.name, &argument.value);
            if let [index @ b'0'..=b'5'] = argument.name {
                numbers[usize::from(index - b'0')] = argument.value.as_u64();
            }
        }
    }
    let order = match numbers {
        [
            Some(conversation),
            Some(sequence),
            Some(deed),
            Some(delay),
            Some(deadline),
            Some(fill_len),
        ] if is_confirmed => Some(Order {
            conversation,
            sequence,
            deed: Deed::ALL[usize::try_from(deed).expect("confirmed")],
            delay: Duration::from_micros(delay),
            deadline: Duration::from_micros(deadline),
            fill_len: usize::try_from(fill_len).expect("confirmed"),
        }),
        _ => None,
    };
    Ok((digest.get(), order))
}
