// SPDX-License-Identifier: GPL-2.0

//! Files with a kernel or a module packed in them, and the programs that unpack it.
//!
//! Such a file may come from anywhere. A program is only given its bytes, not its name, and no more is
//! taken of what it makes of them than a kernel or a module can have.

use std::{
    fmt,
    fs::File,
    io::{self, ErrorKind, Read, Write},
    path::Path,
    process::{Command, ExitStatus, Stdio},
    thread,
};

/// No kernel is larger, since x86-64 keeps no more room for it and its modules. The file of a module,
/// also one with DWARF, is not taken if it is.
pub(crate) const LARGEST: usize = 1 << 30;

/// No vmlinux is larger, with DWARF; those of distributions have one or two GiB.
pub(crate) const LARGEST_FILE: usize = 1 << 33;

/// The status with which a shell says that there is no such program.
const NO_PROGRAM: i32 = 127;

/// A format in which something is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Format {
    /// The bytes that it begins with.
    magic: &'static [u8],
    /// What unpacks it.
    program: &'static str,
    /// Whether the size of what is packed is part of the format, at its end.
    pub(crate) has_size: bool,
}

const FORMATS: [Format; 7] = [
    Format::new(b"\x1f\x8b", "gzip", true),
    Format::new(b"\x28\xb5\x2f\xfd", "zstd", false),
    Format::new(b"\xfd7zXZ\0", "xz", false),
    Format::new(b"\x5d\0\0", "xz", false),
    Format::new(b"BZh", "bzip2", false),
    Format::new(b"\x89LZO", "lzop", false),
    Format::new(b"\x02\x21\x4c\x18", "lz4", false),
];

/// What is packed, for messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contents {
    /// A kernel.
    Kernel,
    /// A module.
    Module,
}

/// How large it has to be when it is unpacked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Size {
    Exactly(usize),
    AtMost(usize),
}

/// Why what is in a file is not to be had. The text is one line without the file's name, for the user.
#[derive(Debug)]
pub enum UnpackError {
    /// The file cannot be read.
    File(io::Error),
    /// The file has more bytes than any of its kind.
    FileTooLarge {
        /// As many as it can have.
        largest: usize,
    },
    /// A program that is needed is not there.
    Missing {
        /// What it should have unpacked.
        contents: Contents,
        /// Its name.
        program: &'static str,
    },
    /// A program cannot be run.
    Program {
        /// Its name.
        program: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The program cannot make of the file what the file says that it is.
    Damaged {
        /// What should be in it.
        contents: Contents,
        /// The program.
        program: &'static str,
    },
    /// The file says that it has something larger in it than can be.
    WrongSize {
        /// What should be in it.
        contents: Contents,
        /// The bytes that it should have.
        size: usize,
    },
    /// There is something larger in the file than can be.
    TooLarge {
        /// What should be in it.
        contents: Contents,
        /// As many bytes as it can have.
        largest: usize,
    },
}

/// The contents of a module's file, unpacked if they are packed. `program` makes the command of the
/// program that does it.
///
/// # Errors
///
/// The file cannot be read, is damaged or too large, or the program is missing.
pub fn read_module(path: &Path, program: &dyn Fn(&str) -> Command) -> Result<Vec<u8>, UnpackError> {
    let data = read(path, LARGEST)?;
    match Format::of(&data) {
        Some(format) => format.unpack(&data, Contents::Module, Size::AtMost(LARGEST), program),
        None => Ok(data),
    }
}

/// A file that has at most so many bytes.
pub(crate) fn read(path: &Path, largest: usize) -> Result<Vec<u8>, UnpackError> {
    // One byte more tells that there are more.
    let data = beginning(path, largest + 1)?;
    if data.len() > largest {
        return Err(UnpackError::FileTooLarge { largest });
    }
    Ok(data)
}

/// At most so many bytes of a file.
pub(crate) fn beginning(path: &Path, size: usize) -> Result<Vec<u8>, UnpackError> {
    let mut data = Vec::new();
    let file = File::open(path).map_err(UnpackError::File)?;
    let read = file.take(size as u64).read_to_end(&mut data);
    read.map_err(UnpackError::File)?;
    Ok(data)
}

impl Format {
    const fn new(magic: &'static [u8], program: &'static str, has_size: bool) -> Self {
        Self {
            magic,
            program,
            has_size,
        }
    }

