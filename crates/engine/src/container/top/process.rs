//! The columns of `ps -ef`, read from /proc (proc(5), proc_pid_stat(5)).

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::Top;

/// The kernel's unit in /proc, `USER_HZ`: part of the ABI of x86_64 and aarch64.
const TICKS_PER_SECOND: u64 = 100;

/// Rows of processes that are still there.
pub(super) fn list(pids: &[u32]) -> Top {
    let titles = ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"];
    let uptime = uptime();
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    Top {
        titles: titles.map(str::to_owned).into(),
        processes: pids
            .iter()
            .filter_map(|&pid| row(pid, uptime, &users))
            .collect(),
    }
}

fn row(pid: u32, uptime: Duration, users: &str) -> Option<Vec<String>> {
    let stat = Stat::read(pid)?;
    let uid = fs::metadata(format!("/proc/{pid}")).ok()?.uid();
    let elapsed = uptime.saturating_sub(stat.started);
    // As ps: processor time in the time of life, in hundredths, at most 99.
    let share = stat.cpu.as_millis() * 100 / elapsed.as_millis().max(1);
    Some(vec![
        user_name(uid, users),
        pid.to_string(),
        stat.parent.to_string(),
        share.min(99).to_string(),
        start_time(elapsed),
        terminal(stat.terminal),
        clock(stat.cpu.as_secs()),
        command(pid, &stat.name),
    ])
}

struct Stat {
    name: String,
    parent: u32,
    terminal: i32,
    cpu: Duration,
    started: Duration,
}

impl Stat {
    fn read(pid: u32) -> Option<Self> {
        Self::parse(&String::from_utf8_lossy(
            &fs::read(format!("/proc/{pid}/stat")).ok()?,
        ))
    }

    fn parse(text: &str) -> Option<Self> {
        // The name is in brackets and may have brackets and spaces of its own.
        let (open, close) = (text.find('(')?, text.rfind(')')?);
        let fields: Vec<&str> = text.get(close + 1..)?.split_whitespace().collect();
        let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
        let ticks =
            |count: u64| Duration::from_millis(count.saturating_mul(1000 / TICKS_PER_SECOND));
        Some(Self {
            name: text.get(open + 1..close)?.to_owned(),
            parent: u32::try_from(number(4)?).ok()?,
            terminal: fields.get(7 - 3)?.parse().ok()?,
            cpu: ticks(number(14)? + number(15)?),
            started: ticks(number(22)?),
        })
    }
}

fn uptime() -> Duration {
    let text = fs::read_to_string("/proc/uptime").unwrap_or_default();
    let seconds = text
        .split_whitespace()
        .next()
        .and_then(|first| first.parse::<f64>().ok())
        .unwrap_or(0.0);
    Duration::from_secs_f64(seconds.max(0.0))
}

/// The host's name of a user; ps shows the number where the name is longer than its column.
fn user_name(uid: u32, users: &str) -> String {
    let number = uid.to_string();
    users
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .find(|fields| fields.get(2) == Some(&number.as_str()))
        .and_then(|fields| {
            fields
                .first()
                .filter(|name| name.len() <= 8)
                .map(|&name| name.to_owned())
        })
        .unwrap_or(number)
}

/// Hours and minutes for today, month and day for this year, else the year.
fn start_time(elapsed: Duration) -> String {
    let now = Timestamp::now();
    let elapsed = SignedDuration::try_from(elapsed).unwrap_or(SignedDuration::ZERO);
    let zone = TimeZone::system();
    let local = |time: Timestamp| time.to_zoned_datetime(zone.clone());
    let (now, started) = (local(now), local(now.checked_sub(elapsed).unwrap_or(now)));
    let format = if started.date() == now.date() {
        "%H:%M"
    } else if started.year() == now.year() {
        "%b%d"
    } else {
        "%Y"
    };
    started.strftime(format).to_string()
}

/// `pts/0`, `tty1` or `?`.
fn terminal(number: i32) -> String {
    let number = number as u32;
    // The minor number's low and high bits are on both sides of the major number.
    let (major, minor) = (number >> 8 & 0xfff, number & 0xff | number >> 12 & 0xfff00);
    match major {
        136..=143 => format!("pts/{}", (major - 136) * 256 + minor),
        4 if minor < 64 => format!("tty{minor}"),
        4 => format!("ttyS{}", minor - 64),
        5 if minor == 1 => "console".to_owned(),
        _ => "?".to_owned(),
    }
}

fn clock(seconds: u64) -> String {
    format!(
        "{:02}:{:02}:{:02}",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60
    )
}

fn command(pid: u32, name: &str) -> String {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    if line.is_empty() {
        return format!("[{name}]");
    }
    let text: String = String::from_utf8_lossy(&line)
        .trim_end_matches('\0')
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    text.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_with_a_hostile_name() {
        let text = "42 (a) b (c) S 7 42 42 34817 42 4194560 1 2 3 4 150 50 0 0 20 0 1 0 100 1 1 1";
        let stat = Stat::parse(text).unwrap();
        assert_eq!(
            (stat.name.as_str(), stat.parent, stat.terminal),
            ("a) b (c", 7, 34817)
        );
        assert_eq!(stat.cpu.as_secs(), 2);
        assert_eq!(terminal(stat.terminal), "pts/1");
        assert!(Stat::parse("42 (x").is_none());
    }

    #[test]
    fn columns() {
        assert_eq!(clock(3 * 3600 + 62), "03:01:02");
        assert_eq!(terminal(0), "?");
        assert_eq!(terminal(0x0401), "tty1");
        let users = "root:x:0:0::/:/bin/sh\nsystemd-network:x:998:998::/:/bin/sh\n";
        assert_eq!(
            (
                user_name(0, users),
                user_name(998, users),
                user_name(5, users)
            ),
            ("root".into(), "998".into(), "5".into())
        );
    }
}
