//! Carries bytes between a client's connection and the frames of a container's process, until the process ends, the
//! client detaches, or either goes away. Everything in between is bounded: a slow side makes the other wait.

use std::io;

use ketch_engine::container::ExitRecord;
use ketch_engine::container::stream::{Frame, take_frame, write_frame};
use ketch_spec::detach_keys::DetachFilter;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

use super::Streams;
use super::framing::{self, Framing};

/// Bytes read of a client at once; less than a frame holds.
const READ_BYTES: usize = 32 << 10;

/// How a session ended.
#[derive(Debug, PartialEq)]
pub enum Ended {
    /// The process has ended.
    Exited(ExitRecord),
    /// The client has left, by its keys or by going away.
    Left,
    /// The monitor's side went away without telling the end.
    Lost,
}

/// What a session carries.
pub struct Session {
    /// Whether the process has a terminal.
    pub tty: bool,
    /// The client's streams.
    pub streams: Streams,
    /// Sizes of the terminal, for processes that have no other way to learn them.
    pub sizes: mpsc::Receiver<(u16, u16)>,
}

/// Runs a session. At its end the client's side is shut down.
pub async fn run<C, M>(session: Session, client: C, monitor: M) -> Ended
where
    C: AsyncRead + AsyncWrite,
    M: AsyncRead + AsyncWrite,
{
    let (mut from_client, mut to_client) = tokio::io::split(client);
    let (mut from_monitor, mut to_monitor) = tokio::io::split(monitor);
    let Session {
        tty,
        streams,
        sizes,
    } = session;
    let output = output(tty, &streams, &mut from_monitor, &mut to_client);
    let input = input(tty, &streams, sizes, &mut from_client, &mut to_monitor);
    let ended = tokio::select! {
        ended = output => ended,
        () = input => Ended::Left,
    };
    // It may have gone already.
    let _ = to_client.shutdown().await;
    ended
}

async fn output(
    tty: bool,
    streams: &Streams,
    monitor: &mut (impl AsyncRead + Unpin),
    client: &mut (impl AsyncWrite + Unpin),
) -> Ended {
    let framing = Framing::of(tty);
    let mut buffer = Vec::new();
    loop {
        loop {
            let (kind, bytes) = match take_frame(&mut buffer) {
                Ok(None) => break,
                Ok(Some(Frame::Stdout(bytes))) if streams.stdout => (framing::STDOUT, bytes),
                Ok(Some(Frame::Stderr(bytes))) if streams.stderr => (framing::STDERR, bytes),
                Ok(Some(Frame::Exit(exit))) => return Ended::Exited(exit),
                Ok(Some(_)) => continue,
                Err(_) => return Ended::Lost,
            };
            if client.write_all(&framing.wrap(kind, &bytes)).await.is_err() {
                return Ended::Left;
            }
        }
        if client.flush().await.is_err() {
            return Ended::Left;
        }
        match monitor.read_buf(&mut buffer).await {
            Ok(0) | Err(_) => return Ended::Lost,
            Ok(_) => {}
        }
    }
}

/// Ends when the client detaches; a client whose input ends stays for the output.
async fn input(
    tty: bool,
    streams: &Streams,
    mut sizes: mpsc::Receiver<(u16, u16)>,
    client: &mut (impl AsyncRead + Unpin),
    monitor: &mut (impl AsyncWrite + Unpin),
) {
    let keys = if tty {
        streams.detach_keys.clone()
    } else {
        Vec::new()
    };
    let mut detach = DetachFilter::new(keys);
    let mut buffer = vec![0; READ_BYTES];
    let (mut reads, mut resizes) = (true, true);
    loop {
        let frame = tokio::select! {
            read = client.read(&mut buffer), if reads => match read {
                Ok(0) | Err(_) => {
                    reads = false;
                    Frame::StdinEnd
                }
                Ok(count) => {
                    let (send, left) = detach.feed(&buffer[..count]);
                    if left {
                        return;
                    }
                    Frame::Stdin(send)
                }
            },
            size = sizes.recv(), if resizes => match size {
                Some((rows, columns)) => Frame::Resize { rows, columns },
                None => {
                    resizes = false;
                    continue;
                }
            },
            // The output tells the end.
            else => std::future::pending().await,
        };
        let is_input = matches!(frame, Frame::Stdin(_) | Frame::StdinEnd);
        if is_input && !streams.stdin || frame == Frame::Stdin(Vec::new()) {
            continue;
        }
        if send(monitor, &frame).await.is_err() {
            // The process has ended: what is left to read tells how.
            std::future::pending::<()>().await;
        }
    }
}

