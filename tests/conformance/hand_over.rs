//! A server that gives all it has to another one: both in this process, but with nothing between
//! them than the channel that two processes have.

use std::os::unix::net::UnixStream;
use std::time::Duration;

use ringspoa::spop::{Messages, Status, TypedData};
use ringspoa::{
    Agent, AgentError, Driver, Reply, Server, ServerConfig, ServerHandle, Stats, receive_listeners,
};

use crate::agent::{ANSWER, Scene, answer};
use crate::support::{FRAME_SIZE, FakeHaproxy, Received, config, eventually, frame, hello, notify};

/// Says that the second server answered, and counts what it was asked.
struct Second(i64);

impl Agent for Second {
    fn handle_notify(
        &mut self,
        messages: &mut Messages<'_>,
        reply: &mut Reply<'_>,
    ) -> Result<(), AgentError> {
        let mut len = 0;
        while let Some(message) = messages.next_message()? {
            for argument in message {
                len += argument?.value.as_bytes().map_or(1, <[u8]>::len);
            }
        }
        self.0 += 1;
        reply.set_var(ANSWER, i64::try_from(len)? + 1_000_000)?;
        Ok(())
    }
}

fn is_from_second(ack: &Received) -> bool {
    let value = ack.value("answer").and_then(|value| value.as_i64());
    value.is_some_and(|value| value >= 1_000_000)
}

/// The drivers before and after.
fn on_all_pairs(test: impl Fn(Driver, Driver)) {
    for before in [Driver::Auto, Driver::Epoll] {
        for after in [Driver::Auto, Driver::Epoll] {
            test(before, after);
        }
    }
}

/// A hand-over that is under way.
struct Under {
    first: std::thread::JoinHandle<std::io::Result<usize>>,
    second: std::thread::JoinHandle<std::io::Result<usize>>,
    server: Server,
}

impl Under {
    /// Begins one, to a server with these settings, on the same addresses.
    fn way(first: &ServerHandle, mut settings: ServerConfig) -> Self {
        settings.listen.clone_from(&first.config().listen);
        let (here, there) = UnixStream::pair().unwrap();
        let first = first.clone();
        let sender = std::thread::spawn(move || {
            first.send_listeners(&here, Vec::new())?;
            first.await_ready(&here)?;
            first.send_connections(&here)
        });
        let inherited = receive_listeners(&there).unwrap();
        settings.listen = inherited.iter().map(|at| at.address().unwrap()).collect();
        settings.listen.dedup();
        let server = Server::start_with(settings, inherited, |_| Ok(Second(0))).unwrap();
        let handle = server.handle();
        let receiver = std::thread::spawn(move || handle.receive_connections(&there));
        Self {
            first: sender,
            second: receiver,
            server,
        }
    }

    /// Waits for its end, and that `count` connections went over.
    fn ends_with(self, count: usize) -> Server {
        assert_eq!(self.first.join().unwrap().unwrap(), count);
        assert_eq!(self.second.join().unwrap().unwrap(), count);
        self.server
    }
}

fn end(server: Server, haproxies: Vec<FakeHaproxy>) -> Stats {
    drop(haproxies);
    server.drain();
    let stats = server.join().unwrap();
    assert_eq!(stats.acks, stats.notifies);
    assert_eq!(stats.protocol_errors, 0);
    stats
}

