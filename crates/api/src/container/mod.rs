//! Containers.

mod body;
pub mod create;
pub mod exec;
mod host;
pub mod list;
pub mod logs;
mod mounts;
mod networks;
mod security;
pub mod verbs;
pub mod wait;

pub use networks::{Endpoint, endpoint_config};
