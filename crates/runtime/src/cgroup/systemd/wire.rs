//! D-Bus messages as bytes: the part of the protocol that talking to systemd needs (D-Bus specification, "Message
//! Protocol"). Little-endian; both ways bounded.

use super::SystemdError;

/// Most bytes of a message. The protocol allows 128 MiB; systemd's answers are a few hundred bytes.
pub(super) const MOST: usize = 1 << 20;
/// How deep containers may be nested: the protocol allows 32 arrays and 32 structures.
const DEEPEST: usize = 32;
/// Bytes of a header before its fields.
pub(super) const FIXED: usize = 16;

/// A value with its type.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Byte(u8),
    Bool(bool),
    I16(i16),
    U16(u16),
    I32(i32),
    U32(u32),
    I64(i64),
    U64(u64),
    /// As its bits.
    Double(u64),
    Text(String),
    Path(String),
    Signature(String),
    /// Type of the items, items.
    Array(String, Vec<Value>),
    Struct(Vec<Value>),
    /// An entry of a dictionary, only in arrays.
    Entry(Box<(Value, Value)>),
    Variant(Box<Value>),
}

impl Value {
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// Its type, as a signature.
    pub fn signature(&self) -> String {
        let simple = match self {
            Self::Byte(_) => "y",
            Self::Bool(_) => "b",
            Self::I16(_) => "n",
            Self::U16(_) => "q",
            Self::I32(_) => "i",
            Self::U32(_) => "u",
            Self::I64(_) => "x",
            Self::U64(_) => "t",
            Self::Double(_) => "d",
            Self::Text(_) => "s",
            Self::Path(_) => "o",
            Self::Signature(_) => "g",
            Self::Variant(_) => "v",
            Self::Array(of, _) => return format!("a{of}"),
            Self::Struct(fields) => {
                return format!(
                    "({})",
                    fields.iter().map(Self::signature).collect::<String>()
                );
            }
            Self::Entry(pair) => {
                return format!("{{{}{}}}", pair.0.signature(), pair.1.signature());
            }
        };
        simple.to_owned()
    }

    /// A text, an object's path or a signature.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) | Self::Path(text) | Self::Signature(text) => Some(text),
            _ => None,
        }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        pad(out, alignment(self.signature().as_bytes()[0]));
        match self {
            Self::Byte(value) => out.push(*value),
            Self::Bool(value) => out.extend(u32::from(*value).to_le_bytes()),
            Self::I16(value) => out.extend(value.to_le_bytes()),
            Self::U16(value) => out.extend(value.to_le_bytes()),
            Self::I32(value) => out.extend(value.to_le_bytes()),
            Self::U32(value) => out.extend(value.to_le_bytes()),
            Self::I64(value) => out.extend(value.to_le_bytes()),
            Self::U64(value) | Self::Double(value) => out.extend(value.to_le_bytes()),
            Self::Text(text) | Self::Path(text) => {
                out.extend((text.len() as u32).to_le_bytes());
                out.extend(text.as_bytes());
                out.push(0);
            }
            Self::Signature(text) => encode_signature(text, out),
            Self::Array(of, items) => {
                let length_at = out.len();
                out.extend([0; 4]);
                pad(
                    out,
                    alignment(of.as_bytes().first().copied().unwrap_or(b'y')),
                );
                let begin = out.len();
                items.iter().for_each(|item| item.encode(out));
                let length = (out.len() - begin) as u32;
                out[length_at..length_at + 4].copy_from_slice(&length.to_le_bytes());
            }
            Self::Struct(fields) => fields.iter().for_each(|field| field.encode(out)),
            Self::Entry(pair) => {
                pair.0.encode(out);
                pair.1.encode(out);
            }
            Self::Variant(value) => {
                encode_signature(&value.signature(), out);
                value.encode(out);
            }
        }
    }
}

fn encode_signature(text: &str, out: &mut Vec<u8>) {
    out.push(text.len() as u8);
    out.extend(text.as_bytes());
    out.push(0);
}

fn pad(out: &mut Vec<u8>, to: usize) {
    out.resize(out.len().next_multiple_of(to), 0);
}

fn alignment(kind: u8) -> usize {
    match kind {
        b'n' | b'q' => 2,
        b'b' | b'i' | b'u' | b's' | b'o' | b'a' | b'h' => 4,
        b'x' | b't' | b'd' | b'(' | b'{' => 8,
        _ => 1,
    }
}

