// Package config reads the configuration of every Ebbwatch service: one YAML
// file over defaults, environment variables over the file, and no unknown keys.
//
// A configuration is a tree of structs with yaml tags. Each leaf can be set by
// the environment variable EBBWATCH_ followed by its path in upper case, joined
// by '_' (nats.url: EBBWATCH_NATS_URL), or by the name in its `env` tag
// wherever it stands in the tree. A variable that no key of the tree has is an
// error, like a key of the file that the tree does not know.
package config

import (
	"encoding"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
)

// ErrInvalid is wrapped by every error about the content of a configuration.
var ErrInvalid = errors.New("invalid configuration")

// Validator is implemented by a configuration that can check itself. Its error
// should name the key, as in "collector.batch_rows: must be above 0", and tell of every
// key that is wrong (All).
type Validator interface{ Validate() error }

// Presetter is implemented by a configuration some of whose keys are not a choice
// for its command, which sets them itself. They are refused where they are
// written, and Dump leaves them out.
type Presetter interface {
	// Preset returns the paths of these keys, and of sections as a whole, each
	// with the reason, as "has no effect here: …".
	Preset() map[string]string
}

// Completer is implemented by a configuration in which some values follow from
// others. Complete is called once all are read, before they are validated.
type Completer interface{ Complete() }

// Load fills cfg, a pointer to a struct that holds its defaults: first from
// file (if not ""), then from environ (in the form of os.Environ), and then
// completes and validates it. Errors name the file and the line, or the
// variable, the key, and the reason, and tell of all that is wrong: first of what
// cannot be read, and if there is nothing of the kind of what Validate refuses.
func Load(cfg any, file string, environ []string) error {
	c := checker{preset: preset(cfg)}
	var tree ast.Node
	var wrong []error
	if file != "" {
		var err error
		if tree, wrong, err = c.loadFile(cfg, file); err != nil {
			return err
		}
	}
	vars := make(map[string]string, len(environ))
	for _, kv := range environ {
		if name, value, ok := strings.Cut(kv, "="); ok && strings.HasPrefix(name, "EBBWATCH_") {
			vars[name] = value
		}
	}
	wrong = append(wrong, c.loadEnv(reflect.ValueOf(cfg).Elem(), "", vars)...)
	for _, name := range slices.Sorted(maps.Keys(vars)) {
		if !notOurs(name) {
			wrong = append(wrong, fmt.Errorf("environment variable %s: %s", name, c.unknown(name)))
		}
	}
	if len(wrong) > 0 {
		return invalid(wrong)
	}
	if v, ok := cfg.(Completer); ok {
		v.Complete()
	}
	if v, ok := cfg.(Validator); ok {
		for _, err := range each(v.Validate()) {
			if line := lineOf(tree, err.Error()); line > 0 {
				wrong = append(wrong, inFile(file, &located{line, err}))
			} else {
				wrong = append(wrong, fmt.Errorf("%s: %w", source(file), err))
			}
		}
	}
	return invalid(wrong)
}

func preset(cfg any) map[string]string {
	if p, ok := cfg.(Presetter); ok {
		return p.Preset()
	}
	return nil
}

// unknown says why no key has taken the variable name.
func (c checker) unknown(name string) string {
	for key, why := range c.preset {
		if variable := variable(key); name == variable || strings.HasPrefix(name, variable+"_") {
			return why
		}
	}
	return "no such key (--dump-config prints them all)"
}

// variable returns the environment variable of a key.
func variable(key string) string {
	return "EBBWATCH_" + strings.ToUpper(strings.ReplaceAll(key, ".", "_"))
}

// notOurs reports whether a variable that no key took belongs to somebody else:
// to the build and the tests, or to the model, whose access is often exported to
// every command of a session.
func notOurs(name string) bool {
	return name == "EBBWATCH_BIN" || name == "EBBWATCH_CACHE" || strings.HasPrefix(name, "EBBWATCH_TEST_") || strings.HasPrefix(name, "EBBWATCH_LLM_")
}

func source(file string) string {
	if file == "" {
		return "defaults and environment"
	}
	return file
}

// loadFile returns the syntax tree of the file, nil if it is empty, and what is wrong in
// it. It fails if the file cannot be read.
func (c checker) loadFile(cfg any, file string) (tree ast.Node, wrong []error, err error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, nil, fmt.Errorf("read configuration: %w", err)
	}
	tree, err = parse(text)
	if err != nil {
		return nil, []error{inFile(file, err)}, nil
	}
	if tree == nil {
		return nil, nil, nil // an empty file means the defaults; decoded, it would be null and set zeros
	}
	for _, err := range c.check(reflect.TypeOf(cfg).Elem(), tree, "") {
		wrong = append(wrong, inFile(file, err))
	}
	if len(wrong) > 0 {
		return tree, wrong, nil
	}
	if err := yaml.UnmarshalWithOptions(text, cfg, yaml.Strict()); err != nil {
		return nil, []error{inFile(file, inWords(err))}, nil
	}
	return tree, nil, nil
}

