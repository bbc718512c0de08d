//! Reading the caller's files.

use std::io::{self, Read};
use std::path::Path;

/// The longest file that a project may consist of, in bytes.
const MAX_BYTES: u64 = 16 << 20;

/// Reads a file of UTF-8 text.
///
/// # Errors
/// The kernel's; `InvalidData` for a file that is too long or not UTF-8.
pub fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    let file = std::fs::File::open(path)?;
    let read = file.take(MAX_BYTES + 1).read_to_string(&mut text)?;
    if read as u64 > MAX_BYTES {
        let message = format!("longer than {MAX_BYTES} bytes");
        return Err(io::Error::new(io::ErrorKind::InvalidData, message));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_does_not_end_is_an_error() {
        let error = super::read("/dev/zero".as_ref()).expect_err("endless");
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidData);
    }
}
