//! AppArmor: the profile that a container's processes run under.
//!
//! As with Docker it is `docker-default` unless the user names another one, and that is loaded where it is missing: by
//! apparmor_parser(8), because only it compiles profiles. A machine that has AppArmor but no parser has no default
//! profile to give; containers then run without, and `info` says so.

use std::fs;
use std::io::{ErrorKind as IoKind, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use super::config::Security;
use crate::{Error, ErrorKind, Result};

/// The profile of containers for which nothing else was said.
pub const DEFAULT: &str = "docker-default";
/// No profile.
pub const UNCONFINED: &str = "unconfined";

/// Profiles that the kernel has, `NAME (MODE)` each.
const LOADED: &str = "/sys/kernel/security/apparmor/profiles";
/// Where the compiler of profiles is.
const PARSERS: [&str; 2] = ["/usr/sbin/apparmor_parser", "/sbin/apparmor_parser"];
/// The rules of the default profile: Docker's, in a form that needs no included files.
const RULES: &str = include_str!("docker-default.profile");
/// The engine's own profile, if it has one: it may signal containers then.
const OWN: &str = "/proc/self/attr/apparmor/current";

/// How AppArmor stands on this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Support {
    /// The kernel has none, it is turned off, or it is not for us to use (no securityfs).
    None,
    /// Named profiles can be used. The default one is neither loaded nor can it be: there is no apparmor_parser.
    WithoutDefault,
    /// Containers run under the default profile.
    Full,
}

/// Looks how AppArmor stands.
pub fn support() -> Support {
    if !ketch_runtime::has_apparmor() {
        return Support::None;
    }
    match fs::read_to_string(LOADED) {
        Err(_) => Support::None,
        Ok(loaded) if is_loaded(&loaded, DEFAULT) || parser().is_some() => Support::Full,
        Ok(_) => Support::WithoutDefault,
    }
}

/// What holds containers on this machine, as `info` lists it.
pub fn security_options() -> Vec<&'static str> {
    let apparmor = (support() == Support::Full).then_some("name=apparmor");
    let always = ["name=seccomp,profile=builtin", "name=cgroupns"];
    apparmor.into_iter().chain(always).collect()
}

/// What `info` says of a machine that has AppArmor and no default profile.
pub fn warning() -> Option<&'static str> {
    (support() == Support::WithoutDefault).then_some(
        "WARNING: AppArmor is on, but there is no apparmor_parser to load the profile docker-default: containers run \
         without a profile",
    )
}

/// The name of the profile, as `inspect` shows it; empty: none applies.
pub fn shown(security: &Security) -> &str {
    match (&security.apparmor, support()) {
        (Some(name), _) => name,
        (None, Support::None | Support::WithoutDefault) => "",
        (None, Support::Full) if security.privileged => UNCONFINED,
        (None, Support::Full) => DEFAULT,
    }
}

/// Refuses a profile that cannot be had.
///
/// # Errors
/// `Unsupported` where there is no AppArmor.
pub(super) fn check(security: &Security) -> Result<()> {
    match security.apparmor.as_deref() {
        None | Some(UNCONFINED) => Ok(()),
        Some(name) if support() == Support::None => Err(Error::new(
            ErrorKind::Unsupported,
            format!(
                "--security-opt apparmor={name} is not supported: the kernel has no AppArmor, it is turned off, or \
                 securityfs is not mounted at /sys/kernel/security"
            ),
        )),
        Some(_) => Ok(()),
    }
}

/// The profile for a process of a container; empty: none is set. Loads the default one where it is missing.
///
/// # Errors
/// As [`Security`] says what cannot be had; what apparmor_parser says.
pub fn profile(security: &Security) -> Result<String> {
    check(security)?;
    let name = match (security.apparmor.as_deref(), support()) {
        // Nothing confines, and there may be no file to say so in.
        (_, Support::None) => "",
        (Some(name), _) => name,
        (None, Support::WithoutDefault) => "",
        (None, Support::Full) if security.privileged => UNCONFINED,
        (None, Support::Full) => DEFAULT,
    };
    if name == DEFAULT {
        ensure_default()?;
    }
    Ok(name.to_owned())
}

