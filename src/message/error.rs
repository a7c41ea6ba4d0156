//! Why a message is not what a struct takes.

use core::fmt;

use super::value::ValueError;
use crate::spop::{DecodeError, TypedData};

/// Why a message could not be read: which message, which argument, what it had to be and what came.
///
/// ```
/// # use ringspoa::{Message, spop::Messages};
/// #[derive(Debug, Message)]
/// #[spop(name = "visit")]
/// struct Visit {
///     port: u16,
/// }
///
/// let mut messages = Messages::new(b"\x05visit\x01\x04port\x04\xf0\xf1\x1e");
/// let mut message = messages.next_message()?.expect("there is one");
/// let error = Visit::decode(&mut message).unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     "message visit: argument port must be an integer from 0 to 65535, but is 65536"
/// );
/// # Ok::<(), ringspoa::spop::DecodeError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageError {
    message: &'static str,
    fault: MessageFault,
}

impl MessageError {
    /// The name of the message.
    #[must_use]
    pub const fn message(&self) -> &'static str {
        self.message
    }

    /// What is wrong with it.
    #[must_use]
    pub const fn fault(&self) -> &MessageFault {
        &self.fault
    }

    // Apart from the loop over arguments, which they would make long.

    /// The payload ends, or has what no payload may have.
    #[doc(hidden)]
    #[cold]
    #[inline(never)]
    #[must_use]
    pub fn malformed(message: &'static str, error: DecodeError) -> Self {
        Self {
            message,
            fault: MessageFault::Malformed(error),
        }
    }

    /// No field takes this argument.
    #[doc(hidden)]
    #[cold]
    #[inline(never)]
    #[must_use]
    pub fn unknown(message: &'static str, argument: &[u8]) -> Self {
        Self {
            message,
            fault: MessageFault::Unknown {
                argument: ArgumentName::new(argument),
            },
        }
    }

    #[cold]
    #[inline(never)]
    pub(super) fn missing(
        message: &'static str,
        argument: &'static str,
        expected: &'static str,
    ) -> Self {
        Self {
            message,
            fault: MessageFault::Missing { argument, expected },
        }
    }

    #[cold]
    #[inline(never)]
    pub(super) fn duplicate(message: &'static str, argument: &'static str) -> Self {
        Self {
            message,
            fault: MessageFault::Duplicate { argument },
        }
    }

    #[cold]
    #[inline(never)]
    pub(super) fn value(
        message: &'static str,
        argument: &'static str,
        expected: &'static str,
        error: ValueError,
        value: TypedData<'_>,
    ) -> Self {
        let fault = match (error, value) {
            // A type of one's own may find NULL to be of the wrong type; it is NULL all the same.
            (ValueError::Type, TypedData::Null) => MessageFault::Null { argument, expected },
            (ValueError::Type, value) => MessageFault::WrongType {
                argument,
                expected,
                found: value.type_name(),
            },
            (ValueError::Range, value) => match Integer::of(&value) {
                Some(found) => MessageFault::OutOfRange {
                    argument,
                    expected,
                    found,
                },
                None => MessageFault::WrongType {
                    argument,
                    expected,
                    found: value.type_name(),
                },
            },
            (ValueError::Utf8, value) => {
                let bytes = value.as_bytes().unwrap_or_default();
                let at = core::str::from_utf8(bytes)
                    .err()
                    .map_or(0, |error| error.valid_up_to());
                MessageFault::NotUtf8 {
                    argument,
                    expected,
                    at,
                    byte: bytes.get(at).copied().unwrap_or_default(),
                }
            }
            (ValueError::Invalid(reason), _) => MessageFault::Invalid {
                argument,
                expected,
                reason,
            },
        };
        Self { message, fault }
    }
}

