package config

import (
	"encoding"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// located is an error about a line of the text.
type located struct {
	line int // from 1
	err  error
}

func (l *located) Error() string { return l.err.Error() }
func (l *located) Unwrap() error { return l.err }

// parse returns the syntax tree of the first document of text, nil if it is empty.
func parse(text []byte) (ast.Node, error) {
	file, err := parser.ParseBytes(text, 0)
	if err != nil {
		return nil, inWords(err)
	}
	if len(file.Docs) > 1 && file.Docs[1].Body != nil {
		return nil, &located{file.Docs[1].Body.GetToken().Position.Line, errors.New("a second document (---) would not be read: write one")}
	}
	if len(file.Docs) == 0 || file.Docs[0].Body == nil {
		return nil, nil
	}
	switch file.Docs[0].Body.(type) {
	case *ast.CommentGroupNode, *ast.NullNode:
		return nil, nil
	}
	return file.Docs[0].Body, nil
}

// inWords makes an error of the library short: its line, and what it says.
func inWords(err error) error {
	var of yaml.Error
	if !errors.As(err, &of) {
		return err
	}
	if at := of.GetToken(); at != nil {
		return &located{at.Position.Line, fmt.Errorf("not valid YAML: %s", of.GetMessage())}
	}
	return fmt.Errorf("not valid YAML: %s", of.GetMessage())
}

// checker holds a syntax tree against the type that it is to fill, because the
// library's own errors name neither the key nor what is allowed.
type checker struct {
	preset map[string]string // keys that cannot be set here, and why
}

// check reports what in node a value of type t cannot hold. key
// is the path of node, "" at the top. Anchors, aliases and tags are left to the
// library.
func (c checker) check(t reflect.Type, node ast.Node, key string) (wrong []error) {
	refuse := func(format string, args ...any) []error {
		reason := fmt.Errorf(format, args...)
		if key != "" {
			reason = fmt.Errorf("%s: %w", key, reason)
		}
		return []error{&located{node.GetToken().Position.Line, reason}}
	}
	switch node.Type() {
	case ast.AnchorType, ast.AliasType, ast.TagType, ast.MergeKeyType:
		return nil
	case ast.NullType:
		return refuse("has no value: write one, or leave the key out")
	}
	if want := leaf(t, node); !errors.Is(want, errNoLeaf) {
		if want != nil {
			return refuse("%w", want)
		}
		return nil
	}
	switch t.Kind() {
	case reflect.Struct:
		values, ok := entries(node)
		if !ok {
			return refuse("must hold keys: %s", strings.Join(keys(t), ", "))
		}
		return c.section(t, values, key)
	case reflect.Slice:
		list, ok := node.(*ast.SequenceNode)
		if !ok {
			return refuse("must be a list, as [first, second]")
		}
		for i, value := range list.Values {
			wrong = append(wrong, c.check(t.Elem(), value, fmt.Sprintf("%s[%d]", key, i))...)
		}
	}
	return wrong
}

// section checks the keys of a struct.
func (c checker) section(t reflect.Type, values []*ast.MappingValueNode, key string) (wrong []error) {
	for _, value := range values {
		if value.Key.IsMergeKey() {
			continue
		}
		line, name := value.Key.GetToken().Position.Line, value.Key.GetToken().Value
		path := strings.TrimPrefix(key+"."+name, ".")
		if why, preset := c.preset[path]; preset {
			wrong = append(wrong, &located{line, fmt.Errorf("%s: %s", path, why)})
			continue
		}
		field, ok := fieldOf(t, name)
		if !ok {
			here := "here are"
			if key != "" {
				here = "in " + key + " are"
			}
			wrong = append(wrong, &located{line, fmt.Errorf("%s: no such key; %s: %s", printable(path), here, strings.Join(keys(t), ", "))})
			continue
		}
		wrong = append(wrong, c.check(field.Type, value.Value, path)...)
	}
	return wrong
}

// errNoLeaf is the answer of leaf about lists and sections.
var errNoLeaf = errors.New("not a leaf")

// leaf reports why node is no value of type t, in words without the key; the
// text of a value is only shown where it cannot be a secret.
func leaf(t reflect.Type, node ast.Node) error {
	text := node.GetToken().Value
	if t == reflect.TypeFor[time.Duration]() {
		return duration(new(time.Duration), []byte(text))
	}
	_, isText := node.(ast.ScalarNode)
	if value, ok := reflect.New(t).Interface().(encoding.TextUnmarshaler); ok {
		if !isText {
			return errors.New("must be text")
		}
		return value.UnmarshalText([]byte(text))
	}
	switch t.Kind() {
	case reflect.String:
		if !isText {
			return errors.New("must be text")
		}
	case reflect.Bool:
		if node.Type() != ast.BoolType {
			return fmt.Errorf("%s is neither true nor false", printable(text))
		}
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		if _, err := strconv.ParseInt(digits(node), 10, t.Bits()); err != nil {
			return fmt.Errorf("%s is not a whole number, or too large", printable(text))
		}
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		if _, err := strconv.ParseUint(digits(node), 10, t.Bits()); err != nil {
			return fmt.Errorf("%s is not a whole number from 0 to %d", printable(text), uint64(math.MaxUint64>>(64-t.Bits())))
		}
	case reflect.Float32, reflect.Float64:
		// 1e+07 is text to the library's scanner and a number to its decoder.
		number, err := strconv.ParseFloat(text, 64)
		if node.Type() != ast.IntegerType && (err != nil || math.IsNaN(number) || math.IsInf(number, 0)) {
			return fmt.Errorf("%s is not a number", printable(text))
		}
	default:
		return errNoLeaf
	}
	return nil
}

// digits returns the number that the library will read, as Go reads it, "" if
// node is none.
func digits(node ast.Node) string {
	if number, ok := node.(*ast.IntegerNode); ok {
		return fmt.Sprint(number.Value)
	}
	return ""
}

// printable quotes text that a person wrote, cut where it is long.
func printable(text string) string {
	const most = 64
	if len(text) > most {
		text = text[:most] + "…"
	}
	return strconv.Quote(text)
}

// entries returns the keys and values of a mapping.
func entries(node ast.Node) ([]*ast.MappingValueNode, bool) {
	switch n := node.(type) {
	case *ast.MappingNode:
		return n.Values, true
	case *ast.MappingValueNode:
		return []*ast.MappingValueNode{n}, true
	}
	return nil, false
}

// keyOf returns the key of a field, "" if it has none.
func keyOf(field reflect.StructField) string {
	key, _, _ := strings.Cut(field.Tag.Get("yaml"), ",")
	if !field.IsExported() || key == "-" {
		return ""
	}
	return key
}

// keys returns the keys of a struct, in its order.
func keys(t reflect.Type) []string {
	var names []string
	for i := range t.NumField() {
		if key := keyOf(t.Field(i)); key != "" {
			names = append(names, key)
		}
	}
	return names
}

func fieldOf(t reflect.Type, key string) (reflect.StructField, bool) {
	for i := range t.NumField() {
		if key != "" && keyOf(t.Field(i)) == key {
			return t.Field(i), true
		}
	}
	return reflect.StructField{}, false
}

// lineOf returns the line of the key that message begins with, or of the deepest
// part of it that stands in the tree; 0 if none does.
func lineOf(node ast.Node, message string) int {
	end := strings.IndexFunc(message, func(r rune) bool {
		return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyz0123456789_.[]", r)
	})
	if end < 0 || node == nil {
		return 0
	}
	line := 0
	for _, step := range strings.FieldsFunc(message[:end], func(r rune) bool { return strings.ContainsRune(".[]", r) }) {
		if list, ok := node.(*ast.SequenceNode); ok {
			i, err := strconv.Atoi(step)
			if err != nil || i >= len(list.Values) {
				return line
			}
			node = list.Values[i]
			line = node.GetToken().Position.Line
			continue
		}
		values, _ := entries(node)
		i := slices.IndexFunc(values, func(v *ast.MappingValueNode) bool { return v.Key.GetToken().Value == step })
		if i < 0 {
			return line
		}
		node, line = values[i].Value, values[i].Key.GetToken().Position.Line
	}
	return line
}

// without removes the keys of preset from a tree.
func without(node ast.Node, preset map[string]string, key string) {
	mapping, ok := node.(*ast.MappingNode)
	if !ok {
		return
	}
	mapping.Values = slices.DeleteFunc(mapping.Values, func(v *ast.MappingValueNode) bool {
		path := strings.TrimPrefix(key+"."+v.Key.GetToken().Value, ".")
		_, gone := preset[path]
		if !gone {
			without(v.Value, preset, path)
		}
		return gone
	})
}
