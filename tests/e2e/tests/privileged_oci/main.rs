//! The OCI runtime command, driven as podman and containerd drive it. Needs root.

mod crash;
mod exec;
mod hooks;
mod killed;
mod lifecycle;
mod resources;
mod streams;
mod users;
