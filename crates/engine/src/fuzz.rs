//! What the fuzzers reach besides the public interface.

use std::path::Path;

use crate::registry::FileError;

/// Reads the text of a `registries.toml`.
///
/// # Errors
/// What is wrong with it.
pub fn registries(text: &[u8]) -> Result<(), FileError> {
    crate::registry::file::check(Path::new("/nonexistent/registries.toml"), text)
}
