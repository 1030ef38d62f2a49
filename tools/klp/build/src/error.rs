// SPDX-License-Identifier: GPL-2.0

//! Why a patch is not built.

use std::{fmt, io, path::Path};

/// The way out where the kernel as a whole can be compared, but not its objects.
pub(crate) const FULL_WAY: &str =
    "build it by the kernel's own scripts/livepatch/klp-build, which builds \
                                   the whole kernel, in the source that the kernel was built from";

/// Why a patch is not built.
#[derive(Debug)]
pub enum Error {
    /// The change cannot be made to a running kernel, or not by this program.
    Refused(Vec<Refusal>),
    /// Something did not work: a message for people.
    Failed(String),
}

/// The result of a step.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A rule that a patch breaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The file, function or structure.
    pub place: String,
    /// What the patch does there.
    pub what: String,
    /// What else in the kernel is concerned, as far as that is known.
    pub users: Option<String>,
    /// Why that is not possible.
    pub rule: String,
    /// What the author of the patch can do instead.
    pub way_out: String,
}

impl Refusal {
    /// Makes one.
    pub(crate) fn new(
        place: impl Into<String>,
        what: impl Into<String>,
        rule: &str,
        way_out: &str,
    ) -> Self {
        Self {
            place: place.into(),
            what: what.into(),
            users: None,
            rule: rule.into(),
            way_out: way_out.into(),
        }
    }
}

/// Refuses a patch that breaks rules, if there are any.
pub(crate) fn refuse(refusals: Vec<Refusal>) -> Result<()> {
    match refusals.is_empty() {
        true => Ok(()),
        false => Err(Error::Refused(refusals)),
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            place,
            what,
            users,
            rule,
            way_out,
        } = self;
        writeln!(f, "{place}: {what}")?;
        if let Some(users) = users {
            writeln!(f, "    users    {users}")?;
        }
        write!(f, "    rule     {rule}\n    way out  {way_out}")
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(refusals) => {
                let texts: Vec<_> = refusals.iter().map(ToString::to_string).collect();
                f.write_str(&texts.join("\n"))
            }
            Self::Failed(message) => f.write_str(message),
        }
    }
}

impl std::error::Error for Error {}

impl From<String> for Error {
    fn from(message: String) -> Self {
        Self::Failed(message)
    }
}

impl From<&str> for Error {
    fn from(message: &str) -> Self {
        Self::Failed(message.into())
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(vec![refusal])
    }
}

/// Turns the error of a file into one that names it.
pub(crate) fn in_file(path: &Path) -> impl Fn(io::Error) -> Error + '_ {
    move |error| Error::Failed(format!("{}: {error}", path.display()))
}

/// The contents of a file.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(in_file(path))
}
