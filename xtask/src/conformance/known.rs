//! Differences from runc that are meant, with their reasons. `docs/oci-runtime.md` lists them from here.

/// A check that runc passes and ketch does not.
pub struct Known {
    /// The suite.
    pub suite: &'static str,
    /// The check's name.
    pub check: &'static str,
    /// Why ketch does otherwise.
    pub reason: &'static str,
}

/// All of them.
pub const KNOWN: &[Known] = &[];

/// The reason for a listed difference.
pub fn reason(suite: &str, check: &str) -> Option<&'static str> {
    KNOWN
        .iter()
        .find(|known| known.suite == suite && known.check == check)
        .map(|known| known.reason)
}
