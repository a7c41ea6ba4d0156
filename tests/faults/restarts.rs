//! The end without a goodbye, the next start at once, and addresses that are not to be had.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::fixture::{
    BANNED, DRIVERS, Folder, Launch, Peer, SetOnDrop, Stream, Traffic, eventually,
    own_loopback_address,
};
use crate::haproxy::Haproxy;

/// After kill -9 the next start takes the same port and the same socket file at once. HAProxy
/// answers its clients all the time, without a verdict while there is none.
#[test]
fn killed_and_started_again() {
    for driver in DRIVERS {
        let folder = Folder::new();
        let address = own_loopback_address();
        let launch = || {
            let launch = Launch::new(&folder).listen(address);
            launch.arguments(&["--driver", driver])
        };
        let mut server = launch().start();
        let tcp = Haproxy::start("3.2", &address.to_string(), &folder);
        let unix = Haproxy::start("2.6", &server.unix(), &folder);
        let traffic = Traffic::start(&server);
        traffic.goes_on();
        drop(traffic);
        let ended = AtomicBool::new(false);
        let started_after = std::thread::scope(|scope| {
            let ending = SetOnDrop(&ended);
            for haproxy in [&tcp, &unix] {
                scope.spawn(|| {
                    while !ended.load(Ordering::Relaxed) {
                        // Whatever the agent does, the client gets its 200.
                        haproxy.get().expect("HAProxy answers");
                        std::thread::sleep(Duration::from_millis(5));
                    }
                });
            }
            std::thread::sleep(Duration::from_millis(100));
            server.signal(Signal::SIGKILL);
            let began = Instant::now();
            server.await_end();
            server = launch().start();
            let mut peer = Peer::introduced(Stream::tcp(address).expect("it listens"));
            let started_after = began.elapsed();
            assert_eq!(peer.as_mut().expect("it answers").ask(BANNED), "ban");
            assert_eq!(server.peer().ask(BANNED), "ban");
            for haproxy in [&tcp, &unix] {
                eventually("HAProxy is served again", || {
                    haproxy
                        .get()
                        .is_ok_and(|state| state.is_up && state.verdict == "ban")
                });
            }
            println!(
                "{driver}: started after {started_after:?}, HAProxy served after {:?}",
                began.elapsed()
            );
            drop(ending);
            started_after
        });
        assert!(started_after < Duration::from_secs(2), "{started_after:?}");
        drop((tcp, unix));
        server.finish();
    }
}

/// A start that cannot have its address says which and why, and leaves what is there alone.
#[test]
fn addresses_that_are_not_to_be_had() {
    let folder = Folder::new();
    let server = Launch::new(&folder).start();
    let traffic = Traffic::start(&server);
    let beside = Folder::new();
    let file = beside.write("file.sock", "precious");
    for (path, why) in [
        (
            folder.file("spop.sock"),
            "another process listens on this socket",
        ),
        (file.clone(), "the path exists and is not a socket"),
        (
            beside.file("removed/spop.sock"),
            "its folder does not exist",
        ),
        (file.join("spop.sock"), "Not a directory"),
    ] {
        let listen = format!("unix:{}", path.display());
        let (code, log) = Launch::new(&beside).listen(&listen).fails();
        assert_eq!(code, Some(1), "{log}");
        let expected = format!("cannot listen on {listen}: {why}");
        assert!(log.contains(&expected), "no '{expected}' in\n{log}");
        assert!(!beside.file("spop.sock").exists(), "a socket file was left");
    }
    assert_eq!(fs::read(&file).expect("it is left alone"), b"precious");
    // The same of the admin listener, once the server has begun.
    let admin = format!("unix:{}", folder.file("admin.sock").display());
    let (code, log) = Launch::new(&beside).admin(&admin).fails();
    assert_eq!(code, Some(1), "{log}");
    assert!(
        log.contains("another process listens on this socket"),
        "{log}"
    );
    assert!(!beside.file("spop.sock").exists(), "a socket file was left");
    traffic.goes_on();
    traffic.finish();
    server.finish();
}

/// Connections do not mind that the socket file or its folder is gone, and neither does the end.
#[test]
fn the_socket_file_and_its_folder_are_removed() {
    let folder = Folder::new();
    let inner = folder.file("inner");
    fs::create_dir(&inner).expect("a folder in a folder of ours");
    let listen = format!("unix:{}", inner.join("other.sock").display());
    let server = Launch::new(&folder)
        .arguments(&["--listen", &listen])
        .start();
    let other = Stream::unix(&inner.join("other.sock")).expect("it listens");
    let traffic = Traffic::on(vec![
        Peer::introduced(other).expect("it answers"),
        server.peer(),
    ]);
    fs::remove_dir_all(&inner).expect("it is there");
    fs::remove_file(folder.file("spop.sock")).expect("it is there");
    traffic.goes_on();
    traffic.finish();
    server.finish();
}
