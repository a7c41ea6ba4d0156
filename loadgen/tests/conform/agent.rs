//! An agent of threads that block, which does everything right, or one thing wrong.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use ringspoa::spop::{DecodeError, Disconnect, Frame, FrameId, FrameType, Status, StreamId};
use ringspoa_loadgen::Target;

use crate::answers::{ack_frame, control};
use crate::faults::Fault;

/// The largest frame it takes, and the largest message put together from fragments.
pub(crate) const MAX_FRAME_SIZE: u32 = 131_068;
const MAX_REASSEMBLY_LEN: usize = 65_536;

/// An agent in this process.
pub(crate) struct Agent {
    pub(crate) fault: Fault,
    pub(crate) target: Target,
    /// Set when the whole agent is to be gone, as a process that crashed.
    dead: AtomicBool,
    open: AtomicUsize,
    sockets: Mutex<Vec<TcpStream>>,
    /// Of a faulty agent: who sent a stream-id last, on whatever connection.
    pub(crate) senders: Mutex<BTreeMap<u64, TcpStream>>,
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
pub(crate) enum Next {
    GoOn,
    Close,
    /// Reads on and says nothing any more.
    Hang,
}

/// One connection.
pub(crate) struct Session {
    /// Agreed on in HELLO; none before.
    pub(crate) max_frame_size: Option<u32>,
    pub(crate) is_check: bool,
    partial: Option<(StreamId, FrameId, Vec<u8>, bool)>,
    pub(crate) notifies: u64,
    pub(crate) output: Vec<u8>,
}

impl Agent {
    pub(crate) fn is(&self, fault: Fault) -> bool {
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
    pub(crate) fn die(&self) {
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

    pub(crate) fn goodbye(&self, status: Status, session: &mut Session) -> Next {
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

    pub(crate) fn ack(&self, ids: (StreamId, FrameId), actions: &[u8], session: &mut Session) {
        session.output.extend(ack_frame(ids, actions));
    }
}
