//! Checks of the source tree that a compiler cannot make. Each is a test of this crate, and all are `cargo xtask tidy`.

use std::fs;
use std::path::{Path, PathBuf};

use crate::Outcome;
use crate::shell::workspace;

mod arrows;
mod documents;
mod source;

/// Looks at the tree and says what is wrong with it.
type Check = fn() -> Vec<String>;

/// Every check, by name.
const CHECKS: &[(&str, Check)] = &[
    ("crates point downwards", arrows::check),
    (
        "dependencies have a reason",
        source::dependencies_have_a_reason,
    ),
    ("unsafe stays in crates/sys", source::unsafe_stays_in_sys),
    ("files and functions stay short", source::lengths),
    ("nothing is left unfinished", source::nothing_unfinished),
    ("tests wait on events", source::tests_do_not_sleep),
    ("README.ko.md keeps step", documents::readmes_keep_step),
    ("links lead somewhere", documents::links_resolve),
    (
        "ARCHITECTURE.md names every crate",
        documents::architecture_names_crates,
    ),
];

/// Runs all checks.
pub fn run() -> Outcome {
    let mut complaints = Vec::new();
    for (name, check) in CHECKS {
        let found = check();
        println!("{} {name}", if found.is_empty() { "ok  " } else { "FAIL" });
        complaints.extend(found);
    }
    if complaints.is_empty() {
        Ok(())
    } else {
        Err(format!("the tree is not tidy:\n{}", complaints.join("\n")))
    }
}

/// A file of the tree: path from the workspace's root, and text.
struct SourceFile {
    path: String,
    text: String,
}

/// Files below `folders` with one of `extensions`, build products left out, sorted.
fn files(folders: &[&str], extensions: &[&str]) -> Vec<SourceFile> {
    let root = workspace();
    let mut found = Vec::new();
    for folder in folders {
        walk(&root.join(folder), extensions, &mut found);
    }
    found.sort();
    found
        .into_iter()
        .filter_map(|path| {
            let text = fs::read_to_string(&path).ok()?;
            Some(SourceFile {
                path: path
                    .strip_prefix(&root)
                    .ok()?
                    .to_string_lossy()
                    .into_owned(),
                text,
            })
        })
        .collect()
}

fn walk(directory: &Path, extensions: &[&str], found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(directory) else {
        return;
    };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            if !matches!(
                entry.file_name().to_str(),
                Some("target" | ".git" | "corpus")
            ) {
                walk(&path, extensions, found);
            }
        } else if path
            .extension()
            .and_then(|e| e.to_str())
            .is_some_and(|e| extensions.contains(&e))
        {
            found.push(path);
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_tree_is_tidy() {
        for (name, check) in super::CHECKS {
            let complaints = check();
            assert!(complaints.is_empty(), "{name}:\n{}", complaints.join("\n"));
        }
    }
}
