//! `ketch compose`: applications of services. The word `compose` is itself a command: it reads the flags that stand
//! before its own commands, finds the command, and runs it.

use std::fmt::Write;

use crate::command::Command;

mod attached;
mod build;
mod config;
mod containers;
mod create;
mod down;
mod entry;
mod exec;
mod follow;
mod globals;
mod images;
mod kill;
mod list;
mod logs;
mod observed;
mod options;
mod pause;
mod port;
mod progress;
mod project;
mod ps;
mod pull;
mod push;
mod restart;
mod rm;
mod run;
mod scale;
mod start;
mod stop;
mod top;
mod unpause;
mod up;
mod version;
mod volumes;
mod wait;

pub use globals::Globals;

/// All of them.
pub const COMMANDS: &[&Command] = &[
    &build::COMMAND,
    &config::COMMAND,
    &create::COMMAND,
    &down::COMMAND,
    &entry::COMMAND,
    &exec::COMMAND,
    &images::COMMAND,
    &kill::COMMAND,
    &list::COMMAND,
    &logs::COMMAND,
    &pause::COMMAND,
    &port::COMMAND,
    &ps::COMMAND,
    &pull::COMMAND,
    &push::COMMAND,
    &restart::COMMAND,
    &rm::COMMAND,
    &run::COMMAND,
    &scale::COMMAND,
    &start::COMMAND,
    &stop::COMMAND,
    &top::COMMAND,
    &unpause::COMMAND,
    &up::COMMAND,
    &version::COMMAND,
    &volumes::COMMAND,
    &wait::COMMAND,
];

/// Docker Compose's commands that this version does not have.
const REFUSED: [&str; 11] = [
    "alpha", "attach", "bridge", "commit", "cp", "events", "export", "publish", "stats", "viz",
    "watch",
];

/// The page that lists them.
fn page() -> String {
    let mut text = "Usage:  ketch compose [OPTIONS] COMMAND\n\nDefine and run multi-container applications\n\nCommands:\n".to_owned();
    let mut rows: Vec<(&str, &str)> = COMMANDS
        .iter()
        .filter_map(|command| Some((command.names[0].strip_prefix("compose ")?, command.about)))
        .collect();
    rows.sort_unstable();
    for (name, about) in rows {
        let _ = writeln!(text, "  {name:11} {about}");
    }
    text.push_str("\nRun 'ketch compose COMMAND --help' for more information on a command.\n");
    text
}
