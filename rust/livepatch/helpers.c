// SPDX-License-Identifier: GPL-2.0
/*
 * What the Rust core needs of the kernel that exists only as C macros and inline functions, and the
 * entry of the ftrace handler, which is made of them.
 */
#include <linux/cpu.h>
#include <linux/cpumask.h>
#include <linux/delay.h>
#include <linux/ftrace.h>
#include <linux/hashtable.h>
#include <linux/hrtimer.h>
#include <linux/irq_work.h>
#include <linux/interrupt.h>
#include <linux/jump_label.h>
#include <linux/kallsyms.h>
#include <linux/livepatch.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/percpu.h>
#include <linux/pid.h>
#include <linux/pid_namespace.h>
#include <linux/preempt.h>
#include <linux/rcupdate.h>
#include <linux/rethook.h>
#include <linux/sched/signal.h>
#include <linux/sched/task.h>
#include <linux/sched/task_stack.h>
#include <linux/slab.h>
#include <linux/smp.h>
#include <linux/spinlock.h>
#include <linux/stacktrace.h>
#include <linux/workqueue.h>

#include "../../include/livepatch_helpers.h"

/* The loader resolves relocations against unexported symbols only in modules marked like this. */
MODULE_INFO(livepatch, "Y");
MODULE_VERSION("0.1.0");

/*
 * Runs in the context of the patched function: any, NMI included. Whatever it calls must not be
 * traceable, which __always_inline functions and Rust code are not.
 */
notrace void livepatch_ftrace_thunk(unsigned long ip, unsigned long parent_ip,
				    struct ftrace_ops *ops, struct ftrace_regs *fregs)
{
	unsigned long target;

	/*
	 * This is what the core's synchronisation waits for. Nothing from here to there can be
	 * intercepted, but for a warning that is given once, so there is no recursion to protect
	 * against; an interrupt in between may come here on its own.
	 */
	preempt_disable_notrace();
	target = livepatch_select(ip);
	if (target)
		ftrace_regs_set_instruction_pointer(fregs, target);
	preempt_enable_notrace();
}

notrace int livepatch_current_patch_state(void)
{
	return READ_ONCE(current->patch_state);
}

unsigned long livepatch_ftrace_flags(bool save_regs)
{
	unsigned long flags = FTRACE_OPS_FL_DYNAMIC | FTRACE_OPS_FL_IPMODIFY |
			      FTRACE_OPS_FL_PERMANENT;

	/*
	 * Without argument registers in ftrace_regs, the instruction pointer can only be set in a
	 * full pt_regs.
	 */
	if (save_regs || !IS_ENABLED(CONFIG_HAVE_DYNAMIC_FTRACE_WITH_ARGS))
		flags |= FTRACE_OPS_FL_SAVE_REGS;
	return flags;
}

bool livepatch_has_direct_call(unsigned long ip)
{
	return ftrace_find_rec_direct(ip);
}

bool livepatch_in_module_init(unsigned long address)
{
	struct module *mod;

	guard(rcu)();
	mod = __module_address(address);
	return mod && within_module_init(address, mod);
}

/*
 * Without the second, ftrace would jump where its ops says, not where the hash does, while it calls
 * others too.
 */
#if defined(CONFIG_DYNAMIC_FTRACE_WITH_JMP) && defined(CONFIG_HAVE_SINGLE_FTRACE_DIRECT_OPS)

/*
 * ftrace asks this when a jump comes to a function where somebody changes the instruction pointer,
 * which is this module's own handler (..._SELF), and when somebody who does that is registered for
 * a function with a jump (..._PEER). It does not ask when the filter of the latter grows later.
 */
static int share_jump(struct ftrace_ops *ops, unsigned long ip, enum ftrace_ops_cmd cmd)
{
	return cmd == FTRACE_OPS_CMD_ENABLE_SHARE_IPMODIFY_PEER ? -EBUSY : 0;
}

static struct ftrace_ops jump_ops = {
	.ops_func = share_jump,
};

/*
 * The kernel's two functions are not called through pointers: since nothing in vmlinux does that,
 * a kernel with IBT seals them, and an indirect call would be an exception.
 */
