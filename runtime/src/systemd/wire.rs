//! D-Bus messages (D-Bus specification, "Message Protocol"), as far as systemd's interface needs
//! them: written in little endian, read in both.

use super::{Property, SystemdError, Value};

/// The longest message that is read. The specification allows 128 MiB; the longest that systemd says to
/// us is a list of thousands of units, of some 300 bytes each.
pub const MAX_MESSAGE: usize = 1 << 24;

/// Bytes of the fixed part of a header.
pub const FIXED: usize = 16;

const LITTLE: u8 = b'l';

/// Kinds of messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A method call.
    Call = 1,
    /// The answer to one.
    Return = 2,
    /// A refusal.
    Error = 3,
    /// An event.
    Signal = 4,
}

/// Writes values, each on its natural alignment.
#[derive(Debug, Default)]
pub struct Writer(Vec<u8>);

impl Writer {
    /// The bytes.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    pub(super) fn align(&mut self, to: usize) {
        self.0.resize(self.0.len().next_multiple_of(to), 0);
    }

    /// `u`
    pub fn u32(&mut self, value: u32) {
        self.align(4);
        self.0.extend(value.to_le_bytes());
    }

    /// `t`
    pub fn u64(&mut self, value: u64) {
        self.align(8);
        self.0.extend(value.to_le_bytes());
    }

    /// `b`
    pub fn bool(&mut self, value: bool) {
        self.u32(value.into());
    }

    /// `s` or `o`
    pub fn str(&mut self, value: &str) {
        self.length(value.len());
        self.0.extend(value.as_bytes());
        self.0.push(0);
    }

    /// `g`
    pub fn signature(&mut self, value: &str) {
        self.0.push(u8::try_from(value.len()).unwrap_or(u8::MAX));
        self.0.extend(value.as_bytes());
        self.0.push(0);
    }

    fn length(&mut self, length: usize) {
        self.u32(u32::try_from(length).unwrap_or(u32::MAX));
    }

    /// An array whose elements are aligned to `align`. The length does not count the padding
    /// before the first element.
    pub fn array(&mut self, align: usize, elements: impl FnOnce(&mut Writer)) {
        self.u32(0);
        let at = self.0.len() - 4;
        self.align(align);
        let start = self.0.len();
        elements(self);
        let length = u32::try_from(self.0.len() - start).unwrap_or(u32::MAX);
        self.0[at..at + 4].copy_from_slice(&length.to_le_bytes());
    }

    /// `v`
    pub fn variant(&mut self, value: &Value) {
        self.signature(value.signature());
        match value {
            Value::Bool(value) => self.bool(*value),
            Value::U32(value) => self.u32(*value),
            Value::U64(value) => self.u64(*value),
            Value::I32(value) => self.u32(value.cast_unsigned()),
            Value::I64(value) => self.u64(value.cast_unsigned()),
            Value::Str(value) => self.str(value),
            Value::Bytes(bytes) => self.array(1, |w| w.0.extend(bytes)),
            Value::U32s(list) => self.array(4, |w| list.iter().for_each(|n| w.u32(*n))),
            Value::Strs(list) => self.array(4, |w| list.iter().for_each(|s| w.str(s))),
        }
    }

    /// `a(sv)`
    pub fn properties(&mut self, list: &[Property]) {
        self.array(8, |w| {
            for property in list {
                w.align(8);
                w.str(&property.name);
                w.variant(&property.value);
            }
        });
    }

    fn field(&mut self, code: u8, signature: &str, value: &str) {
        self.align(8);
        self.0.push(code);
        self.signature(signature);
        if signature == "g" {
            self.signature(value);
        } else {
            self.str(value);
        }
    }
}

/// Who is called.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// The bus name.
    pub destination: &'a str,
    /// The object.
    pub path: &'a str,
    /// The interface.
    pub interface: &'a str,
    /// The method.
    pub member: &'a str,
}

