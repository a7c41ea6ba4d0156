//! Values of arguments: typed data on the wire, fields in Rust.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::headers::{Headers, HeadersError};
use crate::spop::TypedData;

/// What a field of a [`Message`](crate::Message) may be.
///
/// Implement it for types of your own:
///
/// ```
/// use ringspoa::{ArgumentValue, Message, ValueError, ValueTypes};
/// use ringspoa::spop::TypedData;
///
/// #[derive(Clone, Copy, Debug, PartialEq)]
/// enum Method { Get, Post, Other }
///
/// impl<'a> ArgumentValue<'a> for Method {
///     const TYPES: ValueTypes = ValueTypes::STRING;
///     const EXPECTED: &'static str = "an HTTP method";
///
///     fn from_value(value: TypedData<'a>) -> Result<Self, ValueError> {
///         match value.as_bytes().ok_or(ValueError::Type)? {
///             b"GET" => Ok(Self::Get),
///             b"POST" => Ok(Self::Post),
///             b"" => Err(ValueError::Invalid("is empty")),
///             _ => Ok(Self::Other),
///         }
///     }
///
///     fn to_value(&self) -> TypedData<'_> {
///         TypedData::from(match self {
///             Self::Get => "GET",
///             Self::Post => "POST",
///             Self::Other => "OPTIONS",
///         })
///     }
/// }
///
/// #[derive(Message)]
/// #[spop(name = "request")]
/// struct Request {
///     method: Method,
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be read from an argument",
    label = "no argument of a message is this",
    note = "a field of a message is a number, a `bool`, an address, text as `&str`, bytes as `&[u8]`, \
            `Headers`, or an `Option` of these",
    note = "implement `ArgumentValue` for a type of your own"
)]
pub trait ArgumentValue<'a>: Sized {
    /// The types that [`from_value`](Self::from_value) may take: a configuration that sends others is
    /// found wrong before it runs.
    const TYPES: ValueTypes;

    /// What it has to be, for errors: "an address".
    const EXPECTED: &'static str;

    /// Reads it.
    ///
    /// # Errors
    ///
    /// Why it is none; names, types and numbers are added to that.
    fn from_value(value: TypedData<'a>) -> Result<Self, ValueError>;

    /// Writes it, as HAProxy would: for tests of agents.
    fn to_value(&self) -> TypedData<'_>;

    /// Whether this is an [`IpAddr`] or made of one.
    #[doc(hidden)]
    const IS_ADDRESS: bool = false;

    /// This, of an address.
    #[doc(hidden)]
    #[inline(always)]
    fn from_address(_: IpAddr) -> Option<Self> {
        None
    }

    /// The same as [`from_value`](Self::from_value), without the reason. Reading is done by it, and the
    /// reason asked for where there is one.
    // A `Result` with a reason in it goes through memory piece by piece: 30 instructions a field.
    #[doc(hidden)]
    #[inline(always)]
    fn read(value: TypedData<'a>) -> Option<Self> {
        Self::from_value(value).ok()
    }

    /// What it is where the argument is missing; `None` if that is an error.
    #[inline]
    #[must_use]
    fn missing() -> Option<Self> {
        None
    }
}

/// Why a value is not what it has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ValueError {
    /// It is of another type, or NULL.
    Type,
    /// It is a number beyond what is allowed.
    Range,
    /// It is no UTF-8.
    Utf8,
    /// It is no block of headers.
    Headers(HeadersError),
    /// Anything else: what it is, without a subject, as in "is empty".
    Invalid(&'static str),
}

/// A set of data types.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ValueTypes(u16);

impl ValueTypes {
    /// NULL: a fetch that failed.
    pub const NULL: Self = Self(1 << 0);
    /// BOOL.
    pub const BOOL: Self = Self(1 << 1);
    /// INT32.
    pub const INT32: Self = Self(1 << 2);
    /// UINT32.
    pub const UINT32: Self = Self(1 << 3);
    /// INT64, of which every integer is that HAProxy sends.
    pub const INT64: Self = Self(1 << 4);
    /// UINT64.
    pub const UINT64: Self = Self(1 << 5);
    /// IPV4.
    pub const IPV4: Self = Self(1 << 6);
    /// IPV6.
    pub const IPV6: Self = Self(1 << 7);
    /// STRING.
    pub const STRING: Self = Self(1 << 8);
    /// BINARY.
    pub const BINARY: Self = Self(1 << 9);
    /// The four integer types.
    pub const INTEGER: Self = Self::INT32
        .or(Self::UINT32)
        .or(Self::INT64)
        .or(Self::UINT64);
    /// Both kinds of address.
    pub const ADDRESS: Self = Self::IPV4.or(Self::IPV6);
    /// Text and binary.
    pub const BYTES: Self = Self::STRING.or(Self::BINARY);
    /// All ten.
    pub const ANY: Self = Self(0x3ff);

