# SPDX-License-Identifier: GPL-2.0
"""Tests of the places that the programs share."""

import os
import subprocess
import unittest
from typing import Dict

from klptest.paths import SCRIPTS, cache_directory

VARIABLES = ("LIVEPATCH_CACHE", "XDG_CACHE_HOME")


class Cache(unittest.TestCase):
    """The cache of the Python programs is that of the shell scripts."""

    def shell(self, environment: Dict[str, str]) -> str:
        """What scripts/common.sh takes for the cache."""
        return subprocess.run(
            ["bash", "-c", '. "$1" && printf %s "$cache"', "bash", str(SCRIPTS / "common.sh")],
            env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout

    def test_same_as_in_shell(self) -> None:
        rest = {name: value for name, value in os.environ.items() if name not in VARIABLES}
        rest["HOME"] = os.path.expanduser("~")
        for named in (None, "", "/named"):
            for caches in (None, "", "/caches"):
                values = zip(VARIABLES, (named, caches))
                environment = {**rest, **{name: value for name, value in values
                                          if value is not None}}
                with self.subTest(named=named, caches=caches):
                    self.assertEqual(str(cache_directory(environment)), self.shell(environment))


if __name__ == "__main__":
    unittest.main()
