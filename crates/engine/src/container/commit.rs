//! `commit`: an image of what a container has become.

use std::io::{BufWriter, Write};
use std::os::fd::{AsFd, OwnedFd};

use jiff::Timestamp;
use ketch_spec::image::{Descriptor, History, ImageConfig, RunConfig};
use ketch_spec::{Digest, Id, Reference};
use ketch_store::LayerRecord;
use ketch_store::tree::{Purpose, archive_without};
use serde_json::json;

use super::config::ContainerConfig;
use super::diff::changes;
use super::left_out::mount_points;
use super::state::Status;
use super::{channel, load, root};
use crate::event::{self, Event};
use crate::image::{self, Image, ImageError, NewImage, change};
use crate::layer::LayerView;
use crate::{Engine, Error, ErrorKind, Result};

/// How `commit` makes the image.
#[derive(Debug, Clone, Default)]
pub struct CommitOptions {
    /// Its name.
    pub reference: Option<Reference>,
    /// `--author`.
    pub author: String,
    /// `--message`.
    pub message: String,
    /// `--change`: Dockerfile instructions, see [`change::apply`].
    pub changes: Vec<String>,
    /// Whether a running container is paused while its files are read.
    pub pause: bool,
}

/// Makes an image of a container's image and of its writable layer, and returns its id. Volumes are not part of it.
///
/// # Errors
/// `NotFound`; `Invalid` for a bad change; `Conflict` if the container's image is gone; its files cannot be read.
pub fn commit(engine: &Engine, wanted: &str, options: &CommitOptions) -> Result<Digest> {
    let id = load::resolve(engine, wanted)?;
    let (config, _) = load::load(engine, &id)?;
    // Held from the first look at what is here until the record that keeps it.
    let lock = engine.store().lock_shared().map_err(ImageError::from)?;
    let base = base_of(engine, &config)?;
    let mut run_config = run_config(&config, &base);
    for text in &options.changes {
        change::apply(&mut run_config, text)?;
    }
    let layer = layer(engine, &id, &config, options.pause)?;
    let mut image_config = base.config.clone();
    let mut blobs = base.blobs.clone();
    let is_empty = layer.is_none();
    if let Some((blob, layer)) = layer {
        image_config.rootfs.diff_ids.push(layer.diff_id);
        blobs.push(blob);
    }
    describe(&mut image_config, &config, run_config, options, is_empty);
    let made = image::commit(
        engine,
        NewImage {
            config: image_config,
            layers: blobs,
            tags: options.reference.iter().cloned().collect(),
        },
    )?;
    drop(lock);
    let _ = event::publish(
        engine,
        &Event::of_container("commit", &config).with("imageID", made.to_string()),
    );
    Ok(made)
}

/// The image the container was made from; an empty one for a container over bare layers.
fn base_of(engine: &Engine, config: &ContainerConfig) -> Result<Image> {
    let found = match &config.image.id {
        Some(id) => image::find_by_id(engine, id)?,
        None => None,
    };
    found.ok_or_else(|| {
        Error::new(
            ErrorKind::Conflict,
            format!(
                "the image {} of container {} is gone: its layers can be run, but not be committed",
                config.image.reference,
                config.id.short()
            ),
        )
    })
}

/// The defaults of the new image: what the container was made with.
fn run_config(config: &ContainerConfig, base: &Image) -> RunConfig {
    let listed = |words: &[String]| (!words.is_empty()).then(|| words.to_vec());
    let mut made = base.config.config.clone().unwrap_or_default();
    let process = &config.process;
    made.env.clone_from(&process.env);
    made.entrypoint = listed(&process.entrypoint);
    made.cmd = listed(&process.command);
    made.working_dir.clone_from(&process.working_dir);
    made.user.clone_from(&process.user);
    made.labels.clone_from(&config.labels);
    made.stop_signal.clone_from(&config.stop_signal);
    made.healthcheck.clone_from(&config.health);
    // Triggers are for what is built on an image, and this was not built.
    made.on_build = None;
    let ports = config.network.exposed.iter();
    made.exposed_ports = ports.map(|port| (port.to_string(), json!({}))).collect();
    for mount in &config.mounts {
        if let ketch_spec::mount::MountSource::Volume {
            anonymous: true, ..
        } = &mount.source
        {
            made.volumes.insert(mount.target.clone(), json!({}));
        }
    }
    made
}

