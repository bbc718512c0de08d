//! DNS messages (RFC 1035), as far as a server needs them that answers for containers and passes the rest on: the
//! header and the question are read, answers are written. Nothing that follows the question is looked at.

use std::net::Ipv4Addr;

use super::Names;

/// Longest answers: over UDP without EDNS, and over TCP.
pub(super) const MAX_UDP_BYTES: usize = 512;
pub(super) const MAX_TCP_BYTES: usize = 65_535;

/// Length of the header.
const HEADER_BYTES: usize = 12;
/// Longest name on the wire, and longest label.
const MAX_NAME_BYTES: usize = 255;
const MAX_LABEL_BYTES: usize = 63;

const TYPE_A: u16 = 1;
const TYPE_PTR: u16 = 12;
const TYPE_AAAA: u16 = 28;
const CLASS_INTERNET: u16 = 1;

/// Bits of the flags.
const RESPONSE: u16 = 0x8000;
const OPCODE: u16 = 0x7800;
const AUTHORITATIVE: u16 = 0x0400;
const TRUNCATED: u16 = 0x0200;
const RECURSION_DESIRED: u16 = 0x0100;
const RECURSION_AVAILABLE: u16 = 0x0080;

/// Seconds that an answer may be kept. Docker says ten minutes; a container can have another address long before.
const TIME_TO_LIVE_S: u32 = 60;

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Code {
    Malformed = 1,
    ServerFailure = 2,
    NoSuchName = 3,
    NotImplemented = 4,
}

/// The question of a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Question {
    /// In lower case, labels joined by dots, without a dot at the end. A byte that does not belong in a host name, or
    /// that is a dot within a label, makes it a name that nobody has.
    name: String,
    kind: u16,
    class: u16,
    /// Where it ends in the message.
    end: usize,
}

impl Question {
    /// Reads a query.
    ///
    /// # Errors
    /// The code to answer with; None for what is no query and gets no answer.
    pub(super) fn read(message: &[u8]) -> Result<Self, Option<Code>> {
        let header = message.first_chunk::<HEADER_BYTES>().ok_or(None)?;
        let field = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
        if field(2) & RESPONSE != 0 {
            return Err(None);
        }
        if field(2) & OPCODE != 0 {
            return Err(Some(Code::NotImplemented));
        }
        if field(4) != 1 {
            return Err(Some(Code::Malformed));
        }
        Self::read_at(message).ok_or(Some(Code::Malformed))
    }

    fn read_at(message: &[u8]) -> Option<Self> {
        let mut name = String::new();
        let mut at = HEADER_BYTES;
        loop {
            let length = usize::from(*message.get(at)?);
            at += 1;
            if length == 0 {
                break;
            }
            // The first name of a message has nothing to point to: compression is an error.
            if length > MAX_LABEL_BYTES || at + length - HEADER_BYTES >= MAX_NAME_BYTES {
                return None;
            }
            if !name.is_empty() {
                name.push('.');
            }
            for byte in message.get(at..at + length)? {
                let plain = byte.is_ascii_graphic() && *byte != b'.';
                name.push(if plain {
                    char::from(byte.to_ascii_lowercase())
                } else {
                    '\u{fffd}'
                });
            }
            at += length;
        }
        let [a, b, c, d] = *message.get(at..at + 4)?.first_chunk()?;
        let (kind, class) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
        Some(Self {
            name,
            kind,
            class,
            end: at + 4,
        })
    }

    pub(super) fn is_single_label(&self) -> bool {
        !self.name.contains('.')
    }

    /// The bytes of the question.
    pub(super) fn bytes<'a>(&self, message: &'a [u8]) -> &'a [u8] {
        message.get(HEADER_BYTES..self.end).unwrap_or_default()
    }
}

/// The answer to a question about a container; None if it is not about one.
pub(super) fn answer(
    query: &[u8],
    question: &Question,
    names: &mut dyn Names,
    rotation: usize,
    max_bytes: usize,
) -> Option<Vec<u8>> {
    if question.class != CLASS_INTERNET {
        return None;
    }
    if question.kind == TYPE_PTR {
        let name = names.name_of(reverse_address(&question.name)?)?;
        return Some(
            Answer::new(query, question)
                .record(TYPE_PTR, &name_bytes(&name)?, max_bytes)
                .finish(),
        );
    }
    let mut addresses = names.addresses(&question.name)?;
    let mut answer = Answer::new(query, question);
    if question.kind == TYPE_A && !addresses.is_empty() {
        let first = rotation % addresses.len();
        addresses.rotate_left(first);
        for address in addresses {
            answer = answer.record(TYPE_A, &address.octets(), max_bytes);
        }
    }
    // Of other kinds the name has nothing: TYPE_AAAA, because the networks have no IPv6, and all the rest.
    debug_assert!(question.kind != TYPE_AAAA || answer.count == 0);
    Some(answer.finish())
}

