//! What a specification must and must not say, apart from what each part checks for itself.

use ketch_spec::runtime::{Linux, NamespaceKind, Process, Spec};

use crate::error::{Error, Result};
use crate::namespaces::NamespacePlan;

/// The version of the specification that is understood: this number before the first dot.
const MAJOR: &str = "1";

/// What system calls take for "leave it as it is": -1.
pub(crate) const NO_ID: u32 = u32::MAX;

/// Parts of `config.json` that are for other platforms than this one.
const OTHER_PLATFORMS: [&str; 4] = ["windows", "solaris", "vm", "zos"];

/// Parts of later versions that say what the container gets: to ignore them would make another container than the one
/// that was asked for.
const LATER: [&str; 2] = ["netDevices", "memoryPolicy"];

/// Checks what concerns the whole of a specification.
pub(crate) fn specification(spec: &Spec, linux: &Linux, namespaces: &NamespacePlan) -> Result<()> {
    version(&spec.oci_version)?;
    if spec.root.is_none() {
        return Err(Error::invalid("root", "it is missing"));
    }
    if let Some(platform) = OTHER_PLATFORMS.iter().find(|&&platform| {
        spec.other
            .get(platform)
            .is_some_and(|value| !value.is_null())
    }) {
        let reason = "this runtime makes Linux containers from namespaces";
        return Err(Error::unsupported(*platform, reason));
    }
    let is_given = |field: &&&str| linux.other.get(**field).is_some_and(says_something);
    if let Some(field) = LATER.iter().find(is_given) {
        let reason = "it is of version 1.3 of the specification";
        return Err(Error::unsupported(format!("linux.{field}"), reason));
    }
    if spec.annotations.contains_key("") {
        return Err(Error::invalid("annotations", "a name is empty"));
    }
    let own_names = namespaces.has_own(NamespaceKind::Uts);
    for (field, value) in [
        ("hostname", &spec.hostname),
        ("domainname", &spec.domainname),
    ] {
        if !value.is_empty() && !own_names {
            let reason = "it would be the host's: the container has no UTS namespace of its own";
            return Err(Error::invalid(field, reason));
        }
        if value.contains('\0') {
            return Err(Error::invalid(field, "it has a zero byte"));
        }
    }
    for (field, paths) in [
        ("linux.maskedPaths", &linux.masked_paths),
        ("linux.readonlyPaths", &linux.readonly_paths),
    ] {
        if let Some(path) = paths.iter().find(|path| !path.starts_with('/')) {
            return Err(Error::invalid(field, format!("{path:?} is not absolute")));
        }
    }
    Ok(())
}

fn says_something(value: &serde_json::Value) -> bool {
    !value.is_null() && value.as_object().is_none_or(|fields| !fields.is_empty())
}

/// Checks what a process must not say.
pub(crate) fn process(process: &Process) -> Result<()> {
    let command_line = process.other.get("commandLine");
    if command_line.is_some_and(|value| !value.is_null()) {
        let reason = "it is for Windows: use process.args";
        return Err(Error::unsupported("process.commandLine", reason));
    }
    let user = &process.user;
    let ids = [("uid", user.uid), ("gid", user.gid)];
    let groups = user
        .additional_gids
        .iter()
        .map(|&gid| ("additionalGids", gid));
    match ids.into_iter().chain(groups).find(|&(_, id)| id == NO_ID) {
        None => Ok(()),
        Some((field, id)) => {
            let reason = format!("{id} stands for no change of it");
            Err(Error::invalid(format!("process.user.{field}"), reason))
        }
    }
}

/// `MAJOR.MINOR.PATCH[-PRE][+BUILD]` as of semver.org, with a major version that is known here.
pub(crate) fn version(text: &str) -> Result<()> {
    let refuse = |reason: &str| Err(Error::invalid("ociVersion", format!("{text:?} {reason}")));
    if text.is_empty() {
        return Err(Error::invalid("ociVersion", "it is missing"));
    }
    let (rest, build) = split(text, '+');
    let (core, pre) = split(rest, '-');
    let numbers: Vec<&str> = core.split('.').collect();
    let words = |text: Option<&str>, number_rule: bool| {
        text.is_none_or(|text| {
            text.split('.')
                .all(|word| is_word(word) && !(number_rule && has_leading_zero(word)))
        })
    };
    let correct = numbers.len() == 3
        && numbers.iter().all(|number| is_number(number))
        && words(pre, true)
        && words(build, false);
    if !correct {
        return refuse("is no version as of semver.org");
    }
    if numbers[0] != MAJOR {
        return refuse("is not a version 1 of the specification");
    }
    Ok(())
}

