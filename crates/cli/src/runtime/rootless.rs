//! Who calls without being root of the machine, and what is different then: runc's rules, which podman relies on.

use std::path::PathBuf;

use ketch_runtime::is_in_user_namespace;

/// Whether it is to be expected that no cgroup can be made: for ordinary users, and for the root of a user namespace.
pub fn may_lack_cgroups() -> bool {
    !rustix::process::geteuid().is_root() || is_in_user_namespace()
}

/// Where the state is kept if the caller does not say.
pub fn default_root() -> PathBuf {
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").filter(|directory| !directory.is_empty());
    // Root of a user namespace is the user who made it, unless he was root before.
    let was_root = || std::env::var_os("USER").is_some_and(|user| user == "root");
    let root = rustix::process::geteuid().is_root();
    match runtime {
        Some(directory) if !root || (is_in_user_namespace() && !was_root()) => {
            PathBuf::from(directory).join("ketch/runtime")
        }
        _ => PathBuf::from("/run/ketch/runtime"),
    }
}
