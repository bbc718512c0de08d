//! Against a bus of ours that says what a test tells it to.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread::JoinHandle;
use std::time::Duration;

use super::wire::{FIXED, Kind, Message};
use super::*;

/// What the bus does about a call: answers, signals.
type Script = Box<dyn FnMut(&Message) -> Vec<Message> + Send>;

struct Bus {
    path: tempfile::TempDir,
    thread: JoinHandle<Vec<Message>>,
}

impl Bus {
    fn new(script: Script) -> Self {
        let path = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(path.path().join("bus")).unwrap();
        let thread = std::thread::spawn(move || serve(listener.accept().unwrap().0, script));
        Self { path, thread }
    }

    fn connect(&self) -> Result<Connection, SystemdError> {
        Connection::open(&self.path.path().join("bus"), true, Duration::from_secs(20))
    }

    /// The calls that it got.
    fn calls(self) -> Vec<Message> {
        self.thread.join().unwrap()
    }
}

fn serve(mut stream: UnixStream, mut script: Script) -> Vec<Message> {
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        line.extend(byte);
    }
    let uid = rustix::process::geteuid().as_raw().to_string();
    let hex: String = uid.bytes().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(
        String::from_utf8(line).unwrap(),
        format!("\0AUTH EXTERNAL {hex}\r\n")
    );
    stream.write_all(b"OK 0123456789abcdef\r\n").unwrap();
    let mut begin = [0; 7];
    stream.read_exact(&mut begin).unwrap();
    assert_eq!(&begin, b"BEGIN\r\n");
    let mut calls = Vec::new();
    let mut fixed = [0; FIXED];
    while stream.read_exact(&mut fixed).is_ok() {
        let mut bytes = fixed.to_vec();
        bytes.resize(Message::length(&fixed).unwrap(), 0);
        stream.read_exact(&mut bytes[FIXED..]).unwrap();
        let call = Message::decode(&bytes).unwrap().unwrap();
        let answers = match call.member.as_deref() {
            Some("Hello") => vec![reply(&call, vec![Value::text(":1.1")])],
            _ => script(&call),
        };
        for mut answer in answers {
            answer.serial = 1;
            if stream.write_all(&answer.encode()).is_err() {
                break;
            }
        }
        calls.push(call);
    }
    calls
}

fn reply(call: &Message, body: Vec<Value>) -> Message {
    Message {
        reply_to: Some(call.serial),
        body,
        ..Message::new(Kind::Return)
    }
}

fn failure(call: &Message, name: &str) -> Message {
    Message {
        reply_to: Some(call.serial),
        error: Some(name.to_owned()),
        body: vec![Value::text("because")],
        ..Message::new(Kind::Error)
    }
}

fn job(number: u32) -> String {
    format!("/org/freedesktop/systemd1/job/{number}")
}

fn removed(number: u32, result: &str) -> Message {
    Message {
        path: Some("/org/freedesktop/systemd1".into()),
        interface: Some("org.freedesktop.systemd1.Manager".into()),
        member: Some("JobRemoved".into()),
        body: vec![
            Value::U32(number),
            Value::Path(job(number)),
            Value::text("x.scope"),
            Value::text(result),
        ],
        ..Message::new(Kind::Signal)
    }
}

fn members(calls: &[Message]) -> Vec<&str> {
    calls
        .iter()
        .filter_map(|call| call.member.as_deref())
        .collect()
}

#[test]
fn a_scope_is_started_and_its_job_is_waited_for() {
    // The signal comes before the answer, after one of another job.
    let bus = Bus::new(Box::new(|call| {
        vec![
            removed(6, "failed"),
            removed(7, "done"),
            reply(call, vec![Value::Path(job(7))]),
        ]
    }));
    let mut connection = bus.connect().unwrap();
    let list = properties::of_new("a", "system.slice", 42);
    start_with(&mut connection, "x.scope", &list).unwrap();
    drop(connection);
    let calls = bus.calls();
    assert_eq!(members(&calls), ["Hello", "StartTransientUnit"]);
    let body = &calls[1].body;
    assert_eq!(body[0], Value::text("x.scope"));
    let signature: String = body.iter().map(Value::signature).collect();
    assert_eq!(signature, "ssa(sv)a(sa(sv))");
    let Value::Array(_, properties) = &body[2] else {
        panic!("{body:?}")
    };
    let pids = Value::Variant(Box::new(Value::Array("u".into(), vec![Value::U32(42)])));
    assert!(properties.contains(&Value::Struct(vec![Value::text("PIDs"), pids])));
}

#[test]
fn a_failed_unit_of_that_name_is_forgotten_first() {
    let mut first = true;
    let bus = Bus::new(Box::new(move |call| match call.member.as_deref() {
        Some("StartTransientUnit") if std::mem::take(&mut first) => {
            vec![failure(call, UNIT_EXISTS)]
        }
        Some("StartTransientUnit") => {
            vec![reply(call, vec![Value::Path(job(1))]), removed(1, "done")]
        }
        _ => vec![reply(call, vec![])],
    }));
    let mut connection = bus.connect().unwrap();
    start_with(&mut connection, "x.scope", &[]).unwrap();
    drop(connection);
    let calls = bus.calls();
    let expected = [
        "Hello",
        "StartTransientUnit",
        "ResetFailedUnit",
        "StartTransientUnit",
    ];
    assert_eq!(members(&calls), expected);
}

#[test]
fn a_job_that_fails_and_a_call_that_is_refused_are_told() {
    let bus = Bus::new(Box::new(|call| {
        vec![reply(call, vec![Value::Path(job(1))]), removed(1, "failed")]
    }));
    let mut connection = bus.connect().unwrap();
    let error = start_with(&mut connection, "x.scope", &[]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "systemd: the job for x.scope ended with \"failed\""
    );
    let denied = "org.freedesktop.DBus.Error.AccessDenied";
    let bus = Bus::new(Box::new(|call| vec![failure(call, denied)]));
    let mut connection = bus.connect().unwrap();
    let error = start_with(&mut connection, "x.scope", &[]).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("systemd: StartTransientUnit: because ({denied})")
    );
}

#[test]
fn stopping_what_is_gone_is_no_error() {
    let bus = Bus::new(Box::new(|call| vec![failure(call, NO_SUCH_UNIT)]));
    let mut connection = bus.connect().unwrap();
    stop_with(&mut connection, "x.scope").unwrap();
    drop(connection);
    assert_eq!(members(&bus.calls()), ["Hello", "StopUnit"]);
}

#[test]
fn a_bus_that_is_not_there_is_named() {
    let path = Path::new("/nonexistent/bus");
    let error = Connection::open(path, true, Duration::from_secs(1)).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("connect to /nonexistent/bus: "),
        "{error}"
    );
}

#[test]
fn a_bus_that_refuses_us_or_says_nonsense_is_told() {
    for (line, told) in [
        ("REJECTED EXTERNAL\r\n", "refuses us: REJECTED"),
        ("x", "sent a line that is too long"),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("bus");
        let listener = UnixListener::bind(&path).unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let text = if line == "x" {
                "x".repeat(600)
            } else {
                line.to_owned()
            };
            stream.write_all(text.as_bytes()).unwrap();
            // Until the other side is gone.
            let mut rest = Vec::new();
            let _ = stream.read_to_end(&mut rest);
        });
        let error = Connection::open(&path, true, Duration::from_secs(20)).unwrap_err();
        assert!(error.to_string().contains(told), "{error}");
        server.join().unwrap();
    }
}
