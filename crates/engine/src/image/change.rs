//! `--change` of `commit` and `import`: single Dockerfile instructions that change an image's defaults.

use std::collections::BTreeMap;

use ketch_spec::image::{HealthCheck, RunConfig};
use ketch_spec::{duration, port, signal};
use serde_json::json;

use crate::{Error, ErrorKind, Result};

/// Applies one instruction: CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, STOPSIGNAL, USER, VOLUME, WORKDIR.
///
/// # Errors
/// `Invalid`: another instruction, or arguments that it does not take.
pub fn apply(config: &mut RunConfig, text: &str) -> Result<()> {
    let text = text.trim();
    let (name, arguments) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    let arguments = arguments.trim();
    let name = name.to_ascii_uppercase();
    if arguments.is_empty() {
        return Err(bad(text, format!("{name} requires at least one argument")));
    }
    match name.as_str() {
        "CMD" => config.cmd = Some(command(arguments)),
        "ENTRYPOINT" => {
            config.entrypoint = Some(command(arguments));
            // As in a Dockerfile: arguments for another program make no sense.
            config.cmd = None;
        }
        "ENV" => {
            for (key, value) in pairs(text, arguments)? {
                set_env(&mut config.env, &key, &value);
            }
        }
        "LABEL" => config.labels.extend(pairs(text, arguments)?),
        "EXPOSE" => {
            for word in words(text, arguments)? {
                for port in port::parse_expose(&word).map_err(|error| caused(text, &error))? {
                    config.exposed_ports.insert(port.to_string(), json!({}));
                }
            }
        }
        "VOLUME" => {
            let volumes = match json_words(arguments) {
                Some(volumes) => volumes,
                None => words(text, arguments)?,
            };
            if volumes.iter().any(String::is_empty) {
                return Err(bad(text, "VOLUME specified can not be an empty string"));
            }
            config
                .volumes
                .extend(volumes.into_iter().map(|volume| (volume, json!({}))));
        }
        "USER" => config.user = arguments.to_owned(),
        "WORKDIR" => config.working_dir = join(&config.working_dir, arguments),
        "STOPSIGNAL" => {
            signal::parse(arguments).map_err(|error| caused(text, &error))?;
            config.stop_signal = Some(arguments.to_owned());
        }
        "ONBUILD" => config
            .on_build
            .get_or_insert_default()
            .push(arguments.to_owned()),
        "HEALTHCHECK" => config.healthcheck = Some(health_check(text, arguments)?),
        _ => return Err(bad(text, format!("{name} is not a valid change command"))),
    }
    Ok(())
}

fn bad(text: &str, message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Invalid, message).context(format!("bad change {text:?}"))
}