static int update_jumps(const struct livepatch_jump *jumps, unsigned int count, bool add)
{
	struct ftrace_hash *hash;
	int ret = 0;

	/* On a dead ftrace, an update changes nothing and succeeds. */
	if (ftrace_is_dead())
		return -ENODEV;
	hash = alloc_ftrace_hash(FTRACE_HASH_DEFAULT_BITS);
	if (!hash)
		return -ENOMEM;
	for (unsigned int i = 0; !ret && i < count; i++)
		if (!add_ftrace_hash_entry_direct(hash, jumps[i].ip, ftrace_jmp_set(jumps[i].target)))
			ret = -ENOMEM;
	/* They copy what they need. */
	if (!ret && add)
		ret = update_ftrace_direct_add(&jump_ops, hash);
	else if (!ret)
		ret = update_ftrace_direct_del(&jump_ops, hash);
	free_ftrace_hash(hash);
	return ret;
}

bool livepatch_can_jump(void)
{
	return true;
}

int livepatch_add_jumps(const struct livepatch_jump *jumps, unsigned int count)
{
	return update_jumps(jumps, count, true);
}

int livepatch_remove_jumps(const struct livepatch_jump *jumps, unsigned int count)
{
	int ret = update_jumps(jumps, count, false);

	/* It may have died of this update, and not have got to all functions. */
	return ret ?: ftrace_is_dead() ? -ENODEV : 0;
}

#else

bool livepatch_can_jump(void)
{
	return false;
}

int livepatch_add_jumps(const struct livepatch_jump *jumps, unsigned int count)
{
	return -EOPNOTSUPP;
}

int livepatch_remove_jumps(const struct livepatch_jump *jumps, unsigned int count)
{
	return -EOPNOTSUPP;
}

#endif

noinline void livepatch_jump_anchor(void)
{
	barrier();
}

noinline notrace void livepatch_jump_anchor_target(void)
{
	barrier();
}

noinline void livepatch_filter_anchor(void)
{
	barrier();
}

bool livepatch_module_memory(struct module *mod, unsigned long address, unsigned long *start,
			     unsigned long *end)
{
	for_each_mod_mem_type(type) {
		/* The loader takes what is for the module's init function away in between. */
		unsigned long base = (unsigned long)READ_ONCE(mod->mem[type].base);
		unsigned long size = READ_ONCE(mod->mem[type].size);

		if (address - base < size) {
			*start = base;
			*end = base + size;
			return true;
		}
	}
	return false;
}

struct stack_entries {
	bool claimed;
	unsigned long entries[LIVEPATCH_MAX_STACK_ENTRIES];
};

static DEFINE_PER_CPU(struct stack_entries, stack_entries);

static struct stack_entries *claim_stack_entries(void)
{
	struct stack_entries *buffer;

	lockdep_assert_preemption_disabled();
	buffer = this_cpu_ptr(&stack_entries);
	/* An interrupt that claims the buffer in between has released it when it returns. */
	if (READ_ONCE(buffer->claimed))
		return NULL;
	WRITE_ONCE(buffer->claimed, true);
	return buffer;
}

/* The entries, of which @saved have been written; NULL for an errno, and nothing is claimed then. */
static unsigned long *stack_entries_of(struct stack_entries *buffer, int saved, unsigned int *count)
{
	if (saved < 0) {
		WRITE_ONCE(buffer->claimed, false);
		return NULL;
	}
	*count = saved;
	return buffer->entries;
}

unsigned long *livepatch_save_stack(struct task_struct *task, unsigned int *count)
{
	struct stack_entries *buffer = claim_stack_entries();
	int saved;

	if (!buffer)
		return NULL;
	saved = stack_trace_save_tsk_reliable(task, buffer->entries, ARRAY_SIZE(buffer->entries));
	return stack_entries_of(buffer, saved, count);
}

#ifdef CONFIG_X86_64

/*
 * Where a function returns to whose return is traced. As long as that runs, or is to run, the
 * address where it really returns to is not on the stack.
 */
static struct {
	unsigned long start;
	unsigned long size;
} return_trampolines[] __ro_after_init = {
#ifdef CONFIG_FUNCTION_GRAPH_TRACER
	{ .start = (unsigned long)return_to_handler },
#endif
#ifdef CONFIG_RETHOOK
	{ .start = (unsigned long)arch_rethook_trampoline },
#endif
};

static bool know_return_trampolines __ro_after_init;

void livepatch_stacks_init(void)
{
	unsigned long offset;

	for (unsigned int i = 0; i < ARRAY_SIZE(return_trampolines); i++)
		if (!kallsyms_lookup_size_offset(return_trampolines[i].start,
						 &return_trampolines[i].size, &offset) || offset)
			return;
	know_return_trampolines = true;
}