/// An answer without records, or to a message that could not be understood wholly.
pub(super) fn refusal(query: &[u8], code: Code) -> Vec<u8> {
    let question = Question::read(query).ok();
    let mut bytes = header(query, question.is_some(), code as u16);
    if let Some(question) = question {
        bytes.extend_from_slice(question.bytes(query));
    }
    bytes
}

/// The header of an answer: with a question, without records.
fn header(query: &[u8], with_question: bool, flags: u16) -> Vec<u8> {
    let byte = |at: usize| query.get(at).copied().unwrap_or(0);
    let asked = u16::from_be_bytes([byte(2), byte(3)]) & (OPCODE | RECURSION_DESIRED);
    let flags = RESPONSE | RECURSION_AVAILABLE | asked | flags;
    let mut bytes = vec![byte(0), byte(1)];
    bytes.extend(flags.to_be_bytes());
    bytes.extend([0, u8::from(with_question), 0, 0, 0, 0, 0, 0]);
    bytes
}

/// An answer that is being written.
struct Answer {
    bytes: Vec<u8>,
    count: u16,
}

impl Answer {
    fn new(query: &[u8], question: &Question) -> Self {
        let mut bytes = header(query, true, AUTHORITATIVE);
        bytes.extend_from_slice(question.bytes(query));
        Self { bytes, count: 0 }
    }

    /// Adds a record about the name of the question, or the mark that there is more than fits.
    fn record(mut self, kind: u16, data: &[u8], max_bytes: usize) -> Self {
        let length = u16::try_from(data.len()).unwrap_or(u16::MAX);
        if self.bytes.len() + 12 + data.len() > max_bytes || self.count == u16::MAX {
            self.bytes[2] |= TRUNCATED.to_be_bytes()[0];
            return self;
        }
        // A pointer to the question's name.
        self.bytes.extend([0xc0, HEADER_BYTES as u8]);
        self.bytes.extend(kind.to_be_bytes());
        self.bytes.extend(CLASS_INTERNET.to_be_bytes());
        self.bytes.extend(TIME_TO_LIVE_S.to_be_bytes());
        self.bytes.extend(length.to_be_bytes());
        self.bytes.extend_from_slice(data);
        self.count += 1;
        self
    }

    fn finish(mut self) -> Vec<u8> {
        self.bytes[6..8].copy_from_slice(&self.count.to_be_bytes());
        self.bytes
    }
}

/// The address of a name such as `2.0.17.172.in-addr.arpa`.
fn reverse_address(name: &str) -> Option<Ipv4Addr> {
    let mut octets = [0; 4];
    let mut labels = name.strip_suffix(".in-addr.arpa")?.split('.');
    for octet in octets.iter_mut().rev() {
        *octet = labels.next()?.parse().ok()?;
    }
    labels.next().is_none().then(|| octets.into())
}

