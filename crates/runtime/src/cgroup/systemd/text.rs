//! Values as text, in the form that GLib's GVariant has and runc's callers write: `uint64 5`, `'text'`, `['a', 'b']`,
//! `@as []`, `true`, `(1, 'a')`, `{'k': <1>}`, `b'bytes'`.

use super::wire::Value;

/// How deep values may be nested.
const DEEPEST: usize = 16;

/// Types by the words that stand before a value.
const WORDS: [(&str, u8); 11] = [
    ("boolean", b'b'),
    ("byte", b'y'),
    ("int16", b'n'),
    ("uint16", b'q'),
    ("int32", b'i'),
    ("uint32", b'u'),
    ("int64", b'x'),
    ("uint64", b't'),
    ("double", b'd'),
    ("string", b's'),
    ("objectpath", b'o'),
];

/// Reads a value; what is wrong with it otherwise.
pub(super) fn parse(text: &str) -> Result<Value, String> {
    let mut parser = Parser { rest: text };
    let value = parser.value(None, 0)?;
    parser.blank();
    match parser.rest {
        "" => Ok(value),
        rest => Err(format!("{rest:?} is too much")),
    }
}

struct Parser<'a> {
    rest: &'a str,
}

impl Parser<'_> {
    fn blank(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn take(&mut self, token: &str) -> bool {
        self.blank();
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    /// The characters up to the first that ends a word.
    fn word(&mut self) -> &str {
        self.blank();
        let is_end = |c: char| c.is_whitespace() || "[](){}<>,:'\"".contains(c);
        let end = self.rest.find(is_end).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word
    }

    /// A value; of the type that is expected, if one is.
    fn value(&mut self, expected: Option<&str>, depth: usize) -> Result<Value, String> {
        if depth > DEEPEST {
            return Err("values are nested too deep".into());
        }
        self.blank();
        match self.rest.chars().next() {
            None => Err("a value is missing".into()),
            Some('@') => {
                self.take("@");
                let signature = self.signature()?;
                self.value(Some(&signature), depth + 1)
            }
            Some('[') => self.array(expected, depth),
            Some('(') => self.tuple(expected, depth),
            Some('{') => self.dictionary(expected, depth),
            Some('<') => {
                self.take("<");
                let inner = self.value(None, depth + 1)?;
                self.close(">")?;
                fit(Value::Variant(Box::new(inner)), expected)
            }
            Some('\'' | '"') => self.text(expected),
            Some('b') if self.rest.starts_with("b'") || self.rest.starts_with("b\"") => {
                self.take("b");
                let mut bytes = self.quoted()?.into_bytes();
                bytes.push(0);
                let bytes = bytes.into_iter().map(Value::Byte).collect();
                fit(Value::Array("y".into(), bytes), expected)
            }
            Some(_) => self.simple(expected, depth),
        }
    }

    /// After `@`: a type.
    fn signature(&mut self) -> Result<String, String> {
        let length = type_length(self.rest, 0).ok_or("the type after @ is none")?;
        let (signature, rest) = self.rest.split_at(length);
        self.rest = rest;
        Ok(signature.to_owned())
    }

    fn close(&mut self, token: &str) -> Result<(), String> {
        match self.take(token) {
            true => Ok(()),
            false => Err(format!("{token:?} is missing before {:?}", self.rest)),
        }
    }

    fn array(&mut self, expected: Option<&str>, depth: usize) -> Result<Value, String> {
        self.take("[");
        let mut of = match expected {
            Some(signature) => Some(
                signature
                    .strip_prefix('a')
                    .ok_or_else(|| other_type(signature, "an array"))?
                    .to_owned(),
            ),
            None => None,
        };
        let mut items = Vec::new();
        while !self.take("]") {
            if !items.is_empty() {
                self.close(",")?;
            }
            // All are of the first one's type.
            let item = self.value(of.as_deref(), depth + 1)?;
            of.get_or_insert_with(|| item.signature());
            items.push(item);
        }
        let of = of.ok_or("an empty array needs its type: @as []")?;
        Ok(Value::Array(of, items))
    }

    fn tuple(&mut self, expected: Option<&str>, depth: usize) -> Result<Value, String> {
        self.take("(");
        let mut types = match expected {
            Some(signature) => Some(
                signature
                    .strip_prefix('(')
                    .and_then(|rest| rest.strip_suffix(')'))
                    .ok_or_else(|| other_type(signature, "a structure"))?,
            ),
            None => None,
        };
        let mut fields = Vec::new();
        while !self.take(")") {
            if !fields.is_empty() {
                self.close(",")?;
                // (1,) has one.
                if self.take(")") {
                    break;
                }
            }
            let of = match types {
                Some(rest) => {
                    let length = type_length(rest, 0).ok_or("a structure has too many values")?;
                    let (first, rest) = rest.split_at(length);
                    types = Some(rest);
                    Some(first)
                }
                None => None,
            };
            fields.push(self.value(of, depth + 1)?);
        }
        match (fields.is_empty(), types.unwrap_or("")) {
            (false, "") => Ok(Value::Struct(fields)),
            _ => Err("a structure has too few values".into()),
        }
    }

    fn dictionary(&mut self, expected: Option<&str>, depth: usize) -> Result<Value, String> {
        self.take("{");
        let mut of = match expected {
            Some(signature) => {
                let inner = signature
                    .strip_prefix("a{")
                    .and_then(|rest| rest.strip_suffix('}'))
                    .ok_or_else(|| other_type(signature, "a dictionary"))?;
                let (key, value) = inner.split_at(1);
                Some((key.to_owned(), value.to_owned()))
            }
            None => None,
        };
        let mut entries = Vec::new();
        while !self.take("}") {
            if !entries.is_empty() {
                self.close(",")?;
            }
            let key = self.value(of.as_ref().map(|of| of.0.as_str()), depth + 1)?;
            self.close(":")?;
            let value = self.value(of.as_ref().map(|of| of.1.as_str()), depth + 1)?;
            if key.signature().len() != 1 || matches!(key, Value::Variant(_)) {
                return Err("a key is a simple value".into());
            }
            of.get_or_insert_with(|| (key.signature(), value.signature()));
            entries.push(Value::Entry(Box::new((key, value))));
        }
        let (key, value) = of.ok_or("an empty dictionary needs its type: @a{sv} {}")?;
        Ok(Value::Array(format!("{{{key}{value}}}"), entries))
    }

    fn text(&mut self, expected: Option<&str>) -> Result<Value, String> {
        let text = self.quoted()?;
        match expected {
            None | Some("s") => Ok(Value::Text(text)),
            Some("o") if is_path(&text) => Ok(Value::Path(text)),
            Some("g") if is_signature(&text) => Ok(Value::Signature(text)),
            Some("o" | "g") => Err(format!("{text:?} is none of its type")),
            Some(signature) => Err(other_type(signature, "a text")),
        }
    }

    /// A text in quotes, with C's escapes.
    fn quoted(&mut self) -> Result<String, String> {
        let mut characters = self.rest.char_indices();
        let quote = characters.next().map(|(_, quote)| quote);
        let mut text = String::new();
        while let Some((at, c)) = characters.next() {
            if Some(c) == quote {
                self.rest = self.rest.get(at + 1..).unwrap_or("");
                return match text.contains('\0') {
                    true => Err("a text has a zero byte".into()),
                    false => Ok(text),
                };
            }
            if c != '\\' {
                text.push(c);
                continue;
            }
            let escaped = characters.next().map(|(_, c)| c);
            let digits = |escape| match escape {
                'u' => 4,
                _ => 8,
            };
            text.push(match escaped {
                Some('a') => '\u{7}',
                Some('b') => '\u{8}',
                Some('f') => '\u{c}',
                Some('n') => '\n',
                Some('r') => '\r',
                Some('t') => '\t',
                Some('v') => '\u{b}',
                Some(escape @ ('u' | 'U')) => {
                    let number: String = characters
                        .by_ref()
                        .take(digits(escape))
                        .map(|(_, c)| c)
                        .collect();
                    let number = u32::from_str_radix(&number, 16).ok();
                    let character = number.and_then(char::from_u32);
                    character.ok_or("an escape in a text is no character")?
                }
                Some(c) => c,
                None => break,
            });
        }
        Err("a text does not end".into())
    }

    /// A truth value, a number, or a type's word with a value behind it.
    fn simple(&mut self, expected: Option<&str>, depth: usize) -> Result<Value, String> {
        let word = self.word().to_owned();
        if let Some((_, kind)) = WORDS.iter().find(|(name, _)| *name == word) {
            let named = char::from(*kind).to_string();
            if expected.is_some_and(|expected| expected != named) {
                return Err(other_type(expected.unwrap_or_default(), &word));
            }
            return self.value(Some(&named), depth + 1);
        }
        match word.as_str() {
            "true" | "false" => fit(Value::Bool(word == "true"), expected),
            _ => number(&word, expected),
        }
    }
}

fn other_type(signature: &str, found: &str) -> String {
    format!("{found} is not of type {signature:?}")
}

fn fit(value: Value, expected: Option<&str>) -> Result<Value, String> {
    match expected {
        Some(signature) if value.signature() != signature => {
            Err(other_type(signature, "what is there"))
        }
        _ => Ok(value),
    }
}

/// Without a type: a whole number is `i`, another one `d`.
fn number(word: &str, expected: Option<&str>) -> Result<Value, String> {
    let wrong = || format!("{word:?} is no number, nor is it in quotes");
    let whole = whole(word);
    let kind = match expected {
        Some(kind) => kind,
        None if whole.is_some() => "i",
        None => "d",
    };
    if kind == "d" {
        let number: f64 = word.parse().map_err(|_| wrong())?;
        return Ok(Value::Double(number.to_bits()));
    }
    if !matches!(kind, "y" | "n" | "q" | "i" | "u" | "x" | "t") {
        return Err(other_type(kind, &format!("{word:?}")));
    }
    let number = whole.ok_or_else(wrong)?;
    let value = match kind {
        "y" => number.try_into().map(Value::Byte).ok(),
        "n" => number.try_into().map(Value::I16).ok(),
        "q" => number.try_into().map(Value::U16).ok(),
        "i" => number.try_into().map(Value::I32).ok(),
        "u" => number.try_into().map(Value::U32).ok(),
        "x" => number.try_into().map(Value::I64).ok(),
        _ => number.try_into().map(Value::U64).ok(),
    };
    value.ok_or_else(|| format!("{word} does not fit into type {kind:?}"))
}

/// Decimal, or with `0x`, or with a zero in front octal, as in C.
fn whole(word: &str) -> Option<i128> {
    let (negative, digits) = match word.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, word.strip_prefix('+').unwrap_or(word)),
    };
    let lower = digits.to_ascii_lowercase();
    let (digits, radix) = match lower.as_str() {
        hex if hex.starts_with("0x") => (&hex[2..], 16),
        octal if octal.len() > 1 && octal.starts_with('0') => (&octal[1..], 8),
        decimal => (decimal, 10),
    };
    // What comes here has no sign of its own any more.
    if !digits.starts_with(|c: char| c.is_digit(radix)) {
        return None;
    }
    let number = i128::from_str_radix(digits, radix).ok()?;
    Some(if negative { -number } else { number })
}

