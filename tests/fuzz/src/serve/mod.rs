//! What `ringspoa` reads: HAProxy's bytes, and the operator's flags and files.

#![allow(
    dead_code,
    unreachable_pub,
    reason = "the fuzz targets and the test of the corpus each use their part"
)]

mod captcha;
mod challenge;
mod config;
mod connection;
mod control;
mod decisions;
mod haproxy_config;
mod headers;
mod hosts;
mod lapi;
mod list;
mod memory;
mod notify;
mod round_trip;
mod values;

pub use captcha::{form, token};
pub use challenge::{challenge, clearance, scope, solution};
pub use config::{config, flags};
pub use connection::connection;
pub use control::{disconnect, hello};
pub use decisions::{decision_csv, decision_json, decision_lines, duration};
pub use haproxy_config::haproxy_config;
pub use headers::headers;
pub use hosts::host_pattern;
pub use lapi::lapi_answer;
pub use list::list;
pub use notify::{ack, frame, notify};
pub use round_trip::round_trip;
pub use values::{typed_data, varint};

/// Takes any bytes, and panics where something it promises of them does not hold.
pub type Target = fn(&[u8]);

/// Every target here, by the name of its file in `src/bin`.
pub const TARGETS: &[(&str, Target)] = &[
    ("ack", ack),
    ("challenge", challenge),
    ("clearance", clearance),
    ("config", config),
    ("connection", connection),
    ("decision_csv", decision_csv),
    ("decision_json", decision_json),
    ("decision_lines", decision_lines),
    ("disconnect", disconnect),
    ("duration", duration),
    ("flags", flags),
    ("form", form),
    ("frame", frame),
    ("haproxy_config", haproxy_config),
    ("headers", headers),
    ("hello", hello),
    ("host_pattern", host_pattern),
    ("lapi_answer", lapi_answer),
    ("list", list),
    ("notify", notify),
    ("round_trip", round_trip),
    ("scope", scope),
    ("solution", solution),
    ("token", token),
    ("typed_data", typed_data),
    ("varint", varint),
];
