//! `tag`.

use ketch_spec::Reference;

use super::{ImageError, artifact, resolve, tell};
use crate::{Engine, Error, ErrorKind, Result, event};

/// Gives an image (a reference, id or id prefix) another name. A name that meant another image is taken from it.
///
/// # Errors
/// `NotFound` ("No such image: x"), `Invalid` for a name that is none or that has a digest.
pub fn tag(engine: &Engine, source: &str, target: &str) -> Result<Reference> {
    let reference: Reference = target.parse().map_err(|error| {
        Error::caused(
            ErrorKind::Invalid,
            format!("{target:?} is not a valid repository/tag"),
            &error,
        )
    })?;
    if reference.digest.is_some() {
        return Err(Error::new(
            ErrorKind::Invalid,
            "refusing to create a tag with a digest reference",
        ));
    }
    refuse_ambiguous(&reference)?;
    let _lock = engine.store().lock_shared().map_err(ImageError::from)?;
    let image = artifact::or_artifact(engine, source, resolve(engine, source))?;
    let already_remote = image
        .repo_digests
        .iter()
        .any(|r| r.host == reference.host && r.repository == reference.repository);
    engine
        .store()
        .set_tag(&reference, &image.target, already_remote)
        .map_err(ImageError::from)?;
    tell(
        engine,
        event::Event::now("image", "tag", image.id.to_string()).with("name", reference.familiar()),
    );
    Ok(reference)
}

/// `sha256:…` names an image by its digest: no repository may be called so.
///
/// # Errors
/// `Invalid`, in Docker's words.
pub(super) fn refuse_ambiguous(name: &Reference) -> Result<()> {
    if name.familiar_name() == "sha256" {
        return Err(Error::new(
            ErrorKind::Invalid,
            "refusing to create an ambiguous tag using digest algorithm as name",
        ));
    }
    Ok(())
}

/// Takes a name away; the image stays, untagged if it was its last name. For the API's `DELETE` with `noprune`.
///
/// # Errors
/// `NotFound` if there is no such name.
pub fn untag(engine: &Engine, reference: &Reference) -> Result<()> {
    if engine
        .store()
        .remove_tag(reference, true)
        .map_err(ImageError::from)?
    {
        return Ok(());
    }
    Err(super::no_such_image(&reference.familiar()))
}
