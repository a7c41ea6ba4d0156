//! Typed messages: a struct with borrowed fields is a SPOE message, a constant is a variable.
//!
//! It knows how the arguments of a message become the fields of a struct and back, which errors that
//! may end in, what HAProxy has to send for it, and the type of a variable. Like the codec it is `core`
//! only and allocates nothing; it refuses to know what agents do with a message.

#![forbid(unsafe_code)]

mod declaration;
mod error;
mod header_blob;
mod headers;
mod value;
mod variable;

pub use declaration::{ArgumentDeclaration, MessageDeclaration, VariableDeclaration};
pub use error::{ArgumentName, Integer, MessageError, MessageFault};
pub use header_blob::{
    HeaderBlob, HeaderBlobWriter, HeaderError, HeaderNames, HeaderNamesWriter, MAX_HEADER_NAME_LEN,
};
pub use headers::{Cookie, Cookies, Header, HeaderValues, Headers, HeadersError, HeadersIter};
pub use value::{ArgumentValue, ValueError, ValueTypes};
pub use variable::{Var, VariableType};

use crate::spop::{self, EncodeError, NotifyWriter};

/// A SPOE message as a struct: what `#[derive(Message)]` implements.
///
/// ```
/// use std::net::IpAddr;
///
/// use ringspoa::Message;
/// use ringspoa::spop::Messages;
///
/// #[derive(Debug, PartialEq, Message)]
/// #[spop(name = "check-client-ip", event = "on-frontend-http-request")]
/// struct CheckClientIp<'a> {
///     #[spop(sample = "src")]
///     ip: IpAddr,
///     #[spop(name = "ua", sample = "req.hdr(user-agent)")]
///     user_agent: Option<&'a [u8]>,
///     #[spop(sample = "dst_port")]
///     port: u16,
/// }
///
/// // What HAProxy sends for `args port=dst_port ip=src`: their order is of no account.
/// let payload = b"\x0fcheck-client-ip\x02\x04port\x04\xf0\x0d\x02ip\x06\xc0\x00\x02\x01";
/// let mut messages = Messages::new(payload);
/// let mut message = messages.next_message()?.expect("there is one");
/// let check = CheckClientIp::decode(&mut message)?;
/// assert_eq!(check.port, 448);
/// assert_eq!(check.ip, IpAddr::from([192, 0, 2, 1]));
/// assert_eq!(check.user_agent, None);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Attributes
///
/// On the struct, in `#[spop(...)]`:
///
/// | | |
/// |---|---|
/// | `name = "check-client-ip"` | the message's name; without it, the struct's name in kebab-case |
/// | `event = "on-frontend-http-request"` | when HAProxy sends it, for configurations made from code |
/// | `condition = "if { path_beg /api }"` | when it does not, for the same |
/// | `deny_unknown_arguments` | an argument that no field takes is an error, and not skipped |
/// | `crate = "path"` | where this crate is, if it was renamed |
///
/// On a field:
///
/// | | |
/// |---|---|
/// | `name = "ua"` | the argument's name; without it, the field's |
/// | `alias = "agent"` | another name that is taken for it; repeatable |
/// | `sample = "req.hdr(user-agent)"` | what HAProxy fetches for it, for configurations made from code |
/// | `default` | `Default::default()` where it is missing or NULL |
///
/// A field's type is anything that is an [`ArgumentValue`]: numbers, addresses, text, bytes, headers,
/// `Option` of each for what may be missing or NULL, and types of your own.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no message",
    label = "no message",
    note = "add `#[derive(ringspoa::Message)]` to it"
)]
pub trait Message {
    /// The same message, borrowing for some other lifetime.
    type Of<'a>: Message;

    /// Its name, its arguments, and when HAProxy sends it.
    const DECLARATION: MessageDeclaration;

    /// Reads the arguments, in whatever order they come, in one pass.
    ///
    /// The name of the message is not looked at: whoever calls this has done so.
    ///
    /// # Errors
    ///
    /// The first argument that is not what its field takes, or the first field that has none.
    fn decode<'a>(message: &mut spop::Message<'_, 'a>) -> Result<Self::Of<'a>, MessageError>;

    /// Writes the message into a NOTIFY: HAProxy's side, for tests and load generators. A field that
    /// is `None` is sent as NULL, as HAProxy sends a fetch that failed.
    ///
    /// # Errors
    ///
    /// `Full` if it does not fit.
    fn encode(&self, notify: &mut NotifyWriter<'_>) -> Result<(), EncodeError>;
}

/// What derived code calls. Not for anybody else.
#[doc(hidden)]
pub mod derived {
    pub use core::default::Default;
    pub use core::option::Option::{self, None, Some};
    pub use core::result::Result::{self, Ok};

