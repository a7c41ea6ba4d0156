//! One thread's connections: sockets, an epoll loop, and the sending of NOTIFYs.
//!
//! What a frame costs here decides whether the generator measures the agent or itself, so: one
//! read takes every ACK that has come, one write sends every NOTIFY they made room for, one clock
//! reading stands for all ACKs of a read and one for all NOTIFYs of a write, and nothing is
//! allocated once buffers have grown to their size.
//!
//! Sockets are edge-triggered: a level-triggered one is put back on the ready list by every
//! `epoll_wait` that reports it and polled once more, which at one frame in flight is a good part
//! of a frame's cost. A read shorter than the buffer has emptied the socket, so none is followed by
//! another that only says so.

use std::collections::VecDeque;
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use ringspoa::spop::{Disconnect, Status};
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, recv,
    send, socket_with, sockopt,
};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime,
};

use crate::connection::{Session, append};
use crate::errors::{ErrorKind, Fault};
use crate::latency::{Mailbox, Recorder};
use crate::plan::{NS_PER_S, Plan, Schedule, Target, Timeline, nanoseconds};
use crate::profile::Generator;
use crate::slots::Flight;

/// One read takes this much: some thousand ACKs.
const READ_LEN: usize = 256 * 1024;

/// Sockets reported by one `epoll_wait`.
const MAX_EVENTS: usize = 256;

/// The pause before a connection that failed is opened again: a run against a dying agent makes at
/// most ten attempts a second and connection.
const RETRY_NS: u64 = 100_000_000;

/// The longest wait, so that a signal ends the run without a wake-up of its own.
const MAX_WAIT_NS: u64 = 100_000_000;

/// How long connections may take to close after HAPROXY-DISCONNECT.
const CLOSE_NS: u64 = 200_000_000;

/// In an open loop, connections that get a NOTIFY before they are written to and the clock is read
/// again: their NOTIFYs share a send time, which is late by the writes of the others at most.
const SEND_BATCH: usize = 8;

/// The most that is taken off a wait for being woken late. In a virtual machine an idle core takes
/// 40 to 60 us to come back from a timer (38 us measured at the median on the machine this was
/// written on); more than this is not idleness but another process.
const MAX_WAKE_LAG_NS: u64 = 100_000;

/// Woken this much before the time, on top of the usual lag, since the lag varies.
const WAKE_MARGIN_NS: u64 = 4_000;

/// What epoll reports for the timer; connections have their index.
const TIMER: u64 = u64::MAX;

/// Nanoseconds since an instant all threads share.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock(Instant);

impl Clock {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    #[inline]
    pub(crate) fn now_ns(self) -> u64 {
        let elapsed = self.0.elapsed();
        elapsed.as_secs() * NS_PER_S + u64::from(elapsed.subsec_nanos())
    }
}

/// What a thread can say once its connections had their first attempt.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) running: usize,
    /// Of these, without pipelining.
    pub(crate) sequential: usize,
    pub(crate) fault: Option<Fault>,
}

/// What a thread leaves when it is done.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) recorder: Recorder,
    /// Frames of each measured second.
    pub(crate) frames_by_second: Vec<u64>,
    /// NOTIFYs that were due before the end and found no free slot until then.
    pub(crate) unsent: u64,
    /// When counting really ended.
    pub(crate) end_ns: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
enum Phase {
    Opening,
    Warmup,
    Measuring,
    Draining,
    Closing,
}

#[derive(Debug)]
struct Connection {
    /// None between attempts.
    socket: Option<OwnedFd>,
    /// The socket is not connected yet.
    connecting: bool,
    /// `out` waits for the socket to take more.
    write_blocked: bool,
    /// In `Client::ready`.
    queued: bool,
    /// In `Client::unwritten`.
    unwritten: bool,
    /// Has run or failed once.
    attempted: bool,
    session: Session,
    /// The start of a frame whose rest has not come.
    carry: Vec<u8>,
    out: Vec<u8>,
    opened_ns: u64,
}

