//! An agent of threads that block, which does everything right, or one thing wrong.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use ringspoa::spop::{
    AckWriter, AgentHello, DecodeError, Disconnect, Frame, FrameId, FrameType, Messages, Scope,
    Status, StreamId, TypedData, Variable, encode_varint,
};
use ringspoa_loadgen::Target;

use crate::faults::Fault;

/// The largest frame it takes, and the largest message put together from fragments.
const MAX_FRAME_SIZE: u32 = 131_068;
const MAX_REASSEMBLY_LEN: usize = 65_536;

const SCORE: Variable<'static> = Variable::literal(Scope::Transaction, "score");
const LISTED: Variable<'static> = Variable::literal(Scope::Session, "listed");
const REMEDIATION: Variable<'static> = Variable::literal(Scope::Transaction, "remediation");

/// An agent in this process.
pub(crate) struct Agent {
    pub(crate) fault: Fault,
    pub(crate) target: Target,
    /// Set when the whole agent is to be gone, as a process that crashed.
    dead: AtomicBool,
    open: AtomicUsize,
    sockets: Mutex<Vec<TcpStream>>,
    /// Of a faulty agent: who sent a stream-id last, on whatever connection.
    senders: Mutex<BTreeMap<u64, TcpStream>>,
    /// Of a faulty agent: held by whoever writes.
    writing: Mutex<()>,
}

/// Starts an agent on a port of its own. Its threads end with their connections.
pub(crate) fn start(fault: Fault) -> &'static Agent {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let agent: &'static Agent = Box::leak(Box::new(Agent {
        fault,
        target: Target::Tcp(listener.local_addr().unwrap()),
        dead: AtomicBool::new(false),
        open: AtomicUsize::new(0),
        sockets: Mutex::default(),
        senders: Mutex::default(),
        writing: Mutex::default(),
    }));
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            if agent.dead.load(Ordering::SeqCst) {
                return;
            }
            let Ok(socket) = socket else { return };
            let _ = socket.set_nodelay(true);
            if fault == Fault::OneConnectionAtATime {
                agent.serve(socket);
            } else {
                std::thread::spawn(move || agent.serve(socket));
            }
        }
    });
    agent
}

/// What becomes of a connection after a frame.
enum Next {
    GoOn,
    Close,
    /// Reads on and says nothing any more.
    Hang,
}

/// One connection.
struct Session {
    /// Agreed on in HELLO; none before.
    max_frame_size: Option<u32>,
    is_check: bool,
    partial: Option<(StreamId, FrameId, Vec<u8>, bool)>,
    notifies: u64,
    output: Vec<u8>,
}

impl Agent {
    fn is(&self, fault: Fault) -> bool {
        self.fault == fault
    }

    fn serve(&self, socket: TcpStream) {
        self.open.fetch_add(1, Ordering::SeqCst);
        if let Ok(clone) = socket.try_clone() {
            let mut sockets = self.sockets.lock().unwrap_or_else(PoisonError::into_inner);
            sockets.push(clone);
        }
        let hung = self.talk(&socket);
        if hung || self.is(Fault::KeepsHalfClosed) {
            // As one that waits for a lock nobody frees.
            let mut socket = &socket;
            while matches!(socket.read(&mut [0; 4096]), Ok(len) if len > 0) {}
            std::thread::sleep(Duration::from_secs(5));
        }
        let _ = socket.shutdown(Shutdown::Both);
        self.open.fetch_sub(1, Ordering::SeqCst);
    }

    /// The whole agent goes away, as a process that crashes.
    fn die(&self) {
        self.dead.store(true, Ordering::SeqCst);
        let sockets = self.sockets.lock().unwrap_or_else(PoisonError::into_inner);
        for socket in &*sockets {
            let _ = socket.shutdown(Shutdown::Both);
        }
        if let Target::Tcp(address) = self.target {
            // Wakes the accept, which closes the listener.
            let _ = TcpStream::connect(address);
        }
    }

