use std::fs::{self, OpenOptions};
use std::io::Write;
use std::sync::mpsc;
use std::time::Duration;

use super::*;
use crate::container::config::ContainerConfig;
use crate::container::state::{ContainerState, Status};
use crate::container::test_support::put;
use crate::lock::OwnerLock;
use crate::test_support::engine;

/// How long something that happens may take.
const DEADLINE: Duration = Duration::from_secs(20);

fn record(text: &str, stream: &str, second: u32) -> String {
    format!(
        "{{\"log\":\"{text}\\n\",\"stream\":\"{stream}\",\"time\":\"2026-01-01T00:00:{second:02}.000000001Z\"}}\n"
    )
}

fn write(engine: &Engine, config: &ContainerConfig, suffix: &str, text: &str) {
    let mut name = engine.paths().log_file(&config.id).into_os_string();
    name.push(suffix);
    OpenOptions::new()
        .append(true)
        .create(true)
        .open(name)
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
}

fn read(engine: &Engine, options: LogOptions) -> Vec<String> {
    logs(engine, "web", options)
        .unwrap()
        .map(|line| text(line.unwrap()))
        .collect()
}

fn text(line: LogLine) -> String {
    String::from_utf8(line.bytes).unwrap().trim_end().to_owned()
}

#[test]
fn rotated_files_are_read_in_order_and_torn_lines_left_out() {
    let (_dir, engine) = engine();
    let config = put(&engine, "web", Status::Exited);
    write(&engine, &config, ".2", &record("a", "stdout", 1));
    write(
        &engine,
        &config,
        ".1",
        &(record("b", "stderr", 2) + "{\"log\":\"torn\n"),
    );
    write(
        &engine,
        &config,
        "",
        &(record("c", "stdout", 3) + "{\"log\":\"no end"),
    );
    assert_eq!(read(&engine, LogOptions::default()), ["a", "b", "c"]);
    let stderr = LogOptions {
        stream: Some(LogStream::Stderr),
        ..LogOptions::default()
    };
    assert_eq!(read(&engine, stderr), ["b"]);
    let second = |second: u32| {
        Some(
            format!("2026-01-01T00:00:{second:02}.000000001Z")
                .parse()
                .unwrap(),
        )
    };
    let between = LogOptions {
        since: second(2),
        until: second(2),
        ..LogOptions::default()
    };
    assert_eq!(read(&engine, between), ["b"]);
    // Following what does not run ends.
    assert_eq!(
        read(
            &engine,
            LogOptions {
                follow: true,
                ..LogOptions::default()
            }
        )
        .len(),
        3
    );
}

#[test]
fn tail_counts_from_the_end_over_files_and_blocks() {
    let (_dir, engine) = engine();
    let config = put(&engine, "web", Status::Exited);
    let old: String = (0..3000)
        .map(|number| record(&format!("old {number}"), "stdout", 1))
        .collect();
    let new: String = (0..3000)
        .map(|number| record(&format!("new {number}"), "stdout", 2))
        .collect();
    write(&engine, &config, ".1", &old);
    write(&engine, &config, "", &new);
    let tail = |count| {
        read(
            &engine,
            LogOptions {
                tail: Some(count),
                ..LogOptions::default()
            },
        )
    };
    assert!(tail(0).is_empty());
    assert_eq!(tail(2), ["new 2998", "new 2999"]);
    assert_eq!(tail(3000)[0], "new 0");
    assert_eq!(tail(3001)[0], "old 2999");
    assert_eq!((tail(6000).len(), tail(9000).len()), (6000, 6000));
}

#[test]
fn a_line_without_end_is_passed_over() {
    let (_dir, engine) = engine();
    let config = put(&engine, "web", Status::Exited);
    write(
        &engine,
        &config,
        "",
        &("x".repeat(5 << 20) + "\n" + &record("after", "stdout", 1)),
    );
    assert_eq!(read(&engine, LogOptions::default()), ["after"]);
}

#[test]
fn a_container_without_a_log_has_no_messages_and_driver_none_is_told() {
    let (_dir, engine) = engine();
    let mut config = put(&engine, "web", Status::Created);
    assert!(read(&engine, LogOptions::default()).is_empty());
    config.log.driver = "none".into();
    load::write_config(&engine, &config).unwrap();
    let error = logs(&engine, "web", LogOptions::default()).unwrap_err();
    assert_eq!(
        error.message,
        "configured logging driver does not support reading"
    );
}

#[test]
fn a_follower_sees_rotation_and_ends_with_the_container() {
    let (_dir, engine) = engine();
    let config = put(&engine, "web", Status::Running);
    let lock = OwnerLock::take(&engine.paths().owner_lock(&config.id))
        .unwrap()
        .unwrap();
    write(&engine, &config, "", &record("one", "stdout", 1));
    let (sender, receiver) = mpsc::channel();
    let reader = logs(
        &engine,
        "web",
        LogOptions {
            follow: true,
            ..LogOptions::default()
        },
    )
    .unwrap();
    let follower = std::thread::spawn(move || {
        for line in reader {
            sender.send(text(line.unwrap())).unwrap();
        }
    });
    let next = || receiver.recv_timeout(DEADLINE).unwrap();
    assert_eq!(next(), "one");
    let half = record("two", "stdout", 2);
    write(&engine, &config, "", &half[..20]);
    write(&engine, &config, "", &half[20..]);
    assert_eq!(next(), "two");
    // Rotated twice before the follower may have looked.
    let path = engine.paths().log_file(&config.id);
    let to = |number: u32| path.with_file_name(format!("container.log.{number}"));
    fs::rename(&path, to(1)).unwrap();
    write(&engine, &config, "", &record("three", "stdout", 3));
    fs::rename(to(1), to(2)).unwrap();
    fs::rename(&path, to(1)).unwrap();
    write(&engine, &config, "", &record("four", "stdout", 4));
    assert_eq!((next().as_str(), next().as_str()), ("three", "four"));
    write(&engine, &config, "", &record("last", "stdout", 5));
    let state = ContainerState {
        status: Status::Exited,
        ..ContainerState::created()
    };
    load::write_state(&engine, &config, &state).unwrap();
    drop(lock);
    assert_eq!(next(), "last");
    assert!(receiver.recv_timeout(DEADLINE).is_err());
    follower.join().unwrap();
}

#[test]
fn a_single_file_that_begins_anew_is_read_from_its_begin() {
    let (_dir, engine) = engine();
    let config = put(&engine, "web", Status::Running);
    let _lock = OwnerLock::take(&engine.paths().owner_lock(&config.id))
        .unwrap()
        .unwrap();
    write(
        &engine,
        &config,
        "",
        &record("a long line before", "stdout", 1),
    );
    let mut reader = logs(
        &engine,
        "web",
        LogOptions {
            follow: true,
            ..LogOptions::default()
        },
    )
    .unwrap();
    assert_eq!(text(reader.next().unwrap().unwrap()), "a long line before");
    fs::write(
        engine.paths().log_file(&config.id),
        record("anew", "stdout", 2),
    )
    .unwrap();
    assert_eq!(text(reader.next().unwrap().unwrap()), "anew");
}
