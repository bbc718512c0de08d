//! Blobs, layers, image records and their collection.
//!
//! On disk, below the data root (see `docs/state-on-disk.md`):
//!
//! - `images/` is an OCI image layout (image specification 1.1, "Image Layout") that other tools read in place: blobs
//!   under their digest, and `index.json`, whose entries are our image records;
//! - `layers/<hex of diff id>/` is one layer, keyed by the digest of its uncompressed archive: `layer.json` says in
//!   which [`LayerForm`] it is kept, `tree/` has its files, or `layer.tar` the archive and `layer.erofs` the image that
//!   shows what is in it;
//! - `ingest/` has everything unfinished: `blobs/<hex>` are partial downloads that the next attempt continues,
//!   `work/<random>/` directories being filled, and `settling/<boot id>/` what is whole but not yet certain to survive
//!   a power cut.
//!
//! The last of these is how the store syncs no more than it must: a finished blob or layer is renamed to `settling/`,
//! where every reader of this boot finds it, and the first image record that could name it makes all of it durable at
//! once (one syncfs(2)) and moves it to its final place. So what is in `images/` and `layers/` is complete and survives
//! a power cut; what is in a `settling/` directory of another boot is garbage.
//!
//! The store knows nothing of HTTP or containers. Who else needs a layer is told to [`Store::collect`] as [`Roots`].

mod blob;
mod collect;
mod decode;
mod draft;
mod erofs;
mod error;
#[doc(hidden)]
pub mod fuzz;
mod ingest;
mod layer;
mod lock;
mod outflow;
mod pipeline;
mod place;
mod record;
mod reserve;
mod spill;
pub mod tar;
mod target;
pub mod tree;
mod unpack;
mod usage;
mod verify;
mod zstandard;

pub use blob::MAX_DOCUMENT_BYTES;
pub use collect::{Freed, Roots};
pub use decode::{Compression, Decoder};
pub use draft::Draft;
pub use error::{Error, Result};
pub use ingest::Ingest;
pub use layer::{LayerForm, LayerRecord, OpenLayer};
pub use lock::StoreLock;
pub use place::{Forms, Store, UnknownForm};
pub use record::ImageRecord;
pub use unpack::{Imported, Progress};
pub use verify::Health;
