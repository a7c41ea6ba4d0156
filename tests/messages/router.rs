//! Several messages to several handlers.

use ringspoa::spop::Argument;
use ringspoa::{Agent, Fallback, Harness, Message, OtherMessages, Router, Var};

#[derive(Message)]
struct First {
    n: i64,
}

#[derive(Message)]
struct Second<'a> {
    text: &'a str,
}

const NUMBER: Var<i64> = Var::txn("number");
const TEXT: Var<str> = Var::txn("text");

/// As it is named now, and as it was.
#[derive(Message)]
#[spop(name = "third-http", alias = "third", alias = "third-old")]
struct Third {
    n: i64,
}

#[derive(Debug, Default)]
struct Counts {
    first: u32,
    second: u32,
}

fn agent() -> Router<Counts, impl ringspoa::Routes<Counts>> {
    Router::new("both", Counts::default())
        .on::<First>(|counts: &mut Counts, first, reply| {
            counts.first += 1;
            Ok(reply.set(NUMBER, first.n)?)
        })
        .on::<Second<'_>>(|counts, second, reply| {
            counts.second += 1;
            Ok(reply.set(TEXT, second.text)?)
        })
        .sets(NUMBER)
        .sets(TEXT)
}

#[test]
fn each_message_of_a_notify_goes_to_its_handler() {
    let mut harness = Harness::new(agent());
    let ack = harness
        .notify((&First { n: 1 }, &Second { text: "a" }, &First { n: 2 }))
        .ack();
    assert_eq!(ack.get(NUMBER), Some(2), "the later one wins");
    assert_eq!(ack.get(TEXT), Some("a"));
    assert_eq!(ack.actions().count(), 3);
    let counts = harness.agent().state();
    assert_eq!((counts.first, counts.second), (2, 1));
}

#[test]
fn other_messages_are_ignored_refused_or_read_as_one() {
    let send = |agent| {
        let mut harness = Harness::new(agent);
        harness
            .notify_with(|notify| {
                notify.message("third", [Argument::new("n", 7_i64)])?;
                notify.message("second", [Argument::new("text", "x")])
            })
            .ack()
    };
    let ack = send(agent());
    assert_eq!(
        (ack.get(NUMBER), ack.get(TEXT), ack.fault()),
        (None, Some("x"), None)
    );

    let ack = send(agent().other_messages(OtherMessages::Refused));
    assert_eq!(
        ack.error(),
        Some("message third is unknown; agent both takes first, second")
    );
    assert!(ack.is_empty());

    let ack = send(agent().other_messages(OtherMessages::ReadAs(&First::DECLARATION)));
    assert_eq!((ack.get(NUMBER), ack.get(TEXT)), (Some(7), Some("x")));
}

#[test]
fn a_message_is_taken_under_its_aliases() {
    let third = |router: Router<Counts, _>| {
        router.on::<Third>(|_: &mut Counts, third, reply| Ok(reply.set(NUMBER, third.n)?))
    };
    let mut harness = Harness::new(third(Router::new("third", Counts::default())));
    for (name, expected) in [
        ("third-http", Some(1)),
        ("third", Some(1)),
        ("third-old", Some(1)),
        ("third-new", None),
    ] {
        let ack = harness
            .notify_with(|notify| notify.message(name, [Argument::new("n", 1_i64)]))
            .ack();
        assert_eq!(ack.get(NUMBER), expected, "{name}");
    }
    let ack = harness.notify(&Third { n: 2 }).ack();
    assert_eq!(ack.get(NUMBER), Some(2), "it is sent under its name");
}

#[test]
fn one_error_is_the_fallback_for_all() {
    let fallback = Fallback::with_variables([(TEXT.variable(), "fallback".into())]).unwrap();
    let mut harness = Harness::new(agent()).with_fallback(fallback);
    let ack = harness
        .notify_with(|notify| {
            notify.message("first", [Argument::new("n", 1_i64)])?;
            notify.message("second", [])
        })
        .ack();
    assert_eq!(
        ack.error(),
        Some("message second: argument text is missing; it must be UTF-8 text")
    );
    assert_eq!((ack.get(NUMBER), ack.get(TEXT)), (None, Some("fallback")));
}

#[test]
fn a_declaration_has_all_routes() {
    let declaration = agent().declaration();
    assert_eq!(declaration.name, "both");
    let names: Vec<_> = declaration.messages.iter().map(|m| m.name).collect();
    assert_eq!(names, ["first", "second"]);
    let names: Vec<_> = declaration.variables.iter().map(|v| v.name).collect();
    assert_eq!(names, ["number", "text"]);
}

#[test]
#[should_panic(expected = "message first has two handlers")]
fn a_message_has_one_handler() {
    let _ = agent().on::<First>(|_: &mut Counts, _, _| Ok(()));
}

#[test]
#[should_panic(expected = "message third has two handlers")]
fn an_alias_has_one_handler() {
    #[derive(Message)]
    #[spop(name = "third")]
    struct Other;
    let _ = Router::new("third", Counts::default())
        .on::<Other>(|_: &mut Counts, _, _| Ok(()))
        .on::<Third>(|_, _, _| Ok(()));
}
