# SPDX-License-Identifier: GPL-2.0
"""The differential test: the same operations on both cores, compared line by line."""
