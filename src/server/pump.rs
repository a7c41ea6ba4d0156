//! One socket to one connection: read, answer everything that is there, write once.

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use monoio::buf::IoBufMut;

use super::buffers::output_len;
use super::hand_over::HandedOver;
use super::io::{Instant, Receiver, Shutdown, now, precise_now, sleep};
use super::peer::{Lane, Peer};
use super::stats::Counted;
use super::worker::{Desk, LINGER, REST, Worker};
use crate::agent::{Agent, Fault, Notified, Outcome, dispatch, finish_late};
use crate::connection::{CloseReason, Event, MAX_REPLY_LEN, State};
use crate::dump::dump_stream;
use crate::spop::{PREFIX_LEN, Status};

/// NOTIFYs answered before their ACKs are written even if there is more to do: slow agents must
/// not keep the first answers waiting for the last.
const MAX_TURN_FRAMES: usize = 256;

/// How often a turn looks at the clock, to end early when the agent is slow.
const CLOCK_EVERY: usize = 16;

/// How often to look whether a handshake's time has come.
const HANDSHAKE_REST: Duration = Duration::from_millis(10);

/// How much of a core a peer takes by always having something to read. On epoll a read or write
/// that need not wait lets no other task run; on a ring each one does.
struct Share {
    /// When it last waited, for whatever reason; epoll only. Not by the coarse clock, whose next tick
    /// may be due at any time: it made one of a thousand NOTIFYs of a lone peer wait for 2 ms.
    began: Option<Instant>,
    /// Turns since then.
    turns: usize,
}

impl Share {
    /// A peer rests after this long.
    const SLICE: Duration = Duration::from_millis(1);

    /// Or after this many turns, divided by the core's peers, since all of them may do the same;
    /// but not below a number that makes resting dear where most peers are idle.
    const TURNS: usize = 64;
    const MIN_TURNS: usize = 8;

    fn new(is_io_uring: bool) -> Self {
        Self {
            began: (!is_io_uring).then(Instant::now),
            turns: 0,
        }
    }

    /// Lets the others run if it is their turn.
    async fn give_way<A: Agent + 'static>(&mut self, worker: &Worker<A>) {
        self.turns += 1;
        let Some(began) = self.began else { return };
        let turns = (Self::TURNS / worker.peer_count().max(1)).max(Self::MIN_TURNS);
        if self.turns >= turns || began.elapsed() >= Self::SLICE {
            sleep(REST).await;
            *self = Self::new(worker.is_io_uring);
        }
    }
}

/// What one turn over the input did.
struct Turn {
    /// Bytes of input used.
    used: usize,
    /// Bytes of output made.
    filled: usize,
    /// Of these, how many to write first and on their own; the rest is one ACK that would have
    /// made the burst too long.
    first: usize,
    /// Whether all whole frames of the input were handled.
    exhausted: bool,
}

