//! One SPOP connection, sans-IO: bytes and a clock in; messages, replies and a close decision out.
//!
//! It knows the protocol's rules (who may send what when, which status a mistake gets, which
//! NOTIFY still waits for its ACK) and refuses to know sockets, buffers, threads and what agents
//! do. Time is a `Duration` since an origin the caller chose, so a test can run it by hand.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::time::Duration;

use crate::spop::{
    AgentHello, DecodeError, Disconnect, Flags, Frame, FrameId, FrameType, HaproxyHello, Messages,
    PREFIX_LEN, Status, StreamId, VERSION,
};

/// The largest frame taken by default, in bytes without prefix: HAProxy's, of a `tune.bufsize` of
/// 64 KiB.
pub const DEFAULT_MAX_FRAME_SIZE: u32 = 65_532;

/// The largest `max_frame_size` a connection can be given: that of a `tune.bufsize` of 1 MiB.
pub const LARGEST_MAX_FRAME_SIZE: u32 = 1_048_572;

/// The largest frame before HELLO has settled the size; HAProxy's HELLO takes 130 bytes.
const MAX_HELLO_SIZE: u32 = 16_380;

/// Room that every reply of [`Connection::poll_reply`] fits in.
pub const MAX_REPLY_LEN: usize = 256;

/// What a connection accepts. All sizes in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The largest frame either way, without prefix; HAProxy's offer is followed below it.
    /// 256 to [`LARGEST_MAX_FRAME_SIZE`]; default [`DEFAULT_MAX_FRAME_SIZE`]. A connection that
    /// negotiates more than 16 380 takes buffers of that size.
    pub max_frame_size: u32,
    /// The largest payload put together from fragments; default 262 144. Held once a connection
    /// that sends fragments, while it does.
    pub max_reassembly_len: usize,
    /// Whether to announce `fragmentation`, so that HAProxy up to 3.0 may send a message larger
    /// than a frame; default true. Without it such a message tears its connection down.
    pub fragmentation: bool,
    /// NOTIFYs of one connection that may wait for a late answer; default 1024. At the bound the
    /// connection is not read until one is answered.
    pub max_in_flight: usize,
    /// How long a peer may take to its HELLO; default 5 s.
    pub hello_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_frame_size: DEFAULT_MAX_FRAME_SIZE,
            max_reassembly_len: 256 * 1024,
            fragmentation: true,
            max_in_flight: 1024,
            hello_timeout: Duration::from_secs(5),
        }
    }
}

/// The two ids of a NOTIFY, which its ACK echoes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NotifyId {
    /// Which stream.
    pub stream_id: StreamId,
    /// Which event of it.
    pub frame_id: FrameId,
}

/// What [`Connection::handle_bytes`] found at the front of the input.
#[derive(Debug)]
pub enum Event<'a> {
    /// No whole frame: call again with more bytes.
    NeedMore,
    /// A frame that concerns the connection only; there may be a reply to poll.
    Handled,
    /// A NOTIFY. It must get exactly one ACK: now, or later after [`Connection::defer`].
    Notify(NotifyId, Messages<'a>),
}

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Waiting for HAPROXY-HELLO.
    AwaitingHello,
    /// Taking NOTIFYs.
    Running,
    /// A health check was answered: nothing more may be written, the peer closes.
    CheckAnswered,
    /// The last frame is written or in [`Connection::poll_reply`]; close after it. Input is
    /// discarded.
    Closing(CloseReason),
}

/// Why a connection is closing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// HAProxy sent a DISCONNECT with this status.
    ByPeer(Status),
    /// We did, because of what the peer sent.
    Refused(DecodeError),
    /// We did, because the peer broke the rules of the exchange or a limit of ours.
    Violated(Violation),
    /// We did, because of a timeout or the end of the server.
    ByUs(Status),
}

