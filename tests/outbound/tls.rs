//! TLS with authorities and certificates of the tests' own.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    date_time_ymd,
};
use ringspoa::outbound::{
    ClientCertificate, EndpointConfig, EndpointError, FailureKind, Outbound, OutboundFault, Phase,
    Proxy, TlsConfig,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};

use crate::stub::{self, Duplex, LONG, Peer, Stub, ask, ask_within, body_of, config, get};

struct Authority {
    pem: String,
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Self {
            pem: certificate.pem(),
            certificate: certificate.der().clone(),
            issuer: Issuer::new(params, key),
        }
    }

    fn issue(&self, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Issued {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Issued {
            certificate_pem: certificate.pem(),
            certificate: certificate.der().clone(),
            key,
        }
    }
}

struct Issued {
    certificate_pem: String,
    certificate: CertificateDer<'static>,
    key: KeyPair,
}

/// A file for this test.
fn file(name: &str, text: &str) -> PathBuf {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let number = COUNT.fetch_add(1, Ordering::SeqCst);
    let name = format!("outbound-{}-{number}-{name}", std::process::id());
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, text).unwrap();
    path
}

fn server(issued: &Issued, clients: Option<&Authority>) -> Arc<ServerConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            roots.add(authority.certificate.clone()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        }
    };
    let key = PrivateKeyDer::try_from(issued.key.serialize_der()).unwrap();
    let chain = vec![issued.certificate.clone()];
    Arc::new(builder.with_single_cert(chain, key).unwrap())
}

fn wrap(config: &Arc<ServerConfig>, socket: TcpStream) -> Option<Box<dyn Duplex>> {
    let connection = ServerConnection::new(Arc::clone(config)).unwrap();
    Some(Box::new(StreamOwned::new(connection, socket)))
}

fn echo(mut peer: Peer) {
    while peer.request().is_some() {
        peer.answer("by TLS");
    }
}

fn stub(issued: &Issued, clients: Option<&Authority>) -> Stub {
    let config = server(issued, clients);
    Stub::wrapped(move |socket| wrap(&config, socket), echo)
}

/// An endpoint at `localhost` that trusts these authorities.
fn trusting(stub: &Stub, authority: &Authority) -> EndpointConfig {
    let tls = TlsConfig {
        ca_file: Some(file("ca.pem", &authority.pem)),
        ..TlsConfig::default()
    };
    EndpointConfig {
        tls,
        ..config(format!("https://localhost:{}", stub.address.port()))
    }
}

fn refusal(outbound: &Outbound, config: EndpointConfig) -> String {
    let endpoint = outbound.endpoint(config).unwrap();
    let error = ask(&endpoint, get("/")).unwrap_err();
    assert_eq!(error.fault().kind(), FailureKind::Tls, "{error}");
    assert_eq!(endpoint.stats().failures_of(FailureKind::Tls), 1);
    error.fault().to_string()
}

#[test]
fn a_certificate_of_a_trusted_authority_is_taken() {
    let authority = Authority::new("stub authority");
    let stub = stub(&authority.issue(&["localhost", "127.0.0.1"], |_| {}), None);
    let outbound = stub::start();
    let endpoint = outbound.endpoint(trusting(&stub, &authority)).unwrap();
    for _ in 0..10 {
        assert_eq!(body_of(&endpoint, get("/")), "by TLS");
    }
    assert_eq!(stub.connections(), 1);
    // By address, and by another name that is expected.
    for (host, server_name) in [("127.0.0.1", None), ("127.0.0.1", Some("localhost"))] {
        let mut config = trusting(&stub, &authority);
        config.url = format!("https://{host}:{}", stub.address.port());
        config.tls.server_name = server_name.map(str::to_owned);
        let endpoint = outbound.endpoint(config).unwrap();
        assert_eq!(body_of(&endpoint, get("/")), "by TLS");
    }
}

