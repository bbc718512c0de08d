//! Our own program must not be writable through a container (CVE-2019-5736): its image may name `/proc/self/exe` as
//! its program, or as the interpreter of it.

use std::ffi::{CString, OsString};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use ketch_sys::Error as SysError;
use rustix::fs::StatVfsMountFlags;
use rustix::io::Errno;

use super::failure::Failure;

const OWN: &str = "/proc/self/exe";

/// Verbs whose process is copied into a container.
const COPIED: [&str; 3] = ["create", "run", "exec"];

/// Whether one of these verbs is among the words. Another verb's operand of that name costs a second execution only.
pub fn is_wanted(words: &[OsString]) -> bool {
    words
        .iter()
        .any(|word| COPIED.iter().any(|verb| word == verb))
}

/// Before anything else is done, because that is done twice then. Makes sure that this process was executed through a mount that cannot be written: executes it anew through one if
/// it was not.
pub fn raise() -> Result<(), Failure> {
    let mount = rustix::fs::statvfs(OWN).map_err(|errno| SysError::on("statfs", OWN, errno))?;
    if mount.f_flag.contains(StatVfsMountFlags::RDONLY) {
        return Ok(());
    }
    let program = match ketch_runtime::read_only_program(Path::new(OWN)) {
        // Who may not mount may not make containers that could do harm to another's program either.
        Err(error) if error.errno() == Some(Errno::PERM) => return Ok(()),
        other => other?,
    };
    let strings = |list: Vec<Vec<u8>>| -> Vec<CString> {
        list.into_iter()
            .filter_map(|text| CString::new(text).ok())
            .collect()
    };
    let args = strings(std::env::args_os().map(OsStringExt::into_vec).collect());
    let env = std::env::vars_os().map(|(name, value)| {
        let mut text = name.into_vec();
        text.push(b'=');
        text.extend(value.into_vec());
        text
    });
    let env = strings(env.collect());
    let path = CString::new(format!("/proc/self/fd/{}", program.as_raw_fd())).unwrap_or_default();
    match ketch_sys::process::execute(&path, &args, &env) {
        Ok(never) => match never {},
        Err(error) => Err(error.into()),
    }
}