fn split(text: &str, separator: char) -> (&str, Option<&str>) {
    text.split_once(separator)
        .map_or((text, None), |(before, after)| (before, Some(after)))
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) && !has_leading_zero(text)
}

fn has_leading_zero(text: &str) -> bool {
    text.len() > 1 && text.starts_with('0') && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_word(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

#[cfg(test)]
mod tests {
    use ketch_sys::namespace::Namespaces;

    use super::*;

    #[test]
    fn versions_are_semantic_ones_of_major_version_1() {
        for good in ["1.0.0", "1.2.0", "1.2.1+dev", "1.0.2-rc.1+x-y.7", "1.10.20"] {
            version(good).unwrap();
        }
        for bad in [
            "", "1", "1.2", "1.2.0.0", "v1.2.0", "1.02.0", "1.2.0-", "1.2.0-01", "1.2.0+", "a.b.c",
        ] {
            assert!(version(bad).is_err(), "{bad}");
        }
        let other = version("2.0.0").unwrap_err().to_string();
        assert!(other.contains("not a version 1"), "{other}");
    }

    fn spec() -> (Spec, Linux) {
        let spec = Spec {
            oci_version: "1.2.0".into(),
            root: Some(Default::default()),
            ..Spec::default()
        };
        (spec, Linux::default())
    }

    fn refusal(spec: &Spec, linux: &Linux) -> String {
        specification(spec, linux, &NamespacePlan::default())
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn other_platforms_are_refused_and_unknown_fields_are_not() {
        for platform in OTHER_PLATFORMS {
            let (mut spec, linux) = spec();
            spec.other.insert(platform.into(), serde_json::json!({}));
            assert!(refusal(&spec, &linux).starts_with(platform));
        }
        let (mut spec, mut linux) = spec();
        spec.other.insert("zz".into(), serde_json::json!({}));
        linux.other.insert("zz".into(), serde_json::json!([1]));
        specification(&spec, &linux, &NamespacePlan::default()).unwrap();
        let mut windows = Process::default();
        windows.other.insert("commandLine".into(), "cmd.exe".into());
        assert!(process(&windows).is_err());
    }

    #[test]
    fn what_a_later_version_gives_a_container_is_refused_and_not_left_out() {
        for field in LATER {
            let (spec, mut linux) = spec();
            for nothing in [serde_json::json!({}), serde_json::Value::Null] {
                linux.other.insert(field.into(), nothing);
                specification(&spec, &linux, &NamespacePlan::default()).unwrap();
            }
            let some = serde_json::json!({ "eth0": {} });
            linux.other.insert(field.into(), some);
            let refusal = refusal(&spec, &linux);
            assert!(
                refusal.starts_with(&format!("linux.{field} is not supported")),
                "{refusal}"
            );
        }
    }

    #[test]
    fn names_of_annotations_are_not_empty() {
        let (mut spec, linux) = spec();
        spec.annotations.insert("org.example".into(), String::new());
        specification(&spec, &linux, &NamespacePlan::default()).unwrap();
        spec.annotations.insert(String::new(), "x".into());
        assert!(refusal(&spec, &linux).contains("annotations: a name is empty"));
    }

    #[test]
    fn a_user_that_would_be_no_change_is_refused() {
        let refused = |change: fn(&mut Process)| {
            let mut wrong = Process::default();
            change(&mut wrong);
            process(&wrong).unwrap_err().to_string()
        };
        assert!(refused(|process| process.user.uid = u32::MAX).contains("process.user.uid"));
        assert!(refused(|process| process.user.gid = u32::MAX).contains("process.user.gid"));
        let groups = refused(|process| process.user.additional_gids = vec![1, u32::MAX]);
        assert!(groups.contains("process.user.additionalGids"));
    }

    #[test]
    fn names_need_a_namespace_and_paths_must_be_absolute() {
        let (mut spec, mut linux) = spec();
        linux.masked_paths.push("proc/kcore".into());
        assert!(refusal(&spec, &linux).contains("\"proc/kcore\" is not absolute"));
        linux.masked_paths.clear();
        spec.domainname = "x".into();
        assert!(refusal(&spec, &linux).contains("no UTS namespace of its own"));
        let own = NamespacePlan {
            new: Namespaces::UTS,
            ..NamespacePlan::default()
        };
        specification(&spec, &linux, &own).unwrap();
        spec.domainname = "x\0y".into();
        let cut = specification(&spec, &linux, &own).unwrap_err().to_string();
        assert!(cut.contains("domainname: it has a zero byte"), "{cut}");
    }
}
