//! The example of the README, as a process.

mod handshake;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use handshake::shake_hands;
use ringspoa::spop::{
    Action, Actions, Argument, Frame, FrameId, NotifyWriter, Scope, StreamId, TypedData,
};

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn route_answers_with_the_backend() {
    // This test runs from <target>/debug/deps; a run of only this test builds no examples.
    let here = std::env::current_exe().unwrap();
    let target = here.ancestors().nth(3).unwrap();
    let built = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--example", "route", "--target-dir"])
        .arg(target)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()
        .unwrap();
    assert!(built.success(), "the example does not build");
    let mut child = Command::new(target.join("debug/examples/route"))
        .arg("127.0.0.1:0")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let _running = Running(child);
    let address = line.trim().strip_prefix("listening on ").unwrap();
    let mut socket = TcpStream::connect(address).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();

    shake_hands(&mut socket);
    let mut buffer = [0; 1024];
    for (path, backend) in [("/api/users", "api"), ("/index.html", "www")] {
        let mut notify = NotifyWriter::begin(&mut buffer, 16_380, StreamId(1), FrameId(1)).unwrap();
        notify
            .message("route", [Argument::new("path", path)])
            .unwrap();
        let len = notify.finish();
        socket.write_all(&buffer[..len]).unwrap();
        let len = socket.read(&mut buffer).unwrap();
        let (frame, _) = Frame::split(&buffer[..len], 16_380).unwrap().unwrap();
        let actions: Vec<_> = Actions::new(frame.payload).map(Result::unwrap).collect();
        let (scope, name) = (Scope::Transaction, &b"backend"[..]);
        assert_eq!(
            actions,
            [Action::SetVar {
                scope,
                name,
                value: TypedData::from(backend)
            }]
        );
    }
}