/// One thread's part of a run.
pub(crate) struct Client<'p> {
    plan: &'p Plan,
    stop: &'p AtomicBool,
    mailbox: &'p Mailbox,
    clock: Clock,
    engine_id: &'p str,
    thread: usize,
    epoll: OwnedFd,
    /// In an open loop wakes the thread for the next NOTIFY: the timeout of `epoll_wait` has
    /// milliseconds, and `epoll_pwait2` needs Linux 5.11.
    timer: OwnedFd,
    /// When the timer goes off, and the NOTIFY it was set for is due; 0 if it is not set.
    timer_ns: u64,
    timer_due_ns: u64,
    events: Vec<epoll::Event>,
    input: Box<[u8]>,
    connections: Vec<Connection>,
    /// Connections to open again, in order of time.
    retries: VecDeque<(u64, usize)>,
    generator: Generator,
    recorder: Recorder,
    phase: Phase,
    timeline: Timeline,
    /// When the phase ends, or the second.
    mark_ns: u64,
    frames_by_second: Vec<u64>,
    /// Frames of the seconds before this one.
    frames_before: u64,
    frames_total: u64,
    first_fault: Option<Fault>,
    /// Open loop only.
    schedule: Option<Schedule>,
    /// Connections with a free slot, in the order they get the next NOTIFYs; some may be closed.
    ready: VecDeque<usize>,
    /// Connections whose `out` is to be written.
    unwritten: Vec<usize>,
    /// A NOTIFY is due and no connection has a free slot.
    starved: bool,
    /// When that was last over: NOTIFYs due before waited for the agent, not for the generator.
    fed_ns: u64,
    /// How late timers usually wake this thread.
    wake_lag_ns: u64,
}

impl<'p> Client<'p> {
    pub(crate) fn new(
        plan: &'p Plan,
        thread: usize,
        clock: Clock,
        engine_id: &'p str,
        mailbox: &'p Mailbox,
        stop: &'p AtomicBool,
    ) -> Result<Self, Errno> {
        let open_loop = plan.rate.is_some();
        let connection = || Connection {
            socket: None,
            connecting: false,
            write_blocked: false,
            queued: false,
            unwritten: false,
            attempted: false,
            session: Session::new(plan),
            carry: Vec::new(),
            out: Vec::new(),
            opened_ns: 0,
        };
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        // Edge-triggered, it reports once each time it goes off and is never read.
        let flags = epoll::EventFlags::IN | epoll::EventFlags::ET;
        epoll::add(&epoll, &timer, epoll::EventData::new_u64(TIMER), flags)?;
        Ok(Self {
            plan,
            stop,
            mailbox,
            clock,
            engine_id,
            thread,
            epoll,
            timer,
            timer_ns: 0,
            timer_due_ns: 0,
            events: Vec::with_capacity(MAX_EVENTS),
            // What is carried over is less than a frame and goes before what is read.
            input: vec![0; READ_LEN + plan.max_frame_size as usize + 4].into_boxed_slice(),
            connections: (0..plan.connections_of(thread))
                .map(|_| connection())
                .collect(),
            retries: VecDeque::new(),
            generator: plan.profile.generator(thread),
            recorder: Recorder::new(open_loop),
            phase: Phase::Opening,
            timeline: Timeline::new(plan, 0),
            mark_ns: u64::MAX,
            frames_by_second: Vec::new(),
            frames_before: 0,
            frames_total: 0,
            first_fault: None,
            schedule: None,
            ready: VecDeque::new(),
            unwritten: Vec::new(),
            starved: false,
            fed_ns: 0,
            wake_lag_ns: MAX_WAKE_LAG_NS / 2,
        })
    }

