//! One connection against any peer, any agent and any clock.
//!
//! The input is read as a scenario: limits, what the peer sends, when time passes, and what the agent
//! does with each NOTIFY. It is run as the server's pump runs a connection, with the peer's bytes all
//! at once, then cut somewhere or at every byte, which must not make a difference; and what came of it
//! is compared with a reading of the bytes by the letter of the spec (`Reading`).

use std::collections::BTreeMap;
use std::time::Duration;

use arbitrary::{Result, Unstructured};
use ringspoa::spop::{
    AckWriter, Action, Actions, AgentHello, DecodeError, Disconnect, Flags, Frame, FrameId,
    FrameType, HaproxyHello, Messages, NotifyWriter, Scope, Status, StreamId, TypedData, Variable,
    decode_varint,
};
use ringspoa::{CloseReason, Connection, Event, Limits, MAX_REPLY_LEN, NotifyId, State};

use super::memory::held;
use super::round_trip::{id, value};

/// What the model agent sets.
const ANSWER: Variable<'static> = Variable::literal(Scope::Transaction, "answer");

/// The peer sends no more than this in one scenario, in bytes: more takes time and finds no more.
const MAX_STREAM_LEN: usize = 3000;

/// The largest frame before HELLO, in bytes without prefix.
const MAX_HELLO_SIZE: u32 = 16_380;

/// Runs the scenario with its bytes whole and cut, and checks what comes of it and that both agree.
pub fn connection(data: &[u8]) {
    let scenario = Scenario::new(data);
    let whole = run(&scenario, &[MAX_STREAM_LEN * 2]);
    check_output(&scenario, &whole);
    check_reading(&scenario, &whole);
    assert_eq!(run(&scenario, &scenario.pieces), whole, "cut differently");
}

/// What happens on a connection.
#[derive(Debug)]
struct Scenario {
    limits: Limits,
    steps: Vec<Step>,
    /// What becomes of the NOTIFYs, in turn.
    plans: Vec<Plan>,
    /// Into pieces of which lengths the peer's bytes are cut, in turn.
    pieces: Vec<usize>,
}

#[derive(Debug)]
enum Step {
    /// The peer sends these.
    Bytes(Vec<u8>),
    /// Time passes.
    Pass(Duration),
    /// The agent sends the ticket at this place of those it still has, counted around.
    Answer(usize),
    /// The server ends the connection, as for a drain.
    Disconnect(Status),
}

/// What the agent does with a NOTIFY.
#[derive(Clone, Copy, Debug)]
enum Plan {
    /// Answers at once, with this many bytes.
    Now(usize),
    /// Draws a ticket.
    Later(Duration),
}

impl Scenario {
    /// Reads the input as far as it goes.
    fn new(data: &[u8]) -> Self {
        let mut choices = Unstructured::new(data);
        let mut scenario = Self {
            limits: Limits::default(),
            steps: Vec::new(),
            plans: vec![Plan::Now(0)],
            pieces: vec![1],
        };
        let _ = scenario.read(&mut choices);
        scenario
    }

    fn read(&mut self, choices: &mut Unstructured<'_>) -> Result<()> {
        self.limits = limits(choices)?;
        self.plans.clear();
        for _ in 0..choices.int_in_range(1..=6)? {
            self.plans.push(match choices.int_in_range(0..=3)? {
                0 => Plan::Now(choices.int_in_range(0..=600)?),
                1 => Plan::Now(0),
                _ => Plan::Later(milliseconds(choices, 50)?),
            });
        }
        self.pieces = match choices.int_in_range(0..=2)? {
            0 => vec![1],
            _ => vec![
                choices.int_in_range(1..=20)?,
                choices.int_in_range(1..=300)?,
            ],
        };
        let mut peer = Peer {
            max_frame_size: self.limits.max_frame_size,
            ..Peer::default()
        };
        // Nearly always; without it little happens.
        if !choices.ratio(1, 32)? {
            peer.hello(choices)?;
        }
        let result = self.steps(&mut peer, choices);
        self.flush(&mut peer);
        result
    }

