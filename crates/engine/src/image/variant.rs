//! The platforms of an image that are here: an index can have several, a manifest has one.

use ketch_spec::image::{Descriptor, ImageConfig, Index, Manifest, media_type};
use ketch_spec::{Digest, Platform};

use super::resolve::{MAX_INDEX_DEPTH, assemble, list_manifests};
use super::{Image, ImageError};
use crate::{Engine, Error, ErrorKind, Result};

/// One platform of an image that is here.
#[derive(Debug, Clone)]
pub struct Variant {
    /// For which machines.
    pub platform: Platform,
    /// Its manifest.
    pub manifest: Descriptor,
    /// The digest of its config.
    pub id: Digest,
    /// Content of the files of its layers in bytes.
    pub size_bytes: u64,
    /// Its blobs in bytes, as a registry has them.
    pub content_bytes: u64,
}

/// The platforms of an image that are here, in the order of its index.
///
/// # Errors
/// Its documents cannot be read.
pub fn variants(engine: &Engine, image: &Image) -> Result<Vec<Variant>> {
    let store = engine.store();
    let mut found = Vec::new();
    list_manifests(engine, &image.target, &mut found, 0)?;
    let mut variants = Vec::with_capacity(found.len());
    for (manifest, platform) in found {
        let document: Manifest = store.document(&manifest.digest).map_err(ImageError::from)?;
        let config: ImageConfig = store
            .document(&document.config.digest)
            .map_err(ImageError::from)?;
        // What only came in pieces so far counts with what is here of it.
        let size_bytes = config
            .rootfs
            .diff_ids
            .iter()
            .map(|diff_id| store.layer(diff_id).map_or(0, |record| record.size_bytes))
            .sum();
        let layers: u64 = document.layers.iter().map(|layer| layer.size).sum();
        variants.push(Variant {
            platform,
            content_bytes: layers + document.config.size + manifest.size,
            id: document.config.digest,
            manifest,
            size_bytes,
        });
    }
    Ok(variants)
}

/// What an image's index names, here or not.
#[derive(Debug, Clone)]
pub struct Member {
    /// Its entry in the index, or the image's own manifest.
    pub manifest: Descriptor,
    /// What it is.
    pub kind: MemberKind,
}

/// What a member of an index is.
#[derive(Debug, Clone)]
pub enum MemberKind {
    /// An image for a platform that is here.
    Here(Box<Variant>),
    /// An image for a platform that is not here.
    Elsewhere(Platform),
    /// What is said about another member (BuildKit's provenance, a list of software).
    Attestation {
        /// The manifest that it is about.
        about: String,
        /// Whether it is here.
        here: bool,
    },
    /// Anything else.
    Unknown {
        /// Whether it is here.
        here: bool,
    },
}

/// Everything that an image's index names, in its order; of an image without an index its one manifest.
///
/// # Errors
/// Its documents cannot be read.
pub fn members(engine: &Engine, image: &Image) -> Result<Vec<Member>> {
    let here = variants(engine, image)?;
    let mut found = Vec::new();
    list_members(engine, &image.target, &here, &mut found, 0)?;
    Ok(found)
}

fn list_members(
    engine: &Engine,
    target: &Descriptor,
    variants: &[Variant],
    found: &mut Vec<Member>,
    depth: usize,
) -> Result<()> {
    let store = engine.store();
    let here = store.has(&target.digest);
    let is_list = matches!(
        target.media_type.as_str(),
        media_type::INDEX | media_type::DOCKER_LIST
    );
    if is_list && here && depth <= MAX_INDEX_DEPTH {
        let index: Index = store.document(&target.digest).map_err(ImageError::from)?;
        for child in &index.manifests {
            list_members(engine, child, variants, found, depth + 1)?;
        }
        return Ok(());
    }
    let variant = variants
        .iter()
        .find(|variant| variant.manifest.digest == target.digest);
    let kind = match (variant, &target.platform, target.annotations.get(ATTESTED)) {
        (Some(variant), ..) => MemberKind::Here(Box::new(variant.clone())),
        (None, _, Some(about)) => MemberKind::Attestation {
            about: about.clone(),
            here,
        },
        (None, Some(platform), None) if platform.os != "unknown" => {
            MemberKind::Elsewhere(platform.clone())
        }
        (None, ..) => MemberKind::Unknown { here },
    };
    found.push(Member {
        manifest: target.clone(),
        kind,
    });
    Ok(())
}

