//! What `ringspoa` reads: HAProxy's bytes, and the operator's flags and files.

#![allow(
    dead_code,
    unreachable_pub,
    reason = "the fuzz targets and the test of the corpus each use their part"
)]

mod captcha;
mod config;
mod connection;
mod control;
mod haproxy_config;
mod headers;
mod hosts;
mod list;
mod memory;
mod notify;
mod round_trip;
mod values;

pub use captcha::{form, token};
pub use config::{config, flags};
pub use connection::connection;
pub use control::{disconnect, hello};
pub use haproxy_config::haproxy_config;
pub use headers::headers;
pub use hosts::host_pattern;
pub use list::list;
pub use notify::{ack, frame, notify};
pub use round_trip::round_trip;
pub use values::{typed_data, varint};

/// Takes any bytes, and panics where something it promises of them does not hold.
pub type Target = fn(&[u8]);

/// Every target here, by the name of its file in `src/bin`.
pub const TARGETS: &[(&str, Target)] = &[
    ("ack", ack),
    ("config", config),
    ("connection", connection),
    ("disconnect", disconnect),
    ("flags", flags),
    ("form", form),
    ("frame", frame),
    ("haproxy_config", haproxy_config),
    ("headers", headers),
    ("hello", hello),
    ("host_pattern", host_pattern),
    ("list", list),
    ("notify", notify),
    ("round_trip", round_trip),
    ("token", token),
    ("typed_data", typed_data),
    ("varint", varint),
];
