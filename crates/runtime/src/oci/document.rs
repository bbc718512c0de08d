//! Documents that a caller names: bounded, so that one without end is an error and not the machine's memory.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::error::{Error, Result};

/// The longest document: some thousand times a usual configuration.
const MAX_BYTES: usize = 16 << 20;
/// What most of them fit in.
const USUAL_BYTES: usize = 16 << 10;

/// The bytes of a bundle's `config.json`, which must be a regular file: from another one the next look would get
/// something else, or wait for ever.
///
/// # Errors
/// What open(2) and read(2) say; another file; more than 16 MiB.
pub(super) fn config(path: &Path) -> Result<Vec<u8>> {
    // Without waiting for the other end of a pipe.
    let nonblocking = rustix::fs::OFlags::NONBLOCK.bits() as i32;
    let mut options = File::options();
    let opened = options.read(true).custom_flags(nonblocking).open(path);
    let file = opened.map_err(|source| cannot_read(path, source))?;
    let metadata = file.metadata();
    let metadata = metadata.map_err(|source| cannot_read(path, source))?;
    if !metadata.is_file() {
        return Err(Error::NoRegularFile(path.to_owned()));
    }
    bounded(file, path)
}

/// The bytes of a document that was given as a file, which may be a pipe: a process, limits.
///
/// # Errors
/// What open(2) and read(2) say; more than 16 MiB.
pub fn read_document(path: &Path) -> Result<Vec<u8>> {
    let file = File::open(path).map_err(|source| cannot_read(path, source))?;
    bounded(file, path)
}

/// The same of what is open already; `path` is for messages.
///
/// # Errors
/// What read(2) says; more than 16 MiB.
pub fn bounded(source: impl Read, path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(USUAL_BYTES);
    let mut source = source.take(MAX_BYTES as u64 + 1);
    source
        .read_to_end(&mut bytes)
        .map_err(|source| cannot_read(path, source))?;
    if bytes.len() > MAX_BYTES {
        return Err(Error::TooLong {
            path: path.to_owned(),
            max: MAX_BYTES,
        });
    }
    Ok(bytes)
}

fn cannot_read(path: &Path, source: std::io::Error) -> Error {
    Error::ReadConfig {
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_is_a_regular_file_with_an_end() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("config.json");
        std::fs::write(&path, "{}").unwrap();
        assert_eq!(config(&path).unwrap(), b"{}");
        let file = File::create(&path).unwrap();
        file.set_len(MAX_BYTES as u64).unwrap();
        assert_eq!(config(&path).unwrap().len(), MAX_BYTES);
        file.set_len(MAX_BYTES as u64 + 1).unwrap();
        let error = config(&path).unwrap_err().to_string();
        assert!(error.contains("longer than 16777216 bytes"), "{error}");
        std::fs::remove_file(&path).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &path,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR,
            0,
        )
        .unwrap();
        let error = config(&path).unwrap_err().to_string();
        assert!(error.contains("is no regular file"), "{error}");
        for other in [scratch.path(), Path::new("/dev/zero")] {
            let error = config(other).unwrap_err().to_string();
            assert!(error.contains("is no regular file"), "{error}");
        }
        assert!(matches!(
            read_document(Path::new("/dev/zero")),
            Err(Error::TooLong { .. })
        ));
    }
}
