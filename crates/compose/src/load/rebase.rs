//! Paths of what comes from another directory.

use std::collections::BTreeMap;
use std::path::Path;

use crate::node::{Node, Value};
use crate::normalise::{Surroundings, absolute};

/// Makes the relative paths of a service absolute, for one that comes from another directory.
pub(super) fn rebase(
    mut service: Node,
    directory: &Path,
    variables: &BTreeMap<String, String>,
) -> Node {
    let home = variables.get("HOME").map(String::as_str);
    let around = Surroundings {
        project: "",
        directory,
        home,
        variables,
    };
    let Value::Map(entries) = &mut service.value else {
        return service;
    };
    for (key, value) in entries.iter_mut() {
        match key.as_str() {
            "build" => match &mut value.value {
                Value::Text(context) => *context = absolute(context, &around),
                Value::Map(build) => build
                    .iter_mut()
                    .filter(|(key, _)| key == "context")
                    .for_each(|(_, context)| rebase_text(context, &around)),
                _ => {}
            },
            "env_file" | "label_file" => match &mut value.value {
                Value::List(items) => items.iter_mut().for_each(|item| rebase_text(item, &around)),
                _ => rebase_text(value, &around),
            },
            "volumes" => {
                if let Value::List(items) = &mut value.value {
                    items
                        .iter_mut()
                        .for_each(|item| rebase_volume(item, &around));
                }
            }
            _ => {}
        }
    }
    service
}

/// The same for the file of a secret or config.
pub(super) fn rebase_file(node: &mut Node, directory: &Path, variables: &BTreeMap<String, String>) {
    let around = Surroundings {
        project: "",
        directory,
        home: variables.get("HOME").map(String::as_str),
        variables,
    };
    if let Value::Map(entries) = &mut node.value {
        let files = entries.iter_mut().filter(|(key, _)| key == "file");
        files.for_each(|(_, file)| rebase_text(file, &around));
    }
}

fn rebase_text(node: &mut Node, around: &Surroundings<'_>) {
    match &mut node.value {
        Value::Text(path) => *path = absolute(path, around),
        Value::Map(entries) => entries
            .iter_mut()
            .filter(|(key, _)| key == "path")
            .for_each(|(_, path)| rebase_text(path, around)),
        _ => {}
    }
}

fn rebase_volume(node: &mut Node, around: &Surroundings<'_>) {
    let bind = node
        .get("type")
        .is_some_and(|kind| kind.value == Value::Text("bind".into()));
    match &mut node.value {
        Value::Text(volume) if volume.starts_with(['.', '~']) => {
            let (source, rest) = volume.split_once(':').unwrap_or((volume.as_str(), ""));
            *volume = format!("{}:{rest}", absolute(source, around));
        }
        Value::Map(entries) if bind => {
            entries
                .iter_mut()
                .filter(|(key, _)| key == "source")
                .for_each(|(_, source)| rebase_text(source, around));
        }
        _ => {}
    }
}
