//! Images against GNU tar and against extraction, as the kernel shows them. As root: owners, devices and mounts are the
//! point.

use std::fs::File;
use std::io::{BufReader, Write as _};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use ketch_spec::Digest;
use ketch_sys::fs as sysfs;

use super::*;
use crate::tar::{Reader, TarError};
use crate::tree::Extractor;
use crate::tree::tests::describe;

/// The image of an archive, mounted.
pub struct Mounted {
    pub files: OwnedFd,
    pub image: PathBuf,
    _directory: tempfile::TempDir,
}

impl Mounted {
    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}/", self.files.as_raw_fd()))
    }
}

pub fn image_of(archive: &[u8]) -> Result<Mounted, TarError> {
    let directory = tempfile::tempdir().unwrap();
    let open = |name: &str| {
        let path = directory.path().join(name);
        File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(path)
            .unwrap()
    };
    let (image, mut tar) = (open("image"), open("tar"));
    tar.write_all(archive).unwrap();
    let writer = Writer::new(image.try_clone().unwrap(), tar.try_clone().unwrap())?;
    let (_, unsealed) = writer.run(&mut Reader::new(BufReader::with_capacity(1000, archive)))?;
    unsealed
        .seal(&Digest::of(archive), archive.len() as u64)
        .unwrap();
    let files = mount(image.as_fd(), tar.as_fd()).unwrap();
    Ok(Mounted {
        files,
        image: directory.path().join("image"),
        _directory: directory,
    })
}

fn extract(archive: &[u8], directory: &Path) -> Result<(), TarError> {
    let root = sysfs::open_directory(directory).unwrap();
    Extractor::new(root)
        .run(&mut Reader::new(BufReader::new(archive)))
        .map(drop)
}

#[test]
fn privileged_a_real_archive_looks_the_same() {
    let Ok(path) = std::env::var("KETCH_REAL_TAR") else {
        return;
    };
    let archive = std::fs::read(path).unwrap();
    let mounted = image_of(&archive).unwrap();
    let directory = tempfile::tempdir().unwrap();
    extract(&archive, directory.path()).unwrap();
    let (ours, theirs) = (describe(&mounted.path()), describe(directory.path()));
    assert_eq!(ours.len(), theirs.len());
    for (name, text) in &theirs {
        assert_eq!(ours.get(name), Some(text), "{name}");
    }
    eprintln!(
        "{} {}",
        ours.len(),
        std::fs::metadata(&mounted.image).unwrap().len()
    );
}
