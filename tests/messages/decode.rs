//! What `#[derive(Message)]` reads, and how it says what is wrong.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ringspoa::spop::{
    Argument, DecodeError, EncodeError, Frame, FrameId, Messages, NotifyWriter, StreamId, TypedData,
};
use ringspoa::{
    ArgumentValue, Headers, Message, MessageError, MessageFault, ValueError, ValueTypes,
};

/// Everything that a field may be.
#[derive(Clone, Debug, PartialEq, Message)]
#[spop(name = "everything")]
struct Everything<'a> {
    ip: IpAddr,
    v4: Ipv4Addr,
    v6: Ipv6Addr,
    #[spop(name = "user-agent")]
    user_agent: Option<&'a [u8]>,
    method: &'a str,
    ssl: bool,
    port: u16,
    small: i8,
    large: u64,
    score: i64,
    raw: TypedData<'a>,
    #[spop(default)]
    tries: u32,
    #[spop(alias = "hostname", alias = "authority")]
    host: Option<&'a str>,
    r#type: Option<bool>,
}

const EVERYTHING: Everything<'static> = Everything {
    ip: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
    v4: Ipv4Addr::new(198, 51, 100, 7),
    v6: Ipv6Addr::LOCALHOST,
    user_agent: Some(b"caf\xe9"),
    method: "GET",
    ssl: true,
    port: 65_535,
    small: -128,
    large: u64::MAX,
    score: i64::MIN,
    raw: TypedData::Binary(b"\x00"),
    tries: 3,
    host: Some("example.org"),
    r#type: None,
};

/// The payload of a NOTIFY.
fn payload(write: impl FnOnce(&mut NotifyWriter<'_>) -> Result<(), EncodeError>) -> Vec<u8> {
    let mut bytes = vec![0; 16_384];
    let mut notify = NotifyWriter::begin(&mut bytes, 16_380, StreamId(1), FrameId(1)).unwrap();
    write(&mut notify).unwrap();
    let len = notify.finish();
    let (frame, _) = Frame::split(&bytes[..len], 16_380).unwrap().unwrap();
    frame.payload.to_vec()
}

fn decode<M: Message>(payload: &[u8]) -> Result<M::Of<'_>, MessageError> {
    // The messages borrow from the payload only, and so does what is read from them.
    let mut messages = Messages::new(payload);
    let mut message = messages.next_message().unwrap().unwrap();
    M::decode(&mut message)
}

