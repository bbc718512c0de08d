//! The contract, with layers kept in the Directory form.

use ketch_store::{Forms, LayerForm};

pub const FORMS: Forms = Forms::Directory;
pub const FORM: LayerForm = LayerForm::Directory;

// On purpose: once a form.
#[allow(clippy::duplicate_mod)]
#[path = "../contract.rs"]
mod contract;
