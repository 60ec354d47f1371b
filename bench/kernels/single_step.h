#pragma once

// Counting the instructions of a call by executing them one at a time. Unlike simulators it knows every instruction that
// the CPU knows. Linux only.

#include <stdint.h>

#if defined(__linux__)

#    include <signal.h>
#    include <sys/ptrace.h>
#    include <sys/wait.h>
#    include <unistd.h>

typedef void (*step_fn)(void * argument);

// Instructions between two stops of a child process; -1 where the system forbids tracing.
static int64_t steps_of(step_fn call, void * argument) {
    const pid_t child = fork();
    if (child < 0) {
        return -1;
    }
    if (child == 0) {
        if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0) {
            _exit(1);
        }
        raise(SIGSTOP);
        call(argument);
        raise(SIGSTOP);
        _exit(0);
    }
    int     status = 0;
    int64_t steps  = -1;
    // a call's own signals would end the count too early, but kernels have none
    while (waitpid(child, &status, 0) == child && WIFSTOPPED(status)) {
        ++steps;
        if (steps > 0 && WSTOPSIG(status) != SIGTRAP) {
            break;
        }
        if (ptrace(PTRACE_SINGLESTEP, child, NULL, NULL) != 0) {
            steps = -1;
            break;
        }
    }
    if (WIFSTOPPED(status)) {
        kill(child, SIGKILL);
        waitpid(child, &status, 0);
    } else {
        steps = -1;
    }
    return steps;
}

static void step_nothing(void * argument) {
    (void) argument;
}

// Instructions of call(argument), -1 where they cannot be counted. Call it once before, so that it is linked and warm.
static int64_t instructions_of(step_fn call, void * argument) {
    const int64_t around = steps_of(step_nothing, argument);
    const int64_t all    = steps_of(call, argument);
    return around < 0 || all < 0 ? -1 : all - around;
}

#endif
