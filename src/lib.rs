//! An io_uring, thread-per-core SPOA server for HAProxy.
#![cfg_attr(not(any(feature = "std", test)), no_std)]

#[cfg(feature = "std")]
#[cfg_attr(
    not(feature = "server"),
    allow(dead_code, reason = "only a server dispatches")
)]
mod agent;
#[cfg(feature = "std")]
pub mod agents;
#[cfg(feature = "std")]
mod connection;
#[cfg(feature = "server")]
mod server;
pub mod spop;

#[cfg(feature = "std")]
pub use agent::{Agent, AgentError, Fallback, Reply, Ticket};
#[cfg(feature = "std")]
pub use connection::{
    CloseReason, Connection, DEFAULT_MAX_FRAME_SIZE, Event, LARGEST_MAX_FRAME_SIZE, Limits,
    MAX_REPLY_LEN, NotifyId, State, Violation,
};
#[cfg(feature = "server")]
pub use server::{
    ConfigError, Cores, Driver, ListenAddress, Server, ServerConfig, ServerHandle, StartError,
    Stats,
};
