//! HAProxy's side: engines that introduce themselves, ask, and take answers, each with a character,
//! and some with a mishap. Each keeps books of what it asked and what it may expect, and says so when
//! something else comes.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use super::agent::{Deed, Digest, FALLBACK, FILL, Handled, Order, SEEN};
use super::runtime::{Random, Simulator};
use super::{LINGER, Plan, World};
use crate::connection::NotifyId;
use crate::server::peer::Signal;
use crate::spop::{
    Action, Actions, AgentHello, Argument, Disconnect, Flags, Frame, FrameId, FrameType,
    HaproxyHello, Messages, NotifyWriter, Status, StreamId, TypedData, Variable,
};

/// How an engine begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Opening {
    /// HELLO, and nothing else until it is answered.
    Hello,
    /// HELLO with the first NOTIFYs right behind it.
    Eager,
    /// A health check, which hangs up when it is answered, or does not.
    Check { hangs_up: bool },
    /// Something that is no HELLO, and the status of the answer.
    Wrong(Wrong, Status),
    /// Not a word.
    Silent,
    /// Half a HELLO.
    Half,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wrong {
    Version,
    FrameSize,
    NotifyFirst,
    Text,
}

/// What happens to an engine while it asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mishap {
    Reset,
    /// Neither reads nor writes any more, and does not say so.
    Vanish,
    Close,
    HalfClose,
    /// Says goodbye while answers are on their way.
    Disconnect,
    /// Bits flip, here and after.
    Garbage,
    /// Stops reading, for a while.
    Pause,
    /// Stops reading for good.
    Deaf,
    /// Breaks a rule of the protocol.
    Break,
}

impl Mishap {
    pub(super) const ALL: [Self; 9] = [
        Self::Reset,
        Self::Vanish,
        Self::Close,
        Self::HalfClose,
        Self::Disconnect,
        Self::Garbage,
        Self::Pause,
        Self::Deaf,
        Self::Break,
    ];
}

/// What an engine does when all is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Disconnect,
    Close,
    HalfClose,
    Stay,
}

/// What it does on AGENT-DISCONNECT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reaction {
    Close,
    CloseLater,
    /// Leaves the closing to the server.
    Stay,
    /// Does not even stop asking.
    GoOn,
}

/// An engine as its seed made it.
#[derive(Clone, Debug)]
struct Character {
    start: Duration,
    listener: usize,
    opening: Opening,
    /// Between connecting and HELLO.
    hesitates: Duration,
    max_frame_size: u32,
    /// NOTIFYs at once.
    window: usize,
    count: u64,
    /// Between two NOTIFYs, at most.
    thinks: Duration,
    /// How often a frame is sent in pieces: once in so many times.
    in_pieces: usize,
    mishap: Option<(u64, Mishap)>,
    ending: Ending,
    reaction: Reaction,
    /// Bytes it reads at once.
    reads: usize,
    /// How long it rests after each time it read, at most.
    rests: Duration,
}

impl Character {
    fn draw(plan: &Plan, random: &mut Random, cores: usize) -> Self {
        let opening = match random.below(24) {
            0 => Opening::Check {
                hangs_up: random.chance(2),
            },
            1 => Opening::Silent,
            2 => Opening::Half,
            3 => Opening::Wrong(Wrong::Version, Status::BAD_VERSION),
            4 => random.pick(&[
                Opening::Wrong(Wrong::FrameSize, Status::BAD_FRAME_SIZE),
                Opening::Wrong(Wrong::NotifyFirst, Status::INVALID),
                Opening::Wrong(Wrong::Text, Status::TOO_BIG),
            ]),
            5..=7 => Opening::Eager,
            _ => Opening::Hello,
        };
        let count = random.below(plan.most_notifies + 1) as u64;
        let mishap = (!plan.mishaps.is_empty() && random.chance(plan.mishap_chance)).then(|| {
            let at = random.below(usize::try_from(count).expect("small") + 1) as u64;
            (at, random.pick(&plan.mishaps))
        });
        let sizes: &[u32] = if opening == Opening::Eager {
            &[256, 65_532, 65_532]
        } else {
            &[256, 1000, 16_380, 16_380, 65_532]
        };
        // Some come at the very moment of the drain.
        let start = if random.chance(plan.come_late) {
            plan.commands[0].0
        } else {
            random.duration(plan.rush)
        };
        Self {
            start,
            listener: random.below(cores),
            opening,
            hesitates: random.duration(plan.hesitates),
            max_frame_size: random.pick(sizes),
            window: random.pick(&[1, 2, 8, 40, 300]),
            count,
            thinks: random.pick(&plan.thinks),
            in_pieces: random.pick(&[0, 1, 3, 10]),
            mishap,
            ending: random.pick(&[
                Ending::Disconnect,
                Ending::Disconnect,
                Ending::Stay,
                Ending::Stay,
                Ending::Stay,
                Ending::Close,
                Ending::HalfClose,
            ]),
            reaction: random.pick(&[
                Reaction::Close,
                Reaction::Close,
                Reaction::CloseLater,
                Reaction::Stay,
                Reaction::GoOn,
            ]),
            reads: random.pick(&[100, 4096, 1 << 20]),
            rests: random.pick(&[Duration::ZERO, Duration::ZERO, Duration::from_millis(200)]),
        }
    }
}

/// A NOTIFY in the books.
#[derive(Clone, Copy, Debug)]
struct Asked {
    order: Order,
    digest: u64,
    /// When the last of it was sent, and how long cores had been kept busy by then.
    sent: Option<(Duration, Duration)>,
    /// HAProxy gave it up.
    is_aborted: bool,
    /// It is longer than the server puts together.
    is_too_long: bool,
    is_answered: bool,
    /// How many it waits for, itself included.
    place: usize,
}

/// Why an engine is not to be answered any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Parting {
    Disconnect,
    HalfClose,
    Close,
    /// A rule was broken, which has this status.
    Broke(Status),
}

/// One connection from the engine's side.
pub(super) struct Conversation {
    number: u64,
    character: Character,
    link: Cell<Option<usize>>,
    connected_at: Cell<Duration>,
    /// When the last of HELLO was sent, and how long cores had been kept busy by then.
    hello_sent: Cell<Option<(Duration, Duration)>>,
    stalled_at_connect: Cell<Duration>,
    hello_received: Cell<bool>,
    /// In force for both directions.
    max_frame_size: Cell<u32>,
    asked: RefCell<BTreeMap<NotifyId, Asked>>,
    outstanding: Cell<usize>,
    /// What it asked last that was to be answered at once, and was.
    last_at_once: Cell<Option<u64>>,
    parting: Cell<Option<(Parting, Duration)>>,
    goodbye: Cell<Option<Status>>,
    /// When that came, and how long cores had been kept busy by then.
    goodbye_at: Cell<Option<(Duration, Duration)>>,
    /// When it had its last frame.
    served_at: Cell<Option<Duration>>,

