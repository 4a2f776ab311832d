// Process 1 of every Meridian container: starts one program, hands it the signals that the container gets, reaps the
// orphans that nobody else waits for (Postgres' backends, when their postmaster is gone), and ends with the program's
// own status. When it ends the kernel kills what is left in the container, so no Postgres outlives its agent here.
//
// It leaves everything else to the program. It is static and has no dependencies because it is to become the dead
// man's handle (docs/design.md, section 4, "Lease"): a process that the agent can't take down with it. The deadline
// will be held by the loop in supervise, which is why that loop, and not the standard library, waits for children.
package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
)

// Shells' convention: 128 + signal for a program that was killed, 126 and 127 for one that couldn't be started.
const (
	exitUsage      = 64
	exitCantRun    = 126
	exitNotFound   = 127
	exitSignalBase = 128
)

// Not forwarded: SIGCHLD is ours, SIGURG is the Go runtime's own preemption signal, SIGPIPE concerns our own output only.
func concernsOnlyUs(s os.Signal) bool {
	return s == syscall.SIGCHLD || s == syscall.SIGURG || s == syscall.SIGPIPE
}

func main() {
	argv := os.Args[1:]
	if len(argv) > 0 && argv[0] == "--" {
		argv = argv[1:]
	}
	if len(argv) == 0 {
		fmt.Fprintln(os.Stderr, "usage: meridian-init [--] program [argument ...]")
		os.Exit(exitUsage)
	}
	os.Exit(supervise(argv))
}

func supervise(argv []string) int {
	// Before the start, so that no signal is lost in between. SIGCHLD coalesces: one delivery may mean several children.
	signals := make(chan os.Signal, 64)
	signal.Notify(signals)
	if os.Getpid() != 1 {
		// Outside a container (tests) orphans come to us only if we ask: prctl(PR_SET_CHILD_SUBREAPER).
		const prSetChildSubreaper = 36
		_, _, _ = syscall.RawSyscall(syscall.SYS_PRCTL, prSetChildSubreaper, 1, 0)
	}

	program, err := exec.LookPath(argv[0])
	if err != nil {
		fmt.Fprintf(os.Stderr, "meridian-init: %s: %v\n", argv[0], err)
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, exec.ErrNotFound) {
			return exitNotFound
		}
		return exitCantRun
	}
	child, err := syscall.ForkExec(program, argv, &syscall.ProcAttr{Env: os.Environ(), Files: []uintptr{0, 1, 2}})
	if err != nil {
		fmt.Fprintf(os.Stderr, "meridian-init: %s: %v\n", argv[0], err)
		return exitCantRun
	}

	for received := range signals {
		if received == syscall.SIGCHLD {
			if status, ended := reap(child); ended {
				return exitCode(status)
			}
			continue
		}
		if number, ok := received.(syscall.Signal); ok && !concernsOnlyUs(received) {
			// ESRCH: it has just ended; its SIGCHLD follows.
			_ = syscall.Kill(child, number)
		}
	}
	return exitCantRun
}

// reap waits for every child that has ended, and says whether ours is among them.
func reap(child int) (status syscall.WaitStatus, ended bool) {
	for {
		var current syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &current, syscall.WNOHANG, nil)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil || pid <= 0 {
			return status, ended
		}
		if pid == child && (current.Exited() || current.Signaled()) {
			status, ended = current, true
		}
	}
}

func exitCode(status syscall.WaitStatus) int {
	if status.Signaled() {
		return exitSignalBase + int(status.Signal())
	}
	return status.ExitStatus()
}
