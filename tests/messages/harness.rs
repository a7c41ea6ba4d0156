//! Agents in memory: tickets, deadlines, fallbacks, and several NOTIFYs in flight.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use ringspoa::{
    Agent, AgentError, Fallback, Harness, HeaderBlob, HeaderBlobWriter, HeaderNames,
    HeaderNamesWriter, Message, Reply, Router, Ticket, Var,
};

#[derive(Message)]
struct Ask {
    n: i64,
}

#[derive(Message)]
struct Tell {
    n: i64,
}

const NOW: Var<i64> = Var::txn("now");
const LATER: Var<i64> = Var::txn("later");

/// Answers `tell` at once, and hands the tickets of `ask` to the test.
fn agent() -> (impl Agent, mpsc::Receiver<(i64, Ticket)>) {
    let (sender, receiver) = mpsc::channel();
    let agent = Router::new("tickets", sender)
        .on::<Ask>(|tickets: &mut mpsc::Sender<(i64, Ticket)>, ask, reply| {
            Ok(tickets.send((ask.n, reply.defer()))?)
        })
        .on::<Tell>(|_, tell, reply| Ok(reply.set(NOW, tell.n)?));
    (agent, receiver)
}

fn answer((n, mut ticket): (i64, Ticket)) {
    ticket.set(LATER, n).unwrap();
    ticket.send();
}

#[test]
fn a_handler_that_answers_and_one_that_waits_share_an_ack() {
    let (agent, tickets) = agent();
    let mut harness = Harness::new(agent);
    for (ask_first, n) in [(true, 1), (false, 2)] {
        let (ask, tell) = (Ask { n }, Tell { n });
        let id = match ask_first {
            true => harness.notify((&ask, &tell)).id(),
            false => harness.notify((&tell, &ask)).id(),
        };
        answer(tickets.recv().unwrap());
        let ack = harness.ack(id);
        assert_eq!((ack.get(NOW), ack.get(LATER)), (Some(n), Some(n)));
    }
}

#[test]
fn an_ack_waits_for_all_tickets() {
    let (agent, tickets) = agent();
    let mut harness = Harness::new(agent);
    let id = harness.notify((&Ask { n: 1 }, &Ask { n: 2 })).id();
    let (first, second) = (tickets.recv().unwrap(), tickets.recv().unwrap());
    // In the order they are sent.
    let late = thread::spawn(move || {
        answer(second);
        answer(first);
    });
    let ack = harness.ack(id);
    late.join().unwrap();
    assert_eq!(ack.actions().count(), 2);
    assert_eq!(ack.get(LATER), Some(1));
}

#[test]
fn one_ticket_dropped_is_the_fallback() {
    let (agent, tickets) = agent();
    let fallback = Fallback::empty().with(NOW, 9).unwrap();
    let mut harness = Harness::new(agent).with_fallback(fallback);
    let id = harness.notify((&Ask { n: 1 }, &Ask { n: 2 })).id();
    let (first, second) = (tickets.recv().unwrap(), tickets.recv().unwrap());
    answer(first);
    drop(second);
    let ack = harness.ack(id);
    assert_eq!(ack.fault(), Some("a ticket was dropped"));
    assert_eq!((ack.get(NOW), ack.get(LATER)), (Some(9), None));
}

#[test]
fn a_deadline_passes_when_the_test_says_so() {
    let (agent, tickets) = agent();
    let mut harness = Harness::new(agent).with_deadline(Duration::from_millis(100));
    let first = harness.notify(&Ask { n: 1 }).id();
    harness.advance(Duration::from_millis(60));
    let second = harness.notify(&Ask { n: 2 }).id();
    harness.advance(Duration::from_millis(60));
    assert_eq!(harness.ack(first).fault(), Some("the deadline passed"));
    let (_, too_late) = tickets.recv().unwrap();
    too_late.send();
    answer(tickets.recv().unwrap());
    let ack = harness.ack(second);
    assert_eq!((ack.fault(), ack.get(LATER)), (None, Some(2)));
}

#[test]
fn the_earliest_deadline_of_several_tickets_counts() {
    struct Two(Vec<Ticket>);
    impl Agent for Two {
        fn handle_notify(
            &mut self,
            _: &mut ringspoa::spop::Messages<'_>,
            reply: &mut Reply<'_>,
        ) -> Result<(), AgentError> {
            for ms in [300, 100, 200] {
                self.0.push(reply.defer_for(Duration::from_millis(ms)));
            }
            Ok(())
        }
    }
    let mut harness = Harness::new(Two(Vec::new()));
    let ack = harness
        .notify(&Ask { n: 1 })
        .after(Duration::from_millis(100));
    assert_eq!(ack.fault(), Some("the deadline passed"));
}

