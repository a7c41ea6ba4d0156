//! Connections as pairs of bounded queues, with the faults that real ones have: what is read or
//! written in part, late, not at all, or with an error. The server's side behaves as Linux's sockets
//! do, the peers' side has calls of its own.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::Shutdown;

use super::runtime::{Random, Simulator, current};
use crate::server::placement::SURPLUS;
use crate::spop::{FrameType, PREFIX_LEN};

/// Which faults a run has, and how often: once in so many times, 0 for never.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Weather {
    pub(super) short_reads: usize,
    pub(super) short_writes: usize,
    /// How long bytes are under way at most.
    pub(super) delay: Duration,
    /// How long an operation of the server takes at most, beyond what it waits for.
    pub(super) completion: Duration,
    /// Bytes a direction holds.
    pub(super) capacity: usize,
    /// Of connections.
    pub(super) errors: usize,
    /// Of connections.
    pub(super) resets: usize,
    /// Of connections.
    pub(super) attach_errors: usize,
    /// Of accepts.
    pub(super) accept_errors: usize,
    /// Whether all cores accept from one queue, as they do from a Unix socket.
    pub(super) shared_listener: bool,
}

/// One direction of a connection.
#[derive(Debug, Default)]
struct Pipe {
    /// What is under way or waits to be read, and from when on it can be.
    chunks: VecDeque<(Duration, Vec<u8>)>,
    /// Bytes of the first chunk that were read.
    start: usize,
    len: usize,
    /// When the last of it arrives.
    last_at: Duration,
    /// When the end of the stream arrives.
    end_at: Option<Duration>,
}

impl Pipe {
    fn push(&mut self, bytes: &[u8], now: Duration, delay: Duration) {
        self.last_at = self.last_at.max(now + delay);
        self.len += bytes.len();
        self.chunks.push_back((self.last_at, bytes.to_vec()));
    }

    /// What can be read at `now`, up to `max` bytes.
    fn pull(&mut self, max: usize, now: Duration) -> Vec<u8> {
        let mut bytes = Vec::new();
        while let Some((at, chunk)) = self.chunks.front()
            && *at <= now
            && bytes.len() < max
        {
            let end = chunk.len().min(self.start + max - bytes.len());
            bytes.extend_from_slice(&chunk[self.start..end]);
            self.start = end;
            if end == chunk.len() {
                self.chunks.pop_front();
                self.start = 0;
            }
        }
        self.len -= bytes.len();
        bytes
    }

    fn has_ended(&self, now: Duration) -> bool {
        self.chunks.is_empty() && self.end_at.is_some_and(|at| at <= now)
    }

    /// When there will be something to read, or the end.
    fn next_at(&self) -> Option<Duration> {
        self.chunks.front().map(|(at, _)| *at).or(self.end_at)
    }

    fn end(&mut self, now: Duration) {
        self.end_at.get_or_insert(self.last_at.max(now));
    }

    /// A reset overtakes what is under way.
    fn cut(&mut self, now: Duration) {
        while let Some((at, _)) = self.chunks.back()
            && *at > now
        {
            self.chunks.pop_back();
        }
        if self.chunks.is_empty() {
            self.start = 0;
        }
        // A part of the first may have been read already.
        let left = self.chunks.iter().map(|(_, chunk)| chunk.len());
        self.len = left.sum::<usize>() - self.start;
    }
}

/// One side of a connection.
#[derive(Debug, Default)]
struct End {
    is_closed: bool,
    reads_no_more: bool,
    writes_no_more: bool,
    /// The other side, or the network, has reset the connection.
    is_reset: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl End {
    fn wake(&mut self) {
        self.reader.take().into_iter().for_each(Waker::wake);
        self.writer.take().into_iter().for_each(Waker::wake);
    }
}

/// An error to come.
#[derive(Clone, Copy, Debug)]
struct Fault {
    /// The operation that fails, counted from 0.
    at: usize,
    errno: Errno,
}

/// Follows the frames that the server writes.
#[derive(Debug, Default)]
struct Written {
    /// Of the frame under way: its length prefix, its type and its flags.
    head: Vec<u8>,
    /// Bytes of it to come.
    rest: usize,
    acks: u64,
}

const HEAD_LEN: usize = PREFIX_LEN + 5;

impl Written {
    fn note(&mut self, mut bytes: &[u8]) {
        while let [first, after @ ..] = bytes {
            if self.rest > 0 {
                let skipped = self.rest.min(bytes.len());
                self.rest -= skipped;
                bytes = &bytes[skipped..];
                continue;
            }
            self.head.push(*first);
            bytes = after;
            if self.head.len() == HEAD_LEN {
                let len =
                    u32::from_be_bytes([self.head[0], self.head[1], self.head[2], self.head[3]]);
                let is_abort = self.head[HEAD_LEN - 1] & 2 != 0;
                self.acks += u64::from(self.head[PREFIX_LEN] == FrameType::Ack.code() && !is_abort);
                self.rest = (len as usize + PREFIX_LEN).saturating_sub(HEAD_LEN);
                self.head.clear();
            }
        }
    }

