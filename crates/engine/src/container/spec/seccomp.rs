//! System call filters: from Docker's profile format to the runtime specification's.
//!
//! A profile in Docker's format has rules that depend on capabilities, architecture and kernel; here they are decided
//! for one container. The embedded default is Docker's own (`seccomp/default.json`, Apache-2.0, Docker Engine).

mod compiled;

use ketch_runtime::seccomp::Program;
use ketch_spec::runtime::{LinuxSeccomp, SeccompArg, SeccompSyscall};
use serde::Deserialize;

use crate::container::config::{Seccomp, Security};
use crate::{Error, ErrorKind, Result};

const DEFAULT: &str = include_str!("../seccomp/default.json");

/// Docker's profile format.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Profile {
    default_action: String,
    default_errno_ret: Option<u32>,
    #[serde(default)]
    arch_map: Option<Vec<Architecture>>,
    /// The older way to say it: a plain list.
    #[serde(default)]
    architectures: Option<Vec<String>>,
    #[serde(default)]
    flags: Option<Vec<String>>,
    #[serde(default)]
    listener_path: Option<String>,
    #[serde(default)]
    listener_metadata: Option<String>,
    #[serde(default)]
    syscalls: Option<Vec<Rule>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Architecture {
    architecture: String,
    sub_architectures: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    /// The older way to say it: one name.
    name: Option<String>,
    #[serde(default)]
    names: Option<Vec<String>>,
    action: String,
    errno_ret: Option<u32>,
    #[serde(default)]
    args: Option<Vec<Argument>>,
    #[serde(default)]
    includes: Option<Filter>,
    #[serde(default)]
    excludes: Option<Filter>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Argument {
    index: u32,
    value: u64,
    #[serde(default)]
    value_two: u64,
    op: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct Filter {
    #[serde(default)]
    caps: Option<Vec<String>>,
    #[serde(default)]
    arches: Option<Vec<String>>,
    #[serde(default)]
    min_kernel: Option<String>,
}

/// What the rules depend on.
struct Target<'a> {
    capabilities: &'a [&'a str],
    architecture: &'static str,
    kernel: (u32, u32),
}

/// The program of a container that has the default filter, where it was compiled beforehand.
pub fn compiled(security: &Security, capabilities: &[&str]) -> Option<Program> {
    let is_default = !security.privileged && matches!(security.seccomp, Seccomp::Default);
    is_default
        .then(|| compiled::find(capabilities, kernel_version()))
        .flatten()
}

/// The rules of a container's filter; None where it has none.
///
/// # Errors
/// `Invalid` for a profile of the user's that is not one.
pub fn of(security: &Security, capabilities: &[&str]) -> Result<Option<LinuxSeccomp>> {
    let text = match &security.seccomp {
        _ if security.privileged => return Ok(None),
        Seccomp::Unconfined => return Ok(None),
        Seccomp::Default => DEFAULT,
        Seccomp::Profile(text) => text,
    };
    let profile = parse(text)?;
    let target = Target {
        capabilities,
        architecture: native(),
        kernel: kernel_version(),
    };
    Ok(Some(decide(profile, &target)))
}

/// Checks a profile of the user's.
///
/// # Errors
/// `Invalid`: "Decoding seccomp profile failed: …".
pub fn check(text: &str) -> Result<()> {
    parse(text).map(|_| ())
}

fn parse(text: &str) -> Result<Profile> {
    let profile: Profile = serde_json::from_str(text).map_err(|error| {
        Error::new(
            ErrorKind::Invalid,
            format!("Decoding seccomp profile failed: {error}"),
        )
    })?;
    let both = profile.arch_map.as_ref().is_some_and(|map| !map.is_empty())
        && profile
            .architectures
            .as_ref()
            .is_some_and(|list| !list.is_empty());
    if both {
        return Err(Error::new(
            ErrorKind::Invalid,
            "both 'architectures' and 'archMap' are specified in the seccomp profile, use either 'architectures' or 'archMap'",
        ));
    }
    Ok(profile)
}

fn decide(profile: Profile, target: &Target<'_>) -> LinuxSeccomp {
    let mut architectures = profile.architectures.unwrap_or_default();
    for entry in profile.arch_map.unwrap_or_default() {
        if entry.architecture == scmp_name(target.architecture) {
            architectures.push(entry.architecture);
            architectures.extend(entry.sub_architectures.unwrap_or_default());
        }
    }
    let syscalls = profile
        .syscalls
        .unwrap_or_default()
        .into_iter()
        .filter(|rule| applies(rule, target))
        .map(|rule| SeccompSyscall {
            names: rule
                .name
                .into_iter()
                .chain(rule.names.unwrap_or_default())
                .collect(),
            action: rule.action,
            errno_ret: rule.errno_ret,
            args: rule
                .args
                .unwrap_or_default()
                .into_iter()
                .map(argument)
                .collect(),
            ..SeccompSyscall::default()
        })
        .collect();
    LinuxSeccomp {
        default_action: profile.default_action,
        default_errno_ret: profile.default_errno_ret,
        architectures,
        flags: profile.flags,
        listener_path: profile.listener_path.unwrap_or_default(),
        listener_metadata: profile.listener_metadata.unwrap_or_default(),
        syscalls,
        ..LinuxSeccomp::default()
    }
}

