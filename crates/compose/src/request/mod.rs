//! A service as the engine's request for one of its containers.

use std::collections::BTreeMap;

use ketch_engine::container::CreateRequest;
use ketch_engine::container::NetworkRequest;
use ketch_engine::container::config::{EndpointConfig, LogConfig, RestartPolicy};
use ketch_spec::image::HealthCheck;
use ketch_spec::port::{parse_expose, parse_publish};

use crate::error::LoadError;
use crate::model::{Project, Service, json, strings};
use crate::reader::Reader;

mod files;
mod mounts;
mod resources;

pub(crate) use files::{FileToCopy, files_to_copy};
pub(crate) use mounts::carry_over;

type Result<T> = std::result::Result<T, LoadError>;

/// Label of everything that belongs to a project.
pub const PROJECT: &str = "com.docker.compose.project";
/// Label with the service's name.
pub const SERVICE: &str = "com.docker.compose.service";
/// Label with the container's number within its service, from 1.
pub const NUMBER: &str = "com.docker.compose.container-number";
/// Label with the hash of what the container was made from.
pub const CONFIG_HASH: &str = "com.docker.compose.config-hash";
/// Label: `True` for the container of a `run`.
pub const ONE_OFF: &str = "com.docker.compose.oneoff";
/// Label with the image id the container was made from.
pub const IMAGE: &str = "com.docker.compose.image";
/// Label of networks: their key.
pub const NETWORK: &str = "com.docker.compose.network";
/// Label of volumes: their key.
pub const VOLUME: &str = "com.docker.compose.volume";

/// Label: the id of the container whose place this one takes.
pub const REPLACE: &str = "com.docker.compose.replace";
/// Label of a `run`'s container: what makes its name unique.
pub const SLUG: &str = "com.docker.compose.slug";

/// Digest over everything that a change of which makes the container another one.
pub fn config_hash(project: &Project, service: &Service) -> String {
    let mut value = json(&service.tree);
    if let Some(map) = value.as_object_mut() {
        for key in [
            "build",
            "pull_policy",
            "scale",
            "depends_on",
            "profiles",
            "attach",
            "develop",
        ] {
            map.remove(key);
        }
        if let Some(deploy) = map
            .get_mut("deploy")
            .and_then(|deploy| deploy.as_object_mut())
        {
            deploy.remove("replicas");
        }
        let contents = files::contents(project, service);
        if !contents.is_empty() {
            map.insert("contents".into(), contents.into());
        }
    }
    ketch_spec::Digest::of(value.to_string().as_bytes())
        .hex()
        .to_owned()
}

/// The name of a service's container.
pub fn container_name(project: &Project, service: &Service, number: u32) -> String {
    service
        .container_name
        .clone()
        .unwrap_or_else(|| format!("{}-{}-{number}", project.name, service.name))
}

/// What the engine is asked to make. Modes that name another service are left to the caller, who knows its container:
/// `service:x` becomes `container:NAME` by `container_of`.
///
/// # Errors
/// A value that is not what its key needs, with its place.
pub fn create_request(
    project: &Project,
    service: &Service,
    number: u32,
    container_of: &dyn Fn(&str) -> Option<String>,
) -> Result<CreateRequest> {
    let reader = service.reader();
    let text = |key: &str| reader.get(key).map(|value| value.text()).transpose();
    let texts = |key: &str| {
        reader
            .get(key)
            .map_or(Ok(Vec::new()), |value| value.texts())
    };
    let flag = |key: &str| reader.get(key).map_or(Ok(false), |value| value.boolean());
    let stdin = flag("stdin_open")?;
    let mut request = CreateRequest {
        name: Some(container_name(project, service, number)),
        image: service.image.clone(),
        platform: text("platform")?,
        pull: ketch_engine::container::PullPolicy::Never,
        command: texts("command")?,
        entrypoint: reader
            .get("entrypoint")
            .map(|value| value.texts())
            .transpose()?,
        env: strings(reader.get("environment"))?
            .into_iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect(),
        working_dir: text("working_dir")?,
        user: text("user")?,
        groups: texts("group_add")?,
        tty: flag("tty")?,
        open_stdin: stdin,
        hostname: text("hostname")?,
        domainname: text("domainname")?,
        labels: labels(project, service, number)?,
        mounts: mounts::mounts(project, &reader)?,
        volumes_from: volumes_from(&reader, container_of)?,
        network: network(project, service, container_of)?,
        dns: texts("dns")?,
        dns_search: texts("dns_search")?,
        dns_options: texts("dns_opt")?,
        extra_hosts: texts("extra_hosts")?
            .iter()
            .map(|host| host.replacen('=', ":", 1))
            .collect(),
        resources: resources::resources(&reader)?,
        security: resources::security(&reader)?,
        namespaces: resources::namespaces(&reader, container_of)?,
        restart: restart(&reader)?,
        init: flag("init")?,
        stop_signal: text("stop_signal")?,
        stop_timeout_s: service
            .stop_grace_period
            .map(|period| i64::try_from(period.as_secs()).unwrap_or(i64::MAX)),
        health: reader
            .get("healthcheck")
            .map(|check| health(&check))
            .transpose()?,
        log: logging(&reader)?,
        ..CreateRequest::default()
    };
    ports(&reader, &mut request)?;
    Ok(request)
}

