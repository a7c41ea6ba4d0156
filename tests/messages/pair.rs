//! Two agents as one: whose message is whose, and one ACK whatever they do.

use ringspoa::spop::{Argument, EncodeError, NotifyWriter};
use ringspoa::{Agent, AgentPair, Harness, Message, OtherMessages, Router, Var};

#[derive(Message)]
#[spop(name = "left", alias = "left-old")]
struct Left {
    n: i64,
}

#[derive(Message)]
struct Late {
    n: i64,
}

#[derive(Message)]
struct Right {
    n: i64,
}

const LEFT: Var<i64> = Var::txn("left");
const RIGHT: Var<i64> = Var::txn("right");
const ORDER: Var<i64> = Var::txn("order");

/// Says in what order it was asked.
fn left() -> impl Agent {
    Router::new("left", 0_i64)
        .on::<Left>(|count: &mut i64, message, reply| {
            *count += 1;
            reply.set(ORDER, message.n)?;
            Ok(reply.set(LEFT, *count)?)
        })
        .on::<Late>(|_, message, reply| {
            let mut ticket = reply.defer();
            std::thread::spawn(move || {
                ticket.set(LEFT, message.n).expect("room");
                ticket.send();
            });
            Ok(())
        })
        .sets(LEFT)
        .sets(ORDER)
}

fn right() -> impl Agent {
    Router::new("right", 0_i64)
        .on::<Right>(|count: &mut i64, message, reply| {
            if message.n < 0 {
                return Err("negative".into());
            }
            *count += 1;
            reply.set(ORDER, message.n)?;
            Ok(reply.set(RIGHT, *count)?)
        })
        .sets(RIGHT)
        .other_messages(OtherMessages::Refused)
}

fn write(notify: &mut NotifyWriter<'_>, messages: &[(&str, i64)]) -> Result<(), EncodeError> {
    for (name, n) in messages {
        notify.message(name, [Argument::new("n", *n)])?;
    }
    Ok(())
}

#[test]
fn each_gets_its_own_in_their_order_and_there_is_one_ack() {
    let mut harness = Harness::new(AgentPair::new(left(), right()));
    let messages = [
        ("left", 1),
        ("right", 2),
        ("right", 3),
        ("left-old", 4),
        ("right", 5),
    ];
    let ack = harness.notify_with(|notify| write(notify, &messages)).ack();
    assert_eq!((ack.get(LEFT), ack.get(RIGHT)), (Some(2), Some(3)));
    assert_eq!(ack.fault(), None);
    let order: Vec<_> = ack
        .actions()
        .filter_map(|action| match action {
            ringspoa::spop::Action::SetVar { name, value, .. } if name == b"order" => {
                value.as_i64()
            }
            _ => None,
        })
        .collect();
    assert_eq!(order, [1, 2, 3, 4, 5]);

    let ack = harness.notify_with(|_| Ok(())).ack();
    assert_eq!((ack.actions().count(), ack.fault()), (0, None));
}

#[test]
fn a_late_answer_of_one_waits_for_nothing_of_the_other() {
    let mut harness = Harness::new(AgentPair::new(left(), right()));
    let ack = harness
        .notify_with(|notify| write(notify, &[("late", 7), ("right", 1), ("late", 8)]))
        .ack();
    assert_eq!((ack.get(RIGHT), ack.fault()), (Some(1), None));
    // Both tickets were sent, in whatever order.
    assert!(matches!(ack.get(LEFT), Some(7 | 8)));
    assert_eq!(ack.actions().count(), 4);
}

#[test]
fn an_error_of_one_is_the_fallback_for_all() {
    let mut harness = Harness::new(AgentPair::new(left(), right()));
    for (messages, error) in [
        (&[("left", 1), ("right", -1), ("left", 2)][..], "negative"),
        (&[("left", 1), ("other", 1)], "message other is unknown"),
    ] {
        let ack = harness.notify_with(|notify| write(notify, messages)).ack();
        assert_eq!(ack.actions().count(), 0);
        assert!(ack.error().expect("an error").starts_with(error), "{ack:?}");
    }
}

#[test]
fn the_declaration_has_both() {
    let pair = AgentPair::new(left(), right());
    let declaration = pair.declaration();
    assert_eq!(declaration.name, "left");
    let names: Vec<_> = declaration.messages.iter().map(|m| m.name).collect();
    assert_eq!(names, ["left", "late", "right"]);
    assert_eq!(declaration.variables.len(), 3);
    assert_eq!(declaration.other_messages, OtherMessages::Refused);
}

#[test]
#[should_panic(expected = "message left-old is declared by two agents")]
fn a_message_of_both_is_refused() {
    #[derive(Message)]
    #[spop(name = "left-old")]
    struct Same {
        n: i64,
    }
    let same = Router::new("same", ()).on::<Same>(|(), same, reply| Ok(reply.set(LEFT, same.n)?));
    let _ = AgentPair::new(left(), same);
}
