//! What goes into the key of each kind of step, besides the root it stands on.

use ketch_spec::Digest;

use super::{Root, Settings, StepError, Worker};
use crate::dockerfile::MountKind;
use crate::key::KeyWriter;
use crate::plan::{CopyStep, MountStep, Origin, RunStep};
use crate::request::StepNetwork;

/// A key that begins with the content of the root: its layers.
pub fn step(what: &str, root: &Root) -> KeyWriter {
    let mut key = KeyWriter::new(what);
    key.list(root.layers.iter().map(Digest::as_str));
    key
}

/// The definition of a COPY: everything but the files it reads.
pub fn copy(key: &mut KeyWriter, copy: &CopyStep) {
    use std::os::unix::ffi::OsStrExt;
    key.number(copy.inline.len() as u64);
    for (name, content) in &copy.inline {
        key.text(name).text(content);
    }
    key.bytes(copy.destination.as_os_str().as_bytes())
        .number(u64::from(copy.is_directory));
    key.optional(copy.chown.as_deref());
    key.optional(
        copy.chmod
            .as_ref()
            .map(|chmod| format!("{chmod:?}"))
            .as_deref(),
    );
    key.number(u64::from(copy.parents))
        .number(u64::from(copy.unpack));
}

/// The definition of a RUN without its mounts. Not in it: proxies, what caches hold, secrets.
pub fn run(key: &mut KeyWriter, run: &RunStep, settings: &Settings<'_>) {
    key.list(&run.args)
        .list(&run.env)
        .text(&run.working_dir)
        .text(&run.user);
    key.text(match run.network {
        StepNetwork::Default => "default",
        StepNetwork::None => "none",
        StepNetwork::Host => "host",
    });
    key.list(settings.extra_hosts)
        .number(settings.shm_size_bytes.unwrap_or(0));
    match &run.script {
        Some((name, content)) => key.number(1).text(name).text(content),
        None => key.number(0),
    };
}

impl Worker<'_> {
    /// The key of a RUN: its definition and what its mounts hold.
    pub fn run_key(&self, key: &mut KeyWriter, step: &RunStep) -> Result<(), StepError> {
        run(key, step, &self.execution.settings);
        key.number(step.mounts.len() as u64);
        for mount in &step.mounts {
            self.mount_key(key, mount)?;
        }
        Ok(())
    }

    fn mount_key(&self, key: &mut KeyWriter, mount: &MountStep) -> Result<(), StepError> {
        key.text(&mount.target).number(u64::from(mount.read_only));
        match mount.kind {
            MountKind::Cache => key.text("cache"),
            MountKind::Secret => key.text("secret").optional(mount.env.as_deref()),
            MountKind::Tmpfs => key.text("tmpfs").number(mount.size_bytes.unwrap_or(0)),
            MountKind::Bind => {
                key.text("bind").text(&mount.source);
                match &mount.from {
                    Origin::Stage(_) | Origin::Image(_) => {
                        let root = self.root_of(&mount.from)?;
                        key.list(root.layers.iter().map(Digest::as_str))
                    }
                    origin => {
                        let (selections, source, stamps) =
                            self.bind_files(origin, &mount.source)?;
                        let content = crate::source::digest(source.get(), &selections, stamps)?;
                        key.text(content.as_str())
                    }
                }
            }
        };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::copy::ModeChange;

    fn sample() -> CopyStep {
        CopyStep {
            from: Origin::Context,
            sources: vec!["a".into()],
            inline: vec![("E".into(), "text".into())],
            destination: PathBuf::from("/d"),
            is_directory: false,
            chown: None,
            chmod: None,
            excludes: Vec::new(),
            parents: false,
            unpack: false,
        }
    }

    fn digest(change: impl FnOnce(&mut CopyStep)) -> Digest {
        let mut step = sample();
        change(&mut step);
        let mut key = KeyWriter::new("copy");
        copy(&mut key, &step);
        key.finish()
    }

    /// Sources and excludes are not here on purpose: the digest of what they select is in the key, and with a stage as
    /// the origin they are too.
    #[test]
    fn every_part_of_a_copy_changes_its_key() {
        let keys = [
            digest(|_| {}),
            digest(|c| c.inline[0].1.push('!')),
            digest(|c| c.inline[0].0.push('!')),
            digest(|c| c.inline.clear()),
            digest(|c| c.destination = "/e".into()),
            digest(|c| c.is_directory = true),
            digest(|c| c.chown = Some(String::new())),
            digest(|c| c.chown = Some("1".into())),
            digest(|c| c.chmod = ModeChange::parse("755")),
            digest(|c| c.chmod = ModeChange::parse("u+x")),
            digest(|c| c.parents = true),
            digest(|c| c.unpack = true),
        ];
        let different: std::collections::BTreeSet<_> = keys.iter().collect();
        assert_eq!(different.len(), keys.len());
        assert_eq!(digest(|_| {}), keys[0]);
    }

    #[test]
    fn every_part_of_a_run_changes_its_key_and_proxies_do_not() {
        let secrets = std::collections::BTreeMap::new();
        let hosts = ["a:1.2.3.4".to_owned()];
        let settings = Settings {
            no_cache: false,
            extra_hosts: &[],
            shm_size_bytes: None,
            secrets: &secrets,
            cache_namespace: "",
        };
        let digest = |settings: Settings<'_>, change: &dyn Fn(&mut RunStep)| {
            let mut step = RunStep {
                args: vec!["a b".into()],
                env: vec!["X=1".into()],
                ..RunStep::default()
            };
            change(&mut step);
            let mut key = KeyWriter::new("run");
            run(&mut key, &step, &settings);
            key.finish()
        };
        let same = digest(settings, &|_| {});
        let keys = [
            same.clone(),
            digest(settings, &|run| run.args = vec!["a".into(), "b".into()]),
            digest(settings, &|run| run.env[0].push('1')),
            digest(settings, &|run| run.env.clear()),
            digest(settings, &|run| run.working_dir.push('/')),
            digest(settings, &|run| run.user.push('u')),
            digest(settings, &|run| run.network = StepNetwork::None),
            digest(settings, &|run| run.network = StepNetwork::Host),
            digest(settings, &|run| {
                run.script = Some(("E".into(), "#!".into()))
            }),
            digest(settings, &|run| {
                run.script = Some(("E".into(), "#!x".into()))
            }),
            digest(
                Settings {
                    extra_hosts: &hosts,
                    ..settings
                },
                &|_| {},
            ),
            digest(
                Settings {
                    shm_size_bytes: Some(1),
                    ..settings
                },
                &|_| {},
            ),
        ];
        let different: std::collections::BTreeSet<_> = keys.iter().collect();
        assert_eq!(different.len(), keys.len());
        assert_eq!(
            digest(settings, &|run| run.quiet_env.push("http_proxy=x".into())),
            same
        );
        assert_eq!(
            digest(
                Settings {
                    no_cache: true,
                    cache_namespace: "n",
                    ..settings
                },
                &|_| {}
            ),
            same
        );
    }

    #[test]
    fn the_root_is_in_the_key() {
        let layer = |text: &[u8]| Digest::of(text);
        let on = |layers: Vec<Digest>| {
            step(
                "run",
                &Root {
                    blobs: Vec::new(),
                    layers,
                },
            )
            .finish()
        };
        assert_ne!(on(vec![layer(b"1")]), on(vec![layer(b"2")]));
        assert_ne!(
            on(vec![layer(b"1"), layer(b"2")]),
            on(vec![layer(b"2"), layer(b"1")])
        );
        assert_ne!(on(Vec::new()), on(vec![layer(b"1")]));
    }
}
