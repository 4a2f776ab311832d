package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"

	"github.com/anishathalye/porcupine"
)

// never is when an operation of unknown outcome ends.
const never = math.MaxInt64

const longestLine = 16 << 20

type entry struct {
	Type    string          `json:"type"`
	Process int             `json:"process"`
	Time    int64           `json:"time"`
	F       string          `json:"f"`
	Value   json.RawMessage `json:"value"`
}

// pair is an invocation with its completion, or without one where the outcome isn't known.
type pair struct {
	invocation entry
	completion *entry
}

func (p pair) isKnown() bool { return p.completion != nil }

func (p pair) at(input, output any) porcupine.Operation {
	end := int64(never)
	if p.isKnown() {
		end = p.completion.Time
	}
	return porcupine.Operation{
		ClientId: p.invocation.Process, Input: input, Call: p.invocation.Time, Output: output, Return: end,
	}
}

// readHistory leaves out what surely had no effect.
func readHistory(path string) ([]pair, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, longestLine)
	open := map[int]entry{}
	pairs := []pair{}
	for number := 1; lines.Scan(); number++ {
		if len(lines.Bytes()) == 0 {
			continue
		}
		var read entry
		if err := json.Unmarshal(lines.Bytes(), &read); err != nil {
			return nil, fmt.Errorf("line %d: %w", number, err)
		}
		if read.Type == "invoke" {
			open[read.Process] = read
			continue
		}
		invocation, found := open[read.Process]
		if !found {
			return nil, fmt.Errorf("line %d: process %d did not ask", number, read.Process)
		}
		delete(open, read.Process)
		switch read.Type {
		case "ok":
			pairs = append(pairs, pair{invocation, &read})
		case "info":
			pairs = append(pairs, pair{invocation, nil})
		case "fail":
		default:
			return nil, fmt.Errorf("line %d: unknown type %q", number, read.Type)
		}
	}
	for _, invocation := range open {
		pairs = append(pairs, pair{invocation, nil})
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	if len(pairs) == 0 {
		return nil, errors.New("the history is empty")
	}
	return pairs, nil
}
