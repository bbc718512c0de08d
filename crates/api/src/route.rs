//! The table of routes: method, pattern, and what happens.

use ketch_engine::Result;

use crate::call::{Call, decode};
use crate::reply::Reply;
use crate::shared::Shared;
use crate::upload::Upload;
use crate::{
    archive, container, events, image, image_pull, image_push, network, registry, system, volume,
};

/// A handler: converts, calls one verb, converts. Runs on a blocking thread.
pub type Handler = fn(&Shared, &Call) -> Result<Reply>;

/// A handler that reads the body itself.
pub type Uploader = fn(&Shared, &Call, &mut Upload) -> Result<Reply>;

/// What happens on a route.
#[derive(Clone, Copy)]
pub enum Action {
    /// A verb of the engine.
    Verb(Handler),
    /// The connection becomes a container's standard streams.
    Attach,
    /// The connection becomes an exec session's standard streams.
    ExecStart,
    /// As a verb, of a body that is read as it comes.
    Upload(Uploader),
    /// Docker has it and we do not, yet.
    NotServed,
}

/// One line of the table.
pub struct Route {
    /// The method.
    pub method: &'static str,
    /// The path: `{id}` is one part, `{name}` one or more.
    pub pattern: &'static str,
    /// What happens.
    pub action: Action,
}

const fn verb(method: &'static str, pattern: &'static str, handler: Handler) -> Route {
    Route {
        method,
        pattern,
        action: Action::Verb(handler),
    }
}

const fn upload(method: &'static str, pattern: &'static str, handler: Uploader) -> Route {
    Route {
        method,
        pattern,
        action: Action::Upload(handler),
    }
}

const fn not_served(method: &'static str, pattern: &'static str) -> Route {
    Route {
        method,
        pattern,
        action: Action::NotServed,
    }
}

/// The first that matches counts.
pub const ROUTES: &[Route] = &[
    verb("GET", "/_ping", system::ping),
    verb("HEAD", "/_ping", system::ping),
    verb("GET", "/version", system::version),
    verb("GET", "/info", system::info),
    verb("GET", "/containers/json", container::list::handle),
    verb("POST", "/containers/create", container::create::handle),
    verb("GET", "/containers/{id}/json", container::verbs::inspect),
    verb("GET", "/containers/{id}/top", container::verbs::top),
    verb("GET", "/containers/{id}/logs", container::logs::handle),
    verb("POST", "/containers/{id}/resize", container::verbs::resize),
    verb("POST", "/containers/{id}/start", container::verbs::start),
    verb("POST", "/containers/{id}/stop", container::verbs::stop),
    verb(
        "POST",
        "/containers/{id}/restart",
        container::verbs::restart,
    ),
    verb("POST", "/containers/{id}/kill", container::verbs::kill),
    verb("POST", "/containers/{id}/pause", container::verbs::pause),
    verb(
        "POST",
        "/containers/{id}/unpause",
        container::verbs::unpause,
    ),
    verb("POST", "/containers/{id}/rename", container::verbs::rename),
    verb("POST", "/containers/{id}/wait", container::wait::handle),
    verb("DELETE", "/containers/{id}", container::verbs::remove),
    Route {
        method: "POST",
        pattern: "/containers/{id}/attach",
        action: Action::Attach,
    },
    verb("POST", "/containers/{id}/exec", container::exec::create),
    Route {
        method: "POST",
        pattern: "/exec/{id}/start",
        action: Action::ExecStart,
    },
    verb("POST", "/exec/{id}/resize", container::exec::resize),
    verb("GET", "/exec/{id}/json", container::exec::inspect),
    verb("GET", "/containers/{id}/changes", archive::changes),
    verb("GET", "/containers/{id}/export", archive::export),
    verb("POST", "/containers/prune", archive::prune_containers),
    verb("POST", "/commit", archive::commit),
    verb("GET", "/images/json", image::list),
    verb("GET", "/images/get", archive::save),
    verb("GET", "/images/{name}/get", archive::save_one),
    verb("POST", "/images/prune", archive::prune_images),
    upload("POST", "/images/load", archive::load),
    verb("POST", "/build/prune", archive::prune_cache),
    verb("GET", "/events", events::handle),
    verb("GET", "/system/df", archive::usage),
    upload("POST", "/images/create", image_pull::handle),
    verb("POST", "/images/{name}/push", image_push::handle),
    verb("GET", "/images/search", registry::search),
    verb("GET", "/distribution/{name}/json", registry::distribution),
    verb("POST", "/auth", registry::auth),
    verb("GET", "/images/{name}/json", image::inspect),
    verb("GET", "/images/{name}/history", image::history),
    verb("POST", "/images/{name}/tag", image::tag),
    verb("DELETE", "/images/{name}", image::remove),
    verb("GET", "/networks", network::list),
    verb("GET", "/networks/", network::list),
    verb("POST", "/networks/create", network::create),
    verb("POST", "/networks/prune", network::prune),
    verb("GET", "/networks/{id}", network::inspect),
    verb("DELETE", "/networks/{id}", network::remove),
    verb("POST", "/networks/{id}/connect", network::connect),
    verb("POST", "/networks/{id}/disconnect", network::disconnect),
    verb("GET", "/volumes", volume::list),
    verb("POST", "/volumes/create", volume::create),
    verb("POST", "/volumes/prune", volume::prune),
    verb("GET", "/volumes/{id}", volume::inspect),
    verb("DELETE", "/volumes/{id}", volume::remove),
    not_served("GET", "/containers/{id}/stats"),
    not_served("POST", "/containers/{id}/update"),
    not_served("GET", "/containers/{id}/attach/ws"),
    not_served("HEAD", "/containers/{id}/archive"),
    not_served("GET", "/containers/{id}/archive"),
    not_served("PUT", "/containers/{id}/archive"),
    not_served("GET", "/containers/{id}/checkpoints"),
    not_served("POST", "/containers/{id}/checkpoints"),
    not_served("DELETE", "/containers/{id}/checkpoints/{name}"),
    not_served("POST", "/build"),
    not_served("POST", "/build/cancel"),
    not_served("GET", "/images/{name}/attestations"),
    not_served("PUT", "/volumes/{id}"),
    not_served("POST", "/session"),
    not_served("POST", "/grpc"),
    not_served("GET", "/plugins"),
    not_served("GET", "/plugins/{name}"),
    not_served("POST", "/plugins/{name}"),
    not_served("DELETE", "/plugins/{name}"),
    not_served("GET", "/swarm"),
    not_served("GET", "/swarm/{name}"),
    not_served("POST", "/swarm/{name}"),
    not_served("GET", "/nodes"),
    not_served("GET", "/nodes/{id}"),
    not_served("DELETE", "/nodes/{id}"),
    not_served("POST", "/nodes/{id}/update"),
    not_served("GET", "/services"),
    not_served("POST", "/services/create"),
    not_served("GET", "/services/{id}"),
    not_served("DELETE", "/services/{id}"),
    not_served("POST", "/services/{id}/update"),
    not_served("GET", "/services/{id}/logs"),
    not_served("GET", "/tasks"),
    not_served("GET", "/tasks/{id}"),
    not_served("GET", "/tasks/{id}/logs"),
    not_served("GET", "/secrets"),
    not_served("POST", "/secrets/create"),
    not_served("GET", "/secrets/{id}"),
    not_served("DELETE", "/secrets/{id}"),
    not_served("POST", "/secrets/{id}/update"),
    not_served("GET", "/configs"),
    not_served("POST", "/configs/create"),
    not_served("GET", "/configs/{id}"),
    not_served("DELETE", "/configs/{id}"),
    not_served("POST", "/configs/{id}/update"),
];