/// Kinds of messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Call = 1,
    Return = 2,
    Error = 3,
    Signal = 4,
}

/// A message.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Message {
    pub kind: Kind,
    pub serial: u32,
    pub reply_to: Option<u32>,
    pub path: Option<String>,
    pub interface: Option<String>,
    pub member: Option<String>,
    pub error: Option<String>,
    pub destination: Option<String>,
    pub body: Vec<Value>,
}

impl Message {
    pub fn new(kind: Kind) -> Self {
        Self {
            kind,
            serial: 0,
            reply_to: None,
            path: None,
            interface: None,
            member: None,
            error: None,
            destination: None,
            body: Vec::new(),
        }
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut body = Vec::new();
        self.body.iter().for_each(|value| value.encode(&mut body));
        let signature: String = self.body.iter().map(Value::signature).collect();
        let field = |code, value: Option<Value>| {
            value.map(|value| {
                Value::Struct(vec![Value::Byte(code), Value::Variant(Box::new(value))])
            })
        };
        let text = |text: &Option<String>| text.clone().map(Value::Text);
        let fields = [
            field(1, self.path.clone().map(Value::Path)),
            field(2, text(&self.interface)),
            field(3, text(&self.member)),
            field(4, text(&self.error)),
            field(5, self.reply_to.map(Value::U32)),
            field(6, text(&self.destination)),
            field(
                8,
                (!signature.is_empty()).then_some(Value::Signature(signature)),
            ),
        ];
        let mut out = vec![b'l', self.kind as u8, 0, 1];
        out.extend((body.len() as u32).to_le_bytes());
        out.extend(self.serial.to_le_bytes());
        Value::Array("(yv)".into(), fields.into_iter().flatten().collect()).encode(&mut out);
        pad(&mut out, 8);
        out.extend(body);
        out
    }

    /// How long the message is that begins with these [`FIXED`] bytes.
    pub fn length(fixed: &[u8; FIXED]) -> Result<usize, SystemdError> {
        let number = |at: usize| {
            let bytes = [fixed[at], fixed[at + 1], fixed[at + 2], fixed[at + 3]];
            u32::from_le_bytes(bytes) as usize
        };
        if fixed[0] != b'l' || fixed[3] != 1 {
            return Err(SystemdError::Protocol(
                "a message in another byte order or version",
            ));
        }
        let (body, fields) = (number(4), number(12));
        if body > MOST || fields > MOST {
            return Err(SystemdError::Protocol("a message that is too long"));
        }
        Ok((FIXED + fields).next_multiple_of(8) + body)
    }

    /// Reads a whole message; None: of a kind that is not known, which is to be passed over.
    pub fn decode(bytes: &[u8]) -> Result<Option<Self>, SystemdError> {
        let short = SystemdError::Protocol("a message that is cut off");
        let (fixed, _) = bytes.split_first_chunk::<FIXED>().ok_or(short)?;
        if bytes.len() != Self::length(fixed)? {
            return Err(SystemdError::Protocol(
                "a message of another length than it says",
            ));
        }
        let kind = match bytes[1] {
            1 => Kind::Call,
            2 => Kind::Return,
            3 => Kind::Error,
            4 => Kind::Signal,
            0 => return Err(SystemdError::Protocol("a message of no kind")),
            _ => return Ok(None),
        };
        let mut message = Self::new(kind);
        let mut reader = Reader { bytes, at: 8 };
        message.serial = reader.u32()?;
        let fields = reader.value("a(yv)", 0)?;
        let mut signature = String::new();
        if let Value::Array(_, fields) = fields {
            for field in fields {
                message.set_field(field, &mut signature);
            }
        }
        reader.align(8)?;
        // The body's alignment is counted from its own beginning, which is aligned to the most there is.
        while !signature.is_empty() {
            let one = first_type(&signature, 0)?;
            message.body.push(reader.value(&signature[..one], 0)?);
            signature.drain(..one);
        }
        Ok(Some(message))
    }

    fn set_field(&mut self, field: Value, signature: &mut String) {
        let Value::Struct(pair) = field else { return };
        let [Value::Byte(code), Value::Variant(value)] = pair.as_slice() else {
            return;
        };
        let text = || value.as_text().map(str::to_owned);
        match (code, value.as_ref()) {
            (1, Value::Path(_)) => self.path = text(),
            (2, Value::Text(_)) => self.interface = text(),
            (3, Value::Text(_)) => self.member = text(),
            (4, Value::Text(_)) => self.error = text(),
            (5, Value::U32(serial)) => self.reply_to = Some(*serial),
            (6, Value::Text(_)) => self.destination = text(),
            (8, Value::Signature(text)) => signature.clone_from(text),
            // Those that we do not need, and those that there may be some day.
            _ => {}
        }
    }
}

