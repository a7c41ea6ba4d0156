//! ACK: actions on HAProxy's variables (spec 3.2.7, 3.4).

use core::fmt;

use super::data::TypedData;
use super::error::{DecodeError, EncodeError};
use super::frame::{Flags, FrameId, FrameType, FrameWriter, PREFIX_LEN, StreamId};
use super::reader::Reader;
#[cfg(feature = "std")]
use super::varint::MAX_VARINT_LEN;
use super::writer::Writer;

const SET_VAR: u8 = 1;
const SET_VAR_ARGUMENTS: u8 = 3;
const UNSET_VAR: u8 = 2;
const UNSET_VAR_ARGUMENTS: u8 = 2;

/// Where a variable lives, and for how long (spec 3.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// `proc`: the process. Needs `option force-set-var`, or a variable HAProxy knows.
    Process,
    /// `sess`: the client's session.
    Session,
    /// `txn`: request and response.
    Transaction,
    /// `req`: the request only; not settable while the response is processed.
    Request,
    /// `res`: the response only; not settable while the request is processed.
    Response,
}

impl Scope {
    pub(crate) const fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            0 => Self::Process,
            1 => Self::Session,
            2 => Self::Transaction,
            3 => Self::Request,
            4 => Self::Response,
            _ => return None,
        })
    }

    const fn code(self) -> u8 {
        match self {
            Self::Process => 0,
            Self::Session => 1,
            Self::Transaction => 2,
            Self::Request => 3,
            Self::Response => 4,
        }
    }

    /// The scope as HAProxy's configuration writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Process => "proc",
            Self::Session => "sess",
            Self::Transaction => "txn",
            Self::Request => "req",
            Self::Response => "res",
        }
    }

    /// The scope of a word of HAProxy's configuration.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [
            Self::Process,
            Self::Session,
            Self::Transaction,
            Self::Request,
            Self::Response,
        ]
        .into_iter()
        .find(|scope| scope.as_str() == name)
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The longest scope and name together. HAProxy builds `scope.prefix.name` in 64 bytes, NUL
/// included, and drops what is longer; the prefix (`option var-prefix`) takes its part of them.
pub const MAX_VARIABLE_LEN: usize = 61;

/// A variable an agent may set: a scope and a checked name, without HAProxy's prefix.
///
/// HAProxy ignores names with other characters than `[A-Za-z0-9_.]` and names that are too long,
/// without a word to the agent; here they cannot be made.
///
/// ```
/// use ringspoa::spop::{Scope, Variable};
///
/// // Checked when this is compiled.
/// const SCORE: Variable<'static> = Variable::literal(Scope::Transaction, "score");
/// // Checked when it is made.
/// assert!(Variable::new(Scope::Session, "not-a-name").is_err());
/// ```
///
/// ```compile_fail
/// use ringspoa::spop::{Scope, Variable};
/// const WRONG: Variable<'static> = Variable::literal(Scope::Transaction, "ip-score");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Variable<'n> {
    scope: Scope,
    name: &'n str,
}

impl<'n> Variable<'n> {
    /// Checks the name.
    ///
    /// # Errors
    ///
    /// Which of HAProxy's rules the name breaks.
    pub const fn new(scope: Scope, name: &'n str) -> Result<Self, VariableError> {
        let bytes = name.as_bytes();
        if bytes.is_empty() {
            return Err(VariableError::Empty);
        }
        if scope.as_str().len() + bytes.len() > MAX_VARIABLE_LEN {
            return Err(VariableError::TooLong);
        }
        let mut index = 0;
        while index < bytes.len() {
            if !(bytes[index].is_ascii_alphanumeric() || matches!(bytes[index], b'_' | b'.')) {
                return Err(VariableError::Character(bytes[index]));
            }
            index += 1;
        }
        Ok(Self { scope, name })
    }

    /// A name known to be right; in a `const` a wrong one does not compile.
    ///
    /// # Panics
    ///
    /// If the name breaks HAProxy's rules and this is not evaluated at compile time.
    #[must_use]
    pub const fn literal(scope: Scope, name: &'n str) -> Self {
        match Self::new(scope, name) {
            Ok(variable) => variable,
            Err(VariableError::Empty) => panic!("a variable name is not empty"),
            Err(VariableError::TooLong) => {
                panic!("a variable's scope and name take at most 61 bytes")
            }
            Err(VariableError::Character(_)) => {
                panic!("a variable name has only letters, digits, '_' and '.'")
            }
        }
    }

