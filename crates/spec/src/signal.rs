//! Signals by name or number, as `--signal` and STOPSIGNAL write them (Linux numbers; x86 and ARM agree).

/// Why a text is not a signal; the words are Docker's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid signal: {text}")]
pub struct SignalError {
    /// What was given.
    pub text: String,
}

/// Names from signal(7), the first of a number being the one that [`name`] gives.
const NAMES: [(&str, i32); 35] = [
    ("SIGHUP", 1),
    ("SIGINT", 2),
    ("SIGQUIT", 3),
    ("SIGILL", 4),
    ("SIGTRAP", 5),
    ("SIGABRT", 6),
    ("SIGBUS", 7),
    ("SIGFPE", 8),
    ("SIGKILL", 9),
    ("SIGUSR1", 10),
    ("SIGSEGV", 11),
    ("SIGUSR2", 12),
    ("SIGPIPE", 13),
    ("SIGALRM", 14),
    ("SIGTERM", 15),
    ("SIGSTKFLT", 16),
    ("SIGCHLD", 17),
    ("SIGCONT", 18),
    ("SIGSTOP", 19),
    ("SIGTSTP", 20),
    ("SIGTTIN", 21),
    ("SIGTTOU", 22),
    ("SIGURG", 23),
    ("SIGXCPU", 24),
    ("SIGXFSZ", 25),
    ("SIGVTALRM", 26),
    ("SIGPROF", 27),
    ("SIGWINCH", 28),
    ("SIGIO", 29),
    ("SIGPWR", 30),
    ("SIGSYS", 31),
    ("SIGIOT", 6),
    ("SIGCLD", 17),
    ("SIGPOLL", 29),
    ("SIGUNUSED", 31),
];

/// First real-time signal that programs may use; the C library keeps 32 and 33.
const RTMIN: i32 = 34;
/// Last signal.
const RTMAX: i32 = 64;

/// Reads `KILL`, `SIGKILL`, `kill`, `9`, `RTMIN+3` or `SIGRTMAX-1`.
pub fn parse(text: &str) -> Result<i32, SignalError> {
    let refused = || SignalError { text: text.into() };
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        let number = text.parse().map_err(|_| refused())?;
        return if (1..=RTMAX).contains(&number) {
            Ok(number)
        } else {
            Err(refused())
        };
    }
    let upper = text.to_ascii_uppercase();
    let bare = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some((_, number)) = NAMES.iter().find(|(name, _)| name[3..] == *bare) {
        return Ok(*number);
    }
    real_time(bare).ok_or_else(refused)
}

/// `RTMIN`, `RTMIN+n`, `RTMAX`, `RTMAX-n`.
fn real_time(bare: &str) -> Option<i32> {
    let offset = |text: &str, sign: char| -> Option<i32> {
        if text.is_empty() {
            return Some(0);
        }
        let digits = text.strip_prefix(sign)?;
        let valid = matches!(digits.len(), 1 | 2) && digits.bytes().all(|b| b.is_ascii_digit());
        digits
            .parse()
            .ok()
            .filter(|n| valid && (1..=RTMAX - RTMIN).contains(n))
    };
    match bare.strip_prefix("RTMIN") {
        Some(rest) => offset(rest, '+').map(|n| RTMIN + n),
        None => offset(bare.strip_prefix("RTMAX")?, '-').map(|n| RTMAX - n),
    }
}

/// The name with its prefix: `SIGKILL`, `SIGRTMIN+3`; None for 0 and what is not a signal.
pub fn name(signal: i32) -> Option<String> {
    if let Some((name, _)) = NAMES.iter().find(|(_, number)| *number == signal) {
        return Some((*name).into());
    }
    match signal {
        RTMIN => Some("SIGRTMIN".into()),
        RTMAX => Some("SIGRTMAX".into()),
        35..=49 => Some(format!("SIGRTMIN+{}", signal - RTMIN)),
        50..=63 => Some(format!("SIGRTMAX-{}", RTMAX - signal)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_names_and_numbers() {
        let cases = [
            ("KILL", 9),
            ("SIGKILL", 9),
            ("sigterm", 15),
            ("9", 9),
            ("64", 64),
            ("IOT", 6),
            ("RTMIN", 34),
            ("SIGRTMIN+3", 37),
            ("RTMAX-1", 63),
            ("RTMAX", 64),
        ];
        for (text, number) in cases {
            assert_eq!(parse(text), Ok(number), "{text}");
        }
    }

    #[test]
    fn refusals_use_dockers_words() {
        for text in [
            "",
            "0",
            "65",
            "-9",
            "+9",
            "SIG",
            "FOO",
            "RTMIN+31",
            "RTMIN-1",
            "RTMAX+1",
            "RTMIN+",
            "99999999999",
        ] {
            assert_eq!(
                parse(text).unwrap_err().to_string(),
                format!("invalid signal: {text}")
            );
        }
    }

    #[test]
    fn every_name_reads_back() {
        for signal in (1..=31).chain(34..=64) {
            assert_eq!(parse(&name(signal).unwrap()), Ok(signal));
        }
        assert_eq!((name(0), name(32), name(65)), (None, None, None));
    }

    proptest! {
        #[test]
        fn never_panics(text in "\\PC{0,20}", signal: i32) {
            let _ = parse(&text);
            let _ = name(signal);
        }
    }
}
