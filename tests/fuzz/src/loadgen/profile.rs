//! Profiles and expectations.

use std::path::Path;

use ringspoa::spop::{Flags, Frame, FrameType, Messages, PREFIX_LEN};
use ringspoa_loadgen::{Expectation, Profile, ProfileError};

/// A profile is refused with its file named, or makes NOTIFYs that are valid, have its messages and
/// are no longer than it says.
pub fn profile(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if makes_long_texts(text) {
        return;
    }
    let profile = match Profile::from_toml(Path::new("profile.toml"), text, None) {
        Ok(profile) => profile,
        Err(error) => {
            assert!(error.to_string().contains("profile.toml"), "{error}");
            if let ProfileError::Wrong {
                line, text: what, ..
            } = error
            {
                let lines = text.split('\n').count();
                assert!((1..=lines).contains(&line) && !what.is_empty());
            }
            return;
        }
    };
    assert!(!profile.messages().is_empty());
    assert_eq!(profile.digest().len(), 16);
    for start in [0, 1] {
        let mut generator = profile.generator(start);
        for stream_id in [1, (1 << 31) - 1] {
            let mut out = Vec::new();
            generator.encode(&mut out, stream_id);
            assert!(out.len() - PREFIX_LEN <= profile.max_frame_len());
            check_notify(&out, stream_id, profile.messages());
        }
    }
}

/// Whether a `length` may be above some 100 kB: allowed up to 16 MiB, but slow, and nothing to learn from.
fn makes_long_texts(text: &str) -> bool {
    let is_digit = |c: char| c.is_ascii_hexdigit() || c == '_';
    let mut numbers = text.split(|c| !is_digit(c));
    text.contains("length") && numbers.any(|digits| digits.len() > 5)
}

fn check_notify(out: &[u8], stream_id: u32, names: &[String]) {
    let (frame, used) = Frame::split(out, u32::MAX)
        .expect("a frame of ours is valid")
        .expect("it is whole");
    assert_eq!(used, out.len());
    assert_eq!(
        (frame.frame_type, frame.flags),
        (FrameType::Notify, Flags::FIN)
    );
    assert_eq!(
        (frame.stream_id.0, frame.frame_id.0),
        (u64::from(stream_id), 1)
    );
    let mut messages = Messages::new(frame.payload);
    for name in names {
        let message = messages
            .next_message()
            .expect("what we wrote is valid")
            .expect("each message is there");
        assert_eq!(message.name(), name.as_bytes());
    }
    assert!(matches!(messages.next_message(), Ok(None)));
}

/// An expectation is refused with a text, or written as it was read.
pub fn expectation(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    match text.parse::<Expectation>() {
        Ok(expectation) => assert_eq!(expectation.to_string(), text),
        Err(error) => assert!(error.to_string().contains("VAR=VALUE")),
    }
}
