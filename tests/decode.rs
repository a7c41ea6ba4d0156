//! `ringspoa decode` as a person meets it, over what real HAProxy sent; and that printing frames
//! allocates nothing.

mod counting;

use std::cell::Cell;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use counting::Counting;
use ringspoa::dump_stream;
use ringspoa::spop::{AckWriter, AgentHello, FrameId, Scope, StreamId, Variable};

const BINARY: &str = env!("CARGO_BIN_EXE_ringspoa");

const HAPROXY_2_6: &[u8] = include_bytes!("data/haproxy-2.6.bin");
const HAPROXY_3_2: &[u8] = include_bytes!("data/haproxy-3.2.bin");
const GOLDEN_2_6: &str = include_str!("data/haproxy-2.6.txt");

/// Where the frames of the 3.2 capture begin, and where it ends.
const BOUNDARIES_3_2: [usize; 5] = [0, 126, 553, 920, 1430];

thread_local! {
    /// Of this thread, so that tests side by side do not count for each other.
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    // `try_with`: threads allocate while their locals are being torn down, too.
    let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
}

#[global_allocator]
static ALLOCATOR: Counting = Counting(count);

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data")
        .join(name)
}

/// A file that is gone after the test.
struct Temporary(PathBuf);

impl Temporary {
    fn new(name: &str) -> Self {
        let name = format!("ringspoa-decode-{}-{name}", std::process::id());
        Self(std::env::temp_dir().join(name))
    }

