//! t
/// t
#[derive(Debug, thiserror::Error)]
#[error("x")]
pub struct TarError;