    /// When it last sent or received something.
    active_at: Cell<Duration>,
    is_over: Cell<bool>,
    /// Whether something happened on this side for which the server owes nothing any more.
    is_unsound: Cell<bool>,
    /// How long it does not read.
    pause: Cell<Option<Duration>>,
    /// Whether it does not take its answers within the time it has.
    is_slow: Cell<bool>,
    /// Bits flip from now on.
    is_garbled: Cell<bool>,
    wakes_sender: Signal,
    input: RefCell<Vec<u8>>,
}

impl Conversation {
    pub(super) fn draw(number: u64, plan: &Plan, random: &mut Random, cores: usize) -> Self {
        let character = Character::draw(plan, random, cores);
        Self {
            number,
            character,
            link: Cell::default(),
            connected_at: Cell::default(),
            hello_sent: Cell::default(),
            stalled_at_connect: Cell::default(),
            hello_received: Cell::default(),
            max_frame_size: Cell::new(256),
            asked: RefCell::default(),
            outstanding: Cell::default(),
            last_at_once: Cell::default(),
            parting: Cell::default(),
            goodbye: Cell::default(),
            goodbye_at: Cell::default(),
            served_at: Cell::default(),

            active_at: Cell::default(),
            is_over: Cell::default(),
            is_unsound: Cell::default(),
            pause: Cell::default(),
            is_slow: Cell::default(),
            is_garbled: Cell::default(),
            wakes_sender: Signal::default(),
            input: RefCell::default(),
        }
    }

    pub(super) fn link(&self) -> Option<usize> {
        self.link.get()
    }

    /// Whether the server owes it all that it owes a well-behaved peer on a connection that works.
    fn is_sound(&self, simulator: &Simulator) -> bool {
        !self.is_unsound.get()
            && !self.is_garbled.get()
            && self
                .link
                .get()
                .is_some_and(|link| !simulator.is_harmed(link))
    }

    /// Whether the run's books must add up to the last ACK, as far as this connection goes.
    pub(super) fn is_exact(&self, simulator: &Simulator) -> bool {
        self.link.get().is_none()
            || (self.is_sound(simulator)
                && !self.is_slow.get()
                && !self.takes_its_time()
                && !matches!(
                    self.parting.get(),
                    Some((Parting::Close | Parting::HalfClose, _))
                ))
    }

    /// Whether it may not be done when a drain must be over.
    fn takes_its_time(&self) -> bool {
        !self.unread().is_zero()
    }

    /// For how long it does not read at most.
    fn unread(&self) -> Duration {
        self.character.rests + self.pause.get().unwrap_or_default()
    }

    pub(super) fn is_over(&self) -> bool {
        self.is_over.get()
    }
}

type Shared = Rc<Conversation>;

/// Holds a whole conversation.
pub(super) async fn converse(world: Rc<World>, conversation: Shared) {
    let simulator = Rc::clone(&world.simulator);
    let character = &conversation.character;
    simulator.pause(character.start).await;
    let Some(link) = simulator.connect(character.listener) else {
        conversation.is_over.set(true);
        return;
    };
    conversation.link.set(Some(link));
    conversation.connected_at.set(simulator.now());
    conversation.active_at.set(simulator.now());
    conversation
        .stalled_at_connect
        .set(simulator.stalled_in_all());
    let receiver = receive(Rc::clone(&world), Rc::clone(&conversation));
    simulator.spawn(receiver);
    simulator.pause(character.hesitates).await;
    if speak(&world, &conversation, link).await.is_none() {
        // Nobody listens any more, or nobody speaks: the receiver sees to the rest.
        simulator.note("says no more", link as u64, 0);
    }
}

impl World {
    /// Sends bytes, some of them flipped if that is the engine's fate.
    async fn send(&self, conversation: &Conversation, link: usize, bytes: &[u8]) -> Option<()> {
        let simulator = &self.simulator;
        let mut bytes = bytes.to_vec();
        if conversation.is_garbled.get() {
            let mut random = simulator.random.borrow_mut();
            if random.chance(2) {
                for _ in 0..=random.below(3) {
                    let at = random.below(bytes.len());
                    bytes[at] ^= 1 << random.below(8);
                }
            }
        }
        let mut rest = &bytes[..];
        while !rest.is_empty() && !conversation.is_over() {
            let (len, pause) = {
                let mut random = simulator.random.borrow_mut();
                if random.chance(conversation.character.in_pieces) {
                    let longest = random.pick(&[3, 60, 2000]);
                    let pause = random.duration(Duration::from_millis(2));
                    (rest.len().min(1 + random.below(longest)), pause)
                } else {
                    (rest.len(), Duration::ZERO)
                }
            };
            simulator.peer_write(link, &rest[..len]).await.ok()?;
            rest = &rest[len..];
            conversation.active_at.set(simulator.now());
            if !rest.is_empty() {
                simulator.pause(pause).await;
            }
        }
        (!conversation.is_over()).then_some(())
    }
}

