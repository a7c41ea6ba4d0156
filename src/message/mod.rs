//! Typed messages: a struct with borrowed fields is a SPOE message, a constant is a variable.
//!
//! It knows how the arguments of a message become the fields of a struct and back, which errors that
//! may end in, what HAProxy has to send for it, and the type of a variable. Like the codec it is `core`
//! only and allocates nothing; it refuses to know what agents do with a message.

#![forbid(unsafe_code)]

mod declaration;
mod error;
mod value;
mod variable;

pub use declaration::{ArgumentDeclaration, MessageDeclaration, VariableDeclaration};
pub use error::{ArgumentName, Integer, MessageError, MessageFault};
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

    use super::{ArgumentValue, MessageError};
    use crate::spop::TypedData;

    /// Fills the slot of a field.
    #[inline(always)]
    pub fn fill<'a, T: ArgumentValue<'a>>(
        slot: &mut Option<T>,
        message: &'static str,
        argument: &'static str,
        value: TypedData<'a>,
    ) -> Result<(), MessageError> {
        if slot.is_some() {
            return Err(MessageError::duplicate(message, argument));
        }
        match T::from_value(value) {
            Ok(value) => *slot = Some(value),
            Err(error) => {
                return Err(MessageError::value(
                    message,
                    argument,
                    T::EXPECTED,
                    error,
                    value,
                ));
            }
        }
        Ok(())
    }

    /// Fills the slot of a field with a default: NULL is as good as nothing.
    #[inline(always)]
    pub fn fill_or_default<'a, T: ArgumentValue<'a> + Default>(
        slot: &mut Option<T>,
        message: &'static str,
        argument: &'static str,
        value: TypedData<'a>,
    ) -> Result<(), MessageError> {
        if value == TypedData::Null && slot.is_none() {
            *slot = Some(T::default());
            return Ok(());
        }
        fill(slot, message, argument, value)
    }

    /// The value of a field once all arguments are read.
    #[inline(always)]
    pub fn take<'a, T: ArgumentValue<'a>>(
        slot: Option<T>,
        message: &'static str,
        argument: &'static str,
    ) -> Result<T, MessageError> {
        match slot {
            Some(value) => Ok(value),
            None => match T::missing() {
                Some(value) => Ok(value),
                None => Err(MessageError::missing(message, argument, T::EXPECTED)),
            },
        }
    }

    /// The value of a field with a default.
    #[inline(always)]
    pub fn take_or_default<T: Default>(slot: Option<T>) -> T {
        slot.unwrap_or_default()
    }
}
