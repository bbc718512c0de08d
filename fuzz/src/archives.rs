//! Archives in both forms of layers.

use std::fs::File;
use std::io::{BufReader, Write};
use std::path::{Path, PathBuf};

use ketch_store::tar::{Reader, TarError};
use ketch_store::tree::{Extractor, Totals};
use rustix::fs::MemfdFlags;

use crate::{erofs, trees};

/// An archive as bytes: checksums of headers are made right first, or nothing would get past them.
pub(crate) fn archive(bytes: &[u8]) {
    let mut archive = bytes.to_vec();
    correct_checksums(&mut archive);
    both_forms(&archive);
}

/// Where files can be made quickly: in memory, if there is such a place.
pub(crate) fn scratch() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let made = match memory.is_dir() {
        true => tempfile::tempdir_in(memory),
        false => tempfile::tempdir(),
    };
    match made {
        Ok(directory) => directory,
        Err(error) => panic!("a scratch directory: {error}"),
    }
}

/// Extracts an archive, makes its image, and compares; and sees that nothing is made elsewhere.
pub(crate) fn both_forms(archive: &[u8]) {
    let scratch = scratch();
    let image = image_of(archive);
    let extracted = extract(archive, scratch.path());
    match (image, extracted) {
        (Ok((image, image_totals)), Ok((root, totals))) => {
            assert_eq!(image_totals, totals, "the forms count differently");
            let from_image = erofs::read(&image, archive);
            // Longer paths are not for path names of ours.
            if from_image.keys().any(|path| path.len() > 3000) {
                return;
            }
            let from_files = trees::read(&root);
            trees::assert_alike(&from_image, &from_files);
        }
        (Err(one), Err(other)) => assert_eq!(one.to_string(), other.to_string()),
        // An image has bounds of its own: what a file may have in attributes, how scattered it may be.
        (Err(one), Ok(_)) => {
            let one = one.to_string();
            let known = [
                "too scattered",
                "attributes together",
                "its size is out of range",
                "longer than 65535",
            ];
            assert!(
                known.iter().any(|known| one.contains(known)),
                "only the image fails: {one}"
            );
        }
        // A file system has bounds of its own too.
        (Ok(_), Err(TarError::Extract { source, .. })) => {
            use rustix::io::Errno;
            let known = [Errno::FBIG, Errno::NOSPC, Errno::INVAL, Errno::TOOBIG];
            assert!(
                known.contains(&source.errno),
                "only the files fail: {source}"
            );
        }
        (Ok(_), Err(other)) => panic!("only the files fail: {other}"),
    }
}

fn image_of(archive: &[u8]) -> Result<(Vec<u8>, Totals), TarError> {
    let memory = |name: &str| match rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC) {
        Ok(file) => File::from(file),
        Err(errno) => panic!("memfd_create: {errno}"),
    };
    let (image, mut tar) = (memory("image"), memory("tar"));
    if let Err(error) = tar.write_all(archive) {
        panic!("write: {error}");
    }
    let copy = match image.try_clone() {
        Ok(copy) => copy,
        Err(error) => panic!("dup: {error}"),
    };
    let source = BufReader::with_capacity(1000, archive);
    let totals = ketch_store::fuzz::write_image(copy, tar, source, archive.len() as u64)?;
    Ok((erofs::bytes_of(&image), totals))
}

/// Extracts into a directory of `scratch`, beside which nothing may change.
fn extract(archive: &[u8], scratch: &Path) -> Result<(PathBuf, Totals), TarError> {
    let root = scratch.join("outside/root");
    let made = std::fs::create_dir_all(&root)
        .and_then(|()| std::fs::create_dir(scratch.join("outside/other")))
        .and_then(|()| std::fs::write(scratch.join("outside/file"), "untouched"));
    if let Err(error) = made {
        panic!("{}: {error}", scratch.display());
    }
    let before = trees::outside(scratch);
    let directory = match ketch_sys::fs::open_directory(&root) {
        Ok(directory) => directory,
        Err(error) => panic!("{error}"),
    };
    let mut reader = Reader::new(BufReader::with_capacity(1000, archive));
    let result = Extractor::new(directory).run(&mut reader);
    assert_eq!(
        before,
        trees::outside(scratch),
        "something outside has changed"
    );
    result.map(|totals| (root, totals))
}

/// Puts the right checksum into each header, as far as their sizes lead from one to the next. A header whose checksum
/// field ends in 0xff keeps it.
fn correct_checksums(archive: &mut [u8]) {
    let mut at = 0usize;
    while let Some(block) = archive.get_mut(at..at + 512) {
        if block[155] != 0xff && block.iter().any(|byte| *byte != 0) {
            block[148..156].fill(b' ');
            let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
            block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
        let has_data = !matches!(block[156], b'1'..=b'6');
        let size = block[124..136]
            .iter()
            .filter(|byte| byte.is_ascii_digit())
            .fold(0usize, |size, digit| {
                (size << 3) | usize::from(digit - b'0')
            });
        let data = if has_data { size.min(archive.len()) } else { 0 };
        at += 512 + data.next_multiple_of(512);
    }
}
