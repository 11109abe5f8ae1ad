package ebbwatch

import (
	"errors"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestAppendSharesAddressesAndNames(t *testing.T) {
	var b Batch
	at := time.UnixMicro(1_000_000).UTC()
	one, two := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("2001:db8::1")
	b.Append(&Flow{Start: at, End: at.Add(time.Millisecond), Src: one, Dst: two, Interface: "eth0", Sampling: 1})
	b.Append(&Flow{Start: at, End: at.Add(-time.Hour), Src: two, Dst: one, Interface: "eth0", Sampling: 1})
	b.Append(&Flow{Start: at, End: at, Src: one, Dst: one, Interface: "eth1", Sampling: 1})
	if want := []netip.Addr{one, two}; !reflect.DeepEqual(b.Addrs, want) {
		t.Errorf("addresses are %v, want %v", b.Addrs, want)
	}
	if want := []string{"eth0", "eth1"}; !reflect.DeepEqual(b.Strings, want) {
		t.Errorf("names are %v, want %v", b.Strings, want)
	}
	if want := []uint64{1000, 0, 0}; !reflect.DeepEqual(b.Duration, want) {
		t.Errorf("durations are %v, want %v: an end before the start counts as the start", b.Duration, want)
	}
}

func TestResetForgetsEverything(t *testing.T) {
	b := goldenBatch()
	b.Reset()
	if b.Len() != 0 || b.Agent != "" || len(b.Attach) != 0 || len(b.Losses) != 0 || len(b.Addrs) != 0 || len(b.Strings) != 0 {
		t.Errorf("after Reset the batch holds %+v", b)
	}
	fresh := goldenBatch()
	b.Envelope = fresh.Envelope
	for _, f := range rows(fresh) {
		b.Append(&f)
	}
	same(t, b, goldenBatch())
	if err := b.Validate(); err != nil {
		t.Error(err)
	}
}

func TestEveryColumnIsListed(t *testing.T) {
	var b Batch
	listed := map[uintptr]bool{reflect.ValueOf(&b.Start).Pointer(): true} // is encoded on its own
	cols := b.columns()
	for i := range cols {
		c := reflect.ValueOf(cols[i])
		for f := range c.NumField() {
			if c.Field(f).Kind() == reflect.Pointer && !c.Field(f).IsNil() {
				listed[c.Field(f).Pointer()] = true
			}
		}
	}
	v := reflect.ValueOf(&b).Elem()
	for i := range v.NumField() {
		field := v.Type().Field(i)
		if field.Type.Kind() != reflect.Slice || field.Name == "Addrs" || field.Name == "Strings" || !field.IsExported() {
			continue
		}
		if !listed[v.Field(i).Addr().Pointer()] {
			t.Errorf("column %s is not in the list: it would be neither encoded nor checked", field.Name)
		}
	}
	if len(listed) != columnCount {
		t.Errorf("%d columns are listed, want %d", len(listed), columnCount)
	}
}

func TestValidateRefusesColumnsOfUnequalLength(t *testing.T) {
	b := goldenBatch()
	b.Start = append(b.Start, 0)
	if err := b.Validate(); !errors.Is(err, ErrInvalid) {
		t.Errorf("a longer column start gives %v", err)
	}
	for i := range new(Batch).columns() {
		b := goldenBatch()
		c := b.columns()[i]
		if err := c.unpack(nil, b.Len()+1); err != nil {
			t.Fatal(err)
		}
		if err := b.Validate(); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), c.name) {
			t.Errorf("a longer column %s gives %v", c.name, err)
		}
	}
	for g := range Groups {
		b := goldenBatch()
		b.Index[g] = append(b.Index[g], 0)
		if err := b.Validate(); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), groupNames[g]) {
			t.Errorf("a longer column %s gives %v", groupNames[g], err)
		}
		b = goldenBatch()
		b.Index[g][1] = uint16(b.Entries[g]) + 1
		if err := b.Validate(); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), groupNames[g]) {
			t.Errorf("an index of %s out of bounds gives %v", groupNames[g], err)
		}
	}
}

func TestEveryAttributeIsChecked(t *testing.T) {
	for i := range Attributes {
		b := fullBatch()
		if got, want := len(b.Attributes[i]), b.Entries[i.Group()]; got != want {
			t.Fatalf("%s has %d entries of %d", i.Name(), got, want)
		}
		b.Attributes[i] = append(b.Attributes[i], 0)
		if err := b.Validate(); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), i.Name()) {
			t.Errorf("a longer column %s gives %v", i.Name(), err)
		}
		b = fullBatch()
		if attributes[i].max == max32 {
			continue
		}
		b.Attributes[i][0] = max(attributes[i].max, uint32(len(b.Strings))) + 1
		if err := b.Validate(); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), i.Name()) {
			t.Errorf("an entry of %s out of range gives %v", i.Name(), err)
		}
	}
}

func TestAttributesOfAGroupStandTogether(t *testing.T) {
	for g := range Groups {
		first, end := attributesOf[g][0], attributesOf[g][1]
		if n := int(end) - int(first); n < 1 || n > groupSize {
			t.Errorf("group %s has %d attributes", groupNames[g], n)
		}
		for a := first; a < end; a++ {
			if a.Group() != g {
				t.Errorf("%s stands among the attributes of group %s", a.Name(), groupNames[g])
			}
		}
	}
}

