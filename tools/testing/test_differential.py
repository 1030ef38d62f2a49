# SPDX-License-Identifier: GPL-2.0
"""Tests of tools/testing/differential, without a machine: python3 tools/testing/test_differential.py"""

import unittest

if __name__ == "__main__":
    unittest.main("klptest.tests.test_differential")
