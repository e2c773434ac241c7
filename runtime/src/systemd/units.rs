//! How units are, of hundreds at once: one list of all, and properties by many calls whose answers are not awaited one
//! by one (org.freedesktop.systemd1(5)). `systemctl show` asks for every property of every unit, and waits for each.

use super::bus::Bus;
use super::wire::{Message, Target, Writer};
use super::{SystemdError, Value};

/// So many calls are written at once, and as many again while those are answered: a bus refuses more than 128
/// (dbus-daemon(1), `max_replies_per_connection`), and neither side may wait for the other with all buffers full.
pub(super) const WINDOW: usize = 32;

/// A unit in the list of those that systemd has in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its name.
    pub name: String,
    /// `LoadState`: `loaded`, `not-found`.
    pub load: String,
    /// `ActiveState`: `active`, `inactive`, `failed` and so on.
    pub active: String,
    /// `SubState`: `running`, `exited`, `auto-restart` and so on.
    pub sub: String,
}

/// A property of a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Question<'a> {
    /// The unit.
    pub unit: &'a str,
    /// What has the property: `Unit`, `Service`.
    pub interface: &'a str,
    /// Its name.
    pub property: &'a str,
}

const MANAGER: Target<'_> = Target {
    destination: "org.freedesktop.systemd1",
    path: "/org/freedesktop/systemd1",
    interface: "org.freedesktop.systemd1.Manager",
    member: "",
};

/// The units in memory whose names fit one of these patterns (glob(7)). One that is not in memory does not run.
///
/// # Errors
/// When systemd refuses, or does not answer.
pub fn list(bus: &mut Bus, patterns: &[&str]) -> Result<Vec<Listed>, SystemdError> {
    let mut body = Writer::default();
    // In any state.
    body.array(4, |_| {});
    body.array(4, |list| {
        patterns.iter().for_each(|pattern| list.str(pattern))
    });
    let target = Target {
        member: "ListUnitsByPatterns",
        ..MANAGER
    };
    listed(&bus.call(target, "asas", &body.into_bytes(), &patterns.join(" "))?)
}

/// These units, also those that are not in memory: then they are read from their files.
///
/// # Errors
/// When systemd refuses, or does not answer.
pub fn list_named(bus: &mut Bus, names: &[String]) -> Result<Vec<Listed>, SystemdError> {
    let mut body = Writer::default();
    body.array(4, |list| names.iter().for_each(|name| list.str(name)));
    let target = Target {
        member: "ListUnitsByNames",
        ..MANAGER
    };
    listed(&bus.call(target, "as", &body.into_bytes(), &names.join(" "))?)
}

fn listed(answer: &Message) -> Result<Vec<Listed>, SystemdError> {
    let ("a(ssssssouso)", mut reader) = answer.body() else {
        return Err(SystemdError::Protocol("an answer that is no list of units"));
    };
    let length = reader.length()?;
    reader.align(8)?;
    let end = reader.position().saturating_add(length);
    let mut units = Vec::new();
    while reader.position() < end {
        reader.align(8)?;
        let name = reader.str()?;
        // Its description.
        reader.skip_str()?;
        units.push(Listed {
            name,
            load: reader.str()?,
            active: reader.str()?,
            sub: reader.str()?,
        });
        // Which one it follows, its object, and its job: number, kind, object.
        reader.skip_str()?;
        reader.skip_str()?;
        reader.u32()?;
        reader.skip_str()?;
        reader.skip_str()?;
    }
    Ok(units)
}

