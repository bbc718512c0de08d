//! The part of docs/compatibility.md that is made from the table of commands: a test holds the page against it.
//! `KETCH_WRITE_PAGES=1 cargo test -p ketch-cli compatibility` writes it anew.

use std::fmt::Write;
use std::path::Path;

use crate::command::Command;
use crate::commands;

const BEGIN: &str = "<!-- made from crates/cli: begin -->\n";
const END: &str = "<!-- made from crates/cli: end -->\n";

/// Every command with its flags.
fn tables() -> String {
    let mut all: Vec<&Command> = commands::all().collect();
    all.sort_by_key(|command| command.names[0]);
    let mut text =
        String::from("| command | | flags that work | refused by name |\n|---|---|---|---|\n");
    for command in all {
        let names: Vec<String> = command
            .names
            .iter()
            .map(|name| format!("`{name}`"))
            .collect();
        let refused: Vec<String> = command
            .refused
            .iter()
            .map(|flag| format!("`--{}`", flag.long))
            .collect();
        let status = if refused.is_empty() { "yes" } else { "partly" };
        let _ = writeln!(
            text,
            "| {} | {status} | {} | {} |",
            names.join(", "),
            flags(command).join(" "),
            refused.join(" ")
        );
    }
    for name in commands::REFUSED {
        let _ = writeln!(text, "| `{name}` | no | | |");
    }
    text
}

fn flags(command: &Command) -> Vec<String> {
    let parser = command.parser();
    let visible = parser.get_arguments().filter(|arg| !arg.is_hide_set());
    let mut flags: Vec<String> = visible
        .filter_map(|arg| {
            let long = arg.get_long().filter(|long| *long != "help")?;
            let short = arg
                .get_short()
                .map_or_else(String::new, |short| format!("`-{short}` "));
            Some(format!("{short}`--{long}`"))
        })
        .collect();
    flags.sort();
    flags
}

#[test]
fn the_compatibility_page_tells_the_truth() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/compatibility.md");
    let page = std::fs::read_to_string(&path).expect("docs/compatibility.md");
    let (before, rest) = page.split_once(BEGIN).expect("the begin mark");
    let (made, after) = rest.split_once(END).expect("the end mark");
    let wanted = tables();
    if std::env::var_os("KETCH_WRITE_PAGES").is_some() {
        std::fs::write(&path, format!("{before}{BEGIN}{wanted}{END}{after}"))
            .expect("write the page");
        return;
    }
    assert!(
        made == wanted,
        "docs/compatibility.md is behind: run KETCH_WRITE_PAGES=1 cargo test -p ketch-cli compatibility"
    );
}