/// All that an engine says. `None` is an early end.
async fn speak(world: &Rc<World>, conversation: &Shared, link: usize) -> Option<()> {
    let (simulator, character) = (&world.simulator, &conversation.character);
    let mut hello = HaproxyHello {
        supported_versions: b"2.0",
        max_frame_size: character.max_frame_size,
        capabilities: b"pipelining",
        engine_id: Some(b"00000000-0000-4000-8000-000000000000"),
        healthcheck: false,
    };
    match character.opening {
        Opening::Silent => return None,
        Opening::Check { .. } => (hello.healthcheck, hello.engine_id) = (true, None),
        Opening::Wrong(Wrong::Version, _) => hello.supported_versions = b"1.0",
        Opening::Wrong(Wrong::FrameSize, _) => hello.max_frame_size = 255,
        _ => {}
    }
    let mut out = [0; 300];
    let len = hello.encode(&mut out).expect("it fits");
    let opening: &[u8] = match character.opening {
        Opening::Half => &out[..len / 2],
        Opening::Wrong(Wrong::Text, _) => b"GET / HTTP/1.1\r\n\r\n",
        Opening::Wrong(Wrong::NotifyFirst, _) => b"\0\0\0\x07\x03\0\0\0\x01\x01\x01",
        _ => &out[..len],
    };
    world.send(conversation, link, opening).await?;
    if matches!(
        character.opening,
        Opening::Hello | Opening::Eager | Opening::Check { .. }
    ) {
        let sent = (simulator.now(), simulator.stalled_in_all());
        conversation.hello_sent.set(Some(sent));
    }
    match character.opening {
        Opening::Hello => {
            while !conversation.hello_received.get() {
                conversation.wakes_sender.wait().await;
                if conversation.is_over() {
                    return None;
                }
            }
        }
        Opening::Eager => {
            let agreed = world.config.limits.max_frame_size.min(hello.max_frame_size);
            conversation.max_frame_size.set(agreed);
        }
        _ => return None,
    }
    let mut reads = true;
    for sequence in 0..=character.count {
        while conversation.outstanding.get() >= character.window && reads {
            conversation.wakes_sender.wait().await;
            if conversation.is_over() {
                return None;
            }
        }
        if let Some((at, mishap)) = character.mishap
            && at == sequence
        {
            simulator.note("mishap", link as u64, mishap as u64);
            happen(world, conversation, link, mishap).await?;
            reads = !matches!(mishap, Mishap::Deaf);
        }
        let may_ask = conversation.goodbye.get().is_none() || character.reaction == Reaction::GoOn;
        if sequence == character.count || !may_ask || conversation.parting.get().is_some() {
            break;
        }
        let pause = simulator.random.borrow_mut().duration(character.thinks);
        simulator.pause(pause).await;
        ask(world, conversation, link, sequence).await?;
    }
    if conversation.parting.get().is_some() {
        return Some(());
    }
    while conversation.outstanding.get() > 0 {
        conversation.wakes_sender.wait().await;
        if conversation.is_over() {
            return None;
        }
    }
    match character.ending {
        Ending::Stay => {}
        Ending::Disconnect => part(world, conversation, link, Parting::Disconnect).await?,
        Ending::HalfClose => part(world, conversation, link, Parting::HalfClose).await?,
        Ending::Close => part(world, conversation, link, Parting::Close).await?,
    }
    Some(())
}

/// Ends the conversation from this side.
async fn part(
    world: &Rc<World>,
    conversation: &Shared,
    link: usize,
    parting: Parting,
) -> Option<()> {
    let simulator = &world.simulator;
    if conversation.goodbye.get().is_some() {
        // The server was first.
        return None;
    }
    // Whatever is sent from now on, an answer to it may or may not come.
    conversation.parting.set(Some((parting, simulator.now())));
    match parting {
        Parting::Disconnect => {
            let mut out = [0; 300];
            let goodbye = Disconnect::with_status(Status::NORMAL);
            let len = goodbye.encode_haproxy(&mut out).expect("it fits");
            world.send(conversation, link, &out[..len]).await?;
        }
        Parting::HalfClose => simulator.peer_shut_write(link),
        Parting::Close => {
            conversation.is_unsound.set(true);
            simulator.peer_close(link);
        }
        Parting::Broke(_) => {}
    }
    Some(())
}

/// Something goes wrong.
async fn happen(
    world: &Rc<World>,
    conversation: &Shared,
    link: usize,
    mishap: Mishap,
) -> Option<()> {
    let simulator = &world.simulator;
    match mishap {
        Mishap::Reset => {
            conversation.is_unsound.set(true);
            simulator.peer_reset(link);
            None
        }
        Mishap::Vanish => {
            conversation.is_unsound.set(true);
            conversation.is_slow.set(true);
            conversation.is_over.set(true);
            None
        }
        Mishap::Close => part(world, conversation, link, Parting::Close).await,
        Mishap::HalfClose => part(world, conversation, link, Parting::HalfClose).await,
        Mishap::Disconnect => part(world, conversation, link, Parting::Disconnect).await,
        Mishap::Garbage => {
            conversation.is_garbled.set(true);
            Some(())
        }
        Mishap::Pause | Mishap::Deaf => {
            let pause = simulator.random.borrow_mut().duration(world.plan.pause);
            conversation.pause.set(Some(pause));
            // One that takes its answers in time is owed all of them, if later.
            let margin = Duration::from_millis(150);
            let is_slow = mishap == Mishap::Deaf || pause + margin > world.config.write_timeout;
            conversation.is_slow.set(is_slow);
            Some(())
        }
        Mishap::Break => {
            let (bytes, status) = broken_rule(world, conversation);
            part(world, conversation, link, Parting::Broke(status)).await?;
            world.send(conversation, link, &bytes).await
        }
    }
}

/// A frame that breaks a rule, and the status that it gets.
fn broken_rule(world: &Rc<World>, conversation: &Conversation) -> (Vec<u8>, Status) {
    let kind = world.simulator.random.borrow_mut().below(6);
    let max = conversation.max_frame_size.get();
    let frame = |frame_type, flags, frame_id, payload: &[u8]| {
        let mut out = vec![0; 100];
        let frame = Frame {
            frame_type,
            flags,
            stream_id: StreamId(u64::MAX),
            frame_id: FrameId(frame_id),
            payload,
        };
        let len = frame.encode(&mut out).expect("it fits");
        out.truncate(len);
        out
    };
    let has_fragments = world.config.limits.fragmentation;
    match kind {
        0 => {
            let mut out = vec![0; 300];
            let hello = HaproxyHello {
                supported_versions: b"2.0",
                max_frame_size: 256,
                capabilities: b"",
                engine_id: None,
                healthcheck: false,
            };
            let len = hello.encode(&mut out).expect("it fits");
            out.truncate(len);
            (out, Status::INVALID)
        }
        1 => (frame(FrameType::Ack, Flags::FIN, 1, b""), Status::INVALID),
        2 => {
            let status = if has_fragments {
                Status::UNKNOWN_FRAME_ID
            } else {
                Status::NO_FRAGMENTATION
            };
            (frame(FrameType::Unset, Flags::FIN, 1, b""), status)
        }
        3 => {
            let mut both = frame(FrameType::Notify, Flags(0), 1, b"");
            both.extend(frame(FrameType::Notify, Flags(0), 2, b""));
            let status = if has_fragments {
                Status::INTERLACED
            } else {
                Status::NO_FRAGMENTATION
            };
            (both, status)
        }
        4 => ((max + 1).to_be_bytes().to_vec(), Status::TOO_BIG),
        // A message that announces an argument it does not have.
        _ => {
            let notify = frame(FrameType::Notify, Flags::FIN, 1, b"\x01m\x01");
            (notify, Status::INVALID)
        }
    }
}