#[test]
fn other_certificates_are_refused() {
    let authority = Authority::new("stub authority");
    let outbound = stub::start();

    let unknown = stub(
        &Authority::new("another").issue(&["localhost"], |_| {}),
        None,
    );
    assert_eq!(
        refusal(&outbound, trusting(&unknown, &authority)),
        "TLS: the server's certificate is from an authority that is not trusted; name it as ca_file"
    );

    let misnamed = stub(&authority.issue(&["elsewhere.example"], |_| {}), None);
    let text = refusal(&outbound, trusting(&misnamed, &authority));
    let expected = "TLS: the server's certificate is not for localhost but for";
    assert!(
        text.starts_with(expected) && text.contains("elsewhere.example"),
        "{text}"
    );

    let expired = authority.issue(&["localhost"], |params| {
        params.not_before = date_time_ymd(2000, 1, 1);
        params.not_after = date_time_ymd(2001, 1, 1);
    });
    assert_eq!(
        refusal(&outbound, trusting(&stub(&expired, None), &authority)),
        "TLS: the server's certificate has expired"
    );

    let early = authority.issue(&["localhost"], |params| {
        params.not_before = date_time_ymd(2900, 1, 1);
        params.not_after = date_time_ymd(2901, 1, 1);
    });
    assert_eq!(
        refusal(&outbound, trusting(&stub(&early, None), &authority)),
        "TLS: the server's certificate is not valid yet"
    );
}

#[test]
fn insecure_takes_them_all() {
    let stranger = Authority::new("another").issue(&["elsewhere.example"], |params| {
        params.not_before = date_time_ymd(2000, 1, 1);
        params.not_after = date_time_ymd(2001, 1, 1);
    });
    let stub = stub(&stranger, None);
    let outbound = stub::start();
    let mut config = trusting(&stub, &Authority::new("stub authority"));
    config.tls.insecure = true;
    let endpoint = outbound.endpoint(config).unwrap();
    assert_eq!(body_of(&endpoint, get("/")), "by TLS");
}

#[test]
fn a_client_certificate_is_shown_if_there_is_one() {
    let authority = Authority::new("stub authority");
    let clients = Authority::new("authority of clients");
    let stub = stub(&authority.issue(&["localhost"], |_| {}), Some(&clients));
    let outbound = stub::start();
    assert_eq!(
        refusal(&outbound, trusting(&stub, &authority)),
        "TLS: the server wants a client certificate"
    );
    let with = |issued: &Issued| {
        let mut config = trusting(&stub, &authority);
        config.tls.client_certificate = Some(ClientCertificate {
            certificate_file: file("client.pem", &issued.certificate_pem),
            key_file: file("client.key", &issued.key.serialize_pem()),
        });
        config
    };
    let for_clients = |params: &mut CertificateParams| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    };
    let good = clients.issue(&["bouncer"], for_clients);
    let endpoint = outbound.endpoint(with(&good)).unwrap();
    assert_eq!(body_of(&endpoint, get("/")), "by TLS");
    let stranger = authority.issue(&["bouncer"], for_clients);
    let text = refusal(&outbound, with(&stranger));
    assert!(
        text.starts_with("TLS: the server refused the connection: alert"),
        "{text}"
    );
}

#[test]
fn files_that_cannot_be_used_are_named() {
    let authority = Authority::new("stub authority");
    let (one, other) = (
        authority.issue(&["a"], |_| {}),
        authority.issue(&["b"], |_| {}),
    );
    let outbound = stub::start();
    let refused = |tls: TlsConfig| {
        let config = EndpointConfig {
            tls,
            ..config("https://localhost")
        };
        let error = outbound.endpoint(config).unwrap_err();
        match &error {
            EndpointError::File { path, .. } => {
                assert!(error.to_string().starts_with(path.to_str().unwrap()));
            }
            error => panic!("{error}"),
        }
        error.to_string()
    };
    let with_ca = |path| TlsConfig {
        ca_file: Some(path),
        ..TlsConfig::default()
    };
    refused(with_ca(PathBuf::from("/nonexistent/ca.pem")));
    let text = refused(with_ca(file("empty.pem", "nothing\n")));
    assert!(
        text.ends_with("it has no certificate in PEM form"),
        "{text}"
    );
    let with_client = |certificate: &str, key: &str| TlsConfig {
        client_certificate: Some(ClientCertificate {
            certificate_file: file("client.pem", certificate),
            key_file: file("client.key", key),
        }),
        ..with_ca(file("ca.pem", &authority.pem))
    };
    let (key, other_key) = (one.key.serialize_pem(), other.key.serialize_pem());
    let text = refused(with_client(&one.certificate_pem, &other_key));
    assert!(
        text.contains("not usable with the certificate in"),
        "{text}"
    );
    let text = refused(with_client(&one.certificate_pem, &one.certificate_pem));
    assert!(text.contains("no usable private key"), "{text}");
    refused(with_client(&key, &key));
    let none = TlsConfig {
        system_roots: false,
        ..TlsConfig::default()
    };
    let config = EndpointConfig {
        tls: none,
        ..config("https://localhost")
    };
    let error = outbound.endpoint(config).unwrap_err();
    assert!(
        error.to_string().contains("no authority is trusted"),
        "{error}"
    );
}