    fn steps(&mut self, peer: &mut Peer, choices: &mut Unstructured<'_>) -> Result<()> {
        let mut sent = 0;
        while !choices.is_empty() && sent < MAX_STREAM_LEN {
            let step = match choices.int_in_range(0..=19)? {
                0..=1 => Step::Pass(milliseconds(choices, 40)?),
                2..=3 => Step::Answer(choices.int_in_range(0..=7)?),
                4 if choices.ratio(1, 8)? => Step::Disconnect(Status(choices.arbitrary()?)),
                kind => {
                    let before = peer.bytes.len();
                    peer.send(kind, choices)?;
                    sent += peer.bytes.len() - before.min(peer.bytes.len());
                    continue;
                }
            };
            self.flush(peer);
            self.steps.push(step);
        }
        Ok(())
    }

    fn flush(&mut self, peer: &mut Peer) {
        let bytes = std::mem::take(&mut peer.bytes);
        if !bytes.is_empty() {
            self.steps.push(Step::Bytes(bytes));
        }
    }
}

fn limits(choices: &mut Unstructured<'_>) -> Result<Limits> {
    Ok(Limits {
        max_frame_size: match choices.int_in_range(0..=7)? {
            0 => 65_532,
            1 => 1_048_572,
            2 => choices.int_in_range(16_370..=16_390)?,
            _ => choices.int_in_range(256..=700)?,
        },
        max_reassembly_len: choices.int_in_range(0..=1500)?,
        fragmentation: !choices.ratio(1, 8)?,
        max_in_flight: choices.int_in_range(1..=6)?,
        hello_timeout: milliseconds(choices, 100)?,
    })
}

fn milliseconds(choices: &mut Unstructured<'_>, max: u64) -> Result<Duration> {
    Ok(Duration::from_millis(choices.int_in_range(0..=max)?))
}

/// Makes the peer's bytes.
#[derive(Default)]
struct Peer {
    bytes: Vec<u8>,
    /// What it believes the frame size to be.
    max_frame_size: u32,
    /// Of the message in fragments, what was not sent yet.
    unsent: Vec<u8>,
    fragmented: (u64, u64),
}

impl Peer {
    fn hello(&mut self, choices: &mut Unstructured<'_>) -> Result<()> {
        let size = match choices.int_in_range(0..=4)? {
            0 => choices.int_in_range(250..=260)?,
            1 => choices.arbitrary()?,
            2 => MAX_HELLO_SIZE,
            _ => choices.int_in_range(256..=700)?,
        };
        let hello = HaproxyHello {
            supported_versions: if choices.ratio(1, 32)? {
                b"3.0"
            } else {
                b"1.0, 2.0"
            },
            max_frame_size: size,
            capabilities: b"pipelining,async",
            engine_id: choices.arbitrary::<bool>()?.then_some(b"an-engine"),
            healthcheck: choices.ratio(1, 16)?,
        };
        let mut out = [0; 256];
        let len = hello.encode(&mut out).expect("it fits");
        self.bytes.extend_from_slice(&out[..len]);
        self.max_frame_size = self.max_frame_size.min(size).max(256);
        Ok(())
    }

