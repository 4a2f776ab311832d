// The lock on the volume: at most one container at a time works on it. A pod that was deleted by force may still run (its
// node hung, and goes on) when its successor starts on the same node, and neither sees the other's processes, so Postgres'
// own lock file says nothing. Whoever holds the open file holds the lock (flock(2)): the init, and through it the program
// and every Postgres process, so the kernel lets go of it when the last of them is gone, and not before.
package main

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"time"
)

const (
	lockRetry    = 200 * time.Millisecond
	lockSayAgain = 30 * time.Second
	probeTimeout = 5 * time.Second
)

// heldLock is the locked file's descriptor, or the signal that ended the wait for it.
type heldLock struct {
	descriptor int
	endedBy    syscall.Signal
}

// takeLock waits for as long as it takes. Asked again and again rather than blocking, so that signals end the wait.
func takeLock(path, probesAddress string, signals <-chan os.Signal) (heldLock, error) {
	descriptor, got, err := tryLock(path)
	if got || err != nil {
		return heldLock{descriptor: descriptor}, err
	}
	since := time.Now()
	say := func() {
		fmt.Fprintf(os.Stderr, "meridian-init: waiting for the lock on %s: another container works on this volume (%d s)\n",
			path, int(time.Since(since).Seconds()))
	}
	say()
	stopProbes := answerProbes(probesAddress)
	defer stopProbes()
	retry := time.NewTicker(lockRetry)
	defer retry.Stop()
	again := time.NewTicker(lockSayAgain)
	defer again.Stop()
	for {
		select {
		case received := <-signals:
			if number, ok := received.(syscall.Signal); ok && endsWait(number) {
				return heldLock{endedBy: number}, nil
			}
		case <-again.C:
			say()
		case <-retry.C:
			descriptor, got, err := tryLock(path)
			if got || err != nil {
				fmt.Fprintf(os.Stderr, "meridian-init: the wait for the lock ended after %d s\n", int(time.Since(since).Seconds()))
				return heldLock{descriptor: descriptor}, err
			}
		}
	}
}

func endsWait(number syscall.Signal) bool {
	return number == syscall.SIGTERM || number == syscall.SIGINT || number == syscall.SIGQUIT || number == syscall.SIGHUP
}

// tryLock leaves no descriptor open unless it got the lock, on the file that has this name now.
func tryLock(path string) (descriptor int, got bool, err error) {
	descriptor, err = syscall.Open(path, syscall.O_RDWR|syscall.O_CREAT|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		return 0, false, fmt.Errorf("open %s: %w", path, err)
	}
	err = syscall.Flock(descriptor, syscall.LOCK_EX|syscall.LOCK_NB)
	if err == nil && isStill(path, descriptor) {
		return descriptor, true, nil
	}
	_ = syscall.Close(descriptor)
	if err == nil || err == syscall.EWOULDBLOCK || err == syscall.EINTR {
		return 0, false, nil
	}
	return 0, false, fmt.Errorf("lock %s: %w", path, err)
}

// isStill: a lock on a file that somebody has removed locks nobody else out.
func isStill(path string, descriptor int) bool {
	var opened, named syscall.Stat_t
	if syscall.Fstat(descriptor, &opened) != nil || syscall.Stat(path, &named) != nil {
		return false
	}
	return opened.Dev == named.Dev && opened.Ino == named.Ino
}

// answerProbes speaks for the program that isn't started yet: alive (a restart would help nobody), and not ready. Without
// an address, or where the port can't be had, nobody answers. The returned function ends it and frees the port.
func answerProbes(address string) func() {
	if address == "" {
		return func() {}
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		fmt.Fprintf(os.Stderr, "meridian-init: no probes are answered: %v\n", err)
		return func() {}
	}
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			go answerProbe(connection)
		}
	}()
	return func() { _ = listener.Close() }
}

func answerProbe(connection net.Conn) {
	defer connection.Close()
	_ = connection.SetDeadline(time.Now().Add(probeTimeout))
	request := bufio.NewReader(connection)
	line, err := request.ReadString('\n')
	if err != nil {
		return
	}
	// The rest of the head is read, too: closing with unread input resets the connection under the answer.
	for rest := line; err == nil && strings.TrimSpace(rest) != ""; {
		rest, err = request.ReadString('\n')
	}
	status, body := "503 Service Unavailable", "waiting for the lock on the volume: another container works on it\n"
	if strings.HasPrefix(line, "GET /livez ") {
		status, body = "200 OK", "ok\n"
	}
	fmt.Fprintf(connection, "HTTP/1.1 %s\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%s",
		status, len(body), body)
}
