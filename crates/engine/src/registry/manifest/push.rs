//! Sending a list: its images' blobs where they are missing, its images by digest, then the list by its name.

use std::io::{self, Read};

use ketch_registry::Client;
use ketch_spec::image::{Descriptor, Index, Manifest, media_type};
use ketch_spec::{Digest, Reference};
use serde_json::{Map, Value, json};

use super::super::failed;
use super::describe::check;
use super::{Entry, Lists, no_such_list};
use crate::{Error, ErrorKind, Result};

/// What was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushedList {
    /// Each image, as the list's repository names it.
    pub images: Vec<Reference>,
    /// The digest of the list.
    pub digest: Digest,
}

/// Sends a list to the registry that its name says. With `purge` it is forgotten afterwards.
///
/// # Errors
/// `NotFound` for a list that is not there, `Invalid` for an image without a platform or of another registry, and the
/// registry's.
pub fn push(lists: &Lists, list: &Reference, purge: bool) -> Result<PushedList> {
    let entries = lists.drafts.read(list)?.ok_or_else(|| no_such_list(list))?;
    for entry in &entries {
        check(entry)?;
        if entry.reference.host != list.host {
            let message = format!(
                "cannot use source images from a different registry than the target image: {} != {}",
                entry.reference.host, list.host
            );
            return Err(Error::new(ErrorKind::Invalid, message));
        }
    }
    let client = lists.access.client_for(list)?;
    let mut images = Vec::new();
    for entry in &entries {
        images.push(send(&client, list, entry)?);
    }
    let document = document(&entries)?;
    // Commit point of a push: the list's name at the registry.
    let digest = client
        .put_manifest(list, kind(&entries), document.as_bytes())
        .map_err(|error| failed(format!("cannot push {}", list.familiar()), &error))?;
    if purge {
        lists.drafts.remove(list)?;
    }
    Ok(PushedList { images, digest })
}

/// Sends one image of the list to the list's repository.
fn send(client: &Client, list: &Reference, entry: &Entry) -> Result<Reference> {
    let target = list.with_digest(entry.descriptor.digest.clone());
    let refused = |error: ketch_registry::Error| {
        failed(
            format!("cannot push {} to {}", entry.reference, list.familiar()),
            &error,
        )
    };
    if entry.reference.repository != list.repository {
        let manifest: Manifest = serde_json::from_str(&entry.raw).map_err(|error| {
            let message = format!("the manifest of {} cannot be read", entry.reference);
            Error::caused(ErrorKind::Invalid, message, &error)
        })?;
        for blob in manifest.layers.iter().chain([&manifest.config]) {
            carry(client, &entry.reference, list, blob).map_err(refused)?;
        }
    }
    client
        .put_manifest(&target, &entry.descriptor.media_type, entry.raw.as_bytes())
        .map_err(refused)?;
    Ok(target)
}

/// Makes a blob one of the list's repository: mounted where the registry does that, through us where it does not.
fn carry(
    client: &Client,
    from: &Reference,
    to: &Reference,
    blob: &Descriptor,
) -> ketch_registry::Result<()> {
    if client.blob_exists(to, &blob.digest)? || client.mount(to, &blob.digest, &from.repository)? {
        return Ok(());
    }
    let mut open = |offset: u64| -> io::Result<Box<dyn Read>> {
        let stream = client.blob(from, blob, offset).map_err(io::Error::other)?;
        Ok(stream)
    };
    client.upload_blob(to, blob, &mut open)
}

/// The list's document.
pub(super) fn document(entries: &[Entry]) -> Result<String> {
    let descriptors = entries.iter().map(|entry| entry.descriptor.clone());
    let index = match kind(entries) {
        media_type::DOCKER_LIST => json!({
            "schemaVersion": 2,
            "mediaType": media_type::DOCKER_LIST,
            "manifests": descriptors.map(in_dockers_order).collect::<Vec<_>>(),
        }),
        kind => json!(Index {
            schema_version: 2,
            media_type: Some(kind.into()),
            manifests: descriptors.collect(),
            other: Default::default(),
        }),
    };
    // Docker's indentation: three blanks.
    let mut bytes = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"   ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, formatter);
    let written = serde::Serialize::serialize(&index, &mut serializer);
    written
        .map_err(io::Error::other)
        .and_then(|()| String::from_utf8(bytes).map_err(io::Error::other))
        .map_err(|error| {
            Error::caused(
                ErrorKind::Internal,
                "cannot write the manifest list",
                &error,
            )
        })
}

/// The fields in the order in which Docker writes them, so that the same list has the same digest.
fn in_dockers_order(descriptor: Descriptor) -> Value {
    let mut platform = Map::new();
    if let Some(mut of) = descriptor.platform {
        platform.insert("architecture".into(), of.architecture.into());
        platform.insert("os".into(), of.os.into());
        for key in ["os.version", "os.features"] {
            if let Some(value) = of.other.shift_remove(key) {
                platform.insert(key.into(), value);
            }
        }
        if let Some(variant) = of.variant {
            platform.insert("variant".into(), variant.into());
        }
        platform.extend(of.other);
    }
    let mut fields = Map::new();
    fields.insert("mediaType".into(), descriptor.media_type.into());
    fields.insert("size".into(), descriptor.size.into());
    fields.insert("digest".into(), descriptor.digest.to_string().into());
    if !descriptor.annotations.is_empty() {
        fields.insert("annotations".into(), json!(descriptor.annotations));
    }
    fields.extend(descriptor.other);
    fields.insert("platform".into(), platform.into());
    fields.into()
}

/// Docker's list for Docker's images only: others belong into an OCI index.
fn kind(entries: &[Entry]) -> &'static str {
    let is_docker = |entry: &Entry| entry.descriptor.media_type == media_type::DOCKER_MANIFEST;
    if entries.iter().all(is_docker) {
        media_type::DOCKER_LIST
    } else {
        media_type::INDEX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_written_as_docker_writes_it() {
        let raw = r#"{"mediaType": "m", "digest": "sha256:0000000000000000000000000000000000000000000000000000000000000000", "size": 7,
            "platform": {"variant": "v8", "os.features": ["a"], "os": "linux", "os.version": "1", "architecture": "arm64"}}"#;
        let written = in_dockers_order(serde_json::from_str(raw).unwrap()).to_string();
        assert_eq!(
            written,
            r#"{"mediaType":"m","size":7,"digest":"sha256:0000000000000000000000000000000000000000000000000000000000000000","platform":{"architecture":"arm64","os":"linux","os.version":"1","os.features":["a"],"variant":"v8"}}"#
        );
    }
}