/// A method call.
pub fn call(serial: u32, target: Target<'_>, signature: &str, body: &[u8]) -> Vec<u8> {
    let mut w = Writer::default();
    w.0.extend([LITTLE, Kind::Call as u8, 0, 1]);
    w.length(body.len());
    w.u32(serial);
    w.array(8, |w| {
        w.field(1, "o", target.path);
        w.field(2, "s", target.interface);
        w.field(3, "s", target.member);
        w.field(6, "s", target.destination);
        if !signature.is_empty() {
            w.field(8, "g", signature);
        }
    });
    w.align(8);
    w.0.extend(body);
    w.0
}

/// A message that came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// What it is; `None` for kinds that the specification may add.
    pub kind: Option<Kind>,
    /// To which call it is the answer.
    pub reply_serial: u32,
    /// The signal or method.
    pub member: String,
    /// The name of an error.
    pub error: String,
    signature: String,
    little: bool,
    body: Vec<u8>,
}

/// How long the whole message is that begins with these [`FIXED`] bytes.
pub fn length(fixed: &[u8; FIXED]) -> Result<usize, SystemdError> {
    let little = endian(fixed[0])?;
    let number = |at: usize| {
        let bytes = [fixed[at], fixed[at + 1], fixed[at + 2], fixed[at + 3]];
        let number = if little {
            u32::from_le_bytes(bytes)
        } else {
            u32::from_be_bytes(bytes)
        };
        usize::try_from(number).unwrap_or(usize::MAX)
    };
    let (body, fields) = (number(4), number(12));
    if body > MAX_MESSAGE || fields > MAX_MESSAGE {
        return Err(SystemdError::Protocol("a message is too long"));
    }
    Ok((FIXED + fields).next_multiple_of(8) + body)
}

fn endian(mark: u8) -> Result<bool, SystemdError> {
    match mark {
        LITTLE => Ok(true),
        b'B' => Ok(false),
        _ => Err(SystemdError::Protocol("a message has no known byte order")),
    }
}

impl Message {
    /// Understand one whole message.
    ///
    /// # Errors
    /// When it is not as the specification says.
    pub fn parse(bytes: &[u8]) -> Result<Message, SystemdError> {
        let broken = || SystemdError::Protocol("a message is cut off");
        let little = endian(*bytes.first().ok_or_else(broken)?)?;
        let mut r = Reader {
            bytes,
            at: 0,
            little,
        };
        let _mark = r.byte()?;
        let kind = match r.byte()? {
            1 => Some(Kind::Call),
            2 => Some(Kind::Return),
            3 => Some(Kind::Error),
            4 => Some(Kind::Signal),
            _ => None,
        };
        let _flags = r.byte()?;
        if r.byte()? != 1 {
            return Err(SystemdError::Protocol("an unknown version of D-Bus"));
        }
        let body = r.length()?;
        let _serial = r.u32()?;
        let fields = r.length()?;
        let end = r.at.checked_add(fields).ok_or_else(broken)?;
        let mut message = Message {
            kind,
            reply_serial: 0,
            member: String::new(),
            error: String::new(),
            signature: String::new(),
            little,
            body: Vec::new(),
        };
        while r.at < end {
            r.align(8)?;
            let code = r.byte()?;
            let signature = r.signature()?;
            match (code, signature.as_str()) {
                (5, "u") => message.reply_serial = r.u32()?,
                (3, "s") => message.member = r.str()?,
                (4, "s") => message.error = r.str()?,
                (8, "g") => message.signature = r.signature()?,
                (_, "u") => _ = r.u32()?,
                (_, "s" | "o") => _ = r.str()?,
                (_, "g") => _ = r.signature()?,
                _ => return Err(SystemdError::Protocol("a header field of unknown type")),
            }
        }
        r.align(8)?;
        let body = bytes.get(r.at..r.at + body).ok_or_else(broken)?;
        message.body = body.to_vec();
        Ok(message)
    }