static bool in_return_trampoline(unsigned long word)
{
	for (unsigned int i = 0; i < ARRAY_SIZE(return_trampolines); i++)
		if (word - return_trampolines[i].start < return_trampolines[i].size)
			return true;
	return false;
}

/* Saves words up to the end of the stack, and returns how many, or an errno. */
static int save_text_words(const unsigned long *stack, const unsigned long *word,
			   unsigned long start, unsigned long size, unsigned long *words,
			   int max_count)
{
	const unsigned long *end = (void *)stack + THREAD_SIZE;
	int count = 0;

	if (word < stack || word >= end || !IS_ALIGNED((unsigned long)word, sizeof(*word)))
		return -EINVAL;
	for (; word < end; word++) {
		/* Parts of a stack that no function uses are out of bounds for KASAN. */
		unsigned long value = READ_ONCE_NOCHECK(*word);

		if (likely(value < __START_KERNEL_map))
			continue;
		/* All code that is not in the kernel's image: modules, and what is generated. */
		if (value - MODULES_VADDR < MODULES_LEN || in_return_trampoline(value))
			return -EINVAL;
		if (value - start >= size)
			continue;
		if (count == max_count)
			return -ENOSPC;
		words[count++] = value;
	}
	return count;
}

unsigned long *livepatch_save_text_words(struct task_struct *task, unsigned long start,
					 unsigned long size, unsigned int *count)
{
	struct stack_entries *buffer;
	unsigned long *stack;
	int saved = 0;

	if (!know_return_trampolines)
		return NULL;
	buffer = claim_stack_entries();
	if (!buffer)
		return NULL;
	/* A task that is dead has none. */
	stack = try_get_task_stack(task);
	if (stack) {
		saved = save_text_words(stack, (unsigned long *)READ_ONCE(task->thread.sp), start,
					size, buffer->entries, ARRAY_SIZE(buffer->entries));
		put_task_stack(task);
	}
	return stack_entries_of(buffer, saved, count);
}

#else

void livepatch_stacks_init(void)
{
}

unsigned long *livepatch_save_text_words(struct task_struct *task, unsigned long start,
					 unsigned long size, unsigned int *count)
{
	return NULL;
}

#endif

void livepatch_release_stack(void)
{
	lockdep_assert_preemption_disabled();
	WRITE_ONCE(this_cpu_ptr(&stack_entries)->claimed, false);
}

bool livepatch_task_pending(struct task_struct *task)
{
	return test_tsk_thread_flag(task, TIF_PATCH_PENDING);
}

void livepatch_set_task_pending(struct task_struct *task)
{
	set_tsk_thread_flag(task, TIF_PATCH_PENDING);
}

void livepatch_clear_task_pending(struct task_struct *task)
{
	clear_tsk_thread_flag(task, TIF_PATCH_PENDING);
}

bool livepatch_test_and_clear_task_pending(struct task_struct *task)
{
	return test_and_clear_tsk_thread_flag(task, TIF_PATCH_PENDING);
}

void livepatch_notify_task(struct task_struct *task)
{
	set_notify_signal(task);
}

struct task_struct *livepatch_next_task(struct task_struct *task)
{
	struct task_struct *next;

	lockdep_assert_held(&tasklist_lock);
	if (task) {
		next = __next_thread(task);
		if (next)
			return next;
	}

	next = next_task(task ? task->group_leader : &init_task);
	if (next == &init_task)
		return NULL;
	return list_first_entry(&next->signal->thread_head, struct task_struct, thread_node);
}

/* Under tasklist_lock a task has its pid exactly while it is on the list. */
bool livepatch_task_listed(struct task_struct *task)
{
	lockdep_assert_held(&tasklist_lock);
	return pid_alive(task);
}

void livepatch_cond_resched(void)
{
	cond_resched();
}

bool livepatch_fatal_signal_pending(void)
{
	return fatal_signal_pending(current);
}

void livepatch_tasklist_read_lock(void)
{
	read_lock(&tasklist_lock);
}

void livepatch_tasklist_read_unlock(void)
{
	read_unlock(&tasklist_lock);
}

struct task_struct *livepatch_task_from_pid(pid_t *pid)
{
	struct task_struct *task;
	struct pid *found;

