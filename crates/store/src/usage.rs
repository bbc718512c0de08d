//! What a collection would free.

use crate::collect::{Shared, objects};
use crate::{ImageRecord, Result, Roots, Store};

impl Store {
    /// How many bytes a collection would free if `records` were all the image records and `roots` all that others need;
    /// counted as [`crate::Freed::bytes`]. Takes no lock: what comes or goes meanwhile counts or not.
    ///
    /// # Errors
    /// A record's documents or a directory cannot be read.
    pub fn would_free(&self, records: &[ImageRecord], roots: &Roots) -> Result<u64> {
        let reached = self.reach(records, roots)?;
        let mut shared = Shared::default();
        let mut bytes = 0;
        for place in [self.settled("layers"), self.settling("layers")] {
            for (path, diff_id) in objects(&place)? {
                if !reached.layers.contains(&diff_id) {
                    bytes += self.layer_bytes(&path, &diff_id, &mut shared);
                }
            }
        }
        for place in [self.settled("blobs"), self.settling("blobs")] {
            for (path, digest) in objects(&place)? {
                if !reached.blobs.contains(&digest) {
                    bytes += shared.bytes_of(&path);
                }
            }
        }
        Ok(bytes)
    }
}
