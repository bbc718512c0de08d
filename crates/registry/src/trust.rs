//! Certificates of single hosts: authorities beside the machine's, and who we are.

use std::sync::Arc;

use ketch_spec::reference::DEFAULT_HOST;
use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, parse_pem};

use crate::client::HUB_ENDPOINT;
use crate::error::{Error, Result};
use crate::network::split_authority;
use crate::options::HostTrust;

/// A host's certificates, read.
pub(crate) struct Trust {
    host: String,
    authorities: Vec<Certificate<'static>>,
    pub identity: Option<ClientCert>,
}

impl Trust {
    pub fn read(given: &HostTrust) -> Result<Self> {
        let wrong = |what: &'static str| Error::Certificates {
            host: given.host.clone(),
            origin: given.origin.clone(),
            what,
        };
        let mut authorities = Vec::new();
        for pem in &given.authorities {
            let found = certificates(pem).ok_or_else(|| wrong("authorities"))?;
            authorities.extend(found);
        }
        let identity = match &given.identity {
            None => None,
            Some((chain, key)) => {
                let chain = certificates(chain).ok_or_else(|| wrong("client certificate"))?;
                let key = PrivateKey::from_pem(key).map_err(|_| wrong("client key"))?;
                Some(ClientCert::new_with_certs(&chain, key))
            }
        };
        Ok(Self {
            host: if given.host == DEFAULT_HOST {
                HUB_ENDPOINT.into()
            } else {
                given.host.clone()
            },
            authorities,
            identity,
        })
    }

    /// A host without a port means the port of https.
    pub fn is_for(&self, authority: &str) -> bool {
        let name = |text: &str| {
            let (host, port) = split_authority(text);
            (host.to_ascii_lowercase(), port.unwrap_or(443))
        };
        name(&self.host) == name(authority)
    }

    /// Its own authorities and the machine's: a registry may have its blobs at a host that everybody trusts.
    pub fn roots(&self) -> RootCerts {
        if self.authorities.is_empty() {
            return RootCerts::PlatformVerifier;
        }
        let machine = rustls_native_certs::load_native_certs().certs;
        let machine = machine
            .iter()
            .map(|certificate| Certificate::from_der(certificate.as_ref()).to_owned());
        RootCerts::Specific(Arc::new(
            self.authorities.iter().cloned().chain(machine).collect(),
        ))
    }
}

/// All certificates of a PEM text; None if there is none, or one that is broken.
fn certificates(pem: &[u8]) -> Option<Vec<Certificate<'static>>> {
    let mut found = Vec::new();
    for item in parse_pem(pem) {
        if let PemItem::Certificate(certificate) = item.ok()? {
            found.push(certificate);
        }
    }
    (!found.is_empty()).then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_certificate_is_named() {
        let given = HostTrust {
            host: "r.example".into(),
            origin: "certs.d/r.example".into(),
            authorities: vec![b"nothing".to_vec()],
            identity: None,
        };
        let error = Trust::read(&given).err().unwrap().to_string();
        assert!(
            error.contains("certs.d/r.example") && error.contains("authorities"),
            "{error}"
        );
    }

    #[test]
    fn hosts_are_compared_with_their_ports() {
        let trust = Trust {
            host: "r.example".into(),
            authorities: vec![],
            identity: None,
        };
        assert!(trust.is_for("R.example:443") && !trust.is_for("r.example:5000"));
    }
}