// inFile names file, and the line if err knows it.
func inFile(file string, err error) error {
	var at *located
	if errors.As(err, &at) {
		return fmt.Errorf("%s:%d: %w", file, at.line, at.err)
	}
	return fmt.Errorf("%s: %w", file, err)
}

// duration reads a duration as Go writes it, and says what is wrong in words.
func duration(d *time.Duration, text []byte) error {
	value := strings.Trim(strings.TrimSpace(string(text)), `"'`)
	parsed, err := time.ParseDuration(value)
	if err != nil {
		return fmt.Errorf("%q is not a duration such as 500ms, 5s or 2h", value)
	}
	*d = parsed
	return nil
}

// loadEnv sets the leaves of v, the section at path, that vars names, and takes
// those from vars. A value is read as YAML, so a list is written [a, b] and a
// duration 5s. It returns what is wrong.
func (c checker) loadEnv(v reflect.Value, path string, vars map[string]string) (wrong []error) {
	t := v.Type()
	for i := range t.NumField() {
		field, key := t.Field(i), keyOf(t.Field(i))
		if key == "" {
			continue
		}
		key = strings.TrimPrefix(path+"."+key, ".")
		if _, fixed := c.preset[key]; fixed {
			continue
		}
		if _, isText := v.Field(i).Addr().Interface().(encoding.TextUnmarshaler); field.Type.Kind() == reflect.Struct && !isText {
			wrong = append(wrong, c.loadEnv(v.Field(i), key, vars)...)
			continue
		}
		for _, name := range []string{field.Tag.Get("env"), variable(key)} {
			value, ok := vars[name]
			if !ok {
				continue
			}
			delete(vars, name)
			if field.Type.Kind() == reflect.String { // not YAML: a key may hold any byte
				v.Field(i).SetString(value)
			} else if err := c.setFromText(v.Field(i), value); err != nil {
				wrong = append(wrong, fmt.Errorf("environment variable %s: %w", name, err))
			}
		}
	}
	return wrong
}

// setFromText sets v to a value that is written as YAML.
func (c checker) setFromText(v reflect.Value, text string) error {
	tree, err := parse([]byte(text))
	if err != nil {
		return err
	}
	if tree == nil {
		return errors.New("has no value: write one, or unset it")
	}
	if err := All(c.check(v.Type(), tree, "")...); err != nil {
		return err
	}
	if err := yaml.Unmarshal([]byte(text), v.Addr().Interface()); err != nil {
		return inWords(err)
	}
	return nil
}

// Dump writes cfg as YAML, secrets redacted, without the keys that are preset: a
// file that Load accepts.
func Dump(w io.Writer, cfg any) error {
	tree, err := yaml.ValueToNode(cfg, yaml.Indent(2))
	if err != nil {
		return fmt.Errorf("dump configuration: %w", err)
	}
	without(tree, preset(cfg), "")
	if _, err := fmt.Fprintln(w, tree); err != nil {
		return fmt.Errorf("dump configuration: %w", err)
	}
	return nil
}

// Secret is a string that never shows itself: not in dumps, logs or errors.
// Written as "file:/path" it is the content of that file, without the line end.
type Secret string

// Value returns the secret, reading its file if it names one.
func (s Secret) Value() (string, error) {
	path, ok := strings.CutPrefix(string(s), "file:")
	if !ok {
		return string(s), nil
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("read secret: %w", err)
	}
	return strings.TrimRight(string(data), "\r\n"), nil
}

// redacted stands for a secret that is not shown.
const redacted = "<redacted>"

// String implements fmt.Stringer.
func (s Secret) String() string {
	if s == "" || strings.HasPrefix(string(s), "file:") {
		return string(s)
	}
	return redacted
}

// UnmarshalText implements encoding.TextUnmarshaler. It refuses what a dump
// writes in place of a secret.
func (s *Secret) UnmarshalText(text []byte) error {
	if string(text) == redacted {
		return fmt.Errorf("%s stands for a secret that was not printed: write the secret, or file: and the path of a file that holds it", redacted)
	}
	*s = Secret(text)
	return nil
}

// GoString keeps %#v from showing the secret.
func (s Secret) GoString() string { return s.String() }

// MarshalText implements encoding.TextMarshaler, which YAML, JSON and slog use.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }
