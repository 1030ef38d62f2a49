// SPDX-License-Identifier: GPL-2.0
#define REPLACE false
#include "klp_test_exit.h"
