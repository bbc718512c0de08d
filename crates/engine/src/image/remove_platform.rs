//! `rmi --platform`: some platforms of an image that is an index go, the others stay.

use ketch_spec::image::{ImageConfig, Manifest};
use ketch_spec::{Digest, Platform};

use super::remove::{conflict, layer_lines};
use super::usage::{is_running, uses};
use super::variant::{Variant, not_provided, variants};
use super::{ImageError, RemovedImage, collect, resolve, tell};
use crate::{Engine, Result, container, event};

/// Takes platforms out of an image. Its names and its digest stay what they are: what is gone can be pulled again.
///
/// # Errors
/// `NotFound` for a platform that is not here; `Conflict` if a container uses it (`force` overrides a stopped one), or if
/// no platform would be left.
pub(super) fn remove_platforms(
    engine: &Engine,
    wanted: &str,
    platforms: &[Platform],
    force: bool,
) -> Result<Vec<RemovedImage>> {
    let image = resolve(engine, wanted)?;
    let mut left = variants(engine, &image)?;
    let mut going: Vec<Variant> = Vec::new();
    for platform in platforms {
        let at = left
            .iter()
            .position(|variant| platform.matches(&variant.platform))
            .ok_or_else(|| not_provided(wanted, platform))?;
        going.push(left.remove(at));
    }
    if left.is_empty() {
        return Err(conflict(
            &image.id,
            "must be removed whole",
            "no other platform of it is here",
        ));
    }
    let layers = layers_of(engine, &going)?;
    {
        // Whoever reads an index relies on what it found there until it is done.
        let exclusive = engine.store().lock_exclusive().map_err(ImageError::from)?;
        check_unused(engine, &going, force)?;
        for variant in &going {
            // Commit point: without its manifest a platform is not here.
            engine
                .store()
                .forget(&variant.manifest.digest, &exclusive)
                .map_err(ImageError::from)?;
        }
    }
    let mut removed = Vec::new();
    for variant in &going {
        tell(
            engine,
            event::Event::now("image", "delete", variant.id.to_string()),
        );
        removed.push(RemovedImage::Deleted(variant.manifest.digest.to_string()));
    }
    let freed = collect(engine)?;
    for layers in layers {
        removed.extend(layer_lines(&layers, &freed));
    }
    removed.dedup();
    Ok(removed)
}

fn layers_of(engine: &Engine, variants: &[Variant]) -> Result<Vec<Vec<Digest>>> {
    let store = engine.store();
    let mut all = Vec::with_capacity(variants.len());
    for variant in variants {
        let manifest: Manifest = store
            .document(&variant.manifest.digest)
            .map_err(ImageError::from)?;
        let config: ImageConfig = store
            .document(&manifest.config.digest)
            .map_err(ImageError::from)?;
        all.push(config.rootfs.diff_ids);
    }
    Ok(all)
}

fn check_unused(engine: &Engine, going: &[Variant], force: bool) -> Result<()> {
    let containers = container::list(engine)?;
    for variant in going {
        let users = || {
            let ids = std::slice::from_ref(&variant.id);
            containers.iter().filter(move |one| uses(one, ids))
        };
        if let Some(user) = users().find(|one| is_running(one)) {
            let reason = format!(
                "image is being used by running container {}",
                user.config.id.short()
            );
            return Err(conflict(&variant.id, "cannot be forced", &reason));
        }
        if let Some(user) = users().next().filter(|_| !force) {
            let reason = format!(
                "image is being used by stopped container {}",
                user.config.id.short()
            );
            return Err(conflict(&variant.id, "must be forced", &reason));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::remove::chain_ids;
    use super::*;

    #[test]
    fn chains_name_layers_with_what_is_below_them() {
        let layers = [Digest::of(b"a"), Digest::of(b"b")];
        let freed = ketch_store::Freed {
            layers: vec![layers[1].clone()],
            ..Default::default()
        };
        let lines: Vec<RemovedImage> = layer_lines(&layers, &freed).collect();
        let chain = chain_ids(&layers).pop().unwrap();
        assert_eq!(lines, [RemovedImage::Deleted(chain.to_string())]);
    }
}