    fn send(&mut self, kind: u8, choices: &mut Unstructured<'_>) -> Result<()> {
        match kind {
            4 => self.hello(choices)?,
            5 => {
                let mut out = [0; 256];
                let disconnect = Disconnect::with_status(Status(choices.arbitrary()?));
                let len = disconnect.encode_haproxy(&mut out).expect("it fits");
                self.bytes.extend_from_slice(&out[..len]);
            }
            6 => {
                let len = choices.int_in_range(0..=40)?.min(choices.len());
                self.bytes.extend_from_slice(choices.bytes(len)?);
            }
            // What came before, damaged.
            7 => {
                let len = self.bytes.len();
                let at = choices.int_in_range(0..=30)?;
                if choices.arbitrary()? {
                    self.bytes.truncate(len.saturating_sub(at));
                } else if at < len {
                    self.bytes[len - 1 - at] ^= choices.arbitrary::<u8>()?;
                }
            }
            // Any frame.
            8 => {
                let (code, flags) = (choices.arbitrary()?, choices.int_in_range(0..=3)?);
                let ids = ids(choices)?;
                let len = choices.int_in_range(0..=20)?.min(choices.len());
                let payload = choices.bytes(len)?;
                self.frame(FrameType::from_code(code), flags, ids, payload);
            }
            // One about as large as may be, or more.
            9 if self.max_frame_size <= 700 => {
                let over = choices.int_in_range(0..=8)?;
                let payload = vec![0; (self.max_frame_size + over) as usize - 11];
                let code = choices.choose(&[FrameType::Notify, FrameType::Unset])?;
                self.frame(*code, choices.int_in_range(0..=3)?, ids(choices)?, &payload);
            }
            10..=11 => {
                self.unsent = payload(choices)?;
                self.fragmented = ids(choices)?;
                self.fragment(FrameType::Notify, 0, choices)?;
            }
            12..=13 => self.fragment(FrameType::Unset, 0, choices)?,
            14 => {
                let rest = std::mem::take(&mut self.unsent);
                self.frame(FrameType::Unset, 1, self.fragmented, &rest);
            }
            15 => {
                let flags = choices.int_in_range(2..=3)?;
                self.fragment(FrameType::Unset, flags, choices)?;
            }
            _ => {
                let (ids, payload) = (ids(choices)?, payload(choices)?);
                self.frame(FrameType::Notify, 1, ids, &payload);
            }
        }
        Ok(())
    }

    /// A part of the message in fragments.
    fn fragment(
        &mut self,
        frame_type: FrameType,
        flags: u32,
        choices: &mut Unstructured<'_>,
    ) -> Result<()> {
        let len = choices.int_in_range(0..=200)?.min(self.unsent.len());
        let rest = self.unsent.split_off(len);
        let fragment = std::mem::replace(&mut self.unsent, rest);
        self.frame(frame_type, flags, self.fragmented, &fragment);
        Ok(())
    }

    fn frame(&mut self, frame_type: FrameType, flags: u32, ids: (u64, u64), payload: &[u8]) {
        let start = self.bytes.len();
        self.bytes.resize(start + payload.len() + 29, 0);
        let frame = Frame {
            frame_type,
            flags: Flags(flags),
            stream_id: StreamId(ids.0),
            frame_id: FrameId(ids.1),
            payload,
        };
        let len = frame
            .encode(&mut self.bytes[start..])
            .expect("there is room");
        self.bytes.truncate(start + len);
    }
}

/// Mostly of a few, so that some are the same.
fn ids(choices: &mut Unstructured<'_>) -> Result<(u64, u64)> {
    Ok(match choices.int_in_range(0_u64..=7)? {
        7 => (id(choices)?, id(choices)?),
        few => (few / 3, few % 3),
    })
}

/// The payload of a NOTIFY, valid as it is.
fn payload(choices: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    let mut out = [0; 1000];
    let mut notify =
        NotifyWriter::begin(&mut out, 1000, StreamId(0), FrameId(0)).expect("there is room");
    for _ in 0..choices.int_in_range(0..=2)? {
        let mut arguments = Vec::new();
        for _ in 0..choices.int_in_range(0..=3)? {
            let name = b"name";
            arguments.push(ringspoa::spop::Argument {
                name,
                value: value(choices)?,
            });
        }
        // What does not fit is left out.
        let _ = notify.message("message", arguments);
    }
    let len = notify.finish();
    Ok(out[11..len].to_vec())
}

