//! The verbs of an OCI runtime command, and the state that they keep between calls: one file a verb.
//!
//! ```text
//! <root>/<id>/               locked (flock) by the verbs that change something
//!   create.json              what create was asked for; written before anything is made, so that what a killed
//!                            create leaves can be removed
//!   place.json               where the root is attached, if not in a mount namespace of the container's own; before it is
//!   state.json               its rename is create's commit point
//!   start.sock               where the container's first process waits to be started
//! ```
//!
//! A status is never stored: it follows from the process (number and start time), from the freezer, and from whether
//! somebody listens at `start.sock`.

mod cgroups;
mod console;
mod create;
mod default_spec;
mod delete;
mod document;
mod error;
mod exec;
mod features;
mod identity;
mod kill;
mod list;
mod own_user;
mod pause;
mod record;
mod run;
mod start;
mod state;
mod store;
mod update;
mod watch;

pub use create::{CreateRequest, Streams, create};
pub use default_spec::default_spec;
pub use delete::delete;
pub use document::{bounded, read_document};
pub use error::{Error, Result};
pub use exec::{ExecRequest, Executed, ExecutedIn};
pub use features::{Features, features};
pub use kill::{kill, processes};
pub use list::list;
pub use pause::{pause, resume};
pub use run::{Running, run};
pub use start::start;
pub use state::{FullState, state};
pub use store::{Id, Root};
pub use update::{stats, update, update_class};
pub use watch::Watch;
