//! Extended attributes as EROFS has them, with what the kernel's file systems would make of some when they are set.

use crate::tar::{Entry, Kind, Problem};
use crate::tree::is_taken;

/// The longest attributes of one inode in bytes: a count of 16 bits (see `format::xattr_count`).
const MAX_BYTES: usize = 12 + 4 * (u16::MAX as usize - 1);
/// The longest value: a length of 16 bits.
const MAX_VALUE_BYTES: usize = u16::MAX as usize;
/// What is in front of the entries: a filter of names, how many are elsewhere. Neither is used.
const HEADER_BYTES: usize = 12;

/// Names that EROFS shortens, with the number it has for each; there are no others.
const PREFIXES: [(u8, &[u8]); 5] = [
    (1, b"user."),
    (2, b"system.posix_acl_access"),
    (3, b"system.posix_acl_default"),
    (4, b"trusted."),
    (6, b"security."),
];
/// Begins an access control list.
const ACL_VERSION: [u8; 4] = [2, 0, 0, 0];
const ACL_ACCESS: u8 = 2;
const ACL_DEFAULT: u8 = 3;
const TRUSTED: u8 = 4;

/// Attributes of a file in the order they were set, by the number of their prefix and the rest of their name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attributes {
    entries: Vec<(u8, Vec<u8>, Vec<u8>)>,
}

/// What an entry's attributes come to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Taken {
    pub attributes: Attributes,
    /// Permission bits that an access control list overrules.
    pub mode: u32,
    /// How many there was no way to keep.
    pub lost: u64,
}

impl Taken {
    /// The attributes of an entry that belong to the layer.
    ///
    /// # Errors
    /// A malformed list or capability, as a file system would refuse it; more than an inode can have.
    pub fn of(entry: &Entry) -> Result<Self, Problem> {
        let mut taken = Self {
            mode: entry.mode,
            ..Self::default()
        };
        for (key, value) in entry.xattrs.iter().filter(|(key, _)| is_taken(key)) {
            taken.one(entry.kind, key, value)?;
        }
        Ok(taken)
    }

    fn one(&mut self, kind: Kind, key: &[u8], value: &[u8]) -> Result<(), Problem> {
        let malformed = || Problem::Attribute {
            name: crate::tar::shown(key),
        };
        let found = PREFIXES
            .iter()
            .find_map(|(index, prefix)| Some((*index, key.strip_prefix(*prefix)?)));
        // An access control list has a whole name, all others something behind the prefix.
        let Some((index, rest)) = found.filter(|(index, rest)| is_list(*index) == rest.is_empty())
        else {
            self.lost += 1;
            return Ok(());
        };
        if is_list(index) && value == ACL_VERSION {
            // An empty list is none.
            return self.attributes.set(index, rest, &[]);
        }
        match index {
            // Only files and directories have users' attributes, links no lists (xattr(7), acl(5)).
            1 if !matches!(kind, Kind::File | Kind::Directory) => self.lost += 1,
            ACL_ACCESS | ACL_DEFAULT if kind == Kind::Symlink => self.lost += 1,
            ACL_DEFAULT if kind != Kind::Directory => return Err(malformed()),
            ACL_ACCESS => {
                let (mode, minimal) = acl_mode(value, self.mode).ok_or_else(malformed)?;
                self.mode = mode;
                let kept = if minimal { &[][..] } else { value };
                self.attributes.set(index, rest, kept)?;
            }
            ACL_DEFAULT => {
                acl_mode(value, self.mode).ok_or_else(malformed)?;
                self.attributes.set(index, rest, value)?;
            }
            _ => {
                if key == b"security.capability" && !is_capability(value) {
                    return Err(malformed());
                }
                self.attributes.set(index, rest, value)?;
            }
        }
        Ok(())
    }
}

fn is_list(index: u8) -> bool {
    index == ACL_ACCESS || index == ACL_DEFAULT
}

