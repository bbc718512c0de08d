//! `ketch run`: create, start, and stay with the container unless it is detached.

use ketch_engine::container::{self, AttachStreams, CreateRequest, StartOptions};
use ketch_spec::detach_keys;

use crate::command::{Arity, Command, Outcome, Verb};
use crate::context::Context;
use crate::create::{CreateFlags, Stream};
use crate::failure::{Exit, Failure};
use crate::session::{self, Ended, Prepared};
use crate::{output, terminal};

use super::create::{self, CidFile};

/// The command.
pub const COMMAND: Command = Command {
    names: &["container run", "run"],
    usage: "[OPTIONS] IMAGE [COMMAND] [ARG...]",
    about: "Create and run a new container from an image",
    arity: Arity::AtLeast(1),
    interspersed: false,
    short_help: false,
    refused: create::REFUSED,
    ..Command::of::<Args>()
};

#[derive(clap::Args)]
struct Args {
    /// Run container in background and print container ID
    #[arg(short, long)]
    detach: bool,
    /// Proxy received signals to the process
    #[arg(long, default_value = "true", action = clap::ArgAction::Set)]
    sig_proxy: bool,
    /// Override the key sequence for detaching a container
    #[arg(long, value_name = "string")]
    detach_keys: Option<String>,
    #[command(flatten)]
    create: CreateFlags,
}

impl Verb for Args {
    fn run(self, context: &Context, operands: Vec<String>) -> Outcome {
        let streams = self.streams()?;
        let (quiet, cidfile) = (self.create.quiet, self.create.cidfile.clone());
        let keys = keys(context, self.detach_keys.as_deref())?;
        let (detach, sig_proxy) = (self.detach, self.sig_proxy);
        let cidfile = cidfile.as_deref().map(CidFile::claim).transpose()?;
        let mut request = create::request(context, self.create, operands)?;
        request.stdin_once = !detach && streams.stdin;
        if detach {
            return detached(context, request, quiet, cidfile);
        }
        let (tty, image) = (request.tty, request.image.clone());
        let engine = context.engine()?;
        let created = create::create(engine, request, quiet).map_err(Failure::Start)?;
        if let Some(file) = cidfile {
            file.write(&created)?;
        }
        let session = Prepared::new(session::Options {
            tty,
            stdin: streams.stdin,
            proxy_signals: sig_proxy,
            detach_keys: keys,
            redraw: false,
        })
        .map_err(|source| Failure::Stream {
            stream: "signals",
            source,
        })?;
        let size = if tty { terminal::session_size() } else { None };
        let options = StartOptions {
            attach: Some(streams),
            size,
        };
        let attached =
            container::start(engine, created.id.as_str(), options).map_err(Failure::Start)?;
        let Some(attached) = attached else {
            return Err(Failure::usage(format!(
                "the container of {image} started without its streams"
            )));
        };
        finish(context, session.run(attached.stream), created.id.short())
    }
}

fn detached(
    context: &Context,
    request: CreateRequest,
    quiet: bool,
    cidfile: Option<CidFile<'_>>,
) -> Outcome {
    let engine = context.engine()?;
    let created = create::create(engine, request, quiet).map_err(Failure::Start)?;
    if let Some(file) = cidfile {
        file.write(&created)?;
    }
    container::start(engine, created.id.as_str(), StartOptions::default())
        .map_err(Failure::Start)?;
    output::print_line(created.id.as_str())?;
    Ok(Exit::SUCCESS)
}

/// The exit code after a session with `container`.
pub fn finish(context: &Context, ended: std::io::Result<Ended>, container: &str) -> Outcome {
    match ended.map_err(Failure::stdout)? {
        Ended::Exited(record) => {
            if !record.error.is_empty() {
                output::warn(&record.error);
            }
            Ok(Exit::from_code(record.code))
        }
        Ended::Detached => {
            output::warn("read escape sequence");
            Ok(Exit::SUCCESS)
        }
        Ended::Signalled(signal) => Ok(Exit::from_signal(signal)),
        Ended::Lost => {
            output::warn(&session::lost_message(
                container,
                &context.options().run_root,
            ));
            Ok(Exit(255))
        }
    }
}

/// The detach sequence: the flag's, else the configured one, else Docker's.
pub fn keys(context: &Context, flag: Option<&str>) -> Result<Vec<u8>, Failure> {
    let configured = context.config()?.detach_keys.as_deref();
    let given = |text: &&str| !text.is_empty();
    let text = flag
        .filter(given)
        .or(configured.filter(given))
        .unwrap_or(detach_keys::DEFAULT);
    detach_keys::parse(text)
        .map_err(|reason| Failure::request(format!("invalid detach keys ({text}): {reason}")))
}

impl Args {
    fn streams(&self) -> Result<AttachStreams, Failure> {
        let attach = &self.create.attach;
        if self.detach {
            if !attach.is_empty() {
                return Err(Failure::usage(
                    "conflicting options: cannot specify both --attach and --detach",
                ));
            }
            return Ok(AttachStreams::default());
        }
        let wants = |stream| attach.contains(&stream);
        let streams = if attach.is_empty() {
            AttachStreams {
                stdin: self.create.interactive(),
                stdout: true,
                stderr: true,
            }
        } else {
            AttachStreams {
                stdin: wants(Stream::Stdin) || self.create.interactive(),
                stdout: wants(Stream::Stdout),
                stderr: wants(Stream::Stderr),
            }
        };
        check_terminal(streams.stdin, self.create.tty())?;
        Ok(streams)
    }
}

/// `-it` with an input that is no terminal is refused, as Docker does.
pub fn check_terminal(stdin: bool, tty: bool) -> Result<(), Failure> {
    if stdin && tty && !rustix::termios::isatty(std::io::stdin()) {
        return Err(Failure::usage("the input device is not a TTY"));
    }
    Ok(())
}