    const NAMES: [&'static str; 10] = [
        "NULL", "BOOL", "INT32", "UINT32", "INT64", "UINT64", "IPV4", "IPV6", "STRING", "BINARY",
    ];

    /// The types of both sets.
    #[must_use]
    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether the sets have a type in common.
    #[must_use]
    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Whether all of the other set are in this one.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The set with this value's type in it.
    #[must_use]
    pub const fn of(value: &TypedData<'_>) -> Self {
        match value {
            TypedData::Null => Self::NULL,
            TypedData::Bool(_) => Self::BOOL,
            TypedData::Int32(_) => Self::INT32,
            TypedData::Uint32(_) => Self::UINT32,
            TypedData::Int64(_) => Self::INT64,
            TypedData::Uint64(_) => Self::UINT64,
            TypedData::Ipv4(_) => Self::IPV4,
            TypedData::Ipv6(_) => Self::IPV6,
            TypedData::String(_) => Self::STRING,
            TypedData::Binary(_) => Self::BINARY,
        }
    }
}

/// The spec's names, as in `IPV4 or IPV6`.
impl fmt::Display for ValueTypes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for (index, name) in Self::NAMES.iter().enumerate() {
            if self.0 & (1 << index) != 0 {
                write!(f, "{separator}{name}")?;
                separator = " or ";
            }
        }
        Ok(())
    }
}

impl fmt::Debug for ValueTypes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ValueTypes({self})")
    }
}

/// Missing and NULL are `None`.
impl<'a, T: ArgumentValue<'a>> ArgumentValue<'a> for Option<T> {
    const TYPES: ValueTypes = T::TYPES.or(ValueTypes::NULL);
    const EXPECTED: &'static str = T::EXPECTED;
    const IS_ADDRESS: bool = T::IS_ADDRESS;

    #[inline(always)]
    fn from_value(value: TypedData<'a>) -> Result<Self, ValueError> {
        match value {
            TypedData::Null => Ok(None),
            value => T::from_value(value).map(Some),
        }
    }

    #[inline(always)]
    fn read(value: TypedData<'a>) -> Option<Self> {
        match value {
            TypedData::Null => Some(None),
            value => T::read(value).map(Some),
        }
    }

    #[inline(always)]
    fn from_address(address: IpAddr) -> Option<Self> {
        T::from_address(address).map(Some)
    }

    fn to_value(&self) -> TypedData<'_> {
        self.as_ref().map_or(TypedData::Null, T::to_value)
    }

    #[inline(always)]
    fn missing() -> Option<Self> {
        Some(None)
    }
}

/// Whatever it is.
impl<'a> ArgumentValue<'a> for TypedData<'a> {
    const TYPES: ValueTypes = ValueTypes::ANY;
    const EXPECTED: &'static str = "a value";

    #[inline(always)]
    fn from_value(value: TypedData<'a>) -> Result<Self, ValueError> {
        Ok(value)
    }

    fn to_value(&self) -> TypedData<'_> {
        *self
    }
}

/// All headers of a request or a response: `req.hdrs` or `req.hdrs_bin`, `res.hdrs` or `res.hdrs_bin`.
impl<'a> ArgumentValue<'a> for Headers<'a> {
    const TYPES: ValueTypes = ValueTypes::BYTES;
    const EXPECTED: &'static str = "a block of headers";

    fn from_value(value: TypedData<'a>) -> Result<Self, ValueError> {
        if value.as_bytes().is_none() {
            return Err(ValueError::Type);
        }
        Self::from_value(value).map_err(ValueError::Headers)
    }

    fn to_value(&self) -> TypedData<'_> {
        self.as_value()
    }
}

impl<'a> ArgumentValue<'a> for bool {
    const TYPES: ValueTypes = ValueTypes::BOOL;
    const EXPECTED: &'static str = "a boolean";

    #[inline(always)]
    fn from_value(value: TypedData<'a>) -> Result<Self, ValueError> {
        value.as_bool().ok_or(ValueError::Type)
    }

    #[inline(always)]
    fn read(value: TypedData<'a>) -> Option<Self> {
        value.as_bool()
    }

    fn to_value(&self) -> TypedData<'_> {
        TypedData::Bool(*self)
    }
}

/// Bytes of a STRING or BINARY, as they came.
impl<'a> ArgumentValue<'a> for &'a [u8] {
    const TYPES: ValueTypes = ValueTypes::BYTES;
    const EXPECTED: &'static str = "text or bytes";

    #[inline(always)]
    fn from_value(value: TypedData<'a>) -> Result<Self, ValueError> {
        value.as_bytes().ok_or(ValueError::Type)
    }

    #[inline(always)]
    fn read(value: TypedData<'a>) -> Option<Self> {
        value.as_bytes()
    }

    /// STRING, which is what HAProxy sends of text; an agent that tells the two apart takes
    /// [`TypedData`].
    fn to_value(&self) -> TypedData<'_> {
        TypedData::String(self)
    }
}