    /// The scope.
    #[must_use]
    pub const fn scope(&self) -> Scope {
        self.scope
    }

    /// The name, without scope and prefix.
    #[must_use]
    pub const fn name(&self) -> &'n str {
        self.name
    }
}

impl fmt::Display for Variable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.scope, self.name)
    }
}

/// Which of HAProxy's rules for variable names is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum VariableError {
    /// The name is empty.
    Empty,
    /// Scope and name take more than [`MAX_VARIABLE_LEN`] bytes.
    TooLong,
    /// A byte other than a letter, a digit, `_` and `.`.
    Character(u8),
}

impl fmt::Display for VariableError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("variable name is empty"),
            Self::TooLong => {
                write!(f, "variable scope and name exceed {MAX_VARIABLE_LEN} bytes")
            }
            Self::Character(byte) => write!(
                f,
                "variable name has '{}': only letters, digits, '_' and '.' are allowed",
                byte.escape_ascii()
            ),
        }
    }
}

impl core::error::Error for VariableError {}

/// One action of an ACK, as received (spec 3.4). Names are as they came, unchecked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action<'a> {
    /// Set a variable.
    SetVar {
        /// Where.
        scope: Scope,
        /// Its name, without scope and prefix.
        name: &'a [u8],
        /// What to.
        value: TypedData<'a>,
    },
    /// Unset a variable.
    UnsetVar {
        /// Where.
        scope: Scope,
        /// Its name, without scope and prefix.
        name: &'a [u8],
    },
}

impl Action<'_> {
    /// Room that [`encode`](Self::encode) is sure to be content with.
    #[cfg(feature = "std")]
    pub(crate) const fn max_encoded_len(&self) -> usize {
        // Code, count, scope, two varints, type byte, the widest fixed value.
        const OVERHEAD: usize = 3 + 2 * MAX_VARINT_LEN + 1 + 16;
        match self {
            Self::SetVar {
                name,
                value: TypedData::String(value) | TypedData::Binary(value),
                ..
            } => OVERHEAD + name.len() + value.len(),
            Self::SetVar { name, .. } | Self::UnsetVar { name, .. } => OVERHEAD + name.len(),
        }
    }

    /// Writes the action at the front of `out` and returns its bytes.
    #[cfg(feature = "std")]
    pub(crate) fn encode(&self, out: &mut [u8]) -> Result<usize, EncodeError> {
        let mut writer = Writer::new(out);
        self.write(&mut writer)?;
        Ok(writer.position())
    }

    #[inline(always)]
    fn write(&self, writer: &mut Writer<'_>) -> Result<(), EncodeError> {
        match *self {
            Self::SetVar { scope, name, value } => {
                writer.bytes(&[SET_VAR, SET_VAR_ARGUMENTS, scope.code()])?;
                writer.string(name)?;
                value.write(writer)
            }
            Self::UnsetVar { scope, name } => {
                writer.bytes(&[UNSET_VAR, UNSET_VAR_ARGUMENTS, scope.code()])?;
                writer.string(name)
            }
        }
    }
}

/// The actions of an ACK payload, in order (spec 3.2.7). Ends after the first error, as HAProxy
/// does, though HAProxy says nothing of it.
#[derive(Clone, Debug)]
pub struct Actions<'a> {
    reader: Reader<'a>,
}

impl<'a> Actions<'a> {
    /// The actions of an ACK payload.
    #[must_use]
    pub const fn new(payload: &'a [u8]) -> Self {
        Self {
            reader: Reader::new(payload),
        }
    }
}

impl<'a> Action<'a> {
    fn read(reader: &mut Reader<'a>) -> Option<Self> {
        let (code, count) = (reader.byte()?, reader.byte()?);
        let expected = match code {
            SET_VAR => SET_VAR_ARGUMENTS,
            UNSET_VAR => UNSET_VAR_ARGUMENTS,
            other => return reader.fail(DecodeError::UnknownAction(other)),
        };
        if count != expected {
            return reader.fail(DecodeError::WrongActionArguments(count));
        }
        let scope = reader.byte()?;
        let Some(scope) = Scope::from_code(scope) else {
            return reader.fail(DecodeError::UnknownScope(scope));
        };
        let name = reader.string()?;
        Some(if code == SET_VAR {
            Self::SetVar {
                scope,
                name,
                value: TypedData::read(reader)?,
            }
        } else {
            Self::UnsetVar { scope, name }
        })
    }
}

