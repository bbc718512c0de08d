//! `POST /images/create`: a pull, told as it happens in Docker's messages.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use ketch_engine::image::{self, PullEvent, PullObserver};
use ketch_engine::{Engine, Error, ErrorKind, Result};
use ketch_spec::{Digest, Platform, Reference};
use serde_json::{Value, json};

use crate::call::{Call, Query};
use crate::reply::{JSON, Reply};
use crate::shared::Shared;

/// Messages that wait for a slow client; further ones are left out: the last is what counts.
const QUEUED_MESSAGES: usize = 1024;
/// How often the progress of one layer is told.
const PROGRESS_EVERY: Duration = Duration::from_millis(100);

/// Clients send base64 of either alphabet, with and without padding.
const LENIENT: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);

/// What the thread that pulls tells.
enum Told {
    /// A message for the client.
    Message(Value),
    /// The end.
    End(Result<()>),
}

/// A failure before the first layer is the status; a later one is a message.
pub fn handle(shared: &Shared, call: &Call) -> Result<Reply> {
    let (reference, platform) = wanted(&call.query)?;
    refuse_credentials(&call.registry_auth)?;
    let receiver = start(shared.engine.clone(), reference, platform)?;
    let first = match receiver.recv() {
        Ok(Told::End(Err(error))) => return Err(error),
        Ok(first) => first,
        Err(error) => {
            return Err(Error::caused(
                ErrorKind::Internal,
                "the pull ended without a word",
                &error,
            ));
        }
    };
    Ok(Reply::stream(JSON, move |sink| {
        for told in std::iter::once(first).chain(receiver) {
            let message = match told {
                Told::Message(message) => message,
                Told::End(Ok(())) => return,
                Told::End(Err(error)) => {
                    let text = error.to_string();
                    json!({"errorDetail": {"message": text}, "error": text})
                }
            };
            // A client that has gone does not stop the pull: the next one finds what is there.
            if !sink.send_json(&message) {
                return;
            }
        }
    }))
}

fn wanted(query: &Query) -> Result<(Reference, Option<Platform>)> {
    for key in ["fromSrc", "repo", "changes", "message"] {
        query.refuse(key)?;
    }
    let invalid = |message: String| Error::new(ErrorKind::Invalid, message);
    let name = query.get("fromImage").unwrap_or_default();
    let text = match query.get("tag") {
        Some(digest) if digest.contains(':') => format!("{name}@{digest}"),
        Some(tag) => format!("{name}:{tag}"),
        None => name.to_owned(),
    };
    let reference = text
        .parse()
        .map_err(|_| invalid(format!("invalid reference format: {text:?}")))?;
    let platform = query
        .get("platform")
        .map(str::parse::<Platform>)
        .transpose();
    Ok((
        reference,
        platform.map_err(|error| invalid(error.to_string()))?,
    ))
}

/// The header `X-Registry-Auth`: the engine logs in with its own user's credentials only.
fn refuse_credentials(header: &str) -> Result<()> {
    if header.is_empty() {
        return Ok(());
    }
    let standard: String = header.replace('-', "+").replace('_', "/");
    let decoded = GeneralPurpose::new(&base64::alphabet::STANDARD, LENIENT)
        .decode(standard)
        .ok();
    let fields: Option<BTreeMap<String, Value>> =
        decoded.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let Some(fields) = fields else {
        return Err(Error::new(
            ErrorKind::Invalid,
            "invalid X-Registry-Auth header",
        ));
    };
    let secrets = [
        "username",
        "password",
        "auth",
        "identitytoken",
        "registrytoken",
    ];
    let is_set = |name: &str| {
        let text = fields.get(name).and_then(Value::as_str);
        text.is_some_and(|text| !text.is_empty())
    };
    if secrets.into_iter().any(is_set) {
        return Err(Error::new(
            ErrorKind::Unsupported,
            "credentials in X-Registry-Auth are not supported: put them into the config.json of the user that serves the API",
        ));
    }
    Ok(())
}

fn start(
    engine: Engine,
    reference: Reference,
    platform: Option<Platform>,
) -> Result<Receiver<Told>> {
    let (sender, receiver) = sync_channel(QUEUED_MESSAGES);
    let messages = Messages {
        sender: sender.clone(),
        tag: reference.clone().with_default_tag(),
        told: Mutex::default(),
    };
    let pull = move || {
        let end = image::pull(&engine, &reference, platform.as_ref(), &messages).map(|_| ());
        // A client that has gone needs no end.
        let _ = sender.send(Told::End(end));
    };
    std::thread::Builder::new()
        .name("pull".into())
        .spawn(pull)
        .map_err(|error| Error::caused(ErrorKind::Unavailable, "cannot start a thread", &error))?;
    Ok(receiver)
}

