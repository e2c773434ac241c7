//! Results in a file, a line each, and the table of them all at the end.

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;

/// One comparison: metactl-runtime with one peer at one task.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// The task.
    pub task: String,
    /// The peer.
    pub peer: String,
    /// What `ours` and `theirs` are in, for example `ms`.
    pub unit: String,
    /// The median of metactl-runtime.
    pub ours: f64,
    /// The median of the peer.
    pub theirs: f64,
    /// The ratio: of times, the median of the ratios of each round.
    pub ratio: f64,
    /// What the ratio should at most be, if there is a target.
    pub target: Option<f64>,
}

impl Row {
    /// Whether the target is met; nothing without a target.
    pub fn met(&self) -> Option<bool> {
        self.target.map(|target| self.ratio <= target)
    }

    fn line(&self) -> String {
        let target = self.target.map_or(String::new(), |t| t.to_string());
        [
            self.task.clone(),
            self.peer.clone(),
            self.unit.clone(),
            self.ours.to_string(),
            self.theirs.to_string(),
            self.ratio.to_string(),
            target,
        ]
        .join("\t")
    }

    fn parse(line: &str) -> Result<Self, String> {
        let wrong = || format!("not a result: {line:?}");
        let fields: Vec<&str> = line.split('\t').collect();
        let [task, peer, unit, ours, theirs, ratio, target] = fields.as_slice() else {
            return Err(wrong());
        };
        let number = |text: &str| text.parse::<f64>().map_err(|_| wrong());
        Ok(Self {
            task: (*task).to_owned(),
            peer: (*peer).to_owned(),
            unit: (*unit).to_owned(),
            ours: number(ours)?,
            theirs: number(theirs)?,
            ratio: number(ratio)?,
            target: match *target {
                "" => None,
                text => Some(number(text)?),
            },
        })
    }
}

/// Adds rows to a file.
///
/// # Errors
/// When it cannot be written.
pub fn append(path: &Path, rows: &[Row]) -> Result<(), String> {
    let text: String = rows.iter().map(|row| row.line() + "\n").collect();
    let file = OpenOptions::new().create(true).append(true).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|error| format!("{}: {error}", path.display()))
}

/// Reads what [`append`] wrote.
///
/// # Errors
/// The first line that is not a result.
pub fn parse(text: &str) -> Result<Vec<Row>, String> {
    text.lines().map(Row::parse).collect()
}

/// The table: a line for each peer, grouped by task.
pub fn table(rows: &[Row]) -> String {
    let width = |of: fn(&Row) -> &str, least: usize| {
        let widths = rows.iter().map(|row| of(row).chars().count());
        widths.max().unwrap_or(0).max(least)
    };
    let (tasks, peers) = (width(|r| &r.task, 4), width(|r| &r.peer, 4));
    let mut text = format!(
        "{:tasks$}  {:>12}  {:peers$}  {:>12}  {:>6}  target\n",
        "task", "ours", "peer", "theirs", "ratio"
    );
    let mut last = None;
    for row in rows {
        let new = last != Some(&row.task);
        last = Some(&row.task);
        let ours = if new {
            value(row.ours, &row.unit)
        } else {
            String::new()
        };
        let verdict = match (row.target, row.met()) {
            (Some(target), Some(true)) => format!("<= {target:.2}  met"),
            (Some(target), _) => format!("<= {target:.2}  MISSED"),
            (None, _) => String::new(),
        };
        // A String cannot refuse to be written to.
        let _ = writeln!(
            text,
            "{:tasks$}  {ours:>12}  {:peers$}  {:>12}  {:>6.3}  {verdict}",
            if new { row.task.as_str() } else { "" },
            row.peer,
            value(row.theirs, &row.unit),
            row.ratio
        );
    }
    let text = text.lines().map(str::trim_end);
    text.map(|line| line.to_owned() + "\n").collect()
}

fn value(number: f64, unit: &str) -> String {
    match unit {
        "calls" => format!("{number:.0} {unit}"),
        _ => format!("{number:.2} {unit}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(task: &str, peer: &str, ratio: f64, target: Option<f64>) -> Row {
        Row {
            task: task.into(),
            peer: peer.into(),
            unit: "ms".into(),
            ours: 2.0,
            theirs: 2.0 / ratio,
            ratio,
            target,
        }
    }

    #[test]
    fn rows_survive_the_file() {
        let rows = [
            row("run, v2", "crun", 0.35, Some(0.4)),
            row("a", "b", 1.5, None),
        ];
        let text: String = rows.iter().map(|row| row.line() + "\n").collect();
        assert_eq!(parse(&text).unwrap(), rows);
        assert!(parse("run\tcrun\n").is_err());
    }

    #[test]
    fn the_table_says_what_was_met() {
        let rows = [
            row("run", "crun", 0.39, Some(0.4)),
            row("run", "floor", 2.5, Some(2.0)),
            row("exec", "crun", 0.8, None),
        ];
        let text = table(&rows);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[1].starts_with("run ") && lines[1].ends_with("0.390  <= 0.40  met"));
        assert!(lines[2].starts_with("  ") && lines[2].ends_with("<= 2.00  MISSED"));
        assert!(
            lines[3].starts_with("exec") && lines[3].ends_with("0.800"),
            "{text}"
        );
    }
}
