// Process 1 of every Meridian container: starts one program, hands it the signals that the container gets, reaps the
// orphans that nobody else waits for (Postgres' backends, when their postmaster is gone), and ends with the program's
// own status. When it ends the kernel kills what is left in the container, so no Postgres outlives its agent here.
// With --lock it starts the program only once this container alone works on the volume (lock.go).
//
// It is the dead man's handle, too (handle.go): a process that the agent can't take down with it ends everything in the
// container when a deadline isn't renewed. It leaves everything else to the program, is static and has no dependencies.
// The loop in supervise, and not the standard library, waits for children: it looks at the clock before anything else,
// whatever woke it, so that neither a signal nor a late renewal gets past a deadline after a pause of this process.
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
	exitLeaseOver  = 75
	exitCantRun    = 126
	exitNotFound   = 127
	exitSignalBase = 128
)

// Not forwarded: SIGCHLD is ours, SIGURG is the Go runtime's own preemption signal, SIGPIPE concerns our own output only.
func concernsOnlyUs(s os.Signal) bool {
	return s == syscall.SIGCHLD || s == syscall.SIGURG || s == syscall.SIGPIPE
}

// The program finds the locked file under this number, and hands it on to what may outlive it.
const lockVariable = "MERIDIAN_VOLUME_LOCK"
const lockNumber = 3

// In a child's list of descriptors: closed (syscall.ProcAttr).
const unused = ^uintptr(0)

type wish struct {
	// The file to be locked before the program starts; empty for none.
	lock string
	// Where probes are answered while it waits for the lock; empty for nowhere.
	probes string
	argv   []string
}

func main() {
	wanted, ok := parse(os.Args[1:])
	if !ok {
		fmt.Fprintln(os.Stderr, "usage: meridian-init [--lock file [--probes address]] [--] program [argument ...]")
		os.Exit(exitUsage)
	}
	os.Exit(supervise(wanted))
}

func parse(argv []string) (wanted wish, ok bool) {
	for len(argv) > 0 {
		switch {
		case argv[0] == "--":
			wanted.argv = argv[1:]
			return wanted, len(wanted.argv) > 0
		case argv[0] == "--lock" && len(argv) > 1:
			wanted.lock, argv = argv[1], argv[2:]
		case argv[0] == "--probes" && len(argv) > 1:
			wanted.probes, argv = argv[1], argv[2:]
		default:
			wanted.argv = argv
			return wanted, true
		}
	}
	return wanted, false
}

func supervise(wanted wish) int {
	argv := wanted.argv
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
	// Standard input, output and error, the lock, the handle: a number that isn't used is closed.
	files, environment := []uintptr{0, 1, 2, unused, unused}, os.Environ()
	if wanted.lock != "" {
		lock, err := takeLock(wanted.lock, wanted.probes, signals)
		if err != nil {
			fmt.Fprintf(os.Stderr, "meridian-init: %v\n", err)
			return exitCantRun
		}
		if lock.endedBy != 0 {
			return exitSignalBase + int(lock.endedBy)
		}
		// Ours stays open, too: the lock outlives a program that closes its own.
		files[lockNumber] = uintptr(lock.descriptor)
		environment = append(environment, fmt.Sprintf("%s=%d", lockVariable, lockNumber))
	}
	held, programsEnd, err := newHandle()
	if err != nil {
		fmt.Fprintf(os.Stderr, "meridian-init: %v\n", err)
		return exitCantRun
	}
	files[handleNumber] = uintptr(programsEnd)
	environment = append(environment, fmt.Sprintf("%s=%d", handleVariable, handleNumber))
	child, err := syscall.ForkExec(program, argv, &syscall.ProcAttr{Env: environment, Files: files})
	if err != nil {
		fmt.Fprintf(os.Stderr, "meridian-init: %s: %v\n", argv[0], err)
		return exitCantRun
	}
	_ = syscall.Close(programsEnd)
	return watch(child, held, signals)
}

// watch runs until the program has ended, or the handle's deadline has.
func watch(child int, held *handle, signals <-chan os.Signal) int {
	for {
		var received os.Signal
		var line string
		heard, isOpen := false, true
		select {
		case received = <-signals:
		case line, isOpen = <-held.lines:
			heard = isOpen
		case <-held.timer.ticks:
		}
		if held.isOver(child) {
			return endForTheLease(held)
		}
		switch {
		case heard:
			held.hear(line)
			if held.isOver(child) {
				return endForTheLease(held)
			}
		case !isOpen:
			held.closed()
		case received == syscall.SIGCHLD:
			if status, ended := reap(child); ended {
				return endAfterProgram(held, status)
			}
		case received != nil:
			if number, ok := received.(syscall.Signal); ok && !concernsOnlyUs(received) {
				// ESRCH: it has just ended; its SIGCHLD follows.
				_ = syscall.Kill(child, number)
			}
		}
	}
}

func endForTheLease(held *handle) int {
	beganMs := bootTimeMs()
	endEverything()
	goneMs := bootTimeMs()
	say("the lease wasn't renewed: SIGKILL to everything %s, all gone %s (at %d ms since boot)",
		beside(held.deadlineMs, beganMs), beside(held.deadlineMs, goneMs), held.deadlineMs)
	sayTheRest()
	return exitLeaseOver
}

// beside says where a time lies.
func beside(deadlineMs, atMs int64) string {
	if atMs > deadlineMs {
		return fmt.Sprintf("%d ms AFTER it ran out", atMs-deadlineMs)
	}
	return fmt.Sprintf("%d ms before it runs out", deadlineMs-atMs)
}

// endAfterProgram: when this process ends the kernel ends the rest of the container. While armed that is done and shown here.
func endAfterProgram(held *handle, status syscall.WaitStatus) int {
	if held.armed {
		endEverything()
		say("the program has ended while armed: whatever was left is gone")
	}
	sayTheRest()
	return exitCode(status)
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
