//! HAProxy's configuration, made from declarations.
//!
//! It knows which sections, lines and timeouts each version of HAProxy wants for an agent, how words are
//! quoted in them, and what HAProxy calls the variables. It refuses to know where files lie and what runs:
//! it makes text, and nothing else.

#![forbid(unsafe_code)]

mod error;
mod fetches;
mod render;
mod version;
mod words;

pub use error::ConfigTextError;
pub use render::SpoeConfig;
pub use version::{HaproxyVersion, HaproxyVersionError};
pub(crate) use words::quoted;
