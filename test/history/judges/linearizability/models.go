package main

import (
	"encoding/json"
	"fmt"
)

// A register holds nothing, or a number. Read, write and compare-and-set; see test/history/workloads/register.ts.

type registerValue struct {
	Register int64  `json:"register"`
	Value    *int64 `json:"value"`
	Expected *int64 `json:"expected"`
	Swapped  *bool  `json:"swapped"`
}

type registerInput struct {
	f        string
	value    int64
	expected int64
}

func (i registerInput) String() string {
	switch i.f {
	case "write":
		return fmt.Sprintf("write %d", i.value)
	case "cas":
		return fmt.Sprintf("set %d if %d", i.value, i.expected)
	default:
		return "read"
	}
}

// registerOutput is what came back; unknown ones fit whatever the register does.
type registerOutput struct {
	isKnown bool
	isNull  bool
	value   int64
	swapped bool
}

func (o registerOutput) String() string {
	switch {
	case !o.isKnown:
		return "?"
	case o.isNull:
		return "nothing"
	default:
		return fmt.Sprintf("%d, swapped: %v", o.value, o.swapped)
	}
}

type registerState struct {
	isSet bool
	value int64
}

var registers = model{
	init: registerState{},
	read: func(pairs []pair) ([]keyed, error) {
		operations := []keyed{}
		for _, each := range pairs {
			if each.invocation.F == "read" && !each.isKnown() {
				continue
			}
			var asked registerValue
			if err := json.Unmarshal(each.invocation.Value, &asked); err != nil {
				return nil, err
			}
			input := registerInput{f: each.invocation.F}
			if asked.Value != nil {
				input.value = *asked.Value
			}
			if asked.Expected != nil {
				input.expected = *asked.Expected
			}
			output := registerOutput{isKnown: each.isKnown()}
			if each.isKnown() {
				var answered registerValue
				if err := json.Unmarshal(each.completion.Value, &answered); err != nil {
					return nil, err
				}
				output.isNull = answered.Value == nil
				if answered.Value != nil {
					output.value = *answered.Value
				}
				output.swapped = answered.Swapped != nil && *answered.Swapped
			}
			operations = append(operations, keyed{asked.Register, each.at(input, output)})
		}
		return operations, nil
	},
	step: func(state, input, output any) (bool, any) {
		register, asked, answered := state.(registerState), input.(registerInput), output.(registerOutput)
		switch asked.f {
		case "read":
			fits := answered.isNull == !register.isSet && (answered.isNull || answered.value == register.value)
			return fits, register
		case "write":
			return true, registerState{true, asked.value}
		case "cas":
			matches := register.isSet && register.value == asked.expected
			if answered.isKnown && answered.swapped != matches {
				return false, register
			}
			if matches {
				return true, registerState{true, asked.value}
			}
			return true, register
		default:
			return false, register
		}
	},
}

// A set, judged element by element: absent, then present for good. See test/history/workloads/unique-set.ts.

type setRead struct {
	Asked []int64 `json:"asked"`
	Found []int64 `json:"found"`
}

type setInput struct{ isAdd bool }

func (i setInput) String() string {
	if i.isAdd {
		return "add"
	}
	return "is it there"
}

var sets = model{
	init: false,
	read: func(pairs []pair) ([]keyed, error) {
		operations := []keyed{}
		for _, each := range pairs {
			if each.invocation.F == "add" {
				var element int64
				if err := json.Unmarshal(each.invocation.Value, &element); err != nil {
					return nil, err
				}
				operations = append(operations, keyed{element, each.at(setInput{true}, nil)})
				continue
			}
			if !each.isKnown() {
				continue
			}
			var answered setRead
			if err := json.Unmarshal(each.completion.Value, &answered); err != nil {
				return nil, err
			}
			found := map[int64]bool{}
			for _, element := range answered.Found {
				found[element] = true
			}
			for _, element := range answered.Asked {
				operations = append(operations, keyed{element, each.at(setInput{false}, found[element])})
			}
		}
		return operations, nil
	},
	step: func(state, input, output any) (bool, any) {
		isThere := state.(bool)
		if input.(setInput).isAdd {
			return true, true
		}
		return output.(bool) == isThere, isThere
	},
}
