//! The program that `--init` containers have as process 1, built from `reaper/main.rs`.

/// A static program of a few kilobytes that needs nothing from an image.
pub const PROGRAM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/reaper"));
