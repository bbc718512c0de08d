//! Checks of the pages.

use super::files;
use crate::shell::workspace;

/// README.md and README.ko.md have the same headings (by level) and the same code blocks.
pub fn readmes_keep_step() -> Vec<String> {
    let read = |name: &str| std::fs::read_to_string(workspace().join(name)).unwrap_or_default();
    let (english, korean) = (outline(&read("README.md")), outline(&read("README.ko.md")));
    let mut complaints = Vec::new();
    if english.levels.is_empty() {
        complaints.push("README.md: no headings".to_owned());
    }
    if english.levels != korean.levels {
        complaints.push(format!(
            "README.ko.md: heading levels {:?}, README.md has {:?}",
            korean.levels, english.levels
        ));
    }
    if english.commands != korean.commands {
        let missing: Vec<_> = english
            .commands
            .iter()
            .filter(|line| !korean.commands.contains(line))
            .collect();
        let extra: Vec<_> = korean
            .commands
            .iter()
            .filter(|line| !english.commands.contains(line))
            .collect();
        complaints.push(format!(
            "README.ko.md: commands differ; missing {missing:?}, extra {extra:?}"
        ));
    }
    complaints
}

struct Outline {
    levels: Vec<usize>,
    commands: Vec<String>,
}

fn outline(text: &str) -> Outline {
    let mut outline = Outline {
        levels: Vec::new(),
        commands: Vec::new(),
    };
    let mut block = false;
    for line in text.lines() {
        if line.starts_with("```") {
            block = !block;
        } else if block {
            // comments in code blocks are prose, and prose is translated
            let command = line.split(" #").next().unwrap_or_default().trim_end();
            if !command.is_empty() && !command.starts_with('#') {
                outline.commands.push(command.to_owned());
            }
        } else if line.starts_with('#') {
            outline
                .levels
                .push(line.chars().take_while(|c| *c == '#').count());
        }
    }
    outline
}

/// Relative links in the pages lead to files that exist.
pub fn links_resolve() -> Vec<String> {
    let root = workspace();
    let mut complaints = Vec::new();
    let mut pages = files(&["docs", "examples"], &["md"]);
    for name in [
        "README.md",
        "README.ko.md",
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
        "SPECIFICATION.md",
    ] {
        match std::fs::read_to_string(root.join(name)) {
            Ok(text) => pages.push(super::SourceFile {
                path: name.to_owned(),
                text,
            }),
            Err(error) => complaints.push(format!("{name}: {error}")),
        }
    }
    for page in &pages {
        let folder = root
            .join(&page.path)
            .parent()
            .map(ToOwned::to_owned)
            .unwrap_or_default();
        for link in page
            .text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next())
        {
            let target = link.split('#').next().unwrap_or_default();
            let outside =
                target.is_empty() || target.contains("://") || target.starts_with("mailto:");
            if !outside && !folder.join(target).exists() {
                complaints.push(format!("{}: dead link {link}", page.path));
            }
        }
    }
    complaints
}

/// ARCHITECTURE.md has a row for every crate.
pub fn architecture_names_crates() -> Vec<String> {
    let page = std::fs::read_to_string(workspace().join("ARCHITECTURE.md")).unwrap_or_default();
    let Ok(entries) = std::fs::read_dir(workspace().join("crates")) else {
        return vec!["no crates/".into()];
    };
    entries
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| !page.contains(&format!("| `{name}` |")))
        .map(|name| format!("ARCHITECTURE.md: no row for crates/{name}"))
        .collect()
}
