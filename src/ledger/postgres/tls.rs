//! The protected channel to the ledger, with libpq's four levels.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{self, CryptoProvider};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::super::LedgerError;
use crate::config::settings::Tls;

/// Where certificate bundles of the usual distributions are.
const SYSTEM_BUNDLES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// What `sslmode`, `sslrootcert`, `sslcert` and `sslkey`, or `ledger.tls`, `.ca`, `.cert` and `.key`, ask for.
pub(super) struct Protection {
    pub(super) mode: Tls,
    /// `system` is the machine's bundle.
    pub(super) ca: Option<PathBuf>,
    pub(super) cert: Option<PathBuf>,
    pub(super) key: Option<PathBuf>,
}

/// # Errors
/// [`LedgerError::Invalid`] where a certificate can't be read.
pub(super) fn connector(protection: &Protection) -> Result<MakeRustlsConnect, LedgerError> {
    let provider = Arc::new(crypto::ring::default_provider());
    let verifier = verifier(protection, &provider)?;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| invalid(format!("TLS: {error}")))?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let config = match (&protection.cert, &protection.key) {
        (None, None) => builder.with_no_client_auth(),
        (Some(cert), Some(key)) => builder
            .with_client_auth_cert(certificates(cert)?, private_key(key)?)
            .map_err(|error| invalid(format!("{}: {error}", cert.display())))?,
        _ => return Err(invalid("ledger.cert and ledger.key go together".to_owned())),
    };
    Ok(MakeRustlsConnect::new(config))
}

fn verifier(
    protection: &Protection,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ServerCertVerifier>, LedgerError> {
    let full = protection.mode == Tls::VerifyFull;
    if !full && (protection.ca.is_none() || protection.mode != Tls::Require) {
        return Ok(Arc::new(Lenient { provider: Arc::clone(provider), chain: None }));
    }
    let chain = WebPkiServerVerifier::builder_with_provider(
        Arc::new(roots(protection.ca.as_deref())?),
        Arc::clone(provider),
    )
    .build()
    .map_err(|error| invalid(format!("ledger.ca: {error}")))?;
    if full {
        return Ok(chain);
    }
    // As libpq: with a CA, `require` also checks who signed, though not the name.
    Ok(Arc::new(Lenient { provider: Arc::clone(provider), chain: Some(chain) }))
}

fn roots(ca: Option<&Path>) -> Result<RootCertStore, LedgerError> {
    let path = match ca {
        Some(path) if path != Path::new("system") => path,
        _ => SYSTEM_BUNDLES.iter().map(Path::new).find(|path| path.exists()).ok_or_else(|| {
            invalid("verify-full needs ledger.ca: this machine has no bundle of certificates".to_owned())
        })?,
    };
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(certificates(path)?);
    if added == 0 {
        return Err(invalid(format!("ledger.ca: {} holds no usable certificate", path.display())));
    }
    Ok(roots)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, LedgerError> {
    CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|error| invalid(format!("{}: {error}", path.display())))
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, LedgerError> {
    PrivateKeyDer::from_pem_file(path).map_err(|error| invalid(format!("{}: {error}", path.display())))
}

fn invalid(why: String) -> LedgerError {
    LedgerError::Invalid(why)
}

/// Protects against who only listens: takes any certificate, or any that `chain` signed, whatever its name. That the
/// server holds the certificate's key is checked all the same.
#[derive(Debug)]
struct Lenient {
    provider: Arc<CryptoProvider>,
    chain: Option<Arc<WebPkiServerVerifier>>,
}

impl ServerCertVerifier for Lenient {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(chain) = &self.chain else { return Ok(ServerCertVerified::assertion()) };
        match chain.verify_server_cert(end_entity, intermediates, name, ocsp, now) {
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            verdict => verdict,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        crypto::verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        crypto::verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