/// Serves one peer until either side has had enough.
pub(super) async fn pump<A: Agent + 'static>(
    worker: &Rc<Worker<A>>,
    key: usize,
    peer: &Rc<Peer>,
    mut receiver: Receiver,
    received: Vec<u8>,
) {
    let wanted = peer.connection.borrow().min_input_len();
    let mut input = worker.buffers.take_input(wanted, worker.largest_input());
    // Of a connection that another process began.
    input.extend_from_slice(&received);
    drop(received);
    // input[start..] is what was not handled yet: a part of a frame, between turns.
    let mut start = 0;
    let mut share = Share::new(worker.is_io_uring);
    // A handshake waits for its turn once.
    let mut admitted = peer.connection.borrow().is_introduced();
    'connection: loop {
        let wanted = peer.connection.borrow().min_input_len();
        input = make_room(worker, input, &mut start, wanted);
        if worker.hands_over.get() && Box::pin(give_away(worker, peer, &input[start..])).await {
            break;
        }
        let (filled, capacity) = (input.len(), input.capacity());
        // On epoll a read that waits is interrupted by dropping it, and its buffer with it.
        let kept = if worker.is_io_uring || start == filled {
            Vec::new()
        } else {
            input[start..].to_vec()
        };
        // On a ring it is never dropped while in flight, see `Peer::shutdown`.
        let mut read = pin!(receiver.read(input.slice_mut(filled..capacity)));
        let mut waited = false;
        let done = poll_fn(|context| {
            let poll = read.as_mut().poll(context);
            if poll.is_pending() {
                waited = true;
                if !worker.is_io_uring && peer.interrupted.poll(context).is_ready() {
                    return Poll::Ready(None);
                }
            }
            poll.map(Some)
        })
        .await;
        let Some((result, slice)) = done else {
            input = worker.buffers.take_input(wanted, worker.largest_input());
            input.extend_from_slice(&kept);
            start = 0;
            continue;
        };
        input = slice.into_inner();
        match result {
            Ok(len @ 1..) => worker.counters.bytes_received.add(len as u64),
            Err(error) if is_interrupt(&error) => continue,
            _ => break,
        }
        if !admitted {
            if !worker.admits_handshake() && !Box::pin(await_turn(worker, peer)).await {
                break;
            }
            admitted = true;
        }
        let mut began = precise_now();
        // Before it gives way: a sweep may come meanwhile.
        peer.active_at.set(began);
        if waited {
            share = Share::new(worker.is_io_uring);
        } else {
            share.give_way(worker).await;
            began = precise_now();
        }
        if let Some(busy_poll) = &worker.busy_poll {
            busy_poll.note();
        }
        loop {
            let (turn, mut output) = turn(worker, key, peer, &input[start..], began);
            if peer.traced.is_some() {
                trace(
                    peer,
                    &input[start..start + turn.used],
                    &output[..turn.filled],
                );
            }
            start += turn.used;
            let state = peer.connection.borrow().state();
            if matches!(state, State::Closing(_)) && !peer.connection.borrow().is_introduced() {
                Box::pin(await_refusal(worker, state)).await;
            }
            let goes_on = matches!(state, State::Running | State::AwaitingHello);
            let mut written = true;
            if !goes_on && peer.has_flusher.get() {
                // The goodbye is the last frame, also where late answers are on their way.
                peer.late
                    .borrow_mut()
                    .extend_from_slice(&output[..turn.filled]);
            } else if turn.filled > 0 {
                let timeout = worker.write_timeout.get();
                let ends = [turn.first, turn.filled];
                worker.counters.bytes_sent.add(turn.filled as u64);
                output = worker.buffers.fit_output(output, turn.filled);
                (written, output) = peer
                    .write(Lane::Pump, output, 0, ends, began, timeout)
                    .await;
            }
            worker.buffers.give_output(output);
            if !written {
                // Nothing may follow a frame that went out in part.
                peer.shutdown(Shutdown::Both);
            }
            if !written || !goes_on {
                break 'connection;
            }
            let must_wait = || peer.connection.borrow().is_full() || peer.is_clogged();
            if must_wait() {
                // A late answer makes room in flight, but not for itself to be written.
                while must_wait() {
                    peer.room.wait().await;
                    if peer.cut.get() {
                        break 'connection;
                    }
                }
            } else if turn.exhausted {
                break;
            }
            // One that works off what it sent is not idle, and may have sent more by now.
            peer.active_at.set(now());
            share.give_way(worker).await;
            // What was waited for is not the agent's time.
            began = precise_now();
        }
    }
    let state = peer.connection.borrow().state();
    if matches!(state, State::CheckAnswered | State::Closing(_)) {
        end(worker, peer, &mut receiver, &mut input, state).await;
    }
    worker.buffers.give_input(input);
}

fn is_interrupt(error: &io::Error) -> bool {
    error.raw_os_error() == Some(nix::libc::ECANCELED)
}

/// Gives the connection to another process if it can go; `input` is of a frame that has only
/// begun. `false` if it stays a while.
async fn give_away<A: Agent + 'static>(worker: &Worker<A>, peer: &Peer, input: &[u8]) -> bool {
    loop {
        let quiet = peer.late.borrow().is_empty() && !peer.is_writing();
        let snapshot = peer.connection.borrow().snapshot().filter(|_| quiet);
        if let Some(snapshot) = snapshot {
            let handed_over = peer.duplicate().map(|socket| HandedOver {
                socket,
                snapshot,
                input: input.to_vec(),
            });
            let sent = handed_over.is_ok_and(|handed_over| {
                let sender = worker.hand_over.borrow();
                sender
                    .as_ref()
                    .is_some_and(|sender| sender.send(handed_over).is_ok())
            });
            if sent {
                peer.handed_over.set(true);
                worker.counters.connections_handed_over.add(1);
            }
            return sent;
        }
        let goes_on = matches!(
            peer.connection.borrow().state(),
            State::Running | State::AwaitingHello
        );
        // What arrives meanwhile waits in the socket, for whoever reads it next.
        if !peer.must_go.get() || !goes_on {
            return false;
        }
        sleep(REST).await;
    }
}

/// Waits until one more handshake may be answered; `false` if that takes too long.
async fn await_turn<A: Agent + 'static>(worker: &Worker<A>, peer: &Peer) -> bool {
    worker.counters.handshakes_delayed.add(1);
    loop {
        if peer.connection.borrow().hello_expired(now()) {
            return false;
        }
        sleep(HANDSHAKE_REST).await;
        if worker.admits_handshake() {
            return true;
        }
    }
}

