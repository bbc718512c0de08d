//! The command line of `ketch monitor`, which only the engine writes.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use ketch_engine::container::control::AttachStreams;
use ketch_spec::Id;

/// What the engine asks of a monitor.
#[derive(Debug, Clone)]
pub struct Arguments {
    /// The container.
    pub id: Id,
    /// Persistent state.
    pub data_root: PathBuf,
    /// State that is gone at boot.
    pub run_root: PathBuf,
    /// Our own program, for the container's reaper (`--init`).
    pub executable: PathBuf,
    /// Descriptor 4 is a client that is attached from the first byte, with these streams.
    pub attach: Option<AttachStreams>,
    /// Size of the container's terminal: rows, columns.
    pub size: Option<(u16, u16)>,
}

/// Why a command line is none.
#[derive(Debug, thiserror::Error)]
pub enum ArgumentError {
    /// An unknown flag, or one without its value.
    #[error("unknown or incomplete option {0:?}")]
    Option(OsString),
    /// A value that makes no sense.
    #[error("invalid value {value:?} of {option}")]
    Value {
        /// The option.
        option: &'static str,
        /// Its value.
        value: OsString,
    },
    /// Something is missing.
    #[error("{0} is missing")]
    Missing(&'static str),
}

impl Arguments {
    /// Reads what follows the word `monitor`:
    /// `[--attach stdin,stdout,stderr] [--size ROWSxCOLUMNS] [--secrets] --data-root DIR --run-root DIR --executable FILE ID`.
    ///
    /// # Errors
    /// What is unknown, wrong or missing.
    pub fn parse(mut words: impl Iterator<Item = OsString>) -> Result<Self, ArgumentError> {
        let (mut id, mut data_root, mut run_root, mut executable) = (None, None, None, None);
        let (mut attach, mut size) = (None, None);
        while let Some(word) = words.next() {
            let mut value = || {
                words
                    .next()
                    .ok_or_else(|| ArgumentError::Option(word.clone()))
            };
            match word.to_str() {
                Some("--data-root") => data_root = Some(PathBuf::from(value()?)),
                Some("--run-root") => run_root = Some(PathBuf::from(value()?)),
                Some("--executable") => executable = Some(PathBuf::from(value()?)),
                Some("--attach") => attach = Some(read("--attach", value()?, streams)?),
                Some("--size") => size = Some(read("--size", value()?, rows_and_columns)?),
                // Says that descriptor 7 was handed over: see [`names`].
                Some("--secrets") => {}
                Some(text) if !text.starts_with('-') => {
                    id = Some(read("the id", word, |text| text.parse().ok())?)
                }
                _ => return Err(ArgumentError::Option(word)),
            }
        }
        Ok(Self {
            id: id.ok_or(ArgumentError::Missing("the id"))?,
            data_root: data_root.ok_or(ArgumentError::Missing("--data-root"))?,
            run_root: run_root.ok_or(ArgumentError::Missing("--run-root"))?,
            executable: executable.ok_or(ArgumentError::Missing("--executable"))?,
            attach,
            size,
        })
    }
}

fn read<T>(
    option: &'static str,
    value: OsString,
    parse: impl Fn(&str) -> Option<T>,
) -> Result<T, ArgumentError> {
    value
        .to_str()
        .and_then(parse)
        .ok_or(ArgumentError::Value { option, value })
}

fn streams(text: &str) -> Option<AttachStreams> {
    let mut streams = AttachStreams::default();
    for name in text.split(',').filter(|name| !name.is_empty()) {
        match name {
            "stdin" => streams.stdin = true,
            "stdout" => streams.stdout = true,
            "stderr" => streams.stderr = true,
            _ => return None,
        }
    }
    Some(streams)
}

fn rows_and_columns(text: &str) -> Option<(u16, u16)> {
    let (rows, columns) = text.split_once('x')?;
    Some((rows.parse().ok()?, columns.parse().ok()?))
}

/// Whether `option` is given, asked before the arguments are read in full: descriptors must be taken early.
pub fn names(words: &[OsString], option: &str) -> bool {
    words.iter().any(|word| word == OsStr::new(option))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Arguments, ArgumentError> {
        Arguments::parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn reads_all_of_it() {
        let id = "a".repeat(64);
        let arguments = parse(&format!(
            "--attach stdin,stderr --size 24x80 --data-root /d --run-root /r --executable /k {id}"
        ));
        let arguments = arguments.expect("arguments");
        assert_eq!(arguments.id.as_str(), id);
        let attach = arguments.attach.expect("attach");
        assert!(attach.stdin && !attach.stdout && attach.stderr);
        assert_eq!(arguments.size, Some((24, 80)));
        assert_eq!(
            (arguments.data_root, arguments.run_root),
            ("/d".into(), "/r".into())
        );
        assert_eq!(arguments.executable, PathBuf::from("/k"));
    }

    #[test]
    fn says_what_is_wrong() {
        let id = "a".repeat(64);
        assert!(
            parse(&id)
                .expect_err("roots")
                .to_string()
                .contains("--data-root")
        );
        assert!(
            parse("--data-root /d --run-root /r --executable /k")
                .expect_err("id")
                .to_string()
                .contains("the id")
        );
        assert!(
            parse("--data-root /d --run-root /r xyz")
                .expect_err("id")
                .to_string()
                .contains("xyz")
        );
        assert!(
            parse("--attach stdfoo")
                .expect_err("stream")
                .to_string()
                .contains("stdfoo")
        );
        assert!(
            parse("--fast")
                .expect_err("flag")
                .to_string()
                .contains("--fast")
        );
        assert!(
            parse("--data-root")
                .expect_err("value")
                .to_string()
                .contains("--data-root")
        );
    }
}
