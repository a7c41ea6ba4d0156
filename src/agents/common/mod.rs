//! What several agents need: hosts and their patterns, questions to others (`outside`), providers of captchas
//! (`provider`), forms, and secrets of configurations.

pub(super) mod form;
pub(super) mod hosts;
pub(super) mod outside;
pub(super) mod provider;
pub(super) mod secret;