fn argument(given: Argument) -> SeccompArg {
    SeccompArg {
        index: given.index,
        value: given.value,
        value_two: given.value_two,
        op: given.op,
    }
}

fn applies(rule: &Rule, target: &Target<'_>) -> bool {
    let has = |capability: &String| target.capabilities.contains(&capability.as_str());
    if let Some(filter) = &rule.excludes {
        let out = filter
            .arches
            .iter()
            .flatten()
            .any(|arch| arch == target.architecture)
            || filter.caps.iter().flatten().any(has)
            || filter
                .min_kernel
                .as_deref()
                .and_then(parse_kernel)
                .is_some_and(|least| target.kernel >= least);
        if out {
            return false;
        }
    }
    let Some(filter) = &rule.includes else {
        return true;
    };
    let architecture = filter
        .arches
        .as_ref()
        .is_none_or(|list| list.is_empty() || list.iter().any(|a| a == target.architecture));
    architecture
        && filter.caps.iter().flatten().all(has)
        && filter
            .min_kernel
            .as_deref()
            .is_none_or(|text| parse_kernel(text).is_some_and(|least| target.kernel >= least))
}

/// Go's name of the machine's architecture, which profiles use.
fn native() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn scmp_name(architecture: &str) -> &str {
    match architecture {
        "amd64" => "SCMP_ARCH_X86_64",
        "arm64" => "SCMP_ARCH_AARCH64",
        other => other,
    }
}

fn kernel_version() -> (u32, u32) {
    rustix::system::uname()
        .release()
        .to_str()
        .ok()
        .and_then(parse_kernel)
        .unwrap_or((0, 0))
}

fn parse_kernel(text: &str) -> Option<(u32, u32)> {
    let mut parts = text
        .split(|c: char| !c.is_ascii_digit())
        .map(str::parse::<u32>);
    Some((parts.next()?.ok()?, parts.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::spec::capabilities;

    fn allowed<'a>(filter: &'a LinuxSeccomp, name: &str) -> Vec<&'a SeccompSyscall> {
        filter
            .syscalls
            .iter()
            .filter(|rule| rule.names.iter().any(|n| n == name))
            .collect()
    }

    fn amd64<'a>(capabilities: &'a [&'a str], kernel: (u32, u32)) -> Target<'a> {
        Target {
            capabilities,
            architecture: "amd64",
            kernel,
        }
    }

    #[test]
    fn the_default_profile_depends_on_capabilities() {
        let profile = || parse(DEFAULT).unwrap();
        let plain = decide(profile(), &amd64(&capabilities::DEFAULT, (6, 1)));
        assert_eq!(plain.default_action, "SCMP_ACT_ERRNO");
        assert_eq!(plain.default_errno_ret, Some(1));
        assert_eq!(
            plain.architectures,
            ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]
        );
        assert!(allowed(&plain, "mount").is_empty() && allowed(&plain, "bpf").is_empty());
        assert_eq!(allowed(&plain, "chroot").len(), 1);
        assert_eq!(allowed(&plain, "clone3")[0].errno_ret, Some(38));
        assert_eq!(allowed(&plain, "clone")[0].args[0].value, 2_114_060_288);
        assert_eq!(allowed(&plain, "arch_prctl").len(), 1);
        assert!(allowed(&plain, "riscv_flush_icache").is_empty());
        let admin = decide(profile(), &amd64(&["CAP_SYS_ADMIN"], (6, 1)));
        assert_eq!(allowed(&admin, "mount").len(), 1);
        assert!(
            allowed(&admin, "clone3")
                .iter()
                .all(|rule| rule.action == "SCMP_ACT_ALLOW")
        );
        assert!(allowed(&admin, "chroot").is_empty());
    }

    #[test]
    fn a_rule_can_need_a_kernel() {
        let profile = || parse(DEFAULT).unwrap();
        assert!(allowed(&decide(profile(), &amd64(&[], (4, 7))), "ptrace").is_empty());
        assert_eq!(
            allowed(&decide(profile(), &amd64(&[], (4, 8))), "ptrace").len(),
            1
        );
        assert_eq!(parse_kernel("6.1.0-18-amd64"), Some((6, 1)));
    }

    #[test]
    fn a_users_profile_is_read_or_refused() {
        let text = r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"name":"mkdir","action":"SCMP_ACT_ERRNO","args":null}]}"#;
        let security = Security {
            seccomp: Seccomp::Profile(text.into()),
            ..Security::default()
        };
        let filter = of(&security, &[]).unwrap().expect("a filter");
        assert_eq!(allowed(&filter, "mkdir")[0].action, "SCMP_ACT_ERRNO");
        assert!(
            check("{")
                .unwrap_err()
                .message
                .starts_with("Decoding seccomp profile failed")
        );
        assert!(
            of(
                &Security {
                    privileged: true,
                    ..security
                },
                &[]
            )
            .unwrap()
            .is_none()
        );
    }
}