impl Attributes {
    fn set(&mut self, index: u8, name: &[u8], value: &[u8]) -> Result<(), Problem> {
        if value.len() > MAX_VALUE_BYTES {
            return Err(Problem::Long {
                field: "attribute",
                limit: MAX_VALUE_BYTES as u64,
            });
        }
        self.entries
            .retain(|(i, n, _)| (*i, &n[..]) != (index, name));
        self.entries.push((index, name.to_vec(), value.to_vec()));
        Ok(())
    }

    /// Marks a directory that hides what is below it.
    pub fn set_opaque(&mut self) {
        // Short, so it cannot fail.
        let _ = self.set(TRUSTED, b"overlay.opaque", b"y");
    }

    /// What chmod(2) does to an access control list: the owner's, the mask's (or group's) and others' entries follow.
    pub fn chmod(&mut self, mode: u32) {
        let lists = self
            .entries
            .iter_mut()
            .filter(|(index, ..)| *index == ACL_ACCESS);
        for (_, _, list) in lists {
            let entries = list.get_mut(ACL_VERSION.len()..).unwrap_or_default();
            let has_mask = entries.chunks_exact(8).any(|entry| entry[0] == 0x10);
            for entry in entries.chunks_exact_mut(8) {
                let shift = match entry[0] {
                    0x01 => 6,
                    0x10 => 3,
                    0x04 if !has_mask => 3,
                    0x20 => 0,
                    _ => continue,
                };
                entry[2] = (mode >> shift) as u8 & 7;
            }
        }
    }

    /// Sets those of `newer` too.
    pub fn merge(&mut self, newer: Self) {
        for (index, name, value) in newer.entries {
            self.entries.retain(|(i, n, _)| (*i, n) != (index, &name));
            self.entries.push((index, name, value));
        }
    }

