//! `--mount`: one CSV record of `key=value` fields.

use std::collections::BTreeMap;

use super::short::parse_mode;
use super::{
    Mount, MountError, MountSource, check_volume_name, host_path, is_propagation, target_path,
};

/// What the fields said, before it is known which type they are for.
#[derive(Default)]
struct Fields {
    kind: String,
    source: Option<String>,
    target: String,
    read_only: bool,
    propagation: Option<String>,
    non_recursive: bool,
    create_source: bool,
    no_copy: bool,
    subpath: Option<String>,
    labels: BTreeMap<String, String>,
    tmpfs_size: Option<u64>,
    tmpfs_mode: Option<u32>,
    /// Which of `bind`, `volume`, `tmpfs` had options of their own.
    options_of: [bool; 3],
}

/// Reads one `--mount`, such as `type=bind,source=/a,target=/b,readonly`. `cwd` is the absolute path that a
/// source with `./` is relative to. A missing type is `volume`.
pub fn parse_mount(text: &str, cwd: &str) -> Result<Mount, MountError> {
    let mut fields = Fields {
        kind: "volume".into(),
        ..Fields::default()
    };
    for field in csv_fields(text)? {
        fields.take(&field)?;
    }
    fields.finish(cwd)
}

impl Fields {
    fn take(&mut self, field: &str) -> Result<(), MountError> {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (field, None),
        };
        let key = key.to_ascii_lowercase();
        let flag = matches!(
            key.as_str(),
            "readonly" | "ro" | "volume-nocopy" | "bind-nonrecursive" | "bind-create-src"
        );
        if value.is_none() && !flag {
            return Err(MountError::Field {
                field: field.into(),
            });
        }
        let text = value.unwrap_or_default();
        match key.as_str() {
            "type" => self.kind = text.to_ascii_lowercase(),
            "source" | "src" => self.source = Some(text.into()),
            "target" | "dst" | "destination" => self.target = text.into(),
            "readonly" | "ro" => self.read_only = boolean(&key, value)?,
            // Says how Docker Desktop's file sharing caches; nothing on Linux.
            "consistency" => consistency(text)?,
            _ => match key.split_once('-') {
                Some(("bind", _)) => self.take_bind(&key, value)?,
                Some(("volume", _)) => self.take_volume(&key, value)?,
                Some(("tmpfs", _)) => self.take_tmpfs(&key, text)?,
                Some(("image", _)) => return Err(unsupported("--mount type=image")),
                _ => {
                    return Err(MountError::Key {
                        key,
                        field: field.into(),
                    });
                }
            },
        }
        Ok(())
    }

    fn take_bind(&mut self, key: &str, value: Option<&str>) -> Result<(), MountError> {
        self.options_of[0] = true;
        let text = value.unwrap_or_default();
        match key {
            "bind-propagation" if is_propagation(text) => self.propagation = Some(text.into()),
            "bind-propagation" => {
                return Err(value_error(
                    key,
                    text,
                    " (must be one of private, rprivate, shared, rshared, slave, rslave)",
                ));
            }
            "bind-nonrecursive" => self.non_recursive = boolean(key, value)?,
            "bind-create-src" => self.create_source = boolean(key, value)?,
            "bind-recursive" => match text {
                // Read-only binds are read-only with everything below them.
                "enabled" | "readonly" => self.non_recursive = false,
                "disabled" => self.non_recursive = true,
                "writable" => return Err(unsupported("bind-recursive=writable")),
                _ => {
                    return Err(value_error(
                        key,
                        text,
                        " (must be \"enabled\", \"disabled\", \"writable\", or \"readonly\")",
                    ));
                }
            },
            _ => return Err(unexpected(key, value)),
        }
        Ok(())
    }

    fn take_volume(&mut self, key: &str, value: Option<&str>) -> Result<(), MountError> {
        self.options_of[1] = true;
        let text = value.unwrap_or_default();
        match key {
            "volume-nocopy" => self.no_copy = boolean(key, value)?,
            "volume-subpath" => {
                let inside = !text.is_empty()
                    && !text.starts_with('/')
                    && !text.contains('\0')
                    && !text.split('/').any(|part| part == "..");
                if !inside {
                    return Err(MountError::Subpath { path: text.into() });
                }
                self.subpath = Some(text.into());
            }
            "volume-label" => {
                let (name, label) = text.split_once('=').unwrap_or((text, ""));
                self.labels.insert(name.into(), label.into());
            }
            "volume-driver" if matches!(text, "" | "local") => {}
            "volume-driver" => return Err(unsupported(&format!("volume driver '{text}'"))),
            "volume-opt" => return Err(unsupported("volume-opt")),
            _ => return Err(unexpected(key, value)),
        }
        Ok(())
    }

    fn take_tmpfs(&mut self, key: &str, text: &str) -> Result<(), MountError> {
        self.options_of[2] = true;
        match key {
            "tmpfs-size" => {
                let size = crate::size::parse_bytes(text).map_err(|source| MountError::Size {
                    key: key.into(),
                    source,
                })?;
                self.tmpfs_size = Some(size);
            }
            "tmpfs-mode" => self.tmpfs_mode = Some(parse_mode(key, text)?),
            _ => return Err(unexpected(key, Some(text))),
        }
        Ok(())
    }

    fn finish(self, cwd: &str) -> Result<Mount, MountError> {
        let kinds = ["bind", "volume", "tmpfs"];
        match self.kind.as_str() {
            "" => return Err(MountError::Missing { key: "type" }),
            "image" | "npipe" | "cluster" => {
                return Err(unsupported(&format!("--mount type={}", self.kind)));
            }
            kind if kinds.contains(&kind) => {}
            _ => {
                return Err(value_error(
                    "type",
                    &self.kind,
                    " (must be bind, volume or tmpfs)",
                ));
            }
        }
        if self.target.is_empty() {
            return Err(MountError::Missing { key: "target" });
        }
        for (prefix, used) in kinds.into_iter().zip(self.options_of) {
            if used && prefix != self.kind {
                return Err(MountError::Mixed {
                    prefix,
                    kind: self.kind,
                });
            }
        }
        let source = self.source.filter(|source| !source.is_empty());
        let source = match self.kind.as_str() {
            "bind" => {
                let given = source.ok_or(MountError::Missing { key: "source" })?;
                let path = host_path(&given, cwd).ok_or(MountError::NotAbsolute { path: given })?;
                MountSource::Bind {
                    path,
                    create: self.create_source,
                }
            }
            "tmpfs" if source.is_some() => return Err(MountError::TmpfsSource),
            "tmpfs" => MountSource::Tmpfs {
                size_bytes: self.tmpfs_size,
                mode: self.tmpfs_mode,
                options: Vec::new(),
            },
            _ => {
                source.as_deref().map_or(Ok(()), check_volume_name)?;
                MountSource::Volume {
                    anonymous: source.is_none(),
                    name: source,
                    no_copy: self.no_copy,
                    subpath: self.subpath,
                    labels: self.labels,
                }
            }
        };
        Ok(Mount {
            source,
            target: target_path(&self.target)?,
            read_only: self.read_only,
            propagation: self.propagation,
            non_recursive: self.non_recursive,
        })
    }
}

