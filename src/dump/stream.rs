//! A stream as frames, and why there is no other.

use std::fmt;

use super::frame::{FrameDump, position, write_cut};
use crate::spop::{DecodeError, Frame, PREFIX_LEN, TypedData};

/// How many bytes are printed of what is not a frame.
const NEXT_BYTES_LEN: usize = 32;

/// What a stream is made of: see [`dump_stream`].
#[derive(Clone, Copy, Debug)]
pub enum StreamItem<'a> {
    /// A frame, whole. Its payload may still not be valid: [`FrameDump::fault`].
    Frame(FrameDump<'a>),
    /// The end of what can be told apart: the bytes from here on are not a frame.
    Invalid {
        /// Where, in bytes from the start of the stream.
        offset: u64,
        /// Why.
        error: DecodeError,
        /// All that follows, that byte included.
        rest: &'a [u8],
    },
    /// The end of the bytes, inside a frame.
    Cut {
        /// Where the frame begins, in bytes from the start of the stream.
        offset: u64,
        /// How many bytes of it are there, prefix included; not 0.
        present: usize,
        /// How many it announces, prefix included; `None` if the prefix itself is cut.
        announced: Option<u64>,
    },
}

/// As [`FrameDump`] prints; the two ends take one line in both forms.
impl fmt::Display for StreamItem<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Frame(dump) => dump.fmt(f),
            Self::Invalid {
                offset,
                error,
                rest,
            } => {
                write!(f, "@{offset} not a frame: {error}; the bytes there are ")?;
                write_cut(f, TypedData::Binary(rest), NEXT_BYTES_LEN)
            }
            Self::Cut {
                offset,
                present,
                announced,
            } => {
                write!(f, "@{offset} the stream ends inside a frame: {present} of ")?;
                match announced {
                    Some(announced) => write!(f, "{announced} bytes are there"),
                    None => write!(f, "the {PREFIX_LEN} bytes of its length are there"),
                }
            }
        }
    }
}

/// Splits bytes into frames, ready to be printed; after the last whole frame comes at most one item
/// that says why there is no other. The bytes may be those of one direction, or of both mixed.
///
/// `max_frame_size` is in bytes and does not count the prefix. Nothing is put together: a fragment
/// is a frame here.
///
/// ```
/// let received = b"\0\0\0\x0b\x67\0\0\0\x01\x01\x01\x02\x02\x02\x00\0\0\0\x10\x03";
/// let lines: Vec<_> = ringspoa::dump_stream(received, 16_380)
///     .map(|item| item.to_string())
///     .collect();
/// assert_eq!(lines, [
///     r#"ACK FIN stream-id=1 frame-id=1 payload=4 unset-var txn."""#,
///     "@15 the stream ends inside a frame: 5 of 20 bytes are there",
/// ]);
/// ```
#[must_use]
pub const fn dump_stream(bytes: &[u8], max_frame_size: u32) -> StreamDump<'_> {
    StreamDump {
        rest: bytes,
        position: 0,
        shows_offsets: false,
        max_frame_size,
    }
}

/// Iterator over the frames of a stream: see [`dump_stream`].
#[derive(Clone, Debug)]
pub struct StreamDump<'a> {
    rest: &'a [u8],
    /// Where `rest` begins in the stream.
    position: u64,
    shows_offsets: bool,
    max_frame_size: u32,
}

impl StreamDump<'_> {
    /// Gives every frame its place in the stream, as [`FrameDump::at`] does, the first byte being at
    /// this one.
    #[must_use]
    pub const fn at(mut self, offset: u64) -> Self {
        self.position = offset;
        self.shows_offsets = true;
        self
    }
}

impl<'a> Iterator for StreamDump<'a> {
    type Item = StreamItem<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let (rest, offset) = (self.rest, self.position);
        match Frame::split(rest, self.max_frame_size) {
            Ok(Some((frame, used))) => {
                self.rest = &rest[used..];
                self.position = position(offset, used);
                let dump = FrameDump::new(&frame);
                let shown = if self.shows_offsets {
                    dump.at(offset)
                } else {
                    dump
                };
                Some(StreamItem::Frame(shown))
            }
            Ok(None) => {
                self.rest = &[];
                let announced = rest
                    .first_chunk()
                    .map(|prefix| u64::from(u32::from_be_bytes(*prefix)) + PREFIX_LEN as u64);
                Some(StreamItem::Cut {
                    offset,
                    present: rest.len(),
                    announced,
                })
            }
            Err(error) => {
                self.rest = &[];
                Some(StreamItem::Invalid {
                    offset,
                    error,
                    rest,
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::{ack, agent_hello, notify};
    use super::*;

    #[test]
    fn a_stream_ends_with_what_is_wrong() {
        let stream = [agent_hello(), notify(), ack()].concat();
        let starts = [0, agent_hello().len(), agent_hello().len() + notify().len()];
        for cut in 0..=stream.len() {
            let items: Vec<_> = dump_stream(&stream[..cut], 512).at(0).collect();
            let whole = starts.iter().filter(|start| **start < cut).count();
            assert_eq!(items.len(), whole, "cut at {cut}");
            let Some((last, frames)) = items.split_last() else {
                continue;
            };
            for (item, start) in frames.iter().zip(starts) {
                assert!(
                    item.to_string().starts_with(&format!("@{start} ")),
                    "{item}"
                );
            }
            let start = starts[whole - 1];
            let end = *starts.get(whole).unwrap_or(&stream.len());
            let expected = match cut - start {
                present @ 1..4 => format!("{present} of the 4 bytes of its length are there"),
                present if cut < end => format!("{present} of {} bytes are there", end - start),
                _ => continue,
            };
            let expected = format!("@{start} the stream ends inside a frame: {expected}");
            assert_eq!(last.to_string(), expected);
        }
        let broken = [&ack()[..], b"hello"].concat();
        let last = dump_stream(&broken, 512).last().unwrap();
        assert_eq!(
            last.to_string(),
            "@30 not a frame: frame length 1751477356 exceeds max-frame-size 512; \
             the bytes there are 0x68656c6c6f"
        );
        let long = [&[0; 5][..], &[7; 100]].concat();
        assert_eq!(
            format!("{:#}", dump_stream(&long, 512).at(u64::MAX).next().unwrap()),
            format!(
                "@{} not a frame: frame length 0 is shorter than the 7-byte header; \
                 the bytes there are 0x0000000000{}...+73",
                u64::MAX,
                "07".repeat(27)
            )
        );
    }
}
