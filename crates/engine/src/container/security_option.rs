//! `--security-opt`, as the command line and Docker's API write it.

use super::config::{Seccomp, Security};

/// What one option asks for.
#[derive(Debug, Clone, PartialEq)]
pub enum SecurityOption {
    /// `no-new-privileges`, with or without `=true`, or `=false`.
    NoNewPrivileges(bool),
    /// `seccomp=unconfined`, `seccomp=builtin`, or anything else as a [`Seccomp::Profile`]: the path of one on the
    /// command line, the profile itself in the API.
    Seccomp(Seccomp),
    /// `systempaths=unconfined`: a word of the command line only.
    SystemPathsUnconfined,
    /// `apparmor=NAME`; None: the default one.
    AppArmor(Option<String>),
    /// `label=disable`: SELinux labels are not applied, so turning them off is what happens anyway.
    AlreadySo,
}

/// Why an option is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SecurityOptionError {
    /// Docker has it, we do not.
    #[error("not supported")]
    Unsupported,
    /// Not Docker's.
    #[error("unknown")]
    Unknown,
}

/// Reads `key`, `key=value` or `key:value`.
///
/// # Errors
/// See [`SecurityOptionError`]; it does not name the option.
pub fn parse(option: &str) -> Result<SecurityOption, SecurityOptionError> {
    let (key, value) = match option.split_once('=').or_else(|| option.split_once(':')) {
        Some((key, value)) => (key, Some(value)),
        None => (option, None),
    };
    Ok(match (key, value) {
        ("no-new-privileges", None | Some("true")) => SecurityOption::NoNewPrivileges(true),
        ("no-new-privileges", Some("false")) => SecurityOption::NoNewPrivileges(false),
        ("seccomp", Some("unconfined")) => SecurityOption::Seccomp(Seccomp::Unconfined),
        ("seccomp", Some("builtin")) => SecurityOption::Seccomp(Seccomp::Default),
        ("seccomp", Some(profile)) => SecurityOption::Seccomp(Seccomp::Profile(profile.into())),
        ("systempaths", Some("unconfined")) => SecurityOption::SystemPathsUnconfined,
        ("apparmor", Some("")) => SecurityOption::AppArmor(None),
        ("apparmor", Some(name)) => SecurityOption::AppArmor(Some(name.to_owned())),
        ("label", Some("disable")) => SecurityOption::AlreadySo,
        ("label" | "writable-cgroups", Some(_)) => {
            return Err(SecurityOptionError::Unsupported);
        }
        _ => return Err(SecurityOptionError::Unknown),
    })
}

impl SecurityOption {
    /// Puts the option into a configuration.
    pub fn apply(self, security: &mut Security) {
        match self {
            Self::NoNewPrivileges(is) => security.no_new_privileges = is,
            Self::Seccomp(seccomp) => security.seccomp = seccomp,
            Self::SystemPathsUnconfined => security.system_paths_unconfined = true,
            Self::AppArmor(name) => security.apparmor = name,
            Self::AlreadySo => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_applied_the_last_one_wins() {
        let mut security = Security::default();
        for option in [
            "no-new-privileges",
            "seccomp={\"a\":1}",
            "apparmor=unconfined",
        ] {
            parse(option).unwrap().apply(&mut security);
        }
        assert!(security.no_new_privileges && !security.system_paths_unconfined);
        assert_eq!(security.seccomp, Seccomp::Profile("{\"a\":1}".into()));
        assert_eq!(security.apparmor.as_deref(), Some("unconfined"));
        for option in [
            "no-new-privileges:false",
            "seccomp:unconfined",
            "systempaths=unconfined",
        ] {
            parse(option).unwrap().apply(&mut security);
        }
        assert!(!security.no_new_privileges && security.system_paths_unconfined);
        assert_eq!(security.seccomp, Seccomp::Unconfined);
        parse("apparmor:mine").unwrap().apply(&mut security);
        assert_eq!(security.apparmor.as_deref(), Some("mine"));
        parse("apparmor=").unwrap().apply(&mut security);
        assert_eq!(security.apparmor, None);
        parse("seccomp=builtin").unwrap().apply(&mut security);
        assert_eq!(security.seccomp, Seccomp::Default);
    }

    #[test]
    fn what_we_have_not_is_told_from_what_docker_has_not() {
        let refused = |option| parse(option).unwrap_err();
        assert_eq!(refused("label=level:s0"), SecurityOptionError::Unsupported);
        for option in ["foo", "seccomp", "no-new-privileges=maybe", ""] {
            assert_eq!(refused(option), SecurityOptionError::Unknown, "{option}");
        }
    }
}
