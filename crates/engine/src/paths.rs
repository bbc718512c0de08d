//! Links, state roots.
use std::path::PathBuf;
/// Where everything is (being written).
#[derive(Debug, Clone)]
pub struct Paths { root: PathBuf }