/// Loads the default profile unless the kernel has one of its name, Docker's own for instance.
fn ensure_default() -> Result<()> {
    let failed = |reason: String| {
        Error::new(
            ErrorKind::Unavailable,
            format!("cannot load the AppArmor profile {DEFAULT}: {reason}"),
        )
    };
    let loaded =
        fs::read_to_string(LOADED).map_err(|error| failed(format!("{LOADED}: {error}")))?;
    if is_loaded(&loaded, DEFAULT) {
        return Ok(());
    }
    let parser = parser().ok_or_else(|| failed("there is no apparmor_parser".into()))?;
    let own = fs::read_to_string(OWN).unwrap_or_default();
    load(parser, &text(&own)).map_err(failed)
}

fn load(parser: &str, text: &str) -> Result<(), String> {
    let told = |error: std::io::Error| format!("{parser}: {error}");
    let mut child = Command::new(parser)
        .args(["--replace", "--skip-cache"])
        .env_clear()
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(told)?;
    if let Some(mut stdin) = child.stdin.take() {
        match stdin.write_all(text.as_bytes()) {
            // It has ended already: why is in what it says.
            Err(error) if error.kind() != IoKind::BrokenPipe => return Err(told(error)),
            _ => {}
        }
    }
    let output = child.wait_with_output().map_err(told)?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{parser}: {}: {}", output.status, said.trim_end()))
}

fn parser() -> Option<&'static str> {
    PARSERS.into_iter().find(|path| Path::new(path).exists())
}

/// A line is `NAME (enforce)`; names can have blanks.
fn is_loaded(loaded: &str, name: &str) -> bool {
    loaded
        .lines()
        .filter_map(|line| line.rsplit_once(" ("))
        .any(|(loaded, _)| loaded == name)
}

/// The profile with a rule for the engine where it is confined itself: `NAME (enforce)`.
fn text(own: &str) -> String {
    let own = own.trim_end_matches(['\n', '\0']);
    let own = own.rsplit_once(" (").map_or(own, |(name, _)| name);
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    let engine = match own {
        "" | UNCONFINED => String::new(),
        own if own.chars().all(plain) => format!("  signal (receive) peer={own},\n"),
        // Without the rule the container cannot be stopped by us, which is the lesser evil.
        _ => String::new(),
    };
    RULES.replace("  # ENGINE\n", &engine)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_are_found_by_their_whole_name() {
        let loaded = "/usr/bin/man (enforce)\ndocker-default-2 (enforce)\nmy own (complain)\n";
        assert!(is_loaded(loaded, "/usr/bin/man") && is_loaded(loaded, "my own"));
        assert!(!is_loaded(loaded, DEFAULT) && !is_loaded("", DEFAULT));
    }

    #[test]
    fn an_engine_that_is_confined_may_signal_its_containers() {
        for free in ["", "unconfined\n", "unconfined"] {
            assert!(!text(free).contains("ENGINE") && !text(free).contains("peer=ketch"));
        }
        assert!(text("ketch (enforce)\n").contains("\n  signal (receive) peer=ketch,\n"));
        assert_eq!(text("odd,name (enforce)"), text(""));
    }

    #[test]
    fn rules_name_the_profile() {
        assert!(RULES.contains(&format!("profile {DEFAULT} ")));
    }

    #[test]
    fn a_parser_that_fails_is_told() {
        let error = load("/bin/false", "profile").unwrap_err();
        assert!(error.contains("/bin/false: exit status: 1"), "{error}");
        assert!(load("/nope", "profile").unwrap_err().contains("/nope"));
    }

    #[test]
    fn a_profile_needs_apparmor() {
        let mut security = Security::default();
        check(&security).unwrap();
        security.apparmor = Some(UNCONFINED.into());
        check(&security).unwrap();
        security.apparmor = Some("box".into());
        let refused = check(&security).is_err();
        assert_eq!(refused, support() == Support::None);
        assert_eq!(shown(&security), "box");
    }
}
