//! One frame as text.

use std::fmt::{self, Write as _};

use super::payload::{FrameFault, IDS_OFFSET, Part, Sink, visit};
use crate::spop::{Field, Flags, Frame, FrameType, Status, TypedData, varint_len};

/// How many bytes of a value or a name are printed, by default: an address, a path or the first
/// headers are whole then, and a body does not fill the screen.
const DEFAULT_VALUE_LEN: usize = 128;

/// How many messages, arguments, pairs and actions a line has at most. HAProxy's configurations have
/// some tens; a frame of 64 KiB could hold 32 000 messages of two bytes.
const MAX_LINE_ITEMS: usize = 64;

/// One frame, to be printed: `{}` on one line, `{:#}` as a headline with indented lines. Neither
/// ends with a newline.
///
/// The headline has the type, the flags by name, both ids and the bytes of payload. What follows is
/// the content: pairs of HELLO and DISCONNECT, messages with their arguments, actions; of a fragment
/// its bytes. Where the content stops being valid, what was valid is there, and then the place and
/// the [`DecodeError`](crate::spop::DecodeError). Long names and values are cut, and say how many
/// bytes are left out; the one line stops after 64 items. The exact form is for people and may change.
///
/// ```
/// use ringspoa::FrameDump;
/// use ringspoa::spop::Frame;
///
/// let received = b"\0\0\0\x10\x03\0\0\0\x01\x01\x01\x01m\x01\x01p\x08\x02/x";
/// let (frame, _) = Frame::split(received, 16_380)?.expect("all of it is there");
/// let dump = FrameDump::new(&frame);
/// assert_eq!(
///     format!("connection 17 <- {dump}"),
///     r#"connection 17 <- NOTIFY FIN stream-id=1 frame-id=1 payload=9 m: p="/x""#
/// );
/// assert_eq!(
///     format!("{:#}", dump.prefix(format_args!("17 <- "))),
///     "17 <- NOTIFY FIN stream-id=1 frame-id=1 payload=9\n\
///      17 <-     message m, 1 argument\n\
///      17 <-         p = STRING \"/x\""
/// );
/// # Ok::<(), ringspoa::spop::DecodeError>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct FrameDump<'a> {
    frame: Frame<'a>,
    origin: Origin,
    value_len: usize,
    prefix: Option<fmt::Arguments<'a>>,
}

/// Where a frame comes from.
#[derive(Clone, Copy, Debug)]
enum Origin {
    Unknown,
    /// From this byte of a stream on.
    Stream(u64),
    /// From this many fragments.
    Fragments(usize),
}

impl<'a> FrameDump<'a> {
    /// The frame, of which neither the place in a stream nor any prefix is known.
    #[must_use]
    pub const fn new(frame: &Frame<'a>) -> Self {
        Self {
            frame: *frame,
            origin: Origin::Unknown,
            value_len: DEFAULT_VALUE_LEN,
            prefix: None,
        }
    }

    /// A frame put together from `count` fragments: type, flags and ids are to be those of the
    /// whole, FIN among them, and the payload all of theirs.
    #[must_use]
    pub const fn reassembled(frame: &Frame<'a>, count: usize) -> Self {
        let mut dump = Self::new(frame);
        dump.origin = Origin::Fragments(count);
        dump
    }

    /// Says that the frame's length prefix is at this byte of the stream, which then stands in front
    /// of the headline and where the frame is not valid.
    #[must_use]
    pub const fn at(mut self, offset: u64) -> Self {
        self.origin = Origin::Stream(offset);
        self
    }

    /// Puts this text in front of each line, as it is.
    #[must_use]
    pub const fn prefix(mut self, prefix: fmt::Arguments<'a>) -> Self {
        self.prefix = Some(prefix);
        self
    }

    /// Prints so many bytes of a value at most; default 128, which names are never cut below.
    #[must_use]
    pub const fn value_len(mut self, bytes: usize) -> Self {
        self.value_len = bytes;
        self
    }

