//! Reloads, and what the metrics say of it all.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use ringspoa::spop::{Messages, TypedData};
use ringspoa::{
    Agent, AgentError, Driver, Exposition, Reply, Server, ServerConfig, ServerHandle, families,
};

use crate::agent::{ANSWER, Scene, answer};
use crate::on_both_drivers;
use crate::support::{
    FRAME_SIZE, FakeHaproxy, Received, config, frame, haproxy_disconnect, notify,
};

/// Answers with the generation it was made in.
struct Generation(i64);

impl Agent for Generation {
    fn handle_notify(
        &mut self,
        _: &mut Messages<'_>,
        reply: &mut Reply<'_>,
    ) -> Result<(), AgentError> {
        reply.set_var(ANSWER, self.0)?;
        Ok(())
    }
}

fn answer_of(ack: &Received) -> Option<i64> {
    ack.value("answer").and_then(|value| value.as_i64())
}

fn metrics(handle: &ServerHandle) -> String {
    let mut out = Exposition::new();
    handle.write_metrics(&mut out);
    out.into_text()
}

/// The sample of this name and these labels.
fn sample(text: &str, name: &str) -> f64 {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    let value = line.unwrap_or_else(|| panic!("no sample {name} in\n{text}"));
    value.parse().unwrap()
}

/// All cores get a new agent or none, on connections that stay as they are.
#[test]
fn a_reload_swaps_the_agents_whole_or_not_at_all() {
    on_both_drivers(|driver| {
        let generation = Arc::new(AtomicI64::new(1));
        let for_factory = Arc::clone(&generation);
        let config = ServerConfig {
            cores: ringspoa::Cores::Auto,
            ..config(driver)
        };
        let server = Server::start(config.clone(), move |core| {
            match for_factory.load(Ordering::SeqCst) {
                // On the last core only: the others must not have changed either.
                13 if core > 0 => Err("no luck".into()),
                14 => panic!("the test wants a panic"),
                generation => Ok(Generation(generation)),
            }
        })
        .unwrap();
        let (handle, address) = (server.handle(), server.addresses()[0].clone());
        let mut haproxies: Vec<_> = (0..2 * server.cores().len())
            .map(|_| {
                let mut haproxy = FakeHaproxy::connect(&address);
                haproxy.shake_hands(FRAME_SIZE);
                haproxy
            })
            .collect();
        let mut expect = |stream_id, generation| {
            for haproxy in &mut haproxies {
                let ack = haproxy.ask(stream_id, "any", 0);
                assert_eq!(answer_of(&ack), Some(generation));
            }
        };
        expect(1, 1);
        generation.store(2, Ordering::SeqCst);
        expect(2, 1);
        assert_eq!(handle.reload(config.clone()).unwrap(), [""; 0]);
        expect(3, 2);

        if server.cores().len() > 1 {
            generation.store(13, Ordering::SeqCst);
            let error = handle.reload(config.clone()).unwrap_err().to_string();
            assert!(error.contains("no luck"), "{error}");
            expect(4, 2);
        }
        generation.store(14, Ordering::SeqCst);
        let error = handle.reload(config.clone()).unwrap_err().to_string();
        assert!(error.contains("panicked"), "{error}");
        expect(5, 2);
        generation.store(3, Ordering::SeqCst);
        let wrong = ServerConfig {
            max_connections: 0,
            ..config.clone()
        };
        let error = handle.reload(wrong).unwrap_err().to_string();
        assert!(error.contains("max_connections"), "{error}");
        expect(6, 2);

        let other = ServerConfig {
            listen: vec!["127.0.0.1:1".parse().unwrap()],
            busy_poll: Duration::from_millis(1),
            max_connections: 7,
            ..config
        };
        assert_eq!(handle.reload(other).unwrap(), ["listen", "busy_poll"]);
        expect(7, 3);
        assert_eq!(handle.config().max_connections, 7);
        let text = metrics(&handle);
        assert_eq!(sample(&text, "ringspoa_reloads_total"), 2.0);
        let failures = if server.cores().len() > 1 { 3.0 } else { 2.0 };
        assert_eq!(sample(&text, "ringspoa_reload_failures_total"), failures);
        assert_eq!(sample(&text, "ringspoa_max_connections"), 7.0);
        drop(haproxies);
        server.drain();
        server.join().unwrap();
    });
}

/// A core that stands still makes a reload wait, but not those who want to see what is wrong.
#[test]
fn a_reload_under_way_keeps_nobody_from_the_metrics() {
    let gate = Arc::new(Mutex::new(()));
    let (entered, entries) = mpsc::channel();
    let for_factory = Arc::clone(&gate);
    let config = config(Driver::Auto);
    let server = Server::start(config.clone(), move |_| {
        entered.send(()).unwrap();
        drop(for_factory.lock());
        Ok(Generation(1))
    })
    .unwrap();
    entries.recv().unwrap();
    let closed = gate.lock().unwrap();
    let handle = server.handle();
    let reload = std::thread::spawn(move || handle.reload(config));
    entries.recv().unwrap();
    let (shown, texts) = mpsc::channel();
    let handle = server.handle();
    std::thread::spawn(move || shown.send(metrics(&handle)));
    let text = texts.recv_timeout(Duration::from_secs(10));
    drop(closed);
    assert_eq!(sample(&text.unwrap(), "ringspoa_reloads_total"), 0.0);
    assert_eq!(reload.join().unwrap().unwrap(), [""; 0]);
    assert_eq!(
        sample(&metrics(&server.handle()), "ringspoa_reloads_total"),
        1.0
    );
    server.drain();
    server.join().unwrap();
}

