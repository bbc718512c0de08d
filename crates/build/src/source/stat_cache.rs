//! Digests of a context's files by what stat says of them, so that an unchanged file is read once and not at every
//! build. One file a context, replaced as a whole; losing it costs time only.
//!
//! A stamp (size, times, inode) tells that a file is unchanged only if the file was at rest when it was read: clocks of
//! file systems tick in steps, so a change within the same step is not seen. Digests of files that changed less than
//! [`REST_NS`] before they were read are not kept.

use std::collections::HashMap;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::Mode;

use super::{Entry, Stamp};

/// How long a file must have been left alone before its stamp is trusted.
const REST_NS: i128 = 2_000_000_000;
/// First bytes of the file.
const MAGIC: &[u8; 16] = b"ketch-stamps-1\n\0";
/// A cache file longer than this is not read.
const MAX_BYTES: u64 = 1 << 30;

/// Digests that no step of a build asked for are kept up to so many times the number of those that were, and
/// [`MIN_UNUSED`] more: files come and go, and the cache must not grow with them for ever.
const UNUSED_FACTOR: usize = 4;
/// See [`UNUSED_FACTOR`].
const MIN_UNUSED: usize = 10_000;

/// A digest from an earlier build.
#[derive(Debug)]
struct Known {
    stamp: Stamp,
    content: [u8; 32],
    used: AtomicBool,
}

/// The digests of one context.
#[derive(Debug, Default)]
pub struct StatCache {
    file: Option<PathBuf>,
    old: HashMap<PathBuf, Known>,
    new: Mutex<HashMap<PathBuf, (Stamp, [u8; 32])>>,
}

impl StatCache {
    /// A cache that keeps nothing.
    pub fn none() -> Self {
        Self::default()
    }

    /// Reads the cache file; one that is missing or damaged is an empty one.
    pub fn load(file: PathBuf) -> Self {
        let fits = std::fs::metadata(&file).is_ok_and(|metadata| metadata.len() <= MAX_BYTES);
        let bytes = if fits {
            std::fs::read(&file).unwrap_or_default()
        } else {
            Vec::new()
        };
        Self {
            old: decode(&bytes).unwrap_or_default(),
            file: Some(file),
            new: Mutex::default(),
        }
    }

    /// Nanoseconds since 1970 by the clock that file systems use.
    pub fn now_ns() -> i128 {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse);
        i128::from(now.tv_sec) * 1_000_000_000 + i128::from(now.tv_nsec)
    }

    /// The digest of an entry that has not changed since.
    pub fn get(&self, entry: &Entry) -> Option<[u8; 32]> {
        let known = self.old.get(&entry.path)?;
        if known.stamp != entry.stamp {
            return None;
        }
        known.used.store(true, Ordering::Relaxed);
        Some(known.content)
    }

    /// Keeps a digest, taken of the entry's content from `started_ns` on.
    pub fn put(&self, entry: &Entry, content: [u8; 32], started_ns: i128) {
        let changed = entry.stamp.modified_ns.max(entry.stamp.changed_ns);
        if self.file.is_none() || changed + REST_NS > started_ns {
            return;
        }
        let mut new = self
            .new
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        new.insert(entry.path.clone(), (entry.stamp, content));
    }

    /// Writes the cache file if there is anything new. A failure loses time at the next build, nothing else.
    pub fn save(&self) {
        let new = self
            .new
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let Some(file) = self.file.as_ref().filter(|_| !new.is_empty()) else {
            return;
        };
        let mut bytes = MAGIC.to_vec();
        let used = self
            .old
            .values()
            .filter(|known| known.used.load(Ordering::Relaxed))
            .count()
            + new.len();
        let mut room = used * UNUSED_FACTOR + MIN_UNUSED;
        for (path, known) in self.old.iter().filter(|(path, _)| !new.contains_key(*path)) {
            let is_used = known.used.load(Ordering::Relaxed);
            if is_used || room > 0 {
                room -= usize::from(!is_used);
                encode(&mut bytes, path, &known.stamp, &known.content);
            }
        }
        for (path, (stamp, content)) in new.iter() {
            encode(&mut bytes, path, stamp, content);
        }
        if let Some(parent) = file.parent() {
            let _ = std::fs::create_dir_all(parent);
        }
        let _ = ketch_sys::fs::replace_file(file, &bytes, Mode::from_raw_mode(0o600), false);
    }
}

