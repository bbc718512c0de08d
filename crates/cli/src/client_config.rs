//! `config.json` of the client: default formats, detach keys and proxies, as Docker's client reads them.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use serde::Deserialize;

use crate::failure::Failure;

/// The longest `config.json` that is read.
const MAX_BYTES: u64 = 4 << 20;

/// The keys that commands use; credentials are the registry client's business.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClientConfig {
    /// Default of `--detach-keys`.
    pub detach_keys: Option<String>,
    /// Default of `ps --format`.
    pub ps_format: Option<String>,
    /// Default of `images --format`.
    pub images_format: Option<String>,
    /// Default of `network ls --format`.
    pub networks_format: Option<String>,
    /// Default of `volume ls --format`.
    pub volumes_format: Option<String>,
    /// Filters that every prune gets.
    pub prune_filters: Vec<String>,
    /// Proxies for containers and builds, by daemon address; `default` is the one that applies.
    pub proxies: BTreeMap<String, Proxy>,
}

/// One entry of `proxies`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Proxy {
    /// For `http` addresses.
    pub http_proxy: Option<String>,
    /// For `https` addresses.
    pub https_proxy: Option<String>,
    /// For `ftp` addresses.
    pub ftp_proxy: Option<String>,
    /// For all.
    pub all_proxy: Option<String>,
    /// Not for these.
    pub no_proxy: Option<String>,
}

impl ClientConfig {
    /// Reads the file; a missing one means the defaults.
    ///
    /// # Errors
    /// It is there but cannot be read, or is not valid JSON.
    pub fn read(path: &Path) -> Result<Self, Failure> {
        let failure = |source| Failure::File {
            action: "read",
            path: path.to_owned(),
            source,
        };
        let file = match std::fs::File::open(path) {
            Ok(file) => file,
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) =>
            {
                return Ok(Self::default());
            }
            Err(source) => return Err(failure(source)),
        };
        let mut text = String::new();
        io::Read::read_to_string(&mut io::Read::take(file, MAX_BYTES), &mut text)
            .map_err(failure)?;
        serde_json::from_str(&text).map_err(|error| failure(error.into()))
    }

    /// `NAME=value` of the proxies, upper and lower case, that are given to containers and builds.
    pub fn proxy_variables(&self) -> Vec<String> {
        let Some(proxy) = self.proxies.get("default") else {
            return Vec::new();
        };
        let pairs = [
            ("HTTP_PROXY", &proxy.http_proxy),
            ("HTTPS_PROXY", &proxy.https_proxy),
            ("FTP_PROXY", &proxy.ftp_proxy),
            ("ALL_PROXY", &proxy.all_proxy),
            ("NO_PROXY", &proxy.no_proxy),
        ];
        pairs
            .into_iter()
            .filter_map(|(name, value)| {
                Some((name, value.as_ref().filter(|value| !value.is_empty())?))
            })
            .flat_map(|(name, value)| {
                [
                    format!("{name}={value}"),
                    format!("{}={value}", name.to_lowercase()),
                ]
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_keys_are_read_and_others_ignored() {
        let text = r#"{"auths":{},"psFormat":"{{.ID}}","detachKeys":"ctrl-q",
            "proxies":{"default":{"httpProxy":"http://p:1","noProxy":""}}}"#;
        let config: ClientConfig = serde_json::from_str(text).unwrap();
        assert_eq!(config.ps_format.as_deref(), Some("{{.ID}}"));
        assert_eq!(config.detach_keys.as_deref(), Some("ctrl-q"));
        assert_eq!(
            config.proxy_variables(),
            ["HTTP_PROXY=http://p:1", "http_proxy=http://p:1"]
        );
    }

    #[test]
    fn a_missing_file_means_defaults_and_a_broken_one_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.json");
        assert!(ClientConfig::read(&path).unwrap().ps_format.is_none());
        std::fs::write(&path, "{").unwrap();
        assert!(
            ClientConfig::read(&path)
                .unwrap_err()
                .to_string()
                .contains("config.json")
        );
    }
}
