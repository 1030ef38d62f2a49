/* SPDX-License-Identifier: GPL-2.0 */
/* What bindgen reads to make klp_bindings.rs. */
#include <linux/livepatch.h>
