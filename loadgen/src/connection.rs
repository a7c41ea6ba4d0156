//! One connection, sans-IO: received bytes and a time in; latencies, violations and faults out.
//!
//! It knows the protocol from HAProxy's side and refuses to know sockets and clocks.

use ringspoa::spop::{Action, Actions, AgentHello, Disconnect, Frame, FrameType, HaproxyHello};

use crate::errors::{ErrorKind, Errors, Fault};
use crate::expect::{Expectation, Found};
use crate::latency::Recorder;
use crate::plan::Plan;
use crate::slots::{Flight, Slots, Unmatched};

/// One connection's state after the socket is open.
#[derive(Debug)]
pub(crate) struct Session {
    slots: Slots,
    running: bool,
    /// NOTIFYs it may have in flight: 1 if the agent does not pipeline, as HAProxy has it.
    limit: usize,
    /// Offered, then negotiated.
    max_frame_size: u32,
    /// The longest NOTIFY of the profile.
    max_notify_len: usize,
}

impl Session {
    /// A connection before HELLO.
    pub(crate) fn new(plan: &Plan) -> Self {
        Self {
            slots: Slots::new(plan.in_flight),
            running: false,
            limit: plan.in_flight,
            max_frame_size: plan.max_frame_size,
            max_notify_len: plan.profile.max_frame_len(),
        }
    }

    /// Appends the HAPROXY-HELLO.
    pub(crate) fn hello(&self, engine_id: &str, out: &mut Vec<u8>) {
        let hello = HaproxyHello {
            supported_versions: b"2.0",
            max_frame_size: self.max_frame_size,
            capabilities: b"pipelining",
            engine_id: Some(engine_id.as_bytes()),
            healthcheck: false,
        };
        append(out, |room| hello.encode(room));
    }

    /// Whether HELLO is done.
    #[inline]
    pub(crate) fn is_running(&self) -> bool {
        self.running
    }

    /// NOTIFYs this connection may have in flight.
    #[inline]
    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    /// NOTIFYs in flight.
    #[inline]
    pub(crate) fn in_flight(&self) -> usize {
        self.slots.in_flight()
    }

    /// Whether another NOTIFY may be sent.
    #[inline]
    pub(crate) fn can_send(&self) -> bool {
        self.running && self.slots.in_flight() < self.limit
    }

    /// The stream-id of a NOTIFY about to be sent.
    #[inline]
    pub(crate) fn open(&mut self, flight: Flight) -> u32 {
        self.slots.open(flight)
    }

    /// Takes received bytes and returns how many were whole frames; the rest is to be given again
    /// with more behind it.
    ///
    /// # Errors
    ///
    /// The fault that ends the connection.
    #[inline]
    pub(crate) fn handle_input(
        &mut self,
        input: &[u8],
        received_ns: u64,
        expectations: &[Expectation],
        recorder: &mut Recorder,
    ) -> Result<usize, Fault> {
        let mut consumed = 0;
        loop {
            let (frame, used) = match Frame::split(&input[consumed..], self.max_frame_size) {
                Ok(Some(split)) => split,
                Ok(None) => return Ok(consumed),
                Err(error) if self.running => {
                    return Err(Fault::new(
                        ErrorKind::BadFrame,
                        format!("bad frame: {error}"),
                    ));
                }
                Err(error) => {
                    let text = format!("no AGENT-HELLO, is this a SPOA? {error}");
                    return Err(Fault::new(ErrorKind::Handshake, text));
                }
            };
            consumed += used;
            if self.running && frame.frame_type == FrameType::Ack {
                self.handle_ack(&frame, received_ns, expectations, recorder);
            } else {
                self.handle_other(&frame, recorder)?;
            }
        }
    }

    #[inline]
    fn handle_ack(
        &mut self,
        frame: &Frame<'_>,
        received_ns: u64,
        expectations: &[Expectation],
        recorder: &mut Recorder,
    ) {
        match self.slots.close(frame.stream_id.0, frame.frame_id.0) {
            Ok(flight) => recorder.answered(flight, received_ns),
            Err(unmatched) => {
                let (kind, what) = match unmatched {
                    Unmatched::Unknown => (ErrorKind::UnknownId, "was never sent"),
                    Unmatched::Duplicate => (ErrorKind::Duplicate, "was answered before"),
                };
                let (stream_id, frame_id) = (frame.stream_id, frame.frame_id);
                recorder.errors.add(kind, || {
                    format!("ACK of stream-id {stream_id}, frame-id {frame_id}, which {what}")
                });
            }
        }
        if !frame.flags.is_fin() {
            let text = || "ACK without FIN, which HAProxy takes from no agent".to_owned();
            recorder.errors.add(ErrorKind::UnexpectedFrame, text);
        }
        let mut found = Found::default();
        for action in Actions::new(frame.payload) {
            match action {
                Ok(action) if !expectations.is_empty() => found.see(expectations, &action),
                Ok(_) => {}
                Err(error) => {
                    let text = || format!("actions of an ACK: {error}");
                    recorder.errors.add(ErrorKind::BadActions, text);
                }
            }
        }
        if let Some(missing) = found.first_missing(expectations) {
            let text = || unmet(missing, frame);
            recorder.errors.add(ErrorKind::UnexpectedValue, text);
        }
    }

