//! Which namespaces are new, which are joined, which stay.

use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::path::Path;

use ketch_spec::runtime::{IdMapping, Linux, LinuxTimeOffset, NamespaceKind};
use ketch_sys::namespace::{self, Namespaces};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::error::{Called, During, Error, Result};
use crate::procfs::Procfs;

/// The namespaces of a container to be.
#[derive(Debug, Default)]
pub(crate) struct NamespacePlan {
    /// New ones.
    pub new: Namespaces,
    /// Those to join, in the order of joining.
    pub join: Vec<(NamespaceKind, OwnedFd)>,
}

/// The flag of a kind.
pub(crate) fn flag(kind: NamespaceKind) -> Namespaces {
    match kind {
        NamespaceKind::Pid => Namespaces::PID,
        NamespaceKind::Network => Namespaces::NETWORK,
        NamespaceKind::Mount => Namespaces::MOUNT,
        NamespaceKind::Ipc => Namespaces::IPC,
        NamespaceKind::Uts => Namespaces::UTS,
        NamespaceKind::User => Namespaces::USER,
        NamespaceKind::Cgroup => Namespaces::CGROUP,
        NamespaceKind::Time => Namespaces::TIME,
    }
}

/// Name in `/proc/PID/ns`.
pub(crate) fn file_name(kind: NamespaceKind) -> &'static str {
    match kind {
        NamespaceKind::Pid => "pid",
        NamespaceKind::Network => "net",
        NamespaceKind::Mount => "mnt",
        NamespaceKind::Ipc => "ipc",
        NamespaceKind::Uts => "uts",
        NamespaceKind::User => "user",
        NamespaceKind::Cgroup => "cgroup",
        NamespaceKind::Time => "time",
    }
}

/// All kinds. The user namespace comes first: joining it gives the right to join the others. The mount namespace
/// comes last: paths mean something else after it.
pub(crate) const JOIN_ORDER: [NamespaceKind; 8] = [
    NamespaceKind::User,
    NamespaceKind::Pid,
    NamespaceKind::Ipc,
    NamespaceKind::Uts,
    NamespaceKind::Network,
    NamespaceKind::Cgroup,
    NamespaceKind::Time,
    NamespaceKind::Mount,
];

impl NamespacePlan {
    /// Checks `linux.namespaces` and opens those to join.
    pub fn new(linux: &Linux) -> Result<Self> {
        let mut plan = Self::default();
        for kind in JOIN_ORDER {
            let mut listed = linux.namespaces.iter().filter(|listed| listed.kind == kind);
            let Some(wanted) = listed.next() else {
                continue;
            };
            if listed.next().is_some() {
                return Err(Error::invalid(
                    "linux.namespaces",
                    format!("{kind:?} is listed twice"),
                ));
            }
            match wanted.path.as_deref().filter(|path| !path.is_empty()) {
                None => plan.new |= flag(kind),
                Some(path) => {
                    let namespace = open_given(kind, path)?;
                    // The caller's own: that is where the container is anyway, and it is not the container's own.
                    if !is_own(&namespace, kind)? {
                        plan.join.push((kind, namespace));
                    }
                }
            }
        }
        plan.check(linux)?;
        Ok(plan)
    }

    fn check(&self, linux: &Linux) -> Result<()> {
        let user = self.new.contains(Namespaces::USER);
        if user && (linux.uid_mappings.is_empty() || linux.gid_mappings.is_empty()) {
            let reason = "a new user namespace needs uidMappings and gidMappings";
            return Err(Error::invalid("linux.uidMappings", reason));
        }
        let mapped = !linux.uid_mappings.is_empty() || !linux.gid_mappings.is_empty();
        if mapped && !user && self.joined(NamespaceKind::User).is_none() {
            return Err(Error::invalid(
                "linux.uidMappings",
                "there is no user namespace",
            ));
        }
        let empty = |mappings: &[IdMapping]| mappings.iter().any(|mapping| mapping.size == 0);
        if empty(&linux.uid_mappings) || empty(&linux.gid_mappings) {
            let reason = "a mapping has the size 0";
            return Err(Error::invalid("linux.uidMappings", reason));
        }
        self.check_clocks(linux)
    }

    fn check_clocks(&self, linux: &Linux) -> Result<()> {
        let refuse = |reason: String| Err(Error::invalid("linux.timeOffsets", reason));
        if !linux.time_offsets.is_empty() && !self.new.contains(Namespaces::TIME) {
            return refuse("there is no new time namespace".into());
        }
        for (clock, offset) in &linux.time_offsets {
            if !matches!(clock.as_str(), "monotonic" | "boottime") {
                return refuse(format!("no clock {clock:?} in a time namespace"));
            }
            if offset.nanosecs >= 1_000_000_000 {
                return refuse(format!("{} ns are a second and more", offset.nanosecs));
            }
        }
        Ok(())
    }