async fn send(monitor: &mut (impl AsyncWrite + Unpin), frame: &Frame) -> io::Result<()> {
    let mut bytes = Vec::new();
    write_frame(&mut bytes, frame)?;
    monitor.write_all(&bytes).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use ketch_engine::container::stream::read_frame;

    fn session(tty: bool, stdin: bool) -> (Session, mpsc::Sender<(u16, u16)>) {
        let (sender, sizes) = mpsc::channel(1);
        let streams = Streams {
            stdin,
            stdout: true,
            stderr: false,
            detach_keys: vec![16, 17],
        };
        (
            Session {
                tty,
                streams,
                sizes,
            },
            sender,
        )
    }

    fn exit() -> ExitRecord {
        serde_json::from_str(r#"{"code":3,"at":"1970-01-01T00:00:00Z"}"#).unwrap()
    }

    async fn read_all(stream: &mut (impl AsyncRead + Unpin)) -> Vec<u8> {
        let mut all = Vec::new();
        stream.read_to_end(&mut all).await.unwrap();
        all
    }

    #[tokio::test]
    async fn wanted_output_is_framed_and_the_exit_ends_it() {
        let (client, mut far_client) = tokio::io::duplex(1 << 16);
        let (monitor, mut far_monitor) = tokio::io::duplex(1 << 16);
        for frame in [
            Frame::Stdout(b"out".to_vec()),
            Frame::Stderr(b"err".to_vec()),
            Frame::Exit(exit()),
        ] {
            send(&mut far_monitor, &frame).await.unwrap();
        }
        let (session, _sizes) = session(false, false);
        assert_eq!(run(session, client, monitor).await, Ended::Exited(exit()));
        assert_eq!(read_all(&mut far_client).await, b"\x01\0\0\0\0\0\0\x03out");
    }

    #[tokio::test]
    async fn input_reaches_the_process_with_its_end_and_keys_detach() {
        let (client, mut far_client) = tokio::io::duplex(1 << 16);
        let (monitor, mut far_monitor) = tokio::io::duplex(1 << 16);
        let (session, sizes) = session(true, true);
        sizes.send((24, 80)).await.unwrap();
        let running = tokio::spawn(run(session, client, monitor));
        far_client.write_all(b"hi").await.unwrap();
        let mut seen = Vec::new();
        let mut frames = Vec::new();
        while frames.len() < 2 {
            far_monitor.read_buf(&mut seen).await.unwrap();
            while let Some(frame) = take_frame(&mut seen).unwrap() {
                frames.push(frame);
            }
        }
        assert!(frames.contains(&Frame::Stdin(b"hi".to_vec())), "{frames:?}");
        assert!(
            frames.contains(&Frame::Resize {
                rows: 24,
                columns: 80
            }),
            "{frames:?}"
        );
        far_client.write_all(&[16, 17]).await.unwrap();
        assert_eq!(running.await.unwrap(), Ended::Left);
        assert_eq!(read_all(&mut far_client).await, b"");
    }

    #[tokio::test]
    async fn a_client_whose_input_ends_still_gets_the_output() {
        let (client, mut far_client) = tokio::io::duplex(1 << 16);
        let (monitor, mut far_monitor) = tokio::io::duplex(1 << 16);
        let (session, _sizes) = session(true, true);
        let running = tokio::spawn(run(session, client, monitor));
        far_client.shutdown().await.unwrap();
        let mut head = [0; 5];
        far_monitor.read_exact(&mut head).await.unwrap();
        assert_eq!(
            read_frame(&mut head.as_slice()).unwrap(),
            Some(Frame::StdinEnd)
        );
        send(&mut far_monitor, &Frame::Stdout(b"late".to_vec()))
            .await
            .unwrap();
        send(&mut far_monitor, &Frame::Exit(exit())).await.unwrap();
        assert_eq!(running.await.unwrap(), Ended::Exited(exit()));
        assert_eq!(read_all(&mut far_client).await, b"late");
    }
}