    /// Opens every connection, until each has run or failed once.
    pub(crate) fn open_all(&mut self) -> Opened {
        let deadline_ns = self.clock.now_ns() + nanoseconds(self.plan.connect_timeout);
        for index in 0..self.connections.len() {
            self.open(index);
        }
        while self
            .connections
            .iter()
            .any(|connection| !connection.attempted)
        {
            let now = self.clock.now_ns();
            if now >= deadline_ns || self.stop.load(Ordering::Relaxed) {
                break;
            }
            self.reopen(now);
            let retry_ns = self.retries.front().map_or(u64::MAX, |&(at, _)| at);
            let wake_ns = deadline_ns.min(retry_ns).min(now + MAX_WAIT_NS);
            self.wait(wake_ns.saturating_sub(now));
        }
        self.give_up_slow(self.clock.now_ns());
        let running = || self.connections.iter().filter(|c| c.session.is_running());
        Opened {
            running: running().count(),
            sequential: running()
                .filter(|connection| connection.session.limit() < self.plan.in_flight)
                .count(),
            fault: self.first_fault.take(),
        }
    }

    /// Sends and measures as the plan says.
    pub(crate) fn run(mut self, timeline: Timeline) -> Finished {
        // The kernel may delay timers by 50 us by default, to wake less often. Failing to change
        // that costs precision only, which the table shows.
        let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
        self.timeline = timeline;
        self.phase = Phase::Warmup;
        self.mark_ns = timeline.measure_ns;
        let seconds = (timeline.end_ns - timeline.measure_ns).div_ceil(NS_PER_S);
        self.frames_by_second
            .reserve(usize::try_from(seconds).unwrap_or(0) + 1);
        if let Some(rate) = self.plan.rate {
            self.schedule = Some(Schedule::new(
                self.plan,
                self.thread,
                rate,
                timeline.start_ns,
            ));
        }
        for index in 0..self.connections.len() {
            self.use_free_slots(index);
        }
        while self.step() {}
        self.finish()
    }

    /// One turn: what the time asks for, then what the sockets have. False when drained.
    fn step(&mut self) -> bool {
        let now = self.clock.now_ns();
        if self.stop.load(Ordering::Relaxed) && self.phase < Phase::Draining {
            self.timeline.end_ns = now;
            self.timeline.measure_ns = self.timeline.measure_ns.min(now);
            self.timeline.drained_ns = now + nanoseconds(self.plan.drain);
            self.mark_ns = now;
        }
        while now >= self.mark_ns {
            if !self.pass_mark(now) {
                return false;
            }
        }
        if self.phase == Phase::Draining && self.in_flight() == 0 {
            return false;
        }
        self.reopen(now);
        let due_ns = self.send_due(now);
        let retry_ns = self.retries.front().map_or(u64::MAX, |&(at, _)| at);
        let wake_ns = self.mark_ns.min(retry_ns).min(now + MAX_WAIT_NS);
        // Timers wake late, and by how much depends on how deep the core slept. So the thread asks
        // to be woken earlier by what it usually was late, and polls for the rest: NOTIFYs leave on
        // time, and an idle generator sleeps still. Where NOTIFYs are due at shorter intervals than
        // that, it polls all the time, which takes one core and no more.
        let early_ns = if self.plan.polling {
            self.wake_lag_ns + WAKE_MARGIN_NS
        } else {
            0
        };
        let asked_ns = due_ns.saturating_sub(early_ns);
        if asked_ns <= now {
            self.wait(0);
        } else {
            if asked_ns < wake_ns && self.timer_due_ns != due_ns {
                self.set_timer(asked_ns, due_ns, asked_ns - now);
            }
            self.wait(wake_ns.saturating_sub(now));
        }
        true
    }

    /// Enters the next phase or second. False at the end of the drain.
    fn pass_mark(&mut self, now: u64) -> bool {
        let Timeline {
            measure_ns,
            end_ns,
            drained_ns,
            ..
        } = self.timeline;
        match self.phase {
            Phase::Warmup => {
                self.recorder.interval.clear();
                self.recorder.counting = true;
                self.phase = Phase::Measuring;
                self.mark_ns = end_ns.min(measure_ns + NS_PER_S);
            }
            Phase::Measuring => {
                let frames = self.frames_total + self.recorder.interval.frames;
                self.frames_by_second.push(frames - self.frames_before);
                self.frames_before = frames;
                let in_interval = self.recorder.interval.frames;
                let errors = self.recorder.errors.total();
                self.mailbox.leave(&mut self.recorder.interval, errors);
                self.frames_total += in_interval - self.recorder.interval.frames;
                self.give_up_slow(now);
                if self.mark_ns >= end_ns {
                    self.recorder.counting = false;
                    self.phase = Phase::Draining;
                    self.mark_ns = drained_ns;
                } else {
                    self.mark_ns = end_ns.min(self.mark_ns + NS_PER_S);
                }
            }
            _ => return false,
        }
        true
    }

