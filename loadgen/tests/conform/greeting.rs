//! How the agent takes a HELLO.

use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use ringspoa::spop::{DecodeError, Frame, FrameId, FrameType, HaproxyHello, Status, StreamId};

use crate::agent::{Agent, MAX_FRAME_SIZE, Next, Session};
use crate::answers::{agent_hello, control};
use crate::faults::Fault;

impl Agent {
    /// The frame that must be HELLO.
    pub(crate) fn first(
        &self,
        frame: &Frame<'_>,
        session: &mut Session,
        mut socket: &TcpStream,
    ) -> Result<Next, DecodeError> {
        if frame.frame_type != FrameType::HaproxyHello {
            if self.is(Fault::AcksBeforeHello) {
                self.ack((frame.stream_id, frame.frame_id), b"", session);
            }
            return Ok(self.goodbye(Status::INVALID, session));
        }
        // Faulty agents take less, or more, than the decoder does.
        let mut hello = match HaproxyHello::decode(frame) {
            Err(DecodeError::BadMaxFrameSize(255)) if self.is(Fault::AcceptsSize255) => {
                session.max_frame_size = Some(255);
                session.output.extend(agent_hello("2.0", 255, "pipelining"));
                return Ok(Next::GoOn);
            }
            hello => hello?,
        };
        let contains = |bytes: &[u8]| {
            let mut windows = frame.payload.windows(bytes.len());
            windows.any(|window| window == bytes)
        };
        let refused = match self.fault {
            Fault::RefusesNoCapabilities => hello.capabilities.is_empty() && !hello.healthcheck,
            Fault::WantsEngineId => hello.engine_id.is_none() && !hello.healthcheck,
            Fault::WantsKnownKeys => contains(b"\x02x1"),
            Fault::ComparesVersionList => hello.supported_versions != b"2.0",
            Fault::RefusesLargeFrames => hello.max_frame_size > 65_536,
            Fault::WantsUint32 => !contains(b"max-frame-size\x03"),
            Fault::RefusesChecks => hello.healthcheck,
            _ => false,
        };
        if refused {
            return Ok(self.goodbye(Status::INVALID, session));
        }
        if !hello.supports_version_2() && self.fault != Fault::AcceptsVersion1 {
            return Ok(self.goodbye(Status::BAD_VERSION, session));
        }
        if self.is(Fault::FixedFrameSize) {
            hello.max_frame_size = 16_380;
        }
        let agreed = hello.max_frame_size.min(MAX_FRAME_SIZE);
        session.max_frame_size = Some(agreed);
        session.is_check = hello.healthcheck;
        let offers_async = hello.has_capability("async");
        let capabilities = match self.fault {
            Fault::AnnouncesAsync if offers_async => "pipelining,async",
            Fault::HangsOnUnannouncedFragments => "pipelining",
            _ => "pipelining,fragmentation",
        };
        let (version, size) = match self.fault {
            Fault::Version21 => ("2.1", agreed),
            Fault::SizeAboveOffer => ("2.0", agreed + 4),
            Fault::SizeTooSmall => ("2.0", 128),
            _ => ("2.0", agreed),
        };
        let mut reply = agent_hello(version, size, capabilities);
        match self.fault {
            Fault::HelloWithoutFin => reply[8] = 0,
            Fault::HelloWithIds => reply[9] = 1,
            Fault::CheckWithOtherFlags if hello.healthcheck => reply[8] = 3,
            Fault::NoCapabilities => {
                reply = control(
                    101,
                    &[
                        ("version", b"\x08\x032.0"),
                        ("max-frame-size", b"\x03\xfc\xf0\x06"),
                    ],
                );
            }
            Fault::NoFrameSize => {
                reply = control(
                    101,
                    &[("version", b"\x08\x032.0"), ("capabilities", b"\x08\x00")],
                );
            }
            Fault::KeyOfTheSameStart => {
                reply.extend_from_slice(b"\x0cversion-info\x08\x031.2");
                let len = u32::try_from(reply.len() - 4).unwrap();
                reply[..4].copy_from_slice(&len.to_be_bytes());
            }
            Fault::HelloInTwoWrites => {
                // The second is in the session's output.
                socket.write_all(&reply[..20]).ok();
                std::thread::sleep(Duration::from_millis(20));
                reply.drain(..20);
            }
            _ => {}
        }
        session.output.extend_from_slice(&reply);
        if hello.healthcheck {
            match self.fault {
                Fault::CheckThenDisconnect => {
                    return Ok(self.goodbye(Status::NORMAL, session));
                }
                Fault::CheckRunsHandler => self.ack((StreamId(0), FrameId(0)), b"", session),
                _ => {}
            }
        }
        Ok(Next::GoOn)
    }
}