    #[cold]
    fn handle_other(&mut self, frame: &Frame<'_>, recorder: &mut Recorder) -> Result<(), Fault> {
        if frame.frame_type == FrameType::AgentDisconnect {
            let (kind, when) = if self.running {
                (ErrorKind::Disconnect, "")
            } else {
                (ErrorKind::Handshake, " in answer to HELLO")
            };
            let text = match Disconnect::decode(frame) {
                Ok(Disconnect { status, reason }) => format!(
                    "AGENT-DISCONNECT{when}, status {status}: \"{}\"",
                    reason.escape_ascii()
                ),
                Err(error) => format!("AGENT-DISCONNECT{when}, unparseable: {error}"),
            };
            return Err(Fault::new(kind, text));
        }
        if self.running {
            let text = || format!("unexpected {} frame", frame.frame_type);
            recorder.errors.add(ErrorKind::UnexpectedFrame, text);
            return Ok(());
        }
        self.handle_hello(frame)
            .map_err(|text| Fault::new(ErrorKind::Handshake, text))
    }

    fn handle_hello(&mut self, frame: &Frame<'_>) -> Result<(), String> {
        let hello = AgentHello::decode(frame).map_err(|error| format!("AGENT-HELLO: {error}"))?;
        if hello.version.trim_ascii() != b"2.0" {
            return Err(format!(
                "AGENT-HELLO: version \"{}\" is not 2.0",
                hello.version.escape_ascii()
            ));
        }
        if hello.max_frame_size > self.max_frame_size {
            return Err(format!(
                "AGENT-HELLO: max-frame-size {} exceeds the {} offered",
                hello.max_frame_size, self.max_frame_size
            ));
        }
        if self.max_notify_len > hello.max_frame_size as usize {
            return Err(format!(
                "the profile's NOTIFYs take up to {} bytes, and the agent's max-frame-size is {}: \
                 use a smaller --profile",
                self.max_notify_len, hello.max_frame_size
            ));
        }
        self.max_frame_size = hello.max_frame_size;
        if !hello.has_capability("pipelining") {
            self.limit = 1;
        }
        self.running = true;
        Ok(())
    }
}

/// What a connection counts of an agent's bytes that come in these pieces: ACKs, NOTIFYs left in flight,
/// errors, and the fault that ended it. As many NOTIFYs as it may have are in flight after each piece.
/// For tests from outside.
#[doc(hidden)]
#[must_use]
pub fn replay(plan: &Plan, pieces: &[&[u8]]) -> (u64, usize, Errors, Option<String>) {
    let (mut session, mut recorder) = (Session::new(plan), Recorder::new(false));
    recorder.counting = true;
    let (mut input, mut fault) = (Vec::new(), None);
    for piece in pieces {
        input.extend_from_slice(piece);
        match session.handle_input(&input, 1, &plan.expectations, &mut recorder) {
            Ok(consumed) => drop(input.drain(..consumed)),
            Err(error) => {
                fault = Some(error.text);
                break;
            }
        }
        while session.can_send() {
            session.open(Flight::default());
        }
    }
    let frames = recorder.interval.frames;
    (frames, session.in_flight(), recorder.errors, fault)
}

fn unmet(missing: &Expectation, frame: &Frame<'_>) -> String {
    let mut text = format!("expected {missing}, got");
    for action in Actions::new(frame.payload).flatten() {
        match action {
            Action::SetVar { scope, name, value } => {
                text.push_str(&format!(" {scope}.{}={value}", name.escape_ascii()));
            }
            Action::UnsetVar { scope, name } => {
                text.push_str(&format!(" unset {scope}.{}", name.escape_ascii()));
            }
        }
    }
    if frame.payload.is_empty() {
        text.push_str(" no actions");
    }
    text
}

/// Appends a control frame, which is short.
pub(crate) fn append<E: std::fmt::Debug>(
    out: &mut Vec<u8>,
    encode: impl FnOnce(&mut [u8]) -> Result<usize, E>,
) {
    let start = out.len();
    out.resize(start + 512, 0);
    let len = encode(&mut out[start..]).expect("control frames are below 512 bytes");
    out.truncate(start + len);
}

#[cfg(test)]
mod tests {
    use ringspoa::spop::{AckWriter, FrameId, Scope, StreamId, Variable};

    use super::*;
    use crate::profile::Profile;

    const SCORE: Variable<'static> = Variable::literal(Scope::Transaction, "score");