/// Which rule of the exchange was broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Violation {
    /// A frame before HAPROXY-HELLO.
    FrameBeforeHello(FrameType),
    /// A second HAPROXY-HELLO.
    SecondHello,
    /// A frame type only agents send.
    AgentFrame(FrameType),
    /// A version other than 2.0.
    Version,
    /// A fragment though `fragmentation` was not announced.
    Fragment,
    /// A NOTIFY or a second fragmented frame inside a fragmented frame.
    Interlaced,
    /// A fragment of a frame that was never begun.
    UnknownFragment,
}

impl Violation {
    /// The status that goes into our DISCONNECT.
    #[must_use]
    pub const fn status(self) -> Status {
        match self {
            Self::FrameBeforeHello(_) | Self::SecondHello | Self::AgentFrame(_) => Status::INVALID,
            Self::Version => Status::BAD_VERSION,
            Self::Fragment => Status::NO_FRAGMENTATION,
            Self::Interlaced => Status::INTERLACED,
            Self::UnknownFragment => Status::UNKNOWN_FRAME_ID,
        }
    }
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::FrameBeforeHello(frame_type) => write!(f, "{frame_type} before HAPROXY-HELLO"),
            Self::SecondHello => f.write_str("second HAPROXY-HELLO"),
            Self::AgentFrame(frame_type) => write!(f, "{frame_type}, which only agents send"),
            Self::Version => f.write_str("supported-versions has no 2.0"),
            Self::Fragment => f.write_str("fragment, though fragmentation was not announced"),
            Self::Interlaced => f.write_str("a fragmented frame inside another"),
            Self::UnknownFragment => f.write_str("fragment of a frame that was never begun"),
        }
    }
}

impl CloseReason {
    /// The status of our DISCONNECT: 0 in answer to HAProxy's.
    #[must_use]
    pub fn status(self) -> Status {
        match self {
            Self::ByPeer(_) => Status::NORMAL,
            Self::Refused(error) => Status::from(error),
            Self::Violated(violation) => violation.status(),
            Self::ByUs(status) => status,
        }
    }
}

impl std::fmt::Display for CloseReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::ByPeer(status) => write!(f, "HAProxy disconnected with status {status}"),
            Self::Refused(error) => write!(f, "{error}; answered with status {}", self.status()),
            Self::Violated(violation) => {
                write!(f, "{violation}; answered with status {}", self.status())
            }
            Self::ByUs(status) => write!(f, "disconnected with status {status}"),
        }
    }
}

/// A frame the connection has to send on its own account.
#[derive(Clone, Copy, Debug)]
enum Reply {
    Hello,
    Disconnect(Status),
    /// Tells HAProxy that a frame was given up: an ACK with ABORT. Only once the last fragment is here: HAProxy
    /// up to 3.0 that still sends some may have all others of this connection wait until they time out.
    Abort(NotifyId),
}

/// The fragmented NOTIFY under way. HAProxy never sends two at once on a connection.
#[derive(Debug)]
enum Reassembly {
    None,
    Collecting(NotifyId),
    /// The payload was handed out and is cleared at the next call.
    Done,
    /// Too long: aborted, the rest is dropped.
    Dropping(NotifyId),
}

/// A NOTIFY that waits for a late answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deferred {
    pub(crate) id: NotifyId,
    pub(crate) deadline: Duration,
    /// When it was taken up, by whatever clock the caller measures with.
    pub(crate) since: Duration,
    /// What the caller counts it under.
    pub(crate) label: usize,
}

/// Who may be served on a new connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Admission {
    /// Everybody.
    #[default]
    Open,
    /// Health checks only: a limit is reached, which is no reason to be called down. Others get
    /// status 13.
    ChecksOnly,
    /// Everybody but health checks: the server is draining, and HAProxy is to send what is new
    /// elsewhere.
    NoChecks,
}

/// What another process needs to go on with a connection: all that is between two frames.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Snapshot {
    /// The frame size agreed on; `None` before HELLO.
    pub(crate) max_frame_size: Option<u32>,
    /// A fragmented NOTIFY under way, and whether it is still collected or already given up.
    pub(crate) fragments: Option<(NotifyId, bool)>,
    /// Of the fragments so far.
    pub(crate) payload: Vec<u8>,
}

