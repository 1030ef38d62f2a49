/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Patches of klp_test_target and of vmlinux that stack, replace each other, and fail on demand; each of them says when its
 * callbacks are called. The including file defines NUMBER, by which their functions' results differ, and may define
 * REPLACE and FUNCTIONS for a patch that is loaded without parameters.
 */
#include <linux/livepatch.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/seq_file.h>
#include <linux/string.h>

#ifndef REPLACE
#define REPLACE false
#endif
#ifndef FUNCTIONS
#define FUNCTIONS "value"
#endif

static bool replace = REPLACE;
module_param(replace, bool, 0444);
MODULE_PARM_DESC(replace, "replaces all other patches");

static char *functions = FUNCTIONS;
module_param(functions, charp, 0444);
MODULE_PARM_DESC(functions, "what is patched in klp_test_target: value, other, value,other or nothing, unknown, notrace");

static bool vmlinux;
module_param(vmlinux, bool, 0444);
MODULE_PARM_DESC(vmlinux, "patches a function of vmlinux, too");

static char *refuse = "";
module_param(refuse, charp, 0644);
MODULE_PARM_DESC(refuse, "the object whose pre-patch callback fails");

static unsigned int state;
module_param(state, uint, 0444);
MODULE_PARM_DESC(state, "identifier of a system state; 0 for none");

static unsigned int version;
module_param(version, uint, 0444);
MODULE_PARM_DESC(version, "its version");

static struct klp_patch patch;

static int new_value(void)
{
	return NUMBER * 1000;
}

static int new_other(void)
{
	return NUMBER * 100000;
}

/* /proc/version with a mark. */
static int new_version(struct seq_file *m, void *v)
{
	seq_printf(m, "patched by %d\n", NUMBER);
	return 0;
}

static void say(const char *callback, struct klp_object *obj)
{
	struct klp_state *before = NULL, *own = NULL;

	if (state) {
		own = klp_get_state(&patch, state);
		before = klp_get_prev_state(state);
	}
	pr_info("%s: %s, state %d, before %d\n", callback, obj->name ?: "vmlinux",
		own ? (int)own->version : -1, before ? (int)before->version : -1);
}

static int pre_patch(struct klp_object *obj)
{
	say("pre_patch", obj);
	return sysfs_streq(refuse, obj->name ?: "vmlinux") ? -ENODEV : 0;
}

static void post_patch(struct klp_object *obj)
{
	say("post_patch", obj);
}

static void pre_unpatch(struct klp_object *obj)
{
	say("pre_unpatch", obj);
}

static void post_unpatch(struct klp_object *obj)
{
	say("post_unpatch", obj);
}

#define CALLBACKS {			\
		.pre_patch = pre_patch,		\
		.post_patch = post_patch,	\
		.pre_unpatch = pre_unpatch,	\
		.post_unpatch = post_unpatch,	\
	}

static struct klp_func target_funcs[5];

static struct klp_func vmlinux_funcs[] = {
	{ .old_name = "version_proc_show", .new_func = new_version },
	{ }
};

/* The target alone, or behind vmlinux. */
static struct klp_object objs[] = {
	{ .funcs = vmlinux_funcs, .callbacks = CALLBACKS },
	{ .name = "klp_test_target", .funcs = target_funcs, .callbacks = CALLBACKS },
	{ }
};

static struct klp_state states[2];

static struct klp_patch patch = {
	.mod = THIS_MODULE,
	.states = states,
};

static int __init stack_init(void)
{
	struct klp_func *func = target_funcs;

	if (strstr(functions, "value"))
		*func++ = (struct klp_func){ .old_name = "klp_test_value", .new_func = new_value };
	if (strstr(functions, "other"))
		*func++ = (struct klp_func){ .old_name = "klp_test_other", .new_func = new_other };
	if (strstr(functions, "unknown"))
		*func++ = (struct klp_func){ .old_name = "klp_test_no_such", .new_func = new_other };
	if (strstr(functions, "notrace"))
		*func++ = (struct klp_func){ .old_name = "klp_test_notrace", .new_func = new_other };
	states[0] = (struct klp_state){ .id = state, .version = version };
	patch.replace = replace;
	patch.objs = vmlinux ? objs : objs + 1;
	return klp_enable_patch(&patch);
}

static void __exit stack_exit(void)
{
}

module_init(stack_init);
module_exit(stack_exit);
MODULE_DESCRIPTION("A live patch among others, for tests");
MODULE_LICENSE("GPL");
MODULE_INFO(livepatch, "Y");
