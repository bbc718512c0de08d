//! What the user asked for over what the image says, by Docker's rules. Pure.

use std::collections::BTreeMap;

use ketch_spec::image::{HealthCheck, RunConfig};
use ketch_spec::mount::{Mount, MountSource};
use ketch_spec::port::{Port, parse_expose};

use super::config::ProcessConfig;
use super::request::CreateRequest;
use crate::{Error, ErrorKind, Result};

/// Program, arguments and their surroundings.
///
/// # Errors
/// `Invalid`: "no command specified"; a variable without a name; a relative working directory.
pub(super) fn process(request: &CreateRequest, image: &RunConfig) -> Result<ProcessConfig> {
    let (entrypoint, command) = program(request, image)?;
    let working_dir = request
        .working_dir
        .clone()
        .unwrap_or_else(|| image.working_dir.clone());
    if !working_dir.is_empty() && !working_dir.starts_with('/') {
        return Err(invalid(format!(
            "the working directory '{working_dir}' is invalid, it needs to be an absolute path"
        )));
    }
    Ok(ProcessConfig {
        entrypoint,
        command,
        env: environment(&request.env, &image.env)?,
        working_dir,
        user: request.user.clone().unwrap_or_else(|| image.user.clone()),
        groups: request.groups.clone(),
        tty: request.tty,
        open_stdin: request.open_stdin,
        stdin_once: request.stdin_once,
    })
}

/// The user's command replaces the image's; the user's entrypoint drops the image's command too.
fn program(request: &CreateRequest, image: &RunConfig) -> Result<(Vec<String>, Vec<String>)> {
    let mut entrypoint = image.entrypoint.clone().unwrap_or_default();
    let mut command = image.cmd.clone().unwrap_or_default();
    if let Some(given) = &request.entrypoint {
        // `--entrypoint ""` clears it.
        entrypoint = if given == &[""] {
            Vec::new()
        } else {
            given.clone()
        };
        command.clear();
    }
    if !request.command.is_empty() {
        command.clone_from(&request.command);
    }
    if entrypoint
        .iter()
        .chain(&command)
        .next()
        .is_none_or(String::is_empty)
    {
        return Err(invalid("no command specified"));
    }
    Ok((entrypoint, command))
}

/// The user's variables first, then those of the image that the user did not set; a bare name takes the image's away.
fn environment(given: &[String], image: &[String]) -> Result<Vec<String>> {
    let name = |variable: &str| variable.split('=').next().unwrap_or_default().to_owned();
    if let Some(nameless) = given.iter().find(|variable| name(variable).is_empty()) {
        return Err(invalid(format!("invalid environment variable: {nameless}")));
    }
    let mut all: Vec<String> = Vec::new();
    for variable in given.iter().filter(|variable| variable.contains('=')) {
        // The last one of a name counts, in the place of the first.
        match all.iter().position(|old| name(old) == name(variable)) {
            Some(place) => all[place].clone_from(variable),
            None => all.push(variable.clone()),
        }
    }
    for variable in image {
        if !given.iter().any(|given| name(given) == name(variable)) {
            all.push(variable.clone());
        }
    }
    Ok(all)
}

/// The image's labels with the user's over them.
pub(super) fn labels(
    given: &BTreeMap<String, String>,
    image: &RunConfig,
) -> BTreeMap<String, String> {
    let mut all = image.labels.clone();
    all.extend(given.clone());
    all
}

/// Exposed ports: the image's, the user's, and those that are published.
pub(super) fn exposed(request: &CreateRequest, image: &RunConfig) -> Result<Vec<Port>> {
    let mut all = Vec::new();
    for text in image.exposed_ports.keys() {
        all.extend(
            parse_expose(text)
                .map_err(|error| invalid(format!("the image exposes {text:?}: {error}")))?,
        );
    }
    all.extend(&request.exposed);
    all.extend(request.ports.iter().map(|mapping| mapping.container));
    all.sort();
    all.dedup();
    Ok(all)
}

