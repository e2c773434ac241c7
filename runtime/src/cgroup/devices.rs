//! `linux.resources.devices`: lines for the `devices` controller of v1, an eBPF program for v2.
//!
//! The rules are applied in their order to a cgroup that allows nothing, and after them the
//! devices that every container has (`/dev/null` and so on, as in runc) are allowed, unless the
//! rules allow everything but what they name.

use super::v1::unsupported;
use super::{CgroupError, CgroupStep};
use std::path::Path;

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType};

const MKNOD: u8 = 1;
const READ: u8 = 2;
const WRITE: u8 = 4;
const ALL: u8 = MKNOD | READ | WRITE;

/// `BPF_DEVCG_DEV_BLOCK` and `BPF_DEVCG_DEV_CHAR` of linux/bpf.h.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Block = 1,
    Char = 2,
}

/// One rule. `None` stands for all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Rule {
    allow: bool,
    kind: Option<Kind>,
    major: Option<u32>,
    minor: Option<u32>,
    access: u8,
}

impl Rule {
    /// Concerns every device and every access.
    fn is_total(self) -> bool {
        self.kind.is_none() && self.major.is_none() && self.minor.is_none() && self.access == ALL
    }

    fn same_devices(self, other: Rule) -> bool {
        (self.kind, self.major, self.minor) == (other.kind, other.major, other.minor)
    }

    fn overlaps(self, other: Rule) -> bool {
        fn meet<T: PartialEq>(a: Option<T>, b: Option<T>) -> bool {
            a.is_none() || b.is_none() || a == b
        }
        meet(self.kind, other.kind)
            && meet(self.major, other.major)
            && meet(self.minor, other.minor)
            && self.access & other.access != 0
    }

    /// As `devices.allow` and `devices.deny` want it.
    fn line(self) -> String {
        let number = |n: Option<u32>| n.map_or("*".to_owned(), |n| n.to_string());
        let kind = match self.kind {
            None => return "a".to_owned(),
            Some(Kind::Block) => 'b',
            Some(Kind::Char) => 'c',
        };
        let mut access = String::new();
        for (bit, letter) in [(READ, 'r'), (WRITE, 'w'), (MKNOD, 'm')] {
            if self.access & bit != 0 {
                access.push(letter);
            }
        }
        format!(
            "{kind} {}:{} {access}",
            number(self.major),
            number(self.minor)
        )
    }
}

/// Device rules of a container, checked, with the defaults at the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DeviceRules {
    setting: String,
    rules: Vec<Rule>,
}

impl DeviceRules {
    /// Check the rules of config.json.
    pub fn new(rules: &[LinuxDeviceCgroup], at: &str) -> Result<Self, CgroupError> {
        let setting = format!("{at}.devices");
        let deny_all = Rule {
            allow: false,
            kind: None,
            major: None,
            minor: None,
            access: ALL,
        };
        let mut out = vec![deny_all];
        for (index, rule) in rules.iter().enumerate() {
            let rule =
                parse(rule).map_err(|why| unsupported(format!("{setting}[{index}]"), why))?;
            if rule.is_total() {
                // Whatever was said before does not matter any more.
                out.clear();
                out.push(rule);
            } else if rule.kind.is_none() {
                // v1 takes `a` for "everything", whatever is said with it.
                out.extend([Kind::Block, Kind::Char].map(|k| Rule {
                    kind: Some(k),
                    ..rule
                }));
            } else {
                out.push(rule);
            }
        }
        // Where everything is allowed but what is named, the basic devices need no rule, and one
        // that is named is meant.
        let total = out.iter().rfind(|rule| rule.is_total());
        if total.is_none_or(|rule| !rule.allow) {
            out.extend(defaults());
        }
        let rules = Self {
            setting,
            rules: out,
        };
        rules.check_for_v1()?;
        Ok(rules)
    }

    /// Nothing is denied at all.
    pub fn allows_everything(&self) -> bool {
        self.rules.iter().all(|rule| rule.allow)
    }

    /// The rules of a container that was given none.
    pub fn everything(at: &str) -> Self {
        Self {
            setting: format!("{at}.devices"),
            rules: vec![Rule {
                allow: true,
                kind: None,
                major: None,
                minor: None,
                access: ALL,
            }],
        }
    }

