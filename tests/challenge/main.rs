//! The agent that validates browsers as a whole: messages in, variables out, with a clock that tests set.
//! Numbers in names and comments are those of what it is to withstand.

#[path = "../asked/mod.rs"]
mod asked;
mod berghain;
mod captcha;
mod configuration;
mod garbage;
mod hosts;
mod keys;
mod levels;
mod no_js;
mod pbkdf2;
mod site;
mod tokens;
mod visits;
mod work;
