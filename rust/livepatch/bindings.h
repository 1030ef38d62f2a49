/* SPDX-License-Identifier: GPL-2.0 */
/* What bindgen reads to make rust/livepatch/bindings_generated.rs. */
#include <linux/livepatch.h>
#include "../../include/livepatch_helpers.h"
