// SPDX-License-Identifier: GPL-2.0

//! What the user is told when a module cannot be converted.

use std::fmt;

/// Something that the user has to decide or to mend, with what is known about it.
///
/// Displayed as a line that says what is wrong, and indented lines under it: where the symbol is
/// used, what it might be, and what to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    message: String,
    notes: Vec<(&'static str, String)>,
}

impl Problem {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            notes: Vec::new(),
        }
    }

    /// Adds lines under a label.
    pub(crate) fn note(
        mut self,
        label: &'static str,
        lines: impl IntoIterator<Item = String>,
    ) -> Self {
        let mut label = label;
        for line in lines {
            self.notes.push((label, line));
            label = "";
        }
        self
    }

    /// Says where the symbol is used, before anything else.
    pub(crate) fn used_by(mut self, uses: Vec<String>) -> Self {
        let rest = std::mem::take(&mut self.notes);
        self = self.note("used by", uses);
        self.notes.extend(rest);
        self
    }

    /// What is wrong, in one line.
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl From<String> for Problem {
    fn from(message: String) -> Self {
        Self::new(message)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        for (label, line) in &self.notes {
            write!(f, "\n    {label:<9}{line}")?;
        }
        Ok(())
    }
}
