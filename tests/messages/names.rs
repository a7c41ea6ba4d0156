//! Messages where names of the code around them are those that derived code might take for its own.

#![deny(warnings)]
#![allow(
    dead_code,
    non_camel_case_types,
    non_upper_case_globals,
    reason = "such names are what this is about"
)]

use ringspoa::Message as _;

/// Constants, statics and unit structs, which a pattern of the same name would be taken for.
mod values {
    pub(super) struct message;
    pub(super) struct rest;
    pub(super) struct error;
    pub(super) struct notify;
    pub(super) const DECLARATION: u8 = 1;
    pub(super) const argument: u8 = 1;
    pub(super) static arguments: u8 = 1;
    pub(super) static slot_ip: u8 = 1;

    #[derive(Debug, PartialEq, ringspoa::Message)]
    pub(super) struct Visit<'message> {
        pub(super) ip: std::net::IpAddr,
        pub(super) path: &'message [u8],
    }
}

/// What derived code would have from the prelude, and methods of everything.
mod prelude {
    struct Result;
    struct Option;
    struct Some;
    struct None;
    struct Ok;
    struct Err;
    struct Default;
    struct Message;

    trait ForAll: Sized {
        fn fill(self) {}
        fn take(self) {}
        fn rest(self) {}
        fn next_argument(self) {}
        fn message(self) {}
        fn to_value(self) {}
        fn len(self) {}
    }
    impl<T> ForAll for T {}

    #[derive(Debug, PartialEq, ringspoa::Message)]
    pub(super) struct Visit<'a> {
        pub(super) path: &'a [u8],
        #[spop(default)]
        pub(super) port: u16,
    }
}

/// Names that are no names of local variables as the compiler wants them.
#[allow(non_snake_case, reason = "as above")]
#[derive(Debug, PartialEq, ringspoa::Message)]
struct r#match {
    IP: std::net::IpAddr,
    _reserved: u8,
    a__b: u8,
    r#type: u8,
}

/// Writes a message and reads it back.
macro_rules! there_and_back {
    ($message:expr, $type:ty) => {{
        let mut harness = ringspoa::Harness::new(Keep::<$type>(Vec::new(), None));
        let ack = harness.notify(&$message).ack();
        assert_eq!(ack.error(), None);
        harness.agent().0.clone()
    }};
}

/// An agent that keeps what it reads, as text.
struct Keep<M>(Vec<String>, Option<M>);

impl<M: ringspoa::Message> ringspoa::Agent for Keep<M>
where
    for<'a> M::Of<'a>: std::fmt::Debug,
{
    fn handle_notify(
        &mut self,
        messages: &mut ringspoa::spop::Messages<'_>,
        _: &mut ringspoa::Reply<'_>,
    ) -> Result<(), ringspoa::AgentError> {
        while let Some(mut message) = messages.next_message()? {
            let name = String::from_utf8_lossy(message.name()).into_owned();
            let read = M::decode(&mut message)?;
            self.0.push(format!("{name}: {read:?}"));
        }
        Ok(())
    }
}

#[test]
fn derived_code_goes_by_no_name_around_it() {
    let visit = values::Visit {
        ip: [192, 0, 2, 1].into(),
        path: b"/",
    };
    let read = there_and_back!(visit, values::Visit<'static>);
    assert_eq!(read, [format!("visit: {visit:?}")]);
    let visit = prelude::Visit {
        path: b"/",
        port: 80,
    };
    let read = there_and_back!(visit, prelude::Visit<'static>);
    assert_eq!(read, [format!("visit: {visit:?}")]);
}

#[test]
fn raw_names_are_what_they_are_without_their_mark() {
    let message = r#match {
        IP: [192, 0, 2, 1].into(),
        _reserved: 1,
        a__b: 2,
        r#type: 3,
    };
    let read = there_and_back!(message, r#match);
    assert_eq!(read, [format!("match: {message:?}")]);
    let names = r#match::DECLARATION
        .arguments
        .iter()
        .map(|argument| argument.name);
    assert_eq!(
        names.collect::<Vec<_>>(),
        ["IP", "_reserved", "a__b", "type"]
    );
}