/// Sends one NOTIFY, whole or in fragments, and notes it.
async fn ask(world: &Rc<World>, conversation: &Shared, link: usize, sequence: u64) -> Option<()> {
    let (frames, id) = compose(world, conversation, sequence);
    for (index, frame) in frames.iter().enumerate() {
        world.send(conversation, link, frame).await?;
        let stranger = index + 1 < frames.len() && world.simulator.random.borrow_mut().chance(12);
        if stranger {
            // Spec 3.2.1: a frame of unknown type is skipped, also here.
            let unknown = b"\0\0\0\x07\x63\0\0\0\x01\0\0";
            world.send(conversation, link, unknown).await?;
        }
    }
    let sent = (world.simulator.now(), world.simulator.stalled_in_all());
    let mut asked = conversation.asked.borrow_mut();
    asked.get_mut(&id).expect("it was noted").sent = Some(sent);
    Some(())
}

/// Makes a NOTIFY and notes it as asked: the frames it is sent in, and its ids.
fn compose(
    world: &Rc<World>,
    conversation: &Conversation,
    sequence: u64,
) -> (Vec<Vec<u8>>, NotifyId) {
    let mut random = world.simulator.random.borrow_mut();
    let random = &mut *random;
    let (plan, limits) = (&world.plan, &world.config.limits);
    let max = conversation.max_frame_size.get();
    let deed = random.pick(&plan.deeds);
    let fill_len = match deed {
        Deed::SayTooMuch | Deed::DeferTooMuch => max as usize + random.below(3000),
        _ if deed.is_long() => random.below(max as usize - 63),
        _ => 0,
    };
    let longest = if deed == Deed::Stall {
        plan.stall
    } else {
        plan.lateness
    };
    let deadline = if random.chance(4) {
        random.duration(world.config.agent_deadline * 2)
    } else {
        Duration::ZERO
    };
    let order = Order {
        conversation: conversation.number,
        sequence,
        deed,
        delay: random.duration(longest),
        deadline,
        fill_len,
    };
    let id = NotifyId {
        // Ids of all lengths, each pair once.
        stream_id: StreamId((random.next() >> random.below(64)) << 8 >> 8),
        frame_id: FrameId((random.next() >> random.below(64)) << 12 | sequence),
    };
    let longest = if limits.fragmentation {
        usize::MAX
    } else {
        max as usize - 160
    };
    let (payload, digest) = payload(order, id, longest, plan, random);
    let is_whole = payload.len() + HEADER_LEN <= max as usize;
    let in_fragments = limits.fragmentation && (!is_whole || random.chance(plan.fragments));
    let (mut frames, mut is_aborted) = (Vec::new(), false);
    if in_fragments {
        is_aborted = random.chance(6);
        let mut rest = &payload[..];
        let mut frame_type = FrameType::Notify;
        loop {
            let most = max as usize - HEADER_LEN;
            let size = if random.chance(2) {
                most
            } else {
                1 + random.below(most)
            };
            let (fragment, after) = rest.split_at(size.min(rest.len()));
            rest = after;
            let is_last = rest.is_empty() && frame_type == FrameType::Unset;
            let flags = match (is_last, is_aborted) {
                (true, true) => Flags::FIN_ABORT,
                (true, false) => Flags::FIN,
                _ => Flags(0),
            };
            frames.push(encode(frame_type, flags, id, fragment));
            frame_type = FrameType::Unset;
            if is_last {
                break;
            }
        }
    } else {
        frames.push(encode(FrameType::Notify, Flags::FIN, id, &payload));
    }
    let is_too_long = in_fragments && payload.len() > limits.max_reassembly_len;
    let asked = Asked {
        order,
        digest,
        sent: None,
        is_aborted,
        is_too_long,
        is_answered: false,
        place: conversation.outstanding.get() + 1,
    };
    let is_new = conversation.asked.borrow_mut().insert(id, asked).is_none();
    assert!(is_new, "frame ids differ");
    if !is_aborted && !is_too_long {
        let outstanding = &conversation.outstanding;
        outstanding.set(outstanding.get() + 1);
    }
    (frames, id)
}

/// What an AGENT-DISCONNECT takes at most, which may follow a whole burst; together they stay below
/// the smallest frame size.
const LONGEST_GOODBYE: usize = 100;

/// Type, flags and two ids of any length.
const HEADER_LEN: usize = 25;

fn encode(frame_type: FrameType, flags: Flags, id: NotifyId, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![0; payload.len() + HEADER_LEN + 4];
    let frame = Frame {
        frame_type,
        flags,
        stream_id: id.stream_id,
        frame_id: id.frame_id,
        payload,
    };
    let len = frame.encode(&mut out).expect("it fits");
    out.truncate(len);
    out
}

/// The payload of a NOTIFY, and its digest.
fn payload(
    order: Order,
    id: NotifyId,
    longest: usize,
    plan: &Plan,
    random: &mut Random,
) -> (Vec<u8>, u64) {
    let body_len = match random.below(plan.large_notifies) {
        0 => random.below(plan.largest_notify),
        1..=4 => random.below(400),
        _ => 0,
    };
    let body_len = body_len.min(longest);
    let deed = Deed::ALL.iter().position(|&deed| deed == order.deed);
    let micros = |duration: Duration| u64::try_from(duration.as_micros()).expect("short");
    let numbers = [
        order.conversation,
        order.sequence,
        deed.expect("it is one of all") as u64,
        micros(order.delay),
        micros(order.deadline),
        order.fill_len as u64,
    ];
    let body = vec![b'x'; body_len];
    let mut arguments: Vec<_> = ["0", "1", "2", "3", "4", "5"]
        .iter()
        .zip(numbers)
        .map(|(name, number)| Argument::new(name, TypedData::Uint64(number)))
        .collect();
    if random.chance(2) {
        arguments.push(Argument::new("", TypedData::Ipv4([192, 0, 2, 1].into())));
    }
    let mut digest = Digest::new();
    digest.mix(b"m");
    for argument in &arguments {
        digest.mix_argument(argument.name, &argument.value);
    }
    let mut out = vec![0; body_len + 400];
    let mut notify =
        NotifyWriter::begin(&mut out, u32::MAX, id.stream_id, id.frame_id).expect("it fits");
    notify.message("m", arguments).expect("it fits");
    if body_len > 0 {
        let argument = Argument::new("body", &body[..]);
        digest.mix(b"b");
        digest.mix_argument(argument.name, &argument.value);
        notify.message("b", [argument]).expect("it fits");
    }
    let sum = TypedData::Uint64(digest.get());
    notify
        .message("sum", [Argument::new("sum", sum)])
        .expect("it fits");
    let len = notify.finish();
    let (frame, _) = Frame::split(&out[..len], u32::MAX)
        .expect("it is valid")
        .expect("it is whole");
    (frame.payload.to_vec(), digest.get())
}