/// The new limits hold without a new connection.
#[test]
fn a_reload_changes_deadlines_and_fallbacks_at_once() {
    let scene = Scene::start();
    let mut haproxy = scene.server.introduce();
    haproxy.send(&notify(1, 1, "late", 1));
    let old = scene.take_tickets(1).remove(0).1;
    let mut config = (*scene.server.handle().config()).clone();
    config.agent_deadline = Duration::from_millis(30);
    config.fallback = ringspoa::Fallback::with_variables([(ANSWER, TypedData::Int64(-1))]).unwrap();
    scene.server.handle().reload(config).unwrap();
    haproxy.send(&notify(2, 1, "late", 2));
    let new = scene.take_tickets(1).remove(0).1;
    assert_eq!(answer_of(&haproxy.expect_ack(2, 1)), Some(-1));
    // A ticket keeps the deadline that it was drawn with.
    answer(old, 1_i64);
    assert_eq!(answer_of(&haproxy.expect_ack(1, 1)), Some(1));
    drop((new, haproxy));
    scene.server.stop();
}

/// What happened is what the metrics say, and they add up.
#[test]
fn the_metrics_add_up() {
    let mut config = config(Driver::Auto);
    config.agent_deadline = Duration::from_millis(60);
    let ringspoa::Cores::List(cpus) = config.cores.clone() else {
        panic!("these tests name their CPU")
    };
    let core = |name: &str| format!("ringspoa_core_{name}{{core=\"{}\"}}", cpus[0]);
    let scene = Scene::with(config);
    let mut haproxy = scene.server.introduce();
    for stream_id in 0..5 {
        haproxy.ask(stream_id, "now", 1);
    }
    for (stream_id, message) in [(5, "error"), (6, "panic"), (8, "abandon"), (9, "late")] {
        haproxy.send(&notify(stream_id, 1, message, 1));
        haproxy.expect_ack(stream_id, 1);
    }
    haproxy.send(&notify(7, 1, "big", 17_000));
    haproxy.expect_ack(7, 1);
    haproxy.send(&frame(3, 1, (10, 1), b""));
    haproxy.expect_ack(10, 1);
    let text = metrics(&scene.server.handle());
    let answers = |message: &str, outcome: &str| {
        let labels = format!("{{message=\"{message}\",outcome=\"{outcome}\"}}");
        sample(&text, &format!("ringspoa_answers_total{labels}"))
    };
    for (message, outcome, count) in [
        ("now", "answered", 5.0),
        ("error", "error", 1.0),
        ("panic", "panic", 1.0),
        ("abandon", "abandoned", 1.0),
        ("late", "deadline", 1.0),
        ("big", "too_large", 1.0),
        ("(none)", "answered", 1.0),
        ("now", "error", 0.0),
    ] {
        assert_eq!(answers(message, outcome), count, "{message} {outcome}");
    }
    let time = |suffix: &str| sample(&text, &format!("ringspoa_service_time_seconds_{suffix}"));
    assert_eq!(time("count{message=\"now\"}"), 5.0);
    assert_eq!(time("bucket{message=\"now\",le=\"+Inf\"}"), 5.0);
    assert!(time("sum{message=\"late\"}") >= 0.059);
    assert_eq!(time("bucket{message=\"late\",le=\"0.016777216\"}"), 0.0);
    let names: Vec<_> = families().iter().map(|family| family.name).collect();
    for family in &names {
        assert!(text.contains(&format!("# TYPE {family} ")), "{family}");
    }
    let served: Vec<_> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
        .collect();
    assert_eq!(served, names);

    // A connection that ends with a ticket out, one that is told goodbye, one that is refused.
    haproxy.send(&notify(11, 1, "late-forever", 1));
    let ticket = scene.take_tickets(2).remove(1).1;
    assert_eq!(
        sample(&metrics(&scene.server.handle()), &core("in_flight")),
        1.0
    );
    haproxy.send(&haproxy_disconnect(2));
    haproxy.expect_disconnect(ringspoa::spop::Status::NORMAL);
    haproxy.expect_end();
    drop((haproxy, ticket));
    let mut refused = scene.server.connect();
    refused.send(&frame(3, 1, (1, 1), b""));
    refused.expect_disconnect(ringspoa::spop::Status::INVALID);
    drop(refused);
    let silent = scene.server.connect();
    drop(silent);
    crate::support::eventually("all are counted", || {
        let text = metrics(&scene.server.handle());
        sample(&text, "ringspoa_connections_silent_total") == 1.0
            && sample(&text, &core("connections")) == 0.0
    });
    let text = metrics(&scene.server.handle());
    let status = |family: &str, status: &str| {
        sample(
            &text,
            &format!("ringspoa_{family}_total{{status=\"{status}\"}}"),
        )
    };
    assert_eq!(sample(&text, &core("in_flight")), 0.0);
    assert_eq!(status("disconnects_received", "2"), 1.0);
    assert_eq!(status("disconnects_sent", "0"), 1.0);
    assert_eq!(status("disconnects_sent", "4"), 1.0);
    assert_eq!(status("handshakes_refused", "4"), 1.0);
    let lost = "ringspoa_answers_total{message=\"late-forever\",outcome=\"lost\"}";
    assert_eq!(sample(&text, lost), 1.0);
    let stats = scene.server.stop();
    assert_eq!((stats.notifies, stats.acks, stats.lost), (12, 11, 1));
}
