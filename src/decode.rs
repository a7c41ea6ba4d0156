//! `ringspoa decode`: prints a captured stream frame by frame.
//!
//! It finds the bytes (raw, or in one of the usual forms of hex), has the library print them, and
//! puts fragments together. Whether a connection would have taken the frames in this order it does
//! not ask: a capture may begin anywhere and mix both directions.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufWriter, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use ringspoa::spop::{Flags, Frame, FrameId, FrameType, StreamId};
use ringspoa::{FrameDump, LARGEST_MAX_FRAME_SIZE, StreamItem, dump_stream};

/// The largest input, in bytes as it is read. It is held in memory whole, hex together with what it
/// stands for; 256 MiB are a million NOTIFYs of 260 bytes.
const MAX_INPUT_LEN: u64 = 256 << 20;

/// Print a captured SPOP stream, frame by frame.
///
/// The stream is what was sent on a connection, without the headers of a packet capture: one
/// direction, or both mixed as long as frames are whole. At most 256 MiB. Each frame comes with the
/// place of its first byte; fragments are printed as they are and, after the last one, as the message
/// they make.
///
/// Exit codes: 0 if all of it is valid, 1 if something is not or the stream ends inside a frame, 2 for
/// bad flags or input that cannot be read.
#[derive(Debug, Args)]
pub(crate) struct Decode {
    /// The captured bytes, or hex of them; - for standard input
    #[arg(value_name = "FILE|-")]
    file: PathBuf,
    /// What the file holds: raw bytes, or hex as plain digits (0x, ':' and ',' may separate them),
    /// as xxd prints it or as hexdump -C does. auto takes hex where the first line is hex
    #[arg(
        long,
        value_name = "auto|raw|hex",
        default_value = "auto",
        hide_possible_values = true
    )]
    format: Format,
    /// Largest frame, in bytes without length prefix, from 256
    #[arg(long, value_name = "BYTES", default_value_t = LARGEST_MAX_FRAME_SIZE,
          value_parser = clap::value_parser!(u32).range(256..))]
    max_frame_size: u32,
    /// How much of a value is printed
    #[arg(long, value_name = "BYTES", default_value_t = 128)]
    max_value_len: usize,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    Auto,
    Raw,
    Hex,
}

/// Runs the command; `usage` is the exit code for input that cannot be read.
pub(crate) fn run(arguments: &Decode, usage: u8) -> ExitCode {
    let bytes = match read_input(&arguments.file).and_then(|bytes| unwrap(bytes, arguments.format))
    {
        Ok(bytes) => bytes,
        Err(error) => {
            eprintln!("ringspoa: {}: {error}", name(&arguments.file));
            return ExitCode::from(usage);
        }
    };
    let out = BufWriter::with_capacity(64 * 1024, io::stdout().lock());
    match print(
        &bytes,
        arguments.max_frame_size,
        arguments.max_value_len,
        out,
    ) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        // Whoever reads has seen enough, as `head` does.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ringspoa: cannot write the frames: {error}");
            ExitCode::FAILURE
        }
    }
}

fn name(path: &Path) -> String {
    match path.to_str() {
        Some("-") => "standard input".to_owned(),
        _ => path.display().to_string(),
    }
}

fn read_input(path: &Path) -> Result<Vec<u8>, String> {
    if path.as_os_str() == "-" {
        return read_up_to(io::stdin().lock(), MAX_INPUT_LEN);
    }
    let file = File::open(path).map_err(|error| format!("cannot open it: {error}"))?;
    // Not read only to be refused. A pipe or device tells no length, and is met below.
    if file
        .metadata()
        .is_ok_and(|metadata| metadata.len() > MAX_INPUT_LEN)
    {
        return Err(too_long(MAX_INPUT_LEN));
    }
    read_up_to(file, MAX_INPUT_LEN)
}

fn read_up_to(from: impl Read, limit: u64) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    from.take(limit + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| format!("cannot read it: {error}"))?;
    if bytes.len() as u64 > limit {
        return Err(too_long(limit));
    }
    Ok(bytes)
}