/// A peer that is refused in the handshake is not told at once: it would be back at once.
async fn await_refusal<A: Agent + 'static>(worker: &Worker<A>, state: State) {
    let delay = match state {
        // Of a health check, while the server drains.
        State::Closing(CloseReason::ByUs(Status::NORMAL)) => return,
        _ => worker.config().refusal_delay,
    };
    let until = now().saturating_add(delay);
    while now() < until && worker.drain_by.get().is_none() {
        sleep(HANDSHAKE_REST).await;
    }
}

/// Logs frames, where those of the connection are to be logged.
fn trace(peer: &Peer, received: &[u8], sent: &[u8]) {
    let Some(name) = &peer.traced else { return };
    let max_frame_size = peer.connection.borrow().max_frame_size();
    for (arrow, frames) in [("<-", received), ("->", sent)] {
        for item in dump_stream(frames, max_frame_size) {
            tracing::info!("connection {name} {arrow} {item}");
        }
    }
}

/// Sees a connection off that has had its last frame: the peer gets to read it, then closes.
async fn end<A: Agent + 'static>(
    worker: &Rc<Worker<A>>,
    peer: &Peer,
    receiver: &mut Receiver,
    input: &mut Vec<u8>,
    state: State,
) {
    let introduced = peer.connection.borrow().is_introduced();
    match state {
        State::CheckAnswered => worker.counters.health_checks.add(1),
        State::Closing(CloseReason::ByUs(Status::NORMAL)) if !introduced => {
            worker.counters.health_checks_failed.add(1);
        }
        State::Closing(CloseReason::Refused(_) | CloseReason::Violated(_)) => {
            worker.counters.protocol_errors.add(1);
            if let State::Closing(reason) = state {
                worker
                    .refusals
                    .warn(format_args!("connection refused: {reason}"));
            }
        }
        _ => {}
    }
    if peer.close_by.get().is_none() {
        peer.close_by.set(Some(now() + LINGER));
    }
    // A check is closed by HAProxy; everywhere else our end of stream follows the last frame.
    // What the flusher still has to write goes first, and it shuts down after it.
    if matches!(state, State::Closing(_)) {
        if peer.has_flusher.get() {
            peer.late_ready.raise();
        } else {
            peer.shutdown(Shutdown::Write);
        }
    }
    // Closing with unread input would reset the connection and take the last frame with it.
    loop {
        input.clear();
        let (result, buffer) = receiver.read(std::mem::take(input)).await;
        *input = buffer;
        if !matches!(result, Ok(1..)) {
            return;
        }
    }
}

/// Room behind what is in `input` for the rest of a whole frame, moving the beginning of one to
/// the front only when the tail gets short.
fn make_room<A: Agent + 'static>(
    worker: &Worker<A>,
    mut input: Vec<u8>,
    start: &mut usize,
    wanted: usize,
) -> Vec<u8> {
    if *start == input.len() {
        input.clear();
        *start = 0;
    }
    if input.capacity() < wanted {
        let mut larger = worker.buffers.take_input(wanted, worker.largest_input());
        larger.extend_from_slice(&input[*start..]);
        worker.buffers.give_input(input);
        *start = 0;
        return larger;
    }
    let room = input.capacity() - input.len();
    if *start > 0 && (room < wanted / 2 || input.capacity() - *start < wanted) {
        input.copy_within(*start.., 0);
        input.truncate(input.len() - *start);
        *start = 0;
    }
    input
}

