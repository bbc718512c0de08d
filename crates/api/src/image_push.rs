//! `POST /images/{name}/push`.

use ketch_engine::Result;
use ketch_engine::image::{PullEvent, Pushed, Repository};
use ketch_spec::image::{Descriptor, media_type};
use ketch_spec::{Digest, Reference};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Mutex;

use crate::call::Call;
use crate::image::platform;
use crate::image_pull::named;
use crate::registry_auth::engine_for;
use crate::reply::Reply;
use crate::shared::Shared;
use crate::transfer::{self, Messages, of_layer};

/// Without a tag it is every tag that is here: clients that mean `latest` say so.
pub fn handle(shared: &Shared, call: &Call) -> Result<Reply> {
    let mut reference = named(&call.name)?;
    if let Some(tag) = call.query.get("tag") {
        reference = named(&format!("{}:{tag}", reference.name()))?;
    }
    let platform = platform(&call.query)?;
    let engine = engine_for(shared, call, &reference.host)?;
    let receiver = transfer::start("push", move |teller| {
        let repository = Repository::open(&engine, &reference)?;
        let heading = format!("The push refers to repository [{}]", reference.name());
        teller.say(json!({"status": heading}));
        let is_bare = reference.tag.is_none() && reference.digest.is_none();
        let all = if is_bare {
            repository.local_tags()?
        } else {
            vec![reference]
        };
        for one in &all {
            let layers = Mutex::default();
            let messages = Messages::new(teller, |event| words(&layers, event));
            let pushed = repository.push(one, platform.as_ref(), &messages)?;
            for message in ending(one, &pushed) {
                teller.say(message);
            }
        }
        Ok(())
    })?;
    transfer::reply(receiver)
}

/// The messages of a push. Configs go as layers do, but Docker tells of layers only.
fn words(layers: &Mutex<BTreeSet<Digest>>, event: PullEvent) -> Vec<Value> {
    let mut layers = layers
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let about = |digest: &Digest, message: Value| {
        if layers.contains(digest) {
            vec![message]
        } else {
            Vec::new()
        }
    };
    match event {
        PullEvent::Layers { layers: all } => {
            let all: Vec<Digest> = all.into_iter().filter(is_layer).map(|l| l.digest).collect();
            let told = all.iter().map(|digest| of_layer(digest, "Preparing"));
            let told = told.collect();
            layers.extend(all);
            told
        }
        PullEvent::Exists { digest } => about(&digest, of_layer(&digest, "Layer already exists")),
        PullEvent::Downloading {
            digest,
            done_bytes,
            total_bytes,
        } => about(
            &digest,
            transfer::progress(&digest, "Pushing", done_bytes, total_bytes),
        ),
        PullEvent::Done { digest } => about(&digest, of_layer(&digest, "Pushed")),
        PullEvent::Retrying {
            digest,
            reason,
            after_s,
        } => about(&digest, transfer::retrying(&digest, &reason, after_s)),
        PullEvent::Resolving { .. }
        | PullEvent::Verifying { .. }
        | PullEvent::Unpacking { .. }
        | PullEvent::Finished { .. } => Vec::new(),
    }
}

fn is_layer(descriptor: &Descriptor) -> bool {
    !matches!(
        descriptor.media_type.as_str(),
        media_type::CONFIG | media_type::DOCKER_CONFIG
    )
}

/// What is told of a tag that is there.
fn ending(reference: &Reference, pushed: &Pushed) -> [Value; 2] {
    let tag = reference.tag.as_deref().unwrap_or("latest");
    let (digest, size) = (&pushed.digest, pushed.size_bytes);
    [
        json!({"status": format!("{tag}: digest: {digest} size: {size}")}),
        json!({"progressDetail": {}, "aux": {"Tag": tag, "Digest": digest, "Size": size}}),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn descriptor(kind: &str, name: &str) -> Descriptor {
        Descriptor {
            media_type: kind.into(),
            digest: Digest::of(name.as_bytes()),
            size: 1,
            platform: None,
            annotations: Default::default(),
            other: Default::default(),
        }
    }

    #[test]
    fn only_layers_are_told_of() {
        let known = Mutex::default();
        let (layer, config) = (
            descriptor(media_type::LAYER_GZIP, "layer"),
            descriptor(media_type::CONFIG, "config"),
        );
        let all = words(
            &known,
            PullEvent::Layers {
                layers: vec![layer.clone(), config.clone()],
            },
        );
        assert_eq!(all.len(), 1);
        assert_eq!(all[0]["status"], "Preparing");
        let done = |digest| words(&known, PullEvent::Done { digest });
        assert_eq!(done(layer.digest)[0]["status"], "Pushed");
        assert!(done(config.digest).is_empty());
    }

    #[test]
    fn the_end_has_dockers_words_and_its_record() {
        let pushed = Pushed {
            reference: "r.example/app:1".parse().unwrap(),
            digest: Digest::of(b"x"),
            size_bytes: 528,
        };
        let [status, aux] = ending(&pushed.reference, &pushed);
        let words = format!("1: digest: {} size: 528", pushed.digest);
        assert_eq!(status["status"], words);
        assert_eq!(aux["aux"]["Tag"], "1");
        assert_eq!(aux["aux"]["Size"], 528);
    }
}
