//! What the fuzzers reach besides the public interface.

use std::fs::File;
use std::io::BufRead;

use ketch_spec::Digest;

use crate::erofs::Writer;
use crate::tar::{Reader, TarError};
use crate::tree::Totals;

/// Writes the image of an archive, whose bytes are in `tar` too, into an empty file, open for reading and writing.
///
/// # Errors
/// As the pipeline's.
pub fn write_image(
    image: File,
    tar: File,
    archive: impl BufRead,
    archive_bytes: u64,
) -> Result<Totals, TarError> {
    let (totals, unsealed) = Writer::new(image, tar)?.run(&mut Reader::new(archive))?;
    unsealed
        .seal(&Digest::of(b""), archive_bytes)
        .map_err(|source| TarError::Write { source })?;
    Ok(totals)
}
