//! What is set through files of procfs: sysctls.

use std::path::{Path, PathBuf};

use ketch_spec::runtime::NamespaceKind;
use ketch_sys::Error as SysError;
use rustix::io::Errno;

use crate::attach::new_file_system;
use crate::error::{During, Error, Result};
use crate::namespaces::NamespacePlan;
use crate::options::Options;
use crate::procfs::Procfs;

/// Sysctls that belong to the IPC namespace, besides those that begin with `fs.mqueue.`.
const IPC: [&str; 8] = [
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
];

/// In the parent: only what belongs to a namespace of the container's own may be set.
pub(crate) fn check_sysctl(name: &str, namespaces: &NamespacePlan) -> Result<()> {
    // What is asked for here must be what is written there: no way leads to another setting.
    if path_of(name)
        .to_string_lossy()
        .split('/')
        .any(|part| matches!(part, "" | "." | ".."))
    {
        let reason = "it is no name of a setting";
        return Err(Error::invalid(format!("linux.sysctl {name}"), reason));
    }
    let dotted = name.replace('/', ".");
    let needed = if dotted.starts_with("net.") {
        NamespaceKind::Network
    } else if dotted.starts_with("fs.mqueue.") || IPC.contains(&dotted.as_str()) {
        NamespaceKind::Ipc
    } else if dotted == "kernel.domainname" {
        NamespaceKind::Uts
    } else if dotted == "kernel.hostname" {
        // as with other runtimes: two places that say it could say different things
        let reason = "it is what hostname is for";
        return Err(Error::invalid(format!("linux.sysctl {name}"), reason));
    } else {
        let reason = "it is not in a namespace of its own";
        return Err(Error::invalid(format!("linux.sysctl {name}"), reason));
    };
    if namespaces.has_own(needed) {
        return Ok(());
    }
    let reason = format!("the container has no {needed:?} namespace of its own");
    Err(Error::invalid(format!("linux.sysctl {name}"), reason))
}

/// Path below /proc/sys. As sysctl(8) reads it: if the first separator is a dot, dots and slashes change places, so
/// that a name can have a dot in it.
fn path_of(name: &str) -> PathBuf {
    let slashed = match name.find(['.', '/']) {
        Some(first) if name.as_bytes()[first] == b'.' => name
            .chars()
            .map(|letter| match letter {
                '.' => '/',
                '/' => '.',
                other => other,
            })
            .collect(),
        _ => name.to_owned(),
    };
    Path::new("sys").join(slashed)
}

/// In the child: sets the sysctls, through a procfs that nobody can redirect: the runtime's, or one that is made for it
/// where the runtime's does not let us.
pub(crate) fn set_sysctls<'a>(
    sysctls: impl Iterator<Item = (&'a String, &'a String)>,
) -> Result<()> {
    let own = Procfs::open();
    let mut made: Option<Procfs> = None;
    for (name, value) in sysctls {
        let step = || format!("set linux.sysctl {name}");
        let path = path_of(name);
        let path = path.to_string_lossy();
        let set = match &own {
            Ok(procfs) => procfs.write(&path, value.as_bytes()),
            Err(_) => Err(SysError::on("openat2", &*path, Errno::XDEV)),
        };
        match set {
            // Something is mounted over it, as in a container: read-only, or another file altogether.
            Err(error) if matches!(error.errno, Errno::XDEV | Errno::ROFS) => {
                let procfs = match &made {
                    Some(procfs) => procfs,
                    None => made.insert(own_procfs().during(step())?),
                };
                procfs.write(&path, value.as_bytes()).during(step())?;
            }
            other => other.during(step())?,
        }
    }
    Ok(())
}

fn own_procfs() -> Result<Procfs, SysError> {
    new_file_system("proc", "proc", &Options::default()).map(Procfs::from_mount)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dots_and_slashes_separate() {
        assert_eq!(
            path_of("net.ipv4.ip_forward"),
            Path::new("sys/net/ipv4/ip_forward")
        );
        assert_eq!(
            path_of("net/ipv4/conf/eth0.1/mtu"),
            Path::new("sys/net/ipv4/conf/eth0.1/mtu")
        );
        assert_eq!(
            path_of("net.ipv4.conf.eth0/1.mtu"),
            Path::new("sys/net/ipv4/conf/eth0.1/mtu")
        );
    }

    #[test]
    fn the_host_s_settings_are_refused() {
        let all = NamespacePlan {
            new: ketch_sys::namespace::Namespaces::NETWORK
                | ketch_sys::namespace::Namespaces::IPC
                | ketch_sys::namespace::Namespaces::UTS,
            ..NamespacePlan::default()
        };
        for name in [
            "net/../vm/swappiness",
            "net/./core/somaxconn",
            "net//core/somaxconn",
            "net.//.vm.swappiness",
            "net.core.",
            "net/../../sys/vm/swappiness",
            "fs.mqueue.//.//.vm.swappiness",
            "net.",
        ] {
            let error = check_sysctl(name, &all).unwrap_err().to_string();
            assert!(error.contains("no name of a setting"), "{name}: {error}");
        }
        check_sysctl("net/ipv4/conf/eth0.1/mtu", &all).unwrap();
        check_sysctl("kernel.domainname", &all).unwrap();
        assert!(check_sysctl("kernel.hostname", &all).is_err());
        let namespaces = NamespacePlan::default();
        for name in [
            "net.core.somaxconn",
            "kernel.sem",
            "kernel.panic",
            "net/../kernel/panic",
        ] {
            assert!(check_sysctl(name, &namespaces).is_err(), "{name}");
        }
        let new = ketch_sys::namespace::Namespaces::NETWORK;
        let namespaces = NamespacePlan {
            new,
            ..NamespacePlan::default()
        };
        check_sysctl("net.core.somaxconn", &namespaces).unwrap();
        assert!(check_sysctl("kernel.sem", &namespaces).is_err());
    }
}
