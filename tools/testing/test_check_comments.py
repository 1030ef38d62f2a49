#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Tests of check-comments: good comments pass, and each rule finds what it is about."""

import importlib.machinery
import importlib.util
import unittest
from pathlib import Path
from typing import List

PROGRAM = Path(__file__).with_name("check-comments")
loader = importlib.machinery.SourceFileLoader("check_comments", str(PROGRAM))
spec = importlib.util.spec_from_loader(loader.name, loader)
assert spec
check_comments = importlib.util.module_from_spec(spec)
loader.exec_module(check_comments)

GOOD = """\
//! a module's documentation is not an item's

// without a tag, in any form
/// Looks a name up.
///
/// more
fn good() {
    // SAFETY: `name` is a string that ends with a zero,
    // which its type guarantees.
    // ORDERING: Acquire pairs with the release in `put`.
    //
    // the rest is free
    let _ = 1; // SAFETY: at the end of a line it is no block
}
"""


class Rules(unittest.TestCase):
    """What is found."""

    def rules(self, text: str) -> List[str]:
        """The rules that a text breaks."""
        return [finding.rule for finding in check_comments.check(text)]

    def test_good(self) -> None:
        """Nothing is found in good comments."""
        self.assertEqual(self.rules(GOOD), [])

    def test_columns(self) -> None:
        """Lines of 100 columns pass, longer ones do not."""
        self.assertEqual(self.rules("x" * 100), [])
        self.assertEqual(self.rules("x" * 101), ["columns"])

    def test_tagged(self) -> None:
        """Start and end of comments with a tag, also when one follows another directly."""
        for tag in check_comments.TAGS:
            self.assertEqual(self.rules(f"// {tag}: it is."), ["start"])
            self.assertEqual(self.rules(f"// {tag}: It is"), ["stop"])
            self.assertEqual(self.rules(f"// {tag}: It\n// is."), [])
        self.assertEqual(self.rules("// SAFETY: It is\n// CAST: It fits."), ["stop"])

    def test_reason(self) -> None:
        """Phrases that stand for a reason, in comments about safety only."""
        for phrase in ("As above.", "It exists.", "`patch` exists.", "There is no requirement.",
                       "So says the caller.", "The same as before."):
            self.assertEqual(self.rules(f"// SAFETY: {phrase}"), ["reason"], phrase)
            self.assertEqual(self.rules(f"// CAST: {phrase}"), [], phrase)
        self.assertEqual(self.rules("// SAFETY: The patch is in the list while it exists."), [])

    def test_doc(self) -> None:
        """The first paragraph of an item's documentation."""
        self.assertEqual(self.rules("/// Looks a name up"), ["doc-stop"])
        self.assertEqual(self.rules("/// One of these:"), [])
        self.assertEqual(self.rules("/// A name."), ["doc-short"])
        self.assertEqual(self.rules("/// # Safety\n///\n/// None."), [])
        self.assertEqual(self.rules("/// The same for modules."), ["doc-alone"])


if __name__ == "__main__":
    unittest.main()