    /// The namespace of that kind to join.
    pub fn joined(&self, kind: NamespaceKind) -> Option<&OwnedFd> {
        self.join
            .iter()
            .find(|(joined, _)| *joined == kind)
            .map(|(_, fd)| fd)
    }

    /// Whether the container has a namespace of that kind that is not the caller's.
    pub fn has_own(&self, kind: NamespaceKind) -> bool {
        self.new.contains(flag(kind)) || self.joined(kind).is_some()
    }

    /// The descriptors, for the child to keep.
    pub fn descriptors(&self) -> impl Iterator<Item = RawFd> + '_ {
        self.join.iter().map(|(_, fd)| fd.as_raw_fd())
    }

    /// In the child: joins all but the pid and user namespaces, which it was born into, and the mount namespace, after
    /// which paths mean something else.
    pub fn join_all(&self) -> Result<()> {
        use NamespaceKind::{Mount, Pid, User};
        for (kind, fd) in &self.join {
            if !matches!(kind, Pid | User | Mount) {
                join_one(*kind, fd)?;
            }
        }
        Ok(())
    }

    /// In the child: joins the mount namespace, if one is to be joined.
    pub fn join_mount(&self) -> Result<()> {
        match self.joined(NamespaceKind::Mount) {
            Some(namespace) => join_one(NamespaceKind::Mount, namespace),
            None => Ok(()),
        }
    }
}

fn join_one(kind: NamespaceKind, namespace: &OwnedFd) -> Result<()> {
    let step = format!("join the {} namespace", file_name(kind));
    namespace::join(namespace, flag(kind)).during(step)
}

/// Opens a namespace that the specification names by path, and checks that it is one of that kind.
fn open_given(kind: NamespaceKind, path: &str) -> Result<OwnedFd> {
    let field = || format!("linux.namespaces {kind:?}");
    if !path.starts_with('/') {
        let reason = format!("{path:?} is not absolute");
        return Err(Error::invalid(field(), reason));
    }
    // Whatever else is at that path, opening it must neither block nor take a terminal.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let namespace = rustix::fs::open(path, flags, Mode::empty())
        .called_on("open", path)
        .during(format!("join the {} namespace", file_name(kind)))?;
    match namespace::kind_of(&namespace) {
        Ok(found) if found == flag(kind) => Ok(namespace),
        Ok(_) => Err(Error::invalid(
            field(),
            format!("{path} is a namespace of another kind"),
        )),
        Err(_) => Err(Error::invalid(field(), format!("{path} is no namespace"))),
    }
}

/// Whether `namespace` is the caller's own.
fn is_own(namespace: &OwnedFd, kind: NamespaceKind) -> Result<bool> {
    let step = format!("compare the {} namespace with the own one", file_name(kind));
    let path = format!("/proc/self/ns/{}", file_name(kind));
    let given = rustix::fs::fstat(namespace).called("fstat").during(&step)?;
    let own = rustix::fs::stat(&path)
        .called_on("stat", path)
        .during(step)?;
    Ok((given.st_dev, given.st_ino) == (own.st_dev, own.st_ino))
}

fn open(kind: NamespaceKind, path: &Path) -> Result<OwnedFd> {
    rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .called_on("open", path)
        .during(format!("join the {} namespace", file_name(kind)))
}

/// The caller's own namespace of that kind.
pub(crate) fn own(kind: NamespaceKind) -> Result<OwnedFd> {
    open(
        kind,
        Path::new(&format!("/proc/self/ns/{}", file_name(kind))),
    )
}

/// Whether the calling process is in a user namespace that does not have all ids.
pub fn is_in_user_namespace() -> bool {
    let all = ["0", "0", "4294967295"];
    // A kernel without user namespaces has no such file.
    std::fs::read_to_string("/proc/self/uid_map").is_ok_and(|map| !map.split_whitespace().eq(all))
}

/// The caller's user id outside of the user namespace that it is in: root of one that a user has made is that user.
pub(crate) fn uid_outside() -> u32 {
    let uid = rustix::process::geteuid().as_raw();
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let outside = map.lines().find_map(|line| {
        let mut numbers = line.split_whitespace().map(str::parse::<u32>);
        let mut next = || numbers.next().and_then(|number| number.ok());
        let (inside, outside, size) = (next()?, next()?, next()?);
        let offset = uid.checked_sub(inside).filter(|&offset| offset < size)?;
        outside.checked_add(offset)
    });
    // Without user namespaces there is no such file.
    outside.unwrap_or(uid)
}

