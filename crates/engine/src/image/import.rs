//! `import`: an image of one layer out of a root file system's archive.

use std::io::Read;

use jiff::Timestamp;
use ketch_spec::image::{History, ImageConfig, RootFs};
use ketch_spec::{Digest, Platform, Reference};

use super::{ImageError, NewImage, change, collect, commit, tell};
use crate::{Engine, Error, Result, event};

/// How `import` makes the image.
#[derive(Debug, Clone, Default)]
pub struct ImportOptions {
    /// Its name.
    pub reference: Option<Reference>,
    /// `--change`: Dockerfile instructions, see [`change::apply`].
    pub changes: Vec<String>,
    /// `--message`; empty means `Imported from -`.
    pub message: String,
    /// `--platform`; None is the machine's.
    pub platform: Option<Platform>,
}

/// Makes an image out of an archive, plain or compressed with gzip or zstd, and returns its id.
///
/// # Errors
/// `Invalid` for a bad change or archive; the reader's.
pub fn import(engine: &Engine, reader: impl Read, options: &ImportOptions) -> Result<Digest> {
    // Before the long work.
    let mut config = Default::default();
    for text in &options.changes {
        change::apply(&mut config, text)?;
    }
    let lock = engine.store().lock_shared().map_err(ImageError::from)?;
    let imported = engine
        .store()
        .import_layer(reader)
        .map_err(ImageError::from)?;
    let layer = match imported.layer {
        Ok(layer) => layer,
        Err(error) => {
            drop(lock);
            // The blob belongs to nothing. The failure is what matters to tell.
            drop(collect(engine));
            return Err(Error::caused(
                super::store_kind(&error),
                "cannot import the archive",
                &error,
            ));
        }
    };
    let now = Timestamp::now().to_string();
    let platform = options.platform.clone().unwrap_or_else(Platform::host);
    let comment = if options.message.is_empty() {
        "Imported from -".to_owned()
    } else {
        options.message.clone()
    };
    let image_config = ImageConfig {
        created: Some(now.clone()),
        architecture: platform.architecture,
        os: platform.os,
        variant: platform.variant,
        config: Some(config),
        rootfs: RootFs {
            diff_ids: vec![layer.diff_id],
            ..RootFs::default()
        },
        history: vec![History {
            created: Some(now),
            comment: Some(comment),
            ..History::default()
        }],
        ..ImageConfig::default()
    };
    let tags = options.reference.iter().cloned().collect();
    let id = commit(
        engine,
        NewImage {
            config: image_config,
            layers: vec![imported.descriptor],
            tags,
        },
    )?;
    tell(engine, event::Event::now("image", "import", id.to_string()));
    Ok(id)
}
