// SPDX-License-Identifier: GPL-2.0
/*
 * A complete live patch of a function of vmlinux: what /proc/cmdline shows.
 *
 *	# cat /proc/cmdline
 *	console=ttyS0 root=/dev/vda
 *	# insmod livepatch-cmdline.ko
 *	# cat /proc/cmdline
 *	console=ttyS0 root=/dev/vda live-patched
 *	# ls /sys/kernel/livepatch/livepatch_cmdline
 *	enabled  force  replace  stack_order  transition  vmlinux
 *	# echo 0 > /sys/kernel/livepatch/livepatch_cmdline/enabled
 *	# cat /proc/cmdline
 *	console=ttyS0 root=/dev/vda
 *	# rmmod livepatch_cmdline
 *
 * The patch uses saved_command_line, which the kernel does not export: samples.symvers names it, and
 * klp convert turns the references into relocations that the kernel's loader resolves in live patches.
 */
#include <linux/init.h>
#include <linux/livepatch.h>
#include <linux/module.h>
#include <linux/seq_file.h>

/* Takes the place of cmdline_proc_show(), so it has the same parameters and the same contract. */
static int show_marked_cmdline(struct seq_file *m, void *v)
{
	seq_printf(m, "%s live-patched\n", saved_command_line);
	return 0;
}

/* Both lists end with an empty entry. */
static struct klp_func funcs[] = {
	{ .old_name = "cmdline_proc_show", .new_func = show_marked_cmdline },
	{ }
};

/* Without a name: vmlinux. */
static struct klp_object objs[] = {
	{ .funcs = funcs },
	{ }
};

static struct klp_patch patch = {
	.mod = THIS_MODULE,
	.objs = objs,
};

static int __init cmdline_patch_init(void)
{
	return klp_enable_patch(&patch);
}

/* Only reached when the patch has been disabled: until then the core holds a reference on this module. */
static void __exit cmdline_patch_exit(void)
{
}

module_init(cmdline_patch_init);
module_exit(cmdline_patch_exit);
MODULE_DESCRIPTION("Live patch of /proc/cmdline");
MODULE_LICENSE("GPL");
MODULE_INFO(livepatch, "Y");
