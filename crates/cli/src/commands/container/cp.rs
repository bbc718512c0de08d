//! `ketch cp`: files between a container and the host.

use std::io::{self, Write};
use std::path::PathBuf;

use ketch_engine::container;
use ketch_engine::container::copy::{self, CopyOptions};

use crate::command::{Arity, Command, Outcome, Verb};
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::output;

/// The command.
pub const COMMAND: Command = Command {
    names: &["container cp", "cp"],
    usage: "[OPTIONS] CONTAINER:SRC_PATH DEST_PATH|-\n[OPTIONS] SRC_PATH|- CONTAINER:DEST_PATH",
    about: "Copy files/folders between a container and the local filesystem",
    details: "Use '-' as the source to read a tar archive from stdin\nand extract it to a directory destination in a container.\nUse '-' as the destination to stream a tar archive of a\ncontainer source to stdout.",
    arity: Arity::Exactly(2),
    ..Command::of::<Args>()
};

#[derive(clap::Args)]
struct Args {
    /// Archive mode (copy all uid/gid information)
    #[arg(short, long)]
    archive: bool,
    /// Always follow symbol link in SRC_PATH
    #[arg(short = 'L', long)]
    follow_link: bool,
    /// Suppress progress output during copy
    #[arg(short, long)]
    quiet: bool,
}

/// One side of a copy.
#[derive(Debug, PartialEq, Eq)]
enum Side<'a> {
    /// A path in a container.
    Container {
        /// Name or id.
        name: &'a str,
        /// Path in it; relative ones begin at its root.
        path: &'a str,
    },
    /// Standard input or output.
    Stream,
    /// A path of the host.
    Host(&'a str),
}

impl<'a> Side<'a> {
    /// A text with a colon names a container, unless it begins like a path.
    fn new(text: &'a str) -> Self {
        match text.split_once(':') {
            Some((name, path)) if !text.starts_with(['/', '.']) => Self::Container { name, path },
            _ if text == "-" => Self::Stream,
            _ => Self::Host(text),
        }
    }
}

impl Verb for Args {
    fn run(self, context: &Context, operands: Vec<String>) -> Outcome {
        let options = CopyOptions {
            follow_link: self.follow_link,
            archive: self.archive,
        };
        let tells = !self.quiet && rustix::termios::isatty(io::stderr());
        let (from, to) = (Side::new(&operands[0]), Side::new(&operands[1]));
        // Docker's client says what is wrong before it looks for an engine.
        match (&from, &to) {
            (Side::Container { .. }, Side::Container { .. }) => {
                return Err(Failure::usage(
                    "copying between containers is not supported",
                ));
            }
            (Side::Host(_) | Side::Stream, Side::Host(_) | Side::Stream) => {
                return Err(Failure::usage("must specify at least one container source"));
            }
            _ => {}
        }
        let engine = context.engine()?;
        let bytes = match (from, to) {
            (Side::Container { name, path }, Side::Host(target)) => {
                copy::copy_to_host(engine, name, path, &absolute(target)?, options)?
            }
            (Side::Host(source), Side::Container { name, path }) => {
                copy::copy_from_host(engine, &absolute(source)?, name, path, options)?
            }
            (Side::Container { name, path }, _) => {
                let mut out = io::BufWriter::with_capacity(1 << 16, io::stdout());
                container::copy_out(engine, name, path, self.follow_link, &mut out)?;
                out.flush().map_err(Failure::stdout)?;
                return Ok(Exit::SUCCESS);
            }
            (_, Side::Container { name, path }) => {
                container::copy_in(engine, name, path, options, &mut io::stdin())?;
                return Ok(Exit::SUCCESS);
            }
            _ => return Ok(Exit::SUCCESS),
        };
        if tells {
            let size = ketch_spec::size::human(bytes);
            output::warn(&format!("Successfully copied {size} to {}", operands[1]));
        }
        Ok(Exit::SUCCESS)
    }
}

/// The path from the root on, its end as typed: `/` and `/.` there have a meaning.
fn absolute(path: &str) -> Result<PathBuf, Failure> {
    let cwd = std::env::current_dir().map_err(|source| Failure::File {
        action: "getcwd",
        path: ".".into(),
        source,
    })?;
    Ok(cwd.join(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_colon_names_a_container_unless_the_text_begins_like_a_path() {
        assert_eq!(
            Side::new("box:/etc"),
            Side::Container {
                name: "box",
                path: "/etc"
            }
        );
        assert_eq!(
            Side::new("box:a:b"),
            Side::Container {
                name: "box",
                path: "a:b"
            }
        );
        assert_eq!(Side::new("./a:b"), Side::Host("./a:b"));
        assert_eq!(Side::new("/a:b"), Side::Host("/a:b"));
        assert_eq!(Side::new("-"), Side::Stream);
        assert_eq!(Side::new("file"), Side::Host("file"));
    }

    #[test]
    fn the_end_of_a_path_is_kept() {
        assert!(
            absolute("dir/")
                .unwrap()
                .to_string_lossy()
                .ends_with("dir/")
        );
        assert!(
            absolute("dir/.")
                .unwrap()
                .to_string_lossy()
                .ends_with("dir/.")
        );
    }
}