func TestRecordsShareEntries(t *testing.T) {
	var b Batch
	at := time.UnixMicro(1_000_000).UTC()
	for i := range 10 {
		f := Flow{Start: at, End: at, Src: netip.IPv4Unspecified(), Dst: netip.IPv4Unspecified(), Interface: "eth0", Sampling: 1}
		if i%3 > 0 {
			f.SrcOwner = Owner{PID: uint32(i % 3), Process: "a"}
		}
		b.Append(&f)
	}
	want := [Groups]int{GroupPath: 1, GroupSrcOwner: 2}
	if b.Entries != want {
		t.Errorf("entries are %v, want %v", b.Entries, want)
	}
	if want := []uint16{0, 1, 2, 0, 1, 2, 0, 1, 2, 0}; !reflect.DeepEqual(b.Index[GroupSrcOwner], want) {
		t.Errorf("owners are %v, want %v", b.Index[GroupSrcOwner], want)
	}
}

func TestEveryFieldOfAFlowIsCarried(t *testing.T) {
	b := fullBatch()
	full := reflect.ValueOf(b.Flow(b.Len() - 2))
	for i := range full.NumField() {
		field := full.Type().Field(i)
		if field.Type.Kind() != reflect.Struct || field.Type == reflect.TypeFor[time.Time]() || field.Type == reflect.TypeFor[netip.Addr]() {
			continue
		}
		for j := range field.Type.NumField() {
			if full.Field(i).Field(j).IsZero() {
				t.Errorf("%s.%s is in no column", field.Name, field.Type.Field(j).Name)
			}
		}
	}
}

func TestNames(t *testing.T) {
	for got, want := range map[string]string{
		StateSF.String(): "SF", StateRSTOS0.String(): "RSTOS0", ConnState(13).String(): "invalid(13)",
		InitiatorUnknown.String(): "unknown", InitiatorFirst.String(): "first", Initiator(4).String(): "invalid(4)",
		(FlagSYN | FlagACK | FlagAE).String(): "SYN|ACK|AE", TCPFlags(0).String(): "",
	} {
		if got != want {
			t.Errorf("name is %q, want %q", got, want)
		}
	}
}

func TestAgentNames(t *testing.T) {
	for name, valid := range map[string]bool{
		"web-1": true, "A_z-09": true, strings.Repeat("x", MaxAgentName): true,
		"": false, strings.Repeat("x", MaxAgentName+1): false, "a.b": false, "a b": false, "*": false, ">": false, "é": false, "a\n": false,
	} {
		if err := ValidateAgent(name); (err == nil) != valid || err != nil && !errors.Is(err, ErrAgentName) {
			t.Errorf("%q: %v, want valid %v", name, err, valid)
		}
		if err := ValidateAgent(AgentName(name)); err != nil {
			t.Errorf("AgentName(%q) is not valid: %v", name, err)
		}
	}
	if got := AgentName("Web.1 é"); got != "Web-1---" {
		t.Errorf("AgentName gives %q", got)
	}
}

func TestSubjects(t *testing.T) {
	if agent, err := AgentOfSubject(FlowSubject("web-1")); err != nil || agent != "web-1" {
		t.Errorf("the agent is %q: %v", agent, err)
	}
	for _, subject := range []string{"", "ebbwatch.flows.v1.", "ebbwatch.flows.v1.a.b", "ebbwatch.flows.v2.a", "ebbwatch.dlq.v1.a"} {
		if agent, err := AgentOfSubject(subject); err == nil {
			t.Errorf("subject %q names agent %q", subject, agent)
		}
	}
}

func TestShardSubjects(t *testing.T) {
	for _, shards := range []int{1, 2, 16, 64} {
		_, destination := ShardTransform(shards)
		if got, ok := ShardsOfTransform(destination); !ok || got != shards {
			t.Errorf("%q is the transform of %d shards (%t), want %d", destination, got, ok, shards)
		}
	}
	for _, foreign := range []string{"ebbwatch.flows-v1-6.$1", "ebbwatch.flows-v1-1.{{partition(1,1)}}.{{wildcard(1)}}", "ebbwatch.flows-v1-6.{{partition(5,1)}}.{{wildcard(1)}}", "a.b"} {
		if got, ok := ShardsOfTransform(foreign); ok {
			t.Errorf("%q is taken for the transform of %d shards", foreign, got)
		}
	}
	for stored, published := range map[string]string{
		"ebbwatch.flows-v1-6.3.web-1": "ebbwatch.flows.v1.web-1",
		"ebbwatch.flows.v1.web-1":     "ebbwatch.flows.v1.web-1",
		"ebbwatch.flows-v1-6.3.a\r\n": "ebbwatch.flows.v1.a\r\n",
		"ebbwatch.flows-v1-6.3":       "ebbwatch.flows.v1.3", // nothing that a stream makes
		"other":                       "other",
	} {
		if got := PublishedSubject(stored); got != published {
			t.Errorf("what is stored under %q came on %q, want %q", stored, got, published)
		}
	}
}