    fn in_flight(&self) -> usize {
        let in_flight = |connection: &Connection| connection.session.in_flight();
        self.connections.iter().map(in_flight).sum()
    }

    fn finish(mut self) -> Finished {
        let lost = self.in_flight() as u64;
        self.recorder.errors.add_many(ErrorKind::Unanswered, lost);
        let end_ns = self.timeline.end_ns;
        let unsent = self
            .schedule
            .as_mut()
            .map_or(0, |schedule| schedule.drain_before(end_ns));
        self.say_goodbye();
        Finished {
            recorder: self.recorder,
            frames_by_second: self.frames_by_second,
            unsent,
            end_ns,
        }
    }

    /// Ends each connection as HAProxy does when it stops, and gives agents a moment to answer.
    fn say_goodbye(&mut self) {
        self.phase = Phase::Closing;
        self.retries.clear();
        for index in 0..self.connections.len() {
            let connection = &mut self.connections[index];
            if connection.session.is_running() {
                let disconnect = Disconnect::with_status(Status::NORMAL);
                append(&mut connection.out, |room| disconnect.encode_haproxy(room));
                self.write(index);
            } else {
                self.close(index);
            }
        }
        let deadline_ns = self.clock.now_ns() + CLOSE_NS;
        while self
            .connections
            .iter()
            .any(|connection| connection.socket.is_some())
        {
            let now = self.clock.now_ns();
            if now >= deadline_ns {
                break;
            }
            self.wait(deadline_ns - now);
        }
    }

