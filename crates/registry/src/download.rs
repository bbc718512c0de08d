//! A file from any web server, for `import`: no credentials, no digest that anybody knows.

use std::io::Read;

use ureq::http::{Method, header};

use crate::client::Client;
use crate::error::{Error, Problem, Result};
use crate::send::{Answer, Call, Payload, REDIRECTS_MAX, Target, Wanted, retry};
use crate::token::Scope;
use crate::url::Url;

/// A file that is coming.
pub struct Download {
    /// Its length in bytes, if the server says.
    pub length_bytes: Option<u64>,
    /// Its bytes. What breaks off is an error if the server said the length.
    pub reader: Box<dyn Read + Send>,
}

impl std::fmt::Debug for Download {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Download")
            .field("length_bytes", &self.length_bytes)
            .finish_non_exhaustive()
    }
}

impl Client {
    /// Opens the file at an `http` or `https` URL, redirects followed.
    ///
    /// # Errors
    /// [`Error::Host`] for what is no such URL; those of every call; another status than 200.
    pub fn download(&self, url: &str) -> Result<Download> {
        let url = Url::parse(url).ok_or_else(|| Error::Host { host: url.into() })?;
        let mut answer = retry(&self.shared.options.retry, || self.open_url(url.clone()))?;
        if answer.status != 200 {
            return Err(answer.refusal(&Scope::pull(""), false));
        }
        let length_bytes = answer.number(&header::CONTENT_LENGTH);
        match answer.body.take() {
            Some(body) => Ok(Download {
                length_bytes,
                reader: Box::new(body.into_reader()),
            }),
            None => Err(answer.wrong(Problem::NoHeader("Content-Length"))),
        }
    }

    fn open_url(&self, mut url: Url) -> Result<Answer> {
        let registry = self.registry(&url.authority)?;
        let mut call = Call {
            method: Method::GET,
            target: Target::Url(url.clone()),
            scope: Scope::pull(""),
            headers: Vec::new(),
            payload: Payload::None,
            wanted: Wanted::Stream,
        };
        for _ in 0..=REDIRECTS_MAX {
            // Never with a proof of identity: what the URL names need not be a registry.
            let answer = self.exchange(&registry, &mut call, &url, None)?;
            if !matches!(answer.status, 301..=303 | 307 | 308) {
                return Ok(answer);
            }
            let next = answer.location()?;
            if url.secure && !next.secure {
                let origin = next.origin();
                return Err(answer.wrong(Problem::Downgrade { origin }));
            }
            url = next;
        }
        Err(Error::Protocol {
            registry: registry.host.clone(),
            request: format!("GET {}", url.path()),
            problem: Problem::Redirects,
        })
    }
}