fn unsupported(what: &str) -> MountError {
    MountError::Unsupported { what: what.into() }
}

fn value_error(key: &str, value: &str, note: &'static str) -> MountError {
    MountError::Value {
        key: key.into(),
        value: value.into(),
        note,
    }
}

fn unexpected(key: &str, value: Option<&str>) -> MountError {
    let field = value.map_or_else(|| key.to_owned(), |value| format!("{key}={value}"));
    MountError::Key {
        key: key.into(),
        field,
    }
}

fn consistency(text: &str) -> Result<(), MountError> {
    match text {
        "default" | "consistent" | "cached" | "delegated" => Ok(()),
        _ => Err(value_error(
            "consistency",
            text,
            " (must be default, consistent, cached or delegated)",
        )),
    }
}

/// Go's `strconv.ParseBool`; a key alone is true.
fn boolean(key: &str, value: Option<&str>) -> Result<bool, MountError> {
    match value {
        None | Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(true),
        Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(false),
        Some(text) => Err(value_error(key, text, "")),
    }
}

/// The fields of one CSV record (RFC 4180): a field in double quotes may hold commas, and quotes twice.
fn csv_fields(text: &str) -> Result<Vec<String>, MountError> {
    let wrong = || MountError::Quotes { text: text.into() };
    let mut fields = Vec::new();
    let mut rest = text;
    loop {
        let mut field = String::new();
        if let Some(mut quoted) = rest.strip_prefix('"') {
            loop {
                let (part, after) = quoted.split_once('"').ok_or_else(wrong)?;
                field.push_str(part);
                match after.strip_prefix('"') {
                    Some(after) => {
                        field.push('"');
                        quoted = after;
                    }
                    None => {
                        rest = after;
                        break;
                    }
                }
            }
        } else {
            let end = rest.find(',').unwrap_or(rest.len());
            field.push_str(&rest[..end]);
            rest = &rest[end..];
            if field.contains('"') {
                return Err(wrong());
            }
        }
        fields.push(field);
        match rest.strip_prefix(',') {
            Some(after) => rest = after,
            None if rest.is_empty() => return Ok(fields),
            None => return Err(wrong()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn binds() {
        let mount =
            parse_mount("type=bind,src=./a,dst=/b,ro,bind-propagation=rslave", "/w").unwrap();
        assert_eq!(
            mount,
            Mount {
                source: MountSource::Bind {
                    path: "/w/a".into(),
                    create: false
                },
                target: "/b".into(),
                read_only: true,
                propagation: Some("rslave".into()),
                non_recursive: false,
            }
        );
        let mount =
            parse_mount("type=bind,source=/a,target=/b,bind-recursive=disabled", "/").unwrap();
        assert!(mount.non_recursive && !mount.read_only);
        let mount = parse_mount(
            "\"type=bind\",\"source=/a,b\",target=/b,readonly=false",
            "/",
        );
        assert_eq!(
            mount.unwrap().source,
            MountSource::Bind {
                path: "/a,b".into(),
                create: false
            }
        );
    }

    #[test]
    fn volumes_and_tmpfs() {
        let text = "source=data,target=/d,volume-nocopy,volume-label=a=b,volume-subpath=x/y";
        assert_eq!(
            parse_mount(text, "/").unwrap().source,
            MountSource::Volume {
                name: Some("data".into()),
                anonymous: false,
                no_copy: true,
                subpath: Some("x/y".into()),
                labels: BTreeMap::from([("a".into(), "b".into())]),
            }
        );
        let anonymous = parse_mount("target=/d", "/").unwrap().source;
        assert!(matches!(
            anonymous,
            MountSource::Volume {
                name: None,
                anonymous: true,
                ..
            }
        ));
        let tmpfs = parse_mount("type=tmpfs,target=/t,tmpfs-size=1m,tmpfs-mode=1770", "/").unwrap();
        assert_eq!(
            tmpfs.source,
            MountSource::Tmpfs {
                size_bytes: Some(1 << 20),
                mode: Some(0o1770),
                options: Vec::new(),
            }
        );
    }

    #[test]
    fn refusals_use_dockers_words() {
        let cases = [
            ("target", "invalid field 'target' must be a key=value pair"),
            ("target=/x,foo=bar", "unexpected key 'foo' in 'foo=bar'"),
            (
                "target=/x,bind-foo=bar",
                "unexpected key 'bind-foo' in 'bind-foo=bar'",
            ),
            ("type=bind,target=/x", "source is required"),
            ("source=data", "target is required"),
            ("target=/x,ro=no", "invalid value for ro: no"),
            (
                "type=tmpfs,target=/x,bind-propagation=shared",
                "cannot mix 'bind-*' options with mount type 'tmpfs'",
            ),
            (
                "type=bind,source=a,target=/x",
                "invalid mount path: 'a' mount path must be absolute",
            ),
            (
                "type=floppy,target=/x",
                "invalid value for type: floppy (must be bind, volume or tmpfs)",
            ),
            (
                "target=/x,volume-subpath=../y",
                "invalid volume-subpath '../y': it must be relative and stay inside the volume",
            ),
            (
                "type=image,target=/x",
                "--mount type=image is not supported",
            ),
            (
                "target=/x,volume-opt=type=nfs",
                "volume-opt is not supported",
            ),
            (
                "target=/x,tmpfs-size=q",
                "invalid value for tmpfs-size: invalid size: 'q'",
            ),
            (
                "a\"b=c",
                "parse error in 'a\"b=c': bare or unclosed \" in a field",
            ),
        ];
        for (text, message) in cases {
            assert_eq!(
                parse_mount(text, "/w").unwrap_err().to_string(),
                message,
                "{text}"
            );
        }
    }

    proptest! {
        #[test]
        fn never_panics(
            fields in proptest::collection::vec("(type|source|target|ro|bind-recursive|tmpfs-mode)?=?[a-z/.\",]{0,8}", 0..5),
            any_text in "\\PC{0,20}",
        ) {
            let _ = parse_mount(&fields.join(","), "/w");
            let _ = parse_mount(&any_text, "/w");
        }
    }
}
