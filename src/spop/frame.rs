//! The frame: length prefix, type, flags, ids, payload (spec 3.2.1).

use core::fmt;

use super::error::{DecodeError, EncodeError};
use super::reader::Reader;
use super::writer::Writer;

/// Bytes of the length prefix, which `frame_len` and `max-frame-size` do not count.
pub const PREFIX_LEN: usize = 4;

/// The shortest frame: type, flags and two one-byte ids.
const MIN_FRAME_LEN: u32 = 7;

/// The smallest `max-frame-size` either side may announce (spec 3.2.4).
pub const MIN_MAX_FRAME_SIZE: u32 = 256;

/// What a frame is (spec 3.2.1). HAProxy's types are below 100, the agent's above.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FrameType {
    /// Continuation of a fragmented frame.
    Unset,
    /// HAPROXY-HELLO.
    HaproxyHello,
    /// HAPROXY-DISCONNECT.
    HaproxyDisconnect,
    /// NOTIFY.
    Notify,
    /// AGENT-HELLO.
    AgentHello,
    /// AGENT-DISCONNECT.
    AgentDisconnect,
    /// ACK.
    Ack,
    /// A type the spec does not name; a receiver ignores it.
    Unknown(u8),
}

impl FrameType {
    /// The type of a wire code.
    #[inline]
    #[must_use]
    pub const fn from_code(code: u8) -> Self {
        match code {
            0 => Self::Unset,
            1 => Self::HaproxyHello,
            2 => Self::HaproxyDisconnect,
            3 => Self::Notify,
            101 => Self::AgentHello,
            102 => Self::AgentDisconnect,
            103 => Self::Ack,
            other => Self::Unknown(other),
        }
    }

    /// The wire code.
    #[inline]
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Unset => 0,
            Self::HaproxyHello => 1,
            Self::HaproxyDisconnect => 2,
            Self::Notify => 3,
            Self::AgentHello => 101,
            Self::AgentDisconnect => 102,
            Self::Ack => 103,
            Self::Unknown(code) => code,
        }
    }
}

impl fmt::Display for FrameType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unset => "UNSET",
            Self::HaproxyHello => "HAPROXY-HELLO",
            Self::HaproxyDisconnect => "HAPROXY-DISCONNECT",
            Self::Notify => "NOTIFY",
            Self::AgentHello => "AGENT-HELLO",
            Self::AgentDisconnect => "AGENT-DISCONNECT",
            Self::Ack => "ACK",
            Self::Unknown(code) => return write!(f, "unknown (type {code})"),
        })
    }
}

/// The 32 flag bits of a frame, of which two have a meaning (spec 3.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Flags(pub u32);

impl Flags {
    /// The last, or only, fragment of a frame.
    pub const FIN: Self = Self(1);
    /// The sender gives up a fragmented frame.
    pub const ABORT: Self = Self(2);
    /// FIN and ABORT.
    pub const FIN_ABORT: Self = Self(3);

    /// Whether FIN is set.
    #[inline]
    #[must_use]
    pub const fn is_fin(self) -> bool {
        self.0 & Self::FIN.0 != 0
    }

    /// Whether ABORT is set.
    #[inline]
    #[must_use]
    pub const fn is_abort(self) -> bool {
        self.0 & Self::ABORT.0 != 0
    }
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id! {
    /// STREAM-ID: which HAProxy stream a frame is about. Opaque, echoed exactly; unique on one
    /// connection at a time at most, so nothing may be keyed by it alone.
    StreamId
}
id! {
    /// FRAME-ID: which event of the stream. Opaque, echoed exactly.
    FrameId
}

/// One frame as received, or to be sent (spec 3.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// What it is.
    pub frame_type: FrameType,
    /// FIN and ABORT.
    pub flags: Flags,
    /// Which stream it is about; 0 in HELLO and DISCONNECT.
    pub stream_id: StreamId,
    /// Which event of that stream; 0 in HELLO and DISCONNECT.
    pub frame_id: FrameId,
    /// What follows the header.
    pub payload: &'a [u8],
}

impl<'a> Frame<'a> {
    /// Splits one frame off the front of `input`, returning it and the bytes used, prefix
    /// included. `None` if `input` ends before the frame does.
    ///
    /// `max_frame_size` is in bytes and does not count the prefix. It is checked as soon as the
    /// prefix is there, so a caller never waits for, or makes room for, a frame it would refuse.
    ///
    /// # Errors
    ///
    /// `FrameTooLarge`, `FrameTooShort`; `Truncated` or `VarintOverflow` if the ids are not
    /// inside the frame.
    #[inline(always)]
    pub fn split(
        input: &'a [u8],
        max_frame_size: u32,
    ) -> Result<Option<(Self, usize)>, DecodeError> {
        let Some((prefix, rest)) = input.split_first_chunk::<PREFIX_LEN>() else {
            return Ok(None);
        };
        let frame_len = u32::from_be_bytes(*prefix);
        if frame_len > max_frame_size {
            return Err(DecodeError::FrameTooLarge {
                frame_len,
                max_frame_size,
            });
        }
        if frame_len < MIN_FRAME_LEN {
            return Err(DecodeError::FrameTooShort { frame_len });
        }
        let Some(body) = rest.get(..frame_len as usize) else {
            return Ok(None);
        };
        let frame = Reader::new(body).decode(Self::read)?;
        Ok(Some((frame, PREFIX_LEN + body.len())))
    }

