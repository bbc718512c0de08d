//! Capabilities of the calling thread, as bit sets: bit 0 is `CAP_CHOWN`.

use rustix::io::Errno;

use crate::clone::last_errno;
use crate::{Error, Result};

const VERSION_3: u32 = 0x2008_0522;

/// The three sets that capset(2) changes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CapabilitySets {
    /// What counts now.
    pub effective: u64,
    /// What may become effective.
    pub permitted: u64,
    /// What a file with inheritable capabilities may keep.
    pub inheritable: u64,
}

#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Data {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// capget(2) of the calling thread.
///
/// # Errors
/// What capget(2) says.
pub fn get() -> Result<CapabilitySets> {
    let mut header = Header {
        version: VERSION_3,
        pid: 0,
    };
    let mut data = [Data::default(); 2];
    // SAFETY: version 3 makes the kernel write two elements, which are there.
    let result = unsafe {
        libc::syscall(
            libc::SYS_capget,
            std::ptr::from_mut(&mut header),
            data.as_mut_ptr(),
        )
    };
    if result != 0 {
        return Err(Error::new("capget", last_errno()));
    }
    let join = |low: u32, high: u32| u64::from(low) | (u64::from(high) << 32);
    Ok(CapabilitySets {
        effective: join(data[0].effective, data[1].effective),
        permitted: join(data[0].permitted, data[1].permitted),
        inheritable: join(data[0].inheritable, data[1].inheritable),
    })
}

/// capset(2) of the calling thread.
///
/// # Errors
/// What capset(2) says: `EPERM` for a capability that it does not have.
pub fn set(sets: &CapabilitySets) -> Result<()> {
    let mut header = Header {
        version: VERSION_3,
        pid: 0,
    };
    let word = |shift: u32| Data {
        effective: (sets.effective >> shift) as u32,
        permitted: (sets.permitted >> shift) as u32,
        inheritable: (sets.inheritable >> shift) as u32,
    };
    let data = [word(0), word(32)];
    // SAFETY: version 3 makes the kernel read two elements, which are there.
    let result = unsafe {
        libc::syscall(
            libc::SYS_capset,
            std::ptr::from_mut(&mut header),
            data.as_ptr(),
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(Error::new("capset", last_errno()))
    }
}

fn prctl(option: libc::c_int, second: u64, third: u64) -> Result<u32, Errno> {
    // SAFETY: the options used here take numbers only.
    let result = unsafe { libc::prctl(option, second, third, 0u64, 0u64) };
    if result >= 0 {
        Ok(result as u32)
    } else {
        Err(last_errno())
    }
}

/// Takes every capability that is not in `keep` out of the bounding set.
///
/// # Errors
/// What prctl(2) says: `EPERM` without `CAP_SETPCAP`.
pub fn limit_bounding(keep: u64) -> Result<()> {
    for number in 0..64 {
        if keep & (1 << number) != 0 {
            continue;
        }
        match prctl(libc::PR_CAPBSET_DROP, number, 0) {
            Ok(_) => {}
            Err(Errno::INVAL) => break, // beyond the kernel's last one
            Err(errno) => return Err(Error::new("prctl PR_CAPBSET_DROP", errno)),
        }
    }
    Ok(())
}

/// The bounding set.
pub fn bounding() -> u64 {
    let mut set = 0;
    for number in 0..64 {
        match prctl(libc::PR_CAPBSET_READ, number, 0) {
            Ok(1) => set |= 1 << number,
            Ok(_) => {}
            Err(_) => break,
        }
    }
    set
}

/// Makes the ambient set `wanted`. Each must be permitted and inheritable.
///
/// # Errors
/// What prctl(2) says.
pub fn set_ambient(wanted: u64) -> Result<()> {
    const CLEAR_ALL: u64 = 4;
    const RAISE: u64 = 2;
    prctl(libc::PR_CAP_AMBIENT, CLEAR_ALL, 0)
        .map_err(|errno| Error::new("prctl PR_CAP_AMBIENT_CLEAR_ALL", errno))?;
    for number in (0..64).filter(|number| wanted & (1 << number) != 0) {
        prctl(libc::PR_CAP_AMBIENT, RAISE, number)
            .map_err(|errno| Error::new("prctl PR_CAP_AMBIENT_RAISE", errno))?;
    }
    Ok(())
}

/// Whether permitted capabilities survive the change from user id 0 to another; ends at execve.
///
/// # Errors
/// What prctl(2) says.
pub fn keep_over_user_change(keep: bool) -> Result<()> {
    prctl(libc::PR_SET_KEEPCAPS, u64::from(keep), 0)
        .map(drop)
        .map_err(|errno| Error::new("prctl PR_SET_KEEPCAPS", errno))
}