fn too_long(limit: u64) -> String {
    format!("has more than {limit} bytes; cut it, with head -c or at the end of a frame")
}

/// The stream in what was read.
fn unwrap(bytes: Vec<u8>, format: Format) -> Result<Vec<u8>, String> {
    match format {
        Format::Raw => Ok(bytes),
        Format::Hex => parse_hex(&bytes),
        Format::Auto => match begins_with_hex(&bytes) {
            None => Ok(bytes),
            Some(Ok(())) => parse_hex(&bytes)
                .map_err(|error| format!("{error}; --format raw takes the bytes as they are")),
            Some(Err(error)) => {
                eprintln!(
                    "ringspoa: the input is text but not hex, so it is read as raw bytes: {error}"
                );
                Ok(bytes)
            }
        },
    }
}

/// Whether the first line is hex, of an input that is text; `None` if it is not.
///
/// No stream is taken for hex that way: a frame's length as four characters of text is 150 MB and
/// more, so that what is text does not begin with a frame.
fn begins_with_hex(bytes: &[u8]) -> Option<Result<(), String>> {
    let is_text = |byte: &u8| matches!(byte, b' '..=b'~' | b'\t' | b'\n' | b'\r');
    if !bytes.iter().all(is_text) {
        return None;
    }
    let (number, first) = lines(bytes).next()?;
    Some(match Layout::of(first) {
        // Nothing else looks like it; what is wrong with it is told better as hex.
        Layout::Xxd | Layout::Hexdump => Ok(()),
        Layout::Plain => {
            plain_line(first, &mut Vec::new()).map_err(|error| format!("line {number}: {error}"))
        }
    })
}

/// The lines that are not blank, trimmed and counted from 1.
fn lines(text: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    text.split(|&byte| byte == b'\n')
        .enumerate()
        .map(|(index, line)| (index + 1, line.trim_ascii()))
        .filter(|(_, line)| !line.is_empty())
}

/// How hex is laid out. The first line decides for all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    /// Digits, `0x`, white space, `:` and `,`; also what xxd -p and od -An -tx1 print.
    Plain,
    /// `00000000: 0000 007a 0100  ...z..`
    Xxd,
    /// `00000000  00 00 00 7a 01 00  |...z..|`
    Hexdump,
}

impl Layout {
    /// What each program prints and nothing else is: plain digits have no white space behind a
    /// colon, and no `|`.
    fn of(line: &[u8]) -> Self {
        let (digits, rest) = split_digits(line);
        if (7..=16).contains(&digits.len()) && (rest == b":" || rest.starts_with(b": ")) {
            Self::Xxd
        } else if (7..=16).contains(&digits.len())
            && rest.starts_with(b"  ")
            && rest.ends_with(b"|")
        {
            Self::Hexdump
        } else {
            Self::Plain
        }
    }
}

fn split_digits(line: &[u8]) -> (&[u8], &[u8]) {
    let len = line
        .iter()
        .take_while(|byte| byte.is_ascii_hexdigit())
        .count();
    line.split_at(len)
}

fn parse_hex(text: &[u8]) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::with_capacity(text.len() / 2);
    let mut layout = None;
    let mut first_offset = None;
    for (number, line) in lines(text) {
        let layout = *layout.get_or_insert_with(|| Layout::of(line));
        let result = match layout {
            Layout::Plain => plain_line(line, &mut bytes),
            _ => dump_line(layout, line, &mut first_offset, &mut bytes),
        };
        result.map_err(|error| format!("line {number}: {error}"))?;
    }
    Ok(bytes)
}

fn plain_line(line: &[u8], bytes: &mut Vec<u8>) -> Result<(), String> {
    let words = line.split(|&byte| byte == b',' || byte.is_ascii_whitespace());
    for word in words.filter(|word| !word.is_empty()) {
        for digits in word.split(|&byte| byte == b':') {
            let digits = digits
                .strip_prefix(b"0x")
                .or_else(|| digits.strip_prefix(b"0X"))
                .unwrap_or(digits);
            if digits.is_empty() {
                return Err(format!(
                    "'{}' is not hex; columns of offsets are read as xxd and hexdump -C print them",
                    shown(word)
                ));
            }
            push_digits(digits, bytes)?;
        }
    }
    Ok(())
}