    /// Says whether the connection hangs now.
    fn talk(&self, mut socket: &TcpStream) -> bool {
        if self.is(Fault::GreetsOnlyFew) && self.open.load(Ordering::SeqCst) > 30 {
            return false;
        }
        let mut session = Session {
            max_frame_size: None,
            is_check: false,
            partial: None,
            notifies: 0,
            output: Vec::new(),
        };
        let (mut input, mut buffer) = (Vec::new(), vec![0; 65_536]);
        let mut held_back = Vec::new();
        loop {
            let len = match socket.read(&mut buffer) {
                Ok(0) => return false,
                Ok(len) => len,
                Err(_) => {
                    if self.is(Fault::DiesOfReset) {
                        self.die();
                    }
                    return false;
                }
            };
            if self.is(Fault::WantsWholeFrames) {
                input.clear();
            }
            input.extend_from_slice(&buffer[..len]);
            let next = self.take(&mut input, &mut session, socket);
            let mut output = std::mem::take(&mut session.output);
            if self.is(Fault::WaitsForMoreInput) && session.notifies > 0 {
                std::mem::swap(&mut output, &mut held_back);
            }
            if self.write(socket, &output).is_err() {
                return false;
            }
            match next {
                Next::GoOn => {}
                Next::Close => return false,
                Next::Hang => return true,
            }
        }
    }

    fn write(&self, mut socket: &TcpStream, output: &[u8]) -> std::io::Result<()> {
        let _guard = self
            .is(Fault::OneWriterForAll)
            .then(|| self.writing.lock().unwrap_or_else(PoisonError::into_inner));
        socket.write_all(output)
    }

    /// Takes the frames off the input.
    fn take(&self, input: &mut Vec<u8>, session: &mut Session, socket: &TcpStream) -> Next {
        let mut batch: BTreeMap<u64, (FrameId, Vec<u8>)> = BTreeMap::new();
        let (mut consumed, mut next, mut count) = (0, Next::GoOn, 0);
        loop {
            let limit = match session.max_frame_size {
                _ if self.is(Fault::HangsOnHugeLength) => u32::MAX,
                None => 16_380,
                // What HAProxy offered may be sent, though less was agreed on.
                Some(_) => MAX_FRAME_SIZE,
            };
            match Frame::split(&input[consumed..], limit) {
                Ok(None) => break,
                Ok(Some((frame, used))) => {
                    consumed += used;
                    count += 1;
                    if self.is(Fault::LosesFramesBeyond32) && count > 32 {
                        continue;
                    }
                    if self.is(Fault::OneAckPerStream) && frame.frame_type == FrameType::Notify {
                        let last = (frame.frame_id, frame.payload.to_vec());
                        batch.insert(frame.stream_id.0, last);
                        continue;
                    }
                    next = match self.handle(&frame, session, socket) {
                        Ok(next) => next,
                        Err(error) => self.refuse(error, session),
                    };
                    if !matches!(next, Next::GoOn) {
                        break;
                    }
                    if self.is(Fault::OneFramePerRead) && session.notifies > 0 {
                        consumed = input.len();
                        break;
                    }
                }
                Err(error) => {
                    next = self.refuse(error, session);
                    break;
                }
            }
        }
        for (stream_id, (frame_id, payload)) in batch {
            let _ = self.notify(StreamId(stream_id), frame_id, &payload, session, socket);
        }
        input.drain(..consumed.min(input.len()));
        next
    }

    fn refuse(&self, error: DecodeError, session: &mut Session) -> Next {
        match self.fault {
            Fault::DiesOfGarbage => {
                self.die();
                Next::Close
            }
            Fault::HangsOnGarbage => Next::Hang,
            Fault::AnswersGarbageWithGarbage => {
                session
                    .output
                    .extend_from_slice(b"HTTP/1.1 400 Bad Request\r\n\r\n");
                Next::Close
            }
            Fault::HangsOnLies if session.max_frame_size.is_some() => Next::Hang,
            Fault::HangsOnMissingKeys if matches!(error, DecodeError::MissingField(_)) => {
                Next::Hang
            }
            Fault::HangsOnFlags if error == DecodeError::NotFinal => Next::Hang,
            _ => self.goodbye(Status::from(error), session),
        }
    }

    fn goodbye(&self, status: Status, session: &mut Session) -> Next {
        let mut room = [0; 512];
        let len = Disconnect::with_status(status)
            .encode_agent(&mut room)
            .unwrap();
        let mut bytes = room[..len].to_vec();
        match self.fault {
            Fault::LongReason => {
                bytes = control(
                    102,
                    &[("status-code", b"\x03\x00"), ("message", b"\x08\xf0\x02")],
                );
                bytes.extend_from_slice(&[b'x'; 272]);
                let len = u32::try_from(bytes.len() - 4).unwrap();
                bytes[..4].copy_from_slice(&len.to_be_bytes());
            }
            Fault::NoReason => bytes = control(102, &[("status-code", b"\x03\x00")]),
            _ => {}
        }
        session.output.extend_from_slice(&bytes);
        Next::Close
    }

