//! `ketch logs`.

use std::io::Write;

use jiff::Timestamp;
use ketch_engine::container::{self, LogOptions};

use crate::command::{Arity, Command, Outcome, Verb};
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::moment;

/// The command.
pub const COMMAND: Command = Command {
    names: &["container logs", "logs"],
    usage: "[OPTIONS] CONTAINER",
    about: "Fetch the logs of a container",
    arity: Arity::Exactly(1),
    ..Command::of::<Args>()
};

#[derive(clap::Args)]
struct Args {
    /// Show extra details provided to logs
    #[arg(long)]
    details: bool,
    /// Follow log output
    #[arg(short, long)]
    follow: bool,
    /// Show logs since timestamp (e.g. "2013-01-02T13:23:37Z") or relative (e.g. "42m" for 42 minutes)
    #[arg(long, value_name = "string")]
    since: Option<String>,
    /// Number of lines to show from the end of the logs
    #[arg(short = 'n', long, value_name = "string", default_value = "all")]
    tail: String,
    /// Show timestamps
    #[arg(short, long)]
    timestamps: bool,
    /// Show logs before a timestamp (e.g. "2013-01-02T13:23:37Z") or relative (e.g. "42m" for 42 minutes)
    #[arg(long, value_name = "string")]
    until: Option<String>,
}

impl Verb for Args {
    fn run(self, context: &Context, operands: Vec<String>) -> Outcome {
        let now = Timestamp::now();
        let moment = |what, text: &Option<String>| match text.as_deref() {
            None | Some("") => Ok(None),
            Some(text) => moment::parse(what, text, now).map(Some),
        };
        let options = LogOptions {
            follow: self.follow,
            since: moment("since", &self.since)?,
            until: moment("until", &self.until)?,
            // A number that is none means all, as with Docker.
            tail: self.tail.parse().ok(),
            ..LogOptions::default()
        };
        let reader = container::logs(context.engine()?, &operands[0], options)?;
        let mut out = std::io::stdout().lock();
        let mut err = std::io::stderr().lock();
        for line in reader {
            let line = line?;
            let mut text = Vec::with_capacity(line.bytes.len() + 40);
            if self.timestamps {
                let stamp = line.time.strftime("%Y-%m-%dT%H:%M:%S.%9fZ ").to_string();
                text.extend_from_slice(stamp.as_bytes());
            }
            if self.details {
                // There are no log attributes to show; Docker then prints one space.
                text.push(b' ');
            }
            text.extend_from_slice(&line.bytes);
            match line.stream {
                container::logs::LogStream::Stdout => {
                    out.write_all(&text).map_err(Failure::stdout)?
                }
                container::logs::LogStream::Stderr => {
                    err.write_all(&text).map_err(|source| Failure::Stream {
                        stream: "standard error",
                        source,
                    })?;
                }
            }
        }
        out.flush().map_err(Failure::stdout)?;
        Ok(Exit::SUCCESS)
    }
}
