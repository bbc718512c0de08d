//! `/_ping`, `/version` and `/info`.

use hyper::header::{CACHE_CONTROL, HeaderName, PRAGMA};
use ketch_engine::Result;
use serde_json::json;

use crate::call::Call;
use crate::info;
use crate::reply::Reply;
use crate::shared::Shared;
use crate::version::{NEWEST, OLDEST};

/// `GET` and `HEAD /_ping`.
pub fn ping(_: &Shared, _: &Call) -> Result<Reply> {
    Ok(Reply::text("OK")
        // 1 tells clients to build without BuildKit's own protocol.
        .with(HeaderName::from_static("builder-version"), "1")
        .with(HeaderName::from_static("swarm"), "inactive")
        .with(CACHE_CONTROL, "no-cache, no-store, must-revalidate")
        .with(PRAGMA, "no-cache"))
}

/// `GET /version`.
pub fn version(_: &Shared, _: &Call) -> Result<Reply> {
    let arch = ketch_spec::Platform::host().architecture;
    let kernel = info::kernel_version();
    let (newest, oldest) = (NEWEST.to_string(), OLDEST.to_string());
    Ok(Reply::json(json!({
        "Platform": {"Name": "ketch"},
        "Version": crate::PROGRAM_VERSION,
        "ApiVersion": newest,
        "MinAPIVersion": oldest,
        "Os": "linux",
        "Arch": arch,
        "KernelVersion": kernel,
        "GitCommit": "",
        "GoVersion": "",
        "BuildTime": "",
        "Components": [{
            "Name": "Engine",
            "Version": crate::PROGRAM_VERSION,
            "Details": {
                "ApiVersion": newest, "MinAPIVersion": oldest, "Os": "linux", "Arch": arch, "KernelVersion": kernel,
                "Experimental": "false", "GitCommit": "", "GoVersion": "", "BuildTime": "",
            },
        }],
    })))
}

/// `GET /info`.
pub fn info(shared: &Shared, _: &Call) -> Result<Reply> {
    info::document(&shared.engine).map(Reply::json)
}
