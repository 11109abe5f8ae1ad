package importer

import (
	"encoding/json"
	"errors"
	"fmt"
)

// Value is a value of a JSON object: text is set for a string, else raw is the
// number, true, false, null, array or object as it stands in the line.
type Value struct {
	Text   string
	Raw    []byte
	IsText bool
}

var errNotObject = errors.New("not a JSON object")

// Object calls visit for each key of the JSON object that line must be, in
// their order, until it returns an error.
func Object(line []byte, visit func(key string, v Value) error) error {
	if !json.Valid(line) {
		return errNotObject
	}
	i := space(line, 0)
	if line[i] != '{' {
		return errNotObject
	}
	// The line is valid, so that only the ends of values are to be found.
	for i = space(line, i+1); line[i] != '}'; {
		if line[i] == ',' {
			i = space(line, i+1)
		}
		end := value(line, i)
		key, err := text(line[i:end])
		if err != nil {
			return err
		}
		i = space(line, space(line, end)+1) // after the colon
		end = value(line, i)
		v := Value{Raw: line[i:end]}
		if line[i] == '"' {
			v.IsText = true
			if v.Text, err = text(v.Raw); err != nil {
				return err
			}
		}
		if err := visit(key, v); err != nil {
			return err
		}
		i = space(line, end)
	}
	return nil
}

func space(line []byte, i int) int {
	for line[i] == ' ' || line[i] == '\t' || line[i] == '\r' || line[i] == '\n' {
		i++
	}
	return i
}

// value returns the end of the value that begins at i.
func value(line []byte, i int) int {
	depth := 0
	for ; ; i++ {
		switch line[i] {
		case '"':
			for i++; line[i] != '"'; i++ {
				if line[i] == '\\' {
					i++
				}
			}
			if depth == 0 {
				return i + 1
			}
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth == 0 {
				return i + 1
			} else if depth < 0 { // the end of the object around a number
				return i
			}
		case ',', ' ', '\t', '\r', '\n', ':':
			if depth == 0 {
				return i
			}
		}
	}
}

// text returns a JSON string's value. Nearly all need no unescaping.
func text(quoted []byte) (string, error) {
	for _, c := range quoted[1 : len(quoted)-1] {
		if c == '\\' || c >= 0x80 {
			var s string
			if err := json.Unmarshal(quoted, &s); err != nil {
				return "", fmt.Errorf("read string: %w", err)
			}
			return s, nil
		}
	}
	return string(quoted[1 : len(quoted)-1]), nil
}