    #[inline(always)]
    fn read(reader: &mut Reader<'a>) -> Option<Self> {
        Some(Self {
            frame_type: FrameType::from_code(reader.byte()?),
            flags: Flags(u32::from_be_bytes(reader.array()?)),
            stream_id: StreamId(reader.varint()?),
            frame_id: FrameId(reader.varint()?),
            payload: reader.rest(),
        })
    }

    /// Writes the frame at the front of `out`, returning the bytes used, prefix included. For
    /// frames made of ready bytes: continuations, replays, tests.
    ///
    /// # Errors
    ///
    /// `Full` if it does not fit `out`, or 32 bits of length; what `out` then holds is unspecified.
    pub fn encode(&self, out: &mut [u8]) -> Result<usize, EncodeError> {
        let mut frame = FrameWriter::begin(
            out,
            u32::MAX,
            self.frame_type,
            self.flags,
            self.stream_id,
            self.frame_id,
        )?;
        frame.writer.bytes(self.payload)?;
        Ok(frame.finish())
    }
}

/// A frame being written: the length prefix is filled in by [`finish`](Self::finish), so the
/// unfinished form is never valid.
#[derive(Debug)]
pub(crate) struct FrameWriter<'b> {
    pub(crate) writer: Writer<'b>,
}

impl<'b> FrameWriter<'b> {
    /// Starts a frame at the front of `out`, of at most `max_frame_size` bytes after the prefix.
    #[inline]
    pub(crate) fn begin(
        out: &'b mut [u8],
        max_frame_size: u32,
        frame_type: FrameType,
        flags: Flags,
        stream_id: StreamId,
        frame_id: FrameId,
    ) -> Result<Self, EncodeError> {
        let limit = out
            .len()
            .min((max_frame_size as usize).saturating_add(PREFIX_LEN));
        let mut writer = Writer::new(&mut out[..limit]);
        let [f0, f1, f2, f3] = flags.0.to_be_bytes();
        writer.bytes(&[0, 0, 0, 0, frame_type.code(), f0, f1, f2, f3])?;
        writer.varint(stream_id.0)?;
        writer.varint(frame_id.0)?;
        Ok(Self { writer })
    }

    /// A frame about the connection itself: FIN, both ids 0.
    pub(crate) fn begin_control(
        out: &'b mut [u8],
        max_frame_size: u32,
        frame_type: FrameType,
    ) -> Result<Self, EncodeError> {
        Self::begin(
            out,
            max_frame_size,
            frame_type,
            Flags::FIN,
            StreamId(0),
            FrameId(0),
        )
    }

    /// Fills in the length and returns the bytes used, prefix included.
    #[inline]
    pub(crate) fn finish(mut self) -> usize {
        let len = self.writer.position();
        // `begin` keeps the frame within a `u32` of bytes.
        let frame_len = u32::try_from(len - PREFIX_LEN).unwrap_or(u32::MAX);
        self.writer.patch(0, &frame_len.to_be_bytes());
        len
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_code_round_trips() {
        for code in 0..=u8::MAX {
            assert_eq!(FrameType::from_code(code).code(), code);
        }
    }

    #[test]
    fn lengths_are_judged_before_the_body_arrives() {
        let announced = |len: u32| Frame::split(&len.to_be_bytes(), 16_380).err();
        assert_eq!(
            announced(6),
            Some(DecodeError::FrameTooShort { frame_len: 6 })
        );
        assert_eq!(announced(7), None);
        assert_eq!(announced(16_380), None);
        for frame_len in [16_381, 1 << 31, u32::MAX] {
            let expected = DecodeError::FrameTooLarge {
                frame_len,
                max_frame_size: 16_380,
            };
            assert_eq!(announced(frame_len), Some(expected));
        }
    }

    #[test]
    fn a_frame_cut_anywhere_is_none_then_the_frame() {
        let frame = Frame {
            frame_type: FrameType::Notify,
            flags: Flags::FIN,
            stream_id: StreamId(u64::MAX),
            frame_id: FrameId(2288),
            payload: b"payload",
        };
        let mut out = [0; 64];
        let len = frame.encode(&mut out).unwrap();
        for cut in 0..len {
            assert_eq!(Frame::split(&out[..cut], 256), Ok(None));
            assert_eq!(frame.encode(&mut [0; 64][..cut]), Err(EncodeError::Full));
        }
        assert_eq!(Frame::split(&out, 256), Ok(Some((frame, len))));
    }

    #[test]
    fn ids_that_run_past_the_frame_are_truncated() {
        // Length 7, but the stream-id claims a second byte that is the frame-id's.
        let bytes = [0, 0, 0, 7, 3, 0, 0, 0, 1, 0xf0, 0x01];
        assert_eq!(Frame::split(&bytes, 256), Err(DecodeError::Truncated));
    }
}
