//! The conformance check against an agent that keeps every rule, and against the same agent with one
//! fault at a time: each is found by its rule, for its reason.

mod agent;
mod answers;
mod cli;
mod faults;
mod greeting;
mod handler;
