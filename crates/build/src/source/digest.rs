//! The content digest of what a COPY reads: path, kind, mode, owner, link target, device number, extended attributes
//! and bytes of each file, and what hangs together as one inode. Not times, not where it lies on the host.

use std::collections::HashMap;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use ketch_spec::Digest;
use rustix::fs::OFlags;
use sha2::{Digest as _, Sha256};

use super::{Entry, Kind, Selection, SourceError, SourceRoot, StatCache};
use crate::key::KeyWriter;

/// Threads that hash, at most.
const MAX_THREADS: usize = 4;
/// Files a thread takes at once.
const BATCH: usize = 32;

/// Attributes that a copy does not carry over, so they do not count.
pub fn is_carried(xattr: &[u8]) -> bool {
    !xattr.starts_with(b"trusted.overlay.")
        && !xattr.starts_with(b"user.overlay.")
        && !xattr.starts_with(b"system.")
        && xattr != b"security.selinux"
}

/// The digest of all selections. Files whose stamp is in `cache` are not read again; new digests are put there.
///
/// # Errors
/// A file cannot be read, or changed meanwhile.
pub fn digest(
    root: &SourceRoot,
    selections: &[Selection],
    cache: &StatCache,
) -> Result<Digest, SourceError> {
    let mut entries: Vec<&Entry> = Vec::new();
    for selection in selections {
        entries.extend(&selection.above);
        entries.push(&selection.top);
        entries.extend(&selection.below);
    }
    let contents = contents(root, &entries, cache)?;
    let mut key = KeyWriter::new("content");
    let mut inodes = HashMap::new();
    let mut index = 0;
    key.number(selections.len() as u64);
    for selection in selections {
        key.bytes(selection.name.as_os_str().as_bytes())
            .number(u64::from(selection.wild));
        key.number(selection.above.len() as u64)
            .number(selection.below.len() as u64);
        for entry in selection
            .above
            .iter()
            .chain([&selection.top])
            .chain(&selection.below)
        {
            let path = entry
                .path
                .strip_prefix(&selection.top.path)
                .unwrap_or(Path::new(""));
            one(
                &mut key,
                entry,
                path,
                &contents[index],
                inodes.len(),
                &mut inodes,
            );
            index += 1;
        }
    }
    Ok(key.finish())
}

/// Adds one entry to a key.
fn one(
    key: &mut KeyWriter,
    entry: &Entry,
    path: &Path,
    content: &[u8; 32],
    next: usize,
    inodes: &mut HashMap<(u64, u64), usize>,
) {
    key.bytes(path.as_os_str().as_bytes());
    key.number(entry.mode.into())
        .number(entry.uid.into())
        .number(entry.gid.into());
    match &entry.kind {
        Kind::File => {
            let group = if entry.linked {
                *inodes
                    .entry((entry.stamp.device, entry.stamp.inode))
                    .or_insert(next) as u64
                    + 1
            } else {
                0
            };
            key.text("file").number(entry.stamp.size).number(group)
        }
        Kind::Directory => key.text("directory"),
        Kind::Link(target) => key.text("link").bytes(target.as_bytes()),
        Kind::Fifo => key.text("fifo"),
        Kind::Device { block, number } => key
            .text(if *block { "block" } else { "character" })
            .number(*number),
    };
    key.bytes(content);
}

/// The digest of each entry's bytes and extended attributes, in the order given.
fn contents(
    root: &SourceRoot,
    entries: &[&Entry],
    cache: &StatCache,
) -> Result<Vec<[u8; 32]>, SourceError> {
    let mut found = vec![[0u8; 32]; entries.len()];
    let mut missing = Vec::new();
    for (index, entry) in entries.iter().enumerate() {
        match cache.get(entry) {
            Some(content) => found[index] = content,
            None => missing.push(index),
        }
    }
    let threads = std::thread::available_parallelism()
        .map_or(1, usize::from)
        .min(MAX_THREADS);
    let threads = threads.min(missing.len().div_ceil(BATCH)).max(1);
    let next = AtomicUsize::new(0);
    let work = || -> Result<Vec<(usize, [u8; 32])>, SourceError> {
        let mut done = Vec::new();
        let mut hasher = FileHasher::new();
        loop {
            let start = next.fetch_add(BATCH, Ordering::Relaxed);
            let Some(batch) = missing.get(start..missing.len().min(start.saturating_add(BATCH)))
            else {
                break;
            };
            if batch.is_empty() {
                break;
            }
            for &index in batch {
                done.push((index, hasher.hash(root, entries[index], cache)?));
            }
        }
        Ok(done)
    };
    let results: Vec<_> = std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let mut results = vec![work()];
        for other in others {
            // A panic there is a panic here.
            results.push(
                other
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            );
        }
        results
    });
    for result in results {
        for (index, content) in result? {
            found[index] = content;
        }
    }
    Ok(found)
}

struct FileHasher {
    buffer: Vec<u8>,
}

impl FileHasher {
    fn new() -> Self {
        Self {
            buffer: vec![0; 128 << 10],
        }
    }

    fn hash(
        &mut self,
        root: &SourceRoot,
        entry: &Entry,
        cache: &StatCache,
    ) -> Result<[u8; 32], SourceError> {
        let started = StatCache::now_ns();
        let mut hash = Sha256::new();
        for (name, value) in xattrs(root, entry)? {
            hash.update((name.len() as u64).to_le_bytes());
            hash.update(&name);
            hash.update((value.len() as u64).to_le_bytes());
            hash.update(&value);
        }
        hash.update(u64::MAX.to_le_bytes());
        if entry.kind == Kind::File {
            let file = root.open_entry(entry)?;
            self.read(&mut hash, file, root, entry)?;
        }
        let content = hash.finalize().into();
        cache.put(entry, content, started);
        Ok(content)
    }

    fn read(
        &mut self,
        hash: &mut Sha256,
        file: OwnedFd,
        root: &SourceRoot,
        entry: &Entry,
    ) -> Result<(), SourceError> {
        let mut file = std::fs::File::from(file);
        loop {
            let count = file
                .read(&mut self.buffer)
                .map_err(|error| SourceError::Io {
                    call: "read",
                    path: entry.path.clone(),
                    error,
                })?;
            if count == 0 {
                return root.check_unchanged(entry, file.as_fd());
            }
            hash.update(&self.buffer[..count]);
        }
    }
}

/// Name and value of an extended attribute.
pub type Attribute = (Vec<u8>, Vec<u8>);

/// The extended attributes of an entry that a copy carries over.
pub fn xattrs(root: &SourceRoot, entry: &Entry) -> Result<Vec<Attribute>, SourceError> {
    let failed = |call, errno| SourceError::io(call, &entry.path, errno);
    let (parent, name) = match (entry.path.parent(), entry.path.file_name()) {
        (Some(parent), Some(name)) => (parent, name),
        _ => (Path::new(""), std::ffi::OsStr::new(".")),
    };
    let directory = root
        .open(parent, OFlags::PATH | OFlags::DIRECTORY)
        .map_err(|errno| failed("openat2", errno))?;
    let found = ketch_sys::fs::xattrs_at(directory.as_fd(), name)
        .map_err(|errno| failed("listxattr", errno))?;
    let carried = found
        .into_iter()
        .map(|(name, value)| (name.into_bytes(), value));
    Ok(carried.filter(|(name, _)| is_carried(name)).collect())
}
