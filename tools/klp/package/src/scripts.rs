// SPDX-License-Identifier: GPL-2.0

//! The scripts of the packages.
//!
//! | when | dpkg | rpm |
//! | --- | --- | --- |
//! | another version comes: this one is handed over | `prerm upgrade` | `%preun`, 1 is left |
//! | its files are there: patches are put on | `postinst configure` | `%posttrans` |
//! | it goes: patches are taken off | `prerm remove` | `%preun`, 0 are left |
//! | it was to go, but stays: patches are put on | `postinst abort-remove` | in `%preun` |
//!
//! In this order an upgrade or a downgrade is one replacement in both formats. rpm's `%post` would
//! come too early: before the `%preun` of the version that is replaced.

use crate::Package;

/// The scripts of a package in one format.
pub struct Scripts {
    /// After its files are in place.
    pub put_on: String,
    /// Before its files are removed, or replaced by those of another version.
    pub take_off: String,
}

const FUNCTIONS: &str = include_str!("maintainer.sh");

const DEB_POSTINST: &str = "case $1 in
configure | abort-upgrade | abort-remove | abort-deconfigure) put_on ;;
esac
";

const DEB_PRERM: &str = "case $1 in
upgrade) hand_over ;;
remove) take_off ;;
esac
";

const RPM_POSTTRANS: &str = "put_on
";

const RPM_PREUN: &str = "if [ \"$1\" -gt 0 ]; then
	hand_over
elif ! take_off; then
	put_on
	exit 1
fi
";

/// For dpkg: `postinst` and `prerm`.
pub fn deb(package: &Package, name: &str) -> Scripts {
    Scripts {
        put_on: script(package, name, DEB_POSTINST),
        take_off: script(package, name, DEB_PRERM),
    }
}

/// For rpm: `%posttrans` and `%preun`.
pub fn rpm(package: &Package, name: &str) -> Scripts {
    Scripts {
        put_on: script(package, name, RPM_POSTTRANS),
        take_off: script(package, name, RPM_PREUN),
    }
}

/// A whole script. No value in it contains a quotation mark: names of packages, releases of kernels
/// and names of modules were checked.
fn script(package: &Package, name: &str, main: &str) -> String {
    let kernel = package.patches.kernel();
    let patches = package
        .patches
        .modules()
        .map(|module| module.name())
        .collect::<Vec<_>>()
        .join(" ");
    format!(
        "#!/bin/sh
{FUNCTIONS}
set -eu
package='{name}'
kernel='{kernel}'
patches='{patches}'
# Patches of other versions of the package that may be loaded, one in a line. Like them, the file
# does not survive a boot.
others=/run/klp/$package

{main}"
    )
}