fn labels(project: &Project, service: &Service, number: u32) -> Result<BTreeMap<String, String>> {
    let mut labels = strings(service.reader().get("labels"))?;
    let files: Vec<String> = project
        .files
        .iter()
        .map(|file| file.to_string_lossy().into_owned())
        .collect();
    for (key, value) in [
        (PROJECT, project.name.clone()),
        (SERVICE, service.name.clone()),
        (NUMBER, number.to_string()),
        (CONFIG_HASH, config_hash(project, service)),
        (ONE_OFF, "False".into()),
        (
            "com.docker.compose.project.working_dir",
            project.directory.to_string_lossy().into_owned(),
        ),
        ("com.docker.compose.project.config_files", files.join(",")),
        ("com.docker.compose.depends_on", depends_on_label(service)),
        (
            "com.docker.compose.version",
            env!("CARGO_PKG_VERSION").into(),
        ),
    ] {
        labels.insert(key.to_owned(), value);
    }
    Ok(labels)
}

fn depends_on_label(service: &Service) -> String {
    let one = |(name, dependency): (&String, &crate::model::Dependency)| {
        let condition = match dependency.condition {
            crate::model::Condition::Started => "service_started",
            crate::model::Condition::Healthy => "service_healthy",
            crate::model::Condition::Completed => "service_completed_successfully",
        };
        format!("{name}:{condition}:{}", dependency.restart)
    };
    service
        .depends_on
        .iter()
        .map(one)
        .collect::<Vec<_>>()
        .join(",")
}

fn ports(reader: &Reader<'_>, request: &mut CreateRequest) -> Result<()> {
    if let Some(ports) = reader.get("ports") {
        for port in ports.items()? {
            let part = |key: &str| port.get(key).map(|value| value.text()).transpose();
            let mut text = String::new();
            if let Some(address) = part("host_ip")? {
                text = if address.contains(':') {
                    format!("[{address}]:")
                } else {
                    format!("{address}:")
                };
            }
            match part("published")?.filter(|published| published != "0") {
                Some(published) => text.push_str(&format!("{published}:")),
                None if !text.is_empty() => text.push(':'),
                None => {}
            }
            text.push_str(&part("target")?.unwrap_or_default());
            text.push_str(&format!(
                "/{}",
                part("protocol")?.unwrap_or_else(|| "tcp".into())
            ));
            request
                .ports
                .extend(parse_publish(&text).map_err(|error| port.error(error.to_string()))?);
        }
    }
    if let Some(expose) = reader.get("expose") {
        for text in expose.texts()? {
            request
                .exposed
                .extend(parse_expose(&text).map_err(|error| expose.error(error.to_string()))?);
        }
    }
    Ok(())
}

fn network(
    project: &Project,
    service: &Service,
    container_of: &dyn Fn(&str) -> Option<String>,
) -> Result<NetworkRequest> {
    let reader = service.reader();
    match service.network_mode.as_deref() {
        Some("host") => return Ok(NetworkRequest::Host),
        Some("none") => return Ok(NetworkRequest::None),
        Some("bridge" | "default") => return Ok(NetworkRequest::Default),
        Some(mode) => {
            let container = mode.strip_prefix("container:").map(ToOwned::to_owned);
            let container =
                container.or_else(|| mode.strip_prefix("service:").and_then(container_of));
            let at = reader.get("network_mode").unwrap_or(reader.clone());
            return container
                .map(NetworkRequest::Container)
                .ok_or_else(|| at.error(format!("{mode:?} is not a network mode")));
        }
        None => {}
    }
    let mut attachments: Vec<_> = service.networks.iter().collect();
    attachments.sort_by_key(|(key, attachment)| (-attachment.priority, (*key).clone()));
    let links = reader
        .get("links")
        .map_or(Ok(Vec::new()), |links| links.texts())?;
    if links.iter().any(|link| link.contains(':')) {
        return Err(reader.error(
            "links with an alias are not supported: give the other service a network alias",
        ));
    }
    let endpoint = |(key, attachment): (&String, &crate::model::Attachment)| {
        let mut aliases = vec![service.name.clone()];
        aliases.extend(attachment.aliases.clone());
        EndpointConfig {
            network: project
                .networks
                .get(key)
                .map_or_else(|| key.clone(), |network| network.name.clone()),
            aliases,
            ipv4: attachment.ipv4,
            ipv6: attachment.ipv6,
            mac: attachment.mac.clone(),
        }
    };
    let mut endpoints: Vec<EndpointConfig> = attachments.into_iter().map(endpoint).collect();
    if let (Some(mac), Some(first)) = (reader.get("mac_address"), endpoints.first_mut()) {
        let text = mac.text()?;
        first.mac.get_or_insert(text);
    }
    Ok(NetworkRequest::Networks(endpoints))
}