/// Takes what the server sends, to its end.
async fn receive(world: Rc<World>, conversation: Shared) {
    let simulator = Rc::clone(&world.simulator);
    let link = conversation.link.get().expect("it is connected");
    let mut has_paused = false;
    let end = loop {
        if conversation.is_over() {
            return;
        }
        if !has_paused && let Some(pause) = conversation.pause.get() {
            has_paused = true;
            simulator.note("does not read", link as u64, 0);
            if conversation
                .character
                .mishap
                .is_some_and(|(_, mishap)| mishap == Mishap::Deaf)
            {
                return;
            }
            simulator.pause(pause).await;
        }
        match simulator
            .peer_read(link, conversation.character.reads)
            .await
        {
            Ok(bytes) if bytes.is_empty() => break Ok(()),
            Ok(bytes) => {
                if conversation.is_over() {
                    return;
                }
                take(&world, &conversation, link, &bytes);
                let rest = simulator
                    .random
                    .borrow_mut()
                    .duration(conversation.character.rests);
                simulator.pause(rest).await;
            }
            Err(error) => break Err(error),
        }
        if let Opening::Check { hangs_up: true } = conversation.character.opening
            && conversation.hello_received.get()
        {
            simulator.peer_close(link);
            conversation.is_over.set(true);
            return;
        }
        if conversation.goodbye.get().is_some() {
            let reaction = conversation.character.reaction;
            if reaction == Reaction::CloseLater {
                simulator.pause(Duration::from_millis(300)).await;
            }
            if matches!(reaction, Reaction::Close | Reaction::CloseLater) {
                // What else there is comes before the end of the stream.
                let pause = simulator.pause(world.plan.transport());
                pause.await;
                while let Ok(bytes) = simulator.peer_read(link, 1 << 20).await
                    && !bytes.is_empty()
                {
                    take(&world, &conversation, link, &bytes);
                }
                break Ok(());
            }
        }
    };
    simulator.note("the end", link as u64, u64::from(end.is_err()));
    world.check_end(&conversation, link, end.is_err());
    conversation.is_over.set(true);
    conversation.wakes_sender.raise();
    let mut stays = conversation.character.reaction == Reaction::Stay;
    stays &= conversation.goodbye.get().is_some();
    if !stays {
        simulator.peer_close(link);
    }
}

/// Takes bytes from the server, and every whole frame in what there is.
fn take(world: &Rc<World>, conversation: &Conversation, link: usize, bytes: &[u8]) {
    let mut input = conversation.input.borrow_mut();
    input.extend_from_slice(bytes);
    let mut start = 0;
    loop {
        let max = conversation.character.max_frame_size.max(256);
        match Frame::split(&input[start..], max) {
            Ok(Some((frame, used))) => {
                if let Err(why) = take_frame(world, conversation, link, &frame) {
                    world.fail(conversation, &why);
                }
                start += used;
            }
            Ok(None) => break,
            Err(error) => {
                world.fail(
                    conversation,
                    &format!("what it was sent is no frame: {error}"),
                );
                break;
            }
        }
    }
    input.drain(..start);
    conversation.active_at.set(world.simulator.now());
    conversation.wakes_sender.raise();
}

fn take_frame(
    world: &Rc<World>,
    conversation: &Conversation,
    link: usize,
    frame: &Frame<'_>,
) -> Result<(), String> {
    let (config, character) = (&world.config, &conversation.character);
    let is_sound = conversation.is_sound(&world.simulator);
    if conversation.goodbye.get().is_some() {
        return Err(format!("{} after AGENT-DISCONNECT", frame.frame_type));
    }
    let is_check = matches!(character.opening, Opening::Check { .. });
    if is_check && conversation.hello_received.get() {
        return Err(format!("{} after the answer to a check", frame.frame_type));
    }
    match frame.frame_type {
        FrameType::AgentHello => {
            if conversation.hello_received.replace(true) {
                return Err("a second AGENT-HELLO".into());
            }
            let hello = AgentHello::decode(frame).map_err(|error| error.to_string())?;
            let agreed = config.limits.max_frame_size.min(character.max_frame_size);
            if hello.max_frame_size != agreed || hello.version != b"2.0" {
                return Err(format!("{hello:?}, though {agreed} was to be agreed"));
            }
            if hello.has_capability("fragmentation") != config.limits.fragmentation {
                return Err(format!("{hello:?}, against the settings"));
            }
            conversation.max_frame_size.set(agreed);
            if is_check {
                conversation.served_at.set(Some(world.simulator.now()));
            }
            let burst_len = agreed as usize / 2 + LONGEST_GOODBYE;
            world.simulator.set_max_burst_len(link, burst_len);
        }
        FrameType::AgentDisconnect => {
            let goodbye = Disconnect::decode(frame).map_err(|error| error.to_string())?;
            conversation.goodbye.set(Some(goodbye.status));
            conversation.served_at.set(Some(world.simulator.now()));
            let stalled = world.simulator.stalled_in_all();
            conversation
                .goodbye_at
                .set(Some((world.simulator.now(), stalled)));
            world
                .simulator
                .note("AGENT-DISCONNECT", link as u64, goodbye.status.0.into());
            if is_sound {
                check_goodbye(world, conversation, goodbye.status)?;
            }
        }
        FrameType::Ack => {
            if !conversation.hello_received.get() {
                return Err("ACK before AGENT-HELLO".into());
            }
            let len = frame.payload.len();
            if len >= conversation.max_frame_size.get() as usize {
                return Err(format!("an ACK with a payload of {len} bytes"));
            }
            if is_sound {
                take_ack(world, conversation, link, frame)?;
            }
        }
        other => return Err(format!("{other}, which agents do not send")),
    }
    Ok(())
}