/// Connections go over wherever they are: before HELLO, in the middle of one, quiet, in the middle
/// of a frame, in the middle of a message in fragments.
#[test]
fn connections_go_over_wherever_they_are() {
    on_all_pairs(|before, after| {
        let scene = Scene::with(config(before));
        let mut silent = scene.server.connect();
        let mut greeting = scene.server.connect();
        let greeting_bytes = hello(FRAME_SIZE, "pipelining");
        greeting.send(&greeting_bytes[..60]);
        let mut quiet = scene.server.introduce();
        quiet.ask(1, "now", 1);
        let mut halfway = scene.server.introduce();
        let half = notify(7, 3, "any", 5);
        halfway.send(&half[..9]);
        let mut fragments = scene.server.introduce();
        let message = &notify(9, 1, "body", 5)[4 + 7..];
        fragments.send(&frame(3, 0, (9, 1), &message[..4]));
        fragments.send(&frame(0, 0, (9, 1), &message[4..8]));
        eventually("all have arrived", || {
            let stats = scene.server.stats();
            stats.connections == 5 && stats.frames_received == 3 + 1 + 2
        });
        std::thread::sleep(Duration::from_millis(30));

        let server = Under::way(&scene.server.handle(), config(after)).ends_with(5);
        let old = scene.server.join();
        assert_eq!((old.connections_handed_over, old.acks), (5, 1));
        silent.shake_hands(FRAME_SIZE);
        assert!(is_from_second(&silent.ask(1, "any", 1)));
        greeting.send(&greeting_bytes[60..]);
        greeting.expect_hello();
        assert!(is_from_second(&greeting.ask(1, "any", 1)));
        assert!(is_from_second(&quiet.ask(2, "any", 1)));
        halfway.send(&half[9..]);
        assert!(is_from_second(&halfway.expect_ack(7, 3)));
        fragments.send(&frame(0, 1, (9, 1), &message[8..]));
        assert!(is_from_second(&fragments.expect_ack(9, 1)));
        // It still listens.
        let mut new = FakeHaproxy::connect(&server.addresses()[0]);
        new.shake_hands(FRAME_SIZE);
        assert!(is_from_second(&new.ask(1, "any", 1)));
        let all = vec![silent, greeting, quiet, halfway, fragments, new];
        let stats = end(server, all);
        assert_eq!((stats.connections_resumed, stats.acks), (5, 6));
    });
}

/// What is in flight is answered by who was asked; what comes meanwhile waits in the socket, and is
/// answered by who comes.
#[test]
fn tickets_are_answered_before_a_connection_goes() {
    on_all_pairs(|before, after| {
        // A deadline that a slow machine does not come to.
        let mut patient = config(before);
        patient.agent_deadline = Duration::from_secs(60);
        let scene = Scene::with(patient);
        let mut haproxy = scene.server.introduce();
        haproxy.send(&notify(1, 1, "late", 11));
        let ticket = scene.take_tickets(1).remove(0).1;
        let under = Under::way(&scene.server.handle(), config(after));
        // Past the grace, so that the connection is not read any more.
        std::thread::sleep(Duration::from_millis(400));
        haproxy.send(&notify(2, 1, "now", 22));
        haproxy.expect_silence(Duration::from_millis(50));
        answer(ticket, 11_i64);
        let first = haproxy.expect_ack(1, 1);
        assert_eq!(first.value("answer"), Some(TypedData::Int64(11)));
        assert!(is_from_second(&haproxy.expect_ack(2, 1)));
        let server = under.ends_with(1);
        assert_eq!(scene.server.join().acks, 1);
        end(server, vec![haproxy]);
    });
}

/// A peer that never rests goes over between two of its bursts.
#[test]
fn a_busy_connection_goes_over_without_a_rest() {
    const BURSTS: u64 = 3000;
    on_all_pairs(|before, after| {
        let scene = Scene::with(config(before));
        let mut haproxy = scene.server.introduce();
        let mut under = None;
        let mut from_second = 0;
        for burst in 0..BURSTS {
            let ids = 8 * burst..8 * burst + 8;
            let bytes: Vec<u8> = ids.clone().flat_map(|id| notify(id, 1, "now", 1)).collect();
            // Cut anywhere.
            let cut = usize::try_from(burst).unwrap() * 7 % bytes.len();
            haproxy.send(&bytes[..cut]);
            haproxy.send(&bytes[cut..]);
            for id in ids {
                from_second += u64::from(is_from_second(&haproxy.expect_ack(id, 1)));
            }
            if burst == 50 {
                under = Some(Under::way(&scene.server.handle(), config(after)));
            }
        }
        let server = under.unwrap().ends_with(1);
        let old = scene.server.join();
        let new = end(server, vec![haproxy]);
        assert_eq!(old.acks + new.acks, 8 * BURSTS);
        assert_eq!(new.acks, from_second);
        assert!(from_second > 0, "it never went over");
    });
}

