//! Numbers: sizes, times, counts, ports.

use std::time::Duration;

use super::Parsed;

/// Bytes: a number and `k`, `m`, `g` or `t` (powers of 1024, also written `kb` or `KiB`).
pub fn size(text: &str) -> Parsed<u64> {
    const WRONG: &str = "must be a number and a unit: 512k, 256m, 1.5g, 2t";
    let (number, unit) = split_number(text).ok_or(WRONG)?;
    let unit = match unit.as_bytes() {
        [unit @ .., b'i' | b'I', b'b' | b'B'] | [unit @ .., b'b' | b'B'] => unit,
        unit => unit,
    };
    let shift = match unit {
        [] => 0,
        [b'k' | b'K'] => 10,
        [b'm' | b'M'] => 20,
        [b'g' | b'G'] => 30,
        [b't' | b'T'] => 40,
        _ => return Err(WRONG.to_owned()),
    };
    let bytes = scaled(number, 1 << shift).ok_or("must be less than 8192t")?;
    if shift == 0 && bytes < 1 << 20 {
        return Err(format!("must have a unit: {text}m, {text}g"));
    }
    if bytes == 0 {
        Err("must be more than zero".to_owned())
    } else {
        Ok(bytes)
    }
}

/// A heap as `-Xmx` takes it (java(1)): a whole number and `k`, `m`, `g` or `t`.
pub fn heap_size(text: &str) -> Parsed<u64> {
    let digits = text.len() - usize::from(text.ends_with(|c: char| c.is_ascii_alphabetic()));
    let whole = digits > 0
        && text.is_char_boundary(digits)
        && text[..digits].bytes().all(|b| b.is_ascii_digit());
    if !whole || digits == text.len() {
        return Err("must be a whole number and k, m, g or t, like 256m".to_owned());
    }
    size(text)
}

/// A time: numbers with `ms`, `s`, `m` or `min`, `h`, `d`, one or several: `1h30m`.
pub fn duration(text: &str) -> Parsed<Duration> {
    const WRONG: &str = "must be a number and a unit: 500ms, 30s, 5m, 2h, 1d, 1h30m";
    let mut rest = text.trim();
    let mut total = Duration::ZERO;
    if rest.is_empty() {
        return Err(WRONG.to_owned());
    }
    while !rest.is_empty() {
        let (number, tail) = split_number(rest).ok_or(WRONG)?;
        let unit_end = tail
            .find(|c: char| !c.is_ascii_alphabetic())
            .unwrap_or(tail.len());
        let millis = match &tail[..unit_end] {
            "ms" => 1,
            "s" | "sec" => 1000,
            "m" | "min" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            "" => return Err(format!("must have a unit: {text}s, {text}m")),
            _ => return Err(WRONG.to_owned()),
        };
        let millis = scaled(number, millis).filter(|millis| *millis <= 366 * 86_400_000);
        total += Duration::from_millis(millis.ok_or("must be a year at most")?);
        rest = tail[unit_end..].trim_start();
    }
    if total.is_zero() {
        Err("must be more than zero".to_owned())
    } else {
        Ok(total)
    }
}

/// Processors in thousandths: `1.5` is 1500.
pub fn cpu_millis(text: &str) -> Parsed<u64> {
    const WRONG: &str = "must be a number of processors from 0.01 to 4096: 0.5, 2";
    let (number, rest) = split_number(text).ok_or(WRONG)?;
    let millis = scaled(number, 1000).filter(|millis| (10..=4_096_000).contains(millis));
    millis
        .filter(|_| rest.is_empty())
        .ok_or_else(|| WRONG.to_owned())
}

/// A whole number from 1.
pub fn count(text: &str) -> Parsed<u64> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let number = text
        .parse()
        .ok()
        .filter(|number| digits && (1..=1 << 30).contains(number));
    number.ok_or_else(|| "must be a whole number from 1".to_owned())
}

/// A TCP port.
pub fn port(text: &str) -> Parsed<u16> {
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    let port = text.parse().ok().filter(|port| digits && *port > 0);
    port.ok_or_else(|| "must be a port from 1 to 65535".to_owned())
}

/// A decimal number and what stands behind it.
fn split_number(text: &str) -> Option<(&str, &str)> {
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, rest) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |part: &str| !part.is_empty() && part.len() <= 18 && !part.contains('.');
    (digits(whole) && digits(fraction)).then_some((number, rest.trim_start()))
}

/// `number`, with up to 9 decimals that count, times `unit`, rounded down.
fn scaled(number: &str, unit: u64) -> Option<u64> {
    let most = |value: &u64| *value < 1 << 53;
    let Some((whole, fraction)) = number.split_once('.') else {
        let value = number.parse::<u64>().ok()?.checked_mul(unit);
        return value.filter(most);
    };
    let mut nanos = whole.parse::<u128>().ok()?;
    let digits = fraction.chars().chain(std::iter::repeat('0'));
    for digit in digits.take(9) {
        nanos = nanos * 10 + u128::from(digit.to_digit(10)?);
    }
    let value = nanos * u128::from(unit) / 1_000_000_000;
    u64::try_from(value).ok().filter(most)
}
