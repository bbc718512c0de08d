//! What registries send, and the settings of how they are reached.

use std::path::Path;

use crate::bytes::first_line;

/// An answer as it is on the wire, without its first line but for the status: `401`, headers, an empty line, a document.
pub(crate) fn answer(bytes: &[u8]) {
    let (status, mut rest) = first_line(bytes);
    let status = std::str::from_utf8(status)
        .ok()
        .and_then(|text| text.trim().parse().ok());
    let mut headers = Vec::new();
    while headers.len() < 20 {
        let (line, after) = first_line(rest);
        rest = after;
        let Ok(line) = std::str::from_utf8(line) else {
            break;
        };
        ketch_registry::fuzz::header(line);
        match line.split_once(':') {
            Some((name, value)) => headers.push((name, value.trim())),
            None => break,
        }
    }
    ketch_registry::fuzz::answer(status.unwrap_or(200), &headers, rest);
}

/// `registries.toml`, or the text of `config.json` that Docker takes from the environment.
pub(crate) fn settings(bytes: &[u8]) {
    if let Err(error) = ketch_engine::fuzz::registries(bytes) {
        assert!(!error.to_string().is_empty());
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = ketch_registry::read_auths(text, Path::new("DOCKER_AUTH_CONFIG"));
    }
}
