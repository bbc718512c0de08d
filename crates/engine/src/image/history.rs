//! `history`.

use jiff::Timestamp;
use ketch_spec::{Digest, Platform};

use super::{ImageError, resolve_for};
use crate::{Engine, Result};

/// One line of an image's history.
#[derive(Debug, Clone, PartialEq)]
pub struct HistoryEntry {
    /// The image's id on the first line; None (`<missing>`) on the others, whose intermediate images do not exist.
    pub id: Option<Digest>,
    /// When the instruction ran.
    pub created: Option<Timestamp>,
    /// The instruction.
    pub created_by: String,
    /// A note.
    pub comment: String,
    /// Content of the layer it made in bytes; 0 if it made none.
    pub size_bytes: u64,
    /// The image's names, on the first line.
    pub tags: Vec<String>,
}

/// The instructions that made an image, the last one first; of the given platform where several are here.
///
/// # Errors
/// As [`resolve_for`].
pub fn history(
    engine: &Engine,
    wanted: &str,
    platform: Option<&Platform>,
) -> Result<Vec<HistoryEntry>> {
    let image = resolve_for(engine, wanted, platform)?;
    let mut layers = image.layers.iter();
    let mut entries = Vec::with_capacity(image.config.history.len());
    for step in &image.config.history {
        let layer = if step.empty_layer {
            None
        } else {
            layers.next()
        };
        let size_bytes = match layer {
            Some(diff_id) => {
                engine
                    .store()
                    .layer(diff_id)
                    .map_err(ImageError::from)?
                    .size_bytes
            }
            None => 0,
        };
        entries.push(HistoryEntry {
            id: None,
            created: step.created.as_deref().and_then(|text| text.parse().ok()),
            created_by: step.created_by.clone().unwrap_or_default(),
            comment: step.comment.clone().unwrap_or_default(),
            size_bytes,
            tags: Vec::new(),
        });
    }
    // Layers that the history does not mention are still there to be counted.
    for diff_id in layers {
        let size_bytes = engine
            .store()
            .layer(diff_id)
            .map_err(ImageError::from)?
            .size_bytes;
        entries.push(HistoryEntry {
            id: None,
            created: image.created(),
            created_by: String::new(),
            comment: String::new(),
            size_bytes,
            tags: Vec::new(),
        });
    }
    entries.reverse();
    if let Some(first) = entries.first_mut() {
        first.id = Some(image.id.clone());
        first.tags = image
            .references
            .iter()
            .map(ketch_spec::Reference::familiar)
            .collect();
    }
    Ok(entries)
}
