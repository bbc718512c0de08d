//! `POST /images/create`: a pull, told as it happens in Docker's messages, or an import.

use ketch_engine::image::{self, ImportOptions, PullEvent, Repository, Silent};
use ketch_engine::{Error, ErrorKind, Result};
use ketch_spec::{Platform, Reference};
use serde_json::{Value, json};

use crate::archive;
use crate::call::{Call, Query};
use crate::image::platform;
use crate::registry_auth::engine_for;
use crate::reply::{JSON, Reply};
use crate::shared::Shared;
use crate::transfer::{self, Messages, of_layer};
use crate::upload::Upload;

/// A pull with `fromImage`, an import with `fromSrc`.
pub fn handle(shared: &Shared, call: &Call, body: &mut Upload) -> Result<Reply> {
    match call.query.get("fromSrc") {
        Some(source) => import(shared, call, source, body),
        None => pull(shared, call),
    }
}

/// A failure before the first layer is the status; a later one is a message.
fn pull(shared: &Shared, call: &Call) -> Result<Reply> {
    let (reference, platform) = wanted(&call.query)?;
    let engine = engine_for(shared, call, &reference.host)?;
    let is_bare = reference.tag.is_none() && reference.digest.is_none();
    let receiver = transfer::start("pull", move |teller| {
        let repository = Repository::open(&engine, &reference)?;
        // Without a tag it is every tag: clients that mean `latest` say so.
        let all = if is_bare {
            repository.tags()?
        } else {
            vec![reference.clone()]
        };
        let mut newer = false;
        for one in &all {
            let messages = Messages::new(teller, |event| words(one, event));
            newer |= repository.pull(one, platform.as_ref(), &messages)?.newer;
        }
        teller.say(status(newer, &reference));
        Ok(())
    })?;
    transfer::reply(receiver)
}

fn wanted(query: &Query) -> Result<(Reference, Option<Platform>)> {
    for key in ["repo", "changes", "message"] {
        query.refuse(key)?;
    }
    let name = query.get("fromImage").unwrap_or_default();
    let text = match query.get("tag") {
        Some(digest) if digest.contains(':') => format!("{name}@{digest}"),
        Some(tag) => format!("{name}:{tag}"),
        None => name.to_owned(),
    };
    Ok((named(&text)?, platform(query)?))
}

/// A reference as it stands there, without a default tag.
pub fn named(text: &str) -> Result<Reference> {
    Reference::parse_name(text).map_err(|error| {
        let message = format!("invalid reference format: {text:?}");
        Error::caused(ErrorKind::Invalid, message, &error)
    })
}

/// `fromSrc` is `-`, the body, or a URL.
fn import(shared: &Shared, call: &Call, source: &str, body: &mut Upload) -> Result<Reply> {
    let query = &call.query;
    query.refuse("fromImage")?;
    let options = ImportOptions {
        reference: archive::reference(query.get("repo"), query.get("tag"))?,
        changes: query
            .all("changes")
            .flat_map(str::lines)
            .map(str::to_owned)
            .collect(),
        message: query.get("message").unwrap_or_default().to_owned(),
        platform: platform(query)?,
    };
    let id = if source == "-" {
        image::import(&shared.engine, body, &options, &Silent)?
    } else {
        let url = if source.contains("://") {
            source.to_owned()
        } else {
            format!("http://{source}")
        };
        image::import_url(&shared.engine, &url, &options, &Silent)?
    };
    Ok(Reply::stream(JSON, move |sink| {
        sink.send_json(&json!({"status": id}));
    }))
}

/// The messages of a pull.
fn words(tag: &Reference, event: PullEvent) -> Vec<Value> {
    match event {
        PullEvent::Resolving { .. } => Vec::new(),
        PullEvent::Layers { layers } => {
            let version = match (&tag.digest, &tag.tag) {
                (Some(digest), _) => digest.to_string(),
                (None, Some(tag)) => tag.clone(),
                (None, None) => "latest".into(),
            };
            let heading = format!("Pulling from {}", tag.repository);
            let mut all = vec![json!({"status": heading, "id": version})];
            let layers = layers.iter();
            all.extend(layers.map(|layer| of_layer(&layer.digest, "Pulling fs layer")));
            all
        }
        PullEvent::Exists { digest } => vec![of_layer(&digest, "Already exists")],
        PullEvent::Downloading {
            digest,
            done_bytes,
            total_bytes,
        } => vec![transfer::progress(
            &digest,
            "Downloading",
            done_bytes,
            total_bytes,
        )],
        PullEvent::Retrying {
            digest,
            reason,
            after_s,
        } => vec![transfer::retrying(&digest, &reason, after_s)],
        PullEvent::Verifying { digest } => vec![of_layer(&digest, "Verifying Checksum")],
        PullEvent::Unpacking { digest } => vec![of_layer(&digest, "Extracting")],
        PullEvent::Done { digest } => vec![of_layer(&digest, "Pull complete")],
        PullEvent::Finished { digest, .. } => {
            vec![json!({"status": format!("Digest: {digest}")})]
        }
    }
}

/// The last message; of a repository, when several tags were pulled.
fn status(newer: bool, name: &Reference) -> Value {
    let what = if newer {
        "Downloaded newer image"
    } else {
        "Image is up to date"
    };
    json!({"status": format!("Status: {what} for {}", name.familiar())})
}

#[cfg(test)]
mod tests {
    use super::*;
    use ketch_spec::Digest;

    #[test]
    fn references_are_put_together() {
        let reference =
            |text: &str| wanted(&Query::parse(text)).map(|(reference, _)| reference.familiar());
        assert_eq!(
            reference("fromImage=busybox&tag=1.36").unwrap(),
            "busybox:1.36"
        );
        assert_eq!(reference("fromImage=busybox").unwrap(), "busybox");
        let digest = format!("sha256:{}", "a".repeat(64));
        assert!(
            reference(&format!("fromImage=busybox&tag={digest}"))
                .unwrap()
                .ends_with(&digest)
        );
        let error = reference("fromImage=busybox&repo=x").unwrap_err();
        assert!(error.message.contains("repo"), "{error}");
        assert_eq!(reference("").unwrap_err().kind, ErrorKind::Invalid);
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
        let all = words(&reference, end);
        assert!(
            all[0]["status"]
                .as_str()
                .unwrap()
                .starts_with("Digest: sha256:a")
        );
        assert_eq!(
            status(true, &reference)["status"],
            "Status: Downloaded newer image for busybox:latest"
        );
    }
}
