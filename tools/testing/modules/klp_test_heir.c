// SPDX-License-Identifier: GPL-2.0
/*
 * A cumulative patch that takes over a system state of an older one (klp_test_freed), and has a
 * transition that waits for tasks in nanosleep().
 */
#include <linux/errno.h>
#include <linux/hrtimer.h>
#include <linux/livepatch.h>
#include <linux/module.h>

static void *data;

static void *inherited(void)
{
	struct klp_state *state = klp_get_prev_state(1);

	return state ? state->data : NULL;
}

static long no_nap(ktime_t rqtp, const enum hrtimer_mode mode, const clockid_t clockid)
{
	return -EINVAL;
}

static int pre_patch(struct klp_object *obj)
{
	data = inherited();
	return data ? 0 : -ENOENT;
}

static void post_patch(struct klp_object *obj)
{
	pr_info("heir: %s\n", inherited() == data ? "the same" : "another answer");
}

static struct klp_func funcs[] = {
	{ .old_name = "hrtimer_nanosleep", .new_func = no_nap },
	{ }
};

static struct klp_object objs[] = {
	{ .funcs = funcs, .callbacks = { .pre_patch = pre_patch, .post_patch = post_patch } },
	{ }
};

static struct klp_state states[] = {
	{ .id = 1, .version = 2 },
	{ }
};

static struct klp_patch patch = {
	.mod = THIS_MODULE,
	.objs = objs,
	.states = states,
	.replace = true,
};

static int __init heir_init(void)
{
	return klp_enable_patch(&patch);
}

static void __exit heir_exit(void)
{
}

module_init(heir_init);
module_exit(heir_exit);
MODULE_DESCRIPTION("A live patch that takes over a system state, for tests");
MODULE_LICENSE("GPL");
MODULE_INFO(livepatch, "Y");
