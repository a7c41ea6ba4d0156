//! Whole connections in memory, with a virtual clock and a seeded pipe that cuts, delays and flips
//! bytes. Unharmed, each NOTIFY gets exactly one ACK; harmed, nothing panics, hangs or answers
//! twice. A failure prints its seed.

mod model;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use model::{Model, Plan, Random, digest};
use ringspoa::spop::{
    Action, Actions, Argument, Disconnect, Flags, Frame, FrameId, FrameType, HaproxyHello,
    Messages, NotifyWriter, Status, StreamId, TypedData,
};
use ringspoa::{Limits, NotifyId};

const SEEDS: u64 = 200;
const DEADLINE: Duration = Duration::from_millis(50);

/// What HAProxy sends in one run, and what it may expect.
#[derive(Default)]
struct Engine {
    stream: Vec<u8>,
    /// Every NOTIFY that must be answered, with the digest of its content.
    expected: BTreeMap<NotifyId, u64>,
    says_goodbye: bool,
}

impl Engine {
    fn new(random: &mut Random) -> Self {
        let mut engine = Self::default();
        let mut out = vec![0; 70_000];
        let hello = HaproxyHello {
            supported_versions: b"2.0",
            max_frame_size: [256, 1000, 16_380, 65_532][random.below(4)],
            capabilities: b"pipelining",
            engine_id: Some(b"00000000-0000-4000-8000-000000000000"),
            healthcheck: false,
        };
        let len = hello.encode(&mut out).unwrap();
        engine.stream.extend_from_slice(&out[..len]);
        let notifies = random.below(60);
        for index in 0..notifies {
            engine.notify(index as u64, hello.max_frame_size, random, &mut out);
        }
        engine.says_goodbye = random.chance(3);
        if engine.says_goodbye {
            let goodbye = Disconnect::with_status(Status::NORMAL);
            let len = goodbye.encode_haproxy(&mut out).unwrap();
            engine.stream.extend_from_slice(&out[..len]);
        }
        engine
    }

    fn notify(&mut self, index: u64, max: u32, random: &mut Random, out: &mut [u8]) {
        let id = NotifyId {
            // Ids of all lengths, each pair once.
            stream_id: StreamId(index | (random.next() << 8) >> random.below(57)),
            frame_id: FrameId(index),
        };
        // Mostly small, sometimes larger than a frame.
        let longest = if random.chance(20) {
            max as usize * 2
        } else {
            600
        };
        let body = vec![b'x'; random.below(longest)];
        let text = "path".repeat(random.below(4));
        let mut notify = NotifyWriter::begin(out, 69_000, id.stream_id, id.frame_id).unwrap();
        for _ in 0..random.below(3) {
            let arguments = [
                Argument::new("ip", TypedData::Ipv4([192, 0, 2, 1].into())),
                Argument::new("", random.next().cast_signed()),
                Argument::new("path", &*text),
            ];
            notify.message("m", arguments).unwrap();
        }
        // Where it does not fit it is left out, which is fine too.
        let _ = notify.message("body", [Argument::new("body", &body[..])]);
        let len = notify.finish();
        let frame = Frame::split(&out[..len], 69_000).unwrap().unwrap().0;
        let abort = random.chance(10);
        let fragmented = len - 4 > max as usize || random.chance(4) || abort;
        if fragmented {
            let payload = frame.payload.to_vec();
            self.fragments(&payload, id, max, abort, random);
        } else {
            let bytes = out[..len].to_vec();
            self.stream.extend_from_slice(&bytes);
        }
        if !abort {
            let payload = Frame::split(&out[..len], 69_000)
                .unwrap()
                .unwrap()
                .0
                .payload;
            self.expected
                .insert(id, digest(Messages::new(payload)).unwrap());
        }
    }

    /// The payload as HAProxy up to 3.0 fragments it; `abort` gives it up at the end.
    fn fragments(
        &mut self,
        payload: &[u8],
        id: NotifyId,
        max: u32,
        abort: bool,
        random: &mut Random,
    ) {
        let mut out = vec![0; 70_000];
        let mut rest = payload;
        let mut frame_type = FrameType::Notify;
        loop {
            let size = (1 + random.below(max as usize - 40)).min(rest.len());
            let (fragment, after) = rest.split_at(size);
            rest = after;
            let last = rest.is_empty();
            let flags = match (last, abort, frame_type) {
                (true, true, FrameType::Unset) => Flags::FIN_ABORT,
                // An abort needs a fragment to abort: send the whole as a first one.
                (true, false, _) => Flags::FIN,
                _ => Flags(0),
            };
            let (stream_id, frame_id) = (id.stream_id, id.frame_id);
            let frame = Frame {
                frame_type,
                flags,
                stream_id,
                frame_id,
                payload: fragment,
            };
            let len = frame.encode(&mut out).unwrap();
            self.stream.extend_from_slice(&out[..len]);
            frame_type = FrameType::Unset;
            if flags.is_fin() {
                return;
            }
        }
    }
}