fn is_path(text: &str) -> bool {
    let part = |part: &str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    text == "/"
        || text
            .strip_prefix('/')
            .is_some_and(|rest| rest.split('/').all(part))
}

fn is_signature(text: &str) -> bool {
    let mut rest = text;
    while !rest.is_empty() {
        match type_length(rest, 0) {
            Some(length) => rest = &rest[length..],
            None => return false,
        }
    }
    text.len() <= 255
}

/// Length of the first complete type of a text.
fn type_length(text: &str, depth: usize) -> Option<usize> {
    if depth > DEEPEST {
        return None;
    }
    let rest = text.get(1..).unwrap_or("");
    match text.bytes().next()? {
        b'y' | b'b' | b'n' | b'q' | b'i' | b'u' | b'x' | b't' | b'd' | b's' | b'o' | b'g'
        | b'v' => Some(1),
        b'a' if rest.starts_with('{') => {
            let inner = &rest[1..];
            let is_simple = |key: u8| key.is_ascii_lowercase() && !b"avh".contains(&key);
            let key = inner.bytes().next().filter(|&key| is_simple(key));
            key.and_then(|_| type_length(inner, depth + 1))?;
            let value = type_length(inner.get(1..)?, depth + 1)?;
            (inner.as_bytes().get(1 + value) == Some(&b'}')).then_some(4 + value)
        }
        b'a' => Some(1 + type_length(rest, depth + 1)?),
        b'(' => {
            let mut at = 0;
            while rest.as_bytes().get(at) != Some(&b')') {
                at += type_length(rest.get(at..)?, depth + 1)?;
            }
            (at > 0).then_some(at + 2)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn texts(of: &[&str]) -> Value {
        let items = of.iter().map(|text| Value::text(*text)).collect();
        Value::Array("s".into(), items)
    }

    #[test]
    fn values_are_read() {
        let strings = |key: &str, value: Value| {
            let variant = Value::Variant(Box::new(value));
            Value::Entry(Box::new((Value::text(key), variant)))
        };
        for (text, expected) in [
            ("uint64 5", Value::U64(5)),
            ("@t 5", Value::U64(5)),
            (" -7 ", Value::I32(-7)),
            ("0x1F", Value::I32(31)),
            ("010", Value::I32(8)),
            ("byte 0xff", Value::Byte(255)),
            ("1.5", Value::Double(1.5f64.to_bits())),
            ("double 2", Value::Double(2f64.to_bits())),
            ("true", Value::Bool(true)),
            ("'a'", Value::text("a")),
            (r#""a'\n\u0041\"""#, Value::text("a'\nA\"")),
            ("objectpath '/a/b'", Value::Path("/a/b".into())),
            ("['a','b']", texts(&["a", "b"])),
            ("@as []", texts(&[])),
            (
                "[uint64 1, 2]",
                Value::Array("t".into(), vec![Value::U64(1), Value::U64(2)]),
            ),
            (
                "[('/dev/null', 'rw')]",
                Value::Array(
                    "(ss)".into(),
                    vec![Value::Struct(vec![
                        Value::text("/dev/null"),
                        Value::text("rw"),
                    ])],
                ),
            ),
            (
                "@(tb) (1, true)",
                Value::Struct(vec![Value::U64(1), Value::Bool(true)]),
            ),
            ("(1,)", Value::Struct(vec![Value::I32(1)])),
            (
                "{'k': <1>}",
                Value::Array("{sv}".into(), vec![strings("k", Value::I32(1))]),
            ),
            ("@a{sv} {}", Value::Array("{sv}".into(), vec![])),
            (
                "b'a'",
                Value::Array("y".into(), vec![Value::Byte(97), Value::Byte(0)]),
            ),
        ] {
            assert_eq!(parse(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_value_is_refused() {
        for wrong in [
            "",
            "no",
            "'a",
            "[]",
            "{}",
            "()",
            "['a', 1]",
            "[1 2]",
            "uint64 -1",
            "byte 256",
            "uint64 'a'",
            "@",
            "@a []",
            "@as {}",
            "1 2",
            "uint64",
            "'\\uD800'",
            "'\\u0000'",
            "(1",
            "<1",
            "{<1>: 1}",
            "@(tt) (1)",
            "@(t) (1, 2)",
            "uint64 uint32 1",
            "objectpath 'a'",
            "--1",
            "0x",
            "+-1",
            "@g 'z'",
            "true false",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        assert!(parse(&"[".repeat(1000)).is_err());
        assert!(parse(&"@".repeat(1000)).is_err());
        assert!(parse(&"uint64 ".repeat(1000)).is_err());
    }

    proptest! {
        #[test]
        fn nonsense_is_an_error_and_nothing_worse(text in "[\\[\\](){}<>,:'\"@ab1-9xtsuint64\\\\ é]{0,40}") {
            if let Ok(value) = parse(&text) {
                // What is written must be one that the other side can read.
                let signature = value.signature();
                prop_assert!(type_length(&signature, 0) == Some(signature.len()), "{}", signature);
            }
        }
    }
}
