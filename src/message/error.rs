//! Why a message is not what a struct takes.

use core::fmt;

use super::declaration::{ArgumentDeclaration, MessageDeclaration};
use super::headers::HeadersError;
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
    // References, so that what a decoder returns is not made large by what it hardly ever returns.
    message: &'static MessageDeclaration,
    argument: Option<&'static ArgumentDeclaration>,
    fault: MessageFault,
}

impl MessageError {
    /// The name of the message.
    #[must_use]
    pub const fn message(&self) -> &'static str {
        self.message.name
    }

    /// The argument that is at fault, if it is one of the message's.
    #[must_use]
    pub const fn argument(&self) -> Option<&'static ArgumentDeclaration> {
        self.argument
    }

    /// What is wrong.
    #[must_use]
    pub const fn fault(&self) -> &MessageFault {
        &self.fault
    }

    // All of these are apart from the loop over arguments, which they would make long.

    /// The payload ends, or has what no payload may have.
    #[doc(hidden)]
    #[cold]
    #[inline(never)]
    #[must_use]
    pub fn malformed(message: &'static MessageDeclaration, error: DecodeError) -> Self {
        Self {
            message,
            argument: None,
            fault: MessageFault::Malformed(error),
        }
    }

    /// No field takes this argument.
    #[doc(hidden)]
    #[cold]
    #[inline(never)]
    #[must_use]
    pub fn unknown(message: &'static MessageDeclaration, argument: &[u8]) -> Self {
        Self {
            message,
            argument: None,
            fault: MessageFault::Unknown(ArgumentName::new(argument)),
        }
    }

    #[cold]
    #[inline(never)]
    pub(super) fn missing(message: &'static MessageDeclaration, index: usize) -> Self {
        Self {
            message,
            argument: message.arguments.get(index),
            fault: MessageFault::Missing,
        }
    }

    #[cold]
    #[inline(never)]
    pub(super) fn duplicate(message: &'static MessageDeclaration, index: usize) -> Self {
        Self {
            message,
            argument: message.arguments.get(index),
            fault: MessageFault::Duplicate,
        }
    }

    #[cold]
    #[inline(never)]
    pub(super) fn value(
        message: &'static MessageDeclaration,
        index: usize,
        error: ValueError,
        value: &TypedData<'_>,
    ) -> Self {
        let wrong_type = match value {
            // A type of one's own may find NULL to be of the wrong type; it is NULL all the same.
            TypedData::Null => MessageFault::Null,
            value => MessageFault::WrongType(value.type_name()),
        };
        let fault = match error {
            ValueError::Type => wrong_type,
            ValueError::Range => Integer::of(value).map_or(wrong_type, MessageFault::OutOfRange),
            ValueError::Utf8 => {
                let bytes = value.as_bytes().unwrap_or_default();
                let valid = core::str::from_utf8(bytes).map_err(|error| error.valid_up_to());
                let at = valid.err().unwrap_or_default();
                let byte = bytes.get(at).copied().unwrap_or_default();
                MessageFault::NotUtf8 { at, byte }
            }
            ValueError::Headers(error) => MessageFault::Headers(error),
            ValueError::Invalid(reason) => MessageFault::Invalid(reason),
        };
        Self {
            message,
            argument: message.arguments.get(index),
            fault,
        }
    }
}

/// What is wrong with a message, or with an argument of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MessageFault {
    /// The payload is not valid: the whole frame is refused.
    Malformed(DecodeError),
    /// A required argument is not there.
    Missing,
    /// An argument is there twice.
    Duplicate,
    /// A required argument is NULL: HAProxy had nothing to fetch.
    Null,
    /// An argument is of a type that its field does not take: the type's name in the spec.
    WrongType(&'static str),
    /// A number is too large or too small for its field.
    OutOfRange(Integer),
    /// Text is not UTF-8. Take `&[u8]` for what comes from clients.
    NotUtf8 {
        /// Where it stops being UTF-8, in bytes.
        at: usize,
        /// The byte there.
        byte: u8,
    },
    /// A block of headers is not valid.
    Headers(HeadersError),
    /// A type of its own refused the value, for this reason.
    Invalid(&'static str),
    /// No field takes this argument, and the message denies such.
    Unknown(ArgumentName),
}

impl fmt::Display for MessageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "message {}: ", self.message.name)?;
        let (name, expected) = match self.argument {
            Some(argument) => (argument.name, argument.expected),
            None => ("", ""),
        };
        match &self.fault {
            MessageFault::Malformed(error) => return error.fmt(f),
            MessageFault::Unknown(name) => {
                return write!(f, "argument {name} is unknown, and unknown ones are denied");
            }
            MessageFault::Missing => {
                return write!(f, "argument {name} is missing; it must be {expected}");
            }
            MessageFault::Duplicate => {
                return write!(f, "argument {name} must be there once, but is there twice");
            }
            _ => write!(f, "argument {name} must be {expected}, but ")?,
        }
        match &self.fault {
            MessageFault::Null => f.write_str("is NULL"),
            MessageFault::WrongType(found) => write!(f, "is {found}"),
            MessageFault::OutOfRange(found) => write!(f, "is {found}"),
            MessageFault::NotUtf8 { at, byte } => write!(f, "has {byte:#04x} at byte {at}"),
            MessageFault::Headers(error) => write!(f, "is not: {error}"),
            MessageFault::Invalid(reason) => f.write_str(reason),
            _ => Ok(()),
        }
    }
}

impl core::error::Error for MessageError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match &self.fault {
            MessageFault::Malformed(error) => Some(error),
            MessageFault::Headers(error) => Some(error),
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
    bytes: [u8; 22],
    /// Above the length of `bytes` if it was cut.
    len: u8,
}

impl ArgumentName {
    fn new(name: &[u8]) -> Self {
        let mut bytes = [0; 22];
        let kept = name.len().min(bytes.len());
        bytes[..kept].copy_from_slice(&name[..kept]);
        let len = u8::try_from(name.len()).unwrap_or(u8::MAX);
        Self { bytes, len }
    }

    /// The name, or its first 22 bytes.
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