/// What came back: how often each NOTIFY was answered, and with what.
fn acks(output: &[u8]) -> (Vec<FrameType>, BTreeMap<NotifyId, Vec<u64>>) {
    let (mut types, mut acks) = (Vec::new(), BTreeMap::<NotifyId, Vec<u64>>::new());
    let mut rest = output;
    while let Some((frame, used)) = Frame::split(rest, 65_532).expect("our own frames are valid") {
        rest = &rest[used..];
        types.push(frame.frame_type);
        if frame.frame_type != FrameType::Ack || frame.flags.is_abort() {
            continue;
        }
        let id = NotifyId {
            stream_id: frame.stream_id,
            frame_id: frame.frame_id,
        };
        let seen = match Actions::new(frame.payload).next() {
            Some(Ok(Action::SetVar { value, .. })) => value.as_u64().unwrap(),
            other => panic!("not the model's action: {other:?}"),
        };
        acks.entry(id).or_default().push(seen);
    }
    assert!(rest.is_empty(), "output ends with a frame");
    (types, acks)
}

/// Sends the stream through the pipe, in random pieces at random times.
fn pipe(stream: &[u8], model: &mut Model, random: &mut Random) {
    let mut now = Duration::ZERO;
    let mut rest = stream;
    while !rest.is_empty() {
        let longest = [1, 7, 300, 20_000][random.below(4)];
        let (chunk, after) = rest.split_at((1 + random.below(longest)).min(rest.len()));
        rest = after;
        let mut plans = random.clone();
        model.receive(chunk, now, &mut || match plans.below(4) {
            0 | 1 => Plan::Now,
            2 => Plan::After(Duration::from_millis(plans.below(40) as u64)),
            // After its deadline: the fallback goes out, the answer is discarded.
            _ => Plan::After(Duration::from_millis(60)),
        });
        random.next();
        now += Duration::from_millis(random.below(20) as u64);
        model.advance(now);
    }
    model.advance(now + Duration::from_secs(1));
    assert_eq!(model.connection.in_flight(), 0, "something still waits");
}

fn each_seed(run: impl Fn(u64)) {
    for seed in 0..SEEDS {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| run(seed))) {
            eprintln!("seed {seed}");
            std::panic::resume_unwind(panic);
        }
    }
}

#[test]
fn unharmed_each_notify_is_answered_exactly_once() {
    each_seed(|seed| {
        let mut random = Random::new(seed);
        let engine = Engine::new(&mut random);
        let mut model = Model::new(Limits::default(), DEADLINE);
        pipe(&engine.stream, &mut model, &mut random);
        let (types, acks) = acks(&model.output);
        assert_eq!(types[0], FrameType::AgentHello);
        for (id, answers) in &acks {
            assert_eq!(answers.len(), 1, "{id:?} answered {answers:?}");
            let expected = engine
                .expected
                .get(id)
                .expect("answered what was not asked");
            assert!(
                answers[0] == *expected || answers[0] == 0,
                "{id:?} got another's answer"
            );
        }
        if engine.says_goodbye {
            // What was in flight at the goodbye has no one to answer to.
            assert!(model.is_closing());
            assert_eq!(types.last(), Some(&FrameType::AgentDisconnect));
        } else {
            assert_eq!(acks.len(), engine.expected.len());
        }
    });
}

#[test]
fn harmed_nothing_panics_hangs_or_is_answered_twice() {
    for flips in [1, 4, 40] {
        each_seed(|seed| {
            let mut random = Random::new(seed.wrapping_add(1000 * flips));
            let mut engine = Engine::new(&mut random);
            for _ in 0..flips {
                let at = random.below(engine.stream.len());
                engine.stream[at] ^= 1 << random.below(8);
            }
            let limits = Limits {
                max_reassembly_len: 3000,
                ..Limits::default()
            };
            let mut model = Model::new(limits, DEADLINE);
            pipe(&engine.stream, &mut model, &mut random);
            let (types, acks) = acks(&model.output);
            // A flipped id may make two NOTIFYs the same; never more answers than were handled.
            for (id, answers) in &acks {
                let asked = model
                    .handled
                    .iter()
                    .filter(|(handled, _)| handled == id)
                    .count();
                assert!(
                    answers.len() <= asked,
                    "{id:?}: {asked} asked, answered {answers:?}"
                );
            }
            let goodbyes = types
                .iter()
                .filter(|t| **t == FrameType::AgentDisconnect)
                .count();
            assert_eq!(
                goodbyes,
                usize::from(model.is_closing()),
                "one goodbye, at the end"
            );
            if model.is_closing() {
                assert_eq!(types.last(), Some(&FrameType::AgentDisconnect));
            }
        });
    }
}
