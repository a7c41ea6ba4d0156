//! Header blocks: read of any bytes, and written of what could be read.

use ringspoa::spop::{TypedData, decode_varint, encode_varint};
use ringspoa::{HeaderBlobWriter, HeaderNamesWriter, Headers, HeadersError};

/// Names and values.
type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

/// Any bytes are a header block in both forms exactly if a reading word for word finds one, with the
/// same headers and cookies; both forms of them read alike; and what is written of them for HAProxy to
/// apply reads back, and cannot end or frame a message.
pub fn headers(data: &[u8]) {
    for (value, expected) in [
        (TypedData::String(data), naive_text(data)),
        (TypedData::Binary(data), naive_binary(data)),
    ] {
        let read = Headers::from_value(value);
        assert_eq!(read.is_ok(), expected.is_some(), "{read:?}");
        if let (Ok(headers), Some(expected)) = (read, expected) {
            assert_eq!(headers.as_value(), value);
            check_view(headers, &expected);
            check_cuts(value);
            check_other_forms(&headers, &expected);
            check_blob(&expected, data.len());
        }
    }
}

/// Lines up to CR LF, an empty one last; neither byte elsewhere.
fn naive_text(data: &[u8]) -> Option<Pairs> {
    let mut pairs = Pairs::new();
    let mut line = Vec::new();
    for (index, &byte) in data.iter().enumerate() {
        match (byte, data.get(index + 1)) {
            (b'\r', Some(b'\n')) => {}
            (b'\n', next) if index > 0 && data[index - 1] == b'\r' => {
                if line.is_empty() {
                    return next.is_none().then_some(pairs);
                }
                let colon = line.iter().position(|&byte| byte == b':')?;
                let (name, value) = (&line[..colon], &line[colon + 1..]);
                if name.is_empty() || is_blank(name[0]) {
                    return None;
                }
                pairs.push((name.to_vec(), trim(value)));
                line.clear();
            }
            (b'\r' | b'\n', _) => return None,
            _ => line.push(byte),
        }
    }
    None
}

/// A length and as many bytes, in turn name and value, both empty at the end.
fn naive_binary(data: &[u8]) -> Option<Pairs> {
    let mut at = 0;
    let mut next = || {
        let (len, used) = decode_varint(&data[at..]).ok()?;
        at += used;
        let len = usize::try_from(len).ok()?;
        if len > data.len() - at {
            return None;
        }
        let string = data[at..].iter().copied().take(len);
        at += len;
        Some((string.collect::<Vec<u8>>(), at))
    };
    let mut pairs = Pairs::new();
    loop {
        let ((name, _), (value, end)) = (next()?, next()?);
        match (name.is_empty(), value.is_empty()) {
            (true, true) => return (end == data.len()).then_some(pairs),
            (true, false) => return None,
            _ => pairs.push((name, trim(&value))),
        }
    }
}

const fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

fn trim(bytes: &[u8]) -> Vec<u8> {
    let first = bytes.iter().position(|&byte| !is_blank(byte));
    let last = bytes.iter().rposition(|&byte| !is_blank(byte));
    match (first, last) {
        (Some(first), Some(last)) => bytes[first..=last].to_vec(),
        _ => Vec::new(),
    }
}

fn check_view(headers: Headers<'_>, expected: &Pairs) {
    assert_eq!(headers.len(), expected.len());
    assert_eq!(headers.is_empty(), expected.is_empty());
    assert_eq!(headers.iter().len(), expected.len());
    let found = headers.iter().map(|header| (header.name, header.value));
    assert!(found.eq(expected.iter().map(|(name, value)| (&**name, &**value))));

    // A few names: each costs a reading of all.
    for (name, _) in expected.iter().take(8) {
        let Ok(name) = std::str::from_utf8(name) else {
            continue;
        };
        let values: Vec<&[u8]> = expected
            .iter()
            .filter(|(other, _)| other.eq_ignore_ascii_case(name.as_bytes()))
            .map(|(_, value)| &**value)
            .collect();
        let name = name.to_ascii_uppercase();
        assert!(headers.get_all(&name).eq(values.iter().copied()));
        assert_eq!(headers.get(&name), values.first().copied());
    }

    let mut cookies = Pairs::new();
    for (name, value) in expected {
        if !name.eq_ignore_ascii_case(b"cookie") {
            continue;
        }
        for part in value.split(|&byte| byte == b';') {
            let Some(equals) = part.iter().position(|&byte| byte == b'=') else {
                continue;
            };
            let (name, value) = (trim(&part[..equals]), trim(&part[equals + 1..]));
            if !name.is_empty() {
                cookies.push((name, value));
            }
        }
    }
    let found = headers.cookies().map(|cookie| (cookie.name, cookie.value));
    assert!(found.eq(cookies.iter().map(|(name, value)| (&**name, &**value))));

    let shown = format!("{headers:?}");
    assert!(shown.is_ascii() && shown.len() < 24_000, "{shown}");
}

