//! Image documents.

use ketch_spec::image::{ImageConfig, Index, Manifest};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Parses, and parses what it is written as: nothing may get lost on the way.
fn round<T: DeserializeOwned + Serialize + PartialEq + std::fmt::Debug>(bytes: &[u8]) -> Option<T> {
    let value: T = serde_json::from_slice(bytes).ok()?;
    let written = match serde_json::to_vec(&value) {
        Ok(written) => written,
        Err(error) => panic!("{value:?} cannot be written: {error}"),
    };
    match serde_json::from_slice::<T>(&written) {
        Ok(again) => assert_eq!(value, again),
        Err(error) => panic!("{value:?} cannot be read again: {error}"),
    }
    Some(value)
}

/// A manifest or an index.
pub(crate) fn manifest(bytes: &[u8]) {
    if let Some(manifest) = round::<Manifest>(bytes) {
        for descriptor in manifest.layers.iter().chain([&manifest.config]) {
            assert_eq!(descriptor.digest.hex().len(), 64);
        }
    }
    round::<Index>(bytes);
}

/// An image config.
pub(crate) fn config(bytes: &[u8]) {
    round::<ImageConfig>(bytes);
}
