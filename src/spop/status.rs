//! Status codes of DISCONNECT frames (spec 3.5), and which decode error carries which.

use core::fmt;

use super::error::{DecodeError, Field};

/// Status code of a HAPROXY-DISCONNECT or AGENT-DISCONNECT (spec 3.5).
///
/// Any `u32` can be on the wire; the constants are those the spec names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Status(pub u32);

impl Status {
    /// Normal end.
    pub const NORMAL: Self = Self(0);
    /// I/O error.
    pub const IO: Self = Self(1);
    /// A timeout occurred.
    pub const TIMEOUT: Self = Self(2);
    /// Frame is too big.
    pub const TOO_BIG: Self = Self(3);
    /// Invalid frame received.
    pub const INVALID: Self = Self(4);
    /// `supported-versions` or `version` missing.
    pub const NO_VERSION: Self = Self(5);
    /// `max-frame-size` missing.
    pub const NO_MAX_FRAME_SIZE: Self = Self(6);
    /// `capabilities` missing.
    pub const NO_CAPABILITIES: Self = Self(7);
    /// Unsupported version.
    pub const BAD_VERSION: Self = Self(8);
    /// `max-frame-size` too big or too small.
    pub const BAD_FRAME_SIZE: Self = Self(9);
    /// Fragmentation not supported.
    pub const NO_FRAGMENTATION: Self = Self(10);
    /// Invalid interlaced frames.
    pub const INTERLACED: Self = Self(11);
    /// Frame-id not found.
    pub const UNKNOWN_FRAME_ID: Self = Self(12);
    /// Resource allocation error.
    pub const NO_RESOURCES: Self = Self(13);
    /// Unknown error.
    pub const UNKNOWN: Self = Self(99);

    /// The text HAProxy has for this code, at most 255 bytes.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self.0 {
            0 => "normal",
            1 => "I/O error",
            2 => "a timeout occurred",
            3 => "frame is too big",
            4 => "invalid frame received",
            5 => "version value not found",
            6 => "max-frame-size value not found",
            7 => "capabilities value not found",
            8 => "unsupported version",
            9 => "max-frame-size too big or too small",
            10 => "fragmentation not supported",
            11 => "invalid interlaced frames",
            12 => "frame-id not found",
            13 => "resource allocation error",
            _ => "an unknown error occurred",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.0, self.reason())
    }
}

impl From<DecodeError> for Status {
    fn from(error: DecodeError) -> Self {
        match error {
            DecodeError::FrameTooLarge { .. } => Self::TOO_BIG,
            DecodeError::MissingField(Field::SupportedVersions | Field::Version) => {
                Self::NO_VERSION
            }
            DecodeError::MissingField(Field::MaxFrameSize) => Self::NO_MAX_FRAME_SIZE,
            DecodeError::MissingField(Field::Capabilities) => Self::NO_CAPABILITIES,
            DecodeError::BadMaxFrameSize(_) => Self::BAD_FRAME_SIZE,
            DecodeError::NotFinal => Self::NO_FRAGMENTATION,
            _ => Self::INVALID,
        }
    }
}
