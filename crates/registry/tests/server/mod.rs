//! A small HTTP server that does what a test tells it, right or wrong.
#![allow(dead_code)]

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use ketch_registry::{Client, ClientOptions, RetryPolicy};
use ketch_spec::Digest;
use ketch_spec::image::{Descriptor, media_type};

/// So many attempts with hardly a pause.
pub fn impatient(attempts: u32) -> RetryPolicy {
    let pause = Duration::from_millis(1);
    RetryPolicy {
        attempts,
        first_delay: pause,
        longest_delay: pause,
    }
}

pub fn options() -> ClientOptions {
    ClientOptions {
        retry: impatient(3),
        ..ClientOptions::default()
    }
}

pub fn client() -> Client {
    Client::new(options()).unwrap()
}

/// Of a layer.
pub fn descriptor(content: &[u8]) -> Descriptor {
    Descriptor {
        media_type: media_type::LAYER.into(),
        digest: Digest::of(content),
        size: content.len() as u64,
        platform: None,
        annotations: Default::default(),
        other: Default::default(),
    }
}

/// Bytes of a body that are kept.
const BODY_KEPT: u64 = 64 << 10;

/// A request as it arrived.
#[derive(Debug, Clone, Default)]
pub struct Request {
    pub method: String,
    /// Path and query.
    pub target: String,
    /// Names in lower case.
    pub headers: HashMap<String, String>,
    pub body_length: u64,
    /// The first [`BODY_KEPT`] bytes of the body.
    pub body: Vec<u8>,
    /// How many requests of this method and target came before.
    pub nth: usize,
}

impl Request {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

/// What is answered.
#[derive(Debug, Clone)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Send only so many bytes of the body, then close.
    pub cut: Option<usize>,
    /// Never answer, until the client leaves.
    pub silent: bool,
    /// Close the connection without an answer.
    pub gone: bool,
}

impl Reply {
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self {
            status,
            headers: vec![],
            body: body.into(),
            cut: None,
            silent: false,
            gone: false,
        }
    }

    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    pub fn cut(mut self, at: usize) -> Self {
        self.cut = Some(at);
        self
    }
}

type Handler = dyn Fn(&Request) -> Reply + Send + Sync;

pub struct Server {
    pub address: SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub fn start(handler: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let (kept, stopped) = (requests.clone(), stop.clone());
        let handler: Arc<Handler> = Arc::new(handler);
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                let (kept, handler) = (kept.clone(), handler.clone());
                // A client may leave at any moment.
                std::thread::spawn(move || stream.and_then(|s| serve(s, &kept, &*handler)));
            }
        });
        Self {
            address,
            requests,
            stop,
            thread: Some(thread),
        }
    }

    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    /// How many requests of this method had this path (without query).
    pub fn count(&self, method: &str, path: &str) -> usize {
        let matches = |r: &&Request| r.method == method && r.target.split('?').next() == Some(path);
        self.requests().iter().filter(matches).count()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn serve(
    mut stream: TcpStream,
    kept: &Mutex<Vec<Request>>,
    handler: &Handler,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    if reader.fill_buf()?.first() == Some(&0x16) {
        // A TLS hello: this server speaks plain HTTP only.
        return stream.write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n");
    }
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split_whitespace();
    let mut request = Request {
        method: words.next().unwrap_or_default().into(),
        target: words.next().unwrap_or_default().into(),
        ..Request::default()
    };
    loop {
        line.clear();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else {
            break;
        };
        request
            .headers
            .insert(name.to_ascii_lowercase(), value.trim().into());
    }
    let length: u64 = request.header("content-length").parse().unwrap_or(0);
    let mut body = reader.by_ref().take(length);
    body.by_ref()
        .take(BODY_KEPT)
        .read_to_end(&mut request.body)?;
    request.body_length =
        request.body.len() as u64 + std::io::copy(&mut body, &mut std::io::sink())?;
    {
        let mut kept = kept.lock().unwrap();
        let same = |r: &&Request| r.method == request.method && r.target == request.target;
        request.nth = kept.iter().filter(same).count();
        kept.push(request.clone());
    }
    let reply = handler(&request);
    if reply.gone {
        return Ok(());
    }
    if reply.silent {
        std::io::copy(&mut reader, &mut std::io::sink())?;
        return Ok(());
    }
    let mut head = format!("HTTP/1.1 {} X\r\nConnection: close\r\n", reply.status);
    if !reply
        .headers
        .iter()
        .any(|(name, _)| name == "Content-Length")
    {
        head.push_str(&format!("Content-Length: {}\r\n", reply.body.len()));
    }
    for (name, value) in &reply.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    stream.write_all(head.as_bytes())?;
    stream.write_all(b"\r\n")?;
    if request.method != "HEAD" {
        let end = reply.cut.unwrap_or(reply.body.len()).min(reply.body.len());
        stream.write_all(&reply.body[..end])?;
    }
    stream.flush()
}
