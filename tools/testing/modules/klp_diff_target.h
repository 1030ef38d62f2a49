/* SPDX-License-Identifier: GPL-2.0 */
#ifndef KLP_DIFF_TARGET_H
#define KLP_DIFF_TARGET_H

int klp_diff_a(void);
int klp_diff_b(void);
int klp_diff_c(void);
int klp_diff_notrace(void);
int klp_diff_second_twin(void);
const char *klp_diff_sleep(void);

#endif
