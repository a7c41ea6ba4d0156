//! Typed messages, variables, routes and the harness, as somebody who writes an agent meets them.

mod decode;
mod harness;
mod names;
mod pair;
mod router;