fn error<M: Message>(arguments: &[Argument<'_>]) -> MessageError
where
    for<'a> M::Of<'a>: std::fmt::Debug,
{
    let name = M::DECLARATION.name;
    let payload = payload(|notify| notify.message(name, arguments.iter().copied()));
    decode::<M>(&payload).expect_err("it is wrong")
}

#[test]
fn every_type_comes_back_as_it_was_sent() {
    let payload = payload(|notify| EVERYTHING.encode(notify));
    assert_eq!(decode::<Everything<'_>>(&payload), Ok(EVERYTHING));
}

#[test]
fn arguments_come_in_whatever_order() {
    let sent = payload(|notify| EVERYTHING.encode(notify));
    let mut messages = Messages::new(&sent);
    let message = messages.next_message().unwrap().unwrap();
    let mut arguments: Vec<Argument<'_>> = message.map(Result::unwrap).collect();
    for _ in 0..arguments.len() {
        arguments.rotate_left(1);
        let turned = payload(|notify| notify.message("everything", arguments.iter().copied()));
        assert_eq!(decode::<Everything<'_>>(&turned), Ok(EVERYTHING));
    }
    arguments.reverse();
    let turned = payload(|notify| notify.message("everything", arguments.iter().copied()));
    assert_eq!(decode::<Everything<'_>>(&turned), Ok(EVERYTHING));
}

#[test]
fn what_is_optional_may_be_missing_or_null() {
    let sent = payload(|notify| EVERYTHING.encode(notify));
    let mut messages = Messages::new(&sent);
    let message = messages.next_message().unwrap().unwrap();
    let arguments: Vec<Argument<'_>> = message.map(Result::unwrap).collect();
    let optional: [&[u8]; 4] = [b"user-agent", b"host", b"tries", b"type"];
    let expected = Everything {
        user_agent: None,
        host: None,
        tries: 0,
        r#type: None,
        ..EVERYTHING
    };
    let missing: Vec<_> = arguments
        .iter()
        .filter(|argument| !optional.contains(&argument.name))
        .copied()
        .collect();
    let null: Vec<_> = arguments
        .iter()
        .map(|argument| match optional.contains(&argument.name) {
            true => Argument {
                value: TypedData::Null,
                ..*argument
            },
            false => *argument,
        })
        .collect();
    for arguments in [missing, null] {
        let sent = payload(|notify| notify.message("everything", arguments));
        assert_eq!(decode::<Everything<'_>>(&sent), Ok(expected.clone()));
    }
}

#[test]
fn an_alias_is_the_same_argument() {
    #[derive(Debug, PartialEq, Message)]
    struct Named<'a> {
        #[spop(alias = "hostname", alias = "authority")]
        host: &'a str,
    }
    for name in ["host", "hostname", "authority"] {
        let sent = payload(|notify| notify.message("named", [Argument::new(name, "a.example")]));
        assert_eq!(decode::<Named<'_>>(&sent), Ok(Named { host: "a.example" }));
    }
    let twice = [
        Argument::new("host", "a.example"),
        Argument::new("authority", "b.example"),
    ];
    assert_eq!(
        error::<Named<'_>>(&twice).to_string(),
        "message named: argument host must be there once, but is there twice"
    );
}

#[derive(Debug, PartialEq, Message)]
#[spop(name = "check-client")]
struct CheckClient<'a> {
    ip: IpAddr,
    port: u16,
    level: i8,
    path: &'a str,
    ssl: Option<bool>,
}

fn good() -> Vec<Argument<'static>> {
    vec![
        Argument::new("ip", Ipv4Addr::LOCALHOST),
        Argument::new("port", 443_i64),
        Argument::new("level", -1_i64),
        Argument::new("path", "/"),
        Argument::new("ssl", true),
    ]
}

#[test]
fn each_fault_names_message_argument_expectation_and_what_came() {
    let mut cases: Vec<(Vec<Argument<'_>>, &str)> = Vec::new();
    let mut with = |argument: Argument<'static>, text| {
        let mut arguments = good();
        arguments.retain(|other| other.name != argument.name);
        arguments.push(argument);
        cases.push((arguments, text));
    };
    with(
        Argument::new("ip", TypedData::Null),
        "message check-client: argument ip must be an IP address, but is NULL",
    );
    with(
        Argument::new("ip", "127.0.0.1"),
        "message check-client: argument ip must be an IP address, but is STRING",
    );
    with(
        Argument::new("port", 65_536_i64),
        "message check-client: argument port must be an integer from 0 to 65535, but is 65536",
    );
    with(
        Argument::new("port", -1_i64),
        "message check-client: argument port must be an integer from 0 to 65535, but is -1",
    );
    with(
        Argument::new("port", u64::MAX),
        "message check-client: argument port must be an integer from 0 to 65535, \
         but is 18446744073709551615",
    );
    with(
        Argument::new("level", 128_i64),
        "message check-client: argument level must be an integer from -128 to 127, but is 128",
    );
    with(
        Argument::new("level", false),
        "message check-client: argument level must be an integer from -128 to 127, but is BOOL",
    );
    with(
        Argument::new("path", TypedData::String(b"/caf\xe9")),
        "message check-client: argument path must be UTF-8 text, but has 0xe9 at byte 4",
    );
    with(
        Argument::new("path", TypedData::Binary(b"/")),
        "message check-client: argument path must be UTF-8 text, but is BINARY",
    );
    with(
        Argument::new("ssl", 1_i64),
        "message check-client: argument ssl must be a boolean, but is INT64",
    );
    for name in ["ip", "port", "level", "path"] {
        let mut arguments = good();
        arguments.retain(|argument| argument.name != name.as_bytes());
        let found = error::<CheckClient<'_>>(&arguments);
        assert!(
            *found.fault() == MessageFault::Missing
                && found
                    .argument()
                    .is_some_and(|argument| argument.name == name),
            "{found}"
        );
        let start = format!("message check-client: argument {name} is missing; it must be ");
        assert!(found.to_string().starts_with(&start), "{found}");
    }
    for name in ["ip", "port", "level", "path", "ssl"] {
        let mut arguments = good();
        let again = good()
            .into_iter()
            .find(|other| other.name == name.as_bytes());
        arguments.extend(again);
        let found = error::<CheckClient<'_>>(&arguments);
        let text =
            format!("message check-client: argument {name} must be there once, but is there twice");
        assert_eq!(found.to_string(), text);
    }
    for (arguments, text) in cases {
        let found = error::<CheckClient<'_>>(&arguments);
        assert_eq!(found.to_string(), text);
        assert_eq!(found.message(), "check-client");
    }
}

#[test]
fn unknown_arguments_are_skipped_or_denied() {
    #[derive(Debug, PartialEq, Message)]
    #[spop(name = "strict", deny_unknown_arguments)]
    struct Strict {
        ip: IpAddr,
    }
    let mut arguments = good();
    arguments.push(Argument::new("", 1_i64));
    let sent = payload(|notify| notify.message("check-client", arguments));
    assert!(decode::<CheckClient<'_>>(&sent).is_ok());

    let ip = Argument::new("ip", Ipv4Addr::LOCALHOST);
    let denied = [
        ("pi", "argument pi is unknown, and unknown ones are denied"),
        (
            "ip2",
            "argument ip2 is unknown, and unknown ones are denied",
        ),
        (
            "",
            "argument without a name is unknown, and unknown ones are denied",
        ),
        (
            "a-name-that-is-longer-than-what-an-error-keeps",
            "argument a-name-that-is-longer-... is unknown, and unknown ones are denied",
        ),
    ];
    for (name, text) in denied {
        let found = error::<Strict>(&[ip, Argument::new(name, true)]);
        assert_eq!(found.to_string(), format!("message strict: {text}"));
    }
}

#[test]
fn a_cut_payload_is_an_error_at_every_place() {
    let whole = payload(|notify| EVERYTHING.encode(notify));
    // Beyond the message's name and count.
    for cut in 12..whole.len() {
        let found = decode::<Everything<'_>>(&whole[..cut]).expect_err("it is cut");
        assert_eq!(
            found.fault(),
            &MessageFault::Malformed(DecodeError::Truncated),
            "cut at {cut}"
        );
    }
}

#[test]
fn a_type_of_ones_own_may_be_a_field() {
    #[derive(Clone, Copy, Debug, PartialEq)]
    struct Percent(u8);

    impl<'a> ArgumentValue<'a> for Percent {
        const TYPES: ValueTypes = ValueTypes::INTEGER;
        const EXPECTED: &'static str = "a percentage";

        fn from_value(value: TypedData<'a>) -> Result<Self, ValueError> {
            match u8::from_value(value)? {
                percent @ 0..=100 => Ok(Self(percent)),
                _ => Err(ValueError::Invalid("is above 100")),
            }
        }

        fn to_value(&self) -> TypedData<'_> {
            TypedData::Int64(self.0.into())
        }
    }

    #[derive(Debug, PartialEq, Message)]
    struct Load {
        cpu: Percent,
        disk: Option<Percent>,
    }

    let load = Load {
        cpu: Percent(99),
        disk: None,
    };
    let sent = payload(|notify| load.encode(notify));
    assert_eq!(decode::<Load>(&sent), Ok(load));
    let texts = [
        (
            101_i64,
            "message load: argument cpu must be a percentage, but is above 100",
        ),
        (
            256_i64,
            "message load: argument cpu must be a percentage, but is 256",
        ),
    ];
    for (value, text) in texts {
        let found = error::<Load>(&[Argument::new("cpu", value)]);
        assert_eq!(found.to_string(), text);
    }
}

#[test]
fn headers_come_in_both_forms() {
    #[derive(Debug, PartialEq, Message)]
    struct Request<'a> {
        headers: Headers<'a>,
        response: Option<Headers<'a>>,
    }
    let text = TypedData::String(b"host: a.example\r\ncookie: sid=1; lang=en\r\n\r\n");
    let binary = TypedData::Binary(b"\x04host\x09a.example\x06cookie\x0esid=1; lang=en\0\0");
    for value in [text, binary] {
        let sent = payload(|notify| notify.message("request", [Argument::new("headers", value)]));
        let request = decode::<Request<'_>>(&sent).unwrap();
        assert_eq!(request.headers.get("Host"), Some(&b"a.example"[..]));
        assert_eq!(request.headers.cookie("lang"), Some(&b"en"[..]));
        assert_eq!(request.response, None);
        let again = payload(|notify| request.encode(notify));
        assert_eq!(decode::<Request<'_>>(&again), Ok(request));
    }
    let wrong = [
        (
            TypedData::String(b"host a.example\r\n\r\n"),
            "is not: header line at byte 0 has no colon",
        ),
        (
            TypedData::Binary(b"\x04host\x09a.example"),
            "is not: header block ends inside what begins at byte 15",
        ),
        (TypedData::Int64(1), "is INT64"),
        (TypedData::Null, "is NULL"),
    ];
    for (value, text) in wrong {
        let found = error::<Request<'_>>(&[Argument::new("headers", value)]);
        assert_eq!(
            found.to_string(),
            format!("message request: argument headers must be a block of headers, but {text}")
        );
    }
}

#[test]
fn names_of_one_length_are_told_apart() {
    #[derive(Debug, Default, PartialEq, Message)]
    struct Close {
        aab: Option<bool>,
        aba: Option<bool>,
        baa: Option<bool>,
        bab: Option<bool>,
        bbb: Option<bool>,
    }
    // Every name of three letters out of four, of which five are known.
    let letters = [b'a', b'b', b'c', 0];
    for a in letters {
        for b in letters {
            for c in letters {
                let name = [a, b, c];
                let name = std::str::from_utf8(&name).unwrap();
                let sent = payload(|notify| notify.message("close", [Argument::new(name, true)]));
                let is = |known: &str| (name == known).then_some(true);
                let expected = Close {
                    aab: is("aab"),
                    aba: is("aba"),
                    baa: is("baa"),
                    bab: is("bab"),
                    bbb: is("bbb"),
                };
                assert_eq!(decode::<Close>(&sent), Ok(expected), "{name:?}");
            }
        }
    }
}

#[test]
fn a_message_may_have_no_arguments() {
    #[derive(Debug, PartialEq, Message)]
    struct Ping;
    let sent = payload(|notify| Ping.encode(notify));
    assert_eq!(sent, b"\x04ping\x00");
    assert_eq!(decode::<Ping>(&sent), Ok(Ping));
}

#[test]
fn a_declaration_says_what_was_written() {
    #[derive(Message)]
    #[spop(
        name = "check",
        event = "on-frontend-http-request",
        condition = "if { path_beg /api }",
        deny_unknown_arguments
    )]
    #[allow(dead_code, reason = "only its declaration is looked at")]
    struct Check<'a> {
        #[spop(sample = "src", alias = "src")]
        ip: IpAddr,
        #[spop(name = "ua", sample = "req.hdr(user-agent)")]
        user_agent: Option<&'a [u8]>,
        #[spop(default)]
        tries: u8,
    }
    let declaration = Check::DECLARATION;
    assert_eq!(declaration.name, "check");
    assert_eq!(declaration.event, Some("on-frontend-http-request"));
    assert_eq!(declaration.condition, Some("if { path_beg /api }"));
    assert!(declaration.denies_unknown_arguments);
    let [ip, ua, tries] = declaration.arguments else {
        panic!("{declaration:?}");
    };
    assert_eq!(
        (ip.name, ip.sample, ip.aliases),
        ("ip", Some("src"), &["src"][..])
    );
    assert_eq!((ip.types, ip.is_required), (ValueTypes::ADDRESS, true));
    assert_eq!((ua.name, ua.is_required), ("ua", false));
    assert_eq!(ua.types.to_string(), "NULL or STRING or BINARY");
    assert_eq!((tries.name, tries.is_required), ("tries", false));
    assert_eq!(tries.expected, "an integer from 0 to 255");
    assert_eq!(declaration.argument("src"), Some(ip));
    assert_eq!(declaration.argument("sr"), None);
}
