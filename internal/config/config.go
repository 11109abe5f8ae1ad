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
)

// ErrInvalid is wrapped by every error about the content of a configuration.
var ErrInvalid = errors.New("invalid configuration")

// Validator is implemented by a configuration that can check itself. Its error
// should name the key, as in "collector.batch_rows: must be above 0".
type Validator interface{ Validate() error }

// Load fills cfg, a pointer to a struct that holds its defaults: first from
// file (if not ""), then from environ (in the form of os.Environ), and then
// validates it. Errors name the file or the variable, the key, and the reason.
func Load(cfg any, file string, environ []string) error {
	if file != "" {
		if err := loadFile(cfg, file); err != nil {
			return err
		}
	}
	vars := make(map[string]string, len(environ))
	for _, kv := range environ {
		if name, value, ok := strings.Cut(kv, "="); ok && strings.HasPrefix(name, "EBBWATCH_") {
			vars[name] = value
		}
	}
	if err := loadEnv(reflect.ValueOf(cfg).Elem(), "EBBWATCH", vars); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(vars)) {
		if !notOurs(name) {
			return fmt.Errorf("%w: environment variable %s: no such key (--dump-config prints them all)", ErrInvalid, name)
		}
	}
	if v, ok := cfg.(Validator); ok {
		if err := v.Validate(); err != nil {
			return fmt.Errorf("%w: %s: %w", ErrInvalid, source(file), err)
		}
	}
	return nil
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

func loadFile(cfg any, file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("read configuration: %w", err)
	}
	var content any
	if err := yaml.Unmarshal(text, &content); err == nil && content == nil {
		return nil // an empty file means the defaults; decoded, it would be null and set zeros
	}
	if err := checkLeaves(reflect.TypeOf(cfg).Elem(), content, ""); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrInvalid, file, err)
	}
	if err := yaml.UnmarshalWithOptions(text, cfg, yaml.Strict()); err != nil {
		return fmt.Errorf("%w: %s: %s", ErrInvalid, file, strings.TrimSpace(yaml.FormatError(err, false, true)))
	}
	return nil
}

// checkLeaves reads those values of content that are written as text but are not
// strings, and reports the first that cannot be read: the library's own errors
// about them name neither the key nor the line. What else is wrong with content
// is left to the library.
func checkLeaves(t reflect.Type, content any, key string) error {
	if t == reflect.TypeFor[time.Duration]() {
		var d time.Duration
		return named(key, duration(&d, fmt.Append(nil, content)))
	}
	if leaf, ok := reflect.New(t).Interface().(encoding.TextUnmarshaler); ok {
		if text, ok := content.(string); ok {
			return named(key, leaf.UnmarshalText([]byte(text)))
		}
		return nil
	}
	switch values := content.(type) {
	case map[string]any:
		if t.Kind() != reflect.Struct {
			return nil
		}
		for i := range t.NumField() {
			name, _, _ := strings.Cut(t.Field(i).Tag.Get("yaml"), ",")
			if value, ok := values[name]; ok && value != nil {
				if err := checkLeaves(t.Field(i).Type, value, strings.TrimPrefix(key+"."+name, ".")); err != nil {
					return err
				}
			}
		}
	case []any:
		if t.Kind() != reflect.Slice {
			return nil
		}
		for i, value := range values {
			if err := checkLeaves(t.Elem(), value, fmt.Sprintf("%s[%d]", key, i)); err != nil {
				return err
			}
		}
	}
	return nil
}

func named(key string, err error) error {
	if err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	return nil
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

// loadEnv sets the leaves of v that vars names, and takes those from vars. A
// value is read as YAML, so a list is written [a, b] and a duration 5s.
func loadEnv(v reflect.Value, prefix string, vars map[string]string) error {
	t := v.Type()
	for i := range t.NumField() {
		field := t.Field(i)
		key, _, _ := strings.Cut(field.Tag.Get("yaml"), ",")
		if !field.IsExported() || key == "-" {
			continue
		}
		name := prefix + "_" + strings.ToUpper(key)
		if _, isText := v.Field(i).Addr().Interface().(interface{ UnmarshalText([]byte) error }); field.Type.Kind() == reflect.Struct && !isText {
			if err := loadEnv(v.Field(i), name, vars); err != nil {
				return err
			}
			continue
		}
		for _, n := range []string{field.Tag.Get("env"), name} {
			value, ok := vars[n]
			if !ok {
				continue
			}
			delete(vars, n)
			if field.Type.Kind() == reflect.String { // not YAML: a key may hold any byte
				v.Field(i).SetString(value)
			} else if err := yaml.UnmarshalWithOptions([]byte(value), v.Field(i).Addr().Interface(), yaml.CustomUnmarshaler(duration)); err != nil {
				return fmt.Errorf("%w: environment variable %s: %s", ErrInvalid, n, strings.TrimSpace(yaml.FormatError(err, false, false)))
			}
		}
	}
	return nil
}

// Dump writes cfg as YAML, secrets redacted: a file that Load accepts.
func Dump(w io.Writer, cfg any) error {
	if err := yaml.NewEncoder(w, yaml.Indent(2)).Encode(cfg); err != nil {
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
