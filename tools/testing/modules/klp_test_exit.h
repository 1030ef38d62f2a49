/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Patches of a function that an exiting task calls when it has left the task list. A task called
 * klp-exit stays in the replacement for as long as the parameter "hold" is set. The including file
 * defines REPLACE.
 */
#include <linux/livepatch.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/sched.h>
#include <linux/string.h>

static bool hold;
module_param(hold, bool, 0644);
MODULE_PARM_DESC(hold, "keeps a task called klp-exit from ending");

static bool held;
module_param(held, bool, 0444);
MODULE_PARM_DESC(held, "whether there is such a task");

/* In place of proc_exit_connector(), which tells those who listen for exits; there are none. */
static void new_exit_connector(struct task_struct *task)
{
	if (strcmp(task->comm, "klp-exit"))
		return;
	WRITE_ONCE(held, true);
	/* Runs, since a task that sleeps is not waited for. */
	while (READ_ONCE(hold))
		cpu_relax();
	WRITE_ONCE(held, false);
}

static struct klp_func funcs[] = {
	{ .old_name = "proc_exit_connector", .new_func = new_exit_connector },
	{ }
};

static struct klp_object objs[] = {
	{ .funcs = funcs },
	{ }
};

static struct klp_patch patch = {
	.mod = THIS_MODULE,
	.objs = objs,
	.replace = REPLACE,
};

static int __init exit_test_init(void)
{
	return klp_enable_patch(&patch);
}

static void __exit exit_test_exit(void)
{
}

module_init(exit_test_init);
module_exit(exit_test_exit);
MODULE_DESCRIPTION("A live patch that tasks run when they exit, for tests");
MODULE_LICENSE("GPL");
MODULE_INFO(livepatch, "Y");
