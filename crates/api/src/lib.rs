//! Docker's Engine API over the engine: the only async code of the program.
//!
//! A request is matched against one table ([`route`]), becomes a [`call::Call`], runs one engine verb on a blocking
//! thread, and becomes a [`reply::Reply`]. The server keeps no container state: what it holds in memory are
//! connections (clients that attached before the start, exec sessions), so it may be killed at any time.

mod archive;
mod call;
mod connection;
mod container;
mod error;
mod events;
mod filters;
mod image;
mod image_pull;
mod image_push;
mod info;
mod listen;
mod moment;
mod network;
mod registry;
mod registry_auth;
mod reply;
mod route;
mod server;
mod shared;
mod system;
mod transfer;
mod upload;
mod version;
mod volume;

pub use error::ServeError;
pub use listen::{Endpoint, EndpointError};
pub use server::{Options, serve};

/// The program's version: all crates of the workspace share one.
const PROGRAM_VERSION: &str = env!("CARGO_PKG_VERSION");
