//! Frames as text for a person: what a server traces, and what a captured stream holds.
//!
//! It takes frames of either side, valid or not, and prints as much as can be read. It knows the
//! codec's public items only, writes into a formatter and allocates nothing. It refuses to know
//! sockets, time and the rules of a connection: who may send what when is for
//! [`Connection`](crate::Connection) to say.
//!
//! Output is printable ASCII whatever the bytes are: names and strings come with escapes, so a peer
//! can neither move the cursor of a terminal nor forge a line of a log.

#![forbid(unsafe_code)]

mod frame;
mod payload;
#[cfg(test)]
mod samples;
mod stream;

pub use frame::FrameDump;
pub use payload::FrameFault;
pub use stream::{StreamDump, StreamItem, dump_stream};
