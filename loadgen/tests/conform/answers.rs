//! The bytes the agent answers with, right or wrong.

use ringspoa::spop::{
    AckWriter, AgentHello, Flags, Frame, FrameId, FrameType, Scope, StreamId, Variable,
    encode_varint,
};

use crate::faults::Fault;

const SCORE: Variable<'static> = Variable::literal(Scope::Transaction, "score");
const LISTED: Variable<'static> = Variable::literal(Scope::Session, "listed");
const REMEDIATION: Variable<'static> = Variable::literal(Scope::Transaction, "remediation");

/// The actions of the answer, encoded.
pub(crate) fn actions(fault: Fault, listed: bool, known: bool, agreed: usize) -> Vec<u8> {
    let mut room = vec![0; 1024];
    let mut ack = AckWriter::begin(&mut room, 1024, StreamId(1), FrameId(1)).unwrap();
    if known && fault != Fault::NothingToSay {
        ack.set_var(REMEDIATION, if listed { "ban" } else { "allow" })
            .unwrap();
        ack.set_var(SCORE, if listed { -1_i32 } else { 1_i32 })
            .unwrap();
        ack.set_var(LISTED, listed).unwrap();
    }
    let len = ack.finish();
    let mut actions = room[11..len].to_vec();
    let at = |actions: &[u8], part: &[u8]| {
        let found = actions
            .windows(part.len())
            .position(|window| window == part);
        found.map(|start| start + part.len())
    };
    match fault {
        Fault::Bool31 if listed => *actions.last_mut().unwrap() = 0x31,
        Fault::String18 => {
            if let Some(at) = at(&actions, b"remediation") {
                actions[at] = 0x18;
            }
        }
        Fault::Int32NotExtended if listed => {
            let start = at(&actions, b"score").unwrap() + 1;
            actions.splice(start..start + 10, *b"\xff\xf0\xfe\xfe\x7e");
        }
        Fault::NameWithDash => {
            if let Some(at) = at(&actions, b"remedi") {
                actions[at] = b'-';
            }
        }
        Fault::LongName => {
            let mut long = b"\x01\x03\x02\x3c".to_vec();
            long.extend_from_slice(&[b'n'; 60]);
            long.push(0x11);
            actions.extend(long);
        }
        Fault::TooLargeAck => pad(&mut actions, agreed + 1),
        Fault::LargestAck if agreed == 16_380 => pad(&mut actions, agreed),
        Fault::UnknownAction => actions.extend_from_slice(b"\x03\x02\x02\x01a"),
        Fault::CutAction => {
            actions.pop();
        }
        Fault::UnknownScope if known => actions[2] = 9,
        _ => {}
    }
    actions
}

/// Makes the frame of an ACK 1/1 this long, by one more variable.
fn pad(actions: &mut Vec<u8>, frame_len: usize) {
    let mut more = b"\x01\x03\x02\x03pad\x09".to_vec();
    let rest = frame_len - 7 - actions.len() - more.len();
    let mut varint = [0; 10];
    let used = (1..=3)
        .find(|&len| encode_varint((rest - len) as u64, &mut varint).unwrap() == len)
        .unwrap();
    more.extend_from_slice(&varint[..used]);
    more.resize(more.len() + rest - used, b'p');
    actions.extend(more);
    debug_assert_eq!(actions.len() + 7, frame_len);
}

pub(crate) fn sign_extended(id: u64) -> u64 {
    if id & 0x8000_0000 != 0 {
        id | 0xffff_ffff_0000_0000
    } else {
        id
    }
}

pub(crate) fn is_private(ip: std::net::IpAddr) -> bool {
    matches!(ip, std::net::IpAddr::V4(ip) if ip.is_private() || ip.octets()[0] == 100)
}

pub(crate) fn agent_hello(version: &str, max_frame_size: u32, capabilities: &str) -> Vec<u8> {
    let hello = AgentHello {
        version: version.as_bytes(),
        max_frame_size,
        capabilities: capabilities.as_bytes(),
    };
    let mut room = [0; 512];
    let len = hello.encode(&mut room).unwrap();
    room[..len].to_vec()
}

/// A control frame of these keys and encoded values.
pub(crate) fn control(code: u8, pairs: &[(&str, &[u8])]) -> Vec<u8> {
    let mut bytes = vec![0, 0, 0, 0, code, 0, 0, 0, 1, 0, 0];
    for (key, value) in pairs {
        bytes.push(u8::try_from(key.len()).unwrap());
        bytes.extend_from_slice(key.as_bytes());
        bytes.extend_from_slice(value);
    }
    let len = u32::try_from(bytes.len() - 4).unwrap();
    bytes[..4].copy_from_slice(&len.to_be_bytes());
    bytes
}

pub(crate) fn ack_frame((stream_id, frame_id): (StreamId, FrameId), actions: &[u8]) -> Vec<u8> {
    let frame = Frame {
        frame_type: FrameType::Ack,
        flags: Flags::FIN,
        stream_id,
        frame_id,
        payload: actions,
    };
    let mut room = vec![0; actions.len() + 64];
    let len = frame.encode(&mut room).unwrap();
    room.truncate(len);
    room
}
