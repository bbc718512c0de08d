//! `RUN --mount` with its values known.

use super::graph::Origin;
use super::stage::Draft;
use super::{MountStep, Sharing};
use crate::dockerfile::{MountKind, Place, RunMount, Word};
use crate::path;

impl Draft<'_> {
    /// One mount; None if it has mistakes, which are noted.
    pub(super) fn mount(&mut self, place: &Place, mount: &RunMount) -> Option<MountStep> {
        let mut values = std::collections::BTreeMap::new();
        for (name, text) in &mount.fields {
            let word = Word {
                text: text.clone(),
                at: mount.at,
            };
            values.insert(*name, self.text(place, &word)?);
        }
        let value = |name: &str| values.get(name).cloned().filter(|value| !value.is_empty());
        let mode = self.mount_number(place, mount, "mode", value("mode"))?;
        let uid = self.mount_number(place, mount, "uid", value("uid"))?;
        let gid = self.mount_number(place, mount, "gid", value("gid"))?;
        let size_bytes = value("size").and_then(|text| ketch_spec::size::parse_bytes(&text).ok());
        let is_cache = mount.kind == MountKind::Cache;
        let from = match value("from") {
            Some(text) => match self.graph.origin(self.number, &text) {
                Ok(origin) => origin,
                Err(message) => {
                    self.wrong(place, &Word { text, at: mount.at }, message);
                    return None;
                }
            },
            // A cache starts empty unless it is told what from.
            None if is_cache => Origin::Scratch,
            None => Origin::Context,
        };
        let id = value("id").or_else(|| secret_id(mount.kind, value("target")));
        let written =
            value("target").or_else(|| Some(format!("/run/secrets/{}", id.as_deref()?)))?;
        let target = path::join(&self.config.working_dir, &written);
        if target == "/" {
            self.wrong(
                place,
                &Word {
                    text: written,
                    at: mount.at,
                },
                "invalid mount target \"/\"",
            );
            return None;
        }
        let sharing = match value("sharing").as_deref() {
            Some("private") => Sharing::Private,
            Some("locked") => Sharing::Locked,
            _ => Sharing::Shared,
        };
        Some(MountStep {
            kind: mount.kind,
            id: id.unwrap_or_else(|| target.clone()),
            target,
            from,
            source: value("source").unwrap_or_default(),
            // Binds are read-only unless they say rw; what is written to them is dropped.
            read_only: mount
                .read_only
                .unwrap_or(matches!(mount.kind, MountKind::Bind | MountKind::Secret)),
            required: mount.required,
            env: value("env"),
            sharing,
            mode,
            owner: (uid.unwrap_or(0), gid.unwrap_or(0)),
            size_bytes,
        })
    }

    /// A number of a mount, octal for modes; None if it is none, which is then noted.
    fn mount_number(
        &mut self,
        place: &Place,
        mount: &RunMount,
        name: &str,
        text: Option<String>,
    ) -> Option<Option<u32>> {
        let Some(text) = text else { return Some(None) };
        let parsed = u32::from_str_radix(&text, if name == "mode" { 8 } else { 10 }).ok();
        if parsed.is_none() {
            let message = format!("invalid value {text:?} for {name}");
            self.wrong(place, &Word { text, at: mount.at }, message);
        }
        parsed.map(Some)
    }
}

/// A secret without an id is called as its file.
fn secret_id(kind: MountKind, target: Option<String>) -> Option<String> {
    let target = target.filter(|_| kind == MountKind::Secret)?;
    target.rsplit('/').next().map(str::to_owned)
}
