//! What the agent makes of a NOTIFY.

use std::io::Write;
use std::net::TcpStream;
use std::sync::PoisonError;
use std::time::Duration;

use ringspoa::spop::{DecodeError, FrameId, Messages, Status, StreamId, TypedData};

use crate::agent::{Agent, Next, Session};
use crate::answers::{ack_frame, actions, is_private, sign_extended};
use crate::faults::Fault;

impl Agent {
    /// The handler: what the agent says to a NOTIFY.
    pub(crate) fn notify(
        &self,
        stream_id: StreamId,
        frame_id: FrameId,
        payload: &[u8],
        session: &mut Session,
        socket: &TcpStream,
    ) -> Result<Next, DecodeError> {
        session.notifies += 1;
        let (mut listed, mut known, mut count, mut arguments) = (false, false, 0, 0);
        let (mut null, mut unused_type) = (false, false);
        let mut messages = Messages::new(payload);
        loop {
            let result = messages.next_message();
            let message = if self.is(Fault::LosesFragments) {
                result.unwrap_or(None)
            } else {
                result?
            };
            let Some(message) = message else { break };
            count += 1;
            known |= message.name() == b"check-client-ip";
            for argument in message {
                let argument = if self.is(Fault::LosesFragments) {
                    let Ok(argument) = argument else { break };
                    argument
                } else {
                    argument?
                };
                arguments += 1;
                listed |= argument
                    .value
                    .as_ip()
                    .is_some_and(|ip| ip.is_ipv4() && !is_private(ip));
                null |= argument.value == TypedData::Null;
                unused_type |= matches!(
                    argument.value,
                    TypedData::Int32(_) | TypedData::Uint32(_) | TypedData::Uint64(_)
                );
            }
            if self.is(Fault::LosesFragments) {
                break;
            }
        }
        let mut ids = (stream_id, frame_id);
        match self.fault {
            Fault::WrongStreamId => ids.0.0 += 2,
            Fault::SwapsIds => ids = (StreamId(frame_id.0), FrameId(stream_id.0)),
            Fault::FrameIdAlways1 => ids.1 = FrameId(1),
            Fault::IdsOf8Bits => ids.0.0 &= 0xff,
            Fault::IdsOf16Bits => ids.0.0 &= 0xffff,
            Fault::SignedIds => ids.0.0 = sign_extended(ids.0.0),
            Fault::IdsOf32Bits => {
                ids = (
                    StreamId(ids.0.0 & 0xffff_ffff),
                    FrameId(ids.1.0 & 0xffff_ffff),
                );
            }
            _ => {}
        }
        let agreed = session.max_frame_size.unwrap_or(0) as usize;
        let unanswered = match self.fault {
            Fault::IgnoresStreamId0 => stream_id.0 == 0,
            Fault::IgnoresEmpty => count == 0,
            Fault::IgnoresSecond => session.notifies == 2,
            Fault::IgnoresTwoMessages => count == 2,
            Fault::IgnoresUnknown => count > 0 && !known,
            Fault::IgnoresMany => arguments > 100,
            _ => false,
        };
        if unanswered {
            return Ok(Next::GoOn);
        }
        match self.fault {
            Fault::ClosesOnUnknown if count > 0 && !known => return Ok(Next::Close),
            Fault::RefusesNull if null => return Ok(self.goodbye(Status::UNKNOWN, session)),
            Fault::RefusesUnusedTypes if unused_type => {
                return Ok(self.goodbye(Status::UNKNOWN, session));
            }
            Fault::DiesOfNoArguments if known && arguments == 0 => {
                self.die();
                return Ok(Next::Close);
            }
            Fault::HangsOnLargest if payload.len() + 7 >= agreed => return Ok(Next::Hang),
            _ => {}
        }
        let actions = actions(self.fault, listed, known, agreed);
        match self.fault {
            Fault::MixesConnections => {
                let bytes = ack_frame(ids, &actions);
                self.answer_by_stream_id(stream_id, &bytes, socket);
                return Ok(Next::GoOn);
            }
            Fault::AckPerMessage => {
                for _ in 1..count {
                    self.ack(ids, &actions, session);
                }
            }
            Fault::Duplicates => self.ack(ids, &actions, session),
            _ => {}
        }
        self.ack(ids, &actions, session);
        if self.is(Fault::AckWithoutFin) {
            let flags_end = session.output.len() - actions.len() - 3;
            session.output[flags_end] = 0;
        }
        Ok(Next::GoOn)
    }

    /// Keeps the sender by stream-id alone, and answers after another may have come.
    fn answer_by_stream_id(&self, stream_id: StreamId, bytes: &[u8], socket: &TcpStream) {
        let lock = || self.senders.lock().unwrap_or_else(PoisonError::into_inner);
        lock().insert(stream_id.0, socket.try_clone().unwrap());
        std::thread::sleep(Duration::from_millis(50));
        if let Some(mut socket) = lock().get(&stream_id.0) {
            let _ = socket.write_all(bytes);
        }
    }
}