/// One connection as a state machine without I/O: bytes and a clock in; messages, replies and a
/// close decision out.
///
/// The caller's loop is: [`handle_bytes`](Self::handle_bytes) until it wants more; on
/// [`Event::Notify`] either write an ACK or [`defer`](Self::defer) it;
/// [`poll_reply`](Self::poll_reply) for what the connection itself has to say;
/// [`state`](Self::state) for whether to go on. Time is a `Duration` since an origin the caller
/// chose.
///
/// ```
/// use ringspoa::spop::{AckWriter, HaproxyHello};
/// use ringspoa::{Connection, Event, Limits, MAX_REPLY_LEN};
///
/// let mut received = [0; 256];
/// let hello = HaproxyHello {
///     supported_versions: b"2.0",
///     max_frame_size: 16_380,
///     capabilities: b"pipelining",
///     engine_id: None,
///     healthcheck: false,
/// };
/// let len = hello.encode(&mut received)?;
/// let notify = b"\0\0\0\x10\x03\0\0\0\x01\x01\x01\x01m\x01\x01p\x08\x02/x";
/// received[len..len + notify.len()].copy_from_slice(notify);
/// let received = &received[..len + notify.len()];
///
/// let mut connection = Connection::new(Limits::default(), std::time::Duration::ZERO);
/// let (mut start, mut sent) = (0, Vec::new());
/// loop {
///     let max_ack_size = connection.max_ack_size();
///     let (used, event) = connection.handle_bytes(&received[start..]);
///     start += used;
///     match event {
///         Event::NeedMore => break,
///         Event::Handled => {
///             let mut reply = [0; MAX_REPLY_LEN];
///             let len = connection.poll_reply(&mut reply);
///             sent.extend_from_slice(&reply[..len]);
///         }
///         Event::Notify(id, mut messages) => {
///             messages.finish()?;
///             let mut ack = [0; 64];
///             let ack_writer = AckWriter::begin(&mut ack, max_ack_size, id.stream_id, id.frame_id)?;
///             let len = ack_writer.finish();
///             sent.extend_from_slice(&ack[..len]);
///         }
///     }
/// }
/// assert!(sent.ends_with(b"\0\0\0\x07\x67\0\0\0\x01\x01\x01"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Connection {
    limits: Limits,
    state: State,
    /// In force for both directions; [`MAX_HELLO_SIZE`] until HELLO.
    max_frame_size: u32,
    /// When the peer must have said HELLO.
    hello_deadline: Duration,
    reply: Option<Reply>,
    reassembly: Reassembly,
    payload: Vec<u8>,
    /// By ticket serial, so in the order they were deferred.
    pending: BTreeMap<u64, Deferred>,
    /// Those that still waited when the connection closed.
    dropped: BTreeMap<u64, Deferred>,
    admission: Admission,
    /// Whether a HELLO that was no health check was accepted.
    introduced: bool,
}

impl Connection {
    /// A connection that was accepted at `now`.
    ///
    /// # Panics
    ///
    /// If `limits.max_frame_size` is below 256 or above [`LARGEST_MAX_FRAME_SIZE`].
    #[must_use]
    pub fn new(limits: Limits, now: Duration) -> Self {
        assert!(
            (crate::spop::MIN_MAX_FRAME_SIZE..=LARGEST_MAX_FRAME_SIZE)
                .contains(&limits.max_frame_size),
            "max_frame_size is from 256 to 1048572"
        );
        Self {
            limits,
            state: State::AwaitingHello,
            max_frame_size: limits.max_frame_size.min(MAX_HELLO_SIZE),
            hello_deadline: now.saturating_add(limits.hello_timeout),
            reply: None,
            reassembly: Reassembly::None,
            payload: Vec::new(),
            pending: BTreeMap::new(),
            dropped: BTreeMap::new(),
            admission: Admission::Open,
            introduced: false,
        }
    }

