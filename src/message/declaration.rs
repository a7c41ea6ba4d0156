//! What an agent takes and sets, as data: configurations are made of it and held against it.

use super::value::ValueTypes;
use crate::spop::Scope;

/// What a message is and when HAProxy sends it: a `spoe-message` section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MessageDeclaration {
    /// The name, as in the `spoe-message` line.
    pub name: &'static str,
    /// Other names that it is taken under, such as those it had before. Configurations made from code
    /// have the name alone.
    pub aliases: &'static [&'static str],
    /// The event, as in the `event` line. `None`: it is for `spoe-group`s, or the code does not say.
    pub event: Option<&'static str>,
    /// What follows the event: `if` or `unless`, and an ACL.
    pub condition: Option<&'static str>,
    /// The arguments in the order of the fields.
    pub arguments: &'static [ArgumentDeclaration],
    /// Whether an argument that is not among them is an error.
    pub denies_unknown_arguments: bool,
}

impl MessageDeclaration {
    /// A message with these arguments; others are skipped.
    #[must_use]
    pub const fn new(name: &'static str, arguments: &'static [ArgumentDeclaration]) -> Self {
        Self {
            name,
            aliases: &[],
            event: None,
            condition: None,
            arguments,
            denies_unknown_arguments: false,
        }
    }

    /// Other names that it is taken under.
    #[must_use]
    pub const fn with_aliases(mut self, aliases: &'static [&'static str]) -> Self {
        self.aliases = aliases;
        self
    }

    /// When HAProxy sends it.
    #[must_use]
    pub const fn with_event(mut self, event: &'static str) -> Self {
        self.event = Some(event);
        self
    }

    /// When HAProxy does not: `if` or `unless`, and an ACL.
    #[must_use]
    pub const fn with_condition(mut self, condition: &'static str) -> Self {
        self.condition = Some(condition);
        self
    }

    /// An argument that is not declared is an error.
    #[must_use]
    pub const fn denying_unknown_arguments(mut self) -> Self {
        self.denies_unknown_arguments = true;
        self
    }

    /// Whether a message of this name is this one: by its name, or by an alias.
    // The aliases are a constant where the message is, so that one without them costs one comparison.
    #[inline(always)]
    #[must_use]
    pub fn is_named(&self, name: &[u8]) -> bool {
        self.name.as_bytes() == name || self.aliases.iter().any(|alias| alias.as_bytes() == name)
    }

    /// The argument that this name, or alias, is read as.
    #[must_use]
    pub fn argument(&self, name: &str) -> Option<&'static ArgumentDeclaration> {
        self.arguments
            .iter()
            .find(|argument| argument.name == name || argument.aliases.contains(&name))
    }
}

/// What an argument is: a word of the `args` line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ArgumentDeclaration {
    /// The name before the `=`.
    pub name: &'static str,
    /// Other names that are taken for it.
    pub aliases: &'static [&'static str],
    /// What HAProxy fetches: the sample expression after the `=`.
    pub sample: Option<&'static str>,
    /// The types of value it may have.
    pub types: ValueTypes,
    /// What it has to be, in words.
    pub expected: &'static str,
    /// Whether a message without it is an error.
    pub is_required: bool,
}

impl ArgumentDeclaration {
    /// A required argument without aliases.
    #[must_use]
    pub const fn new(name: &'static str, types: ValueTypes, expected: &'static str) -> Self {
        Self {
            name,
            aliases: &[],
            sample: None,
            types,
            expected,
            is_required: true,
        }
    }

    /// Other names that are taken for it.
    #[must_use]
    pub const fn with_aliases(mut self, aliases: &'static [&'static str]) -> Self {
        self.aliases = aliases;
        self
    }

    /// What HAProxy fetches.
    #[must_use]
    pub const fn with_sample(mut self, sample: &'static str) -> Self {
        self.sample = Some(sample);
        self
    }

    /// A message may come without it, or with NULL.
    #[must_use]
    pub const fn optional(mut self) -> Self {
        self.is_required = false;
        self.types = self.types.or(ValueTypes::NULL);
        self
    }

    /// Whether a message without it is an error, where that is not known before.
    #[doc(hidden)]
    #[must_use]
    pub const fn required_if(self, is_required: bool) -> Self {
        if is_required { self } else { self.optional() }
    }
}

/// A variable that an agent sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct VariableDeclaration {
    /// Where it lives.
    pub scope: Scope,
    /// Its name, without scope and prefix.
    pub name: &'static str,
    /// The types of value it is set to.
    pub types: ValueTypes,
}

impl VariableDeclaration {
    /// A variable; its name has been checked where it was made.
    #[must_use]
    pub const fn new(variable: crate::spop::Variable<'static>, types: ValueTypes) -> Self {
        Self {
            scope: variable.scope(),
            name: variable.name(),
            types,
        }
    }
}
