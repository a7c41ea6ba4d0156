//! NOTIFY: messages and their arguments (spec 3.2.6).

use super::data::TypedData;
use super::error::{DecodeError, EncodeError};
use super::frame::{Flags, FrameId, FrameType, FrameWriter, StreamId};
use super::reader::Reader;

/// The messages of a NOTIFY payload, read in one pass.
///
/// The arguments of a message are read from the same cursor, so a message borrows the list until
/// it is let go; what is left of it is skipped then. The first error ends the list and stays: an
/// agent may drop it, [`finish`](Self::finish) reports it again.
///
/// ```
/// use ringspoa::spop::{Messages, TypedData};
///
/// // One message "m" with one argument p="/x".
/// let mut messages = Messages::new(b"\x01m\x01\x01p\x08\x02/x");
/// while let Some(mut message) = messages.next_message()? {
///     assert_eq!(message.name(), b"m");
///     while let Some(argument) = message.next_argument()? {
///         assert_eq!((argument.name, argument.value), (&b"p"[..], TypedData::String(b"/x")));
///     }
/// }
/// # Ok::<(), ringspoa::spop::DecodeError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Messages<'a> {
    rest: &'a [u8],
    /// Arguments of the last message that were not read yet.
    unread: u8,
}

/// The name of a message, and what was left before and after it.
#[cfg(feature = "std")]
pub(crate) type WholeMessage<'a> = (&'a [u8], core::ops::Range<usize>);

// An error leaves the cursor before what could not be read, so that whoever reads on meets it
// again. Nothing else has to be remembered, and what a loop over arguments changes stays in
// registers: that, and inlining all of it, is worth 2.5 times.

impl<'a> Messages<'a> {
    /// The messages of a whole NOTIFY payload; a fragmented one must be reassembled first.
    #[inline]
    #[must_use]
    pub const fn new(payload: &'a [u8]) -> Self {
        Self {
            rest: payload,
            unread: 0,
        }
    }

    /// What was not read yet. At the beginning it starts with the name of the first message: one
    /// byte of length, or more if that is 240 or above, then the name.
    #[cfg(feature = "std")]
    #[inline(always)]
    pub(crate) const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Passes over the next message: its name, and what was left before and after it, so that whoever
    /// divides a payload among several readers knows where to cut. `None` after the last.
    #[cfg(feature = "std")]
    #[inline]
    pub(crate) fn next_whole(&mut self) -> Result<Option<WholeMessage<'a>>, DecodeError> {
        if self.unread > 0 {
            self.skip_unread()?;
        }
        let before = self.rest.len();
        let Some(message) = self.next_message()? else {
            return Ok(None);
        };
        let name = message.name();
        while self.next_argument()?.is_some() {}
        Ok(Some((name, self.rest.len()..before)))
    }

    /// The next message, or `None` after the last. An empty NOTIFY, which HAProxy 3.1 to 3.3 send
    /// when no message's condition holds, has none.
    ///
    /// # Errors
    ///
    /// Those of [`TypedData::decode`], here or in the arguments skipped on the way.
    #[inline(always)]
    pub fn next_message(&mut self) -> Result<Option<Message<'_, 'a>>, DecodeError> {
        if self.unread > 0 {
            self.skip_unread()?;
        }
        if self.rest.is_empty() {
            return Ok(None);
        }
        let mut reader = Reader::new(self.rest);
        let (name, count) = reader.decode(read_header)?;
        self.unread = count;
        self.rest = reader.rest();
        Ok(Some(Message {
            name,
            messages: self,
            failed: false,
        }))
    }

    /// Reads what was not read, so that every byte of the payload has been checked.
    ///
    /// # Errors
    ///
    /// The first error met, also if it was reported before.
    #[inline]
    pub fn finish(&mut self) -> Result<(), DecodeError> {
        if self.unread == 0 && self.rest.is_empty() {
            return Ok(());
        }
        self.skip_all()
    }

    #[inline(never)]
    fn skip_all(&mut self) -> Result<(), DecodeError> {
        while self.next_message()?.is_some() {}
        Ok(())
    }

    #[inline(never)]
    fn skip_unread(&mut self) -> Result<(), DecodeError> {
        while self.next_argument()?.is_some() {}
        Ok(())
    }

    #[inline(always)]
    fn next_argument(&mut self) -> Result<Option<Argument<'a>>, DecodeError> {
        if self.unread == 0 {
            return Ok(None);
        }
        let mut reader = Reader::new(self.rest);
        let argument = reader.decode(Argument::read)?;
        self.rest = reader.rest();
        self.unread -= 1;
        Ok(Some(argument))
    }
}

