//! Columns that line up.

use super::Style;

/// How a cell is coloured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// As it is.
    Plain,
    /// It went well.
    Good,
    /// It went wrong.
    Bad,
    /// Worth a look.
    Warn,
    /// In the background.
    Faint,
}

/// A cell of a table.
#[derive(Debug, Clone)]
pub struct Cell {
    text: String,
    tone: Tone,
    right: bool,
}

impl Cell {
    /// A plain cell, aligned to the left.
    pub fn new(text: impl AsRef<str>) -> Cell {
        // One line each, whatever a name or a value holds.
        let text = super::clean(text.as_ref()).replace(['\n', '\t'], " ");
        Cell {
            text,
            tone: Tone::Plain,
            right: false,
        }
    }

    /// The same cell in another tone.
    #[must_use]
    pub fn tone(mut self, tone: Tone) -> Cell {
        self.tone = tone;
        self
    }

    /// The same cell aligned to the right.
    #[must_use]
    pub fn right(mut self) -> Cell {
        self.right = true;
        self
    }

    fn width(&self) -> usize {
        self.text.chars().count()
    }
}

impl<T: AsRef<str>> From<T> for Cell {
    fn from(text: T) -> Cell {
        Cell::new(text)
    }
}

/// Rows of cells, printed with two spaces between the columns.
#[derive(Debug, Default)]
pub struct Table {
    rows: Vec<Vec<Cell>>,
    indent: usize,
}

impl Table {
    /// An empty table.
    pub fn new() -> Table {
        Table::default()
    }

    /// The same table, moved to the right by so many spaces.
    #[must_use]
    pub fn indent(mut self, spaces: usize) -> Table {
        self.indent = spaces;
        self
    }

    /// Adds a row of headings.
    pub fn head(&mut self, titles: &[&str]) {
        self.rows.push(
            titles
                .iter()
                .map(|title| Cell::new(title).tone(Tone::Faint))
                .collect(),
        );
    }

    /// Adds a row.
    pub fn row(&mut self, cells: Vec<Cell>) {
        self.rows.push(cells);
    }

    /// The lines, without trailing spaces.
    pub fn lines(&self, style: Style) -> Vec<String> {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns)
            .map(|c| {
                self.rows
                    .iter()
                    .filter_map(|r| r.get(c))
                    .map(Cell::width)
                    .max()
                    .unwrap_or(0)
            })
            .collect();
        self.rows
            .iter()
            .map(|row| self.line(row, &widths, style))
            .collect()
    }

    fn line(&self, row: &[Cell], widths: &[usize], style: Style) -> String {
        let mut line = " ".repeat(self.indent);
        // Nothing is padded behind the last cell that says something.
        let last = row.iter().rposition(|cell| !cell.text.is_empty());
        for (index, (cell, width)) in row.iter().zip(widths).enumerate() {
            let padding = " ".repeat(width - cell.width());
            let text = match cell.tone {
                Tone::Plain => cell.text.clone(),
                Tone::Good => style.good(&cell.text),
                Tone::Bad => style.bad(&cell.text),
                Tone::Warn => style.warn(&cell.text),
                Tone::Faint => style.faint(&cell.text),
            };
            if cell.right {
                line.push_str(&padding);
            }
            line.push_str(&text);
            if last.is_none_or(|last| index >= last) {
                break;
            }
            if !cell.right {
                line.push_str(&padding);
            }
            line.push_str("  ");
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let mut table = Table::new().indent(2);
        table.head(&["NAME", "PID"]);
        table.row(vec!["web".into(), Cell::new("7").right()]);
        table.row(vec!["jobmanager".into(), Cell::new("1234").right()]);
        table.row(vec!["é".into(), "".into()]);
        assert_eq!(
            table.lines(Style::plain()),
            [
                "  NAME        PID",
                "  web            7",
                "  jobmanager  1234",
                "  é"
            ]
        );
    }
}
