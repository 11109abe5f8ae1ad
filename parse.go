package ebbwatch

import (
	"fmt"
	"slices"
	"strconv"
)

// ParseConnState returns the state that String writes as name.
func ParseConnState(name string) (ConnState, error) {
	i, err := parseEnum("conn_state", connStateNames[:], name)
	return ConnState(i), err
}

func parseEnum(column string, names []string, name string) (uint32, error) {
	i := slices.Index(names, name)
	if i < 0 {
		return 0, fmt.Errorf("%w: %s %.40q is none of %q", ErrInvalid, column, name, names)
	}
	return uint32(i), nil
}

// enumOf returns the names of an attribute's values, nil if they are numbers or names.
func enumOf(a Attribute) []string {
	switch a {
	case AttrInitiator:
		return initiatorNames[:]
	case AttrConnState:
		return connStateNames[:]
	case AttrTunnel:
		return tunnelNames[:]
	case AttrApp:
		return appNames[:]
	case AttrFinal:
		return boolNames[:]
	}
	return nil
}

var boolNames = [...]string{"false", "true"}

// ParseAttribute returns the attribute of a SQL column.
func ParseAttribute(column string) (Attribute, bool) {
	i := slices.IndexFunc(attributes[:], func(a attribute) bool { return a.name == column })
	return Attribute(max(i, 0)), i >= 0
}

// Set sets the attribute of f from the text that its SQL column shows. The error
// wraps ErrInvalid.
func (a Attribute) Set(f *Flow, text string) error {
	at := &attributes[a]
	if at.text != nil {
		if err := validName(at.name, text); err != nil {
			return err
		}
		*at.text(f) = text
		return nil
	}
	if names := enumOf(a); names != nil {
		v, err := parseEnum(at.name, names, text)
		if err != nil {
			return err
		}
		at.set(f, v)
		return nil
	}
	v, err := strconv.ParseUint(text, 10, 32)
	if a == AttrSampling { // see attributes
		v--
	}
	if err != nil || v > uint64(at.max) {
		return fmt.Errorf("%w: %s %.40q is not a number up to %d", ErrInvalid, at.name, text, at.max)
	}
	at.set(f, uint32(v))
	return nil
}