/// The values of properties, in the order of the questions. `None`: there is no such property, as for a unit of another
/// kind. A unit that is not in memory is read from its file.
///
/// # Errors
/// When systemd does not answer.
pub fn ask(bus: &mut Bus, questions: &[Question<'_>]) -> Result<Vec<Option<Value>>, SystemdError> {
    let mut serials = Vec::with_capacity(questions.len());
    let mut values = Vec::with_capacity(questions.len());
    for some in questions.chunks(WINDOW) {
        let before = serials.len();
        for question in some {
            let interface = format!("org.freedesktop.systemd1.{}", question.interface);
            serials.push(get(
                bus,
                &path(question.unit),
                &interface,
                question.property,
            ));
        }
        bus.flush()?;
        // While systemd looks for the answers to these, there are those to the ones before.
        hear(bus, &serials[..before], questions, &mut values)?;
    }
    hear(bus, &serials, questions, &mut values)?;
    Ok(values)
}

/// Waits for the answers that are still missing to calls with these numbers.
fn hear(
    bus: &mut Bus,
    serials: &[u32],
    questions: &[Question<'_>],
    values: &mut Vec<Option<Value>>,
) -> Result<(), SystemdError> {
    let missing = serials.iter().zip(questions).skip(values.len());
    for (serial, question) in missing {
        values.push(match bus.answer(*serial, "Get", question.unit) {
            Ok(answer) => answer.value()?,
            Err(SystemdError::Refused { .. }) => None,
            Err(error) => return Err(error),
        });
    }
    Ok(())
}

/// The version of the systemd that runs: 252. `None`: it says none that can be understood.
///
/// # Errors
/// When systemd does not answer.
pub fn version(bus: &mut Bus) -> Result<Option<u32>, SystemdError> {
    let serial = get(bus, MANAGER.path, MANAGER.interface, "Version");
    bus.flush()?;
    let answer = bus.answer(serial, "Get", "the manager")?.value()?;
    Ok(match answer {
        Some(Value::Str(text)) => number(&text),
        _ => None,
    })
}

/// `252.39-1~deb12u2`, `v254-rc1` and, of old, `systemd 237`.
fn number(text: &str) -> Option<u32> {
    let text = text.trim_start_matches("systemd ").trim_start_matches('v');
    let end = text.find(|c: char| !c.is_ascii_digit());
    text[..end.unwrap_or(text.len())].parse().ok()
}

/// Prepares the question for a property; its number.
fn get(bus: &mut Bus, path: &str, interface: &str, property: &str) -> u32 {
    let target = Target {
        path,
        interface: "org.freedesktop.DBus.Properties",
        member: "Get",
        ..MANAGER
    };
    let mut body = Writer::default();
    body.str(interface);
    body.str(property);
    bus.prepare(target, "ss", &body.into_bytes())
}

/// The object of a unit: what is no letter or digit is `_` and its number (sd_bus_path_encode(3)).
fn path(unit: &str) -> String {
    let mut path = "/org/freedesktop/systemd1/unit/".to_owned();
    for (at, byte) in unit.bytes().enumerate() {
        let plain = byte.is_ascii_alphabetic() || (at > 0 && byte.is_ascii_digit());
        match plain {
            true => path.push(char::from(byte)),
            false => path += &format!("_{byte:02x}"),
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::super::wire::call;
    use super::*;

    #[test]
    fn units_have_objects() {
        assert_eq!(
            path("metactl-a.b@1.service"),
            "/org/freedesktop/systemd1/unit/metactl_2da_2eb_401_2eservice"
        );
        assert!(path("1").ends_with("/_31"));
    }

    #[test]
    fn versions_are_numbers() {
        for (text, expected) in [
            ("252.39-1~deb12u2", Some(252)),
            ("v254-rc1", Some(254)),
            ("systemd 237", Some(237)),
            ("257", Some(257)),
            ("", None),
        ] {
            assert_eq!(number(text), expected, "{text}");
        }
    }

    #[test]
    fn a_list_of_units_is_understood() {
        let mut body = Writer::default();
        body.array(8, |list| {
            for name in ["a.service", "metactl-bc.target"] {
                list.align(8);
                for text in [name, "words", "loaded", "active", "running", "", "/unit"] {
                    list.str(text);
                }
                list.u32(3);
                list.str("start");
                list.str("/job/3");
            }
        });
        let bytes = call(1, MANAGER, "a(ssssssouso)", &body.into_bytes());
        let units = listed(&Message::parse(&bytes).unwrap()).unwrap();
        let unit = |name: &str| Listed {
            name: name.to_owned(),
            load: "loaded".to_owned(),
            active: "active".to_owned(),
            sub: "running".to_owned(),
        };
        assert_eq!(units, [unit("a.service"), unit("metactl-bc.target")]);
        let other = Message::parse(&call(1, MANAGER, "", &[])).unwrap();
        assert!(listed(&other).is_err());
    }
}
