//! Values of unit properties, and the text form of annotations.

/// A value of a unit property, with the D-Bus type it travels as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// `b`
    Bool(bool),
    /// `u`
    U32(u32),
    /// `t`
    U64(u64),
    /// `i`
    I32(i32),
    /// `x`
    I64(i64),
    /// `s`
    Str(String),
    /// `ay`
    Bytes(Vec<u8>),
    /// `au`
    U32s(Vec<u32>),
    /// `as`
    Strs(Vec<String>),
}

impl Value {
    /// The D-Bus signature.
    pub fn signature(&self) -> &'static str {
        match self {
            Value::Bool(_) => "b",
            Value::U32(_) => "u",
            Value::U64(_) => "t",
            Value::I32(_) => "i",
            Value::I64(_) => "x",
            Value::Str(_) => "s",
            Value::Bytes(_) => "ay",
            Value::U32s(_) => "au",
            Value::Strs(_) => "as",
        }
    }

    /// Read a value in GVariant text form (GLib, "GVariant Text Format"), as runc and crun take it
    /// in annotations: `true`, `'text'`, `uint32 5`, `uint64 5`, `int32 5`, `int64 5`, `5`,
    /// `['a', 'b']`.
    ///
    /// # Errors
    /// What was expected.
    pub fn parse(text: &str) -> Result<Value, String> {
        let text = text.trim();
        let words = || text.split_once(char::is_whitespace);
        match text {
            "true" => return Ok(Value::Bool(true)),
            "false" => return Ok(Value::Bool(false)),
            _ => {}
        }
        if text.starts_with(['\'', '"']) {
            let (value, rest) = quoted(text)?;
            return if rest.trim().is_empty() {
                Ok(Value::Str(value))
            } else {
                Err(format!("{rest:?} is left after the text"))
            };
        }
        if let Some(list) = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')) {
            return strings(list).map(Value::Strs);
        }
        if let Some((kind, number)) = words() {
            let number = number.trim();
            let bad = |_| format!("{number:?} is no {kind}");
            return match kind {
                "uint32" => number.parse().map(Value::U32).map_err(bad),
                "uint64" => number.parse().map(Value::U64).map_err(bad),
                "int32" => number.parse().map(Value::I32).map_err(bad),
                "int64" => number.parse().map(Value::I64).map_err(bad),
                _ => Err(format!("the type {kind:?} is not supported")),
            };
        }
        text.parse().map(Value::I32).map_err(|_| {
            format!("{text:?} is not a value such as true, 'text', uint64 5 or ['a', 'b']")
        })
    }
}

/// A quoted text at the beginning, and what follows it.
fn quoted(text: &str) -> Result<(String, &str), String> {
    let mut chars = text.char_indices();
    let quote = chars.next().map(|(_, c)| c).unwrap_or_default();
    let mut value = String::new();
    while let Some((at, c)) = chars.next() {
        match c {
            c if c == quote => return Ok((value, &text[at + c.len_utf8()..])),
            '\\' => match chars.next() {
                Some((_, 'n')) => value.push('\n'),
                Some((_, 't')) => value.push('\t'),
                Some((_, c @ ('\\' | '\'' | '"'))) => value.push(c),
                _ => return Err("only \\n, \\t, \\\\ and quotes can be escaped".into()),
            },
            '\0' => return Err("a text cannot hold a NUL".into()),
            c => value.push(c),
        }
    }
    Err("a quotation mark is missing at the end".into())
}

fn strings(mut list: &str) -> Result<Vec<String>, String> {
    let mut all = Vec::new();
    loop {
        list = list.trim_start();
        if list.is_empty() && all.is_empty() {
            return Ok(all);
        }
        if !list.starts_with(['\'', '"']) {
            return Err("a list holds quoted texts, with commas between them".into());
        }
        let (value, rest) = quoted(list)?;
        all.push(value);
        match rest.trim_start() {
            "" => return Ok(all),
            rest => {
                list = rest
                    .strip_prefix(',')
                    .ok_or("a comma is missing in the list")?;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read() {
        for (text, want) in [
            ("true", Value::Bool(true)),
            (
                "'inactive-or-failed'",
                Value::Str("inactive-or-failed".into()),
            ),
            ("\"it's\"", Value::Str("it's".into())),
            ("'a\\'b'", Value::Str("a'b".into())),
            ("uint64 123456789", Value::U64(123_456_789)),
            ("uint32 7", Value::U32(7)),
            ("-5", Value::I32(-5)),
            ("int64 -5", Value::I64(-5)),
            ("['a', \"b\"]", Value::Strs(vec!["a".into(), "b".into()])),
            ("[]", Value::Strs(vec![])),
        ] {
            assert_eq!(Value::parse(text).as_ref(), Ok(&want), "{text}");
        }
        for bad in [
            "",
            "yes",
            "'a",
            "'a' b",
            "uint32 -1",
            "uint64 x",
            "[1]",
            "['a' 'b']",
            "['a',]",
            "byte 1",
            "'\\x'",
            "{}",
        ] {
            assert!(Value::parse(bad).is_err(), "{bad:?}");
        }
    }
}
