//! Reading a layout that is a directory: from its `index.json` down, every name within the directory, whatever its links
//! say, and only regular files.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use ketch_spec::image::{Descriptor, Index, Manifest, media_type};
use ketch_spec::{Digest, Platform};
use ketch_sys::fs as sysfs;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::contents::{Contents, read_document, take_blob};
use super::{invalid, parse};
use crate::image::variant::select;
use crate::image::{ArchiveObserver, ImageError};
use crate::{Engine, Error, ErrorKind, Result};

/// How deep indexes may nest.
const MAX_INDEX_DEPTH: usize = 8;

pub(super) fn read(
    engine: &Engine,
    directory: &Path,
    platforms: &[Platform],
    observer: &dyn ArchiveObserver,
) -> Result<Contents> {
    let root = sysfs::open_directory(directory).map_err(|error| {
        let what = format!("cannot read {}", directory.display());
        Error::caused(ErrorKind::Invalid, what, &error)
    })?;
    let mut layout = Layout {
        engine,
        root,
        directory,
        platforms,
        observer,
        contents: Contents::default(),
        seen: BTreeSet::new(),
    };
    let Some((file, _)) = layout.open("index.json")? else {
        return Err(invalid(format!(
            "unrecognized image format: {} has no index.json",
            directory.display()
        ))
        .hint("load reads archives and OCI image layouts"));
    };
    let bytes = read_document("index.json", file)?;
    let index: Index = parse("index.json", &bytes)?;
    layout.contents.keep("index.json".into(), bytes)?;
    // `docker save`'s names, if the directory is an unpacked archive of it.
    if let Some((file, _)) = layout.open("manifest.json")? {
        let bytes = read_document("manifest.json", file)?;
        layout.contents.keep("manifest.json".into(), bytes)?;
    }
    for target in &index.manifests {
        layout.follow(target, 0)?;
    }
    Ok(layout.contents)
}

struct Layout<'a> {
    engine: &'a Engine,
    root: OwnedFd,
    directory: &'a Path,
    platforms: &'a [Platform],
    observer: &'a dyn ArchiveObserver,
    contents: Contents,
    seen: BTreeSet<Digest>,
}

impl Layout<'_> {
    /// Takes what is below a descriptor. What is not there is for the reader of the manifests to miss.
    fn follow(&mut self, target: &Descriptor, depth: usize) -> Result<()> {
        if depth > MAX_INDEX_DEPTH || !self.seen.insert(target.digest.clone()) {
            return Ok(());
        }
        self.take(&target.digest)?;
        let Some(bytes) = self.document(&target.digest)? else {
            return Ok(());
        };
        match target.media_type.as_str() {
            media_type::INDEX | media_type::DOCKER_LIST => {
                let index: Index = parse(target.digest.as_str(), &bytes)?;
                for child in select(&index.manifests, self.platforms) {
                    self.follow(&child, depth + 1)?;
                }
            }
            media_type::MANIFEST | media_type::DOCKER_MANIFEST => {
                let manifest: Manifest = parse(target.digest.as_str(), &bytes)?;
                self.take(&manifest.config.digest)?;
                for layer in &manifest.layers {
                    self.take(&layer.digest)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn take(&mut self, digest: &Digest) -> Result<()> {
        let path = format!("blobs/sha256/{}", digest.hex());
        let Some((file, size)) = self.open(&path)? else {
            return Ok(());
        };
        take_blob(
            self.engine,
            digest,
            size,
            file,
            self.observer,
            &mut self.contents,
        )
    }

    fn document(&self, digest: &Digest) -> Result<Option<Vec<u8>>> {
        let store = self.engine.store();
        if let Some(bytes) = self.contents.manifests.get(digest) {
            return Ok(Some(bytes.clone()));
        }
        if !store.has(digest) {
            return Ok(None);
        }
        let bytes = store.read(digest, ketch_store::MAX_DOCUMENT_BYTES);
        Ok(Some(bytes.map_err(ImageError::from)?))
    }

    /// A regular file of the layout with its size; None if it is not there.
    fn open(&self, path: &str) -> Result<Option<(File, u64)>> {
        // Without O_NONBLOCK a pipe in the place of a file would keep us waiting.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let opened = sysfs::open_in_root(self.root.as_fd(), Path::new(path), flags, Mode::empty());
        let file = match opened {
            Ok(file) => File::from(file),
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
            Err(errno) => return Err(self.failed("openat2", path, errno.into())),
        };
        let metadata = file
            .metadata()
            .map_err(|error| self.failed("fstat", path, error))?;
        if !metadata.is_file() {
            let path = self.path(path);
            return Err(invalid(format!("{} is not a file", path.display())));
        }
        Ok(Some((file, metadata.len())))
    }

    fn path(&self, path: &str) -> PathBuf {
        self.directory.join(path)
    }

    fn failed(&self, call: &'static str, path: &str, source: io::Error) -> Error {
        let path = self.path(path);
        ImageError::Io { call, path, source }.into()
    }
}