/// The health check: each field of the user's that is not the default, else the image's. `NONE` turns it off.
pub(super) fn health(given: Option<&HealthCheck>, image: &RunConfig) -> Option<HealthCheck> {
    let Some(given) = given else {
        return image.healthcheck.clone();
    };
    let Some(base) = &image.healthcheck else {
        return Some(given.clone());
    };
    let number = |given: i64, base: i64| if given == 0 { base } else { given };
    Some(HealthCheck {
        test: if given.test.is_empty() {
            base.test.clone()
        } else {
            given.test.clone()
        },
        interval: number(given.interval, base.interval),
        timeout: number(given.timeout, base.timeout),
        start_period: number(given.start_period, base.start_period),
        start_interval: number(given.start_interval, base.start_interval),
        retries: number(given.retries, base.retries),
    })
}

/// The mounts: the user's, then those taken over from other containers (`inherited`), then an anonymous volume for
/// every path that the image declares and nothing else covers.
///
/// # Errors
/// `Invalid` in Docker's words for two mounts in one place and targets that cannot be.
pub(super) fn mounts(
    given: &[Mount],
    inherited: Vec<Mount>,
    image: &RunConfig,
) -> Result<Vec<Mount>> {
    let mut all: Vec<Mount> = Vec::new();
    for mount in given {
        let target = clean(&mount.target)?;
        if all.iter().any(|other| other.target == target) {
            return Err(invalid(format!("Duplicate mount point: {target}")));
        }
        all.push(Mount {
            target,
            ..mount.clone()
        });
    }
    // A mount of the user's own takes the place of an inherited one.
    let mut add = |mount: Mount| {
        if !all.iter().any(|other| other.target == mount.target) {
            all.push(mount);
        }
    };
    inherited.into_iter().for_each(&mut add);
    for path in image.volumes.keys() {
        add(Mount {
            source: MountSource::Volume {
                name: None,
                anonymous: true,
                no_copy: false,
                subpath: None,
                labels: BTreeMap::new(),
            },
            target: clean(path)?,
            read_only: false,
            propagation: None,
            non_recursive: false,
        });
    }
    Ok(all)
}