/// Text of a STRING that is UTF-8.
impl<'a> ArgumentValue<'a> for &'a str {
    const TYPES: ValueTypes = ValueTypes::STRING;
    const EXPECTED: &'static str = "UTF-8 text";

    #[inline(always)]
    fn from_value(value: TypedData<'a>) -> Result<Self, ValueError> {
        match value {
            TypedData::String(bytes) => core::str::from_utf8(bytes).map_err(|_| ValueError::Utf8),
            _ => Err(ValueError::Type),
        }
    }

    #[inline(always)]
    fn read(value: TypedData<'a>) -> Option<Self> {
        value.as_str()
    }

    fn to_value(&self) -> TypedData<'_> {
        TypedData::from(*self)
    }
}

/// An address of either kind; an IPv4 address mapped to IPv6 is the IPv4 one it is.
impl<'a> ArgumentValue<'a> for IpAddr {
    const TYPES: ValueTypes = ValueTypes::ADDRESS;
    const EXPECTED: &'static str = "an IP address";
    const IS_ADDRESS: bool = true;

    #[inline(always)]
    fn from_value(value: TypedData<'a>) -> Result<Self, ValueError> {
        value.as_ip().ok_or(ValueError::Type)
    }

    #[inline(always)]
    fn read(value: TypedData<'a>) -> Option<Self> {
        value.as_ip()
    }

    #[inline(always)]
    fn from_address(address: IpAddr) -> Option<Self> {
        Some(address)
    }

    fn to_value(&self) -> TypedData<'_> {
        TypedData::from(*self)
    }
}

impl<'a> ArgumentValue<'a> for Ipv4Addr {
    const TYPES: ValueTypes = ValueTypes::IPV4;
    const EXPECTED: &'static str = "an IPv4 address";

    #[inline(always)]
    fn from_value(value: TypedData<'a>) -> Result<Self, ValueError> {
        match value {
            TypedData::Ipv4(address) => Ok(address),
            _ => Err(ValueError::Type),
        }
    }

    fn to_value(&self) -> TypedData<'_> {
        TypedData::Ipv4(*self)
    }
}

impl<'a> ArgumentValue<'a> for Ipv6Addr {
    const TYPES: ValueTypes = ValueTypes::IPV6;
    const EXPECTED: &'static str = "an IPv6 address";

    #[inline(always)]
    fn from_value(value: TypedData<'a>) -> Result<Self, ValueError> {
        match value {
            TypedData::Ipv6(address) => Ok(address),
            _ => Err(ValueError::Type),
        }
    }

    fn to_value(&self) -> TypedData<'_> {
        TypedData::Ipv6(*self)
    }
}

/// Integers come of any of the four types, and are written as the INT64 that HAProxy sends; what is
/// above that, as UINT64.
macro_rules! integer {
    ($($integer:ty: $expected:literal),* $(,)?) => {$(
        impl<'a> ArgumentValue<'a> for $integer {
            const TYPES: ValueTypes = ValueTypes::INTEGER;
            const EXPECTED: &'static str = $expected;

            #[inline(always)]
            fn from_value(value: TypedData<'a>) -> Result<Self, ValueError> {
                match value {
                    TypedData::Int64(value) => Self::try_from(value),
                    TypedData::Int32(value) => Self::try_from(i64::from(value)),
                    TypedData::Uint32(value) => Self::try_from(i64::from(value)),
                    TypedData::Uint64(value) => {
                        return Self::try_from(value).map_err(|_| ValueError::Range);
                    }
                    _ => return Err(ValueError::Type),
                }
                .map_err(|_| ValueError::Range)
            }

            #[inline(always)]
            fn read(value: TypedData<'a>) -> Option<Self> {
                match value {
                    TypedData::Uint64(value) => Self::try_from(value).ok(),
                    value => Self::try_from(value.as_i64()?).ok(),
                }
            }

            fn to_value(&self) -> TypedData<'_> {
                let value = i128::from(*self);
                match (i64::try_from(value), u64::try_from(value)) {
                    (Ok(value), _) => TypedData::Int64(value),
                    (_, Ok(value)) => TypedData::Uint64(value),
                    _ => TypedData::Null,
                }
            }
        }
    )*};
}

integer! {
    u8: "an integer from 0 to 255",
    u16: "an integer from 0 to 65535",
    u32: "an integer from 0 to 4294967295",
    u64: "an integer that is not negative",
    i8: "an integer from -128 to 127",
    i16: "an integer from -32768 to 32767",
    i32: "an integer from -2147483648 to 2147483647",
    i64: "an integer below 2^63",
}
