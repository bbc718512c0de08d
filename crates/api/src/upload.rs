//! A request's body as a stream, for what is larger than a document.

use std::io::{self, Read};

use http_body_util::BodyExt;
use hyper::body::{Bytes, Incoming};
use tokio::sync::mpsc;

/// Pieces that wait to be read: then the client waits.
const QUEUED_PIECES: usize = 16;

/// How much of a body is read that nobody wants any more.
const DRAINED_BYTES: u64 = 256 << 20;

/// The body, to be read on a blocking thread.
pub struct Upload {
    pieces: mpsc::Receiver<io::Result<Bytes>>,
    current: Bytes,
}

impl Upload {
    /// Takes the body of a request. Once this is dropped, the rest of the body is not read.
    pub fn new(mut body: Incoming) -> Self {
        let (sender, pieces) = mpsc::channel(QUEUED_PIECES);
        tokio::spawn(async move {
            while let Some(frame) = body.frame().await {
                let piece = match frame {
                    Ok(frame) => match frame.into_data() {
                        Ok(data) => Ok(data),
                        // Trailers.
                        Err(_) => continue,
                    },
                    Err(error) => Err(io::Error::new(io::ErrorKind::UnexpectedEof, error)),
                };
                let is_last = piece.is_err();
                if sender.send(piece).await.is_err() || is_last {
                    return;
                }
            }
        });
        Self {
            pieces,
            current: Bytes::new(),
        }
    }
}

impl Upload {
    /// Reads on, within a bound, to the end of a body whose request has failed: a client that still sends would find the
    /// connection closed before it finds the answer.
    pub fn drain(&mut self) {
        // A client that has gone needs no answer.
        let _ = io::copy(&mut self.take(DRAINED_BYTES), &mut io::sink());
    }
}

impl Read for Upload {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            match self.pieces.blocking_recv() {
                Some(piece) => self.current = piece?,
                None => return Ok(0),
            }
        }
        let count = buffer.len().min(self.current.len());
        buffer[..count].copy_from_slice(&self.current.split_to(count));
        Ok(count)
    }
}