    fn is_between_frames(&self) -> bool {
        self.rest == 0 && self.head.is_empty()
    }
}

/// A connection.
#[derive(Debug)]
struct Link {
    to_server: Pipe,
    to_peer: Pipe,
    server: End,
    peer: End,
    is_accepted: bool,
    is_attached: bool,
    /// Whether anything was done to it that the server cannot make up for.
    is_harmed: bool,
    /// Since when a write of the server waits for the peer to read, and how long cores had been kept
    /// busy by then.
    blocked: Option<(Duration, Duration)>,
    /// Parts of the socket that the server holds.
    halves: u8,
    operations: [usize; 2],
    faults: [Option<Fault>; 2],
    fails_to_attach: bool,
    /// What a write of several frames may have at most, once that is agreed.
    max_burst_len: Option<usize>,
    written: Written,
    /// Whether a write failed within a frame.
    is_broken_off: bool,
}

/// What waits to be accepted.
#[derive(Debug, Default)]
struct Backlog {
    links: VecDeque<usize>,
    is_shut: bool,
    acceptors: Vec<Waker>,
}

/// What became of a run's connections.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Totals {
    pub(super) accepted: u64,
    pub(super) attached: u64,
    pub(super) failed_to_attach: u64,
    pub(super) accept_errors: u64,
    /// Of all frames that the server wrote.
    pub(super) acks: u64,
}

/// All connections of a run, and the listeners.
pub(in crate::server) struct Network {
    weather: Weather,
    links: Vec<Link>,
    backlogs: Vec<Backlog>,
    totals: Totals,
    /// What may be open at once, and whether a new connection may be turned away below that.
    may_refuse: bool,
}

impl Network {
    pub(super) fn new(weather: Weather, cores: usize) -> Self {
        let backlogs = if weather.shared_listener { 1 } else { cores };
        Self {
            weather,
            links: Vec::new(),
            backlogs: (0..backlogs).map(|_| Backlog::default()).collect(),
            totals: Totals::default(),
            may_refuse: false,
        }
    }

    /// From now on the server may turn connections away, because it drains.
    pub(super) fn allow_refusals(&mut self) {
        self.may_refuse = true;
    }

    pub(super) fn totals(&self) -> Totals {
        let acks = self.links.iter().map(|link| link.written.acks).sum();
        Totals {
            acks,
            ..self.totals
        }
    }

    /// Connections that the server took and has not closed.
    pub(super) fn open(&self) -> usize {
        let links = self.links.iter();
        links
            .filter(|link| link.is_accepted && !link.server.is_closed)
            .count()
    }
}

/// The server's name for a connection it accepted; closes it when dropped, unless it was attached.
#[derive(Debug)]
pub(in crate::server) struct Descriptor {
    link: usize,
    is_attached: bool,
}

impl Descriptor {
    pub(in crate::server) fn attach(mut self) -> io::Result<(usize, Half, Half)> {
        let simulator = current().expect("its simulator runs");
        let mut network = simulator.network.borrow_mut();
        network.totals.attached += 1;
        let link = &mut network.links[self.link];
        link.is_attached = true;
        if link.fails_to_attach {
            link.is_harmed = true;
            network.totals.failed_to_attach += 1;
            drop(network);
            simulator.note("attach fails", self.link as u64, 0);
            return Err(Errno::ENOMEM.into());
        }
        link.halves = 2;
        self.is_attached = true;
        Ok((self.link, Half(self.link), Half(self.link)))
    }
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        if let Some(simulator) = current().filter(|_| !self.is_attached) {
            {
                let network = simulator.network.borrow();
                let is_full = network.open() > SURPLUS;
                if !is_full && !network.may_refuse && !network.links[self.link].is_attached {
                    simulator.fail("a connection was closed at once, though more may be open");
                }
            }
            simulator.close_server(self.link);
        }
    }
}