    fn handle(
        &self,
        frame: &Frame<'_>,
        session: &mut Session,
        socket: &TcpStream,
    ) -> Result<Next, DecodeError> {
        if session.is_check {
            return Ok(Next::GoOn);
        }
        let Some(_) = session.max_frame_size else {
            return self.first(frame, session, socket);
        };
        Ok(match frame.frame_type {
            FrameType::Notify if frame.flags.is_fin() => {
                if session.partial.is_some() && self.fault != Fault::AcksStrayFragments {
                    // Others may be answered between fragments, but not of the same ids.
                    let (stream_id, frame_id, ..) = session.partial.as_ref().unwrap();
                    if (frame.stream_id, frame.frame_id) == (*stream_id, *frame_id) {
                        return Ok(self.goodbye(Status::INTERLACED, session));
                    }
                }
                self.notify(
                    frame.stream_id,
                    frame.frame_id,
                    frame.payload,
                    session,
                    socket,
                )?
            }
            FrameType::Notify | FrameType::Unset => self.fragment(frame, session, socket)?,
            FrameType::HaproxyDisconnect => match self.fault {
                Fault::IgnoresDisconnect => Next::GoOn,
                Fault::AcksAfterDisconnect if session.notifies > 0 => {
                    let next = self.goodbye(Status::NORMAL, session);
                    self.ack((StreamId(1), FrameId(1)), b"", session);
                    next
                }
                _ => self.goodbye(Status::NORMAL, session),
            },
            FrameType::HaproxyHello if self.is(Fault::HangsOnSecondHello) => Next::Hang,
            FrameType::HaproxyHello => self.goodbye(Status::INVALID, session),
            FrameType::Unknown(_) if self.is(Fault::AcksUnknownTypes) => {
                self.ack((frame.stream_id, frame.frame_id), b"", session);
                Next::GoOn
            }
            FrameType::Unknown(_) => Next::GoOn,
            _ => self.goodbye(Status::INVALID, session),
        })
    }

    /// The frame that must be HELLO.
    fn first(
        &self,
        frame: &Frame<'_>,
        session: &mut Session,
        mut socket: &TcpStream,
    ) -> Result<Next, DecodeError> {
        if frame.frame_type != FrameType::HaproxyHello {
            if self.is(Fault::AcksBeforeHello) {
                self.ack((frame.stream_id, frame.frame_id), b"", session);
            }
            return Ok(self.goodbye(Status::INVALID, session));
        }
        // Faulty agents take less, or more, than the decoder does.
        let mut hello = match ringspoa::spop::HaproxyHello::decode(frame) {
            Err(DecodeError::BadMaxFrameSize(255)) if self.is(Fault::AcceptsSize255) => {
                session.max_frame_size = Some(255);
                session.output.extend(agent_hello("2.0", 255, "pipelining"));
                return Ok(Next::GoOn);
            }
            hello => hello?,
        };
        let contains = |bytes: &[u8]| {
            let mut windows = frame.payload.windows(bytes.len());
            windows.any(|window| window == bytes)
        };
        let refused = match self.fault {
            Fault::RefusesNoCapabilities => hello.capabilities.is_empty() && !hello.healthcheck,
            Fault::WantsEngineId => hello.engine_id.is_none() && !hello.healthcheck,
            Fault::WantsKnownKeys => contains(b"\x02x1"),
            Fault::ComparesVersionList => hello.supported_versions != b"2.0",
            Fault::RefusesLargeFrames => hello.max_frame_size > 65_536,
            Fault::WantsUint32 => !contains(b"max-frame-size\x03"),
            Fault::RefusesChecks => hello.healthcheck,
            _ => false,
        };
        if refused {
            return Ok(self.goodbye(Status::INVALID, session));
        }
        if !hello.supports_version_2() && self.fault != Fault::AcceptsVersion1 {
            return Ok(self.goodbye(Status::BAD_VERSION, session));
        }
        if self.is(Fault::FixedFrameSize) {
            hello.max_frame_size = 16_380;
        }
        let agreed = hello.max_frame_size.min(MAX_FRAME_SIZE);
        session.max_frame_size = Some(agreed);
        session.is_check = hello.healthcheck;
        let offers_async = hello.has_capability("async");
        let capabilities = match self.fault {
            Fault::AnnouncesAsync if offers_async => "pipelining,async",
            Fault::HangsOnUnannouncedFragments => "pipelining",
            _ => "pipelining,fragmentation",
        };
        let (version, size) = match self.fault {
            Fault::Version21 => ("2.1", agreed),
            Fault::SizeAboveOffer => ("2.0", agreed + 4),
            Fault::SizeTooSmall => ("2.0", 128),
            _ => ("2.0", agreed),
        };
        let mut reply = agent_hello(version, size, capabilities);
        match self.fault {
            Fault::HelloWithoutFin => reply[8] = 0,
            Fault::HelloWithIds => reply[9] = 1,
            Fault::CheckWithOtherFlags if hello.healthcheck => reply[8] = 3,
            Fault::NoCapabilities => {
                reply = control(
                    101,
                    &[
                        ("version", b"\x08\x032.0"),
                        ("max-frame-size", b"\x03\xfc\xf0\x06"),
                    ],
                );
            }
            Fault::NoFrameSize => {
                reply = control(
                    101,
                    &[("version", b"\x08\x032.0"), ("capabilities", b"\x08\x00")],
                );
            }
            Fault::KeyOfTheSameStart => {
                reply.extend_from_slice(b"\x0cversion-info\x08\x031.2");
                let len = u32::try_from(reply.len() - 4).unwrap();
                reply[..4].copy_from_slice(&len.to_be_bytes());
            }
            Fault::HelloInTwoWrites => {
                // The second is in the session's output.
                socket.write_all(&reply[..20]).ok();
                std::thread::sleep(Duration::from_millis(20));
                reply.drain(..20);
            }
            _ => {}
        }
        session.output.extend_from_slice(&reply);
        if hello.healthcheck {
            match self.fault {
                Fault::CheckThenDisconnect => {
                    return Ok(self.goodbye(Status::NORMAL, session));
                }
                Fault::CheckRunsHandler => self.ack((StreamId(0), FrameId(0)), b"", session),
                _ => {}
            }
        }
        Ok(Next::GoOn)
    }

