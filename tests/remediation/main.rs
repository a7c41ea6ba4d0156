//! The agent of HTTP traffic as HAProxy meets it: messages in, variables out, with providers and AppSec
//! that answer what a test has them answer.

mod appsec;
mod captcha;
mod config;
mod orders;
mod site;
mod vectors;
