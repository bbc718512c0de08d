//! `--init`: the program that becomes process 1, as a file that containers can mount. It lies in the data root because
//! run roots are often on file systems that nothing may be executed from.

use std::path::PathBuf;

use ketch_spec::Digest;
use ketch_sys::fs::{rename_exclusive, replace_file};
use ketch_sys::reaper;
use rustix::fs::Mode;
use rustix::io::Errno;

use crate::{Engine, Error, ErrorKind, Result};

/// Where the program is, written first if it is not there.
///
/// # Errors
/// Input and output.
pub(super) fn ensure(engine: &Engine) -> Result<PathBuf> {
    let path = engine.paths().init_program(&Digest::of(reaper::PROGRAM));
    if path.exists() {
        return Ok(path);
    }
    let failed = |error: &(dyn std::error::Error + 'static)| {
        Error::caused(ErrorKind::Internal, "cannot write the init program", error)
    };
    let folder = path
        .parent()
        .map(std::path::Path::to_owned)
        .unwrap_or_default();
    std::fs::create_dir_all(&folder).map_err(|error| failed(&error))?;
    // A file cut short by a crash would be found by name for ever, so it is whole on disk before it has the name; and
    // whoever comes second leaves the first one's file alone, which somebody may be mounting.
    let temporary = folder.join(format!(".{}", ketch_sys::fs::random_hex(8)));
    replace_file(
        &temporary,
        reaper::PROGRAM,
        Mode::from_raw_mode(0o555),
        true,
    )
    .map_err(|error| failed(&error))?;
    match rename_exclusive(&temporary, &path) {
        Ok(()) => Ok(path),
        Err(error) if error.errno == Errno::EXIST => {
            std::fs::remove_file(&temporary).map_err(|error| failed(&error))?;
            Ok(path)
        }
        Err(error) => Err(failed(&error)),
    }
}
