//! Plain HTTP by way of a proxy: requests name the whole URL (RFC 9112, section 3.2.2, "absolute-form"), as proxies expect
//! it that tunnel to the ports of TLS only.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, DefaultConnector, NextTimeout, Transport,
};
use ureq::{Agent, Error, Proxy};

/// An agent whose every connection is one to the proxy, for one request.
pub(crate) fn agent(config: Config, proxy: &Proxy) -> Agent {
    let proxy = proxy.uri().clone();
    let resolver = Fixed {
        resolver: DefaultResolver::default(),
        proxy: proxy.clone(),
    };
    let connector = ToProxy {
        connector: DefaultConnector::default(),
        proxy,
    };
    Agent::with_parts(config, connector, resolver)
}

/// What a proxy with a user wants to see in `Proxy-Authorization`.
pub(crate) fn authorization(proxy: &Proxy) -> Option<String> {
    if proxy.username().is_none() && proxy.password().is_none() {
        return None;
    }
    let user = proxy.username().unwrap_or_default();
    let password = proxy.password().unwrap_or_default();
    Some(format!(
        "Basic {}",
        STANDARD.encode(format!("{user}:{password}"))
    ))
}

/// Resolves the proxy's name, whatever is asked for: it is the proxy that knows the others.
#[derive(Debug)]
struct Fixed {
    resolver: DefaultResolver,
    proxy: Uri,
}

impl Resolver for Fixed {
    fn resolve(
        &self,
        _: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, Error> {
        self.resolver.resolve(&self.proxy, config, timeout)
    }
}

#[derive(Debug)]
struct ToProxy {
    connector: DefaultConnector,
    proxy: Uri,
}

impl Connector<()> for ToProxy {
    type Out = Forwarded;

    fn connect(
        &self,
        details: &ConnectionDetails,
        _: Option<()>,
    ) -> Result<Option<Forwarded>, Error> {
        let to_proxy = ConnectionDetails {
            uri: &self.proxy,
            addrs: details.addrs.clone(),
            config: details.config,
            request_level: details.request_level,
            resolver: details.resolver,
            now: details.now,
            timeout: details.timeout,
            current_time: details.current_time.clone(),
            run_connector: details.run_connector.clone(),
            register_shutdown: details.register_shutdown.clone(),
        };
        let connected = self.connector.connect(&to_proxy, None)?;
        let origin = details
            .uri
            .authority()
            .map(|authority| format!("http://{authority}"));
        Ok(connected.map(|transport| Forwarded { transport, origin }))
    }
}

/// A connection to the proxy, on which the head of the request has to get the origin before its path.
struct Forwarded {
    transport: Box<dyn Transport>,
    /// Taken by the head.
    origin: Option<String>,
}

impl fmt::Debug for Forwarded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Forwarded").finish_non_exhaustive()
    }
}

impl Transport for Forwarded {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.transport.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        let mut amount = amount;
        if let Some(origin) = self.origin.take() {
            let output = self.transport.buffers().output();
            amount = insert_origin(output, amount, origin.as_bytes())
                .ok_or_else(|| Error::BadUri("the head of the request is too long".into()))?;
        }
        self.transport.transmit_output(amount, timeout)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.transport.await_input(timeout)
    }

    fn is_open(&mut self) -> bool {
        self.transport.is_open()
    }
}

/// Turns `GET /path` into `GET http://host/path` in the first `amount` bytes; how many they are now, if they fit.
fn insert_origin(output: &mut [u8], amount: usize, origin: &[u8]) -> Option<usize> {
    let path = output[..amount].iter().position(|byte| *byte == b' ')? + 1;
    let end = amount + origin.len();
    if end > output.len() {
        return None;
    }
    output.copy_within(path..amount, path + origin.len());
    output[path..path + origin.len()].copy_from_slice(origin);
    Some(end)
}

#[cfg(test)]
mod tests {
    use super::insert_origin;

    #[test]
    fn the_origin_comes_before_the_path() {
        let mut output = *b"GET /v2/ HTTP/1.1________________";
        let end = insert_origin(&mut output, 17, b"http://r:80").unwrap();
        assert_eq!(&output[..end], b"GET http://r:80/v2/ HTTP/1.1");
        assert_eq!(insert_origin(&mut output, 33, b"http://r"), None);
        assert_eq!(insert_origin(&mut [b'x'; 9], 3, b"o"), None);
    }
}
