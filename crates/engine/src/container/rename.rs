//! `rename`.

use super::channel::{self, Reached};
use super::control::{Reply, Request};
use super::load;
use crate::event::{self, Event};
use crate::{Engine, Error, ErrorKind, Result, names};

/// Gives a container another name. The new name is claimed first, and the old one given back last.
///
/// # Errors
/// `NotFound`; `Invalid` for a name that is none; `Conflict` in Docker's words for a name that another has.
pub fn rename(engine: &Engine, wanted: &str, name: &str) -> Result<()> {
    let id = load::resolve(engine, wanted)?;
    let (old, _) = load::load(engine, &id)?;
    if name.is_empty() {
        return Err(Error::new(
            ErrorKind::Invalid,
            "Neither old nor new names may be empty",
        ));
    }
    let name = name.strip_prefix('/').unwrap_or(name);
    if name == old.name {
        return Err(Error::new(
            ErrorKind::Invalid,
            "Renaming a container with the same name as its current name",
        ));
    }
    names::claim(engine, names::CONTAINER, name, &id, |other| {
        load::exists_or_is_made(engine, other)
    })
    .map_err(|error| super::create::name_error(error, name))?;
    let renamed = match channel::reach(
        engine,
        &id,
        &Request::Rename {
            name: name.to_owned(),
        },
    ) {
        Ok(Reached::Answered(Reply::Failed(error))) => Err(error),
        Ok(Reached::Answered(_)) => Ok(()),
        Ok(Reached::Owned {
            lock, mut config, ..
        }) => {
            name.clone_into(&mut config.name);
            // Commit point: the container has its new name.
            let written = load::write_config(engine, &config);
            drop(lock);
            written
        }
        Err(error) => Err(error),
    };
    if let Err(error) = renamed {
        names::release(engine, names::CONTAINER, name, &id)?;
        return Err(error);
    }
    names::release(engine, names::CONTAINER, &old.name, &id)?;
    let event = Event::of_container("rename", &old)
        .with("name", name)
        .with("oldName", format!("/{}", old.name));
    let _ = event::publish(engine, &event);
    Ok(())
}
