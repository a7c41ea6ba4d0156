//! An `io_uring`, thread-per-core SPOA server for HAProxy: the agent that answers the questions
//! HAProxy asks over SPOP (doc/SPOE.txt of HAProxy, "the spec" in these pages).
//!
//! Four things in one crate, each usable without the next:
//!
//! - [`spop`], the codec: both sides of the protocol, `core` only, without allocation.
//! - [`Connection`], the rules of one connection as a state machine without I/O (feature `std`).
//! - [`Server`], which serves an [`Agent`] on every core (feature `server`, on by default).
//! - [`outbound`], which makes the HTTP(S) calls of agents on a thread of its own (feature `outbound`,
//!   on by default).
//!
//! On them stand [`Message`], [`Var`] and [`Router`] for agents of typed messages, [`Harness`] and
//! [`TestHaproxy`] for their tests, and [`SpoeConfig`] for HAProxy's configuration, which
//! [`haproxy_config`] holds against them too. Beside them, [`FrameDump`] and [`dump_stream`] print frames
//! for people (all of feature `std`). [`outbound`] makes the HTTP(S) calls of agents, on a thread of its own
//! (feature `outbound`, on by default).
//!
//! An agent takes messages and sets variables. This one tells HAProxy which backend to use:
//!
//! ```no_run
//! # #[cfg(feature = "server")]
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use ringspoa::{Message, Router, Server, ServerConfig, Var};
//!
//! // What HAProxy sends.
//! #[derive(Message)]
//! #[spop(name = "route", event = "on-frontend-http-request")]
//! struct Route<'a> {
//!     #[spop(sample = "path")]
//!     path: &'a [u8],
//! }
//!
//! // What it gets; the name is checked when this is compiled.
//! const BACKEND: Var<str> = Var::txn("backend");
//!
//! let agent = |_core| {
//!     Ok(Router::new("router", ()).on::<Route<'_>>(|(), route, reply| {
//!         let is_api = route.path.starts_with(b"/api/");
//!         Ok(reply.set(BACKEND, if is_api { "api" } else { "www" })?)
//!     }))
//! };
//! Server::start(ServerConfig::default(), agent)?.join()?;
//! # Ok(())
//! # }
//! # #[cfg(not(feature = "server"))]
//! # fn main() {}
//! ```
//!
//! The [`manual`] goes on from here: typed messages, slow work, testing, HAProxy's configuration,
//! timeouts, deploying, how it works, and coming from another library.
//!
//! Whatever an agent does (answers, fails, panics, writes more than fits, or draws a [`Ticket`] and
//! never sends it), HAProxy gets exactly one ACK for each NOTIFY.
//!
//! Features: `cli` (default) is what the `ringspoa` binary needs beside `server`; a library user
//! who wants the server takes `default-features = false, features = ["server"]`. `derive` is
//! `#[derive(Message)]` alone. Without any, the crate is the codec and has no dependency.

#![cfg_attr(not(any(feature = "std", test)), no_std)]

// What the derive macro makes names this crate, also in here.
#[cfg(feature = "derive")]
#[allow(unused_extern_crates, reason = "by the macro's output only")]
extern crate self as ringspoa;

#[cfg(feature = "server")]
mod admin;
#[cfg(feature = "std")]
#[cfg_attr(
    not(feature = "server"),
    allow(dead_code, reason = "only a server dispatches")
)]
mod agent;
#[cfg(feature = "std")]
pub mod agents;
#[cfg(feature = "remediation")]
mod background;
#[cfg(feature = "std")]
#[cfg_attr(
    not(feature = "server"),
    allow(dead_code, reason = "only a server counts and hands over")
)]
mod connection;
#[cfg(feature = "std")]
mod dump;
#[cfg(feature = "std")]
pub mod haproxy_config;
#[cfg(feature = "std")]
mod harness;
#[cfg(any(doc, doctest))]
pub mod manual;
mod message;
#[cfg(feature = "server")]
mod metrics;
#[cfg(feature = "outbound")]
pub mod outbound;
#[cfg(feature = "server")]
mod server;
#[cfg(feature = "remediation")]
pub mod sources;
pub mod spop;

#[cfg(feature = "server")]
pub use admin::{Admin, AdminError, Shows, is_local};
#[cfg(feature = "std")]
pub use agent::{
    Agent, AgentDeclaration, AgentError, DEFAULT_AGENT_DEADLINE, Fallback, OtherMessages, Reply,
    Router, Routes, Ticket,
};
#[cfg(feature = "std")]
pub use connection::{
    Admission, CloseReason, Connection, DEFAULT_MAX_FRAME_SIZE, Event, LARGEST_MAX_FRAME_SIZE,
    Limits, MAX_REPLY_LEN, NotifyId, State, Violation,
};
#[cfg(feature = "std")]
pub use dump::{FrameDump, FrameFault, StreamDump, StreamItem, dump_stream};
#[cfg(feature = "std")]
pub use haproxy_config::{ConfigTextError, HaproxyVersion, HaproxyVersionError, SpoeConfig};
#[cfg(feature = "std")]
pub use harness::{
    Ack, Harness, IntoNotify, Pending, TestAnswer, TestClient, TestHaproxy, TestHaproxyError,
};
#[doc(hidden)]
pub use message::derived;
pub use message::{
    ArgumentDeclaration, ArgumentName, ArgumentValue, Cookie, Cookies, Header, HeaderBlob,
    HeaderBlobWriter, HeaderError, HeaderNames, HeaderNamesWriter, HeaderValues, Headers,
    HeadersError, HeadersIter, Integer, MAX_HEADER_NAME_LEN, Message, MessageDeclaration,
    MessageError, MessageFault, ValueError, ValueTypes, Var, VariableDeclaration, VariableType,
};
#[cfg(feature = "derive")]
pub use ringspoa_derive::Message;

#[cfg(feature = "server")]
pub use metrics::{Exposition, Family, Kind, Value};
#[cfg(feature = "server")]
pub use server::{
    ConfigError, Cores, Driver, InheritedSocket, ListenAddress, ReloadError, Server, ServerConfig,
    ServerHandle, StartError, Stats, WorkerPanicked, families, group_id, receive_listeners,
    user_id,
};
