//! `RUN --mount=type=…,…`.

use super::instruction::{MountKind, RunMount};
use super::node::{Node, Word};
use crate::error::Mistake;

/// Which fields each type takes, by their chief names.
fn takes(kind: MountKind) -> &'static [&'static str] {
    match kind {
        MountKind::Bind => &["target", "source", "from"],
        MountKind::Cache => &[
            "target", "source", "from", "id", "sharing", "mode", "uid", "gid",
        ],
        MountKind::Tmpfs => &["target", "size"],
        MountKind::Secret => &["target", "id", "mode", "uid", "gid", "env"],
    }
}

/// The chief name of a field; None if it is unknown.
fn chief(field: &str) -> Option<&'static str> {
    Some(match field {
        "target" | "dst" | "destination" => "target",
        "source" | "src" => "source",
        "from" => "from",
        "id" => "id",
        "sharing" => "sharing",
        "mode" => "mode",
        "uid" => "uid",
        "gid" => "gid",
        "size" => "size",
        "env" => "env",
        _ => return None,
    })
}

/// Reads one `--mount`; None if it has mistakes, which are then in `mistakes`.
pub fn parse(node: &Node, word: &Word, mistakes: &mut Vec<Mistake>) -> Option<RunMount> {
    let before = mistakes.len();
    let mut mount = RunMount {
        at: word.at,
        ..RunMount::default()
    };
    let fields = split_fields(&word.text);
    for field in &fields {
        let (name, value) = field
            .split_once('=')
            .map_or((field.as_str(), None), |(n, v)| (n, Some(v)));
        if let ("type", Some(value)) = (name.to_lowercase().as_str(), value) {
            match kind(value) {
                Ok(kind) => mount.kind = kind,
                Err((message, unsupported)) => {
                    mistakes.push(Mistake {
                        unsupported,
                        ..node.mistake(word, message)
                    });
                    return None;
                }
            }
        }
    }
    for field in &fields {
        if let Err(message) = one_field(&mut mount, field) {
            mistakes.push(node.mistake(word, message));
        }
    }
    if let Err(message) = complete(&mount) {
        mistakes.push(node.mistake(word, message));
    }
    (mistakes.len() == before).then_some(mount)
}

fn kind(value: &str) -> Result<MountKind, (String, bool)> {
    match value.to_lowercase().as_str() {
        "bind" => Ok(MountKind::Bind),
        "cache" => Ok(MountKind::Cache),
        "tmpfs" => Ok(MountKind::Tmpfs),
        "secret" => Ok(MountKind::Secret),
        "ssh" => Err(("RUN --mount=type=ssh is not supported".into(), true)),
        other => Err((format!("unsupported mount type {other:?}"), false)),
    }
}

fn one_field(mount: &mut RunMount, field: &str) -> Result<(), String> {
    let (name, value) = field
        .split_once('=')
        .map_or((field, None), |(name, value)| (name, Some(value)));
    let name = name.to_lowercase();
    let switch = |default: bool| match value {
        None => Ok(default),
        Some("true" | "1") => Ok(default),
        Some("false" | "0") => Ok(!default),
        Some(other) => Err(format!("invalid value for {name}: {other}")),
    };
    match name.as_str() {
        "type" => Ok(()),
        "ro" | "readonly" => {
            mount.read_only = Some(switch(true)?);
            Ok(())
        }
        "rw" | "readwrite" => {
            mount.read_only = Some(!switch(true)?);
            Ok(())
        }
        "required" if mount.kind == MountKind::Secret => {
            mount.required = switch(true)?;
            Ok(())
        }
        _ => {
            let value =
                value.ok_or_else(|| format!("invalid field '{field}' must be a key=value pair"))?;
            let chief = chief(&name)
                .or((name == "source" || name == "src").then_some("id"))
                .filter(|chief| takes(mount.kind).contains(chief))
                .ok_or_else(|| format!("unexpected key '{name}' in '{field}'"))?;
            check(chief, value)
                .map_err(|what| format!("invalid value {value:?} for {name}: {what}"))?;
            mount.fields.insert(chief, value.to_owned());
            Ok(())
        }
    }
}

/// Checks a value that has no variables in it.
fn check(field: &str, value: &str) -> Result<(), &'static str> {
    if value.contains('$') {
        return Ok(());
    }
    let good = match field {
        "mode" => u32::from_str_radix(value, 8).is_ok_and(|mode| mode <= 0o7777),
        "uid" | "gid" => value.parse::<u32>().is_ok(),
        "size" => ketch_spec::size::parse_bytes(value).is_ok(),
        "sharing" => matches!(value, "shared" | "private" | "locked"),
        _ => true,
    };
    if good {
        Ok(())
    } else {
        Err("it has the wrong form")
    }
}

/// What a mount of its type cannot do without.
fn complete(mount: &RunMount) -> Result<(), &'static str> {
    let has = |field: &str| {
        mount
            .fields
            .get(field)
            .is_some_and(|value| !value.is_empty())
    };
    match mount.kind {
        MountKind::Secret if !has("id") && !has("target") => {
            Err("invalid mount: one of id and target is required")
        }
        MountKind::Secret if has("env") && has("target") => {
            Err("invalid mount: env and target exclude each other")
        }
        MountKind::Secret => Ok(()),
        _ if !has("target") => Err("invalid mount: target is required"),
        _ => Ok(()),
    }
}

/// Splits at commas outside double quotes.
fn split_fields(text: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    for c in text.chars() {
        match c {
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            _ => {
                if let Some(field) = fields.last_mut() {
                    field.push(c);
                }
            }
        }
    }
    fields.retain(|field| !field.is_empty());
    fields
}