    use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    use super::{ArgumentValue, MessageDeclaration, MessageError, ValueError};
    use crate::spop::{Argument, TypedData};

    /// A field while arguments are read: one of the two is used, by its type.
    ///
    /// Addresses are numbers meanwhile: an `IpAddr` has them at odd offsets, which the compiler carries
    /// through the loop over arguments byte by byte, for 30 instructions more.
    #[derive(Debug)]
    pub struct Slot<T> {
        value: Option<T>,
        /// 0, 4 or 6.
        version: u8,
        v4: u32,
        v6: u128,
    }

    // Bounds are those of the methods: where a field's type is none, the compiler then says so in words of
    // the trait.
    impl<T> Slot<T> {
        /// The field has not been met.
        #[inline(always)]
        pub const fn empty() -> Self {
            Self {
                value: None,
                version: 0,
                v4: 0,
                v6: 0,
            }
        }

        /// The field is met.
        #[inline(always)]
        pub fn fill<'a>(
            &mut self,
            message: &'static MessageDeclaration,
            index: usize,
            value: TypedData<'a>,
            rest: &'a [u8],
        ) -> Result<(), MessageError>
        where
            T: ArgumentValue<'a>,
        {
            if self.value.is_some() || self.version != 0 {
                return Err(MessageError::duplicate(message, index));
            }
            if T::IS_ADDRESS
                && let Some(address) = value.as_ip()
            {
                match address {
                    IpAddr::V4(address) => {
                        (self.version, self.v4) = (4, u32::from_ne_bytes(address.octets()));
                    }
                    IpAddr::V6(address) => {
                        (self.version, self.v6) = (6, address.to_bits());
                    }
                }
                return Ok(());
            }
            match T::read(value) {
                Some(value) => self.value = Some(value),
                None => return Err(refused::<T>(message, index, rest)),
            }
            Ok(())
        }

        /// As [`fill`](Self::fill) for a field with a default: NULL is as good as nothing.
        #[inline(always)]
        pub fn fill_or_default<'a>(
            &mut self,
            message: &'static MessageDeclaration,
            index: usize,
            value: TypedData<'a>,
            rest: &'a [u8],
        ) -> Result<(), MessageError>
        where
            T: ArgumentValue<'a> + Default,
        {
            match value {
                TypedData::Null if self.value.is_none() && self.version == 0 => {
                    self.value = Some(T::default());
                    Ok(())
                }
                value => self.fill(message, index, value, rest),
            }
        }

        #[inline(always)]
        fn take_if_there<'a>(self) -> Option<T>
        where
            T: ArgumentValue<'a>,
        {
            match self.version {
                0 => self.value,
                4 => T::from_address(IpAddr::V4(Ipv4Addr::from(self.v4.to_ne_bytes()))),
                _ => T::from_address(IpAddr::V6(Ipv6Addr::from_bits(self.v6))),
            }
        }

        /// The value once all arguments are read.
        #[inline(always)]
        pub fn take<'a>(
            self,
            message: &'static MessageDeclaration,
            index: usize,
        ) -> Result<T, MessageError>
        where
            T: ArgumentValue<'a>,
        {
            match self.take_if_there() {
                Some(value) => Ok(value),
                None => T::missing().ok_or_else(|| MessageError::missing(message, index)),
            }
        }

        /// As [`take`](Self::take) for a field with a default.
        #[inline(always)]
        pub fn take_or_default<'a>(
            self,
            _: &'static MessageDeclaration,
            _: usize,
        ) -> Result<T, MessageError>
        where
            T: ArgumentValue<'a> + Default,
        {
            Ok(self.take_if_there().unwrap_or_default())
        }
    }

    /// Asks a value that could not be read for the reason. It is decoded once more for that: one that is
    /// handed over has to be in memory, and is then put there each time, 10 instructions an argument.
    #[cold]
    #[inline(never)]
    fn refused<'a, T: ArgumentValue<'a>>(
        message: &'static MessageDeclaration,
        index: usize,
        rest: &'a [u8],
    ) -> MessageError {
        let value = Argument::first_of(rest).map_or(TypedData::Null, |argument| argument.value);
        let error = T::from_value(value).err().unwrap_or(ValueError::Type);
        MessageError::value(message, index, error, &value)
    }
}