/// Whether there was a reason for this goodbye.
fn check_goodbye(
    world: &Rc<World>,
    conversation: &Conversation,
    status: Status,
) -> Result<(), String> {
    let by_drain = status == Status::NORMAL && world.drained_at.get().is_some();
    let by_idleness = status == Status::TIMEOUT && world.config.idle_timeout.is_some();
    if by_idleness {
        check_idleness(world, conversation)?;
    }
    let config = &world.config;
    let by_limit = status == Status::NO_RESOURCES
        && !conversation.hello_received.get()
        && config
            .max_connections
            .min(config.max_connections_per_listener)
            <= world.conversations.borrow().len();
    let expected = match (conversation.character.opening, conversation.parting.get()) {
        (Opening::Wrong(_, status), _) | (_, Some((Parting::Broke(status), _))) => Some(status),
        (_, Some((Parting::Disconnect, _))) => Some(Status::NORMAL),
        _ => None,
    };
    if by_drain || by_idleness || by_limit || Some(status) == expected {
        return Ok(());
    }
    Err(format!("AGENT-DISCONNECT {status}, not {expected:?}"))
}

/// Whether this engine was idle.
fn check_idleness(world: &Rc<World>, conversation: &Conversation) -> Result<(), String> {
    let simulator = &world.simulator;
    let now = simulator.now();
    let idle_timeout = world.config.idle_timeout.unwrap_or_default();
    for asked in conversation.asked.borrow().values() {
        let Some((sent_at, stalled)) = asked.sent else {
            continue;
        };
        let sequence = asked.order.sequence;
        let was_handled = world.handled(conversation.number, sequence).is_some();
        // By the coarse clock, which may be a tick behind at either end.
        if was_handled && now + simulator.tick() * 2 < sent_at + idle_timeout {
            return Err(format!(
                "it was told that it is idle, right after NOTIFY {sequence}"
            ));
        }
        // One that reads late hears late of it.
        let is_ignored = !was_handled
            && !asked.is_aborted
            && !asked.is_too_long
            && !conversation.takes_its_time()
            && !world.may_be_cut(Duration::ZERO);
        let stalled = simulator.stalled_in_all().saturating_sub(stalled);
        let patience = stalled + world.plan.transport() * 2;
        if is_ignored && now > sent_at + patience {
            return Err(format!(
                "it was told that it is idle, with NOTIFY {sequence} to read"
            ));
        }
    }
    Ok(())
}

/// Whether this is the ACK of something asked, the only one, and has the right content.
fn take_ack(
    world: &Rc<World>,
    conversation: &Conversation,
    link: usize,
    frame: &Frame<'_>,
) -> Result<(), String> {
    let id = NotifyId {
        stream_id: frame.stream_id,
        frame_id: frame.frame_id,
    };
    let mut books = conversation.asked.borrow_mut();
    let Some(asked) = books.get_mut(&id) else {
        return Err(format!("an ACK of {id:?}, which was not asked"));
    };
    let sequence = asked.order.sequence;
    world.simulator.note("ACK", link as u64, sequence);
    if std::mem::replace(&mut asked.is_answered, true) {
        return Err(format!("a second ACK of NOTIFY {sequence}"));
    }
    if frame.flags.is_abort() != asked.is_too_long {
        return Err(format!("ACK with {:?} of {asked:?}", frame.flags));
    }
    if asked.is_too_long {
        return Ok(());
    }
    if asked.is_aborted {
        return Err(format!("an ACK of NOTIFY {sequence}, which was given up"));
    }
    conversation
        .outstanding
        .set(conversation.outstanding.get() - 1);
    let Some(handled) = world.handled(conversation.number, sequence) else {
        return Err(format!("an ACK of NOTIFY {sequence}, which no agent got"));
    };
    let deed = handled.order.deed;
    let answer = answer_of(frame).map_err(|why| format!("NOTIFY {sequence} ({deed:?}): {why}"))?;
    let fill_len = if deed.is_long() {
        asked.order.fill_len
    } else {
        0
    };
    let is_answer = answer == Answer::Digest(asked.digest, fill_len);
    let fallback = world.expected_fallback();
    let is_fallback = answer == fallback;
    let (may_be_answer, may_be_fallback) = expected(world, &handled);
    // Where a core has few tickets, others may have had them all.
    let may_be_shed = deed.is_late() && world.config.max_in_flight_per_core < FEW_TICKETS;
    let may_be_fallback = may_be_fallback || may_be_shed;
    if !(is_answer && may_be_answer || is_fallback && may_be_fallback) {
        return Err(format!(
            "{answer:?} for NOTIFY {sequence}, with digest {} and {handled:?}",
            asked.digest
        ));
    }
    if !deed.is_late() {
        if conversation.last_at_once.get() > Some(sequence) {
            return Err(format!(
                "the ACK of NOTIFY {sequence} comes too late in order"
            ));
        }
        conversation.last_at_once.set(Some(sequence));
    }
    Ok(())
}

/// Fewer tickets of a core may all be out at once.
const FEW_TICKETS: usize = 1000;

/// What an ACK says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// The digest of a NOTIFY, and how many bytes of filling.
    Digest(u64, usize),
    Fallback,
    /// Unsets a variable that nobody has.
    Harmless,
    Empty,
}

fn answer_of(frame: &Frame<'_>) -> Result<Answer, String> {
    let actions: Result<Vec<_>, _> = Actions::new(frame.payload).collect();
    let actions = actions.map_err(|error| error.to_string())?;
    let set = |action: Option<&Action<'_>>, variable: Variable<'_>| match action {
        Some(&Action::SetVar { name, value, .. }) if name == variable.name().as_bytes() => {
            // The lifetime of the value is that of the frame; only numbers and lengths leave.
            Some((value.as_u64(), value.as_bytes().map(<[u8]>::len)))
        }
        _ => None,
    };
    Ok(match &actions[..] {
        [] => Answer::Empty,
        [Action::UnsetVar { .. }] => Answer::Harmless,
        [only] if set(Some(only), FALLBACK).is_some() => Answer::Fallback,
        [first, rest @ ..] if rest.len() <= 1 => {
            let Some((Some(digest), _)) = set(Some(first), SEEN) else {
                return Err(format!("unexpected actions: {actions:?}"));
            };
            let fill_len = set(rest.first(), FILL).and_then(|(_, len)| len);
            if fill_len.is_none() != rest.is_empty() {
                return Err(format!("unexpected second action of {}", actions.len()));
            }
            Answer::Digest(digest, fill_len.unwrap_or_default())
        }
        _ => return Err(format!("{} actions", actions.len())),
    })
}

