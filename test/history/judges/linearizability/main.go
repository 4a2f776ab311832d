// Judges whether a recorded history is linearizable, with Porcupine:
//
//	meridian-linearizability --model register|set [--timeout 60s] HISTORY.jsonl
//
// Reads the lines that test/history/recorder.ts writes, prints one JSON object, and ends with 0 (linearizable),
// 1 (not), 2 (not known in the time given) or 3 (the history can't be read). What surely had no effect is left out; what
// nobody knows the outcome of may take effect at any time after it was asked, or (what comes to the same, since it may be
// ordered behind everything else) never.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"time"

	"github.com/anishathalye/porcupine"
)

const (
	exitLinearizable = 0
	exitNot          = 1
	exitUnknown      = 2
	exitError        = 3
)

// model is one kind of object: how its operations are read from a history, and how it behaves.
type model struct {
	read func([]pair) ([]keyed, error)
	step func(state, input, output any) (bool, any)
	init any
}

// keyed is an operation on one object; objects are judged apart, since linearizability is a local property.
type keyed struct {
	key       int64
	operation porcupine.Operation
}

type verdict struct {
	Valid      any       `json:"valid"`
	Operations int       `json:"operations"`
	Objects    int       `json:"objects"`
	Findings   []finding `json:"findings"`
}

type finding struct {
	Object  int64    `json:"object"`
	Valid   any      `json:"valid"`
	History []string `json:"history"`
}

const shownOperations = 60

func main() {
	name := flag.String("model", "", "register or set")
	timeout := flag.Duration("timeout", time.Minute, "for the whole history")
	flag.Parse()
	model, known := map[string]model{"register": registers, "set": sets}[*name]
	if !known || flag.NArg() != 1 {
		flag.Usage()
		os.Exit(exitError)
	}
	pairs, err := readHistory(flag.Arg(0))
	if err != nil {
		fail(err)
	}
	operations, err := model.read(pairs)
	if err != nil {
		fail(err)
	}
	judged := judge(model, operations, time.Now().Add(*timeout))
	if err := json.NewEncoder(os.Stdout).Encode(judged); err != nil {
		fail(err)
	}
	switch judged.Valid {
	case true:
		os.Exit(exitLinearizable)
	case false:
		os.Exit(exitNot)
	default:
		os.Exit(exitUnknown)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(exitError)
}

func judge(model model, operations []keyed, deadline time.Time) verdict {
	objects := map[int64][]porcupine.Operation{}
	for _, each := range operations {
		objects[each.key] = append(objects[each.key], each.operation)
	}
	result := verdict{Valid: true, Operations: len(operations), Objects: len(objects), Findings: []finding{}}
	for key, history := range objects {
		checked := porcupine.CheckOperationsTimeout(porcupine.Model{
			Init: func() any { return model.init },
			Step: model.step,
		}, history, max(time.Until(deadline), time.Millisecond))
		switch checked {
		case porcupine.Ok:
			continue
		case porcupine.Illegal:
			result.Valid = false
			result.Findings = append(result.Findings, finding{key, false, describe(history)})
		default:
			if result.Valid == true {
				result.Valid = "unknown"
			}
			result.Findings = append(result.Findings, finding{key, "unknown", nil})
		}
	}
	return result
}

func describe(history []porcupine.Operation) []string {
	lines := []string{}
	for _, operation := range history {
		until := fmt.Sprintf("%.3f", float64(operation.Return)/1e6)
		if operation.Return == never {
			until = "?"
		}
		lines = append(lines, fmt.Sprintf("process %d, %.3f to %s ms: %v -> %v", operation.ClientId,
			float64(operation.Call)/1e6, until, operation.Input, operation.Output))
	}
	if len(lines) > shownOperations {
		lines = append(lines[:shownOperations], fmt.Sprintf("and %d more", len(lines)-shownOperations))
	}
	return lines
}
