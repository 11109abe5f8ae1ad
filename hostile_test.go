package ebbwatch

import (
	"bytes"
	"errors"
	"runtime"
	"testing"

	"github.com/klauspost/compress/s2"
	"google.golang.org/protobuf/encoding/protowire"
)

func TestDecodeRefuses(t *testing.T) {
	attribute := func(a Attribute, v ...byte) fields {
		return one().bytes(fieldEntries, 1, 1, 1, 1, 1, 1, 1, 1, 1).bytes(firstAttribute+protowire.Number(a), v...)
	}
	for name, test := range map[string]struct {
		message []byte
		is      error // nil: any error
	}{
		"nothing":                                {nil, ErrInvalid},
		"what is not compressed":                 {[]byte("hello"), nil},
		"a block that is cut":                    {encode(t, goldenBatch())[:60], nil},
		"a newer version":                        {raw(append(one(), fields(nil).uint(fieldVersion, Version+1)...)), ErrVersion},
		"no version":                             {raw(one()[2:]), ErrInvalid},
		"a message over the limit":               {bytes.Repeat([]byte{1}, MaxBatchEncoded+1), ErrInvalid},
		"an agent that is no subject token":      {raw(append(one(), fields(nil).str(fieldAgent, "a.b")...)), ErrInvalid},
		"a boot id that is no UUID":              {raw(append(one(), fields(nil).str(fieldBoot, "boot")...)), ErrInvalid},
		"a time after 2262":                      {raw(append(one(), fields(nil).uint(fieldTime, maxTime+1)...)), ErrInvalid},
		"a column without a width":               {raw(one().bytes(20)), ErrInvalid},
		"a column that is too short":             {raw(one().bytes(20, 8)), ErrInvalid},
		"a width over the column's range":        {raw(one().bytes(20, 17, 1, 1, 1)), ErrInvalid},
		"a width over every column's range":      {raw(one().bytes(22, 57, 1, 1, 1, 1, 1, 1, 1, 1)), ErrInvalid},
		"a patch behind the last entry":          {raw(one().bytes(20, 0, 1, 1)), ErrInvalid},
		"a patch of no entry":                    {raw(one().bytes(20, 0, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1, 1)), ErrInvalid},
		"more patches than entries":              {raw(one().bytes(20, 0, 0, 1, 0, 1)), ErrInvalid},
		"a patch without a value":                {raw(one().bytes(20, 0, 0)), ErrInvalid},
		"a patch over its column's range":        {raw(one().bytes(20, 4, 1, 0, 0x80, 0x20)), ErrInvalid},
		"a patch of eleven bytes":                {raw(one().bytes(22, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1)), ErrInvalid},
		"a start column that is too short":       {raw(one().bytes(16)), ErrInvalid},
		"an address index out of bounds":         {raw(one().bytes(18, 1, 1)), ErrInvalid},
		"an index of a group out of bounds":      {raw(one().bytes(firstGroup+protowire.Number(GroupKind), 1, 1)), ErrInvalid},
		"an entry that names nothing":            {raw(one().bytes(firstAttribute+protowire.Number(AttrInterface), 2, 3)), ErrInvalid},
		"more entries than records":              {raw(one().bytes(fieldEntries, 2)), ErrInvalid},
		"more entries than allowed":              {raw(one().bytes(fieldEntries, 0x81, 0x80, 0x04)), ErrInvalid},
		"a number of entries that is cut":        {raw(one().bytes(fieldEntries, 0x80)), ErrInvalid},
		"an unknown conn_state":                  {raw(attribute(AttrConnState, 8, 13)), ErrInvalid},
		"an unknown initiator":                   {raw(attribute(AttrInitiator, 8, 4)), ErrInvalid},
		"final that is neither 0 nor 1":          {raw(attribute(AttrFinal, 8, 2)), ErrInvalid},
		"a protocol of more than a byte":         {raw(attribute(AttrProto, 9, 0, 1)), ErrInvalid},
		"a sampling rate that is none":           {raw(attribute(AttrSampling, 32, 255, 255, 255, 255)), ErrInvalid},
		"a start before 1970":                    {raw(one().uint(fieldFirstStart, protowire.EncodeZigZag(-1001))), ErrInvalid},
		"a first start that overflows":           {raw(one().uint(fieldFirstStart, protowire.EncodeZigZag(1<<63-1))), ErrInvalid},
		"a start that overflows":                 {raw(one().bytes(16, append([]byte{0, 0}, protowire.AppendVarint(nil, 1<<64-1)...)...)), ErrInvalid},
		"an end that overflows":                  {raw(one().bytes(17, append([]byte{0, 0}, protowire.AppendVarint(nil, 1<<64-1)...)...)), ErrInvalid},
		"more flows than allowed":                {raw(validHead(MaxBatchFlows + 1)), ErrInvalid},
		"flows without columns or addresses":     {raw(validHead(3)), ErrInvalid},
		"half an IPv4 address":                   {raw(one().bytes(fieldAddresses4, 1, 2)), ErrInvalid},
		"half an IPv6 address":                   {raw(one().bytes(fieldAddresses6, make([]byte, 15)...)), ErrInvalid},
		"IPv4 written as IPv6":                   {raw(one().bytes(fieldAddresses6, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 10, 0, 0, 1)), ErrInvalid},
		"names that are longer than their text":  {raw(one().bytes(fieldNameLengths, 1, 8, 6)), ErrInvalid},
		"names that are shorter than their text": {raw(one().bytes(fieldNameLengths, 1, 8, 4)), ErrInvalid},
		"a name that is too long":                {raw(one().bytes(fieldNameLengths, 1, 9, 0, 1)), ErrInvalid},
		"names without lengths":                  {raw(validHead(0).str(fieldNames, "x")), ErrInvalid},
		"more names than allowed":                {raw(validHead(0).bytes(fieldNameLengths, 0x81, 0x80, 0x04, 0)), ErrInvalid},
		"a name that is not UTF-8":               {raw(one().bytes(fieldNames, 0xff, 1, 2, 3, 4)), ErrInvalid},
		"a name that begins within a character":  {raw(one().str(fieldNames, "ethé").bytes(fieldNameLengths, 2, 8, 4, 1)), ErrInvalid},
		"an envelope's name that is too long":    {raw(one().bytes(fieldAgentVersion, make([]byte, MaxName+1)...)), ErrInvalid},
		"more attach points than allowed":        {raw(append(one(), bytes.Repeat(fields(nil).bytes(fieldAttach), maxAttachPoints+1)...)), ErrInvalid},
		"more losses than allowed":               {raw(append(one(), bytes.Repeat(fields(nil).bytes(fieldLosses), maxLosses+1)...)), ErrInvalid},
		"an attach point that is cut":            {raw(one().bytes(fieldAttach, 0x1a, 5)), ErrInvalid},
		"a tag of field 0":                       {raw(append(one(), 0x02, 0x00)), ErrInvalid},
		"a group that never ends":                {raw(append(one(), 0x0b)), ErrInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			for _, keep := range []bool{false, true} {
				var b Batch
				err := (&Decoder{InPlace: keep}).Decode(test.message, &b)
				if err == nil || test.is != nil && !errors.Is(err, test.is) {
					t.Errorf("error is %v, want %v (plain columns kept: %t)", err, test.is, keep)
				}
			}
		})
	}
}

