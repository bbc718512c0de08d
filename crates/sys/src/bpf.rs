//! bpf(2): device filters of version 2 cgroups.

use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use crate::clone::last_errno;
use crate::{Error, Result};

const PROG_LOAD: libc::c_long = 5;
const PROG_ATTACH: libc::c_long = 8;
const PROG_DETACH: libc::c_long = 9;
const PROG_GET_FD_BY_ID: libc::c_long = 13;
const PROG_QUERY: libc::c_long = 16;
const PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const ATTACH_TYPE_CGROUP_DEVICE: u32 = 6;
const ALLOW_MULTI: u32 = 2;

/// One instruction of eBPF: `struct bpf_insn`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instruction {
    /// Operation.
    pub code: u8,
    /// Destination register in the low four bits, source register in the high ones.
    pub registers: u8,
    /// Offset of a jump or of memory.
    pub offset: i16,
    /// Immediate operand.
    pub immediate: i32,
}

#[repr(C)]
#[derive(Default)]
struct LoadArgs {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
    prog_ifindex: u32,
    expected_attach_type: u32,
}

#[repr(C)]
#[derive(Default)]
struct AttachArgs {
    target_fd: u32,
    attach_bpf_fd: u32,
    attach_type: u32,
    attach_flags: u32,
    replace_bpf_fd: u32,
    padding: u32,
}

#[repr(C)]
#[derive(Default)]
struct QueryArgs {
    target_fd: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    prog_ids: u64,
    prog_cnt: u32,
    padding: u32,
}

fn bpf<T>(call: &'static str, command: libc::c_long, args: &mut T) -> Result<i32> {
    let size = std::mem::size_of::<T>();
    // SAFETY: each caller passes the command's own structure, as large as said; pointers in it outlive the call.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(args), size) };
    if result < 0 {
        Err(Error::new(call, last_errno()))
    } else {
        Ok(result as i32)
    }
}

/// Loads a device filter.
///
/// # Errors
/// What bpf(2) says: `EPERM` without privileges, `EINVAL` or `EACCES` if the kernel does not accept the program.
pub fn load_device_filter(program: &[Instruction]) -> Result<OwnedFd> {
    let mut args = LoadArgs {
        prog_type: PROG_TYPE_CGROUP_DEVICE,
        insn_cnt: program.len() as u32,
        insns: program.as_ptr() as u64,
        license: c"Apache".as_ptr() as u64,
        ..LoadArgs::default()
    };
    let fd = bpf("bpf BPF_PROG_LOAD", PROG_LOAD, &mut args)?;
    // SAFETY: a new descriptor, close-on-exec.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Attaches a device filter to a cgroup's directory, besides those that are there.
///
/// # Errors
/// What bpf(2) says.
pub fn attach_device_filter(cgroup: impl AsFd, program: impl AsFd) -> Result<()> {
    let mut args = AttachArgs {
        target_fd: cgroup.as_fd().as_raw_fd() as u32,
        attach_bpf_fd: program.as_fd().as_raw_fd() as u32,
        attach_type: ATTACH_TYPE_CGROUP_DEVICE,
        attach_flags: ALLOW_MULTI,
        ..AttachArgs::default()
    };
    bpf("bpf BPF_PROG_ATTACH", PROG_ATTACH, &mut args).map(drop)
}

/// Detaches a device filter.
///
/// # Errors
/// What bpf(2) says.
pub fn detach_device_filter(cgroup: impl AsFd, program: impl AsFd) -> Result<()> {
    let mut args = AttachArgs {
        target_fd: cgroup.as_fd().as_raw_fd() as u32,
        attach_bpf_fd: program.as_fd().as_raw_fd() as u32,
        attach_type: ATTACH_TYPE_CGROUP_DEVICE,
        ..AttachArgs::default()
    };
    bpf("bpf BPF_PROG_DETACH", PROG_DETACH, &mut args).map(drop)
}

/// The device filters that are attached to a cgroup's directory, at most 64.
///
/// # Errors
/// What bpf(2) says.
pub fn device_filters(cgroup: impl AsFd) -> Result<Vec<OwnedFd>> {
    let mut ids = [0u32; 64];
    let mut args = QueryArgs {
        target_fd: cgroup.as_fd().as_raw_fd() as u32,
        attach_type: ATTACH_TYPE_CGROUP_DEVICE,
        prog_ids: ids.as_mut_ptr() as u64,
        prog_cnt: ids.len() as u32,
        ..QueryArgs::default()
    };
    bpf("bpf BPF_PROG_QUERY", PROG_QUERY, &mut args)?;
    let count = (args.prog_cnt as usize).min(ids.len());
    ids[..count]
        .iter()
        .map(|&id| {
            // prog_id, next_id, open_flags
            let mut args = [id, 0, 0];
            let fd = bpf("bpf BPF_PROG_GET_FD_BY_ID", PROG_GET_FD_BY_ID, &mut args)?;
            // SAFETY: a new descriptor, close-on-exec.
            Ok(unsafe { OwnedFd::from_raw_fd(fd) })
        })
        .collect()
}