/// One direction of an attached socket, from the server.
#[derive(Debug)]
pub(in crate::server) struct Half(usize);

impl Half {
    /// Reads up to `room` bytes.
    pub(in crate::server) async fn read(&mut self, room: usize) -> io::Result<Vec<u8>> {
        let simulator = current().expect("its simulator runs");
        let operation = simulator.begin("a read");
        if room == 0 {
            simulator.fail("a read without room, which looks like the end of the stream");
        }
        simulator.complete().await;
        let result = poll_fn(|context| simulator.poll_read(self.0, room, context)).await;
        operation.done();
        match &result {
            Ok(bytes) => simulator.note("read", self.0 as u64, bytes.len() as u64),
            Err(error) => simulator.note("read fails", self.0 as u64, code(error)),
        }
        result
    }

    /// Writes some of `bytes`.
    pub(in crate::server) async fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let simulator = current().expect("its simulator runs");
        simulator.check_burst(self.0, bytes);
        let operation = simulator.begin("a write");
        simulator.complete().await;
        let result = poll_fn(|context| simulator.poll_write(self.0, bytes, context)).await;
        operation.done();
        match &result {
            Ok(len) => simulator.note("written", self.0 as u64, *len as u64),
            Err(error) => simulator.note("write fails", self.0 as u64, code(error)),
        }
        result
    }
}

impl Drop for Half {
    fn drop(&mut self) {
        if let Some(simulator) = current() {
            let halves = {
                let link = &mut simulator.network.borrow_mut().links[self.0];
                link.halves -= 1;
                link.halves
            };
            if halves == 0 {
                simulator.close_server(self.0);
            }
        }
    }
}

fn code(error: &io::Error) -> u64 {
    error
        .raw_os_error()
        .unwrap_or_default()
        .unsigned_abs()
        .into()
}

/// Tells accepts to give up.
#[derive(Debug, Default)]
pub(in crate::server) struct Cancel {
    is_cancelled: std::cell::Cell<bool>,
    acceptors: std::cell::RefCell<Vec<Waker>>,
}

impl Cancel {
    pub(in crate::server) fn cancel(&self) {
        self.is_cancelled.set(true);
        self.acceptors.take().into_iter().for_each(Waker::wake);
    }
}

/// What the server calls.
impl Simulator {
    /// What an operation takes beyond what it waits for. On epoll nothing, where it need not wait; a
    /// ring always answers later.
    async fn complete(&self) {
        if !self.is_io_uring {
            return;
        }
        let longest = self.network.borrow().weather.completion;
        let pause = self.random.borrow_mut().duration(longest);
        self.pause(pause).await;
    }

    pub(in crate::server) async fn accept(
        self: &Rc<Self>,
        listener: usize,
        cancel: &Cancel,
    ) -> io::Result<Descriptor> {
        if cancel.is_cancelled.get() {
            return Err(Errno::ECANCELED.into());
        }
        let operation = self.begin("an accept");
        self.complete().await;
        let result = poll_fn(|context| self.poll_accept(listener, cancel, context)).await;
        operation.done();
        match &result {
            Ok(descriptor) => self.note("accepted", descriptor.link as u64, 0),
            Err(error) => self.note("accept fails", listener as u64, code(error)),
        }
        result
    }

    /// What waits to be accepted, without waiting.
    pub(in crate::server) fn try_accept(&self, listener: usize) -> io::Result<Descriptor> {
        let mut network = self.network.borrow_mut();
        let index = listener % network.backlogs.len();
        let link = network.backlogs[index].links.pop_front();
        let link = link.ok_or(io::ErrorKind::WouldBlock)?;
        network.links[link].is_accepted = true;
        network.totals.accepted += 1;
        Ok(Descriptor {
            link,
            is_attached: false,
        })
    }

