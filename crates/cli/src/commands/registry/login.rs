//! `ketch login`.

use ketch_engine::registry::{self, LoginRequest, RegistryAccess, Saved};
use ketch_engine::{Error, ErrorKind};
use ketch_spec::reference::DEFAULT_HOST;

use super::{secret, server_name};
use crate::command::{Arity, Command, Outcome, Verb};
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::output;

/// The command.
pub const COMMAND: Command = Command {
    names: &["login"],
    usage: "[OPTIONS] [SERVER]",
    about: "Authenticate to a registry",
    details: "Defaults to Docker Hub if no server is specified.",
    arity: Arity::AtMost(1),
    ..Command::of::<Args>()
};

#[derive(clap::Args)]
struct Args {
    /// Password or Personal Access Token (PAT)
    #[arg(short, long, value_name = "string")]
    password: Option<String>,
    /// Take the Password or Personal Access Token (PAT) from stdin
    #[arg(long)]
    password_stdin: bool,
    /// Username
    #[arg(short, long, value_name = "string")]
    username: Option<String>,
}

const HUB_HELP: &str = "Log in with your Docker ID or email address to push and pull images from Docker Hub. If you don't have a Docker ID, head over to https://hub.docker.com/ to create one.
You can log in with your password or a Personal Access Token (PAT). Using a limited-scope PAT grants better security and is required for organizations using SSO. Learn more at https://docs.docker.com/go/access-tokens/
";

impl Verb for Args {
    fn run(self, context: &Context, operands: Vec<String>) -> Outcome {
        let password = self.password()?;
        let server = operands.first().map_or("", String::as_str);
        let host = registry::host_of_server(server)?;
        let access = context.registries();
        if self.username.is_none() && password.is_none() && with_known(&access, &host)? {
            output::print_line("Login Succeeded")?;
            return Ok(Exit::SUCCESS);
        }
        let user = self.credentials(&access, &host, password)?;
        let request = LoginRequest {
            host,
            user: Some(user),
        };
        let result = registry::login(&access, &request)?;
        if let Some(Saved::File(path)) = result.saved {
            output::warn(&format!(
                "\nWARNING! Your credentials are stored unencrypted in '{}'.\nConfigure a credential helper to remove this warning. See\nhttps://docs.docker.com/go/credential-store/\n",
                path.display()
            ));
        }
        output::print_line("Login Succeeded")?;
        Ok(Exit::SUCCESS)
    }
}

impl Args {
    /// The password of the flags, if any.
    fn password(&self) -> Result<Option<String>, Failure> {
        if self.password.is_some() {
            if self.password_stdin {
                return Err(Failure::usage(
                    "conflicting options: cannot specify both --password and --password-stdin",
                ));
            }
            output::warn(
                "WARNING! Using --password via the CLI is insecure. Use --password-stdin.",
            );
        }
        if !self.password_stdin {
            return Ok(self.password.clone());
        }
        if self.username.as_deref().is_none_or(str::is_empty) {
            return Err(Failure::usage(
                "the --password-stdin option requires --username to be set",
            ));
        }
        secret::from_stdin().map(Some)
    }

    /// User name and password, asked for as far as the flags do not say.
    fn credentials(
        &self,
        access: &RegistryAccess,
        host: &str,
        password: Option<String>,
    ) -> Result<(String, String), Failure> {
        let named = self.username.clone().filter(|name| !name.is_empty());
        if password.is_none() && !secret::can_ask() {
            return Err(Failure::usage(
                "Error: Cannot perform an interactive login from a non TTY device",
            ));
        }
        let user = match named {
            Some(user) => user,
            None => ask_user(access, host)?,
        };
        let password = match password {
            Some(password) => password,
            None => secret::ask_secret("Password: ")?,
        };
        if password.is_empty() {
            return Err(Failure::usage("Error: Password Required"));
        }
        Ok((user, password))
    }
}

fn ask_user(access: &RegistryAccess, host: &str) -> Result<String, Failure> {
    if host == DEFAULT_HOST {
        output::print_line(HUB_HELP)?;
    }
    let known = registry::known_user(access, host)?.filter(|user| !user.is_empty());
    let question = match &known {
        Some(user) => format!("Username ({user}): "),
        None => "Username: ".to_owned(),
    };
    let user = secret::ask(&question)?;
    match (user.is_empty(), known) {
        (false, _) => Ok(user),
        (true, Some(user)) => Ok(user),
        (true, None) => Err(Failure::usage("Error: Non-null Username Required")),
    }
}

/// Tries what is kept already; whether it was taken.
fn with_known(access: &RegistryAccess, host: &str) -> Result<bool, Failure> {
    let Some(user) = registry::known_user(access, host)? else {
        return Ok(false);
    };
    let name = if user.is_empty() { "<token>" } else { &user };
    output::print_line(&format!(
        "Authenticating with existing credentials... [Username: {name}]"
    ))?;
    output::print_line(
        "\ni Info → To login with a different account, run 'ketch logout' followed by 'ketch login'\n",
    )?;
    let request = LoginRequest {
        host: host.into(),
        user: None,
    };
    match registry::login(access, &request) {
        Ok(_) => Ok(true),
        // What is kept counts no longer: ask, if there is somebody to ask.
        Err(error) if error.kind == ErrorKind::Unauthorised && secret::can_ask() => {
            output::warn(&format!(
                "Login did not succeed, error: {}",
                refused_words(&error, host)
            ));
            Ok(false)
        }
        Err(error) => Err(error.into()),
    }
}

fn refused_words(error: &Error, host: &str) -> String {
    format!("{}: {error}", server_name(host))
}