    /// The format of what begins so, if it is one.
    pub(crate) fn of(data: &[u8]) -> Option<Self> {
        let mut formats = FORMATS.into_iter();
        formats.find(|format| data.starts_with(format.magic))
    }

    /// The error of what the program does not take.
    pub(crate) fn damaged(self, contents: Contents) -> UnpackError {
        UnpackError::Damaged {
            contents,
            program: self.program,
        }
    }

    /// Unpacks what has this format. `program` makes the command of the program that does it.
    pub(crate) fn unpack(
        self,
        packed: &[u8],
        contents: Contents,
        size: Size,
        program: &dyn Fn(&str) -> Command,
    ) -> Result<Vec<u8>, UnpackError> {
        let largest = match size {
            Size::Exactly(size) if size > LARGEST => {
                return Err(UnpackError::WrongSize { contents, size })
            }
            Size::Exactly(size) | Size::AtMost(size) => size,
        };
        let missing = || UnpackError::Missing {
            contents,
            program: self.program,
        };
        // One byte more tells what is longer than it should be.
        let output = filter(program(self.program).arg("-dc"), packed, largest + 1);
        let (output, status) = output.map_err(|error| match error.kind() {
            ErrorKind::NotFound => missing(),
            _ => UnpackError::Program {
                program: self.program,
                source: error,
            },
        })?;
        // The command may be a script that runs the program.
        if status.code() == Some(NO_PROGRAM) {
            return Err(missing());
        }
        match size {
            Size::AtMost(largest) if output.len() > largest => {
                Err(UnpackError::TooLarge { contents, largest })
            }
            Size::Exactly(size) if output.len() != size => Err(self.damaged(contents)),
            _ if !status.success() => Err(self.damaged(contents)),
            _ => Ok(output),
        }
    }
}

/// What a program makes of its input, up to a size, and the status with which it ended.
fn filter(command: &mut Command, input: &[u8], size: usize) -> io::Result<(Vec<u8>, ExitStatus)> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
    let mut output = Vec::new();
    let read = thread::scope(|scope| {
        scope.spawn(move || {
            // A program that has seen enough does not read all of it.
            let _ = stdin.map(|mut stdin| stdin.write_all(input));
        });
        // When this is dropped, the program is stopped by what it writes, and reads no more.
        stdout.map(|stdout| stdout.take(size as u64).read_to_end(&mut output))
    });
    let status = child.wait()?;
    read.transpose()?;
    Ok((output, status))
}

impl fmt::Display for Contents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kernel => "kernel",
            Self::Module => "module",
        })
    }
}

impl fmt::Display for UnpackError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(error) => error.fmt(f),
            Self::FileTooLarge { largest } => {
                write!(f, "too large: it has more than {largest} bytes")
            }
            Self::Missing { contents, program } => {
                write!(
                    f,
                    "the {contents} in it is packed, and {program} is missing"
                )
            }
            Self::Program { program, source } => write!(f, "{program}: {source}"),
            Self::Damaged { contents, program } => {
                write!(f, "damaged: {program} cannot unpack the {contents} in it")
            }
            Self::WrongSize { contents, size } => {
                write!(f, "damaged: the {contents} in it would have {size} bytes")
            }
            Self::TooLarge { contents, largest } => write!(
                f,
                "too large: the {contents} in it has more than {largest} bytes"
            ),
        }
    }
}

impl std::error::Error for UnpackError {}

