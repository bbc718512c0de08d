//! Layers to look at.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use ketch_spec::Digest;

use super::LayerUse;
use super::mount::mount;
use crate::{Engine, Result};

/// The files of some stacked layers, read-only.
#[derive(Debug)]
pub struct LayerView {
    /// Declared, and so dropped, before the layers below it.
    root: OwnedFd,
    _used: LayerUse,
}

impl LayerView {
    /// Stacks `layers` (diff ids, lowest first); none at all is an empty directory.
    ///
    /// # Errors
    /// `NotFound` if a layer is not in the store, `Unsupported` if the kernel refuses the stack.
    pub fn open(engine: &Engine, layers: &[Digest]) -> Result<Self> {
        let (root, used) = mount(engine, layers, None)?;
        Ok(Self { root, _used: used })
    }

    /// The root directory.
    pub fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }
}
