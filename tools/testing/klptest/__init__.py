# SPDX-License-Identifier: GPL-2.0
"""What the Python programs of the tests share.

The programs themselves (scripts/vm and those in tools/testing) put tools/testing on the search path
and import this package, on the host and in the virtual machine alike:

* paths: where the checkout and the cache are.
* modules: loading and unloading kernel modules.
* protocol: how a program talks to the part of itself in the virtual machine.
* vm: the virtual machine runner.
* differential: the comparison of the built-in core with the Rust core.
* tests: unit tests of the package.
"""
