//! Outbound calls against stub servers on loopback.

mod calls;
mod stub;
