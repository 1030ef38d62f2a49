// SPDX-License-Identifier: GPL-2.0
/*
 * Makes ftrace stop working for good, as it does by itself when it finds a bug in its own data.
 * klp convert makes the reference to ftrace_kill() a livepatch relocation.
 */
#include <linux/ftrace.h>
#include <linux/module.h>

static int __init kill_init(void)
{
	ftrace_kill();
	return 0;
}

static void __exit kill_exit(void)
{
}

module_init(kill_init);
module_exit(kill_exit);
MODULE_DESCRIPTION("Kills ftrace, for livepatch tests");
MODULE_LICENSE("GPL");
MODULE_INFO(livepatch, "Y");