    fn fragment(
        &self,
        frame: &Frame<'_>,
        session: &mut Session,
        socket: &TcpStream,
    ) -> Result<Next, DecodeError> {
        let ids = (frame.stream_id, frame.frame_id);
        match self.fault {
            Fault::HangsOnUnannouncedFragments => return Ok(Next::Hang),
            Fault::AcksEachFragment => {
                self.ack(ids, b"", session);
                if !frame.flags.is_fin() {
                    return Ok(Next::GoOn);
                }
            }
            _ => {}
        }
        if frame.frame_type == FrameType::Notify {
            if session.partial.is_some() {
                return Ok(self.goodbye(Status::INTERLACED, session));
            }
            session.partial = Some((ids.0, ids.1, frame.payload.to_vec(), false));
            return Ok(Next::GoOn);
        }
        let Some((stream_id, frame_id, payload, given_up)) = &mut session.partial else {
            if self.is(Fault::AcksStrayFragments) {
                self.ack(ids, b"", session);
                return Ok(Next::GoOn);
            }
            return Ok(self.goodbye(Status::UNKNOWN_FRAME_ID, session));
        };
        if (*stream_id, *frame_id) != ids {
            return Ok(self.goodbye(Status::UNKNOWN_FRAME_ID, session));
        }
        if frame.flags.is_abort() {
            session.partial = None;
            if self.is(Fault::AcksAborted) {
                self.ack(ids, b"", session);
            }
            return Ok(Next::GoOn);
        }
        if self.is(Fault::LosesFragments) {
            payload.clear();
        }
        payload.extend_from_slice(frame.payload);
        if payload.len() > MAX_REASSEMBLY_LEN && !*given_up {
            if self.is(Fault::HangsOnEndlessFragments) {
                return Ok(Next::Hang);
            }
            *given_up = true;
            let mut abort = ack_frame(ids, b"");
            abort[8] = 3;
            session.output.extend_from_slice(&abort);
        }
        if *given_up {
            payload.clear();
        }
        if !frame.flags.is_fin() {
            return Ok(Next::GoOn);
        }
        let (stream_id, frame_id, payload, given_up) = session.partial.take().unwrap();
        if given_up {
            return Ok(Next::GoOn);
        }
        self.notify(stream_id, frame_id, &payload, session, socket)
    }