    /// The texts that the body begins with (types `s` and `o`; numbers `u` between them are passed
    /// over), also the one in a variant.
    ///
    /// # Errors
    /// When the body is not as its signature says.
    pub fn strings(&self) -> Result<Vec<String>, SystemdError> {
        let mut r = self.reader();
        let mut found = Vec::new();
        for kind in self.signature.chars() {
            match kind {
                's' | 'o' => found.push(r.str()?),
                'u' => _ = r.u32()?,
                'v' if r.signature()? == "s" => found.push(r.str()?),
                _ => break,
            }
        }
        Ok(found)
    }

    /// The value in the variant that the body is, the answer to `Get` of a property; of a structure its first
    /// member. `None`: it is of a type that nobody asks for.
    ///
    /// # Errors
    /// When the body is not as its signature says.
    pub fn value(&self) -> Result<Option<Value>, SystemdError> {
        if self.signature != "v" {
            return Err(SystemdError::Protocol("an answer that is no value"));
        }
        let mut r = self.reader();
        let mut kind = r.signature()?;
        if kind.starts_with('(') {
            r.align(8)?;
            kind = kind.get(1..2).unwrap_or_default().to_owned();
        }
        Ok(Some(match kind.as_str() {
            "s" | "o" => Value::Str(r.str()?),
            "b" => Value::Bool(r.u32()? != 0),
            "u" => Value::U32(r.u32()?),
            "i" => Value::I32(r.u32()?.cast_signed()),
            "t" => Value::U64(r.u64()?),
            "ay" => {
                let length = r.length()?;
                Value::Bytes(r.take(length)?.to_vec())
            }
            _ => return Ok(None),
        }))
    }

    /// What the body is made of: the signature, and a reader of its values.
    pub(super) fn body(&self) -> (&str, Reader<'_>) {
        (&self.signature, self.reader())
    }

    fn reader(&self) -> Reader<'_> {
        Reader {
            bytes: &self.body,
            at: 0,
            little: self.little,
        }
    }
}

/// Reads values, each on its natural alignment.
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    little: bool,
}