/// A peer that takes its answers slowly gets all of them, in whole frames, before it goes.
#[test]
fn a_slow_reader_gets_all_its_answers_first() {
    on_all_pairs(|before, after| {
        let scene = Scene::with(config(before));
        let mut haproxy = scene.server.introduce();
        let big: Vec<u8> = (0..400)
            .flat_map(|id| notify(id, 1, "big", 16_000))
            .collect();
        haproxy.send(&big);
        let calls = || scene.seer.calls();
        eventually("it writes", || calls() > 0);
        let under = Under::way(&scene.server.handle(), config(after));
        std::thread::sleep(Duration::from_millis(300));
        for id in 0..400 {
            let ack = haproxy.expect_ack(id, 1);
            let value = ack.value("answer").unwrap();
            // What it was slow to take is from the first, the rest from either.
            assert!(value.as_bytes().is_some_and(|v| v.len() == 16_000) || is_from_second(&ack));
        }
        let server = under.ends_with(1);
        scene.server.join();
        assert!(is_from_second(&haproxy.ask(400, "any", 1)));
        end(server, vec![haproxy]);
    });
}

/// A server that takes only smaller frames cannot go on with a connection that negotiated larger
/// ones; the others are not harmed.
#[test]
fn a_connection_of_larger_frames_is_closed() {
    let scene = Scene::start();
    let (mut large, mut small) = (scene.server.connect(), scene.server.connect());
    large.shake_hands(FRAME_SIZE);
    small.shake_hands(1000);
    let mut settings = config(Driver::Auto);
    settings.limits.max_frame_size = 4000;
    let server = Under::way(&scene.server.handle(), settings).ends_with(2);
    scene.server.join();
    large.expect_end();
    assert!(is_from_second(&small.ask(1, "any", 1)));
    end(server, vec![small, large]);
}

/// A peer that refuses to go is told goodbye at the drain timeout, and the hand-over ends.
#[test]
fn what_never_gets_quiet_is_told_goodbye() {
    let mut settings = config(Driver::Auto);
    settings.drain_timeout = Duration::from_millis(600);
    let scene = Scene::with(settings);
    let mut haproxy = scene.server.introduce();
    haproxy.send(&notify(1, 1, "late-forever", 1));
    let ticket = scene.take_tickets(1).remove(0).1;
    let server = Under::way(&scene.server.handle(), config(Driver::Auto)).ends_with(0);
    haproxy.expect_ack(1, 1);
    haproxy.expect_disconnect(Status::NORMAL);
    drop((ticket, haproxy));
    let stats = scene.server.join();
    assert_eq!((stats.deadlines_passed, stats.busy_at_drain_end), (1, 1));
    end(server, Vec::new());
}

/// A connect wakes the accept of either server, which then may find that the other one was quicker,
/// just when it is cancelled: it waited on, and the hand-over with it.
#[test]
fn hand_overs_end_while_everybody_connects() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    const TIMES: usize = 60;
    let name = format!("ringspoa-everybody-{}.sock", std::process::id());
    let path = std::env::temp_dir().join(name);
    let settings = ServerConfig {
        listen: vec![format!("unix:{}", path.display()).parse().unwrap()],
        cores: ringspoa::Cores::Auto,
        ..config(Driver::Auto)
    };
    let is_over = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..2)
        .map(|_| {
            let (path, is_over) = (path.clone(), Arc::clone(&is_over));
            std::thread::spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    let _ = UnixStream::connect(&path);
                }
            })
        })
        .collect();
    let mut server = Server::start(settings.clone(), |_| Ok(Second(0))).unwrap();
    for _ in 0..TIMES {
        let under = Under::way(&server.handle(), settings.clone());
        let (sent, count) = std::sync::mpsc::channel();
        std::thread::spawn(move || sent.send(under.first.join().unwrap()));
        let count = count.recv_timeout(crate::support::PATIENCE);
        let count = count.expect("the hand-over ends").unwrap();
        assert_eq!(under.second.join().unwrap().unwrap(), count);
        server.join().unwrap();
        server = under.server;
    }
    is_over.store(true, Ordering::Relaxed);
    for client in clients {
        client.join().unwrap();
    }
    end(server, Vec::new());
}
