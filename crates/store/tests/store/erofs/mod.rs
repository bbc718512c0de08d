//! The contract, with layers kept in the Erofs form.

use ketch_store::{Forms, LayerForm};

pub const FORMS: Forms = Forms::Erofs;
pub const FORM: LayerForm = LayerForm::Erofs;

// On purpose: once a form.
#[allow(clippy::duplicate_mod)]
#[path = "../contract.rs"]
mod contract;