    /// The steps that put them on a v1 directory.
    pub fn v1_steps(&self, directory: &Path) -> Vec<CgroupStep> {
        self.v1_lines()
            .into_iter()
            .map(|(file, value)| CgroupStep::Limit {
                directory: directory.to_owned(),
                setting: self.setting.clone(),
                choices: vec![(file.to_owned(), value)],
                optional: false,
            })
            .collect()
    }

    /// What to write where on v1.
    pub fn v1_lines(&self) -> Vec<(&'static str, String)> {
        // In a cgroup that allows everything, allowing more is a no-op at best.
        let rules = if self.allows_everything() {
            &self.rules[..1]
        } else {
            &self.rules[..]
        };
        rules
            .iter()
            .map(|rule| {
                (
                    if rule.allow {
                        "devices.allow"
                    } else {
                        "devices.deny"
                    },
                    rule.line(),
                )
            })
            .collect()
    }

    /// v1 keeps a list of exceptions to one default, and takes an exception away only when it is
    /// named exactly: a rule that would need more is refused, because it would be ignored.
    /// The same on v2, so that a bundle means the same everywhere.
    fn check_for_v1(&self) -> Result<(), CgroupError> {
        let mut default_allow = false;
        let mut exceptions: Vec<Rule> = Vec::new();
        for rule in &self.rules {
            if rule.is_total() {
                default_allow = rule.allow;
                exceptions.clear();
            } else if rule.allow != default_allow {
                exceptions.push(*rule);
            } else if let Some(old) = exceptions
                .iter()
                .find(|old| old.overlaps(*rule) && !old.same_devices(*rule))
            {
                return Err(unsupported(
                    self.setting.clone(),
                    format!(
                        "{:?} takes back a part of {:?}, which the devices controller cannot do; \
                         list the devices one by one",
                        rule.line(),
                        old.line()
                    ),
                ));
            } else {
                for old in exceptions.iter_mut().filter(|old| old.same_devices(*rule)) {
                    old.access &= !rule.access;
                }
                exceptions.retain(|old| old.access != 0);
            }
        }
        Ok(())
    }

    /// What the rules say of one access: the oracle of the tests.
    #[cfg(test)]
    fn decide(&self, kind: Kind, major: u32, minor: u32, access: u8) -> bool {
        [MKNOD, READ, WRITE]
            .iter()
            .filter(|bit| access & **bit != 0)
            .all(|bit| {
                let probe = Rule {
                    allow: true,
                    kind: Some(kind),
                    major: Some(major),
                    minor: Some(minor),
                    access: *bit,
                };
                self.rules
                    .iter()
                    .rev()
                    .find(|rule| rule.overlaps(probe))
                    .is_some_and(|r| r.allow)
            })
    }
}

/// What every container may do: make device nodes (without using them) and use the basic ones.
fn defaults() -> impl Iterator<Item = Rule> {
    let make = [Kind::Char, Kind::Block].map(|kind| Rule {
        allow: true,
        kind: Some(kind),
        major: None,
        minor: None,
        access: MKNOD,
    });
    // null, zero, full, random, urandom, tty, ptmx and the pseudo terminals
    let usable = [
        (1, Some(3)),
        (1, Some(5)),
        (1, Some(7)),
        (1, Some(8)),
        (1, Some(9)),
    ]
    .into_iter()
    .chain([(5, Some(0)), (5, Some(2)), (136, None)])
    .map(|(major, minor)| Rule {
        allow: true,
        kind: Some(Kind::Char),
        major: Some(major),
        minor,
        access: ALL,
    });
    make.into_iter().chain(usable)
}