    fn poll_accept(
        &self,
        listener: usize,
        cancel: &Cancel,
        context: &Context<'_>,
    ) -> Poll<io::Result<Descriptor>> {
        const ERRORS: [Errno; 5] = [
            Errno::EMFILE,
            Errno::ENFILE,
            Errno::ECONNABORTED,
            Errno::ENOBUFS,
            Errno::ENOMEM,
        ];
        let mut network = self.network.borrow_mut();
        let index = listener % network.backlogs.len();
        let mut random = self.random.borrow_mut();
        if cancel.is_cancelled.get() && random.chance(2) {
            return Poll::Ready(Err(Errno::ECANCELED.into()));
        }
        let chance = network.weather.accept_errors;
        let backlog = &mut network.backlogs[index];
        if backlog.is_shut {
            return Poll::Ready(Err(Errno::EINVAL.into()));
        }
        if !backlog.links.is_empty() && random.chance(chance) {
            network.totals.accept_errors += 1;
            return Poll::Ready(Err(random.pick(&ERRORS).into()));
        }
        if let Some(link) = backlog.links.pop_front() {
            network.links[link].is_accepted = true;
            network.totals.accepted += 1;
            return Poll::Ready(Ok(Descriptor {
                link,
                is_attached: false,
            }));
        }
        if cancel.is_cancelled.get() {
            return Poll::Ready(Err(Errno::ECANCELED.into()));
        }
        backlog.acceptors.push(context.waker().clone());
        cancel.acceptors.borrow_mut().push(context.waker().clone());
        Poll::Pending
    }

    /// What waits to be accepted is turned away, and so is what comes.
    pub(in crate::server) fn shut_listener(&self, listener: usize) {
        let mut network = self.network.borrow_mut();
        let now = self.now();
        let index = listener % network.backlogs.len();
        let tells = self.is_io_uring || !network.weather.shared_listener;
        let backlog = &mut network.backlogs[index];
        backlog.is_shut = true;
        // epoll says nothing of it where the socket is a Unix one.
        if tells {
            backlog.acceptors.drain(..).for_each(Waker::wake);
        }
        for link in std::mem::take(&mut backlog.links) {
            let link = &mut network.links[link];
            link.server.is_closed = true;
            link.is_harmed = true;
            reset(&mut link.peer, &mut link.to_peer, now);
        }
    }

    pub(in crate::server) fn shutdown(&self, link: usize, how: Shutdown) {
        self.note("shutdown", link as u64, how as u64);
        let now = self.now();
        let mut network = self.network.borrow_mut();
        let link = &mut network.links[link];
        if link.server.is_closed {
            self.fail("a shutdown of a descriptor that is closed: it may be another's by now");
        }
        if !matches!(how, Shutdown::Write) {
            link.server.reads_no_more = true;
        }
        if !matches!(how, Shutdown::Read) {
            link.server.writes_no_more = true;
            link.to_peer.end(now);
        }
        link.server.wake();
        link.peer.wake();
    }

    fn poll_read(
        &self,
        link: usize,
        room: usize,
        context: &Context<'_>,
    ) -> Poll<io::Result<Vec<u8>>> {
        let (now, mut random) = (self.now(), self.random.borrow_mut());
        let mut network = self.network.borrow_mut();
        let weather = network.weather;
        let link = &mut network.links[link];
        if let Some(errno) = link.fault(0, now) {
            return Poll::Ready(Err(errno.into()));
        }
        let most = if random.chance(weather.short_reads) {
            room.min(1 + random.below(200))
        } else {
            room
        };
        let bytes = link.to_server.pull(most, now);
        if !bytes.is_empty() {
            link.operations[0] += 1;
            link.peer.writer.take().into_iter().for_each(Waker::wake);
            return Poll::Ready(Ok(bytes));
        }
        if link.server.is_reset {
            return Poll::Ready(Err(Errno::ECONNRESET.into()));
        }
        if link.server.reads_no_more || link.to_server.has_ended(now) {
            return Poll::Ready(Ok(Vec::new()));
        }
        if let Some(at) = link.to_server.next_at() {
            self.set_timer(at.max(now), context.waker());
        }
        link.server.reader = Some(context.waker().clone());
        Poll::Pending
    }

    fn poll_write(
        &self,
        link: usize,
        bytes: &[u8],
        context: &Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let (now, mut random) = (self.now(), self.random.borrow_mut());
        let mut network = self.network.borrow_mut();
        let weather = network.weather;
        let link = &mut network.links[link];
        let blocked = link.blocked.take();

        if let Some(errno) = link.fault(1, now) {
            link.is_broken_off = !link.written.is_between_frames();
            return Poll::Ready(Err(errno.into()));
        }
        if link.server.is_reset || link.server.writes_no_more {
            return Poll::Ready(Err(Errno::EPIPE.into()));
        }
        if link.is_broken_off {
            self.fail("something was written after a write that failed within a frame");
        }
        if link.peer.is_closed {
            // Nobody takes it, and the answer to it is a reset.
            link.operations[1] += 1;
            link.server.is_reset = true;
            link.server.wake();
            return Poll::Ready(Ok(bytes.len()));
        }
        let room = weather.capacity.saturating_sub(link.to_peer.len);
        let mut len = bytes.len().min(room);
        if len == 0 {
            link.blocked = Some(blocked.unwrap_or_else(|| (now, self.stalled_in_all())));
            link.server.writer = Some(context.waker().clone());
            return Poll::Pending;
        }
        if random.chance(weather.short_writes) {
            len = len.min(1 + random.below(200));
        }
        let delay = random.duration(weather.delay);
        link.to_peer.push(&bytes[..len], now, delay);
        link.written.note(&bytes[..len]);
        link.operations[1] += 1;
        link.peer.reader.take().into_iter().for_each(Waker::wake);
        Poll::Ready(Ok(len))
    }