    fn holding(name: &str, bytes: &[u8]) -> Self {
        let temporary = Self::new(name);
        fs::write(&temporary.0, bytes).unwrap();
        temporary
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// What a run of the command left: exit code, stdout, stderr.
type Outcome = (Option<i32>, String, String);

fn decode_with(arguments: &[&str], input: &[u8]) -> Outcome {
    let mut child = Command::new(BINARY)
        .arg("decode")
        .args(arguments)
        .env_remove("RUST_LOG")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let output = std::thread::scope(|scope| {
        // It fails where the command does not read its input.
        scope.spawn(move || stdin.write_all(input));
        child.wait_with_output().unwrap()
    });
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

fn decode(input: &[u8]) -> Outcome {
    decode_with(&["-"], input)
}

#[test]
fn a_whole_capture_is_printed_as_a_second_decoder_did() {
    let path = data("haproxy-2.6.bin");
    let (code, text, errors) = decode_with(&[path.to_str().unwrap()], b"");
    assert_eq!((code, errors.as_str()), (Some(0), ""));
    assert_eq!(text, GOLDEN_2_6);
    assert_eq!(decode(HAPROXY_2_6).1, GOLDEN_2_6);
}

#[test]
fn every_capture_is_valid() {
    for (name, last) in [
        (
            "haproxy-2.6.bin",
            "8 frames in 6995 of 6995 bytes, all valid",
        ),
        (
            "haproxy-3.2.bin",
            "4 frames in 1430 of 1430 bytes, all valid",
        ),
        (
            "haproxy-2.6-check.bin",
            "1 frame in 82 of 82 bytes, all valid",
        ),
        (
            "haproxy-3.2-check.bin",
            "1 frame in 82 of 82 bytes, all valid",
        ),
    ] {
        let (code, text, errors) = decode_with(&[data(name).to_str().unwrap()], b"");
        assert_eq!((code, errors.as_str()), (Some(0), ""), "{name}");
        assert_eq!(text.lines().last(), Some(last), "{name}");
    }
}

/// As xxd and as hexdump -v -C print it.
fn dumps(bytes: &[u8]) -> [String; 2] {
    let (mut xxd, mut hexdump) = (String::new(), String::new());
    for (index, row) in bytes.chunks(16).enumerate() {
        let beside: String = row
            .iter()
            .map(|&byte| {
                if matches!(byte, b' '..=b'~') {
                    char::from(byte)
                } else {
                    '.'
                }
            })
            .collect();
        let words: Vec<String> = row
            .chunks(2)
            .map(|pair| pair.iter().map(|byte| format!("{byte:02x}")).collect())
            .collect();
        let halves: Vec<String> = row
            .chunks(8)
            .map(|half| half.iter().map(|byte| format!("{byte:02x} ")).collect())
            .collect();
        let (words, halves) = (words.join(" "), halves.join(" "));
        writeln!(xxd, "{:08x}: {words:39}  {beside}", index * 16).unwrap();
        writeln!(hexdump, "{:08x}  {halves:49} |{beside}|", index * 16).unwrap();
    }
    writeln!(hexdump, "{:08x}", bytes.len()).unwrap();
    [xxd, hexdump]
}

#[test]
fn hex_of_a_capture_says_what_the_capture_says() {
    let digits: Vec<String> = HAPROXY_2_6
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let [xxd, hexdump] = dumps(HAPROXY_2_6);
    assert!(
        xxd.starts_with("00000000: 0000 0080 0100 0000 0100 0012 7375 7070  ............supp\n")
    );
    for hex in [
        digits.concat(),
        digits.join(":"),
        format!("0x{}\n", digits.join(", 0x")),
        digits.join("\r\n").to_uppercase(),
        xxd,
        hexdump,
    ] {
        for format in ["auto", "hex"] {
            let (code, text, errors) = decode_with(&["--format", format, "-"], hex.as_bytes());
            assert_eq!((code, errors.as_str()), (Some(0), ""));
            assert_eq!(text, GOLDEN_2_6);
        }
    }
    let (code, _, errors) = decode_with(&["--format", "hex", "-"], HAPROXY_2_6);
    assert_eq!(code, Some(2));
    assert!(errors.contains("standard input: line 1:"), "{errors}");
    let (code, text, _) = decode_with(&["--format", "raw", "-"], b"0000007a");
    assert_eq!(code, Some(1));
    assert!(
        text.contains("bytes there are 0x3030303030303761"),
        "{text}"
    );
}

#[test]
fn a_capture_cut_anywhere_prints_what_is_whole_and_says_what_is_missing() {
    let (_, whole, _) = decode(HAPROXY_3_2);
    for cut in 0..=HAPROXY_3_2.len() {
        let (code, text, errors) = decode(&HAPROXY_3_2[..cut]);
        assert_eq!(errors, "", "cut at {cut}");
        let frames = BOUNDARIES_3_2[1..]
            .iter()
            .filter(|end| **end <= cut)
            .count();
        let (start, rest) = (BOUNDARIES_3_2[frames], cut - BOUNDARIES_3_2[frames]);
        // Frames that are whole are printed as ever.
        let end_of_whole = whole
            .find(&format!("@{start} "))
            .unwrap_or(whole.rfind("4 frames").unwrap());
        let ending = text
            .strip_prefix(&whole[..end_of_whole])
            .expect("the same frames");
        let plural = if frames == 1 { "" } else { "s" };
        let total = format!("{frames} frame{plural} in {start} of {cut} bytes");
        if rest == 0 {
            assert_eq!(code, Some(0), "cut at {cut}");
            assert_eq!(ending, format!("{total}, all valid\n"));
            continue;
        }
        assert_eq!(code, Some(1), "cut at {cut}");
        let of = match rest {
            1..4 => "the 4 bytes of its length".to_owned(),
            _ => format!("{} bytes", BOUNDARIES_3_2[frames + 1] - start),
        };
        let expected =
            format!("@{start} the stream ends inside a frame: {rest} of {of} are there\n{total}\n");
        assert_eq!(ending, expected, "cut at {cut}");
    }
}

#[test]
fn garbage_is_told_with_its_place_and_its_bytes() {
    let (code, text, errors) = decode(b"GET / HTTP/1.1\r\n\r\n");
    assert_eq!(code, Some(1));
    assert_eq!(
        text,
        "@0 not a frame: frame length 1195725856 exceeds max-frame-size 1048572; \
         the bytes there are 0x474554202f20485454502f312e310d0a0d0a\n0 frames in 0 of 18 bytes\n"
    );
    assert!(errors.contains("text but not hex"), "{errors}");
    let broken = [&HAPROXY_3_2[..126], &[0xff; 40], &HAPROXY_3_2[126..]].concat();
    let (code, text, errors) = decode(&broken);
    assert_eq!((code, errors.as_str()), (Some(1), ""));
    let ending = format!(
        "@126 not a frame: frame length 4294967295 exceeds max-frame-size 1048572; \
         the bytes there are 0x{}...+1312\n1 frame in 126 of 1470 bytes\n",
        "ff".repeat(32)
    );
    assert!(text.ends_with(&ending), "{text}");
    // Nothing at all is valid.
    assert_eq!(
        decode(b""),
        (
            Some(0),
            "0 frames in 0 of 0 bytes, all valid\n".into(),
            String::new()
        )
    );
}

#[test]
fn a_frame_that_is_not_valid_does_not_hide_those_behind_it() {
    let mut stream = HAPROXY_3_2.to_vec();
    // The type of the first argument, "ip": 11 bytes of header, "every-type", the count, "ip".
    let at = 126 + 11 + 11 + 1 + 3;
    assert_eq!(stream[at], 0x06, "an IPv4 address");
    stream[at] = 0x0f;
    let (code, text, _) = decode(&stream);
    assert_eq!(code, Some(1));
    let expected = "
    message every-type, 18 arguments
        ip = ?
    not valid at byte 26 of the frame, byte 152 of the stream: unknown data type 15
@553 NOTIFY FIN ";
    assert!(text.contains(expected), "{text}");
    assert!(
        text.ends_with("4 frames in 1430 of 1430 bytes, 1 not valid\n"),
        "{text}"
    );
}

#[test]
fn both_directions_may_be_mixed() {
    let (mut hello, mut ack) = ([0; 128], [0; 128]);
    let answer = AgentHello {
        version: b"2.0",
        max_frame_size: 2048,
        capabilities: b"pipelining",
    };
    let hello_len = answer.encode(&mut hello).unwrap();
    let mut actions = AckWriter::begin(&mut ack, 2047, StreamId(1), FrameId(1)).unwrap();
    actions
        .set_var(Variable::literal(Scope::Transaction, "remediation"), "ban")
        .unwrap();
    let ack_len = actions.finish();
    let stream = [
        &HAPROXY_3_2[..126],
        &hello[..hello_len],
        &HAPROXY_3_2[126..553],
        &ack[..ack_len],
        &HAPROXY_3_2[553..],
    ]
    .concat();
    let (code, text, _) = decode(&stream);
    assert_eq!(code, Some(0), "{text}");
    let expected = "\
@126 AGENT-HELLO FIN stream-id=0 frame-id=0 payload=56
    version = STRING \"2.0\"
    max-frame-size = UINT32 2048
    capabilities = STRING \"pipelining\"
@193 NOTIFY FIN stream-id=1 frame-id=1 ";
    assert!(text.contains(expected), "{text}");
    let expected = "
@620 ACK FIN stream-id=1 frame-id=1 payload=20
    set-var txn.remediation = STRING \"ban\"
@651 NOTIFY FIN stream-id=3 ";
    assert!(text.contains(expected), "{text}");
}

#[test]
fn sizes_can_be_chosen() {
    let (code, text, _) = decode_with(&["--max-frame-size", "256", "-"], HAPROXY_3_2);
    assert_eq!(code, Some(1));
    assert!(
        text.contains("@126 not a frame: frame length 423 exceeds max-frame-size 256"),
        "{text}"
    );
    let (code, text, _) = decode_with(&["--max-value-len", "3", "-"], HAPROXY_3_2);
    assert_eq!(code, Some(0));
    assert!(
        text.contains("        path = STRING \"/a/\"...+4\n"),
        "{text}"
    );
}

#[test]
fn wrong_flags_and_unreadable_files_exit_with_2() {
    let hex = Temporary::holding("odd", b"00 00\n00 0\n");
    for (arguments, part) in [
        (&[][..], "FILE|-"),
        (&["--no-such-flag", "-"], "--no-such-flag"),
        (&["--format", "base64", "-"], "base64"),
        (&["--max-frame-size", "255", "-"], "255"),
        (&["--max-frame-size", "many", "-"], "many"),
        (
            &["/nonexistent/capture"],
            "/nonexistent/capture: cannot open it: No such file",
        ),
        (&["/"], "/: cannot read it: Is a directory"),
        (
            &[hex.path()],
            "line 2: '0' has an odd number of digits; --format raw",
        ),
    ] {
        let (code, text, errors) = decode_with(arguments, b"");
        assert_eq!(
            (code, text.as_str()),
            (Some(2), ""),
            "{arguments:?}: {errors}"
        );
        assert!(errors.contains(part), "{arguments:?}: {errors}");
    }
}

#[test]
fn input_beyond_the_limit_is_refused() {
    const LIMIT: u64 = 256 * 1024 * 1024;
    let large = Temporary::new("large");
    // Without a block on the disk.
    File::create(&large.0).unwrap().set_len(LIMIT + 1).unwrap();
    let (code, text, errors) = decode_with(&[large.path()], b"");
    assert_eq!((code, text.as_str()), (Some(2), ""));
    let expected = format!("{}: has more than {LIMIT} bytes; cut it", large.path());
    assert!(errors.contains(&expected), "{errors}");
}

#[test]
fn a_reader_that_has_seen_enough_ends_it_quietly() {
    // Far more text than a pipe holds.
    let many = Temporary::holding("many", &HAPROXY_2_6.repeat(200));
    let mut child = Command::new(BINARY)
        .args(["decode", many.path()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut start = [0; 16];
    child.stdout.take().unwrap().read_exact(&mut start).unwrap();
    assert_eq!(&start, b"@0 HAPROXY-HELLO");
    // The pipe is closed here.
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
}

#[test]
fn a_full_disk_is_told() {
    let full = File::options().write(true).open("/dev/full").unwrap();
    let output = Command::new(BINARY)
        .args(["decode", data("haproxy-2.6.bin").to_str().unwrap()])
        .stdout(full)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(
        errors.contains("cannot write the frames: No space left"),
        "{errors}"
    );
}

/// Text that goes nowhere, and how long it was.
#[derive(Default)]
struct Nowhere(usize);

impl std::fmt::Write for Nowhere {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        self.0 += text.len();
        Ok(())
    }
}

#[test]
fn printing_a_stream_allocates_nothing() {
    let allocations = || ALLOCATIONS.with(Cell::get);
    // Announces a name of a gigabyte, in a frame of 19 bytes.
    let liar = b"\0\0\0\x0f\x03\0\0\0\x01\x01\x01\xff\xf0\xfe\xfe\x7e\x01a";
    let mut out = Nowhere::default();
    let before = allocations();
    for stream in [
        HAPROXY_2_6,
        HAPROXY_3_2,
        &HAPROXY_3_2[..1000],
        &liar[..],
        b"no frames",
    ] {
        for item in dump_stream(stream, 16_380).at(0) {
            write!(out, "{item} {item:#}").unwrap();
        }
    }
    assert_eq!(allocations() - before, 0);
    assert!(out.0 > 10_000, "{} characters", out.0);
    drop(vec![0_u8; 10]);
    assert_ne!(allocations(), before, "the counter counts");
}