/// Length of the first complete type of a signature.
fn first_type(signature: &str, depth: usize) -> Result<usize, SystemdError> {
    let wrong = SystemdError::Protocol("a wrong signature");
    if depth > DEEPEST {
        return Err(wrong);
    }
    let bytes = signature.as_bytes();
    let group = |close: u8| {
        let mut at = 1;
        loop {
            match bytes.get(at) {
                Some(&byte) if byte == close && at > 1 => return Ok(at + 1),
                Some(_) => at += first_type(signature.get(at..).unwrap_or(""), depth + 1)?,
                None => return Err(SystemdError::Protocol("a wrong signature")),
            }
        }
    };
    match bytes.first() {
        Some(
            b'y' | b'b' | b'n' | b'q' | b'i' | b'u' | b'x' | b't' | b'd' | b's' | b'o' | b'g'
            | b'v' | b'h',
        ) => Ok(1),
        Some(b'a') => Ok(1 + first_type(signature.get(1..).unwrap_or(""), depth + 1)?),
        Some(b'(') => group(b')'),
        Some(b'{') => group(b'}'),
        _ => Err(wrong),
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn take(&mut self, count: usize) -> Result<&[u8], SystemdError> {
        let cut = SystemdError::Protocol("a message that is cut off");
        let end = self
            .at
            .checked_add(count)
            .filter(|&end| end <= self.bytes.len());
        let begin = self.at;
        self.at = end.ok_or(cut)?;
        Ok(&self.bytes[begin..self.at])
    }

    fn align(&mut self, to: usize) -> Result<(), SystemdError> {
        let count = self.at.next_multiple_of(to) - self.at;
        self.take(count).map(drop)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], SystemdError> {
        self.align(N)?;
        let mut bytes = [0; N];
        bytes.copy_from_slice(self.take(N)?);
        Ok(bytes)
    }

    fn u32(&mut self) -> Result<u32, SystemdError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn string(&mut self, length: usize) -> Result<String, SystemdError> {
        let bytes = self.take(length)?.to_vec();
        if self.take(1)? != [0] {
            return Err(SystemdError::Protocol("a text without its end"));
        }
        String::from_utf8(bytes).map_err(|_| SystemdError::Protocol("a text that is not UTF-8"))
    }

    /// A value of the type that `signature` is.
    fn value(&mut self, signature: &str, depth: usize) -> Result<Value, SystemdError> {
        if depth > DEEPEST {
            return Err(SystemdError::Protocol("values nested too deep"));
        }
        Ok(match signature.as_bytes().first() {
            Some(b'y') => Value::Byte(self.take(1)?[0]),
            Some(b'b') => match self.u32()? {
                0 => Value::Bool(false),
                1 => Value::Bool(true),
                _ => return Err(SystemdError::Protocol("a truth value that is neither")),
            },
            Some(b'n') => Value::I16(i16::from_le_bytes(self.array()?)),
            Some(b'q') => Value::U16(u16::from_le_bytes(self.array()?)),
            Some(b'i') => Value::I32(i32::from_le_bytes(self.array()?)),
            // Descriptors are indices of a list that we never asked for.
            Some(b'u' | b'h') => Value::U32(self.u32()?),
            Some(b'x') => Value::I64(i64::from_le_bytes(self.array()?)),
            Some(b't') => Value::U64(u64::from_le_bytes(self.array()?)),
            Some(b'd') => Value::Double(u64::from_le_bytes(self.array()?)),
            Some(kind @ (b's' | b'o')) => {
                let length = self.u32()? as usize;
                let text = self.string(length)?;
                if *kind == b's' {
                    Value::Text(text)
                } else {
                    Value::Path(text)
                }
            }
            Some(b'g') => Value::Signature(self.signature()?),
            Some(b'v') => {
                let signature = self.signature()?;
                if first_type(&signature, 0)? != signature.len() {
                    return Err(SystemdError::Protocol("a variant of several types"));
                }
                Value::Variant(Box::new(self.value(&signature, depth + 1)?))
            }
            Some(b'a') => self.items(signature.get(1..).unwrap_or(""), depth)?,
            Some(b'(') => Value::Struct(self.fields(signature, depth)?),
            Some(b'{') => {
                let mut fields = self.fields(signature, depth)?.into_iter();
                match (fields.next(), fields.next(), fields.next()) {
                    (Some(key), Some(value), None) => Value::Entry(Box::new((key, value))),
                    _ => return Err(SystemdError::Protocol("an entry that is no pair")),
                }
            }
            _ => return Err(SystemdError::Protocol("a wrong signature")),
        })
    }

    fn signature(&mut self) -> Result<String, SystemdError> {
        let length = usize::from(self.take(1)?[0]);
        self.string(length)
    }

    fn items(&mut self, of: &str, depth: usize) -> Result<Value, SystemdError> {
        let length = self.u32()? as usize;
        self.align(alignment(of.as_bytes().first().copied().unwrap_or(b'y')))?;
        let end = self
            .at
            .checked_add(length)
            .filter(|&end| end <= self.bytes.len());
        let end = end.ok_or(SystemdError::Protocol("an array that is cut off"))?;
        let mut items = Vec::new();
        while self.at < end {
            items.push(self.value(of, depth + 1)?);
        }
        if self.at != end {
            return Err(SystemdError::Protocol(
                "an array of another length than it says",
            ));
        }
        Ok(Value::Array(of.to_owned(), items))
    }

    fn fields(&mut self, signature: &str, depth: usize) -> Result<Vec<Value>, SystemdError> {
        self.align(8)?;
        let inner = signature
            .get(1..signature.len().saturating_sub(1))
            .unwrap_or("");
        let (mut rest, mut fields) = (inner, Vec::new());
        while !rest.is_empty() {
            let one = first_type(rest, 0)?;
            fields.push(self.value(&rest[..one], depth + 1)?);
            rest = &rest[one..];
        }
        Ok(fields)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<u8>().prop_map(Value::Byte),
            any::<bool>().prop_map(Value::Bool),
            any::<i16>().prop_map(Value::I16),
            any::<u32>().prop_map(Value::U32),
            any::<i64>().prop_map(Value::I64),
            any::<u64>().prop_map(Value::U64),
            "[a-z/é]{0,20}".prop_map(Value::Text),
            "/[a-z]{0,8}".prop_map(Value::Path),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                inner
                    .clone()
                    .prop_map(|value| Value::Variant(Box::new(value))),
                prop::collection::vec(inner.clone(), 1..4).prop_map(Value::Struct),
                (inner, 0usize..4)
                    .prop_map(|(value, count)| Value::Array(value.signature(), vec![value; count])),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(body in prop::collection::vec(value(), 0..4), serial in 1u32.., reply in any::<Option<u32>>()) {
            let message = Message {
                serial,
                reply_to: reply,
                path: Some("/a/b".into()),
                member: Some("Do".into()),
                body,
                ..Message::new(Kind::Call)
            };
            let bytes = message.encode();
            let fixed: &[u8; FIXED] = bytes.first_chunk().unwrap();
            prop_assert_eq!(Message::length(fixed), Ok(bytes.len()));
            prop_assert_eq!(Message::decode(&bytes), Ok(Some(message)));
        }

        #[test]
        fn nonsense_is_an_error_and_nothing_worse(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Message::decode(&bytes);
        }

        /// A right message with a byte changed.
        #[test]
        fn damage_is_survived(body in prop::collection::vec(value(), 0..4), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let mut bytes = Message { body, serial: 1, ..Message::new(Kind::Signal) }.encode();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            let _ = Message::decode(&bytes);
        }
    }

    #[test]
    fn deep_and_long_things_are_refused() {
        assert!(first_type(&"a".repeat(40), 0).is_err());
        assert!(first_type(&format!("{}y{}", "(".repeat(40), ")".repeat(40)), 0).is_err());
        let mut fixed = [0; FIXED];
        (fixed[0], fixed[3]) = (b'l', 1);
        fixed[4..8].copy_from_slice(&(MOST as u32 + 1).to_le_bytes());
        assert!(Message::length(&fixed).is_err());
        // Variants in variants have no signature that shows how deep they are.
        let mut value = Value::Byte(1);
        for _ in 0..60 {
            value = Value::Variant(Box::new(value));
        }
        let bytes = Message {
            body: vec![value],
            serial: 1,
            ..Message::new(Kind::Signal)
        }
        .encode();
        assert_eq!(
            Message::decode(&bytes),
            Err(SystemdError::Protocol("values nested too deep"))
        );
    }
}
