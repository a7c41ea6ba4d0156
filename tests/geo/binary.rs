//! The `[remediation]` table's databases in the binary: what is answered, what is shown, and what a SIGHUP
//! does.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use ringspoa::spop::{Argument, Frame, FrameId, HaproxyHello, NotifyWriter, StreamId, TypedData};

use super::{Folder, PATIENCE, Writer, asn, city, country, eventually};

const FRAME_SIZE: u32 = 16_380;

/// The binary, ended by its pid whatever the test does.
struct Serving {
    child: Child,
    listen: String,
    admin: String,
}

impl Serving {
    fn start(config: &str) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_ringspoa"))
            .args(["serve", "--listen", "127.0.0.1:0"])
            .args(["--admin-listen", "127.0.0.1:0", "--config", config])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut logged = lines.by_ref().map(Result::unwrap);
        let started = logged.find(|line| line.contains("listening on "));
        let started = started.expect("it starts");
        // Whatever else it says must not fill the pipe.
        std::thread::spawn(move || lines.for_each(drop));
        let after = |what: &str| {
            let rest = started.split(what).nth(1).expect(&started);
            rest.split(';').next().unwrap().to_owned()
        };
        let (listen, admin) = (after("listening on "), after("admin on "));
        Self {
            child,
            listen,
            admin,
        }
    }

    fn connect(address: &str) -> TcpStream {
        let socket = TcpStream::connect(address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket
    }

    fn shows(&self, sample: &str) -> bool {
        let mut socket = Self::connect(&self.admin);
        write!(socket, "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        answer.lines().any(|line| line == sample)
    }

    /// What a message of a connection from this address is answered, as it is on the wire.
    fn ask(&self, address: [u8; 4]) -> Vec<u8> {
        let mut socket = Self::connect(&self.listen);
        let mut buffer = [0; 1024];
        let hello = HaproxyHello {
            supported_versions: b"2.0",
            max_frame_size: FRAME_SIZE,
            capabilities: b"pipelining",
            engine_id: None,
            healthcheck: false,
        };
        let len = hello.encode(&mut buffer).unwrap();
        socket.write_all(&buffer[..len]).unwrap();
        take(&mut socket);
        let ids = (StreamId(1), FrameId(1));
        let mut notify = NotifyWriter::begin(&mut buffer, FRAME_SIZE, ids.0, ids.1).unwrap();
        let address = TypedData::Ipv4(address.into());
        notify
            .message("crowdsec-tcp", [Argument::new("src-ip", address)])
            .unwrap();
        let len = notify.finish();
        socket.write_all(&buffer[..len]).unwrap();
        take(&mut socket)
    }

    fn reload(&self) {
        let pid = i32::try_from(self.child.id()).unwrap();
        kill(Pid::from_raw(pid), Signal::SIGHUP).unwrap();
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The bytes of the next frame.
fn take(socket: &mut TcpStream) -> Vec<u8> {
    let (mut buffer, mut filled) = ([0; 1024], 0);
    while Frame::split(&buffer[..filled], FRAME_SIZE)
        .unwrap()
        .is_none()
    {
        let len = socket.read(&mut buffer[filled..]).unwrap();
        assert_ne!(len, 0, "the server closed");
        filled += len;
    }
    buffer[..filled].to_vec()
}

/// A variable of two letters, as an action sets it: its name, the type of strings, its value.
fn has_country(ack: &[u8], letters: &str) -> bool {
    let action = format!("\x07isocode\x08\x02{letters}");
    ack.windows(action.len())
        .any(|window| window == action.as_bytes())
}

#[test]
fn databases_of_the_table_are_in_force_and_replaced_by_a_reload() {
    let folder = Folder::new("binary");
    let city_file = folder.put("city.mmdb", &city().finish());
    let asn_file = folder.put("asn.mmdb", &asn().finish());
    let list = folder.put("list", b"192.0.2.1\n");
    let text = format!(
        "[remediation]\ncity-database = {city_file:?}\nasn-database = {asn_file:?}\n\
         [[remediation.list]]\npath = {list:?}\n"
    );
    let config = folder.put("ringspoa.toml", text.as_bytes());
    let serving = Serving::start(config.to_str().unwrap());
    for address in [[192, 0, 2, 1], [192, 0, 2, 9]] {
        assert!(has_country(&serving.ask(address), "FR"), "{address:?}");
    }
    assert!(!has_country(&serving.ask([192, 0, 3, 1]), "FR"));
    let of = |name: &str, key: &str, value: u64| {
        format!("ringspoa_geo_database_{name}{{database=\"{key}\"}} {value}")
    };
    let built = of("build_timestamp_seconds", "asn-database", super::BUILT);
    assert!(serving.shows(&built));
    assert!(serving.shows(&of("failing", "city-database", 0)));

    fs::write(&city_file, "nothing of the kind").unwrap();
    serving.reload();
    let failing = of("failing", "city-database", 1);
    eventually("that it is seen", || serving.shows(&failing));
    assert!(has_country(&serving.ask([192, 0, 2, 9]), "FR"));
    assert!(serving.shows(&of("failing", "asn-database", 0)));

    let mut other = Writer::new("Test-City");
    other.add("192.0.2.0", 24, &country("IT"));
    folder.put("city.mmdb", &other.finish());
    serving.reload();
    eventually("the next country", || {
        has_country(&serving.ask([192, 0, 2, 9]), "IT")
    });
    assert!(serving.shows(&of("failing", "city-database", 0)));
}
