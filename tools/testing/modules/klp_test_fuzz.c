// SPDX-License-Identifier: GPL-2.0
/*
 * Patches as nobody should write them: made up from a seed, half filled, repeated, with names that are too long. Loading
 * the module tries cases from "first" on, until one is accepted or "count" have been tried; "results" has what came of
 * each.
 */
#include <linux/kernel.h>
#include <linux/livepatch.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/prandom.h>
#include <linux/seq_file.h>
#include <linux/string.h>

static unsigned long seed;
module_param(seed, ulong, 0444);
MODULE_PARM_DESC(seed, "what the cases are made from");

static unsigned int first;
module_param(first, uint, 0444);
MODULE_PARM_DESC(first, "the first case to try");

static int results[100];
static unsigned int tried;
module_param_array(results, int, &tried, 0444);
MODULE_PARM_DESC(results, "what came of each: 0 or an error");

static unsigned int count = ARRAY_SIZE(results);
module_param(count, uint, 0444);
MODULE_PARM_DESC(count, "how many cases to try");

#define OBJECTS 3
#define FUNCTIONS 3

static struct klp_func funcs[OBJECTS][FUNCTIONS + 1];
static struct klp_object objs[OBJECTS + 1];
static struct klp_state states[3];
static struct klp_patch patch;
static char long_names[4][600];
static int refusal;

static int new_value(void)
{
	return 2;
}

static int new_version(struct seq_file *m, void *v)
{
	seq_puts(m, "patched\n");
	return 0;
}

static int pre_patch(struct klp_object *obj)
{
	return refusal;
}

static void ignore(struct klp_object *obj)
{
}

/* One of "of" numbers. */
static u32 pick(struct rnd_state *random, u32 of)
{
	return prandom_u32_state(random) % of;
}

static const char *object_name(struct rnd_state *random)
{
	/* Not an empty one: the kernel itself warns of an empty name in sysfs. */
	switch (pick(random, 12)) {
	case 0:
		return "klp_test_absent";
	case 1:
		return "vmlinux";
	case 2:
		return long_names[pick(random, ARRAY_SIZE(long_names))];
	case 3:
	case 4:
		return NULL;
	default:
		return "klp_test_target";
	}
}

static const char *function_name(struct rnd_state *random, bool in_vmlinux)
{
	switch (pick(random, 16)) {
	case 0:
		return NULL;
	case 1:
		return "";
	case 2:
		return "klp_test_absent";
	case 3:
		return "klp_test_notrace";
	case 4:
		return long_names[pick(random, ARRAY_SIZE(long_names))];
	case 5:
		return "klp_test_twin";
	case 6:
		return "klp_test_other";
	default:
		return in_vmlinux ? "version_proc_show" : "klp_test_value";
	}
}

static void make_object(struct rnd_state *random, int index)
{
	static const int refusals[] = { 0, 0, -ENODEV, -EPERM, -EBUSY };
	struct klp_object *obj = &objs[index];
	int i, functions = pick(random, FUNCTIONS + 1);

	obj->name = object_name(random);
	if (pick(random, 10))
		obj->funcs = funcs[index];
	if (pick(random, 2)) {
		obj->callbacks.pre_patch = pre_patch;
		refusal = refusals[pick(random, ARRAY_SIZE(refusals))];
	}
	if (pick(random, 2))
		obj->callbacks.post_unpatch = ignore;
	for (i = 0; i < functions; i++) {
		struct klp_func *func = &funcs[index][i];

		func->old_name = function_name(random, !obj->name);
		if (pick(random, 10))
			func->new_func = obj->name ? (void *)new_value : (void *)new_version;
		if (!pick(random, 4))
			func->old_sympos = pick(random, 5) ? pick(random, 4) : ULONG_MAX;
	}
	/* The same one twice. */
	if (functions == 2 && !pick(random, 3))
		funcs[index][1] = funcs[index][0];
}

static void make_patch(unsigned int number)
{
	struct rnd_state random;
	int i, objects, number_of_states;

	prandom_seed_state(&random, seed * 1000003 + number);
	memset(funcs, 0, sizeof(funcs));
	memset(objs, 0, sizeof(objs));
	memset(states, 0, sizeof(states));
	memset(&patch, 0, sizeof(patch));
	refusal = 0;

	objects = pick(&random, OBJECTS + 1);
	for (i = 0; i < objects; i++)
		make_object(&random, i);
	if (objects > 1 && !pick(&random, 4))
		objs[1].name = objs[0].name;
	patch.replace = pick(&random, 2);
	if (pick(&random, 20))
		patch.objs = objs;
	if (pick(&random, 20))
		patch.mod = THIS_MODULE;
	if (pick(&random, 2)) {
		patch.states = states;
		number_of_states = pick(&random, ARRAY_SIZE(states));
		for (i = 0; i < number_of_states; i++)
			states[i] = (struct klp_state){ .id = pick(&random, 3), .version = pick(&random, 3) };
	}
}

static int __init fuzz_init(void)
{
	/* The longest names that are allowed, and one more. */
	static const int lengths[] = { MODULE_NAME_LEN - 1, MODULE_NAME_LEN, KSYM_NAME_LEN - 1, KSYM_NAME_LEN };
	int i, ret = 1;

	if (count > ARRAY_SIZE(results))
		return -EINVAL;
	tried = 0;
	for (i = 0; i < (int)ARRAY_SIZE(lengths); i++)
		memset(long_names[i], 'x', lengths[i]);
	while (tried < count && ret) {
		make_patch(first + tried);
		ret = klp_enable_patch(&patch);
		results[tried++] = ret;
	}
	return 0;
}

static void __exit fuzz_exit(void)
{
}

module_init(fuzz_init);
module_exit(fuzz_exit);
MODULE_DESCRIPTION("Made-up live patches, for tests");
MODULE_LICENSE("GPL");
MODULE_INFO(livepatch, "Y");
