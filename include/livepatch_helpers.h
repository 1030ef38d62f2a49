/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the Rust core needs of the kernel that exists only as C macros and inline functions.
 *
 * Read by the helpers themselves and by bindgen. Everything here starts with livepatch_; names that
 * the kernel's own livepatch interface uses start with klp_.
 */
#ifndef _LIVEPATCH_HELPERS_H_
#define _LIVEPATCH_HELPERS_H_

#include <linux/ftrace.h>
#include <linux/irq_work.h>
#include <linux/livepatch.h>
#include <linux/moduleloader.h>
#include <linux/sched.h>
#include <linux/spinlock.h>

/* The longest stack trace that is searched; a deeper stack counts as unreliable. */
#define LIVEPATCH_MAX_STACK_ENTRIES 100

/*
 * What lies between the place that ftrace calls a function's location and the return address of the
 * call there. It is that of x86-64; other architectures have to look at what their trampolines
 * leave on the stack.
 */
#define LIVEPATCH_CALL_SIZE MCOUNT_INSN_SIZE

/*
 * handler.rs: where a call that arrived at @ip goes; 0 leaves it alone. Called with preemption
 * disabled.
 */
unsigned long livepatch_select(unsigned long ip);

/* The function of every ftrace_ops of the core. */
void livepatch_ftrace_thunk(unsigned long ip, unsigned long parent_ip,
			    struct ftrace_ops *ops, struct ftrace_regs *fregs);
/* The flags of such an ops; with @save_regs, it is called with all registers wherever it is. */
unsigned long livepatch_ftrace_flags(bool save_regs);
bool livepatch_has_direct_call(unsigned long ip);
/* Whether @address is in the part of a module that is freed when it has been initialised. */
bool livepatch_in_module_init(unsigned long address);
int ftrace_is_dead(void);

/* A function, by where ftrace intercepts it, whose calls are to jump to @target, which is even. */
struct livepatch_jump {
	unsigned long ip;
	unsigned long target;
};

/* Whether ftrace can write jumps in this kernel. */
bool livepatch_can_jump(void);
/*
 * Lets ftrace write jumps, all or none. -EINVAL if one of the functions has a direct call, -ENOMEM,
 * -ENODEV if ftrace is dead. It may also have died meanwhile: then it is not known whether the
 * jumps have been written, and 0 is returned.
 */
int livepatch_add_jumps(const struct livepatch_jump *jumps, unsigned int count);
/*
 * Takes them away, all or none. -ENOMEM, -ENODEV if ftrace is dead: then calls may go on to jump.
 */
int livepatch_remove_jumps(const struct livepatch_jump *jumps, unsigned int count);

/*
 * Functions of this module that nobody calls. The calls of the first one jump, to the second one,
 * as long as there can be jumps at all, and the third one is intercepted: so neither becomes empty
 * what ftrace knows of the jumps, nor a filter.
 */
void livepatch_jump_anchor(void);
void livepatch_jump_anchor_target(void);
void livepatch_filter_anchor(void);
/* The part of a module's memory that @address is in; false if it is not in the module. */
bool livepatch_module_memory(struct module *mod, unsigned long address, unsigned long *start,
			     unsigned long *end);
/* The calling task's; for the handler, so not to be traced. */
int livepatch_current_patch_state(void);

/*
 * Saves the stack trace of @task, which must not run or be the current one, in this CPU's buffer,
 * and its length in @count. NULL if the stack is not reliable or too deep, or the buffer is claimed
 * already. Preemption must be disabled until the buffer is released.
 */
unsigned long *livepatch_save_stack(struct task_struct *task, unsigned int *count);
/*
 * Saves each word on the stack of @task, which must not run, that could be an address in the @size
 * bytes of code from @start, in this CPU's buffer, and their number in @count. NULL if there may be
 * return addresses that are not on the stack as they are, if there are too many words, or if the
 * buffer is claimed already. Preemption must be disabled until the buffer is released.
 */
unsigned long *livepatch_save_text_words(struct task_struct *task, unsigned long start,
					 unsigned long size, unsigned int *count);
void livepatch_release_stack(void);
/* To be called once, before the module is in use. */
void livepatch_stacks_init(void);

bool livepatch_task_pending(struct task_struct *task);
void livepatch_set_task_pending(struct task_struct *task);
void livepatch_clear_task_pending(struct task_struct *task);
bool livepatch_test_and_clear_task_pending(struct task_struct *task);
void livepatch_notify_task(struct task_struct *task);

/*
 * The task after @task on the list of all threads of all processes, the first one for NULL; NULL at
 * the end. tasklist_lock must be held and @task be on the list.
 */
struct task_struct *livepatch_next_task(struct task_struct *task);
bool livepatch_task_listed(struct task_struct *task);
void livepatch_cond_resched(void);
/* Whether the calling task is being killed. */
bool livepatch_fatal_signal_pending(void);
void livepatch_tasklist_read_lock(void);
void livepatch_tasklist_read_unlock(void);

