//! TLS as libpq's `sslmode` means it, on rustls.
//!
//! `require` encrypts and looks at no certificate, unless `sslrootcert` is
//! given, which makes it `verify-ca`; `verify-ca` checks the chain and not the
//! name; `verify-full` checks both.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::config::{Config, Host, RootCertificates, SslMode};
use crate::error::Error;
use crate::login_error::LoginError;

#[derive(Debug)]
enum Check {
    Nothing,
    Chain(RootCertStore),
    ChainAndName(RootCertStore),
}

/// Performs the handshake on a stream on which the server has agreed to TLS.
pub(crate) async fn handshake(
    stream: TcpStream,
    config: &Config,
) -> Result<TlsStream<TcpStream>, Error> {
    let provider = Arc::new(ring::default_provider());
    let verifier = Arc::new(Verifier { check: check(config)?, provider: provider.clone() });
    let tls = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::Tls { source: std::io::Error::other(error) })?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    TlsConnector::from(Arc::new(tls))
        .connect(server_name(config)?, stream)
        .await
        .map_err(|error| handshake_error(error, config))
}

fn handshake_error(error: std::io::Error, config: &Config) -> Error {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>());
    match cause {
        Some(rustls::Error::InvalidCertificate(reason)) => {
            LoginError::Certificate { host: config.host.to_string(), reason: reason.to_string() }
                .into()
        }
        Some(_) | None => Error::Tls { source: error },
    }
}

fn server_name(config: &Config) -> Result<ServerName<'static>, Error> {
    match &config.host {
        Host::Address(address) => Ok(ServerName::IpAddress((*address).into())),
        Host::Name(name) => ServerName::try_from(name.clone()).map_err(|_| {
            LoginError::Certificate {
                host: name.clone(),
                reason: "the host is not a name that a certificate can carry".to_owned(),
            }
            .into()
        }),
        Host::Socket(_) => Err(Error::protocol("TLS was asked for on a Unix socket")),
    }
}

fn check(config: &Config) -> Result<Check, Error> {
    Ok(match (config.ssl_mode, &config.ssl_root_cert) {
        (SslMode::Disable | SslMode::Allow | SslMode::Prefer, _) | (SslMode::Require, None) => {
            Check::Nothing
        }
        (SslMode::Require | SslMode::VerifyCa, roots) => Check::Chain(trusted(roots.as_ref())?),
        (SslMode::VerifyFull, roots) => Check::ChainAndName(trusted(roots.as_ref())?),
    })
}

fn trusted(source: Option<&RootCertificates>) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    match source {
        Some(RootCertificates::File(path)) => {
            let bad = |reason: String| {
                Error::from(LoginError::RootCertificates { path: path.clone(), reason })
            };
            let certificates = CertificateDer::pem_file_iter(path)
                .and_then(Iterator::collect::<Result<Vec<_>, _>>)
                .map_err(|error| bad(error.to_string()))?;
            for certificate in certificates {
                roots.add(certificate).map_err(|error| bad(error.to_string()))?;
            }
            if roots.is_empty() {
                return Err(bad("it holds no certificate".to_owned()));
            }
        }
        Some(RootCertificates::System) | None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    Ok(roots)
}

#[derive(Debug)]
struct Verifier {
    check: Check,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let (roots, verify_name) = match &self.check {
            Check::Nothing => return Ok(ServerCertVerified::assertion()),
            Check::Chain(roots) => (roots, false),
            Check::ChainAndName(roots) => (roots, true),
        };
        let certificate = ParsedCertificate::try_from(end_entity)?;
        verify_server_cert_signed_by_trust_anchor(
            &certificate,
            roots,
            intermediates,
            now,
            self.provider.signature_verification_algorithms.all,
        )?;
        if verify_name {
            verify_server_name(&certificate, server_name)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    // The signature is checked in every mode: it proves that the peer holds the
    // key of the certificate it shows, which channel binding relies upon.
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// The `tls-server-end-point` binding (RFC 5929): a hash of the server's
/// certificate, by the hash of its signature and at least SHA-256. `None` when
/// that hash is not known here, and then SCRAM goes without.
pub(crate) fn server_end_point(stream: &TlsStream<TcpStream>) -> Option<Vec<u8>> {
    let certificate = stream.get_ref().1.peer_certificates()?.first()?;
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let suite = match parsed.signature_algorithm.algorithm.to_id_string().as_str() {
        // RSA with MD5, SHA-1 or SHA-256; ECDSA with SHA-1 or SHA-256.
        "1.2.840.113549.1.1.4"
        | "1.2.840.113549.1.1.5"
        | "1.2.840.113549.1.1.11"
        | "1.2.840.10045.4.1"
        | "1.2.840.10045.4.3.2" => ring::cipher_suite::TLS13_AES_128_GCM_SHA256,
        // RSA or ECDSA with SHA-384.
        "1.2.840.113549.1.1.12" | "1.2.840.10045.4.3.3" => {
            ring::cipher_suite::TLS13_AES_256_GCM_SHA384
        }
        _ => return None,
    };
    let hash = suite.tls13()?.common.hash_provider;
    Some(hash.hash(certificate).as_ref().to_vec())
}