/// The name of a message and how many arguments it has.
#[inline(always)]
fn read_header<'a>(reader: &mut Reader<'a>) -> Option<(&'a [u8], u8)> {
    Some((reader.string()?, reader.byte()?))
}

/// One message: its name, and its arguments in order (spec 3.2.6).
#[derive(Debug)]
pub struct Message<'m, 'a> {
    name: &'a [u8],
    messages: &'m mut Messages<'a>,
    /// Whether the iterator has reported an error: one that repeated it would be endless.
    failed: bool,
}

impl<'a> Message<'_, 'a> {
    /// The name, as in the `spoe-message` line.
    #[inline]
    #[must_use]
    pub const fn name(&self) -> &'a [u8] {
        self.name
    }

    /// What is left of the payload, beginning with the next argument. For derived code, which so need
    /// not keep a value in case that it has to say why it is wrong.
    #[doc(hidden)]
    #[inline(always)]
    #[must_use]
    pub const fn rest(&self) -> &'a [u8] {
        self.messages.rest
    }

    /// How many arguments were not read yet.
    #[inline]
    #[must_use]
    pub const fn remaining(&self) -> u8 {
        self.messages.unread
    }

    /// The next argument, or `None` after the last.
    ///
    /// # Errors
    ///
    /// Those of [`TypedData::decode`].
    #[inline(always)]
    pub fn next_argument(&mut self) -> Result<Option<Argument<'a>>, DecodeError> {
        self.messages.next_argument()
    }
}

/// The arguments not read yet, for `for` loops and iterator chains. An error is the last item.
impl<'a> Iterator for Message<'_, 'a> {
    type Item = Result<Argument<'a>, DecodeError>;

    #[inline(always)]
    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let item = self.next_argument().transpose();
        self.failed = matches!(item, Some(Err(_)));
        item
    }
}

/// One argument. The name is empty if the configuration gave none; names may repeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Argument<'a> {
    /// The name, any bytes.
    pub name: &'a [u8],
    /// The value.
    pub value: TypedData<'a>,
}

impl<'a> Argument<'a> {
    /// An argument to send; an empty name is an unnamed one.
    #[must_use]
    pub fn new(name: &'a str, value: impl Into<TypedData<'a>>) -> Self {
        Self {
            name: name.as_bytes(),
            value: value.into(),
        }
    }

    /// The argument at the front of what is left of a message.
    pub(crate) fn first_of(rest: &'a [u8]) -> Option<Self> {
        Self::read(&mut Reader::new(rest))
    }

    #[inline(always)]
    fn read(reader: &mut Reader<'a>) -> Option<Self> {
        Some(Self {
            name: reader.string()?,
            value: TypedData::read(reader)?,
        })
    }
}

/// Writes a NOTIFY frame: HAProxy's side, for tests of agents and for load generators.
///
/// ```
/// use ringspoa::spop::{Argument, FrameId, NotifyWriter, StreamId};
///
/// let mut out = [0; 256];
/// let mut notify = NotifyWriter::begin(&mut out, 16_380, StreamId(1), FrameId(1))?;
/// notify.message("m", [Argument::new("p", "/x")])?;
/// let len = notify.finish();
/// assert_eq!(&out[..len], b"\0\0\0\x10\x03\0\0\0\x01\x01\x01\x01m\x01\x01p\x08\x02/x");
/// # Ok::<(), ringspoa::spop::EncodeError>(())
/// ```
#[derive(Debug)]
pub struct NotifyWriter<'b> {
    frame: FrameWriter<'b>,
}

impl<'b> NotifyWriter<'b> {
    /// Starts a NOTIFY at the front of `out`, of at most `max_frame_size` bytes after the prefix.
    ///
    /// # Errors
    ///
    /// `Full` if not even the header fits.
    pub fn begin(
        out: &'b mut [u8],
        max_frame_size: u32,
        stream_id: StreamId,
        frame_id: FrameId,
    ) -> Result<Self, EncodeError> {
        let frame = FrameWriter::begin(
            out,
            max_frame_size,
            FrameType::Notify,
            Flags::FIN,
            stream_id,
            frame_id,
        )?;
        Ok(Self { frame })
    }

