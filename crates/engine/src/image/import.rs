//! `import`: an image of one layer out of a root file system's archive.

use std::io::Read;

use jiff::Timestamp;
use ketch_spec::image::{History, ImageConfig, RootFs, RunConfig};
use ketch_spec::{Digest, Platform, Reference};

use super::observer::Metered;
use super::{ArchiveObserver, ArchiveStep, ImageError, NewImage, change, collect, commit, tell};
use crate::{Engine, Error, Result, event, registry};

/// How `import` makes the image.
#[derive(Debug, Clone, Default)]
pub struct ImportOptions {
    /// Its name.
    pub reference: Option<Reference>,
    /// `--change`: Dockerfile instructions, see [`change::apply`].
    pub changes: Vec<String>,
    /// `--message`; empty means `Imported from -`, or the URL.
    pub message: String,
    /// `--platform`; None is the machine's.
    pub platform: Option<Platform>,
}

/// Makes an image out of an archive, plain or compressed with gzip or zstd, and returns its id.
///
/// # Errors
/// `Invalid` for a bad change or archive; the reader's.
pub fn import(
    engine: &Engine,
    reader: impl Read,
    options: &ImportOptions,
    observer: &dyn ArchiveObserver,
) -> Result<Digest> {
    let config = changed(options)?;
    let source = Metered::new(reader, "archive", 0, observer);
    make(engine, source, options, config, "-", observer)
}

/// As [`import`], of an archive that a web server has.
///
/// # Errors
/// As [`import`]; `Unavailable` where the server does not give it.
pub fn import_url(
    engine: &Engine,
    url: &str,
    options: &ImportOptions,
    observer: &dyn ArchiveObserver,
) -> Result<Digest> {
    let config = changed(options)?;
    // The server's name is what proxies and certificates go by.
    let after = url.split_once("://").map_or(url, |(_, after)| after);
    let host = after.split(['/', '?', '#']).next().unwrap_or(after);
    let client = engine.registries().client(host)?;
    let download = client
        .download(url)
        .map_err(|error| registry::failed(format!("cannot download {url}"), &error))?;
    let length = download.length_bytes.unwrap_or(0);
    let source = Metered::new(download.reader, "archive", length, observer);
    make(engine, source, options, config, url, observer)
}

/// The defaults for its containers. Looked at before the long work.
fn changed(options: &ImportOptions) -> Result<RunConfig> {
    let mut config = RunConfig::default();
    for text in &options.changes {
        change::apply(&mut config, text)?;
    }
    Ok(config)
}

fn make(
    engine: &Engine,
    reader: impl Read,
    options: &ImportOptions,
    config: RunConfig,
    origin: &str,
    observer: &dyn ArchiveObserver,
) -> Result<Digest> {
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
    observer.step(ArchiveStep::Done {
        name: "archive",
        total_bytes: imported.descriptor.size,
    });
    let now = Timestamp::now().to_string();
    let platform = options.platform.clone().unwrap_or_else(Platform::host);
    let comment = if options.message.is_empty() {
        format!("Imported from {origin}")
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