    /// HAProxy's buffer is not much larger than a frame, and one that exactly fills it wedges the
    /// connection from 3.1 on: several frames together must stay well below.
    fn check_burst(&self, link: usize, bytes: &[u8]) {
        let network = self.network.borrow();
        let link = &network.links[link];
        let Some(max) = link.max_burst_len.filter(|&max| bytes.len() > max) else {
            return;
        };
        if let Some(prefix) = bytes.first_chunk::<PREFIX_LEN>()
            && link.written.is_between_frames()
            && bytes.len() > PREFIX_LEN + u32::from_be_bytes(*prefix) as usize
        {
            self.fail(format!(
                "one write has several frames and {} bytes, which may be {max}",
                bytes.len()
            ));
        }
    }

    fn close_server(&self, link: usize) {
        self.note("closed", link as u64, 0);
        let now = self.now();
        let mut network = self.network.borrow_mut();
        let link = &mut network.links[link];
        link.server.is_closed = true;
        let is_unread = link
            .to_server
            .chunks
            .front()
            .is_some_and(|(at, _)| *at <= now);
        if is_unread && !link.server.is_reset {
            reset(&mut link.peer, &mut link.to_peer, now);
        }
        link.to_peer.end(now);
        link.to_server = Pipe::default();
        link.peer.wake();
    }
}

impl Link {
    /// The error that this read (0) or write (1) has, if it is to have one.
    fn fault(&mut self, side: usize, now: Duration) -> Option<Errno> {
        let fault = self.faults[side].filter(|fault| fault.at <= self.operations[side])?;
        self.faults[side] = None;
        self.is_harmed = true;
        if fault.errno == Errno::ECONNRESET {
            self.server.is_reset = true;
            reset(&mut self.peer, &mut self.to_peer, now);
        }
        Some(fault.errno)
    }
}

fn reset(end: &mut End, pipe: &mut Pipe, now: Duration) {
    pipe.cut(now);
    end.is_reset = true;
    end.wake();
}

/// What the peers call.
impl Simulator {
    /// Connects to a listener; `None` if it is shut. `capacity` is what each direction holds.
    pub(super) fn connect(&self, listener: usize) -> Option<usize> {
        const ERRORS: [Errno; 4] = [
            Errno::ECONNRESET,
            Errno::ENOBUFS,
            Errno::ENOMEM,
            Errno::ETIMEDOUT,
        ];
        let mut network = self.network.borrow_mut();
        let mut random = self.random.borrow_mut();
        let weather = network.weather;
        let index = listener % network.backlogs.len();
        if network.backlogs[index].is_shut {
            return None;
        }
        let fault = |random: &mut Random| {
            random.chance(weather.errors).then(|| Fault {
                at: random.below(30),
                errno: random.pick(&ERRORS),
            })
        };
        let mut faults = [fault(&mut random), fault(&mut random)];
        if random.chance(weather.resets) {
            let (at, errno) = (random.below(30), Errno::ECONNRESET);
            faults[random.below(2)] = Some(Fault { at, errno });
        }
        let link = network.links.len();
        network.links.push(Link {
            to_server: Pipe::default(),
            to_peer: Pipe::default(),
            server: End::default(),
            peer: End::default(),
            is_accepted: false,
            is_attached: false,
            is_harmed: false,
            blocked: None,
            halves: 0,
            operations: [0; 2],
            faults,
            fails_to_attach: random.chance(weather.attach_errors),
            max_burst_len: None,
            written: Written::default(),
            is_broken_off: false,
        });
        let backlog = &mut network.backlogs[index];
        backlog.links.push_back(link);
        backlog.acceptors.drain(..).for_each(Waker::wake);
        drop((network, random));
        self.note("connects", link as u64, index as u64);
        Some(link)
    }