fn parse(rule: &LinuxDeviceCgroup) -> Result<Rule, String> {
    let kind = match rule.typ() {
        None | Some(LinuxDeviceType::A) => None,
        Some(LinuxDeviceType::B) => Some(Kind::Block),
        Some(LinuxDeviceType::C | LinuxDeviceType::U) => Some(Kind::Char),
        Some(LinuxDeviceType::P) => return Err("a fifo is no device; remove the rule".into()),
    };
    let number = |value: Option<i64>, name: &str, bits: u32| match value {
        None | Some(-1) => Ok(None),
        Some(n) => match u32::try_from(n) {
            Ok(n) if n < 1 << bits => Ok(Some(n)),
            _ => Err(format!(
                "{name} {n} is no device number; leave it out (or -1) for all"
            )),
        },
    };
    let mut access = 0;
    for letter in rule.access().as_deref().unwrap_or("rwm").chars() {
        access |= match letter {
            'r' => READ,
            'w' => WRITE,
            'm' => MKNOD,
            // In a list of what is forbidden it can only be meant to forbid more.
            'a' if !rule.allow() => ALL,
            other => return Err(format!("access {other:?} is none of r, w and m")),
        };
    }
    if access == 0 {
        return Err("access is empty; say which of r, w and m".into());
    }
    // The kernel has 12 bits for the major and 20 for the minor number (linux/kdev_t.h).
    let (major, minor) = (
        number(rule.major(), "major", 12)?,
        number(rule.minor(), "minor", 20)?,
    );
    Ok(Rule {
        allow: rule.allow(),
        kind,
        major,
        minor,
        access,
    })
}

/// Opcodes of eBPF (kernel documentation, bpf/standardization/instruction-set).
mod op {
    pub const LOAD_WORD: u8 = 0x61;
    pub const MOVE32: u8 = 0xbc;
    pub const MOVE32_IMM: u8 = 0xb4;
    pub const AND32_IMM: u8 = 0x54;
    pub const SHIFT_RIGHT32_IMM: u8 = 0x74;
    pub const JUMP_EQUAL32: u8 = 0x16;
    pub const JUMP_NOT_EQUAL32: u8 = 0x56;
    pub const EXIT: u8 = 0x95;
}

/// One eBPF instruction as the kernel reads it.
fn instruction(code: u8, dst: u8, src: u8, offset: i16, imm: i32) -> u64 {
    let offset = u64::from(offset.cast_unsigned());
    let imm = u64::from(imm.cast_unsigned());
    u64::from(code) | u64::from(dst | src << 4) << 8 | offset << 16 | imm << 32
}