    /// The frame.
    #[must_use]
    pub const fn frame(&self) -> &Frame<'a> {
        &self.frame
    }

    /// Where the frame is in the stream, if that was said.
    #[must_use]
    pub const fn offset(&self) -> Option<u64> {
        match self.origin {
            Origin::Stream(offset) => Some(offset),
            Origin::Unknown | Origin::Fragments(_) => None,
        }
    }

    /// Where the frame stops being valid, if it does. A fragment is valid whatever it holds.
    #[must_use]
    pub fn fault(&self) -> Option<FrameFault> {
        let mut first = None;
        // Ends with an error once there is one; nothing else fails here.
        let _ = self.visit(&mut |part| match part {
            Part::Fault(fault) => {
                first = Some(fault);
                Err(fmt::Error)
            }
            _ => Ok(()),
        });
        first
    }

    /// Hands over what the payload holds, in order.
    pub(super) fn visit(&self, each: &mut Sink<'_, 'a>) -> fmt::Result {
        let payload_offset = match self.origin {
            Origin::Fragments(_) => 0,
            // Every number has one form, so the ids took what they would take again.
            _ => {
                IDS_OFFSET + varint_len(self.frame.stream_id.0) + varint_len(self.frame.frame_id.0)
            }
        };
        visit(&self.frame, payload_offset, each)
    }

    fn headline(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_prefix(f)?;
        match self.origin {
            Origin::Unknown => {}
            Origin::Stream(offset) => write!(f, "@{offset} ")?,
            Origin::Fragments(_) => f.write_str("reassembled ")?,
        }
        let Frame {
            frame_type,
            flags,
            stream_id,
            frame_id,
            payload,
        } = self.frame;
        write!(f, "{frame_type} ")?;
        write_flags(f, flags)?;
        let len = payload.len();
        write!(
            f,
            " stream-id={stream_id} frame-id={frame_id} payload={len}"
        )?;
        match self.origin {
            Origin::Fragments(count) => write!(f, " fragments={count}"),
            _ => Ok(()),
        }
    }

    fn write_prefix(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.prefix.map_or(Ok(()), |prefix| f.write_fmt(prefix))
    }

    /// Everything on one line.
    fn line(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.headline(f)?;
        let mut items = 0;
        self.visit(&mut |part| {
            items += usize::from(!matches!(part, Part::Fault(_)));
            if items > MAX_LINE_ITEMS && !matches!(part, Part::Fault(_)) {
                return Ok(());
            }
            f.write_char(' ')?;
            match part {
                Part::Message(name, _) => {
                    self.name(f, name)?;
                    f.write_char(':')
                }
                Part::Pair(name, value) | Part::Argument(name, value) => {
                    self.name(f, name)?;
                    self.short_value(f, value)
                }
                Part::SetVar(scope, name, value) => {
                    write!(f, "set-var {scope}.")?;
                    self.name(f, name)?;
                    self.short_value(f, value)
                }
                Part::UnsetVar(scope, name) => {
                    write!(f, "unset-var {scope}.")?;
                    self.name(f, name)
                }
                Part::Bytes(what, bytes) => {
                    write!(f, "{what}=")?;
                    self.value(f, TypedData::Binary(bytes))
                }
                Part::Fault(FrameFault { offset, error }) => {
                    write!(f, "invalid-at={offset}")?;
                    if let Origin::Stream(start) = self.origin {
                        write!(f, " stream-offset={}", position(start, offset))?;
                    }
                    write!(f, " error=\"{error}\"")
                }
            }
        })?;
        match items.checked_sub(MAX_LINE_ITEMS) {
            None | Some(0) => Ok(()),
            Some(more) => write!(f, " items-left-out={more}"),
        }
    }

    /// A headline, and a line for each thing in the payload.
    fn lines(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.headline(f)?;
        self.visit(&mut |part| {
            f.write_char('\n')?;
            self.write_prefix(f)?;
            f.write_str("    ")?;
            match part {
                Part::Message(name, count) => {
                    f.write_str("message ")?;
                    self.name(f, name)?;
                    let plural = if count == 1 { "" } else { "s" };
                    write!(f, ", {count} argument{plural}")
                }
                Part::Argument(name, value) => {
                    f.write_str("    ")?;
                    self.name(f, name)?;
                    self.long_value(f, value)
                }
                Part::Pair(name, value) => {
                    self.name(f, name)?;
                    self.long_value(f, value)?;
                    match value.and_then(|value| value.as_u64()).map(u32::try_from) {
                        Some(Ok(status)) if self.has_status(name) => {
                            write!(f, " ({})", Status(status).reason())
                        }
                        _ => Ok(()),
                    }
                }
                Part::SetVar(scope, name, value) => {
                    write!(f, "set-var {scope}.")?;
                    self.name(f, name)?;
                    self.long_value(f, value)
                }
                Part::UnsetVar(scope, name) => {
                    write!(f, "unset-var {scope}.")?;
                    self.name(f, name)
                }
                Part::Bytes(what, bytes) => {
                    write!(f, "{what} ")?;
                    self.value(f, TypedData::Binary(bytes))
                }
                Part::Fault(FrameFault { offset, error }) => {
                    write!(f, "not valid at byte {offset} of the ")?;
                    match self.origin {
                        Origin::Unknown => write!(f, "frame: {error}"),
                        Origin::Fragments(_) => write!(f, "payload: {error}"),
                        Origin::Stream(start) => {
                            let offset = position(start, offset);
                            write!(f, "frame, byte {offset} of the stream: {error}")
                        }
                    }
                }
            }
        })
    }

    /// Whether a pair of this key is the status of a DISCONNECT.
    fn has_status(&self, key: &[u8]) -> bool {
        let disconnects = [FrameType::HaproxyDisconnect, FrameType::AgentDisconnect];
        disconnects.contains(&self.frame.frame_type) && key == Field::StatusCode.key().as_bytes()
    }

    /// A name as it is where it is a plain word, in quotes with escapes else, so that what follows
    /// it cannot be taken for a part of it.
    fn name(&self, f: &mut fmt::Formatter<'_>, name: &[u8]) -> fmt::Result {
        let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
        // Values may be cut shorter; names tell them apart.
        let name_len = self.value_len.max(DEFAULT_VALUE_LEN);
        if !name.is_empty() && name.len() <= name_len && name.iter().all(plain) {
            write!(f, "{}", name.escape_ascii())
        } else {
            write_cut(f, TypedData::String(name), name_len)
        }
    }

    fn short_value(&self, f: &mut fmt::Formatter<'_>, value: Option<TypedData<'_>>) -> fmt::Result {
        f.write_char('=')?;
        match value {
            Some(value) => self.value(f, value),
            None => f.write_char('?'),
        }
    }

    fn long_value(&self, f: &mut fmt::Formatter<'_>, value: Option<TypedData<'_>>) -> fmt::Result {
        f.write_str(" = ")?;
        match value {
            Some(TypedData::Null) => f.write_str("NULL"),
            Some(value) => {
                write!(f, "{} ", value.type_name())?;
                self.value(f, value)
            }
            None => f.write_char('?'),
        }
    }

    fn value(&self, f: &mut fmt::Formatter<'_>, value: TypedData<'_>) -> fmt::Result {
        write_cut(f, value, self.value_len)
    }
}