fn caused(text: &str, error: &(dyn std::error::Error + 'static)) -> Error {
    Error::caused(ErrorKind::Invalid, format!("bad change {text:?}"), error)
}

/// The exec form, `["a", "b"]`, or the shell form.
fn command(arguments: &str) -> Vec<String> {
    json_words(arguments)
        .unwrap_or_else(|| vec!["/bin/sh".into(), "-c".into(), arguments.to_owned()])
}

fn json_words(arguments: &str) -> Option<Vec<String>> {
    serde_json::from_str(arguments).ok()
}

/// `key=value …`, or `key value` with everything behind the key as value.
fn pairs(text: &str, arguments: &str) -> Result<BTreeMap<String, String>> {
    let words = words(text, arguments)?;
    if words.first().is_some_and(|first| !first.contains('=')) {
        let (key, value) = arguments
            .split_once(char::is_whitespace)
            .ok_or_else(|| bad(text, "must have two arguments"))?;
        return Ok(BTreeMap::from([(key.to_owned(), value.trim().to_owned())]));
    }
    let mut found = BTreeMap::new();
    for word in words {
        let (key, value) = word
            .split_once('=')
            .filter(|(key, _)| !key.is_empty())
            .ok_or_else(|| {
                bad(
                    text,
                    format!("can't find = in {word:?}. Must be of the form: name=value"),
                )
            })?;
        found.insert(key.to_owned(), value.to_owned());
    }
    Ok(found)
}

/// Words as a shell splits them: quotes and backslashes, no expansion.
fn words(text: &str, arguments: &str) -> Result<Vec<String>> {
    let mut words = Vec::new();
    let mut current: Option<String> = None;
    let mut quote: Option<char> = None;
    let mut characters = arguments.chars().peekable();
    while let Some(character) = characters.next() {
        match (quote, character) {
            (Some(open), _) if character == open => quote = None,
            (Some('\''), _) => current.get_or_insert_default().push(character),
            (Some(_), '\\') => {
                let word = current.get_or_insert_default();
                match characters.next_if(|next| matches!(next, '"' | '\\' | '$')) {
                    Some(escaped) => word.push(escaped),
                    None => word.push('\\'),
                }
            }
            (Some(_), _) => current.get_or_insert_default().push(character),
            (None, '\'' | '"') => {
                quote = Some(character);
                current.get_or_insert_default();
            }
            (None, '\\') => current.get_or_insert_default().extend(characters.next()),
            (None, _) if character.is_whitespace() => words.extend(current.take()),
            (None, _) => current.get_or_insert_default().push(character),
        }
    }
    if quote.is_some() {
        return Err(bad(
            text,
            "unexpected end of statement while looking for a matching quote",
        ));
    }
    words.extend(current);
    Ok(words)
}

fn set_env(env: &mut Vec<String>, key: &str, value: &str) {
    let setting = format!("{key}={value}");
    let is_same = |old: &&mut String| old.split_once('=').is_some_and(|(name, _)| name == key);
    match env.iter_mut().find(is_same) {
        Some(old) => *old = setting,
        None => env.push(setting),
    }
}

/// A relative directory is below the one before.
fn join(base: &str, directory: &str) -> String {
    let whole = if directory.starts_with('/') {
        directory.to_owned()
    } else {
        format!("{base}/{directory}")
    };
    let mut parts: Vec<&str> = Vec::new();
    for part in whole.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// `NONE`, or options and `CMD …`.
fn health_check(text: &str, arguments: &str) -> Result<HealthCheck> {
    let mut check = HealthCheck::default();
    let mut rest = arguments;
    while let Some(option) = rest.strip_prefix("--") {
        let (option, after) = option
            .split_once(char::is_whitespace)
            .unwrap_or((option, ""));
        let (name, value) = option
            .split_once('=')
            .ok_or_else(|| bad(text, format!("missing a value on flag: {option}")))?;
        if name == "retries" {
            let number = value.parse().ok().filter(|number: &i64| *number >= 0);
            check.retries =
                number.ok_or_else(|| bad(text, format!("retries {value:?} is not a number")))?;
        } else {
            let time = duration::parse(value).map_err(|error| caused(text, &error))?;
            let nanoseconds =
                i64::try_from(time.as_nanos()).map_err(|error| caused(text, &error))?;
            let field = match name {
                "interval" => &mut check.interval,
                "timeout" => &mut check.timeout,
                "start-period" => &mut check.start_period,
                "start-interval" => &mut check.start_interval,
                _ => return Err(bad(text, format!("unknown flag: {name}"))),
            };
            *field = nanoseconds;
        }
        rest = after.trim_start();
    }
    let (kind, command) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    check.test = match kind.to_ascii_uppercase().as_str() {
        "NONE" if command.trim().is_empty() => vec!["NONE".into()],
        "CMD" if !command.trim().is_empty() => match json_words(command.trim()) {
            Some(words) => [vec!["CMD".to_owned()], words].concat(),
            None => vec!["CMD-SHELL".into(), command.trim().to_owned()],
        },
        _ => return Err(bad(text, "HEALTHCHECK takes NONE or CMD and a command")),
    };
    Ok(check)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(changes: &[&str]) -> RunConfig {
        let mut config = RunConfig::default();
        for change in changes {
            apply(&mut config, change).unwrap_or_else(|error| panic!("{change}: {error}"));
        }
        config
    }

    #[test]
    fn instructions_change_the_config() {
        let config = applied(&[
            "ENV A=1 B=\"two words\" C=a\\ b",
            "env A legacy form",
            "LABEL x=y 'quoted key'=v",
            "EXPOSE 80 53/udp",
            "VOLUME [\"/data\", \"/more\"]",
            "VOLUME /third /fourth",
            "WORKDIR /a",
            "WORKDIR b/../c",
            "USER app:app",
            "CMD [\"sh\", \"-c\", \"true\"]",
            "STOPSIGNAL SIGQUIT",
            "ONBUILD RUN x",
            "HEALTHCHECK --interval=5s --retries=3 CMD curl -f localhost",
        ]);
        assert_eq!(config.env, ["A=legacy form", "B=two words", "C=a b"]);
        assert_eq!(config.labels["quoted key"], "v");
        assert_eq!(
            config.exposed_ports.keys().collect::<Vec<_>>(),
            ["53/udp", "80/tcp"]
        );
        assert_eq!(config.volumes.len(), 4);
        assert_eq!(
            (config.working_dir.as_str(), config.user.as_str()),
            ("/a/c", "app:app")
        );
        assert_eq!(config.cmd.unwrap(), ["sh", "-c", "true"]);
        assert_eq!(config.on_build.unwrap(), ["RUN x"]);
        let check = config.healthcheck.unwrap();
        assert_eq!(check.test, ["CMD-SHELL", "curl -f localhost"]);
        assert_eq!((check.interval, check.retries), (5_000_000_000, 3));
        let config = applied(&["CMD a", "ENTRYPOINT b c"]);
        assert_eq!(
            (config.cmd, config.entrypoint.unwrap()),
            (None, vec!["/bin/sh".into(), "-c".into(), "b c".into()])
        );
    }

    #[test]
    fn others_are_refused_by_name() {
        for (change, message) in [
            ("RUN x", "RUN is not a valid change command"),
            ("FROM x", "FROM is not a valid change command"),
            ("CMD", "CMD requires at least one argument"),
            ("ENV A=1 B", "can't find = in \"B\""),
            ("ENV A", "must have two arguments"),
            ("LABEL a=\"b", "matching quote"),
            ("HEALTHCHECK --bogus=1s CMD x", "unknown flag: bogus"),
            ("HEALTHCHECK maybe", "HEALTHCHECK takes NONE or CMD"),
            ("STOPSIGNAL SIGNOPE", "SIGNOPE"),
        ] {
            let error = apply(&mut RunConfig::default(), change).expect_err(change);
            assert_eq!(error.kind, ErrorKind::Invalid);
            assert!(
                error.to_string().contains(message),
                "{error} does not say: {message}"
            );
        }
    }
}
