//! Outbound calls against stub servers on loopback.

mod breaker;
mod calls;
mod failures;
mod limits;
mod places;
mod stop;
mod streams;
mod stub;
mod tls;
