//! Variables that know the type of their value.

use core::fmt;
use core::marker::PhantomData;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::declaration::VariableDeclaration;
use super::header_blob::{HeaderBlob, HeaderNames};
use super::headers::Headers;
use super::value::ValueTypes;
use crate::spop::{Scope, TypedData, Variable};

/// A variable an agent sets, with the type of its value. Declared once, as a constant, where a wrong
/// name does not compile:
///
/// ```
/// use ringspoa::Var;
///
/// const SCORE: Var<i64> = Var::txn("score");
/// const VERDICT: Var<str> = Var::txn("verdict");
/// # let _ = (SCORE, VERDICT);
/// ```
///
/// ```compile_fail
/// use ringspoa::Var;
/// const WRONG: Var<i64> = Var::txn("ip-score");
/// ```
///
/// [`Reply::set`](crate::Reply::set) takes it with a value of that type. In HAProxy it is
/// `txn.PREFIX.score`, PREFIX being the `option var-prefix` of the `spoe-agent` section, or its name.
pub struct Var<T: ?Sized> {
    variable: Variable<'static>,
    value: PhantomData<fn(&T)>,
}

impl<T: VariableType + ?Sized> Var<T> {
    /// A variable of any scope.
    ///
    /// # Panics
    ///
    /// If the name breaks HAProxy's rules (see [`Variable`]) and this is not evaluated at compile
    /// time; in a `const` such a name does not compile.
    #[must_use]
    pub const fn new(scope: Scope, name: &'static str) -> Self {
        Self {
            variable: Variable::literal(scope, name),
            value: PhantomData,
        }
    }

    /// `sess`: the client's session.
    ///
    /// # Panics
    ///
    /// As [`new`](Self::new).
    #[must_use]
    pub const fn sess(name: &'static str) -> Self {
        Self::new(Scope::Session, name)
    }

    /// `txn`: request and response.
    ///
    /// # Panics
    ///
    /// As [`new`](Self::new).
    #[must_use]
    pub const fn txn(name: &'static str) -> Self {
        Self::new(Scope::Transaction, name)
    }

    /// `req`: the request only.
    ///
    /// # Panics
    ///
    /// As [`new`](Self::new).
    #[must_use]
    pub const fn req(name: &'static str) -> Self {
        Self::new(Scope::Request, name)
    }

    /// `res`: the response only.
    ///
    /// # Panics
    ///
    /// As [`new`](Self::new).
    #[must_use]
    pub const fn res(name: &'static str) -> Self {
        Self::new(Scope::Response, name)
    }

    /// `proc`: the process. HAProxy needs `option force-set-var` for it, or must know it.
    ///
    /// # Panics
    ///
    /// As [`new`](Self::new).
    #[must_use]
    pub const fn proc(name: &'static str) -> Self {
        Self::new(Scope::Process, name)
    }

    /// Scope and name.
    #[must_use]
    pub const fn variable(&self) -> Variable<'static> {
        self.variable
    }

    /// What configurations are made of.
    #[must_use]
    pub const fn declaration(&self) -> VariableDeclaration {
        VariableDeclaration::new(self.variable, T::TYPES)
    }
}

impl<T: ?Sized> Clone for Var<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T: ?Sized> Copy for Var<T> {}

impl<T: ?Sized> fmt::Debug for Var<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Var({})", self.variable)
    }
}

impl<T: ?Sized> fmt::Display for Var<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.variable.fmt(f)
    }
}

/// The type of a variable: what it is set to.
#[diagnostic::on_unimplemented(
    message = "no variable of HAProxy holds `{Self}`",
    label = "no type of a variable",
    note = "a variable is a `bool`, an `i32`, `u32`, `i64` or `u64`, an address, text as `str`, bytes as \
            `[u8]`, a `HeaderBlob` or `HeaderNames`"
)]
pub trait VariableType {
    /// The value.
    type Value<'x>: Into<TypedData<'x>>;

    /// What is read of it again, in tests of agents.
    type Read<'x>;

    /// The data types that this is.
    const TYPES: ValueTypes;

    /// The value again, of what was sent; `None` if it is none.
    fn read(value: TypedData<'_>) -> Option<Self::Read<'_>>;
}

macro_rules! variable_type {
    ($($type:ty, $value:ty, $types:ident, $pattern:pat => $read:expr;)*) => {$(
        impl VariableType for $type {
            type Value<'x> = $value;
            type Read<'x> = $value;

            const TYPES: ValueTypes = ValueTypes::$types;

            fn read(value: TypedData<'_>) -> Option<Self::Read<'_>> {
                match value {
                    $pattern => $read,
                    _ => None,
                }
            }
        }
    )*};
}

variable_type! {
    bool, bool, BOOL, TypedData::Bool(value) => Some(value);
    i32, i32, INT32, TypedData::Int32(value) => Some(value);
    u32, u32, UINT32, TypedData::Uint32(value) => Some(value);
    i64, i64, INT64, TypedData::Int64(value) => Some(value);
    u64, u64, UINT64, TypedData::Uint64(value) => Some(value);
    Ipv4Addr, Ipv4Addr, IPV4, TypedData::Ipv4(value) => Some(value);
    Ipv6Addr, Ipv6Addr, IPV6, TypedData::Ipv6(value) => Some(value);
    IpAddr, IpAddr, ADDRESS, value @ (TypedData::Ipv4(_) | TypedData::Ipv6(_)) => value.as_ip();
    str, &'x str, STRING, TypedData::String(bytes) => core::str::from_utf8(bytes).ok();
    [u8], &'x [u8], BINARY, TypedData::Binary(bytes) => Some(bytes);
}

/// Headers that HAProxy is to set or add: `http-request add-headers-bin var(txn.agent.headers)`, from
/// HAProxy 3.4 on.
impl VariableType for HeaderBlob<'_> {
    type Value<'x> = HeaderBlob<'x>;
    type Read<'x> = Headers<'x>;

    const TYPES: ValueTypes = ValueTypes::BINARY;

    fn read(value: TypedData<'_>) -> Option<Headers<'_>> {
        match value {
            TypedData::Binary(bytes) => Headers::from_binary(bytes).ok(),
            _ => None,
        }
    }
}

/// Headers that HAProxy is to take away: `http-request del-headers-bin var(txn.agent.headers)`, from
/// HAProxy 3.4 on.
impl VariableType for HeaderNames<'_> {
    type Value<'x> = HeaderNames<'x>;
    type Read<'x> = &'x [u8];

    const TYPES: ValueTypes = ValueTypes::BINARY;

    fn read(value: TypedData<'_>) -> Option<&[u8]> {
        match value {
            TypedData::Binary(bytes) => Some(bytes),
            _ => None,
        }
    }
}
