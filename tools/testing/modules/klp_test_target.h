/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _KLP_TEST_TARGET_H_
#define _KLP_TEST_TARGET_H_

int klp_test_second_twin(void);

#endif /* _KLP_TEST_TARGET_H_ */
