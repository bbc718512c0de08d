//! The program: where it is, and its execution.

use std::ffi::{CString, OsStr};
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use ketch_spec::runtime::Process;
use rustix::fs::{Access, AtFlags, CWD, FileType, OFlags, accessat, stat};
use rustix::io::Errno;

use crate::error::{Called, During, Error, Result};
use crate::{home, resolve};

/// Where programs are looked for when the environment does not say.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Program, arguments and environment as execve(2) wants them.
#[derive(Debug)]
pub(crate) struct ProgramPlan {
    name: String,
    args: Vec<CString>,
    env: Vec<CString>,
    search: String,
    directory: PathBuf,
    has_home: bool,
}

/// In the parent: checks and translates.
pub(crate) fn plan(process: &Process) -> Result<ProgramPlan> {
    let Some(name) = process.args.first() else {
        return Err(Error::invalid("process.args", "it is empty"));
    };
    if !process.cwd.starts_with('/') {
        return Err(Error::invalid(
            "process.cwd",
            format!("{:?} is not absolute", process.cwd),
        ));
    }
    let strings = |field: &str, list: &[String]| -> Result<Vec<CString>> {
        list.iter()
            .map(|text| {
                CString::new(text.as_str())
                    .map_err(|_| Error::invalid(field, format!("a zero byte in {text:?}")))
            })
            .collect()
    };
    // The last one counts, as with getenv(3) after the environment was made from a map.
    let search = process
        .env
        .iter()
        .rev()
        .find_map(|entry| entry.strip_prefix("PATH="));
    Ok(ProgramPlan {
        name: name.clone(),
        args: strings("process.args", &process.args)?,
        env: strings("process.env", &process.env)?,
        search: search.unwrap_or(DEFAULT_PATH).to_owned(),
        directory: PathBuf::from(&process.cwd),
        has_home: process
            .env
            .iter()
            .any(|entry| entry.starts_with("HOME=") && entry != "HOME="),
    })
}

impl ProgramPlan {
    /// In the child, in the root, but not yet the final user: whether there is a working directory, and a program at all
    /// that somebody may execute. What else is wrong with it is told when it is executed.
    pub fn look(&self) -> Result<()> {
        match self.enter_directory() {
            // what is closed to this user may be open to the final one
            Err(Error::System { failure, .. })
                if failure.call == "chdir" && failure.errno == Errno::ACCESS => {}
            other => other?,
        }
        self.find_by(|path| match stat(path) {
            // what is closed to this user may be open to the final one
            Err(Errno::ACCESS) => Ok(()),
            Err(errno) => Err(errno),
            Ok(stat) => program_mode(stat.st_mode),
        })
        .map(drop)
    }

    /// In the child, as the final user and in the root: finds the program.
    pub fn find(&self) -> Result<CString> {
        self.find_by(executable)
    }

    fn find_by(&self, check: impl Fn(&Path) -> Result<(), Errno>) -> Result<CString> {
        if self.name.contains('/') {
            let path = self.directory.join(&self.name);
            return match check(&path) {
                Ok(()) => Ok(to_c(&path)),
                Err(errno) => Err(self.refusal(errno)),
            };
        }
        let mut denied = None;
        for directory in self
            .search
            .split(':')
            .filter(|directory| !directory.is_empty())
        {
            let path = self.directory.join(directory).join(&self.name);
            match check(&path) {
                Ok(()) => return Ok(to_c(&path)),
                Err(errno @ Errno::ACCESS) => denied = denied.or(Some(errno)),
                Err(_) => {}
            }
        }
        match denied {
            Some(errno) if !self.name.is_empty() => Err(self.refusal(errno)),
            _ => Err(Error::ProgramNotFound {
                name: self.name.clone(),
                reason: "executable file not found in $PATH".into(),
            }),
        }
    }

    /// In the child: executes the program; comes back with the reason why not.
    pub fn execute(&self, path: &CString, home: Option<CString>) -> Error {
        let env: Vec<CString>;
        let env = match home {
            None => &self.env,
            Some(home) => {
                let others = self.env.iter().filter(|entry| entry.to_bytes() != b"HOME=");
                env = others.cloned().chain([home]).collect();
                &env
            }
        };
        match ketch_sys::process::execute(path, &self.args, env) {
            Ok(never) => match never {},
            Err(error) => self.refusal(error.errno),
        }
    }

    /// In the child, in the root: the variable HOME of a user, where the process has none, or an empty one. Engines
    /// leave that to the runtime.
    pub fn home(&self, uid: u32) -> Option<CString> {
        if self.has_home {
            return None;
        }
        let home = home::of_user(uid).unwrap_or_else(|| "/".to_owned());
        CString::new(format!("HOME={home}")).ok()
    }

    fn refusal(&self, errno: Errno) -> Error {
        let name = self.name.clone();
        let reason = words(errno);
        match errno {
            Errno::NOENT | Errno::NOTDIR => Error::ProgramNotFound { name, reason },
            _ => Error::ProgramNotExecutable { name, reason },
        }
    }