    /// The handler: what the agent says to a NOTIFY.
    fn notify(
        &self,
        stream_id: StreamId,
        frame_id: FrameId,
        payload: &[u8],
        session: &mut Session,
        socket: &TcpStream,
    ) -> Result<Next, DecodeError> {
        session.notifies += 1;
        let (mut listed, mut known, mut count, mut arguments) = (false, false, 0, 0);
        let (mut null, mut unused_type) = (false, false);
        let mut messages = Messages::new(payload);
        loop {
            let result = messages.next_message();
            let message = if self.is(Fault::LosesFragments) {
                result.unwrap_or(None)
            } else {
                result?
            };
            let Some(message) = message else { break };
            count += 1;
            known |= message.name() == b"check-client-ip";
            for argument in message {
                let argument = if self.is(Fault::LosesFragments) {
                    let Ok(argument) = argument else { break };
                    argument
                } else {
                    argument?
                };
                arguments += 1;
                listed |= argument
                    .value
                    .as_ip()
                    .is_some_and(|ip| ip.is_ipv4() && !is_private(ip));
                null |= argument.value == TypedData::Null;
                unused_type |= matches!(
                    argument.value,
                    TypedData::Int32(_) | TypedData::Uint32(_) | TypedData::Uint64(_)
                );
            }
            if self.is(Fault::LosesFragments) {
                break;
            }
        }
        let mut ids = (stream_id, frame_id);
        match self.fault {
            Fault::WrongStreamId => ids.0.0 += 2,
            Fault::SwapsIds => ids = (StreamId(frame_id.0), FrameId(stream_id.0)),
            Fault::FrameIdAlways1 => ids.1 = FrameId(1),
            Fault::IdsOf8Bits => ids.0.0 &= 0xff,
            Fault::IdsOf16Bits => ids.0.0 &= 0xffff,
            Fault::SignedIds => ids.0.0 = sign_extended(ids.0.0),
            Fault::IdsOf32Bits => {
                ids = (
                    StreamId(ids.0.0 & 0xffff_ffff),
                    FrameId(ids.1.0 & 0xffff_ffff),
                );
            }
            _ => {}
        }
        let agreed = session.max_frame_size.unwrap_or(0) as usize;
        let unanswered = match self.fault {
            Fault::IgnoresStreamId0 => stream_id.0 == 0,
            Fault::IgnoresEmpty => count == 0,
            Fault::IgnoresSecond => session.notifies == 2,
            Fault::IgnoresTwoMessages => count == 2,
            Fault::IgnoresUnknown => count > 0 && !known,
            Fault::IgnoresMany => arguments > 100,
            _ => false,
        };
        if unanswered {
            return Ok(Next::GoOn);
        }
        match self.fault {
            Fault::ClosesOnUnknown if count > 0 && !known => return Ok(Next::Close),
            Fault::RefusesNull if null => return Ok(self.goodbye(Status::UNKNOWN, session)),
            Fault::RefusesUnusedTypes if unused_type => {
                return Ok(self.goodbye(Status::UNKNOWN, session));
            }
            Fault::DiesOfNoArguments if known && arguments == 0 => {
                self.die();
                return Ok(Next::Close);
            }
            Fault::HangsOnLargest if payload.len() + 7 >= agreed => return Ok(Next::Hang),
            _ => {}
        }
        let actions = self.actions(listed, known, agreed);
        match self.fault {
            Fault::MixesConnections => {
                let bytes = ack_frame(ids, &actions);
                self.answer_by_stream_id(stream_id, &bytes, socket);
                return Ok(Next::GoOn);
            }
            Fault::AckPerMessage => {
                for _ in 1..count {
                    self.ack(ids, &actions, session);
                }
            }
            Fault::Duplicates => self.ack(ids, &actions, session),
            _ => {}
        }
        self.ack(ids, &actions, session);
        if self.is(Fault::AckWithoutFin) {
            let flags_end = session.output.len() - actions.len() - 3;
            session.output[flags_end] = 0;
        }
        Ok(Next::GoOn)
    }

    /// Keeps the sender by stream-id alone, and answers after another may have come.
    fn answer_by_stream_id(&self, stream_id: StreamId, bytes: &[u8], socket: &TcpStream) {
        let lock = || self.senders.lock().unwrap_or_else(PoisonError::into_inner);
        lock().insert(stream_id.0, socket.try_clone().unwrap());
        std::thread::sleep(Duration::from_millis(50));
        if let Some(mut socket) = lock().get(&stream_id.0) {
            let _ = socket.write_all(bytes);
        }
    }

    fn ack(&self, ids: (StreamId, FrameId), actions: &[u8], session: &mut Session) {
        session.output.extend(ack_frame(ids, actions));
    }

