//! Secrets and configs that are no files of the host are copied into each container before it starts.

use ketch_engine::container::copy::CopyOptions;
use ketch_engine::{Engine, Result, container};

use crate::request::FileToCopy;

/// Size of a tar block.
const BLOCK: usize = 512;

/// Copies files into a container that does not run yet.
pub(crate) fn copy_files(engine: &Engine, id: &str, files: &[FileToCopy]) -> Result<()> {
    if files.is_empty() {
        return Ok(());
    }
    let mut archive = Vec::new();
    for file in files {
        let path = file.target.trim_start_matches('/');
        // directories on the way are made by whoever unpacks, without a change to those that are there
        let owner = (file.uid, file.gid);
        entry(
            &mut archive,
            path,
            b'0',
            file.mode,
            owner,
            file.content.as_bytes(),
        );
    }
    archive.resize(archive.len() + 2 * BLOCK, 0);
    let options = CopyOptions {
        archive: true,
        ..CopyOptions::default()
    };
    container::copy_in(engine, id, "/", options, &mut archive.as_slice())
}

/// One entry in the ustar format (POSIX.1-1988), with a PAX record for a path that it has no room for.
fn entry(
    archive: &mut Vec<u8>,
    path: &str,
    kind: u8,
    mode: u32,
    owner: (u32, u32),
    content: &[u8],
) {
    if path.len() > 100 {
        let record = pax_record("path", path);
        entry(archive, "pax", b'x', 0o644, (0, 0), record.as_bytes());
    }
    let mut header = [0u8; BLOCK];
    let name = path.as_bytes();
    let length = name.len().min(100);
    header[..length].copy_from_slice(&name[..length]);
    octal(&mut header[100..108], u64::from(mode & 0o7777));
    octal(&mut header[108..116], u64::from(owner.0));
    octal(&mut header[116..124], u64::from(owner.1));
    octal(&mut header[124..136], content.len() as u64);
    octal(&mut header[136..148], 0);
    header[148..156].fill(b' ');
    header[156] = kind;
    header[257..265].copy_from_slice(b"ustar\x0000");
    let sum: u64 = header.iter().map(|byte| u64::from(*byte)).sum();
    octal(&mut header[148..156], sum);
    archive.extend_from_slice(&header);
    archive.extend_from_slice(content);
    let padding = content.len().next_multiple_of(BLOCK) - content.len();
    archive.resize(archive.len() + padding, 0);
}

/// Zero-filled octal digits and a NUL. What does not fit has been refused before.
fn octal(field: &mut [u8], value: u64) {
    let digits = field.len() - 1;
    let text = format!("{value:0digits$o}");
    field[..digits].copy_from_slice(text.as_bytes());
    field[digits] = 0;
}

/// `LENGTH KEY=VALUE\n`, where the length counts itself.
fn pax_record(key: &str, value: &str) -> String {
    let rest = format!(" {key}={value}\n");
    let mut length = rest.len() + 1;
    while format!("{length}{rest}").len() != length {
        length += 1;
    }
    format!("{length}{rest}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_ustar_with_a_sum() {
        let mut archive = Vec::new();
        entry(&mut archive, "run/secrets/x", b'0', 0o400, (7, 8), b"value");
        assert_eq!(archive.len(), 2 * BLOCK);
        assert_eq!(&archive[..14], b"run/secrets/x\0");
        assert_eq!(&archive[100..108], b"0000400\0");
        assert_eq!(&archive[BLOCK..BLOCK + 6], b"value\0");
        let told = u64::from_str_radix(std::str::from_utf8(&archive[148..155]).expect("digits"), 8);
        archive[148..156].fill(b' ');
        let sum: u64 = archive[..BLOCK].iter().map(|byte| u64::from(*byte)).sum();
        assert_eq!(told, Ok(sum));
    }

    #[test]
    fn long_paths_have_a_record_that_counts_itself() {
        assert_eq!(pax_record("path", "a"), "9 path=a\n");
        let long = "x".repeat(200);
        let record = pax_record("path", &long);
        assert_eq!(record.len(), 210);
        assert!(record.starts_with("210 path=x"));
    }
}
