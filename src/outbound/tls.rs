//! TLS: whom an endpoint trusts, what it shows, and what its refusals mean in words.

use std::fmt::Write;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore,
    SignatureScheme,
};

use super::config::{EndpointError, TlsConfig};

/// What a connection needs to become one of TLS.
#[derive(Clone)]
pub(super) struct Tls {
    pub(super) config: Arc<ClientConfig>,
    pub(super) name: ServerName<'static>,
}

/// The system's authorities, read once: they are some hundred.
static SYSTEM_ROOTS: OnceLock<RootCertStore> = OnceLock::new();

fn system_roots() -> &'static RootCertStore {
    SYSTEM_ROOTS.get_or_init(|| {
        let mut roots = RootCertStore::empty();
        let found = rustls_native_certs::load_native_certs();
        for error in found.errors {
            tracing::warn!("authorities of the system: {error}");
        }
        // Some are too old to be read, which is no reason not to trust the others.
        roots.add_parsable_certificates(found.certs);
        roots
    })
}

impl Tls {
    /// Reads the files. `host` is the URL's.
    pub(super) fn new(config: &TlsConfig, host: &str) -> Result<Self, EndpointError> {
        let failed = |error: rustls::Error| EndpointError::Tls(error.to_string());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let name = config.server_name.as_deref().unwrap_or(host);
        let name = ServerName::try_from(name.to_owned()).map_err(|_| {
            EndpointError::Tls(format!("{name:?} is not a name that certificates are for"))
        })?;
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(failed)?;
        let builder = if config.insecure {
            let any = Arc::new(AnyCertificate { provider });
            builder.dangerous().with_custom_certificate_verifier(any)
        } else {
            builder.with_root_certificates(roots(config)?)
        };
        let mut client = match &config.client_certificate {
            None => builder.with_no_client_auth(),
            Some(own) => {
                let chain = certificates(&own.certificate_file)?;
                let key = PrivateKeyDer::from_pem_file(&own.key_file).map_err(|error| {
                    file_error(&own.key_file, format!("no usable private key: {error}"))
                })?;
                builder.with_client_auth_cert(chain, key).map_err(|error| {
                    file_error(
                        &own.key_file,
                        format!(
                            "not usable with the certificate in {}: {error}",
                            own.certificate_file.display()
                        ),
                    )
                })?
            }
        };
        client.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self {
            config: Arc::new(client),
            name,
        })
    }
}

fn roots(config: &TlsConfig) -> Result<RootCertStore, EndpointError> {
    let mut roots = if config.system_roots {
        system_roots().clone()
    } else {
        RootCertStore::empty()
    };
    if let Some(path) = &config.ca_file {
        for certificate in certificates(path)? {
            roots.add(certificate).map_err(|error| {
                file_error(path, format!("a certificate cannot be used: {error}"))
            })?;
        }
    }
    if roots.is_empty() {
        return Err(EndpointError::Tls(
            "no authority is trusted: the system has none; name a ca_file, or install \
             ca-certificates"
                .to_owned(),
        ));
    }
    Ok(roots)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, EndpointError> {
    let found: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(path).and_then(|certificates| certificates.collect());
    match found {
        Ok(found) if found.is_empty() => Err(file_error(
            path,
            "it has no certificate in PEM form".to_owned(),
        )),
        Ok(found) => Ok(found),
        Err(error) => Err(file_error(path, format!("no usable certificate: {error}"))),
    }
}

fn file_error(path: &Path, reason: String) -> EndpointError {
    EndpointError::File {
        path: path.to_owned(),
        reason,
    }
}

/// Takes any certificate. That the peer has its key is checked all the same.
#[derive(Debug)]
struct AnyCertificate {
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// What rustls says, for those who did not write it.
pub(super) fn explain(error: &rustls::Error) -> String {
    use CertificateError as E;
    match error {
        rustls::Error::InvalidCertificate(reason) => match reason {
            E::UnknownIssuer => {
                "the server's certificate is from an authority that is not trusted; name it as ca_file"
                    .to_owned()
            }
            E::Expired | E::ExpiredContext { .. } => {
                "the server's certificate has expired".to_owned()
            }
            E::NotValidYet | E::NotValidYetContext { .. } => {
                "the server's certificate is not valid yet".to_owned()
            }
            E::NotValidForName => "the server's certificate is for another name".to_owned(),
            E::NotValidForNameContext {
                expected,
                presented,
            } => {
                let mut text = format!(
                    "the server's certificate is not for {}",
                    expected.to_str()
                );
                // They come from the peer, by the hundred if it likes.
                for (index, name) in presented.iter().take(3).enumerate() {
                    let before = if index == 0 { " but for" } else { "," };
                    let name: String = name.chars().take(100).collect();
                    let _ = write!(text, "{before} {}", name.escape_default());
                }
                text
            }
            E::Revoked => "the server's certificate is revoked".to_owned(),
            reason => format!("the server's certificate is not accepted: {reason}"),
        },
        rustls::Error::AlertReceived(AlertDescription::CertificateRequired) => {
            "the server wants a client certificate".to_owned()
        }
        rustls::Error::AlertReceived(alert) => {
            format!("the server refused the connection: alert {alert:?}")
        }
        rustls::Error::InvalidMessage(_) => {
            "the server does not speak TLS at this port, or broken".to_owned()
        }
        error => error.to_string(),
    }
}
