//! What callers ask of the container verbs: one request type a verb that needs more than a name.

use std::collections::BTreeMap;

use ketch_spec::image::HealthCheck;
use ketch_spec::mount::Mount;
use ketch_spec::port::{Port, PortMapping};

use super::config::{EndpointConfig, LogConfig, Namespaces, Resources, RestartPolicy, Security};

/// When to pull an image.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PullPolicy {
    /// If it is not there.
    #[default]
    Missing,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// `--network` as given, before names are resolved.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum NetworkRequest {
    /// The default network, `bridge`.
    #[default]
    Default,
    /// `host`.
    Host,
    /// `none`.
    None,
    /// `container:NAME`.
    Container(String),
    /// Networks by name or id, in order.
    Networks(Vec<EndpointConfig>),
}

/// A container to make. `None` and empty mean "as the image says".
#[derive(Debug, Clone, Default)]
pub struct CreateRequest {
    /// Name; None draws one.
    pub name: Option<String>,
    /// Image reference, id or id prefix.
    pub image: String,
    /// `os/arch[/variant]`.
    pub platform: Option<String>,
    /// When to pull.
    pub pull: PullPolicy,
    /// Arguments.
    pub command: Vec<String>,
    /// Replaces the image's entrypoint and drops its command; `Some([])` or `Some([""])` clears it.
    pub entrypoint: Option<Vec<String>>,
    /// `NAME=value`; a bare `NAME` removes the image's.
    pub env: Vec<String>,
    /// Working directory.
    pub working_dir: Option<String>,
    /// `user[:group]`.
    pub user: Option<String>,
    /// Supplementary groups.
    pub groups: Vec<String>,
    /// A terminal.
    pub tty: bool,
    /// Standard input stays open.
    pub open_stdin: bool,
    /// Close it when the first client leaves.
    pub stdin_once: bool,
    /// Host name.
    pub hostname: Option<String>,
    /// NIS domain name.
    pub domainname: Option<String>,
    /// Added to the image's labels.
    pub labels: BTreeMap<String, String>,
    /// Mounts.
    pub mounts: Vec<Mount>,
    /// `--volumes-from`: names or ids, each with an optional `:ro` or `:rw`.
    pub volumes_from: Vec<String>,
    /// Networks.
    pub network: NetworkRequest,
    /// `--network-alias`: for the first network.
    pub network_aliases: Vec<String>,
    /// Ports to publish.
    pub ports: Vec<PortMapping>,
    /// Ports to note.
    pub exposed: Vec<Port>,
    /// Publish all exposed ports.
    pub publish_all: bool,
    /// Resolvers.
    pub dns: Vec<String>,
    /// Search domains.
    pub dns_search: Vec<String>,
    /// Resolver options.
    pub dns_options: Vec<String>,
    /// `name:address`.
    pub extra_hosts: Vec<String>,
    /// Limits.
    pub resources: Resources,
    /// Privileges.
    pub security: Security,
    /// Namespaces: `container:NAME` already resolved by [`super::resolve`].
    pub namespaces: Namespaces,
    /// Restart policy.
    pub restart: RestartPolicy,
    /// `--rm`.
    pub auto_remove: bool,
    /// `--init`.
    pub init: bool,
    /// Stop signal.
    pub stop_signal: Option<String>,
    /// Stop time-out in seconds.
    pub stop_timeout_s: Option<i64>,
    /// Health check; fields at 0 come from the image; `["NONE"]` turns it off.
    pub health: Option<HealthCheck>,
    /// Log driver and options.
    pub log: LogConfig,
}
