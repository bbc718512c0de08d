//! What a registry has under a name, and for which machine it is.

use std::io::Read;

use ketch_registry::{Client, Fetched};
use ketch_spec::image::{Descriptor, Index, Manifest, media_type};
use ketch_spec::{Platform, Reference};
use serde_json::Value;

use super::super::{RegistryAccess, failed};
use super::drafts::VERSION;
use super::{Annotation, Entry, Inspected};
use crate::{Error, ErrorKind, Result};

/// Largest config read, in bytes.
const CONFIG_MAX: u64 = 4 << 20;

/// Operating systems and architectures of Go, as Docker accepts them in a list.
const SYSTEMS: [&str; 12] = [
    "aix",
    "android",
    "darwin",
    "dragonfly",
    "freebsd",
    "illumos",
    "linux",
    "netbsd",
    "openbsd",
    "plan9",
    "solaris",
    "windows",
];
const ARCHITECTURES: [&str; 15] = [
    "386", "amd64", "arm", "arm64", "loong64", "mips", "mipsle", "mips64", "mips64le", "ppc64",
    "ppc64le", "riscv64", "s390x", "sparc64", "wasm",
];

/// One image of a list to be.
pub(super) fn fetch(access: &RegistryAccess, image: &Reference) -> Result<Entry> {
    let client = access.client_for(image)?;
    let fetched = resolve(&client, image)?;
    if is_list(&fetched.media_type) {
        let message = format!("{} is a manifest list", image.familiar());
        return Err(Error::new(ErrorKind::Invalid, message).hint(
            "name the images in it, each by its digest: `ketch manifest inspect` shows them",
        ));
    }
    entry(&client, image, fetched)
}

/// What a registry has under a name.
pub(super) fn inspect(access: &RegistryAccess, name: &Reference, all: bool) -> Result<Inspected> {
    let client = access.client_for(name)?;
    let fetched = resolve(&client, name)?;
    if !is_list(&fetched.media_type) {
        return Ok(Inspected::Manifest(Box::new(entry(
            &client, name, fetched,
        )?)));
    }
    let document = text(&fetched)?;
    let mut entries = Vec::new();
    if all {
        let index: Index = ketch_spec::document::parse(&fetched.bytes)
            .map_err(|error| unreadable(name, &error))?;
        for child in index.manifests {
            let one = name.with_digest(child.digest.clone());
            let fetched = resolve(&client, &one)?;
            entries.push(Entry {
                version: VERSION,
                reference: one,
                raw: text(&fetched)?,
                descriptor: child,
            });
        }
    }
    Ok(Inspected::List { document, entries })
}

/// What a registry has under a name: its document's descriptor, and the machines it is for.
#[derive(Debug, Clone)]
pub struct Described {
    /// Of the manifest or index.
    pub descriptor: Descriptor,
    /// The machines; none for what is no image.
    pub platforms: Vec<Platform>,
}

/// Asks a registry for a name.
///
/// # Errors
/// `NotFound` if there is nothing, `Unauthorised` or `Forbidden` if it is not for us, `Unavailable` if the registry
/// cannot be reached, `Invalid` for what cannot be read.
pub fn describe(access: &RegistryAccess, name: &Reference) -> Result<Described> {
    let client = access.client_for(name)?;
    let fetched = resolve(&client, name)?;
    let descriptor = fetched.descriptor();
    let platforms = if is_list(&fetched.media_type) {
        let index: Index = ketch_spec::document::parse(&fetched.bytes)
            .map_err(|error| unreadable(name, &error))?;
        let known = index.manifests.into_iter().filter_map(|one| one.platform);
        known.collect()
    } else {
        let platform = entry(&client, name, fetched)?.descriptor.platform;
        platform.into_iter().collect()
    };
    Ok(Described {
        descriptor,
        platforms,
    })
}

fn resolve(client: &Client, name: &Reference) -> Result<Fetched> {
    client.resolve(name).map_err(|error| match error {
        ketch_registry::Error::ManifestNotFound { .. } => {
            let message = format!("no such manifest: {}", name.familiar());
            let mut missing = Error::caused(ErrorKind::NotFound, message, &error);
            missing.hints.extend(error.hint());
            missing
        }
        _ => failed(format!("cannot inspect {}", name.familiar()), &error),
    })
}

