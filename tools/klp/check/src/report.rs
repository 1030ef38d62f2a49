// SPDX-License-Identifier: GPL-2.0

//! What a check finds, and how it is told.

use std::fmt;

use serde::Serialize;

/// How a finding counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// Something to know.
    Note,
    /// What the rule is about could not be looked at for want of information that many kernels and
    /// modules come without. It is no statement that the patch fits.
    NoInformation,
    /// The patch loads, but may do something else than its author meant.
    Warning,
    /// It could not be told whether the kernel takes the patch.
    Unknown,
    /// The patch does not fit.
    Error,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Note => "note",
            Self::NoInformation => "no information",
            Self::Warning => "warning",
            Self::Unknown => "unknown",
            Self::Error => "error",
        })
    }
}

macro_rules! rules {
    ($($(#[doc = $doc:literal])+ $name:ident = $text:literal,)*) => {
        /// A rule that a patch must keep.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
        pub enum Rule {
            $($(#[doc = $doc])+ #[serde(rename = $text)] $name,)*
        }

        impl Rule {
            /// All rules.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// Its name, as users see it.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

rules! {
    /// The module is for this architecture, and its parts are as the loader demands them.
    Module = "module",
    /// The module says that it is a live patch.
    Livepatch = "livepatch",
    /// The module was built for this release and configuration of the kernel.
    Vermagic = "vermagic",
    /// The module was built with the same types of exported functions and data.
    Modversions = "modversions",
    /// The module is signed if the kernel demands that.
    Signature = "signature",
    /// The patch is declared as the core demands it.
    Declaration = "declaration",
    /// Each object is the kernel or one of its modules.
    Object = "object",
    /// Each function exists in its object.
    FunctionMissing = "function-missing",
    /// Each function is the only one of its name, or has a position.
    FunctionAmbiguous = "function-ambiguous",
    /// There are as many functions of a name as a position says.
    FunctionPosition = "function-position",
    /// Each function can be intercepted by ftrace.
    FunctionTraceable = "function-traceable",
    /// No function is gone after the initialisation.
    FunctionInit = "function-init",
    /// The size of each function is known.
    FunctionSize = "function-size",
    /// No other copy of a function, which a compiler made, stays in use.
    FunctionCopies = "function-copies",
    /// No function is replaced twice by the patch.
    FunctionTwice = "function-twice",
    /// Ordinary references are to exported symbols.
    Symbol = "symbol",
    /// Livepatch relocations are to symbols that exist, and are written in time.
    Relocation = "relocation",
    /// Each replacement has the type of its original.
    Prototype = "prototype",
    /// Kernel and module agree on the layout of structures.
    Structure = "structure",
    /// The patch replaces all functions into which a replaced one was inlined.
    Inlined = "inlined",
    /// Nobody else holds a function.
    Held = "held",
    /// The installed patches can live with this one.
    Installed = "installed",
    /// No transition is going on, and modules can be loaded.
    Busy = "busy",
    /// No task sits in a function.
    Tasks = "tasks",
}

impl Rule {
    /// Whether what stands in the way may go by itself.
    pub fn may_pass(self) -> bool {
        matches!(self, Self::Busy | Self::Held | Self::Tasks)
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The part of a patch that a finding is about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Subject {
    /// The object: `vmlinux` or a module.
    pub object: Option<String>,
    /// A function, or another symbol, of the object.
    pub symbol: Option<String>,
}

impl Subject {
    /// The module as a whole.
    pub(crate) fn module() -> Self {
        Self::default()
    }

    /// An object.
    pub(crate) fn object(object: &str) -> Self {
        Self {
            object: Some(object.into()),
            symbol: None,
        }
    }

    /// A symbol of an object.
    pub(crate) fn symbol(object: &str, symbol: &str) -> Self {
        Self {
            object: Some(object.into()),
            symbol: Some(symbol.into()),
        }
    }

    /// A symbol of which the object is not known.
    pub(crate) fn name(symbol: &str) -> Self {
        Self {
            object: None,
            symbol: Some(symbol.into()),
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.object, &self.symbol) {
            (Some(object), Some(symbol)) => write!(f, "{object}:{symbol}"),
            (Some(name), None) | (None, Some(name)) => f.write_str(name),
            (None, None) => Ok(()),
        }
    }
}

/// Something that a check found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Which rule it is about.
    pub rule: Rule,
    /// How it counts.
    pub level: Level,
    /// What part of the patch.
    #[serde(flatten)]
    pub subject: Subject,
    /// What was found, on one line.
    pub text: String,
    /// Why that is so or matters, a line each.
    pub notes: Vec<String>,
    /// What to do.
    pub advice: Option<String>,
}

impl Finding {
    pub(crate) fn new(rule: Rule, level: Level, subject: Subject, text: impl Into<String>) -> Self {
        Self {
            rule,
            level,
            subject,
            text: text.into(),
            notes: vec![],
            advice: None,
        }
    }

    pub(crate) fn error(rule: Rule, subject: Subject, text: impl Into<String>) -> Self {
        Self::new(rule, Level::Error, subject, text)
    }

    pub(crate) fn unknown(rule: Rule, subject: Subject, text: impl Into<String>) -> Self {
        Self::new(rule, Level::Unknown, subject, text)
    }

    /// Adds a line that says why.
    pub(crate) fn note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }

    /// Adds lines that say why.
    pub(crate) fn notes(mut self, notes: impl IntoIterator<Item = String>) -> Self {
        self.notes.extend(notes);
        self
    }

    /// Says what to do.
    pub(crate) fn advice(mut self, advice: impl Into<String>) -> Self {
        self.advice = Some(advice.into());
        self
    }
}

/// The answer to whether a patch fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It does, as far as the rules go.
    Fits,
    /// It does not.
    DoesNotFit,
    /// That could not be told.
    Unknown,
}

/// All that a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// In the order of the rules.
    pub findings: Vec<Finding>,
}

impl Report {
    /// The report on a file that is no module.
    pub fn damaged(reason: &str) -> Self {
        let finding = Finding::error(
            Rule::Module,
            Subject::module(),
            format!("not a kernel module: {reason}"),
        );
        Self {
            findings: vec![finding],
        }
    }

    /// The report on a patch, or a kernel, that cannot be looked at.
    pub fn unreadable(reason: &str) -> Self {
        Self {
            findings: vec![Finding::unknown(Rule::Module, Subject::module(), reason)],
        }
    }

    /// Whether the patch fits. If `strict`, what could not be looked at for want of information
    /// counts too.
    pub fn verdict(&self, strict: bool) -> Verdict {
        let has = |level| self.findings.iter().any(|finding| finding.level == level);
        if has(Level::Error) {
            Verdict::DoesNotFit
        } else if has(Level::Unknown) || strict && has(Level::NoInformation) {
            Verdict::Unknown
        } else {
            Verdict::Fits
        }
    }

    /// The names of the rules that could not be looked at for want of information.
    pub fn without_information(&self) -> Vec<&'static str> {
        let without = self
            .findings
            .iter()
            .filter(|finding| finding.level == Level::NoInformation);
        let mut rules: Vec<_> = without.map(|finding| finding.rule.name()).collect();
        rules.sort_unstable();
        rules.dedup();
        rules
    }

    /// Puts what is worst first, and leaves the order of the rules otherwise.
    pub fn sort(&mut self) {
        self.findings
            .sort_by_key(|finding| std::cmp::Reverse(finding.level));
    }

    pub(crate) fn add(&mut self, finding: Finding) {
        self.findings.push(finding);
    }
}
