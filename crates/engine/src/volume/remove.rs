//! `volume rm`.

use std::fs;

use super::{DRIVER, io_error, list, users};
use crate::event::{self, Event};
use crate::{Engine, Error, ErrorKind, Result, names};

/// Directory names of volumes on their way out begin so.
pub(super) const REMOVING: &str = ".removing-";

/// Removes a volume that no container refers to. `force` forgives a volume that is not there.
///
/// # Errors
/// `NotFound` without `force`; `Conflict`: "remove x: volume is in use - [ids]".
pub fn remove(engine: &Engine, name: &str, force: bool) -> Result<()> {
    match remove_there(engine, name) {
        Err(error) if error.kind == ErrorKind::NotFound && force => Ok(()),
        other => other,
    }
}

fn remove_there(engine: &Engine, name: &str) -> Result<()> {
    let aside = {
        let _lock = users::lock(engine, name)?;
        let volume = list::load(engine, name)?;
        if !volume.users.is_empty() {
            let ids: Vec<String> = volume.users.iter().map(ToString::to_string).collect();
            return Err(Error::new(
                ErrorKind::Conflict,
                format!("remove {name}: volume is in use - [{}]", ids.join(", ")),
            ));
        }
        let aside = engine
            .paths()
            .volume_dir(&format!("{REMOVING}{}", names::draw_id()?.short()));
        let place = engine.paths().volume_dir(name);
        // Commit point: the volume is gone.
        fs::rename(&place, &aside).map_err(|error| io_error("rename", &place, &error))?;
        aside
    };
    let _ = event::publish(
        engine,
        &Event::now("volume", "destroy", name).with("driver", DRIVER),
    );
    ketch_sys::fs::remove_tree(&aside).map_err(|error| {
        Error::caused(
            ErrorKind::Internal,
            format!("the content of volume {name} is left"),
            &error,
        )
    })
}
