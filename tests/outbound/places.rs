//! Where calls go: sockets of the file system, and proxies.

use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use ringspoa::outbound::{EndpointConfig, FailureKind, Proxy};

use crate::stub::{self, PATIENCE, Peer, Stub, ask, body_of, config, get};

#[test]
fn a_socket_takes_calls() {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
        .join(format!("outbound-{}.sock", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path).unwrap();
    let server = std::thread::spawn(move || {
        let (socket, _) = listener.accept().unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut peer = Peer {
            io: Box::new(socket),
            socket: None,
            number: 1,
        };
        for _ in 0..2 {
            let seen = peer.request().unwrap();
            assert!(seen.head.contains("host: localhost\r\n"), "{}", seen.head);
            peer.answer("by socket");
        }
    });
    let outbound = stub::start();
    let url = format!("unix:{}", path.display());
    let endpoint = outbound.endpoint(config(url)).unwrap();
    for _ in 0..2 {
        assert_eq!(body_of(&endpoint, get("/v1")), "by socket");
    }
    server.join().unwrap();
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn a_proxy_gets_the_whole_url() {
    let seen = Arc::new(Mutex::new(String::new()));
    let noted = Arc::clone(&seen);
    let proxy = Stub::start(move |mut peer| {
        while let Some(request) = peer.request() {
            *noted.lock().unwrap() = request.head;
            peer.answer("by proxy");
        }
    });
    let outbound = stub::start();
    let url = format!("http://user:pass@{}", proxy.address);
    let endpoint = outbound
        .endpoint(EndpointConfig {
            proxy: Proxy::Url(url),
            ..config("http://host.invalid/base")
        })
        .unwrap();
    assert_eq!(body_of(&endpoint, get("/path?query")), "by proxy");
    let seen = seen.lock().unwrap();
    let line = "get http://host.invalid/base/path?query http/1.1\r\n";
    assert!(seen.starts_with(line), "{seen}");
    assert!(seen.contains("host: host.invalid\r\n"), "{seen}");
    assert!(
        seen.contains("proxy-authorization: basic dxnlcjpwyxnz\r\n"),
        "{seen}"
    );
}

#[test]
fn a_proxy_that_refuses_is_told_from_the_endpoint() {
    let outbound = stub::start();
    for (answer, expected) in [
        (
            "HTTP/1.1 407 Proxy Authentication Required\r\n\r\n",
            "proxy: it wants another user name and password (status 407)",
        ),
        (
            "HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n",
            "proxy: it does not connect to host.invalid:443 (status 503)",
        ),
        ("SSH-2.0\r\n\r\n", "proxy: its answer is not valid HTTP"),
        ("HTTP/1.1 200", "proxy: it closed the connection"),
    ] {
        let proxy = Stub::start(move |mut peer| {
            let seen = peer.request().unwrap();
            assert!(
                seen.head
                    .starts_with("connect host.invalid:443 http/1.1\r\n")
            );
            peer.send(answer);
        });
        let endpoint = outbound
            .endpoint(EndpointConfig {
                proxy: Proxy::Url(proxy.url()),
                ..config("https://host.invalid")
            })
            .unwrap();
        let error = ask(&endpoint, get("/")).unwrap_err();
        assert_eq!(error.fault().kind(), FailureKind::Proxy);
        assert!(error.to_string().ends_with(expected), "{error}");
    }
    let endless = Stub::start(|mut peer| while peer.send([b'x'; 1000]) {});
    let endpoint = outbound
        .endpoint(EndpointConfig {
            proxy: Proxy::Url(endless.url()),
            ..config("https://host.invalid")
        })
        .unwrap();
    let error = ask(&endpoint, get("/")).unwrap_err();
    assert!(
        error.to_string().ends_with("proxy: its answer is too long"),
        "{error}"
    );
}