impl fmt::Display for FrameDump<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if f.alternate() {
            self.lines(f)
        } else {
            self.line(f)
        }
    }
}

/// A value, of which text and bytes are cut and say how much is left out.
pub(super) fn write_cut(
    f: &mut fmt::Formatter<'_>,
    value: TypedData<'_>,
    max_len: usize,
) -> fmt::Result {
    let (shown, left_out) = match value {
        TypedData::String(text) => {
            let (shown, rest) = text.split_at(text.len().min(max_len));
            (TypedData::String(shown), rest.len())
        }
        TypedData::Binary(bytes) => {
            let (shown, rest) = bytes.split_at(bytes.len().min(max_len));
            (TypedData::Binary(shown), rest.len())
        }
        other => (other, 0),
    };
    write!(f, "{shown}")?;
    match left_out {
        0 => Ok(()),
        count => write!(f, "...+{count}"),
    }
}

/// FIN and ABORT by name, what else is set as a number, `0x0` if nothing is.
fn write_flags(f: &mut fmt::Formatter<'_>, flags: Flags) -> fmt::Result {
    let mut rest = flags.0;
    let mut separator = "";
    for (flag, name) in [(Flags::FIN, "FIN"), (Flags::ABORT, "ABORT")] {
        if rest & flag.0 != 0 {
            rest &= !flag.0;
            write!(f, "{separator}{name}")?;
            separator = "|";
        }
    }
    if rest != 0 || separator.is_empty() {
        write!(f, "{separator}{rest:#x}")?;
    }
    Ok(())
}