/// The route of a method and a path without its version, and what stands for `{id}` or `{name}`, decoded.
pub fn find(method: &str, path: &str) -> Option<(&'static Route, String)> {
    ROUTES
        .iter()
        .filter(|route| route.method == method)
        .find_map(|route| captured(route.pattern, path).map(|name| (route, decode(name, false))))
}

/// What the first placeholder stands for; an empty text without one. None if the path does not match.
fn captured<'a>(pattern: &str, path: &'a str) -> Option<&'a str> {
    let Some((front, rest)) = pattern.split_once('{') else {
        return (pattern == path).then_some("");
    };
    let (kind, back) = rest.split_once('}')?;
    let tail = path.strip_prefix(front)?;
    let name = match back.split_once('{') {
        // A second placeholder: whatever it stands for is refused with the rest.
        Some((middle, _)) => tail.split_once(middle)?.0,
        None => tail.strip_suffix(back)?,
    };
    let is_one = kind == "name" || !name.contains('/');
    (!name.is_empty() && is_one).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(method: &str, path: &str) -> Option<(&'static str, String)> {
        find(method, path).map(|(route, name)| (route.pattern, name))
    }

    #[test]
    fn names_of_images_may_have_slashes() {
        let (pattern, name) = found("GET", "/images/localhost:5000/a/b:1/json").unwrap();
        assert_eq!(
            (pattern, name.as_str()),
            ("/images/{name}/json", "localhost:5000/a/b:1")
        );
        let (_, name) = found("DELETE", "/images/a%2Fb").unwrap();
        assert_eq!(name, "a/b");
        assert_eq!(found("GET", "/images/json").unwrap().0, "/images/json");
        assert_eq!(found("GET", "/images/get").unwrap().0, "/images/get");
    }

    #[test]
    fn ids_are_one_part() {
        assert_eq!(
            found("GET", "/containers/x/json").unwrap(),
            ("/containers/{id}/json", "x".into())
        );
        assert_eq!(found("GET", "/containers/x/y/json"), None);
        assert_eq!(found("GET", "/containers//json"), None);
        assert_eq!(
            found("GET", "/containers/json").unwrap().0,
            "/containers/json"
        );
        assert_eq!(
            found("POST", "/networks/create").unwrap().0,
            "/networks/create"
        );
        assert_eq!(
            found("DELETE", "/containers/a/checkpoints/b").unwrap().1,
            "a"
        );
    }

    #[test]
    fn the_method_counts() {
        assert_eq!(found("PATCH", "/containers/json"), None);
        assert_eq!(found("POST", "/_ping"), None);
        assert!(found("HEAD", "/_ping").is_some());
    }

    #[test]
    fn no_route_is_there_twice() {
        let mut seen = std::collections::BTreeSet::new();
        for route in ROUTES {
            assert!(
                seen.insert((route.method, route.pattern)),
                "{} {}",
                route.method,
                route.pattern
            );
        }
    }
}
