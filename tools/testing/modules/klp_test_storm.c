// SPDX-License-Identifier: GPL-2.0
/*
 * A function in which many tasks are most of the time, and which notices if one of them is in the wrong version of it
 * when a transition is complete. Reading /proc/klp_test_storm calls it.
 */
#include <linux/atomic.h>
#include <linux/delay.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/proc_fs.h>
#include <linux/random.h>
#include <linux/seq_file.h>

#include "klp_test_storm.h"

noinline int klp_test_storm_nap(void);

static int violations;
module_param(violations, int, 0444);
MODULE_PARM_DESC(violations, "how often a task was in a version that it could not be in");

static int checks;
module_param(checks, int, 0444);
MODULE_PARM_DESC(checks, "how many transitions were found complete");

static atomic_t inside[2];
static int forbidden = STORM_REPLACEMENT;

static void violation(const char *what, int version)
{
	violations++;
	pr_err("%s version %d\n", what, version);
}

void klp_test_storm_forbid(enum klp_test_storm_version version)
{
	WRITE_ONCE(forbidden, version);
	if (version == STORM_NONE)
		return;
	checks++;
	if (atomic_read(&inside[version]))
		violation("a transition is complete, and a task is in", version);
}
EXPORT_SYMBOL_GPL(klp_test_storm_forbid);

void klp_test_storm_stay(enum klp_test_storm_version version)
{
	u32 microseconds = get_random_u32_below(4000);

	atomic_inc(&inside[version]);
	if (READ_ONCE(forbidden) == version)
		violation("a task enters", version);
	if (microseconds < 500)
		udelay(microseconds);
	else
		usleep_range(microseconds, microseconds + 1000);
	atomic_dec(&inside[version]);
}
EXPORT_SYMBOL_GPL(klp_test_storm_stay);

noinline int klp_test_storm_nap(void)
{
	klp_test_storm_stay(STORM_ORIGINAL);
	/* So that the call before is not the last thing here, and this function stays on the stack. */
	return STORM_ORIGINAL;
}

static int show(struct seq_file *m, void *v)
{
	seq_printf(m, "%d\n", klp_test_storm_nap());
	return 0;
}

static int __init storm_init(void)
{
	return proc_create_single("klp_test_storm", 0444, NULL, show) ? 0 : -ENOMEM;
}

static void __exit storm_exit(void)
{
	remove_proc_entry("klp_test_storm", NULL);
}

module_init(storm_init);
module_exit(storm_exit);
MODULE_DESCRIPTION("A crowded function for livepatch tests to patch");
MODULE_LICENSE("GPL");