func TestADecompressionBombCostsBoundedMemory(t *testing.T) {
	d := new(Decoder)
	const size = 4 * MaxBatchDecoded
	bomb := s2.Encode(nil, make([]byte, size))
	for name, message := range map[string][]byte{
		"that says its size":    bomb,
		"that says less":        append(protowire.AppendVarint(nil, 1000), bomb[protowire.SizeVarint(size):]...),
		"that is as allowed":    s2.Encode(nil, make([]byte, MaxBatchDecoded)),
		"that has nothing else": protowire.AppendVarint(nil, MaxBatchDecoded),
	} {
		if len(message) > MaxBatchEncoded {
			t.Fatalf("the bomb %s has %d bytes: the size check would catch it", name, len(message))
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		var b Batch
		if err := d.Decode(message, &b); err == nil {
			t.Errorf("a bomb %s decodes", name)
		}
		runtime.ReadMemStats(&after)
		if got := after.TotalAlloc - before.TotalAlloc; got > 2*MaxBatchDecoded {
			t.Errorf("a bomb %s allocates %d MiB", name, got>>20)
		}
	}
}

func TestManyDefaultsCostBoundedMemory(t *testing.T) {
	message := raw(validHead(MaxBatchFlows).bytes(fieldAddresses4, 10, 0, 0, 1))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	var b Batch
	if err := new(Decoder).Decode(message, &b); err != nil { // valid: every flow the same
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if got := after.TotalAlloc - before.TotalAlloc; got > 32<<20 {
		t.Errorf("%d bytes make the decoder allocate %d MiB", len(message), got>>20)
	}
}