impl Reader<'_> {
    /// Where the next value begins, at the earliest.
    pub(super) fn position(&self) -> usize {
        self.at
    }

    fn take(&mut self, count: usize) -> Result<&[u8], SystemdError> {
        let end = self.at.checked_add(count);
        let slice = end.and_then(|end| self.bytes.get(self.at..end));
        let slice = slice.ok_or(SystemdError::Protocol("a message is cut off"))?;
        self.at += count;
        Ok(slice)
    }

    pub(super) fn align(&mut self, to: usize) -> Result<(), SystemdError> {
        let gap = self.at.next_multiple_of(to) - self.at;
        self.take(gap).map(drop)
    }

    fn byte(&mut self) -> Result<u8, SystemdError> {
        Ok(self.take(1)?[0])
    }

    pub(super) fn u32(&mut self) -> Result<u32, SystemdError> {
        self.align(4)?;
        let little = self.little;
        let bytes = self.take(4)?;
        let bytes = [bytes[0], bytes[1], bytes[2], bytes[3]];
        Ok(if little {
            u32::from_le_bytes(bytes)
        } else {
            u32::from_be_bytes(bytes)
        })
    }

    fn u64(&mut self) -> Result<u64, SystemdError> {
        self.align(8)?;
        let little = self.little;
        let mut bytes = [0; 8];
        bytes.copy_from_slice(self.take(8)?);
        Ok(if little {
            u64::from_le_bytes(bytes)
        } else {
            u64::from_be_bytes(bytes)
        })
    }

    /// How many bytes of text or of elements follow.
    pub(super) fn length(&mut self) -> Result<usize, SystemdError> {
        let length = usize::try_from(self.u32()?).unwrap_or(usize::MAX);
        if length > MAX_MESSAGE {
            return Err(SystemdError::Protocol("a message is too long"));
        }
        Ok(length)
    }

    fn text(&mut self, length: usize) -> Result<String, SystemdError> {
        let text = String::from_utf8(self.take(length)?.to_vec());
        let text = text.map_err(|_| SystemdError::Protocol("a text is not UTF-8"))?;
        if self.byte()? != 0 {
            return Err(SystemdError::Protocol("a text does not end"));
        }
        Ok(text)
    }

    pub(super) fn str(&mut self) -> Result<String, SystemdError> {
        let length = self.length()?;
        self.text(length)
    }

    /// A text that nobody wants to know.
    pub(super) fn skip_str(&mut self) -> Result<(), SystemdError> {
        let length = self.length()?;
        self.take(length + 1).map(drop)
    }

    fn signature(&mut self) -> Result<String, SystemdError> {
        let length = self.byte()?;
        self.text(length.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGET: Target<'_> = Target {
        destination: "org.example",
        path: "/org/example",
        interface: "org.example.Iface",
        member: "Do",
    };

    /// Byte for byte what the specification's rules give for a small message.
    #[test]
    fn a_call_is_laid_out_as_specified() {
        let mut body = Writer::default();
        body.str("ab");
        body.bool(true);
        let bytes = call(7, TARGET, "sb", &body.into_bytes());
        assert_eq!(&bytes[..4], b"l\x01\0\x01");
        assert_eq!(&bytes[4..12], [12, 0, 0, 0, 7, 0, 0, 0]);
        assert_eq!(&bytes[16..36], b"\x01\x01o\0\x0c\0\0\0/org/example");
        assert_eq!(&bytes[bytes.len() - 12..], b"\x02\0\0\0ab\0\0\x01\0\0\0");
        let mut fixed = [0; FIXED];
        fixed.copy_from_slice(&bytes[..FIXED]);
        assert_eq!(length(&fixed).unwrap(), bytes.len());
        let message = Message::parse(&bytes).unwrap();
        assert_eq!(
            (message.kind, message.member.as_str()),
            (Some(Kind::Call), "Do")
        );
        assert_eq!(message.strings().unwrap(), ["ab"]);
    }

    #[test]
    fn values_are_read_as_they_are_written() {
        let answer = |body: Writer| {
            let bytes = call(1, TARGET, "v", &body.into_bytes());
            Message::parse(&bytes).unwrap().value().unwrap()
        };
        for value in [
            Value::Str("x".to_owned()),
            Value::Bool(true),
            Value::U32(7),
            Value::I32(-7),
            Value::U64(1 << 40),
            Value::Bytes(vec![1, 2, 3]),
        ] {
            let mut body = Writer::default();
            body.variant(&value);
            assert_eq!(answer(body), Some(value));
        }
        let mut structure = Writer::default();
        structure.signature("(uo)");
        structure.align(8);
        structure.u32(9);
        structure.str("/job");
        assert_eq!(answer(structure), Some(Value::U32(9)));
        let mut other = Writer::default();
        other.variant(&Value::U32s(vec![1]));
        assert_eq!(answer(other), None);
    }

    #[test]
    fn structures_begin_at_eight() {
        let mut w = Writer::default();
        w.properties(&[
            Property::new("B", Value::Bytes(vec![3])),
            Property::new("A", Value::Bool(true)),
        ]);
        let want: &[u8] =
            b"\x28\0\0\0\0\0\0\0\x01\0\0\0B\0\x02ay\0\0\0\x01\0\0\0\x03\0\0\0\0\0\0\0\
            \x01\0\0\0A\0\x01b\0\0\0\0\x01\0\0\0";
        let bytes = w.into_bytes();
        assert_eq!(bytes, want);
    }

    #[test]
    fn cut_off_and_foreign_bytes_are_errors() {
        let mut body = Writer::default();
        body.str("ab");
        let whole = call(7, TARGET, "s", &body.into_bytes());
        for end in 0..whole.len() {
            assert!(Message::parse(&whole[..end]).is_err(), "{end}");
        }
        for at in 0..whole.len() {
            let mut broken = whole.clone();
            broken[at] ^= 0xff;
            // No panic, whatever comes of it.
            if let Ok(message) = Message::parse(&broken) {
                message.strings().unwrap_or_default();
                message.value().unwrap_or_default();
            }
        }
        assert!(
            length(&[
                b'l', 2, 0, 1, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0
            ])
            .is_err()
        );
    }
}