    fn set_timer(&mut self, timer_ns: u64, due_ns: u64, wait_ns: u64) {
        let timer = Itimerspec {
            it_interval: timespec(0),
            it_value: timespec(wait_ns),
        };
        timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &timer)
            .expect("a timer of our own takes any time");
        self.timer_ns = timer_ns;
        self.timer_due_ns = due_ns;
    }

    /// Learns how late timers wake this thread.
    fn handle_timer(&mut self) {
        let late_ns = self.clock.now_ns().saturating_sub(self.timer_ns);
        self.wake_lag_ns = (self.wake_lag_ns * 7 + late_ns.min(MAX_WAKE_LAG_NS)) / 8;
        // With a smaller lag there may be time left to sleep before the same NOTIFY.
        self.timer_due_ns = 0;
    }

    /// Waits for sockets or the timer and serves them.
    fn wait(&mut self, timeout_ns: u64) {
        let timeout = timespec(timeout_ns);
        self.events.clear();
        match epoll::wait(
            &self.epoll,
            spare_capacity(&mut self.events),
            Some(&timeout),
        ) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => panic!("epoll_wait on a descriptor of our own: {error}"),
        }
        let count = self.events.len();
        for at in 0..count {
            let event = self.events[at];
            let flags = event.flags;
            if event.data.u64() == TIMER {
                self.handle_timer();
                continue;
            }
            // An index of `connections`, as given to epoll.
            let index = usize::try_from(event.data.u64()).unwrap_or(usize::MAX);
            self.handle_event(index, flags);
        }
    }

    #[inline]
    fn handle_event(&mut self, index: usize, flags: epoll::EventFlags) {
        const ENDED: epoll::EventFlags = epoll::EventFlags::RDHUP
            .union(epoll::EventFlags::HUP)
            .union(epoll::EventFlags::ERR);
        if self.connections[index].connecting {
            self.handle_connected(index);
            return;
        }
        if flags.intersects(epoll::EventFlags::IN | ENDED) {
            self.read(index, flags.intersects(ENDED));
            self.use_free_slots(index);
        }
        if flags.contains(epoll::EventFlags::OUT) && self.connections[index].write_blocked {
            self.connections[index].write_blocked = false;
            if self.watch(index, false) {
                self.write(index);
            }
        }
    }

    // --- opening and closing -----------------------------------------------------------------

    fn open(&mut self, index: usize) {
        let connection = &mut self.connections[index];
        connection.session = Session::new(self.plan);
        connection.carry.clear();
        connection.out.clear();
        connection.write_blocked = false;
        connection.opened_ns = self.clock.now_ns();
        match open_socket(&self.plan.target) {
            Ok((socket, connected)) => {
                // A connection in progress reports writable when it is made.
                let flags = events_of(!connected);
                let data = epoll::EventData::new_u64(index as u64);
                if let Err(error) = epoll::add(&self.epoll, &socket, data, flags) {
                    self.fail(index, Fault::new(ErrorKind::Connect, error.to_string()));
                    return;
                }
                let connection = &mut self.connections[index];
                connection.socket = Some(socket);
                connection.connecting = !connected;
                if connected {
                    self.say_hello(index);
                }
            }
            // The backlog of a UNIX socket is full, where TCP would wait by itself.
            Err(Errno::AGAIN) => self.retry(index),
            Err(error) => self.fail(index, Fault::new(ErrorKind::Connect, describe(error))),
        }
    }

    fn handle_connected(&mut self, index: usize) {
        let connection = &mut self.connections[index];
        let Some(socket) = &connection.socket else {
            return;
        };
        match sockopt::socket_error(socket) {
            Ok(Ok(())) => {
                connection.connecting = false;
                if self.watch(index, false) {
                    self.say_hello(index);
                }
            }
            Ok(Err(error)) | Err(error) => {
                self.fail(index, Fault::new(ErrorKind::Connect, describe(error)));
            }
        }
    }

    fn say_hello(&mut self, index: usize) {
        let connection = &mut self.connections[index];
        connection
            .session
            .hello(self.engine_id, &mut connection.out);
        self.write(index);
    }

    /// Has epoll report when the socket takes more, or stop that: a UNIX socket would otherwise
    /// report it after every read of the agent.
    fn watch(&mut self, index: usize, writable: bool) -> bool {
        let Some(socket) = &self.connections[index].socket else {
            return false;
        };
        let data = epoll::EventData::new_u64(index as u64);
        match epoll::modify(&self.epoll, socket, data, events_of(writable)) {
            Ok(()) => true,
            Err(error) => {
                self.fail(index, Fault::new(ErrorKind::Closed, error.to_string()));
                false
            }
        }
    }

    /// Gives a connection up: counts why, and what is lost with it, and tries again later.
    #[cold]
    fn fail(&mut self, index: usize, fault: Fault) {
        let connection = &mut self.connections[index];
        let in_flight = connection.session.in_flight() as u64;
        connection.attempted = true;
        self.close(index);
        // Nothing in flight and nothing to come: what the agent does then is its own affair.
        if self.phase == Phase::Closing || self.phase == Phase::Draining && in_flight == 0 {
            return;
        }
        let errors = &mut self.recorder.errors;
        errors.add(fault.kind, || fault.text.clone());
        errors.add_many(ErrorKind::Lost, in_flight);
        self.first_fault.get_or_insert(fault);
        if self.phase < Phase::Draining {
            self.retry(index);
        }
    }

    fn close(&mut self, index: usize) {
        let connection = &mut self.connections[index];
        // Closing the socket takes it out of epoll.
        connection.socket = None;
        connection.connecting = false;
        connection.session = Session::new(self.plan);
    }

    fn retry(&mut self, index: usize) {
        self.retries
            .push_back((self.clock.now_ns() + RETRY_NS, index));
    }

    fn reopen(&mut self, now: u64) {
        while let Some(&(at, index)) = self.retries.front()
            && at <= now
            && self.phase < Phase::Draining
        {
            self.retries.pop_front();
            self.open(index);
        }
    }

    /// Fails the connections whose HELLO takes too long.
    fn give_up_slow(&mut self, now: u64) {
        let timeout = self.plan.connect_timeout;
        for index in 0..self.connections.len() {
            let connection = &self.connections[index];
            let slow = now >= connection.opened_ns.saturating_add(nanoseconds(timeout));
            if connection.socket.is_none() || connection.session.is_running() || !slow {
                continue;
            }
            let fault = if connection.connecting {
                let text = format!("no answer within {timeout:?}");
                Fault::new(ErrorKind::Connect, text)
            } else {
                let text = format!("no AGENT-HELLO within {timeout:?}, is this a SPOA?");
                Fault::new(ErrorKind::Handshake, text)
            };
            self.fail(index, fault);
        }
    }

    // --- receiving ---------------------------------------------------------------------------

    /// Reads until the socket is empty, or at its end if the peer `ended` it.
    #[inline]
    fn read(&mut self, index: usize, ended: bool) {
        loop {
            let connection = &mut self.connections[index];
            let Some(socket) = &connection.socket else {
                return;
            };
            let carried = connection.carry.len();
            if carried > 0 {
                self.input[..carried].copy_from_slice(&connection.carry);
            }
            let room = &mut self.input[carried..][..READ_LEN];
            let len = match recv(socket, room, RecvFlags::empty()) {
                Ok((0, _)) => {
                    let text = "the agent closed the connection".to_owned();
                    let fault = Fault::new(closed_kind(connection), text);
                    return self.fail(index, fault);
                }
                Ok((len, _)) => len,
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => return,
                Err(error) => {
                    let fault = Fault::new(closed_kind(connection), describe(error));
                    return self.fail(index, fault);
                }
            };
            let received_ns = self.clock.now_ns();
            self.recorder.received_bytes(len);
            let was_running = connection.session.is_running();
            let input = &self.input[..carried + len];
            let expectations = &self.plan.expectations;
            let recorder = &mut self.recorder;
            match connection
                .session
                .handle_input(input, received_ns, expectations, recorder)
            {
                Ok(consumed) => {
                    connection.carry.clear();
                    connection.carry.extend_from_slice(&input[consumed..]);
                    connection.attempted |= !was_running && connection.session.is_running();
                }
                Err(fault) => return self.fail(index, fault),
            }
            if self.starved && self.connections[index].session.can_send() {
                self.starved = false;
                self.fed_ns = received_ns;
            }
            if len < READ_LEN && !ended {
                return;
            }
        }
    }

    // --- sending -----------------------------------------------------------------------------

    /// In a closed loop fills a connection's free slots; in an open one puts it in the queue of
    /// those that have some.
    #[inline]
    fn use_free_slots(&mut self, index: usize) {
        let connection = &mut self.connections[index];
        if !connection.session.can_send() || !matches!(self.phase, Phase::Warmup | Phase::Measuring)
        {
            return;
        }
        if self.schedule.is_some() {
            if !connection.queued {
                connection.queued = true;
                self.ready.push_back(index);
            }
            return;
        }
        let sent_ns = self.clock.now_ns();
        let flight = Flight {
            intended_ns: sent_ns,
            sent_ns,
        };
        while connection.session.can_send() {
            let stream_id = connection.session.open(flight);
            self.generator.encode(&mut connection.out, stream_id);
        }
        self.write(index);
    }

    /// In an open loop sends what is due, one batch of it. Returns when the next NOTIFY can be
    /// sent: now if the batch was full, never if there is no free slot.
    #[inline]
    fn send_due(&mut self, now: u64) -> u64 {
        let Some(schedule) = &mut self.schedule else {
            return u64::MAX;
        };
        if self.phase > Phase::Measuring {
            return u64::MAX;
        }
        let mut next_ns = u64::MAX;
        while !self.starved {
            let due_ns = schedule.due_ns();
            if due_ns > now || self.unwritten.len() >= SEND_BATCH {
                next_ns = due_ns;
                break;
            }
            let Some(index) = self.ready.pop_front() else {
                self.starved = true;
                break;
            };
            let connection = &mut self.connections[index];
            connection.queued = false;
            if !connection.session.can_send() {
                continue;
            }
            let flight = Flight {
                intended_ns: due_ns,
                sent_ns: now,
            };
            let stream_id = connection.session.open(flight);
            self.generator.encode(&mut connection.out, stream_id);
            if due_ns >= self.fed_ns {
                self.recorder.late(now - due_ns);
            }
            schedule.advance();
            if connection.session.can_send() {
                connection.queued = true;
                self.ready.push_back(index);
            }
            if !connection.unwritten {
                connection.unwritten = true;
                self.unwritten.push(index);
            }
        }
        if !self.unwritten.is_empty() {
            // A lag learnt once must not keep the thread from ever sleeping again.
            self.wake_lag_ns -= self.wake_lag_ns / 64;
        }
        while let Some(index) = self.unwritten.pop() {
            self.connections[index].unwritten = false;
            self.write(index);
        }
        next_ns
    }

    /// Writes what is to be written, as far as the socket takes it.
    #[inline]
    fn write(&mut self, index: usize) {
        let connection = &mut self.connections[index];
        let Some(socket) = &connection.socket else {
            return;
        };
        if connection.write_blocked {
            return;
        }
        let mut written = 0;
        let result = loop {
            match send(socket, &connection.out[written..], SendFlags::NOSIGNAL) {
                Ok(len) => {
                    written += len;
                    if written == connection.out.len() {
                        break Ok(());
                    }
                }
                Err(Errno::INTR) => {}
                Err(error) => break Err(error),
            }
        };
        self.recorder.sent_bytes(written);
        if written == connection.out.len() {
            connection.out.clear();
        } else {
            connection.out.drain(..written);
        }
        match result {
            Ok(()) => {}
            Err(Errno::AGAIN) => {
                connection.write_blocked = true;
                self.watch(index, true);
            }
            Err(error) => {
                // What the agent said before it closed tells more than a broken pipe.
                self.read(index, true);
                if self.connections[index].socket.is_some() {
                    self.fail(index, Fault::new(ErrorKind::Closed, describe(error)));
                }
            }
        }
    }
}

