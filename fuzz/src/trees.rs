//! Trees of files as values, to be compared.

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Content that is compared, in bytes from its beginning.
pub(crate) const CONTENT_BYTES: u64 = 256 << 10;

/// What is known of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Node {
    pub mode: u32,
    pub owner: (u32, u32),
    pub mtime: (i64, u32),
    /// Length in bytes; 0 for directories.
    pub size: u64,
    pub links: u64,
    pub device: u64,
    /// Content, or where a link leads.
    pub content: Vec<u8>,
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// The first path of the same file.
    pub first: Vec<u8>,
}

/// By path, the root's empty.
pub(crate) type Tree = BTreeMap<Vec<u8>, Node>;

/// Everything below a directory, and the directory itself.
pub(crate) fn read(root: &Path) -> Tree {
    let mut tree = Tree::new();
    let mut numbers = BTreeMap::new();
    one(root, Vec::new(), &mut tree, &mut numbers);
    name_firsts(&mut tree, &numbers);
    tree
}

/// Sets the first path of each file, in the order of paths, whichever was read first; `numbers` tells which paths are of
/// the same file.
pub(crate) fn name_firsts(tree: &mut Tree, numbers: &BTreeMap<Vec<u8>, u64>) {
    let mut firsts: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
    for path in tree.keys() {
        firsts.entry(numbers[path]).or_insert_with(|| path.clone());
    }
    for (path, node) in tree {
        node.first.clone_from(&firsts[&numbers[path]]);
    }
}

fn one(path: &Path, name: Vec<u8>, tree: &mut Tree, numbers: &mut BTreeMap<Vec<u8>, u64>) {
    let metadata = match path.symlink_metadata() {
        Ok(metadata) => metadata,
        Err(error) => panic!("{}: {error}", path.display()),
    };
    numbers.insert(name.clone(), metadata.ino());
    tree.insert(name.clone(), node(path, &metadata));
    if !metadata.is_dir() {
        return;
    }
    let Ok(entries) = std::fs::read_dir(path) else {
        panic!("{} cannot be listed", path.display());
    };
    for entry in entries.flatten() {
        let below = match name.is_empty() {
            true => entry.file_name().as_bytes().to_vec(),
            false => [&name, &b"/"[..], entry.file_name().as_bytes()].concat(),
        };
        one(&entry.path(), below, tree, numbers);
    }
}

fn node(path: &Path, metadata: &Metadata) -> Node {
    let kind = metadata.file_type();
    let mut content = Vec::new();
    if kind.is_symlink() {
        content = std::fs::read_link(path).map_or_else(
            |_| Vec::new(),
            |target| target.as_os_str().as_bytes().to_vec(),
        );
    } else if kind.is_file() {
        let read = std::fs::File::open(path)
            .and_then(|file| file.take(CONTENT_BYTES).read_to_end(&mut content));
        if let Err(error) = read {
            panic!("{}: {error}", path.display());
        }
    }
    let is_device = !(kind.is_file() || kind.is_dir() || kind.is_symlink());
    Node {
        mode: metadata.mode(),
        owner: (metadata.uid(), metadata.gid()),
        mtime: (metadata.mtime(), metadata.mtime_nsec() as u32),
        size: if kind.is_dir() { 0 } else { metadata.len() },
        links: if kind.is_dir() { 0 } else { metadata.nlink() },
        device: if is_device { metadata.rdev() } else { 0 },
        content,
        xattrs: xattrs(path),
        first: Vec::new(),
    }
}

fn xattrs(path: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return BTreeMap::new();
    };
    let found = ketch_sys::fs::open_directory(parent)
        .ok()
        .and_then(|parent| ketch_sys::fs::xattrs_at(parent.as_fd(), name).ok());
    found
        .into_iter()
        .flatten()
        .map(|(key, value)| (key.into_bytes(), value))
        // The host's own labels.
        .filter(|(key, _)| key != b"security.selinux")
        .collect()
}

/// What is around the root that archives are extracted into: names, kinds, sizes, modes and times. The root's own
/// change.
pub(crate) fn outside(scratch: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for directory in [
        scratch.to_owned(),
        scratch.join("outside"),
        scratch.join("outside/other"),
    ] {
        let Ok(entries) = std::fs::read_dir(&directory) else {
            return vec![format!("{} is gone", directory.display())];
        };
        for path in entries.flatten().map(|entry| entry.path()) {
            let Ok(metadata) = path.symlink_metadata() else {
                continue;
            };
            let mut text = format!("{} {:o}", path.display(), metadata.mode() & 0o170_000);
            if !path.ends_with("root") {
                text += &format!(
                    " {:o} {} {}.{}",
                    metadata.mode(),
                    metadata.len(),
                    metadata.mtime(),
                    metadata.mtime_nsec()
                );
            }
            found.push(text);
        }
    }
    found.sort();
    found
}

/// Compares an image with files. What no entry describes has the beginning of time in images, and now in files.
pub(crate) fn assert_alike(image: &Tree, files: &Tree) {
    let names = |tree: &Tree| {
        tree.keys()
            .map(|key| String::from_utf8_lossy(key).into_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(names(image), names(files), "the forms have other files");
    for (path, node) in image {
        let mut other = files[path].clone();
        let is_implicit = node.mtime == (0, 0);
        // File systems do not have every time: those of Linux have 34 bits of seconds at best.
        if is_implicit || !(0..1 << 31).contains(&node.mtime.0) {
            other.mtime = node.mtime;
        }
        assert_eq!(*node, other, "{}", String::from_utf8_lossy(path));
    }
}