/// The program for `BPF_PROG_TYPE_CGROUP_DEVICE`. It reads `struct bpf_cgroup_dev_ctx` and
/// returns 1 to allow. Per access bit the last rule that matches decides, so the rules are tried
/// from the last one, and bits that are allowed are taken out of what is left to decide.
pub(super) fn program(rules: &DeviceRules) -> Vec<u64> {
    const RESULT: u8 = 0;
    const CONTEXT: u8 = 1;
    const KIND: u8 = 2;
    const LEFT: u8 = 3;
    const MAJOR: u8 = 4;
    const MINOR: u8 = 5;
    const SCRATCH: u8 = 6;
    let ret = |out: &mut Vec<u64>, value: i32| {
        out.push(instruction(op::MOVE32_IMM, RESULT, 0, 0, value));
        out.push(instruction(op::EXIT, 0, 0, 0, 0));
    };
    let mut out = vec![
        instruction(op::LOAD_WORD, KIND, CONTEXT, 0, 0),
        instruction(op::MOVE32, LEFT, KIND, 0, 0),
        instruction(op::AND32_IMM, KIND, 0, 0, 0xffff),
        instruction(op::SHIFT_RIGHT32_IMM, LEFT, 0, 0, 16),
        instruction(op::LOAD_WORD, MAJOR, CONTEXT, 4, 0),
        instruction(op::LOAD_WORD, MINOR, CONTEXT, 8, 0),
    ];
    for rule in rules.rules.iter().rev() {
        let mut body = Vec::new();
        let access = i32::from(rule.access);
        if rule.allow {
            body.push(instruction(op::AND32_IMM, LEFT, 0, 0, !access));
            body.push(instruction(op::JUMP_NOT_EQUAL32, LEFT, 0, 2, 0));
            ret(&mut body, 1);
        } else {
            body.push(instruction(op::MOVE32, SCRATCH, LEFT, 0, 0));
            body.push(instruction(op::AND32_IMM, SCRATCH, 0, 0, access));
            body.push(instruction(op::JUMP_EQUAL32, SCRATCH, 0, 2, 0));
            ret(&mut body, 0);
        }
        let tests: Vec<(u8, i32)> = [
            rule.kind.map(|kind| (KIND, kind as i32)),
            rule.major.map(|n| (MAJOR, n.cast_signed())),
            rule.minor.map(|n| (MINOR, n.cast_signed())),
        ]
        .into_iter()
        .flatten()
        .collect();
        for (done, (register, value)) in tests.iter().enumerate() {
            // Past the remaining tests and the body: at most 2 + 5.
            let over = (tests.len() - 1 - done + body.len()) as i16;
            out.push(instruction(
                op::JUMP_NOT_EQUAL32,
                *register,
                0,
                over,
                *value,
            ));
        }
        out.append(&mut body);
    }
    ret(&mut out, 0);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(json: &str) -> Result<DeviceRules, CgroupError> {
        DeviceRules::new(
            &serde_json::from_str::<Vec<LinuxDeviceCgroup>>(json).unwrap(),
            "r",
        )
    }

    /// The kernel's interpreter, for the instructions that are used here.
    fn run(program: &[u64], kind: Kind, major: u32, minor: u32, access: u8) -> u32 {
        let context = [u32::from(access) << 16 | kind as u32, major, minor];
        let mut r = [0u32; 11];
        let mut at = 0usize;
        loop {
            let i = program[at];
            let (code, imm) = (i as u8, (i >> 32) as u32);
            let (dst, src) = ((i >> 8 & 15) as usize, (i >> 12 & 15) as usize);
            let offset = (i >> 16) as u16 as i16;
            at += 1;
            let jump = match code {
                op::LOAD_WORD => {
                    r[dst] = context[offset as usize / 4];
                    false
                }
                op::MOVE32 => {
                    r[dst] = r[src];
                    false
                }
                op::MOVE32_IMM => {
                    r[dst] = imm;
                    false
                }
                op::AND32_IMM => {
                    r[dst] &= imm;
                    false
                }
                op::SHIFT_RIGHT32_IMM => {
                    r[dst] >>= imm;
                    false
                }
                op::JUMP_EQUAL32 => r[dst] == imm,
                op::JUMP_NOT_EQUAL32 => r[dst] != imm,
                op::EXIT => return r[0],
                code => panic!("unknown instruction {code:#x}"),
            };
            if jump {
                at = at.checked_add_signed(isize::from(offset)).unwrap();
            }
        }
    }

    #[test]
    fn the_program_decides_as_the_rules_say() {
        for json in [
            r#"[{"allow":false,"access":"rwm"}]"#,
            r#"[{"allow":true,"access":"rwm"}]"#,
            r#"[{"allow":true,"type":"c","major":10,"minor":200,"access":"rw"}]"#,
            r#"[{"allow":true,"type":"b","access":"r"},{"allow":true,"type":"b","major":8,"access":"w"}]"#,
            r#"[{"allow":true,"access":"rwm"},{"allow":false,"type":"c","major":4,"access":"w"}]"#,
            r#"[{"allow":true,"major":4,"access":"rw"},{"allow":false,"major":4,"access":"w"}]"#,
        ] {
            let rules = rules(json).unwrap();
            let program = program(&rules);
            for kind in [Kind::Block, Kind::Char] {
                for major in [0, 1, 4, 5, 8, 10, 136, 4095] {
                    for minor in [0, 1, 2, 3, 5, 200, 0xf_ffff] {
                        for access in 1..8 {
                            let is = run(&program, kind, major, minor, access) == 1;
                            let want = rules.decide(kind, major, minor, access);
                            assert_eq!(is, want, "{kind:?} {major}:{minor} {access} of {json}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn lines_for_v1() {
        let lines = |json| -> Vec<String> {
            let lines = rules(json).unwrap().v1_lines();
            lines
                .into_iter()
                .map(|(file, line)| format!("{file} {line}"))
                .collect()
        };
        assert_eq!(
            lines(r#"[{"allow":true,"access":"rwm"}]"#),
            ["devices.allow a"]
        );
        let deny = lines(r#"[{"allow":false},{"allow":true,"major":7,"access":"mr"}]"#);
        assert_eq!(
            deny[..4],
            [
                "devices.deny a",
                "devices.allow b 7:* rm",
                "devices.allow c 7:* rm",
                "devices.allow c *:* m",
            ]
        );
        assert!(deny.contains(&"devices.allow c 1:3 rwm".to_owned()));
    }

    #[test]
    fn rules_that_v1_would_ignore_are_refused() {
        let json = r#"[{"allow":true,"type":"c","access":"rw"},
                       {"allow":false,"type":"c","major":1,"minor":11,"access":"rw"}]"#;
        let error = rules(json).unwrap_err().to_string();
        assert!(error.contains("takes back a part of"), "{error}");
    }
}
