// SPDX-License-Identifier: GPL-2.0

//! Answers in JSON. `tools/klp/json.md` describes them.

use serde::Serialize;

use crate::{
    commands::{self, Result},
    context::Context,
};

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

/// Prints the answer of a command that changes something, if JSON is wanted, and returns `result`: what
/// became of it does not depend on who can read the answer.
pub fn conclude<T: Serialize>(
    context: &Context,
    command: &str,
    answer: &T,
    result: Result,
) -> Result {
    if context.json {
        if let Err(error) = print(command, answer) {
            commands::message(format_args!("klp: the answer cannot be written: {error}"));
        }
    }
    result
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
    let text = serde_json::to_string_pretty(&document)?;
    commands::print(&format!("{text}\n"))
}