fn encode(bytes: &mut Vec<u8>, path: &Path, stamp: &Stamp, content: &[u8; 32]) {
    let path = path.as_os_str().as_bytes();
    bytes.extend_from_slice(&(path.len() as u32).to_le_bytes());
    bytes.extend_from_slice(path);
    bytes.extend_from_slice(&stamp.size.to_le_bytes());
    bytes.extend_from_slice(&stamp.modified_ns.to_le_bytes());
    bytes.extend_from_slice(&stamp.changed_ns.to_le_bytes());
    bytes.extend_from_slice(&stamp.inode.to_le_bytes());
    bytes.extend_from_slice(&stamp.device.to_le_bytes());
    bytes.extend_from_slice(content);
}

fn decode(bytes: &[u8]) -> Option<HashMap<PathBuf, Known>> {
    let mut rest = bytes.strip_prefix(MAGIC)?;
    let mut found = HashMap::new();
    while !rest.is_empty() {
        let length = u32::from_le_bytes(take(&mut rest)?) as usize;
        let path = rest.get(..length)?;
        rest = &rest[length..];
        let stamp = Stamp {
            size: u64::from_le_bytes(take(&mut rest)?),
            modified_ns: i128::from_le_bytes(take(&mut rest)?),
            changed_ns: i128::from_le_bytes(take(&mut rest)?),
            inode: u64::from_le_bytes(take(&mut rest)?),
            device: u64::from_le_bytes(take(&mut rest)?),
        };
        let path = PathBuf::from(std::ffi::OsString::from_vec(path.to_vec()));
        found.insert(
            path,
            Known {
                stamp,
                content: take(&mut rest)?,
                used: AtomicBool::new(false),
            },
        );
    }
    Some(found)
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (first, after) = rest.split_first_chunk::<N>()?;
    *rest = after;
    Some(*first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Kind;

    fn entry(path: &str, changed_ns: i128) -> Entry {
        let stamp = Stamp {
            size: 3,
            modified_ns: 1,
            changed_ns,
            inode: 4,
            device: 5,
        };
        Entry {
            path: path.into(),
            kind: Kind::File,
            mode: 0o644,
            uid: 0,
            gid: 0,
            linked: false,
            stamp,
        }
    }

    #[test]
    fn digests_are_kept_for_files_at_rest() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("sub/stamps");
        let cache = StatCache::load(file.clone());
        let (calm, fresh) = (entry("calm", 10), entry("fresh", 5_000_000_000));
        let now = 6_000_000_000;
        cache.put(&calm, [7; 32], now);
        cache.put(&fresh, [8; 32], now);
        cache.save();
        let again = StatCache::load(file.clone());
        assert_eq!(again.get(&calm), Some([7; 32]));
        assert_eq!(
            again.get(&fresh),
            None,
            "a file that changed a second ago may change again unseen"
        );
        let mut touched = calm.clone();
        touched.stamp.changed_ns += 1;
        assert_eq!(again.get(&touched), None);
        again.put(&entry("other", 1), [9; 32], now);
        again.save();
        assert_eq!(
            StatCache::load(file).get(&calm),
            Some([7; 32]),
            "old digests stay"
        );
    }

    #[test]
    fn digests_that_nobody_asks_for_are_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("stamps");
        let now = 9_000_000_000;
        let cache = StatCache::load(file.clone());
        for number in 0..MIN_UNUSED + 100 {
            cache.put(&entry(&format!("f{number}"), 1), [1; 32], now);
        }
        cache.save();
        let next = StatCache::load(file.clone());
        assert!(next.get(&entry("f7", 1)).is_some());
        next.put(&entry("new", 1), [2; 32], now);
        next.save();
        let last = StatCache::load(file);
        assert_eq!(last.old.len(), 2 + MIN_UNUSED + 2 * UNUSED_FACTOR);
        assert!(last.get(&entry("f7", 1)).is_some());
    }

    #[test]
    fn a_damaged_file_is_an_empty_one() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("stamps");
        let cache = StatCache::load(file.clone());
        cache.put(&entry("a", 1), [7; 32], 9_000_000_000);
        cache.save();
        let bytes = std::fs::read(&file).unwrap();
        for length in 0..bytes.len() {
            std::fs::write(&file, &bytes[..length]).unwrap();
            assert_eq!(StatCache::load(file.clone()).get(&entry("a", 1)), None);
        }
    }
}