/// One line with an offset, which must follow on the lines before: bytes left out would shift all
/// that comes after them.
fn dump_line(
    layout: Layout,
    line: &[u8],
    first_offset: &mut Option<u64>,
    bytes: &mut Vec<u8>,
) -> Result<(), String> {
    if line == b"*" {
        return Err(
            "'*' stands for lines left out; make the dump with hexdump -v -C or xxd without -a"
                .into(),
        );
    }
    let (digits, rest) = split_digits(line);
    let text = std::str::from_utf8(digits).unwrap_or_default();
    let offset = u64::from_str_radix(text, 16)
        .map_err(|_| format!("'{}' does not begin with an offset", shown(line)))?;
    let len = bytes.len();
    let expected = first_offset.get_or_insert(offset).wrapping_add(len as u64);
    if offset != expected {
        return Err(format!(
            "the offset is {offset:#x}, where {expected:#x} would follow"
        ));
    }
    // The text beside the bytes is not looked into, it may hold anything; how long it is shows
    // whether the bytes were read as they were meant.
    let (hex, beside) = if layout == Layout::Xxd {
        let rest = rest
            .strip_prefix(b":")
            .ok_or("there is no ':' after the offset")?;
        let rest = rest.trim_ascii_start();
        let end = rest.windows(2).position(|two| two == b"  ");
        rest.split_at(end.unwrap_or(rest.len()))
    } else {
        let end = rest.iter().position(|&byte| byte == b'|');
        rest.split_at(end.unwrap_or(rest.len()))
    };
    for digits in hex
        .split(u8::is_ascii_whitespace)
        .filter(|digits| !digits.is_empty())
    {
        push_digits(digits, bytes)?;
    }
    let (count, fits) = (bytes.len() - len, beside.trim_ascii().len());
    let fits = match layout {
        // Its spaces at either end cannot be told from those around it.
        Layout::Xxd => fits <= count,
        // The last line has nothing but the offset.
        _ => fits == count + 2 || rest.is_empty(),
    };
    if !fits {
        return Err(format!("the text beside {count} bytes has another length"));
    }
    Ok(())
}

fn push_digits(digits: &[u8], bytes: &mut Vec<u8>) -> Result<(), String> {
    let value = |digit: u8| {
        char::from(digit)
            .to_digit(16)
            .and_then(|value| u8::try_from(value).ok())
    };
    let (pairs, single) = digits.split_at(digits.len() & !1);
    for pair in pairs.chunks_exact(2) {
        match (value(pair[0]), value(pair[1])) {
            (Some(high), Some(low)) => bytes.push(high << 4 | low),
            _ => return Err(format!("'{}' is not hex", shown(digits))),
        }
    }
    match single {
        [] => Ok(()),
        [digit] if digit.is_ascii_hexdigit() => {
            Err(format!("'{}' has an odd number of digits", shown(digits)))
        }
        _ => Err(format!("'{}' is not hex", shown(digits))),
    }
}

/// A piece of the input in an error.
fn shown(text: &[u8]) -> String {
    let cut = if text.len() > 32 { "..." } else { "" };
    format!("{}{cut}", text[..text.len().min(32)].escape_ascii())
}

/// A fragmented frame of which the last fragment has not come.
#[derive(Debug)]
struct Fragmented<'a> {
    frame_type: FrameType,
    offset: u64,
    payloads: Vec<&'a [u8]>,
}

/// Those of a stream. HAProxy never has two under way on a connection, but a capture may mix
/// connections, so they are told apart by their ids.
type Unfinished<'a> = HashMap<(StreamId, FrameId), Fragmented<'a>>;

