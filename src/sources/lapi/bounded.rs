//! What of an answer is refused before it is read as JSON, so that memory and time are bounded whatever
//! a server sends: endless texts, endless answers, and such as trickle.

use std::io::{self, Read};
use std::time::{Duration, Instant};

/// The longest text or number, in bytes as they come. The texts of a decision have some dozens; a reader
/// of JSON keeps one whole.
pub(super) const MAX_TOKEN_LEN: usize = 64 * 1024;

/// The deepest that arrays and objects may lie in each other; those of a LAPI lie three deep. A reader of
/// JSON keeps a byte for each that is open, also where it passes over what it does not know.
const MAX_DEPTH: usize = 64;

/// What an answer has to get on by in the time for that, in bytes.
const PROGRESS_LEN: u64 = 4 * 1024;

/// An answer's bytes within bounds.
pub(super) struct Bounded<R> {
    inner: R,
    /// In JSON: whether the next byte is in a text, and escaped there.
    in_text: bool,
    is_escaped: bool,
    token_len: usize,
    /// Arrays and objects that are open.
    depth: usize,
    /// Bytes that may still come.
    left: u64,
    pace: Option<Pace>,
}

struct Pace {
    every: Duration,
    began: Instant,
    len: u64,
}

impl<R> Bounded<R> {
    /// At most `max_len` bytes, whose pace does not matter.
    pub(super) fn new(inner: R, max_len: u64) -> Self {
        Self {
            inner,
            in_text: false,
            is_escaped: false,
            token_len: 0,
            depth: 0,
            left: max_len,
            pace: None,
        }
    }

    /// The same, where in each such time some of it has to come.
    pub(super) fn with_pace(mut self, every: Duration) -> Self {
        self.pace = Some(Pace {
            every,
            began: Instant::now(),
            len: 0,
        });
        self
    }

    fn check(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.left = self
            .left
            .checked_sub(bytes.len() as u64)
            .ok_or_else(|| refused("the answer is longer than one of that many decisions"))?;
        for &byte in bytes {
            if self.in_text {
                match byte {
                    _ if self.is_escaped => self.is_escaped = false,
                    b'\\' => self.is_escaped = true,
                    b'"' => self.in_text = false,
                    _ => {}
                }
                self.token_len += 1;
            } else {
                self.token_len += 1;
                match byte {
                    b'"' => (self.in_text, self.token_len) = (true, 0),
                    b',' | b':' | b' ' | b'\n' | b'\r' | b'\t' => self.token_len = 0,
                    b'[' | b'{' => (self.depth, self.token_len) = (self.depth + 1, 0),
                    b']' | b'}' => {
                        (self.depth, self.token_len) = (self.depth.saturating_sub(1), 0);
                    }
                    _ => {}
                }
            }
            if self.depth > MAX_DEPTH {
                return Err(refused(
                    "the answer has arrays in each other, more than 64 deep",
                ));
            }
            if self.token_len > MAX_TOKEN_LEN {
                return Err(refused("the answer has a text of more than 64 KiB"));
            }
        }
        Ok(())
    }
}

impl Pace {
    fn check(&mut self, len: usize) -> io::Result<()> {
        self.len += len as u64;
        if self.began.elapsed() < self.every {
            return Ok(());
        }
        if self.len < PROGRESS_LEN {
            let text = format!(
                "the answer trickles: {} bytes in {} ms",
                self.len,
                self.every.as_millis()
            );
            return Err(io::Error::new(io::ErrorKind::TimedOut, text));
        }
        (self.began, self.len) = (Instant::now(), 0);
        Ok(())
    }
}

fn refused(text: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let len = self.inner.read(out)?;
        self.check(&out[..len])?;
        // At its end it has come to its end.
        if len > 0
            && let Some(pace) = &mut self.pace
        {
            pace.check(len)?;
        }
        Ok(len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str, max_len: u64) -> Result<String, String> {
        let mut text = String::new();
        Bounded::new(json.as_bytes(), max_len)
            .read_to_string(&mut text)
            .map_err(|error| error.to_string())?;
        Ok(text)
    }

    #[test]
    fn what_is_within_bounds_passes_as_it_is() {
        let texts = r#"{"a\"b,\\":["c"],"#.to_owned() + &"\"d\", 17,".repeat(50_000);
        assert_eq!(read(&texts, u64::MAX), Ok(texts.clone()));
        let long = format!("[\"{}\"]", "x".repeat(MAX_TOKEN_LEN - 1));
        assert_eq!(read(&long, long.len() as u64), Ok(long));
    }

    #[test]
    fn long_texts_numbers_and_answers_do_not() {
        let x = "x".repeat(MAX_TOKEN_LEN + 1);
        for json in [
            format!("[\"{x}\"]"),
            format!("{{\"{x}\":1}}"),
            // An escaped quote does not end it.
            format!("[\"{}\"]", "\\\"".repeat(MAX_TOKEN_LEN / 2 + 1)),
            "1".repeat(MAX_TOKEN_LEN + 1),
        ] {
            assert!(read(&json, u64::MAX).unwrap_err().contains("64 KiB"));
        }
        assert!(read("[1,2]", 4).unwrap_err().contains("longer"));
        let deep = |depth| format!("{}{}", "[{".repeat(depth), "}]".repeat(depth));
        let many = deep(MAX_DEPTH / 2).repeat(3) + "\"[[[[\"";
        assert_eq!(read(&many.repeat(20), u64::MAX), Ok(many.repeat(20)));
        let error = read(&deep(MAX_DEPTH / 2 + 1), u64::MAX).unwrap_err();
        assert!(error.contains("64 deep"), "{error}");
    }

    #[test]
    fn an_answer_that_trickles_is_refused_and_one_that_moves_is_not() {
        struct Slow(usize);
        impl Read for Slow {
            fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
                std::thread::sleep(Duration::from_millis(5));
                let len = self.0.min(out.len());
                out[..len].fill(b' ');
                Ok(len)
            }
        }
        let read = |len, bound| {
            let slow = Bounded::new(Slow(len).take(bound), u64::MAX);
            let mut slow = slow.with_pace(Duration::from_millis(20));
            io::copy(&mut slow, &mut io::sink())
        };
        let error = read(1, 1_000).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(error.to_string().contains("trickles"), "{error}");
        assert_eq!(read(8_192, 100_000).unwrap(), 100_000);
    }
}
