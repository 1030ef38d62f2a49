// SPDX-License-Identifier: GPL-2.0
/*
 * A patch that allocates its description and frees it when it goes, as the kernel's
 * scripts/livepatch/init.c does, which is in every patch that klp-build makes.
 */
#include <linux/completion.h>
#include <linux/livepatch.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/slab.h>

#include "klp_test_grave.h"

static int init_ret;
module_param(init_ret, int, 0444);
MODULE_PARM_DESC(init_ret,
		 "what the init function returns when the patch is in force and the description freed");

static struct klp_patch *patch;

static DECLARE_COMPLETION(patched);

static int new_value(void)
{
	return 2;
}

static int pre_patch(struct klp_object *obj)
{
	return 0;
}

static void post_patch(struct klp_object *obj)
{
	complete(&patched);
}

static void pre_unpatch(struct klp_object *obj)
{
	pr_info("pre_unpatch: %s\n", obj->name);
}

static void post_unpatch(struct klp_object *obj)
{
	pr_info("post_unpatch: %s\n", obj->name);
}

static void free_patch(void)
{
	klp_test_bury(patch->states, 2 * sizeof(*patch->states));
	klp_test_bury(patch->objs->funcs, 2 * sizeof(*patch->objs->funcs));
	klp_test_bury(patch->objs, 2 * sizeof(*patch->objs));
	klp_test_bury(patch, sizeof(*patch));
}

static int __init patch_init(void)
{
	struct klp_state *states = kcalloc(2, sizeof(*states), GFP_KERNEL);
	struct klp_func *funcs = kcalloc(2, sizeof(*funcs), GFP_KERNEL);
	struct klp_object *objs = kcalloc(2, sizeof(*objs), GFP_KERNEL);
	int ret = -ENOMEM;

	patch = kzalloc(sizeof(*patch), GFP_KERNEL);
	if (!states || !funcs || !objs || !patch)
		goto err;
	states->id = 1;
	states->version = 1;
	states->data = THIS_MODULE;
	funcs->old_name = "klp_test_value";
	funcs->new_func = new_value;
	objs->name = "klp_test_target";
	objs->funcs = funcs;
	objs->callbacks.pre_patch = pre_patch;
	objs->callbacks.post_patch = post_patch;
	objs->callbacks.pre_unpatch = pre_unpatch;
	objs->callbacks.post_unpatch = post_unpatch;
	patch->mod = THIS_MODULE;
	patch->objs = objs;
	patch->states = states;

	ret = klp_enable_patch(patch);
	if (ret)
		goto err;
	if (init_ret) {
		wait_for_completion(&patched);
		free_patch();
	}
	return init_ret;

err:
	kfree(states);
	kfree(funcs);
	kfree(objs);
	kfree(patch);
	return ret;
}

static void __exit patch_exit(void)
{
	free_patch();
}

module_init(patch_init);
module_exit(patch_exit);
MODULE_DESCRIPTION("A live patch for tests that frees its description");
MODULE_LICENSE("GPL");
MODULE_INFO(livepatch, "Y");