/// Of a block all bytes are needed and none may follow.
fn check_cuts(value: TypedData<'_>) {
    let block = value.as_bytes().expect("text or bytes");
    let read = |block| match value {
        TypedData::String(_) => Headers::from_text(block),
        _ => Headers::from_binary(block),
    };
    for cut in [0, block.len() / 2, block.len() - 1] {
        let result = read(&block[..cut]);
        assert!(matches!(result, Err(HeadersError::Truncated { offset }) if offset <= cut));
    }
    let offset = block.len();
    let longer = [block, b"\0"].concat();
    assert_eq!(read(&longer), Err(HeadersError::TrailingBytes { offset }));
}

/// The same headers in the other form; not every one has a text.
fn check_other_forms(headers: &Headers<'_>, expected: &Pairs) {
    let mut binary = Vec::new();
    let mut text = Vec::new();
    for (name, value) in expected {
        for string in [name, value] {
            push_string(&mut binary, string);
        }
        for part in [&**name, b": ", value, b"\r\n"] {
            text.extend_from_slice(part);
        }
    }
    binary.extend_from_slice(b"\0\0");
    text.extend_from_slice(b"\r\n");
    assert!(Headers::from_binary(&binary) == Ok(*headers));
    let breaks = |bytes: &[u8]| bytes.iter().any(|byte| matches!(byte, b'\r' | b'\n'));
    let has_text = expected.iter().all(|(name, value)| {
        !is_blank(name[0]) && !name.contains(&b':') && !breaks(name) && !breaks(value)
    });
    if has_text {
        assert!(Headers::from_text(&text) == Ok(*headers));
    }
}

fn push_string(out: &mut Vec<u8>, string: &[u8]) {
    let mut len = [0; 10];
    let used = encode_varint(string.len() as u64, &mut len).expect("ten bytes");
    out.extend_from_slice(&len[..used]);
    out.extend_from_slice(string);
}

/// What the writers take of these headers, with as much room.
fn check_blob(pairs: &Pairs, room: usize) {
    let mut buffer = vec![0xaa; room];
    let mut names_buffer = vec![0xaa; room];
    let mut writer = HeaderBlobWriter::new(&mut buffer);
    let mut names_writer = HeaderNamesWriter::new(&mut names_buffer);
    let mut taken = Pairs::new();
    let mut taken_names = Vec::new();
    for (name, value) in pairs {
        let Ok(text) = std::str::from_utf8(name) else {
            continue;
        };
        let lower = name.to_ascii_lowercase();
        if names_writer.name(text).is_ok() {
            push_string(&mut taken_names, &lower);
        }
        if writer.header(text, value).is_ok() {
            assert!(
                lower
                    .iter()
                    .all(|&byte| byte > b' ' && byte < 0x7f && byte != b':')
            );
            assert!(
                value
                    .iter()
                    .all(|&byte| byte >= b' ' && byte != 0x7f || byte == b'\t')
            );
            let dashes = text.to_ascii_lowercase().replace('_', "-");
            for own in ["host", "content-length", "transfer-encoding", "connection"] {
                assert_ne!(dashes, own);
            }
            taken.push((lower, value.clone()));
        }
    }
    let blob = writer.finish();
    assert_eq!(naive_binary(blob.as_bytes()), Some(taken));
    assert!(blob.as_bytes().len() <= room.max(2));
    taken_names.push(0);
    assert_eq!(names_writer.finish().as_bytes(), taken_names);
}
