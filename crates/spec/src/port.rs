//! Ports: `[ip:][hostPort]:containerPort[/proto]` with ranges, as `-p` and EXPOSE write them.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Transport protocols that can be published.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

/// A port of a container, written `80/tcp`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Port {
    /// Number, not 0.
    pub number: u16,
    /// Protocol.
    pub protocol: Protocol,
}

/// One published port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PortMapping {
    /// Address of the host; None means all.
    pub host_ip: Option<IpAddr>,
    /// Port of the host; None means one that the kernel chooses.
    pub host_port: Option<u16>,
    /// For a host range with one container port: the last port of the range.
    #[serde(default)]
    pub host_port_end: Option<u16>,
    /// Port in the container.
    pub container: Port,
}

/// Why a text is not a port or a publish specification; the words are Docker's where it has them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PortError {
    /// The container's port or range.
    #[error("invalid containerPort: {text}")]
    Container {
        /// That part.
        text: String,
    },
    /// The host's port or range.
    #[error("invalid hostPort: {text}")]
    Host {
        /// That part.
        text: String,
    },
    /// The address.
    #[error("invalid IP address: {text}")]
    Address {
        /// That part.
        text: String,
    },
    /// The protocol.
    #[error("invalid proto: {text}")]
    Protocol {
        /// That part.
        text: String,
    },
    /// Nothing after the last colon.
    #[error("no port specified: {text}<empty>")]
    Missing {
        /// What was given.
        text: String,
    },
    /// Ranges of different lengths.
    #[error("invalid ranges specified for container and host Ports: {container} and {host}")]
    Ranges {
        /// The container's range.
        container: String,
        /// The host's range.
        host: String,
    },
    /// `--expose` and EXPOSE take no host part.
    #[error("invalid port format for --expose: {text}")]
    Expose {
        /// What was given.
        text: String,
    },
    /// A field of the long form that is not `name=value`.
    #[error("invalid publish opts format (should be name=value but got '{field}')")]
    LongField {
        /// The field.
        field: String,
    },
    /// A field of the long form that we do not know.
    #[error("invalid publish opts: unknown key '{key}' (known: target, published, protocol, mode)")]
    LongKey {
        /// The key.
        key: String,
    },
    /// A `mode` other than host or ingress.
    #[error("invalid publish opts: mode '{mode}' is neither host nor ingress")]
    LongMode {
        /// The mode.
        mode: String,
    },
}

impl FromStr for Protocol {
    type Err = PortError;
    fn from_str(text: &str) -> Result<Self, PortError> {
        match text.to_ascii_lowercase().as_str() {
            "tcp" => Ok(Self::Tcp),
            "udp" => Ok(Self::Udp),
            "sctp" => Ok(Self::Sctp),
            _ => Err(PortError::Protocol { text: text.into() }),
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        })
    }
}

impl FromStr for Port {
    type Err = PortError;
    /// Reads one port: `80` or `80/udp`.
    fn from_str(text: &str) -> Result<Self, PortError> {
        match parse_expose(text)?[..] {
            [port] => Ok(port),
            _ => Err(PortError::Container { text: text.into() }),
        }
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.protocol)
    }
}

impl fmt::Display for PortMapping {
    /// The `-p` notation: `127.0.0.1:8080:80/tcp`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host_ip {
            Some(IpAddr::V4(address)) => write!(f, "{address}:")?,
            Some(IpAddr::V6(address)) => write!(f, "[{address}]:")?,
            None => {}
        }
        match (self.host_port, self.host_port_end) {
            (Some(first), Some(last)) => write!(f, "{first}-{last}:")?,
            (Some(port), None) => write!(f, "{port}:")?,
            (None, _) if self.host_ip.is_some() => f.write_str(":")?,
            (None, _) => {}
        }
        write!(f, "{}", self.container)
    }
}