/// Prints all of it; whether it is valid to the end.
fn print(
    bytes: &[u8],
    max_frame_size: u32,
    value_len: usize,
    mut out: impl Write,
) -> io::Result<bool> {
    let (mut frames, mut faults, mut whole) = (0_u64, 0_u64, bytes.len() as u64);
    let mut unfinished = Unfinished::new();
    for item in dump_stream(bytes, max_frame_size).at(0) {
        let dump = match item {
            StreamItem::Frame(dump) => dump.value_len(value_len),
            StreamItem::Invalid { offset, .. } | StreamItem::Cut { offset, .. } => {
                whole = offset;
                writeln!(out, "{item}")?;
                continue;
            }
        };
        frames += 1;
        faults += u64::from(dump.fault().is_some());
        writeln!(out, "{dump:#}")?;
        if let Some(fragmented) = follow(&dump, &mut unfinished, &mut out)? {
            let payload = fragmented.payloads.concat();
            let message = Frame {
                frame_type: fragmented.frame_type,
                flags: Flags::FIN,
                payload: &payload,
                ..*dump.frame()
            };
            let message = FrameDump::reassembled(&message, fragmented.payloads.len());
            faults += u64::from(message.fault().is_some());
            writeln!(out, "{:#}", message.value_len(value_len))?;
        }
    }
    let mut unfinished: Vec<_> = unfinished.into_iter().collect();
    unfinished.sort_by_key(|(_, fragmented)| fragmented.offset);
    for (
        (stream_id, frame_id),
        Fragmented {
            frame_type, offset, ..
        },
    ) in unfinished
    {
        writeln!(
            out,
            "@{offset} {frame_type} stream-id={stream_id} frame-id={frame_id} has no last fragment here"
        )?;
    }
    let valid = faults == 0 && whole == bytes.len() as u64;
    let plural = if frames == 1 { "" } else { "s" };
    write!(
        out,
        "{frames} frame{plural} in {whole} of {} bytes",
        bytes.len()
    )?;
    match faults {
        0 if valid => writeln!(out, ", all valid")?,
        0 => writeln!(out)?,
        count => writeln!(out, ", {count} not valid")?,
    }
    out.flush()?;
    Ok(valid)
}

