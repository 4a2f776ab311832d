// The dead man's handle: a deadline on the boot-time clock, told by the program through a pipe and held here, where nothing
// that happens to the program matters. When it isn't renewed the postmaster gets SIGQUIT 600 ms before it, and 200 ms before
// it every process of the container SIGKILL, until /proc shows none (docs/design.md, section 4, "Lease"; traps A18, B8).
//
// The program writes lines to the descriptor that MERIDIAN_HANDLE names:
//
//	arm DEADLINE POSTMASTER   milliseconds since boot, or 0 for armed without a deadline; a process id, or 0 for none yet
//	disarm                    nothing is left that a deadline would have to end
//
// Each line replaces the one before, until the SIGQUIT: from then on only a disarm is heard, and after the SIGKILL nothing.
// A line that is neither is skipped. The program's end of the pipe being closed changes nothing: the deadline stays.
package main

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"
)

// The program finds its end of the pipe under this number. core/authority/timing.ts has the same two times.
const (
	handleVariable = "MERIDIAN_HANDLE"
	handleNumber   = 4

	quitBeforeMs = 600
	killBeforeMs = 200

	maxLine        = 256
	maxGarbageSaid = 5
)

type handle struct {
	// Closed when the program's end is.
	lines <-chan string
	timer *bootTimer

	armed      bool
	deadlineMs int64
	postmaster int
	// The SIGQUIT of this deadline has been sent.
	isQuitting  bool
	garbageSaid int
}

// newHandle also returns the program's end, which is to be closed here once the program has it.
func newHandle() (held *handle, programsEnd int, err error) {
	var ends [2]int
	// Neither end blocks: a write must not hold the program up when we don't read, it is told that it failed.
	if err := syscall.Pipe2(ends[:], syscall.O_CLOEXEC|syscall.O_NONBLOCK); err != nil {
		return nil, 0, fmt.Errorf("pipe: %w", err)
	}
	reader, programsEnd := os.NewFile(uintptr(ends[0]), "handle"), ends[1]
	timer, err := newBootTimer()
	if err != nil {
		return nil, 0, err
	}
	lines := make(chan string, 16)
	go readLines(reader, lines)
	return &handle{lines: lines, timer: timer}, programsEnd, nil
}

// readLines gives lines without their ends; one that is too long comes as an empty one.
func readLines(reader *os.File, lines chan<- string) {
	defer close(lines)
	buffered := bufio.NewReaderSize(reader, maxLine)
	for {
		line, err := buffered.ReadSlice('\n')
		isTooLong := errors.Is(err, bufio.ErrBufferFull)
		for errors.Is(err, bufio.ErrBufferFull) {
			_, err = buffered.ReadSlice('\n')
		}
		if err != nil {
			// What has no end isn't a line: a program that was killed while it wrote has said nothing.
			return
		}
		if isTooLong {
			line = nil
		}
		lines <- strings.TrimSuffix(string(line), "\n")
	}
}

// hear takes one line. The clock has been looked at before.
func (h *handle) hear(line string) {
	fields := strings.Split(line, " ")
	switch {
	case line == "disarm":
		if h.isQuitting {
			say("disarmed in time: nothing else is ended")
		}
		h.armed, h.deadlineMs, h.postmaster, h.isQuitting = false, 0, 0, false
	case fields[0] == "arm" && len(fields) == 3:
		deadlineMs, deadlineErr := strconv.ParseInt(fields[1], 10, 64)
		postmaster, postmasterErr := strconv.Atoi(fields[2])
		if deadlineErr != nil || postmasterErr != nil || deadlineMs < 0 || postmaster < 0 {
			h.skip(line)
			return
		}
		if h.isQuitting {
			say("a renewal came too late: the postmaster has been stopped")
			return
		}
		h.armed, h.deadlineMs, h.postmaster = true, deadlineMs, postmaster
	default:
		h.skip(line)
	}
}

func (h *handle) skip(line string) {
	if h.garbageSaid < maxGarbageSaid {
		h.garbageSaid++
		say("handle: a line that means nothing is skipped: %.40q", line)
	}
}

// closed: the program's end is.
func (h *handle) closed() {
	h.lines = nil
	if h.armed {
		say("handle: the program has closed its end; the deadline stays")
	}
}

// isOver looks at the clock, sends the SIGQUIT when it is time for it, and says whether it is time for the SIGKILL.
func (h *handle) isOver(program int) bool {
	if !h.armed || h.deadlineMs == 0 {
		return false
	}
	leftMs := h.deadlineMs - bootTimeMs()
	if leftMs <= killBeforeMs {
		return true
	}
	if leftMs <= quitBeforeMs && !h.isQuitting {
		h.isQuitting = true
		say("the lease isn't renewed: it runs out in %d ms (at %d ms since boot): SIGQUIT to the postmaster (%d)",
			leftMs, h.deadlineMs, h.postmaster)
		if h.postmaster > 1 && h.postmaster != program {
			_ = syscall.Kill(h.postmaster, syscall.SIGQUIT)
		}
	}
	if h.isQuitting {
		h.timer.set(h.deadlineMs - killBeforeMs)
	} else {
		h.timer.set(h.deadlineMs - quitBeforeMs)
	}
	return false
}

// bootTimer ticks at points of the boot-time clock, which goes on while the machine is suspended (timerfd_create(2)).
type bootTimer struct {
	ticks      <-chan struct{}
	descriptor int
	setMs      int64
}

const (
	clockBootTime = 7
	tfdNonblock   = 0x800
	tfdCloexec    = 0x80000
	tfdAbsolute   = 1
)

func newBootTimer() (*bootTimer, error) {
	descriptor, _, errno := syscall.RawSyscall(syscall.SYS_TIMERFD_CREATE, clockBootTime, tfdNonblock|tfdCloexec, 0)
	if errno != 0 {
		return nil, fmt.Errorf("timerfd_create: %w", errno)
	}
	ticks := make(chan struct{}, 1)
	go func() {
		file := os.NewFile(descriptor, "timer")
		expirations := make([]byte, 8)
		for {
			if _, err := file.Read(expirations); err != nil || binary.NativeEndian.Uint64(expirations) == 0 {
				// No timer any more: looking often does the same.
				time.Sleep(10 * time.Millisecond)
			}
			select {
			case ticks <- struct{}{}:
			default:
			}
		}
	}()
	return &bootTimer{ticks: ticks, descriptor: int(descriptor)}, nil
}

// set makes it tick at this time alone. One that has passed ticks at once.
func (t *bootTimer) set(atMs int64) {
	if atMs == t.setMs {
		return
	}
	t.setMs = atMs
	if atMs < 1 {
		atMs = 1
	}
	// struct itimerspec: the interval (none), then the time.
	spec := [2]syscall.Timespec{{}, syscall.NsecToTimespec(atMs * int64(time.Millisecond))}
	_, _, _ = syscall.RawSyscall6(syscall.SYS_TIMERFD_SETTIME, uintptr(t.descriptor), tfdAbsolute,
		uintptr(unsafe.Pointer(&spec)), 0, 0, 0)
}

func bootTimeMs() int64 {
	var now syscall.Timespec
	_, _, _ = syscall.RawSyscall(syscall.SYS_CLOCK_GETTIME, clockBootTime, uintptr(unsafe.Pointer(&now)), 0)
	return now.Nano() / int64(time.Millisecond)
}
