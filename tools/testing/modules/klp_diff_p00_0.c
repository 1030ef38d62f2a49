// SPDX-License-Identifier: GPL-2.0
/*
 * A patch that its parameters describe, right or wrong. tools/testing/differential loads it, and copies of it under
 * other names.
 *
 *	# insmod klp_diff_p00_0.ko id=7 objects='vmlinux:cmdline_proc_show;klp_diff_t0:klp_diff_a,klp_diff_twin+2'
 *
 * patches a function of the kernel and two of klp_diff_t0, the second being the second one of its name.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/atomic.h>
#include <linux/kstrtox.h>
#include <linux/livepatch.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/seq_file.h>
#include <linux/string.h>
#include <linux/wait.h>

#define MAX_OBJECTS	4
#define MAX_FUNCS	8
#define MAX_STATES	4

static int id;
module_param(id, int, 0444);
MODULE_PARM_DESC(id, "the tens of what the new functions return");

static char *objects = "";
module_param(objects, charp, 0444);
MODULE_PARM_DESC(objects, "what to patch: object:function[+position][,function]...[;object:...]");

static bool replace;
module_param(replace, bool, 0444);
MODULE_PARM_DESC(replace, "whether all other patches are replaced");

static char *states = "";
module_param(states, charp, 0444);
MODULE_PARM_DESC(states, "identifiers and versions of system states: id:version[,id:version]...");

static bool callbacks;
module_param(callbacks, bool, 0444);
MODULE_PARM_DESC(callbacks, "whether the objects have callbacks");

static char fail_object[64] = "";
module_param_string(fail_object, fail_object, sizeof(fail_object), 0644);
MODULE_PARM_DESC(fail_object, "whose pre-patch callback fails");

static int fail_ret;
module_param(fail_ret, int, 0644);
MODULE_PARM_DESC(fail_ret, "what it returns");

static DECLARE_WAIT_QUEUE_HEAD(sleepers);
static atomic_t generation = ATOMIC_INIT(0);

static int set_wake(const char *value, const struct kernel_param *kp)
{
	atomic_inc(&generation);
	wake_up_all(&sleepers);
	return 0;
}

static const struct kernel_param_ops wake_ops = { .set = set_wake };
module_param_cb(wake, &wake_ops, NULL, 0200);
MODULE_PARM_DESC(wake, "wakes the tasks that sleep in the new klp_diff_sleep()");

static int new_a(void)
{
	return id * 10 + 1;
}

static int new_b(void)
{
	return id * 10 + 2;
}

static int new_c(void)
{
	return id * 10 + 3;
}

static int new_other(void)
{
	return id * 10 + 9;
}

static const char *new_sleep(void)
{
	int now = atomic_read(&generation);

	wait_event_idle(sleepers, atomic_read(&generation) != now);
	return KBUILD_MODNAME;
}

static int new_show(struct seq_file *m, void *v)
{
	seq_printf(m, "patched by %s\n", KBUILD_MODNAME);
	return 0;
}

static const struct {
	const char *name;
	void *replacement;
} replacements[] = {
	{ "klp_diff_a", new_a },
	{ "klp_diff_b", new_b },
	{ "klp_diff_c", new_c },
	{ "klp_diff_sleep", new_sleep },
	{ "cmdline_proc_show", new_show },
	{ "version_proc_show", new_show },
};

static struct klp_func funcs[MAX_OBJECTS][MAX_FUNCS + 1];
static struct klp_object objs[MAX_OBJECTS + 1];
static struct klp_state system_states[MAX_STATES + 1];

static struct klp_patch patch = {
	.mod = THIS_MODULE,
	.objs = objs,
	.states = system_states,
};

static const char *name_of(struct klp_object *obj)
{
	return obj->name ?: "vmlinux";
}

/* What the core lets callbacks see. */
static void report(const char *callback, struct klp_object *obj)
{
	struct klp_func *func;
	struct klp_state *state, *prev;

	pr_info("%s %s: enabled %d, patched %d, mod %s\n", callback, name_of(obj), patch.enabled, obj->patched,
		obj->mod ? obj->mod->name : "none");
	for (func = obj->funcs; func->old_name; func++)
		pr_info("%s,%lu: patched %d, old %d, old size %lu, new size %lu\n", func->old_name, func->old_sympos,
			func->patched, !!func->old_func, func->old_size, func->new_size);
	/* Only they are always called in a transition, as klp_get_prev_state() demands. */
	if (obj->name)
		return;
	for (state = system_states; state->id; state++) {
		prev = klp_get_prev_state(state->id);
		pr_info("state %lu: found %d, version %u, before %d, version %u\n", state->id,
			klp_get_state(&patch, state->id) == state, state->version, !!prev, prev ? prev->version : 0);
	}
}

static int pre_patch(struct klp_object *obj)
{
	report("pre_patch", obj);
	return strcmp(fail_object, name_of(obj)) ? 0 : fail_ret;
}

static void post_patch(struct klp_object *obj)
{
	report("post_patch", obj);
}

static void pre_unpatch(struct klp_object *obj)
{
	report("pre_unpatch", obj);
}

static void post_unpatch(struct klp_object *obj)
{
	report("post_unpatch", obj);
}

static void *replacement_of(const char *name)
{
	int i;

	for (i = 0; i < ARRAY_SIZE(replacements); i++)
		if (!strcmp(replacements[i].name, name))
			return replacements[i].replacement;
	return new_other;
}

static int parse_func(struct klp_func *func, char *text)
{
	char *name = strsep(&text, "+");

	func->old_name = name;
	func->new_func = replacement_of(name);
	return text ? kstrtoul(text, 10, &func->old_sympos) : 0;
}

static int parse_object(struct klp_object *obj, struct klp_func *func, char *text)
{
	char *name = strsep(&text, ":");
	char *next;
	int i, ret;

	if (strcmp(name, "vmlinux"))
		obj->name = name;
	obj->funcs = func;
	if (callbacks) {
		obj->callbacks.pre_patch = pre_patch;
		obj->callbacks.post_patch = post_patch;
		obj->callbacks.pre_unpatch = pre_unpatch;
		obj->callbacks.post_unpatch = post_unpatch;
	}
	for (i = 0; (next = strsep(&text, ",")); i++) {
		if (i == MAX_FUNCS)
			return -E2BIG;
		ret = parse_func(&func[i], next);
		if (ret)
			return ret;
	}
	return 0;
}

static int parse_states(char *text)
{
	char *next;
	int i;

	for (i = 0; (next = strsep(&text, ",")) && *next; i++) {
		if (i == MAX_STATES)
			return -E2BIG;
		if (sscanf(next, "%lu:%u", &system_states[i].id, &system_states[i].version) != 2)
			return -EBADMSG;
	}
	return 0;
}

static int __init patch_init(void)
{
	char *next;
	int i, ret;

	patch.replace = replace;
	for (i = 0; (next = strsep(&objects, ";")); i++) {
		if (i == MAX_OBJECTS)
			return -E2BIG;
		ret = parse_object(&objs[i], funcs[i], next);
		if (ret)
			return ret;
	}
	ret = parse_states(states);
	if (ret)
		return ret;
	return klp_enable_patch(&patch);
}

static void __exit patch_exit(void)
{
}

module_init(patch_init);
module_exit(patch_exit);
MODULE_DESCRIPTION("A live patch that its parameters describe");
MODULE_LICENSE("GPL");
MODULE_INFO(livepatch, "Y");
