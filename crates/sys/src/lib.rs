//! Every `unsafe` block and raw system call of ketch, behind typed functions.
//!
//! Nothing here knows of containers or images. Descriptors that come out are owned ([`std::os::fd::OwnedFd`]),
//! descriptors that go in are borrowed, all are close-on-exec; errors say which call failed, on which path, and the
//! errno. What `rustix` offers safely is used from there by the crates above; this crate has what it lacks.
#![allow(unsafe_code)]

pub mod bpf;
pub mod capability;
pub mod clone;
mod error;
pub mod fs;
pub mod inherit;
pub mod lock;
pub mod memory;
pub mod mount;
pub mod namespace;
pub mod netlink;
pub mod poll;
pub mod process;
pub mod pty;
pub mod reaper;
pub mod seccomp;
pub mod spawn;

pub use error::{Error, Result};