/// A byte of the stream; a caller's origin may be anything, and text is no reason to panic.
pub(super) fn position(start: u64, offset: usize) -> u64 {
    start.saturating_add(offset as u64)
}

#[cfg(test)]
mod tests {
    use super::super::samples::{
        ack, agent_hello, control, disconnect, frame, haproxy_hello, notify,
    };
    use super::super::stream::dump_stream;
    use super::*;
    use crate::spop::{Action, Argument, FrameId, NotifyWriter, Scope, StreamId};

    /// The one item of these bytes, both ways.
    fn forms(bytes: &[u8]) -> (String, String) {
        let mut items = dump_stream(bytes, 65_532);
        let item = items.next().unwrap();
        assert!(items.next().is_none());
        (format!("{item}"), format!("{item:#}"))
    }

    #[test]
    fn every_frame_type_on_one_line_and_on_many() {
        let (line, lines) = forms(&haproxy_hello());
        assert_eq!(
            line,
            "HAPROXY-HELLO FIN stream-id=0 frame-id=0 payload=95 supported-versions=\"2.0\" \
             max-frame-size=16380 capabilities=\"pipelining\" engine-id=\"e1\" healthcheck=true"
        );
        assert_eq!(
            lines,
            "HAPROXY-HELLO FIN stream-id=0 frame-id=0 payload=95
    supported-versions = STRING \"2.0\"
    max-frame-size = UINT32 16380
    capabilities = STRING \"pipelining\"
    engine-id = STRING \"e1\"
    healthcheck = BOOL true"
        );
        assert_eq!(
            forms(&agent_hello()).0,
            "AGENT-HELLO FIN stream-id=0 frame-id=0 payload=47 version=\"2.0\" \
             max-frame-size=16380 capabilities=\"\""
        );
        assert_eq!(
            forms(&disconnect()).1,
            "AGENT-DISCONNECT FIN stream-id=0 frame-id=0 payload=40
    status-code = UINT32 3 (frame is too big)
    message = STRING \"frame is too big\""
        );
        let haproxy_disconnect = Frame {
            stream_id: StreamId(0),
            frame_id: FrameId(0),
            ..frame(FrameType::HaproxyDisconnect, b"\x0bstatus-code\x03\x00")
        };
        assert_eq!(
            FrameDump::new(&haproxy_disconnect).to_string(),
            "HAPROXY-DISCONNECT FIN stream-id=0 frame-id=0 payload=14 status-code=0"
        );
        let (line, lines) = forms(&notify());
        assert_eq!(
            line,
            "NOTIFY FIN stream-id=300 frame-id=2 payload=143 all-types: null=null bool=true int32=-1 \
             uint32=2 int64=-3 uint64=18446744073709551615 ipv4=127.0.0.1 ipv6=::1 \"\"=\"text\" \
             \"two words\"=0x00ff none:"
        );
        assert_eq!(
            lines,
            "NOTIFY FIN stream-id=300 frame-id=2 payload=143
    message all-types, 10 arguments
        null = NULL
        bool = BOOL true
        int32 = INT32 -1
        uint32 = UINT32 2
        int64 = INT64 -3
        uint64 = UINT64 18446744073709551615
        ipv4 = IPV4 127.0.0.1
        ipv6 = IPV6 ::1
        \"\" = STRING \"text\"
        \"two words\" = BINARY 0x00ff
    message none, 0 arguments"
        );
        let (line, lines) = forms(&ack());
        assert_eq!(
            line,
            "ACK FIN stream-id=300 frame-id=2 payload=18 set-var txn.score=7 unset-var sess.old"
        );
        assert_eq!(
            lines,
            "ACK FIN stream-id=300 frame-id=2 payload=18
    set-var txn.score = INT64 7
    unset-var sess.old"
        );
        let unset = frame(FrameType::Unset, b"\x01\x02");
        assert_eq!(
            format!("{:#}", FrameDump::new(&unset)),
            "UNSET FIN stream-id=1 frame-id=2 payload=2\n    fragment 0x0102"
        );
        let unknown = frame(FrameType::from_code(42), b"\x01\x02");
        assert_eq!(
            FrameDump::new(&unknown).to_string(),
            "unknown (type 42) FIN stream-id=1 frame-id=2 payload=2 bytes=0x0102"
        );
    }