    /// Goes on with a connection of another process.
    ///
    /// `None` if it negotiated a larger frame than `limits` allow.
    pub(crate) fn resume(limits: Limits, snapshot: Snapshot, now: Duration) -> Option<Self> {
        let mut connection = Self::new(limits, now);
        if let Some(size) = snapshot.max_frame_size {
            if !(crate::spop::MIN_MAX_FRAME_SIZE..=limits.max_frame_size).contains(&size) {
                return None;
            }
            connection.max_frame_size = size;
            connection.state = State::Running;
            connection.introduced = true;
        }
        connection.reassembly = match snapshot.fragments {
            None => Reassembly::None,
            Some((id, true)) => Reassembly::Collecting(id),
            Some((id, false)) => Reassembly::Dropping(id),
        };
        connection.payload = snapshot.payload;
        Some(connection)
    }

    /// What another process needs to go on, if now is a time for it: nothing waits for an answer
    /// or is to be said.
    pub(crate) fn snapshot(&self) -> Option<Snapshot> {
        if !self.pending.is_empty() || self.reply.is_some() {
            return None;
        }
        let max_frame_size = match self.state {
            State::AwaitingHello => None,
            State::Running => Some(self.max_frame_size),
            State::CheckAnswered | State::Closing(_) => return None,
        };
        let fragments = match self.reassembly {
            // The payload that was handed out is not needed any more.
            Reassembly::None | Reassembly::Done => None,
            Reassembly::Collecting(id) => Some((id, true)),
            Reassembly::Dropping(id) => Some((id, false)),
        };
        let payload = if fragments.is_some() {
            self.payload.clone()
        } else {
            Vec::new()
        };
        Some(Snapshot {
            max_frame_size,
            fragments,
            payload,
        })
    }

    /// Sets who may be served; counts when HELLO comes.
    pub const fn set_admission(&mut self, admission: Admission) {
        self.admission = admission;
    }

    /// Whether a HELLO that was no health check has been accepted. A connection that closes without
    /// was refused in the handshake: HAProxy up to 3.0 comes back at once, thousands of times a
    /// second, so let some time pass before it is told.
    #[must_use]
    pub const fn is_introduced(&self) -> bool {
        self.introduced
    }

    /// How far the connection is.
    #[inline]
    #[must_use]
    pub const fn state(&self) -> State {
        self.state
    }

    /// The frame size limit in force, in bytes without prefix: the negotiated one after HELLO.
    #[inline]
    #[must_use]
    pub const fn max_frame_size(&self) -> u32 {
        self.max_frame_size
    }

    /// The largest ACK to send, in bytes without prefix. One below the negotiated size: an ACK
    /// that exactly fills HAProxy's buffer wedges its connection from 3.1 on.
    #[inline]
    #[must_use]
    pub const fn max_ack_size(&self) -> u32 {
        self.max_frame_size - 1
    }

    /// How many bytes to write at most in one go when they are several frames: half of the frame
    /// size. HAProxy's buffer is not much larger than a frame, and from 3.1 on a read that exactly
    /// fills it wedges the connection.
    #[inline]
    #[must_use]
    pub const fn max_burst_len(&self) -> usize {
        self.max_frame_size as usize / 2
    }

