//! The table of all commands. One file a command; a command file has its flags, one or two engine calls, and what
//! it prints.

use crate::command::Command;

pub mod api;
pub mod compose;
pub mod container;
pub mod image;
pub mod network;
pub mod registry;
pub mod system;
pub mod volume;

/// Groups of commands, with what each is for.
pub const GROUPS: [(&str, &str); 8] = [
    ("api", "Serve the Engine API"),
    ("builder", "Manage builds"),
    ("container", "Manage containers"),
    ("image", "Manage images"),
    (
        "manifest",
        "Manage Docker image manifests and manifest lists",
    ),
    ("network", "Manage networks"),
    ("system", "Manage the engine"),
    ("volume", "Manage volumes"),
];

/// Docker's commands that this version does not have: refused by name.
pub const REFUSED: [&str; 20] = [
    "bake",
    "builder prune",
    "buildx",
    "checkpoint",
    "config",
    "container stats",
    "container update",
    "context",
    "node",
    "plugin",
    "scout",
    "secret",
    "service",
    "stack",
    "stats",
    "swarm",
    "system dial-stdio",
    "trust",
    "update",
    "volume update",
];

/// Every command.
pub fn all() -> impl Iterator<Item = &'static Command> {
    [
        api::COMMANDS,
        compose::COMMANDS,
        container::COMMANDS,
        image::COMMANDS,
        volume::COMMANDS,
        network::COMMANDS,
        registry::COMMANDS,
        system::COMMANDS,
    ]
    .into_iter()
    .flatten()
    .copied()
}

/// The command with the name `words`: `["container", "ls"]`.
pub fn find(words: &[&str]) -> Option<&'static Command> {
    all().find(|command| {
        command
            .names
            .iter()
            .any(|name| name.split(' ').eq(words.iter().copied()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_unique_and_groups_are_known() {
        let mut seen = BTreeSet::new();
        for command in all() {
            assert!(!command.names.is_empty() && !command.about.is_empty());
            for name in command.names {
                assert!(seen.insert(*name), "{name} twice");
                if let Some((group, _)) = name.split_once(' ') {
                    assert!(
                        GROUPS.iter().any(|(known, _)| *known == group) || group == "compose",
                        "{name}"
                    );
                }
            }
        }
        assert!(
            REFUSED
                .iter()
                .all(|name| find(&name.split(' ').collect::<Vec<_>>()).is_none())
        );
    }

    #[test]
    fn every_parser_is_sound() {
        for command in all() {
            command.parser().debug_assert();
        }
    }
}
