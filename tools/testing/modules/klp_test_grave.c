// SPDX-License-Identifier: GPL-2.0
/*
 * Keeps memory that another module has freed, as a debugging allocator does: who reads it finds
 * poison, and the parameter "disturbed" says how many bytes have been written to.
 */
#include <linux/minmax.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/poison.h>
#include <linux/slab.h>
#include <linux/string.h>

#include "klp_test_grave.h"

static struct {
	void *memory;
	size_t size;
} graves[8];

static unsigned int count;

void klp_test_bury(void *memory, size_t size)
{
	if (WARN_ON(count == ARRAY_SIZE(graves)))
		return;
	memset(memory, POISON_FREE, size);
	graves[count].memory = memory;
	graves[count++].size = size;
}
EXPORT_SYMBOL_GPL(klp_test_bury);

static int get_disturbed(char *buffer, const struct kernel_param *kp)
{
	size_t disturbed = 0;

	for (unsigned int i = 0; i < count; i++) {
		const u8 *bytes = graves[i].memory;

		for (size_t j = 0; j < graves[i].size; j++)
			disturbed += READ_ONCE(bytes[j]) != POISON_FREE;
	}
	return sysfs_emit(buffer, "%zu\n", disturbed);
}

static const struct kernel_param_ops disturbed_ops = { .get = get_disturbed };
module_param_cb(disturbed, &disturbed_ops, NULL, 0444);

static int __init grave_init(void)
{
	return 0;
}

static void __exit grave_exit(void)
{
	while (count)
		kfree(graves[--count].memory);
}

module_init(grave_init);
module_exit(grave_exit);
MODULE_DESCRIPTION("Freed memory, for tests");
MODULE_LICENSE("GPL");
