//! The project that a command is about: from its files, or, for commands on what is there, from its name alone.

use std::io::Read;

use jiff::Timestamp;
use ketch_compose::{LoadError, LoadOptions, Project};

use crate::context::Context;
use crate::failure::Failure;
use crate::{output, text};

/// The longest compose file on standard input.
const MAX_INPUT_BYTES: u64 = 8 << 20;

/// Loads the project, and tells its warnings. The profiles of `services` are on.
///
/// # Errors
/// A project that cannot be loaded, with the place of the mistake.
pub fn load(context: &Context, services: &[String]) -> Result<Project, Failure> {
    let project = read(context, services)?.map_err(|error| Failure::usage(error.to_string()))?;
    project.warnings.iter().for_each(|text| warn(text));
    Ok(project)
}

/// As [`load`]; where there are no files but a name, a project that is known by its containers only.
///
/// # Errors
/// As [`load`].
pub fn load_or_name(context: &Context, services: &[String]) -> Result<Project, Failure> {
    match read(context, services)? {
        Ok(project) => {
            project.warnings.iter().for_each(|text| warn(text));
            Ok(project)
        }
        Err(error) => {
            let variable = std::env::var("COMPOSE_PROJECT_NAME").ok();
            let name = context.compose().project_name.clone().or(variable);
            match (error, name.filter(|name| !name.is_empty())) {
                (LoadError::NoFile { directory }, Some(name)) => {
                    Ok(Project::bare(&name, directory))
                }
                (error, _) => Err(Failure::usage(error.to_string())),
            }
        }
    }
}

/// Turns on everything that profiles keep off: for commands on what is there.
pub fn load_all(context: &Context) -> Result<Project, Failure> {
    let all = ["*".to_owned()];
    match read_with(context, &[], &all)? {
        Ok(project) => Ok(project),
        Err(_) => load_or_name(context, &[]),
    }
}

fn read(context: &Context, services: &[String]) -> Result<Result<Project, LoadError>, Failure> {
    read_with(context, services, &context.compose().profiles)
}

fn read_with(
    context: &Context,
    services: &[String],
    profiles: &[String],
) -> Result<Result<Project, LoadError>, Failure> {
    let globals = context.compose();
    if super::globals::is_on("COMPOSE_COMPATIBILITY") {
        return Err(Failure::usage("COMPOSE_COMPATIBILITY is not supported"));
    }
    let working_directory = std::env::current_dir().map_err(|source| Failure::File {
        action: "getcwd",
        path: ".".into(),
        source,
    })?;
    let from_input = globals.files.iter().any(|file| file.as_os_str() == "-");
    let environment = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    Ok(ketch_compose::load(&LoadOptions {
        files: globals.files.clone(),
        standard_input: if from_input {
            Some(standard_input()?)
        } else {
            None
        },
        project_name: globals.project_name.clone(),
        project_directory: globals.project_directory.clone(),
        env_files: globals.env_files.clone(),
        profiles: profiles.to_vec(),
        named_services: services.to_vec(),
        all_resources: globals.all_resources,
        environment: environment.collect(),
        working_directory,
    }))
}

fn standard_input() -> Result<String, Failure> {
    let mut text = String::new();
    let read = std::io::stdin()
        .lock()
        .take(MAX_INPUT_BYTES)
        .read_to_string(&mut text);
    read.map_err(|source| Failure::Stream {
        stream: "standard input",
        source,
    })?;
    Ok(text)
}

/// A warning in the form of Docker Compose: short on a terminal, one that programs can cut apart elsewhere.
pub fn warn(message: &str) {
    if rustix::termios::isatty(std::io::stderr()) {
        output::warn(&format!("WARN[0000] {message}"));
    } else {
        let time = text::rfc3339(Timestamp::now());
        let quoted = text::quote(message);
        output::warn(&format!("time=\"{time}\" level=warning msg={quoted}"));
    }
}
