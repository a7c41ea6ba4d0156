//! HAProxy's side of the handshake, for tests that need no more of it.

use std::io::{Read, Write};

use ringspoa::spop::HaproxyHello;

/// Says HELLO as HAProxy 3.2 does, and takes the answer.
pub(crate) fn shake_hands(socket: &mut (impl Read + Write)) {
    let mut buffer = [0; 256];
    let hello = HaproxyHello {
        supported_versions: b"2.0",
        max_frame_size: 16_380,
        capabilities: b"pipelining",
        engine_id: None,
        healthcheck: false,
    };
    let len = hello.encode(&mut buffer).unwrap();
    socket.write_all(&buffer[..len]).unwrap();
    assert_ne!(socket.read(&mut buffer).unwrap(), 0, "the server closed");
}
