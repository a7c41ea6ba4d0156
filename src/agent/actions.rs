//! Actions apart from a frame: of tickets, which may be on any thread, and of the fallback.

use bytes::BytesMut;

use crate::spop::{Action, EncodeError, TypedData, Variable};

/// Encoded actions, apart from a frame.
#[derive(Clone, Debug, Default)]
pub(super) struct ActionList {
    pub(super) bytes: BytesMut,
    pub(super) max_len: usize,
}

impl ActionList {
    pub(super) fn set_var<'x>(
        &mut self,
        variable: Variable<'_>,
        value: impl Into<TypedData<'x>>,
    ) -> Result<(), EncodeError> {
        let (scope, name) = (variable.scope(), variable.name().as_bytes());
        self.append(Action::SetVar {
            scope,
            name,
            value: value.into(),
        })
    }

    pub(super) fn unset_var(&mut self, variable: Variable<'_>) -> Result<(), EncodeError> {
        self.append(Action::UnsetVar {
            scope: variable.scope(),
            name: variable.name().as_bytes(),
        })
    }

    fn append(&mut self, action: Action<'_>) -> Result<(), EncodeError> {
        let start = self.bytes.len();
        self.bytes.resize(start + action.max_encoded_len(), 0);
        let result = action.encode(&mut self.bytes[start..]);
        let end = start + result.unwrap_or(0);
        let fits = end <= self.max_len;
        self.bytes.truncate(if fits { end } else { start });
        result.and(if fits { Ok(()) } else { Err(EncodeError::Full) })
    }
}