	guard(rcu)();
	for (; (found = find_ge_pid(*pid, &init_pid_ns)); ++*pid) {
		*pid = pid_nr(found);
		/* A PID may outlive its task, as the name of a process group. */
		task = get_pid_task(found, PIDTYPE_PID);
		if (task)
			return task;
	}
	return NULL;
}

bool livepatch_cpu_possible(unsigned int cpu)
{
	return cpu_possible(cpu);
}

bool livepatch_cpu_online(unsigned int cpu)
{
	return cpu_online(cpu);
}

void livepatch_trigger(struct irq_work *work)
{
	guard(preempt)();
	/* A CPU goes offline only where preemption is possible. */
	if (cpu_online(smp_processor_id()))
		irq_work_queue(work);
}

/* Without tracing: one caller is on the way from the kernel to user space. */
void livepatch_preempt_disable(void)
{
	preempt_disable_notrace();
}

void livepatch_preempt_enable(void)
{
	preempt_enable_notrace();
}

void livepatch_sched_switch_enable(void)
{
	static_branch_enable(&klp_sched_try_switch_key);
}

void livepatch_sched_switch_disable(void)
{
	static_branch_disable(&klp_sched_try_switch_key);
}

/* Between two looks at what runs on a CPU: long enough not to be felt there. */
#define LOOK_INTERVAL_NS (100 * NSEC_PER_USEC)

struct looks {
	struct hrtimer timer;
	unsigned int left;
	bool wanted;
};

static DEFINE_PER_CPU(struct looks, cpu_looks);

/*
 * Whether this is a hard interrupt that has come in user space or, in the kernel, where the task
 * could have been preempted: not in a softirq, with preemption disabled, or on the way through the
 * scheduler. The first one of these is missing where smp_call_function_single() does without an
 * interrupt: on the CPU that calls it, and in the idle loop.
 */
static bool interrupted_preemptible(void)
{
	return IS_ENABLED(CONFIG_PREEMPT_COUNT) && preempt_count() == HARDIRQ_OFFSET;
}

/* A timer of a CPU that has gone offline goes on elsewhere. */
static enum hrtimer_restart look_again(struct hrtimer *timer)
{
	struct looks *looks = container_of(timer, struct looks, timer);
	unsigned int left = READ_ONCE(looks->left);

	if (interrupted_preemptible() && livepatch_look() == LIVEPATCH_LOOK_OVER)
		return HRTIMER_NORESTART;
	if (left <= 1)
		return HRTIMER_NORESTART;
	WRITE_ONCE(looks->left, left - 1);
	hrtimer_forward_now(timer, ns_to_ktime(LOOK_INTERVAL_NS));
	return HRTIMER_RESTART;
}

static void look_first(void *times)
{
	struct looks *looks = this_cpu_ptr(&cpu_looks);

	if (interrupted_preemptible() && livepatch_look() != LIVEPATCH_LOOK_AGAIN)
		return;
	/* Without a preemption counter, a timer would look for nothing. */
	if (!IS_ENABLED(CONFIG_PREEMPT_COUNT))
		return;
	/* It may be running on another CPU if this one was offline; then it looks too seldom at worst. */
	if (hrtimer_try_to_cancel(&looks->timer) < 0)
		return;
	WRITE_ONCE(looks->left, *(unsigned int *)times);
	if (*(unsigned int *)times)
		hrtimer_start(&looks->timer, ns_to_ktime(LOOK_INTERVAL_NS),
			      HRTIMER_MODE_REL_PINNED_HARD);
}

void livepatch_looks_init(void)
{
	unsigned int cpu;

	for_each_possible_cpu(cpu)
		hrtimer_setup(&per_cpu(cpu_looks, cpu).timer, look_again, CLOCK_MONOTONIC,
			      HRTIMER_MODE_REL_PINNED_HARD);
}

void livepatch_looks_want(struct task_struct *task)
{
	WRITE_ONCE(per_cpu(cpu_looks, task_cpu(task)).wanted, true);
}

void livepatch_looks_start(unsigned int cpu, unsigned int times)
{
	/* A CPU that has gone offline is not interrupted: nothing runs there. */
	if (xchg(&per_cpu(cpu_looks, cpu).wanted, false))
		smp_call_function_single(cpu, look_first, &times, true);
}

void livepatch_looks_cancel(void)
{
	unsigned int cpu;

	for_each_possible_cpu(cpu)
		hrtimer_cancel(&per_cpu(cpu_looks, cpu).timer);
}

