//! A blocking client of the OCI distribution specification 1.1 and of the Docker registry API v2.
//!
//! It knows HTTP and nothing of disks: documents come as bytes whose digest was checked, blobs as streams that
//! end with an error unless size and digest are right. Everything is bounded: connecting and each read have a
//! time limit, documents a size limit, retries and redirects a number. Credentials leave for the host they
//! belong to and for no other.
//!
//! [`Client`] is cheap to clone and may be used from many threads at once.

mod blob;
mod challenge;
mod client;
mod credentials;
mod download;
mod error;
mod forward;
#[doc(hidden)]
pub mod fuzz;
mod login;
mod manifest;
mod network;
mod options;
mod referrers;
mod retry;
mod route;
mod search;
mod send;
mod tags;
mod token;
mod transport;
mod trust;
mod upload;
mod url;

pub use client::Client;
pub use credentials::{CredentialFile, Credentials, CredentialsError, Kept, Login, read_auths};
pub use download::Download;
pub use error::{Error, Result};
pub use login::LoggedIn;
pub use manifest::Fetched;
pub use options::{ClientOptions, HostTrust, Proxies, RetryPolicy, Rule};
pub use search::Found;
pub use upload::BlobSource;
