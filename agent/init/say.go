// Lines for people, written by a goroutine of their own: standard error is a pipe that somebody else empties, and the
// deadline must not wait for them.
package main

import (
	"fmt"
	"os"
	"time"
)

const sayAtTheEnd = 200 * time.Millisecond

var (
	toSay = make(chan string, 64)
	said  = make(chan struct{})
)

func init() {
	go func() {
		for line := range toSay {
			fmt.Fprintln(os.Stderr, "meridian-init: "+line)
		}
		close(said)
	}()
}

// say drops the line when too many wait already.
func say(format string, values ...any) {
	select {
	case toSay <- fmt.Sprintf(format, values...):
	default:
	}
}

// sayTheRest is for the end: nothing may be said after it.
func sayTheRest() {
	close(toSay)
	select {
	case <-said:
	case <-time.After(sayAtTheEnd):
	}
}
