/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The tracepoints of the core, in tracefs under events/livepatch. What they mean for users is
 * described in tracepoint.rs.
 *
 * Read several times by the kernel's macros, so what is not one stands inside the first reading.
 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM livepatch

#if !defined(_LIVEPATCH_TRACEPOINTS_H_) || defined(TRACE_HEADER_MULTI_READ)
#define _LIVEPATCH_TRACEPOINTS_H_

#include <linux/livepatch.h>
#include <linux/sched.h>
#include <linux/tracepoint.h>

#include "../../include/livepatch_helpers.h"

/* For perf and trace-cmd, which know numbers only. */
TRACE_DEFINE_ENUM(LIVEPATCH_WAY_STACK);
TRACE_DEFINE_ENUM(LIVEPATCH_WAY_SCHEDULE);
TRACE_DEFINE_ENUM(LIVEPATCH_WAY_INTERRUPT);
TRACE_DEFINE_ENUM(LIVEPATCH_WAY_USER_EXIT);
TRACE_DEFINE_ENUM(LIVEPATCH_WAY_IDLE);
TRACE_DEFINE_ENUM(LIVEPATCH_WAY_OFFLINE);
TRACE_DEFINE_ENUM(LIVEPATCH_WAY_FORCE);

#define livepatch_show_target(target)				\
	__print_symbolic(target,				\
		{ KLP_TRANSITION_UNPATCHED, "unpatched" },	\
		{ KLP_TRANSITION_PATCHED, "patched" })

#define livepatch_show_way(way)					\
	__print_symbolic(way,					\
		{ LIVEPATCH_WAY_STACK, "stack" },		\
		{ LIVEPATCH_WAY_SCHEDULE, "schedule" },		\
		{ LIVEPATCH_WAY_INTERRUPT, "interrupt" },	\
		{ LIVEPATCH_WAY_USER_EXIT, "user_exit" },	\
		{ LIVEPATCH_WAY_IDLE, "idle" },			\
		{ LIVEPATCH_WAY_OFFLINE, "offline" },		\
		{ LIVEPATCH_WAY_FORCE, "force" })

DECLARE_EVENT_CLASS(livepatch_direction,
	TP_PROTO(const char *patch, int target),
	TP_ARGS(patch, target),
	TP_STRUCT__entry(
		__string(patch, patch)
		__field(int, target)
	),
	TP_fast_assign(
		__assign_str(patch);
		__entry->target = target;
	),
	TP_printk("patch=%s target=%s", __get_str(patch), livepatch_show_target(__entry->target))
);

DEFINE_EVENT(livepatch_direction, klp_transition_start,
	TP_PROTO(const char *patch, int target),
	TP_ARGS(patch, target)
);

DEFINE_EVENT(livepatch_direction, klp_transition_reverse,
	TP_PROTO(const char *patch, int target),
	TP_ARGS(patch, target)
);

TRACE_EVENT(klp_transition_complete,
	TP_PROTO(const char *patch, int target, u64 duration),
	TP_ARGS(patch, target, duration),
	TP_STRUCT__entry(
		__string(patch, patch)
		__field(int, target)
		__field(u64, duration)
	),
	TP_fast_assign(
		__assign_str(patch);
		__entry->target = target;
		__entry->duration = duration;
	),
	TP_printk("patch=%s target=%s duration=%llu", __get_str(patch),
		  livepatch_show_target(__entry->target), __entry->duration)
);

TRACE_EVENT(klp_patch_released,
	TP_PROTO(const char *patch, bool forced),
	TP_ARGS(patch, forced),
	TP_STRUCT__entry(
		__string(patch, patch)
		__field(bool, forced)
	),
	TP_fast_assign(
		__assign_str(patch);
		__entry->forced = forced;
	),
	TP_printk("patch=%s forced=%d", __get_str(patch), __entry->forced)
);

TRACE_EVENT(klp_task_switched,
	TP_PROTO(struct task_struct *task, int how),
	TP_ARGS(task, how),
	TP_STRUCT__entry(
		__array(char, comm, TASK_COMM_LEN)
		__field(pid_t, pid)
		__field(int, how)
	),
	TP_fast_assign(
		strscpy(__entry->comm, task->comm, TASK_COMM_LEN);
		__entry->pid = task->pid;
		__entry->how = how;
	),
	TP_printk("comm=%s pid=%d how=%s", __entry->comm, __entry->pid,
		  livepatch_show_way(__entry->how))
);

TRACE_EVENT(klp_signal,
	TP_PROTO(struct task_struct *task),
	TP_ARGS(task),
	TP_STRUCT__entry(
		__array(char, comm, TASK_COMM_LEN)
		__field(pid_t, pid)
		__field(bool, kthread)
	),
	TP_fast_assign(
		strscpy(__entry->comm, task->comm, TASK_COMM_LEN);
		__entry->pid = task->pid;
		__entry->kthread = task->flags & PF_KTHREAD;
	),
	TP_printk("comm=%s pid=%d kthread=%d", __entry->comm, __entry->pid, __entry->kthread)
);

#endif /* _LIVEPATCH_TRACEPOINTS_H_ */

/* The kernel's header includes this one again; Kbuild says where it is. */
#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE tracepoints
#include <trace/define_trace.h>