    fn agent_hello(max_frame_size: u32, capabilities: &str) -> Vec<u8> {
        let hello = AgentHello {
            version: b"2.0",
            max_frame_size,
            capabilities: capabilities.as_bytes(),
        };
        let mut out = Vec::new();
        append(&mut out, |room| hello.encode(room));
        out
    }

    fn ack(stream_id: u64, score: i64) -> Vec<u8> {
        let mut out = vec![0; 64];
        let mut ack = AckWriter::begin(&mut out, 16_380, StreamId(stream_id), FrameId(1)).unwrap();
        ack.set_var(SCORE, score).unwrap();
        let len = ack.finish();
        out.truncate(len);
        out
    }

    fn session() -> Session {
        let target = "127.0.0.1:1".parse().unwrap();
        Session::new(&Plan::new(target, Profile::ip(None, None)))
    }

    fn feed(session: &mut Session, recorder: &mut Recorder, bytes: &[u8]) -> Result<usize, Fault> {
        session.handle_input(bytes, 1_000, &["score=7".parse().unwrap()], recorder)
    }

    fn running() -> (Session, Recorder) {
        let (mut session, mut recorder) = (session(), Recorder::new(false));
        recorder.counting = true;
        let hello = agent_hello(16_380, "pipelining");
        assert_eq!(feed(&mut session, &mut recorder, &hello), Ok(hello.len()));
        assert!(session.is_running() && session.can_send());
        (session, recorder)
    }

    #[test]
    fn acks_cut_at_every_byte_are_the_same_acks() {
        let bytes = [ack(3, 7), ack(1, 7)].concat();
        for cut in 0..=bytes.len() {
            let (mut session, mut recorder) = running();
            session.open(Flight::default());
            session.open(Flight::default());
            let used = feed(&mut session, &mut recorder, &bytes[..cut]).unwrap();
            assert!(used <= cut);
            let rest = feed(&mut session, &mut recorder, &bytes[used..]).unwrap();
            assert_eq!(used + rest, bytes.len());
            assert_eq!((session.in_flight(), recorder.interval.frames), (0, 2));
            assert_eq!(recorder.errors.total(), 0);
        }
    }

    #[test]
    fn violations_are_counted_by_kind() {
        let (mut session, mut recorder) = running();
        for _ in 0..3 {
            session.open(Flight::default());
        }
        let mut broken = ack(5, 7);
        let scope = broken.len() - 9;
        broken[scope] = 9;
        let unknown_type = b"\0\0\0\x07\xc8\0\0\0\x01\x01\x01";
        let input = [
            ack(1, 7),
            ack(1, 7),
            ack(9, 7),
            ack(3, 8),
            broken,
            unknown_type.to_vec(),
        ];
        feed(&mut session, &mut recorder, &input.concat()).unwrap();
        let counted = |kind| recorder.errors.count(kind);
        assert_eq!(counted(ErrorKind::Duplicate), 1);
        assert_eq!(counted(ErrorKind::UnknownId), 1);
        assert_eq!(counted(ErrorKind::BadActions), 1);
        assert_eq!(counted(ErrorKind::UnexpectedFrame), 1);
        // The wrong value, and the ACK whose value could not be read.
        assert_eq!(counted(ErrorKind::UnexpectedValue), 2);
        assert_eq!(recorder.interval.frames, 3);
        let example = &recorder.errors.examples()["unexpected_value"];
        assert_eq!(example, "expected score=7, got txn.score=8");
    }

    #[test]
    fn an_agent_without_pipelining_gets_one_at_a_time() {
        let (mut session, mut recorder) = (session(), Recorder::new(false));
        feed(&mut session, &mut recorder, &agent_hello(16_380, "")).unwrap();
        assert_eq!(session.limit(), 1);
    }

    #[test]
    fn faults_say_what_the_agent_did() {
        let fault =
            |bytes: &[u8]| feed(&mut session(), &mut Recorder::new(false), bytes).unwrap_err();
        let large = fault(&agent_hello(16_381, "pipelining"));
        assert_eq!(
            large.text,
            "AGENT-HELLO: max-frame-size 16381 exceeds the 16380 offered"
        );
        assert!(
            fault(b"HTTP/1.1 400 Bad Request")
                .text
                .starts_with("no AGENT-HELLO")
        );
        let mut bye = Vec::new();
        let disconnect = Disconnect::with_status(ringspoa::spop::Status(8));
        append(&mut bye, |room| disconnect.encode_agent(room));
        let refused = fault(&bye);
        assert_eq!(refused.kind, ErrorKind::Handshake);
        let (mut session, mut recorder) = running();
        let left = feed(&mut session, &mut recorder, &bye).unwrap_err();
        assert_eq!(left.kind, ErrorKind::Disconnect);
        let wanted = "AGENT-DISCONNECT, status 8 (unsupported version): \"unsupported version\"";
        assert_eq!(left.text, wanted);
        let bad = feed(&mut session, &mut recorder, &[0xff; 4]).unwrap_err();
        assert_eq!(bad.kind, ErrorKind::BadFrame);
    }
}
