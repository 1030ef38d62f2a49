// SPDX-License-Identifier: GPL-2.0
/*
 * A patch that uses what is not exported: a variable of the kernel, static functions of the module that it patches.
 * klp convert makes the references livepatch relocations.
 */
#include <linux/livepatch.h>
#include <linux/module.h>
#include <linux/moduleparam.h>

/* Of vmlinux; and of klp_test_target, of the second of which there are two. */
extern int nr_threads;
int klp_test_hidden(void);
int klp_test_twin(void);

/* Constant, so that it is in .rodata whatever compiler this is. */
static int (*const hidden)(void) = klp_test_hidden;

static int pre_patch_ret;
module_param(pre_patch_ret, int, 0644);
MODULE_PARM_DESC(pre_patch_ret, "what the pre-patch callback returns");

static int new_value(void)
{
	return klp_test_hidden() + klp_test_twin();
}

static int pre_patch(struct klp_object *obj)
{
	return pre_patch_ret;
}

/* What the relocations made: whether there are tasks, and an address in the target if that is there. */
static int get_relocated(char *buffer, const struct kernel_param *kp)
{
	return sysfs_emit(buffer, "%d %d\n", nr_threads > 0, READ_ONCE(hidden) != NULL);
}

static const struct kernel_param_ops relocated_ops = { .get = get_relocated };
module_param_cb(relocated, &relocated_ops, NULL, 0444);

static struct klp_func funcs[] = {
	{ .old_name = "klp_test_value", .new_func = new_value },
	{ }
};

static struct klp_object objs[] = {
	{
		.name = "klp_test_target",
		.funcs = funcs,
		.callbacks = { .pre_patch = pre_patch },
	},
	{ }
};

static struct klp_patch patch = {
	.mod = THIS_MODULE,
	.objs = objs,
};

static int __init reloc_init(void)
{
	return klp_enable_patch(&patch);
}

static void __exit reloc_exit(void)
{
}

module_init(reloc_init);
module_exit(reloc_exit);
MODULE_DESCRIPTION("A live patch that uses unexported symbols, for tests");
MODULE_LICENSE("GPL");
MODULE_INFO(livepatch, "Y");
