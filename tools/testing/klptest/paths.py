# SPDX-License-Identifier: GPL-2.0
"""Places that the programs share."""

import os
from pathlib import Path
from typing import Mapping

TOP = Path(__file__).resolve().parents[3]
SCRIPTS = TOP / "scripts"


def cache_directory(environment: Mapping[str, str]) -> Path:
    """Where sources, kernels and tools are kept, by the rule of scripts/common.sh."""
    named = environment.get("LIVEPATCH_CACHE")
    if named:
        return Path(named)
    caches = environment.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(caches) / "livepatch"