    /// Whether anything was done to this connection that the server cannot make up for.
    pub(super) fn is_harmed(&self, link: usize) -> bool {
        self.network.borrow().links[link].is_harmed
    }

    /// Whether the server took it on, rather than turn it away.
    pub(super) fn is_attached(&self, link: usize) -> bool {
        self.network.borrow().links[link].is_attached
    }

    /// Since when a write waits for the peer to read, and how long cores had been kept busy by then.
    pub(super) fn blocked(&self, link: usize) -> Option<(Duration, Duration)> {
        self.network.borrow().links[link].blocked
    }

    /// Whether the server has let go of it.
    pub(super) fn is_closed_by_server(&self, link: usize) -> bool {
        self.network.borrow().links[link].server.is_closed
    }

    pub(super) fn set_max_burst_len(&self, link: usize, len: usize) {
        self.network.borrow_mut().links[link].max_burst_len = Some(len);
    }

    /// Reads up to `max` bytes; none is the end.
    pub(super) async fn peer_read(&self, link: usize, max: usize) -> io::Result<Vec<u8>> {
        poll_fn(|context| {
            let now = self.now();
            let mut network = self.network.borrow_mut();
            let link = &mut network.links[link];
            let bytes = link.to_peer.pull(max, now);
            if !bytes.is_empty() {
                link.server.writer.take().into_iter().for_each(Waker::wake);
                return Poll::Ready(Ok(bytes));
            }
            if link.peer.is_reset || link.peer.is_closed {
                return Poll::Ready(Err(Errno::ECONNRESET.into()));
            }
            if link.to_peer.has_ended(now) {
                return Poll::Ready(Ok(Vec::new()));
            }
            if let Some(at) = link.to_peer.next_at() {
                self.set_timer(at.max(now), context.waker());
            }
            link.peer.reader = Some(context.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// Writes all of `bytes`.
    pub(super) async fn peer_write(&self, link: usize, bytes: &[u8]) -> io::Result<()> {
        let mut rest = bytes;
        poll_fn(|context| {
            let (now, mut random) = (self.now(), self.random.borrow_mut());
            let mut network = self.network.borrow_mut();
            let weather = network.weather;
            let link = &mut network.links[link];
            while !rest.is_empty() {
                if link.peer.is_reset || link.peer.is_closed || link.peer.writes_no_more {
                    return Poll::Ready(Err(Errno::EPIPE.into()));
                }
                if link.server.reads_no_more && link.server.writes_no_more {
                    // What came before can still be read; more is answered with a reset.
                    link.server.is_reset = true;
                    link.server.wake();
                }
                if link.server.is_closed || link.server.is_reset {
                    link.peer.is_reset = true;
                    link.peer.wake();
                    return Poll::Ready(Ok(()));
                }
                let room = weather.capacity.saturating_sub(link.to_server.len);
                let len = rest.len().min(room);
                if len == 0 {
                    link.peer.writer = Some(context.waker().clone());
                    return Poll::Pending;
                }
                let delay = random.duration(weather.delay);
                link.to_server.push(&rest[..len], now, delay);
                link.server.reader.take().into_iter().for_each(Waker::wake);
                rest = &rest[len..];
            }
            Poll::Ready(Ok(()))
        })
        .await
    }

    /// Ends the stream to the server; the other direction goes on.
    pub(super) fn peer_shut_write(&self, link: usize) {
        self.note("half-closes", link as u64, 0);
        let now = self.now();
        let link = &mut self.network.borrow_mut().links[link];
        link.peer.writes_no_more = true;
        link.to_server.end(now);
        link.server.wake();
    }

    pub(super) fn peer_close(&self, link: usize) {
        self.note("closes", link as u64, 0);
        let now = self.now();
        let link = &mut self.network.borrow_mut().links[link];
        if link.peer.is_closed {
            return;
        }
        link.peer.is_closed = true;
        if link
            .to_peer
            .chunks
            .front()
            .is_some_and(|(at, _)| *at <= now)
        {
            reset(&mut link.server, &mut link.to_server, now);
        }
        link.to_server.end(now);
        link.to_peer = Pipe::default();
        link.server.wake();
        link.peer.wake();
    }

    /// Ends the connection with a reset.
    pub(super) fn peer_reset(&self, link: usize) {
        self.note("resets", link as u64, 0);
        let now = self.now();
        let link = &mut self.network.borrow_mut().links[link];
        link.peer.is_closed = true;
        reset(&mut link.server, &mut link.to_server, now);
        link.to_peer = Pipe::default();
        link.peer.wake();
    }
}
