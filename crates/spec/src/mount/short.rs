//! `-v` and `--tmpfs`.

use std::collections::BTreeMap;

use super::{
    Mount, MountError, MountSource, check_volume_name, host_path, is_propagation, target_path,
};

/// Reads one `-v`: `name:/path[:options]`, `/host:/path[:options]`, `./relative:/path`, `/path`.
/// `cwd` is the absolute path that `./` is relative to.
///
/// `z` and `Z` (SELinux labels) and `consistent`, `cached`, `delegated` are taken and mean nothing here, as on
/// a Docker host of Linux without SELinux.
pub fn parse_volume(text: &str, cwd: &str) -> Result<Mount, MountError> {
    let wrong = || MountError::Specification { text: text.into() };
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, mode) = match parts[..] {
        [target] if !target.is_empty() => (None, target, ""),
        // `/path:ro` would be an anonymous volume with options, which Docker refuses too.
        [source, target] if !source.is_empty() && Options::parse(target).is_none() => {
            (Some(source), target, "")
        }
        [source, target, mode] if !source.is_empty() && !target.is_empty() => {
            (Some(source), target, mode)
        }
        _ => return Err(wrong()),
    };
    let bad_mode = || MountError::Mode { mode: mode.into() };
    let options = Options::parse(mode).ok_or_else(bad_mode)?;
    let source = match source {
        Some(path) if path.starts_with(['/', '.']) => {
            let path = host_path(path, cwd)
                .ok_or_else(|| MountError::NotAbsolute { path: path.into() })?;
            MountSource::Bind { path, create: true }
        }
        name => {
            if let Some(name) = name {
                check_volume_name(name)?;
            }
            MountSource::Volume {
                name: name.map(Into::into),
                anonymous: name.is_none(),
                no_copy: options.no_copy,
                subpath: None,
                labels: BTreeMap::new(),
            }
        }
    };
    let bind = matches!(source, MountSource::Bind { .. });
    if (bind && options.no_copy) || (!bind && options.propagation.is_some()) {
        return Err(bad_mode());
    }
    Ok(Mount {
        source,
        target: target_path(target)?,
        read_only: options.read_only,
        propagation: options.propagation,
        non_recursive: false,
    })
}

/// The third part of `-v`.
#[derive(Default)]
struct Options {
    read_only: bool,
    no_copy: bool,
    propagation: Option<String>,
}

impl Options {
    /// None if a word is unknown or its kind was there already.
    fn parse(mode: &str) -> Option<Self> {
        let mut options = Self::default();
        if mode.is_empty() {
            return Some(options);
        }
        let mut seen = [false; 5];
        for word in mode.split(',') {
            let kind = match word {
                "ro" | "rw" => {
                    options.read_only = word == "ro";
                    0
                }
                "nocopy" | "volume-nocopy" => {
                    options.no_copy = true;
                    1
                }
                "z" | "Z" => 2,
                "consistent" | "cached" | "delegated" | "default" => 3,
                _ if is_propagation(word) => {
                    options.propagation = Some(word.into());
                    4
                }
                _ => return None,
            };
            if std::mem::replace(&mut seen[kind], true) {
                return None;
            }
        }
        Some(options)
    }
}

/// Words without a value that tmpfs takes; the kernel's mount flags and tmpfs(5).
const TMPFS_WORDS: [&str; 31] = [
    "ro",
    "rw",
    "suid",
    "nosuid",
    "dev",
    "nodev",
    "exec",
    "noexec",
    "sync",
    "async",
    "dirsync",
    "remount",
    "mand",
    "nomand",
    "atime",
    "noatime",
    "diratime",
    "nodiratime",
    "relatime",
    "norelatime",
    "strictatime",
    "nostrictatime",
    "bind",
    "rbind",
    "private",
    "rprivate",
    "shared",
    "rshared",
    "slave",
    "rslave",
    "inode64",
];
/// Keys with a value that tmpfs takes, besides `size` and `mode`.
const TMPFS_KEYS: [&str; 6] = ["uid", "gid", "nr_inodes", "nr_blocks", "mpol", "huge"];

/// Reads one `--tmpfs`: `/path[:options]`, options such as `size=64m,mode=1777,noexec`.
pub fn parse_tmpfs(text: &str) -> Result<Mount, MountError> {
    let (target, list) = text.split_once(':').unwrap_or((text, ""));
    let target = target_path(target)?;
    let (mut size_bytes, mut mode, mut read_only, mut options) = (None, None, false, Vec::new());
    for option in list.split(',').filter(|option| !option.is_empty()) {
        match option.split_once('=') {
            // A share of the memory is the kernel's to compute.
            Some(("size", value)) if is_percentage(value) => options.push(option.to_owned()),
            Some(("size", value)) => {
                let size = crate::size::parse_bytes(value).map_err(|source| MountError::Size {
                    key: "size".into(),
                    source,
                })?;
                size_bytes = Some(size);
            }
            Some(("mode", value)) => mode = Some(parse_mode("mode", value)?),
            Some((key, value)) if TMPFS_KEYS.contains(&key) && !value.is_empty() => {
                options.push(option.to_owned());
            }
            None if option == "ro" => read_only = true,
            None if option == "rw" => read_only = false,
            // Words that would turn the new file system into something else.
            None if matches!(option, "remount" | "bind" | "rbind") => {
                return Err(MountError::TmpfsOption {
                    option: option.into(),
                });
            }
            None if TMPFS_WORDS.contains(&option) => options.push(option.to_owned()),
            _ => {
                return Err(MountError::TmpfsOption {
                    option: option.into(),
                });
            }
        }
    }
    let source = MountSource::Tmpfs {
        size_bytes,
        mode,
        options,
    };
    Ok(Mount {
        source,
        target,
        read_only,
        propagation: None,
        non_recursive: false,
    })
}

