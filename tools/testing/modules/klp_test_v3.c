// SPDX-License-Identifier: GPL-2.0
#define NUMBER 3
#define REPLACE true
#define FUNCTIONS "unknown"
#include "klp_test_stack.h"