/// Follows fragments: the frame that this one completes, if it does. What cannot be followed is noted
/// and no fault: a capture may have begun later.
fn follow<'a>(
    dump: &FrameDump<'a>,
    unfinished: &mut Unfinished<'a>,
    out: &mut impl Write,
) -> io::Result<Option<Fragmented<'a>>> {
    let frame = *dump.frame();
    let (id, fin) = ((frame.stream_id, frame.frame_id), frame.flags.is_fin());
    match frame.frame_type {
        frame_type @ (FrameType::Notify | FrameType::Ack) if !fin => {
            let begun = Fragmented {
                frame_type,
                offset: dump.offset().unwrap_or_default(),
                payloads: vec![frame.payload],
            };
            if let Some(before) = unfinished.insert(id, begun) {
                let Fragmented {
                    frame_type, offset, ..
                } = before;
                writeln!(
                    out,
                    "    takes the place of the {frame_type} begun @{offset}"
                )?;
            }
            Ok(None)
        }
        FrameType::Unset => {
            let Some(fragmented) = unfinished.get_mut(&id) else {
                writeln!(out, "    continues a frame that does not begin here")?;
                return Ok(None);
            };
            if frame.flags.is_abort() {
                let Fragmented {
                    frame_type, offset, ..
                } = fragmented;
                writeln!(out, "    gives up the {frame_type} begun @{offset}")?;
                unfinished.remove(&id);
                return Ok(None);
            }
            fragmented.payloads.push(frame.payload);
            Ok(if fin { unfinished.remove(&id) } else { None })
        }
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first bytes of a HELLO, and the last of another.
    const BYTES: &[u8] = b"\0\0\0\x7a\x01\0\0\0\x01\0\0\x12supported";

    fn parsed(text: &str) -> Result<Vec<u8>, String> {
        let auto = unwrap(text.as_bytes().to_vec(), Format::Auto);
        let forced = unwrap(text.as_bytes().to_vec(), Format::Hex);
        assert_eq!(auto, forced, "{text}");
        forced
    }

    #[test]
    fn hex_as_people_and_programs_write_it() {
        for text in [
            "0000007a01000000010000127375\n70706f72746564",
            "00 00 00 7A 01 00 00 00 01 00 00 12 73 75 70 70 6F 72 74 65 64\r\n",
            "00:00:00:7a:01:00:00:00:01:00:00:12:73:75:70:70:6f:72:74:65:64",
            "  0x00, 0x00,0x00,0x7a, 0x01,0x00,0X00,0x00,\n\n  0x01000012, 0x73757070 0x6f72746564,\n",
            // xxd, xxd -g 1, xxd -s 0x7b of a file that has them there.
            "00000000: 0000 007a 0100 0000 0100 0012 7375 7070  ...z........supp\n\
             00000010: 6f72 7465 64                             orted\n",
            "00000000: 00 00 00 7a 01 00 00 00 01 00 00 12 73 75 70 70  ...z........supp\n\
             00000010: 6f 72 74 65 64                                   orted\n",
            "0000007b: 0000 007a 0100 0000 0100 0012 7375 7070  ...z........supp\n\
             0000008b: 6f72 7465 64                             orted\n",
            // hexdump -C.
            "00000000  00 00 00 7a 01 00 00 00  01 00 00 12 73 75 70 70  |...z........supp|\n\
             00000010  6f 72 74 65 64                                    |orted|\n\
             00000015\n",
        ] {
            assert_eq!(parsed(text).as_deref(), Ok(BYTES), "{text}");
        }
    }

    /// What stands beside the bytes may be anything that the two programs put there.
    #[test]
    fn text_beside_the_bytes_is_not_taken_for_bytes() {
        for (text, bytes) in [
            ("00000000: 2020  \n00000002: 2061   a", &b"   a"[..]),
            ("00000000: 6162  ab\n00000002: 6364  cd", b"abcd"),
            ("00000000: 617c 2020 6264  a|  bd", b"a|  bd"),
            (
                "00000000  7c 7c 61 62                        |||ab|",
                b"||ab",
            ),
            (
                "00000000  20 20                                 |  |\n00000002",
                b"  ",
            ),
        ] {
            assert_eq!(parsed(text).as_deref(), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn wrong_hex_is_refused_with_its_line() {
        for (text, part) in [
            ("00 0", "line 1: '0' has an odd number of digits"),
            ("00\n\nzz", "line 3: 'zz' is not hex"),
            ("00\n*", "line 2: '*' is not hex"),
            ("00\n0x", "line 2: '0x' is not hex; columns"),
            // Not to be taken for bytes of the stream.
            (
                "0x0000:  4500 0034",
                "line 1: '0x0000:' is not hex; columns of offsets",
            ),
            (
                "00000000: 0000\n00000010: 00",
                "line 2: the offset is 0x10, where 0x2 would follow",
            ),
            (
                "00000000: 0000  ..\n*\n",
                "line 2: '*' stands for lines left out",
            ),
            ("00000000: 0000\n00000002 00", "line 2: there is no ':'"),
            (
                "00000000: 0000\nxx: 00",
                "line 2: 'xx: 00' does not begin with an offset",
            ),
            ("00000000: 00  ...", "line 1: the text beside 1 bytes"),
            ("00000000  00 00  |.|", "line 1: the text beside 2 bytes"),
            ("00000000: 00g0", "line 1: '00g0' is not hex"),
        ] {
            let error = parse_hex(text.as_bytes()).unwrap_err();
            assert!(error.contains(part), "{text:?}: {error}");
        }
        // Whatever it is, an error is short and moves no cursor.
        let long = format!("00\n{}\x1b[2J", "\x1b".repeat(1000));
        let error = parse_hex(long.as_bytes()).unwrap_err();
        assert!(error.len() < 200 && !error.contains('\x1b'), "{error}");
    }

    #[test]
    fn bytes_are_raw_where_the_first_line_is_not_hex() {
        for bytes in [
            &b""[..],
            b"\n \n",
            BYTES,
            b"hello, world\n",
            b"00 00\x00",
            b"00 00 \xff",
            b"abc",
        ] {
            assert_eq!(unwrap(bytes.to_vec(), Format::Auto).as_deref(), Ok(bytes));
        }
        assert_eq!(
            unwrap(b"00 7a".to_vec(), Format::Raw).as_deref(),
            Ok(&b"00 7a"[..])
        );
        // Looks like hex, and goes wrong later: not silently something else.
        let error = unwrap(b"00\nxx".to_vec(), Format::Auto).unwrap_err();
        assert!(
            error.contains("line 2") && error.contains("--format raw"),
            "{error}"
        );
    }

    #[test]
    fn input_has_a_limit_and_is_not_read_beyond_it() {
        assert_eq!(read_up_to(&[7; 16][..], 16), Ok(vec![7; 16]));
        let mut endless = io::repeat(0);
        let error = read_up_to(&mut endless, 16).unwrap_err();
        assert!(error.contains("more than 16 bytes"), "{error}");
    }

    /// Type, flags, both ids and payload of a frame.
    type Given<'a> = (FrameType, u32, (u64, u64), &'a [u8]);

    fn encoded(&(frame_type, flags, ids, payload): &Given<'_>) -> Vec<u8> {
        let frame = Frame {
            frame_type,
            flags: Flags(flags),
            stream_id: StreamId(ids.0),
            frame_id: FrameId(ids.1),
            payload,
        };
        let mut out = vec![0; payload.len() + 64];
        let len = frame.encode(&mut out).unwrap();
        out.truncate(len);
        out
    }

    /// Prints these frames; whether all is valid, and the text without the lines of fragments.
    fn printed(frames: &[Given<'_>]) -> (bool, String) {
        let bytes: Vec<u8> = frames.iter().flat_map(encoded).collect();
        let mut out = Vec::new();
        let valid = print(&bytes, 16_380, 128, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        let lines: Vec<_> = text
            .lines()
            .filter(|line| !line.starts_with("    fragment"))
            .collect();
        (valid, lines.join("\n"))
    }

    #[test]
    fn fragments_are_put_together_by_their_ids() {
        use FrameType::{Ack, Notify, Unset};
        // Of two connections, one of them with an agent that fragments an ACK.
        let (valid, text) = printed(&[
            (Notify, 0, (1, 1), b"\x01m\x01\x01"),
            (Notify, 0, (2, 1), b"\x01n"),
            (Unset, 0, (1, 1), b"p\x08\x05"),
            (Unset, 1, (2, 1), b"\x00"),
            (Ack, 0, (2, 1), b"\x02\x02\x02"),
            (Unset, 1, (1, 1), b"/path"),
            (Unset, 1, (2, 1), b"\x01x"),
        ]);
        assert!(valid);
        assert_eq!(
            text,
            "@0 NOTIFY 0x0 stream-id=1 frame-id=1 payload=4\n\
             @15 NOTIFY 0x0 stream-id=2 frame-id=1 payload=2\n\
             @28 UNSET 0x0 stream-id=1 frame-id=1 payload=3\n\
             @42 UNSET FIN stream-id=2 frame-id=1 payload=1\n\
             reassembled NOTIFY FIN stream-id=2 frame-id=1 payload=3 fragments=2\n    \
             message n, 0 arguments\n\
             @54 ACK 0x0 stream-id=2 frame-id=1 payload=3\n\
             @68 UNSET FIN stream-id=1 frame-id=1 payload=5\n\
             reassembled NOTIFY FIN stream-id=1 frame-id=1 payload=12 fragments=3\n    \
             message m, 1 argument\n        p = STRING \"/path\"\n\
             @84 UNSET FIN stream-id=2 frame-id=1 payload=2\n\
             reassembled ACK FIN stream-id=2 frame-id=1 payload=5 fragments=2\n    \
             unset-var txn.x\n\
             7 frames in 97 of 97 bytes, all valid"
        );
    }

    #[test]
    fn fragments_that_cannot_be_followed_are_noted() {
        use FrameType::{Notify, Unset};
        let (valid, text) = printed(&[
            (Unset, 1, (1, 1), b"tail"),
            (Notify, 0, (1, 1), b"\x01m"),
            (Notify, 0, (1, 1), b"\x01m"),
            (Unset, 3, (1, 1), b""),
            (Notify, 0, (3, 1), b"\x01m"),
            (Notify, 0, (2, 1), b"\x01m"),
        ]);
        assert!(valid, "{text}");
        for line in [
            "    continues a frame that does not begin here",
            "    takes the place of the NOTIFY begun @15",
            "    gives up the NOTIFY begun @28",
            "@52 NOTIFY stream-id=3 frame-id=1 has no last fragment here\n\
             @65 NOTIFY stream-id=2 frame-id=1 has no last fragment here",
        ] {
            assert!(text.contains(line), "{line}: {text}");
        }
        assert!(!text.contains("reassembled"), "{text}");
    }

    #[test]
    fn a_message_not_valid_as_a_whole_is_counted_once() {
        use FrameType::{Notify, Unset};
        let (valid, text) = printed(&[
            (Notify, 0, (1, 1), b"\x01m\x02\x01p"),
            (Unset, 1, (1, 1), b"\x00\x01q\x0f"),
        ]);
        assert!(!valid);
        assert!(
            text.ends_with(
                "        p = NULL\n        q = ?\n    \
                 not valid at byte 8 of the payload: unknown data type 15\n\
                 2 frames in 31 of 31 bytes, 1 not valid"
            ),
            "{text}"
        );
    }

    /// Text of the characters that hex is made of, and a stream with damaged bytes.
    #[test]
    fn random_input_is_printed_or_refused() {
        const CHARACTERS: &[u8] = b"0123456789aBcDeF00000000::,  ||x*.\n\n";
        let whole: Vec<u8> = [
            (
                FrameType::Notify,
                1,
                (1, 1),
                &b"\x01m\x02\x01p\x08\x05/path\x00\x09\x02\x00\xff"[..],
            ),
            (
                FrameType::Ack,
                1,
                (1, 1),
                b"\x01\x03\x02\x05score\x04\x07\x02\x02\x01\x03old",
            ),
            (FrameType::Notify, 0, (2, 1), b"\x01m\x01"),
            (FrameType::Unset, 1, (2, 1), b"\x00\x00"),
        ]
        .iter()
        .flat_map(encoded)
        .collect();
        let (mut parsed, mut refused, mut valid, mut wrong) = (0, 0, 0, 0);
        for seed in 0..100_000_u64 {
            // splitmix64.
            let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let mut next = || {
                state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
                let z = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
                usize::try_from((z ^ z >> 31) >> 32).unwrap()
            };
            // Half of them begin as a dump does.
            let mut text = [&b""[..], b"00000000: "][next() % 2].to_vec();
            let len = text.len() + next() % 20;
            text.resize_with(len, || CHARACTERS[next() % CHARACTERS.len()]);
            match unwrap(text.clone(), Format::Hex) {
                Ok(bytes) => {
                    assert!(bytes.len() <= text.len() / 2, "seed {seed}");
                    parsed += 1;
                }
                Err(error) => {
                    let printable = error.bytes().all(|byte| matches!(byte, b' '..=b'~'));
                    assert!(
                        printable && error.starts_with("line "),
                        "seed {seed}: {error}"
                    );
                    refused += 1;
                }
            }
            if seed % 20 == 0 {
                let mut capture = whole.clone();
                for _ in 0..next() % 3 {
                    let index = next() % capture.len();
                    capture[index] = next().to_le_bytes()[0];
                }
                let mut out = Vec::new();
                let all = print(&capture, 16_380, 128, &mut out).unwrap();
                let text = String::from_utf8(out).unwrap();
                assert!(
                    text.is_ascii() && text.contains(&format!(" of {} bytes", whole.len())),
                    "seed {seed}"
                );
                assert_eq!(text.ends_with(", all valid\n"), all, "seed {seed}");
                *(if all { &mut valid } else { &mut wrong }) += 1;
            }
        }
        assert!(parsed > 10_000 && refused > 10_000, "{parsed} {refused}");
        assert!(valid > 500 && wrong > 500, "{valid} {wrong}");
    }
}