/// Whether a NOTIFY may have got its answer, and whether the fallback.
fn expected(world: &World, handled: &Handled) -> (bool, bool) {
    let deed = handled.order.deed;
    if !deed.is_late() {
        return (deed.has_answer(), !deed.has_answer());
    }
    let simulator = &world.simulator;
    // Tickets are looked at every 10 ms at least; a core that stood still did not look.
    let blur = Duration::from_millis(13) + simulator.tick() * 2;
    let stalled = simulator
        .stalled(handled.core)
        .saturating_sub(handled.stalled);
    let deadline = match handled.order.deadline {
        Duration::ZERO => world.config.agent_deadline,
        own => own,
    };
    let delay = handled.order.delay;
    let in_time = delay <= deadline + blur + stalled;
    // A drain that has come to its end answers for everybody.
    let at_end = world
        .drain_deadline()
        .is_some_and(|at| simulator.now() + blur >= at);
    let too_late = at_end || delay + stalled + blur >= deadline;
    let has_answer = deed.has_answer();
    (has_answer && in_time, !has_answer || too_late)
}

/// What the books say when all is over, or while it should go on.
impl World {
    pub(super) fn fail(&self, conversation: &Conversation, why: &str) {
        let link = conversation.link.get().unwrap_or(usize::MAX);
        let character = &conversation.character;
        self.simulator
            .fail(format!("connection #{link}: {why}\n\n{character:?}"));
    }

    /// What every waiting that is nobody's fault may add up to, for one that began when cores had
    /// been kept busy for so long.
    fn patience(&self, stalled: Duration) -> Duration {
        let errors = self.simulator.network.borrow().totals().accept_errors;
        let errors = u32::try_from(errors).expect("few");
        Duration::from_millis(700)
            + self.simulator.stalled_in_all().saturating_sub(stalled)
            + Duration::from_millis(110) * errors
            + self.plan.transport() * 4
    }

    /// Whether a core stood still for so long that it may cut whom it should not: it has not seen
    /// yet what its peers did meanwhile, and only sees that it is late. `unread` is for how long a
    /// peer does not read at most.
    pub(super) fn may_be_cut(&self, unread: Duration) -> bool {
        let (simulator, config) = (&self.simulator, &self.config);
        let limits = [
            Some(config.write_timeout.saturating_sub(unread)),
            Some(config.limits.hello_timeout),
            config.idle_timeout,
            Some(LINGER),
        ];
        let shortest = limits.into_iter().flatten().min().unwrap_or_default();
        let since_drain = simulator
            .stalled_in_all()
            .saturating_sub(self.stalled_at_drain.get());
        simulator.longest_stall() + simulator.tick() >= shortest
            || self
                .drain_deadline()
                .is_some_and(|at| simulator.now() >= at)
                && since_drain > LINGER / 2
    }

    /// Whether all that it asks at once takes long to answer, for reasons that are not the server's.
    pub(super) fn takes_long(&self, conversation: &Conversation) -> bool {
        let largest = conversation.max_frame_size.get() as usize;
        let haul = self.plan.haul(largest, conversation.character.reads);
        let all = haul * u32::try_from(conversation.character.window).expect("few");
        conversation.takes_its_time() || all > LINGER / 4
    }

    /// The end of a stream from the server.
    fn check_end(&self, conversation: &Conversation, link: usize, is_reset: bool) {
        let simulator = &self.simulator;
        let is_partial = !conversation.input.borrow().is_empty();
        if !conversation.is_sound(simulator) || conversation.is_slow.get() {
            return;
        }
        let is_draining = self.drained_at.get().is_some();
        let parting = conversation.parting.get().map(|(parting, _)| parting);
        let half_closed = parting == Some(Parting::HalfClose);
        // One that takes its time may not be done when the drain must be over.
        let takes_long = self.takes_long(conversation)
            && self
                .drain_deadline()
                .is_some_and(|at| simulator.now() >= at);
        // Who said goodbye and does not take what comes gets no more than a while for it.
        let lingers = conversation.parting.get().is_some_and(|(parting, at)| {
            matches!(parting, Parting::Disconnect | Parting::Broke(_))
                && simulator.now() >= at + LINGER / 2
        });
        let was_cut = takes_long || lingers || self.may_be_cut(conversation.unread());
        let is_stubborn = matches!(
            conversation.character.reaction,
            Reaction::GoOn | Reaction::Stay
        );
        if let Some((at, stalled)) = conversation.goodbye_at.get()
            && conversation.character.reaction != Reaction::CloseLater
            && !conversation.takes_its_time()
            && !was_cut
        {
            let stalled = simulator.stalled_in_all().saturating_sub(stalled);
            let patience = Duration::from_millis(300) + self.plan.transport() * 4 + stalled;
            if simulator.now() > at + patience {
                self.fail(
                    conversation,
                    "the stream does not end with AGENT-DISCONNECT",
                );
            }
        }
        if is_partial && !half_closed && !was_cut && !is_reset {
            self.fail(conversation, "the stream ends within a frame");
        }
        if !conversation.hello_received.get() {
            self.check_unheard(conversation, link, is_draining);
            return;
        }
        if conversation.goodbye.get().is_none() && !half_closed && !was_cut {
            let is_check = matches!(conversation.character.opening, Opening::Check { .. });
            if !is_check {
                self.fail(conversation, "it was cut without a goodbye");
            }
        }
        if is_reset && !is_stubborn && !was_cut {
            self.fail(conversation, "it was reset");
        }
        let by_us = parting.is_some();
        for asked in conversation.asked.borrow().values() {
            let Some((sent_at, _)) = asked.sent else {
                continue;
            };
            if asked.is_answered || asked.is_aborted || asked.is_too_long {
                continue;
            }
            let sequence = asked.order.sequence;
            match self.handled(conversation.number, sequence) {
                Some(handled) if !(was_cut || by_us && handled.order.deed.is_late()) => {
                    self.fail(
                        conversation,
                        &format!("no ACK for NOTIFY {sequence}: {handled:?}"),
                    );
                }
                None if by_us && !was_cut && !is_draining && self.config.idle_timeout.is_none() => {
                    self.fail(
                        conversation,
                        &format!("NOTIFY {sequence}, sent at {sent_at:?}, found no agent"),
                    );
                }
                _ => {}
            }
        }
    }