/// Answers the whole frames of `input` into one output buffer.
fn turn<A: Agent + 'static>(
    worker: &Rc<Worker<A>>,
    key: usize,
    peer: &Rc<Peer>,
    input: &[u8],
    began: Duration,
) -> (Turn, Vec<u8>) {
    let mut connection = peer.connection.borrow_mut();
    let Desk {
        agent,
        context,
        tally,
    } = &mut *worker.desk.borrow_mut();
    let counters = &*worker.counters;
    let mut run = tally.begin();
    let mut others = 0;
    let running = connection.state() == State::Running;
    let wanted = if running {
        output_len(connection.max_frame_size() as usize)
    } else {
        0
    };
    let mut output = worker.buffers.take_output(wanted, worker.largest_output());
    let burst = connection.max_burst_len();
    let mut turn = Turn {
        used: 0,
        filled: 0,
        first: 0,
        exhausted: false,
    };
    'frames: for frames in 1.. {
        if connection.is_full() {
            break;
        }
        let before = turn.filled;
        let max_ack_size = connection.max_ack_size();
        'frame: {
            let rest = &input[turn.used..];
            let (id, messages) = match connection.handle_whole_notify(rest) {
                Some((used, id, messages)) => {
                    turn.used += used;
                    (id, messages)
                }
                None => {
                    let (used, event) = connection.handle_bytes(rest);
                    turn.used += used;
                    match event {
                        Event::Notify(id, messages) => (id, messages),
                        Event::NeedMore => {
                            turn.exhausted = true;
                            break 'frames;
                        }
                        Event::Handled => {
                            others += 1;
                            turn.filled += connection.poll_reply(&mut output[turn.filled..]);
                            // The HELLO changed what fits, the DISCONNECT ends it all.
                            if !running || connection.state() != State::Running {
                                break 'frames;
                            }
                            break 'frame;
                        }
                    }
                }
            };
            let notified = Notified {
                id,
                max_ack_size,
                connection: key,
                serial: worker.next_serial(),
            };
            let label = tally.slot(&mut run, counters, messages.rest());
            let room = &mut output[turn.filled..];
            match dispatch(agent, context, notified, messages, room) {
                Outcome::Acked(len) => {
                    turn.filled += len;
                    run.answered();
                }
                Outcome::Fallback(len, fault) => {
                    turn.filled += len;
                    counters.note(label);
                    let took = precise_now().saturating_sub(began);
                    counters.settle(label, Counted::Fault(fault), took);
                }
                Outcome::Deferred(deadline) if worker.has_room_in_flight() => {
                    let counted = (label, began);
                    worker.defer(peer, &mut connection, notified, deadline, counted);
                }
                // The ticket finds nothing when it is sent.
                Outcome::Deferred(_) => {
                    let (len, _) = finish_late(context, notified, Err(Fault::Shed), room);
                    turn.filled += len;
                    counters.note(label);
                    let took = precise_now().saturating_sub(began);
                    counters.settle(label, Counted::Fault(Fault::Shed), took);
                    worker.refusals.warn(format_args!(
                        "max-in-flight-per-core is reached; HAProxy got the fallback"
                    ));
                }
                Outcome::Invalid(error) => {
                    counters.note(label);
                    counters.settle(label, Counted::Invalid, Duration::ZERO);
                    connection.refuse(error);
                    turn.filled += connection.poll_reply(&mut output[turn.filled..]);
                    break 'frames;
                }
            }
        }
        if turn.filled > burst {
            turn.first = before;
            break;
        }
        let slow = frames % CLOCK_EVERY == 0 && now() > began;
        if slow || frames >= MAX_TURN_FRAMES {
            break;
        }
    }
    counters.frames_received.add(others);
    let took = precise_now().saturating_sub(began);
    tally.flush(run, counters, took);
    if took > worker.agent_deadline.get() {
        counters.overruns.add(1);
    }
    (turn, output)
}

/// Writes the late answers of one peer as they come; those of one batch together.
pub(super) async fn flush_late<A: Agent + 'static>(worker: Rc<Worker<A>>, peer: Rc<Peer>) {
    let mut frames = Vec::new();
    while !peer.ended.get() {
        peer.late_ready.wait().await;
        loop {
            frames.clear();
            std::mem::swap(&mut frames, &mut *peer.late.borrow_mut());
            peer.room.raise();
            if frames.is_empty() {
                break;
            }
            worker.counters.bytes_sent.add(frames.len() as u64);
            trace(&peer, &[], &frames);
            let burst = peer.connection.borrow().max_burst_len();
            let mut start = 0;
            while start < frames.len() {
                let end = start + burst_len(&frames[start..], burst);
                let timeout = worker.write_timeout.get();
                let ends = [end, end];
                let (written, buffer) = peer
                    .write(Lane::Flusher, frames, start, ends, now(), timeout)
                    .await;
                frames = buffer;
                if !written {
                    peer.shutdown(Shutdown::Both);
                    peer.cut.set(true);
                    peer.room.raise();
                    return;
                }
                start = end;
            }
        }
        if matches!(peer.connection.borrow().state(), State::Closing(_)) {
            peer.shutdown(Shutdown::Write);
        }
    }
}

/// How many bytes of whole frames to write at once: one frame at least, more up to `burst`.
fn burst_len(frames: &[u8], burst: usize) -> usize {
    let mut len = 0;
    while let Some(prefix) = frames[len..].first_chunk::<PREFIX_LEN>() {
        let next = len + PREFIX_LEN + u32::from_be_bytes(*prefix) as usize;
        if len > 0 && next > burst {
            break;
        }
        len = next;
    }
    len
}

// A reply fits whatever buffer `turn` takes.
const _: () = assert!(MAX_REPLY_LEN <= output_len(256));
