//! Checks of Rust sources and manifests.

use super::{SourceFile, files};

const MAX_FILE_LINES: usize = 600;
const MAX_FUNCTION_LINES: usize = 70;

fn rust() -> Vec<SourceFile> {
    files(&["crates", "tests", "fuzz", "xtask"], &["rs"])
}

/// Each external dependency of the workspace stands below a comment that says why it is there.
pub fn dependencies_have_a_reason() -> Vec<String> {
    let manifest =
        std::fs::read_to_string(crate::shell::workspace().join("Cargo.toml")).unwrap_or_default();
    let section = manifest
        .split("[workspace.dependencies]")
        .nth(1)
        .unwrap_or_default();
    let section = section.split("\n[").next().unwrap_or_default();
    let mut complaints = Vec::new();
    let mut reason = false;
    for line in section.lines() {
        match line.trim() {
            "" => reason = false,
            line if line.starts_with('#') => reason = true,
            line if line.starts_with("ketch-") => {}
            line if !reason => complaints.push(format!("Cargo.toml: no reason above `{line}`")),
            _ => {}
        }
    }
    complaints
}

/// `unsafe` appears in crates/sys only.
pub fn unsafe_stays_in_sys() -> Vec<String> {
    let mut complaints = Vec::new();
    for file in rust()
        .iter()
        .filter(|file| !file.path.starts_with("crates/sys/"))
    {
        for (number, line) in file.text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            // in two halves, or this file would accuse itself
            let marks = [
                concat!("uns", "afe {"),
                concat!("uns", "afe fn"),
                concat!("allow(uns", "afe_code)"),
            ];
            if marks.iter().any(|mark| code.contains(mark)) {
                complaints.push(format!(
                    "{}:{}: unsafe outside crates/sys",
                    file.path,
                    number + 1
                ));
            }
        }
    }
    complaints
}

/// Files stay under 600 lines and functions under 70. Tests are tables and stories, and may be longer.
pub fn lengths() -> Vec<String> {
    let is_test = |path: &str| {
        path.starts_with("tests/") || path.contains("/tests/") || path.ends_with("tests.rs")
    };
    let mut complaints = Vec::new();
    for file in rust().into_iter().filter(|file| !is_test(&file.path)) {
        let lines: Vec<&str> = file.text.lines().collect();
        if lines.len() > MAX_FILE_LINES {
            complaints.push(format!("{}: {} lines", file.path, lines.len()));
        }
        complaints.extend(long_functions(&file.path, &lines));
    }
    complaints
}

fn long_functions(path: &str, lines: &[&str]) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut open: Option<(usize, usize)> = None;
    for (number, line) in lines.iter().enumerate() {
        let indent = line.len() - line.trim_start().len();
        match open {
            None if is_function(line.trim_start()) && !ends_on_its_line(line) => {
                open = Some((number, indent))
            }
            Some((start, depth)) if indent == depth && line.trim_start().starts_with('}') => {
                let length = number - start + 1;
                if length > MAX_FUNCTION_LINES {
                    let name = lines[start].trim();
                    complaints.push(format!("{path}:{}: {length} lines in `{name}`", start + 1));
                }
                open = None;
            }
            _ => {}
        }
    }
    complaints
}

/// A declaration without a body, or a body on one line.
fn ends_on_its_line(line: &str) -> bool {
    let line = line.trim_end();
    line.ends_with(';') || (line.contains('{') && line.ends_with('}'))
}

fn is_function(line: &str) -> bool {
    let mut rest = line;
    for prefix in ["pub(crate) ", "pub(super) ", "pub ", "const ", "unsafe "] {
        rest = rest.strip_prefix(prefix).unwrap_or(rest);
    }
    rest.starts_with("fn ")
}

/// No macro or mark of unfinished work.
pub fn nothing_unfinished() -> Vec<String> {
    let macros = [concat!("to", "do!("), concat!("unimpl", "emented!(")];
    // In comments: other people's formats have words of their own.
    let words = [concat!("FIX", "ME"), concat!("TO", "DO")];
    let mut complaints = Vec::new();
    for file in rust() {
        for (number, line) in file.text.lines().enumerate() {
            let comment = line.split_once("//").map_or("", |(_, comment)| comment);
            let macros = macros.iter().filter(|mark| line.contains(**mark));
            let words = words.iter().filter(|mark| comment.contains(**mark));
            if let Some(mark) = macros.chain(words).next() {
                complaints.push(format!("{}:{}: {mark}", file.path, number + 1));
            }
        }
    }
    complaints
}

/// Tests wait on events with a deadline; a sleep makes them slow or flaky.
pub fn tests_do_not_sleep() -> Vec<String> {
    let mut complaints = Vec::new();
    for file in files(&["crates", "tests", "fuzz"], &["rs"]) {
        let tests_from = match file.path.contains("/tests/") || file.path.starts_with("tests/") {
            true => 0,
            false => file.text.find("#[cfg(test)]").unwrap_or(file.text.len()),
        };
        if file.text[tests_from..].contains("thread::sleep") {
            complaints.push(format!("{}: a test sleeps", file.path));
        }
    }
    complaints
}

#[cfg(test)]
mod tests {
    use super::long_functions;

    #[test]
    fn a_long_function_is_found_and_a_short_one_is_not() {
        let mut text = String::from("    pub fn long() {\n");
        text.push_str(&"        work();\n".repeat(70));
        text.push_str("    }\n    fn short() { work() }\n");
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            long_functions("x.rs", &lines),
            ["x.rs:1: 72 lines in `pub fn long() {`"]
        );
    }
}