impl<'a> Iterator for Actions<'a> {
    type Item = Result<Action<'a>, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.reader.is_empty() {
            return None;
        }
        let action = self.reader.decode(Action::read);
        if action.is_err() {
            self.reader.poison();
        }
        Some(action)
    }
}

/// Writes an ACK frame, action by action, each whole or not at all.
///
/// ```
/// use ringspoa::spop::{AckWriter, FrameId, Scope, StreamId, Variable};
///
/// let mut out = [0; 256];
/// let mut ack = AckWriter::begin(&mut out, 16_379, StreamId(1), FrameId(1))?;
/// ack.set_var(Variable::literal(Scope::Transaction, "score"), 7_i64)?;
/// let len = ack.finish();
/// assert_eq!(&out[..len], b"\0\0\0\x12\x67\0\0\0\x01\x01\x01\x01\x03\x02\x05score\x04\x07");
/// # Ok::<(), ringspoa::spop::EncodeError>(())
/// ```
#[derive(Debug)]
pub struct AckWriter<'b> {
    frame: FrameWriter<'b>,
    /// Where the actions begin.
    start: usize,
    overflowed: bool,
}

impl<'b> AckWriter<'b> {
    /// Starts an ACK at the front of `out`, of at most `max_frame_size` bytes after the prefix.
    ///
    /// # Errors
    ///
    /// `Full` if not even the header fits.
    #[inline]
    pub fn begin(
        out: &'b mut [u8],
        max_frame_size: u32,
        stream_id: StreamId,
        frame_id: FrameId,
    ) -> Result<Self, EncodeError> {
        let frame = FrameWriter::begin(
            out,
            max_frame_size,
            FrameType::Ack,
            Flags::FIN,
            stream_id,
            frame_id,
        )?;
        let start = frame.writer.position();
        Ok(Self {
            frame,
            start,
            overflowed: false,
        })
    }

