//! Layers to look at.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use ketch_spec::Digest;

use super::mount::mount;
use crate::{Engine, Result};

/// The files of some stacked layers, read-only.
#[derive(Debug)]
pub struct LayerView {
    root: OwnedFd,
}

impl LayerView {
    /// Stacks `layers` (diff ids, lowest first); none at all is an empty directory.
    ///
    /// # Errors
    /// `NotFound` if a layer is not in the store, `Unsupported` if the kernel refuses the stack.
    pub fn open(engine: &Engine, layers: &[Digest]) -> Result<Self> {
        Ok(Self {
            root: mount(engine, layers, None)?,
        })
    }

    /// The root directory.
    pub fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }
}
