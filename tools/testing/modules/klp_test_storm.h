/* SPDX-License-Identifier: GPL-2.0 */
#ifndef KLP_TEST_STORM_H
#define KLP_TEST_STORM_H

/* The versions of klp_test_storm_nap(). */
enum klp_test_storm_version { STORM_NONE = -1, STORM_ORIGINAL, STORM_REPLACEMENT };

/* What every version does: stays for a while, and notices when it should not be there. */
void klp_test_storm_stay(enum klp_test_storm_version version);

/*
 * From now on nobody may be in this version. With STORM_NONE, which a transition starts with, they may be in any.
 */
void klp_test_storm_forbid(enum klp_test_storm_version version);

#endif
