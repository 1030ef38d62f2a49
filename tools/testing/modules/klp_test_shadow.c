// SPDX-License-Identifier: GPL-2.0
/*
 * Uses shadow variables in every way. Writing a test's name to the parameter "run" runs it; the write fails if the test
 * does, after a message that says where.
 */
#include <linux/cleanup.h>
#include <linux/completion.h>
#include <linux/irqflags.h>
#include <linux/kthread.h>
#include <linux/livepatch.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/prandom.h>
#include <linux/rcupdate.h>
#include <linux/sched.h>
#include <linux/string.h>

#define ID 0x4b4c50
#define OTHER_ID 0x4b4c51

struct data {
	void *obj;
	unsigned long id;
	unsigned long zero;
};

/* Objects that variables are attached to; only their addresses matter. */
static char objects[8];

static atomic_t constructed, destroyed, wrong;

#define CHECK(condition)						\
	do {								\
		if (!(condition)) {					\
			pr_err("%s: line %d: %s\n", __func__, __LINE__, #condition); \
			return -EINVAL;					\
		}							\
	} while (0)

/* Constructors and destructors run under a spinlock, which PREEMPT_RT takes with interrupts enabled. */
static bool under_lock(void)
{
	return irqs_disabled() || IS_ENABLED(CONFIG_PREEMPT_RT);
}

static int construct(void *obj, void *shadow_data, void *ctor_data)
{
	struct data *data = shadow_data;

	if (!under_lock() || data->obj || data->id || data->zero)
		atomic_inc(&wrong);
	data->obj = obj;
	data->id = *(unsigned long *)ctor_data;
	atomic_inc(&constructed);
	return 0;
}

static int fail_to_construct(void *obj, void *shadow_data, void *ctor_data)
{
	return -ENODATA;
}

static void destroy(void *obj, void *shadow_data)
{
	struct data *data = shadow_data;

	if (!under_lock() || data->obj != obj || (data->id != ID && data->id != OTHER_ID))
		atomic_inc(&wrong);
	atomic_inc(&destroyed);
}

static struct data *get_or_alloc(void *obj, unsigned long id, gfp_t gfp)
{
	return klp_shadow_get_or_alloc(obj, id, sizeof(struct data), gfp, construct, &id);
}

static int test_basic(void)
{
	unsigned long id = ID;
	struct data *data, *other;
	char *plain;
	int i;

	atomic_set(&constructed, 0);
	atomic_set(&destroyed, 0);
	atomic_set(&wrong, 0);

	/* Nothing there. */
	CHECK(!klp_shadow_get(&objects[0], ID));
	klp_shadow_free(&objects[0], ID, destroy);
	klp_shadow_free_all(ID, destroy);
	CHECK(atomic_read(&destroyed) == 0);

	/* Made, found, zeroes; what is attached to NULL and to other objects, or has another identifier, is different. */
	plain = klp_shadow_alloc(&objects[0], ID, 100, GFP_KERNEL, NULL, NULL);
	CHECK(plain);
	CHECK(!memchr_inv(plain, 0, 100));
	CHECK(klp_shadow_get(&objects[0], ID) == plain);
	CHECK(!klp_shadow_get(&objects[1], ID));
	CHECK(!klp_shadow_get(&objects[0], OTHER_ID));
	CHECK(!klp_shadow_get(NULL, ID));
	CHECK(klp_shadow_get_or_alloc(&objects[0], ID, 100, GFP_KERNEL, construct, &id) == plain);
	CHECK(atomic_read(&constructed) == 0);
	klp_shadow_free(&objects[0], ID, NULL);
	CHECK(!klp_shadow_get(&objects[0], ID));

	/* Constructed and destroyed once. */
	data = klp_shadow_alloc(&objects[0], ID, sizeof(*data), GFP_KERNEL, construct, &id);
	CHECK(data && data->obj == &objects[0] && data->id == ID && !data->zero);
	CHECK(get_or_alloc(&objects[0], ID, GFP_KERNEL) == data);
	CHECK(atomic_read(&constructed) == 1);
	klp_shadow_free(&objects[0], ID, destroy);
	klp_shadow_free(&objects[0], ID, destroy);
	CHECK(atomic_read(&destroyed) == 1);

	/* Failures leave nothing behind. */
	CHECK(!klp_shadow_alloc(&objects[0], ID, 8, GFP_KERNEL, fail_to_construct, NULL));
	CHECK(!klp_shadow_get_or_alloc(&objects[0], ID, 8, GFP_KERNEL, fail_to_construct, NULL));
	CHECK(!klp_shadow_alloc(&objects[0], ID, 1UL << 40, GFP_KERNEL | __GFP_NOWARN, construct, &id));
	CHECK(!klp_shadow_get(&objects[0], ID));
	CHECK(atomic_read(&constructed) == 1);

	/* All with one identifier go, others stay. */
	for (i = 0; i < ARRAY_SIZE(objects); i++) {
		CHECK(get_or_alloc(&objects[i], ID, GFP_KERNEL));
		CHECK(get_or_alloc(&objects[i], OTHER_ID, GFP_KERNEL));
	}
	klp_shadow_free_all(ID, destroy);
	CHECK(atomic_read(&destroyed) == 1 + ARRAY_SIZE(objects));
	for (i = 0; i < ARRAY_SIZE(objects); i++) {
		CHECK(!klp_shadow_get(&objects[i], ID));
		other = klp_shadow_get(&objects[i], OTHER_ID);
		CHECK(other && other->obj == &objects[i] && other->id == OTHER_ID);
	}
	klp_shadow_free_all(OTHER_ID, destroy);

	/* Where nothing may sleep; with PREEMPT_RT, the lock may. */
	if (!IS_ENABLED(CONFIG_PREEMPT_RT)) {
		scoped_guard(irqsave) {
			CHECK(get_or_alloc(&objects[0], ID, GFP_ATOMIC));
			CHECK(klp_shadow_get(&objects[0], ID));
			klp_shadow_free(&objects[0], ID, destroy);
			CHECK(irqs_disabled());
		}
	}
	CHECK(atomic_read(&constructed) == atomic_read(&destroyed));
	CHECK(atomic_read(&wrong) == 0);
	return 0;
}

/* Warns. */
static int test_duplicate(void)
{
	void *first = klp_shadow_alloc(&objects[0], ID, 8, GFP_KERNEL, NULL, NULL);
	void *second = klp_shadow_alloc(&objects[0], ID, 8, GFP_KERNEL, NULL, NULL);
	void *found = klp_shadow_get(&objects[0], ID);

	klp_shadow_free(&objects[0], ID, NULL);
	CHECK(first && !second && found == first);
	return 0;
}

/* Variables that outlive a change of cores. */
static struct data *held[ARRAY_SIZE(objects)];

static int test_hold(void)
{
	int i;

	for (i = 0; i < ARRAY_SIZE(objects); i++) {
		struct data *data = get_or_alloc(&objects[i], ID, GFP_KERNEL);

		CHECK(data && (!held[i] || held[i] == data));
		CHECK(data->obj == &objects[i]);
		held[i] = data;
	}
	return 0;
}

static int test_release(void)
{
	int i;

	atomic_set(&destroyed, 0);
	for (i = 0; i < ARRAY_SIZE(objects); i++) {
		CHECK(klp_shadow_get(&objects[i], ID) == held[i]);
		held[i] = NULL;
	}
	klp_shadow_free_all(ID, destroy);
	CHECK(atomic_read(&destroyed) == ARRAY_SIZE(objects));
	CHECK(!klp_shadow_get(&objects[0], ID));
	return 0;
}

#define STRESS_THREADS 4
#define STRESS_STEPS 20000

static DECLARE_COMPLETION(stress_done);
static atomic_t stressing;

static int stress(void *arg)
{
	struct rnd_state random;
	struct data *data;
	unsigned long id;
	char *obj;
	int i;

	prandom_seed_state(&random, (unsigned long)arg);
	for (i = 0; i < STRESS_STEPS; i++) {
		obj = &objects[prandom_u32_state(&random) % ARRAY_SIZE(objects)];
		id = prandom_u32_state(&random) % 2 ? ID : OTHER_ID;
		switch (prandom_u32_state(&random) % 64) {
		case 0:
			klp_shadow_free_all(id, destroy);
			break;
		case 1 ... 20:
			klp_shadow_free(obj, id, destroy);
			break;
		default:
			/* The data stay for as long as RCU is held. */
			scoped_guard(rcu) {
				data = i % 2 ? klp_shadow_get(obj, id) : get_or_alloc(obj, id, GFP_ATOMIC);
				if (data && (data->obj != obj || data->id != id))
					atomic_inc(&wrong);
			}
		}
		cond_resched();
	}
	if (atomic_dec_and_test(&stressing))
		complete(&stress_done);
	/* Until nobody is in this module any more. */
	while (!kthread_should_stop())
		schedule_timeout_interruptible(1);
	return 0;
}

static int test_stress(void)
{
	struct task_struct *threads[STRESS_THREADS];
	long i;

	atomic_set(&constructed, 0);
	atomic_set(&destroyed, 0);
	atomic_set(&wrong, 0);
	atomic_set(&stressing, STRESS_THREADS);
	reinit_completion(&stress_done);
	for (i = 0; i < STRESS_THREADS; i++) {
		threads[i] = kthread_run(stress, (void *)(i + 1), "klp_stress/%ld", i);
		if (IS_ERR(threads[i]) && atomic_dec_and_test(&stressing))
			complete(&stress_done);
	}
	wait_for_completion(&stress_done);
	for (i = 0; i < STRESS_THREADS; i++)
		CHECK(!IS_ERR(threads[i]) && !kthread_stop(threads[i]));
	CHECK(atomic_read(&constructed) > 0);
	klp_shadow_free_all(ID, destroy);
	klp_shadow_free_all(OTHER_ID, destroy);
	CHECK(atomic_read(&wrong) == 0);
	CHECK(atomic_read(&constructed) == atomic_read(&destroyed));
	return 0;
}

static const struct {
	const char *name;
	int (*run)(void);
} tests[] = {
	{ "basic", test_basic },
	{ "duplicate", test_duplicate },
	{ "hold", test_hold },
	{ "release", test_release },
	{ "stress", test_stress },
};

static int run(const char *name, const struct kernel_param *kp)
{
	int i;

	for (i = 0; i < ARRAY_SIZE(tests); i++)
		if (sysfs_streq(name, tests[i].name))
			return tests[i].run();
	return -ENOENT;
}

static const struct kernel_param_ops run_ops = { .set = run };
module_param_cb(run, &run_ops, NULL, 0200);
MODULE_PARM_DESC(run, "runs a test: basic, duplicate, hold, release, stress");

static int __init shadow_init(void)
{
	return 0;
}

static void __exit shadow_exit(void)
{
}

module_init(shadow_init);
module_exit(shadow_exit);
MODULE_DESCRIPTION("Uses shadow variables, for tests");
MODULE_LICENSE("GPL");