fn volumes_from(
    reader: &Reader<'_>,
    container_of: &dyn Fn(&str) -> Option<String>,
) -> Result<Vec<String>> {
    let Some(listed) = reader.get("volumes_from") else {
        return Ok(Vec::new());
    };
    listed
        .texts()?
        .into_iter()
        .map(|source| {
            if let Some(container) = source.strip_prefix("container:") {
                return Ok(container.to_owned());
            }
            let (service, mode) = source.split_once(':').unwrap_or((&source, "rw"));
            let container = container_of(service)
                .ok_or_else(|| listed.error(format!("names an unknown service {service}")))?;
            Ok(format!("{container}:{mode}"))
        })
        .collect()
}

fn restart(reader: &Reader<'_>) -> Result<RestartPolicy> {
    let Some(value) = reader.get("restart") else {
        let deploy = reader.get("deploy");
        return match deploy.and_then(|deploy| deploy.get("restart_policy")) {
            Some(policy) => deployed_restart(&policy),
            None => Ok(RestartPolicy::No),
        };
    };
    let text = value.text()?;
    let (name, count) = match text.split_once(':') {
        Some((name, count)) => (name, Some(count)),
        None => (text.as_str(), None),
    };
    match (name, count) {
        ("no" | "false", None) => Ok(RestartPolicy::No),
        ("always", None) => Ok(RestartPolicy::Always),
        ("unless-stopped", None) => Ok(RestartPolicy::UnlessStopped),
        ("on-failure", None) => Ok(RestartPolicy::OnFailure(0)),
        ("on-failure", Some(count)) => count
            .parse()
            .map(RestartPolicy::OnFailure)
            .map_err(|_| value.error(format!("has an invalid count {count:?}"))),
        _ => Err(value.error(format!(
            "must be no, always, on-failure[:n] or unless-stopped, not {text:?}"
        ))),
    }
}

/// `deploy.restart_policy`, which counts where there is no `restart`.
fn deployed_restart(policy: &Reader<'_>) -> Result<RestartPolicy> {
    policy.check_keys(&["condition", "max_attempts"], &["delay", "window"])?;
    let attempts = policy.get("max_attempts");
    let attempts = attempts.map(|count| count.parsed("a number")).transpose()?;
    let condition = policy.get("condition");
    match condition
        .map(|condition| condition.text())
        .transpose()?
        .as_deref()
    {
        Some("none") => Ok(RestartPolicy::No),
        Some("on-failure") => Ok(RestartPolicy::OnFailure(attempts.unwrap_or(0))),
        Some("any") | None => Ok(RestartPolicy::Always),
        Some(other) => Err(policy.error(format!(
            "condition must be none, on-failure or any, not {other:?}"
        ))),
    }
}

fn health(check: &Reader<'_>) -> Result<HealthCheck> {
    let nanoseconds = |key: &str| -> Result<i64> {
        let duration = check.get(key).map(|value| value.duration()).transpose()?;
        Ok(duration.map_or(0, |duration| {
            i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
        }))
    };
    Ok(HealthCheck {
        test: check
            .get("test")
            .map_or(Ok(Vec::new()), |test| test.texts())?,
        interval: nanoseconds("interval")?,
        timeout: nanoseconds("timeout")?,
        start_period: nanoseconds("start_period")?,
        start_interval: nanoseconds("start_interval")?,
        retries: check
            .get("retries")
            .map_or(Ok(0), |retries| retries.parsed("a number"))?,
    })
}

fn logging(reader: &Reader<'_>) -> Result<LogConfig> {
    let Some(logging) = reader.get("logging") else {
        return Ok(LogConfig::default());
    };
    logging.check_keys(&["driver", "options"], &[])?;
    let driver = logging
        .get("driver")
        .map(|driver| driver.text())
        .transpose()?;
    Ok(LogConfig {
        driver: driver.unwrap_or_else(|| LogConfig::default().driver),
        options: strings(logging.get("options"))?,
    })
}