/// A name on the wire; None if it is none.
fn name_bytes(name: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(name.len() + 2);
    for label in name.split('.') {
        let length = u8::try_from(label.len())
            .ok()
            .filter(|length| (1..=63).contains(length))?;
        bytes.push(length);
        bytes.extend_from_slice(label.as_bytes());
    }
    bytes.push(0);
    (bytes.len() <= MAX_NAME_BYTES).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
    use hickory_proto::rr::{Name, RData, RecordType};

    use super::*;

    /// `web` has two addresses, `10.1.0.2` is `web.inner`.
    struct Known;

    impl Names for Known {
        fn addresses(&mut self, name: &str) -> Option<Vec<Ipv4Addr>> {
            let all = |count| (1..=count).map(|n| Ipv4Addr::new(10, 1, 0, n)).collect();
            match name {
                "web" | "web.inner" => Some(all(2)),
                "many" => Some(all(100)),
                _ => None,
            }
        }

        fn name_of(&mut self, address: Ipv4Addr) -> Option<String> {
            (address == Ipv4Addr::new(10, 1, 0, 2)).then(|| "web.inner".into())
        }
    }

    fn query(name: &str, kind: RecordType) -> Vec<u8> {
        let mut message = Message::new(0x1234, MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = true;
        message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
        message.to_vec().unwrap()
    }

    fn ask(name: &str, kind: RecordType, rotation: usize, max_bytes: usize) -> Option<Message> {
        let query = query(name, kind);
        let question = Question::read(&query).unwrap();
        let bytes = answer(&query, &question, &mut Known, rotation, max_bytes)?;
        assert!(bytes.len() <= max_bytes);
        Some(Message::from_vec(&bytes).unwrap())
    }

    fn addresses(message: &Message) -> Vec<String> {
        message
            .answers
            .iter()
            .map(|record| record.data.to_string())
            .collect()
    }

    #[test]
    fn containers_are_answered_in_turn_and_in_any_case() {
        let first = ask("WEB.", RecordType::A, 0, MAX_UDP_BYTES).unwrap();
        assert_eq!(addresses(&first), ["10.1.0.1", "10.1.0.2"]);
        assert_eq!(
            (first.metadata.id, first.metadata.response_code),
            (0x1234, ResponseCode::NoError)
        );
        assert!(first.metadata.recursion_available && first.metadata.recursion_desired);
        assert_eq!(first.queries[0].name().to_string(), "WEB.");
        let second = ask("web.inner.", RecordType::A, 1, MAX_UDP_BYTES).unwrap();
        assert_eq!(addresses(&second), ["10.1.0.2", "10.1.0.1"]);
    }

    #[test]
    fn other_kinds_of_a_known_name_are_empty_and_unknown_names_are_not_ours() {
        for kind in [RecordType::AAAA, RecordType::MX, RecordType::TXT] {
            let message = ask("web.", kind, 0, MAX_UDP_BYTES).unwrap();
            assert_eq!(
                (message.answers.len(), message.metadata.response_code),
                (0, ResponseCode::NoError)
            );
        }
        assert!(ask("debian.org.", RecordType::A, 0, MAX_UDP_BYTES).is_none());
        assert!(ask(".", RecordType::NS, 0, MAX_UDP_BYTES).is_none());
    }

    #[test]
    fn addresses_have_names() {
        let message = ask("2.0.1.10.in-addr.arpa.", RecordType::PTR, 0, MAX_UDP_BYTES).unwrap();
        assert!(
            matches!(&message.answers[0].data, RData::PTR(name) if name.0.to_string() == "web.inner.")
        );
        for unknown in [
            "3.0.1.10.in-addr.arpa.",
            "0.1.10.in-addr.arpa.",
            "9.2.0.1.10.in-addr.arpa.",
        ] {
            assert!(
                ask(unknown, RecordType::PTR, 0, MAX_UDP_BYTES).is_none(),
                "{unknown}"
            );
        }
    }

    #[test]
    fn what_does_not_fit_is_marked() {
        let message = ask("many.", RecordType::A, 0, MAX_UDP_BYTES).unwrap();
        assert!(message.metadata.truncation);
        assert_eq!(message.answers.len(), (MAX_UDP_BYTES - 12 - 10) / 16);
        let message = ask("many.", RecordType::A, 0, MAX_TCP_BYTES).unwrap();
        assert!(!message.metadata.truncation);
        assert_eq!(message.answers.len(), 100);
    }

    #[test]
    fn refusals_repeat_the_question() {
        let query = query("absent.", RecordType::A);
        let message = Message::from_vec(&refusal(&query, Code::NoSuchName)).unwrap();
        assert_eq!(message.metadata.response_code, ResponseCode::NXDomain);
        assert_eq!(message.queries[0].name().to_string(), "absent.");
    }

    #[test]
    fn hostile_messages_end_in_a_code_or_in_silence() {
        let good = query("a.b.c.", RecordType::A);
        for end in 0..good.len() {
            assert!(Question::read(&good[..end]).is_err(), "cut at {end}");
            refusal(&good[..end], Code::Malformed);
        }
        let mut response = good.clone();
        response[2] |= 0x80;
        assert_eq!(Question::read(&response), Err(None));
        let mut notify = good.clone();
        notify[2] |= 0x20;
        assert_eq!(Question::read(&notify), Err(Some(Code::NotImplemented)));
        let mut two = good.clone();
        two[5] = 2;
        assert_eq!(Question::read(&two), Err(Some(Code::Malformed)));
        // A name that points to itself, and one longer than a name may be.
        let mut pointer = good[..HEADER_BYTES].to_vec();
        pointer.extend([0xc0, 12, 0, 1, 0, 1]);
        assert_eq!(Question::read(&pointer), Err(Some(Code::Malformed)));
        let mut long = good[..HEADER_BYTES].to_vec();
        for _ in 0..5 {
            long.push(63);
            long.extend([b'x'; 63]);
        }
        long.extend([0, 0, 1, 0, 1]);
        assert_eq!(Question::read(&long), Err(Some(Code::Malformed)));
    }

    #[test]
    fn a_dot_within_a_label_is_not_a_dot_between_labels() {
        let mut message = query("ab.", RecordType::A)[..HEADER_BYTES].to_vec();
        message.extend(b"\x03web\x00\x00\x01\x00\x01");
        assert_eq!(Question::read(&message).unwrap().name, "web");
        let mut message = message[..HEADER_BYTES].to_vec();
        message.extend(b"\x09web.inner\x00\x00\x01\x00\x01");
        assert_ne!(Question::read(&message).unwrap().name, "web.inner");
    }
}
