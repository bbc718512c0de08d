//! Bounded memory for what grows with an archive's entries: tables and sorted lists that move to disk when there is more
//! of them than memory should hold. All layers that are made at the same time share one bound ([`POOL_BYTES`]).

mod backing;
mod sorter;
mod space;

pub(crate) use backing::Backing;
pub(crate) use sorter::{Merge, Sorter};
pub(crate) use space::Space;

/// Bytes of memory that the tables of all layers being made have together; what does not fit is on disk.
const POOL_BYTES: usize = 16 << 20;
