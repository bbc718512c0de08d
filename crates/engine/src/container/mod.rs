//! Containers: configuration, state, and one file a verb.

pub mod config;
pub mod control;
pub mod request;
pub mod state;
pub mod stream;
