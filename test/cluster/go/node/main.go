// The small programs that run inside a node of the test cluster, in one static binary of the standard library only, so
// that it builds in seconds. `init` is process 1 of a node's container, `pause` holds a pod's namespaces open, `delay`
// stands between two regions and keeps packets back for a while.
package main

import (
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	if len(os.Args) < 2 {
		fail("usage: meridian-node init CONFIG | pause | delay --device NAME --one-way DURATION")
	}
	var err error
	switch os.Args[1] {
	case "init":
		err = runInit(os.Args[2:])
	case "pause":
		pause()
	case "delay":
		err = runDelay(os.Args[2:])
	default:
		err = fmt.Errorf("unknown program %q", os.Args[1])
	}
	if err != nil {
		fail(err.Error())
	}
}

// pause is process 1 of each pod's sandbox. The runtime puts each container in its own process namespace, but with
// shareProcessNamespace orphans end up here, and a process 1 that never waits would keep them as zombies.
func pause() {
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGINT, syscall.SIGTERM)
	children := make(chan os.Signal, 16)
	signal.Notify(children, syscall.SIGCHLD)
	for {
		select {
		case <-stop:
			return
		case <-children:
			for {
				if pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil); pid <= 0 || err != nil {
					break
				}
			}
		}
	}
}

func fail(message string) {
	fmt.Fprintln(os.Stderr, "meridian-node:", message)
	os.Exit(1)
}
