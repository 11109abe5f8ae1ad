package ebbwatch

import (
	"errors"
	"strconv"
	"testing"
)

func TestEveryAttributeIsSetFromTheTextOfItsColumn(t *testing.T) {
	for a := range Attributes {
		got, ok := ParseAttribute(a.Name())
		if !ok || got != a {
			t.Errorf("column %s is attribute %d, want %d", a.Name(), got, a)
		}
		text, bad, value := "a name", "not UTF-8: \xff", uint32(0)
		switch names := enumOf(a); {
		case a.Text():
		case names != nil:
			value = uint32(len(names)) - 1
			text, bad = names[value], "pigeon"
		case a == AttrSampling: // whose value is one less
			text, bad, value = "1000", "0", 999
		default:
			value = attributes[a].max
			text, bad = strconv.FormatUint(uint64(value), 10), strconv.FormatUint(uint64(value)+1, 10)
		}
		f := Flow{Sampling: 1}
		if err := a.Set(&f, bad); !errors.Is(err, ErrInvalid) || f != (Flow{Sampling: 1}) {
			t.Errorf("%s is set to %q: %v", a.Name(), bad, err)
		}
		if err := a.Set(&f, text); err != nil {
			t.Errorf("%s: %v", a.Name(), err)
		}
		if a.Text() && *attributes[a].text(&f) != text || !a.Text() && attributes[a].get(&f) != value {
			t.Errorf("%s is not set by %q", a.Name(), text)
		}
	}
	if a, ok := ParseAttribute("no_such_column"); ok {
		t.Errorf("no_such_column is %s", a.Name())
	}
}

func TestStatesAreParsedAsTheyAreWritten(t *testing.T) {
	for i := range connStateNames {
		if got, err := ParseConnState(ConnState(i).String()); err != nil || got != ConnState(i) {
			t.Errorf("%s is %s, %v", ConnState(i), got, err)
		}
	}
	if _, err := ParseConnState("sf"); !errors.Is(err, ErrInvalid) {
		t.Errorf("sf: %v", err)
	}
}
