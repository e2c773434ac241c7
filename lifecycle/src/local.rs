//! Changing one line of the local layer, and nothing else in it; and seeing only parts of a layer.

/// The text with every section but these blank, so that lines keep their numbers.
pub(crate) fn only(text: &str, sections: &[&str]) -> String {
    let mut inside = false;
    let mut kept = String::with_capacity(text.len());
    for line in text.lines() {
        if line.starts_with('[') {
            inside = sections.contains(&section_name(line));
        }
        if inside {
            kept.push_str(line);
        }
        kept.push('\n');
    }
    kept
}

/// What stands between the brackets.
fn section_name(line: &str) -> &str {
    line.trim()
        .trim_start_matches('[')
        .trim_end_matches(']')
        .trim()
}

/// The text with `key = value` in `[section]`: the line that is there replaced, else a new one at
/// the end of the section, else a new section at the end. Comments, order and spaces stay.
pub(crate) fn set(text: &str, section: &str, key: &str, value: &str) -> String {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let line = format!("{key} = {value}");
    match find(&lines, section, key) {
        Found::Key { first, last } => {
            lines.splice(first..=last, [line]);
        }
        Found::Section { last } => lines.insert(last + 1, line),
        Found::Nothing => {
            if lines.last().is_some_and(|last| !last.trim().is_empty()) {
                lines.push(String::new());
            }
            lines.push(format!("[{section}]"));
            lines.push(line);
        }
    }
    let mut text = lines.join("\n");
    text.push('\n');
    text
}

enum Found {
    /// The lines of the key, continuations included.
    Key {
        first: usize,
        last: usize,
    },
    /// The last line of the section that says something.
    Section {
        last: usize,
    },
    Nothing,
}

fn find(lines: &[String], section: &str, key: &str) -> Found {
    let mut inside = false;
    let mut end = None;
    let mut at = 0;
    while let Some(line) = lines.get(at) {
        let trimmed = line.trim();
        let first = at;
        at += 1;
        if line.starts_with('[') {
            inside = section_name(line) == section;
            if inside {
                end = Some(first);
            }
            continue;
        }
        if !inside || trimmed.is_empty() || trimmed.starts_with(['#', ';']) {
            continue;
        }
        while lines.get(at).is_some_and(|next| is_continuation(next)) {
            at += 1;
        }
        end = Some(at - 1);
        let name = trimmed
            .split_once('=')
            .map_or(trimmed, |(name, _)| name.trim_end());
        let unset = trimmed.strip_prefix("unset ").map(str::trim);
        if name == key || unset == Some(key) {
            return Found::Key {
                first,
                last: at - 1,
            };
        }
    }
    end.map_or(Found::Nothing, |last| Found::Section { last })
}

fn is_continuation(line: &str) -> bool {
    line.starts_with([' ', '\t']) && !line.trim().is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_sections_are_blank() {
        let text = "# a\n[env]\nA = 1\n[build]\nrepo = x\n  y\n[daemon.web]\nport = 1\n";
        assert_eq!(only(text, &["build"]), "\n\n\n[build]\nrepo = x\n  y\n\n\n");
    }

    #[test]
    fn one_line_changes() {
        let tag = |text: &str| set(text, "build", "tag", "1.2.4");
        assert_eq!(tag(""), "[build]\ntag = 1.2.4\n");
        assert_eq!(
            tag("[env]\nA = 1\n"),
            "[env]\nA = 1\n\n[build]\ntag = 1.2.4\n"
        );
        assert_eq!(
            tag("# mine\n[build]\nrepo = x\n  y\n\n; end\n[env]\ntag = 7\n"),
            "# mine\n[build]\nrepo = x\n  y\ntag = 1.2.4\n\n; end\n[env]\ntag = 7\n"
        );
        assert_eq!(
            tag("[build]\n# which\ntag=1.2.3\n  x\nrepo = y"),
            "[build]\n# which\ntag = 1.2.4\nrepo = y\n"
        );
        assert_eq!(
            tag("[build]\ntagged = 1\n"),
            "[build]\ntagged = 1\ntag = 1.2.4\n"
        );
        assert_eq!(tag("[build]\n"), "[build]\ntag = 1.2.4\n");
        assert_eq!(tag("[build]\nunset tag\n"), "[build]\ntag = 1.2.4\n");
    }
}
