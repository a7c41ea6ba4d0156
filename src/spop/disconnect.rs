//! HAPROXY-DISCONNECT and AGENT-DISCONNECT (spec 3.2.8, 3.2.9).

use super::data::TypedData;
use super::error::{DecodeError, EncodeError, Field};
use super::frame::{Frame, FrameType, FrameWriter};
use super::hello::{Pairs, integer, text};
use super::status::Status;

/// The longest reason HAProxy up to 3.0 takes; it ignores a frame with a longer one.
const MAX_REASON_LEN: usize = 255;

/// The last frame of either side (spec 3.2.8, 3.2.9).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disconnect<'a> {
    /// Why, for a program.
    pub status: Status,
    /// Why, for a person: key "message" on the wire. At most 255 bytes.
    pub reason: &'a [u8],
}

impl<'a> Disconnect<'a> {
    /// A DISCONNECT with the status's own text.
    #[must_use]
    pub const fn with_status(status: Status) -> Disconnect<'static> {
        Disconnect {
            status,
            reason: status.reason().as_bytes(),
        }
    }

    /// Decodes a DISCONNECT of either side. A missing reason is an empty one.
    ///
    /// # Errors
    ///
    /// `UnexpectedFrame`, `NotFinal` or `NonZeroId` for the header, `MissingField` for a missing
    /// status, `WrongFieldType`, `EmptyKey`, and those of [`TypedData::decode`].
    pub fn decode(frame: &Frame<'a>) -> Result<Self, DecodeError> {
        let expected = match frame.frame_type {
            FrameType::AgentDisconnect => FrameType::AgentDisconnect,
            _ => FrameType::HaproxyDisconnect,
        };
        let mut pairs = Pairs::of(frame, expected)?;
        let (mut status, mut reason): (Option<u64>, &[u8]) = (None, &[]);
        while let Some((key, value)) = pairs.next()? {
            match key {
                b"status-code" => status = Some(integer(Field::StatusCode, value)?),
                b"message" => reason = text(Field::Reason, value)?,
                _ => {}
            }
        }
        let status = status.ok_or(DecodeError::MissingField(Field::StatusCode))?;
        let status = u32::try_from(status).map_err(|_| DecodeError::IntegerOutOfRange)?;
        Ok(Self {
            status: Status(status),
            reason,
        })
    }

    /// Encodes an AGENT-DISCONNECT at the front of `out`, returning the bytes used.
    ///
    /// # Errors
    ///
    /// `Full` if it does not fit, `ReasonTooLong` above 255 bytes.
    pub fn encode_agent(&self, out: &mut [u8]) -> Result<usize, EncodeError> {
        self.encode(FrameType::AgentDisconnect, out)
    }

    /// Encodes a HAPROXY-DISCONNECT at the front of `out`, returning the bytes used.
    ///
    /// # Errors
    ///
    /// As [`encode_agent`](Self::encode_agent).
    pub fn encode_haproxy(&self, out: &mut [u8]) -> Result<usize, EncodeError> {
        self.encode(FrameType::HaproxyDisconnect, out)
    }

    fn encode(&self, frame_type: FrameType, out: &mut [u8]) -> Result<usize, EncodeError> {
        if self.reason.len() > MAX_REASON_LEN {
            return Err(EncodeError::ReasonTooLong);
        }
        let mut frame = FrameWriter::begin_control(out, u32::MAX, frame_type)?;
        frame.pair(Field::StatusCode, TypedData::Uint32(self.status.0))?;
        frame.pair(Field::Reason, TypedData::String(self.reason))?;
        Ok(frame.finish())
    }
}