#[test]
fn panics_errors_and_long_answers_are_the_fallback() {
    let agent = Router::new("bad", ()).on::<Ask>(|(), ask, reply| match ask.n {
        0 => panic!("on purpose"),
        1 => Err("no answer".into()),
        _ => {
            let long = "x".repeat(300);
            let _ = reply.set(Var::<str>::txn("long"), &long);
            Ok(())
        }
    });
    let mut harness = Harness::new(agent)
        .with_max_frame_size(256)
        .with_never_empty_acks();
    let faults = [
        (0, "the agent panicked"),
        (1, "the agent returned an error"),
        (2, "the actions do not fit the frame"),
    ];
    for (n, fault) in faults {
        let ack = harness.notify(&Ask { n }).ack();
        assert_eq!(ack.fault(), Some(fault));
        assert!(!ack.is_empty(), "an action that changes nothing");
    }
    let ack = harness.notify(&Ask { n: 1 }).ack();
    assert_eq!(ack.error(), Some("no answer"));
    let ack = harness.notify(&Ask { n: 0 }).ack();
    assert_eq!(ack.error(), Some("on purpose"));
}

#[test]
#[should_panic(expected = "txn.later is set to INT64 5, which is not the STRING that is asked for")]
fn a_variable_of_another_type_is_no_silent_none() {
    let agent = Router::new("types", ()).on::<Ask>(|(), ask, reply| Ok(reply.set(LATER, ask.n)?));
    let ack = Harness::new(agent).notify(&Ask { n: 5 }).ack();
    let _ = ack.get(Var::<str>::txn("later"));
}

#[test]
#[should_panic(expected = "that of tickets without one of their own is 500ms here")]
fn an_ack_that_is_not_there_yet_says_when_it_would_be() {
    let (agent, _tickets) = agent();
    let _ = Harness::new(agent)
        .notify(&Ask { n: 1 })
        .after(Duration::from_millis(80));
}

#[test]
fn variables_of_all_types_come_back() {
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
    let v4 = Ipv4Addr::new(192, 0, 2, 9);
    let agent = Router::new("types", ()).on::<Ask>(move |(), _, reply| {
        reply.set(Var::<bool>::sess("a"), false)?;
        reply.set(Var::<i32>::txn("b"), -1)?;
        reply.set(Var::<u32>::req("c"), u32::MAX)?;
        reply.set(Var::<u64>::res("d"), u64::MAX)?;
        reply.set(Var::<Ipv4Addr>::proc("e"), v4)?;
        reply.set(Var::<Ipv6Addr>::txn("f"), Ipv6Addr::LOCALHOST)?;
        reply.set(Var::<IpAddr>::txn("g"), v4.into())?;
        reply.set(Var::<[u8]>::txn("h"), b"\xff")?;
        reply.set(Var::<str>::txn("i"), "é")?;
        reply.set(LATER, 1)?;
        Ok(reply.unset(LATER)?)
    });
    let ack = Harness::new(agent).notify(&Ask { n: 0 }).ack();
    assert_eq!(ack.get(Var::<bool>::sess("a")), Some(false));
    assert_eq!(ack.get(Var::<i32>::txn("b")), Some(-1));
    assert_eq!(ack.get(Var::<u32>::req("c")), Some(u32::MAX));
    assert_eq!(ack.get(Var::<u64>::res("d")), Some(u64::MAX));
    assert_eq!(ack.get(Var::<Ipv4Addr>::proc("e")), Some(v4));
    assert_eq!(
        ack.get(Var::<Ipv6Addr>::txn("f")),
        Some(Ipv6Addr::LOCALHOST)
    );
    assert_eq!(ack.get(Var::<IpAddr>::txn("g")), Some(v4.into()));
    assert_eq!(ack.get(Var::<[u8]>::txn("h")), Some(&b"\xff"[..]));
    assert_eq!(ack.get(Var::<str>::txn("i")), Some("é"));
    assert_eq!(ack.get(Var::<bool>::txn("a")), None, "another scope");
    assert!(ack.is_unset(LATER));
    assert!(!ack.is_unset(NOW));
}

#[test]
fn header_blobs_are_variables() {
    const ADDED: Var<HeaderBlob<'static>> = Var::req("added");
    const TAKEN: Var<HeaderNames<'static>> = Var::req("taken");
    let agent = Router::new("headers", ()).on::<Ask>(|(), ask, reply| {
        let mut buffer = [0; 128];
        let mut added = HeaderBlobWriter::new(&mut buffer);
        added.header("X-Score", ask.n.to_string())?;
        reply.set(ADDED, added.finish())?;
        let mut buffer = [0; 128];
        let mut taken = HeaderNamesWriter::new(&mut buffer);
        taken.name("x-forwarded-for")?;
        Ok(reply.set(TAKEN, taken.finish())?)
    });
    let ack = Harness::new(agent).notify(&Ask { n: 7 }).ack();
    let added = ack.get(ADDED).expect("it is set");
    assert_eq!(added.get("x-score"), Some(&b"7"[..]));
    assert_eq!(ack.get(TAKEN), Some(&b"\x0fx-forwarded-for\0"[..]));
}

#[test]
#[should_panic(expected = "has been answered")]
fn an_ack_is_taken_once() {
    let (agent, _tickets) = agent();
    let mut harness = Harness::new(agent);
    let id = harness.notify(&Tell { n: 1 }).id();
    let _ = harness.ack(id);
    let _ = harness.ack(id);
}
