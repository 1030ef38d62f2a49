// SPDX-License-Identifier: GPL-2.0
/*
 * A patch that asks the core whether it would replace a function of the kernel, and does not do so:
 * when the function has been redirected, and before any task switches, the callback of another
 * object fails. So insmod says "No such device" if the core takes the function.
 *
 * tools/testing/check-differential writes the names of functions and their positions into copies of
 * the file, and other symbols into its livepatch relocation.
 */
#include <linux/livepatch.h>
#include <linux/module.h>

/* Nobody looks there; klp convert makes a livepatch relocation of the address. */
extern int nr_threads;
static int *referred __used = &nr_threads;

/* Never runs. */
static int replacement(void)
{
	return 0;
}

static int refuse(struct klp_object *obj)
{
	return -ENODEV;
}

/* Long enough for most names, and a position that is to be found in the file. */
static struct klp_func probed[] = {
	{
		.old_name = "klp_test_probe_function_of_which_the_name_is_written_over_this_text",
		.new_func = replacement,
		.old_sympos = 0x5052454245504f53,
	},
	{ }
};

static struct klp_func others[] = {
	{ .old_name = "klp_test_value", .new_func = replacement },
	{ }
};

static struct klp_object objs[] = {
	{ .funcs = probed },
	{ .name = "klp_test_target", .funcs = others, .callbacks.pre_patch = refuse },
	{ }
};

static struct klp_patch patch = {
	.mod = THIS_MODULE,
	.objs = objs,
};

static int __init probe_init(void)
{
	return klp_enable_patch(&patch);
}

static void __exit probe_exit(void)
{
}

module_init(probe_init);
module_exit(probe_exit);
MODULE_DESCRIPTION("A live patch that is refused last of all, for tests");
MODULE_LICENSE("GPL");
MODULE_INFO(livepatch, "Y");