/// An absolute path without empty, `.` and `..` parts.
///
/// # Errors
/// `Invalid` in Docker's words.
pub(super) fn clean(path: &str) -> Result<String> {
    if !path.starts_with('/') {
        return Err(invalid(format!(
            "invalid mount path: '{path}' mount path must be absolute"
        )));
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    if parts.is_empty() {
        return Err(invalid("invalid specification: destination can't be '/'"));
    }
    Ok(format!("/{}", parts.join("/")))
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Invalid, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(list: &[&str]) -> Vec<String> {
        list.iter().map(|&text| text.to_owned()).collect()
    }

    fn image(entrypoint: &[&str], cmd: &[&str]) -> RunConfig {
        RunConfig {
            entrypoint: Some(strings(entrypoint)),
            cmd: Some(strings(cmd)),
            ..RunConfig::default()
        }
    }

    fn args(
        entrypoint: Option<&[&str]>,
        command: &[&str],
        image: &RunConfig,
    ) -> Result<Vec<String>> {
        let request = CreateRequest {
            entrypoint: entrypoint.map(strings),
            command: strings(command),
            ..CreateRequest::default()
        };
        process(&request, image).map(|process| [process.entrypoint, process.command].concat())
    }

    #[test]
    fn entrypoint_and_command() {
        let both = image(&["/entry"], &["default"]);
        assert_eq!(args(None, &[], &both).unwrap(), ["/entry", "default"]);
        assert_eq!(args(None, &["other"], &both).unwrap(), ["/entry", "other"]);
        assert_eq!(args(Some(&["/mine"]), &[], &both).unwrap(), ["/mine"]);
        assert_eq!(
            args(Some(&["/mine"]), &["x"], &both).unwrap(),
            ["/mine", "x"]
        );
        assert_eq!(args(Some(&[""]), &["x"], &both).unwrap(), ["x"]);
        assert_eq!(args(Some(&[]), &["x"], &both).unwrap(), ["x"]);
        assert_eq!(
            args(Some(&[""]), &[], &both).unwrap_err().message,
            "no command specified"
        );
        assert_eq!(
            args(None, &[], &RunConfig::default()).unwrap_err().message,
            "no command specified"
        );
    }

    #[test]
    fn environments_are_merged_by_name() {
        let merged = environment(
            &strings(&["A=1", "B=", "C", "A=2"]),
            &strings(&["PATH=/bin", "C=3", "B=4", "D=5"]),
        )
        .unwrap();
        assert_eq!(merged, ["A=2", "B=", "PATH=/bin", "D=5"]);
        assert_eq!(
            environment(&strings(&["=x"]), &[]).unwrap_err().message,
            "invalid environment variable: =x"
        );
    }

    #[test]
    fn a_health_check_takes_missing_fields_from_the_image() {
        let base = HealthCheck {
            test: strings(&["CMD", "a"]),
            interval: 5,
            retries: 2,
            ..HealthCheck::default()
        };
        let image = RunConfig {
            healthcheck: Some(base.clone()),
            ..RunConfig::default()
        };
        assert_eq!(health(None, &image), Some(base));
        let given = HealthCheck {
            interval: 9,
            ..HealthCheck::default()
        };
        let merged = health(Some(&given), &image).unwrap();
        assert_eq!(
            (merged.test, merged.interval, merged.retries),
            (strings(&["CMD", "a"]), 9, 2)
        );
        let none = HealthCheck {
            test: strings(&["NONE"]),
            ..HealthCheck::default()
        };
        assert_eq!(health(Some(&none), &image).unwrap().test, ["NONE"]);
    }

    fn bind(path: &str, target: &str) -> Mount {
        Mount {
            source: MountSource::Bind {
                path: path.into(),
                create: false,
            },
            target: target.into(),
            read_only: false,
            propagation: None,
            non_recursive: false,
        }
    }

    #[test]
    fn image_volumes_fill_only_what_nothing_covers() {
        let image = RunConfig {
            volumes: [
                ("/data".to_owned(), Default::default()),
                ("/cache/".to_owned(), Default::default()),
            ]
            .into(),
            ..RunConfig::default()
        };
        let all = mounts(
            &[bind("/srv", "/data/")],
            vec![bind("/other", "/data"), bind("/log", "/log")],
            &image,
        )
        .unwrap();
        let targets: Vec<&str> = all.iter().map(|mount| mount.target.as_str()).collect();
        assert_eq!(targets, ["/data", "/log", "/cache"]);
        assert!(matches!(&all[0].source, MountSource::Bind { path, .. } if path == "/srv"));
        assert!(matches!(
            &all[2].source,
            MountSource::Volume {
                anonymous: true,
                name: None,
                ..
            }
        ));
    }

    #[test]
    fn targets_are_checked() {
        let message = |targets: &[&str]| {
            let given: Vec<Mount> = targets.iter().map(|target| bind("/srv", target)).collect();
            mounts(&given, Vec::new(), &RunConfig::default())
                .unwrap_err()
                .message
        };
        assert_eq!(message(&["/a", "/b/../a"]), "Duplicate mount point: /a");
        assert_eq!(
            message(&["a"]),
            "invalid mount path: 'a' mount path must be absolute"
        );
        assert_eq!(
            message(&["/.."]),
            "invalid specification: destination can't be '/'"
        );
    }

    #[test]
    fn published_ports_are_exposed() {
        let image = RunConfig {
            exposed_ports: [("80/tcp".to_owned(), Default::default())].into(),
            ..RunConfig::default()
        };
        let ports = ketch_spec::port::parse_publish("8080:80").unwrap();
        let more = ketch_spec::port::parse_publish("53:53/udp").unwrap();
        let request = CreateRequest {
            ports: [ports, more].concat(),
            ..CreateRequest::default()
        };
        let all: Vec<String> = exposed(&request, &image)
            .unwrap()
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(all, ["53/udp", "80/tcp"]);
    }
}
