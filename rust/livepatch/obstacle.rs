// SPDX-License-Identifier: GPL-2.0

//! Why a task does not switch.

use crate::{
    kapi::{
        cpu::PreemptGuard,
        stacktrace,
        task::{
            self,
            Quiescent, //
        }, //
    },
    stack::STACK_CHECK,
};
use kernel::{
    ffi::c_int,
    str::CString,
    sync::Arc,
    task::Task, //
};

/// Why a task does not switch. `N` is a function's name.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Obstacle<N> {
    /// It runs on a CPU.
    Running,
    /// What is on its stack may be one of the functions, and the unwinder cannot tell.
    Unreliable,
    /// It runs this function.
    Function(N),
    /// Nobody has looked at its stack: there are no reliable ones on this architecture, or there is
    /// nothing to compare it with.
    NotTried,
    /// The scheduler gave an errno instead of a look at it.
    Unknown(c_int),
}

impl<N: Clone> Obstacle<&N> {
    /// Makes one that owns the function's name.
    pub(crate) fn cloned(self) -> Obstacle<N> {
        match self {
            Self::Running => Obstacle::Running,
            Self::Unreliable => Obstacle::Unreliable,
            Self::Function(name) => Obstacle::Function(name.clone()),
            Self::NotTried => Obstacle::NotTried,
            Self::Unknown(errno) => Obstacle::Unknown(errno),
        }
    }
}

/// Looks whether `task` could switch by its stack, and if so calls `switch` while that does not
/// change.
///
/// The stack of a task that does not run is first searched for words that could be addresses in the
/// functions; it is unwound only if there are some, or could be ([`mod@crate::stack`]). The current
/// task's stack is unwound.
///
/// Any context that [`task::call_on`] allows, or the current task in any context.
pub(crate) fn examine<'a>(
    task: &Task,
    preempt: &'a PreemptGuard,
    switch: impl FnOnce(&Quiescent<'_>),
) -> Result<(), Obstacle<&'a Arc<CString>>> {
    // Without reliable stacks, tasks switch only on their way out of the kernel.
    if !stacktrace::have_reliable_stacks() {
        return Err(Obstacle::NotTried);
    }
    let check = STACK_CHECK.get(preempt).ok_or(Obstacle::NotTried)?;
    let unwind = |task: &Quiescent<'_>| {
        stacktrace::with_stack(task, preempt, |stack| check.find(stack))
            .ok_or(Obstacle::Unreliable)?
            .map_or(Ok(()), |name| Err(Obstacle::Function(name)))
    };
    if task::with_current(|current| current == task) {
        return Quiescent::current(|task| {
            unwind(task)?;
            switch(task);
            Ok(())
        });
    }
    task::call_on(task, |task| {
        let task = task.ok_or(Obstacle::Running)?;
        let is_clear = stacktrace::with_text_words(task, check.span(), preempt, |words| {
            check.find(words).is_none()
        });
        if is_clear != Some(true) {
            unwind(task)?;
        }
        switch(task);
        Ok(())
    })
    .unwrap_or_else(|errno| Err(Obstacle::Unknown(errno)))
}