/*
 * The task with the lowest PID from *@pid on, in the initial namespace, with a reference, and its
 * PID in *@pid; NULL if there is none. Process context.
 */
struct task_struct *livepatch_task_from_pid(pid_t *pid);

bool livepatch_cpu_possible(unsigned int cpu);
bool livepatch_cpu_online(unsigned int cpu);

/* Queues the item on this CPU, unless that is offline. */
void livepatch_trigger(struct irq_work *work);

void livepatch_preempt_disable(void);
void livepatch_preempt_enable(void);

/* Lets __schedule() call __klp_sched_try_switch(), or not. */
void livepatch_sched_switch_enable(void);
void livepatch_sched_switch_disable(void);

/* What a look at the current task has led to. */
enum livepatch_look_result {
	/* There is no transition (any more). */
	LIVEPATCH_LOOK_OVER,
	/* The task has switched now. */
	LIVEPATCH_LOOK_SWITCHED,
	/* The task could not switch, or did not have to: another one may. */
	LIVEPATCH_LOOK_AGAIN,
};

/*
 * transition.rs: looks at the current task, which has been interrupted in user space or, in the
 * kernel, where it could have been preempted. In a hard interrupt.
 */
unsigned int livepatch_look(void);

/* Makes the looks usable; before all of the following. */
void livepatch_looks_init(void);
/* Notes that the CPU where @task is now is to be looked at. */
void livepatch_looks_want(struct task_struct *task);
/*
 * Interrupts @cpu if that has been noted, and looks at what runs there; if that does not switch,
 * again after each of the next @times intervals. Process context, with interrupts enabled.
 */
void livepatch_looks_start(unsigned int cpu, unsigned int times);
/* Ends the looks. Nobody may start any meanwhile. Sleeps. */
void livepatch_looks_cancel(void);

/*
 * Returns when every CPU has been where preemption is possible. It has seen then what was written
 * before the call. Sleeps.
 */
void livepatch_synchronize_cpus(void);

/* How a task has switched, for livepatch_trace_task_switched(). */
enum livepatch_way {
	LIVEPATCH_WAY_STACK,
	LIVEPATCH_WAY_SCHEDULE,
	LIVEPATCH_WAY_INTERRUPT,
	LIVEPATCH_WAY_USER_EXIT,
	LIVEPATCH_WAY_IDLE,
	LIVEPATCH_WAY_OFFLINE,
	LIVEPATCH_WAY_FORCE,
};

/*
 * tracepoints.c: the events of the core. @target is KLP_TRANSITION_PATCHED or _UNPATCHED,
 * @duration in ns.
 */
void livepatch_trace_transition_start(const char *patch, int target);
void livepatch_trace_transition_reverse(const char *patch, int target);
void livepatch_trace_transition_complete(const char *patch, int target, u64 duration);
void livepatch_trace_patch_released(const char *patch, bool forced);
void livepatch_trace_task_switched(struct task_struct *task, int how);
void livepatch_trace_signal(struct task_struct *task);

/* WARN() with this text. */
void livepatch_warn(const char *what);

/* The built-in core's variables, which the take-over works on. */
extern struct mutex klp_mutex;
extern struct list_head klp_patches;
extern struct klp_patch *klp_transition_patch;
extern struct kobject *klp_root_kobj;
void livepatch_builtin_lock(void);
void livepatch_builtin_unlock(void);
/* Whether somebody waits for the lock. */
bool livepatch_builtin_contended(void);

/* While it is held, no module starts to be unloaded. The module loader's own. */
extern struct mutex module_mutex;
void livepatch_modules_lock(void);
void livepatch_modules_unlock(void);

/* Whether there are directories in this one, which may be NULL. */
bool livepatch_has_directories(struct kobject *kobj);

/* The built-in core's shadow variables: the table, its lock, and what is in it. */
struct livepatch_shadow {
	struct hlist_node node;
	struct rcu_head rcu;
	void *obj;
	unsigned long id;
	char data[];
};

extern struct hlist_head klp_shadow_hash[];
extern spinlock_t klp_shadow_lock;
unsigned long livepatch_shadow_lock(void);
void livepatch_shadow_unlock(unsigned long flags);
void livepatch_shadow_free_rcu(struct livepatch_shadow *shadow);
void livepatch_shadow_report_unconstructed(const void *obj, unsigned long id, int err);
void livepatch_shadow_warn_duplicate(const void *obj, unsigned long id);
/* The bucket of @obj in a table of 2^@bits. */
unsigned int livepatch_hash(const void *obj, unsigned int bits);

/*
 * Only to take their addresses: <linux/livepatch.h> and <linux/livepatch_sched.h> declare the rest.
 */
void clear_relocate_add(Elf_Shdr *sechdrs, const char *strtab, unsigned int symindex,
			unsigned int relsec, struct module *me);

#endif /* _LIVEPATCH_HELPERS_H_ */
