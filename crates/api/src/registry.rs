//! Registries: log-ins that the client keeps, searches, and what is there under a name.

use ketch_engine::registry::{self, SearchFilter};
use ketch_engine::{Error, ErrorKind, Result};
use serde_json::json;

use crate::call::Call;
use crate::registry_auth::{Auth, engine_for};
use crate::reply::Reply;
use crate::shared::Shared;

/// `POST /auth`: asks the registry; the client keeps what it took.
pub fn auth(shared: &Shared, call: &Call) -> Result<Reply> {
    let auth: Auth = call.json()?;
    let host = registry::host_of_server(&auth.serveraddress)?;
    let Some(credentials) = auth.credentials()? else {
        let message = "a user name and password, or a token, are expected";
        return Err(Error::new(ErrorKind::Invalid, message));
    };
    let token = registry::check_login(shared.engine.registries(), &host, &credentials)?;
    Ok(Reply::json(json!({
        "Status": "Login Succeeded",
        "IdentityToken": token.unwrap_or_default(),
    })))
}

/// `GET /images/search`.
pub fn search(shared: &Shared, call: &Call) -> Result<Reply> {
    let filters = call
        .query
        .filters(&["is-automated", "is-official", "stars"])?;
    let filter = SearchFilter {
        official: filters.boolean("is-official")?,
        automated: filters.boolean("is-automated")?,
        stars: SearchFilter::fewest_stars(filters.values("stars"))?,
    };
    let limit = registry::search_limit(call.query.number("limit")?)?;
    let term = call.query.get("term").unwrap_or_default();
    let host = registry::search_host(term);
    let engine = engine_for(shared, call, host)?;
    let found = registry::search(engine.registries(), term, limit, &filter)?;
    let found = found.into_iter().map(|one| {
        json!({
            "name": one.name,
            "description": one.description,
            "star_count": one.star_count,
            "is_official": one.is_official,
            "is_automated": one.is_automated,
        })
    });
    Ok(Reply::json(found.collect()))
}

/// `GET /distribution/{name}/json`.
pub fn distribution(shared: &Shared, call: &Call) -> Result<Reply> {
    let name = crate::image_pull::named(&call.name)?.with_default_tag();
    let engine = engine_for(shared, call, &name.host)?;
    let found = registry::manifest::describe(engine.registries(), &name)?;
    Ok(Reply::json(json!({
        "Descriptor": found.descriptor,
        "Platforms": found.platforms,
    })))
}