/// Children go into the caller's own pid namespace again.
pub(crate) fn return_to(own: OwnedFd) -> Result<()> {
    match namespace::join(own, Namespaces::PID) {
        // In a user namespace whose processes have their numbers from outside of it, as those of a user's podman. Who
        // is there is a command that makes one process.
        Err(error) if error.errno == Errno::PERM && is_in_user_namespace() => Ok(()),
        other => other.during("return to the own pid namespace"),
    }
}

/// Runs `act` with children going into `pid_namespace`, and turns that back.
pub(crate) fn with_pid_namespace<T>(
    pid_namespace: Option<&OwnedFd>,
    act: impl FnOnce() -> Result<T>,
) -> Result<T> {
    let Some(pid_namespace) = pid_namespace else {
        return act();
    };
    let back = own(NamespaceKind::Pid)?;
    namespace::join(pid_namespace.as_fd(), Namespaces::PID).during("join the pid namespace")?;
    let result = act();
    return_to(back)?;
    result
}

/// In the child: a new time namespace with its offsets, entered.
pub(crate) fn enter_time_namespace(
    offsets: &std::collections::BTreeMap<String, LinuxTimeOffset>,
) -> Result<()> {
    namespace::unshare(Namespaces::TIME).during("make the time namespace")?;
    if !offsets.is_empty() {
        let mut text = String::new();
        for (clock, offset) in offsets {
            text += &format!("{clock} {} {}\n", offset.secs, offset.nanosecs);
        }
        let step = "set the offsets of the time namespace";
        let procfs = Procfs::open().during(step)?;
        procfs
            .write("self/timens_offsets", text.as_bytes())
            .during(step)?;
    }
    let path = Path::new("/proc/self/ns/time_for_children");
    let children = open(NamespaceKind::Time, path)?;
    namespace::join(children, Namespaces::TIME).during("enter the time namespace")
}

#[cfg(test)]
mod tests {
    use ketch_spec::runtime::{IdMapping, LinuxNamespace};

    use super::*;

    fn linux(kinds: &[NamespaceKind]) -> Linux {
        let namespaces = kinds
            .iter()
            .map(|&kind| LinuxNamespace { kind, path: None })
            .collect();
        Linux {
            namespaces,
            ..Linux::default()
        }
    }

    #[test]
    fn contradictions_are_refused() {
        use NamespaceKind::{Mount, Pid, Time, User};
        let refused = |linux: &Linux| NamespacePlan::new(linux).unwrap_err().to_string();
        assert!(refused(&linux(&[Mount, Pid, Pid])).contains("Pid is listed twice"));
        assert!(refused(&linux(&[Mount, User])).contains("uidMappings"));
        let mut mapped = linux(&[Mount]);
        mapped.uid_mappings.push(IdMapping::default());
        assert!(refused(&mapped).contains("there is no user namespace"));
        let mut offset = linux(&[Mount]);
        offset
            .time_offsets
            .insert("boottime".into(), LinuxTimeOffset::default());
        assert!(refused(&offset).contains("timeOffsets"));
        let mut clock = linux(&[Time]);
        let offsets = &mut clock.time_offsets;
        offsets.insert("realtime".into(), LinuxTimeOffset::default());
        assert!(refused(&clock).contains("no clock \"realtime\""));
    }

    #[test]
    fn a_path_must_be_a_namespace_of_that_kind() {
        let refused = |path: &str| {
            let mut wanted = Linux::default();
            let (kind, path) = (NamespaceKind::Network, Some(path.to_owned()));
            wanted.namespaces.push(LinuxNamespace { kind, path });
            NamespacePlan::new(&wanted).unwrap_err().to_string()
        };
        assert!(refused("proc/self/ns/net").contains("is not absolute"));
        assert!(refused("/proc/self/ns/uts").contains("of another kind"));
        assert!(refused("/dev/null").contains("is no namespace"));
        assert!(refused("/nowhere").starts_with("join the net namespace: open /nowhere"));
    }

    #[test]
    fn new_ones_are_told_from_joined_ones() {
        let mut wanted = linux(&[NamespaceKind::Mount, NamespaceKind::Pid]);
        let path = Some("/proc/self/ns/net".into());
        wanted.namespaces.push(LinuxNamespace {
            kind: NamespaceKind::Network,
            path,
        });
        let plan = NamespacePlan::new(&wanted).unwrap();
        assert_eq!(plan.new, Namespaces::MOUNT | Namespaces::PID);
        assert!(plan.has_own(NamespaceKind::Pid) && !plan.has_own(NamespaceKind::Ipc));
        // The caller's own namespace by its path is not one of the container's own.
        assert!(plan.joined(NamespaceKind::Network).is_none());
        assert!(!plan.has_own(NamespaceKind::Network));
    }
}
