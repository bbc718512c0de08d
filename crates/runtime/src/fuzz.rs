//! What the fuzzers reach besides the public interface.

use crate::error::Result;
use crate::parent::CreateOptions;

/// Checks a specification and makes everything ready that its process would need, and makes no process.
///
/// # Errors
/// As [`crate::create`].
pub fn prepare(options: CreateOptions<'_>) -> Result<()> {
    crate::plan::plan(options).map(drop)
}
