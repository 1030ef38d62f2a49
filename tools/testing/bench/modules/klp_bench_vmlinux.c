// SPDX-License-Identifier: GPL-2.0
/*
 * A live patch of system calls that no program makes; its user names them.
 */
#include <linux/errno.h>
#include <linux/livepatch.h>
#include <linux/module.h>
#include <linux/moduleparam.h>

struct pt_regs;

#define MAX_FUNCTIONS 100

static char *functions[MAX_FUNCTIONS];
static unsigned int count;
module_param_array(functions, charp, &count, 0444);
MODULE_PARM_DESC(functions, "the functions to patch, __x64_sys_...");

static long not_implemented(const struct pt_regs *regs)
{
	return -ENOSYS;
}

static struct klp_func funcs[MAX_FUNCTIONS + 1];

static struct klp_object objs[] = {
	{ .funcs = funcs },
	{ }
};

static struct klp_patch patch = {
	.mod = THIS_MODULE,
	.objs = objs,
};

static int __init patch_init(void)
{
	unsigned int i;

	for (i = 0; i < count; i++) {
		funcs[i].old_name = functions[i];
		funcs[i].new_func = not_implemented;
	}
	return klp_enable_patch(&patch);
}

static void __exit patch_exit(void)
{
}

module_init(patch_init);
module_exit(patch_exit);
MODULE_DESCRIPTION("A live patch of vmlinux for the livepatch benchmarks");
MODULE_LICENSE("GPL");
MODULE_INFO(livepatch, "Y");