    /// The actions of the answer, encoded.
    fn actions(&self, listed: bool, known: bool, agreed: usize) -> Vec<u8> {
        let mut room = vec![0; 1024];
        let mut ack = AckWriter::begin(&mut room, 1024, StreamId(1), FrameId(1)).unwrap();
        if known && self.fault != Fault::NothingToSay {
            ack.set_var(REMEDIATION, if listed { "ban" } else { "allow" })
                .unwrap();
            ack.set_var(SCORE, if listed { -1_i32 } else { 1_i32 })
                .unwrap();
            ack.set_var(LISTED, listed).unwrap();
        }
        let len = ack.finish();
        let mut actions = room[11..len].to_vec();
        let at = |actions: &[u8], part: &[u8]| {
            let found = actions
                .windows(part.len())
                .position(|window| window == part);
            found.map(|start| start + part.len())
        };
        match self.fault {
            Fault::Bool31 if listed => *actions.last_mut().unwrap() = 0x31,
            Fault::String18 => {
                if let Some(at) = at(&actions, b"remediation") {
                    actions[at] = 0x18;
                }
            }
            Fault::Int32NotExtended if listed => {
                let start = at(&actions, b"score").unwrap() + 1;
                actions.splice(start..start + 10, *b"\xff\xf0\xfe\xfe\x7e");
            }
            Fault::NameWithDash => {
                if let Some(at) = at(&actions, b"remedi") {
                    actions[at] = b'-';
                }
            }
            Fault::LongName => {
                let mut long = b"\x01\x03\x02\x3c".to_vec();
                long.extend_from_slice(&[b'n'; 60]);
                long.push(0x11);
                actions.extend(long);
            }
            Fault::TooLargeAck => pad(&mut actions, agreed + 1),
            Fault::LargestAck if agreed == 16_380 => pad(&mut actions, agreed),
            Fault::UnknownAction => actions.extend_from_slice(b"\x03\x02\x02\x01a"),
            Fault::CutAction => {
                actions.pop();
            }
            Fault::UnknownScope if known => actions[2] = 9,
            _ => {}
        }
        actions
    }
}

/// Makes the frame of an ACK 1/1 this long, by one more variable.
fn pad(actions: &mut Vec<u8>, frame_len: usize) {
    let mut more = b"\x01\x03\x02\x03pad\x09".to_vec();
    let rest = frame_len - 7 - actions.len() - more.len();
    let mut varint = [0; 10];
    let used = (1..=3)
        .find(|&len| encode_varint((rest - len) as u64, &mut varint).unwrap() == len)
        .unwrap();
    more.extend_from_slice(&varint[..used]);
    more.resize(more.len() + rest - used, b'p');
    actions.extend(more);
    debug_assert_eq!(actions.len() + 7, frame_len);
}

fn sign_extended(id: u64) -> u64 {
    if id & 0x8000_0000 != 0 {
        id | 0xffff_ffff_0000_0000
    } else {
        id
    }
}

fn is_private(ip: std::net::IpAddr) -> bool {
    matches!(ip, std::net::IpAddr::V4(ip) if ip.is_private() || ip.octets()[0] == 100)
}

fn agent_hello(version: &str, max_frame_size: u32, capabilities: &str) -> Vec<u8> {
    let hello = AgentHello {
        version: version.as_bytes(),
        max_frame_size,
        capabilities: capabilities.as_bytes(),
    };
    let mut room = [0; 512];
    let len = hello.encode(&mut room).unwrap();
    room[..len].to_vec()
}

/// A control frame of these keys and encoded values.
fn control(code: u8, pairs: &[(&str, &[u8])]) -> Vec<u8> {
    let mut bytes = vec![0, 0, 0, 0, code, 0, 0, 0, 1, 0, 0];
    for (key, value) in pairs {
        bytes.push(u8::try_from(key.len()).unwrap());
        bytes.extend_from_slice(key.as_bytes());
        bytes.extend_from_slice(value);
    }
    let len = u32::try_from(bytes.len() - 4).unwrap();
    bytes[..4].copy_from_slice(&len.to_be_bytes());
    bytes
}

fn ack_frame((stream_id, frame_id): (StreamId, FrameId), actions: &[u8]) -> Vec<u8> {
    let frame = Frame {
        frame_type: FrameType::Ack,
        flags: ringspoa::spop::Flags::FIN,
        stream_id,
        frame_id,
        payload: actions,
    };
    let mut room = vec![0; actions.len() + 64];
    let len = frame.encode(&mut room).unwrap();
    room.truncate(len);
    room
}