    /// In the child, before its root is entered: makes the working directory if it is missing. What else is wrong
    /// with it is told when it is entered.
    pub fn make_directory(&self, root: BorrowedFd<'_>) -> Result<()> {
        match resolve::open(root, &self.directory, OFlags::PATH) {
            Err(error) if error.errno == Errno::NOENT => {}
            _ => return Ok(()),
        }
        let cleaned = crate::mounts::clean(&self.directory.to_string_lossy());
        match resolve::directory(root, &cleaned) {
            // A magic link of /proc, or none: where it leads, if anywhere, is told when it is entered.
            Err(error) if matches!(error.errno, Errno::LOOP | Errno::NOENT) => Ok(()),
            other => other.map(drop).during("make the working directory"),
        }
    }

    /// In the child, in the root: enters the working directory.
    pub fn enter_directory(&self) -> Result<()> {
        let step = format!("chdir to cwd ({:?}) set in config.json", self.directory);
        rustix::process::chdir(&self.directory)
            .called_on("chdir", &self.directory)
            .during(step)?;
        self.check_directory()
    }

    /// A working directory outside the root (through a leaked descriptor in /proc/self/fd) has no path here.
    fn check_directory(&self) -> Result<()> {
        let step = "the working directory is outside of the container's root";
        let path = rustix::process::getcwd(Vec::new())
            .called("getcwd")
            .during(step)?;
        if path.to_bytes().starts_with(b"/") {
            Ok(())
        } else {
            Err(ketch_sys::Error::on(
                "getcwd",
                &self.directory,
                Errno::ACCESS,
            ))
            .during(step)
        }
    }
}

/// Whether a file of this mode is one that somebody may execute.
fn program_mode(mode: u32) -> Result<(), Errno> {
    if FileType::from_raw_mode(mode) == FileType::Directory {
        return Err(Errno::ISDIR);
    }
    if mode & 0o111 == 0 {
        return Err(Errno::ACCESS);
    }
    Ok(())
}

/// Whether the calling user may execute the file.
fn executable(path: &Path) -> Result<(), Errno> {
    program_mode(stat(path)?.st_mode)?;
    match accessat(CWD, path, Access::EXEC_OK, AtFlags::EACCESS) {
        // faccessat2 is unknown to a kernel or refused by a filter: execve will tell.
        Err(Errno::NOSYS | Errno::PERM) => Ok(()),
        other => other,
    }
}

fn to_c(path: &Path) -> CString {
    // Every part came from a string without a zero byte; an empty path is refused by execve.
    CString::new(OsStr::as_bytes(path.as_os_str())).unwrap_or_default()
}

/// The kernel's words in Go's spelling, which users of runc know.
fn words(errno: Errno) -> String {
    match errno {
        Errno::NOENT => "no such file or directory".into(),
        Errno::ACCESS => "permission denied".into(),
        Errno::ISDIR => "is a directory".into(),
        Errno::NOTDIR => "not a directory".into(),
        Errno::NOEXEC => "exec format error".into(),
        Errno::PERM => "operation not permitted".into(),
        Errno::TOOBIG => "argument list too long".into(),
        Errno::LOOP => "too many levels of symbolic links".into(),
        other => std::io::Error::from(other).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(args: &[&str], env: &[&str], cwd: &str) -> Process {
        let owned = |list: &[&str]| list.iter().map(|&text| text.to_owned()).collect();
        Process {
            args: owned(args),
            env: owned(env),
            cwd: cwd.into(),
            ..Process::default()
        }
    }

    fn error(args: &[&str], env: &[&str]) -> String {
        plan(&process(args, env, "/"))
            .unwrap()
            .find()
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn programs_are_found_by_path() {
        let found = plan(&process(&["sh"], &["PATH=/nowhere:/bin"], "/"))
            .unwrap()
            .find();
        assert_eq!(found.unwrap().to_bytes(), b"/bin/sh");
        let found = plan(&process(&["./sh"], &[], "/bin")).unwrap().find();
        assert_eq!(found.unwrap().to_bytes(), b"/bin/./sh");
    }

    #[test]
    fn refusals_read_as_runc_s() {
        assert_eq!(
            error(&["nope"], &[]),
            r#"exec: "nope": executable file not found in $PATH"#
        );
        assert_eq!(
            error(&[""], &[]),
            r#"exec: "": executable file not found in $PATH"#
        );
        assert_eq!(
            error(&["/nope"], &[]),
            r#"exec: "/nope": stat /nope: no such file or directory"#
        );
        assert_eq!(
            error(&["/etc/passwd"], &[]),
            r#"exec: "/etc/passwd": permission denied"#
        );
        assert_eq!(error(&["/etc"], &[]), r#"exec: "/etc": is a directory"#);
        assert_eq!(
            error(&["passwd"], &["PATH=/etc"]),
            r#"exec: "passwd": permission denied"#
        );
    }

    #[test]
    fn a_first_look_finds_what_nobody_could_execute() {
        let look = |name: &str| plan(&process(&[name], &[], "/")).unwrap().look();
        look("sh").unwrap();
        for name in ["/nope", "nope", "/etc/passwd", "/etc"] {
            assert_eq!(
                look(name).unwrap_err().to_string(),
                error(&[name], &[]),
                "{name}"
            );
        }
    }

    #[test]
    fn what_execve_cannot_take_is_refused() {
        assert!(plan(&process(&[], &[], "/")).is_err());
        assert!(plan(&process(&["a\0b"], &[], "/")).is_err());
        assert!(plan(&process(&["a"], &[], "relative")).is_err());
    }
}
