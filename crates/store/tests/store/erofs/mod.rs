//! The contract, with layers kept in the Erofs form.

use ketch_store::{Forms, LayerForm};

pub const FORMS: Forms = Forms::Erofs;
pub const FORM: LayerForm = LayerForm::Erofs;

#[path = "../contract.rs"]
mod contract;
