package config

import (
	"fmt"
	"strings"
)

// problems are several errors of one configuration, each with its key.
type problems []error

func (p problems) Error() string {
	var lines []string
	for _, err := range p {
		lines = append(lines, err.Error())
	}
	return strings.Join(lines, "\n")
}

func (p problems) Unwrap() []error { return p }

// All returns an error that tells of all errs, each with its own line where Load
// knows it; nil if all are nil.
func All(errs ...error) error {
	var all problems
	for _, err := range errs {
		all = append(all, each(err)...)
	}
	if len(all) == 0 {
		return nil
	}
	return all
}

// each returns the errors that All has put together, or err alone.
func each(err error) []error {
	if err == nil {
		return nil
	}
	if all, ok := err.(problems); ok { //nolint:errorlint // what wraps it may have put a key before all of it
		return all
	}
	return []error{err}
}

// Wrong returns an error if wrong. It begins with the key and says what the value must
// be: "batch_rows: must be above 0".
func Wrong(wrong bool, format string, args ...any) error {
	if !wrong {
		return nil
	}
	return fmt.Errorf(format, args...)
}

// At puts key before err, nil if that is nil.
func At(key string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", key, err)
}

// Under puts key, of a section, before the key of each error that All has put together.
func Under(key string, err error) error {
	var all []error
	for _, one := range each(err) {
		all = append(all, fmt.Errorf("%s.%w", key, one))
	}
	return All(all...)
}

// invalid is what Load says of problems, each of which begins with its place.
func invalid(all []error) error {
	if len(all) == 0 {
		return nil
	}
	if len(all) == 1 {
		return fmt.Errorf("%w: %w", ErrInvalid, all[0])
	}
	text := strings.ReplaceAll(problems(all).Error(), "\n", "\n  ")
	return &invalidError{fmt.Sprintf("%v, %d errors:\n  %s", ErrInvalid, len(all), text), all}
}

type invalidError struct {
	text     string
	problems []error
}

func (e *invalidError) Error() string   { return e.text }
func (e *invalidError) Unwrap() []error { return append([]error{ErrInvalid}, e.problems...) }
