// SPDX-License-Identifier: GPL-2.0
/*
 * Somebody else who hooks a function: changes its instruction pointer, or holds its callers up.
 */
#include <linux/delay.h>
#include <linux/ftrace.h>
#include <linux/kprobes.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/string.h>

static char *function = "klp_test_value";
module_param(function, charp, 0444);
MODULE_PARM_DESC(function, "the function");

static char *mode = "ipmodify";
module_param(mode, charp, 0444);
MODULE_PARM_DESC(mode, "ipmodify: may change the instruction pointer, and does not; grow: likewise, but is registered for another function first; delay: holds callers up");

static unsigned int ms = 1000;
module_param(ms, uint, 0444);
MODULE_PARM_DESC(ms, "for how long, in milliseconds");

static bool reached;
module_param(reached, bool, 0444);
MODULE_PARM_DESC(reached, "whether a caller has been held up");

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

static void stop(void)
{
	unregister_ftrace_function(&ops);
	ftrace_free_filter(&ops);
}

static int __init hook_init(void)
{
	int ret;

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