    /// As they follow an inode; empty if there are none.
    ///
    /// # Errors
    /// More than an inode can have.
    pub fn encode(&self) -> Result<Vec<u8>, Problem> {
        // A list without entries only takes an older one away.
        let is_kept =
            |(index, _, value): &&(u8, Vec<u8>, Vec<u8>)| !is_list(*index) || !value.is_empty();
        let mut kept = self.entries.iter().filter(is_kept).peekable();
        if kept.peek().is_none() {
            return Ok(Vec::new());
        }
        let mut bytes = vec![0u8; HEADER_BYTES];
        for (index, name, value) in kept {
            // Names have at most 255 bytes with their prefix, values were checked.
            bytes.push(name.len() as u8);
            bytes.push(*index);
            bytes.extend_from_slice(&(value.len() as u16).to_le_bytes());
            bytes.extend_from_slice(name);
            bytes.extend_from_slice(value);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
        if bytes.len() > MAX_BYTES {
            return Err(Problem::Long {
                field: "attributes together",
                limit: MAX_BYTES as u64,
            });
        }
        Ok(bytes)
    }

    /// Takes apart what [`Attributes::encode`] made.
    pub fn decode(bytes: &[u8]) -> Self {
        let mut found = Self::default();
        let mut rest = bytes.get(HEADER_BYTES..).unwrap_or_default();
        while let [name_length, index, low, high, ..] = *rest {
            let name_end = 4 + usize::from(name_length);
            let end = name_end + usize::from(u16::from_le_bytes([low, high]));
            let (Some(name), Some(value)) = (rest.get(4..name_end), rest.get(name_end..end)) else {
                break;
            };
            found.entries.push((index, name.to_vec(), value.to_vec()));
            rest = rest.get(end.next_multiple_of(4)..).unwrap_or_default();
        }
        found
    }
}

/// A file capability of the second or third revision (linux/capability.h, `struct vfs_ns_cap_data`).
fn is_capability(value: &[u8]) -> bool {
    let revision = value.get(..4).map(|bytes| bytes[3]);
    matches!((value.len(), revision), (20, Some(2)) | (24, Some(3)))
}

/// What permission bits an access control list gives (linux/posix_acl_xattr.h: a version, then tag, permissions and id
/// of each entry), and whether it says no more than these. None for a list that no file system takes.
fn acl_mode(value: &[u8], mode: u32) -> Option<(u32, bool)> {
    let entries = value.strip_prefix(&ACL_VERSION)?;
    if entries.is_empty() || !entries.len().is_multiple_of(8) {
        return None;
    }
    let (mut owner, mut group, mut other, mut mask) = (None, None, None, None);
    let (mut named, mut last_tag) = (false, 0u16);
    for entry in entries.chunks_exact(8) {
        let tag = u16::from_le_bytes([entry[0], entry[1]]);
        let permissions = u16::from_le_bytes([entry[2], entry[3]]);
        if permissions > 7 || tag < last_tag {
            return None;
        }
        last_tag = tag;
        let permissions = u32::from(permissions);
        let slot = match tag {
            0x01 => &mut owner,
            0x04 => &mut group,
            0x10 => &mut mask,
            0x20 => &mut other,
            0x02 | 0x08 => {
                named = true;
                continue;
            }
            _ => return None,
        };
        if slot.replace(permissions).is_some() {
            return None;
        }
    }
    if named && mask.is_none() {
        return None;
    }
    let bits = owner? << 6 | mask.or(group)? << 3 | other?;
    group?;
    Some((mode & !0o777 | bits, !named && mask.is_none()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acl(entries: &[(u16, u16)]) -> Vec<u8> {
        let mut bytes = vec![2, 0, 0, 0];
        for (tag, permissions) in entries {
            bytes.extend(tag.to_le_bytes());
            bytes.extend(permissions.to_le_bytes());
            bytes.extend(1000u32.to_le_bytes());
        }
        bytes
    }

    #[test]
    fn lists_overrule_the_mode() {
        let minimal = acl(&[(1, 7), (4, 5), (0x20, 0)]);
        assert_eq!(acl_mode(&minimal, 0o4644), Some((0o4750, true)));
        let named = acl(&[(1, 7), (2, 7), (4, 5), (0x10, 6), (0x20, 0)]);
        assert_eq!(acl_mode(&named, 0o644), Some((0o760, false)));
        for wrong in [
            acl(&[(1, 7), (2, 7), (4, 5), (0x20, 0)]),
            acl(&[(1, 7), (4, 5)]),
            acl(&[(4, 7), (1, 5), (0x20, 0)]),
            acl(&[(1, 9), (4, 5), (0x20, 0)]),
            acl(&[]),
            vec![1, 0, 0, 0],
        ] {
            assert_eq!(acl_mode(&wrong, 0o644), None);
        }
    }

    #[test]
    fn attributes_come_back_and_merge() {
        let mut entry = Entry::new(Kind::Directory, "d");
        entry.xattrs = vec![
            (b"user.a".to_vec(), b"1".to_vec()),
            (b"user.b".to_vec(), vec![7; 1000]),
            (b"system.other".to_vec(), b"lost".to_vec()),
            (b"trusted.overlay.redirect".to_vec(), b"not taken".to_vec()),
        ];
        let taken = Taken::of(&entry).unwrap();
        assert_eq!(taken.lost, 1);
        let bytes = taken.attributes.encode().unwrap();
        assert!(bytes.len().is_multiple_of(4));
        let mut again = Attributes::decode(&bytes);
        assert_eq!(again, taken.attributes);
        entry.xattrs = vec![(b"user.a".to_vec(), b"2".to_vec())];
        again.merge(Taken::of(&entry).unwrap().attributes);
        again.set_opaque();
        assert_eq!(again.entries.len(), 3);
        entry.xattrs = vec![(b"security.capability".to_vec(), vec![0; 20])];
        assert!(matches!(Taken::of(&entry), Err(Problem::Attribute { .. })));
        entry.xattrs = (0..9)
            .map(|i| (format!("user.{i}").into_bytes(), vec![0; 60_000]))
            .collect();
        let taken = Taken::of(&entry).unwrap();
        assert!(matches!(
            taken.attributes.encode(),
            Err(Problem::Long { .. })
        ));
    }
}
