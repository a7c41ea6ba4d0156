//! Agents in this process that answer well, badly, late or not at all.

#![allow(dead_code, reason = "each test file takes what it needs")]

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ringspoa::spop::{
    AckWriter, AgentHello, Disconnect, Frame, FrameId, FrameType, HaproxyHello, Messages, Scope,
    Status, StreamId, Variable,
};
use ringspoa_loadgen::Target;

const REMEDIATION: Variable<'static> = Variable::literal(Scope::Transaction, "remediation");

/// What an agent does with a NOTIFY, given how many the whole agent had before.
#[derive(Clone, Copy)]
pub(crate) enum Behaviour {
    Well,
    Twice,
    /// The ACK has another stream-id.
    WrongId,
    /// The 10th ACK has a scope that does not exist.
    BrokenAction,
    /// Closes at the 50th.
    Closes,
    /// AGENT-DISCONNECT at the 50th.
    Disconnects,
    /// Never answers the 50th.
    Forgets,
    /// Waits 200 ms, once, with the ACK of this one.
    Stalls(usize),
    Sequential,
    /// Waits 5 ms before it answers what a read brought.
    Slow,
}

pub(crate) struct Agent {
    behaviour: Behaviour,
    pub(crate) notifies: AtomicUsize,
    pub(crate) connections: AtomicUsize,
}

/// Serves connections on threads that end with them.
pub(crate) fn start(behaviour: Behaviour) -> (Target, &'static Agent) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = Target::Tcp(listener.local_addr().unwrap());
    let agent = agent(behaviour);
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let socket = socket.unwrap();
            socket.set_nodelay(true).unwrap();
            std::thread::spawn(move || agent.serve(socket));
        }
    });
    (target, agent)
}

pub(crate) fn agent(behaviour: Behaviour) -> &'static Agent {
    Box::leak(Box::new(Agent {
        behaviour,
        notifies: AtomicUsize::new(0),
        connections: AtomicUsize::new(0),
    }))
}

impl Agent {
    pub(crate) fn serve(&self, mut socket: impl Read + Write) {
        self.connections.fetch_add(1, Ordering::Relaxed);
        let (mut input, mut buffer) = (Vec::new(), vec![0; 65_536]);
        loop {
            let mut output = Vec::new();
            let mut consumed = 0;
            while let Some((frame, used)) = Frame::split(&input[consumed..], 16_380).unwrap() {
                consumed += used;
                if !self.answer(&frame, &mut output) {
                    let _ = socket.write_all(&output);
                    return;
                }
            }
            input.drain(..consumed);
            if matches!(self.behaviour, Behaviour::Slow) && !output.is_empty() {
                std::thread::sleep(Duration::from_millis(5));
            }
            if socket.write_all(&output).is_err() {
                return;
            }
            match socket.read(&mut buffer) {
                Ok(0) | Err(_) => return,
                Ok(len) => input.extend_from_slice(&buffer[..len]),
            }
        }
    }

    /// False if the connection is to be closed.
    fn answer(&self, frame: &Frame<'_>, output: &mut Vec<u8>) -> bool {
        let mut room = [0; 512];
        match frame.frame_type {
            FrameType::HaproxyHello => {
                let hello = HaproxyHello::decode(frame).unwrap();
                assert!(hello.supports_version_2() && hello.has_capability("pipelining"));
                assert_eq!(hello.engine_id.map(<[u8]>::len), Some(36));
                let sequential = matches!(self.behaviour, Behaviour::Sequential);
                let capabilities: &[u8] = if sequential { b"" } else { b"pipelining" };
                let hello = AgentHello {
                    version: b"2.0",
                    max_frame_size: hello.max_frame_size,
                    capabilities,
                };
                let len = hello.encode(&mut room).unwrap();
                output.extend_from_slice(&room[..len]);
                true
            }
            FrameType::Notify => self.notify(frame, output),
            FrameType::HaproxyDisconnect => {
                assert_eq!(Disconnect::decode(frame).unwrap().status, Status::NORMAL);
                false
            }
            other => panic!("HAProxy sends no {other}"),
        }
    }

    fn notify(&self, frame: &Frame<'_>, output: &mut Vec<u8>) -> bool {
        Messages::new(frame.payload).finish().unwrap();
        assert_eq!((frame.stream_id.0 & 1, frame.frame_id), (1, FrameId(1)));
        let count = self.notifies.fetch_add(1, Ordering::Relaxed);
        let mut ack = |stream_id, value: &str| {
            let mut room = [0; 128];
            let mut ack = AckWriter::begin(&mut room, 16_380, stream_id, FrameId(1)).unwrap();
            ack.set_var(REMEDIATION, value).unwrap();
            let len = ack.finish();
            output.extend_from_slice(&room[..len]);
        };
        let value = if count.is_multiple_of(2) {
            "ban"
        } else {
            "allow"
        };
        match self.behaviour {
            Behaviour::WrongId if count == 10 => ack(StreamId(frame.stream_id.0 + 1000), value),
            Behaviour::Forgets if count == 50 => {}
            Behaviour::Closes if count == 50 => return false,
            Behaviour::Disconnects if count == 50 => {
                let disconnect = Disconnect {
                    status: Status::NO_RESOURCES,
                    reason: b"too hot",
                };
                let mut room = [0; 128];
                let len = disconnect.encode_agent(&mut room).unwrap();
                output.extend_from_slice(&room[..len]);
                return false;
            }
            _ => ack(frame.stream_id, value),
        }
        match self.behaviour {
            Behaviour::Twice if count == 10 => ack(frame.stream_id, value),
            Behaviour::BrokenAction if count == 10 => {
                let scope = output.len() - "remediation".len() - 1 - 1 - "ban".len() - 2 - 1;
                output[scope] = 9;
            }
            Behaviour::Stalls(at) if count == at => {
                std::thread::sleep(Duration::from_millis(200));
            }
            _ => {}
        }
        true
    }
}