    #[test]
    fn flags_by_name_and_the_rest_as_a_number() {
        for (flags, text) in [
            (0, "0x0"),
            (1, "FIN"),
            (2, "ABORT"),
            (3, "FIN|ABORT"),
            (0x8000_0001, "FIN|0x80000000"),
            (4, "0x4"),
        ] {
            let frame = Frame {
                flags: Flags(flags),
                ..frame(FrameType::Ack, b"")
            };
            let dump = FrameDump::new(&frame).to_string();
            assert!(dump.starts_with(&format!("ACK {text} stream-id")), "{dump}");
        }
    }

    /// Names and values with everything a terminal or a log would act on.
    #[test]
    fn nothing_forges_a_line_or_moves_the_cursor() {
        let evil = "x\n@0 ACK FIN\r\x1b[2J\u{9b}\"=\0";
        let escaped = r#""x\n@0 ACK FIN\r\x1b[2J\xc2\x9b\"=\x00""#;
        let bytes = control(|out| {
            let mut notify = NotifyWriter::begin(out, 512, StreamId(1), FrameId(1)).unwrap();
            notify.message(evil, [Argument::new(evil, evil)]).unwrap();
            notify.finish()
        });
        let (line, lines) = forms(&bytes);
        assert!(
            line.ends_with(&format!(" {escaped}: {escaped}={escaped}")),
            "{line}"
        );
        assert_eq!(lines.lines().count(), 3, "{lines}");
        let mut action = [0; 64];
        let len = Action::UnsetVar {
            scope: Scope::Request,
            name: evil.as_bytes(),
        }
        .encode(&mut action)
        .unwrap();
        let ack = FrameDump::new(&frame(FrameType::Ack, &action[..len])).to_string();
        assert!(ack.ends_with(&format!(" unset-var req.{escaped}")), "{ack}");
    }

    #[test]
    fn long_names_and_values_are_cut_and_say_so() {
        let long = "n".repeat(200);
        let bytes = control(|out| {
            let mut notify = NotifyWriter::begin(out, 512, StreamId(1), FrameId(1)).unwrap();
            notify
                .message("m", [Argument::new(&long, &[0xab; 129][..])])
                .unwrap();
            notify.finish()
        });
        let name = format!("\"{}\"...+72", "n".repeat(128));
        let value = format!("0x{}...+1", "ab".repeat(128));
        let (line, lines) = forms(&bytes);
        assert!(line.ends_with(&format!(" m: {name}={value}")), "{line}");
        assert!(
            lines.ends_with(&format!("        {name} = BINARY {value}")),
            "{lines}"
        );
        let (whole, _) = Frame::split(&bytes, 512).unwrap().unwrap();
        let short = FrameDump::new(&whole).value_len(2).to_string();
        assert!(
            short.ends_with(&format!(" m: {name}=0xabab...+127")),
            "{short}"
        );
        let all = FrameDump::new(&whole).value_len(usize::MAX).to_string();
        assert!(all.ends_with(&"ab".repeat(129)), "{all}");
    }

    #[test]
    fn one_line_ends_somewhere() {
        // A hundred messages without name or arguments.
        let frame = frame(FrameType::Notify, &[0; 200]);
        let line = FrameDump::new(&frame).to_string();
        let expected = format!("{} items-left-out=36", " \"\":".repeat(64));
        assert!(line.ends_with(&expected), "{line}");
        assert_eq!(format!("{:#}", FrameDump::new(&frame)).lines().count(), 101);
    }

    #[test]
    fn every_line_has_the_prefix() {
        let bytes = notify();
        let (frame, _) = Frame::split(&bytes, 512).unwrap().unwrap();
        let number = 17;
        let text = format!(
            "{:#}",
            FrameDump::new(&frame)
                .at(900)
                .prefix(format_args!("connection {number} -> "))
        );
        assert!(
            text.starts_with("connection 17 -> @900 NOTIFY FIN "),
            "{text}"
        );
        assert_eq!(text.lines().count(), 13);
        assert!(
            text.lines()
                .all(|line| line.starts_with("connection 17 -> ")),
            "{text}"
        );
    }
}