/// What is wrong with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MessageFault {
    /// The payload is not valid: the whole frame is refused.
    Malformed(DecodeError),
    /// A required argument is not there.
    Missing {
        /// Its name.
        argument: &'static str,
        /// What it had to be.
        expected: &'static str,
    },
    /// An argument is there twice.
    Duplicate {
        /// Its name.
        argument: &'static str,
    },
    /// A required argument is NULL: HAProxy had nothing to fetch.
    Null {
        /// Its name.
        argument: &'static str,
        /// What it had to be.
        expected: &'static str,
    },
    /// An argument is of a type that its field does not take.
    WrongType {
        /// Its name.
        argument: &'static str,
        /// What it had to be.
        expected: &'static str,
        /// The type's name in the spec.
        found: &'static str,
    },
    /// A number is too large or too small for its field.
    OutOfRange {
        /// The argument's name.
        argument: &'static str,
        /// What it had to be.
        expected: &'static str,
        /// The number.
        found: Integer,
    },
    /// Text is not UTF-8. Take `&[u8]` for what comes from clients.
    NotUtf8 {
        /// The argument's name.
        argument: &'static str,
        /// What it had to be.
        expected: &'static str,
        /// Where it stops being UTF-8, in bytes.
        at: usize,
        /// The byte there.
        byte: u8,
    },
    /// A type of its own refused the value.
    Invalid {
        /// The argument's name.
        argument: &'static str,
        /// What it had to be.
        expected: &'static str,
        /// Why it is not.
        reason: &'static str,
    },
    /// No field takes this argument, and the message denies such.
    Unknown {
        /// Its name.
        argument: ArgumentName,
    },
}

impl fmt::Display for MessageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "message {}: ", self.message)?;
        match &self.fault {
            MessageFault::Malformed(error) => error.fmt(f),
            MessageFault::Missing { argument, expected } => {
                write!(f, "argument {argument} is missing; it must be {expected}")
            }
            MessageFault::Duplicate { argument } => {
                write!(
                    f,
                    "argument {argument} must be there once, but is there twice"
                )
            }
            MessageFault::Null { argument, expected } => {
                write!(f, "argument {argument} must be {expected}, but is NULL")
            }
            MessageFault::WrongType {
                argument,
                expected,
                found,
            } => write!(f, "argument {argument} must be {expected}, but is {found}"),
            MessageFault::OutOfRange {
                argument,
                expected,
                found,
            } => write!(f, "argument {argument} must be {expected}, but is {found}"),
            MessageFault::NotUtf8 {
                argument,
                expected,
                at,
                byte,
            } => write!(
                f,
                "argument {argument} must be {expected}, but has {byte:#04x} at byte {at}"
            ),
            MessageFault::Invalid {
                argument,
                expected,
                reason,
            } => write!(f, "argument {argument} must be {expected}, but {reason}"),
            MessageFault::Unknown { argument } => {
                write!(
                    f,
                    "argument {argument} is unknown, and unknown ones are denied"
                )
            }
        }
    }
}

impl core::error::Error for MessageError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match &self.fault {
            MessageFault::Malformed(error) => Some(error),
            _ => None,
        }
    }
}

/// A number as it came, of whichever integer type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Integer {
    /// Of a signed type.
    Signed(i64),
    /// Of an unsigned type.
    Unsigned(u64),
}

impl Integer {
    fn of(value: &TypedData<'_>) -> Option<Self> {
        Some(match *value {
            TypedData::Int32(value) => Self::Signed(value.into()),
            TypedData::Int64(value) => Self::Signed(value),
            TypedData::Uint32(value) => Self::Unsigned(value.into()),
            TypedData::Uint64(value) => Self::Unsigned(value),
            _ => return None,
        })
    }
}

impl fmt::Display for Integer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Signed(value) => value.fmt(f),
            Self::Unsigned(value) => value.fmt(f),
        }
    }
}

/// The name of an argument that a peer sent, as far as an error keeps it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ArgumentName {
    /// Names in configurations are some letters long.
    bytes: [u8; 30],
    /// Above the length of `bytes` if it was cut.
    len: u8,
}

impl ArgumentName {
    fn new(name: &[u8]) -> Self {
        let mut bytes = [0; 30];
        let kept = name.len().min(bytes.len());
        bytes[..kept].copy_from_slice(&name[..kept]);
        let len = u8::try_from(name.len()).unwrap_or(u8::MAX);
        Self { bytes, len }
    }

    /// The name, or its first 30 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len).min(self.bytes.len())]
    }
}

impl fmt::Display for ArgumentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.len == 0 {
            return f.write_str("without a name");
        }
        let cut = usize::from(self.len) > self.bytes.len();
        let dots = if cut { "..." } else { "" };
        write!(f, "{}{dots}", self.as_bytes().escape_ascii())
    }
}

impl fmt::Debug for ArgumentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.as_bytes().escape_ascii())
    }
}
