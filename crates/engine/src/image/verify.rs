//! Reading again what images are made of.

use std::collections::BTreeSet;

use ketch_spec::Digest;
use ketch_spec::image::{Descriptor, ImageConfig, Index, Manifest, media_type};
use ketch_store::Health;

use super::{ImageError, resolve};
use crate::{Engine, Result};

/// How deep indexes may nest.
const MAX_INDEX_DEPTH: usize = 8;

/// What something is of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// An index of manifests.
    Index,
    /// A manifest.
    Manifest,
    /// A config.
    Config,
    /// A layer as registries have it.
    Blob,
    /// A layer as containers use it.
    Layer,
}

impl Part {
    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Index => "index",
            Self::Manifest => "manifest",
            Self::Config => "config",
            Self::Blob => "blob",
            Self::Layer => "layer",
        }
    }
}

/// What was found of one part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// What it is.
    pub part: Part,
    /// Its digest; a layer's is its diff id.
    pub digest: Digest,
    /// How it is.
    pub health: Health,
    /// It may be missing: a layer that its image says is to be had elsewhere.
    pub optional: bool,
}

impl Verified {
    /// Whether something has to be done: it is damaged, or missing and should not be.
    pub fn is_bad(&self) -> bool {
        match self.health {
            Health::Sound | Health::Unknown => false,
            Health::Damaged(_) => true,
            Health::Missing => !self.optional,
        }
    }
}

/// Reads every part of `wanted` images, or of all, and compares digests: of blobs, and of layers that are kept as
/// archives, whose images are made anew and compared too. What several images share is read once. Tells `observer` of
/// each part, and returns how many are bad.
///
/// # Errors
/// `NotFound`; the disk's. What is damaged is no error.
pub fn verify(engine: &Engine, wanted: &[String], observer: &dyn Fn(&Verified)) -> Result<usize> {
    // So that nothing is collected meanwhile.
    let _lock = engine.store().lock_shared().map_err(ImageError::from)?;
    let mut targets = Vec::new();
    if wanted.is_empty() {
        let records = engine.store().images().map_err(ImageError::from)?;
        targets.extend(records.into_iter().map(|record| record.target));
    }
    for name in wanted {
        targets.push(resolve(engine, name)?.target);
    }
    let mut verifier = Verifier {
        engine,
        observer,
        seen: BTreeSet::new(),
        bad: 0,
    };
    for target in &targets {
        verifier.target(target, 0)?;
    }
    Ok(verifier.bad)
}

struct Verifier<'a> {
    engine: &'a Engine,
    observer: &'a dyn Fn(&Verified),
    seen: BTreeSet<(Part, Digest)>,
    bad: usize,
}

impl Verifier<'_> {
    /// An index or manifest, with what it names.
    fn target(&mut self, target: &Descriptor, depth: usize) -> Result<()> {
        let store = self.engine.store();
        let kind = target.media_type.as_str();
        let is_index = matches!(kind, media_type::INDEX | media_type::DOCKER_LIST);
        let part = if is_index {
            Part::Index
        } else {
            Part::Manifest
        };
        if depth > MAX_INDEX_DEPTH || !self.blob(part, &target.digest, false)? {
            return Ok(());
        }
        if is_index {
            let index: Index = store.document(&target.digest).map_err(ImageError::from)?;
            for child in &index.manifests {
                // Platforms that were never asked for are not here.
                if store.has(&child.digest) {
                    self.target(child, depth + 1)?;
                }
            }
            return Ok(());
        }
        let manifest: Manifest = store.document(&target.digest).map_err(ImageError::from)?;
        for layer in &manifest.layers {
            let elsewhere = layer.media_type.contains(".foreign.")
                || layer.media_type.contains(".nondistributable.");
            self.blob(Part::Blob, &layer.digest, elsewhere)?;
        }
        if self.blob(Part::Config, &manifest.config.digest, false)?
            // An artifact's config need not be an image config.
            && let Ok(config) = store.document::<ImageConfig>(&manifest.config.digest)
        {
            for diff_id in &config.rootfs.diff_ids {
                self.layer(diff_id)?;
            }
        }
        Ok(())
    }

    /// True if it is sound and was not seen before.
    fn blob(&mut self, part: Part, digest: &Digest, optional: bool) -> Result<bool> {
        if !self.seen.insert((part, digest.clone())) {
            return Ok(false);
        }
        let health = self
            .engine
            .store()
            .verify_blob(digest)
            .map_err(ImageError::from)?;
        let is_sound = health == Health::Sound;
        self.tell(part, digest, health, optional);
        Ok(is_sound)
    }

    fn layer(&mut self, diff_id: &Digest) -> Result<()> {
        if self.seen.insert((Part::Layer, diff_id.clone())) {
            let health = self
                .engine
                .store()
                .verify_layer(diff_id)
                .map_err(ImageError::from)?;
            self.tell(Part::Layer, diff_id, health, false);
        }
        Ok(())
    }

    fn tell(&mut self, part: Part, digest: &Digest, health: Health, optional: bool) {
        let verified = Verified {
            part,
            digest: digest.clone(),
            health,
            optional,
        };
        self.bad += usize::from(verified.is_bad());
        (self.observer)(&verified);
    }
}