    /// Appends one message, whole or not at all.
    ///
    /// # Errors
    ///
    /// `Full` if it does not fit, `TooManyArguments` above 255.
    pub fn message<'x>(
        &mut self,
        name: &str,
        arguments: impl IntoIterator<Item = Argument<'x>>,
    ) -> Result<(), EncodeError> {
        let start = self.frame.writer.position();
        let result = self.write_message(name, arguments);
        if result.is_err() {
            self.frame.writer.rewind(start);
        }
        result
    }

    fn write_message<'x>(
        &mut self,
        name: &str,
        arguments: impl IntoIterator<Item = Argument<'x>>,
    ) -> Result<(), EncodeError> {
        let writer = &mut self.frame.writer;
        writer.string(name.as_bytes())?;
        let count_at = writer.position();
        writer.byte(0)?;
        let mut count: u8 = 0;
        for argument in arguments {
            count = count.checked_add(1).ok_or(EncodeError::TooManyArguments)?;
            writer.string(argument.name)?;
            argument.value.write(writer)?;
        }
        writer.patch(count_at, &[count]);
        Ok(())
    }

    /// Ends the frame and returns the bytes used, prefix included.
    #[must_use]
    pub fn finish(self) -> usize {
        self.frame.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(out: &mut [u8; 512]) -> &[u8] {
        let mut notify = NotifyWriter::begin(out, 512, StreamId(1), FrameId(1)).unwrap();
        notify
            .message("first", [Argument::new("a", 1_i64), Argument::new("", "x")])
            .unwrap();
        notify.message("second", []).unwrap();
        notify
            .message(
                "first",
                [Argument::new("a", 2_i64), Argument::new("a", true)],
            )
            .unwrap();
        let len = notify.finish();
        &out[11..len]
    }

    #[test]
    fn unread_arguments_are_skipped() {
        let mut out = [0; 512];
        let mut messages = Messages::new(payload(&mut out));
        let mut message = messages.next_message().unwrap().unwrap();
        assert_eq!((message.name(), message.remaining()), (&b"first"[..], 2));
        assert_eq!(message.next_argument(), Ok(Some(Argument::new("a", 1_i64))));
        assert_eq!(message.remaining(), 1);
        assert_eq!(messages.next_message().unwrap().unwrap().name(), b"second");
        let third = messages.next_message().unwrap().unwrap();
        let arguments: Result<Vec<_>, _> = third.collect();
        assert_eq!(
            arguments,
            Ok(vec![Argument::new("a", 2_i64), Argument::new("a", true)])
        );
        assert!(messages.next_message().unwrap().is_none());
    }

    #[test]
    fn every_cut_is_an_error_or_a_message_boundary() {
        let mut out = [0; 512];
        let whole = payload(&mut out);
        let ends: Vec<usize> = {
            let mut messages = Messages::new(whole);
            let mut ends = vec![0];
            while messages.next_message().unwrap().is_some() {
                messages.skip_unread().unwrap();
                ends.push(whole.len() - messages.rest.len());
            }
            ends
        };
        assert_eq!(ends.len(), 4);
        for cut in 0..=whole.len() {
            let result = Messages::new(&whole[..cut]).finish();
            assert_eq!(result.is_ok(), ends.contains(&cut), "cut at {cut}");
        }
    }

    #[test]
    fn an_error_stays() {
        let mut messages = Messages::new(b"\x01m\x02\x00\x0c\x00\x00");
        let error = DecodeError::UnknownDataType(12);
        let message = messages.next_message().unwrap().unwrap();
        assert_eq!(message.collect::<Vec<_>>(), [Err(error)]);
        assert_eq!(messages.next_message().err(), Some(error));
        assert_eq!(messages.finish(), Err(error));
    }

    #[test]
    fn a_message_that_does_not_fit_leaves_nothing() {
        let mut out = [0; 64];
        let mut notify = NotifyWriter::begin(&mut out, 64, StreamId(1), FrameId(1)).unwrap();
        notify.message("m", []).unwrap();
        let big = [Argument::new("a", &[0; 64][..])];
        assert_eq!(notify.message("m", big), Err(EncodeError::Full));
        let many = core::iter::repeat_n(Argument::new("", false), 256);
        let mut wide = [0; 1024];
        let mut other = NotifyWriter::begin(&mut wide, 1024, StreamId(1), FrameId(1)).unwrap();
        assert_eq!(other.message("m", many), Err(EncodeError::TooManyArguments));
        assert_eq!(other.finish(), 11);
        assert_eq!(notify.finish(), 14);
        assert_eq!(&out[11..14], b"\x01m\x00");
    }
}
