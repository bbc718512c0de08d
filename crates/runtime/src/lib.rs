//! From an OCI runtime specification to processes: namespaces, mounts, cgroups, capabilities, system call filters.
//!
//! ```text
//! parent.rs   create: plan.rs checks and opens everything, clone3 makes the child
//! init.rs     the child's steps, up to
//! finish.rs   the last ones before execve, which
//! exec.rs     a process that joins a running container, takes too
//! cgroup/     control groups of versions 1 and 2
//! seccomp/    compiler of system call filters
//! ```
//!
//! The caller must have one thread: the child is a copy of it that goes on in ordinary Rust. Nothing here knows of
//! images, networks or records, and nothing is stored.

mod attach;
mod capabilities;
pub mod cgroup;
mod cgroup_mounts;
mod channel;
mod check;
mod copy_up;
mod devices;
mod error;
mod exec;
mod finish;
#[doc(hidden)]
pub mod fuzz;
mod home;
mod hooks;
mod id_map;
mod init;
mod join_user;
mod kernel_files;
mod labels;
mod limits;
mod masked;
mod mounts;
mod namespaces;
mod notify;
pub mod oci;
mod options;
mod own_program;
mod parent;
mod placed;
mod plan;
mod process;
mod procfs;
mod program;
mod resctrl;
mod resolve;
mod rootfs;
pub mod seccomp;
mod stdio;

pub use capabilities::{available as available_capabilities, known as known_capabilities};
pub use cgroup::Cgroup;
pub use error::{Error, ErrorKind, Report, Result};
pub use exec::{ExecOptions, exec};
pub use hooks::{HookContext, HookError, State, Status};
pub use labels::has_apparmor;
pub use namespaces::is_in_user_namespace;
pub use notify::NotifyAgent;
pub use own_program::read_only_program;
pub use parent::{BeforePlacing, Container, CreateOptions, create};
pub use placed::PlacedRoot;
pub use plan::Lifetime;
pub use process::{Exit, Process};
pub use resctrl::Group as ResctrlGroup;
pub use rootfs::Rootfs;
pub use stdio::{Stdio, WindowSize};
