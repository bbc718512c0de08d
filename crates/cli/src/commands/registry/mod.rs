//! Commands on registries.

use crate::command::Command;

mod login;
mod logout;
mod manifest;
mod search;
mod secret;

/// All of them.
pub const COMMANDS: &[&Command] = &[
    &login::COMMAND,
    &logout::COMMAND,
    &manifest::ANNOTATE,
    &manifest::CREATE,
    &manifest::INSPECT,
    &manifest::PUSH,
    &manifest::RM,
    &search::COMMAND,
];

/// The server as Docker's messages name it.
fn server_name(host: &str) -> &str {
    if host == ketch_spec::reference::DEFAULT_HOST {
        "https://index.docker.io/v1/"
    } else {
        host
    }
}
