//! The OCI runtime command with `--systemd-cgroup`, below a real systemd on version 2 of cgroups: `cargo xtask test --lab`.
//!
//! [`machine`] starts systemd as the first process of a pid namespace; what is `inside` runs there, as a service.

mod inside;
mod machine;