    /// Sets a variable. HAProxy takes `TypedData::Null` as unsetting it.
    ///
    /// # Errors
    ///
    /// `Full` if it does not fit: nothing is written then, and [`overflowed`](Self::overflowed)
    /// says so from then on.
    #[inline(always)]
    pub fn set_var<'x>(
        &mut self,
        variable: Variable<'_>,
        value: impl Into<TypedData<'x>>,
    ) -> Result<(), EncodeError> {
        let (scope, name) = (variable.scope, variable.name.as_bytes());
        self.append(Action::SetVar {
            scope,
            name,
            value: value.into(),
        })
    }

    /// Unsets a variable.
    ///
    /// # Errors
    ///
    /// As [`set_var`](Self::set_var).
    #[inline(always)]
    pub fn unset_var(&mut self, variable: Variable<'_>) -> Result<(), EncodeError> {
        let (scope, name) = (variable.scope, variable.name.as_bytes());
        self.append(Action::UnsetVar { scope, name })
    }

    #[inline(always)]
    fn append(&mut self, action: Action<'_>) -> Result<(), EncodeError> {
        let writer = &mut self.frame.writer;
        let start = writer.position();
        let result = action.write(writer);
        if result.is_err() {
            writer.rewind(start);
            self.overflowed = true;
        }
        result
    }

    /// Appends actions encoded before, as [`Action::encode`] writes them.
    ///
    /// # Errors
    ///
    /// As [`set_var`](Self::set_var).
    #[cfg(feature = "std")]
    pub(crate) fn append_encoded(&mut self, actions: &[u8]) -> Result<(), EncodeError> {
        let result = self.frame.writer.bytes(actions);
        self.overflowed |= result.is_err();
        result
    }

    /// The actions so far, as [`Action::encode`] writes them.
    #[cfg(feature = "std")]
    pub(crate) fn actions(&self) -> &[u8] {
        self.frame.writer.written_from(self.start)
    }

    /// Whether an action did not fit since the start or the last [`clear`](Self::clear).
    #[inline]
    #[must_use]
    pub const fn overflowed(&self) -> bool {
        self.overflowed
    }

    /// Whether there is no action yet.
    #[inline]
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.frame.writer.position() == self.start
    }

    /// Takes all actions back.
    #[inline]
    pub const fn clear(&mut self) {
        self.frame.writer.rewind(self.start);
        self.overflowed = false;
    }

    /// Ends the frame and returns the bytes used, prefix included.
    #[inline]
    #[must_use]
    pub fn finish(self) -> usize {
        debug_assert!(
            self.frame.writer.position() >= PREFIX_LEN,
            "begin wrote the header"
        );
        self.frame.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: Variable<'static> = Variable::literal(Scope::Transaction, "name");

    #[test]
    fn names_are_checked_by_haproxys_rules() {
        assert_eq!(Variable::new(Scope::Request, ""), Err(VariableError::Empty));
        assert_eq!(
            Variable::new(Scope::Request, "a-b"),
            Err(VariableError::Character(b'-'))
        );
        assert_eq!(
            Variable::new(Scope::Request, "a\0b"),
            Err(VariableError::Character(0))
        );
        let longest = "n".repeat(MAX_VARIABLE_LEN - 3);
        assert!(Variable::new(Scope::Request, &longest).is_ok());
        assert_eq!(
            Variable::new(Scope::Session, &longest),
            Err(VariableError::TooLong)
        );
    }

    #[test]
    fn an_action_that_does_not_fit_leaves_nothing() {
        let mut whole = [0; 128];
        let mut ack = AckWriter::begin(&mut whole, 256, StreamId(1), FrameId(1)).unwrap();
        ack.set_var(NAME, "value").unwrap();
        let one = ack.finish();
        for room in one..one + 14 {
            let mut out = [0; 128];
            let mut ack = AckWriter::begin(&mut out[..room], 256, StreamId(1), FrameId(1)).unwrap();
            ack.set_var(NAME, "value").unwrap();
            assert_eq!(ack.set_var(NAME, "value"), Err(EncodeError::Full));
            assert!(ack.overflowed());
            assert_eq!(ack.finish(), one);
            assert_eq!(out[..one], whole[..one]);
        }
    }

    #[test]
    fn the_frame_size_limit_counts_without_the_prefix() {
        let mut out = [0; 512];
        let mut ack = AckWriter::begin(&mut out, 256, StreamId(1), FrameId(1)).unwrap();
        // 7 header, 3 + 5 name, 1 type, 1 length: 239 bytes of value are exactly 256.
        assert_eq!(ack.set_var(NAME, &[0; 240][..]), Err(EncodeError::Full));
        ack.clear();
        ack.set_var(NAME, &[0; 239][..]).unwrap();
        assert_eq!(ack.finish(), 256 + PREFIX_LEN);
    }

    #[test]
    fn both_actions_in_all_scopes_round_trip() {
        let scopes = [
            Scope::Process,
            Scope::Session,
            Scope::Transaction,
            Scope::Request,
            Scope::Response,
        ];
        let mut out = [0; 512];
        let mut ack = AckWriter::begin(&mut out, 512, StreamId(1), FrameId(1)).unwrap();
        for scope in scopes {
            assert_eq!(Scope::from_name(scope.as_str()), Some(scope));
            ack.set_var(Variable::literal(scope, "a"), -1_i32).unwrap();
            ack.unset_var(Variable::literal(scope, "b")).unwrap();
        }
        let len = ack.finish();
        let mut actions = Actions::new(&out[PREFIX_LEN + 7..len]);
        for scope in scopes {
            let set = Action::SetVar {
                scope,
                name: b"a",
                value: TypedData::Int32(-1),
            };
            assert_eq!(actions.next(), Some(Ok(set)));
            assert_eq!(
                actions.next(),
                Some(Ok(Action::UnsetVar { scope, name: b"b" }))
            );
        }
        assert_eq!(actions.next(), None);
    }

    #[test]
    fn bad_actions_end_the_list() {
        let cases: [(&[u8], DecodeError); 5] = [
            (&[3, 0], DecodeError::UnknownAction(3)),
            (&[1, 2], DecodeError::WrongActionArguments(2)),
            (&[2, 2, 5], DecodeError::UnknownScope(5)),
            (&[2, 2, 0, 2, b'a'], DecodeError::Truncated),
            (&[1], DecodeError::Truncated),
        ];
        for (bytes, error) in cases {
            let mut actions = Actions::new(bytes);
            assert_eq!(actions.next(), Some(Err(error)));
            assert_eq!(actions.next(), None);
        }
    }
}
