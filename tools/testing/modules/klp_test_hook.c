// SPDX-License-Identifier: GPL-2.0
/*
 * Somebody else who hooks a function: changes its instruction pointer, or holds its callers up; or
 * who holds up a module that comes.
 */
#include <linux/delay.h>
#include <linux/ftrace.h>
#include <linux/kprobes.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/notifier.h>
#include <linux/sched.h>
#include <linux/string.h>

static char *function = "klp_test_value";
module_param(function, charp, 0444);
MODULE_PARM_DESC(function, "the function or module");

static char *mode = "ipmodify";
module_param(mode, charp, 0444);
MODULE_PARM_DESC(mode, "ipmodify: may change the instruction pointer, and does not; grow: likewise, but is registered for another function first; delay: holds callers up; coming: holds a module up that comes");

static unsigned int ms = 1000;
module_param(ms, uint, 0444);
MODULE_PARM_DESC(ms, "for how long, in milliseconds");

static bool hold = true;
module_param(hold, bool, 0644);
MODULE_PARM_DESC(hold, "whether a module is still to be held up");

static bool reached;
module_param(reached, bool, 0444);
MODULE_PARM_DESC(reached, "whether a caller or module has been held up");

static void notrace unchanged(unsigned long ip, unsigned long parent_ip, struct ftrace_ops *ops,
			      struct ftrace_regs *fregs)
{
}

static struct ftrace_ops ops = {
	.func = unchanged,
	.flags = FTRACE_OPS_FL_IPMODIFY | FTRACE_OPS_FL_SAVE_REGS,
};

/* Nobody calls it. */
static noinline void another_function(void)
{
	barrier();
}

static int hook(void *address)
{
	return ftrace_set_filter_ip(&ops, (unsigned long)address, 0, 0);
}

static int delay(struct kprobe *probe, struct pt_regs *regs)
{
	WRITE_ONCE(reached, true);
	mdelay(ms);
	return 0;
}

static struct kprobe probe;

/* It is in the list of modules, and livepatch has been told. */
static int coming(struct notifier_block *block, unsigned long state, void *module)
{
	if (state != MODULE_STATE_COMING || strcmp(((struct module *)module)->name, function))
		return NOTIFY_DONE;
	while (READ_ONCE(hold)) {
		WRITE_ONCE(reached, true);
		schedule_timeout_idle(HZ / 50);
	}
	return NOTIFY_OK;
}

static struct notifier_block modules = { .notifier_call = coming };

static void stop(void)
{
	unregister_ftrace_function(&ops);
	ftrace_free_filter(&ops);
}

static int __init hook_init(void)
{
	int ret;

	if (!strcmp(mode, "coming"))
		return register_module_notifier(&modules);
	probe.symbol_name = function;
	if (!strcmp(mode, "delay")) {
		probe.pre_handler = delay;
		return register_kprobe(&probe);
	}
	/* A probe finds the function by any of its names. */
	ret = register_kprobe(&probe);
	if (ret)
		return ret;
	unregister_kprobe(&probe);
	if (strcmp(mode, "grow"))
		return hook(probe.addr) ?: register_ftrace_function(&ops);

	ret = hook(another_function) ?: register_ftrace_function(&ops);
	if (ret)
		return ret;
	ret = hook(probe.addr);
	if (ret)
		stop();
	return ret;
}

static void __exit hook_exit(void)
{
	if (!strcmp(mode, "coming")) {
		unregister_module_notifier(&modules);
		return;
	}
	if (probe.pre_handler) {
		unregister_kprobe(&probe);
		return;
	}
	stop();
}

module_init(hook_init);
module_exit(hook_exit);
MODULE_DESCRIPTION("Another user of a function, for livepatch tests");
MODULE_LICENSE("GPL");
