//! What can be wrong with bytes from a peer, and what can keep bytes from being written.

use core::fmt;

/// Key of a HELLO or DISCONNECT field (spec 3.2.4 to 3.2.9), for errors that name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Field {
    /// `supported-versions`, what HAProxy offers.
    SupportedVersions,
    /// `version`, what the agent chose.
    Version,
    /// `max-frame-size`.
    MaxFrameSize,
    /// `capabilities`.
    Capabilities,
    /// `engine-id`.
    EngineId,
    /// `healthcheck`.
    Healthcheck,
    /// `status-code`.
    StatusCode,
    /// `message`, the text of a DISCONNECT.
    Reason,
}

impl Field {
    /// The key as it is on the wire.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::SupportedVersions => "supported-versions",
            Self::Version => "version",
            Self::MaxFrameSize => "max-frame-size",
            Self::Capabilities => "capabilities",
            Self::EngineId => "engine-id",
            Self::Healthcheck => "healthcheck",
            Self::StatusCode => "status-code",
            Self::Reason => "message",
        }
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.key())
    }
}

/// Why bytes from a peer are not what they claim to be.
///
/// Needing more bytes is not an error: [`Frame::split`](super::Frame::split) says so with `None`.
/// Past the length prefix a frame is complete, and running out is `Truncated`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DecodeError {
    /// The frame ended inside a value.
    Truncated,
    /// A varint above 64 bits or ten bytes.
    VarintOverflow,
    /// The length prefix announces less than a frame header.
    FrameTooShort {
        /// The announced length, in bytes.
        frame_len: u32,
    },
    /// The length prefix announces more than the limit.
    FrameTooLarge {
        /// The announced length, in bytes.
        frame_len: u32,
        /// The limit in force, in bytes.
        max_frame_size: u32,
    },
    /// A type nibble that names no data type (10 to 15).
    UnknownDataType(u8),
    /// An INT32 or UINT32 whose varint does not fit 32 bits.
    IntegerOutOfRange,
    /// A key-value pair without a key.
    EmptyKey,
    /// A field of HELLO or DISCONNECT is missing.
    MissingField(Field),
    /// A field of HELLO or DISCONNECT has a value of the wrong data type.
    WrongFieldType(Field),
    /// `max-frame-size` below 256 or above what fits 32 bits.
    BadMaxFrameSize(u64),
    /// A frame type that is not the one the decoder was asked for.
    UnexpectedFrame(super::FrameType),
    /// HELLO or DISCONNECT with a stream-id or frame-id other than 0.
    NonZeroId,
    /// FIN is clear in a frame that cannot be fragmented.
    NotFinal,
    /// An action type other than set-var (1) and unset-var (2).
    UnknownAction(u8),
    /// An action with the wrong number of arguments for its type.
    WrongActionArguments(u8),
    /// A scope above 4.
    UnknownScope(u8),
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Truncated => f.write_str("frame ends inside a value"),
            Self::VarintOverflow => f.write_str("varint exceeds 64 bits"),
            Self::FrameTooShort { frame_len } => {
                write!(
                    f,
                    "frame length {frame_len} is shorter than the 7-byte header"
                )
            }
            Self::FrameTooLarge {
                frame_len,
                max_frame_size,
            } => {
                write!(
                    f,
                    "frame length {frame_len} exceeds max-frame-size {max_frame_size}"
                )
            }
            Self::UnknownDataType(tag) => write!(f, "unknown data type {tag}"),
            Self::IntegerOutOfRange => f.write_str("32-bit integer out of range"),
            Self::EmptyKey => f.write_str("key-value pair with an empty key"),
            Self::MissingField(field) => write!(f, "{field} is missing"),
            Self::WrongFieldType(field) => write!(f, "{field} has the wrong data type"),
            Self::BadMaxFrameSize(size) => write!(f, "max-frame-size {size} is out of range"),
            Self::UnexpectedFrame(frame_type) => write!(f, "unexpected {frame_type} frame"),
            Self::NonZeroId => f.write_str("stream-id and frame-id must be 0 here"),
            Self::NotFinal => f.write_str("FIN is clear in a frame that cannot be fragmented"),
            Self::UnknownAction(code) => write!(f, "unknown action type {code}"),
            Self::WrongActionArguments(count) => {
                write!(
                    f,
                    "action with {count} arguments, which its type does not take"
                )
            }
            Self::UnknownScope(code) => write!(f, "unknown variable scope {code}"),
        }
    }
}

impl core::error::Error for DecodeError {}

/// Why a frame, message or action was not written. Nothing of it was: encoding is whole or not at
/// all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EncodeError {
    /// It does not fit the buffer or the frame size limit.
    Full,
    /// More than 255 arguments in one message: their count is one byte on the wire.
    TooManyArguments,
    /// A DISCONNECT text longer than 255 bytes, which HAProxy up to 3.0 ignores.
    ReasonTooLong,
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "does not fit the frame size limit",
            Self::TooManyArguments => "a message takes at most 255 arguments",
            Self::ReasonTooLong => "a disconnect reason takes at most 255 bytes",
        })
    }
}

impl core::error::Error for EncodeError {}