/* How often a CPU is interrupted to find it where preemption is possible, and the time between. */
#define SYNC_ATTEMPTS 10
#define SYNC_INTERVAL_US 10

enum interrupted {
	INTERRUPTED_PREEMPTIBLE,
	INTERRUPTED_IDLE,
	INTERRUPTED_OTHER,
};

static DEFINE_PER_CPU(struct work_struct, sync_work);

static void note_interrupted(void *result)
{
	enum interrupted *interrupted = result;

	if (interrupted_preemptible())
		*interrupted = INTERRUPTED_PREEMPTIBLE;
	else if (is_idle_task(current))
		*interrupted = INTERRUPTED_IDLE;
	else
		*interrupted = INTERRUPTED_OTHER;
}

/* Whether @cpu, which is online, has now been where preemption is possible. */
static bool sync_by_interrupt(int cpu)
{
	enum interrupted interrupted = INTERRUPTED_OTHER;

	for (int i = 0; i < SYNC_ATTEMPTS; i++) {
		scoped_guard(preempt) {
			/* The caller's own context is one where preemption is possible. */
			if (cpu == smp_processor_id())
				return true;
			/* Otherwise nothing tells where preemption is possible. */
			if (!IS_ENABLED(CONFIG_PREEMPT_COUNT))
				return false;
			smp_call_function_single(cpu, note_interrupted, &interrupted, true);
		}
		if (interrupted == INTERRUPTED_PREEMPTIBLE)
			return true;
		if (interrupted == INTERRUPTED_IDLE)
			return false;
		udelay(SYNC_INTERVAL_US);
	}
	return false;
}

static void sync_by_work(struct work_struct *unused)
{
}

void livepatch_synchronize_cpus(void)
{
	static DEFINE_MUTEX(one_at_a_time);
	int cpu;

	guard(mutex)(&one_at_a_time);
	guard(cpus_read_lock)();
	for_each_online_cpu(cpu) {
		struct work_struct *work = per_cpu_ptr(&sync_work, cpu);

		if (sync_by_interrupt(cpu)) {
			work->func = NULL;
			continue;
		}
		INIT_WORK(work, sync_by_work);
		queue_work_on(cpu, system_highpri_wq, work);
	}
	for_each_online_cpu(cpu) {
		struct work_struct *work = per_cpu_ptr(&sync_work, cpu);

		if (work->func)
			flush_work(work);
	}
}

void livepatch_warn(const char *what)
{
	WARN(1, "livepatch: %s\n", what);
}

void livepatch_builtin_lock(void)
{
	mutex_lock(&klp_mutex);
}

void livepatch_builtin_unlock(void)
{
	mutex_unlock(&klp_mutex);
}

void livepatch_modules_lock(void)
{
	mutex_lock(&module_mutex);
}

void livepatch_modules_unlock(void)
{
	mutex_unlock(&module_mutex);
}

bool livepatch_has_directories(struct kobject *kobj)
{
	return kobj && kobj->sd && READ_ONCE(kobj->sd->dir.subdirs);
}

bool livepatch_builtin_contended(void)
{
	/* The lowest bit of the owner says that somebody waits, in both kinds of mutex. */
#ifdef CONFIG_PREEMPT_RT
	return (unsigned long)READ_ONCE(klp_mutex.rtmutex.owner) & 1;
#else
	return atomic_long_read(&klp_mutex.owner) & 1;
#endif
}

unsigned long livepatch_shadow_lock(void)
{
	unsigned long flags;

	spin_lock_irqsave(&klp_shadow_lock, flags);
	return flags;
}

void livepatch_shadow_unlock(unsigned long flags)
{
	spin_unlock_irqrestore(&klp_shadow_lock, flags);
}

void livepatch_shadow_free_rcu(struct livepatch_shadow *shadow)
{
	kfree_rcu(shadow, rcu);
}

void livepatch_shadow_report_unconstructed(const void *obj, unsigned long id, int err)
{
	pr_err("livepatch: Failed to construct shadow variable <%p, %lx> (%d)\n", obj, id, err);
}

void livepatch_shadow_warn_duplicate(const void *obj, unsigned long id)
{
	WARN(1, "Duplicate shadow variable <%p, %lx>\n", obj, id);
}

unsigned int livepatch_hash(const void *obj, unsigned int bits)
{
	return hash_min((unsigned long)obj, bits);
}