    /// NOTIFYs that wait for a late answer.
    #[inline]
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.pending.len()
    }

    /// Whether the bound on late answers is reached: stop calling
    /// [`handle_bytes`](Self::handle_bytes) until one is answered.
    #[inline]
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.pending.len() >= self.limits.max_in_flight
    }

    /// Whether nothing is under way: no NOTIFY waits, no fragment was kept.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.pending.is_empty() && !matches!(self.reassembly, Reassembly::Collecting(_))
    }

    /// Takes the first whole frame of `input`, returning how many bytes it used.
    ///
    /// Never fails: what is wrong with the peer's bytes becomes a DISCONNECT with the status the
    /// protocol has for it, and [`State::Closing`].
    #[inline]
    pub fn handle_bytes<'a>(&'a mut self, input: &'a [u8]) -> (usize, Event<'a>) {
        if let Some((used, id, messages)) = self.handle_whole_notify(input) {
            return (used, Event::Notify(id, messages));
        }
        self.handle_other(input)
    }

    /// [`handle_bytes`](Self::handle_bytes) for all that a healthy connection under load has:
    /// a NOTIFY that is there and in one piece. `None` is anything else, and takes nothing.
    ///
    /// A caller that tries this first keeps the result in registers: a third of the time from
    /// NOTIFY to ACK went into writing and reading back an [`Event`].
    #[inline(always)]
    pub(crate) fn handle_whole_notify<'a>(
        &self,
        input: &'a [u8],
    ) -> Option<(usize, NotifyId, Messages<'a>)> {
        let ready = self.state == State::Running && matches!(self.reassembly, Reassembly::None);
        let (frame, used) = Frame::split(input, self.max_frame_size).ok()??;
        if ready && frame.frame_type == FrameType::Notify && frame.flags.is_fin() {
            return Some((used, id_of(&frame), Messages::new(frame.payload)));
        }
        None
    }

    #[inline(never)]
    fn handle_other<'a>(&'a mut self, input: &'a [u8]) -> (usize, Event<'a>) {
        if matches!(self.state, State::CheckAnswered | State::Closing(_)) {
            return (input.len(), Event::NeedMore);
        }
        match Frame::split(input, self.max_frame_size) {
            Ok(None) => (0, Event::NeedMore),
            Ok(Some((frame, used))) => (used, self.handle_frame(frame)),
            Err(error) => {
                self.close(CloseReason::Refused(error));
                (input.len(), Event::Handled)
            }
        }
    }

    fn handle_frame<'a>(&'a mut self, frame: Frame<'a>) -> Event<'a> {
        if matches!(self.reassembly, Reassembly::Done) {
            // A rare large message must not cost a long connection its memory for good.
            self.payload.clear();
            self.payload.shrink_to(self.max_frame_size as usize);
            self.reassembly = Reassembly::None;
        }
        if self.state == State::AwaitingHello {
            if frame.frame_type == FrameType::HaproxyHello {
                self.handle_hello(&frame);
            } else {
                self.violated(Violation::FrameBeforeHello(frame.frame_type));
            }
            return Event::Handled;
        }
        match frame.frame_type {
            FrameType::Notify => return self.handle_notify(frame),
            FrameType::Unset => return self.handle_fragment(&frame),
            FrameType::HaproxyDisconnect => {
                // HAProxy is leaving: a DISCONNECT we cannot read is answered all the same.
                let status = Disconnect::decode(&frame).map_or(Status::UNKNOWN, |d| d.status);
                self.close(CloseReason::ByPeer(status));
            }
            FrameType::HaproxyHello => self.violated(Violation::SecondHello),
            FrameType::AgentHello | FrameType::AgentDisconnect | FrameType::Ack => {
                self.violated(Violation::AgentFrame(frame.frame_type));
            }
            // Spec 3.2.1: frames of unknown type are skipped.
            FrameType::Unknown(_) => {}
        }
        Event::Handled
    }

    fn handle_hello(&mut self, frame: &Frame<'_>) {
        let hello = match HaproxyHello::decode(frame) {
            Ok(hello) => hello,
            Err(error) => return self.close(CloseReason::Refused(error)),
        };
        if !hello.supports_version_2() {
            return self.violated(Violation::Version);
        }
        match (self.admission, hello.healthcheck) {
            (Admission::ChecksOnly, false) => {
                return self.close(CloseReason::ByUs(Status::NO_RESOURCES));
            }
            (Admission::NoChecks, true) => return self.close(CloseReason::ByUs(Status::NORMAL)),
            _ => {}
        }
        self.introduced = !hello.healthcheck;
        self.max_frame_size = hello.max_frame_size.min(self.limits.max_frame_size);
        self.reply = Some(Reply::Hello);
        self.state = if hello.healthcheck {
            State::CheckAnswered
        } else {
            State::Running
        };
    }

    fn handle_notify<'a>(&'a mut self, frame: Frame<'a>) -> Event<'a> {
        let id = id_of(&frame);
        if let Reassembly::Collecting(current) | Reassembly::Dropping(current) = self.reassembly
            && (current == id || !frame.flags.is_fin())
        {
            self.violated(Violation::Interlaced);
            return Event::Handled;
        }
        if frame.flags.is_fin() {
            return Event::Notify(id, Messages::new(frame.payload));
        }
        if !self.limits.fragmentation {
            self.violated(Violation::Fragment);
            return Event::Handled;
        }
        self.reassembly = Reassembly::Collecting(id);
        self.collect(id, frame.payload);
        Event::Handled
    }

    fn handle_fragment(&mut self, frame: &Frame<'_>) -> Event<'_> {
        if !self.limits.fragmentation {
            self.violated(Violation::Fragment);
            return Event::Handled;
        }
        let id = id_of(frame);
        match self.reassembly {
            Reassembly::Collecting(current) | Reassembly::Dropping(current) if current == id => {}
            _ => {
                self.violated(Violation::UnknownFragment);
                return Event::Handled;
            }
        }
        // HAProxy gives the frame up: no ACK, there is no one to take it.
        let aborted = frame.flags.is_abort();
        if matches!(self.reassembly, Reassembly::Collecting(_)) && !aborted {
            self.collect(id, frame.payload);
        }
        if !frame.flags.is_fin() && !aborted {
            return Event::Handled;
        }
        if !aborted && matches!(self.reassembly, Reassembly::Collecting(_)) {
            self.reassembly = Reassembly::Done;
            return Event::Notify(id, Messages::new(&self.payload));
        }
        if !aborted {
            self.reply = Some(Reply::Abort(id));
        }
        self.payload.clear();
        self.reassembly = Reassembly::None;
        Event::Handled
    }

    /// Keeps a fragment, or gives the frame up if it gets too long, which HAProxy is told after its last one.
    fn collect(&mut self, id: NotifyId, fragment: &[u8]) {
        if self.payload.len() + fragment.len() > self.limits.max_reassembly_len {
            self.payload = Vec::new();
            self.reassembly = Reassembly::Dropping(id);
        } else {
            self.payload.extend_from_slice(fragment);
        }
    }

    /// Refuses a NOTIFY whose content turned out not to be what it claims.
    pub fn refuse(&mut self, error: DecodeError) {
        self.close(CloseReason::Refused(error));
    }

    /// Ends the connection from our side; what waits for an answer is dropped.
    pub fn disconnect(&mut self, status: Status) {
        self.close(CloseReason::ByUs(status));
    }

    fn violated(&mut self, violation: Violation) {
        self.close(CloseReason::Violated(violation));
    }

    fn close(&mut self, reason: CloseReason) {
        match self.state {
            State::Closing(_) => return,
            // A byte after the AGENT-HELLO would fail the check.
            State::CheckAnswered => {}
            _ => self.reply = Some(Reply::Disconnect(reason.status())),
        }
        self.state = State::Closing(reason);
        self.dropped = std::mem::take(&mut self.pending);
        self.payload = Vec::new();
        self.reassembly = Reassembly::None;
    }

    /// Writes the frame the connection itself has to send, if any, and returns its bytes; 0 if
    /// there is none. `out` has room for [`MAX_REPLY_LEN`].
    ///
    /// To be called after each [`Event::Handled`] and after [`refuse`](Self::refuse) and
    /// [`disconnect`](Self::disconnect); frames must go out in the order they were written.
    ///
    /// # Panics
    ///
    /// If `out` is shorter than [`MAX_REPLY_LEN`].
    pub fn poll_reply(&mut self, out: &mut [u8]) -> usize {
        assert!(
            out.len() >= MAX_REPLY_LEN,
            "a reply needs MAX_REPLY_LEN bytes of room"
        );
        let Some(reply) = self.reply.take() else {
            return 0;
        };
        let encoded = match reply {
            Reply::Hello => AgentHello {
                version: VERSION.as_bytes(),
                max_frame_size: self.max_frame_size,
                // Never `async`: with it a lost connection leaves HAProxy's streams to their
                // timeout. `fragmentation` matters up to 3.0 and is ignored after.
                capabilities: if self.limits.fragmentation {
                    b"pipelining,fragmentation"
                } else {
                    b"pipelining"
                },
            }
            .encode(out),
            Reply::Disconnect(status) => Disconnect::with_status(status).encode_agent(out),
            Reply::Abort(id) => Frame {
                frame_type: FrameType::Ack,
                flags: Flags::FIN_ABORT,
                stream_id: id.stream_id,
                frame_id: id.frame_id,
                payload: &[],
            }
            .encode(out),
        };
        encoded.expect("every reply fits MAX_REPLY_LEN")
    }

    /// Notes that this NOTIFY gets its ACK later, at `deadline` at the latest. `serial` is the
    /// caller's name for it and never used twice.
    pub fn defer(&mut self, serial: u64, id: NotifyId, deadline: Duration) {
        let (since, label) = (Duration::ZERO, 0);
        self.defer_counted(
            serial,
            Deferred {
                id,
                deadline,
                since,
                label,
            },
        );
    }

    pub(crate) fn defer_counted(&mut self, serial: u64, deferred: Deferred) {
        let before = self.pending.insert(serial, deferred);
        debug_assert!(before.is_none(), "a ticket's serial is used once");
    }

    /// Takes a late answer's NOTIFY off the list: the ids to ACK, or `None` if it was answered
    /// before, its deadline has passed or the connection is closing. This is what makes answers
    /// unique.
    pub fn take_deferred(&mut self, serial: u64) -> Option<NotifyId> {
        self.take_counted(serial).map(|deferred| deferred.id)
    }

    pub(crate) fn take_counted(&mut self, serial: u64) -> Option<Deferred> {
        self.pending.remove(&serial)
    }

    /// Takes one NOTIFY whose deadline has passed at `now` off the list, to be answered with the
    /// fallback.
    pub fn poll_expired(&mut self, now: Duration) -> Option<NotifyId> {
        self.poll_expired_counted(now).map(|deferred| deferred.id)
    }

    /// The earliest deadline of what waits for a late answer.
    pub(crate) fn next_deadline(&self) -> Option<Duration> {
        self.pending
            .values()
            .map(|deferred| deferred.deadline)
            .min()
    }

    pub(crate) fn poll_expired_counted(&mut self, now: Duration) -> Option<Deferred> {
        let (&serial, _) = self
            .pending
            .iter()
            .find(|(_, deferred)| deferred.deadline <= now)?;
        self.take_counted(serial)
    }

    /// What waited for an answer that nobody will take any more, at the end of a connection.
    pub(crate) fn take_unanswered(&mut self) -> impl Iterator<Item = Deferred> + use<> {
        let dropped = std::mem::take(&mut self.dropped);
        let pending = std::mem::take(&mut self.pending);
        dropped.into_values().chain(pending.into_values())
    }

    /// Whether the peer took too long to its HELLO.
    #[must_use]
    pub fn hello_expired(&self, now: Duration) -> bool {
        self.state == State::AwaitingHello && now >= self.hello_deadline
    }

    /// The least room for input in bytes: the largest frame in force, and its prefix.
    #[inline]
    #[must_use]
    pub const fn min_input_len(&self) -> usize {
        self.max_frame_size as usize + PREFIX_LEN
    }
}

fn id_of(frame: &Frame<'_>) -> NotifyId {
    NotifyId {
        stream_id: frame.stream_id,
        frame_id: frame.frame_id,
    }
}
