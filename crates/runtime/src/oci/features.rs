//! `features`.

use serde::Serialize;

/// Placeholder shape.
#[derive(Debug, Serialize)]
pub struct Features {}

/// What this runtime can do.
pub fn features() -> Features {
    Features {}
}