fn timespec(nanoseconds: u64) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(nanoseconds / NS_PER_S).unwrap_or(i64::MAX),
        tv_nsec: i64::try_from(nanoseconds % NS_PER_S).unwrap_or(0),
    }
}

fn events_of(writable: bool) -> epoll::EventFlags {
    let always = epoll::EventFlags::IN | epoll::EventFlags::RDHUP | epoll::EventFlags::ET;
    if writable {
        always | epoll::EventFlags::OUT
    } else {
        always
    }
}

/// A connection that goes before HELLO was never one.
fn closed_kind(connection: &Connection) -> ErrorKind {
    if connection.session.is_running() {
        ErrorKind::Closed
    } else {
        ErrorKind::Handshake
    }
}

/// The system's words for an error.
fn describe(error: Errno) -> String {
    std::io::Error::from(error).to_string()
}

/// A socket, and whether it is connected already.
fn open_socket(target: &Target) -> Result<(OwnedFd, bool), Errno> {
    let family = match target {
        Target::Tcp(address) if address.is_ipv4() => AddressFamily::INET,
        Target::Tcp(_) => AddressFamily::INET6,
        Target::Unix(_) => AddressFamily::UNIX,
    };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(family, SocketType::STREAM, flags, None)?;
    let result = match target {
        Target::Tcp(address) => {
            sockopt::set_tcp_nodelay(&socket, true)?;
            connect(&socket, address)
        }
        Target::Unix(path) => connect(&socket, &SocketAddrUnix::new(path)?),
    };
    match result {
        Ok(()) => Ok((socket, true)),
        Err(Errno::INPROGRESS) => Ok((socket, false)),
        Err(error) => Err(error),
    }
}
