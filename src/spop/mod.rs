//! The SPOP codec, both sides: `core` only, no I/O, no clock, no allocation, no dependency.
//!
//! Every frame is a length prefix and a body (spec 3.2.1; sizes in bytes):
//!
//! ```text
//!  0        4      5           9            10..          11..
//! +--------+------+-----------+------------+------------+------------------------+
//! | length | type | flags     | stream-id  | frame-id   | payload                |
//! | 4, BE  | 1    | 4, BE     | 1 to 10    | 1 to 10    | to the end of `length` |
//! +--------+------+-----------+------------+------------+------------------------+
//! ```
//!
//! Decoding borrows from the received bytes; encoding goes into the caller's buffer, whole or not
//! at all. What an agent does with a NOTIFY:
//!
//! ```
//! use ringspoa::spop::{AckWriter, Frame, Messages, Scope, Variable};
//!
//! let received = b"\0\0\0\x10\x03\0\0\0\x01\x01\x01\x01m\x01\x01p\x08\x02/x";
//! let (frame, used) = Frame::split(received, 16_380)?.expect("all of it is there");
//! assert_eq!(used, received.len());
//!
//! let mut reply = [0; 256];
//! // One byte less than was agreed: a frame that fills HAProxy's buffer wedges it.
//! let mut ack = AckWriter::begin(&mut reply, 16_379, frame.stream_id, frame.frame_id)?;
//! let mut messages = Messages::new(frame.payload);
//! while let Some(mut message) = messages.next_message()? {
//!     while let Some(argument) = message.next_argument()? {
//!         ack.set_var(Variable::literal(Scope::Transaction, "seen"), argument.value)?;
//!     }
//! }
//! let reply_len = ack.finish();
//! # assert_eq!(reply_len, 23);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! What HAProxy, or a test that plays HAProxy, does with the answer:
//!
//! ```
//! use ringspoa::spop::{Action, Actions, Frame, FrameType, Scope, TypedData};
//!
//! let received = b"\0\0\0\x12\x67\0\0\0\x01\x01\x01\x01\x03\x02\x05score\x04\x07";
//! let (frame, _) = Frame::split(received, 16_380)?.expect("all of it is there");
//! assert_eq!(frame.frame_type, FrameType::Ack);
//! let actions: Result<Vec<_>, _> = Actions::new(frame.payload).collect();
//! let (scope, name) = (Scope::Transaction, &b"score"[..]);
//! assert_eq!(actions?, [Action::SetVar { scope, name, value: TypedData::Int64(7) }]);
//! # Ok::<(), ringspoa::spop::DecodeError>(())
//! ```

#![forbid(unsafe_code)]

mod ack;
mod data;
mod disconnect;
mod error;
mod frame;
mod hello;
mod notify;
mod reader;
mod status;
mod varint;
mod writer;

pub use ack::{AckWriter, Action, Actions, MAX_VARIABLE_LEN, Scope, Variable, VariableError};
pub use data::TypedData;
pub use disconnect::Disconnect;
pub use error::{DecodeError, EncodeError, Field};
pub use frame::{Flags, Frame, FrameId, FrameType, MIN_MAX_FRAME_SIZE, PREFIX_LEN, StreamId};
pub use hello::{AgentHello, HaproxyHello, VERSION};
pub use notify::{Argument, Message, Messages, NotifyWriter};
pub use status::Status;
pub use varint::{MAX_VARINT_LEN, decode_varint, encode_varint, varint_len};