/// What came of a scenario.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    /// What the server wrote.
    output: Vec<u8>,
    /// Every valid NOTIFY, with a digest of what is in it.
    handled: Vec<(NotifyId, u64)>,
    state: State,
    /// Whether the server ended the connection, for a timeout or a drain, before the end.
    by_us: bool,
}

fn run(scenario: &Scenario, pieces: &[usize]) -> Outcome {
    let mut server = Server {
        connection: Connection::new(scenario.limits, Duration::ZERO),
        limits: scenario.limits,
        plans: &scenario.plans,
        now: Duration::ZERO,
        input: Vec::new(),
        held: 0,
        waiting: BTreeMap::new(),
        tickets: Vec::new(),
        serial: 0,
        outcome: Outcome {
            output: Vec::new(),
            handled: Vec::new(),
            state: State::AwaitingHello,
            by_us: false,
        },
    };
    for step in &scenario.steps {
        match step {
            Step::Bytes(bytes) => server.receive_in_pieces(bytes, pieces),
            Step::Pass(time) => server.pass(*time),
            Step::Answer(place) => server.answer(*place),
            Step::Disconnect(status) => server.disconnect(*status),
        }
    }
    server.end()
}

/// The server's side of a connection, as src/server/pump.rs has it.
struct Server<'s> {
    connection: Connection,
    limits: Limits,
    plans: &'s [Plan],
    now: Duration,
    /// Received and not used yet.
    input: Vec<u8>,
    /// Bytes of memory the connection holds.
    held: i64,
    /// The NOTIFYs that wait for a late answer, and until when.
    waiting: BTreeMap<u64, (NotifyId, Duration)>,
    /// Serials of what the agent has not sent yet, in time or not.
    tickets: Vec<u64>,
    serial: u64,
    outcome: Outcome,
}