    /// Whether a connection may end without any answer to its HELLO.
    fn check_unheard(&self, conversation: &Conversation, link: usize, is_draining: bool) {
        let expects_goodbye = matches!(conversation.character.opening, Opening::Wrong(..));
        let simulator = &self.simulator;
        if is_draining || !simulator.is_attached(link) || self.may_be_cut(Duration::ZERO) {
            return;
        }
        // Told about the limit, which was checked when it was.
        if conversation.goodbye.get() == Some(Status::NO_RESOURCES) {
            return;
        }
        let idle_timeout = self.config.idle_timeout.unwrap_or(Duration::MAX);
        let allowed = self.config.limits.hello_timeout.min(idle_timeout);
        if expects_goodbye {
            let stalled = simulator.stalled_in_all();
            let stalled = stalled.saturating_sub(conversation.stalled_at_connect.get());
            let waited = simulator.now() - conversation.connected_at.get() + stalled;
            if conversation.goodbye.get().is_none() && waited + simulator.tick() * 2 < allowed {
                self.fail(
                    conversation,
                    &format!("a wrong HELLO got no AGENT-DISCONNECT, {waited:?} of {allowed:?}"),
                );
            }
            return;
        }
        let Some((sent_at, _)) = conversation.hello_sent.get() else {
            return;
        };
        let took = sent_at - conversation.connected_at.get();
        let stalled = simulator
            .stalled_in_all()
            .saturating_sub(conversation.stalled_at_connect.get());
        if took + stalled + self.plan.transport() + simulator.tick() * 2 < allowed {
            self.fail(conversation, "it was cut though it said HELLO in time");
        }
    }

    /// Looks for connections that should have ended.
    fn check_timeouts(&self, conversation: &Conversation, link: usize) {
        let (simulator, limits) = (&self.simulator, &self.config.limits);
        if simulator.is_closed_by_server(link) || !simulator.is_attached(link) {
            return;
        }
        let patience = self.patience(Duration::ZERO);
        let is_late = |since: Duration, limit: Duration| simulator.now() > since + limit + patience;
        let is_silent = matches!(
            conversation.character.opening,
            Opening::Silent | Opening::Half
        );
        if is_silent && is_late(conversation.connected_at.get(), limits.hello_timeout) {
            self.fail(conversation, "it has not said HELLO, and is still there");
        }
        if let Some(since) = conversation.served_at.get()
            && is_late(since, LINGER + conversation.unread())
        {
            self.fail(conversation, "it had its last frame, and is still there");
        }
        if let Some((since, stalled)) = simulator.blocked(link)
            && simulator.now() > since + self.config.write_timeout + self.patience(stalled)
        {
            self.fail(
                conversation,
                "it does not take its answers, and is still there",
            );
        }
        if let Some(idle_timeout) = self.config.idle_timeout
            && conversation.outstanding.get() == 0
            && conversation.is_sound(simulator)
            && conversation.served_at.get().is_none()
            && !conversation.is_slow.get()
            && is_late(
                conversation.active_at.get(),
                idle_timeout + conversation.unread(),
            )
        {
            self.fail(conversation, "it is idle, and still there");
        }
    }

    /// Looks for connections that wait for something that should have come.
    pub(super) fn check_waiting(&self, conversation: &Conversation) {
        let simulator = &self.simulator;
        if let Some(link) = conversation.link.get() {
            self.check_timeouts(conversation, link);
        }
        if conversation.is_over()
            || conversation.goodbye.get().is_some()
            || !conversation.is_sound(simulator)
            || conversation.is_slow.get()
            || !conversation.character.rests.is_zero()
        {
            return;
        }
        let now = simulator.now();
        let pause = conversation.pause.get().unwrap_or_default();
        if let Some((sent_at, stalled)) = conversation.hello_sent.get()
            && !conversation.hello_received.get()
            && now > sent_at + pause + self.patience(stalled)
        {
            self.fail(conversation, "its HELLO is not answered");
        }
        // A full connection is not read before one of those in flight is answered, at their
        // deadline at the latest.
        let rounds = |place: usize| {
            let rounds = place.div_ceil(self.config.limits.max_in_flight) + 1;
            let deadline = self.config.agent_deadline * 2;
            let answers = !self.plan.deeds.contains(&Deed::Keep);
            let longest = if answers {
                deadline.min(self.plan.lateness)
            } else {
                deadline
            };
            let round = longest + Duration::from_millis(20);
            round * u32::try_from(rounds).expect("few")
        };
        if let Some((parting, at)) = conversation.parting.get() {
            if now
                > at + pause
                    + self.patience(Duration::ZERO)
                    + LINGER
                    + rounds(conversation.character.window)
            {
                let why = format!("it said {parting:?}, and nothing came of it");
                self.fail(conversation, &why);
            }
            return;
        }
        let largest = conversation.max_frame_size.get() as usize;
        let haul = self.plan.haul(largest, conversation.character.reads);
        for asked in conversation.asked.borrow().values() {
            let Some((sent_at, stalled)) = asked.sent else {
                continue;
            };
            let place = u32::try_from(asked.place).expect("few");
            let is_owed = !asked.is_answered && !asked.is_aborted && !asked.is_too_long;
            if is_owed
                && now
                    > sent_at + pause + self.patience(stalled) + rounds(asked.place) + haul * place
            {
                let sequence = asked.order.sequence;
                let handled = self.handled(conversation.number, sequence);
                let why = format!("NOTIFY {sequence} has waited too long: {asked:?}, {handled:?}");
                self.fail(conversation, &why);
            }
        }
    }

    /// NOTIFYs of this connection that came to an agent and were never answered.
    pub(super) fn unanswered(&self, conversation: &Conversation) -> u64 {
        let asked = conversation.asked.borrow();
        let unanswered = asked.values().filter(|asked| {
            let sequence = asked.order.sequence;
            !asked.is_answered && self.handled(conversation.number, sequence).is_some()
        });
        unanswered.count() as u64
    }
}

/// Checks that a NOTIFY says what was meant; the simulation's own books are not above suspicion.
pub(super) fn check_books() {
    let mut random = Random::new(1);
    let plan = Plan::draw(&mut random);
    let order = Order {
        conversation: 7,
        sequence: 9,
        deed: Deed::Keep,
        delay: Duration::from_micros(3),
        deadline: Duration::ZERO,
        fill_len: 5,
    };
    let (payload, digest) = payload(order, NotifyId::default(), 300, &plan, &mut random);
    let (seen, read) = super::agent::read(&mut Messages::new(&payload)).expect("it is valid");
    assert_eq!(seen, digest);
    assert_eq!(
        format!("{:?}", read.expect("confirmed")),
        format!("{order:?}")
    );
}