/// The ids by which containers know a target: one a platform.
pub(super) fn ids_of(engine: &Engine, target: &Descriptor) -> Result<Vec<Digest>> {
    let mut found = Vec::new();
    list_manifests(engine, target, &mut found, 0)?;
    let mut ids = Vec::with_capacity(found.len());
    for (manifest, _) in found {
        let document: Manifest = engine
            .store()
            .document(&manifest.digest)
            .map_err(ImageError::from)?;
        ids.push(document.config.digest);
    }
    Ok(ids)
}

/// The image with this id, of whatever platform; None if it is gone.
///
/// # Errors
/// The records cannot be read.
pub fn find_by_id(engine: &Engine, id: &Digest) -> Result<Option<Image>> {
    let records = engine.store().images().map_err(ImageError::from)?;
    for record in &records {
        let mut found = Vec::new();
        list_manifests(engine, &record.target, &mut found, 0)?;
        for (manifest, _) in found {
            let document: Manifest = engine
                .store()
                .document(&manifest.digest)
                .map_err(ImageError::from)?;
            if document.config.digest == *id {
                return assemble(engine, &record.target, &manifest, &records).map(Some);
            }
        }
    }
    Ok(None)
}

/// `--platform` named one that the image does not have, in Docker's words.
pub(super) fn not_provided(wanted: &str, platform: &Platform) -> Error {
    Error::new(
        ErrorKind::NotFound,
        format!(
            "image with reference {wanted} was found but does not provide the specified platform ({platform})"
        ),
    )
}

/// Which children of an index `wanted` platforms mean: the best match of each, and the attestations of those. No
/// platform means all of them. None if the index lacks one of the platforms: then the caller says which.
pub(super) fn select(children: &[Descriptor], wanted: &[Platform]) -> Vec<Descriptor> {
    if wanted.is_empty() {
        return children.to_vec();
    }
    let unknown = Platform::default();
    let mut chosen: Vec<&Digest> = Vec::new();
    for platform in wanted {
        let platforms = children
            .iter()
            .map(|child| child.platform.as_ref().unwrap_or(&unknown));
        if let Some(at) = platform.choose(platforms) {
            chosen.push(&children[at].digest);
        }
    }
    let is_wanted = |child: &&Descriptor| {
        let subject = child.annotations.get(ATTESTED);
        // A child that names no platform tells it in its config; whoever reads that decides.
        child.platform.is_none()
            || chosen.contains(&&child.digest)
            || subject.is_some_and(|subject| chosen.iter().any(|one| one.as_str() == subject))
    };
    children.iter().filter(is_wanted).cloned().collect()
}

/// On an attestation's entry in an index (BuildKit): the manifest it is about.
const ATTESTED: &str = "vnd.docker.reference.digest";

#[cfg(test)]
mod tests {
    use super::*;

    fn child(platform: Option<&str>, content: &str, about: Option<&Digest>) -> Descriptor {
        Descriptor {
            media_type: ketch_spec::image::media_type::MANIFEST.into(),
            digest: Digest::of(content.as_bytes()),
            size: 1,
            platform: platform.map(|text| text.parse().unwrap()),
            annotations: about
                .map(|digest| (ATTESTED.to_owned(), digest.to_string()))
                .into_iter()
                .collect(),
            other: Default::default(),
        }
    }

    #[test]
    fn a_platform_selects_its_manifest_and_what_attests_it() {
        let amd = child(Some("linux/amd64"), "amd", None);
        let arm = child(Some("linux/arm64"), "arm", None);
        let mut about = child(None, "about", Some(&arm.digest));
        about.platform = Some(Platform::new("unknown", "unknown", None));
        let all = [amd.clone(), arm.clone(), about.clone()];
        assert_eq!(select(&all, &[]), all);
        assert_eq!(
            select(&all, &["linux/arm64".parse().unwrap()]),
            [arm, about]
        );
        assert_eq!(select(&all, &["linux/amd64".parse().unwrap()]), [amd]);
        assert!(select(&all, &["linux/s390x".parse().unwrap()]).is_empty());
    }
}
