//! Which capabilities a container has: Docker's defaults, changed by `--cap-add` and `--cap-drop`.

use ketch_spec::runtime::Capabilities;

use crate::container::config::Security;
use crate::{Error, ErrorKind, Result};

/// Docker's defaults.
pub const DEFAULT: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

/// All of them, in the kernel's order (linux/capability.h).
pub const ALL: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// The names of a container's capabilities.
///
/// # Errors
/// `Invalid` for a name that is not a capability's: `invalid CapAdd: unknown capability: "CAP_X"`.
pub fn of(security: &Security) -> Result<Vec<&'static str>> {
    let add = normalise(&security.cap_add, "CapAdd")?;
    let drop = normalise(&security.cap_drop, "CapDrop")?;
    let base: &[&'static str] = match (security.privileged || add.all, drop.all) {
        (true, _) => &ALL,
        (false, true) => &[],
        (false, false) => &DEFAULT,
    };
    if security.privileged {
        return Ok(ALL.to_vec());
    }
    let mut names: Vec<&'static str> = base
        .iter()
        .copied()
        .filter(|name| !drop.names.contains(name))
        .collect();
    for name in add.names {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Ok(names)
}

/// The sets of a first process: a user other than root gets them as a bound only, as execve would leave it.
pub fn sets(names: &[&str], uid: u32) -> Capabilities {
    let all: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let own = if uid == 0 { all.clone() } else { Vec::new() };
    Capabilities {
        bounding: all,
        effective: own.clone(),
        permitted: own,
        ..Capabilities::default()
    }
}

struct Names {
    all: bool,
    names: Vec<&'static str>,
}

fn normalise(given: &[String], field: &str) -> Result<Names> {
    let mut found = Names {
        all: false,
        names: Vec::new(),
    };
    for name in given {
        let upper = name.to_ascii_uppercase();
        if upper == "ALL" || upper == "CAP_ALL" {
            found.all = true;
            continue;
        }
        let full = if upper.starts_with("CAP_") {
            upper
        } else {
            format!("CAP_{upper}")
        };
        match ALL.iter().find(|known| **known == full) {
            Some(known) => found.names.push(known),
            None => {
                return Err(Error::new(
                    ErrorKind::Invalid,
                    format!("invalid {field}: unknown capability: {full:?}"),
                ));
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn security(add: &[&str], drop: &[&str]) -> Security {
        let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        Security {
            cap_add: owned(add),
            cap_drop: owned(drop),
            ..Security::default()
        }
    }

    #[test]
    fn defaults_are_changed_as_docker_does() {
        assert_eq!(of(&security(&[], &[])).unwrap(), DEFAULT);
        assert_eq!(
            of(&security(&["net_admin"], &["all"])).unwrap(),
            ["CAP_NET_ADMIN"]
        );
        assert_eq!(
            of(&security(&["ALL"], &["SYS_ADMIN"])).unwrap().len(),
            ALL.len() - 1
        );
        let changed = of(&security(&["CAP_SYS_TIME", "CAP_KILL"], &["mknod"])).unwrap();
        assert!(changed.contains(&"CAP_SYS_TIME") && !changed.contains(&"CAP_MKNOD"));
        assert_eq!(
            changed.iter().filter(|name| **name == "CAP_KILL").count(),
            1
        );
        assert_eq!(
            of(&Security {
                privileged: true,
                ..security(&[], &["ALL"])
            })
            .unwrap(),
            ALL
        );
    }

    #[test]
    fn an_unknown_name_is_told() {
        let error = of(&security(&["fly"], &[])).unwrap_err();
        assert_eq!(
            error.to_string(),
            "invalid CapAdd: unknown capability: \"CAP_FLY\""
        );
    }

    #[test]
    fn only_root_has_them_at_once() {
        assert_eq!(sets(&DEFAULT, 0).effective.len(), 14);
        let other = sets(&DEFAULT, 1000);
        assert!(other.effective.is_empty() && other.permitted.is_empty());
        assert_eq!(other.bounding.len(), 14);
    }
}