impl Server<'_> {
    fn receive_in_pieces(&mut self, bytes: &[u8], pieces: &[usize]) {
        let (mut rest, mut pieces) = (bytes, pieces.iter().cycle());
        while !rest.is_empty() {
            let len = pieces.next().map_or(1, |len| (*len).min(rest.len()));
            let (piece, after) = rest.split_at(len);
            self.receive(piece);
            rest = after;
        }
    }

    fn receive(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
        self.pump();
    }

    /// Uses the input as far as it goes.
    fn pump(&mut self) {
        let mut input = std::mem::take(&mut self.input);
        let mut start = 0;
        while !self.connection.is_full() {
            let Some(used) = self.handle(&input[start..]) else {
                break;
            };
            assert!(used > 0, "the connection goes in circles");
            start += used;
            assert!(start <= input.len(), "used more than there is");
        }
        let state = self.connection.state();
        if !matches!(state, State::Running | State::AwaitingHello) {
            start = input.len();
        }
        input.drain(..start);
        assert!(
            self.connection.is_full() || input.len() < self.connection.min_input_len(),
            "more is wanted than there is room for"
        );
        self.input = input;
        if start > 0 {
            self.check();
        }
    }

    /// Has the connection take one frame, and answers it; `None` where there is none.
    fn handle(&mut self, input: &[u8]) -> Option<usize> {
        let before = held();
        let max_ack_size = self.connection.max_ack_size();
        let (used, event) = self.connection.handle_bytes(input);
        self.held += held() - before;
        match event {
            Event::NeedMore => {
                assert!(used == 0 || used == input.len());
                return None;
            }
            Event::Handled => self.flush_reply(),
            Event::Notify(id, messages) => match digest(messages) {
                Err(error) => {
                    let before = held();
                    self.connection.refuse(error);
                    self.held += held() - before;
                    self.closed();
                }
                Ok(digest) => {
                    let plan = self.plans[self.outcome.handled.len() % self.plans.len()];
                    self.outcome.handled.push((id, digest));
                    match plan {
                        Plan::Now(len) => self.ack(max_ack_size, id, len),
                        Plan::Later(time) => self.defer(id, time),
                    }
                }
            },
        }
        Some(used)
    }

    fn defer(&mut self, id: NotifyId, time: Duration) {
        let (serial, deadline) = (self.serial, self.now + time);
        let before = held();
        self.connection.defer(serial, id, deadline);
        self.held += held() - before;
        self.waiting.insert(serial, (id, deadline));
        self.tickets.push(serial);
        self.serial += 1;
    }

    /// An answer comes, in time or too late.
    fn answer(&mut self, place: usize) {
        if !self.tickets.is_empty() {
            let serial = self.tickets.remove(place % self.tickets.len());
            let before = held();
            let id = self.connection.take_deferred(serial);
            self.held += held() - before;
            let waited = self.waiting.remove(&serial).map(|(id, _)| id);
            assert_eq!(id, waited, "each NOTIFY is answered once");
            assert_eq!(self.connection.take_deferred(serial), None);
            if let Some(id) = id {
                self.ack(self.connection.max_ack_size(), id, 3);
            }
        }
        self.check();
        self.pump();
    }

    /// Time passes: what is due gets the fallback.
    fn pass(&mut self, time: Duration) {
        self.now += time;
        loop {
            let before = held();
            let id = self.connection.poll_expired(self.now);
            self.held += held() - before;
            let mut due = self.waiting.iter();
            let due = due.find(|(_, (_, deadline))| *deadline <= self.now);
            let due = due.map(|(serial, (id, _))| (*serial, *id));
            assert_eq!(id, due.map(|(_, id)| id), "what is due, and in this order");
            let Some((serial, id)) = due else {
                break;
            };
            self.waiting.remove(&serial);
            self.ack(self.connection.max_ack_size(), id, 0);
        }
        let awaits = self.connection.state() == State::AwaitingHello;
        let late = awaits && self.now >= self.limits.hello_timeout;
        assert_eq!(self.connection.hello_expired(self.now), late);
        if late {
            self.disconnect(Status::TIMEOUT);
        }
        self.check();
        self.pump();
    }

    fn disconnect(&mut self, status: Status) {
        let open = !matches!(self.connection.state(), State::Closing(_));
        self.outcome.by_us |= open;
        let before = held();
        self.connection.disconnect(status);
        self.held += held() - before;
        if open {
            let expected = State::Closing(CloseReason::ByUs(status));
            assert_eq!(self.connection.state(), expected);
        }
        self.closed();
        self.check();
    }

    /// Says goodbye; nothing waits any more.
    fn closed(&mut self) {
        self.flush_reply();
        assert!(matches!(self.connection.state(), State::Closing(_)));
    }

    fn flush_reply(&mut self) {
        let mut reply = [0; MAX_REPLY_LEN];
        let len = self.connection.poll_reply(&mut reply);
        self.outcome.output.extend_from_slice(&reply[..len]);
        let again = self.connection.poll_reply(&mut reply);
        assert_eq!(again, 0, "a reply is given once");
        if matches!(self.connection.state(), State::Closing(_)) {
            // What waits is dropped: there is no one to take it.
            self.waiting.clear();
        }
    }

    fn ack(&mut self, max_ack_size: u32, id: NotifyId, len: usize) {
        let mut out = [0; 1024];
        let mut ack = AckWriter::begin(&mut out, max_ack_size, id.stream_id, id.frame_id)
            .expect("a header fits the smallest frame");
        // What does not fit is left out.
        let _ = ack.set_var(ANSWER, &[b'x'; 600][..len]);
        let len = ack.finish();
        self.outcome.output.extend_from_slice(&out[..len]);
    }

    /// What holds at any time.
    fn check(&self) {
        let connection = &self.connection;
        assert_eq!(connection.in_flight(), self.waiting.len());
        assert!(connection.in_flight() <= self.limits.max_in_flight);
        let full = self.waiting.len() == self.limits.max_in_flight;
        assert_eq!(connection.is_full(), full);
        assert!(connection.max_frame_size() <= self.limits.max_frame_size);
        assert!(connection.max_ack_size() < connection.max_frame_size());
        assert!(!connection.is_quiet() || self.waiting.is_empty());
        // A vector holds up to twice what is in it; a node of the map has room for eleven.
        let payload = (2 * self.limits.max_reassembly_len).max(8);
        let most = i64::try_from(payload + 600 * (1 + self.limits.max_in_flight));
        assert!(
            self.held <= most.expect("limits are small"),
            "{} bytes",
            self.held
        );
        if matches!(connection.state(), State::Closing(_)) {
            // What waited for an answer is still to be counted as lost.
            let most = i64::try_from(600 * (1 + self.limits.max_in_flight));
            let most = most.expect("limits are small");
            assert!(self.held <= most, "{} bytes held to the end", self.held);
            assert!(connection.is_quiet());
        }
    }

    /// Lets all deadlines pass, then ends the connection if it is open.
    fn end(mut self) -> Outcome {
        while self.connection.in_flight() > 0 {
            self.pass(Duration::from_millis(50));
        }
        self.check();
        self.outcome.state = self.connection.state();
        let by_us = self.outcome.by_us;
        self.disconnect(Status::NORMAL);
        self.outcome.by_us = by_us;
        self.outcome
    }
}

