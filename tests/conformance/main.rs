//! What HAProxy, in all its versions since 2.6, needs of an agent: fifty cases, each played to a
//! running server over real sockets. The golden bytes were captured from HAProxy.
//!
//! `regressions.rs` has the mistakes of this server that the cases did not think of.

mod agent;
mod busy_poll;
mod check;
mod connection;
mod framing;
mod hand_over;
mod handshake;
mod limits;
mod memory;
mod notify;
mod output;
mod regressions;
mod reload;
#[path = "../support/mod.rs"]
mod support;

use ringspoa::Driver;

/// Runs a test on `io_uring`, where there is one, and on epoll.
fn on_both_drivers(test: impl Fn(Driver)) {
    test(Driver::Auto);
    test(Driver::Epoll);
}