impl From<UnpackError> for String {
    fn from(error: UnpackError) -> Self {
        error.to_string()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::sample;

    const GZIP: Format = FORMATS[0];

    fn own(program: &str) -> Command {
        Command::new(program)
    }

    fn message<T>(result: Result<T, UnpackError>) -> String {
        result.err().unwrap().to_string()
    }

    fn file(contents: &[u8]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), contents).unwrap();
        file
    }

    fn module(contents: &[u8]) -> Result<Vec<u8>, UnpackError> {
        read_module(file(contents).path(), &own)
    }

    /// A command that does the same with any arguments.
    fn shell(script: &'static str) -> impl Fn(&str) -> Command {
        move |_| {
            let mut shell = Command::new("sh");
            shell.args(["-c", script]);
            shell
        }
    }

    #[test]
    fn modules() {
        let contents = [b"\x7fELF".as_slice(), &[7; 70_000]].concat();
        assert_eq!(module(&contents).unwrap(), contents);
        assert_eq!(module(b"").unwrap(), b"");
        for program in ["gzip", "zstd", "xz"] {
            let packed = sample::compress(program, &contents);
            assert_eq!(module(&packed).unwrap(), contents, "{program}");
            let cut = message(module(&packed[..packed.len() - 1]));
            let damaged = format!("damaged: {program} cannot unpack the module in it");
            assert_eq!(cut, damaged);
            assert_eq!(message(module(&packed[..6])), damaged);
        }
    }

    #[test]
    fn files_that_cannot_be_read() {
        let directory = tempfile::tempdir().unwrap();
        let read = |path: &Path| message(read_module(path, &own));
        assert_eq!(
            read(&directory.path().join("none")),
            "No such file or directory (os error 2)"
        );
        assert_eq!(read(directory.path()), "Is a directory (os error 21)");
    }

    #[test]
    fn programs_that_are_missing() {
        let none = |_: &str| Command::new("no-such-program");
        let script = shell("no-such-program");
        for program in [&none as &dyn Fn(&str) -> Command, &script] {
            let missing = |contents, size| message(GZIP.unpack(b"", contents, size, program));
            assert_eq!(
                missing(Contents::Kernel, Size::Exactly(0)),
                "the kernel in it is packed, and gzip is missing"
            );
            assert_eq!(
                missing(Contents::Module, Size::AtMost(0)),
                "the module in it is packed, and gzip is missing"
            );
        }
    }

    #[test]
    fn programs_that_cannot_be_run() {
        let directory = |_: &str| Command::new("/");
        let result = GZIP.unpack(b"", Contents::Module, Size::AtMost(0), &directory);
        assert_eq!(message(result), "gzip: Permission denied (os error 13)");
    }

    #[test]
    fn what_is_too_large() {
        let four = file(b"1234");
        assert_eq!(read(four.path(), 4).unwrap(), b"1234");
        assert_eq!(
            message(read(four.path(), 3)),
            "too large: it has more than 3 bytes"
        );

        let packed = sample::compress("gzip", &[7; 70_000]);
        let unpack = |size| GZIP.unpack(&packed, Contents::Module, size, &own);
        assert_eq!(unpack(Size::AtMost(70_000)).unwrap().len(), 70_000);
        assert_eq!(
            message(unpack(Size::AtMost(69_999))),
            "too large: the module in it has more than 69999 bytes"
        );
        // It is not even begun.
        let never = |_: &str| -> Command { panic!("it is started") };
        let size = Size::Exactly(LARGEST + 1);
        assert_eq!(
            message(GZIP.unpack(&packed, Contents::Kernel, size, &never)),
            "damaged: the kernel in it would have 1073741825 bytes"
        );
    }

    #[test]
    fn programs_without_end() {
        let endless = shell("exec yes");
        let unpack = |size| message(GZIP.unpack(&[0; 1 << 20], Contents::Kernel, size, &endless));
        assert_eq!(
            unpack(Size::AtMost(100_000)),
            "too large: the kernel in it has more than 100000 bytes"
        );
        assert_eq!(
            unpack(Size::Exactly(100_000)),
            "damaged: gzip cannot unpack the kernel in it"
        );
    }

    #[test]
    fn programs_that_fail() {
        let fails = shell("printf 1234; exit 1");
        for size in [Size::Exactly(4), Size::AtMost(4)] {
            assert_eq!(
                message(GZIP.unpack(b"", Contents::Module, size, &fails)),
                "damaged: gzip cannot unpack the module in it"
            );
        }
    }
}