/// Reads one `-p` in its short or long form; ranges give one mapping a port.
pub fn parse_publish(text: &str) -> Result<Vec<PortMapping>, PortError> {
    if text.contains('=') {
        return parse_long(text);
    }
    let (front, container) = match text.rsplit_once(':') {
        Some((front, container)) => (Some(front), container),
        None => (None, text),
    };
    let (address, host) = match front {
        None => ("", ""),
        Some(front) => front.rsplit_once(':').unwrap_or(("", front)),
    };
    let (range, protocol) = match container.split_once('/') {
        Some((range, protocol)) => (range, protocol),
        None => (container, "tcp"),
    };
    if range.is_empty() {
        return Err(PortError::Missing { text: text.into() });
    }
    let host_ip = parse_address(address)?;
    expand(host_ip, host, range, protocol)
}

/// Reads `target=80,published=8080,protocol=tcp,mode=host`.
fn parse_long(text: &str) -> Result<Vec<PortMapping>, PortError> {
    let (mut target, mut published, mut protocol) = ("", "", "tcp");
    for field in text.split(',') {
        match field.split_once('=') {
            Some(("target", value)) => target = value,
            Some(("published", value)) => published = value,
            Some(("protocol", value)) => protocol = value,
            Some(("mode", "host" | "ingress")) => {}
            Some(("mode", mode)) => return Err(PortError::LongMode { mode: mode.into() }),
            Some((key, _)) if !key.is_empty() => {
                return Err(PortError::LongKey { key: key.into() });
            }
            _ => {
                return Err(PortError::LongField {
                    field: field.into(),
                });
            }
        }
    }
    if target.is_empty() {
        return Err(PortError::Missing { text: text.into() });
    }
    expand(None, published, target, protocol)
}

fn expand(
    host_ip: Option<IpAddr>,
    host: &str,
    container: &str,
    protocol: &str,
) -> Result<Vec<PortMapping>, PortError> {
    let (first, last) = parse_range(container).ok_or_else(|| PortError::Container {
        text: container.into(),
    })?;
    let protocol = protocol.parse()?;
    let mapping = |number, host_port, host_port_end| PortMapping {
        host_ip,
        host_port,
        host_port_end,
        container: Port { number, protocol },
    };
    // Docker takes a host port of 0 for "any".
    if host.is_empty() || host == "0" {
        return Ok((first..=last)
            .map(|number| mapping(number, None, None))
            .collect());
    }
    let (host_first, host_last) =
        parse_range(host).ok_or_else(|| PortError::Host { text: host.into() })?;
    if last - first == host_last - host_first {
        let pairs = (first..=last).zip(host_first..=host_last);
        return Ok(pairs
            .map(|(number, port)| mapping(number, Some(port), None))
            .collect());
    }
    if first != last {
        return Err(PortError::Ranges {
            container: container.into(),
            host: host.into(),
        });
    }
    Ok(vec![mapping(first, Some(host_first), Some(host_last))])
}

fn parse_address(text: &str) -> Result<Option<IpAddr>, PortError> {
    let wrong = || PortError::Address { text: text.into() };
    if text.is_empty() {
        return Ok(None);
    }
    let bare = match text.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']').ok_or_else(wrong)?,
        None => text,
    };
    bare.parse().map(Some).map_err(|_| wrong())
}

/// Reads `--expose` or EXPOSE: `80`, `53/udp`, `8000-8010/tcp`; ranges give one entry a port.
pub fn parse_expose(text: &str) -> Result<Vec<Port>, PortError> {
    if text.contains(':') {
        return Err(PortError::Expose { text: text.into() });
    }
    let (range, protocol) = match text.split_once('/') {
        Some((range, protocol)) => (range, protocol.parse()?),
        None => (text, Protocol::Tcp),
    };
    let (first, last) =
        parse_range(range).ok_or_else(|| PortError::Container { text: range.into() })?;
    Ok((first..=last)
        .map(|number| Port { number, protocol })
        .collect())
}

