//! Credential helpers: programs `docker-credential-NAME` that are told what to do by their argument, get the rest on
//! standard input, and answer on standard output (docker-credential-helpers).

use std::io::{self, Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Credentials, CredentialsError, FILE_MAX};

/// A helper may ask a human to unlock a keyring.
pub(super) const TIMEOUT: Duration = Duration::from_secs(60);
/// The user name that says that the secret is an identity token.
const TOKEN_USER: &str = "<token>";
/// What helpers say where they have nothing.
const NOT_FOUND: &str = "credentials not found";

#[derive(Deserialize)]
struct Found {
    #[serde(rename = "Username", default)]
    username: String,
    #[serde(rename = "Secret", default)]
    secret: String,
}

#[derive(Serialize)]
struct Given<'a> {
    #[serde(rename = "ServerURL")]
    server: &'a str,
    #[serde(rename = "Username")]
    username: &'a str,
    #[serde(rename = "Secret")]
    secret: &'a str,
}

/// What a helper knows of a key.
pub(super) fn get(name: &str, key: &str) -> Result<Option<Credentials>, CredentialsError> {
    let program = program(name)?;
    let Some(output) = ask(&program, "get", key.as_bytes())? else {
        return Ok(None);
    };
    let answer: Found =
        serde_json::from_slice(&output).map_err(|error| CredentialsError::HelperFailed {
            program,
            message: format!("its answer is not JSON: {error}"),
        })?;
    Ok(match answer.username.as_str() {
        "" => None,
        TOKEN_USER => Some(Credentials::Identity(answer.secret)),
        _ => Some(Credentials::Password {
            user: answer.username,
            password: answer.secret,
        }),
    })
}

/// Gives a helper something to keep; an identity token instead of user name and password where there is one.
pub(super) fn store(
    name: &str,
    key: &str,
    user: &str,
    password: &str,
    identity: Option<&str>,
) -> Result<(), CredentialsError> {
    let program = program(name)?;
    let given = Given {
        server: key,
        username: identity.map_or(user, |_| TOKEN_USER),
        secret: identity.unwrap_or(password),
    };
    let input = serde_json::to_vec(&given).map_err(|error| CredentialsError::HelperFailed {
        program: program.clone(),
        message: error.to_string(),
    })?;
    ask(&program, "store", &input).map(drop)
}

/// Makes a helper forget; false if it had nothing.
pub(super) fn erase(name: &str, key: &str) -> Result<bool, CredentialsError> {
    Ok(ask(&program(name)?, "erase", key.as_bytes())?.is_some())
}

fn program(name: &str) -> Result<String, CredentialsError> {
    let valid = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    if name.is_empty() || !name.bytes().all(valid) {
        return Err(CredentialsError::HelperName { name: name.into() });
    }
    Ok(format!("docker-credential-{name}"))
}

/// Runs a helper; None where it has nothing for the key.
fn ask(program: &str, verb: &str, input: &[u8]) -> Result<Option<Vec<u8>>, CredentialsError> {
    let (success, output, complaints) = run(program, verb, input)?;
    if success {
        return Ok(Some(output));
    }
    // By the protocol errors are told on standard output; not all helpers keep to it.
    let told = if output.trim_ascii().is_empty() {
        complaints
    } else {
        output
    };
    let message = crate::retry::clean_text(&String::from_utf8_lossy(&told));
    if message.contains(NOT_FOUND) {
        return Ok(None);
    }
    Err(CredentialsError::HelperFailed {
        program: program.into(),
        message: if message.is_empty() {
            format!("it could not {verb} and did not say why")
        } else {
            message
        },
    })
}

fn run(
    program: &str,
    verb: &str,
    input: &[u8],
) -> Result<(bool, Vec<u8>, Vec<u8>), CredentialsError> {
    let failed = |source| CredentialsError::Helper {
        program: program.into(),
        source,
    };
    let mut child = Command::new(program)
        .arg(verb)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let (sender, receiver) = mpsc::channel();
    converse(&mut child, input.to_vec(), sender);
    let answer = receiver.recv_timeout(TIMEOUT);
    if answer.is_err() {
        let _ = child.kill();
    }
    let status = child.wait().map_err(failed)?;
    match answer {
        Ok(read) => {
            let (output, complaints) = read.map_err(failed)?;
            Ok((status.success(), output, complaints))
        }
        Err(_) => Err(CredentialsError::HelperTimeout {
            program: program.into(),
        }),
    }
}

type Said = io::Result<(Vec<u8>, Vec<u8>)>;

/// Writes and reads in threads of their own: the helper may stop at any pipe, and we wait with a limit.
fn converse(child: &mut Child, input: Vec<u8>, sender: mpsc::Sender<Said>) {
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    std::thread::spawn(move || {
        // A helper that does not read its input will say why itself.
        let _ = stdin.map(|mut stdin| stdin.write_all(&input));
    });
    std::thread::spawn(move || {
        let complaints = std::thread::spawn(move || read_all(stderr));
        let output = read_all(stdout);
        let complaints = complaints.join().unwrap_or_else(|_| Ok(Vec::new()));
        let _ = sender.send(output.and_then(|output| Ok((output, complaints?))));
    });
}

fn read_all(pipe: Option<impl Read>) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        pipe.take(FILE_MAX).read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}
