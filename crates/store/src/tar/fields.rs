//! What extended headers and types make of an entry.

use super::pax::{self, Record};
use super::sparse::PaxSparse;
use super::{Entry, Kind, Problem, limit};

/// Prefix of PAX records that carry extended attributes.
const XATTR_PREFIX: &[u8] = b"SCHILY.xattr.";

/// Numbers that are checked once all records are applied.
pub struct Numbers {
    pub uid: u64,
    pub gid: u64,
    pub stored: u64,
}

/// One PAX record. An empty value takes the header's own back, which is what is there.
pub fn apply(
    entry: &mut Entry,
    numbers: &mut Numbers,
    sparse: &mut PaxSparse,
    record: Record<'_>,
) -> Result<(), Problem> {
    let value = record.value;
    if let Some(key) = record.key.strip_prefix(XATTR_PREFIX) {
        return add_xattr(entry, key, value);
    }
    if record.key.starts_with(b"GNU.sparse.") {
        return sparse.take(record.key, value);
    }
    if value.is_empty() {
        return Ok(());
    }
    let number = |field| pax::decimal(value).ok_or(Problem::Number { field });
    match record.key {
        b"path" => entry.path = value.to_vec(),
        b"linkpath" => entry.link = value.to_vec(),
        b"size" => numbers.stored = number("size")?,
        b"uid" => numbers.uid = number("owner")?,
        b"gid" => numbers.gid = number("group")?,
        b"mtime" => entry.mtime = pax::time(value).ok_or(Problem::Number { field: "time" })?,
        b"SCHILY.devmajor" => entry.major = device(number("device number")?)?,
        b"SCHILY.devminor" => entry.minor = device(number("device number")?)?,
        // Names of users, other times, comments, character sets: nothing that a layer keeps.
        _ => {}
    }
    Ok(())
}

/// Whether a record of a global extended header means something here.
pub fn is_known(key: &[u8]) -> bool {
    key.starts_with(XATTR_PREFIX)
        || matches!(
            key,
            b"path"
                | b"linkpath"
                | b"size"
                | b"uid"
                | b"gid"
                | b"mtime"
                | b"SCHILY.devmajor"
                | b"SCHILY.devminor"
        )
        || key.starts_with(b"GNU.sparse.")
}

fn device(number: u64) -> Result<u32, Problem> {
    u32::try_from(number).map_err(|_| Problem::Range {
        field: "device number",
    })
}

fn add_xattr(entry: &mut Entry, key: &[u8], value: &[u8]) -> Result<(), Problem> {
    if key.is_empty() || key.contains(&0) {
        return Err(Problem::Nul { field: "attribute" });
    }
    if key.len() > ketch_sys::fs::NAME_MAX_BYTES {
        return Err(Problem::Long {
            field: "attribute's name",
            limit: ketch_sys::fs::NAME_MAX_BYTES as u64,
        });
    }
    if value.len() > limit::XATTR_BYTES {
        return Err(Problem::Long {
            field: "attribute",
            limit: limit::XATTR_BYTES as u64,
        });
    }
    entry.xattrs.retain(|(old, _)| old != key);
    if entry.xattrs.len() >= limit::XATTRS {
        return Err(Problem::Many {
            what: "attributes",
            limit: limit::XATTRS as u64,
        });
    }
    let bytes = |(key, value): &(Vec<u8>, Vec<u8>)| key.len() + value.len();
    let together: usize = entry.xattrs.iter().map(bytes).sum();
    if together + key.len() + value.len() > limit::XATTRS_BYTES {
        return Err(Problem::Long {
            field: "attributes together",
            limit: limit::XATTRS_BYTES as u64,
        });
    }
    entry.xattrs.push((key.to_vec(), value.to_vec()));
    Ok(())
}

/// The kinds of POSIX and GNU. A name that ends in a slash was a directory before there was a type for it.
pub fn kind_of(kind: u8, slash: bool) -> Option<Kind> {
    Some(match kind {
        0 | b'0' | b'7' if slash => Kind::Directory,
        0 | b'0' | b'7' | b'S' => Kind::File,
        b'1' => Kind::HardLink,
        b'2' => Kind::Symlink,
        b'3' => Kind::CharacterDevice,
        b'4' => Kind::BlockDevice,
        b'5' | b'D' => Kind::Directory,
        b'6' => Kind::Fifo,
        _ => return None,
    })
}

pub fn check_names(entry: &Entry) -> Result<(), Problem> {
    if entry.path.is_empty() {
        return Err(Problem::NoName);
    }
    for (name, field) in [(&entry.path, "name"), (&entry.link, "link target")] {
        if name.contains(&0) {
            return Err(Problem::Nul { field });
        }
        if name.len() > limit::PATH_BYTES {
            return Err(Problem::Long {
                field,
                limit: limit::PATH_BYTES as u64,
            });
        }
    }
    if matches!(entry.kind, Kind::Symlink | Kind::HardLink) && entry.link.is_empty() {
        return Err(Problem::NoName);
    }
    Ok(())
}