fn entry(client: &Client, name: &Reference, fetched: Fetched) -> Result<Entry> {
    let manifest: Manifest =
        ketch_spec::document::parse(&fetched.bytes).map_err(|error| unreadable(name, &error))?;
    let platform = platform(client, name, &manifest.config)?;
    Ok(Entry {
        version: VERSION,
        reference: name.clone(),
        raw: text(&fetched)?,
        descriptor: Descriptor {
            platform,
            ..fetched.descriptor()
        },
    })
}

/// The machine that an image's config names; None for what is no image.
fn platform(client: &Client, name: &Reference, config: &Descriptor) -> Result<Option<Platform>> {
    if config.size > CONFIG_MAX {
        let message = format!(
            "the config of {} has {} bytes",
            name.familiar(),
            config.size
        );
        return Err(Error::new(ErrorKind::Invalid, message));
    }
    let mut bytes = Vec::new();
    client
        .blob(name, config, 0)
        .map_err(|error| failed(format!("cannot inspect {}", name.familiar()), &error))?
        .read_to_end(&mut bytes)
        .map_err(|error| {
            let message = format!("cannot read the config of {}", name.familiar());
            Error::caused(ErrorKind::Unavailable, message, &error)
        })?;
    let Ok(Value::Object(config)) = serde_json::from_slice::<Value>(&bytes) else {
        return Ok(None);
    };
    let word = |name: &str| config.get(name).and_then(Value::as_str);
    let (Some(os), Some(architecture)) = (word("os"), word("architecture")) else {
        return Ok(None);
    };
    let mut platform = Platform::new(os, architecture, word("variant"));
    for name in ["os.version", "os.features"] {
        if let Some(value) = config.get(name).filter(|value| !value.is_null()) {
            platform.other.insert(name.into(), value.clone());
        }
    }
    Ok(Some(platform))
}

/// Sets what an annotation sets.
pub(super) fn annotate(entry: &mut Entry, annotation: &Annotation) -> Result<()> {
    let platform = entry
        .descriptor
        .platform
        .get_or_insert_with(Platform::default);
    let set = |field: &mut String, value: &Option<String>| {
        if let Some(value) = value.as_ref().filter(|value| !value.is_empty()) {
            field.clone_from(value);
        }
    };
    set(&mut platform.os, &annotation.os);
    set(&mut platform.architecture, &annotation.architecture);
    if let Some(variant) = annotation.variant.as_ref().filter(|text| !text.is_empty()) {
        platform.variant = Some(variant.clone());
    }
    if let Some(version) = &annotation.os_version {
        platform
            .other
            .insert("os.version".into(), version.as_str().into());
    }
    if !annotation.os_features.is_empty() {
        let features = platform
            .other
            .entry("os.features")
            .or_insert_with(|| Value::Array(Vec::new()));
        if let Value::Array(features) = features {
            for feature in &annotation.os_features {
                if !features.iter().any(|known| known == feature.as_str()) {
                    features.push(feature.as_str().into());
                }
            }
        }
    }
    check(entry)
}

/// Whether a list may name an entry.
pub(super) fn check(entry: &Entry) -> Result<()> {
    let unknown = Platform::default();
    let platform = entry.descriptor.platform.as_ref().unwrap_or(&unknown);
    if platform.os.is_empty() || platform.architecture.is_empty() {
        let message = format!(
            "manifest {} must have an OS and Architecture to be pushed to a registry",
            entry.reference
        );
        return Err(Error::new(ErrorKind::Invalid, message)
            .hint("`ketch manifest annotate --os OS --arch ARCH` says which"));
    }
    if !SYSTEMS.contains(&platform.os.as_str())
        || !ARCHITECTURES.contains(&platform.architecture.as_str())
    {
        let message = format!(
            "manifest entry for image has unsupported os/arch combination: {}/{}",
            platform.os, platform.architecture
        );
        return Err(Error::new(ErrorKind::Invalid, message));
    }
    Ok(())
}

fn is_list(kind: &str) -> bool {
    matches!(kind, media_type::INDEX | media_type::DOCKER_LIST)
}

fn text(fetched: &Fetched) -> Result<String> {
    String::from_utf8(fetched.bytes.clone()).map_err(|error| {
        let message = format!("manifest {} is not UTF-8", fetched.digest);
        Error::caused(ErrorKind::Invalid, message, &error)
    })
}

fn unreadable(name: &Reference, error: &serde_json::Error) -> Error {
    let message = format!("the manifest of {} cannot be read", name.familiar());
    Error::caused(ErrorKind::Invalid, message, error)
}