/// `80` or `80-90`; ports from 1, in order.
fn parse_range(text: &str) -> Option<(u16, u16)> {
    let number = |part: &str| -> Option<u16> {
        let digits = !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        part.parse().ok().filter(|n| digits && *n != 0)
    };
    match text.split_once('-') {
        None => number(text).map(|port| (port, port)),
        Some((first, last)) => {
            let (first, last) = (number(first)?, number(last)?);
            (first <= last).then_some((first, last))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shown(text: &str) -> String {
        match parse_publish(text) {
            Ok(mappings) => mappings
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(" "),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn short_form() {
        let cases = [
            ("80", "80/tcp"),
            ("8080:80", "8080:80/tcp"),
            ("8080:80/udp", "8080:80/udp"),
            ("8080:80/TCP", "8080:80/tcp"),
            ("127.0.0.1:8080:80", "127.0.0.1:8080:80/tcp"),
            ("127.0.0.1::80", "127.0.0.1::80/tcp"),
            ("[::1]:8080:80", "[::1]:8080:80/tcp"),
            ("::1:8080:80", "[::1]:8080:80/tcp"),
            ("0:80", "80/tcp"),
            (":80", "80/tcp"),
            ("8000-8002:80-82", "8000:80/tcp 8001:81/tcp 8002:82/tcp"),
            ("80-81", "80/tcp 81/tcp"),
            ("8000-8010:80", "8000-8010:80/tcp"),
            ("0.0.0.0:53:53/udp", "0.0.0.0:53:53/udp"),
        ];
        for (text, wanted) in cases {
            assert_eq!(shown(text), wanted, "{text}");
        }
    }

    #[test]
    fn long_form() {
        let text = "target=80,published=8080,protocol=udp,mode=host";
        assert_eq!(shown(text), "8080:80/udp");
        assert_eq!(shown("target=80"), "80/tcp");
        assert_eq!(
            shown("target=80,host=x"),
            "invalid publish opts: unknown key 'host' (known: target, published, protocol, mode)"
        );
        assert_eq!(
            shown("target=80,x"),
            "invalid publish opts format (should be name=value but got 'x')"
        );
        assert_eq!(
            shown("published=80"),
            "no port specified: published=80<empty>"
        );
        assert_eq!(
            shown("target=80,mode=x"),
            "invalid publish opts: mode 'x' is neither host nor ingress"
        );
    }

    #[test]
    fn refusals_use_dockers_words() {
        let cases = [
            ("x", "invalid containerPort: x"),
            ("80:x", "invalid containerPort: x"),
            ("x:80", "invalid hostPort: x"),
            ("0", "invalid containerPort: 0"),
            ("65536", "invalid containerPort: 65536"),
            ("+80", "invalid containerPort: +80"),
            ("82-80", "invalid containerPort: 82-80"),
            ("host:80:80", "invalid IP address: host"),
            ("[::1:80:80", "invalid IP address: [::1"),
            ("80/xyz", "invalid proto: xyz"),
            ("8080:", "no port specified: 8080:<empty>"),
            (
                "8000-8001:80-82",
                "invalid ranges specified for container and host Ports: 80-82 and 8000-8001",
            ),
        ];
        for (text, message) in cases {
            assert_eq!(shown(text), message, "{text}");
        }
    }

    #[test]
    fn expose() {
        let ports = parse_expose("8000-8002/udp").unwrap();
        assert_eq!(
            ports.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["8000/udp", "8001/udp", "8002/udp"]
        );
        let message = parse_expose("80:80").unwrap_err().to_string();
        assert_eq!(message, "invalid port format for --expose: 80:80");
        assert_eq!("80".parse::<Port>().unwrap().to_string(), "80/tcp");
        assert!("80-81".parse::<Port>().is_err());
        assert_eq!(parse_expose("1-65535").unwrap().len(), 65535);
    }

    proptest! {
        #[test]
        fn never_panics(text in "[0-9:/a-z=,\\[\\].-]{0,30}") {
            let _ = parse_publish(&text);
            let _ = parse_expose(&text);
        }

        #[test]
        fn shown_reads_back(
            address in proptest::option::of(any::<IpAddr>()),
            host in 1u16.., container in 1u16..,
            protocol in proptest::sample::select(vec![Protocol::Tcp, Protocol::Udp, Protocol::Sctp]),
        ) {
            let mapping = PortMapping {
                host_ip: address,
                host_port: Some(host),
                host_port_end: None,
                container: Port { number: container, protocol },
            };
            prop_assert_eq!(parse_publish(&mapping.to_string()).unwrap(), vec![mapping]);
        }
    }
}
