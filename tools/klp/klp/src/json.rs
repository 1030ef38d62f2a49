// SPDX-License-Identifier: GPL-2.0

//! Answers in JSON. `tools/klp/json.md` describes them.

use std::io;

use serde::Serialize;

use crate::commands::Result;

/// The version of the documents. It changes when something that was there changes its meaning or
/// goes; new fields may come without that.
const SCHEMA: &str = "klp/1";

/// What every answer has, beside the fields of its command.
#[derive(Serialize)]
struct Document<'a, T> {
    schema: &'static str,
    command: &'a str,
    #[serde(flatten)]
    answer: &'a T,
}

/// Prints the answer of a command, a structure, as one document.
///
/// # Errors
///
/// Standard output cannot be written to.
pub fn print<T: Serialize>(command: &str, answer: &T) -> Result<()> {
    let document = Document {
        schema: SCHEMA,
        command,
        answer,
    };
    let mut output = io::stdout().lock();
    serde_json::to_writer_pretty(&mut output, &document)?;
    io::Write::write_all(&mut output, b"\n")?;
    Ok(())
}
