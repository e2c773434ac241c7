//! Seeing only parts of a layer.

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_sections_are_blank() {
        let text = "# a\n[env]\nA = 1\n[build]\nrepo = x\n  y\n[daemon.web]\nport = 1\n";
        assert_eq!(only(text, &["build"]), "\n\n\n[build]\nrepo = x\n  y\n\n\n");
    }
}
