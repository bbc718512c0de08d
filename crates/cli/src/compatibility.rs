//! The parts of docs/compatibility.md that are made from tables of the program: a test holds the page against them.
//! `KETCH_WRITE_PAGES=1 cargo test -p ketch-cli compatibility` writes it anew.

use std::fmt::Write;
use std::path::Path;

use crate::command::Command;
use crate::commands;

/// Makes the text of a part of the page.
type Make = fn() -> String;

/// The parts, by the crate that each is made from.
const PARTS: [(&str, Make); 3] = [
    ("crates/cli", tables),
    ("crates/compose", refused_keys),
    ("crates/cli/src/runtime", runtime_verbs),
];

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
    visible_flags(&command.parser())
}

fn visible_flags(parser: &clap::Command) -> Vec<String> {
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

/// Every verb of the OCI runtime command with its flags.
fn runtime_verbs() -> String {
    let mut text = String::from("| verb | | flags |\n|---|---|---|\n");
    let _ = writeln!(
        text,
        "| (before the verb) | partly: `--criu` is refused by name | {} |",
        visible_flags(&crate::runtime::grammar()).join(" ")
    );
    for verb in crate::runtime::grammar().get_subcommands() {
        let status = match crate::runtime::REFUSED.contains(&verb.get_name()) {
            true => "no",
            false => "yes",
        };
        let flags = visible_flags(verb).join(" ");
        let _ = writeln!(text, "| `{}` | {status} | {flags} |", verb.get_name());
    }
    text
}

fn refused_keys() -> String {
    let keys: Vec<String> = ketch_compose::REFUSED_SERVICE_KEYS
        .iter()
        .map(|key| format!("`{key}`"))
        .collect();
    format!("{}.\n", keys.join(", "))
}

#[test]
fn the_compatibility_page_tells_the_truth() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/compatibility.md");
    let page = std::fs::read_to_string(&path).expect("docs/compatibility.md");
    let mut wanted = page.clone();
    for (origin, make) in PARTS {
        let (begin, end) = (mark(origin, "begin"), mark(origin, "end"));
        let (before, rest) = wanted.split_once(&begin).expect("the begin mark");
        let (_, after) = rest.split_once(&end).expect("the end mark");
        wanted = format!("{before}{begin}{}{end}{after}", make());
    }
    if std::env::var_os("KETCH_WRITE_PAGES").is_some() {
        std::fs::write(&path, wanted).expect("write the page");
        return;
    }
    assert!(
        page == wanted,
        "docs/compatibility.md is behind: run KETCH_WRITE_PAGES=1 cargo test -p ketch-cli compatibility"
    );
}

fn mark(origin: &str, which: &str) -> String {
    format!("<!-- made from {origin}: {which} -->\n")
}
