//! What pull and push share: the client, work in parallel, and what a registry's failures mean to the user.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use ketch_registry as registry;
use ketch_spec::Reference;
use ketch_store as store;

use super::ImageError;
use crate::registry::kind;
use crate::{Error, ErrorKind, Result};

/// Transfers at once, as many as Docker makes.
const PARALLEL: usize = 4;

/// Does `work` on all items, a few at once. After the first failure no item is begun, and `cancelled` tells those at
/// work; the first failure is returned when all have ended.
pub(super) fn in_parallel<T: Sync>(
    items: &[T],
    cancelled: &AtomicBool,
    work: impl Fn(&T) -> Result<()> + Sync,
) -> Result<()> {
    let next = AtomicUsize::new(0);
    let failure: Mutex<Option<Error>> = Mutex::new(None);
    let worker = || {
        while !cancelled.load(Ordering::Relaxed) {
            let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) else {
                return;
            };
            if let Err(error) = work(item) {
                let mut first = failure
                    .lock()
                    .unwrap_or_else(std::sync::PoisonError::into_inner);
                first.get_or_insert(error);
                cancelled.store(true, Ordering::Relaxed);
            }
        }
    };
    std::thread::scope(|scope| {
        // The calling thread works too: one layer needs no thread.
        for _ in 1..items.len().min(PARALLEL) {
            scope.spawn(worker);
        }
        worker();
    });
    match failure
        .into_inner()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
    {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

/// The registry's failure inside a store's one, where the stream from the registry was what failed.
pub(super) fn registry_cause(error: &store::Error) -> Option<&registry::Error> {
    match error {
        store::Error::Source { source, .. } => source.get_ref()?.downcast_ref(),
        _ => None,
    }
}

/// A failed pull: Docker's words where it has some, the registry's name, the reason, and what else can be done.
pub(super) fn pull_error(reference: &Reference, error: &registry::Error) -> Error {
    use registry::Error as E;
    let name = reference.familiar_name();
    let mut failed = match error {
        E::Unauthorised { reason, .. } | E::Denied { reason, .. } => {
            let message = format!(
                "pull access denied for {name}, repository does not exist or may require 'docker login'"
            );
            with_reason(ErrorKind::NotFound, message, reason)
        }
        E::ManifestNotFound { reason, .. } => with_reason(
            ErrorKind::NotFound,
            format!("manifest for {} not found", reference.familiar()),
            reason,
        ),
        E::RateLimited { reason, .. } => with_reason(
            ErrorKind::Unavailable,
            format!("cannot pull {}", reference.familiar()),
            reason,
        ),
        _ => Error::caused(
            kind(error),
            format!("cannot pull {}", reference.familiar()),
            error,
        ),
    };
    failed.hints.extend(error.hint());
    let reachable = !matches!(
        error,
        E::Unreachable { .. } | E::Tls { .. } | E::RateLimited { .. }
    );
    if reachable {
        return failed;
    }
    failed
        .hint("without the registry: `ketch load -i FILE` takes an image archive, `ketch import FILE` a root file system")
        .hint("`ketch build` needs no registry for a Dockerfile that begins with FROM scratch or with an image that is here")
}

/// A failed push, as [`pull_error`].
pub(super) fn push_error(reference: &Reference, error: &registry::Error) -> Error {
    use registry::Error as E;
    let mut failed = match error {
        E::Unauthorised { reason, .. } => {
            let message =
                "push access denied, repository does not exist or may require authorization"
                    .to_owned();
            with_reason(ErrorKind::Unauthorised, message, reason)
        }
        // The server's words are Docker's: "denied: requested access to the resource is denied".
        E::Denied { reason, .. } => Error::new(ErrorKind::Forbidden, reason.clone()),
        _ => Error::caused(
            kind(error),
            format!("cannot push {}", reference.familiar()),
            error,
        ),
    };
    failed.hints.extend(error.hint());
    failed
}

fn with_reason(kind: ErrorKind, message: String, reason: &str) -> Error {
    let mut error = Error::new(kind, message);
    error.causes.push(reason.to_owned());
    error
}

/// A store's failure in a transfer.
pub(super) fn store_error(
    reference: &Reference,
    error: store::Error,
    remote: fn(&Reference, &registry::Error) -> Error,
) -> Error {
    match registry_cause(&error) {
        Some(cause) => remote(reference, cause),
        None => ImageError::from(error).into(),
    }
}
