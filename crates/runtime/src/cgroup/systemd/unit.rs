//! Names: `slice:prefix:name` of a specification, the unit, and where its group is.

use crate::error::{Error, Result};

const FIELD: &str = "linux.cgroupsPath";
/// Longest name of a unit (systemd's `UNIT_NAME_MAX` with its end).
const LONGEST: usize = 255;

/// A scope of systemd's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cgroup) struct Unit {
    /// `docker-abc.scope`.
    pub name: String,
    /// `system.slice`.
    pub slice: String,
    /// The user whose manager has it; 0: the machine's.
    pub uid: u32,
}

impl Unit {
    /// Whether a `linux.cgroupsPath` is of this kind.
    pub fn is_meant(path: &str) -> bool {
        path.contains(':')
    }

    /// From `slice:prefix:name`. The slice may be empty: system.slice, or user.slice for users. As with runc, the unit is
    /// `prefix-name.scope`.
    pub fn parse(path: &str, uid: u32) -> Result<Self> {
        let wrong = |reason: &str| Error::invalid(FIELD, format!("{path:?}: {reason}"));
        let parts: Vec<&str> = path.split(':').collect();
        let [slice, prefix, name] = parts.as_slice() else {
            return Err(wrong("systemd's are slice:prefix:name"));
        };
        let slice = match (*slice, uid) {
            ("", 0) => "system.slice",
            ("", _) => "user.slice",
            (slice, _) => slice,
        };
        if name.is_empty() {
            return Err(wrong("the name is missing"));
        }
        if name.ends_with(".slice") {
            return Err(wrong("a container is a scope, not a slice"));
        }
        let name = match *prefix {
            "" => format!("{name}.scope"),
            prefix => format!("{prefix}-{name}.scope"),
        };
        if !is_name(&name) || !is_name(slice) {
            return Err(wrong(
                "units are named with letters, digits and :-_.\\@, 255 at most",
            ));
        }
        expand(slice)
            .ok_or_else(|| wrong("the slice is not one: a-b.slice is b.slice's in a.slice"))?;
        Ok(Self {
            name,
            slice: slice.to_owned(),
            uid,
        })
    }

    /// Its path below the hierarchy's mount point.
    pub fn path(&self) -> String {
        let slices = expand(&self.slice).unwrap_or_default();
        format!("{}{slices}/{}", self.manager(), self.name)
    }

    /// Where the manager's units begin.
    pub fn manager(&self) -> String {
        match self.uid {
            0 => String::new(),
            uid => format!("/user.slice/user-{uid}.slice/user@{uid}.service"),
        }
    }
}

fn is_name(name: &str) -> bool {
    let valid = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.\\@".contains(&byte);
    !name.is_empty() && name.len() <= LONGEST && name.bytes().all(valid) && !name.starts_with('.')
}

/// The path of a slice: each dash begins one below. `-.slice` is the root.
fn expand(slice: &str) -> Option<String> {
    let stem = slice.strip_suffix(".slice")?;
    if stem == "-" {
        return Some(String::new());
    }
    let (mut path, mut whole) = (String::new(), String::new());
    for part in stem.split('-') {
        if part.is_empty() {
            return None;
        }
        if !whole.is_empty() {
            whole.push('-');
        }
        whole.push_str(part);
        path.push_str(&format!("/{whole}.slice"));
    }
    Some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_and_their_paths() {
        let path = |text: &str, uid| Unit::parse(text, uid).map(|unit| unit.path());
        for (text, uid, expected) in [
            (
                "system.slice:docker:abc",
                0,
                "/system.slice/docker-abc.scope",
            ),
            (":ketch:abc", 0, "/system.slice/ketch-abc.scope"),
            ("-.slice::abc", 0, "/abc.scope"),
            (
                "machine-a-b.slice:libpod:abc",
                0,
                "/machine.slice/machine-a.slice/machine-a-b.slice/libpod-abc.scope",
            ),
            (
                ":libpod:abc",
                1000,
                "/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-abc.scope",
            ),
        ] {
            assert_eq!(path(text, uid).unwrap(), expected);
        }
        for wrong in [
            "a:b",
            "a:b:c",
            "a.slice:b:",
            "a--b.slice:b:c",
            "-a.slice:b:c",
            "a.slice:b:c:d",
            "../a.slice:b:c",
            "a.slice:../b:c",
            "a.slice:b:c/d",
            "a.slice:b:c.slice",
        ] {
            assert!(path(wrong, 0).is_err(), "{wrong}");
        }
    }
}