/// Turns the engine's events into Docker's messages.
struct Messages {
    sender: SyncSender<Told>,
    tag: Reference,
    /// When the progress of a layer was told last.
    told: Mutex<BTreeMap<Digest, Instant>>,
}

impl Messages {
    fn is_due(&self, digest: &Digest) -> bool {
        let mut told = self
            .told
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let now = Instant::now();
        let due = told
            .get(digest)
            .is_none_or(|last| now.duration_since(*last) >= PROGRESS_EVERY);
        if due {
            told.insert(digest.clone(), now);
        }
        due
    }
}

impl PullObserver for Messages {
    fn event(&self, event: PullEvent) {
        if let PullEvent::Downloading {
            digest,
            done_bytes,
            total_bytes,
        } = &event
            && done_bytes < total_bytes
            && !self.is_due(digest)
        {
            return;
        }
        for message in messages(&self.tag, event) {
            // Full: the client is slower than the registry.
            let _ = self.sender.try_send(Told::Message(message));
        }
    }
}

fn messages(tag: &Reference, event: PullEvent) -> Vec<Value> {
    let of = |digest: &Digest, status: &str| json!({"status": status, "progressDetail": {}, "id": short(digest)});
    match event {
        PullEvent::Resolving { .. } => Vec::new(),
        PullEvent::Layers { layers } => {
            let name = tag.tag.clone().unwrap_or_default();
            let mut all =
                vec![json!({"status": format!("Pulling from {}", tag.repository), "id": name})];
            all.extend(
                layers
                    .iter()
                    .map(|layer| of(&layer.digest, "Pulling fs layer")),
            );
            all
        }
        PullEvent::Exists { digest } => vec![of(&digest, "Already exists")],
        PullEvent::Downloading {
            digest,
            done_bytes,
            total_bytes,
        } => vec![json!({
            "status": "Downloading", "id": short(&digest),
            "progressDetail": {"current": done_bytes, "total": total_bytes},
        })],
        PullEvent::Retrying {
            digest,
            reason,
            after_s,
        } => {
            vec![of(
                &digest,
                &format!("Retrying in {after_s} seconds: {reason}"),
            )]
        }
        PullEvent::Verifying { digest } => vec![of(&digest, "Verifying Checksum")],
        PullEvent::Unpacking { digest } => vec![of(&digest, "Extracting")],
        PullEvent::Done { digest } => vec![of(&digest, "Pull complete")],
        PullEvent::Finished {
            reference,
            digest,
            newer,
        } => {
            let what = if newer {
                "Downloaded newer image"
            } else {
                "Image is up to date"
            };
            vec![
                json!({"status": format!("Digest: {digest}")}),
                json!({"status": format!("Status: {what} for {}", reference.familiar())}),
            ]
        }
    }
}

/// The first 12 digits.
fn short(digest: &Digest) -> String {
    let text = digest.to_string();
    let hex = text.split_once(':').map_or(text.as_str(), |(_, hex)| hex);
    hex.chars().take(12).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_put_together() {
        let reference =
            |text: &str| wanted(&Query::parse(text)).map(|(reference, _)| reference.familiar());
        assert_eq!(
            reference("fromImage=busybox&tag=1.36").unwrap(),
            "busybox:1.36"
        );
        let digest = format!("sha256:{}", "a".repeat(64));
        assert!(
            reference(&format!("fromImage=busybox&tag={digest}"))
                .unwrap()
                .ends_with(&digest)
        );
        assert!(
            reference("fromSrc=-")
                .unwrap_err()
                .message
                .contains("fromSrc")
        );
        assert_eq!(reference("").unwrap_err().kind, ErrorKind::Invalid);
    }

    #[test]
    fn credentials_are_not_dropped_in_silence() {
        refuse_credentials("").unwrap();
        refuse_credentials("e30=").unwrap();
        refuse_credentials("e30").unwrap();
        let header = base64::engine::general_purpose::URL_SAFE
            .encode(r#"{"username":"u","password":"?>p"}"#);
        assert_eq!(
            refuse_credentials(&header).unwrap_err().kind,
            ErrorKind::Unsupported
        );
        assert_eq!(
            refuse_credentials("%").unwrap_err().kind,
            ErrorKind::Invalid
        );
    }

    #[test]
    fn the_end_has_dockers_words() {
        let reference: Reference = "busybox:latest".parse().unwrap();
        let digest: Digest = format!("sha256:{}", "a".repeat(64)).parse().unwrap();
        let end = PullEvent::Finished {
            reference: reference.clone(),
            digest,
            newer: true,
        };
        let all = messages(&reference, end);
        assert_eq!(
            all[1]["status"],
            "Status: Downloaded newer image for busybox:latest"
        );
    }
}
