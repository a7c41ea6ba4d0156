//! An agent's side of one connection in memory: a `Connection` and the loop that drives it, as the
//! server's pump does, but with bytes in vectors and time in a number.

#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test target uses its part of this module"
)]

use std::collections::BTreeMap;
use std::time::Duration;

use ringspoa::spop::{AckWriter, DecodeError, Messages, Scope, Variable};
use ringspoa::{Connection, Event, Limits, MAX_REPLY_LEN, NotifyId, State};

/// What the model agent counts in a NOTIFY, and answers with.
const SEEN: Variable<'static> = Variable::literal(Scope::Transaction, "seen");

/// What becomes of a NOTIFY.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plan {
    /// Answered at once.
    Now,
    /// Answered when this much time has passed.
    After(Duration),
}

/// One connection of a model server.
pub struct Model {
    pub connection: Connection,
    input: Vec<u8>,
    /// What the server wrote.
    pub output: Vec<u8>,
    /// Every NOTIFY handed to the agent, with a digest of its content.
    pub handled: Vec<(NotifyId, u64)>,
    /// Late answers by the time they are due, and serial.
    due: BTreeMap<(Duration, u64), u64>,
    serial: u64,
    deadline: Duration,
    /// Where ACKs are made; any ACK of the model fits.
    scratch: [u8; 256],
}

impl Model {
    pub fn new(limits: Limits, deadline: Duration) -> Self {
        Self {
            connection: Connection::new(limits, Duration::ZERO),
            input: Vec::new(),
            output: Vec::new(),
            handled: Vec::new(),
            due: BTreeMap::new(),
            serial: 0,
            deadline,
            scratch: [0; 256],
        }
    }

    /// Takes bytes from the peer; `plan` says what becomes of each NOTIFY.
    pub fn receive(&mut self, bytes: &[u8], now: Duration, plan: &mut dyn FnMut() -> Plan) {
        self.input.extend_from_slice(bytes);
        let input = std::mem::take(&mut self.input);
        let mut start = 0;
        loop {
            let max_ack_size = self.connection.max_ack_size();
            let (used, event) = self.connection.handle_bytes(&input[start..]);
            start += used;
            assert!(start <= input.len(), "used more than there is");
            match event {
                Event::NeedMore => break,
                Event::Handled => self.flush_reply(),
                Event::Notify(id, messages) => match digest(messages) {
                    Err(error) => {
                        self.connection.refuse(error);
                        self.flush_reply();
                    }
                    Ok(digest) => {
                        self.handled.push((id, digest));
                        match plan() {
                            Plan::Now => {
                                let len = ack(&mut self.scratch, max_ack_size, id, digest);
                                self.output.extend_from_slice(&self.scratch[..len]);
                            }
                            Plan::After(delay) => {
                                self.connection.defer(self.serial, id, now + self.deadline);
                                self.due.insert((now + delay, self.serial), digest);
                                self.serial += 1;
                            }
                        }
                    }
                },
            }
        }
        self.input = input;
        self.input.drain(..start);
        assert!(
            self.input.len() < self.connection.min_input_len(),
            "a whole frame was left: the pump would never read again"
        );
    }

    /// Lets time pass: late answers that are due, then fallbacks for those that are too late.
    pub fn advance(&mut self, now: Duration) {
        let max_ack_size = self.connection.max_ack_size();
        while let Some((&(at, serial), &digest)) = self.due.first_key_value() {
            if at > now {
                break;
            }
            self.due.remove(&(at, serial));
            // Expiry comes first if the deadline lies before the answer.
            while let Some(id) = self.connection.poll_expired(at) {
                let len = ack(&mut self.scratch, max_ack_size, id, 0);
                self.output.extend_from_slice(&self.scratch[..len]);
            }
            if let Some(id) = self.connection.take_deferred(serial) {
                let len = ack(&mut self.scratch, max_ack_size, id, digest);
                self.output.extend_from_slice(&self.scratch[..len]);
            }
            assert_eq!(
                self.connection.take_deferred(serial),
                None,
                "answered twice"
            );
        }
        while let Some(id) = self.connection.poll_expired(now) {
            let len = ack(&mut self.scratch, max_ack_size, id, 0);
            self.output.extend_from_slice(&self.scratch[..len]);
        }
    }

    pub fn is_closing(&self) -> bool {
        matches!(self.connection.state(), State::Closing(_))
    }

    fn flush_reply(&mut self) {
        let mut reply = [0; MAX_REPLY_LEN];
        let len = self.connection.poll_reply(&mut reply);
        self.output.extend_from_slice(&reply[..len]);
        assert_eq!(
            self.connection.poll_reply(&mut reply),
            0,
            "a reply is given once"
        );
    }
}

fn ack(out: &mut [u8], max_ack_size: u32, id: NotifyId, digest: u64) -> usize {
    let mut ack = AckWriter::begin(out, max_ack_size, id.stream_id, id.frame_id).unwrap();
    ack.set_var(SEEN, digest).unwrap();
    ack.finish()
}

/// A number that changes with every byte of every name and value.
pub fn digest(mut messages: Messages<'_>) -> Result<u64, DecodeError> {
    let mut digest = 0xcbf2_9ce4_8422_2325_u64;
    let mut mix = |bytes: &[u8]| {
        for byte in bytes.iter().chain(&[0xff]) {
            digest = (digest ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    };
    while let Some(mut message) = messages.next_message()? {
        mix(message.name());
        while let Some(argument) = message.next_argument()? {
            mix(argument.name);
            mix(argument.value.to_string().as_bytes());
        }
    }
    Ok(digest)
}

/// A small random number generator: the same seed, the same run.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// xorshift64*.
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() >> 33).unwrap() % bound
    }

    pub fn chance(&mut self, one_in: usize) -> bool {
        self.below(one_in) == 0
    }
}
