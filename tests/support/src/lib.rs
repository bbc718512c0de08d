//! A sealed world for end-to-end tests.
//!
//! A [`World`] has its own data root, run root and network namespace, drives the real `ketch` program in them, and at
//! its end checks that nothing is left: no mount, link, firewall rule, cgroup, process or temporary file.
//! It needs root, and fails loudly where it is not.

mod crash;
mod leaks;
mod oci;
mod ran;
mod registry;
mod systemd;
mod world;

pub use crash::{Cut, Cutter, How};
pub use oci::{Bundle, OciWorld, receive_descriptor};
pub use ran::Ran;
pub use registry::Registry;
pub use systemd::below_systemd;
pub use world::{World, eventually, program};
