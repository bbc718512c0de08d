//! `spec`.

use ketch_spec::runtime::Spec;

/// A configuration to begin with.
pub fn default_spec(_rootless: Option<(u32, u32)>) -> Spec {
    Spec::default()
}
