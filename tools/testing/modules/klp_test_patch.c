// SPDX-License-Identifier: GPL-2.0
/*
 * A patch that is right or wrong in the way that the parameter "mode" says. tools/testing/vm uses it.
 */
#include <linux/livepatch.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/sched.h>
#include <linux/string.h>
#include <asm/ibt.h>
#include <asm/linkage.h>

static char *mode = "good";
module_param(mode, charp, 0444);
MODULE_PARM_DESC(mode, "what is wrong with the patch");

static char *name = "klp_test_value";
module_param(name, charp, 0444);
MODULE_PARM_DESC(name, "the function to patch");

static char *object = "klp_test_target";
module_param(object, charp, 0444);
MODULE_PARM_DESC(object, "the module to patch; vmlinux for the kernel");

static unsigned long sympos;
module_param(sympos, ulong, 0444);
MODULE_PARM_DESC(sympos, "which symbol of that name");

static int pre_patch_ret;
module_param(pre_patch_ret, int, 0644);
MODULE_PARM_DESC(pre_patch_ret, "what the pre-patch callback returns");

static bool hold;
module_param(hold, bool, 0644);
MODULE_PARM_DESC(hold, "keeps the pre-patch and the post-unpatch callback from returning");

static bool held;
module_param(held, bool, 0444);
MODULE_PARM_DESC(held, "whether a callback has been kept from returning");

static int init_ret;
module_param(init_ret, int, 0444);
MODULE_PARM_DESC(init_ret, "what the module's init function returns when the patch has been enabled");

static char long_name[600];

static int new_value(void)
{
	return 2;
}

/* At an odd address, as a compiler may put it that saves space. */
int new_at_odd_address(void);
asm(".pushsection .text, \"ax\"\n"
    "	.balign 2\n"
    "	nop\n"
    "	.type new_at_odd_address, @function\n"
    "new_at_odd_address:\n"
    ASM_ENDBR
    "	movl $3, %eax\n"
    ASM_RET
    "	.size new_at_odd_address, . - new_at_odd_address\n"
    ".popsection\n");

static int new_zero(void)
{
	return 0;
}

static int new_other(void)
{
	return 20;
}

/* What a callback sees of its patch by the interface of <linux/livepatch.h>. */
static void list_patch(struct klp_patch *patch)
{
	struct klp_object *obj;
	struct klp_func *func;

	klp_for_each_object(patch, obj)
		klp_for_each_func(obj, func)
			pr_info("listed: %s, %s\n", obj->name ?: "vmlinux", func->old_name);
}

static struct klp_patch patch;

static void wait_while_held(void)
{
	while (READ_ONCE(hold)) {
		WRITE_ONCE(held, true);
		schedule_timeout_idle(HZ / 50);
	}
}

static int pre_patch(struct klp_object *obj)
{
	if (!strcmp(mode, "list"))
		list_patch(&patch);
	wait_while_held();
	return pre_patch_ret;
}

static void post_unpatch(struct klp_object *obj)
{
	wait_while_held();
}

static struct klp_func funcs[] = {
	{ .new_func = new_value },
	{ },
	{ }
};

static struct klp_object objs[] = {
	{
		.funcs = funcs,
		.callbacks = { .pre_patch = pre_patch, .post_unpatch = post_unpatch },
	},
	{ },
	{ }
};

static struct klp_patch patch = {
	.mod = THIS_MODULE,
	.objs = objs,
};

static int __init patch_init(void)
{
	int ret;

	funcs[0].old_name = name;
	funcs[0].old_sympos = sympos;
	if (strcmp(object, "vmlinux"))
		objs[0].name = object;
	memset(long_name, 'x', sizeof(long_name) - 1);

	if (!strcmp(mode, "null"))
		return klp_enable_patch(NULL);
	if (!strcmp(mode, "no-module"))
		patch.mod = NULL;
	else if (!strcmp(mode, "no-objects"))
		patch.objs = NULL;
	else if (!strcmp(mode, "no-functions"))
		objs[0].funcs = NULL;
	else if (!strcmp(mode, "no-name"))
		funcs[0].old_name = NULL;
	else if (!strcmp(mode, "no-replacement"))
		funcs[0].new_func = NULL;
	else if (!strcmp(mode, "long-function"))
		funcs[0].old_name = long_name;
	else if (!strcmp(mode, "long-object"))
		objs[0].name = long_name;
	else if (!strcmp(mode, "second-unknown"))
		funcs[1] = (struct klp_func){ .old_name = "klp_test_no_such", .new_func = new_other };
	else if (!strcmp(mode, "second-notrace"))
		funcs[1] = (struct klp_func){ .old_name = "klp_test_notrace", .new_func = new_other };
	else if (!strcmp(mode, "init"))
		funcs[1] = (struct klp_func){ .old_name = "klp_test_at_init", .new_func = new_zero };
	else if (!strcmp(mode, "alias"))
		funcs[1] = (struct klp_func){ .old_name = "klp_test_alias", .new_func = new_value };
	else if (!strcmp(mode, "two") || !strcmp(mode, "list"))
		funcs[1] = (struct klp_func){ .old_name = "klp_test_other", .new_func = new_other };
	else if (!strcmp(mode, "bad-replacement"))
		funcs[0].new_func = (void *)8;
	else if (!strcmp(mode, "odd"))
		funcs[0].new_func = new_at_odd_address;

	ret = klp_enable_patch(&patch);
	if (!ret && !strcmp(mode, "twice"))
		pr_info("second call: %d\n", klp_enable_patch(&patch));
	return ret ?: init_ret;
}

static void __exit patch_exit(void)
{
}

module_init(patch_init);
module_exit(patch_exit);
MODULE_DESCRIPTION("A live patch for tests, right or wrong");
MODULE_LICENSE("GPL");
MODULE_INFO(livepatch, "Y");
