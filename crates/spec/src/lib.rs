//! Wire types, references, digests, ids, sizes and durations.
//!
//! Everything here is pure: no files, no processes, no network, no clock. Parsing never panics, whatever the
//! input. The JSON types follow the OCI image specification 1.1, the OCI runtime specification 1.2 and, where
//! Docker adds fields of its own, Docker's image format; unknown fields survive a round trip.

pub mod detach_keys;
pub mod digest;
pub mod document;
pub mod duration;
pub mod env;
pub mod id;
pub mod image;
pub mod mount;
pub mod platform;
pub mod port;
pub mod reference;
pub mod runtime;
pub mod signal;
pub mod size;

pub use digest::Digest;
pub use id::Id;
pub use platform::Platform;
pub use reference::Reference;