fn is_percentage(value: &str) -> bool {
    value
        .strip_suffix('%')
        .is_some_and(|n| n.parse::<u8>().is_ok_and(|n| n <= 100))
}

/// An octal mode of up to 12 bits.
pub(super) fn parse_mode(key: &str, value: &str) -> Result<u32, MountError> {
    let digits = !value.is_empty() && value.bytes().all(|b| matches!(b, b'0'..=b'7'));
    match u32::from_str_radix(value, 8) {
        Ok(mode) if digits && mode <= 0o7777 => Ok(mode),
        _ => Err(MountError::Value {
            key: key.into(),
            value: value.into(),
            note: " (must be an octal file mode)",
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bind(text: &str) -> (String, String, bool, Option<String>) {
        let mount = parse_volume(text, "/home/me/app").unwrap_or_else(|e| panic!("{text}: {e}"));
        match mount.source {
            MountSource::Bind { path, create: true } => {
                (path, mount.target, mount.read_only, mount.propagation)
            }
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn binds() {
        let wanted = |path: &str, target: &str, ro, propagation: Option<&str>| {
            (
                path.to_owned(),
                target.to_owned(),
                ro,
                propagation.map(str::to_owned),
            )
        };
        assert_eq!(bind("/a:/b"), wanted("/a", "/b", false, None));
        assert_eq!(bind("/a/../c//d/:/b/"), wanted("/c/d", "/b", false, None));
        assert_eq!(
            bind("./rel:/b:ro"),
            wanted("/home/me/app/rel", "/b", true, None)
        );
        assert_eq!(bind(".:/b"), wanted("/home/me/app", "/b", false, None));
        assert_eq!(
            bind("../x:/b:rw,z"),
            wanted("/home/me/x", "/b", false, None)
        );
        assert_eq!(
            bind("/a:/b:rshared,ro"),
            wanted("/a", "/b", true, Some("rshared"))
        );
    }

    #[test]
    fn volumes() {
        let mount = parse_volume("data:/var/lib:nocopy", "/").unwrap();
        assert_eq!(
            mount.source,
            MountSource::Volume {
                name: Some("data".into()),
                anonymous: false,
                no_copy: true,
                subpath: None,
                labels: BTreeMap::new(),
            }
        );
        let mount = parse_volume("/data", "/").unwrap();
        assert!(matches!(
            mount.source,
            MountSource::Volume {
                name: None,
                anonymous: true,
                ..
            }
        ));
        assert_eq!(mount.target, "/data");
    }

    #[test]
    fn refusals_use_dockers_words() {
        let cases = [
            ("", "invalid volume specification: ''"),
            (":", "invalid volume specification: ':'"),
            (":/b", "invalid volume specification: ':/b'"),
            ("/a:", "invalid volume specification: '/a:'"),
            ("/a:ro", "invalid volume specification: '/a:ro'"),
            ("/a:/b:ro:x", "invalid volume specification: '/a:/b:ro:x'"),
            ("/a:/b:what", "invalid mode: what"),
            ("/a:/b:ro,rw", "invalid mode: ro,rw"),
            ("/a:/b:nocopy", "invalid mode: nocopy"),
            ("name:/b:shared", "invalid mode: shared"),
            (
                "/a:b",
                "invalid mount path: 'b' mount path must be absolute",
            ),
            ("b", "invalid mount path: 'b' mount path must be absolute"),
            ("/a:/", "invalid specification: destination can't be '/'"),
            (
                "/a:/x/..",
                "invalid specification: destination can't be '/'",
            ),
            (
                ".hidden:/b",
                "invalid mount path: '.hidden' mount path must be absolute",
            ),
            (
                "x:/b",
                "volume name is too short, names should be at least two alphanumeric characters",
            ),
        ];
        for (text, message) in cases {
            assert_eq!(
                parse_volume(text, "/w").unwrap_err().to_string(),
                message,
                "{text}"
            );
        }
        let message = parse_volume("rel/path:/b", "/w").unwrap_err().to_string();
        assert!(
            message.starts_with("\"rel/path\" includes invalid characters"),
            "{message}"
        );
    }

    #[test]
    fn tmpfs() {
        let mount = parse_tmpfs("/run:size=64m,mode=755,noexec,ro,huge=never").unwrap();
        assert!(mount.read_only);
        assert_eq!(
            mount.source,
            MountSource::Tmpfs {
                size_bytes: Some(64 << 20),
                mode: Some(0o755),
                options: vec!["noexec".into(), "huge=never".into()],
            }
        );
        assert_eq!(parse_tmpfs("/run").unwrap().target, "/run");
        assert!(parse_tmpfs("/run:size=50%").is_ok());
        for text in [
            "run",
            "/",
            "/x:size=no",
            "/x:mode=9",
            "/x:foo",
            "/x:remount",
            "/x:uid=",
        ] {
            assert!(parse_tmpfs(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in "[a-z/:.,= ]{0,30}", any_text in "\\PC{0,20}") {
            for text in [&text, &any_text] {
                let _ = parse_tmpfs(text);
                if let Ok(mount) = parse_volume(text, "/w") {
                    prop_assert!(mount.target.starts_with('/') && mount.target.len() > 1);
                    prop_assert!(!mount.target.split('/').any(|part| part == ".."));
                }
            }
        }
    }
}
