// SPDX-License-Identifier: GPL-2.0
/*
 * The tracepoints of the core, which only C can define in a module, and functions by which Rust
 * reaches them. tracepoint.rs says in which contexts they are called.
 */
#define CREATE_TRACE_POINTS
#include "tracepoints.h"

void livepatch_trace_transition_start(const char *patch, int target)
{
	trace_klp_transition_start(patch, target);
}

void livepatch_trace_transition_reverse(const char *patch, int target)
{
	trace_klp_transition_reverse(patch, target);
}

void livepatch_trace_transition_complete(const char *patch, int target, u64 duration)
{
	trace_klp_transition_complete(patch, target, duration);
}

void livepatch_trace_patch_released(const char *patch, bool forced)
{
	trace_klp_patch_released(patch, forced);
}

void livepatch_trace_task_switched(struct task_struct *task, int how)
{
	trace_klp_task_switched(task, how);
}

void livepatch_trace_signal(struct task_struct *task)
{
	trace_klp_signal(task);
}
