// The end of everything: SIGKILL to every process of the container but this one, again and again, until /proc shows that
// none is left. Not to a process group: every child of Postgres has its own (docs/design-traps.md, B8). A process that
// doesn't die (a hung disk) is waited for as long as it takes: to end before it is gone would say what isn't true.
package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	lookAgain    = 2 * time.Millisecond
	lookSlowly   = 50 * time.Millisecond
	slowAfter    = 500 * time.Millisecond
	leftSayFirst = time.Second
	leftSayAgain = 5 * time.Second
)

// endEverything returns when there is nothing left.
func endEverything() {
	began := time.Now()
	sayNext := began.Add(leftSayFirst)
	for {
		killAll()
		reapAll()
		left := living()
		if len(left) == 0 {
			// Those that became zombies since.
			reapAll()
			return
		}
		if now := time.Now(); now.After(sayNext) {
			sayNext = now.Add(leftSayAgain)
			say("%d processes don't die: %s", len(left), describe(left))
		}
		if time.Since(began) < slowAfter {
			time.Sleep(lookAgain)
		} else {
			time.Sleep(lookSlowly)
		}
	}
}

// killAll: as process 1, everything in the PID namespace but ourselves, at one stroke (kill(2), pid -1). Elsewhere that
// would be everything that the user has, so it is our descendants: orphans come back to us, as the subreaper.
func killAll() {
	if os.Getpid() == 1 {
		_ = syscall.Kill(-1, syscall.SIGKILL)
		return
	}
	for _, found := range living() {
		_ = syscall.Kill(found.pid, syscall.SIGKILL)
	}
}

func reapAll() {
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
		if err == syscall.EINTR {
			continue
		}
		if err != nil || pid <= 0 {
			return
		}
	}
}

type process struct {
	pid, parent int
	name        string
	state       byte
}

// living: every other process of the namespace (elsewhere: every descendant) of which any thread is left.
func living() []process {
	self := os.Getpid()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		// Nothing can be shown: nothing is claimed.
		return []process{{name: "/proc can't be read: " + err.Error(), state: '?'}}
	}
	found := make([]process, 0, len(entries))
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil || pid == self {
			continue
		}
		if seen, ok := readProcess(pid); ok {
			found = append(found, seen)
		}
	}
	if self != 1 {
		found = descendants(self, found)
	}
	left := found[:0]
	for _, seen := range found {
		if !seen.isGone() {
			left = append(left, seen)
		}
	}
	return left
}

func readProcess(pid int) (process, bool) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return process{}, false
	}
	// proc(5): the name is in parentheses and may itself have some.
	open, end := strings.IndexByte(string(text), '('), strings.LastIndexByte(string(text), ')')
	if open < 0 || end < open {
		return process{}, false
	}
	fields := strings.Fields(string(text[end+1:]))
	if len(fields) < 2 {
		return process{}, false
	}
	parent, err := strconv.Atoi(fields[1])
	return process{pid: pid, parent: parent, name: string(text[open+1 : end]), state: fields[0][0]}, err == nil
}

// isGone: a zombie runs nothing, unless only its first thread has ended.
func (p process) isGone() bool {
	if p.state == 'X' || p.state == 'x' {
		return true
	}
	if p.state != 'Z' {
		return false
	}
	threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", p.pid))
	return err != nil || len(threads) <= 1
}

func descendants(of int, all []process) []process {
	children := map[int][]process{}
	for _, seen := range all {
		children[seen.parent] = append(children[seen.parent], seen)
	}
	var found []process
	for todo := []int{of}; len(todo) > 0; todo = todo[1:] {
		for _, child := range children[todo[0]] {
			found = append(found, child)
			todo = append(todo, child.pid)
		}
	}
	return found
}

func describe(left []process) string {
	words := make([]string, 0, len(left))
	for _, seen := range left {
		if len(words) == 10 {
			return strings.Join(words, ", ") + ", ..."
		}
		words = append(words, fmt.Sprintf("%d %s (%c)", seen.pid, seen.name, seen.state))
	}
	return strings.Join(words, ", ")
}
