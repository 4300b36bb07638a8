//! Tables for people: a heading, columns as wide as they need to be, two spaces between.

use super::format::one_line;

/// How a cell looks where colours are allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// As it is.
    Plain,
    /// All is well.
    Good,
    /// Worth a look.
    Poor,
    /// A person must look.
    Bad,
}

impl Look {
    fn code(self) -> &'static str {
        match self {
            Look::Plain => "",
            Look::Good => "\x1b[32m",
            Look::Poor => "\x1b[33m",
            Look::Bad => "\x1b[31m",
        }
    }

    /// `text`, coloured if `colour`.
    pub fn paint(self, text: &str, colour: bool) -> String {
        if colour && self != Look::Plain { format!("{}{text}\x1b[0m", self.code()) } else { text.to_owned() }
    }
}

/// One cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell(String, Look);

impl Cell {
    /// A cell that stands out.
    pub fn look(text: impl AsRef<str>, look: Look) -> Cell {
        Cell(one_line(text.as_ref()), look)
    }
}

impl<T: AsRef<str>> From<T> for Cell {
    fn from(text: T) -> Cell {
        Cell::look(text, Look::Plain)
    }
}

/// A table of `N` columns.
pub struct Table<const N: usize> {
    heads: [&'static str; N],
    rows: Vec<[Cell; N]>,
}

impl<const N: usize> Table<N> {
    /// A table without rows. A heading that begins with `>` marks a column of numbers: it ends at the right.
    pub fn new(heads: [&'static str; N]) -> Table<N> {
        Table { heads, rows: Vec::new() }
    }

    /// Adds a row below the others.
    pub fn row(&mut self, cells: [Cell; N]) {
        self.rows.push(cells);
    }

    /// Whether it has no rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The table as lines, each ended.
    pub fn render(&self, colour: bool) -> String {
        let heads = self.heads.map(|head| Cell::from(head.trim_start_matches('>')));
        let lines = || std::iter::once(&heads).chain(&self.rows);
        let widths: [usize; N] =
            std::array::from_fn(|i| lines().map(|row| row[i].0.chars().count()).max().unwrap_or(0));
        let mut out = String::new();
        for row in lines() {
            let mut line = String::new();
            for (i, Cell(text, look)) in row.iter().enumerate() {
                let space = " ".repeat(widths[i] - text.chars().count());
                let text = look.paint(text, colour);
                let (before, after) = if self.heads[i].starts_with('>') {
                    (space, String::new())
                } else {
                    (String::new(), space)
                };
                line += if i == 0 { "" } else { "  " };
                line += &before;
                line += &text;
                line += &after;
            }
            out += line.trim_end();
            out.push('\n');
        }
        out
    }
}

/// `name  value` lines, the values in one column.
pub fn pairs<'a>(pairs: impl IntoIterator<Item = (&'a str, String)>) -> String {
    let pairs: Vec<_> = pairs.into_iter().collect();
    let width = pairs.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    pairs.iter().map(|(name, value)| format!("{name:width$}  {}\n", one_line(value))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(["NAME", ">IDS", "STATE"]);
        table.row(["tasks".into(), "7".into(), Cell::look("active", Look::Good)]);
        table.row(["a".into(), "12345".into(), "".into()]);
        let plain = "NAME     IDS  STATE\ntasks      7  active\na      12345\n";
        assert_eq!(table.render(false), plain);
        assert!(table.render(true).contains("      7  \x1b[32mactive\x1b[0m\n"));
    }

    #[test]
    fn values_of_pairs_stand_in_one_column() {
        assert_eq!(
            pairs([("id", "7".to_owned()), ("holder", "a\nb".to_owned())]),
            "id      7\nholder  a b\n"
        );
    }
}