#[test]
fn a_server_without_tls_is_told() {
    let authority = Authority::new("stub authority");
    let outbound = stub::start();
    let plain = Stub::start(|mut peer| {
        let mut bytes = [0; 10];
        let _ = peer.io.read(&mut bytes);
        peer.send("HTTP/1.1 400 Bad Request\r\n\r\n");
    });
    assert_eq!(
        refusal(&outbound, trusting(&plain, &authority)),
        "TLS: the server does not speak TLS at this port, or broken"
    );
    let silent = Stub::start(drop);
    let text = refusal(&outbound, trusting(&silent, &authority));
    assert!(text.starts_with("TLS: the handshake was cut off"), "{text}");
}

#[test]
fn http_1_is_what_is_agreed_on() {
    let authority = Authority::new("stub authority");
    let issued = authority.issue(&["localhost"], |_| {});
    let mut config = ServerConfig::clone(&server(&issued, None));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let config = Arc::new(config);
    let stub = Stub::wrapped(
        move |mut socket| {
            let mut connection = ServerConnection::new(Arc::clone(&config)).unwrap();
            while connection.is_handshaking() {
                connection.complete_io(&mut socket).ok()?;
            }
            // Otherwise the call fails.
            (connection.alpn_protocol() == Some(b"http/1.1"))
                .then(|| Box::new(StreamOwned::new(connection, socket)) as Box<dyn Duplex>)
        },
        echo,
    );
    let outbound = stub::start();
    let endpoint = outbound.endpoint(trusting(&stub, &authority)).unwrap();
    assert_eq!(body_of(&endpoint, get("/")), "by TLS");
}

#[test]
fn a_connection_that_comes_too_late_is_for_the_next_call() {
    let authority = Authority::new("stub authority");
    let config = server(&authority.issue(&["localhost"], |_| {}), None);
    let slow = Stub::wrapped(
        move |socket| {
            std::thread::sleep(Duration::from_millis(500));
            wrap(&config, socket)
        },
        echo,
    );
    let outbound = stub::start();
    let endpoint = outbound.endpoint(trusting(&slow, &authority)).unwrap();
    let after = Duration::from_millis(50);
    let error = ask_within(&endpoint, get("/"), after).unwrap_err();
    let phase = Phase::Connecting;
    assert_eq!(error.fault(), &OutboundFault::Timeout { after, phase });
    assert!(ask_within(&endpoint, get("/"), LONG).is_ok());
    assert_eq!(slow.connections(), 1);
}

#[test]
fn connecting_has_a_limit_of_its_own() {
    let authority = Authority::new("stub authority");
    let silent = Stub::start(|mut peer| peer.wait_until_gone());
    let outbound = stub::start();
    let after = Duration::from_millis(100);
    let endpoint = outbound
        .endpoint(EndpointConfig {
            connect_timeout: after,
            ..trusting(&silent, &authority)
        })
        .unwrap();
    let error = ask(&endpoint, get("/")).unwrap_err();
    let phase = Phase::Connecting;
    assert_eq!(error.fault(), &OutboundFault::Timeout { after, phase });
}

#[test]
fn tls_goes_through_a_proxy_by_a_tunnel() {
    let authority = Authority::new("stub authority");
    let config = server(&authority.issue(&["host.invalid"], |_| {}), None);
    // Proxy and endpoint in one.
    let proxy = Stub::wrapped(
        move |mut socket| {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                socket.read_exact(&mut byte).ok()?;
                head.push(byte[0]);
            }
            assert!(head.starts_with(b"CONNECT host.invalid:443 HTTP/1.1\r\n"));
            socket
                .write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")
                .ok()?;
            wrap(&config, socket)
        },
        |mut peer| {
            let seen = peer.request().unwrap();
            assert!(
                seen.head.starts_with("get /path http/1.1\r\n"),
                "{}",
                seen.head
            );
            assert!(!seen.head.contains("proxy"), "{}", seen.head);
            peer.answer("through");
        },
    );
    let outbound = stub::start();
    let mut config = trusting(&proxy, &authority);
    config.url = "https://host.invalid".to_owned();
    config.proxy = Proxy::Url(format!("http://user:pass@{}", proxy.address));
    let endpoint = outbound.endpoint(config).unwrap();
    assert_eq!(body_of(&endpoint, get("/path")), "through");
}
