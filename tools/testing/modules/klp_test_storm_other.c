// SPDX-License-Identifier: GPL-2.0
/* The patch of klp_test_storm_fix once more, in a module of its own. */
#include "klp_test_storm_fix.c"
