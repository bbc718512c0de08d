//! Help texts in Docker's layout: usage, what it does, aliases, options.

use std::fmt::Write;

use crate::command::Command;
use crate::commands;
use crate::failure::Failure;
use crate::output;

/// Columns of help texts on something that is not a terminal.
const DEFAULT_COLUMNS: usize = 80;

/// The usage line of a command called as `invocation`.
pub fn usage(command: &Command, invocation: &str) -> String {
    let lines: Vec<String> = command
        .usage
        .lines()
        .map(|line| format!("{invocation} {line}").trim_end().to_owned())
        .collect();
    format!(
        "Usage:  {}",
        if lines.is_empty() {
            invocation.to_owned()
        } else {
            lines.join("\n\t")
        }
    )
}

/// Prints the help of one command.
///
/// # Errors
/// Writing.
pub fn command(command: &Command, invocation: &str) -> Result<(), Failure> {
    let mut text = format!("{}\n\n{}\n", usage(command, invocation), command.about);
    if !command.details.is_empty() {
        let _ = write!(text, "\n{}\n", command.details);
    }
    if command.names.len() > 1 {
        let names: Vec<String> = command
            .names
            .iter()
            .map(|name| format!("ketch {name}"))
            .collect();
        let _ = write!(text, "\nAliases:\n  {}\n", names.join(", "));
    }
    let options = options(command);
    if !options.is_empty() {
        let _ = write!(text, "\nOptions:\n{options}");
    }
    output::print(&text)
}

fn options(command: &Command) -> String {
    let parser = command.parser();
    let mut rows: Vec<(String, String, String)> = Vec::new();
    for arg in parser
        .get_arguments()
        .filter(|arg| !arg.is_hide_set() && !arg.is_positional())
    {
        let Some(long) = arg.get_long() else { continue };
        if long == "help" {
            continue;
        }
        let short = arg
            .get_short()
            .map_or("    ".to_owned(), |short| format!("-{short}, "));
        let boolean = arg.get_value_parser().type_id() == std::any::TypeId::of::<bool>();
        let kind = match arg.get_value_names() {
            Some([name, ..]) if !boolean => format!(" {}", name.to_lowercase()),
            _ => String::new(),
        };
        let about = arg.get_help().map(ToString::to_string).unwrap_or_default();
        rows.push((long.to_owned(), format!("  {short}--{long}{kind}"), about));
    }
    rows.sort();
    let column = rows.iter().map(|row| row.1.len()).max().unwrap_or(0) + 3;
    let width = columns().saturating_sub(column).max(24);
    let mut text = String::new();
    for (_, flag, about) in rows {
        for (index, line) in wrap(&about, width).into_iter().enumerate() {
            let _ = writeln!(
                text,
                "{:column$}{line}",
                if index == 0 { flag.as_str() } else { "" }
            );
        }
    }
    text
}

/// Breaks at spaces so that lines have at most `width` characters.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let last = lines.last_mut().expect("there is a line");
        if last.is_empty() {
            last.push_str(word);
        } else if last.chars().count() + 1 + word.chars().count() <= width {
            last.push(' ');
            last.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}

fn columns() -> usize {
    crate::terminal::size(std::io::stdout())
        .map_or(DEFAULT_COLUMNS, |(_, columns)| usize::from(columns))
}

/// Commands that the first page shows first, in this order.
const COMMON: [&str; 9] = [
    "run", "exec", "ps", "build", "pull", "push", "images", "version", "info",
];

/// The page of the program itself.
pub fn top() -> String {
    let mut text =
        "Usage:  ketch [OPTIONS] COMMAND\n\nContainers without a daemon\n\nCommon Commands:\n"
            .to_owned();
    let row = |text: &mut String, name: &str, about: &str| {
        let _ = writeln!(text, "  {name:11} {about}");
    };
    for name in COMMON {
        if let Some(command) = commands::find(&[name]) {
            row(&mut text, name, command.about);
        }
    }
    text.push_str("\nManagement Commands:\n");
    for (group, about) in commands::GROUPS {
        row(&mut text, group, about);
    }
    row(
        &mut text,
        "runtime",
        "Make containers from OCI bundles, as runc does",
    );
    text.push_str("\nCommands:\n");
    let mut rest: Vec<(&str, &str)> = commands::all()
        .flat_map(|command| command.names.iter().map(move |name| (*name, command.about)))
        .filter(|(name, _)| !name.contains(' ') && !COMMON.contains(name))
        .collect();
    rest.sort_unstable();
    for (name, about) in rest {
        row(&mut text, name, about);
    }
    text.push_str(GLOBAL_OPTIONS);
    text.push_str("\nRun 'ketch COMMAND --help' for more information on a command.\n");
    text
}

const GLOBAL_OPTIONS: &str = "
Global Options:
      --config string      Directory of the client's config.json and credentials (DOCKER_CONFIG)
      --data-root string   Where images, containers and volumes are kept (KETCH_DATA_ROOT)
      --run-root string    Where state lives that a reboot ends (KETCH_RUN_ROOT)
  -D, --debug              Tell the causes of errors one a line
  -l, --log-level string   Messages to show (\"debug\", \"info\", \"warn\", \"error\", \"fatal\")
  -v, --version            Print version information and quit
";

/// The page of a group such as `image`; None if there is no such group.
pub fn group(name: &str) -> Option<String> {
    let (_, about) = commands::GROUPS.iter().find(|(group, _)| *group == name)?;
    let mut text = format!("Usage:  ketch {name} COMMAND\n\n{about}\n\nCommands:\n");
    let mut rows: Vec<(&str, &str)> = commands::all()
        .filter_map(|command| {
            let own = command
                .names
                .iter()
                .find_map(|full| full.strip_prefix(name)?.strip_prefix(' '))?;
            Some((own, command.about))
        })
        .collect();
    rows.sort_unstable();
    for (own, about) in rows {
        let _ = writeln!(text, "  {own:11} {about}");
    }
    let _ = write!(
        text,
        "\nRun 'ketch {name} COMMAND --help' for more information on a command.\n"
    );
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_descriptions_wrap_at_spaces() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("", 7), [""]);
        assert_eq!(wrap("unbreakable", 3), ["unbreakable"]);
    }

    #[test]
    fn groups_list_their_own_commands() {
        let text = group("volume").unwrap();
        assert!(text.contains("\n  create "), "{text}");
        assert!(!text.contains("rmi"), "{text}");
        assert!(group("nosuch").is_none());
    }
}