/// A number that changes with every byte of every name and value.
fn digest(mut messages: Messages<'_>) -> std::result::Result<u64, DecodeError> {
    let mut digest = 0xcbf2_9ce4_8422_2325_u64;
    let mut mix = |bytes: &[u8]| {
        for byte in bytes {
            digest = (digest ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
        digest = (digest ^ bytes.len() as u64).wrapping_mul(0x0100_0000_01b3);
    };
    while let Some(mut message) = messages.next_message()? {
        mix(message.name());
        while let Some(argument) = message.next_argument()? {
            mix(argument.name);
            let value = argument.value;
            if let Some(bytes) = value.as_bytes() {
                mix(value.type_name().as_bytes());
                mix(bytes);
            } else {
                let mut out = [0; 32];
                let len = value.encode(&mut out).expect("it takes 17 bytes at most");
                mix(&out[..len]);
            }
        }
    }
    Ok(digest)
}

/// What is written is a HELLO, answers, and one goodbye, all of them valid and none too large.
fn check_output(scenario: &Scenario, outcome: &Outcome) {
    let mut max = scenario.limits.max_frame_size.min(MAX_HELLO_SIZE);
    let (mut rest, mut types) = (&outcome.output[..], Vec::new());
    let mut answered = BTreeMap::<NotifyId, usize>::new();
    while !rest.is_empty() {
        let (frame, used) = Frame::split(rest, max)
            .expect("what is written is valid and within the frame size")
            .expect("what is written is whole frames");
        rest = &rest[used..];
        types.push(frame.frame_type);
        match frame.frame_type {
            FrameType::AgentHello => {
                let hello = AgentHello::decode(&frame).expect("ours is valid");
                assert!(hello.max_frame_size <= scenario.limits.max_frame_size);
                assert!(!hello.has_capability("async"));
                let fragments = hello.has_capability("fragmentation");
                assert_eq!(fragments, scenario.limits.fragmentation);
                max = hello.max_frame_size;
            }
            FrameType::AgentDisconnect => {
                Disconnect::decode(&frame).expect("ours is valid");
                assert!(rest.is_empty(), "the goodbye is the last frame");
            }
            FrameType::Ack => {
                assert!(used - 4 < max as usize, "an ACK does not fill a frame");
                let actions = Actions::new(frame.payload).collect::<Vec<_>>();
                if frame.flags == Flags::FIN_ABORT {
                    assert!(actions.is_empty());
                    continue;
                }
                assert_eq!(frame.flags, Flags::FIN);
                let right = match actions[..] {
                    [] => true,
                    [Ok(Action::SetVar { name, value, .. })] => {
                        name == b"answer" && matches!(value, TypedData::Binary(_))
                    }
                    _ => false,
                };
                assert!(right, "not the agent's answer: {actions:?}");
                let stream_id = frame.stream_id;
                let frame_id = frame.frame_id;
                *answered
                    .entry(NotifyId {
                        stream_id,
                        frame_id,
                    })
                    .or_default() += 1;
            }
            other => panic!("{other} is not ours to send"),
        }
    }
    let count = |wanted| types.iter().filter(|one| **one == wanted).count();
    assert!(count(FrameType::AgentHello) <= 1);
    if count(FrameType::AgentHello) == 1 {
        assert_eq!(types[0], FrameType::AgentHello, "HELLO is the first frame");
    }
    // After a health check nothing may follow; all others end in a goodbye.
    if outcome.state == State::CheckAnswered {
        assert_eq!(types, [FrameType::AgentHello]);
    } else if types != [FrameType::AgentHello] {
        assert_eq!(count(FrameType::AgentDisconnect), 1);
    }
    let mut asked = BTreeMap::<NotifyId, usize>::new();
    for (id, _) in &outcome.handled {
        *asked.entry(*id).or_default() += 1;
    }
    if outcome.state == State::Running {
        assert_eq!(answered, asked, "each NOTIFY gets exactly one ACK");
    }
    for (id, count) in answered {
        assert!(
            asked.get(&id).is_some_and(|asked| count <= *asked),
            "{id:?}"
        );
    }
}

/// What the peer's bytes mean, by the letter of the spec, if all of them are read.
#[derive(Debug, Default)]
struct Reading {
    /// The valid NOTIFYs before the end.
    notifies: Vec<(NotifyId, u64)>,
    /// Those given up because they are too long.
    aborted: Vec<NotifyId>,
    /// The frame size that was agreed on.
    agreed: Option<u32>,
    is_check: bool,
    /// The status of the goodbye, if the peer has it coming.
    end: Option<Status>,
}

/// The fragmented frame under way.
struct Fragments {
    id: NotifyId,
    payload: Vec<u8>,
    /// Whether it was given up.
    dropped: bool,
}

impl Reading {
    fn new(limits: Limits, mut rest: &[u8]) -> Self {
        let mut reading = Self::default();
        let mut fragments = None;
        while reading.end.is_none() && !reading.is_check {
            let max = reading.agreed.unwrap_or(MAX_HELLO_SIZE);
            let max = max.min(limits.max_frame_size) as usize;
            let Some((prefix, after)) = rest.split_first_chunk::<4>() else {
                break;
            };
            let len = u32::from_be_bytes(*prefix) as usize;
            if len > max {
                reading.end = Some(Status::TOO_BIG);
                break;
            }
            if len < 7 {
                reading.end = Some(Status::INVALID);
                break;
            }
            let Some((body, after)) = after.split_at_checked(len) else {
                break;
            };
            rest = after;
            reading.end = reading.frame(limits, body, &mut fragments).err();
        }
        reading
    }

    fn frame(
        &mut self,
        limits: Limits,
        body: &[u8],
        fragments: &mut Option<Fragments>,
    ) -> std::result::Result<(), Status> {
        let (code, flags) = (body[0], body[4]);
        let (stream_id, used) = decode_varint(&body[5..]).map_err(|_| Status::INVALID)?;
        let after = &body[5 + used..];
        let (frame_id, used) = decode_varint(after).map_err(|_| Status::INVALID)?;
        let payload = &after[used..];
        let id = NotifyId {
            stream_id: StreamId(stream_id),
            frame_id: FrameId(frame_id),
        };
        if self.agreed.is_none() {
            return self.hello(limits, body);
        }
        let (is_last, is_abort) = (flags & 1 != 0, flags & 2 != 0);
        match code {
            0 | 3 if !limits.fragmentation && (code == 0 || !is_last) => {
                Err(Status::NO_FRAGMENTATION)
            }
            3 => match fragments {
                Some(fragments) if !is_last || fragments.id == id => Err(Status::INTERLACED),
                _ if is_last => self.notify(id, payload),
                _ => {
                    let mut begun = Fragments {
                        id,
                        payload: Vec::new(),
                        dropped: false,
                    };
                    append(limits, &mut begun, payload);
                    *fragments = Some(begun);
                    Ok(())
                }
            },
            0 => {
                let Some(mut current) = fragments.take().filter(|current| current.id == id) else {
                    return Err(Status::UNKNOWN_FRAME_ID);
                };
                if is_abort {
                    return Ok(());
                }
                append(limits, &mut current, payload);
                if !is_last {
                    *fragments = Some(current);
                    return Ok(());
                }
                if current.dropped {
                    self.aborted.push(id);
                    return Ok(());
                }
                self.notify(id, &current.payload)
            }
            2 => Err(Status::NORMAL),
            1 | 101..=103 => Err(Status::INVALID),
            _ => Ok(()),
        }
    }

    fn hello(&mut self, limits: Limits, body: &[u8]) -> std::result::Result<(), Status> {
        if body[0] != 1 {
            return Err(Status::INVALID);
        }
        let mut whole = u32::try_from(body.len())
            .unwrap_or(0)
            .to_be_bytes()
            .to_vec();
        whole.extend_from_slice(body);
        let (frame, _) = Frame::split(&whole, u32::MAX)?.expect("it is whole");
        let hello = HaproxyHello::decode(&frame)?;
        if !hello.supports_version_2() {
            return Err(Status::BAD_VERSION);
        }
        self.agreed = Some(hello.max_frame_size.min(limits.max_frame_size));
        self.is_check = hello.healthcheck;
        Ok(())
    }

    fn notify(&mut self, id: NotifyId, payload: &[u8]) -> std::result::Result<(), Status> {
        self.notifies.push((id, digest(Messages::new(payload))?));
        Ok(())
    }
}

fn append(limits: Limits, fragments: &mut Fragments, payload: &[u8]) {
    fragments.payload.extend_from_slice(payload);
    fragments.dropped |= fragments.payload.len() > limits.max_reassembly_len;
}

fn check_reading(scenario: &Scenario, outcome: &Outcome) {
    let stream: Vec<u8> = scenario
        .steps
        .iter()
        .filter_map(|step| match step {
            Step::Bytes(bytes) => Some(&bytes[..]),
            _ => None,
        })
        .flatten()
        .copied()
        .collect();
    let reading = Reading::new(scenario.limits, &stream);
    let (mut rest, mut aborted, mut end, mut agreed) =
        (&outcome.output[..], Vec::new(), None, None);
    while let Ok(Some((frame, used))) = Frame::split(rest, u32::MAX) {
        rest = &rest[used..];
        let (stream_id, frame_id) = (frame.stream_id, frame.frame_id);
        match frame.frame_type {
            FrameType::Ack if frame.flags.is_abort() => {
                aborted.push(NotifyId {
                    stream_id,
                    frame_id,
                });
            }
            FrameType::AgentDisconnect => {
                end = Disconnect::decode(&frame).ok().map(|one| one.status);
            }
            FrameType::AgentHello => {
                agreed = AgentHello::decode(&frame)
                    .ok()
                    .map(|one| one.max_frame_size);
            }
            _ => {}
        }
    }
    if outcome.by_us {
        // The end came between: what was done until then is how the peer's bytes begin.
        assert!(reading.notifies.starts_with(&outcome.handled));
        assert!(reading.aborted.starts_with(&aborted));
        return;
    }
    assert_eq!(outcome.handled, reading.notifies);
    assert_eq!((aborted, agreed), (reading.aborted, reading.agreed));
    let is_check = outcome.state == State::CheckAnswered;
    assert_eq!(is_check, reading.is_check);
    // Without an end of the peer's making the scenario ends it.
    let goodbye = (!is_check).then(|| reading.end.unwrap_or(Status::NORMAL));
    assert_eq!(end, goodbye);
}
