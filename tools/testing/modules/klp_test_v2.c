// SPDX-License-Identifier: GPL-2.0
#define NUMBER 2
#define REPLACE true
#include "klp_test_stack.h"
