//! A layer being written.

use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use ketch_spec::Digest;
use ketch_spec::image::Descriptor;
use ketch_store::Draft;

use super::mount::{Writable, mount};
use super::{LayerError, LayerUse};
use crate::{Engine, Result};

/// A writable directory on top of some layers, which becomes a layer or disappears.
///
/// Lives in `ingest/work/` and keeps a lock there while it lives, so that what a killed process leaves is told from what
/// is in use. Dropping it without [`LayerDraft::commit`] removes it.
#[derive(Debug)]
pub struct LayerDraft {
    engine: Engine,
    parents: Vec<Digest>,
    upper: PathBuf,
    work: PathBuf,
    /// Declared, and so dropped, before the directories below it.
    root: Option<OwnedFd>,
    /// For the length of the draft, mounted or not: steps of a build follow each other.
    _used: LayerUse,
    /// Removes the directories.
    _draft: Draft,
}

impl LayerDraft {
    /// Begins a layer on top of `parents` (diff ids, lowest first).
    ///
    /// # Errors
    /// `NotFound` if a parent is not in the store, `Unsupported` if the kernel refuses the stack.
    pub fn new(engine: &Engine, parents: &[Digest]) -> Result<Self> {
        let draft = engine.store().draft().map_err(LayerError::from)?;
        let upper = draft.path().join("upper");
        let work = draft.path().join("work");
        for directory in [&upper, &work] {
            fs::create_dir(directory).map_err(|source| LayerError::Io {
                call: "mkdir",
                path: directory.clone(),
                source,
            })?;
        }
        copy_root_attributes(engine, parents, &upper)?;
        let writable = Writable {
            upper: &upper,
            work: &work,
            volatile: true,
        };
        let (root, used) = mount(engine, parents, Some(writable))?;
        Ok(Self {
            engine: engine.clone(),
            parents: parents.to_vec(),
            upper,
            work,
            root: Some(root),
            _used: used,
            _draft: draft,
        })
    }

    /// Where to write: the layers below are visible, the kernel copies up what is changed and leaves whiteouts.
    pub fn root(&self) -> BorrowedFd<'_> {
        match &self.root {
            Some(root) => root.as_fd(),
            // Only `commit` and `drop` take it, and both consume the draft.
            None => unreachable!("a draft has its mount until it is consumed"),
        }
    }

    /// The directory that becomes the layer, for a container that mounts it itself. Not to be written while
    /// [`LayerDraft::root`] is in use.
    pub fn upper(&self) -> &Path {
        &self.upper
    }

    /// Overlayfs's scratch directory that belongs to [`LayerDraft::upper`].
    pub fn work(&self) -> &Path {
        &self.work
    }

    /// The layers below.
    pub fn parents(&self) -> &[Digest] {
        &self.parents
    }

    /// Lets go of the mount, so that a container can mount the same directories: two overlays at once over them would
    /// not see each other's changes. [`LayerDraft::remount`] takes it back.
    ///
    /// # Errors
    /// The scratch directory cannot be made anew.
    pub fn unmount(&mut self) -> Result<()> {
        self.root = None;
        Ok(reset_work(&self.work)?)
    }

    /// Mounts again after [`LayerDraft::unmount`].
    ///
    /// # Errors
    /// As [`LayerDraft::new`].
    pub fn remount(&mut self) -> Result<()> {
        self.root = None;
        reset_work(&self.work)?;
        let writable = Writable {
            upper: &self.upper,
            work: &self.work,
            volatile: true,
        };
        // The draft uses the layers already.
        self.root = Some(mount(&self.engine, &self.parents, Some(writable))?.0);
        Ok(())
    }

    /// Makes it a layer: the descriptor is that of its uncompressed archive, whose digest is the diff id.
    ///
    /// # Errors
    /// The directory cannot be read, the disk failed.
    pub fn commit(mut self) -> Result<Descriptor> {
        self.root = None;
        let descriptor = self
            .engine
            .store()
            .commit_layer(&self.upper)
            .map_err(LayerError::from)?;
        Ok(descriptor)
    }
}

/// A mount with `volatile` leaves a mark in the scratch directory that a second mount refuses (overlayfs,
/// "Volatile mount"): after our own orderly use it says nothing.
fn reset_work(work: &Path) -> Result<(), LayerError> {
    ketch_sys::fs::remove_tree(work)?;
    fs::create_dir(work).map_err(|source| LayerError::Io {
        call: "mkdir",
        path: work.to_owned(),
        source,
    })
}

/// The root of an overlay looks as its uppermost directory does: gives a new upper directory the mode and owner that the
/// root of the uppermost of `layers` has.
///
/// # Errors
/// `NotFound` if the layer is not in the store; the kernel's.
pub fn copy_root_attributes(engine: &Engine, layers: &[Digest], upper: &Path) -> Result<()> {
    let Some(top) = layers.last() else {
        return Ok(());
    };
    use std::os::unix::fs::PermissionsExt;
    let (mode, uid, gid) = engine
        .store()
        .root_attributes(top)
        .map_err(LayerError::from)?;
    let io = |call: &'static str| {
        move |source| LayerError::Io {
            call,
            path: upper.to_owned(),
            source,
        }
    };
    std::os::unix::fs::chown(upper, Some(uid), Some(gid)).map_err(io("chown"))?;
    fs::set_permissions(upper, fs::Permissions::from_mode(mode & 0o7777)).map_err(io("chmod"))?;
    Ok(())
}