fn describe(
    image: &mut ImageConfig,
    container: &ContainerConfig,
    run_config: RunConfig,
    options: &CommitOptions,
    empty_layer: bool,
) {
    let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let now = Timestamp::now().to_string();
    image.created = Some(now.clone());
    image.author = given(&options.author);
    image.config = Some(run_config);
    image.history.push(History {
        created: Some(now),
        created_by: given(&container.process.command.join(" ")),
        author: given(&options.author),
        comment: given(&options.message),
        empty_layer,
    });
}

/// The container's writable layer as a layer of the store; None if it changes nothing.
fn layer(
    engine: &Engine,
    id: &Id,
    config: &ContainerConfig,
    pause: bool,
) -> Result<Option<(Descriptor, LayerRecord)>> {
    let owner = channel::own(engine, id)?;
    let paused = match &owner {
        // It does not run, and will not before we are done.
        Some(_) => None,
        None if pause => Paused::new(engine, id)?,
        None => None,
    };
    let made = match changes(engine, config) {
        Ok(changes) if changes.is_empty() => Ok(None),
        Ok(_) => read_layer(engine, config).map(Some),
        Err(error) => Err(error),
    };
    if let Some(paused) = paused {
        paused.end()?;
    }
    drop(owner);
    made
}

/// A container that goes on when this is dropped.
struct Paused<'a> {
    engine: &'a Engine,
    id: String,
}

impl<'a> Paused<'a> {
    /// None if it is paused already, or has ended meanwhile.
    fn new(engine: &'a Engine, id: &Id) -> Result<Option<Self>> {
        let (_, state) = load::load(engine, id)?;
        if state.status != Status::Running {
            return Ok(None);
        }
        match super::pause(engine, id.as_str()) {
            Ok(()) => Ok(Some(Self {
                engine,
                id: id.to_string(),
            })),
            Err(error) if error.kind == ErrorKind::Conflict => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn end(self) -> Result<()> {
        let ended = super::unpause(self.engine, &self.id);
        std::mem::forget(self);
        match ended {
            // Somebody else let it go on, or it was killed.
            Err(error) if matches!(error.kind, ErrorKind::Conflict | ErrorKind::NotFound) => Ok(()),
            other => other,
        }
    }
}

impl Drop for Paused<'_> {
    fn drop(&mut self) {
        // On the way out of a failure, which is what matters to tell.
        let _ = super::unpause(self.engine, &self.id);
    }
}

fn is_broken_pipe(error: &ketch_store::Error) -> bool {
    matches!(error, ketch_store::Error::Tar(ketch_store::tar::TarError::Write { source })
        if source.kind() == std::io::ErrorKind::BrokenPipe)
}

/// One pass: files to archive to the store, through a pipe.
fn read_layer(engine: &Engine, config: &ContainerConfig) -> Result<(Descriptor, LayerRecord)> {
    let (upper, _) = root::dirs(engine, config);
    let upper = ketch_sys::fs::open_directory(&upper).map_err(|error| {
        Error::caused(
            ErrorKind::Internal,
            "cannot read the container's files",
            &error,
        )
    })?;
    let lower = LayerView::open(engine, &config.image.layers)?;
    let left_out = mount_points(config, lower.root(), upper.as_fd())?;
    let (reader, writer) = std::io::pipe()
        .map_err(|error| Error::caused(ErrorKind::Internal, "cannot make a pipe", &error))?;
    let upper: &OwnedFd = &upper;
    let (written, imported) = std::thread::scope(|scope| {
        let archiver = scope.spawn(move || {
            let mut out = BufWriter::with_capacity(1 << 17, writer);
            archive_without(upper.as_fd(), &mut out, Purpose::Export, &left_out)?;
            out.flush()
                .map_err(|source| ketch_store::tar::TarError::Write { source }.into())
        });
        let imported = engine.store().import_layer(reader);
        let written: ketch_store::Result<()> = archiver
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        (written, imported)
    });
    let imported = match (written, imported) {
        // Where the store gave up (a full disk), the archiver's broken pipe is not the reason.
        (Err(error), Err(reason)) if is_broken_pipe(&error) => Err(reason),
        // A failure to read the files ends the archive early: that it does is no news then.
        (Err(error), _) => Err(error),
        (Ok(()), imported) => imported,
    };
    let imported = imported.map_err(ImageError::from)?;
    let layer = imported.layer.map_err(ImageError::from)?;
    Ok((imported.descriptor, layer))
}
