//! Platforms: `os/arch[/variant]`, normalised as Docker does (`arm64/v8` is `arm64`, `x86_64` is `amd64`).

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The platform of an image.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Platform {
    /// `amd64`, `arm64`, …
    pub architecture: String,
    /// `linux`.
    pub os: String,
    /// `v7`, …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// Fields this version does not know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}
