// SPDX-License-Identifier: GPL-2.0
#define REPLACE true
#include "klp_test_exit.h"
